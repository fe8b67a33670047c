/**
 * String instructions. One element is inline; a repeated one is a helper (core/assembly/int.ts) that works on the registers in the
 * state block page by page, stops at a fault with the registers of the faulting iteration, and after a bounded amount of
 * work asks to be started again, so that interrupts get in. Flags of a repeated compare are set once, at its end: where it
 * faults, the flags are those before it (SDM, REP).
 */
import { SCRATCH } from "../../layout.js";
import { c32, i32, i64, type Expr } from "../../wasm/expr.js";
import { CC, DF } from "../flags.js";
import { ES, RAX, RCX, RDI, RSI } from "../insn.js";
import { at, define, fromI64, linear, toI64, trunc } from "./common.js";
import type { OpTable, Sem } from "./context.js";

/** The helpers' first argument: element size and address size. */
const shape = (x: Sem): Expr => c32(x.insn.osize | (x.insn.asize << 4));

/** rSI or rDI: the offset and the linear address it gives. */
function pointer(x: Sem, reg: number, seg: number): { offset: Expr; address: Expr } {
  const offset = x.let(x.gprSized(reg, x.insn.asize));
  return { offset, address: x.let(linear(x, seg, toI64(x.insn.asize, offset))) };
}

/** Element size, negative if DF is set (i32, bound). */
function stride(x: Sem): Expr {
  const size = x.insn.osize;
  const twice = i32.shr_u(i32.and(x.efl(), c32(DF)), c32(size === 1 ? 9 : size === 2 ? 8 : size === 4 ? 7 : 6));
  return x.let(i32.sub(c32(size), twice));
}
function advance(x: Sem, reg: number, offset: Expr, by: Expr): void {
  const asize = x.insn.asize;
  x.setGprSized(reg, asize, trunc(asize, at(asize).add(offset, asize === 8 ? i64.extend_s(by) : by)));
}

function movs(x: Sem): void {
  if (x.insn.rep !== 0) {
    x.stateHelper("repMovs", [shape(x), x.segBase(x.insn.seg), x.segBase(ES)], [RCX, RSI, RDI]);
    return;
  }
  const src = pointer(x, RSI, x.insn.seg);
  const dst = pointer(x, RDI, ES);
  const by = stride(x);
  x.store(dst.address, x.insn.osize, x.let(x.load(src.address, x.insn.osize)));
  advance(x, RSI, src.offset, by);
  advance(x, RDI, dst.offset, by);
}

function stos(x: Sem): void {
  if (x.insn.rep !== 0) {
    x.stateHelper("repStos", [shape(x), x.segBase(ES)], [RCX, RDI, RAX]);
    return;
  }
  const dst = pointer(x, RDI, ES);
  const by = stride(x);
  x.store(dst.address, x.insn.osize, x.let(x.gprSized(RAX, x.insn.osize)));
  advance(x, RDI, dst.offset, by);
}

function lods(x: Sem): void {
  if (x.insn.rep !== 0) {
    x.stateHelper("repLods", [shape(x), x.segBase(x.insn.seg)], [RCX, RSI, RAX]);
    return;
  }
  const src = pointer(x, RSI, x.insn.seg);
  const by = stride(x);
  const value = x.let(x.load(src.address, x.insn.osize));
  x.setGprSized(RAX, x.insn.osize, value);
  advance(x, RSI, src.offset, by);
}

/** After repCmps and repScas: the last pair compared, if any, is in the scratch area. */
function repeatedFlags(x: Sem): void {
  const size = x.insn.osize;
  const done = x.let(i32.load(c32(0), SCRATCH));
  const a = x.let(fromI64(size, i64.load(c32(0), SCRATCH + 8)));
  const b = x.let(fromI64(size, i64.load(c32(0), SCRATCH + 16)));
  x.flagsIf(done, CC.SUB, size, { a, b, r: trunc(size, at(size).sub(a, b)) });
}

function cmps(x: Sem): void {
  const size = x.insn.osize;
  if (x.insn.rep !== 0) {
    x.stateHelper("repCmps", [shape(x), x.segBase(x.insn.seg), x.segBase(ES), c32(x.insn.rep)], [RCX, RSI, RDI]);
    repeatedFlags(x);
    return;
  }
  const src = pointer(x, RSI, x.insn.seg);
  const dst = pointer(x, RDI, ES);
  const by = stride(x);
  const a = x.let(x.load(src.address, size));
  const b = x.let(x.load(dst.address, size));
  advance(x, RSI, src.offset, by);
  advance(x, RDI, dst.offset, by);
  x.flags(CC.SUB, size, { a, b, r: trunc(size, at(size).sub(a, b)) });
}

function scas(x: Sem): void {
  const size = x.insn.osize;
  if (x.insn.rep !== 0) {
    x.stateHelper("repScas", [shape(x), x.segBase(ES), c32(x.insn.rep)], [RCX, RDI, RAX]);
    repeatedFlags(x);
    return;
  }
  const dst = pointer(x, RDI, ES);
  const by = stride(x);
  const a = x.let(x.gprSized(RAX, size));
  const b = x.let(x.load(dst.address, size));
  advance(x, RDI, dst.offset, by);
  x.flags(CC.SUB, size, { a, b, r: trunc(size, at(size).sub(a, b)) });
}

export function register(ops: OpTable): void {
  define(ops, "movs", movs);
  define(ops, "stos", stos);
  define(ops, "lods", lods);
  define(ops, "cmps", cmps);
  define(ops, "scas", scas);
  define(ops, "ins outs", (x) => x.system(), { ends: true });
}
