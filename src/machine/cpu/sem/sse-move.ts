/** MMX/SSE moves that compute nothing: loads, stores, lane moves, masks. No floating-point exception is ever raised here. */
import { c32, i32, i64, v, type Expr } from "../../wasm/expr.js";
import { K, RDI, DS } from "../insn.js";
import type { OpTable, Sem } from "./context.js";
import {
  callStatus,
  def,
  isMem,
  isMmx,
  kind,
  lo64,
  low,
  low32,
  mmxEnter,
  putGpr,
  putMmx,
  shuf,
  src64,
} from "./fp-util.js";

function move128(ops: OpTable, op: string, aligned: boolean): void {
  def(ops, op, (x) => {
    if (isMem(x, 0)) {
      const e = x.readXmm(1);
      if (aligned) x.storeAligned16(x.ea(), e);
      else x.store(x.ea(), 16, e);
    } else x.writeXmm(0, x.read128(1, aligned));
  });
}

/** movd, movq in all directions: general, MMX and XMM registers and memory. */
function movdq(x: Sem): void {
  const other = x.insn.ops.find((o) => o.kind === K.GPR || o.kind === K.MEM);
  const size = x.insn.op === "movd" && other?.size !== 8 ? 4 : 8;
  const s = kind(x, 1);
  const d = kind(x, 0);
  let e: Expr; // i32 where size is 4
  if (s === K.XMM) e = size === 4 ? v.i32x4_extract(x.readXmm(1), 0) : v.i64x2_extract(x.readXmm(1), 0);
  else if (s === K.MMX) e = size === 4 ? i32.wrap(x.readMmx(1)) : x.readMmx(1);
  else if (s === K.MEM) e = x.load(x.ea(), size);
  else e = x.read(1);
  if (d === K.XMM) {
    x.writeXmm(0, size === 4 ? low32(e) : low(e));
  } else if (d === K.MMX) {
    const val = x.let(size === 4 ? i64.extend_u(e) : e);
    mmxEnter(x);
    putMmx(x, 0, val);
  } else if (s === K.MMX) {
    const val = x.let(e);
    callStatus(x, "x87Wait", []);
    if (d === K.MEM) x.store(x.ea(), size, val);
    else x.write(0, val);
    mmxEnter(x);
  } else if (d === K.MEM) x.store(x.ea(), size, e);
  else x.write(0, e);
}

function maskStore(x: Sem, data: Expr, mask: Expr, size: 8 | 16): void {
  const memOp = x.insn.ops.some((o) => o.kind === K.MEM);
  const offset = x.insn.asize === 8 ? x.gpr(RDI) : i64.extend_u(x.gprSized(RDI, x.insn.asize));
  const addr = x.let(memOp ? x.ea() : i64.add(x.segBase(x.insn.seg >= 0 ? x.insn.seg : DS), offset));
  // One byte a mask bit: only what is selected is written; an empty mask touches nothing.
  x.when(v.any_true(mask), () => {
    const m = x.rmwAt(addr, size);
    if (size === 16) m.commit(v.bitselect(data, m.value, mask));
    else m.commit(lo64(v.bitselect(data, low(m.value), mask)));
  });
}

