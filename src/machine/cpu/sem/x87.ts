/**
 * x87: every instruction is a call of a core helper on the state block (core/assembly/x87.ts, x87trans.ts); memory operands of
 * loads are read here, stores translate and write in the helper because an unmasked exception may forbid them.
 */
import { c32, c64, i32, i64, type Expr } from "../../wasm/expr.js";
import { FCW, FSW } from "../../layout.js";
import { CC } from "../flags.js";
import { K, RAX } from "../insn.js";
import type { OpTable, Sem } from "./context.js";
import { AT } from "./helpers-fp.js";
import { at32, callStatus, def, isMem } from "./fp-util.js";

const ARITH: Record<string, number> = { add: 0, mul: 1, sub: 4, subr: 5, div: 6, divr: 7 };

/** Memory integer of 2 or 4 bytes as a signed i32. */
function int32(x: Sem): Expr {
  const size = x.insn.ops[0]?.size;
  const e = x.load(x.ea(), size === 2 ? 2 : 4);
  return x.let(size === 2 ? i32.extend16_s(e) : e);
}
function memSize(x: Sem): number {
  return x.insn.ops[0]?.size ?? 0;
}
/** A helper that stores to guest memory. */
function stores(x: Sem, name: string, args: readonly Expr[]): void {
  callStatus(x, name, args);
  x.helperStored();
}
/** The ST(i) operand: the last one where the decoder lists ST(0) too. */
function lastSt(x: Sem): Expr {
  return x.regNumber(x.insn.ops.length - 1);
}

