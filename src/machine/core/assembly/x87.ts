/**
 * The x87 unit: registers, stack, control and status words, and every instruction but the transcendental ones (x87trans.ts).
 *
 * Each exported instruction returns a status: 0 done, 1 leave the engine (a fault is recorded). Unmasked exceptions only set ES
 * and B; the next waiting instruction raises #MF (`begin`). An unmasked invalid, denormal or zero-divide leaves operands and
 * stack as they were; an unmasked overflow or underflow delivers the scaled result to a register, and stores nothing to memory
 * (SDM vol. 1, 8.5).
 */
import { commitW, translateR, translateW, whole } from "./mmu";
import { FPS_FCW, FPS_FDP, FPS_FIP, FPS_FLAGS, FPS_FOP, FPS_FPR, FPS_FSW, FPS_FTW, FPS_RESULT, fpRaise } from "./fpstate";
import {
  DE, FINITE, IE, INF, OE, PE, QNAN, R_FINITE, R_INF, R_INVALID, R_ZERO, RD, RN, RU, RZ, SNAN, UE, UNSUP, ZE, ZERO,
  aC, aD, aE, aM, aS, bC, bD, bE, bM, bS, compareAB, copyAB, fl, fromInteger, intInexact, intMag, masks, opAdd, opDiv, opMul, opSqrt,
  dropFlags, pack32, pack64, pack80, raiseFlags, rc, rE, rH, rL, rS, setA, setB, setEnv, setR, setUp, swapAB, toInteger, unpack32, unpack64, unpack80, up,
} from "./softfloat";

const SF: u32 = 0x40;
const C0: u32 = 0x100;
const C1: u32 = 0x200;
const C2: u32 = 0x400;
const C3: u32 = 0x4000;
const CCS: u32 = 0x4700;
export const INDEF_M: u64 = 0xc000000000000000;
export const INDEF_SE: u32 = 0xffff;

/** Precision control as bits; stack fault and C1 of the instruction at hand. */
export let prec: i32 = 64;
let sf: u32 = 0;
let c1: bool = false;
/** The result of an operation: mantissa and sign-exponent. */
export let oM: u64 = 0;
export let oSE: u32 = 0;
export function setOut(m: u64, se: u32): void {
  oM = m;
  oSE = se;
}

// ---------------------------------------------------------------------------------------------- registers and stack

// @ts-ignore: decorator
@inline
export function slot(i: i32): usize {
  return FPS_FPR + (<usize>(((load<u32>(FPS_FSW) >> 11) + i) & 7) << 4);
}
// @ts-ignore: decorator
@inline
export function valid(i: i32): bool {
  return ((load<u32>(FPS_FTW) >> (((load<u32>(FPS_FSW) >> 11) + i) & 7)) & 1) != 0;
}
export function put(i: i32, m: u64, se: u32): void {
  const p = slot(i);
  store<u64>(p, m);
  store<u16>(p, <u16>se, 8);
  store<u32>(FPS_FTW, load<u32>(FPS_FTW) | (1 << (((load<u32>(FPS_FSW) >> 11) + i) & 7)));
}
export function pop(): void {
  const fsw = load<u32>(FPS_FSW);
  const top = (fsw >> 11) & 7;
  store<u32>(FPS_FTW, load<u32>(FPS_FTW) & ~(1 << top));
  store<u32>(FPS_FSW, (fsw & ~0x3800) | (((top + 1) & 7) << 11));
}
export function push(m: u64, se: u32): void {
  const fsw = load<u32>(FPS_FSW);
  store<u32>(FPS_FSW, (fsw & ~0x3800) | ((((fsw >> 11) - 1) & 7) << 11));
  put(0, m, se);
}
// @ts-ignore: decorator
@inline
export function loadA(i: i32): void {
  const p = slot(i);
  unpack80(load<u64>(p), <u32>load<u16>(p, 8));
}
// @ts-ignore: decorator
@inline
export function loadAB(i: i32, j: i32): void {
  const q = slot(j);
  unpack80(load<u64>(q), <u32>load<u16>(q, 8));
  copyAB();
  loadA(i);
}

// ---------------------------------------------------------------------------------------------- beginning and end

