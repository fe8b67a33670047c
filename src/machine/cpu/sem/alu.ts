/** Addition, subtraction and logic, and comparisons (SDM vol. 2: ADD ADC SUB SBB CMP AND OR XOR TEST INC DEC NEG NOT). */
import type { Expr } from "../../wasm/expr.js";
import { CC, type CcKind } from "../flags.js";
import { at, define, lit, sizeOf, trunc, widen, type Emit } from "./common.js";
import type { OpTable } from "./context.js";

type Bin = (a: Expr, b: Expr) => Expr;

/** `add sub`: flags from both operands and the result. */
function arith(kind: CcKind, name: "add" | "sub"): Emit {
  return (x) => {
    const size = sizeOf(x, 0);
    const dst = x.rmw(0);
    const a = dst.value;
    const b = x.let(x.read(1));
    const r = x.let(trunc(size, (at(size)[name] as Bin)(a, b)));
    dst.commit(r);
    x.flags(kind, size, { a, b, r });
  };
}

/** `adc sbb`. The carry of the result follows from a, b and r alone (flags.ts), so that chains keep no carry apart. */
function withCarry(kind: CcKind, name: "add" | "sub"): Emit {
  return (x) => {
    const size = sizeOf(x, 0);
    const op = at(size)[name] as Bin;
    const dst = x.rmw(0);
    const a = dst.value;
    const b = x.let(x.read(1));
    const carry = widen(size, x.cf());
    const r = x.let(trunc(size, op(op(a, b), carry)));
    dst.commit(r);
    x.flags(kind, size, { a, b, r });
  };
}

function logic(name: "and" | "or" | "xor"): Emit {
  return (x) => {
    const size = sizeOf(x, 0);
    const dst = x.rmw(0);
    const b = x.let(x.read(1));
    const r = x.let((at(size)[name] as Bin)(dst.value, b));
    dst.commit(r);
    x.flags(CC.LOGIC, size, { r });
  };
}

/** `inc dec` leave CF, which travels in `b`. */
function step(kind: CcKind, name: "add" | "sub"): Emit {
  return (x) => {
    const size = sizeOf(x, 0);
    const dst = x.rmw(0);
    const r = x.let(trunc(size, (at(size)[name] as Bin)(dst.value, lit(size, 1))));
    dst.commit(r);
    const b = x.let(widen(size, x.cf()));
    x.flags(kind, size, { b, r });
  };
}

export function register(ops: OpTable): void {
  define(ops, "add", arith(CC.ADD, "add"));
  define(ops, "sub", arith(CC.SUB, "sub"));
  define(ops, "adc", withCarry(CC.ADC, "add"));
  define(ops, "sbb", withCarry(CC.SBB, "sub"));
  define(ops, "and", logic("and"));
  define(ops, "or", logic("or"));
  define(ops, "xor", logic("xor"));
  define(ops, "inc", step(CC.INC, "add"));
  define(ops, "dec", step(CC.DEC, "sub"));
  define(ops, "cmp", (x) => {
    const size = sizeOf(x, 0);
    const a = x.let(x.read(0));
    const b = x.let(x.read(1));
    x.flags(CC.SUB, size, { a, b, r: trunc(size, at(size).sub(a, b)) });
  });
  define(ops, "test", (x) => {
    const size = sizeOf(x, 0);
    const a = x.let(x.read(0));
    const b = x.let(x.read(1));
    x.flags(CC.LOGIC, size, { r: at(size).and(a, b) });
  });
  define(ops, "neg", (x) => {
    const size = sizeOf(x, 0);
    const dst = x.rmw(0);
    const a = lit(size, 0);
    const b = dst.value;
    const r = x.let(trunc(size, at(size).sub(a, b)));
    dst.commit(r);
    x.flags(CC.SUB, size, { a, b, r });
  });
  define(ops, "not", (x) => {
    const size = sizeOf(x, 0);
    const dst = x.rmw(0);
    dst.commit(trunc(size, at(size).xor(dst.value, lit(size, -1))));
  });
}
