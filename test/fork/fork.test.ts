// Forks of a small guest of ours, which writes its memory and page tables all the time and checks that nothing but its own writes are in it.
import { describe, expect, it } from "vitest";
import { DOMID_COW } from "../../src/abi/xen.js";
import {
  forkDomain,
  forkTemplate,
  sharingMiB,
  snapshotFromStream,
  takeSnapshot,
  type ForkOptions,
} from "../../src/toolstack/fork.js";
import { MemorySink, MemorySource, MigrationError, saveDomain } from "../../src/toolstack/migration/index.js";
import type { RunningDomain } from "../../src/toolstack/machine.js";
import { Guest, holdings, Host, LIMIT } from "../machine/harness.js";
import { during } from "../migration/during.js";
import { goingsOn, printed, startMini, wentOn, works } from "../migration/mini.js";
import { seeded } from "../../src/testing.js";

const MEMORY = { memoryMiB: 48 };

function audit(host: Host): void {
  const { frames } = host.machine.xen;
  frames.audit();
  frames.sharing.audit();
}
async function fork(host: Host, parent: RunningDomain, options?: ForkOptions): Promise<Guest[]> {
  const { forks } = await during(host, forkDomain(host.machine, parent, options));
  return guests(host, forks);
}
function guests(host: Host, forks: readonly RunningDomain[]): Guest[] {
  return forks.map((r) => {
    const g = new Guest(host, r);
    host.guests.push(g);
    return g;
  });
}

