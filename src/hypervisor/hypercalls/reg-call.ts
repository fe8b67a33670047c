/**
 * The two kinds of `Call`: arguments in the loaded vCPU's registers (one object, reused), and arguments in an array (multicall
 * entries, compat forms).
 */
import type { Va } from "../../machine/cpu/api.js";
import type { Domain } from "../domain.js";
import type { GuestAccess } from "../guest-access.js";
import type { Vcpu } from "../vcpu.js";
import type { Xen } from "../xen.js";
import type { Call } from "./call.js";

/** rdi rsi rdx r10 r8 r9. */
const ARGUMENT_REGISTERS = [7, 6, 2, 10, 8, 9] as const;

/** NaN if not canonical. */
export function canonicalVa(lo: number, hi: number): Va {
  const top = (hi | 0) >> 15;
  return top === 0 || top === -1 ? (hi | 0) * 4294967296 + (lo >>> 0) : NaN;
}

abstract class BaseCall {
  domain!: Domain;
  vcpu!: Vcpu;
  readonly guest: GuestAccess;
  /** `restart` was called: the hypercall is to be issued again. */
  restarted = false;
  /** All registers have been replaced (iret): no result is written. */
  noReturn = false;
  constructor(readonly xen: Xen) {
    this.guest = xen.guest;
  }
  abstract lo(i: number): number;
  abstract hi(i: number): number;
  va(i: number): Va {
    return canonicalVa(this.lo(i), this.hi(i));
  }
  num(i: number): number {
    return this.hi(i) * 4294967296 + this.lo(i);
  }
  restart(): number {
    this.restarted = true;
    return 0;
  }
  preempt(): boolean {
    return this.xen.preemptRequested();
  }
}

export class RegCall extends BaseCall implements Call {
  lo(i: number): number {
    return this.xen.cpu.regLo(ARGUMENT_REGISTERS[i] as number) >>> 0;
  }
  hi(i: number): number {
    return this.xen.cpu.regHi(ARGUMENT_REGISTERS[i] as number) >>> 0;
  }
  setArg(i: number, lo: number, hi: number): void {
    this.xen.cpu.setReg(ARGUMENT_REGISTERS[i] as number, lo | 0, hi | 0);
  }
}

export class ArgCall extends BaseCall implements Call {
  /** Halves of up to six arguments. */
  readonly args = new Uint32Array(12);
  lo(i: number): number {
    return this.args[i * 2] as number;
  }
  hi(i: number): number {
    return this.args[i * 2 + 1] as number;
  }
  setArg(i: number, lo: number, hi: number): void {
    this.args[i * 2] = lo;
    this.args[i * 2 + 1] = hi;
  }
  setVa(i: number, va: Va): void {
    this.setArg(i, va >>> 0, Math.floor(va / 4294967296) >>> 0);
  }
}
