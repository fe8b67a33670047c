/**
 * SSE floating point off the fast path: exact results and MXCSR flags, one element at a time, and the vector helpers without a
 * WebAssembly equivalent. Results go to FPS_RESULT; a status tells whether an unmasked exception was raised (SDM vol. 1, 11.5).
 */
import { FPS_ARGS, FPS_CR4, FPS_FLAGS, FPS_MXCSR, FPS_RESULT, fpRaise } from "./fpstate";
import { exact32, exact64, result32, result64 } from "./exact";
import {
  DE, FINITE, IE, INF, PE, QNAN, R_FINITE, R_INF, R_INVALID, R_ZERO, RZ, SNAN, UE, ZERO,
  aC, aD, aM, aS, aE, bC, bD, compareAB, copyAB, fl, fromInteger, intInexact, intMag, opAdd, opDiv, opMul, opSqrt, pack32, pack64,
  raiseFlags, rc, rS, setEnv, setR, swapAB, toInteger, unpack32, unpack64,
} from "./softfloat";

const INDEF32: u32 = 0xffc00000;
const INDEF64: u64 = 0xfff8000000000000;

// Operations.
const ADD = 0;
const MUL = 1;
const SUB = 2;
const DIV = 3;
const MIN = 4;
const MAX = 5;
const SQRT = 6;

function begin(): void {
  const m = load<u32>(FPS_MXCSR);
  const masked = (m >> 7) & 0x3f;
  // Flush-to-zero acts only while underflow is masked.
  setEnv((m >> 13) & 3, masked, (m & 0x8000) != 0 && (masked & UE) != 0, (m & 0x40) != 0);
}
/** Fold the flags into MXCSR; an unmasked one raises #XM (#UD without CR4.OSXMMEXCPT). */
function end(): i32 {
  const m = load<u32>(FPS_MXCSR);
  const masked = (m >> 7) & 0x3f;
  let f = fl;
  // An unmasked pre-computation exception (invalid, denormal, divide by zero) keeps the others from being looked for.
  if ((f & 7 & ~masked) != 0) f &= 7;
  store<u32>(FPS_MXCSR, m | f);
  if ((f & ~masked) == 0) return 0;
  return fpRaise((load<u32>(FPS_CR4) & 0x400) != 0 ? 19 : 6, -1);
}

/** NaN operands of a two-operand operation: the first one quieted; the caller has unpacked into A and B. */
// @ts-ignore: decorator
@inline
function noteNan(): void {
  if (aC == SNAN || bC == SNAN) raiseFlags(IE);
}
// @ts-ignore: decorator
@inline
function noteDenormal(): void {
  if (aD || bD) raiseFlags(DE);
}

function arith(op: i32): i32 {
  let k: i32;
  if (op == ADD) k = opAdd(false);
  else if (op == SUB) k = opAdd(true);
  else if (op == MUL) k = opMul();
  else if (op == DIV) k = opDiv();
  else k = opSqrt();
  if (k == R_INVALID) raiseFlags(IE);
  // A division by zero outranks the denormal operand it is a division of.
  else if (op != DIV || bC != ZERO || aC != FINITE) noteDenormal();
  return k;
}
function specials32(k: i32): u32 {
  if (k == R_ZERO) return rS << 31;
  if (k == R_INF) return (rS << 31) | 0x7f800000;
  return INDEF32;
}
function specials64(k: i32): u64 {
  if (k == R_ZERO) return (<u64>rS) << 63;
  if (k == R_INF) return ((<u64>rS) << 63) | 0x7ff0000000000000;
  return INDEF64;
}