/** Start of a waiting instruction: #MF if an unmasked exception is pending. */
// @ts-ignore: decorator
@inline
export function begin(): bool {
  if ((load<u32>(FPS_FSW) & 0x80) != 0) {
    fpRaise(16, -1);
    return true;
  }
  const fcw = load<u32>(FPS_FCW);
  setEnv((fcw >> 10) & 3, fcw & 0x3f, false, false);
  const pc = (fcw >> 8) & 3;
  prec = pc == 0 ? 24 : pc == 2 ? 53 : 64;
  sf = 0;
  c1 = false;
  return false;
}
export function stackUnder(): void {
  raiseFlags(IE);
  sf = SF;
  c1 = false;
}
export function stackOver(): void {
  raiseFlags(IE);
  sf = SF;
  c1 = true;
}
export function setC1(v: bool): void {
  c1 = v;
}
/** Fold flags and C1 into FSW. True when an unmasked invalid, denormal or zero-divide suppresses the result. */
export function end(): bool {
  const fcw = load<u32>(FPS_FCW);
  let f = fl;
  const pre = (f & ~fcw & (IE | DE | ZE)) != 0;
  if (pre) f &= IE | DE | ZE;
  let fsw = (load<u32>(FPS_FSW) & ~C1) | f | sf;
  if (c1 && (!pre || sf != 0)) fsw |= C1;
  if ((fsw & ~fcw & 0x3f) != 0) fsw |= 0x8080;
  store<u32>(FPS_FSW, fsw);
  return pre;
}
/** Unmasked overflow or underflow happened: memory is not written. */
function unmaskedRange(): bool {
  return (fl & ~load<u32>(FPS_FCW) & (OE | UE)) != 0;
}
export function condition(bits: u32): void {
  store<u32>(FPS_FSW, (load<u32>(FPS_FSW) & ~CCS) | bits);
}

/** wait/fwait, fnop, and the check of MMX instructions that store first. */
export function x87Wait(): i32 {
  return (load<u32>(FPS_FSW) & 0x80) != 0 ? fpRaise(16, -1) : 0;
}
/** Every MMX instruction but emms: TOP = 0, all tags valid. */
export function mmxEnter(): i32 {
  const fsw = load<u32>(FPS_FSW);
  if ((fsw & 0x80) != 0) return fpRaise(16, -1);
  store<u32>(FPS_FSW, fsw & ~0x3800);
  store<u32>(FPS_FTW, 0xff);
  return 0;
}
export function x87Emms(): i32 {
  const fsw = load<u32>(FPS_FSW);
  if ((fsw & 0x80) != 0) return fpRaise(16, -1);
  store<u32>(FPS_FSW, fsw & ~0x3800);
  store<u32>(FPS_FTW, 0);
  return 0;
}

// ---------------------------------------------------------------------------------------------- NaNs

/** A is a NaN: its quiet form is the result. */
function outA(): void {
  oM = aM | 0x4000000000000000;
  oSE = (aS << 15) | 0x7fff;
}
function outB(): void {
  oM = bM | 0x4000000000000000;
  oSE = (bS << 15) | 0x7fff;
}
export function outIndef(): void {
  oM = INDEF_M;
  oSE = INDEF_SE;
}
export function invalid(): void {
  raiseFlags(IE);
  outIndef();
}
/** A alone: true if it was a NaN or unsupported and the result is set. */
export function nan1(): bool {
  if (aC < QNAN) return false;
  if (aC == UNSUP) {
    invalid();
    return true;
  }
  if (aC == SNAN) raiseFlags(IE);
  outA();
  return true;
}
/** A and B: a quiet one before a signalling one, then the larger significand, then the positive one (SDM vol. 1, table 4-7). */
export function nan2(): bool {
  if (aC < QNAN && bC < QNAN) return false;
  if (aC == UNSUP || bC == UNSUP) {
    invalid();
    return true;
  }
  if (aC == SNAN || bC == SNAN) raiseFlags(IE);
  if (bC < QNAN) outA();
  else if (aC < QNAN) outB();
  else if (aC != bC) {
    if (aC == QNAN) outA();
    else outB();
  } else if (aM > bM || (aM == bM && aS == 0)) outA();
  else outB();
  return true;
}
/** Round the result and make it the output. */
export function outRounded(p: i32): void {
  oSE = pack80(p);
  oM = rH;
  c1 = up;
}
export function outSpecial(k: i32): void {
  if (k == R_ZERO) {
    oM = 0;
    oSE = rS << 15;
  } else if (k == R_INF) {
    oM = 0x8000000000000000;
    oSE = (rS << 15) | 0x7fff;
  } else invalid();
}

// ---------------------------------------------------------------------------------------------- arithmetic

