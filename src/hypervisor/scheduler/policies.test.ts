import { describe, expect, it } from "vitest";
import { EINVAL } from "../../abi/errno.js";
import { RUNSTATE_running } from "../../abi/vcpu.js";
import type { Domain } from "../domain.js";
import { TestMachine } from "../events/testing.js";
import type { Vcpu } from "../vcpu.js";
import { schedulers } from "./index.js";
import { seeded } from "../../testing.js";

const S = 1e9;
const MS = 1e6;

/** CPU time a domain has had, in ns. */
const had = (m: TestMachine, d: Domain): number =>
  d.vcpus.reduce((sum, v) => sum + v.time.runstate.spent(RUNSTATE_running, m.clock.now()), 0);

/** Domains of busy vCPUs, with parameters. */
function busy(
  policy: string,
  pcpus: number,
  list: { vcpus?: number; params?: Record<string, number> }[],
): { m: TestMachine; ds: Domain[] } {
  const m = new TestMachine(pcpus, policy);
  const ds = list.map((x, i) => {
    const d = m.addDomain(i + 1, x.vcpus ?? 1);
    if (x.params !== undefined) expect(typeof m.xen.scheduler.adjust(d, x.params)).toBe("object");
    m.start(d);
    return d;
  });
  return { m, ds };
}

function shares(
  m: TestMachine,
  ds: Domain[],
  from: number,
  to: number,
  step = MS,
  onRun?: (v: Vcpu, now: number) => void,
): number[] {
  m.run(from, step, onRun);
  const before = ds.map((d) => had(m, d));
  m.run(to, step, onRun);
  return ds.map((d, i) => (had(m, d) - (before[i] ?? 0)) / (to - from));
}

function near(actual: number[], wanted: number[], tolerance = 0.05): void {
  expect(actual.length).toBe(wanted.length);
  actual.forEach((a, i) => {
    const w = wanted[i] ?? 0;
    expect(
      Math.abs(a - w),
      `${actual.map((x) => x.toFixed(3)).join(" ")} against ${wanted.join(" ")}`,
    ).toBeLessThanOrEqual(tolerance * w + 1e-9);
  });
}