function op32(op: i32, a: u32, b: u32): u32 {
  if (op == SQRT) {
    unpack32(b);
    copyAB();
    if (aC >= QNAN) {
      noteNan();
      return b | 0x400000;
    }
  } else {
    unpack32(b);
    copyAB();
    unpack32(a);
    if (aC >= QNAN || bC >= QNAN) {
      if (op == MIN || op == MAX) {
        raiseFlags(IE);
        return bC == ZERO ? b & 0x80000000 : b;
      }
      noteNan();
      return (aC >= QNAN ? a : b) | 0x400000;
    }
    if (op == MIN || op == MAX) {
      noteDenormal();
      const c = compareAB();
      return (op == MIN ? c < 0 : c > 0) ? (aC == ZERO ? a & 0x80000000 : a) : bC == ZERO ? b & 0x80000000 : b;
    }
  }
  const k = arith(op);
  return k == R_FINITE ? pack32() : specials32(k);
}
function op64(op: i32, a: u64, b: u64): u64 {
  if (op == SQRT) {
    unpack64(b);
    copyAB();
    if (aC >= QNAN) {
      noteNan();
      return b | 0x8000000000000;
    }
  } else {
    unpack64(b);
    copyAB();
    unpack64(a);
    if (aC >= QNAN || bC >= QNAN) {
      if (op == MIN || op == MAX) {
        raiseFlags(IE);
        return bC == ZERO ? b & 0x8000000000000000 : b;
      }
      noteNan();
      return (aC >= QNAN ? a : b) | 0x8000000000000;
    }
    if (op == MIN || op == MAX) {
      noteDenormal();
      const c = compareAB();
      return (op == MIN ? c < 0 : c > 0) ? (aC == ZERO ? a & 0x8000000000000000 : a) : bC == ZERO ? b & 0x8000000000000000 : b;
    }
  }
  const k = arith(op);
  return k == R_FINITE ? pack64() : specials64(k);
}

/** Rounding to nearest. */
// @ts-ignore: decorator
@inline
function nearest(): bool {
  return (load<u32>(FPS_MXCSR) & 0x6000) == 0;
}

export function sseOp32(op: i32, a: u32, b: u32): i32 {
  if (nearest() && exact32(op, reinterpret<f32>(a), reinterpret<f32>(b))) {
    store<f32>(FPS_RESULT, result32);
    return 0;
  }
  begin();
  store<u32>(FPS_RESULT, op32(op, a, b));
  return end();
}
export function sseOp64(op: i32, a: u64, b: u64): i32 {
  if (nearest() && exact64(op, reinterpret<f64>(a), reinterpret<f64>(b))) {
    store<f64>(FPS_RESULT, result64);
    return 0;
  }
  begin();
  store<u64>(FPS_RESULT, op64(op, a, b));
  return end();
}
/** One lane of an exact packed operation. */
// @ts-ignore: decorator
@inline
function lane32(op: i32, a: f32, b: f32, at: usize): bool {
  if (!exact32(op, a, b)) return false;
  store<f32>(FPS_RESULT + at, result32);
  return true;
}
// @ts-ignore: decorator
@inline
function lane64(op: i32, a: f64, b: f64, at: usize): bool {
  if (!exact64(op, a, b)) return false;
  store<f64>(FPS_RESULT + at, result64);
  return true;
}

