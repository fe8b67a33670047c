/**
 * WebAssembly expressions as small trees: what the semantics compute with and the encoder writes out.
 *
 * A tree is a description, not a value: it is evaluated where it is consumed (a store, a local, a condition), so a tree that
 * reads a local must be consumed before that local changes; bind it with the context's `let` where that is in doubt.
 * Constants fold where folding is trivial; V8 does the rest.
 */

export type ValType = "i32" | "i64" | "f32" | "f64" | "v128";

export const N = {
  I32: 0,
  I64: 1,
  LOCAL: 2,
  OP: 3,
  LOAD: 4,
  CALL: 5,
  F64: 6,
  LANE: 7,
  V128: 8,
  SHUFFLE: 9,
  GLOBAL: 10,
  SELECT: 11,
  F32: 12,
} as const;

export interface Expr {
  readonly n: number;
  readonly t: ValType;
  /** Opcode (prefix bytes in the high part: 0xfd00xx for SIMD, 0xfc00xx for saturating), local or global index, function index. */
  readonly code: number;
  readonly args: readonly Expr[];
  /** i32 value, i64 and f64 low half, f32 bits, memory offset, lane. */
  readonly lo: number;
  /** i64 and f64 high half, alignment log2. */
  readonly hi: number;
  readonly bytes: Uint8Array | undefined;
}

const NONE: readonly Expr[] = [];
/**
 * Every node is made here, with small integers only: V8 then has one hidden class for all of them. With more, the first translations of
 * a process, which run before anything is optimised, spend a tenth of their time on looking members up.
 */
function node(
  n: number,
  t: ValType,
  code: number,
  args: readonly Expr[],
  lo: number,
  hi: number,
  bytes?: Uint8Array,
): Expr {
  return { n, t, code, args, lo, hi, bytes };
}
/** The same with other operands. */
export function withArgs(e: Expr, args: readonly Expr[]): Expr {
  return node(e.n, e.t, e.code, args, e.lo, e.hi, e.bytes);
}

export function c32(v: number): Expr {
  return node(N.I32, "i32", 0, NONE, v | 0, 0);
}
/** 64-bit constant from its halves; with one argument, from a sign-extended int32. */
export function c64(lo: number, hi: number = lo >> 31): Expr {
  return node(N.I64, "i64", 0, NONE, lo | 0, hi | 0);
}
/** 64-bit constant from a safe integer (a canonical address, say). */
export function c64n(v: number): Expr {
  return c64(v | 0, Math.floor(v / 4294967296) | 0);
}
export function c64b(v: bigint): Expr {
  return c64(Number(BigInt.asIntN(32, v)), Number(BigInt.asIntN(32, v >> 32n)));
}
export function cf64(v: number): Expr {
  const [lo, hi] = new Int32Array(new Float64Array([v]).buffer);
  return node(N.F64, "f64", 0, NONE, lo as number, hi as number);
}
export function cf32(v: number): Expr {
  const [bits] = new Int32Array(new Float32Array([v]).buffer);
  return node(N.F32, "f32", 0, NONE, bits as number, 0);
}
export function local(index: number, t: ValType): Expr {
  return node(N.LOCAL, t, index, NONE, 0, 0);
}
export function global(index: number, t: ValType): Expr {
  return node(N.GLOBAL, t, index, NONE, 0, 0);
}
/** A 128-bit constant from 16 bytes. */
export function c128(bytes: Uint8Array): Expr {
  return node(N.V128, "v128", 0, NONE, 0, 0, bytes);
}
/** i8x16.shuffle with a constant pattern of 16 lane numbers (0–31). */
export function shuffle(a: Expr, b: Expr, lanes: Uint8Array): Expr {
  return node(N.SHUFFLE, "v128", 0, [a, b], 0, 0, lanes);
}
export function select(cond: Expr, ifTrue: Expr, ifFalse: Expr): Expr {
  return node(N.SELECT, ifTrue.t, 0, [ifTrue, ifFalse, cond], 0, 0);
}
export function call(fn: number, t: ValType, args: readonly Expr[]): Expr {
  return node(N.CALL, t, fn, args, 0, 0);
}

