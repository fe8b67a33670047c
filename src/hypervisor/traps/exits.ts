/**
 * What the machine's exits mean for a PV guest: exceptions are fixed up, emulated or passed to the guest kernel, `syscall` is a
 * hypercall from the kernel and a system call from user mode, `int n` goes through the trap table.
 */
import { VMASST_TYPE_writable_pagetables } from "../../abi/xen.js";
import { FLAT_USER_SS, HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START } from "../../abi/arch_x86_xen.js";
import { DF } from "../../machine/cpu/flags.js";
import { CS, RCX, RSP, SS } from "../../machine/cpu/insn.js";
import { SEG_ATTR } from "../../machine/layout.js";
import { hypercall } from "../hypercalls/dispatch.js";
import { ptwrFault } from "../memory/writable-pagetables.js";
import type { Vcpu } from "../vcpu.js";
import { bounce, NO_ERROR } from "./bounce.js";
import { emulateForced, emulatePrivop } from "./emulate-privop.js";
import { BP, GP, injectException, injectPageFault, injectSoftware, NM, PF, UD } from "./inject.js";
import { FLAT_CODE64, FLAT_DATA } from "./segments.js";

const R11 = 11;
/** Page-fault error code (SDM vol. 3, 4.7). */
const PFEC_P = 1,
  PFEC_W = 2,
  PFEC_RSVD = 8,
  PFEC_I = 16;
const ERROR_IDT = 2;

function pageFault(v: Vcpu): void {
  const { xen } = v.domain;
  const { exit } = xen.cpu;
  const error = exit.errorCode;
  const lo = exit.cr2Lo >>> 0;
  const hi = exit.cr2Hi | 0;
  const va = hi * 4294967296 + lo;
  xen.counters.pageFaults++;
  if ((error & PFEC_RSVD) !== 0) {
    // No validated table has reserved bits set: one of our own invariants is broken, but only this domain is known to suffer.
    v.domain.crash(`reserved bit in a page table, error ${error}, at 0x${va.toString(16)}`);
    return;
  }
  if (
    v.kernelMode &&
    (error & (PFEC_W | PFEC_P | PFEC_I)) === (PFEC_W | PFEC_P) &&
    (v.domain.vmAssist & (1 << VMASST_TYPE_writable_pagetables)) !== 0 &&
    !(va >= HYPERVISOR_VIRT_START && va < HYPERVISOR_VIRT_END) &&
    ptwrFault(v, va, error)
  ) {
    xen.counters.ptwr++;
    return;
  }
  injectPageFault(v, error, lo, hi);
}

function exception(v: Vcpu): void {
  const { xen } = v.domain;
  const { cpu, counters } = xen;
  const vector = cpu.exit.vector;
  const error = cpu.exit.errorCode;
  counters.exceptions++;
  counters.byVector[vector & 255] = (counters.byVector[vector & 255] as number) + 1;
  switch (vector) {
    case PF:
      pageFault(v);
      return;
    case GP:
      if (error <= 0 && emulatePrivop(v)) return;
      break;
    case UD:
      if (emulateForced(v)) return;
      break;
    case NM:
      // The virtual TS is one-shot: whoever gets #NM finds it clear. Without it, the unit was only off for our own reasons.
      cpu.setTaskSwitched(false);
      if (!v.traps.ts) return;
      v.traps.ts = false;
      break;
  }
  injectException(v, vector, error);
}

function is64(v: Vcpu): boolean {
  return ((v.domain.xen.mem.u32[(SEG_ATTR >>> 2) + CS] as number) & 0x2000) !== 0;
}

/** A system call of 64-bit user mode: rcx = rip, r11 = rflags, flat selectors in the frame, DF clear for the kernel. */
function systemCall(v: Vcpu): void {
  const { xen } = v.domain;
  const { cpu } = xen;
  const t = v.traps;
  xen.counters.syscalls++;
  const rip = cpu.rip;
  if (!is64(v) || t.syscallCallback === 0) {
    // An Intel processor has no `syscall` in compatibility mode.
    cpu.rip = rip - 2;
    injectException(v, UD, NO_ERROR);
    return;
  }
  cpu.setReg(RCX, rip >>> 0, Math.floor(rip / 4294967296) | 0);
  cpu.setReg(R11, cpu.rflags, 0);
  if (cpu.selector(CS) !== 0xe033) cpu.setSegment(CS, 0xe033, 0, 0xffffffff, FLAT_CODE64);
  if (cpu.selector(SS) !== 0xe02b) cpu.setSegment(SS, 0xe02b, 0, 0xffffffff, FLAT_DATA);
  if (bounce(v, t.syscallCallback, t.syscallMasks, NO_ERROR)) cpu.rflags = cpu.rflags & ~DF;
}

/** `sysenter` saves nothing: the frame shows a null cs of ring 3, rip 0, rsp 0. */
function sysenter(v: Vcpu): void {
  const { cpu } = v.domain.xen;
  const t = v.traps;
  if (t.sysenterCallback === 0) {
    cpu.rip = cpu.rip - 2;
    injectException(v, GP, 0);
    return;
  }
  cpu.setSegment(CS, 3, 0, 0xffffffff, FLAT_CODE64);
  cpu.setSegment(SS, FLAT_USER_SS, 0, 0xffffffff, FLAT_DATA);
  cpu.setReg(RSP, 0, 0);
  cpu.rip = 0;
  bounce(v, t.sysenterCallback, t.sysenterMasks, NO_ERROR);
}

/** `int n`, rip after it. Vectors 3 and 0x80 are open to all, others to whom the trap table's DPL admits (the kernel counts as 1). */
function softInterrupt(v: Vcpu): void {
  const { cpu } = v.domain.xen;
  const { vector, length } = cpu.exit;
  if (vector === BP) {
    injectException(v, BP, NO_ERROR);
    return;
  }
  const t = v.traps;
  const open = vector === 0x80 ? (t.address[vector] as number) !== 0 : t.dpl(vector) >= (v.kernelMode ? 1 : 3);
  if (open && (t.address[vector] as number) !== 0) injectSoftware(v, vector);
  else {
    cpu.rip = cpu.rip - length;
    injectException(v, GP, vector * 8 + ERROR_IDT);
  }
}

/** SYSCALL exit. */
export function onSyscall(v: Vcpu): void {
  if (v.kernelMode && is64(v)) hypercall(v);
  else systemCall(v);
}
export const onException = exception;
export const onSysenter = sysenter;
export const onInt = softInterrupt;
/** HLT is privileged, and not among what Xen emulates: a PV guest blocks with SCHEDOP_block. */
export function onHlt(v: Vcpu): void {
  const { cpu } = v.domain.xen;
  cpu.rip = cpu.rip - cpu.exit.length;
  injectException(v, GP, 0);
}
