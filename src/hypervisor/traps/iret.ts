/**
 * HYPERVISOR_iret: the guest kernel's return, from a frame on its stack (struct iret_context):
 * rax, r11, rcx, flags, rip, cs, rflags, rsp, ss. A cs with RPL 3 returns to user mode, any other to the kernel.
 *
 * Rules: the upcall mask becomes the inverse of the frame's IF; IOPL and VM are dropped; with VGCF_in_syscall set (and a canonical
 * rip) the return has SYSRET's semantics: rcx = rip, r11 = rflags, flat user cs and ss; a frame that cannot be read, or a return to
 * user mode without user page tables, ends the domain; a selector that does not load is the guest's #GP/#NP/#SS at the new rip.
 */
import { iret_context, FLAT_RING3_CS64, FLAT_RING3_SS64, VGCF_in_syscall } from "../../abi/arch_x86_xen.js";
import { vcpu_info, VMASST_TYPE_architectural_iopl } from "../../abi/xen.js";
import { READ } from "../../machine/cpu/api.js";
import { IF, VM } from "../../machine/cpu/flags.js";
import { CS, RAX, RCX, RSP, SS } from "../../machine/cpu/insn.js";
import type { Vcpu } from "../vcpu.js";
import { injectException, GP } from "./inject.js";
import { fault, loadCode, loadSegment } from "./load-segments.js";
import { enterUser, KERNEL_MODE, KERNEL_MODE_32, USER_MODE, USER_MODE_32 } from "./mode.js";
import { FLAT_CODE64, FLAT_DATA } from "./segments.js";
import { infoOf } from "./upcall.js";

const R11 = 11;
const IOPL = 0x3000;
const frame = new Uint32Array(iret_context.size / 4);

const at = (offset: number): number => frame[offset >> 2] as number;

function readFrame(v: Vcpu): boolean {
  const { xen } = v.domain;
  const sp = xen.cpu.regVa(RSP);
  if ((sp & 4095) <= 4096 - iret_context.size && (sp & 3) === 0) {
    if (sp < 0 && sp < -(2 ** 47) + 0x080000000000) return false;
    const ma = xen.cpu.translate(sp, READ);
    if (ma < 0) return false;
    for (let i = 0; i < frame.length; i++) frame[i] = xen.mem.u32[(ma >>> 2) + i] as number;
    return true;
  }
  const bytes = xen.guest.copyFrom(sp, iret_context.size);
  if (bytes === null) return false;
  const d = new DataView(bytes.buffer);
  for (let i = 0; i < frame.length; i++) frame[i] = d.getUint32(i * 4, true);
  return true;
}

/** Perform the return. All registers are the guest's afterwards; the caller writes nothing more. */
export function iret(v: Vcpu): void {
  const { xen } = v.domain;
  const { cpu } = xen;
  const t = v.traps;
  xen.counters.irets++;
  if (!readFrame(v)) {
    v.domain.crash("fault while reading the iret frame");
    return;
  }
  const user = (at(iret_context.cs) & 3) === 3;
  if (user && v.mm.userRoot === 0) {
    v.domain.crash("return to user mode with no user page tables");
    return;
  }
  const rflags = at(iret_context.rflags);
  if ((v.domain.vmAssist & (1 << VMASST_TYPE_architectural_iopl)) !== 0) t.iopl = (rflags >> 12) & 3;

  const ripLo = at(iret_context.rip);
  const ripHi = at(iret_context.rip + 4) | 0;
  const canonical = ripHi >> 15 === 0 || ripHi >> 15 === -1;
  const flags = (rflags & ~(IOPL | VM)) | IF | 2;
  const sysret = (at(iret_context.flags) & VGCF_in_syscall) !== 0;

  cpu.setReg(RAX, at(iret_context.rax), at(iret_context.rax + 4));
  cpu.setReg(RSP, at(iret_context.rsp), at(iret_context.rsp + 4));
  const info = infoOf(v);
  if (info >= 0) xen.mem.w8(info + vcpu_info.evtchn_upcall_mask, (rflags & IF) !== 0 ? 0 : 1);
  t.inNmi = false;

  if (user) enterUser(v, 64);
  cpu.rflags = flags;
  if (!canonical) {
    // The hardware's iretq would fault in the hypervisor: the guest sees #GP(0). rip is reported truncated to what can be held.
    cpu.setReg(R11, at(iret_context.r11), at(iret_context.r11 + 4));
    cpu.setReg(RCX, at(iret_context.rcx), at(iret_context.rcx + 4));
    cpu.rip = ((ripHi << 16) >> 16) * 4294967296 + ripLo;
    injectException(v, GP, 0);
    return;
  }
  cpu.rip = ripHi * 4294967296 + ripLo;
  if (sysret) {
    cpu.setReg(RCX, ripLo, ripHi);
    cpu.setReg(R11, flags, 0);
    if (cpu.selector(CS) !== FLAT_RING3_CS64) cpu.setSegment(CS, FLAT_RING3_CS64, 0, 0xffffffff, FLAT_CODE64);
    if (cpu.selector(SS) !== FLAT_RING3_SS64) cpu.setSegment(SS, FLAT_RING3_SS64, 0, 0xffffffff, FLAT_DATA);
    return;
  }
  cpu.setReg(R11, at(iret_context.r11), at(iret_context.r11 + 4));
  cpu.setReg(RCX, at(iret_context.rcx), at(iret_context.rcx + 4));

  // Privilege 3 is forced on both selectors.
  const cs = (at(iret_context.cs) & 0xffff) | 3;
  const ss = (at(iret_context.ss) & 0xffff) | 3;
  if (cs !== cpu.selector(CS)) {
    const bits = loadCode(v, cs);
    if (bits === 0) {
      injectException(v, fault.vector, fault.error);
      return;
    }
    if (bits !== 64)
      cpu.setMode(v.kernelMode ? KERNEL_MODE_32 : bits === 32 ? USER_MODE_32 : { bits: 16, cpl: 3, space: 1 });
    else if (user) cpu.setMode(USER_MODE);
  } else if (!v.kernelMode) {
    // Same selector as the kernel's own (flat 64-bit): nothing to load.
    cpu.setMode(USER_MODE);
  } else cpu.setMode(KERNEL_MODE);
  if (ss !== cpu.selector(SS) && !loadSegment(v, SS, ss)) injectException(v, fault.vector, fault.error);
}
