/**
 * SSE floating-point arithmetic and comparison.
 *
 * The fast path is the host's own arithmetic. It is exact whenever rounding is to nearest, the precision exception is masked and
 * already recorded (so nothing is left to report), operands are normal or zero and results are normal, or zero by rule; a
 * result equal to the smallest normal is excluded since it may have been tiny before rounding to it. Everything else — and
 * every first inexact operation — goes to softfloat, which also keeps the flags. DAZ and FTZ cannot matter on the fast path.
 */
import { c128, c32, cf32, cf64, f32, f64, i32, select, v, type Expr } from "../../wasm/expr.js";
import { i64 } from "../../wasm/expr.js";
import type { OpTable, Sem } from "./context.js";
import {
  at32,
  callStatus,
  def,
  immByte,
  isMem,
  mxcsr,
  result32,
  result64,
  result128,
  shuf,
  src128,
  src32,
  zero128,
} from "./fp-util.js";
import { AT } from "./helpers-fp.js";

/** One of the four shapes of a floating-point operand, with the operators the fast-path test needs. */
export interface Shape {
  readonly suffix: "ss" | "sd" | "ps" | "pd";
  readonly min: () => Expr;
  readonly inf: () => Expr;
  readonly zero: () => Expr;
  abs(e: Expr): Expr;
  ge(a: Expr, b: Expr): Expr;
  gt(a: Expr, b: Expr): Expr;
  lt(a: Expr, b: Expr): Expr;
  eq(a: Expr, b: Expr): Expr;
  and(a: Expr, b: Expr): Expr;
  or(a: Expr, b: Expr): Expr;
  /** All lanes true, as an i32. */
  all(m: Expr): Expr;
  add(a: Expr, b: Expr): Expr;
  sub(a: Expr, b: Expr): Expr;
  mul(a: Expr, b: Expr): Expr;
  div(a: Expr, b: Expr): Expr;
  sqrt(a: Expr): Expr;
  /** Operand i in this shape. */
  src(x: Sem, i: number): Expr;
  dst(x: Sem, i: number): Expr;
  /** Full register value from a result in this shape. */
  put(x: Sem, e: Expr): Expr;
  /** The result a helper left, as a full register value. */
  result(x: Sem): Expr;
  /** Helper name and argument from a value of this shape. */
  arg(e: Expr): Expr;
  readonly opHelper: string;
  readonly cmpHelper: string;
}

const MIN64 = 2.2250738585072014e-308;
const MIN32 = 1.1754943508222875e-38;
function repF64(x: number): () => Expr {
  const b = new Uint8Array(new Float64Array([x, x]).buffer);
  return () => c128(b);
}
function repF32(x: number): () => Expr {
  const b = new Uint8Array(new Float32Array([x, x, x, x]).buffer);
  return () => c128(b);
}

