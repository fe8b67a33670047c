/** Moves, extensions and exchanges; segment, control and debug registers. */
import { SEG_SEL } from "../../layout.js";
import { c32, c64, i32, i64, select } from "../../wasm/expr.js";
import { K, RAX, RBX, RDX } from "../insn.js";
import {
  at,
  convert,
  define,
  fromI64,
  isMem,
  linear,
  lit,
  sizeOf,
  sext,
  toI64,
  trunc,
  wrapLinear,
  type Emit,
} from "./common.js";
import type { OpTable } from "./context.js";

const extend =
  (signed: boolean): Emit =>
  (x) =>
    x.write(0, convert(x.let(x.read(1)), sizeOf(x, 1), sizeOf(x, 0), signed));

/** Exchange; the memory operand, if any, is checked for writing before either side changes. */
const xchg: Emit = (x) => {
  const mem = isMem(x, 1) ? 1 : 0;
  const dst = x.rmw(mem);
  const b = x.let(x.read(1 - mem));
  dst.commit(b);
  x.write(1 - mem, dst.value);
};

export function register(ops: OpTable): void {
  define(ops, "mov movnti", (x) => x.write(0, x.read(1)));
  define(ops, "movzx", extend(false));
  define(ops, "movsx movsxd", extend(true));
  define(ops, "lea", (x) => x.write(0, fromI64(sizeOf(x, 0), x.eaOffset())));
  define(ops, "xchg", xchg);
  define(ops, "nop", () => undefined);
  define(ops, "bswap", (x) => {
    const size = sizeOf(x, 0);
    const a = x.let(x.read(0));
    if (size === 4) {
      x.write(0, i32.or(i32.and(i32.rotl(a, c32(8)), c32(0x00ff00ff)), i32.and(i32.rotr(a, c32(8)), c32(0xff00ff00))));
    } else if (size === 8) {
      const bytes = c64(0x00ff00ff, 0x00ff00ff);
      const words = c64(0x0000ffff, 0x0000ffff);
      const t = x.let(i64.or(i64.and(i64.shr_u(a, c64(8)), bytes), i64.shl(i64.and(a, bytes), c64(8))));
      const u = i64.or(i64.and(i64.shr_u(t, c64(16)), words), i64.shl(i64.and(t, words), c64(16)));
      x.write(0, i64.rotl(u, c64(32)));
    } else x.write(0, c32(0)); // Undefined; processors give zero.
  });
  /** AL, AX, EAX into the next wider one. */
  define(ops, "cbw", (x) => {
    const size = x.insn.osize;
    x.setGprSized(RAX, size, convert(x.let(x.gprSized(RAX, size / 2)), size / 2, size, true));
  });
  define(ops, "cwd", (x) => {
    const size = x.insn.osize;
    const a = sext(size, x.gprSized(RAX, size));
    x.setGprSized(RDX, size, trunc(size, at(size).shr_s(a, lit(size, size === 8 ? 63 : 31))));
  });
  define(ops, "xlat", (x) => {
    const asize = x.insn.asize;
    const sum = i64.add(toI64(asize, x.gprSized(RBX, asize)), i64.extend_u(x.gprSized(RAX, 1)));
    const offset = asize === 8 ? sum : i64.and(sum, asize === 4 ? c64(-1, 0) : c64(0xffff));
    x.setGprSized(RAX, 1, x.load(x.let(linear(x, x.insn.seg, offset)), 1));
  });
  define(ops, "cmovcc", (x) => {
    // The source is read, and a 32-bit destination's upper half cleared, whatever the condition.
    const b = x.let(x.read(1));
    x.write(0, select(x.cond(x.insn.cc), b, x.read(0)));
  });
  define(ops, "setcc", (x) => x.write(0, x.cond(x.insn.cc)));

  define(ops, "mov_sreg", (x) => {
    if (x.insn.ops[0]?.kind === K.SREG) {
      x.system();
      return;
    }
    const size = sizeOf(x, 0);
    const selector = i32.and(i32.load(i32.shl(x.regNumber(1), c32(2)), SEG_SEL), c32(0xffff));
    x.write(0, size === 8 ? i64.extend_u(selector) : selector);
  });
  define(ops, "mov_cr mov_dr", (x) => x.system(), { ends: true });
  define(ops, "les lds lss lfs lgs", (x) => x.system(), { ends: true });

  /** Raise RPL of the destination selector to the source's. */
  define(ops, "arpl", (x) => {
    const dst = x.rmw(0);
    const rpl = x.let(i32.and(x.read(1), c32(3)));
    const less = x.let(i32.lt_u(i32.and(dst.value, c32(3)), rpl));
    dst.commit(select(less, i32.or(i32.and(dst.value, c32(0xfffc)), rpl), dst.value));
    x.setFlagsImage(i32.or(i32.and(x.flagsImage(), c32(~0x40)), i32.shl(less, c32(6))));
  });
  define(ops, "bound", (x) => {
    const size = x.insn.osize;
    const index = x.let(sext(size, x.read(0)));
    const address = x.let(x.ea());
    const low = x.let(sext(size, x.load(address, size)));
    const high = x.let(sext(size, x.load(x.let(wrapLinear(x, i64.add(address, c64(size)))), size)));
    x.raiseIf(i32.or(i32.lt_s(index, low), i32.gt_s(index, high)), 5);
  });
}
