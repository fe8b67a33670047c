/** SSE4.1/4.2 operations that are not plain lane arithmetic: blends, extensions, ptest, string compares (crc32 and popcnt are with the integer operations). */
import { c32, c64, i32, i64, select, v, type Expr } from "../../wasm/expr.js";
import { CF, ZF } from "../flags.js";
import type { OpTable } from "./context.js";
import {
  at32,
  def,
  immByte,
  isMem,
  low,
  low32,
  result32,
  result128,
  shuf,
  src128,
  src16,
  src32,
  src64,
  zero128,
} from "./fp-util.js";
import { AT } from "./helpers-fp.js";

function blend(ops: OpTable, op: string, size: number): void {
  def(
    ops,
    op,
    (x) => {
      const b = src128(x, 1);
      const n = 16 / size;
      const m = immByte(x);
      x.writeXmm(
        0,
        shuf(x.readXmm(0), b, size, ...Array.from({ length: n }, (_, i) => ((m >> (i % 8)) & 1 ? n + i : i))),
      );
    },
    true,
  );
}

/** pcmpestri/m, pcmpistri/m: SDM vol. 2, 4.1. The memory operand need not be aligned. */
function stringCompare(ops: OpTable, op: string, explicit: boolean, index: boolean): void {
  def(
    ops,
    op,
    (x) => {
      const b = x.let(x.read128(1, false));
      const a = x.let(x.readXmm(0));
      // Lengths in EAX/EDX (RAX/RDX with REX.W) saturate; −1 asks the helper to look for the null itself.
      const len = (n: number): Expr => {
        if (!explicit) return c32(-1);
        if (x.insn.osize === 8) {
          const g = x.let(x.gpr(n));
          const neg = i64.shr_s(g, c64(63));
          const abs = x.let(i64.sub(i64.xor(g, neg), neg));
          return select(i64.gt_u(abs, c64(16)), c32(16), i32.wrap(abs));
        }
        const g = x.let(x.gprSized(n, 4));
        const neg = i32.shr_s(g, c32(31));
        const abs = x.let(i32.sub(i32.xor(g, neg), neg));
        return select(i32.gt_u(abs, c32(16)), c32(16), abs);
      };
      const la = x.let(len(0));
      const lb = x.let(len(2));
      x.helperVoid("ssePcmpstr", [a, b, la, lb, c32(immByte(x)), c32(index ? 1 : 0)]);
      const flags = x.let(at32(AT.FLAGS));
      if (index) x.setGprSized(1, 4, result32());
      else x.setXmm(0, result128());
      x.setFlagsImage(flags);
    },
    true,
  );
}

export function register(ops: OpTable): void {
  const extend = (name: string, steps: ((e: Expr) => Expr)[], ratio: 2 | 4 | 8): void => {
    def(ops, name, (x) => {
      const e = ratio === 2 ? low(src64(x, 1)) : ratio === 4 ? low32(src32(x, 1)) : low32(src16(x, 1));
      x.writeXmm(
        0,
        steps.reduce((a, f) => f(a), e),
      );
    });
  };
  for (const s of ["s", "z"] as const) {
    const b = s === "s" ? v.i16x8_extend_low_i8x16_s : v.i16x8_extend_low_i8x16_u;
    const w = s === "s" ? v.i32x4_extend_low_i16x8_s : v.i32x4_extend_low_i16x8_u;
    const d = s === "s" ? v.i64x2_extend_low_i32x4_s : v.i64x2_extend_low_i32x4_u;
    extend(`pmov${s}xbw`, [b], 2);
    extend(`pmov${s}xbd`, [b, w], 4);
    extend(`pmov${s}xbq`, [b, w, d], 8);
    extend(`pmov${s}xwd`, [w], 2);
    extend(`pmov${s}xwq`, [w, d], 4);
    extend(`pmov${s}xdq`, [d], 2);
  }
  blend(ops, "blendps", 4);
  blend(ops, "blendpd", 8);
  blend(ops, "pblendw", 2);
  const blendv = (op: string, f: (m: Expr) => Expr): void =>
    def(ops, op, (x) => {
      const b = src128(x, 1);
      x.writeXmm(0, v.bitselect(b, x.readXmm(0), f(x.xmm(0))));
    });
  blendv("pblendvb", (m) => v.i8x16_shr_s(m, c32(7)));
  blendv("blendvps", (m) => v.i32x4_shr_s(m, c32(31)));
  blendv("blendvpd", (m) => v.i64x2_shr_s(m, c32(63)));

  def(ops, "ptest", (x) => {
    const b = src128(x, 1);
    const a = x.let(x.readXmm(0));
    const z = select(v.any_true(v.and(a, b)), c32(0), c32(ZF));
    const c = select(v.any_true(v.andnot(b, a)), c32(0), c32(CF));
    x.setFlagsImage(x.let(i32.or(z, c)));
  });
  def(
    ops,
    "insertps",
    (x) => {
      const m = immByte(x);
      // The source lane is chosen only for a register source.
      const e = isMem(x, 1) ? x.let(x.load(x.ea(), 4)) : x.let(v.i32x4_extract(x.readXmm(1), m >> 6));
      const r = v.i32x4_replace(x.readXmm(0), (m >> 4) & 3, e);
      x.writeXmm(0, (m & 15) === 0 ? r : shuf(r, zero128(), 4, ...[0, 1, 2, 3].map((i) => ((m >> i) & 1 ? 4 : i))));
    },
    true,
  );
  def(ops, "phminposuw", (x) => {
    const b = src128(x, 1);
    // Minimum in every lane by two folds of four and one of two; then the first lane that equals it.
    let r = x.let(v.i16x8_min_u(b, shuf(b, b, 8, 1, 0)));
    r = x.let(v.i16x8_min_u(r, shuf(r, r, 4, 1, 0, 3, 2)));
    r = x.let(v.i16x8_min_u(r, shuf(r, r, 2, 1, 0, 3, 2, 5, 4, 7, 6)));
    const at = i32.ctz(v.i16x8_bitmask(v.i16x8_eq(r, b)));
    x.writeXmm(0, low32(i32.or(v.i16x8_extract_u(r, 0), i32.shl(at, c32(16)))));
  });
  def(
    ops,
    "mpsadbw",
    (x) => {
      const b = src128(x, 1);
      const a = x.let(x.readXmm(0));
      const m = immByte(x);
      const bo = (m & 3) * 4;
      const ao = (m & 4) !== 0 ? 4 : 0;
      const abs = (p: Expr, q: Expr): Expr => v.or(v.i8x16_sub_sat_u(p, q), v.i8x16_sub_sat_u(q, p));
      let sum: Expr | undefined;
      for (let k = 0; k < 4; k++) {
        // Words: byte ao+i+k of a against byte bo+k of b.
        const p = x.let(shuf(a, a, 1, ...Array.from({ length: 16 }, (_, i) => (i < 8 ? ao + i + k : 0))));
        const q = x.let(shuf(b, b, 1, ...Array.from({ length: 16 }, () => bo + k)));
        const d = v.i16x8_extend_low_i8x16_u(abs(p, q));
        sum = x.let(sum ? v.i16x8_add(sum, d) : d);
      }
      x.writeXmm(0, sum as Expr);
    },
    true,
  );
  stringCompare(ops, "pcmpestri", true, true);
  stringCompare(ops, "pcmpestrm", true, false);
  stringCompare(ops, "pcmpistri", false, true);
  stringCompare(ops, "pcmpistrm", false, false);
}