export function isConst(e: Expr): boolean {
  return e.n === N.I32 || e.n === N.I64;
}

type Un = (a: Expr) => Expr;
type Bin = (a: Expr, b: Expr) => Expr;
const un =
  (t: ValType, code: number): Un =>
  (a) =>
    node(N.OP, t, code, [a], 0, 0);
const bin =
  (t: ValType, code: number): Bin =>
  (a, b) =>
    node(N.OP, t, code, [a, b], 0, 0);
/** Binary i32 operator with constant folding. */
const fold32 =
  (code: number, f: (a: number, b: number) => number): Bin =>
  (a, b) => {
    if (a.n === N.I32 && b.n === N.I32) return c32(f(a.lo, b.lo));
    return node(N.OP, "i32", code, [a, b], 0, 0);
  };
const load =
  (t: ValType, code: number, align: number) =>
  (addr: Expr, offset = 0): Expr =>
    node(N.LOAD, t, code, [addr], offset, align);
const lane =
  (t: ValType, code: number) =>
  (a: Expr, laneIndex: number): Expr =>
    node(N.LANE, t, code, [a], laneIndex, 0);
const replace =
  (code: number) =>
  (a: Expr, laneIndex: number, v: Expr): Expr =>
    node(N.LANE, "v128", code, [a, v], laneIndex, 0);
const zero = (e: Expr): boolean => isConst(e) && e.lo === 0 && e.hi === 0;

export const i32 = {
  eqz: un("i32", 0x45),
  eq: bin("i32", 0x46),
  ne: bin("i32", 0x47),
  lt_s: bin("i32", 0x48),
  lt_u: bin("i32", 0x49),
  gt_s: bin("i32", 0x4a),
  gt_u: bin("i32", 0x4b),
  le_s: bin("i32", 0x4c),
  le_u: bin("i32", 0x4d),
  ge_s: bin("i32", 0x4e),
  ge_u: bin("i32", 0x4f),
  clz: un("i32", 0x67),
  ctz: un("i32", 0x68),
  popcnt: un("i32", 0x69),
  add: ((a, b) =>
    zero(b)
      ? a
      : zero(a)
        ? b
        : a.n === N.I32 && b.n === N.I32
          ? c32(a.lo + b.lo)
          : node(N.OP, "i32", 0x6a, [a, b], 0, 0)) as Bin,
  sub: ((a, b) =>
    zero(b) ? a : a.n === N.I32 && b.n === N.I32 ? c32(a.lo - b.lo) : node(N.OP, "i32", 0x6b, [a, b], 0, 0)) as Bin,
  mul: fold32(0x6c, Math.imul),
  div_s: bin("i32", 0x6d),
  div_u: bin("i32", 0x6e),
  rem_s: bin("i32", 0x6f),
  rem_u: bin("i32", 0x70),
  and: fold32(0x71, (x, y) => x & y),
  or: ((a, b) =>
    zero(b)
      ? a
      : zero(a)
        ? b
        : a.n === N.I32 && b.n === N.I32
          ? c32(a.lo | b.lo)
          : node(N.OP, "i32", 0x72, [a, b], 0, 0)) as Bin,
  xor: fold32(0x73, (x, y) => x ^ y),
  shl: ((a, b) =>
    zero(b) ? a : a.n === N.I32 && b.n === N.I32 ? c32(a.lo << b.lo) : node(N.OP, "i32", 0x74, [a, b], 0, 0)) as Bin,
  shr_s: ((a, b) =>
    zero(b) ? a : a.n === N.I32 && b.n === N.I32 ? c32(a.lo >> b.lo) : node(N.OP, "i32", 0x75, [a, b], 0, 0)) as Bin,
  shr_u: ((a, b) =>
    zero(b) ? a : a.n === N.I32 && b.n === N.I32 ? c32(a.lo >>> b.lo) : node(N.OP, "i32", 0x76, [a, b], 0, 0)) as Bin,
  rotl: bin("i32", 0x77),
  rotr: bin("i32", 0x78),
  wrap: ((a) => (a.n === N.I64 ? c32(a.lo) : node(N.OP, "i32", 0xa7, [a], 0, 0))) as Un,
  extend8_s: un("i32", 0xc0),
  extend16_s: un("i32", 0xc1),
  reinterpret_f32: un("i32", 0xbc),
  trunc_sat_f64_s: un("i32", 0xfc02),
  trunc_sat_f32_s: un("i32", 0xfc00),
  load: load("i32", 0x28, 2),
  load8_s: load("i32", 0x2c, 0),
  load8_u: load("i32", 0x2d, 0),
  load16_s: load("i32", 0x2e, 1),
  load16_u: load("i32", 0x2f, 1),
};

