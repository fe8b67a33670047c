/**
 * Packed integers: MMX, SSE2, SSSE3 and the SSE4 ones that have the same form. Every operation is written on 128 bits; the MMX
 * form puts its 64-bit operands into the low halves and takes the low half of the result (or, for operations that gather
 * from both operands, works on dst:src as one vector).
 */
import { c32, c64, i32, i64, select, v, type Expr } from "../../wasm/expr.js";
import { K } from "../insn.js";
import type { OpTable, Sem } from "./context.js";
import {
  def,
  gpr32,
  immByte,
  isMem,
  isMmx,
  kind,
  lo64,
  low,
  mmxEnter,
  putGpr,
  putMmx,
  rep128,
  shuf,
  src128,
  src64,
  zero128,
} from "./fp-util.js";

type F2 = (a: Expr, b: Expr, x: Sem) => Expr;

/** Lane-wise operation on [dst, src]: both register files. `f` may use its arguments more than once. */
function binary(ops: OpTable, op: string, f: F2, mmx?: F2): void {
  def(ops, op, (x) => {
    if (isMmx(x, 0)) {
      // The low unpacks read only half of a memory operand.
      const b = isMem(x, 1) && x.insn.ops[1]?.size === 4 ? x.let(i64.extend_u(x.load(x.ea(), 4))) : src64(x, 1);
      mmxEnter(x);
      const bv = x.let(low(b));
      const av = x.let(low(x.readMmx(0)));
      putMmx(x, 0, lo64((mmx ?? f)(av, bv, x)));
    } else {
      const b = src128(x, 1);
      const a = x.let(x.readXmm(0));
      x.writeXmm(0, f(a, b, x));
    }
  });
}
/** Operation whose MMX form sees dst:src as one vector and takes the low half of f(that, that). */
const joined =
  (f: F2): F2 =>
  (a, b, x) => {
    const both = x.let(shuf(a, b, 8, 0, 2));
    return f(both, both, x);
  };
function gather(ops: OpTable, op: string, f: F2): void {
  binary(ops, op, f, joined(f));
}
function unary(ops: OpTable, op: string, f: (a: Expr, x: Sem) => Expr): void {
  binary(ops, op, (_a, b, x) => f(b, x));
}

/** Shift by a 64-bit count (register or memory) or an immediate: at or beyond the width it is all zero, or all sign. */
function shift(ops: OpTable, op: string, width: number, kindOf: "l" | "r" | "a", f: (a: Expr, n: Expr) => Expr): void {
  def(
    ops,
    op,
    (x) => {
      const mmx = isMmx(x, 0);
      const take = (): Expr => (mmx ? low(x.readMmx(0)) : x.readXmm(0));
      const put = (e: Expr): void => {
        if (mmx) putMmx(x, 0, lo64(e));
        else x.writeXmm(0, e);
      };
      if (kind(x, 1) === K.IMM) {
        const n = immByte(x);
        if (mmx) mmxEnter(x);
        if (n < width) put(n === 0 ? take() : f(take(), c32(n)));
        else put(kindOf === "a" ? f(take(), c32(width - 1)) : zero128());
        return;
      }
      const count = mmx ? src64(x, 1) : x.let(lo64(src128(x, 1)));
      if (mmx) mmxEnter(x);
      const big = x.let(i64.gt_u(count, c64(width - 1)));
      if (kindOf === "a") put(f(take(), select(big, c32(width - 1), i32.wrap(count))));
      else {
        const a = x.let(take());
        put(v.and(f(a, i32.wrap(count)), v.splat32(select(big, c32(0), c32(-1)))));
      }
    },
    true,
  );
}

const sad: F2 = (a, b, x) => {
  const d = v.or(v.i8x16_sub_sat_u(a, b), v.i8x16_sub_sat_u(b, a));
  const s = x.let(v.i32x4_extadd_pairwise_i16x8_u(v.i16x8_extadd_pairwise_i8x16_u(d)));
  return v.i64x2_add(v.and(s, rep128(255, 255, 255, 255, 0, 0, 0, 0)), v.i64x2_shr_u(s, c32(32)));
};
const mulHigh =
  (lo: F2, hi: F2): F2 =>
  (a, b, x) =>
    shuf(lo(a, b, x), hi(a, b, x), 2, 1, 3, 5, 7, 9, 11, 13, 15);
const even32 = (e: Expr): Expr => shuf(e, e, 4, 0, 2, 0, 2);
/** The sign of b applied to a: 0 where b is 0, −a where b is negative. */
const sign =
  (shr: (a: Expr, n: Expr) => Expr, bits: number, sub: F2, eq: F2): F2 =>
  (a, b, x) => {
    const m = x.let(shr(b, c32(bits - 1)));
    return v.andnot(sub(v.xor(a, m), m, x), eq(b, zero128(), x));
  };
