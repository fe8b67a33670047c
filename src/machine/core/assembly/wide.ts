/** The functions of the core that generated code calls, with their results, or none, in a v128: cpu/helpers.ts says why. */
import { ccCarry, ccCond, ccFlags } from "./flags";
import { crc32, div128, idiv128, repCmps, repLods, repMovs, repScas, repStos } from "./int";
import { commitW, recordExit, recordFault, translateR, translateW, translateWx } from "./mmu";
import { rdtsc } from "./run";

// @ts-ignore: decorator
@inline
function none(): v128 {
  return i32x4(0, 0, 0, 0);
}

export function translateRWide(va: u64, size: i32): v128 {
  return i32x4.splat(translateR(va, size));
}
export function translateWWide(va: u64, size: i32): v128 {
  return i32x4.splat(translateW(va, size));
}
export function translateWxWide(va: u64, size: i32): v128 {
  return i32x4.splat(translateWx(va, size));
}
export function commitWWide(): v128 {
  commitW();
  return none();
}
export function recordFaultWide(vector: i32, error: i32): v128 {
  recordFault(vector, error);
  return none();
}
export function recordExitWide(reason: i32, vector: i32): v128 {
  recordExit(reason, vector);
  return none();
}
export function ccFlagsWide(op: i32, a: u64, b: u64, r: u64): v128 {
  return i32x4.splat(ccFlags(op, a, b, r));
}
export function ccCondWide(op: i32, a: u64, b: u64, r: u64, cc: i32): v128 {
  return i32x4.splat(ccCond(op, a, b, r, cc));
}
export function ccCarryWide(op: i32, a: u64, b: u64, r: u64): v128 {
  return i32x4.splat(ccCarry(op, a, b, r));
}
export function rdtscWide(): v128 {
  return i64x2.splat(rdtsc());
}
export function div128Wide(hi: u64, lo: u64, d: u64): v128 {
  return i64x2.splat(div128(hi, lo, d));
}
export function idiv128Wide(hi: u64, lo: u64, d: u64): v128 {
  return i32x4.splat(idiv128(hi, lo, d));
}
export function crc32Wide(crc: u32, value: u64, bytes: i32): v128 {
  return i32x4.splat(crc32(crc, value, bytes));
}
export function repMovsWide(shape: i32, srcBase: u64, dstBase: u64): v128 {
  return i32x4.splat(repMovs(shape, srcBase, dstBase));
}
export function repStosWide(shape: i32, dstBase: u64): v128 {
  return i32x4.splat(repStos(shape, dstBase));
}
export function repLodsWide(shape: i32, srcBase: u64): v128 {
  return i32x4.splat(repLods(shape, srcBase));
}
export function repCmpsWide(shape: i32, srcBase: u64, dstBase: u64, rep: i32): v128 {
  return i32x4.splat(repCmps(shape, srcBase, dstBase, rep));
}
export function repScasWide(shape: i32, dstBase: u64, rep: i32): v128 {
  return i32x4.splat(repScas(shape, dstBase, rep));
}
