/** Conversions between integers and floating point, and between the precisions (SSE, SSE2). Fast paths as in sse-float.ts. */
import { c32, cf32, cf64, f32, f64, i32, i64, v, type Expr } from "../../wasm/expr.js";
import type { OpTable, Sem } from "./context.js";
import {
  callStatus,
  def,
  isMmx,
  low,
  mmxEnter,
  mxcsr,
  putMmx,
  result32,
  result64,
  result128,
  src128,
  src64,
} from "./fp-util.js";
import { PS, SD, SS, plain, quiet, type Shape } from "./sse-float.js";

/** PM masked and PE recorded: an inexact truncation has nothing more to report. */
const quietTruncate = (): Expr => i32.eq(i32.and(mxcsr(), c32(0x1020)), c32(0x1020));

/** cvt(t)ss2si, cvt(t)sd2si: to a general register of 4 or 8 bytes. */
function toInt(ops: OpTable, op: string, s: Shape, truncate: boolean): void {
  def(ops, op, (x) => {
    const wide = x.insn.ops[0]?.size === 8;
    const b = s.src(x, 1);
    const whole = x.let(truncate ? b : s === SD ? f64.nearest(b) : f32.nearest(b));
    const limit = wide ? 9223372036854775808 : 2147483648;
    const out = x.var(wide ? "i64" : "i32");
    x.when(
      i32.and(s.lt(s.abs(whole), s === SD ? cf64(limit) : cf32(limit)), truncate ? quietTruncate() : quiet()),
      () => {
        if (wide) out.set(s === SD ? i64.trunc_sat_f64_s(whole) : i64.trunc_sat_f32_s(whole));
        else out.set(s === SD ? i32.trunc_sat_f64_s(whole) : i32.trunc_sat_f32_s(whole));
      },
      () => {
        callStatus(x, s === SD ? "sseToInt64" : "sseToInt32", [s.arg(b), c32(wide ? 64 : 32), c32(truncate ? 1 : 0)]);
        out.set(wide ? result64() : result32());
      },
      true,
    );
    x.write(0, out.get());
  });
}

/** Integer source of cvtsi2ss/sd, sign-extended to i64. */
function intSource(x: Sem): { wide: boolean; e: Expr } {
  const wide = x.insn.ops[1]?.size === 8;
  return { wide, e: x.let(x.read(1)) };
}