/** A op B into the output. op: 0 add, 1 mul, 4 sub, 5 subr, 6 div, 7 divr (the encoding's numbers). */
function compute(op: i32): void {
  if (nan2()) return;
  if (op == 5 || op == 7) swapAB();
  let k: i32;
  if (op == 0) k = opAdd(false);
  else if (op == 1) k = opMul();
  else if (op < 6) k = opAdd(true);
  else k = opDiv();
  if (k == R_INVALID) {
    invalid();
    return;
  }
  if ((aD || bD) && (fl & ZE) == 0) {
    raiseFlags(DE);
    if ((masks & DE) == 0) return;
  }
  if (k == R_FINITE) outRounded(prec);
  else outSpecial(k);
}
function arithmetic(op: i32, d: i32): void {
  compute(op);
  if (!end()) put(d, oM, oSE);
}
/** Register form: ST(d) = ST(d) op ST(s), then pop if asked. */
export function x87Arith(op: i32, d: i32, s: i32, popAfter: i32): i32 {
  if (begin()) return 1;
  if (!valid(d) || !valid(s)) {
    stackUnder();
    outIndef();
  } else {
    loadAB(d, s);
    compute(op);
  }
  if (!end()) {
    put(d, oM, oSE);
    if (popAfter != 0) pop();
  }
  return 0;
}
function memArith(op: i32): i32 {
  // The memory operand is in A; it becomes B.
  if (!valid(0)) {
    stackUnder();
    outIndef();
    if (!end()) put(0, oM, oSE);
    return 0;
  }
  copyAB();
  loadA(0);
  arithmetic(op, 0);
  return 0;
}
export function x87Arith32(op: i32, x: u32): i32 {
  if (begin()) return 1;
  unpack32(x);
  return memArith(op);
}
export function x87Arith64(op: i32, x: u64): i32 {
  if (begin()) return 1;
  unpack64(x);
  return memArith(op);
}
function intA(x: i64): void {
  if (fromInteger(x) == R_ZERO) setA(ZERO, 0, 0, 0);
  else setA(FINITE, rS, rE, rH);
}
export function x87ArithInt(op: i32, x: i32): i32 {
  if (begin()) return 1;
  intA(<i64>x);
  return memArith(op);
}

/** Compare A with B: 0 less, 1 equal, 2 greater, 3 unordered. */
function relation(quiet: bool): i32 {
  if (aC >= QNAN || bC >= QNAN) {
    if (!quiet || aC >= SNAN || bC >= SNAN) raiseFlags(IE);
    return 3;
  }
  if (aD || bD) raiseFlags(DE);
  return compareAB() + 1;
}
const CC_BY_RELATION = memory.data<u32>([0x100, 0x4000, 0, 0x4500]);
const EFLAGS_BY_RELATION = memory.data<u32>([0x01, 0x40, 0x00, 0x45]);
function pops(n: i32): void {
  if (n > 0) pop();
  if (n > 1) pop();
}
/** Relation known (−1: an operand was empty): set C0 C2 C3 and pop. */
function compared(r: i32, popCount: i32): void {
  const suppressed = end();
  condition(load<u32>(CC_BY_RELATION + ((<usize>r) << 2)));
  if (!suppressed) pops(popCount);
}
/** fcom, fucom and their popping forms. */
export function x87Com(i: i32, quiet: i32, popCount: i32): i32 {
  if (begin()) return 1;
  let r = 3;
  if (!valid(0) || !valid(i)) stackUnder();
  else {
    loadAB(0, i);
    r = relation(quiet != 0);
  }
  compared(r, popCount);
  return 0;
}
function memCom(popCount: i32): i32 {
  let r = 3;
  if (!valid(0)) stackUnder();
  else {
    copyAB();
    loadA(0);
    r = relation(false);
  }
  compared(r, popCount);
  return 0;
}
export function x87Com32(x: u32, popCount: i32): i32 {
  if (begin()) return 1;
  unpack32(x);
  return memCom(popCount);
}
export function x87Com64(x: u64, popCount: i32): i32 {
  if (begin()) return 1;
  unpack64(x);
  return memCom(popCount);
}
export function x87ComInt(x: i32, popCount: i32): i32 {
  if (begin()) return 1;
  intA(<i64>x);
  return memCom(popCount);
}
/** fcomi family: image in FPS_FLAGS, and in FPS_RESULT whether it counts (0 after an unmasked exception). */
export function x87Comi(i: i32, quiet: i32, popCount: i32): i32 {
  if (begin()) return 1;
  let r = 3;
  if (!valid(0) || !valid(i)) stackUnder();
  else {
    loadAB(0, i);
    r = relation(quiet != 0);
    c1 = (load<u32>(FPS_FSW) & C1) != 0; // kept, unlike fcom
  }
  store<u32>(FPS_FLAGS, load<u32>(EFLAGS_BY_RELATION + ((<usize>r) << 2)));
  if (end()) {
    store<u32>(FPS_RESULT, 0);
    return 0;
  }
  store<u32>(FPS_RESULT, 1);
  pops(popCount);
  return 0;
}
export function x87Tst(): i32 {
  if (begin()) return 1;
  let r = 3;
  if (!valid(0)) stackUnder();
  else {
    setB(ZERO, 0, 0, 0);
    loadA(0);
    r = relation(false);
  }
  compared(r, 0);
  return 0;
}
export function x87Xam(): i32 {
  if (begin()) return 1;
  const p = slot(0);
  const se = <u32>load<u16>(p, 8);
  let f: u32 = (se >> 15) != 0 ? C1 : 0;
  if (!valid(0)) f |= C3 | C0;
  else {
    unpack80(load<u64>(p), se);
    if (aC == ZERO) f |= C3;
    else if (aC == FINITE) f |= aD ? C3 | C2 : C2;
    else if (aC == INF) f |= C2 | C0;
    else if (aC != UNSUP) f |= C0;
  }
  condition(f);
  return 0;
}

