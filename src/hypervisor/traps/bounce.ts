/**
 * Bounce frames: how an exception, an event or a system call reaches a 64-bit guest kernel.
 *
 * Frame, low to high: rcx, r11, [error code], rip, cs | saved upcall mask << 32, rflags, rsp, ss, on a 16-byte aligned base
 * (public/arch-x86/xen-x86_64.h and the guests' own entry code). Rules:
 *  - from user mode the frame goes to the stack of stack_switch, in the kernel's address space; from the kernel below its rsp, and
 *    the saved cs then has RPL 0, which is how a guest tells the two apart;
 *  - the saved rflags show IF as the inverse of the upcall mask and IOPL only under VMASST architectural_iopl;
 *  - entry clears TF NT RF AC VM and loads the flat kernel cs and ss;
 *  - a stack in the hypervisor's range or not writable, or no handler, ends the domain.
 */
import { vcpu_info } from "../../abi/xen.js";
import { VMASST_TYPE_architectural_iopl } from "../../abi/xen.js";
import { WRITE, type Va } from "../../machine/cpu/api.js";
import { AC, IF, NT, RF, TF, VM } from "../../machine/cpu/flags.js";
import { CS, RCX, RSP, SS } from "../../machine/cpu/insn.js";
import { refusedRange } from "../guest-access.js";
import type { Vcpu } from "../vcpu.js";
import { enterKernel, KERNEL_MODE } from "./mode.js";
import { setFlatKernel } from "./segments.js";
import { infoOf } from "./upcall.js";

const R11 = 11;
const IOPL = 0x3000;
/** No error code in the frame. */
export const NO_ERROR = -1;

/**
 * Enter the guest kernel at `eip`. `mask`: set the upcall mask on the way. `error`: NO_ERROR or the error code. `segments`: the selectors
 * of ds, es, fs and gs, which stand above r11 in the failsafe callback's frame alone. False if the domain was crashed instead.
 */
export function bounce(v: Vcpu, eip: Va, mask: boolean, error: number, segments?: readonly number[]): boolean {
  const { xen } = v.domain;
  const { cpu, mem } = xen;
  const t = v.traps;
  let cs = cpu.selector(CS);
  const ss = cpu.selector(SS);
  const rspLo = cpu.regLo(RSP);
  const rspHi = cpu.regHi(RSP);
  let spLo: number;
  let spHi: number;
  if (v.kernelMode) {
    spLo = rspLo;
    spHi = rspHi;
    cs &= ~3;
    cpu.setMode(KERNEL_MODE);
  } else {
    enterKernel(v);
    spLo = t.kernelSpLo;
    spHi = t.kernelSpHi;
  }
  if (eip === 0) {
    v.domain.crash("no handler for an entry to the guest kernel");
    return false;
  }
  const top = (spHi | 0) * 4294967296 + ((spLo & ~15) >>> 0);
  const words = (error === NO_ERROR ? 7 : 8) + (segments?.length ?? 0);
  const at = top - words * 8;
  if (refusedRange(at, words * 8)) {
    v.domain.crash(`bad kernel stack pointer for a bounce frame`);
    return false;
  }

  const info = infoOf(v);
  // A vCPU that has no vcpu_info yet counts as masked.
  const saved = info >= 0 ? mem.r8(info + vcpu_info.evtchn_upcall_mask) : 1;
  const image = cpu.rflags;
  let flags = image & ~(IF | IOPL);
  if ((saved & 0xff) === 0) flags |= IF;
  if ((v.domain.vmAssist & (1 << VMASST_TYPE_architectural_iopl)) !== 0) flags |= t.iopl << 12;

  const page = at & 4095;
  if (segments === undefined && page + words * 8 <= 4096) {
    const ma = cpu.translate(at, WRITE);
    if (ma < 0) return stackFault(v, at);
    // All of it lies in one frame.
    let i = mem.forWrite(ma) >>> 2;
    const { u32 } = mem;
    u32[i++] = cpu.regLo(RCX);
    u32[i++] = cpu.regHi(RCX);
    u32[i++] = cpu.regLo(R11);
    u32[i++] = cpu.regHi(R11);
    if (error !== NO_ERROR) {
      u32[i++] = error;
      u32[i++] = 0;
    }
    const rip = cpu.rip;
    u32[i++] = rip;
    u32[i++] = Math.floor(rip / 4294967296);
    u32[i++] = cs;
    u32[i++] = saved;
    u32[i++] = flags;
    u32[i++] = 0;
    u32[i++] = rspLo;
    u32[i++] = rspHi;
    u32[i++] = ss;
    u32[i++] = 0;
  } else {
    const lowMa = cpu.translate(at, WRITE);
    const highVa = at - page + 4096;
    const highMa = lowMa < 0 ? -1 : page + words * 8 <= 4096 ? 0 : cpu.translate(highVa, WRITE);
    if (lowMa < 0 || highMa < 0) return stackFault(v, lowMa < 0 ? at : highVa);
    let n = 0;
    const put = (lo: number, hi: number): void => {
      const a = at + n * 8;
      mem.w64(a < highVa ? lowMa + n * 8 : highMa + (a - highVa), lo, hi);
      n++;
    };
    put(cpu.regLo(RCX), cpu.regHi(RCX));
    put(cpu.regLo(R11), cpu.regHi(R11));
    for (const selector of segments ?? []) put(selector, 0);
    if (error !== NO_ERROR) put(error, 0);
    const rip = cpu.rip;
    put(rip >>> 0, Math.floor(rip / 4294967296) >>> 0);
    put(cs, saved);
    put(flags, 0);
    put(rspLo, rspHi);
    put(ss, 0);
  }
  if (mask && info >= 0) mem.w8(info + vcpu_info.evtchn_upcall_mask, 1);

  cpu.rflags = (image & ~(AC | VM | RF | NT | TF)) | IF;
  setFlatKernel(cpu);
  cpu.setRegVa(RSP, at);
  cpu.rip = eip;
  return true;
}

function stackFault(v: Vcpu, at: Va): false {
  v.domain.crash(`page fault at ${at < 0 ? "-" : ""}0x${Math.abs(at).toString(16)} while pushing a bounce frame`);
  return false;
}