export function sseOpPs(op: i32, a: v128, b: v128): i32 {
  if (
    nearest() && lane32(op, f32x4.extract_lane(a, 0), f32x4.extract_lane(b, 0), 0) &&
    lane32(op, f32x4.extract_lane(a, 1), f32x4.extract_lane(b, 1), 4) &&
    lane32(op, f32x4.extract_lane(a, 2), f32x4.extract_lane(b, 2), 8) &&
    lane32(op, f32x4.extract_lane(a, 3), f32x4.extract_lane(b, 3), 12)
  ) {
    return 0;
  }
  begin();
  store<u32>(FPS_RESULT, op32(op, i32x4.extract_lane(a, 0), i32x4.extract_lane(b, 0)));
  store<u32>(FPS_RESULT, op32(op, i32x4.extract_lane(a, 1), i32x4.extract_lane(b, 1)), 4);
  store<u32>(FPS_RESULT, op32(op, i32x4.extract_lane(a, 2), i32x4.extract_lane(b, 2)), 8);
  store<u32>(FPS_RESULT, op32(op, i32x4.extract_lane(a, 3), i32x4.extract_lane(b, 3)), 12);
  return end();
}
export function sseOpPd(op: i32, a: v128, b: v128): i32 {
  if (
    nearest() && lane64(op, f64x2.extract_lane(a, 0), f64x2.extract_lane(b, 0), 0) &&
    lane64(op, f64x2.extract_lane(a, 1), f64x2.extract_lane(b, 1), 8)
  ) {
    return 0;
  }
  begin();
  store<u64>(FPS_RESULT, op64(op, i64x2.extract_lane(a, 0), i64x2.extract_lane(b, 0)));
  store<u64>(FPS_RESULT, op64(op, i64x2.extract_lane(a, 1), i64x2.extract_lane(b, 1)), 8);
  return end();
}
/** addsub and horizontal forms: each element with its own operation (0 add, 2 sub), operands already arranged. */
export function sseMixPs(even: i32, odd: i32, a: v128, b: v128): i32 {
  begin();
  store<u32>(FPS_RESULT, op32(even, i32x4.extract_lane(a, 0), i32x4.extract_lane(b, 0)));
  store<u32>(FPS_RESULT, op32(odd, i32x4.extract_lane(a, 1), i32x4.extract_lane(b, 1)), 4);
  store<u32>(FPS_RESULT, op32(even, i32x4.extract_lane(a, 2), i32x4.extract_lane(b, 2)), 8);
  store<u32>(FPS_RESULT, op32(odd, i32x4.extract_lane(a, 3), i32x4.extract_lane(b, 3)), 12);
  return end();
}
export function sseMixPd(even: i32, odd: i32, a: v128, b: v128): i32 {
  begin();
  store<u64>(FPS_RESULT, op64(even, i64x2.extract_lane(a, 0), i64x2.extract_lane(b, 0)));
  store<u64>(FPS_RESULT, op64(odd, i64x2.extract_lane(a, 1), i64x2.extract_lane(b, 1)), 8);
  return end();
}

// ---------------------------------------------------------------------------------------------- comparison

/** Relation of A and B: 0 less, 1 equal, 2 greater, 3 unordered; `quiet` = QNaNs are not invalid. */
function relation(quiet: bool): i32 {
  if (aC >= QNAN || bC >= QNAN) {
    if (!quiet || aC == SNAN || bC == SNAN) raiseFlags(IE);
    return 3;
  }
  noteDenormal();
  return compareAB() + 1;
}
function predicate(pred: i32): bool {
  const p = pred & 3;
  const r = relation(p == 0 || p == 3);
  let t: bool;
  if (p == 0) t = r == 1;
  else if (p == 1) t = r == 0;
  else if (p == 2) t = r <= 1;
  else t = r == 3;
  return (pred & 4) != 0 ? !t : t;
}
function cmp32(pred: i32, a: u32, b: u32): u32 {
  unpack32(b);
  copyAB();
  unpack32(a);
  return predicate(pred) ? 0xffffffff : 0;
}
function cmp64(pred: i32, a: u64, b: u64): u64 {
  unpack64(b);
  copyAB();
  unpack64(a);
  return predicate(pred) ? 0xffffffffffffffff : 0;
}
export function sseCmp32(pred: i32, a: u32, b: u32): i32 {
  begin();
  store<u32>(FPS_RESULT, cmp32(pred, a, b));
  return end();
}
export function sseCmp64(pred: i32, a: u64, b: u64): i32 {
  begin();
  store<u64>(FPS_RESULT, cmp64(pred, a, b));
  return end();
}
export function sseCmpPs(pred: i32, a: v128, b: v128): i32 {
  begin();
  store<u32>(FPS_RESULT, cmp32(pred, i32x4.extract_lane(a, 0), i32x4.extract_lane(b, 0)));
  store<u32>(FPS_RESULT, cmp32(pred, i32x4.extract_lane(a, 1), i32x4.extract_lane(b, 1)), 4);
  store<u32>(FPS_RESULT, cmp32(pred, i32x4.extract_lane(a, 2), i32x4.extract_lane(b, 2)), 8);
  store<u32>(FPS_RESULT, cmp32(pred, i32x4.extract_lane(a, 3), i32x4.extract_lane(b, 3)), 12);
  return end();
}
export function sseCmpPd(pred: i32, a: v128, b: v128): i32 {
  begin();
  store<u64>(FPS_RESULT, cmp64(pred, i64x2.extract_lane(a, 0), i64x2.extract_lane(b, 0)));
  store<u64>(FPS_RESULT, cmp64(pred, i64x2.extract_lane(a, 1), i64x2.extract_lane(b, 1)), 8);
  return end();
}
const IMAGE = memory.data<u32>([0x01, 0x40, 0x00, 0x45]);
/** (u)comiss/(u)comisd: the flags image (CF, PF, ZF) goes to FPS_FLAGS. */
export function sseComi32(quiet: i32, a: u32, b: u32): i32 {
  begin();
  unpack32(b);
  copyAB();
  unpack32(a);
  store<u32>(FPS_FLAGS, load<u32>(IMAGE + ((<usize>relation(quiet != 0)) << 2)));
  return end();
}
export function sseComi64(quiet: i32, a: u64, b: u64): i32 {
  begin();
  unpack64(b);
  copyAB();
  unpack64(a);
  store<u32>(FPS_FLAGS, load<u32>(IMAGE + ((<usize>relation(quiet != 0)) << 2)));
  return end();
}