/** One-operand instructions on ST(0): 0 fchs, 1 fabs, 2 fsqrt, 3 frndint. */
export function x87Unary(op: i32): i32 {
  if (begin()) return 1;
  if (!valid(0)) {
    stackUnder();
    outIndef();
  } else if (op <= 1) {
    const p = slot(0);
    const se = load<u16>(p, 8);
    setOut(load<u64>(p), op == 0 ? <u32>(se ^ 0x8000) : <u32>(se & 0x7fff));
  } else {
    loadA(0);

    if (!nan1()) {
      if (op == 2) {
        const k = opSqrt();
        if (k == R_INVALID) invalid();
        else {
          if (aD) raiseFlags(DE);
          if (k == R_FINITE) outRounded(prec);
          else outSpecial(k);
        }
      } else rndint();
    }
  }
  if (!end()) put(0, oM, oSE);
  return 0;
}
function rndint(): void {
  const p = slot(0);
  setOut(load<u64>(p), <u32>load<u16>(p, 8));
  if (aC != FINITE || aE >= 63) return;
  if (aD) raiseFlags(DE);
  toInteger(rc);
  c1 = up;
  if (intInexact) raiseFlags(PE);
  if (intMag == 0) setOut(0, aS << 15);
  else {
    const n = <i32>clz<u64>(intMag);
    setOut(intMag << n, (aS << 15) | <u32>(16383 + 63 - n));
  }
}

// ---------------------------------------------------------------------------------------------- loads

/** Push the output unless the stack is full; flags first. */
function pushOut(): i32 {
  if (valid(-1)) {
    setEnv(rc, masks, false, false);
    stackOver();
    outIndef();
  }
  // An unmasked denormal operand does not keep the value from being pushed; an invalid one does.
  if (!end() || (fl & ~masks & IE) == 0) push(oM, oSE);
  return 0;
}
function outFromA(): void {
  if (nan1()) return;
  if (aC == ZERO) setOut(0, aS << 15);
  else if (aC == INF) setOut(0x8000000000000000, (aS << 15) | 0x7fff);
  else {
    if (aD) raiseFlags(DE);
    setOut(aM, (aS << 15) | <u32>(aE + 16383));
  }
}
export function x87Fld32(x: u32): i32 {
  if (begin()) return 1;
  unpack32(x);
  outFromA();
  return pushOut();
}
export function x87Fld64(x: u64): i32 {
  if (begin()) return 1;
  unpack64(x);
  outFromA();
  return pushOut();
}
export function x87Fld80(m: u64, se: u32): i32 {
  if (begin()) return 1;
  setOut(m, se & 0xffff);
  return pushOut();
}
export function x87Fild(x: i64): i32 {
  if (begin()) return 1;
  if (fromInteger(x) == R_ZERO) setOut(0, 0);
  else setOut(rH, (rS << 15) | <u32>(rE + 16383));
  return pushOut();
}
export function x87FldSt(i: i32): i32 {
  if (begin()) return 1;
  if (!valid(i)) {
    stackUnder();
    outIndef();
    if (!end()) push(oM, oSE);
    return 0;
  }
  const p = slot(i);
  setOut(load<u64>(p), <u32>load<u16>(p, 8));
  return pushOut();
}
/** fld1 fldl2t fldl2e fldpi fldlg2 fldln2 fldz (0–6, the encoding's order): correctly rounded by RC. */
export function x87Const(n: i32): i32 {
  if (begin()) return 1;
  const down = rc == RD || rc == RZ;
  switch (n) {
    case 0: setOut(0x8000000000000000, 0x3fff); break;
    case 1: setOut(rc == RU ? 0xd49a784bcd1b8aff : 0xd49a784bcd1b8afe, 0x4000); break;
    case 2: setOut(down ? 0xb8aa3b295c17f0bb : 0xb8aa3b295c17f0bc, 0x3fff); break;
    case 3: setOut(down ? 0xc90fdaa22168c234 : 0xc90fdaa22168c235, 0x4000); break;
    case 4: setOut(down ? 0x9a209a84fbcff798 : 0x9a209a84fbcff799, 0x3ffd); break;
    case 5: setOut(down ? 0xb17217f7d1cf79ab : 0xb17217f7d1cf79ac, 0x3ffe); break;
    default: setOut(0, 0);
  }
  return pushOut();
}
export function x87Fbld(lo: u64, hi: u32): i32 {
  if (begin()) return 1;
  let x: u64 = 0;
  for (let i = 1; i >= 0; i--) x = x * 10 + <u64>((hi >> (4 * i)) & 15);
  for (let i = 15; i >= 0; i--) x = x * 10 + ((lo >> (4 * i)) & 15);
  const s = (hi >> 15) & 1;
  if (fromInteger(<i64>x) == R_ZERO) setOut(0, s << 15);
  else setOut(rH, (s << 15) | <u32>(rE + 16383));
  return pushOut();
}

