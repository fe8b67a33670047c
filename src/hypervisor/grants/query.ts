/** GNTTABOP_setup_table, query_size, get_status_frames, get_version: where a grant table is and how large. */
import { EFAULT, EINVAL, EPERM, ESRCH } from "../../abi/errno.js";
import {
  GNTST_bad_domain,
  GNTST_bad_virt_addr,
  GNTST_general_error,
  GNTST_okay,
  GNTST_permission_denied,
  gnttab_get_status_frames,
  gnttab_get_version,
  gnttab_query_size,
  gnttab_setup_table,
} from "../../abi/grant_table.js";
import type { Va } from "../../machine/cpu/api.js";
import type { Call } from "../hypercalls/call.js";
import { anyDomain, mayControl, toVa, view } from "../memory/util.js";

/** Write a 16-bit status back. */
export function putStatus(call: Call, at: Va, status: number): number {
  return call.guest.copyTo(at, new Uint8Array([status & 0xff, (status >> 8) & 0xff])) ? 0 : -EFAULT;
}

export function setupTable(call: Call, at: Va, count: number): number {
  if (count !== 1) return -EINVAL;
  const raw = call.guest.copyFrom(at, gnttab_setup_table.size);
  if (raw === null) return -EFAULT;
  const v = view(raw);
  const s = gnttab_setup_table;
  return putStatus(call, at + s.status, setup(call, v));
}

function setup(call: Call, v: DataView): number {
  const s = gnttab_setup_table;
  const d = anyDomain(call, v.getUint16(s.dom, true));
  if (d === null || d.grants === undefined) return GNTST_bad_domain;
  if (!mayControl(call.domain, d)) return GNTST_permission_denied;
  const gt = d.grants;
  const n = v.getUint32(s.nr_frames, true);
  if (n > gt.maxFrames || gt.destroyed) return GNTST_general_error;
  if (!gt.covers(n) && gt.grow(n) !== 0) return GNTST_general_error;
  const list = toVa(v.getUint32(s.frame_list, true), v.getUint32(s.frame_list + 4, true));
  for (let i = 0; i < n; i++)
    if (!call.guest.write64(list + i * 8, gt.frames[i] as number, 0)) return GNTST_bad_virt_addr;
  return GNTST_okay;
}

export function querySize(call: Call, at: Va, count: number): number {
  if (count !== 1) return -EINVAL;
  const s = gnttab_query_size;
  const raw = call.guest.copyFrom(at, s.size);
  if (raw === null) return -EFAULT;
  const v = view(raw);
  const d = anyDomain(call, v.getUint16(s.dom, true));
  if (d === null || d.grants === undefined) v.setInt16(s.status, GNTST_bad_domain, true);
  else if (!mayControl(call.domain, d)) v.setInt16(s.status, GNTST_permission_denied, true);
  else {
    v.setUint32(s.nr_frames, d.grants.frames.length, true);
    v.setUint32(s.max_nr_frames, d.grants.maxFrames, true);
    v.setInt16(s.status, GNTST_okay, true);
  }
  return call.guest.copyTo(at, raw) ? 0 : -EFAULT;
}

export function getStatusFrames(call: Call, at: Va, count: number): number {
  if (count !== 1) return -EINVAL;
  const s = gnttab_get_status_frames;
  const raw = call.guest.copyFrom(at, s.size);
  if (raw === null) return -EFAULT;
  return putStatus(call, at + s.status, statusFrames(call, view(raw)));
}

function statusFrames(call: Call, v: DataView): number {
  const s = gnttab_get_status_frames;
  const d = anyDomain(call, v.getUint16(s.dom, true));
  if (d === null || d.grants === undefined) return GNTST_bad_domain;
  if (!mayControl(call.domain, d)) return GNTST_permission_denied;
  const frames = d.grants.statusFrames;
  const n = v.getUint32(s.nr_frames, true);
  if (n > frames.length) return GNTST_general_error;
  const list = toVa(v.getUint32(s.frame_list, true), v.getUint32(s.frame_list + 4, true));
  for (let i = 0; i < n; i++) if (!call.guest.write64(list + i * 8, frames[i] as number, 0)) return GNTST_bad_virt_addr;
  return GNTST_okay;
}

export function getVersion(call: Call, at: Va): number {
  const s = gnttab_get_version;
  const raw = call.guest.copyFrom(at, s.size);
  if (raw === null) return -EFAULT;
  const d = anyDomain(call, view(raw).getUint16(s.dom, true));
  if (d === null || d.grants === undefined) return -ESRCH;
  if (!mayControl(call.domain, d)) return -EPERM;
  return call.guest.write32(at + s.version, d.grants.version) ? 0 : -EFAULT;
}