// ---------------------------------------------------------------------------------------------- conversion

/** A (unpacked) to a signed integer of 32 or 64 bits; out of range or NaN gives the integer indefinite and IE. */
function toInt(bits: i32, mode: u32): i64 {
  const indef: i64 = bits == 64 ? i64.MIN_VALUE : -2147483648;
  if (aC == ZERO) return 0;
  if (aC != FINITE || !toInteger(mode)) {
    raiseFlags(IE);
    return indef;
  }
  const limit: u64 = (<u64>1) << (bits - 1);
  if (aS != 0 ? intMag > limit : intMag >= limit) {
    raiseFlags(IE);
    return indef;
  }
  if (intInexact) raiseFlags(PE);
  return aS != 0 ? 0 - <i64>intMag : <i64>intMag;
}
/** cvt(t)ss2si: `bits` 32 or 64; `truncate` ignores the rounding control. The result is an i64 (sign-extended). */
export function sseToInt32(a: u32, bits: i32, truncate: i32): i32 {
  begin();
  unpack32(a);
  store<i64>(FPS_RESULT, toInt(bits, truncate != 0 ? RZ : rc));
  return end();
}
export function sseToInt64(a: u64, bits: i32, truncate: i32): i32 {
  begin();
  unpack64(a);
  store<i64>(FPS_RESULT, toInt(bits, truncate != 0 ? RZ : rc));
  return end();
}
/** cvt(t)ps2dq. */
export function ssePsToInts(a: v128, truncate: i32): i32 {
  begin();
  const mode = truncate != 0 ? RZ : rc;
  unpack32(i32x4.extract_lane(a, 0));
  store<u32>(FPS_RESULT, <u32>toInt(32, mode));
  unpack32(i32x4.extract_lane(a, 1));
  store<u32>(FPS_RESULT, <u32>toInt(32, mode), 4);
  unpack32(i32x4.extract_lane(a, 2));
  store<u32>(FPS_RESULT, <u32>toInt(32, mode), 8);
  unpack32(i32x4.extract_lane(a, 3));
  store<u32>(FPS_RESULT, <u32>toInt(32, mode), 12);
  return end();
}
/** cvt(t)ps2pi: the two low elements. */
export function ssePs2Pi(a: i64, truncate: i32): i32 {
  begin();
  const mode = truncate != 0 ? RZ : rc;
  unpack32(<u32>a);
  store<u32>(FPS_RESULT, <u32>toInt(32, mode));
  unpack32(<u32>(a >> 32));
  store<u32>(FPS_RESULT, <u32>toInt(32, mode), 4);
  return end();
}
/** cvt(t)pd2dq, cvt(t)pd2pi: two results, upper half zero. */
export function ssePdToInts(a: v128, truncate: i32): i32 {
  begin();
  const mode = truncate != 0 ? RZ : rc;
  unpack64(i64x2.extract_lane(a, 0));
  store<u32>(FPS_RESULT, <u32>toInt(32, mode));
  unpack64(i64x2.extract_lane(a, 1));
  store<u32>(FPS_RESULT, <u32>toInt(32, mode), 4);
  store<u64>(FPS_RESULT, 0, 8);
  return end();
}
function int32f(x: i64): u32 {
  return fromInteger(x) == R_ZERO ? 0 : pack32();
}
function int64f(x: i64): u64 {
  return fromInteger(x) == R_ZERO ? 0 : pack64();
}
/** cvtsi2ss, cvtsi2sd (sign-extended operand). */
export function sseFromInt32(x: i64): i32 {
  begin();
  store<u32>(FPS_RESULT, int32f(x));
  return end();
}
export function sseFromInt64(x: i64): i32 {
  begin();
  store<u64>(FPS_RESULT, int64f(x));
  return end();
}
/** cvtdq2ps; cvtpi2ps uses the low half. */
export function sseIntsToPs(a: v128): i32 {
  begin();
  store<u32>(FPS_RESULT, int32f(<i64>i32x4.extract_lane(a, 0)));
  store<u32>(FPS_RESULT, int32f(<i64>i32x4.extract_lane(a, 1)), 4);
  store<u32>(FPS_RESULT, int32f(<i64>i32x4.extract_lane(a, 2)), 8);
  store<u32>(FPS_RESULT, int32f(<i64>i32x4.extract_lane(a, 3)), 12);
  return end();
}
function widen(a: u32): u64 {
  unpack32(a);
  if (aC >= QNAN) {
    if (aC == SNAN) raiseFlags(IE);
    return ((<u64>aS) << 63) | 0x7ff8000000000000 | ((aM << 1) >> 12);
  }
  if (aC == ZERO) return (<u64>aS) << 63;
  if (aC == INF) return ((<u64>aS) << 63) | 0x7ff0000000000000;
  if (aD) raiseFlags(DE);
  return ((<u64>aS) << 63) | ((<u64>(aE + 1023)) << 52) | ((aM << 1) >> 12);
}
function narrow(a: u64): u32 {
  unpack64(a);
  if (aC >= QNAN) {
    if (aC == SNAN) raiseFlags(IE);
    return (aS << 31) | 0x7fc00000 | <u32>((aM << 1) >> 41);
  }
  if (aC == ZERO) return aS << 31;
  if (aC == INF) return (aS << 31) | 0x7f800000;
  if (aD) raiseFlags(DE);
  setR(aS, aE, aM, 0);
  return pack32();
}
export function sseSs2Sd(a: u32): i32 {
  begin();
  store<u64>(FPS_RESULT, widen(a));
  return end();
}
export function sseSd2Ss(a: u64): i32 {
  begin();
  store<u32>(FPS_RESULT, narrow(a));
  return end();
}
export function ssePs2Pd(a: i64): i32 {
  begin();
  store<u64>(FPS_RESULT, widen(<u32>a));
  store<u64>(FPS_RESULT, widen(<u32>(a >> 32)), 8);
  return end();
}
export function ssePd2Ps(a: v128): i32 {
  begin();
  store<u32>(FPS_RESULT, narrow(i64x2.extract_lane(a, 0)));
  store<u32>(FPS_RESULT, narrow(i64x2.extract_lane(a, 1)), 4);
  store<u64>(FPS_RESULT, 0, 8);
  return end();
}

