/**
 * Shifts and rotates (SDM vol. 2: SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD).
 *
 * The count is masked to 5 bits (6 for 64-bit operands). A count of zero changes no flag, but a 32-bit destination register's
 * upper half is cleared even then. OF is defined for a count of one only; the one-bit formula is used for all counts.
 * Counts given as immediates are static (`imm: true`), so the same formulas fold to constants there.
 */
import { c32, c64, i32, i64, isConst, select, type Expr } from "../../wasm/expr.js";
import { CC, CF, OF } from "../flags.js";
import { at, bitAt, define, isImm, low32, msb, sext, sizeOf, toI64, trunc, widen, type Emit } from "./common.js";
import type { OpTable, Sem } from "./context.js";

/** New value (bound) and the new CF and OF (i32 0/1). */
interface Result {
  r: Expr;
  cf: Expr;
  of: Expr;
}
/** `a` bound; `c` the masked count as i32, constant or bound. Results for c = 0 need only have the right `r`. */
type Shift = (x: Sem, size: number, a: Expr, c: Expr) => Result;

/** Masked count (constant or bound), or −1 for a static zero. */
function count(x: Sem, operand: number, size: number): Expr | undefined {
  const mask = size === 8 ? 63 : 31;
  if (isImm(x, operand)) {
    const c = x.insn.imm & mask;
    return c === 0 ? undefined : c32(c);
  }
  return x.let(i32.and(low32(sizeOf(x, operand), x.read(operand)), c32(mask)));
}

const shl: Shift = (x, size, a, c) => {
  const n = size * 8;
  if (size <= 2) {
    const w = x.let(i32.shl(a, c));
    const r = x.let(trunc(size, w));
    const cf = i32.and(i32.shr_u(w, c32(n)), c32(1));
    return { r, cf, of: i32.xor(msb(size, r), cf) };
  }
  const r = x.let(at(size).shl(a, widen(size, c)));
  const cf = bitAt(size, a, i32.sub(c32(n), c));
  return { r, cf, of: i32.xor(msb(size, r), cf) };
};
const shr: Shift = (x, size, a, c) => ({
  r: x.let(at(size).shr_u(a, widen(size, c))),
  cf: bitAt(size, a, i32.sub(c, c32(1))),
  of: msb(size, a),
});
const sar: Shift = (x, size, a, c) => {
  const s = x.let(sext(size, a));
  return {
    r: x.let(trunc(size, at(size).shr_s(s, widen(size, c)))),
    cf: size === 8 ? bitAt(8, s, i32.sub(c, c32(1))) : i32.and(i32.shr_s(s, i32.sub(c, c32(1))), c32(1)),
    of: c32(0),
  };
};

function shiftOp(f: Shift): Emit {
  return (x) => {
    const size = sizeOf(x, 0);
    const dst = x.rmw(0);
    const c = count(x, 1, size);
    if (!c) {
      dst.commit(dst.value);
      return;
    }
    finishShift(x, size, dst.commit.bind(dst), c, f(x, size, dst.value, c));
  };
}
function finishShift(x: Sem, size: number, commit: (e: Expr) => void, c: Expr, { r, cf, of }: Result): void {
  commit(r);
  const values = { a: widen(size, cf), b: widen(size, of), r };
  if (isConst(c)) x.flags(CC.RES, size, values);
  else x.flagsIf(c, CC.RES, size, values);
}

/** Copies of a narrow value side by side, so that a 32-bit rotation rotates it. */
function repeat(size: number, a: Expr): Expr {
  return size === 1 ? i32.mul(a, c32(0x01010101)) : size === 2 ? i32.mul(a, c32(0x00010001)) : a;
}
const rol: Shift = (x, size, a, c) => {
  const r = x.let(trunc(size, at(size).rotl(repeat(size, a), widen(size, c))));
  const cf = i32.and(low32(size, r), c32(1));
  return { r, cf, of: i32.xor(msb(size, r), cf) };
};
/** Right rotations: OF is the exclusive or of the result's two top bits. */
const topTwo = (size: number, r: Expr): Expr => i32.xor(msb(size, r), bitAt(size, r, c32(size * 8 - 2)));
const ror: Shift = (x, size, a, c) => {
  const r = x.let(trunc(size, at(size).rotr(repeat(size, a), widen(size, c))));
  return { r, cf: msb(size, r), of: topTwo(size, r) };
};