// ---------------------------------------------------------------------------------------------- stores

/** fst/fstp ST(i). */
export function x87FstSt(i: i32, popAfter: i32): i32 {
  if (begin()) return 1;
  if (!valid(0)) {
    stackUnder();
    outIndef();
  } else {
    const p = slot(0);
    setOut(load<u64>(p), <u32>load<u16>(p, 8));
  }
  if (!end()) {
    put(i, oM, oSE);
    if (popAfter != 0) pop();
  }
  return 0;
}

function storeFloat32(): u32 {
  if (aC >= QNAN) {
    if (aC != QNAN) raiseFlags(IE);
    return aC == UNSUP ? 0xffc00000 : (aS << 31) | 0x7fc00000 | <u32>((aM << 1) >> 41);
  }
  if (aC == ZERO) return aS << 31;
  if (aC == INF) return (aS << 31) | 0x7f800000;
  setR(aS, aE, aM, 0);
  const r = pack32();
  c1 = up;
  return r;
}
function storeFloat64(): u64 {
  if (aC >= QNAN) {
    if (aC != QNAN) raiseFlags(IE);
    return aC == UNSUP ? 0xfff8000000000000 : ((<u64>aS) << 63) | 0x7ff8000000000000 | ((aM << 1) >> 12);
  }
  if (aC == ZERO) return (<u64>aS) << 63;
  if (aC == INF) return ((<u64>aS) << 63) | 0x7ff0000000000000;
  setR(aS, aE, aM, 0);
  const r = pack64();
  c1 = up;
  return r;
}
function storeInt(bits: i32, mode: u32): i64 {
  const limit: u64 = (<u64>1) << (bits - 1);
  const indef: i64 = 0 - <i64>limit;
  if (aC == ZERO) return 0;
  if (aC != FINITE || !toInteger(mode) || (aS != 0 ? intMag > limit : intMag >= limit)) {
    raiseFlags(IE);
    return indef;
  }
  c1 = up;
  if (intInexact) raiseFlags(PE);
  return aS != 0 ? 0 - <i64>intMag : <i64>intMag;
}

/**
 * Stores of ST(0) to memory. fmt: 0 f32, 1 f64, 2 f80, 3–5 integers of 2/4/8 bytes rounded by RC, 6 packed BCD, 7–9 integers
 * truncated. The address is checked first, so that nothing changes when it faults.
 */
export function x87Store(va: u64, fmt: i32, popAfter: i32): i32 {
  if (begin()) return 1;
  const size: i32 = fmt == 0 || fmt == 4 || fmt == 8 ? 4 : fmt == 1 || fmt == 5 || fmt == 9 ? 8 : fmt == 3 || fmt == 7 ? 2 : 10;
  const p = <usize>translateW(va, size);
  if (p == 0) return 1;
  let v: u64 = 0;
  let hi: u32 = 0;
  if (!valid(0)) {
    stackUnder();
    if (fmt == 0) v = 0xffc00000;
    else if (fmt == 1) v = 0xfff8000000000000;
    else if (fmt == 2 || fmt == 6) {
      v = INDEF_M;
      hi = INDEF_SE;
    } else v = <u64>1 << (size * 8 - 1);
  } else if (fmt == 2) {
    const q = slot(0);
    v = load<u64>(q);
    hi = <u32>load<u16>(q, 8);
  } else {
    loadA(0);
    if (fmt == 0) v = <u64>storeFloat32();
    else if (fmt == 1) v = storeFloat64();
    else if (fmt == 6) {
      if (aC == ZERO) hi = aS << 15;
      else if (aC != FINITE || !toInteger(rc) || intMag > 999999999999999999) {
        raiseFlags(IE);
        setUp(false);
        v = INDEF_M;
        hi = INDEF_SE;
      } else {
        c1 = up;
        if (intInexact) raiseFlags(PE);
        let x = intMag;
        for (let i = 0; i < 64; i += 4) {
          v |= x % 10 << i;
          x /= 10;
        }
        hi = (aS << 15) | <u32>(x % 10) | (<u32>(x / 10) << 4);
      }
    } else v = <u64>storeInt(size * 8, fmt >= 7 ? RZ : rc);
  }
  const range = unmaskedRange();
  if (range) {
    dropFlags(PE);
    c1 = false;
  }
  if (end() || range) {
    commitW(); // forget the staging
    return 0;
  }
  if (size == 4) store<u32>(p, <u32>v);
  else if (size == 8) store<u64>(p, v);
  else if (size == 2) store<u16>(p, <u16>v);
  else {
    store<u64>(p, v);
    store<u16>(p, <u16>hi, 8);
  }
  commitW();
  if (popAfter != 0) pop();
  return 0;
}