// ---------------------------------------------------------------------------------------------- rounding (SSE4.1)

/** imm: bits 0–1 rounding, bit 2 use MXCSR's, bit 3 suppress PE. */
function round32(a: u32, imm: i32): u32 {
  unpack32(a);
  if (aC == SNAN) {
    raiseFlags(IE);
    return a | 0x400000;
  }
  if (aC == ZERO) return aS << 31;
  if (aC != FINITE || aE >= 23) return a;
  toInteger((imm & 4) != 0 ? rc : <u32>imm & 3);
  if (intInexact && (imm & 8) == 0) raiseFlags(PE);
  const s = aS;
  if (fromInteger(<i64>intMag) == R_ZERO) return s << 31;
  return pack32() | (s << 31);
}
function round64(a: u64, imm: i32): u64 {
  unpack64(a);
  if (aC == SNAN) {
    raiseFlags(IE);
    return a | 0x8000000000000;
  }
  if (aC == ZERO) return (<u64>aS) << 63;
  if (aC != FINITE || aE >= 52) return a;
  toInteger((imm & 4) != 0 ? rc : <u32>imm & 3);
  if (intInexact && (imm & 8) == 0) raiseFlags(PE);
  const s = (<u64>aS) << 63;
  if (fromInteger(<i64>intMag) == R_ZERO) return s;
  return pack64() | s;
}
export function sseRound32(a: u32, imm: i32): i32 {
  begin();
  store<u32>(FPS_RESULT, round32(a, imm));
  return end();
}
export function sseRound64(a: u64, imm: i32): i32 {
  begin();
  store<u64>(FPS_RESULT, round64(a, imm));
  return end();
}
export function sseRoundPs(a: v128, imm: i32): i32 {
  begin();
  store<u32>(FPS_RESULT, round32(i32x4.extract_lane(a, 0), imm));
  store<u32>(FPS_RESULT, round32(i32x4.extract_lane(a, 1), imm), 4);
  store<u32>(FPS_RESULT, round32(i32x4.extract_lane(a, 2), imm), 8);
  store<u32>(FPS_RESULT, round32(i32x4.extract_lane(a, 3), imm), 12);
  return end();
}
export function sseRoundPd(a: v128, imm: i32): i32 {
  begin();
  store<u64>(FPS_RESULT, round64(i64x2.extract_lane(a, 0), imm));
  store<u64>(FPS_RESULT, round64(i64x2.extract_lane(a, 1), imm), 8);
  return end();
}

