/**
 * TLB flushes that a guest asks for. The CPU has one live TLB, the loaded vCPU's; vCPUs that are not loaded have none. So a flush of any set of the
 * caller's vCPUs is a flush of the live TLB; only the vCPU mask's address must still be readable.
 */
import { EFAULT } from "../../abi/errno.js";
import type { Va } from "../../machine/cpu/api.js";
import type { Call } from "../hypercalls/call.js";

/** Read the mask as Xen does, word by word up to the domain's vCPUs: 0 or −EFAULT. */
export function readVcpuMask(call: Call, at: Va): number {
  const words = Math.ceil(call.domain.maxVcpus / 64);
  return call.guest.copyFrom(at, words * 8) === null ? -EFAULT : 0;
}
