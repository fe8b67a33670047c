/**
 * What a PV64 vCPU has told the hypervisor about traps, and the part of its CPU state that is virtual: trap table, callbacks,
 * kernel stack, the inactive GS base, CR0.TS, CR2, CR4, IOPL, NMI state. Layouts: public/arch-x86/xen.h (vcpu_guest_context).
 *
 * Invariants: addresses here are canonical (checked where they are registered), 0 means "none"; the GS base of the mode that is
 * running lives in the CPU, the other one in `gsKernel*` or `gsUser*`.
 */
import type { Va } from "../../machine/cpu/api.js";

/** CR4 bits a PV guest sees of the host (PAE MCE OSFXSR OSXMMEXCPT) and those it may choose (TSD DE). */
export const CR4_VISIBLE = 0x20 | 0x40 | 0x200 | 0x400;
export const CR4_GUEST = 0x04 | 0x08;
export const CR4_TSD = 0x04;
export const CR4_DE = 0x08;
/** CR0 as a PV guest reads it, but for TS: PG AM WP NE ET MP PE. */
export const CR0_HOST = 0x80050033 | 0;
export const CR0_TS = 0x08;

/** trap_info.flags bit 2. */
const TI_IF = 4;

export class VcpuTraps {
  /** The virtual IDT. */
  readonly address = new Float64Array(256);
  readonly flags = new Uint8Array(256);
  readonly cs = new Uint16Array(256);

  eventCallback: Va = 0;
  failsafeCallback: Va = 0;
  syscallCallback: Va = 0;
  syscall32Callback: Va = 0;
  sysenterCallback: Va = 0;
  failsafeMasks = false;
  syscallMasks = false;
  syscall32Masks = false;
  sysenterMasks = false;

  /** Stack for entries from user mode (stack_switch); any 64 bits. */
  kernelSs = 0;
  kernelSpLo = 0;
  kernelSpHi = 0;
  gsKernelLo = 0;
  gsKernelHi = 0;
  gsUserLo = 0;
  gsUserHi = 0;

  /** Virtual CR0.TS. */
  ts = false;
  cr2Lo = 0;
  cr2Hi = 0;
  cr4 = CR4_VISIBLE;
  /** Virtual IOPL, 0–3 (physdev_op.set_iopl; with architectural_iopl also iret). */
  iopl = 0;
  /** I/O permission bitmap in the guest, as in a TSS. */
  ioBitmap: Va = 0;
  ioBitmapPorts = 0;

  nmiPending = false;
  /** An NMI handler runs: no further NMI until iret. */
  inNmi = false;

  /** MSRs with state of their own. */
  specCtrl = 0;
  tscAux = 0;

  /** Set or clear one entry of the trap table. */
  setTrap(vector: number, flags: number, cs: number, address: Va): void {
    this.address[vector] = address;
    this.flags[vector] = flags;
    this.cs[vector] = cs;
  }
  clearTraps(): void {
    this.address.fill(0);
    this.flags.fill(0);
    this.cs.fill(0);
  }
  masksEvents(vector: number): boolean {
    return ((this.flags[vector] as number) & TI_IF) !== 0;
  }
  dpl(vector: number): number {
    return (this.flags[vector] as number) & 3;
  }
}