// ---------------------------------------------------------------------------------------------- dot products (SSE4.1)

/** Products (exceptions collected), then sums of pairs, each step rounded and its unmasked exceptions reported first. */
export function sseDpps(a: v128, b: v128, imm: i32): i32 {
  begin();
  const p0 = (imm & 16) != 0 ? op32(MUL, i32x4.extract_lane(a, 0), i32x4.extract_lane(b, 0)) : 0;
  const p1 = (imm & 32) != 0 ? op32(MUL, i32x4.extract_lane(a, 1), i32x4.extract_lane(b, 1)) : 0;
  const p2 = (imm & 64) != 0 ? op32(MUL, i32x4.extract_lane(a, 2), i32x4.extract_lane(b, 2)) : 0;
  const p3 = (imm & 128) != 0 ? op32(MUL, i32x4.extract_lane(a, 3), i32x4.extract_lane(b, 3)) : 0;
  let st = end();
  if (st != 0) return st;
  begin();
  const s0 = op32(ADD, p0, p1);
  const s1 = op32(ADD, p2, p3);
  st = end();
  if (st != 0) return st;
  begin();
  const r = op32(ADD, s0, s1);
  store<u32>(FPS_RESULT, (imm & 1) != 0 ? r : 0);
  store<u32>(FPS_RESULT, (imm & 2) != 0 ? r : 0, 4);
  store<u32>(FPS_RESULT, (imm & 4) != 0 ? r : 0, 8);
  store<u32>(FPS_RESULT, (imm & 8) != 0 ? r : 0, 12);
  return end();
}
export function sseDppd(a: v128, b: v128, imm: i32): i32 {
  begin();
  const p0 = (imm & 16) != 0 ? op64(MUL, i64x2.extract_lane(a, 0), i64x2.extract_lane(b, 0)) : 0;
  const p1 = (imm & 32) != 0 ? op64(MUL, i64x2.extract_lane(a, 1), i64x2.extract_lane(b, 1)) : 0;
  const st = end();
  if (st != 0) return st;
  begin();
  const r = op64(ADD, p0, p1);
  store<u64>(FPS_RESULT, (imm & 1) != 0 ? r : 0);
  store<u64>(FPS_RESULT, (imm & 2) != 0 ? r : 0, 8);
  return end();
}