// ---------------------------------------------------------------------------------------------- exchange, moves, stack control

export function x87Fxch(i: i32): i32 {
  if (begin()) return 1;
  const a = valid(0),
    b = valid(i);
  if (!a || !b) {
    stackUnder();
    if (end()) return 0;
    if (!a) put(0, INDEF_M, INDEF_SE);
    if (!b) put(i, INDEF_M, INDEF_SE);
  } else end();
  const p = slot(0),
    q = slot(i);
  const m = load<u64>(p),
    e = load<u16>(p, 8);
  store<u64>(p, load<u64>(q));
  store<u16>(p, load<u16>(q, 8), 8);
  store<u64>(q, m);
  store<u16>(q, e, 8);
  return 0;
}
export function x87Cmov(cond: i32, i: i32): i32 {
  if (begin()) return 1;
  if (!valid(0) || !valid(i)) {
    stackUnder();
    if (!end()) put(0, INDEF_M, INDEF_SE);
    return 0;
  }
  if (cond != 0) {
    const q = slot(i);
    put(0, load<u64>(q), <u32>load<u16>(q, 8));
  }
  return 0;
}
/** 0 ffree, 1 ffreep, 2 fincstp, 3 fdecstp, 4 fnop. */
export function x87Stack(op: i32, i: i32): i32 {
  if (begin()) return 1;
  const fsw = load<u32>(FPS_FSW);
  const top = (fsw >> 11) & 7;
  if (op <= 1) {
    store<u32>(FPS_FSW, fsw & ~C1); // undefined by the manual; processors clear it
    store<u32>(FPS_FTW, load<u32>(FPS_FTW) & ~(1 << ((top + i) & 7)));
    if (op == 1) pop();
  } else if (op == 2) store<u32>(FPS_FSW, (fsw & ~(0x3800 | C1)) | (((top + 1) & 7) << 11));
  else if (op == 3) store<u32>(FPS_FSW, (fsw & ~(0x3800 | C1)) | (((top - 1) & 7) << 11));
  return 0;
}
export function x87Init(): void {
  store<u32>(FPS_FCW, 0x37f);
  store<u32>(FPS_FSW, 0);
  store<u32>(FPS_FTW, 0);
  store<u32>(FPS_FOP, 0);
  store<u64>(FPS_FIP, 0);
  store<u64>(FPS_FDP, 0);
}
export function x87Clex(): void {
  store<u32>(FPS_FSW, load<u32>(FPS_FSW) & 0x7f00);
}
function updateEs(): void {
  const fsw = load<u32>(FPS_FSW);
  store<u32>(FPS_FSW, (fsw & ~load<u32>(FPS_FCW) & 0x3f) != 0 ? fsw | 0x8080 : fsw & ~0x8080);
}
function setFcw(x: u32): void {
  store<u32>(FPS_FCW, (x & 0x1f3f) | 0x40);
}
export function x87Ldcw(x: u32): i32 {
  if (x87Wait() != 0) return 1;
  setFcw(x);
  updateEs();
  return 0;
}

// ---------------------------------------------------------------------------------------------- scale, extract, remainder

