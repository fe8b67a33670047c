/** GNTTABOP_map_grant_ref. */
import {
  GNTMAP_device_map,
  GNTMAP_host_map,
  GNTMAP_readonly,
  GNTST_bad_domain,
  GNTST_bad_gntref,
  GNTST_general_error,
  GNTST_no_space,
  GNTST_okay,
  gnttab_map_grant_ref as op,
} from "../../abi/grant_table.js";
import type { Call } from "../hypercalls/call.js";
import { PGT_writable_page } from "../memory/frame-table.js";
import { PIN_DEVR, PIN_DEVW, PIN_HSTR, PIN_HSTW } from "./grant-table.js";
import { createMapping } from "./pv-mapping.js";

/** One request; the results are written into `v`. */
export function mapOne(call: Call, v: DataView): void {
  const status = map(call, v);
  v.setInt16(op.status, status, true);
}

function map(call: Call, v: DataView): number {
  const flags = v.getUint32(op.flags, true);
  const ro = (flags & GNTMAP_readonly) !== 0;
  let pins = 0;
  if ((flags & GNTMAP_device_map) !== 0) pins += ro ? PIN_DEVR : PIN_DEVW;
  if ((flags & GNTMAP_host_map) !== 0) pins += ro ? PIN_HSTR : PIN_HSTW;
  if (pins === 0) return GNTST_bad_gntref;
  const rd = call.xen.domains.get(v.getUint16(op.dom, true));
  if (rd === undefined || rd.grants === undefined) return GNTST_bad_domain;
  const lgt = call.domain.grants;
  const rgt = rd.grants;
  const handle = lgt.takeHandle();
  if (handle < 0) return GNTST_no_space;
  const ref = v.getUint32(op.ref, true);
  const rc = rgt.acquire(ref, call.domain.domid, pins, ro);
  if (rc !== GNTST_okay) {
    lgt.freeHandle(handle);
    return rc;
  }
  // One reference is held; a device and a CPU mapping need one each, and a type reference each if writable.
  const ft = rgt.ft;
  const mfn = rgt.actMfn[ref] as number;
  const each = ((flags & GNTMAP_device_map) !== 0 ? 1 : 0) + ((flags & GNTMAP_host_map) !== 0 ? 1 : 0);
  let refs = 1;
  let typeRefs = 0;
  let ok = true;
  if (each === 2) {
    ok = ft.getPage(mfn, rgt.owner);
    if (ok) refs = 2;
  }
  if (!ro) for (; ok && typeRefs < each;) if ((ok = ft.getPageType(mfn, PGT_writable_page) === 0)) typeRefs++;
  // What others may write has memory of its own; what they only read may stay shared.
  if (ok && !ro) ok = ft.sharing.makePrivate(mfn);
  let status: number = ok ? GNTST_okay : GNTST_general_error;
  if (ok && (flags & GNTMAP_host_map) !== 0)
    status = createMapping(call, v.getUint32(op.host_addr, true), v.getUint32(op.host_addr + 4, true), mfn, flags);
  if (status !== GNTST_okay) {
    while (typeRefs-- > 0) ft.putPageType(mfn);
    while (refs-- > 0) ft.putPage(mfn);
    for (const p of [PIN_DEVR, PIN_DEVW, PIN_HSTR, PIN_HSTW]) if ((pins & p) !== 0) rgt.subPin(ref, p);
    rgt.reduceStatus(ref, ro);
    lgt.freeHandle(handle);
    return status;
  }
  lgt.track(handle, rgt, ref, flags & 0xffff);
  v.setUint32(op.dev_bus_addr, (mfn * 4096) >>> 0, true);
  v.setUint32(op.dev_bus_addr + 4, mfn >>> 20, true);
  v.setUint32(op.handle, handle, true);
  return GNTST_okay;
}