// ---------------------------------------------------------------------------------------------- approximations

/** Keep 12 significant bits (error under 1.5 · 2^−12, as the manual promises; the exact bits differ between real processors). */
function approx(r: f64, sign: u32): u32 {
  const bits = reinterpret<u64>(r);
  const e = <i32>((bits >> 52) & 0x7ff) - 1023;
  const frac = <u32>((bits >> 40) & 0xfff) + 1; // 12 bits and half a step
  const f = (<u32>(e + 127) << 23) + ((frac >> 1) << 12);
  return sign | f;
}
function rcp(a: u32): u32 {
  const s = a & 0x80000000;
  const m = a & 0x7fffffff;
  if (m > 0x7f800000) return a | 0x400000;
  if (m == 0x7f800000) return s;
  if (m < 0x800000) return s | 0x7f800000;
  const r = 1.0 / <f64>reinterpret<f32>(m);
  if (r < 1.1754943508222875e-38) return s;
  return approx(r, s);
}
function rsqrt(a: u32): u32 {
  const s = a & 0x80000000;
  const m = a & 0x7fffffff;
  if (m > 0x7f800000) return a | 0x400000;
  if (m < 0x800000) return s | 0x7f800000;
  if (s != 0) return INDEF32;
  if (m == 0x7f800000) return 0;
  return approx(1.0 / sqrt<f64>(<f64>reinterpret<f32>(m)), 0);
}
export function sseApprox(a: u32, root: i32): u32 {
  return root != 0 ? rsqrt(a) : rcp(a);
}
export function sseApproxPs(a: v128, root: i32): v128 {
  let r = i32x4.splat(sseApprox(i32x4.extract_lane(a, 0), root));
  r = i32x4.replace_lane(r, 1, sseApprox(i32x4.extract_lane(a, 1), root));
  r = i32x4.replace_lane(r, 2, sseApprox(i32x4.extract_lane(a, 2), root));
  return i32x4.replace_lane(r, 3, sseApprox(i32x4.extract_lane(a, 3), root));
}

// ---------------------------------------------------------------------------------------------- strings (SSE4.2)

