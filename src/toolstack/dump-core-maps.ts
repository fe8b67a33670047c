/**
 * What a domain's kernel sees at which address, for a debugger that opens its core: the mappings of a vCPU's page tables, as stretches of pages
 * that lie next to each other in the file too.
 *
 * The tables are the guest's, but validated: a table is followed only where the frame table says that it is one of the right level, and few times, so
 * that tables that map themselves do not lead in circles, and one that stands in for many (Linux's for the holes of its P2M) costs what one does.
 * The number of stretches is bounded; the longest are kept.
 */
import type { Domain } from "../hypervisor/domain.js";
import { PTE_HI_NX, PTE_P, PTE_RW, pteMfn, XEN_SLOT_FIRST, XEN_SLOT_LAST } from "../hypervisor/memory/page-types.js";
import type { Mfn } from "../machine/memory.js";
import type { LoadedRange } from "./dump-core-elf.js";
import { frameType } from "./migration/frame-types.js";
import { tableLevel } from "./migration/formats.js";

/** Program headers are counted with 16 bits. */
const MAX_RANGES = 16_000;
/** Linux has one table for its image and for the same memory in the direct map. */
const SAME_TABLE = 4;
const TOP = 2 ** 48;

interface Run {
  va: number;
  pages: number;
  first: number;
  writable: boolean;
  executable: boolean;
}

/** @param indexOf the place of a machine frame in the file, −1 where it is not in it */
export function mappedRanges(domain: Domain, root: Mfn, indexOf: (mfn: Mfn) => number): LoadedRange[] {
  const { mem, frames } = domain.xen;
  const runs: Run[] = [];
  let last: Run | null = null;
  const page = (va: number, index: number, lo: number, hi: number): void => {
    const writable = (lo & PTE_RW) !== 0;
    const executable = (hi & PTE_HI_NX) === 0;
    if (
      last !== null &&
      last.va + last.pages * 4096 === va &&
      last.first + last.pages === index &&
      last.writable === writable &&
      last.executable === executable
    ) {
      last.pages++;
      return;
    }
    last = { va, pages: 1, first: index, writable, executable };
    runs.push(last);
  };
  const times = new Map<Mfn, number>();
  const walk = (table: Mfn, level: number, base: number): void => {
    const before = times.get(table) ?? 0;
    if (before >= SAME_TABLE) return;
    times.set(table, before + 1);
    if (!domain.mm.owns(table) || tableLevel(frameType(frames, table)) !== level) return;
    const span = 4096 * 512 ** (level - 1);
    const words = mem.ram(table) * 1024;
    for (let s = 0; s < 512; s++) {
      if (level === 4 && s >= XEN_SLOT_FIRST && s <= XEN_SLOT_LAST) continue;
      const lo = mem.u32[words + s * 2] as number;
      if ((lo & PTE_P) === 0) continue;
      const hi = mem.u32[words + s * 2 + 1] as number;
      const mfn = pteMfn(lo, hi);
      const va = base + s * span - (level === 4 && s > XEN_SLOT_LAST ? TOP : 0);
      if (level > 1) walk(mfn, level - 1, va);
      else {
        const index = indexOf(mfn);
        if (index >= 0) page(va, index, lo, hi);
      }
    }
  };
  walk(root, 4, 0);
  if (runs.length <= MAX_RANGES) return runs;
  const shortest = runs.map((r) => r.pages).sort((a, b) => b - a)[MAX_RANGES - 1] as number;
  return runs.filter((r) => r.pages >= shortest).slice(0, MAX_RANGES);
}
