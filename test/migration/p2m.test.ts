// The guest's P2M and its page tables, as a toolstack must read them: every word is the guest's.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { shared_info } from "../../src/abi/xen.js";
import {
  canonicaliseFrame,
  localiseFrame,
  MemorySink,
  MigrationError,
  readP2m,
  saveDomain,
  translateTable,
} from "../../src/toolstack/migration/index.js";
import { type Guest, Host, LIMIT } from "../machine/harness.js";
import { startMini, works } from "./mini.js";

describe("the guest's P2M", { timeout: LIMIT }, () => {
  let host: Host;
  let g: Guest;
  beforeEach(async () => {
    host = new Host({ memoryMiB: 48 });
    g = await startMini(host);
  });
  afterEach(() => host.close());
  const info = (field: number): number => g.running.domain.mm.sharedInfo * 4096 + field;
  const list = shared_info.arch_pfn_to_mfn_frame_list_list;

  it("is the hypervisor's", () => {
    const { domain } = g.running;
    const p2m = readP2m(domain);
    expect(p2m.pfns).toBe(1024);
    expect(p2m.frames).toHaveLength(2);
    for (let pfn = 0; pfn < 1024; pfn++) expect(p2m.mfn[pfn]).toBe(domain.mm.mfnOf(pfn));
  });

  it("is refused where it leads outside, in one line, and the guest works on", async () => {
    const { mem } = host.machine;
    const { domain } = g.running;
    const foreign = host.machine.xen.frames.emptyRoot;
    const wrong: readonly (readonly [string, number, number, number])[] = [
      ["no list", list, 0, 0],
      ["a foreign list", list, foreign, 0],
      ["a list beyond memory", list, 0xffffffff, 0xffff],
      ["no frames", shared_info.arch_max_pfn, 0, 0],
      ["a thousand frames too many", shared_info.arch_max_pfn, 4096, 0],
      ["2^63 frames", shared_info.arch_max_pfn, 0, 0x80000000],
      ["a foreign root", shared_info.arch_p2m_cr3, foreign * 4096, 0],
      ["a root beyond memory", shared_info.arch_p2m_cr3, 0xfffff000, 0xffff],
    ];
    for (const [what, field, lo, hi] of wrong) {
      const at = info(field);
      const [oldLo, oldHi] = [mem.r32(at), mem.r32(at + 4)];
      mem.w64(at, lo, hi);
      expect(() => readP2m(domain), what).toThrow(MigrationError);
      await expect(saveDomain(host.machine, g.running, new MemorySink()), what).rejects.toThrow(
        /^domain \d+ cannot be moved: [^\n]+$/,
      );
      mem.w64(at, oldLo, oldHi);
    }
    // A linear list at an address without pages, at Xen's own, at one that is none.
    const root = domain.vcpus[0]?.mm.kernelRoot ?? 0;
    for (const [lo, hi] of [
      [0x1000, 0x7000],
      [0, 0xffff8000],
      [0, 0x00800000],
      [8, 0],
    ] as const) {
      mem.w64n(info(shared_info.arch_p2m_cr3), root * 4096);
      mem.w64(info(shared_info.arch_p2m_vaddr), lo, hi);
      expect(() => readP2m(domain)).toThrow(MigrationError);
    }
    mem.w64(info(shared_info.arch_p2m_cr3), 0, 0);
    expect(readP2m(domain).pfns).toBe(1024);
    await works(host, g.running);
  });

  it("counts a page only where the machine's table agrees", () => {
    const { mem } = host.machine;
    const { domain } = g.running;
    const top = mem.r64(info(list));
    const place = (pfn: number): number =>
      mem.r64(mem.r64(top * 4096) * 4096 + (pfn >> 9) * 8) * 4096 + (pfn & 511) * 8;
    const [a, b] = [mem.r64(place(700)), mem.r64(place(701))];
    for (const value of [b, host.machine.xen.frames.emptyRoot, 0xfffffff]) {
      mem.w64n(place(700), value);
      expect(readP2m(domain).mfn[700]).toBe(-1);
    }
    // Marked as no page of its own.
    mem.w64(place(700), a, 0x80000000);
    expect(readP2m(domain).mfn[700]).toBe(-1);
    mem.w64n(place(700), a);
    expect(readP2m(domain).mfn[700]).toBe(a);
  });

  it("page tables in canonical form and back are what they were", () => {
    const { mem, xen } = host.machine;
    const { domain } = g.running;
    const page = new Uint8Array(4096);
    let tables = 0;
    for (const mfn of xen.frames.pagesOf(domain.mm.id)) {
      const level = xen.frames.type[mfn] as 1 | 2 | 3 | 4;
      if (level < 1 || level > 4 || xen.frames.tcount[mfn] === 0) continue;
      // The shared info page is mapped while the guest runs: a frame of Xen's.
      const pfnOf = (m: number): number => (m === domain.mm.sharedInfo ? 0xfffff : xen.frames.m2p.get(m));
      const before = mem.read(mfn * 4096, 4096);
      expect(canonicaliseFrame(mem, mfn, level, pfnOf, page, 0)).toBe(-1);
      if (level === 4) expect(page.subarray(256 * 8, 272 * 8).every((x) => x === 0)).toBe(true);
      else expect(page).not.toEqual(before);
      const spare = domain.mm.allocPage(5000);
      mem.write(spare * 4096, page);
      const mfnOf = (pfn: number): number => (pfn === 0xfffff ? domain.mm.sharedInfo : domain.mm.mfnOf(pfn));
      expect(localiseFrame(mem, spare, level, mfnOf)).toBe(-1);
      if (level !== 4) expect(mem.read(spare * 4096, 4096)).toEqual(before);
      domain.mm.forget(spare);
      xen.frames.putAllocRef(spare);
      tables++;
    }
    expect(tables).toBeGreaterThanOrEqual(4);
  });
});

describe("one table", () => {
  const entry = (lo: number, hi: number): Uint32Array => {
    const words = new Uint32Array(1024);
    words[14] = lo;
    words[15] = hi;
    return words;
  };
  it("keeps every bit but the frame's, of present entries only", () => {
    const words = entry(0x12345fff & ~0x80, 0xfff00000);
    expect(translateTable(words, 0, 1, (f) => (f === 0x12345 ? 0x1abcde012 : -1))).toBe(-1);
    expect([words[14], words[15]]).toEqual([0xde012f7f, 0xfff01abc]);
    const absent = entry(0x12345ffe, 0x7ff12345);
    expect(translateTable(absent, 0, 1, () => -1)).toBe(-1);
    expect([absent[14], absent[15]]).toEqual([0x12345ffe, 0x7ff12345]);
  });
  it("says which entry has no counterpart, and takes no large page", () => {
    expect(translateTable(entry(0x1067, 0), 0, 1, () => -1)).toBe(7);
    expect(translateTable(entry(0x10e7, 0), 0, 2, (f) => f)).toBe(7);
    // PAT's place in an L1.
    expect(translateTable(entry(0x10e7, 0), 0, 1, (f) => f)).toBe(-1);
  });
});
