/**
 * Small words shared by the integer emitters: arithmetic at an operand's size, conversions, linear addresses, the stack's width.
 *
 * A value "of size s" is an i32 zero-extended from s bytes (s = 1, 2, 4) or an i64 (s = 8), as everywhere in `Sem`.
 */
import { MODE, MODE_SS32 } from "../../layout.js";
import { c32, c64, i32, i64, select, type Expr } from "../../wasm/expr.js";
import { K, RSP } from "../insn.js";
import type { OpDef, OpTable, Sem } from "./context.js";

export type Emit = (x: Sem) => void;

/** The operators for values of this size. */
export const at = (size: number): typeof i32 | typeof i64 => (size === 8 ? i64 : i32);

export const lit = (size: number, value: number): Expr => (size === 8 ? c64(value) : c32(value));

/** Cut a computed i32 back to the size. */
export function trunc(size: number, e: Expr): Expr {
  return size === 1 ? i32.and(e, c32(0xff)) : size === 2 ? i32.and(e, c32(0xffff)) : e;
}

/** Sign-extend a value of 1 or 2 bytes to 32 bits. */
export function sext(size: number, e: Expr): Expr {
  return size === 1 ? i32.extend8_s(e) : size === 2 ? i32.extend16_s(e) : e;
}

export const toI64 = (size: number, e: Expr): Expr => (size === 8 ? e : i64.extend_u(e));
export const toI64s = (size: number, e: Expr): Expr => (size === 8 ? e : i64.extend_s(sext(size, e)));
export const fromI64 = (size: number, e: Expr): Expr => (size === 8 ? e : trunc(size, i32.wrap(e)));
/** The low 32 bits as i32. */
export const low32 = (size: number, e: Expr): Expr => (size === 8 ? i32.wrap(e) : e);
/** An i32 (a 0/1, or a small count) as a value of the size's type. */
export const widen = (size: number, e: Expr): Expr => (size === 8 ? i64.extend_u(e) : e);

/** From one size to another, zero- or sign-extending. */
export function convert(e: Expr, from: number, to: number, signed: boolean): Expr {
  if (to === 8) return signed ? toI64s(from, e) : toI64(from, e);
  return signed ? trunc(to, sext(from, low32(from, e))) : trunc(to, low32(from, e));
}

/** Bit `index` (i32 expression, below the width) of a value, as i32 0 or 1. */
export function bitAt(size: number, e: Expr, index: Expr): Expr {
  return size === 8
    ? i32.wrap(i64.and(i64.shr_u(e, i64.extend_u(index)), c64(1)))
    : i32.and(i32.shr_u(e, index), c32(1));
}

/** Most significant bit, as i32 0 or 1. */
export function msb(size: number, e: Expr): Expr {
  if (size === 8) return i32.wrap(i64.shr_u(e, c64(63)));
  const top = i32.shr_u(e, c32(size * 8 - 1));
  return size === 4 ? top : i32.and(top, c32(1));
}

/** Size and kinds of operands; absent operands have size 0 and kind 0. */
export const sizeOf = (x: Sem, i: number): number => x.insn.ops[i]?.size ?? 0;
export const isMem = (x: Sem, i: number): boolean => x.insn.ops[i]?.kind === K.MEM;
export const isImm = (x: Sem, i: number): boolean => x.insn.ops[i]?.kind === K.IMM;

/** Linear address of an offset in a segment: outside 64-bit code it wraps at 4 GiB. */
export function linear(x: Sem, seg: number, offset: Expr): Expr {
  return wrapLinear(x, i64.add(x.segBase(seg), offset));
}
export function wrapLinear(x: Sem, address: Expr): Expr {
  return x.insn.bits === 64 ? address : i64.and(address, c64(-1, 0));
}

/** i32 load from the state block. */
export const state32 = (address: number): Expr => i32.load(c32(0), address);

/**
 * The stack pointer where `push` and `pop` do not fit (several slots, or a fault must be possible before rSP moves).
 * Outside 64-bit code the width is SS.B, known only at run time here.
 */
export interface Stack {
  /** rSP before the instruction. */
  readonly old: Expr;
  /** An offset cut to the stack's width. */
  wrap(offset: Expr): Expr;
  /** Set rSP at the stack's width. */
  set(offset: Expr): void;
}
export function stack(x: Sem): Stack {
  const old = x.let(x.gpr(RSP));
  if (x.insn.bits === 64) return { old, wrap: (e) => e, set: (e) => x.setGpr(RSP, e) };
  const mask = x.let(select(i32.and(state32(MODE), c32(MODE_SS32)), c64(-1, 0), c64(0xffff)));
  const keep = i64.xor(mask, c64(-1, 0));
  return {
    old,
    wrap: (e) => i64.and(e, mask),
    set: (e) => x.setGpr(RSP, i64.or(i64.and(i64.and(old, c64(-1, 0)), keep), i64.and(e, mask))),
  };
}

/** #GP(0) before anything is written, if a near target is not canonical. */
export function checkCanonical(x: Sem, target: Expr): void {
  if (x.insn.bits !== 64) return;
  x.raiseIf(i64.ne(i64.shr_s(i64.shl(target, c64(16)), c64(16)), target), 13, 0);
}

export function define(ops: OpTable, names: string, emit: Emit, extra: Omit<OpDef, "emit"> = {}): void {
  for (const name of names.split(" ")) ops.set(name, { emit, ...extra });
}
