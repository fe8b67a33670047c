/** GNTTABOP_transfer: give a page away to a domain that offered to accept one. */
import {
  GNTST_bad_domain,
  GNTST_bad_page,
  GNTST_general_error,
  GNTST_okay,
  GTF_accept_transfer,
  GTF_transfer_committed,
  GTF_transfer_completed,
  gnttab_transfer as op,
  grant_entry_v1,
  grant_entry_v2,
} from "../../abi/grant_table.js";
import type { Call } from "../hypercalls/call.js";
import { u64 } from "../memory/util.js";

/** One request's status. From the moment the page is taken from the caller it is lost to it, whatever the outcome. */
export function transferOne(call: Call, v: DataView): number {
  const ft = call.xen.frames;
  const { mm } = call.domain;
  const mfn = mm.gfnToMfn(u64(v, op.mfn));
  // The receiver may write it: it gets memory of its own before.
  if (!ft.valid(mfn) || ft.owner[mfn] !== mm.id || !ft.sharing.makePrivate(mfn)) return GNTST_bad_page;
  if (ft.steal(mfn, mm.id) !== 0) return GNTST_bad_page;
  mm.forget(mfn);
  ft.flushTlb();
  const lost = (status: number): number => {
    ft.freeUnowned(mfn);
    return status;
  };
  const e = call.xen.domains.get(v.getUint16(op.domid, true));
  if (e === undefined || e.mm === undefined || e.grants === undefined) return lost(GNTST_bad_domain);
  if (e.mm.dying || e.mm.totPages >= e.mm.maxPages) return lost(GNTST_general_error);
  const gt = e.grants;
  const ref = v.getUint32(op.ref, true);
  if (gt.destroyed || ref >= gt.entries) return lost(GNTST_general_error);
  const at = gt.entryAt(ref);
  const mem = ft.mem;
  if (mem.r16(at) !== GTF_accept_transfer || mem.r16(at + 2) !== call.domain.domid) return lost(GNTST_general_error);
  mem.w16(at, GTF_accept_transfer | GTF_transfer_committed);
  ft.assign(mfn, e.mm.id);
  const pfn = gt.frameOf(ref);
  e.mm.setPfn(mfn, pfn);
  if (gt.version === 1) mem.w32(at + grant_entry_v1.frame, mfn);
  else mem.w64(at + grant_entry_v2.full_page_frame, mfn, 0);
  mem.w16(at, mem.r16(at) | GTF_transfer_completed);
  return GNTST_okay;
}
