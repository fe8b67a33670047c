/**
 * Multiplication and division.
 *
 * 64×64→128 goes by four 32-bit partial products, the low half by one plain multiplication that does not wait for them.
 * CF = OF = "the high half matters"; SF ZF AF PF are undefined and follow the low half. Flags of divisions are all
 * undefined and stay as they were.
 */
import { SCRATCH } from "../../layout.js";
import { c32, c64, i32, i64, type Expr } from "../../wasm/expr.js";
import { CC } from "../flags.js";
import { RAX, RDX } from "../insn.js";
import { define, sext, sizeOf, trunc, widen } from "./common.js";
import type { OpTable, Sem } from "./context.js";

const LOW = c64(-1, 0);
const S32 = c64(32);

/** High half of the unsigned 128-bit product of bound values. */
function highUnsigned(x: Sem, a: Expr, b: Expr): Expr {
  const al = x.let(i64.and(a, LOW));
  const ah = x.let(i64.shr_u(a, S32));
  const bl = x.let(i64.and(b, LOW));
  const bh = x.let(i64.shr_u(b, S32));
  const p1 = x.let(i64.add(i64.mul(ah, bl), i64.shr_u(i64.mul(al, bl), S32)));
  const p2 = i64.add(i64.mul(al, bh), i64.and(p1, LOW));
  return i64.add(i64.add(i64.mul(ah, bh), i64.shr_u(p1, S32)), i64.shr_u(p2, S32));
}

/** High half of the signed product, as one tree without locals: where the flags are dead, nothing of it is computed. */
function highSigned(a: Expr, b: Expr): Expr {
  const al = i64.and(a, LOW);
  const ah = i64.shr_s(a, S32);
  const bl = i64.and(b, LOW);
  const bh = i64.shr_s(b, S32);
  const p1 = i64.add(i64.mul(ah, bl), i64.shr_u(i64.mul(al, bl), S32));
  const p2 = i64.add(i64.mul(al, bh), i64.and(p1, LOW));
  return i64.add(i64.add(i64.mul(ah, bh), i64.shr_s(p1, S32)), i64.shr_s(p2, S32));
}

/** CF = OF = `overflow` (i32 0/1). */
function mulFlags(x: Sem, size: number, r: Expr, overflow: Expr): void {
  const f = widen(size, overflow);
  x.flags(CC.RES, size, { a: f, b: f, r });
}

/** rDX:rAX (AX for bytes) = rAX × operand. */
function mulWide(x: Sem, signed: boolean): void {
  const size = sizeOf(x, 0);
  const b = x.let(x.read(0));
  const a = x.let(x.gprSized(RAX, size));
  if (size === 8) {
    const lo = x.let(i64.mul(a, b));
    const hi = x.let(signed ? highSigned(a, b) : highUnsigned(x, a, b));
    x.setGpr(RAX, lo);
    x.setGpr(RDX, hi);
    mulFlags(x, 8, lo, signed ? i64.ne(hi, i64.shr_s(lo, c64(63))) : i64.ne(hi, c64(0)));
    return;
  }
  if (size === 4) {
    const p = x.let(signed ? i64.mul(i64.extend_s(a), i64.extend_s(b)) : i64.mul(i64.extend_u(a), i64.extend_u(b)));
    const lo = x.let(i32.wrap(p));
    const hi = x.let(i32.wrap(i64.shr_u(p, S32)));
    x.setGprSized(RAX, 4, lo);
    x.setGprSized(RDX, 4, hi);
    mulFlags(x, 4, lo, signed ? i32.ne(hi, i32.shr_s(lo, c32(31))) : i32.ne(hi, c32(0)));
    return;
  }
  const p = x.let(signed ? i32.mul(sext(size, a), sext(size, b)) : i32.mul(a, b));
  const lo = x.let(trunc(size, p));
  if (size === 1) x.setGprSized(RAX, 2, trunc(2, p));
  else {
    x.setGprSized(RAX, 2, lo);
    x.setGprSized(RDX, 2, i32.shr_u(p, c32(16)));
  }
  mulFlags(x, size, lo, i32.ne(p, signed ? sext(size, p) : lo));
}

/** Two- and three-operand `imul`: the product cut to the operand size. */
function imul(x: Sem): void {
  const size = sizeOf(x, 0);
  const first = x.insn.ops.length > 2 ? 1 : 0;
  const b = x.let(x.read(first + 1));
  const a = x.let(x.read(first));
  if (size === 8) {
    const lo = x.let(i64.mul(a, b));
    x.write(0, lo);
    mulFlags(x, 8, lo, i64.ne(highSigned(a, b), i64.shr_s(lo, c64(63))));
    return;
  }
  if (size === 4) {
    const lo = x.let(i32.mul(a, b));
    x.write(0, lo);
    mulFlags(x, 4, lo, i64.ne(i64.mul(i64.extend_s(a), i64.extend_s(b)), i64.extend_s(lo)));
    return;
  }
  const p = x.let(i32.mul(sext(size, a), sext(size, b)));
  const lo = x.let(trunc(size, p));
  x.write(0, lo);
  mulFlags(x, size, lo, i32.ne(p, sext(size, p)));
}

