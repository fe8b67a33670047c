// CPU pools: each with a scheduler of its own, pCPUs and domains that come and go.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { VirtualClock } from "../../src/machine/clock.js";
import { LIMIT, refusal, request, TestHost, until } from "./testing.js";

let t: TestHost;
beforeEach(() => (t = new TestHost()));
afterEach(() => t.close());

const cpuOf = async (ref: string): Promise<number> => (await t.host.getDomain(ref)).vcpus[0]?.cpu ?? -1;
const ran = async (ref: string): Promise<number> => (await t.host.getDomain(ref)).cpuTimeNs;
async function runsOn(ref: string, cpu: number): Promise<void> {
  await until(`${ref} on ${cpu}`, async () => (await cpuOf(ref)) === cpu);
  const before = await ran(ref);
  await until("it runs", async () => (await ran(ref)) > before + 1e6);
}

describe("CPU pools", { timeout: LIMIT }, () => {
  it("Pool-0 has all pCPUs and all domains to begin with", async () => {
    await t.host.create(request("spin"));
    expect(await t.host.listPools()).toEqual([
      { id: 0, name: "Pool-0", scheduler: "credit", cpus: [0, 1, 2, 3], domains: 2 },
    ]);
    expect((await t.host.getDomain("spin")).pool).toBe("Pool-0");
  });

  it("a pool is made of free pCPUs, with its own scheduler, and its domains run there only", async () => {
    const { host } = t;
    await host.create(request("spin"));
    expect((await refusal(host.createPool("two", "sedf", [3]))).code).toBe("state");
    await host.poolRemoveCpus("Pool-0", [3]);
    const pool = await host.createPool("two", "sedf", [3]);
    expect(pool).toEqual({ id: 1, name: "two", scheduler: "sedf", cpus: [3], domains: 0 });
    expect(t.machine.xs.read("/local/pool/1/name")).toBe("two");
    expect((await refusal(host.createPool("two", "credit", []))).code).toBe("exists");
    await host.poolMoveDomain("spin", "two");
    await runsOn("spin", 3);
    const d = await host.getDomain("spin");
    expect([d.pool, Object.keys(d.sched).sort()]).toEqual([
      "two",
      ["extratime", "latency", "period", "slice", "weight"],
    ]);
    expect((await refusal(host.setSched("spin", "credit", { weight: 1 }))).message).toMatch(/is sedf, not credit/);
    await host.setSched("spin", "sedf", { period: 20e6, slice: 5e6, extratime: 0 });
    expect((await host.getSched("spin"))["slice"]).toBe(5e6);
    expect((await refusal(host.pinVcpu("spin", 0, [0]))).code).toBe("invalid");
    expect((await refusal(host.destroyPool("two"))).code).toBe("state");
    expect((await refusal(host.poolRemoveCpus("two", [3]))).code).toBe("state");
    await host.poolMoveDomain("spin", "0");
    await until("it is off 3", async () => (await cpuOf("spin")) !== 3);
    expect((await host.getDomain("spin")).sched).toEqual({ weight: 256, cap: 0 });
    await host.destroyPool("two");
    expect(t.machine.xs.exists("/local/pool/1")).toBe(false);
    await host.poolAddCpus("Pool-0", [3]);
    expect((await host.listPools()).map((p) => p.cpus)).toEqual([[0, 1, 2, 3]]);
  });

  it("pool= places a new domain", async () => {
    const { host } = t;
    await host.poolRemoveCpus("Pool-0", [2]);
    await host.createPool("own", undefined, [2]);
    await host.create(request("spin", { pool: "own", cpu_weight: 100 }));
    expect((await host.getDomain("spin")).sched).toEqual({ weight: 100, cap: 0 });
    await runsOn("spin", 2);
    await host.renamePool("own", "mine");
    expect((await host.getDomain("spin")).pool).toBe("mine");
    await host.destroy("spin");
    await host.destroyPool("mine");
  });

  it("a pCPU that leaves takes nothing with it: what ran there goes on elsewhere, also what was pinned to it", async () => {
    const { host } = t;
    await host.create(request("spin", { cpus: "3" }));
    await runsOn("spin", 3);
    await host.poolRemoveCpus("Pool-0", [3]);
    await until("it is elsewhere", async () => (await cpuOf("spin")) !== 3);
    expect((await host.getDomain("spin")).vcpus[0]?.hardAffinity).toBeNull();
    const before = await ran("spin");
    await until("it runs", async () => (await ran("spin")) > before + 1e6);
    await host.poolRemoveCpus("Pool-0", [1, 2]);
    await runsOn("spin", 0);
    expect((await refusal(host.poolRemoveCpus("Pool-0", [0]))).code).toBe("state");
    expect((await refusal(host.poolAddCpus("Pool-0", [9]))).code).toBe("not-found");
    await host.poolAddCpus("Pool-0", [1, 2, 3]);
  });

  it("weights count within a pool", async () => {
    await t.close();
    // Time by instructions: a busy machine has no say.
    t = new TestHost({ clock: new VirtualClock(), engine: "auto" });
    const { host } = t;
    await host.poolRemoveCpus("Pool-0", [3]);
    await host.createPool("one", "credit", [3]);
    await host.create(request("spin", { name: "a", pool: "one", cpu_weight: 100 }));
    await host.create(request("spin", { name: "b", pool: "one", cpu_weight: 300 }));
    const [a, b] = [await ran("a"), await ran("b")];
    await until("half a second", async () => (await ran("a")) - a + (await ran("b")) - b > 5e8);
    const share = ((await ran("b")) - b) / ((await ran("a")) - a);
    expect(share).toBeGreaterThan(2);
    expect(share).toBeLessThan(4.5);
  });

  it("the scheduler's own parameters are a pool's", async () => {
    const { host } = t;
    expect(await host.getSchedGlobal()).toEqual({ tslice_ms: 30, ratelimit_us: 1000, migration_delay_us: 0 });
    await host.setSchedGlobal({ tslice_ms: 5, ratelimit_us: 500 });
    expect(await host.getSchedGlobal("Pool-0")).toEqual({ tslice_ms: 5, ratelimit_us: 500, migration_delay_us: 0 });
    for (const bad of [{ tslice_ms: 0 }, { tslice_ms: 2000 }, { ratelimit_us: 9000 }, { nonsense: 1 }])
      expect((await refusal(host.setSchedGlobal(bad))).code).toBe("invalid");
    expect((await refusal(host.getSchedGlobal("none"))).code).toBe("not-found");
  });
});

