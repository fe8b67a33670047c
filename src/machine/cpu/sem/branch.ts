/** Near control flow, software interrupts, and the far forms, which the host side implements. */
import { c32, c64, i32, i64, type Expr } from "../../wasm/expr.js";
import { Exit } from "../exits.js";
import { RCX, RSP, SS } from "../insn.js";
import { at, checkCanonical, define, fromI64, isImm, linear, lit, stack, toI64, trunc, type Emit } from "./common.js";
import type { OpTable, Sem } from "./context.js";

const pushReturn = (x: Sem): void => x.push(x.insn.osize, x.let(fromI64(x.insn.osize, x.nextRip())));

function ret(x: Sem): void {
  const size = x.insn.osize;
  const extra = isImm(x, 0) ? i64.extend_u(i32.and(x.imm32(), c32(0xffff))) : c64(0);
  if (x.insn.bits === 64) {
    const sp = x.let(x.gpr(RSP));
    const target = x.let(toI64(size, x.load(sp, size)));
    checkCanonical(x, target);
    x.setGpr(RSP, i64.add(i64.add(sp, c64(size)), extra));
    x.jumpTo(target, "ret");
    return;
  }
  const sp = stack(x);
  const target = x.let(toI64(size, x.load(x.let(linear(x, SS, sp.wrap(sp.old))), size)));
  sp.set(x.let(i64.add(i64.add(sp.old, c64(size)), extra)));
  x.jumpTo(target, "ret");
}

/** `loop` and its kin: the counter is of the address size, flags are not touched. */
function loop(zf: boolean | undefined): Emit {
  return (x) => {
    const asize = x.insn.asize;
    const rest = x.let(trunc(asize, at(asize).sub(x.gprSized(RCX, asize), lit(asize, 1))));
    let again: Expr = at(asize).ne(rest, lit(asize, 0));
    if (zf !== undefined) again = i32.and(again, x.cond(zf ? 4 : 5));
    again = x.let(again);
    x.setGprSized(RCX, asize, rest);
    x.branchIf(again);
  };
}

export function register(ops: OpTable): void {
  const ends = { ends: true };
  define(ops, "jcc", (x) => x.branchIf(x.cond(x.insn.cc)), ends);
  define(ops, "jmp", (x) => x.jumpRel(), ends);
  define(ops, "jmp_ind", (x) => x.jumpTo(x.let(toI64(x.insn.osize, x.read(0))), "jmp"), ends);
  define(
    ops,
    "call",
    (x) => {
      pushReturn(x);
      x.jumpRel();
    },
    ends,
  );
  define(
    ops,
    "call_ind",
    (x) => {
      const target = x.let(toI64(x.insn.osize, x.read(0)));
      checkCanonical(x, target);
      pushReturn(x);
      x.jumpTo(target, "call");
    },
    ends,
  );
  define(ops, "ret", ret, ends);
  define(ops, "loop", loop(undefined), ends);
  define(ops, "loope", loop(true), ends);
  define(ops, "loopne", loop(false), ends);
  define(ops, "jcxz", (x) => x.branchIf(at(x.insn.asize).eqz(x.gprSized(RCX, x.insn.asize))), ends);
  define(ops, "jmp_far jmp_far_imm call_far call_far_imm ret_far iret", (x) => x.system(), ends);

  define(ops, "int3", (x) => x.exit(Exit.EXCEPTION, { atNext: true, vector: 3 }), ends);
  define(ops, "int1", (x) => x.exit(Exit.EXCEPTION, { atNext: true, vector: 1 }), ends);
  define(ops, "int", (x) => x.exit(Exit.INT_N, { atNext: true, vectorExpr: i32.and(x.imm32(), c32(0xff)) }), ends);
  define(ops, "into", (x) =>
    x.when(x.cond(0), () => x.exit(Exit.EXCEPTION, { atNext: true, vector: 4 }), undefined, false),
  );
  define(ops, "ud ud0 ud1 ud2", (x) => x.raise(6), ends);
  define(ops, "gp", (x) => x.raise(13, 0), ends);
}