const horizontal =
  (f: (a: Expr, b: Expr) => Expr, size: 2 | 4): F2 =>
  (a, b) =>
    size === 2
      ? f(shuf(a, b, 2, 0, 2, 4, 6, 8, 10, 12, 14), shuf(a, b, 2, 1, 3, 5, 7, 9, 11, 13, 15))
      : f(shuf(a, b, 4, 0, 2, 4, 6), shuf(a, b, 4, 1, 3, 5, 7));
const maddubs: F2 = (a, b) =>
  v.i16x8_add_sat_s(
    v.i16x8_mul(v.and(a, rep128(0xff, 0)), v.i16x8_shr_s(v.i16x8_shl(b, c32(8)), c32(8))),
    v.i16x8_mul(v.i16x8_shr_u(a, c32(8)), v.i16x8_shr_s(b, c32(8))),
  );

export function register(ops: OpTable): void {
  const lanewise: Record<string, (a: Expr, b: Expr) => Expr> = {
    paddb: v.i8x16_add,
    paddw: v.i16x8_add,
    paddd: v.i32x4_add,
    paddq: v.i64x2_add,
    psubb: v.i8x16_sub,
    psubw: v.i16x8_sub,
    psubd: v.i32x4_sub,
    psubq: v.i64x2_sub,
    paddsb: v.i8x16_add_sat_s,
    paddsw: v.i16x8_add_sat_s,
    paddusb: v.i8x16_add_sat_u,
    paddusw: v.i16x8_add_sat_u,
    psubsb: v.i8x16_sub_sat_s,
    psubsw: v.i16x8_sub_sat_s,
    psubusb: v.i8x16_sub_sat_u,
    psubusw: v.i16x8_sub_sat_u,
    pmullw: v.i16x8_mul,
    pmulld: v.i32x4_mul,
    pmaddwd: v.i32x4_dot_i16x8_s,
    pavgb: v.i8x16_avgr_u,
    pavgw: v.i16x8_avgr_u,
    pmaxub: v.i8x16_max_u,
    pmaxsb: v.i8x16_max_s,
    pmaxuw: v.i16x8_max_u,
    pmaxsw: v.i16x8_max_s,
    pmaxud: v.i32x4_max_u,
    pmaxsd: v.i32x4_max_s,
    pminub: v.i8x16_min_u,
    pminsb: v.i8x16_min_s,
    pminuw: v.i16x8_min_u,
    pminsw: v.i16x8_min_s,
    pminud: v.i32x4_min_u,
    pminsd: v.i32x4_min_s,
    pcmpeqb: v.i8x16_eq,
    pcmpeqw: v.i16x8_eq,
    pcmpeqd: v.i32x4_eq,
    pcmpeqq: v.i64x2_eq,
    pcmpgtb: v.i8x16_gt_s,
    pcmpgtw: v.i16x8_gt_s,
    pcmpgtd: v.i32x4_gt_s,
    pcmpgtq: v.i64x2_gt_s,
    pand: v.and,
    por: v.or,
    pxor: v.xor,
  };
  for (const [op, f] of Object.entries(lanewise)) binary(ops, op, f);
  binary(ops, "pandn", (a, b) => v.andnot(b, a));
  binary(ops, "pmulhw", mulHigh(v.i32x4_extmul_low_i16x8_s, v.i32x4_extmul_high_i16x8_s));
  binary(ops, "pmulhuw", mulHigh(v.i32x4_extmul_low_i16x8_u, v.i32x4_extmul_high_i16x8_u));
  binary(ops, "pmuludq", (a, b) => v.i64x2_extmul_low_i32x4_u(even32(a), even32(b)));
  binary(ops, "pmuldq", (a, b) => v.i64x2_extmul_low_i32x4_s(even32(a), even32(b)));
  binary(ops, "psadbw", sad);
  // −32768 × −32768 is the one case where x86 wraps and wasm saturates.
  binary(ops, "pmulhrsw", (a, b) => {
    const min = rep128(0, 0x80);
    return v.xor(v.i16x8_q15mulr_sat_s(a, b), v.and(v.i16x8_eq(a, min), v.i16x8_eq(b, min)));
  });
  binary(ops, "pmaddubsw", maddubs);
  binary(ops, "psignb", sign(v.i8x16_shr_s, 8, v.i8x16_sub, v.i8x16_eq));
  binary(ops, "psignw", sign(v.i16x8_shr_s, 16, v.i16x8_sub, v.i16x8_eq));
  binary(ops, "psignd", sign(v.i32x4_shr_s, 32, v.i32x4_sub, v.i32x4_eq));
  unary(ops, "pabsb", v.i8x16_abs);
  unary(ops, "pabsw", v.i16x8_abs);
  unary(ops, "pabsd", v.i32x4_abs);
  gather(ops, "phaddw", horizontal(v.i16x8_add, 2));
  gather(ops, "phaddsw", horizontal(v.i16x8_add_sat_s, 2));
  gather(ops, "phaddd", horizontal(v.i32x4_add, 4));
  gather(ops, "phsubw", horizontal(v.i16x8_sub, 2));
  gather(ops, "phsubsw", horizontal(v.i16x8_sub_sat_s, 2));
  gather(ops, "phsubd", horizontal(v.i32x4_sub, 4));
  gather(ops, "packsswb", v.i8x16_narrow_i16x8_s);
  gather(ops, "packuswb", v.i8x16_narrow_i16x8_u);
  gather(ops, "packssdw", v.i16x8_narrow_i32x4_s);
  gather(ops, "packusdw", v.i16x8_narrow_i32x4_u);
  // pshufb: bit 7 of a selector gives zero; the other high bits are ignored. MMX selects among 8.
  binary(
    ops,
    "pshufb",
    (a, b) => v.i8x16_swizzle(a, v.and(b, rep128(0x8f))),
    (a, b) => v.i8x16_swizzle(a, v.and(b, rep128(0x87))),
  );

  const seq = (size: number, first: number, second: number): number[] => {
    const out: number[] = [];
    for (let i = 0; i < 8 / size; i++) out.push(first + i, second + i);
    return out;
  };
  for (const [suffix, size] of [
    ["bw", 1],
    ["wd", 2],
    ["dq", 4],
    ["qdq", 8],
  ] as const) {
    const n = 16 / size;
    binary(ops, `punpckl${suffix}`, (a, b) => shuf(a, b, size, ...seq(size, 0, n)));
    binary(
      ops,
      `punpckh${suffix}`,
      (a, b) => shuf(a, b, size, ...seq(size, n / 2, n + n / 2)),
      // High half of a 64-bit register: the upper part of the low interleave.
      (a, b, x) => {
        const e = x.let(shuf(a, b, size, ...seq(size, 0, n)));
        return shuf(e, e, 8, 1, 1);
      },
    );
  }
  binary(ops, "unpcklps", (a, b) => shuf(a, b, 4, 0, 4, 1, 5));
  binary(ops, "unpckhps", (a, b) => shuf(a, b, 4, 2, 6, 3, 7));
  binary(ops, "unpcklpd", (a, b) => shuf(a, b, 8, 0, 2));
  binary(ops, "unpckhpd", (a, b) => shuf(a, b, 8, 1, 3));

  const pick = (imm: number, i: number): number => (imm >> (2 * i)) & 3;
  const shufImm = (op: string, f: (a: Expr, b: Expr, imm: number) => Expr): void =>
    def(
      ops,
      op,
      (x) => {
        const b = src128(x, 1);
        x.writeXmm(0, f(x.let(x.readXmm(0)), b, immByte(x)));
      },
      true,
    );
  shufImm("pshufd", (_a, b, m) => shuf(b, b, 4, pick(m, 0), pick(m, 1), pick(m, 2), pick(m, 3)));
  shufImm("pshuflw", (_a, b, m) => shuf(b, b, 2, pick(m, 0), pick(m, 1), pick(m, 2), pick(m, 3), 4, 5, 6, 7));
  shufImm("pshufhw", (_a, b, m) =>
    shuf(b, b, 2, 0, 1, 2, 3, 4 + pick(m, 0), 4 + pick(m, 1), 4 + pick(m, 2), 4 + pick(m, 3)),
  );
  shufImm("shufps", (a, b, m) => shuf(a, b, 4, pick(m, 0), pick(m, 1), 4 + pick(m, 2), 4 + pick(m, 3)));
  shufImm("shufpd", (a, b, m) => shuf(a, b, 8, m & 1, 2 + ((m >> 1) & 1)));
  def(
    ops,
    "pshufw",
    (x) => {
      const b = src64(x, 1);
      const m = immByte(x);
      mmxEnter(x);
      const bv = x.let(low(b));
      putMmx(x, 0, lo64(shuf(bv, bv, 2, pick(m, 0), pick(m, 1), pick(m, 2), pick(m, 3), 4, 5, 6, 7)));
    },
    true,
  );
  // Bytes n… of src:dst, zero beyond.
  def(
    ops,
    "palignr",
    (x) => {
      const n = immByte(x);
      if (isMmx(x, 0)) {
        const b = src64(x, 1);
        mmxEnter(x);
        const both = x.let(shuf(low(b), low(x.readMmx(0)), 8, 0, 2));
        const l = Array.from({ length: 16 }, (_, i) => (i < 8 && i + n < 16 ? i + n : 16));
        putMmx(x, 0, lo64(shuf(both, zero128(), 1, ...l)));
        return;
      }
      const b = src128(x, 1);
      if (n < 16) x.writeXmm(0, shuf(b, x.readXmm(0), 1, ...Array.from({ length: 16 }, (_, i) => i + n)));
      else
        x.writeXmm(
          0,
          shuf(x.readXmm(0), zero128(), 1, ...Array.from({ length: 16 }, (_, i) => Math.min(i + n - 16, 16))),
        );
    },
    true,
  );

  shift(ops, "psllw", 16, "l", v.i16x8_shl);
  shift(ops, "pslld", 32, "l", v.i32x4_shl);
  shift(ops, "psllq", 64, "l", v.i64x2_shl);
  shift(ops, "psrlw", 16, "r", v.i16x8_shr_u);
  shift(ops, "psrld", 32, "r", v.i32x4_shr_u);
  shift(ops, "psrlq", 64, "r", v.i64x2_shr_u);
  shift(ops, "psraw", 16, "a", v.i16x8_shr_s);
  shift(ops, "psrad", 32, "a", v.i32x4_shr_s);
  def(
    ops,
    "pslldq",
    (x) => {
      const n = Math.min(immByte(x), 16);
      x.writeXmm(
        0,
        shuf(zero128(), x.readXmm(0), 1, ...Array.from({ length: 16 }, (_, i) => (i < n ? 0 : 16 + i - n))),
      );
    },
    true,
  );
  def(
    ops,
    "psrldq",
    (x) => {
      const n = Math.min(immByte(x), 16);
      x.writeXmm(0, shuf(x.readXmm(0), zero128(), 1, ...Array.from({ length: 16 }, (_, i) => Math.min(i + n, 16))));
    },
    true,
  );

  // Insert and extract. pextrw has a register form from MMX too; pextrb/w write zero-extended registers.
  def(
    ops,
    "pinsrw",
    (x) => {
      const e = isMem(x, 1) ? x.let(x.load(x.ea(), 2)) : x.let(i32.and(gpr32(x, 1), c32(0xffff)));
      if (isMmx(x, 0)) {
        mmxEnter(x);
        putMmx(x, 0, lo64(v.i16x8_replace(low(x.readMmx(0)), immByte(x) & 3, e)));
      } else x.writeXmm(0, v.i16x8_replace(x.readXmm(0), immByte(x) & 7, e));
    },
    true,
  );
  def(
    ops,
    "pextrw",
    (x) => {
      if (isMmx(x, 1)) {
        const e = x.let(v.i16x8_extract_u(low(x.readMmx(1)), immByte(x) & 3));
        mmxEnter(x);
        putGpr(x, 0, e);
      } else putGpr(x, 0, v.i16x8_extract_u(x.readXmm(1), immByte(x) & 7));
    },
    true,
  );
  def(ops, "pextrb", (x) => putGpr(x, 0, v.i8x16_extract_u(x.readXmm(1), immByte(x) & 15)), true);
  def(ops, "pextrd", (x) => putGpr(x, 0, v.i32x4_extract(x.readXmm(1), immByte(x) & 3)), true);
  def(ops, "extractps", (x) => putGpr(x, 0, v.i32x4_extract(x.readXmm(1), immByte(x) & 3)), true);
  def(ops, "pextrq", (x) => x.write(0, v.i64x2_extract(x.readXmm(1), immByte(x) & 1)), true);
  def(
    ops,
    "pinsrb",
    (x) => {
      const e = isMem(x, 1) ? x.let(x.load(x.ea(), 1)) : x.let(gpr32(x, 1));
      x.writeXmm(0, v.i8x16_replace(x.readXmm(0), immByte(x) & 15, e));
    },
    true,
  );
  def(
    ops,
    "pinsrd",
    (x) => {
      const e = isMem(x, 1) ? x.let(x.load(x.ea(), 4)) : x.let(gpr32(x, 1));
      x.writeXmm(0, v.i32x4_replace(x.readXmm(0), immByte(x) & 3, e));
    },
    true,
  );
  def(
    ops,
    "pinsrq",
    (x) => {
      const e = isMem(x, 1) ? x.let(x.load(x.ea(), 8)) : x.let(x.read(1));
      x.writeXmm(0, v.i64x2_replace(x.readXmm(0), immByte(x) & 1, e));
    },
    true,
  );
}
