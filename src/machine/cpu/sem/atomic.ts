/**
 * Exchange-and-add and compare-and-exchange. vCPUs of a machine run in turn, so that every instruction is atomic; the
 * memory operand is always written, with its old value where the comparison fails, as processors do.
 */
import { c32, c64, i32, i64, select, v } from "../../wasm/expr.js";
import { CC, ZF } from "../flags.js";
import { RAX, RBX, RCX, RDX } from "../insn.js";
import { at, define, isMem, sizeOf, trunc } from "./common.js";
import type { OpTable, Sem } from "./context.js";
import type { Expr } from "../../wasm/expr.js";

function setZf(x: Sem, equal: Expr): void {
  x.setFlagsImage(i32.or(i32.and(x.flagsImage(), c32(~ZF)), i32.shl(equal, c32(6))));
}

export function register(ops: OpTable): void {
  define(ops, "xadd", (x) => {
    const size = sizeOf(x, 0);
    const dst = x.rmw(0);
    const a = dst.value;
    const b = x.let(x.read(1));
    const r = x.let(trunc(size, at(size).add(a, b)));
    x.write(1, a); // Before the sum: where both are one register, the sum stays.
    dst.commit(r);
    x.flags(CC.ADD, size, { a, b, r });
  });
  define(ops, "cmpxchg", (x) => {
    const size = sizeOf(x, 0);
    const dst = x.rmw(0);
    const old = dst.value;
    const src = x.let(x.read(1));
    const acc = x.let(x.gprSized(RAX, size));
    const equal = x.let(at(size).eq(acc, old));
    // Of a 32-bit register, destination or accumulator, the upper half goes only where it is loaded; memory is always written.
    if (size === 4 && !isMem(x, 0)) x.when(equal, () => dst.commit(src));
    else dst.commit(select(equal, src, old));
    if (size === 4) x.when(i32.eqz(equal), () => x.setGprSized(RAX, 4, old));
    else if (size === 8) x.setGpr(RAX, select(equal, x.gpr(RAX), old));
    else x.when(i32.eqz(equal), () => x.setGprSized(RAX, size, old));
    x.flags(CC.SUB, size, { a: acc, b: old, r: trunc(size, at(size).sub(acc, old)) });
  });
  define(ops, "cmpxchg8b", (x) => {
    const dst = x.rmwAt(x.let(x.ea()), 8);
    const old = dst.value;
    const pair = (hi: number, lo: number): Expr =>
      i64.or(i64.shl(i64.extend_u(x.gprSized(hi, 4)), c64(32)), i64.extend_u(x.gprSized(lo, 4)));
    const equal = x.let(i64.eq(pair(RDX, RAX), old));
    dst.commit(select(equal, pair(RCX, RBX), old));
    x.when(i32.eqz(equal), () => {
      x.setGprSized(RAX, 4, i32.wrap(old));
      x.setGprSized(RDX, 4, i32.wrap(i64.shr_u(old, c64(32))));
    });
    setZf(x, equal);
  });
  define(ops, "cmpxchg16b", (x) => {
    const address = x.let(x.ea());
    x.checkAligned16(address);
    const dst = x.rmwAt(address, 16);
    const lo = x.let(v.i64x2_extract(dst.value, 0));
    const hi = x.let(v.i64x2_extract(dst.value, 1));
    const equal = x.let(i32.and(i64.eq(lo, x.gpr(RAX)), i64.eq(hi, x.gpr(RDX))));
    const newLo = x.let(select(equal, x.gpr(RBX), lo));
    const newHi = x.let(select(equal, x.gpr(RCX), hi));
    dst.commit(v.i64x2_replace(v.splat64(newLo), 1, newHi));
    x.setGpr(RAX, select(equal, x.gpr(RAX), lo));
    x.setGpr(RDX, select(equal, x.gpr(RDX), hi));
    setZf(x, equal);
  });
}