describe("credit", () => {
  it("shares one pCPU by weight", () => {
    const { m, ds } = busy("credit", 1, [
      { params: { weight: 256 } },
      { params: { weight: 512 } },
      { params: { weight: 1024 } },
    ]);
    near(shares(m, ds, 1 * S, 11 * S), [1 / 7, 2 / 7, 4 / 7]);
  });
  it("shares equally by default, whatever the number of domains", () => {
    const { m, ds } = busy("credit", 1, [{}, {}, {}, {}, {}]);
    near(shares(m, ds, 1 * S, 11 * S), [0.2, 0.2, 0.2, 0.2, 0.2]);
  });
  it("shares several pCPUs by weight", () => {
    const { m, ds } = busy("credit", 2, [
      { vcpus: 2, params: { weight: 256 } },
      { vcpus: 2, params: { weight: 768 } },
    ]);
    near(shares(m, ds, 1 * S, 21 * S), [0.5, 1.5]);
  });
  it("uses every pCPU when there is work (three vCPUs on two)", () => {
    const { m, ds } = busy("credit", 2, [{}, {}, {}]);
    near(shares(m, ds, 1 * S, 11 * S), [2 / 3, 2 / 3, 2 / 3]);
  });
  it("a domain cannot use more than its vCPUs; the others get the rest", () => {
    const { m, ds } = busy("credit", 2, [
      { vcpus: 1, params: { weight: 65535 } },
      { vcpus: 2, params: { weight: 256 } },
    ]);
    near(shares(m, ds, 1 * S, 11 * S), [1, 1]);
  });
  it("a cap holds though the pCPU is free", () => {
    const { m, ds } = busy("credit", 1, [{ params: { cap: 30 } }]);
    near(shares(m, ds, 1 * S, 11 * S), [0.3]);
    expect(m.xen.scheduler.adjust(ds[0] as Domain, { cap: 0 })).toEqual({ weight: 256, cap: 0 });
    near(shares(m, ds, 12 * S, 13 * S), [1]);
  });
  it("a cap above 100 is for more than one pCPU", () => {
    const { m, ds } = busy("credit", 2, [{ vcpus: 2, params: { cap: 150 } }]);
    near(shares(m, ds, 1 * S, 11 * S), [1.5]);
  });
  it("a vCPU that wakes for little runs within a millisecond though others are busy", () => {
    const { m, ds } = busy("credit", 1, [{}, {}, {}]);
    const d = ds[0] as Domain;
    const v = d.vcpus[0] as Vcpu;
    const port = d.events.bindIpi(0);
    let worst = 0;
    let woken = -1;
    m.run(1 * S, 0.1 * MS);
    // From here on it blocks after 0.2 ms and is woken 20 ms later.
    let blockAt = 0;
    let wakeAt = 0;
    m.xen.scheduler.block(v.sched);
    wakeAt = m.clock.now() + 20 * MS;
    while (m.clock.now() < 4 * S) {
      m.run(m.clock.now() + 0.1 * MS, 0.1 * MS);
      const now = m.clock.now();
      if (v.sched.blocked && now >= wakeAt) {
        woken = now;
        d.events.send(port);
      } else if (v.sched.running && woken >= 0) {
        if (now > 2 * S) worst = Math.max(worst, now - woken);
        woken = -1;
        blockAt = now + 0.2 * MS;
      } else if (v.sched.running && woken < 0 && now >= blockAt) {
        v.events.setPendingFlag(false);
        m.mem.fill(v.events.infoMaddr, 0, 16);
        d.events.ops.clearPending(port);
        m.xen.scheduler.block(v.sched);
        wakeAt = now + 20 * MS;
      }
    }
    expect(worst).toBeGreaterThan(0);
    expect(worst).toBeLessThanOrEqual(1.3 * MS);
  });
  it("who yields lets others go first", () => {
    const { m, ds } = busy("credit", 1, [{}, {}]);
    m.run(5 * MS);
    const u = m.xen.scheduler.current(0);
    if (u === null) throw new Error();
    m.xen.scheduler.yield(u);
    m.run(5 * MS);
    expect(m.xen.scheduler.current(0)).not.toBe(u);
    expect(ds).toHaveLength(2);
  });
  it("an idle machine has no timers set", () => {
    const { m, ds } = busy("credit", 2, [{}, {}]);
    m.run(100 * MS);
    for (const d of ds) m.xen.scheduler.block((d.vcpus[0] as Vcpu).sched);
    m.run(2 * S);
    expect(m.xen.timers.next()).toBe(Infinity);
  });
  it("gives slices of the length that is set", () => {
    const switches = (ms: number): number => {
      const { m, ds } = busy("credit", 1, [{}, {}]);
      expect(m.xen.scheduler.policy.globals?.({ tslice_ms: ms })?.["tslice_ms"]).toBe(ms);
      shares(m, ds, 1 * S, 2 * S);
      const before = m.xen.scheduler.switches(0);
      shares(m, ds, 2 * S, 12 * S);
      return (m.xen.scheduler.switches(0) - before) / 10;
    };
    expect(Math.abs(switches(30) - 1000 / 30)).toBeLessThan(5);
    expect(Math.abs(switches(100) - 10)).toBeLessThan(2);
  });
  it("leaves a vCPU where it ran for as long as the migration delay says", () => {
    const moves = (us: number): number => {
      const { m, ds } = busy("credit", 2, [{}, {}, {}]);
      m.xen.scheduler.policy.globals?.({ migration_delay_us: us });
      const at = new Map<Vcpu, number>();
      let n = 0;
      shares(m, ds, 1 * S, 6 * S, MS, (v) => {
        if (at.has(v) && at.get(v) !== v.sched.processor) n++;
        at.set(v, v.sched.processor);
      });
      return n;
    };
    expect(moves(100_000)).toBeLessThan(moves(0) / 2);
  });
  it("checks its parameters", () => {
    const { m, ds } = busy("credit", 1, [{}]);
    const adjust = (p: Record<string, number>): unknown => m.xen.scheduler.adjust(ds[0] as Domain, p);
    expect(adjust({ weight: 0 })).toBe(-EINVAL);
    expect(adjust({ weight: 65536 })).toBe(-EINVAL);
    expect(adjust({ cap: -1 })).toBe(-EINVAL);
    expect(adjust({ slice: 1 })).toBe(-EINVAL);
    expect(m.xen.scheduler.adjust(ds[0] as Domain, null)).toEqual({ weight: 256, cap: 0 });
  });
});