export const SD: Shape = {
  suffix: "sd",
  min: () => cf64(MIN64),
  inf: () => cf64(Infinity),
  zero: () => cf64(0),
  ...pickOps(f64),
  and: i32.and,
  or: i32.or,
  all: (m) => m,
  src: (x, i) => (isMem(x, i) ? x.let(f64.reinterpret(x.load(x.ea(), 8))) : x.let(v.f64x2_extract(x.readXmm(i), 0))),
  dst: (x, i) => x.let(v.f64x2_extract(x.readXmm(i), 0)),
  put: (x, e) => v.f64x2_replace(x.readXmm(0), 0, e),
  result: (x) => v.i64x2_replace(x.readXmm(0), 0, result64()),
  arg: (e) => i64.reinterpret_f64(e),
  opHelper: "sseOp64",
  cmpHelper: "sseCmp64",
};
export const SS: Shape = {
  suffix: "ss",
  min: () => cf32(MIN32),
  inf: () => cf32(Infinity),
  zero: () => cf32(0),
  ...pickOps(f32),
  and: i32.and,
  or: i32.or,
  all: (m) => m,
  src: (x, i) => (isMem(x, i) ? x.let(f32.reinterpret(x.load(x.ea(), 4))) : x.let(v.f32x4_extract(x.readXmm(i), 0))),
  dst: (x, i) => x.let(v.f32x4_extract(x.readXmm(i), 0)),
  put: (x, e) => v.f32x4_replace(x.readXmm(0), 0, e),
  result: (x) => v.i32x4_replace(x.readXmm(0), 0, result32()),
  arg: (e) => i32.reinterpret_f32(e),
  opHelper: "sseOp32",
  cmpHelper: "sseCmp32",
};
export const PD: Shape = {
  suffix: "pd",
  min: repF64(MIN64),
  inf: repF64(Infinity),
  zero: zero128,
  abs: v.f64x2_abs,
  ge: v.f64x2_ge,
  gt: v.f64x2_gt,
  lt: v.f64x2_lt,
  eq: v.f64x2_eq,
  and: v.and,
  or: v.or,
  all: (m) => i32.eq(v.i64x2_bitmask(m), c32(3)),
  add: v.f64x2_add,
  sub: v.f64x2_sub,
  mul: v.f64x2_mul,
  div: v.f64x2_div,
  sqrt: v.f64x2_sqrt,
  src: (x, i) => src128(x, i),
  dst: (x, i) => x.let(x.readXmm(i)),
  put: (_x, e) => e,
  result: () => result128(),
  arg: (e) => e,
  opHelper: "sseOpPd",
  cmpHelper: "sseCmpPd",
};
export const PS: Shape = {
  suffix: "ps",
  min: repF32(MIN32),
  inf: repF32(Infinity),
  zero: zero128,
  abs: v.f32x4_abs,
  ge: v.f32x4_ge,
  gt: v.f32x4_gt,
  lt: v.f32x4_lt,
  eq: v.f32x4_eq,
  and: v.and,
  or: v.or,
  all: (m) => i32.eq(v.i32x4_bitmask(m), c32(15)),
  add: v.f32x4_add,
  sub: v.f32x4_sub,
  mul: v.f32x4_mul,
  div: v.f32x4_div,
  sqrt: v.f32x4_sqrt,
  src: (x, i) => src128(x, i),
  dst: (x, i) => x.let(x.readXmm(i)),
  put: (_x, e) => e,
  result: () => result128(),
  arg: (e) => e,
  opHelper: "sseOpPs",
  cmpHelper: "sseCmpPs",
};
function pickOps(
  f: typeof f32 | typeof f64,
): Pick<Shape, "abs" | "ge" | "gt" | "lt" | "eq" | "add" | "sub" | "mul" | "div" | "sqrt"> {
  return {
    abs: f.abs,
    ge: f.ge,
    gt: f.gt,
    lt: f.lt,
    eq: f.eq,
    add: f.add,
    sub: f.sub,
    mul: f.mul,
    div: f.div,
    sqrt: f.sqrt,
  };
}

/** Rounding to nearest, PM masked and PE recorded. */
export function quiet(): Expr {
  return i32.eq(i32.and(mxcsr(), c32(0x7020)), c32(0x1020));
}
/** Each lane normal or infinite, or zero (`absolute` is |e|, bound). */
export function plain(s: Shape, absolute: Expr): Expr {
  return s.or(s.ge(absolute, s.min()), s.eq(absolute, s.zero()));
}

type Arith = "add" | "sub" | "mul" | "div" | "sqrt";
const OP: Record<string, number> = { add: 0, mul: 1, sub: 2, div: 3, min: 4, max: 5, sqrt: 6 };

/** The whole instruction for given operand values: test, native result or helper. `put`/`slow` make the register value. */
function compute(x: Sem, s: Shape, op: Arith, a: Expr, b: Expr, slow: () => void): void {
  const r = x.let(op === "sqrt" ? s.sqrt(b) : s[op](a, b));
  const absB = x.let(s.abs(b));
  let ok: Expr;
  if (op === "sqrt") ok = s.or(s.and(s.ge(b, s.min()), s.lt(b, s.inf())), s.eq(b, s.zero()));
  else {
    const absA = x.let(s.abs(a));
    const absR = x.let(s.abs(r));
    const zeros =
      op === "mul"
        ? s.or(s.eq(absA, s.zero()), s.eq(absB, s.zero()))
        : op === "div"
          ? s.eq(absA, s.zero())
          : s.eq(absR, s.zero());
    ok = s.and(s.and(plain(s, absA), plain(s, absB)), s.and(s.lt(absR, s.inf()), s.or(s.gt(absR, s.min()), zeros)));
  }
  const out = x.var("v128");
  x.when(
    i32.and(s.all(ok), quiet()),
    () => out.set(s.put(x, r)),
    () => {
      slow();
      out.set(s.result(x));
    },
    true,
  );
  x.writeXmm(0, out.get());
}