export const i64 = {
  eqz: un("i32", 0x50),
  eq: bin("i32", 0x51),
  ne: bin("i32", 0x52),
  lt_s: bin("i32", 0x53),
  lt_u: bin("i32", 0x54),
  gt_s: bin("i32", 0x55),
  gt_u: bin("i32", 0x56),
  le_s: bin("i32", 0x57),
  le_u: bin("i32", 0x58),
  ge_s: bin("i32", 0x59),
  ge_u: bin("i32", 0x5a),
  clz: un("i64", 0x79),
  ctz: un("i64", 0x7a),
  popcnt: un("i64", 0x7b),
  add: ((a, b) => (zero(b) ? a : zero(a) ? b : node(N.OP, "i64", 0x7c, [a, b], 0, 0))) as Bin,
  sub: ((a, b) => (zero(b) ? a : node(N.OP, "i64", 0x7d, [a, b], 0, 0))) as Bin,
  mul: bin("i64", 0x7e),
  div_s: bin("i64", 0x7f),
  div_u: bin("i64", 0x80),
  rem_s: bin("i64", 0x81),
  rem_u: bin("i64", 0x82),
  and: ((a, b) =>
    a.n === N.I64 && b.n === N.I64 ? c64(a.lo & b.lo, a.hi & b.hi) : node(N.OP, "i64", 0x83, [a, b], 0, 0)) as Bin,
  or: ((a, b) => (zero(b) ? a : zero(a) ? b : node(N.OP, "i64", 0x84, [a, b], 0, 0))) as Bin,
  xor: bin("i64", 0x85),
  shl: ((a, b) => (zero(b) ? a : node(N.OP, "i64", 0x86, [a, b], 0, 0))) as Bin,
  shr_s: ((a, b) => (zero(b) ? a : node(N.OP, "i64", 0x87, [a, b], 0, 0))) as Bin,
  shr_u: ((a, b) => (zero(b) ? a : node(N.OP, "i64", 0x88, [a, b], 0, 0))) as Bin,
  rotl: bin("i64", 0x89),
  rotr: bin("i64", 0x8a),
  extend_s: ((a) => (a.n === N.I32 ? c64(a.lo) : node(N.OP, "i64", 0xac, [a], 0, 0))) as Un,
  extend_u: ((a) => (a.n === N.I32 ? c64(a.lo, 0) : node(N.OP, "i64", 0xad, [a], 0, 0))) as Un,
  extend8_s: un("i64", 0xc2),
  extend16_s: un("i64", 0xc3),
  extend32_s: un("i64", 0xc4),
  reinterpret_f64: un("i64", 0xbd),
  trunc_sat_f64_s: un("i64", 0xfc06),
  trunc_sat_f32_s: un("i64", 0xfc04),
  load: load("i64", 0x29, 3),
  load8_s: load("i64", 0x30, 0),
  load8_u: load("i64", 0x31, 0),
  load16_s: load("i64", 0x32, 1),
  load16_u: load("i64", 0x33, 1),
  load32_s: load("i64", 0x34, 2),
  load32_u: load("i64", 0x35, 2),
};

