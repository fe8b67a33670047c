/**
 * GNTTABOP_unmap_grant_ref and unmap_and_replace.
 *
 * Invariant: the references of a removed mapping are dropped only after the TLB was flushed; so requests are done in two steps, a batch at a time.
 */
import {
  GNTMAP_device_map,
  GNTMAP_host_map,
  GNTMAP_readonly,
  GNTST_bad_dev_addr,
  GNTST_bad_handle,
  GNTST_okay,
} from "../../abi/grant_table.js";
import type { Call } from "../hypercalls/call.js";
import { PIN_DEVR, PIN_DEVW, PIN_HSTR, PIN_HSTW, type GrantTable } from "./grant-table.js";
import { replaceMapping } from "./pv-mapping.js";

/** Requests between two flushes. */
export const UNMAP_BATCH = 32;

export interface Unmap {
  hostLo: number;
  hostHi: number;
  devLo: number;
  devHi: number;
  newLo: number;
  newHi: number;
  handle: number;
}

/** What is left to be done after the flush. */
export interface Pending {
  rgt: GrantTable;
  ref: number;
  mfn: number;
  /** GNTMAP_host_map, GNTMAP_device_map: which mappings went; GNTMAP_readonly: their kind. */
  done: number;
}

/** First step: remove the entry. The status; `pending` gets the second step. */
export function unmapOne(call: Call, u: Unmap, pending: Pending[]): number {
  const lgt = call.domain.grants;
  const flags = lgt.flagsOf(u.handle);
  if (flags === 0) return GNTST_bad_handle;
  const rgt = lgt.peerOf(u.handle);
  const ref = lgt.refOf(u.handle);
  if (ref >= rgt.pin.length) return GNTST_bad_handle;
  const mfn = rgt.actMfn[ref] as number;
  const ro = flags & GNTMAP_readonly;
  const dev = (u.devLo !== 0 || u.devHi !== 0) && (flags & GNTMAP_device_map) !== 0;
  if (dev && (u.devHi !== mfn >>> 20 || u.devLo !== (mfn * 4096) >>> 0)) return GNTST_bad_dev_addr;
  let left = flags;
  let done = 0;
  if ((u.hostLo !== 0 || u.hostHi !== 0) && (flags & GNTMAP_host_map) !== 0) {
    const rc = replaceMapping(call, u.hostLo, u.hostHi, mfn, flags, u.newLo, u.newHi);
    if (rc !== GNTST_okay) return rc;
    left &= ~GNTMAP_host_map;
    done |= GNTMAP_host_map | ro;
  }
  if (dev) {
    left &= ~GNTMAP_device_map;
    done |= GNTMAP_device_map | ro;
  }
  if (left !== flags || (left & (GNTMAP_host_map | GNTMAP_device_map)) === 0) lgt.setFlags(u.handle, left);
  if (done !== 0) pending.push({ rgt, ref, mfn, done });
  return GNTST_okay;
}

/** Second step, after the flush. */
export function completeUnmaps(pending: Pending[]): void {
  for (const { rgt, ref, mfn, done } of pending) {
    const ro = (done & GNTMAP_readonly) !== 0;
    for (const kind of [GNTMAP_device_map, GNTMAP_host_map]) {
      if ((done & kind) === 0) continue;
      if (ro) rgt.ft.putPage(mfn);
      else rgt.ft.putPageAndType(mfn);
      rgt.subPin(ref, kind === GNTMAP_device_map ? (ro ? PIN_DEVR : PIN_DEVW) : ro ? PIN_HSTR : PIN_HSTW);
    }
    rgt.reduceStatus(ref, ro);
  }
  pending.length = 0;
}
