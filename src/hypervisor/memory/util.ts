/**
 * Small helpers of the memory hypercalls: addresses out of structures, continuation arguments, which domain an operation means.
 */
import { EPERM, ESRCH } from "../../abi/errno.js";
import { HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START } from "../../abi/arch_x86_xen.js";
import { DOMID_IO, DOMID_SELF, DOMID_XEN } from "../../abi/xen.js";
import type { Va } from "../../machine/cpu/api.js";
import type { Domain } from "../domain.js";
import type { Call } from "../hypercalls/call.js";
import { OWNER_IO, OWNER_XEN } from "./frame-table.js";

/** A 64-bit value as a canonical address, or NaN. */
export function toVa(lo: number, hi: number): Va {
  const top = (hi | 0) >> 15;
  return top === 0 || top === -1 ? (hi | 0) * 4294967296 + (lo >>> 0) : NaN;
}

/** An address a guest may name: canonical and outside the hypervisor's range. */
export function addrOk(va: Va): boolean {
  return va >= -0x800000000000 && va < 0x800000000000 && !(va >= HYPERVISOR_VIRT_START && va < HYPERVISOR_VIRT_END);
}

/** The frame number in a 64-bit field; inexact, and invalid anyway, from 2^53 on. */
export function u64(v: DataView, at: number): number {
  return v.getUint32(at, true) + v.getUint32(at + 4, true) * 4294967296;
}

export function view(b: Uint8Array): DataView {
  return new DataView(b.buffer, b.byteOffset, b.byteLength);
}

/** Advance a pointer argument by `bytes`. */
export function advanceArg(call: Call, i: number, bytes: number): void {
  const lo = call.lo(i) + bytes;
  const carry = Math.floor(lo / 4294967296);
  call.setArg(i, lo >>> 0, (call.hi(i) + carry) >>> 0);
}

export function isNull(call: Call, i: number): boolean {
  return call.lo(i) === 0 && call.hi(i) === 0;
}

/** The caller may act on the domain: itself, or any if it is privileged. */
export function mayControl(caller: Domain, d: Domain): boolean {
  return caller === d || caller.privileged;
}

/** DOMID_SELF or a domid (the caller's own as well): the domain, or null. */
export function anyDomain(call: Call, domid: number): Domain | null {
  if (domid === DOMID_SELF) return call.domain;
  const d = call.xen.domains.get(domid);
  // A native domain may have no memory of its own.
  return d === undefined || d.mm === undefined ? null : d;
}

/**
 * Whose pages an MMU operation names (`foreigndom`): the owner's number, or −ESRCH / −EPERM. One's own domid is not accepted, only DOMID_SELF.
 */
export function pageOwner(call: Call, domid: number): number {
  if (domid === DOMID_SELF) return call.domain.mm.id;
  if (domid === call.domain.domid) return -ESRCH;
  if (domid === DOMID_IO) return OWNER_IO;
  if (domid === DOMID_XEN) return call.domain.privileged ? OWNER_XEN : -EPERM;
  const d = call.xen.domains.get(domid);
  if (d === undefined || d.mm === undefined) return -ESRCH;
  return call.domain.privileged ? d.mm.id : -EPERM;
}

/** A VMASST_TYPE_* bit of the domain; types from 32 on are beyond JavaScript's bit operators. */
export function hasAssist(d: Domain, type: number): boolean {
  return Math.floor(d.vmAssist / 2 ** type) % 2 === 1;
}