describe("sedf", () => {
  const rt = (period: number, slice: number, extratime = 0): { params: Record<string, number> } => ({
    params: { period: period * MS, slice: slice * MS, extratime },
  });
  it("gives each its slice of each period, and no more without extra time", () => {
    const { m, ds } = busy("sedf", 1, [rt(20, 5), rt(50, 10), rt(100, 30)]);
    near(shares(m, ds, 1 * S, 3 * S), [0.25, 0.2, 0.3], 0.01);
  });
  it("keeps the promise in every single period at full load, beside a greedy best-effort domain", () => {
    const { m, ds } = busy("sedf", 1, [{}, rt(70, 10), rt(30, 12), rt(10, 4)]);
    const d = ds[3] as Domain;
    m.run(300 * MS, 0.1 * MS);
    // Its periods begin where it was started: at 0.
    for (let p = 30; p < 60; p++) {
      const before = had(m, d);
      m.run((p + 1) * 10 * MS, 0.1 * MS);
      expect(had(m, d) - before).toBeGreaterThanOrEqual(4 * MS - 1);
    }
  });
  it("extra time goes to those that want it", () => {
    const { m, ds } = busy("sedf", 1, [rt(20, 5), rt(20, 5, 1)]);
    near(shares(m, ds, 1 * S, 3 * S), [0.25, 0.75], 0.01);
  });
  it("best-effort domains share extra time by weight", () => {
    const { m, ds } = busy("sedf", 1, [
      { params: { extratime: 1, weight: 1 } },
      { params: { extratime: 1, weight: 3 } },
    ]);
    near(shares(m, ds, 1 * S, 3 * S), [0.25, 0.75], 0.02);
  });
  it("weighted domains share what the others leave, in proportion", () => {
    const { m, ds } = busy("sedf", 1, [
      rt(10, 3),
      { params: { weight: 2 } },
      { params: { weight: 7 } },
      { params: { weight: 3 } },
    ]);
    near(shares(m, ds, 1 * S, 5 * S), [0.3, (0.65 * 2) / 12, (0.65 * 7) / 12, (0.65 * 3) / 12], 0.02);
  });
  it("who blocks and wakes within its period has lost the rest of the slice, but may have extra time", () => {
    for (const extra of [0, 1]) {
      const { m, ds } = busy("sedf", 1, [rt(20, 10, extra)]);
      const v = (ds[0] as Domain).vcpus[0] as Vcpu;
      m.run(3 * MS);
      m.xen.scheduler.block(v.sched);
      m.run(5 * MS);
      m.xen.scheduler.unblock(v.sched);
      m.run(20 * MS);
      expect(had(m, ds[0] as Domain)).toBe(extra === 1 ? 18 * MS : 3 * MS);
      m.run(40 * MS);
      expect(had(m, ds[0] as Domain)).toBe(extra === 1 ? 38 * MS : 13 * MS);
    }
  });
  it("who wakes after its deadline starts a new period at once", () => {
    const { m, ds } = busy("sedf", 1, [rt(20, 10)]);
    const v = (ds[0] as Domain).vcpus[0] as Vcpu;
    m.run(3 * MS);
    m.xen.scheduler.block(v.sched);
    m.run(27 * MS);
    m.xen.scheduler.unblock(v.sched);
    m.run(37 * MS);
    expect(had(m, ds[0] as Domain)).toBe(13 * MS);
    m.run(47 * MS);
    expect(had(m, ds[0] as Domain)).toBe(13 * MS);
  });
  it("a real-time domain that blocks and wakes early does not break another's promise", () => {
    const { m, ds } = busy("sedf", 1, [rt(20, 10), rt(20, 10)]);
    const [a, b] = ds as [Domain, Domain];
    const v = a.vcpus[0] as Vcpu;
    let until = 0;
    const s = shares(m, [b], 200 * MS, 1200 * MS, 0.5 * MS, (x, now) => {
      if (x === v && now > until) {
        until = now + 3 * MS;
        m.xen.scheduler.block(v.sched);
        m.xen.timers.set(
          m.xen.timers.create(() => m.xen.scheduler.unblock(v.sched)),
          now + 2.7 * MS,
        );
      }
    });
    expect(s[0]).toBeGreaterThanOrEqual(0.499);
  });
  it("checks its parameters", () => {
    const { m, ds } = busy("sedf", 1, [{}]);
    const adjust = (p: Record<string, number>): unknown => m.xen.scheduler.adjust(ds[0] as Domain, p);
    expect(adjust({ period: 10 * MS, slice: 11 * MS })).toBe(-EINVAL);
    expect(adjust({ period: 9_999, slice: 6_000 })).toBe(-EINVAL);
    expect(adjust({ period: 20 * MS, slice: 4_999, extratime: 0 })).toBe(-EINVAL);
    expect(adjust({ cap: 5 })).toBe(-EINVAL);
    expect(adjust({ period: 20 * MS, slice: 5 * MS, extratime: 0 })).toMatchObject({ period: 20 * MS, slice: 5 * MS });
  });
});