export function register(ops: OpTable): void {
  toInt(ops, "cvttsd2si", SD, true);
  toInt(ops, "cvttss2si", SS, true);
  toInt(ops, "cvtsd2si", SD, false);
  toInt(ops, "cvtss2si", SS, false);

  def(ops, "cvtsi2sd", (x) => {
    const { wide, e } = intSource(x);
    if (!wide) {
      x.writeXmm(0, v.f64x2_replace(x.readXmm(0), 0, f64.convert_i32_s(e)));
      return;
    }
    const out = x.var("v128");
    x.when(
      quiet(),
      () => out.set(v.f64x2_replace(x.readXmm(0), 0, f64.convert_i64_s(e))),
      () => {
        callStatus(x, "sseFromInt64", [e]);
        out.set(v.i64x2_replace(x.readXmm(0), 0, result64()));
      },
      true,
    );
    x.writeXmm(0, out.get());
  });
  def(ops, "cvtsi2ss", (x) => {
    const { wide, e } = intSource(x);
    const out = x.var("v128");
    x.when(
      quiet(),
      () => out.set(v.f32x4_replace(x.readXmm(0), 0, wide ? f32.convert_i64_s(e) : f32.convert_i32_s(e))),
      () => {
        callStatus(x, "sseFromInt32", [wide ? e : i64.extend_s(e)]);
        out.set(v.i32x4_replace(x.readXmm(0), 0, result32()));
      },
      true,
    );
    x.writeXmm(0, out.get());
  });
  def(ops, "cvtss2sd", (x) => {
    const b = SS.src(x, 1);
    const out = x.var("v128");
    x.when(
      plain(SS, x.let(f32.abs(b))),
      () => out.set(v.f64x2_replace(x.readXmm(0), 0, f64.promote(b))),
      () => {
        callStatus(x, "sseSs2Sd", [i32.reinterpret_f32(b)]);
        out.set(v.i64x2_replace(x.readXmm(0), 0, result64()));
      },
      true,
    );
    x.writeXmm(0, out.get());
  });
  def(ops, "cvtsd2ss", (x) => {
    const b = SD.src(x, 1);
    const r = x.let(f32.demote(b));
    const abs = x.let(f32.abs(r));
    const out = x.var("v128");
    x.when(
      i32.and(i32.or(i32.and(f32.gt(abs, SS.min()), f32.lt(abs, SS.inf())), f64.eq(b, cf64(0))), quiet()),
      () => out.set(v.f32x4_replace(x.readXmm(0), 0, r)),
      () => {
        callStatus(x, "sseSd2Ss", [i64.reinterpret_f64(b)]);
        out.set(v.i32x4_replace(x.readXmm(0), 0, result32()));
      },
      true,
    );
    x.writeXmm(0, out.get());
  });

  // Packed.
  def(ops, "cvtdq2pd", (x) => x.writeXmm(0, v.f64x2_convert_low_i32x4_s(low(src64(x, 1)))));
  def(ops, "cvtdq2ps", (x) => {
    const b = src128(x, 1);
    const out = x.var("v128");
    x.when(
      quiet(),
      () => out.set(v.f32x4_convert_i32x4_s(b)),
      () => {
        callStatus(x, "sseIntsToPs", [b]);
        out.set(result128());
      },
      true,
    );
    x.writeXmm(0, out.get());
  });
  for (const truncate of [false, true]) {
    const t = truncate ? "t" : "";
    def(ops, `cvt${t}ps2dq`, (x) => {
      const b = src128(x, 1);
      const out = x.var("v128");
      const whole = x.let(truncate ? b : v.f32x4_nearest(b));
      x.when(
        i32.and(
          PS.all(v.f32x4_lt(v.f32x4_abs(whole), v.splatf32(cf32(2147483648)))),
          truncate ? quietTruncate() : quiet(),
        ),
        () => out.set(v.i32x4_trunc_sat_f32x4_s(whole)),
        () => {
          callStatus(x, "ssePsToInts", [b, c32(truncate ? 1 : 0)]);
          out.set(result128());
        },
        true,
      );
      x.writeXmm(0, out.get());
    });
    def(ops, `cvt${t}pd2dq`, (x) => {
      const b = src128(x, 1);
      callStatus(x, "ssePdToInts", [b, c32(truncate ? 1 : 0)]);
      x.writeXmm(0, result128());
    });
    def(ops, `cvt${t}ps2pi`, (x) => {
      const b = src64(x, 1);
      callStatus(x, "x87Wait", []);
      callStatus(x, "ssePs2Pi", [b, c32(truncate ? 1 : 0)]);
      mmxEnter(x);
      putMmx(x, 0, result64());
    });
    def(ops, `cvt${t}pd2pi`, (x) => {
      const b = src128(x, 1);
      callStatus(x, "x87Wait", []);
      callStatus(x, "ssePdToInts", [b, c32(truncate ? 1 : 0)]);
      mmxEnter(x);
      putMmx(x, 0, result64());
    });
  }
  // Memory sources of these two do not enter MMX.
  def(ops, "cvtpi2ps", (x) => {
    const b = src64(x, 1);
    if (isMmx(x, 1)) callStatus(x, "x87Wait", []);
    callStatus(x, "sseIntsToPs", [low(b)]);
    if (isMmx(x, 1)) mmxEnter(x);
    x.writeXmm(0, v.i64x2_replace(x.readXmm(0), 0, result64()));
  });
  def(ops, "cvtpi2pd", (x) => {
    const b = src64(x, 1);
    if (isMmx(x, 1)) mmxEnter(x);
    x.writeXmm(0, v.f64x2_convert_low_i32x4_s(low(b)));
  });
  def(ops, "cvtps2pd", (x) => {
    const b = src64(x, 1);
    const bv = x.let(low(b));
    const out = x.var("v128");
    x.when(
      PS.all(plain(PS, x.let(v.f32x4_abs(bv)))),
      () => out.set(v.f64x2_promote_low_f32x4(bv)),
      () => {
        callStatus(x, "ssePs2Pd", [b]);
        out.set(result128());
      },
      true,
    );
    x.writeXmm(0, out.get());
  });
  def(ops, "cvtpd2ps", (x) => {
    callStatus(x, "ssePd2Ps", [src128(x, 1)]);
    x.writeXmm(0, result128());
  });
}
