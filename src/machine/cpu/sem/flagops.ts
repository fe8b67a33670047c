/** Instructions on the flags themselves, and pushf and popf. */
import { MODE, MODE_CPL_SHIFT, MODE_STEP } from "../../layout.js";
import { c32, i32, i64, select, type Expr } from "../../wasm/expr.js";
import { Exit } from "../exits.js";
import { AC, AF, ARITH, CF, DF, IF, NT, OF, PF, RF, SF, TF, VM, ZF } from "../flags.js";
import { RAX } from "../insn.js";
import { define, state32 } from "./common.js";
import type { OpTable, Sem } from "./context.js";

const IOPL = 0x3000;
const ID = 0x200000;

/** Virtual-8086 code below IOPL 3 may not touch the flags image. */
function checkVm86(x: Sem): void {
  if (x.insn.bits !== 16) return;
  const efl = x.let(x.efl());
  x.raiseIf(i32.and(i32.ne(i32.and(efl, c32(VM)), c32(0)), i32.ne(i32.and(efl, c32(IOPL)), c32(IOPL))), 13, 0);
}

/** popf at every privilege: what may change depends on CPL and IOPL, which are run-time state. */
function popf(x: Sem): void {
  checkVm86(x);
  const size = x.insn.osize;
  const raw = x.pop(size);
  const image = x.let(size === 8 ? i32.wrap(raw) : raw);
  const old = x.let(x.efl());
  const mode = x.let(state32(MODE));
  const cpl = x.let(i32.and(i32.shr_u(mode, c32(MODE_CPL_SHIFT)), c32(3)));
  const always = size === 2 ? TF | DF | NT : TF | DF | NT | AC | ID | RF;
  const iopl = i32.and(i32.shr_u(old, c32(12)), c32(3));
  let mask: Expr = c32(always);
  mask = i32.or(mask, select(i32.le_u(cpl, iopl), c32(IF), c32(0)));
  mask = i32.or(mask, select(cpl, c32(0), c32(IOPL)));
  mask = x.let(mask);
  const fresh = x.let(i32.or(i32.and(old, i32.xor(mask, c32(-1))), i32.and(i32.and(image, c32(~RF)), mask)));
  x.setEfl(fresh);
  // The single-step bit of the mode follows TF.
  const step = i32.shr_u(i32.and(fresh, c32(TF)), c32(TO_STEP));
  x.code.store(4, c32(0), i32.or(i32.and(mode, c32(~MODE_STEP)), step), MODE);
  x.setFlagsImage(i32.and(image, c32(ARITH)));
  // Interrupts just allowed: let the host look whether one is pending. Never so for a PV guest.
  x.when(
    i32.and(i32.and(fresh, i32.xor(old, c32(-1))), c32(IF)),
    () => x.exit(Exit.BUDGET, { atNext: true }),
    undefined,
    false,
  );
  x.endBlock();
}
/** From TF (bit 8) to MODE_STEP (bit 7). */
const TO_STEP = 1;

export function register(ops: OpTable): void {
  const image = (f: (x: Sem, old: Expr) => Expr) => (x: Sem) => x.setFlagsImage(f(x, x.flagsImage()));
  define(
    ops,
    "clc",
    image((_, old) => i32.and(old, c32(~CF))),
  );
  define(
    ops,
    "stc",
    image((_, old) => i32.or(old, c32(CF))),
  );
  define(
    ops,
    "cmc",
    image((_, old) => i32.xor(old, c32(CF))),
  );
  define(ops, "cld", (x) => x.setEfl(i32.and(x.efl(), c32(~DF))));
  define(ops, "std", (x) => x.setEfl(i32.or(x.efl(), c32(DF))));
  define(ops, "salc", (x) => x.setGprSized(RAX, 1, select(x.cf(), c32(0xff), c32(0))));
  define(ops, "lahf", (x) => {
    const low = i32.or(i32.and(x.flagsImage(), c32(SF | ZF | AF | PF | CF)), c32(2));
    x.setGprSized(RAX, 2, i32.or(x.gprSized(RAX, 1), i32.shl(low, c32(8))));
  });
  define(ops, "sahf", (x) => {
    const ah = i32.shr_u(x.gprSized(RAX, 2), c32(8));
    x.setFlagsImage(i32.or(i32.and(x.flagsImage(), c32(OF)), i32.and(ah, c32(SF | ZF | AF | PF | CF))));
  });
  define(ops, "pushf", (x) => {
    checkVm86(x);
    const size = x.insn.osize;
    const e = x.let(i32.or(i32.and(x.flagsImage(), c32(ARITH)), i32.and(x.efl(), c32(~(ARITH | RF | VM)))));
    x.push(size, size === 8 ? i64.extend_u(e) : size === 2 ? i32.and(e, c32(0xffff)) : e);
  });
  define(ops, "popf", popf, { ends: true });
}