export function register(ops: OpTable): void {
  const simple = (op: string, fn: string, ...args: number[]): void =>
    def(ops, op, (x) => callStatus(x, fn, args.map(c32)));

  for (const [name, code] of Object.entries(ARITH)) {
    def(ops, `f${name}`, (x) => {
      if (isMem(x, 0)) {
        const size = memSize(x);
        callStatus(x, size === 8 ? "x87Arith64" : "x87Arith32", [c32(code), x.let(x.load(x.ea(), size === 8 ? 8 : 4))]);
      } else callStatus(x, "x87Arith", [c32(code), x.regNumber(0), x.regNumber(1), c32(0)]);
    });
    def(ops, `f${name}p`, (x) => callStatus(x, "x87Arith", [c32(code), x.regNumber(0), x.regNumber(1), c32(1)]));
    def(ops, `fi${name}`, (x) => callStatus(x, "x87ArithInt", [c32(code), int32(x)]));
  }
  // fdivp and fsubp are covered above: the names are formed as f + sub + p, f + subr + p.

  for (const [op, pops] of [
    ["fcom", 0],
    ["fcomp", 1],
  ] as const)
    def(ops, op, (x) => {
      if (isMem(x, 0)) {
        const size = memSize(x);
        callStatus(x, size === 8 ? "x87Com64" : "x87Com32", [x.let(x.load(x.ea(), size === 8 ? 8 : 4)), c32(pops)]);
      } else callStatus(x, "x87Com", [lastSt(x), c32(0), c32(pops)]);
    });
  def(ops, "ficom", (x) => callStatus(x, "x87ComInt", [int32(x), c32(0)]));
  def(ops, "ficomp", (x) => callStatus(x, "x87ComInt", [int32(x), c32(1)]));
  def(ops, "fucom", (x) => callStatus(x, "x87Com", [lastSt(x), c32(1), c32(0)]));
  def(ops, "fucomp", (x) => callStatus(x, "x87Com", [lastSt(x), c32(1), c32(1)]));
  simple("fcompp", "x87Com", 1, 0, 2);
  simple("fucompp", "x87Com", 1, 1, 2);
  for (const [op, quiet, pops] of [
    ["fcomi", 0, 0],
    ["fcomip", 0, 1],
    ["fucomi", 1, 0],
    ["fucomip", 1, 1],
  ] as const)
    def(ops, op, (x) => {
      callStatus(x, "x87Comi", [lastSt(x), c32(quiet), c32(pops)]);
      // An unmasked exception leaves the flags alone.
      const valid = x.let(at32(AT.RESULT));
      const image = x.let(i64.extend_u(at32(AT.FLAGS)));
      x.flagsIf(valid, CC.FLAGS, 8, { a: image });
    });
  simple("ftst", "x87Tst");
  simple("fxam", "x87Xam");
  simple("fchs", "x87Unary", 0);
  simple("fabs", "x87Unary", 1);
  simple("fsqrt", "x87Unary", 2);
  simple("frndint", "x87Unary", 3);

  def(ops, "fld", (x) => {
    if (!isMem(x, 0)) return callStatus(x, "x87FldSt", [lastSt(x)]);
    const size = memSize(x);
    if (size === 4) return callStatus(x, "x87Fld32", [x.let(x.load(x.ea(), 4))]);
    if (size === 8) return callStatus(x, "x87Fld64", [x.let(x.load(x.ea(), 8))]);
    const [m, se] = load80(x);
    return callStatus(x, "x87Fld80", [m, se]);
  });
  def(ops, "fild", (x) =>
    callStatus(x, "x87Fild", [memSize(x) === 8 ? x.let(x.load(x.ea(), 8)) : x.let(i64.extend_s(int32(x)))]),
  );
  def(ops, "fbld", (x) => {
    const [m, se] = load80(x);
    callStatus(x, "x87Fbld", [m, se]);
  });
  ["fld1", "fldl2t", "fldl2e", "fldpi", "fldlg2", "fldln2", "fldz"].forEach((op, n) => simple(op, "x87Const", n));

  for (const [op, pops] of [
    ["fst", 0],
    ["fstp", 1],
  ] as const)
    def(ops, op, (x) => {
      if (!isMem(x, 0)) return callStatus(x, "x87FstSt", [lastSt(x), c32(pops)]);
      const size = memSize(x);
      return stores(x, "x87Store", [x.ea(), c32(size === 4 ? 0 : size === 8 ? 1 : 2), c32(pops)]);
    });
  const intFormat = (x: Sem): number => (memSize(x) === 2 ? 0 : memSize(x) === 8 ? 2 : 1);
  def(ops, "fist", (x) => stores(x, "x87Store", [x.ea(), c32(3 + intFormat(x)), c32(0)]));
  def(ops, "fistp", (x) => stores(x, "x87Store", [x.ea(), c32(3 + intFormat(x)), c32(1)]));
  def(ops, "fisttp", (x) => stores(x, "x87Store", [x.ea(), c32(7 + intFormat(x)), c32(1)]));
  def(ops, "fbstp", (x) => stores(x, "x87Store", [x.ea(), c32(6), c32(1)]));

  def(ops, "fxch", (x) => callStatus(x, "x87Fxch", [lastSt(x)]));
  def(ops, "ffree", (x) => callStatus(x, "x87Stack", [c32(0), lastSt(x)]));
  def(ops, "ffreep", (x) => callStatus(x, "x87Stack", [c32(1), lastSt(x)]));
  simple("fincstp", "x87Stack", 2, 0);
  simple("fdecstp", "x87Stack", 3, 0);
  simple("fnop", "x87Wait");
  const CMOV: Record<string, number> = { b: 2, e: 4, be: 6, u: 10, nb: 3, ne: 5, nbe: 7, nu: 11 };
  for (const [suffix, cc] of Object.entries(CMOV))
    def(ops, `fcmov${suffix}`, (x) => callStatus(x, "x87Cmov", [x.let(x.cond(cc)), lastSt(x)]));

  simple("fscale", "x87Scale");
  simple("fxtract", "x87Xtract");
  simple("fprem", "x87Prem", 0);
  simple("fprem1", "x87Prem", 1);
  simple("fsin", "x87SinCos", 0);
  simple("fcos", "x87SinCos", 1);
  simple("fsincos", "x87Trig2", 0);
  simple("fptan", "x87Trig2", 1);
  simple("f2xm1", "x87F2xm1");
  simple("fyl2x", "x87Yl2x");
  simple("fyl2xp1", "x87Yl2xp1");
  simple("fpatan", "x87Patan");

  // Control. fnstcw, fnstsw, fnclex, fninit, fnstenv and fnsave do not wait.
  def(ops, "fldcw", (x) => callStatus(x, "x87Ldcw", [x.let(x.load(x.ea(), 2))]));
  def(ops, "fnstcw", (x) => x.store(x.ea(), 2, at32(FCW)));
  def(ops, "fnstsw", (x) => {
    if (x.insn.ops[0]?.kind === K.GPR) x.setGprSized(RAX, 2, at32(FSW));
    else x.store(x.ea(), 2, at32(FSW));
  });
  def(ops, "fnclex", (x) => x.helperVoid("x87Clex", []));
  def(ops, "fninit", (x) => x.helperVoid("x87Init", []));
  const env = (op: string, fn: string, full: number): void =>
    def(ops, op, (x) =>
      (full < 2 ? stores : callStatus)(x, fn, [x.ea(), c32(x.insn.osize === 2 ? 2 : 4), c32(full & 1)]),
    );
  env("fnstenv", "x87StoreEnv", 0);
  env("fnsave", "x87StoreEnv", 1);
  env("fldenv", "x87LoadEnv", 2);
  env("frstor", "x87LoadEnv", 3);
  // fwait raises #NM only with CR0.MP and TS both set; the mode word has one bit for "off", which serves here too.
  for (const op of ["wait", "fwait"]) simple(op, "x87Wait");
  simple("emms", "x87Emms");
}

function load80(x: Sem): [Expr, Expr] {
  const a = x.let(x.ea());
  const m = x.let(x.load(a, 8));
  const se = x.let(x.load(i64.add(a, c64(8)), 2));
  return [m, se];
}