export const f32 = {
  eq: bin("i32", 0x5b),
  ne: bin("i32", 0x5c),
  lt: bin("i32", 0x5d),
  gt: bin("i32", 0x5e),
  le: bin("i32", 0x5f),
  ge: bin("i32", 0x60),
  abs: un("f32", 0x8b),
  neg: un("f32", 0x8c),
  ceil: un("f32", 0x8d),
  floor: un("f32", 0x8e),
  trunc: un("f32", 0x8f),
  nearest: un("f32", 0x90),
  sqrt: un("f32", 0x91),
  add: bin("f32", 0x92),
  sub: bin("f32", 0x93),
  mul: bin("f32", 0x94),
  div: bin("f32", 0x95),
  convert_i32_s: un("f32", 0xb2),
  convert_i64_s: un("f32", 0xb4),
  demote: un("f32", 0xb6),
  reinterpret: un("f32", 0xbe),
  load: load("f32", 0x2a, 2),
};

export const f64 = {
  eq: bin("i32", 0x61),
  ne: bin("i32", 0x62),
  lt: bin("i32", 0x63),
  gt: bin("i32", 0x64),
  le: bin("i32", 0x65),
  ge: bin("i32", 0x66),
  abs: un("f64", 0x99),
  neg: un("f64", 0x9a),
  ceil: un("f64", 0x9b),
  floor: un("f64", 0x9c),
  trunc: un("f64", 0x9d),
  nearest: un("f64", 0x9e),
  sqrt: un("f64", 0x9f),
  add: bin("f64", 0xa0),
  sub: bin("f64", 0xa1),
  mul: bin("f64", 0xa2),
  div: bin("f64", 0xa3),
  convert_i32_s: un("f64", 0xb7),
  convert_i64_s: un("f64", 0xb9),
  promote: un("f64", 0xbb),
  reinterpret: un("f64", 0xbf),
  load: load("f64", 0x2b, 3),
};