describe("a domain is forked", { timeout: LIMIT }, () => {
  it("forks and parent go on, each with its own memory; all destroyed, the machine is as before", async () => {
    const host = new Host(MEMORY);
    // The first fork makes what is kept for good (a frame of zeroes).
    const first = await startMini(host);
    for (const g of await fork(host, first.running)) g.running.destroy();
    first.running.destroy();
    const before = holdings(host.machine);
    const g = await startMini(host);
    await works(host, g.running);
    const forks = await fork(host, g.running, { count: 3 });
    await wentOn(host, g.running, 1);
    for (const f of forks) await wentOn(host, f.running, 0);
    audit(host);
    for (const f of [g, ...forks, g, ...forks]) await works(host, f.running);
    expect(forks.map((f) => goingsOn(host, f.domid, 1))).toEqual([0, 0, 0]);
    expect(host.log).not.toMatch(/FAIL|domain_crash/);
    audit(host);
    // In any order.
    for (const f of [forks[1], g, forks[0], forks[2]]) {
      f?.running.destroy();
      audit(host);
    }
    expect(holdings(host.machine)).toEqual(before);
    const { sharing } = host.machine.xen.frames;
    expect([sharing.aliasesUsed, sharing.savedFrames, sharing.freeAliases]).toEqual([0, 0, host.machine.mem.aliases]);
  });

  it("forks have numbers, names and UUIDs of their own, and a place in XenStore", async () => {
    const host = new Host(MEMORY);
    const g = await startMini(host);
    const two = await fork(host, g.running, { count: 2 });
    const name = g.running.domain.name;
    expect(two.map((f) => f.running.domain.name)).toEqual([`${name}-1`, `${name}-2`]);
    const [three] = await fork(host, g.running, { name: "other" });
    await wentOn(host, g.running, 1, 2);
    expect((await fork(host, g.running))[0]?.running.domain.name).toBe(`${name}-3`);
    expect(three?.running.domain.name).toBe("other");
    const all = [g, ...two, three as Guest].map((f) => f.running.domain);
    expect(new Set(all.map((d) => d.uuid)).size).toBe(4);
    const { xs } = host.machine;
    for (const d of all) {
      expect(xs.read(`/local/domain/${d.domid}/name`)).toBe(d.name);
      expect(xs.read(`/local/domain/${d.domid}/vm`)).toBe(`/vm/${d.uuid}`);
    }
    host.machine.xen.scheduler.adjust(g.running.domain, { weight: 300, cap: 50 });
    const [heavy] = await fork(host, g.running, { paused: true });
    if (heavy === undefined) throw new Error("no fork");
    expect(host.machine.xen.scheduler.adjust(heavy.running.domain, null)).toMatchObject({ weight: 300, cap: 50 });
    await wentOn(host, g.running, 1, 4);
    const told = (d: number): string[] =>
      ["memory/static-max", "memory/target", "store/port"].map((n) => xs.read(`/local/domain/${d}/${n}`) ?? "");
    expect(told(all[1]?.domid ?? 0)).toEqual(told(g.domid));
    await expect(during(host, forkDomain(host.machine, g.running, { name: "other" }))).rejects.toThrow(MigrationError);
    host.close();
  });

  it("a fork costs its page tables, P2M and what it writes; the numbers say so", async () => {
    const host = new Host({ memoryMiB: 80 });
    const g = await startMini(host, "", 32);
    const { frames } = host.machine.xen;
    const template = await during(host, takeSnapshot(host.machine, g.running));
    const pages = template.snapshot.totalPages;
    expect(pages).toBe(32 * 256);
    const free = frames.freeFrames;
    const { forks } = await during(host, forkTemplate(host.machine, template, { count: 5, paused: true }));
    const each = (free - frames.freeFrames) / 5;
    // Tables, P2M (16), start info, two rings, and what any domain has of Xen's.
    expect(each).toBeGreaterThan(20);
    expect(each).toBeLessThan(40);
    expect(sharingMiB(host.machine).freedMiB).toBeGreaterThan(5 * 31);
    expect(sharingMiB(host.machine).usedMiB).toBeLessThanOrEqual(32);
    for (const r of forks) expect(r.domain.mm.totPages).toBe(pages);
    audit(host);
    for (const r of forks) host.machine.xen.unpause(r.domain);
    for (const f of guests(host, forks)) await wentOn(host, f.running, 0);
    for (const r of forks) await works(host, r);
    // Its 48 pages of data and some more.
    expect((free - frames.freeFrames) / 5 - each).toBeLessThan(110);
    audit(host);
    template.release();
    audit(host);
    host.close();
  });

  it("paused forks run when they are told to, and then from the same moment", async () => {
    const host = new Host(MEMORY);
    const g = await startMini(host);
    const [f] = await fork(host, g.running, { paused: true });
    if (f === undefined) throw new Error("no fork");
    await wentOn(host, g.running, 1);
    for (let i = 0; i < 3; i++) await works(host, g.running);
    expect(printed(host, f.domid)).toBe("");
    host.machine.xen.unpause(f.running.domain);
    await wentOn(host, f.running, 0);
    const round = (domid: number, how: number): string | undefined =>
      new RegExp(`went on with ${how} at round (\\d+)`).exec(printed(host, domid))?.[1];
    expect(round(f.domid, 0)).toBe(round(g.domid, 1));
    await works(host, f.running);
    host.close();
  });

  it("a fork is forked again, and so on", async () => {
    const host = new Host(MEMORY);
    let g = await startMini(host);
    const all = [g];
    for (let depth = 0; depth < 4; depth++) {
      await works(host, g.running);
      const [f] = await fork(host, g.running);
      if (f === undefined) throw new Error("no fork");
      await wentOn(host, g.running, 1);
      await wentOn(host, f.running, 0);
      audit(host);
      all.push(f);
      g = f;
    }
    for (const f of all) await works(host, f.running);
    all[0]?.running.destroy();
    all[2]?.running.destroy();
    audit(host);
    for (const i of [1, 3, 4]) await works(host, (all[i] as Guest).running);
    expect(host.log).not.toMatch(/FAIL|domain_crash/);
    host.close();
  });

  it("a kept snapshot gives forks long after, whatever has become of the domain", async () => {
    const host = new Host(MEMORY);
    const g = await startMini(host);
    await works(host, g.running);
    const template = await during(host, takeSnapshot(host.machine, g.running));
    await wentOn(host, g.running, 1);
    for (let i = 0; i < 3; i++) await works(host, g.running);
    g.running.destroy();
    audit(host);
    const kept = template.snapshot.totalPages;
    expect(host.machine.xen.frames.sharing.sharedFrames).toBeGreaterThan(kept / 2);
    for (let i = 0; i < 2; i++) {
      const { forks } = await during(host, forkTemplate(host.machine, template));
      const [f] = guests(host, forks);
      if (f === undefined) throw new Error("no fork");
      await wentOn(host, f.running, 0);
      await works(host, f.running);
      if (i === 0) f.running.destroy();
    }
    template.release();
    expect(template.snapshot.released).toBe(true);
    audit(host);
    const [last] = host.guests.slice(-1);
    await works(host, (last as Guest).running);
    host.close();
    audit(host);
    // Only the frame of zeroes may stay.
    expect(host.machine.xen.frames.sharing.sharedFrames).toBeLessThanOrEqual(1);
  });

  it("forks of a saved domain, several from one file", async () => {
    const host = new Host(MEMORY);
    const g = await startMini(host);
    await works(host, g.running);
    const sink = new MemorySink();
    await during(host, saveDomain(host.machine, g.running, sink));
    const other = new Host(MEMORY);
    const template = await during(other, snapshotFromStream(other.machine, new MemorySource(sink.bytes())));
    expect([...other.machine.xen.domains.keys()]).toEqual([0]);
    expect(other.machine.xs.list("/local/domain")).toEqual(["0"]);
    audit(other);
    const { forks } = await during(other, forkTemplate(other.machine, template, { count: 3 }));
    const gs = guests(other, forks);
    for (const f of gs) await wentOn(other, f.running, 0);
    for (const f of gs) await works(other, f.running);
    template.release();
    expect(other.log).not.toMatch(/FAIL|domain_crash/);
    other.close();
    audit(other);
  });

  it("the vCPUs, code and all: the translator's code is shared, and stays right where one of them is changed", async () => {
    const host = new Host({ ...MEMORY, engine: "translator" });
    const g = await startMini(host);
    await works(host, g.running);
    const [f] = await fork(host, g.running);
    if (f === undefined) throw new Error("no fork");
    await wentOn(host, f.running, 0);
    await works(host, f.running);
    const regions = host.machine.cpu.counters.regions;
    const [h] = await fork(host, f.running);
    if (h === undefined) throw new Error("no fork");
    await wentOn(host, h.running, 0);
    await works(host, h.running);
    // A third domain of the same code: next to nothing is translated again.
    expect(host.machine.cpu.counters.regions - regions).toBeLessThan(regions / 4);
    host.close();
  });
});

