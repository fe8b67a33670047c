import { describe, expect, it } from "vitest";
import { drive, type Drivable, type HostLoop } from "./drive.js";

/** A host whose time passes only when a timer is waited for. */
class FakeLoop implements HostLoop {
  time = 0;
  readonly slept: number[] = [];
  private readonly queue: { at: number; fn: () => void }[] = [];
  now(): number {
    return this.time;
  }
  soon(fn: () => void): void {
    this.queue.push({ at: this.time, fn });
  }
  later(fn: () => void, ms: number): () => void {
    const entry = { at: this.time + ms, fn };
    this.queue.push(entry);
    this.slept.push(ms);
    return () => this.queue.splice(this.queue.indexOf(entry), 1);
  }
  /** The next thing; false if there is none. */
  step(): boolean {
    this.queue.sort((a, b) => a.at - b.at);
    const next = this.queue.shift();
    if (next === undefined) return false;
    this.time = Math.max(this.time, next.at);
    next.fn();
    return true;
  }
}

function machine(slices: (number | Error)[]): Drivable & { shutDown: boolean; calls: number } {
  const domain = { native: false, shutDown: false };
  return {
    calls: 0,
    get shutDown() {
      return domain.shutDown;
    },
    set shutDown(v: boolean) {
      domain.shutDown = v;
    },
    xen: {
      domains: new Map([
        [0, { native: true, shutDown: false }],
        [1, domain],
      ]),
    },
    runSlice() {
      this.calls++;
      const next = slices.shift();
      if (next === undefined) domain.shutDown = true;
      if (next instanceof Error) throw next;
      return next ?? Infinity;
    },
  };
}

async function finish(loop: FakeLoop): Promise<void> {
  while (loop.step());
  await Promise.resolve();
}

describe("driving a machine", () => {
  it("runs slices until every guest has shut down, whatever dom0 does", async () => {
    const loop = new FakeLoop();
    const m = machine([0, 0, 0]);
    const run = drive(m, loop);
    await finish(loop);
    expect(await run).toBe("ended");
    expect(m.calls).toBe(4);
    expect(loop.slept).toEqual([]);
  });

  it("sleeps while the machine is idle, never long", async () => {
    const loop = new FakeLoop();
    const run = drive(machine([3.5e6, Infinity, 100e6]), loop);
    await finish(loop);
    expect(await run).toBe("ended");
    expect(loop.slept).toEqual([3, 20, 20]);
  });

  it("waits awake for what is due within a millisecond", async () => {
    const loop = new FakeLoop();
    const run = drive(machine([400_000]), loop);
    await finish(loop);
    await run;
    expect(loop.slept).toEqual([]);
  });

  it("is woken by input", async () => {
    const loop = new FakeLoop();
    const m = machine([Infinity]);
    const run = drive(m, loop);
    loop.step();
    expect(m.calls).toBe(1);
    run.wake();
    loop.step();
    expect(m.calls).toBe(2);
    expect(loop.time).toBe(0);
    expect(await run).toBe("ended");
  });

  it("ends when its time is over", async () => {
    const loop = new FakeLoop();
    const run = drive(machine(new Array<number>(1000).fill(Infinity)), loop, { timeoutMs: 50 });
    await finish(loop);
    expect(await run).toBe("timeout");
    expect(loop.time).toBe(50);
  });

  it("ends at once when the signal is aborted, also while it sleeps", async () => {
    const loop = new FakeLoop();
    const abort = new AbortController();
    const m = machine(new Array<number>(1000).fill(Infinity));
    const run = drive(m, loop, { signal: abort.signal });
    loop.step();
    abort.abort();
    await finish(loop);
    expect(await run).toBe("aborted");
    expect(m.calls).toBe(1);
  });

  it("ends when the caller says so", async () => {
    const loop = new FakeLoop();
    const m = machine(new Array<number>(1000).fill(0));
    const run = drive(m, loop, { until: () => m.calls === 7 });
    await finish(loop);
    expect(await run).toBe("ended");
    expect(m.calls).toBe(7);
  });

  it("rejects with what a slice throws", async () => {
    const loop = new FakeLoop();
    const run = drive(machine([0, new Error("invariant")]), loop);
    const failed = expect(run).rejects.toThrow("invariant");
    await finish(loop);
    await failed;
  });
});