export function x87Scale(): i32 {
  if (begin()) return 1;
  if (!valid(0) || !valid(1)) {
    stackUnder();
    outIndef();
  } else {
    loadAB(0, 1);
    if (!nan2()) {
      if (bC == INF) {
        if (bS == 0 ? aC == ZERO : aC == INF) invalid();
        else {
          if (aD) raiseFlags(DE);
          if (bS == 0) setOut(0x8000000000000000, (aS << 15) | 0x7fff);
          else setOut(0, aS << 15);
        }
      } else {
        if (aD || bD) raiseFlags(DE);
        if (aC != FINITE) {
          const p = slot(0);
          setOut(load<u64>(p), <u32>load<u16>(p, 8));
        } else {
          let n = 0;
          if (bC == FINITE && bE >= 0) n = bE > 16 ? 0x20000 : <i32>(bM >> (63 - bE));
          setR(aS, bS != 0 ? aE - n : aE + n, aM, 0);
          outRounded(64);
        }
      }
    }
  }
  if (!end()) put(0, oM, oSE);
  return 0;
}
export function x87Xtract(): i32 {
  if (begin()) return 1;
  if (!valid(0) || valid(-1)) {
    if (!valid(0)) stackUnder();
    else stackOver();
    if (end()) return 0;
    put(0, INDEF_M, INDEF_SE);
    push(INDEF_M, INDEF_SE);
    return 0;
  }
  loadA(0);
  let m: u64,
    se: u32; // the significand, pushed
  if (nan1()) {
    m = oM;
    se = oSE;
  } else if (aC == ZERO) {
    raiseFlags(ZE);
    setOut(0x8000000000000000, 0xffff);
    m = 0;
    se = aS << 15;
  } else if (aC == INF) {
    setOut(0x8000000000000000, 0x7fff);
    m = 0x8000000000000000;
    se = (aS << 15) | 0x7fff;
  } else {
    if (aD) raiseFlags(DE);
    m = aM;
    se = (aS << 15) | 0x3fff;
    if (fromInteger(<i64>aE) == R_ZERO) setOut(0, 0);
    else setOut(rH, (rS << 15) | <u32>(rE + 16383));
  }
  if (end()) return 0;
  put(0, oM, oSE);
  push(m, se);
  return 0;
}
/** fprem (truncated quotient) and fprem1 (nearest): exact, at most 63 bits of quotient a step; C2 = not finished. */
export function x87Prem(nearest: i32): i32 {
  if (begin()) return 1;
  let cc: u32 = 0;
  if (!valid(0) || !valid(1)) {
    stackUnder();
    outIndef();
  } else {
    loadAB(0, 1);
    if (!nan2()) {
      if (aC == INF || bC == ZERO) invalid();
      else {
        if (aD || bD) raiseFlags(DE);
        if (aC == ZERO) setOut(0, aS << 15);
        else if (bC == INF) {
          setR(aS, aE, aM, 0);
          outRounded(64);
        } else cc = remainder(nearest != 0);
      }
    }
  }
  c1 = (cc & C1) != 0;
  if (!end()) {
    put(0, oM, oSE);
    condition(cc);
  }
  return 0;
}
function remainder(nearest: bool): u32 {
  const d = aE - bE;
  const least: i32 = nearest ? -1 : 0;
  if (d < least) {
    setR(aS, aE, aM, 0);
    outRounded(64);
    return 0;
  }
  let s = aS;
  if (d >= 64) {
    // Partial: take away a multiple of B·2^(d−n), n between 32 and 63.
    const n = 32 + (d & 31);
    let r = aM;
    let top = false;
    for (let i = 0; i <= n; i++) {
      if (i > 0) {
        top = r >> 63 != 0;
        r <<= 1;
      }
      if (top || r >= bM) r -= bM;
    }
    if (r == 0) {
      setOut(0, s << 15);
      return C2;
    }
    const z = <i32>clz<u64>(r);
    setR(s, bE + (d - n) - z, r << z, 0);
    outRounded(64);
    return C2;
  }
  let q: u64 = 0;
  let r = aM;
  let half = false; // A < B, at most one bit below: only for the nearest form
  if (d >= 0) {
    let top = false;
    for (let i = 0; i <= d; i++) {
      if (i > 0) {
        top = r >> 63 != 0;
        r <<= 1;
      }
      q <<= 1;
      if (top || r >= bM) {
        r -= bM;
        q |= 1;
      }
    }
  } else half = true;
  let e = half ? aE : bE;
  if (nearest) {
    let add: bool;
    if (half) {
      // |A| in [B/4, B): compare with B/2; aligned one bit lower.
      add = r > bM;
      if (add) {
        // B − A with A = r/2 in B's units: (2·bM − r) at exponent aE.
        r = bM - (r - bM);
        e = aE;
      }
    } else {
      const other = bM - r;
      add = r > other || (r == other && (q & 1) != 0);
      if (add) r = other;
    }
    if (add) {
      q++;
      s ^= 1;
    }
  }
  let cc: u32 = 0;
  if ((q & 1) != 0) cc |= C1;
  if ((q & 2) != 0) cc |= C3;
  if ((q & 4) != 0) cc |= C0;
  if (r == 0) {
    setOut(0, aS << 15);
    return cc;
  }
  const z = <i32>clz<u64>(r);
  setR(s, e - z, r << z, 0);
  outRounded(64);
  return cc;
}

// ---------------------------------------------------------------------------------------------- environment

/** The full tag word from the abridged one and the registers: 0 valid, 1 zero, 2 special, 3 empty. */
export function fullTag(): u32 {
  const ftw = load<u32>(FPS_FTW);
  let r: u32 = 0;
  for (let i = 0; i < 8; i++) {
    let t: u32 = 3;
    if (((ftw >> i) & 1) != 0) {
      const p = FPS_FPR + (<usize>i << 4);
      const m = load<u64>(p);
      const e = <u32>load<u16>(p, 8) & 0x7fff;
      t = e == 0x7fff ? 2 : e == 0 ? (m == 0 ? 1 : 2) : m >> 63 != 0 ? 0 : 2;
    }
    r |= t << (2 * i);
  }
  return r;
}
function abridge(tag: u32): u32 {
  let r: u32 = 0;
  for (let i = 0; i < 8; i++) if (((tag >> (2 * i)) & 3) != 3) r |= 1 << i;
  return r;
}
const IMAGE = memory.data(112);

