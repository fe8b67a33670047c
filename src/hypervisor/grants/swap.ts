/** GNTTABOP_swap_grant_ref: exchange two entries of one's own, if neither is in use. */
import { GNTST_bad_gntref, GNTST_eagain, GNTST_okay, grant_entry_v1, grant_entry_v2 } from "../../abi/grant_table.js";
import type { GrantTable } from "./grant-table.js";

export function swapRefs(gt: GrantTable, a: number, b: number): number {
  if (a >= gt.entries || b >= gt.entries) return GNTST_bad_gntref;
  if (a === b) return GNTST_okay;
  if (gt.pin[a] !== 0 || gt.pin[b] !== 0) return GNTST_eagain;
  const mem = gt.ft.mem;
  const size = gt.version === 1 ? grant_entry_v1.size : grant_entry_v2.size;
  const ea = gt.entryAt(a);
  const eb = gt.entryAt(b);
  const old = mem.read(ea, size);
  mem.write(ea, mem.read(eb, size));
  mem.write(eb, old);
  if (gt.version === 2) {
    const sa = gt.statusAt(a);
    const sb = gt.statusAt(b);
    const s = mem.r16(sa);
    mem.w16(sa, mem.r16(sb));
    mem.w16(sb, s);
  }
  return GNTST_okay;
}