/** #DE (vector 0) on a zero divisor or a quotient that does not fit, before any write. */
function div(x: Sem): void {
  const size = sizeOf(x, 0);
  const d = x.let(x.read(0));
  if (size === 8) {
    const lo = x.let(x.gpr(RAX));
    const hi = x.let(x.gpr(RDX));
    x.raiseIf(i64.ge_u(hi, d), 0);
    const q = x.var("i64");
    x.when(
      i64.eqz(hi),
      () => q.set(i64.div_u(lo, d)),
      () => q.set(x.helper("div128", [hi, lo, d])),
      true,
    );
    // The remainder is below 2^64, so the wrapped difference is exact.
    const r = x.let(i64.sub(lo, i64.mul(q.get(), d)));
    x.setGpr(RAX, q.get());
    x.setGpr(RDX, r);
    return;
  }
  if (size === 4) {
    const n = x.let(i64.or(i64.extend_u(x.gprSized(RAX, 4)), i64.shl(i64.extend_u(x.gprSized(RDX, 4)), S32)));
    const d64 = x.let(i64.extend_u(d));
    // High half not below the divisor: zero divisor or too big a quotient.
    x.raiseIf(i64.ge_u(i64.shr_u(n, S32), d64), 0);
    const q = x.let(i64.div_u(n, d64));
    const r = x.let(i64.sub(n, i64.mul(q, d64)));
    x.setGprSized(RAX, 4, i32.wrap(q));
    x.setGprSized(RDX, 4, i32.wrap(r));
    return;
  }
  x.raiseIf(i32.eqz(d), 0);
  const n = x.let(size === 1 ? x.gprSized(RAX, 2) : i32.or(x.gprSized(RAX, 2), i32.shl(x.gprSized(RDX, 2), c32(16))));
  const q = x.let(i32.div_u(n, d));
  x.raiseIf(i32.gt_u(q, c32(size === 1 ? 0xff : 0xffff)), 0);
  setNarrow(x, size, q, x.let(i32.sub(n, i32.mul(q, d))));
}

function idiv(x: Sem): void {
  const size = sizeOf(x, 0);
  const divisor = x.let(x.read(0));
  if (size === 8) {
    const d = divisor;
    const lo = x.let(x.gpr(RAX));
    const hi = x.let(x.gpr(RDX));
    x.raiseIf(i64.eqz(d), 0);
    const q = x.var("i64");
    x.when(
      i64.eq(hi, i64.shr_s(lo, c64(63))),
      () => {
        x.raiseIf(i32.and(i64.eq(lo, c64(0, -0x80000000)), i64.eq(d, c64(-1))), 0);
        q.set(i64.div_s(lo, d));
      },
      () => {
        x.raiseIf(x.let(x.helper("idiv128", [hi, lo, d])), 0);
        q.set(i64.load(c32(0), SCRATCH));
      },
      true,
    );
    const r = x.let(i64.sub(lo, i64.mul(q.get(), d)));
    x.setGpr(RAX, q.get());
    x.setGpr(RDX, r);
    return;
  }
  if (size === 4) {
    const n = x.let(i64.or(i64.extend_u(x.gprSized(RAX, 4)), i64.shl(i64.extend_u(x.gprSized(RDX, 4)), S32)));
    const d = x.let(i64.extend_s(divisor));
    x.raiseIf(i32.or(i64.eqz(d), i32.and(i64.eq(d, c64(-1)), i64.eq(n, c64(0, -0x80000000)))), 0);
    const q = x.let(i64.div_s(n, d));
    x.raiseIf(i64.ne(q, i64.extend32_s(q)), 0);
    const r = x.let(i64.sub(n, i64.mul(q, d)));
    x.setGprSized(RAX, 4, i32.wrap(q));
    x.setGprSized(RDX, 4, i32.wrap(r));
    return;
  }
  const d = x.let(sext(size, divisor));
  const n = x.let(
    size === 1 ? sext(2, x.gprSized(RAX, 2)) : i32.or(x.gprSized(RAX, 2), i32.shl(x.gprSized(RDX, 2), c32(16))),
  );
  x.raiseIf(i32.or(i32.eqz(d), i32.and(i32.eq(d, c32(-1)), i32.eq(n, c32(-0x80000000)))), 0);
  const q = x.let(i32.div_s(n, d));
  x.raiseIf(i32.ne(q, sext(size, q)), 0);
  setNarrow(x, size, q, x.let(i32.sub(n, i32.mul(q, d))));
}

/** Quotient and remainder to AL and AH, or AX and DX. */
function setNarrow(x: Sem, size: number, q: Expr, r: Expr): void {
  if (size === 1) {
    x.setGprSized(RAX, 2, i32.or(trunc(1, q), i32.shl(trunc(1, r), c32(8))));
    return;
  }
  x.setGprSized(RAX, 2, trunc(2, q));
  x.setGprSized(RDX, 2, trunc(2, r));
}

export function register(ops: OpTable): void {
  define(ops, "mul", (x) => mulWide(x, false));
  define(ops, "imul1", (x) => mulWide(x, true));
  define(ops, "imul", imul);
  define(ops, "div", div);
  define(ops, "idiv", idiv);
}
