/**
 * One hypercall in progress: who calls, with what, and access to the caller's memory.
 * Arguments are rdi rsi rdx r10 r8 r9 (64-bit PV ABI). A multicall's entries are `Call`s too, with their arguments in an array.
 */
import type { Va } from "../../machine/cpu/api.js";
import type { Domain } from "../domain.js";
import type { GuestAccess } from "../guest-access.js";
import type { TraceRecord } from "../trace.js";
import type { Vcpu } from "../vcpu.js";
import type { Xen } from "../xen.js";

export interface Call {
  readonly xen: Xen;
  readonly domain: Domain;
  readonly vcpu: Vcpu;
  readonly guest: GuestAccess;
  /** Argument i (0–5) as unsigned 32-bit low and high halves. */
  lo(i: number): number;
  hi(i: number): number;
  /** As a canonical address (NaN if it is not canonical: every access through it fails with −EFAULT). */
  va(i: number): Va;
  /** As an unsigned number; exact below 2^53, else larger than 2^53. */
  num(i: number): number;
  /** Rewrite an argument before `restart`. */
  setArg(i: number, lo: number, hi: number): void;
  /** Ask for the hypercall to be issued again with the present arguments (continuation after preemption). */
  restart(): number;
  /** Set by a handler that has replaced all registers (iret): no result is written. */
  noReturn?: boolean;
  /** True when the slice is spent and a long operation should `restart`. */
  preempt(): boolean;
}

/** Returns the value for rax: a negative errno or a result ≥ 0. */
export type Handler = (call: Call) => number;

/** What a part of a call came to, for who listens (which the caller asks first). */
export function traceCall(
  call: Call,
  kind: TraceRecord["kind"],
  name: string,
  args: TraceRecord["args"],
  result: number,
): void {
  const { xen, domain, vcpu } = call;
  xen.trace.emit({ kind, time: xen.clock.now(), domid: domain.domid, vcpu: vcpu.id, name, args, result });
}
