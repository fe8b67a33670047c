/**
 * Page tables on the move: machine frame numbers in present entries become pseudo-physical ones (canonical form, in streams and saved
 * images), and the other way round on a new host.
 *
 * Invariants: entries that are not present stay as they are (a guest may keep anything there); the hypervisor's slots of an L4 are empty in
 * the canonical form and are filled by the hypervisor when a table is validated; no bit but the frame number changes.
 */
import { PTE_P, PTE_PS, pteMfn, XEN_SLOT_FIRST, XEN_SLOT_LAST } from "../../hypervisor/memory/page-types.js";
import type { Mfn, PhysMem } from "../../machine/memory.js";

/** One kind of frame number to the other; −1 where there is none. */
export type FrameMap = (frame: number) => number;
export type TableLevel = 1 | 2 | 3 | 4;

export const TABLE_ENTRIES = 512;
const FRAME_HI = 0x000fffff;

/**
 * Rewrite the 512 entries at `words[at…]` of a table of a level with `map`. Returns −1, or the first entry whose frame has no counterpart
 * (or that maps a large page, which PV guests have not); the table is then half done.
 */
export function translateTable(words: Uint32Array, at: number, level: TableLevel, map: FrameMap): number {
  for (let s = 0; s < TABLE_ENTRIES; s++) {
    const i = at + s * 2;
    if (level === 4 && s >= XEN_SLOT_FIRST && s <= XEN_SLOT_LAST) {
      words[i] = 0;
      words[i + 1] = 0;
      continue;
    }
    const lo = words[i] as number;
    if ((lo & PTE_P) === 0) continue;
    if (level > 1 && (lo & PTE_PS) !== 0) return s;
    const hi = words[i + 1] as number;
    const to = map(pteMfn(lo, hi));
    if (to < 0) return s;
    words[i] = ((lo & 0xfff) | (to << 12)) >>> 0;
    words[i + 1] = ((hi & ~FRAME_HI) | Math.floor(to / 0x100000)) >>> 0;
  }
  return -1;
}

/**
 * A canonical table at `from[at…]` into `to[dst…]` for a domain whose frames follow each other from `base`; `pages` is negative where it has none.
 * −1, or the entry that names no page of its.
 */
export function localiseTable(
  from: Uint32Array,
  at: number,
  level: TableLevel,
  base: Mfn,
  pages: Int32Array,
  to: Uint32Array,
  dst: number,
): number {
  for (let s = 0; s < TABLE_ENTRIES; s++) {
    const i = at + s * 2;
    const o = dst + s * 2;
    const lo = from[i] as number;
    const hi = from[i + 1] as number;
    if (level === 4 && s >= XEN_SLOT_FIRST && s <= XEN_SLOT_LAST) {
      to[o] = 0;
      to[o + 1] = 0;
    } else if ((lo & PTE_P) === 0) {
      to[o] = lo;
      to[o + 1] = hi;
    } else {
      const pfn = pteMfn(lo, hi);
      if (!(pfn < pages.length) || (pages[pfn] as number) < 0) return s;
      const mfn = base + pfn;
      to[o] = (lo & 0xfff) | (mfn << 12);
      to[o + 1] = (hi & ~FRAME_HI) | (mfn >>> 20);
    }
  }
  return -1;
}

const scratch = new Uint32Array(TABLE_ENTRIES * 2);
const scratchBytes = new Uint8Array(scratch.buffer);

/** The canonical form of the table in a frame, into `out[at…]` (a page); −1, or the entry that has none. */
export function canonicaliseFrame(
  mem: PhysMem,
  mfn: Mfn,
  level: TableLevel,
  pfnOf: FrameMap,
  out: Uint8Array,
  at: number,
): number {
  mem.readInto(mfn * 4096, scratchBytes);
  const bad = translateTable(scratch, 0, level, pfnOf);
  if (bad < 0) out.set(scratchBytes, at);
  return bad;
}

/** The table in a frame is canonical: name this machine's frames in it. −1, or the entry whose pseudo-physical frame is not there. */
export function localiseFrame(mem: PhysMem, mfn: Mfn, level: TableLevel, mfnOf: FrameMap): number {
  mem.readInto(mfn * 4096, scratchBytes);
  const bad = translateTable(scratch, 0, level, mfnOf);
  if (bad < 0) mem.write(mfn * 4096, scratchBytes);
  return bad;
}