const simd = (code: number): number => 0xfd0000 | code;
const vun = (code: number): Un => un("v128", simd(code));
const vbin = (code: number): Bin => bin("v128", simd(code));
/** SIMD operators by their specification names with the shape in front: `v.i8x16_add`. */
export const v = {
  load: load("v128", simd(0), 4),
  splat8: un("v128", simd(15)),
  splat16: un("v128", simd(16)),
  splat32: un("v128", simd(17)),
  splat64: un("v128", simd(18)),
  splatf32: un("v128", simd(19)),
  splatf64: un("v128", simd(20)),
  i8x16_swizzle: vbin(14),
  i8x16_extract_s: lane("i32", simd(21)),
  i8x16_extract_u: lane("i32", simd(22)),
  i8x16_replace: replace(simd(23)),
  i16x8_extract_s: lane("i32", simd(24)),
  i16x8_extract_u: lane("i32", simd(25)),
  i16x8_replace: replace(simd(26)),
  i32x4_extract: lane("i32", simd(27)),
  i32x4_replace: replace(simd(28)),
  i64x2_extract: lane("i64", simd(29)),
  i64x2_replace: replace(simd(30)),
  f32x4_extract: lane("f32", simd(31)),
  f32x4_replace: replace(simd(32)),
  f64x2_extract: lane("f64", simd(33)),
  f64x2_replace: replace(simd(34)),
  i8x16_eq: vbin(35),
  i8x16_ne: vbin(36),
  i8x16_lt_s: vbin(37),
  i8x16_lt_u: vbin(38),
  i8x16_gt_s: vbin(39),
  i8x16_gt_u: vbin(40),
  i16x8_eq: vbin(45),
  i16x8_ne: vbin(46),
  i16x8_lt_s: vbin(47),
  i16x8_gt_s: vbin(49),
  i16x8_gt_u: vbin(50),
  i32x4_eq: vbin(55),
  i32x4_ne: vbin(56),
  i32x4_lt_s: vbin(57),
  i32x4_gt_s: vbin(59),
  i32x4_gt_u: vbin(60),
  f32x4_eq: vbin(65),
  f32x4_ne: vbin(66),
  f32x4_lt: vbin(67),
  f32x4_gt: vbin(68),
  f32x4_le: vbin(69),
  f32x4_ge: vbin(70),
  f64x2_eq: vbin(71),
  f64x2_ne: vbin(72),
  f64x2_lt: vbin(73),
  f64x2_gt: vbin(74),
  f64x2_le: vbin(75),
  f64x2_ge: vbin(76),
  not: vun(77),
  and: vbin(78),
  andnot: vbin(79),
  or: vbin(80),
  xor: vbin(81),
  /** bitselect(a, b, mask): bits of a where mask is 1. */
  bitselect: (a: Expr, b: Expr, mask: Expr): Expr => node(N.OP, "v128", simd(82), [a, b, mask], 0, 0),
  any_true: un("i32", simd(83)),
  load32_zero: load("v128", simd(92), 2),
  load64_zero: load("v128", simd(93), 3),
  f32x4_demote_f64x2_zero: vun(94),
  f64x2_promote_low_f32x4: vun(95),
  i8x16_abs: vun(96),
  i8x16_neg: vun(97),
  i8x16_popcnt: vun(98),
  i8x16_all_true: un("i32", simd(99)),
  i8x16_bitmask: un("i32", simd(100)),
  i8x16_narrow_i16x8_s: vbin(101),
  i8x16_narrow_i16x8_u: vbin(102),
  f32x4_ceil: vun(103),
  f32x4_floor: vun(104),
  f32x4_trunc: vun(105),
  f32x4_nearest: vun(106),
  i8x16_shl: vbin(107),
  i8x16_shr_s: vbin(108),
  i8x16_shr_u: vbin(109),
  i8x16_add: vbin(110),
  i8x16_add_sat_s: vbin(111),
  i8x16_add_sat_u: vbin(112),
  i8x16_sub: vbin(113),
  i8x16_sub_sat_s: vbin(114),
  i8x16_sub_sat_u: vbin(115),
  f64x2_ceil: vun(116),
  f64x2_floor: vun(117),
  i8x16_min_s: vbin(118),
  i8x16_min_u: vbin(119),
  i8x16_max_s: vbin(120),
  i8x16_max_u: vbin(121),
  f64x2_trunc: vun(122),
  i8x16_avgr_u: vbin(123),
  i16x8_extadd_pairwise_i8x16_s: vun(124),
  i16x8_extadd_pairwise_i8x16_u: vun(125),
  i32x4_extadd_pairwise_i16x8_s: vun(126),
  i32x4_extadd_pairwise_i16x8_u: vun(127),
  i16x8_abs: vun(128),
  i16x8_neg: vun(129),
  i16x8_q15mulr_sat_s: vbin(130),
  i16x8_bitmask: un("i32", simd(132)),
  i16x8_narrow_i32x4_s: vbin(133),
  i16x8_narrow_i32x4_u: vbin(134),
  i16x8_extend_low_i8x16_s: vun(135),
  i16x8_extend_high_i8x16_s: vun(136),
  i16x8_extend_low_i8x16_u: vun(137),
  i16x8_extend_high_i8x16_u: vun(138),
  i16x8_shl: vbin(139),
  i16x8_shr_s: vbin(140),
  i16x8_shr_u: vbin(141),
  i16x8_add: vbin(142),
  i16x8_add_sat_s: vbin(143),
  i16x8_add_sat_u: vbin(144),
  i16x8_sub: vbin(145),
  i16x8_sub_sat_s: vbin(146),
  i16x8_sub_sat_u: vbin(147),
  f64x2_nearest: vun(148),
  i16x8_mul: vbin(149),
  i16x8_min_s: vbin(150),
  i16x8_min_u: vbin(151),
  i16x8_max_s: vbin(152),
  i16x8_max_u: vbin(153),
  i16x8_avgr_u: vbin(155),
  i16x8_extmul_low_i8x16_s: vbin(156),
  i16x8_extmul_high_i8x16_s: vbin(157),
  i16x8_extmul_low_i8x16_u: vbin(158),
  i16x8_extmul_high_i8x16_u: vbin(159),
  i32x4_abs: vun(160),
  i32x4_neg: vun(161),
  i32x4_bitmask: un("i32", simd(164)),
  i32x4_extend_low_i16x8_s: vun(167),
  i32x4_extend_high_i16x8_s: vun(168),
  i32x4_extend_low_i16x8_u: vun(169),
  i32x4_extend_high_i16x8_u: vun(170),
  i32x4_shl: vbin(171),
  i32x4_shr_s: vbin(172),
  i32x4_shr_u: vbin(173),
  i32x4_add: vbin(174),
  i32x4_sub: vbin(177),
  i32x4_mul: vbin(181),
  i32x4_min_s: vbin(182),
  i32x4_min_u: vbin(183),
  i32x4_max_s: vbin(184),
  i32x4_max_u: vbin(185),
  i32x4_dot_i16x8_s: vbin(186),
  i32x4_extmul_low_i16x8_s: vbin(188),
  i32x4_extmul_high_i16x8_s: vbin(189),
  i32x4_extmul_low_i16x8_u: vbin(190),
  i32x4_extmul_high_i16x8_u: vbin(191),
  i64x2_abs: vun(192),
  i64x2_neg: vun(193),
  i64x2_bitmask: un("i32", simd(196)),
  i64x2_extend_low_i32x4_s: vun(199),
  i64x2_extend_high_i32x4_s: vun(200),
  i64x2_extend_low_i32x4_u: vun(201),
  i64x2_extend_high_i32x4_u: vun(202),
  i64x2_shl: vbin(203),
  i64x2_shr_s: vbin(204),
  i64x2_shr_u: vbin(205),
  i64x2_add: vbin(206),
  i64x2_sub: vbin(209),
  i64x2_mul: vbin(213),
  i64x2_eq: vbin(214),
  i64x2_ne: vbin(215),
  i64x2_lt_s: vbin(216),
  i64x2_gt_s: vbin(217),
  i64x2_extmul_low_i32x4_s: vbin(220),
  i64x2_extmul_high_i32x4_s: vbin(221),
  i64x2_extmul_low_i32x4_u: vbin(222),
  i64x2_extmul_high_i32x4_u: vbin(223),
  f32x4_abs: vun(224),
  f32x4_neg: vun(225),
  f32x4_sqrt: vun(227),
  f32x4_add: vbin(228),
  f32x4_sub: vbin(229),
  f32x4_mul: vbin(230),
  f32x4_div: vbin(231),
  f32x4_min: vbin(232),
  f32x4_max: vbin(233),
  f32x4_pmin: vbin(234),
  f32x4_pmax: vbin(235),
  f64x2_abs: vun(236),
  f64x2_neg: vun(237),
  f64x2_sqrt: vun(239),
  f64x2_add: vbin(240),
  f64x2_sub: vbin(241),
  f64x2_mul: vbin(242),
  f64x2_div: vbin(243),
  f64x2_min: vbin(244),
  f64x2_max: vbin(245),
  f64x2_pmin: vbin(246),
  f64x2_pmax: vbin(247),
  i32x4_trunc_sat_f32x4_s: vun(248),
  f32x4_convert_i32x4_s: vun(250),
  i32x4_trunc_sat_f64x2_s_zero: vun(252),
  f64x2_convert_low_i32x4_s: vun(254),
};

/** Store opcodes by value type and size in bytes. */
export const STORE = {
  i32: { 1: 0x3a, 2: 0x3b, 4: 0x36 },
  i64: { 1: 0x3c, 2: 0x3d, 4: 0x3e, 8: 0x37 },
  f32: { 4: 0x38 },
  f64: { 8: 0x39 },
  v128: { 16: simd(11) },
} as const;
