/**
 * HYPERVISOR_memory_op (XENMEM_*) for PV domains: the reservation, exchange of pages, the memory map and the M2P's place. Operations on a physmap
 * are refused, as PV guests have none that the hypervisor keeps.
 */
import { EACCES, EDOM, EFAULT, EINVAL, ENOMEM, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from "../../abi/errno.js";
import { MACH2PHYS_NR_ENTRIES, MACH2PHYS_VIRT_END, MACH2PHYS_VIRT_START } from "../../abi/arch_x86_xen.js";
import {
  XENMAPSPACE_gmfn_foreign,
  XENMAPSPACE_gmfn_range,
  XENMEM_acquire_resource,
  XENMEM_add_to_physmap,
  XENMEM_add_to_physmap_batch,
  XENMEM_claim_pages,
  XENMEM_current_reservation,
  XENMEM_decrease_reservation,
  XENMEM_exchange,
  XENMEM_get_pod_target,
  XENMEM_get_sharing_freed_pages,
  XENMEM_get_sharing_shared_pages,
  XENMEM_get_vnumainfo,
  XENMEM_increase_reservation,
  XENMEM_machine_memory_map,
  XENMEM_machphys_compat_mfn_list,
  XENMEM_machphys_mapping,
  XENMEM_machphys_mfn_list,
  XENMEM_maximum_gpfn,
  XENMEM_maximum_ram_page,
  XENMEM_maximum_reservation,
  XENMEM_memory_map,
  XENMEM_populate_physmap,
  XENMEM_remove_from_physmap,
  XENMEM_reserved_device_memory_map,
  XENMEM_resource_grant_table,
  XENMEM_set_memory_map,
  XENMEM_set_pod_target,
  XENMEMF_exact_node_request,
  XENMEMF_populate_on_demand,
  XENMEMF_vnode,
  xen_add_to_physmap,
  xen_add_to_physmap_batch,
  xen_foreign_memory_map,
  xen_machphys_mapping,
  xen_machphys_mfn_list,
  xen_mem_acquire_resource,
  xen_memory_domain,
  xen_memory_exchange,
  xen_memory_map,
  xen_memory_reservation,
  xen_pod_target,
  xen_remove_from_physmap,
  xen_reserved_device_memory_map,
  xen_vnuma_topology_info,
} from "../../abi/memory.js";
import type { Va } from "../../machine/cpu/api.js";
import type { Domain } from "../domain.js";
import type { Call } from "../hypercalls/call.js";
import type { MemoryMapEntry } from "./domain-memory.js";
import { F_XENHEAP } from "./frame-table.js";
import { bug } from "./invariant.js";
import { anyDomain, mayControl, toVa, u64, view } from "./util.js";

const EXTENT_SHIFT = 6;
const MAX_EXTENTS = 0xffffffff >>> EXTENT_SHIFT;
/** Largest extent a domain may ask for: 2 MiB; 4 MiB × 64 for a control domain. */
const DOMU_MAX_ORDER = 9;
const CTLDOM_MAX_ORDER = 18;
const PREEMPT_EVERY = 32;
const E820_MAX = 128;
/** struct e820entry: addr, size, type, packed. */
const E820_SIZE = 20;

function maxOrder(d: Domain): number {
  return d.privileged ? CTLDOM_MAX_ORDER : DOMU_MAX_ORDER;
}

export function doMemoryOp(call: Call): number {
  const cmd = call.num(0);
  const op = call.lo(0) & 63;
  const start = Math.floor(cmd / 64);
  const arg = call.va(1);
  switch (op) {
    case XENMEM_increase_reservation:
    case XENMEM_decrease_reservation:
    case XENMEM_populate_physmap:
      return reservation(call, op, start, arg);
    case XENMEM_exchange:
      return start !== 0 ? -EINVAL : exchange(call, arg);
    case XENMEM_maximum_ram_page:
      return start !== 0 ? -EINVAL : call.xen.mem.limit;
    case XENMEM_current_reservation:
    case XENMEM_maximum_reservation:
    case XENMEM_maximum_gpfn:
      return start !== 0 ? -EINVAL : statistics(call, op, arg);
    case XENMEM_add_to_physmap:
      return addToPhysmap(call, start, arg, false);
    case XENMEM_add_to_physmap_batch:
      return addToPhysmap(call, start, arg, true);
    case XENMEM_remove_from_physmap:
      return start !== 0 ? -EINVAL : removeFromPhysmap(call, arg);
    case XENMEM_claim_pages:
      return start !== 0 ? -EINVAL : claim(call, arg);
    case XENMEM_acquire_resource:
      return acquireResource(call, start, arg);
    case XENMEM_get_vnumainfo:
      return start !== 0 ? -EINVAL : vnuma(call, arg);
    case XENMEM_reserved_device_memory_map:
      return start !== 0 ? -EINVAL : reservedDeviceMemory(call, arg);
  }
  if (cmd !== op) return -ENOSYS;
  switch (op) {
    case XENMEM_memory_map:
      return memoryMap(call, arg);
    case XENMEM_set_memory_map:
      return setMemoryMap(call, arg);
    case XENMEM_machine_memory_map:
      return machineMemoryMap(call, arg);
    case XENMEM_machphys_mapping:
      return machphysMapping(call, arg);
    case XENMEM_machphys_mfn_list:
      return machphysMfnList(call, arg);
    case XENMEM_machphys_compat_mfn_list:
      return -EOPNOTSUPP;
    case XENMEM_get_pod_target:
    case XENMEM_set_pod_target:
      return podTarget(call, arg);
    case XENMEM_get_sharing_freed_pages:
      return call.xen.frames.sharing.savedFrames;
    case XENMEM_get_sharing_shared_pages:
      return call.xen.frames.sharing.sharedFrames;
    default:
      return -ENOSYS;
  }
}

// --- reservation -------------------------------------------------------------------------------------------------------------

/** Extents are counted, not refused: the result is how many were done, also when an argument is bad. */
function reservation(call: Call, op: number, start: number, arg: Va): number {
  const raw = call.guest.copyFrom(arg, xen_memory_reservation.size);
  if (raw === null) return start;
  const v = view(raw);
  const n = u64(v, xen_memory_reservation.nr_extents);
  const order = v.getUint32(xen_memory_reservation.extent_order, true);
  const flags = v.getUint32(xen_memory_reservation.mem_flags, true);
  if (n > MAX_EXTENTS || start >= n) return start;
  const d = anyDomain(call, v.getUint16(xen_memory_reservation.domid, true));
  if (d === null || !flagsOk(call, flags) || !mayControl(call.domain, d)) return start;
  if (order > maxOrder(call.domain)) return start;
  const listNull = u64(v, xen_memory_reservation.extent_start) === 0;
  const list = toVa(v.getUint32(0, true), v.getUint32(4, true));
  const size = 2 ** order;
  const mm = d.mm;
  const ft = call.xen.frames;
  let i = start;
  for (; i < n; i++) {
    if (i !== start && (order > 4 || i % PREEMPT_EVERY === 0) && call.preempt()) {
      call.setArg(0, (op | (i << EXTENT_SHIFT)) >>> 0, 0);
      return call.restart();
    }
    if (op === XENMEM_decrease_reservation) {
      const gfn = readFrame(call, list, i);
      if (gfn < 0) break;
      let j = 0;
      while (j < size && removePage(d, gfn + j)) j++;
      if (j < size) break;
      continue;
    }
    let gfn = -1;
    if (op === XENMEM_populate_physmap) {
      gfn = readFrame(call, list, i);
      if (gfn < 0 || (flags & XENMEMF_populate_on_demand) !== 0) break;
    }
    if (mm.totPages + size > mm.maxPages || ft.freeFrames - claimedByOthers(call, d) < size) break;
    const mfn = gfn >= 0 ? mm.allocExtent(gfn, order) : ft.alloc(mm.id, order);
    if (mfn < 0) break;
    mm.claimed = Math.max(0, mm.claimed - size);
    if (!listNull && !writeFrame(call, list, i, mfn)) break;
  }
  return i;
}

function flagsOk(call: Call, flags: number): boolean {
  const bits = flags & 0xff;
  if (bits !== 0 && bits <= 12) return false;
  const node = ((flags >>> 8) & 0xff) - 1;
  if ((flags & XENMEMF_vnode) !== 0 || node < 0 || node === 0xff) return true;
  if (call.domain.privileged) return node === 0;
  return (flags & XENMEMF_exact_node_request) === 0;
}

function claimedByOthers(call: Call, d: Domain): number {
  let n = 0;
  for (const o of call.xen.domains.values()) if (o !== d && o.mm !== undefined) n += o.mm.claimed;
  return n;
}

function readFrame(call: Call, list: Va, i: number): number {
  const b = call.guest.copyFrom(list + i * 8, 8);
  return b === null ? -1 : u64(view(b), 0);
}
function writeFrame(call: Call, list: Va, i: number, mfn: number): boolean {
  return call.guest.write64(list + i * 8, mfn, 0);
}

/** Give a page back (the page itself goes with its last mapping). */
function removePage(d: Domain, gfn: number): boolean {
  const mm = d.mm;
  const ft = d.xen.frames;
  const mfn = mm.gfnToMfn(gfn);
  if (!ft.getPage(mfn, mm.id)) return false;
  // Frames that Xen shares with the domain (shared info, grant table) are not the domain's to free.
  if (((ft.flags[mfn] as number) & F_XENHEAP) !== 0) {
    ft.putPage(mfn);
    return false;
  }
  mm.forget(mfn);
  ft.putAllocRef(mfn);
  ft.putPage(mfn);
  return true;
}

/** XENMEM_exchange: give pages back and get others (contiguous, or of another order) for them. */
function exchange(call: Call, arg: Va): number {
  const raw = call.guest.copyFrom(arg, xen_memory_exchange.size);
  if (raw === null) return -EFAULT;
  const v = view(raw);
  const s = xen_memory_exchange;
  const inN = u64(v, s.in_nr_extents);
  const outN = u64(v, s.out_nr_extents);
  const inOrder = v.getUint32(s.in_extent_order, true);
  const outOrder = v.getUint32(s.out_extent_order, true);
  let done = u64(v, s.nr_exchanged);
  const finish = (rc: number): number =>
    call.guest.write64(arg + s.nr_exchanged, done, Math.floor(done / 4294967296)) ? rc : -EFAULT;
  if (Math.max(inOrder, outOrder) > maxOrder(call.domain)) return finish(-EPERM);
  const domid = v.getUint16(s.in_domid, true);
  if (
    done > inN ||
    domid !== v.getUint16(s.out_domid, true) ||
    inN > MAX_EXTENTS * 64 ||
    outN > MAX_EXTENTS * 64 ||
    inN * 2 ** inOrder !== outN * 2 ** outOrder
  )
    return finish(-EINVAL);
  if (done === inN) return 0;
  if (!flagsOk(call, v.getUint32(s.out_mem_flags, true))) return finish(-EINVAL);
  const d = anyDomain(call, domid);
  if (d === null) return finish(-ESRCH);
  if (!mayControl(call.domain, d)) return finish(-EPERM);
  const inList = toVa(v.getUint32(s.in_extent_start, true), v.getUint32(s.in_extent_start + 4, true));
  const outList = toVa(v.getUint32(s.out_extent_start, true), v.getUint32(s.out_extent_start + 4, true));
  const mm = d.mm;
  const ft = call.xen.frames;
  // A chunk is the smallest whole number of extents of both sizes.
  const inPer = Math.max(1, 2 ** (outOrder - inOrder));
  const outPer = Math.max(1, 2 ** (inOrder - outOrder));
  for (let c = Math.floor(done / inPer); c < Math.floor(inN / inPer); c++) {
    if (c !== Math.floor(u64(v, s.nr_exchanged) / inPer) && call.preempt()) {
      done = c * inPer;
      return finish(0) !== 0 ? -EFAULT : call.restart();
    }
    const stolen: number[] = [];
    const fresh: number[] = [];
    let rc = 0;
    for (let j = 0; j < inPer && rc === 0; j++) {
      const gfn = readFrame(call, inList, c * inPer + j);
      if (gfn < 0) rc = -EFAULT;
      for (let k = 0; k < 2 ** inOrder && rc === 0; k++) {
        const mfn = mm.gfnToMfn(gfn + k);
        rc = ft.steal(mfn, mm.id);
        if (rc === 0) stolen.push(mfn);
      }
    }
    for (let j = 0; j < outPer && rc === 0; j++) {
      const f = ft.allocUnowned(outOrder);
      if (f < 0) rc = -ENOMEM;
      else fresh.push(f);
    }
    if (rc !== 0) {
      for (const f of stolen) ft.assign(f, mm.id);
      for (const f of fresh) for (let k = 0; k < 2 ** outOrder; k++) ft.freeUnowned(f + k);
      done = c * inPer;
      return finish(rc);
    }
    for (const f of stolen) {
      mm.forget(f);
      ft.freeUnowned(f);
    }
    for (let j = 0; j < outPer; j++) {
      const f = fresh[j] ?? bug("exchange lost an extent");
      for (let k = 0; k < 2 ** outOrder; k++) ft.assign(f + k, mm.id);
      const gpfn = readFrame(call, outList, c * outPer + j);
      if (gpfn < 0) {
        rc = -EFAULT;
        continue;
      }
      for (let k = 0; k < 2 ** outOrder; k++) mm.setPfn(f + k, gpfn + k);
      if (!writeFrame(call, outList, c * outPer + j, f)) rc = -EFAULT;
    }
    if (rc !== 0) {
      done = c * inPer;
      return finish(rc);
    }
  }
  done = inN;
  return finish(0);
}

function statistics(call: Call, op: number, arg: Va): number {
  const raw = call.guest.copyFrom(arg, xen_memory_domain.size);
  if (raw === null) return -EFAULT;
  const d = anyDomain(call, view(raw).getUint16(0, true));
  if (d === null) return -ESRCH;
  if (!mayControl(call.domain, d)) return -EPERM;
  if (op === XENMEM_current_reservation) return d.mm.totPages;
  return op === XENMEM_maximum_reservation ? d.mm.maxPages : d.mm.maximumGpfn;
}

function claim(call: Call, arg: Va): number {
  const raw = call.guest.copyFrom(arg, xen_memory_reservation.size);
  if (raw === null) return -EFAULT;
  const v = view(raw);
  if (u64(v, xen_memory_reservation.extent_start) !== 0) return -EINVAL;
  if (v.getUint32(xen_memory_reservation.extent_order, true) !== 0) return -EINVAL;
  if (v.getUint32(xen_memory_reservation.mem_flags, true) !== 0) return -EINVAL;
  const d = call.xen.domains.get(v.getUint16(xen_memory_reservation.domid, true));
  if (d === undefined || d.mm === undefined) return -EINVAL;
  if (!call.domain.privileged) return -EPERM;
  if (d.mm.dying) return -EINVAL;
  const pages = u64(v, xen_memory_reservation.nr_extents);
  if (pages === 0) {
    d.mm.claimed = 0;
    return 0;
  }
  // One claim at a time; it counts the pages the domain has already.
  if (d.mm.claimed !== 0 || pages <= d.mm.totPages || pages > d.mm.maxPages) return -EINVAL;
  const want = pages - d.mm.totPages;
  if (want > call.xen.frames.freeFrames - claimedByOthers(call, d)) return -ENOMEM;
  d.mm.claimed = want;
  return 0;
}

// --- physmap: refused, but with Xen's order of refusals -------------------------------------------------------------------------

function addToPhysmap(call: Call, start: number, arg: Va, batch: boolean): number {
  if (start > 0xffff) return -EDOM;
  const raw = call.guest.copyFrom(arg, batch ? xen_add_to_physmap_batch.size : xen_add_to_physmap.size);
  if (raw === null) return -EFAULT;
  const v = view(raw);
  if (batch) {
    if (v.getUint16(xen_add_to_physmap_batch.space, true) === XENMAPSPACE_gmfn_range) return -EOPNOTSUPP;
  } else if (v.getUint32(xen_add_to_physmap.space, true) === XENMAPSPACE_gmfn_foreign) return -ENOSYS;
  return anyDomain(call, v.getUint16(0, true)) === null ? -ESRCH : -EACCES;
}

function removeFromPhysmap(call: Call, arg: Va): number {
  const raw = call.guest.copyFrom(arg, xen_remove_from_physmap.size);
  if (raw === null) return -EFAULT;
  return anyDomain(call, view(raw).getUint16(0, true)) === null ? -ESRCH : -EACCES;
}

function podTarget(call: Call, arg: Va): number {
  const raw = call.guest.copyFrom(arg, xen_pod_target.size);
  if (raw === null) return -EFAULT;
  return anyDomain(call, view(raw).getUint16(xen_pod_target.domid, true)) === null ? -ESRCH : -EINVAL;
}

// --- what a domain may know of memory ----------------------------------------------------------------------------------------------

function memoryMap(call: Call, arg: Va): number {
  const raw = call.guest.copyFrom(arg, xen_memory_map.size);
  if (raw === null) return -EFAULT;
  const map = call.domain.mm.memoryMap;
  if (map.length === 0) return -ENOSYS;
  const v = view(raw);
  const n = Math.min(v.getUint32(xen_memory_map.nr_entries, true), map.length);
  const buffer = toVa(v.getUint32(xen_memory_map.buffer, true), v.getUint32(xen_memory_map.buffer + 4, true));
  if (!call.guest.copyTo(buffer, encodeMap(map.slice(0, n))) || !call.guest.write32(arg + xen_memory_map.nr_entries, n))
    return -EFAULT;
  return 0;
}

function encodeMap(map: readonly MemoryMapEntry[]): Uint8Array {
  const out = new Uint8Array(map.length * E820_SIZE);
  const v = new DataView(out.buffer);
  map.forEach((e, i) => {
    v.setBigUint64(i * E820_SIZE, BigInt(e.addr), true);
    v.setBigUint64(i * E820_SIZE + 8, BigInt(e.size), true);
    v.setUint32(i * E820_SIZE + 16, e.type, true);
  });
  return out;
}

function setMemoryMap(call: Call, arg: Va): number {
  const raw = call.guest.copyFrom(arg, xen_foreign_memory_map.size);
  if (raw === null) return -EFAULT;
  const v = view(raw);
  const n = v.getUint32(xen_foreign_memory_map.map_nr_entries, true);
  if (n > E820_MAX) return -EINVAL;
  const d = anyDomain(call, v.getUint16(0, true));
  if (d === null) return -ESRCH;
  if (!mayControl(call.domain, d)) return -EPERM;
  const at = xen_foreign_memory_map.map_buffer;
  const b = call.guest.copyFrom(toVa(v.getUint32(at, true), v.getUint32(at + 4, true)), n * E820_SIZE);
  if (b === null) return -EFAULT;
  const bv = view(b);
  d.mm.memoryMap = Array.from({ length: n }, (_, i) => ({
    addr: u64(bv, i * E820_SIZE),
    size: u64(bv, i * E820_SIZE + 8),
    type: bv.getUint32(i * E820_SIZE + 16, true),
  }));
  return 0;
}

/** The machine's own map: one stretch of RAM from 0 up; the engine's part of it is reserved. */
function machineMemoryMap(call: Call, arg: Va): number {
  if (!call.domain.privileged) return -EPERM;
  const raw = call.guest.copyFrom(arg, xen_memory_map.size);
  if (raw === null) return -EFAULT;
  const v = view(raw);
  const ft = call.xen.frames;
  const map: MemoryMapEntry[] = [
    { addr: 0, size: ft.first * 4096, type: 2 },
    { addr: ft.first * 4096, size: (ft.ramLimit - ft.first) * 4096, type: 1 },
  ];
  if (u64(v, xen_memory_map.buffer) !== 0) {
    if (v.getUint32(xen_memory_map.nr_entries, true) < map.length + 1) return -EINVAL;
    const buffer = toVa(v.getUint32(xen_memory_map.buffer, true), v.getUint32(xen_memory_map.buffer + 4, true));
    if (!call.guest.copyTo(buffer, encodeMap(map))) return -EFAULT;
  }
  return call.guest.write32(arg + xen_memory_map.nr_entries, map.length) ? 0 : -EFAULT;
}

function machphysMapping(call: Call, arg: Va): number {
  const out = new Uint8Array(xen_machphys_mapping.size);
  const v = new DataView(out.buffer);
  const put = (at: number, n: number): void => {
    v.setUint32(at, n >>> 0, true);
    v.setInt32(at + 4, Math.floor(n / 4294967296), true);
  };
  put(xen_machphys_mapping.v_start, MACH2PHYS_VIRT_START);
  put(xen_machphys_mapping.v_end, MACH2PHYS_VIRT_END);
  put(xen_machphys_mapping.max_mfn, MACH2PHYS_NR_ENTRIES - 1);
  return call.guest.copyTo(arg, out) ? 0 : -EFAULT;
}

/** The table's frames at 2 MiB steps. */
function machphysMfnList(call: Call, arg: Va): number {
  const raw = call.guest.copyFrom(arg, xen_machphys_mfn_list.size);
  if (raw === null) return -EFAULT;
  const v = view(raw);
  const max = v.getUint32(xen_machphys_mfn_list.max_extents, true);
  const at = xen_machphys_mfn_list.extent_start;
  const list = toVa(v.getUint32(at, true), v.getUint32(at + 4, true));
  const m2p = call.xen.frames.m2p;
  let i = 0;
  for (; i < max && i * 512 < m2p.frames; i++) if (!writeFrame(call, list, i, m2p.base + i * 512)) return -EFAULT;
  return call.guest.write32(arg + xen_machphys_mfn_list.nr_extents, i) ? 0 : -EFAULT;
}

function acquireResource(call: Call, start: number, arg: Va): number {
  const raw = call.guest.copyFrom(arg, xen_mem_acquire_resource.size);
  if (raw === null) return -EFAULT;
  const v = view(raw);
  const s = xen_mem_acquire_resource;
  if (v.getUint32(s.pad, true) !== 0) return -EINVAL;
  const frame = u64(v, s.frame);
  const nr = v.getUint32(s.nr_frames, true);
  if (frame >= 4294967296 || frame + nr >= 4294967296) return -EINVAL;
  const domid = v.getUint16(s.domid, true);
  const d = call.xen.domains.get(domid);
  if (d === undefined || d.grants === undefined) return -ESRCH;
  if (d === call.domain || !call.domain.privileged) return -EPERM;
  if (v.getUint16(s.type, true) !== XENMEM_resource_grant_table) return -EINVAL;
  const id = v.getUint32(s.id, true);
  const max = d.grants.resourceFrames(id);
  if (max === 0) return -EINVAL;
  if (u64(v, s.frame_list) === 0) {
    if (nr !== 0 || start !== 0) return -EINVAL;
    return call.guest.write32(arg + s.nr_frames, max) ? 0 : -EFAULT;
  }
  if (start >= nr || nr > MAX_EXTENTS) return -EINVAL;
  const list = toVa(v.getUint32(s.frame_list, true), v.getUint32(s.frame_list + 4, true));
  for (let i = start; i < nr; i++) {
    if (i !== start && i % PREEMPT_EVERY === 0 && call.preempt()) {
      call.setArg(0, (XENMEM_acquire_resource | (i << EXTENT_SHIFT)) >>> 0, 0);
      return call.restart();
    }
    const mfn = d.grants.resourceFrame(id, frame + i);
    if (mfn < 0) return mfn;
    if (!writeFrame(call, list, i, mfn)) return -EFAULT;
  }
  return 0;
}

function vnuma(call: Call, arg: Va): number {
  const raw = call.guest.copyFrom(arg, xen_vnuma_topology_info.size);
  if (raw === null) return -EFAULT;
  const v = view(raw);
  if (v.getUint16(xen_vnuma_topology_info.pad, true) !== 0) return -EINVAL;
  const d = anyDomain(call, v.getUint16(0, true));
  if (d === null) return -ESRCH;
  return mayControl(call.domain, d) ? -EOPNOTSUPP : -EPERM;
}

function reservedDeviceMemory(call: Call, arg: Va): number {
  const raw = call.guest.copyFrom(arg, xen_reserved_device_memory_map.size);
  if (raw === null) return -EFAULT;
  if ((view(raw).getUint32(xen_reserved_device_memory_map.flags, true) & ~1) !== 0) return -EINVAL;
  return call.guest.write32(arg + xen_reserved_device_memory_map.nr_entries, 0) ? 0 : -EFAULT;
}