/** Through-carry rotations of up to 32 bits: CF above the value in an i64 of n + 1 used bits. */
function rcNarrow(x: Sem, size: number, a: Expr, c: Expr, left: boolean): Result {
  const n = size * 8;
  const v = x.let(i64.or(i64.extend_u(a), i64.shl(i64.extend_u(x.cf()), c64(n))));
  const c1 = i64.extend_u(c);
  const c2 = i64.extend_u(i32.sub(c32(n + 1), c));
  const w = x.let(left ? i64.or(i64.shl(v, c1), i64.shr_u(v, c2)) : i64.or(i64.shr_u(v, c1), i64.shl(v, c2)));
  const r = x.let(trunc(size, i32.wrap(w)));
  const cf = bitAt(8, w, c32(n));
  return { r, cf, of: left ? i32.xor(msb(size, r), cf) : topTwo(size, r) };
}
function rcWide(x: Sem, a: Expr, c: Expr, left: boolean): Result {
  const carry = x.let(i64.extend_u(x.cf()));
  const c1 = i64.extend_u(c);
  const back = i64.extend_u(i32.sub(c32(64), c));
  const less = i64.extend_u(i32.sub(c, c32(1)));
  const turned = left
    ? i64.or(i64.or(i64.shl(a, c1), i64.shl(carry, less)), i64.shr_u(i64.shr_u(a, c64(1)), back))
    : i64.or(i64.or(i64.shr_u(a, c1), i64.shl(carry, back)), i64.shl(i64.shl(a, c64(1)), back));
  const r = x.let(isConst(c) ? turned : select(c, turned, a));
  const cf = bitAt(8, a, left ? i32.sub(c32(64), c) : i32.sub(c, c32(1)));
  return { r, cf, of: left ? i32.xor(msb(8, r), cf) : topTwo(8, r) };
}
const rc =
  (left: boolean): Shift =>
  (x, size, a, c) =>
    size === 8 ? rcWide(x, a, c, left) : rcNarrow(x, size, a, c, left);

/** Rotations change CF and OF alone. */
function rotateOp(f: Shift, throughCarry: boolean): Emit {
  return (x) => {
    const size = sizeOf(x, 0);
    const dst = x.rmw(0);
    let c = count(x, 1, size);
    if (c && throughCarry && size <= 2) {
      const n = size * 8 + 1;
      c = isConst(c) ? c32(c.lo % n) : x.let(i32.rem_u(c, c32(n)));
    }
    if (!c || (isConst(c) && c.lo === 0)) {
      dst.commit(dst.value);
      return;
    }
    const { r, cf, of } = f(x, size, dst.value, c);
    dst.commit(r);
    const bits = i32.or(cf, i32.shl(of, c32(11)));
    const others = c32(~(CF | OF));
    if (isConst(c)) {
      x.setFlagsImage(i32.or(i32.and(x.flagsImage(), others), bits));
      return;
    }
    const old = x.let(x.flagsImage());
    x.setFlagsImage(select(c, i32.or(i32.and(old, others), bits), old));
  };
}

/** Double shifts. A 16-bit operand with a count above 16 is undefined; as on processors, the destination comes round again. */
function doubleShift(left: boolean): Emit {
  return (x) => {
    const size = sizeOf(x, 0);
    const dst = x.rmw(0);
    const a = dst.value;
    const b = x.let(x.read(1));
    const c = count(x, 2, size);
    if (!c) {
      dst.commit(a);
      return;
    }
    const c1 = i64.extend_u(c);
    let r: Expr;
    if (size === 8) {
      const back = i64.extend_u(i32.sub(c32(63), c));
      r = left
        ? i64.or(i64.shl(a, c1), i64.shr_u(i64.shr_u(b, c64(1)), back))
        : i64.or(i64.shr_u(a, c1), i64.shl(i64.shl(b, c64(1)), back));
    } else if (size === 4) {
      const pair = (hi: Expr, lo: Expr): Expr => i64.or(i64.shl(i64.extend_u(hi), c64(32)), i64.extend_u(lo));
      r = left ? i32.wrap(i64.shr_u(i64.shl(pair(a, b), c1), c64(32))) : i32.wrap(i64.shr_u(pair(b, a), c1));
    } else {
      const w = toI64(2, a);
      const three = i64.or(i64.or(i64.shl(w, c64(32)), i64.shl(toI64(2, b), c64(16))), w);
      r = trunc(2, i32.wrap(left ? i64.shr_u(i64.shl(three, c1), c64(32)) : i64.shr_u(three, c1)));
    }
    r = x.let(r);
    // For 16-bit operands and counts above 16, CF is undefined like the rest.
    const cf = bitAt(size, a, left ? i32.sub(c32(size * 8), c) : i32.sub(c, c32(1)));
    finishShift(x, size, dst.commit.bind(dst), c, { r, cf, of: i32.xor(msb(size, r), msb(size, a)) });
  };
}

export function register(ops: OpTable): void {
  const imm = { imm: true };
  define(ops, "shl sal", shiftOp(shl), imm);
  define(ops, "shr", shiftOp(shr), imm);
  define(ops, "sar", shiftOp(sar), imm);
  define(ops, "rol", rotateOp(rol, false), imm);
  define(ops, "ror", rotateOp(ror, false), imm);
  define(ops, "rcl", rotateOp(rc(true), true), imm);
  define(ops, "rcr", rotateOp(rc(false), true), imm);
  define(ops, "shld", doubleShift(true), imm);
  define(ops, "shrd", doubleShift(false), imm);
}
