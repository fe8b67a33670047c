/** Decimal adjustments (not in 64-bit code). */
import { c32, i32, select, type Expr } from "../../wasm/expr.js";
import { AF, CF, CC } from "../flags.js";
import { RAX } from "../insn.js";
import { define } from "./common.js";
import type { OpTable, Sem } from "./context.js";

/** SF, ZF and PF of a byte at their positions. */
function szp(r: Expr): Expr {
  const parity = i32.xor(i32.and(i32.popcnt(r), c32(1)), c32(1));
  return i32.or(i32.or(i32.and(r, c32(0x80)), i32.shl(i32.eqz(r), c32(6))), i32.shl(parity, c32(2)));
}
const byte = (e: Expr): Expr => i32.and(e, c32(0xff));

/** daa, das. */
function packed(x: Sem, add: boolean): void {
  const al = x.let(x.gprSized(RAX, 1));
  const old = x.let(x.flagsImage());
  const low = x.let(i32.or(i32.gt_u(i32.and(al, c32(15)), c32(9)), i32.ne(i32.and(old, c32(AF)), c32(0))));
  const high = x.let(i32.or(i32.gt_u(al, c32(0x99)), i32.and(old, c32(CF))));
  const adjust = i32.or(select(low, c32(6), c32(0)), select(high, c32(0x60), c32(0)));
  const r = x.let(byte(add ? i32.add(al, adjust) : i32.sub(al, adjust)));
  // das also keeps a borrow of its first step.
  const carry = add ? high : i32.or(high, i32.and(low, i32.lt_u(al, c32(6))));
  const image = x.let(i32.or(i32.or(szp(r), carry), i32.shl(low, c32(4))));
  x.setGprSized(RAX, 1, r);
  x.setFlagsImage(image);
}

/** aaa, aas: AF = CF = "adjusted", the other flags are undefined. */
function unpacked(x: Sem, add: boolean): void {
  const ax = x.let(x.gprSized(RAX, 2));
  const adjusted = x.let(
    i32.or(i32.gt_u(i32.and(ax, c32(15)), c32(9)), i32.ne(i32.and(x.flagsImage(), c32(AF)), c32(0))),
  );
  const step = select(adjusted, c32(0x106), c32(0));
  const r = x.let(i32.and(add ? i32.add(ax, step) : i32.sub(ax, step), c32(0xff0f)));
  x.setGprSized(RAX, 2, r);
  x.setFlagsImage(i32.or(adjusted, i32.shl(adjusted, c32(4))));
}

export function register(ops: OpTable): void {
  define(ops, "daa", (x) => packed(x, true));
  define(ops, "das", (x) => packed(x, false));
  define(ops, "aaa", (x) => unpacked(x, true));
  define(ops, "aas", (x) => unpacked(x, false));
  define(ops, "aam", (x) => {
    const base = x.let(byte(x.imm32()));
    x.raiseIf(i32.eqz(base), 0);
    const al = x.let(x.gprSized(RAX, 1));
    const r = x.let(i32.rem_u(al, base));
    x.setGprSized(RAX, 2, i32.or(i32.shl(i32.div_u(al, base), c32(8)), r));
    x.flags(CC.LOGIC, 1, { r });
  });
  define(ops, "aad", (x) => {
    const ax = x.let(x.gprSized(RAX, 2));
    const r = x.let(byte(i32.add(ax, i32.mul(i32.shr_u(ax, c32(8)), x.imm32()))));
    x.setGprSized(RAX, 2, r);
    x.flags(CC.LOGIC, 1, { r });
  });
}