/**
 * Copy `len` bytes of guest memory in or out; every page is checked before the first byte moves out. `span`: how many bytes must be
 * writable, which may be more.
 */
export function copyOut(va: u64, src: usize, len: i32, span: i32): bool {
  if (!whole(va, span)) return false;
  // commitW after a mere check writes nothing new; it only forgets the staging.
  if (translateW(va, 1) == 0) return false;
  commitW();
  // (At most two pages. A fault in the second names its beginning.)
  const last = va + span - 1;
  if (((va ^ last) & ~0xfff) != 0 && translateW(last & ~0xfff, 1) == 0) return false;
  commitW();
  for (let i = 0; i < len; ) {
    // Aligned pieces of at most 16 bytes never cross a page.
    const n = min<i32>(16 - <i32>((va + i) & 15), len - i);
    const p = <usize>translateW(va + i, n);
    if (p == 0) return false;
    memory.copy(p, src + i, n);
    commitW();
    i += n;
  }
  return true;
}
export function copyIn(va: u64, dst: usize, len: i32): bool {
  if (!whole(va, len)) return false;
  for (let i = 0; i < len; ) {
    const n = min<i32>(16 - <i32>((va + i) & 15), len - i);
    const p = <usize>translateR(va + i, n);
    if (p == 0) return false;
    memory.copy(dst + i, p, n);
    i += n;
  }
  return true;
}
function envSize(osize: i32): i32 {
  return osize == 2 ? 14 : 28;
}
function buildEnv(osize: i32): void {
  const p = IMAGE;
  const fip = load<u64>(FPS_FIP),
    fdp = load<u64>(FPS_FDP);
  if (osize == 2) {
    store<u16>(p, load<u16>(FPS_FCW));
    store<u16>(p, load<u16>(FPS_FSW), 2);
    store<u16>(p, <u16>fullTag(), 4);
    store<u16>(p, <u16>fip, 6);
    store<u16>(p, 0, 8);
    store<u16>(p, <u16>fdp, 10);
    store<u16>(p, 0, 12);
  } else {
    store<u32>(p, load<u32>(FPS_FCW) | 0xffff0000);
    store<u32>(p, load<u32>(FPS_FSW) | 0xffff0000, 4);
    store<u32>(p, fullTag() | 0xffff0000, 8);
    store<u32>(p, <u32>fip, 12);
    store<u32>(p, (load<u32>(FPS_FOP) & 0x7ff) << 16, 16);
    store<u32>(p, <u32>fdp, 20);
    store<u32>(p, 0xffff0000, 24);
  }
}
function loadEnv(osize: i32): void {
  const p = IMAGE;
  const step: usize = osize == 2 ? 2 : 4;
  setFcw(<u32>load<u16>(p));
  const fsw = <u32>load<u16>(p + step);
  store<u32>(FPS_FTW, abridge(<u32>load<u16>(p + 2 * step)));
  if (osize == 2) {
    store<u64>(FPS_FIP, <u64>load<u16>(p + 6));
    store<u64>(FPS_FDP, <u64>load<u16>(p + 10));
    store<u32>(FPS_FOP, 0);
  } else {
    store<u64>(FPS_FIP, <u64>load<u32>(p + 12));
    store<u64>(FPS_FDP, <u64>load<u32>(p + 20));
    store<u32>(FPS_FOP, <u32>load<u16>(p + 18) & 0x7ff);
  }
  store<u32>(FPS_FSW, fsw & 0x7f7f);
  updateEs();
}
/** fnstenv (0) and fnsave (1). */
export function x87StoreEnv(va: u64, osize: i32, full: i32): i32 {
  buildEnv(osize);
  let n = envSize(osize);
  if (full != 0)
    for (let i = 0; i < 8; i++) {
      const p = slot(i);
      store<u64>(IMAGE + n, load<u64>(p));
      store<u16>(IMAGE + n, load<u16>(p, 8), 8);
      n += 10;
    }
  if (!copyOut(va, IMAGE, n, n)) return 1;
  if (full != 0) x87Init();
  else {
    store<u32>(FPS_FCW, load<u32>(FPS_FCW) | 0x3f);
    updateEs();
  }
  return 0;
}
/** fldenv (0) and frstor (1). */
export function x87LoadEnv(va: u64, osize: i32, full: i32): i32 {
  if (x87Wait() != 0) return 1;
  const e = envSize(osize);
  if (!copyIn(va, IMAGE, full != 0 ? e + 80 : e)) return 1;
  loadEnv(osize);
  if (full != 0)
    for (let i = 0; i < 8; i++) {
      const p = slot(i);
      const s = IMAGE + e + i * 10;
      store<u64>(p, load<u64>(s));
      store<u64>(p, <u64>load<u16>(s, 8), 8);
    }
  return 0;
}
