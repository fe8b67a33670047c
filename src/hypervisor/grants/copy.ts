/** GNTTABOP_copy: between pages that are granted to the caller or its own; sub-page and transitive grants of version 2 count here. */
import {
  GNTCOPY_dest_gref,
  GNTCOPY_source_gref,
  GNTST_bad_copy_arg,
  GNTST_bad_domain,
  GNTST_bad_gntref,
  GNTST_bad_page,
  GNTST_general_error,
  GNTST_okay,
  GNTST_permission_denied,
  GTF_sub_page,
  GTF_transitive,
  GTF_type_mask,
  gnttab_copy as op,
  grant_entry_v2,
} from "../../abi/grant_table.js";
import { DOMID_SELF } from "../../abi/xen.js";
import type { Domain } from "../domain.js";
import type { Call } from "../hypercalls/call.js";
import { PGT_writable_page } from "../memory/frame-table.js";
import { anyDomain, u64 } from "../memory/util.js";
import { PIN_HSTR, PIN_HSTW, PIN_WRITERS, type GrantTable } from "./grant-table.js";

/** A page claimed for one side of a copy. */
interface Side {
  domain: Domain;
  mfn: number;
  /** The part of the page that may be used. */
  start: number;
  length: number;
  /** The grant that is pinned, or null for an own page. */
  gt: GrantTable | null;
  ref: number;
  write: boolean;
}

/** One request's status. */
export function copyOne(call: Call, v: DataView): number {
  const len = v.getUint16(op.len, true);
  if (len === 0) return GNTST_okay;
  const flags = v.getUint16(op.flags, true);
  const srcDomain = sideDomain(call, v.getUint16(op.source_domid, true), (flags & GNTCOPY_source_gref) !== 0);
  if (typeof srcDomain === "number") return srcDomain;
  const dstDomain = sideDomain(call, v.getUint16(op.dest_domid, true), (flags & GNTCOPY_dest_gref) !== 0);
  if (typeof dstDomain === "number") return dstDomain;
  const src = claim(call, srcDomain, v, op.source_u_ref, (flags & GNTCOPY_source_gref) !== 0, false);
  if (typeof src === "number") return src;
  const dst = claim(call, dstDomain, v, op.dest_u_ref, (flags & GNTCOPY_dest_gref) !== 0, true);
  if (typeof dst === "number") {
    release(call, src);
    return dst;
  }
  const from = v.getUint16(op.source_offset, true);
  const to = v.getUint16(op.dest_offset, true);
  let rc: number = GNTST_okay;
  if (from + len > 4096 || to + len > 4096) rc = GNTST_bad_copy_arg;
  else if (from < src.start || from + len > src.start + src.length) rc = GNTST_general_error;
  else if (to < dst.start || to + len > dst.start + dst.length) rc = GNTST_general_error;
  else {
    const { mem } = call.xen;
    const at = mem.resolve(src.mfn * 4096 + from);
    if (!call.xen.frames.sharing.makePrivate(dst.mfn)) rc = GNTST_general_error;
    else {
      mem.write(dst.mfn * 4096 + to, mem.u8.subarray(at, at + len));
    }
  }
  release(call, dst);
  release(call, src);
  return rc;
}

function sideDomain(call: Call, domid: number, gref: boolean): Domain | number {
  if (domid !== DOMID_SELF && !gref) return GNTST_permission_denied;
  return anyDomain(call, domid) ?? GNTST_bad_domain;
}

function claim(call: Call, d: Domain, v: DataView, at: number, gref: boolean, write: boolean): Side | number {
  const ft = call.xen.frames;
  let side: Side;
  if (gref) {
    const ref = v.getUint32(at, true);
    if (d.grants === undefined) return GNTST_bad_domain;
    const rc = acquireForCopy(call, d.grants, ref, call.domain.domid, !write, true);
    if (rc !== GNTST_okay) return rc;
    side = { domain: d, mfn: got.mfn, start: got.start, length: got.length, gt: d.grants, ref, write };
  } else {
    const mfn = d.mm.gfnToMfn(u64(v, at));
    if (!ft.getPage(mfn, d.mm.id)) return GNTST_bad_page;
    side = { domain: d, mfn, start: 0, length: 4096, gt: null, ref: 0, write };
  }
  if (write && ft.getPageType(side.mfn, PGT_writable_page) !== 0) {
    side.write = false;
    if (side.gt !== null) releaseForCopy(side.gt, side.ref, false);
    ft.putPage(side.mfn);
    return GNTST_general_error;
  }
  return side;
}

function release(call: Call, s: Side): void {
  const ft = call.xen.frames;
  if (s.gt !== null) releaseForCopy(s.gt, s.ref, !s.write);
  if (s.write) ft.putPageType(s.mfn);
  ft.putPage(s.mfn);
}

