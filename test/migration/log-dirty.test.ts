// The log of written frames against the memory itself: what changed is marked, whoever wrote it.
import { describe, expect, it } from "vitest";
import { LogDirty } from "../../src/hypervisor/memory/log-dirty.js";
import type { Domain } from "../../src/hypervisor/domain.js";
import { debianFile, type Guest, Host, LIMIT, missing, TEST_LIMIT } from "../machine/harness.js";

/** Run a domain in portions; after each, every page that is not what it was must be marked. Returns how many were marked, and changed. */
async function watch(host: Host, g: Guest, portions: number, instructions: number) {
  const { mem, xen } = host.machine;
  const { domain } = g.running;
  const log = new LogDirty(xen);
  const owned = (d: Domain): number[] => xen.frames.pagesOf(d.mm.id);
  let marked = 0;
  let changed = 0;
  let total = 0;
  for (let i = 0; i < portions && !g.ended; i++) {
    const frames = owned(domain);
    log.clear(frames);
    const before = new Map(frames.map((mfn) => [mfn, mem.read(mfn * 4096, 4096)]));
    await host.runInstructions(instructions, () => g.ended);
    for (const mfn of owned(domain)) {
      const old = before.get(mfn);
      if (old === undefined) continue;
      const at = mem.ram(mfn) * 4096;
      const same = Buffer.compare(old, mem.u8.subarray(at, at + 4096)) === 0;
      if (!same) {
        changed++;
        if (!log.isDirty(mfn))
          throw new Error(`frame ${mfn} (type ${xen.frames.type[mfn]}) was written unseen, portion ${i}${host.tail()}`);
      }
      if (log.isDirty(mfn)) marked++;
      total++;
    }
  }
  log.close();
  return { marked, changed, total };
}

describe("every write is marked", { timeout: LIMIT }, () => {
  it.each(["memory", "grants", "events", "traps", "time", "sched", "suspend"])("of our guest %s", async (name) => {
    const host = new Host({ memoryMiB: 48 });
    const g = await host.guest(name, { memoryMiB: 12, vcpus: 2, cmdline: name === "suspend" ? "rounds=0" : "" });
    const { marked, changed, total } = await watch(host, g, 25, 20_000);
    expect(changed).toBeGreaterThan(0);
    // And little more than what was written.
    expect(marked).toBeGreaterThanOrEqual(changed);
    expect(marked).toBeLessThan(total / 2);
    host.close();
  });

  it("in every mode of the engine", async () => {
    for (const engine of ["interpreter", "translator"] as const) {
      const host = new Host({ memoryMiB: 48, engine });
      const g = await host.guest("memory", { memoryMiB: 12 });
      expect((await watch(host, g, 25, 20_000)).changed).toBeGreaterThan(0);
      host.close();
    }
  });

  it("of two logs each, and none when both are closed", async () => {
    const host = new Host({ memoryMiB: 48 });
    const [a, b] = [
      await host.guest("suspend", { cmdline: "rounds=0" }),
      await host.guest("suspend", { cmdline: "rounds=0" }),
    ];
    const { xen } = host.machine;
    const [la, lb] = [new LogDirty(xen), new LogDirty(xen)];
    const frames = [a, b].map((g) => xen.frames.pagesOf(g.running.domain.mm.id)) as [number[], number[]];
    la.clear(frames[0]);
    lb.clear(frames[1]);
    await host.runInstructions(2_000_000);
    expect(frames.map((f) => f.some((mfn) => la.isDirty(mfn)))).toEqual([true, true]);
    la.clear(frames[0]);
    expect(frames[0].some((mfn) => la.isDirty(mfn))).toBe(false);
    expect(frames[1].some((mfn) => lb.isDirty(mfn))).toBe(true);
    la.close();
    lb.clear(frames[1]);
    await host.runInstructions(2_000_000);
    expect(frames[1].some((mfn) => lb.isDirty(mfn))).toBe(true);
    lb.close();
    lb.close();
    for (const f of frames) for (const mfn of f) host.machine.mem.clearDirty(mfn);
    await host.runInstructions(2_000_000);
    expect(frames.flat().some((mfn) => host.machine.mem.isDirty(mfn))).toBe(false);
    host.close();
  });
});

const noDebian = missing(debianFile("vmlinuz-cloud"), debianFile("initramfs.cpio.gz"));
describe.skipIf(noDebian !== "")(`while Debian boots${noDebian}`, { timeout: TEST_LIMIT }, () => {
  it("too", async () => {
    const host = new Host({ memoryMiB: 160 });
    const g = await host.debian("cloud", "quiet", { memoryMiB: 80, vcpus: 2 });
    const { marked, changed } = await watch(host, g, 40, 12_000_000);
    expect(changed).toBeGreaterThan(1000);
    // Stores of what was there already are marked too, but they are few.
    expect(marked).toBeLessThan(changed * 3);
    host.close();
  });
});