describe("what goes wrong", { timeout: LIMIT }, () => {
  it("no memory for the forks: none is made, and the parent goes on", async () => {
    const host = new Host({ memoryMiB: 20 });
    const g = await startMini(host);
    const { frames } = host.machine.xen;
    await host.guest("hello", { memoryMiB: Math.floor(frames.freeFrames / 256) - 1 });
    const free = frames.freeFrames;
    await expect(during(host, forkDomain(host.machine, g.running, { count: 200 }))).rejects.toMatchObject({
      code: "no-memory",
    });
    await wentOn(host, g.running, 1);
    await works(host, g.running);
    expect([...host.machine.xen.domains.keys()].length).toBe(3);
    expect(free - frames.freeFrames).toBeLessThan(80);
    audit(host);
    host.close();
  });

  it("no frame numbers left: said as such", async () => {
    const host = new Host({ ...MEMORY, forkMiB: 10 });
    const g = await startMini(host);
    await expect(during(host, forkDomain(host.machine, g.running, { count: 3 }))).rejects.toThrow("forkMiB");
    await wentOn(host, g.running, 1);
    expect((await fork(host, g.running, { count: 2 })).length).toBe(2);
    host.close();
  });

  it("memory runs out while forks run: the one that needed it is crashed and says why, the others and the parent go on", async () => {
    const host = new Host({ memoryMiB: 20 });
    const g = await startMini(host, "work=2");
    const forks = await fork(host, g.running, { count: 2, paused: true });
    await wentOn(host, g.running, 1);
    await works(host, g.running);
    const { frames } = host.machine.xen;
    // All but a few frames.
    const hog: number[] = [];
    while (frames.freeFrames > 40) hog.push(frames.allocXen());
    const [a, b] = forks as [Guest, Guest];
    host.machine.xen.unpause(a.running.domain);
    await host.run(() => a.ended, { what: "the end of the fork" });
    expect(a.running.crashed).toBe(true);
    expect(host.log).toMatch(/domain_crash: no memory left for a page of its own where it writes a shared one/);
    audit(host);
    a.running.destroy();
    for (const f of hog) frames.freeFor(f);
    host.machine.xen.unpause(b.running.domain);
    await wentOn(host, b.running, 0);
    await works(host, b.running);
    await works(host, g.running);
    audit(host);
    host.close();
  });

  it("the parent does not suspend itself: an error in time, and it goes on", async () => {
    const host = new Host(MEMORY);
    const g = await host.guest("suspend", { cmdline: "rounds=0", memoryMiB: 4 });
    await host.run(() => /port \d+/.test(printed(host, g.domid)), { what: "the guest's port" });
    // Nobody tells it of the request: no port is announced, and it has no driver for XenStore.
    await expect(during(host, forkDomain(host.machine, g.running, { suspendTimeoutMs: 50 }))).rejects.toMatchObject({
      code: "timeout",
    });
    expect([...host.machine.xen.domains.keys()].length).toBe(2);
    await works(host, g.running);
    host.close();
  });

  it("a stream that is cut short or changed anywhere leaves nothing behind", async () => {
    const host = new Host(MEMORY);
    const g = await startMini(host);
    const sink = new MemorySink();
    await during(host, saveDomain(host.machine, g.running, sink));
    const good = sink.bytes();
    const before = holdings(host.machine);
    const next = seeded(12345);
    let refused = 0;
    for (let i = 0; i < 25; i++) {
      const bytes = i % 2 === 0 ? good.slice(0, next(good.length)) : good.slice();
      if (i % 2 === 1) for (let k = 0; k < 40; k++) bytes[next(bytes.length)] = next(256);
      try {
        const t = await during(host, snapshotFromStream(host.machine, new MemorySource(bytes)));
        try {
          const { forks } = await during(host, forkTemplate(host.machine, t, { count: 2, paused: true }));
          for (const f of forks) f.destroy();
        } finally {
          t.release();
        }
      } catch (e) {
        refused++;
        expect(e).toBeInstanceOf(MigrationError);
      }
      audit(host);
    }
    expect(refused).toBeGreaterThan(12);
    const { sharing } = host.machine.xen.frames;
    expect([sharing.aliasesUsed, sharing.savedFrames]).toEqual([0, 0]);
    expect(holdings(host.machine)).toEqual({ ...before, freeFrames: before.freeFrames - sharing.sharedFrames });
    host.close();
  });

  it("a domain that says its P2M holds the hypervisor's pages is not forked, and goes on", async () => {
    const host = new Host(MEMORY);
    const g = await startMini(host);
    const { domain } = g.running;
    // As a hostile guest could with MMU_MACHPHYS_UPDATE and its own table.
    const { mem, frames } = host.machine.xen;
    const victim = domain.mm.mfnOf(900);
    const p2mOf = (pfn: number): number => {
      for (const m of frames.pagesOf(domain.mm.id))
        for (let i = 0; i < 4096; i += 8)
          if (mem.r64(m * 4096 + i) === victim && mem.r64(m * 4096 + i - 8) === domain.mm.mfnOf(pfn - 1))
            return m * 4096 + i;
      throw new Error("no P2M");
    };
    const at = p2mOf(900);
    mem.w64n(at, domain.mm.sharedInfo);
    frames.m2p.setPfn(domain.mm.sharedInfo, 900);
    await expect(during(host, forkDomain(host.machine, g.running))).rejects.toMatchObject({ code: "unsupported" });
    audit(host);
    expect(frames.sharing.savedFrames).toBe(0);
    expect(mem.isShared(domain.mm.sharedInfo)).toBe(false);
    mem.w64n(at, victim);
    await wentOn(host, g.running, 1);
    await works(host, g.running);
    expect(frames.ownerDomid(domain.mm.sharedInfo)).not.toBe(DOMID_COW);
    host.close();
  });
});
