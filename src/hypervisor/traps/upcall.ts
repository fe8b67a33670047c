/**
 * Where a vCPU's vcpu_info is, its upcall mask, and the delivery of event upcalls and NMIs before the guest is entered.
 */
import { vcpu_info } from "../../abi/xen.js";
import type { Maddr } from "../../machine/memory.js";
import type { Vcpu } from "../vcpu.js";
import { bounce, NO_ERROR } from "./bounce.js";

/** Machine address of the vCPU's vcpu_info; −1 where it has none yet (vCPUs above 31). */
export function infoOf(v: Vcpu): Maddr {
  return v.events.infoMaddr;
}

/**
 * What is due before the vCPU runs: an NMI that is not nested, then the event upcall (pending and not masked). Both may be
 * delivered at one entry, the upcall then on top. False if the domain was crashed on the way.
 */
export function deliverPending(v: Vcpu): boolean {
  const t = v.traps;
  const { xen } = v.domain;
  if (t.nmiPending && !t.inNmi) {
    t.nmiPending = false;
    const handler = t.address[2] as number;
    if (handler !== 0) {
      t.inNmi = true;
      xen.counters.nmis++;
      if (!bounce(v, handler, t.masksEvents(2), NO_ERROR)) return false;
    }
  }
  const info = v.events.infoMaddr;
  if (info < 0) return true;
  const word = xen.mem.r16(info + vcpu_info.evtchn_upcall_pending);
  // pending non-zero in the low byte, mask zero in the high byte
  if (word !== 0 && word < 0x100) {
    xen.counters.upcalls++;
    return bounce(v, t.eventCallback, true, NO_ERROR);
  }
  return true;
}