function arith(ops: OpTable, op: Arith, s: Shape): void {
  def(ops, op + s.suffix, (x) => {
    const b = s.src(x, 1);
    const a = op === "sqrt" ? b : s.dst(x, 0);
    compute(x, s, op, a, b, () => callStatus(x, s.opHelper, [c32(OP[op] as number), s.arg(a), s.arg(b)]));
  });
}

/** min/max: the second operand when equal or unordered. Nothing rounds, so only NaNs and denormals leave the fast path. */
function minmax(ops: OpTable, op: "min" | "max", s: Shape): void {
  def(ops, op + s.suffix, (x) => {
    const b = s.src(x, 1);
    const a = s.dst(x, 0);
    const absA = x.let(s.abs(a));
    const absB = x.let(s.abs(b));
    const out = x.var("v128");
    x.when(
      s.all(s.and(plain(s, absA), plain(s, absB))),
      () => {
        // wasm's pmin(p, q) is q < p ? q : p; pmax is p < q ? q : p.
        let r: Expr;
        if (s === PD) r = op === "min" ? v.f64x2_pmin(b, a) : v.f64x2_pmax(b, a);
        else if (s === PS) r = op === "min" ? v.f32x4_pmin(b, a) : v.f32x4_pmax(b, a);
        else r = select(op === "min" ? s.lt(a, b) : s.gt(a, b), a, b);
        out.set(s.put(x, r));
      },
      () => {
        callStatus(x, s.opHelper, [c32(OP[op] as number), s.arg(a), s.arg(b)]);
        out.set(s.result(x));
      },
      true,
    );
    x.writeXmm(0, out.get());
  });
}

function compare(ops: OpTable, s: Shape): void {
  def(
    ops,
    `cmp${s.suffix}`,
    (x) => {
      const pred = immByte(x) & 7;
      const b = s.src(x, 1);
      const a = s.dst(x, 0);
      const absA = x.let(s.abs(a));
      const absB = x.let(s.abs(b));
      const out = x.var("v128");
      const packed = s === PD || s === PS;
      x.when(
        s.all(s.and(plain(s, absA), plain(s, absB))),
        () => {
          let m: Expr;
          const le = (p: Expr, q: Expr): Expr => s.ge(q, p);
          if (packed) {
            const none = v.xor(a, a);
            const base = [s.eq(a, b), s.lt(a, b), le(a, b), none][pred & 3] as Expr;
            m = (pred & 4) !== 0 ? v.not(base) : base;
          } else {
            const base = [s.eq(a, b), s.lt(a, b), le(a, b), c32(0)][pred & 3] as Expr;
            const bit = (pred & 4) !== 0 ? i32.eqz(base) : base;
            const mask = i32.sub(c32(0), bit);
            m =
              s === SD ? v.i64x2_replace(x.readXmm(0), 0, i64.extend_s(mask)) : v.i32x4_replace(x.readXmm(0), 0, mask);
          }
          out.set(m);
        },
        () => {
          callStatus(x, s.cmpHelper, [c32(pred), s.arg(a), s.arg(b)]);
          out.set(s.result(x));
        },
        true,
      );
      x.writeXmm(0, out.get());
    },
    true,
  );
}

/** comiss, comisd (QNaN is invalid) and ucomiss, ucomisd: CF below, ZF equal, all three unordered. */
function comi(ops: OpTable, op: string, s: Shape, quietNan: boolean): void {
  def(ops, op, (x) => {
    const b = s.src(x, 1);
    const a = s.dst(x, 0);
    const absA = x.let(s.abs(a));
    const absB = x.let(s.abs(b));
    const image = x.var("i32");
    x.when(
      i32.and(plain(s, absA), plain(s, absB)),
      () => image.set(i32.or(s.lt(a, b), i32.shl(s.eq(a, b), c32(6)))),
      () => {
        callStatus(x, s === SD ? "sseComi64" : "sseComi32", [c32(quietNan ? 1 : 0), s.arg(a), s.arg(b)]);
        image.set(at32(AT.FLAGS));
      },
      true,
    );
    x.setFlagsImage(image.get());
  });
}