export function register(ops: OpTable): void {
  for (const op of ["movaps", "movapd", "movdqa", "movntps", "movntpd", "movntdq", "movntdqa"]) move128(ops, op, true);
  for (const op of ["movups", "movupd", "movdqu", "lddqu"]) move128(ops, op, false);
  def(ops, "movd", movdq);
  def(ops, "movq", movdq);
  def(ops, "movntq", movdq);
  // movnti is a general-register store and needs no FPU.
  ops.set("movnti", { emit: (x) => x.write(0, x.read(1)) });

  def(ops, "movss", (x) => {
    if (isMem(x, 0)) x.store(x.ea(), 4, v.i32x4_extract(x.readXmm(1), 0));
    else if (isMem(x, 1)) x.writeXmm(0, low32(x.load(x.ea(), 4)));
    else x.writeXmm(0, shuf(x.readXmm(1), x.readXmm(0), 4, 0, 5, 6, 7));
  });
  def(ops, "movsd", (x) => {
    if (isMem(x, 0)) x.store(x.ea(), 8, v.i64x2_extract(x.readXmm(1), 0));
    else if (isMem(x, 1)) x.writeXmm(0, low(x.load(x.ea(), 8)));
    else x.writeXmm(0, shuf(x.readXmm(1), x.readXmm(0), 8, 0, 3));
  });
  const lowHalf = (x: Sem): void => {
    if (isMem(x, 0)) x.store(x.ea(), 8, v.i64x2_extract(x.readXmm(1), 0));
    else if (isMem(x, 1)) {
      const e = x.let(x.load(x.ea(), 8));
      x.writeXmm(0, v.i64x2_replace(x.readXmm(0), 0, e));
    } else x.writeXmm(0, shuf(x.readXmm(0), x.readXmm(1), 8, 3, 1)); // movhlps encoded as movlps reg, reg
  };
  const highHalf = (x: Sem): void => {
    if (isMem(x, 0)) x.store(x.ea(), 8, v.i64x2_extract(x.readXmm(1), 1));
    else if (isMem(x, 1)) {
      const e = x.let(x.load(x.ea(), 8));
      x.writeXmm(0, v.i64x2_replace(x.readXmm(0), 1, e));
    } else x.writeXmm(0, shuf(x.readXmm(0), x.readXmm(1), 8, 0, 2)); // movlhps
  };
  for (const op of ["movlps", "movlpd", "movhlps"]) def(ops, op, lowHalf);
  for (const op of ["movhps", "movhpd", "movlhps"]) def(ops, op, highHalf);
  def(ops, "movsldup", (x) => {
    const s = x.let(x.read128(1, true));
    x.writeXmm(0, shuf(s, s, 4, 0, 0, 2, 2));
  });
  def(ops, "movshdup", (x) => {
    const s = x.let(x.read128(1, true));
    x.writeXmm(0, shuf(s, s, 4, 1, 1, 3, 3));
  });
  def(ops, "movddup", (x) => x.writeXmm(0, v.splat64(src64(x, 1))));

  const mask = (op: string, f: (e: Expr) => Expr): void =>
    def(ops, op, (x) => {
      putGpr(x, 0, f(x.readXmm(1)));
    });
  mask("movmskps", (e) => v.i32x4_bitmask(e));
  mask("movmskpd", (e) => v.i64x2_bitmask(e));
  def(ops, "pmovmskb", (x) => {
    let m: Expr;
    if (isMmx(x, 1)) {
      m = x.let(v.i8x16_bitmask(low(x.readMmx(1))));
      mmxEnter(x);
    } else m = v.i8x16_bitmask(x.readXmm(1));
    putGpr(x, 0, m);
  });
  def(ops, "movdq2q", (x) => {
    const e = x.let(v.i64x2_extract(x.readXmm(1), 0));
    mmxEnter(x);
    putMmx(x, 0, e);
  });
  def(ops, "movq2dq", (x) => {
    const e = x.let(x.readMmx(1));
    mmxEnter(x);
    x.writeXmm(0, low(e));
  });
  const xs = (x: Sem): number[] => x.insn.ops.map((o, i) => (o.kind === K.MEM ? -1 : i)).filter((i) => i >= 0);
  def(ops, "maskmovdqu", (x) => {
    const [d, m] = xs(x) as [number, number];
    const data = x.let(x.readXmm(d));
    const sel = x.let(v.i8x16_shr_s(x.readXmm(m), c32(7)));
    maskStore(x, data, sel, 16);
  });
  def(ops, "maskmovq", (x) => {
    const [d, m] = xs(x) as [number, number];
    const data = x.let(low(x.readMmx(d)));
    const sel = x.let(v.i8x16_shr_s(low(x.readMmx(m)), c32(7)));
    callStatus(x, "x87Wait", []);
    maskStore(x, data, sel, 8);
    mmxEnter(x);
  });

  // Bitwise logic of the floating-point names: plain 128-bit operations.
  const logic = (names: string[], f: (d: Expr, s: Expr) => Expr): void => {
    for (const op of names)
      def(ops, op, (x) => {
        const s = x.let(x.read128(1, true));
        x.writeXmm(0, f(x.readXmm(0), s));
      });
  };
  logic(["andps", "andpd"], v.and);
  logic(["andnps", "andnpd"], (d, s) => v.andnot(s, d));
  logic(["orps", "orpd"], v.or);
  logic(["xorps", "xorpd"], v.xor);
}