describe("trivial", () => {
  it("gives everyone turns of 10 ms in order", () => {
    const { m, ds } = busy("trivial", 1, [{}, {}, {}]);
    const order: number[] = [];
    m.run(60 * MS - 1, 10 * MS, (v) => order.push(v.domain.domid));
    expect(order).toEqual([1, 2, 3, 1, 2, 3]);
    near(shares(m, ds, 90 * MS, 390 * MS), [1 / 3, 1 / 3, 1 / 3], 0.001);
  });
  it("uses all pCPUs and skips who blocks", () => {
    const { m, ds } = busy("trivial", 2, [{}, {}, {}]);
    m.xen.scheduler.block(((ds[0] as Domain).vcpus[0] as Vcpu).sched);
    near(shares(m, ds, 100 * MS, 300 * MS), [0, 1, 1], 0.001);
  });
});

describe("every scheduler", () => {
  for (const name of schedulers.keys()) {
    it(`${name}: nobody runs twice at once, is lost, or runs when it may not; the run repeats exactly`, () => {
      const once = (): string => {
        const m = new TestMachine(3, name);
        const ds = [1, 2, 3].map((i) => m.addDomain(i, i));
        for (const d of ds) m.start(d);
        const all = ds.flatMap((d) => d.vcpus);
        const rnd = seeded(7);
        const s = m.xen.scheduler;
        let log = "";
        for (let i = 0; i < 3000; i++) {
          m.run(m.clock.now() + rnd(3) * MS, MS);
          const v = all[rnd(all.length)] as Vcpu;
          const what = rnd(7);
          if (what === 0 && v.sched.running) s.block(v.sched);
          else if (what === 1) s.unblock(v.sched);
          else if (what === 2) s.pause(v.sched);
          else if (what === 3) s.unpause(v.sched);
          else if (what === 4 && v.sched.running) s.yield(v.sched);
          else if (what === 5) s.setAffinity(v.sched, 1 + rnd(7));
          m.run(m.clock.now());
          const on = [0, 1, 2].map((p) => s.current(p));
          for (const [p, u] of on.entries()) {
            if (u === null) continue;
            expect([u.running, u.processor, s.runnable(u), (u.hardAffinity >> p) & 1]).toEqual([true, p, true, 1]);
          }
          expect(new Set(on.filter((u) => u !== null)).size).toBe(on.filter((u) => u !== null).length);
          log += on.map((u) => (u === null ? "-" : `${u.vcpu.domain.domid}.${u.vcpu.id}`)).join(",") + ";";
        }
        // Let all go: everyone must get to run.
        for (const v of all) {
          s.setAffinity(v.sched, 7);
          while (v.sched.pauseCount > 0) s.unpause(v.sched);
          s.unblock(v.sched);
        }
        const before = all.map((v) => v.time.runstate.spent(RUNSTATE_running, m.clock.now()));
        m.run(m.clock.now() + 1 * S, MS);
        all.forEach((v, i) =>
          expect(v.time.runstate.spent(RUNSTATE_running, m.clock.now()), `d${v.domain.domid}v${v.id}`).toBeGreaterThan(
            before[i] ?? 0,
          ),
        );
        expect(s.policy.dumpSettings().length + s.policy.dumpCpuState(0).length).toBeGreaterThan(0);
        return log;
      };
      expect(once()).toBe(once());
    });
  }
});
