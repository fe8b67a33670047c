/** What a frame is to the hypervisor, in the terms of a saved domain. */
import { F_PINNED, F_VALIDATED, PGT_l4_page_table, type FrameTable } from "../../hypervisor/memory/frame-table.js";
import type { Mfn } from "../../machine/memory.js";
import { PT_NOTAB, PT_PINNED } from "./formats.js";

/** The type of a frame in a stream: the level of a page table that is in use, with PT_PINNED; PT_NOTAB for any other page. */
export function frameType(ft: FrameTable, mfn: Mfn): number {
  const type = ft.type[mfn] as number;
  const flags = ft.flags[mfn] as number;
  if (type < 1 || type > PGT_l4_page_table || (ft.tcount[mfn] as number) === 0 || (flags & F_VALIDATED) === 0)
    return PT_NOTAB;
  return (flags & F_PINNED) !== 0 ? type | PT_PINNED : type;
}