describe("debug keys", { timeout: LIMIT }, () => {
  it("print into the hypervisor's console, which can be emptied", async () => {
    const { host } = t;
    await host.create(request("spin", { vcpus: 2 }));
    await host.debugKeys("h");
    expect(await host.dmesg()).toContain("(XEN)  key 'q' (ascii '71') => dump domain (and guest debug) info");
    await host.dmesg(true);
    expect(await host.dmesg()).toBe("");
    const { uuid } = await host.getDomain("spin");
    const want: Readonly<Record<string, readonly RegExp[]>> = {
      q: [
        /General information for domain 1:/,
        new RegExp(`handle=${uuid} vm_assist=`),
        /UNIT1 affinities: hard=\{0-3\}/,
      ],
      e: [/Event channel information for domain 1:/, /^\(XEN\) {8}1 \[0\/[01]\/ {2}- {3}\]: s=\d n=0 x=0/m],
      g: [/grant-table for remote d1 \(v1\)/, /gnttab_usage_print_all \] done/],
      r: [/Cpupool 0:/, /Scheduler: SMP Credit Scheduler \(credit\)/, /CPU\[03\] current=/],
      "0": [/Dom0 is native/],
      d: [/\*\*\* Dumping Dom1 vcpu#0 state: \*\*\*/, /RIP: /],
      m: [/kB free/],
    };
    for (const [key, patterns] of Object.entries(want)) {
      await host.dmesg(true);
      await host.debugKeys(key);
      const text = await host.dmesg();
      for (const p of patterns) expect(text).toMatch(p);
    }
    await host.dmesg(true);
    await host.debugKeys("~");
    expect(await host.dmesg()).toBe("");
  });
});
