/** Bit tests, scans, counts, and CRC32. */
import { c32, c64, i32, i64, select, type Expr } from "../../wasm/expr.js";
import { CC } from "../flags.js";
import { at, bitAt, define, isImm, isMem, lit, low32, sizeOf, toI64, toI64s, widen, type Emit } from "./common.js";
import type { OpTable, Rmw, Sem } from "./context.js";

/** Value, bit index and, where the operation writes, the handle. A register index reaches memory beyond the operand, as a signed bit offset. */
function bitOperand(x: Sem, size: number, writes: boolean): { value: Expr; index: Expr; rmw: Rmw | undefined } {
  const width = c32(size * 8 - 1);
  if (isMem(x, 0) && !isImm(x, 1)) {
    const offset = x.let(x.read(1));
    const index = x.let(i32.and(low32(size, offset), width));
    const shift = size === 8 ? 6 : size === 4 ? 5 : 4;
    const unit = i64.shl(i64.shr_s(toI64s(size, offset), c64(shift)), c64(shift - 3));
    const address = x.let(x.ea(unit));
    if (writes) {
      const rmw = x.rmwAt(address, size);
      return { value: rmw.value, index, rmw };
    }
    return { value: x.let(x.load(address, size)), index, rmw: undefined };
  }
  const raw = isImm(x, 1) ? x.imm32() : low32(size, x.read(1));
  const index = x.let(i32.and(raw, width));
  if (!writes) return { value: x.let(x.read(0)), index, rmw: undefined };
  const rmw = x.rmw(0);
  return { value: rmw.value, index, rmw };
}

type Change = (size: number, value: Expr, bit: Expr) => Expr;

/** CF = the bit; ZF stays (held as r = 0 or 1); the rest is undefined. */
function bitTest(change?: Change): Emit {
  return (x) => {
    const size = sizeOf(x, 0);
    const { value, index, rmw } = bitOperand(x, size, change !== undefined);
    if (change && rmw) rmw.commit(change(size, value, at(size).shl(lit(size, 1), widen(size, index))));
    const notZero = x.let(x.cond(5));
    x.flags(CC.RES, 4, { a: bitAt(size, value, index), r: notZero });
  };
}

/** A zero source leaves the destination alone, its upper half included. ZF = source is zero; the rest is undefined. */
function scan(reverse: boolean): Emit {
  return (x) => {
    const size = sizeOf(x, 0);
    const o = at(size);
    const b = x.let(x.read(1));
    const top = lit(size, size === 8 ? 63 : 31);
    const r = reverse ? o.sub(top, o.clz(b)) : o.ctz(b);
    const found = o.ne(b, lit(size, 0));
    if (size === 4) x.when(found, () => x.write(0, r));
    else x.write(0, select(found, r, x.read(0)));
    x.flags(CC.LOGIC, size, { r: b });
  };
}

export function register(ops: OpTable): void {
  define(ops, "bt", bitTest());
  define(
    ops,
    "bts",
    bitTest((size, v, bit) => at(size).or(v, bit)),
  );
  define(
    ops,
    "btr",
    bitTest((size, v, bit) => at(size).and(v, at(size).xor(bit, lit(size, -1)))),
  );
  define(
    ops,
    "btc",
    bitTest((size, v, bit) => at(size).xor(v, bit)),
  );
  define(ops, "bsf", scan(false));
  define(ops, "bsr", scan(true));
  define(ops, "popcnt", (x) => {
    const size = sizeOf(x, 0);
    const b = x.let(x.read(1));
    x.write(0, at(size).popcnt(b));
    x.setFlagsImage(i32.shl(at(size).eqz(b), c32(6)));
  });
  define(ops, "crc32", (x) => {
    const size = sizeOf(x, 1);
    const value = x.let(toI64(size, x.read(1)));
    const crc = low32(sizeOf(x, 0), x.read(0));
    const r = x.helper("crc32", [crc, value, c32(size)]);
    x.write(0, sizeOf(x, 0) === 8 ? i64.extend_u(r) : r);
  });
}