export function register(ops: OpTable): void {
  for (const s of [SS, SD, PS, PD]) {
    for (const op of ["add", "sub", "mul", "div", "sqrt"] as const) arith(ops, op, s);
    minmax(ops, "min", s);
    minmax(ops, "max", s);
    compare(ops, s);
  }
  comi(ops, "comiss", SS, false);
  comi(ops, "comisd", SD, false);
  comi(ops, "ucomiss", SS, true);
  comi(ops, "ucomisd", SD, true);

  // SSE3. addsub: even elements subtract, odd add. Adding the negated element would not be exact for NaNs, so it is only
  // the fast path's way; horizontal forms are ordinary additions of rearranged operands.
  const signsPs = (): Expr => c128(new Uint8Array([0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0]));
  const signsPd = (): Expr => c128(new Uint8Array([0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0]));
  for (const s of [PS, PD])
    def(ops, `addsub${s.suffix}`, (x) => {
      const b = s.src(x, 1);
      const a = s.dst(x, 0);
      const flipped = x.let(v.xor(b, s === PS ? signsPs() : signsPd()));
      compute(x, s, "add", a, flipped, () => callStatus(x, s === PS ? "sseMixPs" : "sseMixPd", [c32(2), c32(0), a, b]));
    });
  for (const op of ["add", "sub"] as const)
    for (const s of [PS, PD])
      def(ops, `h${op}${s.suffix}`, (x) => {
        const b = s.src(x, 1);
        const a = s.dst(x, 0);
        const p = x.let(s === PS ? shuf(a, b, 4, 0, 2, 4, 6) : shuf(a, b, 8, 0, 2));
        const q = x.let(s === PS ? shuf(a, b, 4, 1, 3, 5, 7) : shuf(a, b, 8, 1, 3));
        compute(x, s, op, p, q, () => callStatus(x, s.opHelper, [c32(OP[op] as number), p, q]));
      });

  // SSE4.1 dot products: rounding order is observable, so they are the helper's.
  for (const [op, fn] of [
    ["dpps", "sseDpps"],
    ["dppd", "sseDppd"],
  ] as const)
    def(
      ops,
      op,
      (x) => {
        const b = src128(x, 1);
        callStatus(x, fn, [x.readXmm(0), b, c32(immByte(x))]);
        x.writeXmm(0, result128());
      },
      true,
    );

  // roundXX. Bits 0–1 of the immediate choose the rounding unless bit 2 defers to MXCSR; bit 3 suppresses PE.
  const native: Record<string, Record<number, (e: Expr) => Expr>> = {
    ss: { 0: f32.nearest, 1: f32.floor, 2: f32.ceil, 3: f32.trunc },
    sd: { 0: f64.nearest, 1: f64.floor, 2: f64.ceil, 3: f64.trunc },
    ps: { 0: v.f32x4_nearest, 1: v.f32x4_floor, 2: v.f32x4_ceil, 3: v.f32x4_trunc },
    pd: { 0: v.f64x2_nearest, 1: v.f64x2_floor, 2: v.f64x2_ceil, 3: v.f64x2_trunc },
  };
  const roundHelper = { ss: "sseRound32", sd: "sseRound64", ps: "sseRoundPs", pd: "sseRoundPd" };
  for (const s of [SS, SD, PS, PD])
    def(
      ops,
      `round${s.suffix}`,
      (x) => {
        const m = immByte(x) & 15;
        const b = s.src(x, 1);
        const absB = x.let(s.abs(b));
        const out = x.var("v128");
        const f = native[s.suffix]?.[(m & 4) !== 0 ? 0 : m & 3] as (e: Expr) => Expr;
        const ok = s.all(plain(s, absB));
        // PE must be recorded (or suppressed); MXCSR's own rounding must be to nearest where it is asked for.
        const cond = (m & 8) !== 0 && (m & 4) === 0 ? ok : i32.and(ok, quiet());
        x.when(
          cond,
          () => out.set(s.put(x, f(b))),
          () => {
            callStatus(x, roundHelper[s.suffix], [s.arg(b), c32(m)]);
            out.set(s.result(x));
          },
          true,
        );
        x.writeXmm(0, out.get());
      },
      true,
    );

  for (const [op, root] of [
    ["rcp", 0],
    ["rsqrt", 1],
  ] as const) {
    def(ops, `${op}ss`, (x) => {
      const b = src32(x, 1);
      const r = x.let(x.helper("sseApprox", [b, c32(root)]));
      x.writeXmm(0, v.i32x4_replace(x.readXmm(0), 0, r));
    });
    def(ops, `${op}ps`, (x) => {
      const b = src128(x, 1);
      x.writeXmm(0, x.let(x.helper("sseApproxPs", [b, c32(root)])));
    });
  }

  def(ops, "ldmxcsr", (x) => callStatus(x, "sseLdmxcsr", [x.let(x.load(x.ea(), 4))]));
  def(ops, "stmxcsr", (x) => x.store(x.ea(), 4, mxcsr()));
}
