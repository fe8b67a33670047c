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

/** One that can sleep for less than a timer's resolution. */
class PausingLoop extends FakeLoop {
  readonly paused: number[] = [];
  pause(ms: number): void {
    this.paused.push(Math.round(ms * 1e6) / 1e6);
    this.time += ms;
  }
}

function machine(
  slices: (number | Error)[],
): Drivable & { shutDown: boolean; calls: number; xen: { hostBusy: number } } {
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
      hostBusy: 0,
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

  it("sleeps the last part of a millisecond away where the platform can", async () => {
    const loop = new PausingLoop();
    const run = drive(machine([400_000, 3.5e6]), loop);
    await finish(loop);
    await run;
    expect(loop.paused).toEqual([0.4, 0.5]);
    expect(loop.slept).toEqual([3]);
    expect(loop.time).toBeCloseTo(3.9);
  });

  it("leaves the host's events their turn while a guest waits for the host", async () => {
    const loop = new PausingLoop();
    const m = machine([400_000]);
    m.xen.hostBusy = 1;
    const run = drive(m, loop);
    await finish(loop);
    await run;
    expect(loop.paused).toEqual([]);
  });

  it("sleeps longer where all that there may be to run wakes it, and only then is it called", async () => {
    const loop = new FakeLoop();
    const sleepers = new Set<() => void>();
    const m = Object.assign(machine([Infinity, Infinity]), { sleepers });
    const run = drive(m, loop);
    loop.step();
    expect([m.calls, sleepers.size]).toEqual([1, 1]);
    for (const wake of sleepers) wake();
    expect(sleepers.size).toBe(0);
    loop.step();
    expect([m.calls, sleepers.size, loop.time]).toEqual([2, 1, 0]);
    await finish(loop);
    expect(await run).toBe("ended");
    expect(loop.slept).toEqual([100, 100]);
    expect(sleepers.size).toBe(0);
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