/** A bit for each byte (words: each of the eight words) of a comparison's result. */
// @ts-ignore: decorator
@inline
function bitsOf(x: v128, words: bool): u32 {
  return words ? <u32>i16x8.bitmask(x) : <u32>i8x16.bitmask(x);
}
/** Element i of the string at `p` in all elements. */
// @ts-ignore: decorator
@inline
function spread(p: usize, i: i32, words: bool): v128 {
  return words ? v128.load16_splat(p + (<usize>i << 1)) : v128.load8_splat(p + i);
}
// @ts-ignore: decorator
@inline
function equalElements(x: v128, y: v128, words: bool): v128 {
  return words ? i16x8.eq(x, y) : i8x16.eq(x, y);
}
/** x ≤ y by elements of the kind that the immediate names. */
function notAbove(x: v128, y: v128, kind: i32): v128 {
  if (kind == 0) return i8x16.le_u(x, y);
  if (kind == 1) return i16x8.le_u(x, y);
  if (kind == 2) return i8x16.le_s(x, y);
  return i16x8.le_s(x, y);
}
/** Elements before the first that is zero. */
// @ts-ignore: decorator
@inline
function implicitLength(x: v128, n: i32, words: bool): i32 {
  return <i32>ctz<u32>(bitsOf(equalElements(x, i64x2.splat(0), words), words) | (<u32>1 << n));
}
/** pcmpXstrX: lengths −1 = implicit. Index in FPS_RESULT or mask in it; flags image in FPS_FLAGS. */
export function ssePcmpstr(a: v128, b: v128, la: i32, lb: i32, imm: i32, index: i32): void {
  const pa: usize = FPS_ARGS;
  v128.store(pa, a);
  const words = (imm & 1) != 0;
  const n: i32 = words ? 8 : 16;
  if (la < 0) la = implicitLength(a, n, words);
  else if (la > n) la = n;
  if (lb < 0) lb = implicitLength(b, n, words);
  else if (lb > n) lb = n;
  const all: u32 = words ? 0xff : 0xffff;
  const inA: u32 = ((<u32>1 << la) - 1) & all;
  const inB: u32 = ((<u32>1 << lb) - 1) & all;
  const agg = (imm >> 2) & 3;
  let res: u32 = 0;
  if (agg == 0) {
    let hits = i64x2.splat(0);
    for (let i = 0; i < la; i++) hits = v128.or(hits, equalElements(b, spread(pa, i, words), words));
    res = bitsOf(hits, words) & inB;
  } else if (agg == 1) {
    let hits = i64x2.splat(0);
    for (let i = 0; i + 1 < la; i += 2)
      hits = v128.or(hits, v128.and(notAbove(spread(pa, i, words), b, imm & 3), notAbove(b, spread(pa, i + 1, words), imm & 3)));
    res = bitsOf(hits, words) & inB;
  } else if (agg == 2) {
    res = (bitsOf(equalElements(a, b, words), words) & inA & inB) | (all & ~(inA | inB));
  } else {
    // What would lie beyond the second string's register counts as equal.
    res = all;
    for (let i = 0; i < la; i++) res &= ((bitsOf(equalElements(b, spread(pa, i, words), words), words) & inB) >> i) | ~(all >> i);
  }
  const pol = (imm >> 4) & 3;
  if (pol == 1) res ^= all;
  else if (pol == 3) res ^= inB;
  let f: u32 = 0;
  if (res != 0) f |= 0x001;
  if (lb < n) f |= 0x040;
  if (la < n) f |= 0x080;
  if ((res & 1) != 0) f |= 0x800;
  store<u32>(FPS_FLAGS, f);
  if (index != 0) {
    store<u32>(FPS_RESULT, res == 0 ? n : (imm & 0x40) != 0 ? 31 - clz<u32>(res) : ctz<u32>(res));
  } else if ((imm & 0x40) == 0) {
    store<u64>(FPS_RESULT, <u64>res);
    store<u64>(FPS_RESULT, 0, 8);
  } else if (n == 16) {
    for (let i = 0; i < 16; i++) store<u8>(FPS_RESULT + i, (res >> i) & 1 ? 0xff : 0);
  } else {
    for (let i = 0; i < 8; i++) store<u16>(FPS_RESULT + (<usize>i << 1), (res >> i) & 1 ? 0xffff : 0);
  }
}
/** ldmxcsr: reserved bits raise #GP(0). */
export function sseLdmxcsr(x: u32): i32 {
  if ((x & 0xffff0000) != 0) return fpRaise(13, 0);
  store<u32>(FPS_MXCSR, x);
  return 0;
}

/** For tests: vector operands at FPS_ARGS and FPS_ARGS + 16. `what`: 0–1 op ps/pd, 2–3 cmp ps/pd, 4–5 mix, 6–7 dot, 8 pcmpstr index, 9 mask. */
export function sseTestVec(what: i32, op: i32, x: i32, y: i32): i32 {
  const a = v128.load(FPS_ARGS),
    b = v128.load(FPS_ARGS + 16);
  switch (what) {
    case 0: return sseOpPs(op, a, b);
    case 1: return sseOpPd(op, a, b);
    case 2: return sseCmpPs(op, a, b);
    case 3: return sseCmpPd(op, a, b);
    case 4: return sseMixPs(op, x, a, b);
    case 5: return sseMixPd(op, x, a, b);
    case 6: return sseDpps(a, b, op);
    case 7: return sseDppd(a, b, op);
    case 8: ssePcmpstr(a, b, x, y, op, 1); return 0;
    case 9: ssePcmpstr(a, b, x, y, op, 0); return 0;
    default: return 0;
  }
}
