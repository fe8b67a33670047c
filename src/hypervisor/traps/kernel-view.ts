/** Look at memory through the guest kernel's address space while its user mode is the loaded one (Xen's toggle_guest_pt). */
import type { Vcpu } from "../vcpu.js";
import { KERNEL_MODE, USER_MODE, USER_MODE_32 } from "./mode.js";
import { CS } from "../../machine/cpu/insn.js";
import { loadCode } from "./load-segments.js";

/** True if the mode was changed: hand the result to `leaveKernelView`. */
export function enterKernelView(v: Vcpu): boolean {
  if (v.kernelMode) return false;
  v.domain.xen.cpu.setMode(KERNEL_MODE);
  return true;
}

export function leaveKernelView(v: Vcpu, changed: boolean): void {
  if (!changed) return;
  const { cpu } = v.domain.xen;
  cpu.setMode(loadCode(v, cpu.selector(CS)) === 32 ? USER_MODE_32 : USER_MODE);
}
