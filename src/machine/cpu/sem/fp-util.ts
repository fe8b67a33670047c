/** What the MMX, SSE and x87 emitters share: operand access by kind, constants, shuffles, calls that may raise. */
import { c128, c32, i32, i64, shuffle, v, type Expr } from "../../wasm/expr.js";
import { FSW, MXCSR, SCRATCH } from "../../layout.js";
import { K } from "../insn.js";
import type { OpTable, Sem } from "./context.js";

/** Register `emit` under `op`, behind the #NM check that every instruction of these units has. */
export function def(ops: OpTable, op: string, emit: (x: Sem) => void, imm = false): void {
  const guarded = (x: Sem): void => {
    if (!x.fpuAvailable()) return;
    if (waitsBeforeMemory(x)) x.raiseIf(i32.and(at32(FSW), c32(0x80)), 16);
    emit(x);
  };
  ops.set(op, imm ? { emit: guarded, imm: true } : { emit: guarded });
}

/**
 * #MF for a pending x87 exception comes before the memory operand is touched. Helpers and `mmxEnter` look too, but only after the load
 * that the emitter makes; those that store do it themselves.
 */
function waitsBeforeMemory(x: Sem): boolean {
  const { op, ops } = x.insn;
  return ops.some((o) => o.kind === K.MEM) && (/^f(?!n|x|i?st)/.test(op) || ops.some((o) => o.kind === K.MMX));
}

export function kind(x: Sem, i: number): number {
  return x.insn.ops[i]?.kind ?? 0;
}
export function isMem(x: Sem, i: number): boolean {
  return kind(x, i) === K.MEM;
}
export function isMmx(x: Sem, i: number): boolean {
  return kind(x, i) === K.MMX;
}

/** Source operand i as 128 bits; legacy SSE wants memory aligned. */
export function src128(x: Sem, i: number): Expr {
  return x.let(x.read128(i, true));
}
/** Low 64 bits of operand i: XMM, MMX or 8 bytes of memory (no alignment rule). */
export function src64(x: Sem, i: number): Expr {
  const k = kind(x, i);
  if (k === K.XMM) return x.let(v.i64x2_extract(x.readXmm(i), 0));
  if (k === K.MMX) return x.let(x.readMmx(i));
  if (k === K.MEM) return x.let(x.load(x.ea(), 8));
  return x.let(x.read(i));
}
/** Low 32 bits of operand i: XMM or 4 bytes of memory. */
export function src32(x: Sem, i: number): Expr {
  const k = kind(x, i);
  if (k === K.XMM) return x.let(v.i32x4_extract(x.readXmm(i), 0));
  if (k === K.MMX) return x.let(i32.wrap(x.readMmx(i)));
  if (k === K.MEM) return x.let(x.load(x.ea(), 4));
  return x.let(x.read(i));
}
/** Low 16 bits of operand i: XMM or 2 bytes of memory (i32). */
export function src16(x: Sem, i: number): Expr {
  const k = kind(x, i);
  if (k === K.XMM) return x.let(v.i16x8_extract_u(x.readXmm(i), 0));
  if (k === K.MEM) return x.let(x.load(x.ea(), 2));
  return x.let(i32.and(x.read(i), c32(0xffff)));
}

const ZERO_BYTES = new Uint8Array(16);
export const zero128 = (): Expr => c128(ZERO_BYTES);
/** A 128-bit constant that repeats `bytes`. */
export function rep128(...bytes: number[]): Expr {
  const out = new Uint8Array(16);
  for (let i = 0; i < 16; i++) out[i] = bytes[i % bytes.length] as number;
  return c128(out);
}
/** Byte pattern of a shuffle by lanes of `size` bytes (lanes of the second vector continue the numbering of the first). */
export function lanes(size: number, ...l: number[]): Uint8Array {
  const out = new Uint8Array(16);
  let at = 0;
  for (const n of l) for (let b = 0; b < size; b++) out[at++] = n * size + b;
  return out;
}
export function shuf(a: Expr, b: Expr, size: number, ...l: number[]): Expr {
  return shuffle(a, b, lanes(size, ...l));
}
/** An i64 as the low half of a vector, upper half zero. */
export function low(e: Expr): Expr {
  return v.i64x2_replace(zero128(), 0, e);
}
/** An i32 as the low quarter of a vector, the rest zero. */
export function low32(e: Expr): Expr {
  return v.i32x4_replace(zero128(), 0, e);
}
export function lo64(e: Expr): Expr {
  return v.i64x2_extract(e, 0);
}

/** An absolute location in the state block. */
export const at32 = (addr: number): Expr => i32.load(c32(0), addr);
export const at64 = (addr: number): Expr => i64.load(c32(0), addr);
export const at128 = (addr: number): Expr => v.load(c32(0), addr);
export const mxcsr = (): Expr => at32(MXCSR);
/** Where a helper leaves its result (v128, i64 or i32). */
export const RESULT = SCRATCH;
export const result128 = (): Expr => at128(RESULT);
export const result64 = (): Expr => at64(RESULT);
export const result32 = (): Expr => at32(RESULT);

/** Call a helper that returns a status and leave the engine if it is not 0. */
export function callStatus(x: Sem, name: string, args: readonly Expr[]): void {
  x.checkStatus(x.let(x.helper(name, args)));
}

/** Enter MMX: pending x87 exception raised, TOP = 0, all tags valid. After the loads, before the write. */
export function mmxEnter(x: Sem): void {
  callStatus(x, "mmxEnter", []);
}
/** Write MMX operand i. */
export function putMmx(x: Sem, i: number, e: Expr): void {
  x.writeMmx(i, e);
}

export function immByte(x: Sem): number {
  return x.insn.imm & 0xff;
}
/** Low 32 bits of general register operand i, whatever size the decoder gave it. */
export function gpr32(x: Sem, i: number): Expr {
  const e = x.read(i);
  return x.insn.ops[i]?.size === 8 ? i32.wrap(e) : e;
}
/** Write an i32 to operand 0 of a GPR/memory destination: memory at its size, a register zero-extended to its 4 or 8 bytes. */
export function putGpr(x: Sem, i: number, e: Expr): void {
  x.write(i, x.insn.ops[i]?.size === 8 ? i64.extend_u(e) : e);
}
