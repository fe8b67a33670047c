/**
 * Lazy flags read where only the run knows which operation set them: the run-time twin of `condExpr` in sem/base.ts, kept
 * honest by the comparison of interpreter and translator. Kinds as in flags.ts: operation × 4 + log2(size).
 */
import { CC_A, CC_B, CC_OP, CC_R } from "../generated/layout";

const FLAGS: i32 = 0;
const ADD: i32 = 1;
const ADC: i32 = 2;
const SUB: i32 = 3;
const SBB: i32 = 4;
const LOGIC: i32 = 5;
const INC: i32 = 6;
const DEC: i32 = 7;
const RES: i32 = 8;

const ARITH: i32 = 0x8d5;

// @ts-ignore: decorator
@inline
function top(v: u64, size: i32): i32 {
  return <i32>(v >> ((8 << size) - 1)) & 1;
}

export function ccCarry(op: i32, a: u64, b: u64, r: u64): i32 {
  const size = op & 3;
  switch (op >> 2) {
    case FLAGS: return <i32>a & 1;
    case ADD: return i32(r < a);
    case SUB: return i32(a < b);
    case ADC: return top((a & b) | ((a | b) & ~r), size);
    case SBB: return top((~a & b) | ((~a | b) & r), size);
    case INC:
    case DEC: return <i32>b;
    case RES: return <i32>a;
    default: return 0;
  }
}

function overflow(op: i32, a: u64, b: u64, r: u64): i32 {
  const size = op & 3;
  switch (op >> 2) {
    case FLAGS: return (<i32>a >> 11) & 1;
    case ADD:
    case ADC: return top((a ^ r) & (b ^ r), size);
    case SUB:
    case SBB: return top((a ^ b) & (a ^ r), size);
    case INC: return i32(r == <u64>1 << ((8 << size) - 1));
    case DEC: return i32(r == (<u64>1 << ((8 << size) - 1)) - 1);
    case RES: return <i32>b;
    default: return 0;
  }
}

function adjust(op: i32, a: u64, b: u64, r: u64): i32 {
  switch (op >> 2) {
    case FLAGS: return <i32>a & 0x10;
    case ADD:
    case ADC:
    case SUB:
    case SBB: return <i32>(a ^ b ^ r) & 0x10;
    case INC: return (<i32>r & 15) == 0 ? 0x10 : 0;
    case DEC: return (<i32>r & 15) == 15 ? 0x10 : 0;
    default: return 0;
  }
}

export function ccFlags(op: i32, a: u64, b: u64, r: u64): i32 {
  if (op >> 2 == FLAGS) return <i32>a & ARITH;
  const size = op & 3;
  return (
    ccCarry(op, a, b, r) |
    ((popcnt<i32>(<i32>r & 0xff) & 1) == 0 ? 4 : 0) |
    adjust(op, a, b, r) |
    (r == 0 ? 0x40 : 0) |
    (top(r, size) << 7) |
    (overflow(op, a, b, r) << 11)
  );
}

/** The arithmetic flags of the loaded vCPU. */
export function arithFlags(): i32 {
  return ccFlags(load<i32>(CC_OP), load<u64>(CC_A), load<u64>(CC_B), load<u64>(CC_R));
}

export function ccCond(op: i32, a: u64, b: u64, r: u64, cc: i32): i32 {
  let e: i32 = 0;
  const flags = op >> 2 == FLAGS;
  switch (cc >> 1) {
    case 0: e = overflow(op, a, b, r); break;
    case 1: e = ccCarry(op, a, b, r); break;
    case 2: e = flags ? (<i32>a >> 6) & 1 : i32(r == 0); break;
    case 3: e = ccCarry(op, a, b, r) | (flags ? (<i32>a >> 6) & 1 : i32(r == 0)); break;
    case 4: e = flags ? (<i32>a >> 7) & 1 : top(r, op & 3); break;
    case 5: e = flags ? (<i32>a >> 2) & 1 : (popcnt<i32>(<i32>r & 0xff) & 1) ^ 1; break;
    case 6: e = (flags ? (<i32>a >> 7) & 1 : top(r, op & 3)) ^ overflow(op, a, b, r); break;
    default:
      e = (flags ? (<i32>a >> 6) & 1 : i32(r == 0)) | ((flags ? (<i32>a >> 7) & 1 : top(r, op & 3)) ^ overflow(op, a, b, r));
  }
  return e ^ (cc & 1);
}
