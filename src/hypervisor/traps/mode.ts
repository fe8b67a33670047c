/**
 * Which half of a PV64 guest runs: its kernel (address space 0) or its user mode (space 1), both at CPL 3. Changing sides swaps the
 * GS base, as Xen's toggle_guest_mode does; selectors stay.
 */
import { GS } from "../../machine/cpu/insn.js";
import type { ModeSpec } from "../../machine/cpu/api.js";
import type { Vcpu } from "../vcpu.js";

export const KERNEL_MODE: ModeSpec = { bits: 64, cpl: 3, space: 0 };
export const USER_MODE: ModeSpec = { bits: 64, cpl: 3, space: 1 };
export const USER_MODE_32: ModeSpec = { bits: 32, cpl: 3, space: 1 };
export const KERNEL_MODE_32: ModeSpec = { bits: 32, cpl: 3, space: 0 };

/** From user mode to the kernel. */
export function enterKernel(v: Vcpu): void {
  const { cpu } = v.domain.xen;
  const t = v.traps;
  t.gsUserLo = cpu.segBaseLo(GS);
  t.gsUserHi = cpu.segBaseHi(GS);
  v.kernelMode = true;
  cpu.setMode(KERNEL_MODE);
  cpu.setSegBase(GS, t.gsKernelLo, t.gsKernelHi);
  // Areas named by kernel addresses could not be written while user mode was loaded.
  if (v.time.areasStale) v.time.kernelEntered();
}

/** From the kernel to user mode; `bits` is the width of the code it will run. */
export function enterUser(v: Vcpu, bits: 32 | 64): void {
  const { cpu } = v.domain.xen;
  const t = v.traps;
  t.gsKernelLo = cpu.segBaseLo(GS);
  t.gsKernelHi = cpu.segBaseHi(GS);
  v.kernelMode = false;
  cpu.setMode(bits === 64 ? USER_MODE : USER_MODE_32);
  cpu.setSegBase(GS, t.gsUserLo, t.gsUserHi);
}
