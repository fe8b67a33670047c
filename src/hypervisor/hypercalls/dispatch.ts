/**
 * From a `syscall` of the guest kernel to a handler and back: number in rax, arguments in rdi rsi rdx r10 r8 r9, result in rax;
 * rcx and r11 take rip and rflags (SYSRET). A continuation leaves rax alone and rip at the `syscall`.
 */
import { ENOSYS } from "../../abi/errno.js";
import { IF } from "../../machine/cpu/flags.js";
import { RAX, RCX } from "../../machine/cpu/insn.js";
import type { Vcpu } from "../vcpu.js";
import { word } from "../trace.js";
import { setFlatKernel } from "../traps/segments.js";
import type { Call } from "./call.js";
import { hypercallName } from "./table.js";

const R11 = 11;
/** Length of `syscall`. */
const SYSCALL_LENGTH = 2;

/** Write a handler's result to a register: sign-extended below zero, exact to 2^53 above. */
function setResult(v: Vcpu, r: number): void {
  v.domain.xen.cpu.setReg(RAX, r | 0, Math.floor(r / 4294967296) | 0);
}

export function hypercall(v: Vcpu): void {
  const { xen } = v.domain;
  const { cpu, counters, call } = xen;
  const number = cpu.regHi(RAX) === 0 ? cpu.regLo(RAX) >>> 0 : 0xffffffff;
  counters.hypercalls++;
  const handler = number < 64 ? xen.handlers[number] : null;
  let result = -ENOSYS;
  if (handler !== null && handler !== undefined) {
    counters.byHypercall[number] = (counters.byHypercall[number] as number) + 1;
    call.domain = v.domain;
    call.vcpu = v;
    call.restarted = false;
    call.noReturn = false;
    xen.preemptPolls = 0;
    if (xen.trace.on) result = traced(number, call, handler);
    else result = handler(call);
    if (call.noReturn) return;
    if (call.restarted) {
      cpu.rip = cpu.rip - SYSCALL_LENGTH;
      return;
    }
  }
  setResult(v, result);
  const rip = cpu.rip;
  cpu.setReg(RCX, rip >>> 0, Math.floor(rip / 4294967296) | 0);
  cpu.setReg(R11, cpu.rflags | IF, 0);
  setFlatKernel(cpu);
}

/** Run a handler and emit its record; `depth` 1 marks entries of a multicall. */
export function traced(number: number, call: Call, handler: (call: Call) => number, depth = 0): number {
  const { xen } = call;
  const name = hypercallName(number, call.lo(0));
  const args: Record<string, number | string | boolean> = {};
  for (let i = 0; i < 5; i++) args[`a${i}`] = word(call.lo(i), call.hi(i));
  if (depth > 0) args["multicall"] = true;
  const { domain, vcpu } = call;
  const start = xen.clock.now();
  const result = handler(call);
  const time = xen.clock.now();
  const duration = time - start;
  xen.trace.emit({ kind: "hypercall", time, domid: domain.domid, vcpu: vcpu.id, name, args, result, duration });
  return result;
}