/** What the last successful `acquireForCopy` found. */
const got = { mfn: 0, start: 0, length: 0 };

/** Pin a grant for a copy and take one reference on its page. Transitive grants are followed once. */
function acquireForCopy(
  call: Call,
  gt: GrantTable,
  ref: number,
  domid: number,
  ro: boolean,
  transitive: boolean,
): number {
  if (gt.destroyed || ref >= gt.entries) return GNTST_bad_gntref;
  const { ft } = gt;
  const pins = ro ? PIN_HSTR : PIN_HSTW;
  const pin = gt.pin[ref] as number;
  if (pin !== 0 && (gt.actDomid[ref] !== domid || (pin & (pins << 7)) !== 0)) return GNTST_general_error;
  const at = gt.entryAt(ref);
  const needStatus = pin === 0 || (!ro && (pin & PIN_WRITERS) === 0);
  const fail = (rc: number): number => {
    gt.reduceStatus(ref, ro);
    return rc;
  };
  if (gt.version === 2 && (ft.mem.r16(at) & GTF_type_mask) === GTF_transitive) {
    if (needStatus) {
      const rc = gt.setStatus(ref, ro, false, domid);
      if (rc !== GNTST_okay) return rc;
    }
    if (!transitive) return fail(GNTST_general_error);
    const td = call.xen.domains.get(ft.mem.r16(at + grant_entry_v2.transitive_trans_domid));
    const tref = ft.mem.r32(at + grant_entry_v2.transitive_gref);
    if (td === undefined || td === gt.domain || td.grants === undefined) return fail(GNTST_general_error);
    const rc = acquireForCopy(call, td.grants, tref, gt.domain.domid, ro, false);
    if (rc !== GNTST_okay) return fail(rc);
    if (pin === 0) {
      // Always kept as a sub-page grant: that keeps it from being mapped.
      gt.setActive(ref, domid, got.mfn, got.start, got.length, true, td.grants, tref);
      gt.v2Ops++;
    } else if (
      gt.actMfn[ref] !== got.mfn ||
      gt.actStart[ref] !== got.start ||
      gt.actLength[ref] !== got.length ||
      gt.actSource[ref] !== td.grants ||
      gt.actTransRef[ref] !== tref ||
      gt.actSub[ref] === 0
    ) {
      releaseForCopy(td.grants, tref, ro);
      ft.putPage(got.mfn);
      return fail(GNTST_general_error);
    }
  } else if (needStatus) {
    const rc = gt.setStatus(ref, ro, false, domid);
    if (rc !== GNTST_okay) return rc;
    let start = 0;
    let length = 4096;
    let frame = gt.frameOf(ref);
    const sub = gt.version === 2 && (ft.mem.r16(at) & GTF_sub_page) !== 0;
    if (sub) {
      start = ft.mem.r16(at + grant_entry_v2.sub_page_page_off);
      length = ft.mem.r16(at + grant_entry_v2.sub_page_length);
      frame = ft.mem.r64(at + grant_entry_v2.sub_page_frame);
    }
    const mfn = gt.domain.mm.gfnToMfn(frame);
    if (!ft.getPage(mfn, gt.owner)) return fail(GNTST_bad_page);
    if (pin === 0) {
      gt.setActive(ref, domid, mfn, start, length, sub, gt, ref);
      if (sub) gt.v2Ops++;
    } else if (
      gt.actMfn[ref] !== mfn ||
      gt.actSource[ref] !== gt ||
      gt.actTransRef[ref] !== ref ||
      (gt.actSub[ref] !== 0 && (!sub || gt.actStart[ref] !== start || gt.actLength[ref] !== length))
    ) {
      ft.putPage(mfn);
      return fail(GNTST_general_error);
    }
  } else if (!ft.getPage(gt.actMfn[ref] as number, gt.owner)) return fail(GNTST_bad_domain);
  gt.addPin(ref, pins);
  got.mfn = gt.actMfn[ref] as number;
  got.start = gt.actStart[ref] as number;
  got.length = gt.actLength[ref] as number;
  return GNTST_okay;
}

/** Undo the pins of `acquireForCopy`; the page's reference is the caller's. */
function releaseForCopy(gt: GrantTable, ref: number, ro: boolean): void {
  const source = gt.actSource[ref] ?? gt;
  const tref = gt.actTransRef[ref] as number;
  gt.subPin(ref, ro ? PIN_HSTR : PIN_HSTW);
  gt.reduceStatus(ref, ro);
  if (gt.pin[ref] === 0 && gt.actSub[ref] !== 0) gt.v2Ops--;
  if (source !== gt) releaseForCopy(source, tref, ro);
}
