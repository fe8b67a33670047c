/** Stack instructions. rSP moves only when nothing can fault any more. */
import { SEG_SEL } from "../../layout.js";
import { c32, c64, i32, i64, type Expr } from "../../wasm/expr.js";
import { RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, SS } from "../insn.js";
import { define, fromI64, isImm, isMem, linear, stack, toI64, trunc } from "./common.js";
import type { OpTable, Sem } from "./context.js";

function push(x: Sem): void {
  const size = x.insn.osize;
  const value = isImm(x, 0) ? (size === 8 ? x.imm64() : trunc(size, x.imm32())) : x.read(0);
  x.push(size, x.let(value)); // `push rsp` pushes the old value.
}

function pop(x: Sem): void {
  const size = x.insn.osize;
  if (!isMem(x, 0)) {
    x.write(0, x.pop(size)); // After rSP has moved: `pop rsp` keeps the popped value.
    return;
  }
  const sp = stack(x);
  const value = x.let(x.load(x.let(linear(x, SS, sp.wrap(sp.old))), size));
  // An address by rSP sees the incremented rSP, but the store may fault while rSP must still be the old one.
  const moved = x.let(i64.add(sp.old, c64(size)));
  sp.set(moved);
  const address = x.let(x.ea());
  x.setGpr(RSP, sp.old);
  x.store(address, size, value);
  sp.set(moved);
}

/** Make sure that `size` bytes can be written (they get their old value). */
function probe(x: Sem, address: Expr, size: number): void {
  const there = x.rmwAt(address, size);
  there.commit(there.value);
}

function pusha(x: Sem): void {
  const size = x.insn.osize;
  const sp = stack(x);
  const slot = (i: number): Expr => x.let(linear(x, SS, sp.wrap(i64.sub(sp.old, c64(size * (i + 1))))));
  const slots = [0, 1, 2, 3, 4, 5, 6, 7].map(slot);
  // At most two pages: with both ends writable no store below can fault.
  probe(x, slots[7] as Expr, size);
  probe(x, slots[0] as Expr, size);
  [RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI].forEach((reg, i) => x.store(slots[i] as Expr, size, x.gprSized(reg, size)));
  sp.set(x.let(i64.sub(sp.old, c64(size * 8))));
}

function popa(x: Sem): void {
  const size = x.insn.osize;
  const sp = stack(x);
  const values = [0, 1, 2, 3, 4, 5, 6, 7].map((i) =>
    x.let(x.load(x.let(linear(x, SS, sp.wrap(i64.add(sp.old, c64(size * i))))), size)),
  );
  sp.set(x.let(i64.add(sp.old, c64(size * 8))));
  [RDI, RSI, RBP, RSP, RBX, RDX, RCX, RAX].forEach((reg, i) => {
    if (reg !== RSP) x.setGprSized(reg, size, values[i] as Expr);
  });
}

/** The frame's copies of outer frame pointers are loaded and stored in turn; registers change at the end, so a fault restarts it. */
function enter(x: Sem): void {
  const size = x.insn.osize;
  const level = x.insn.imm2 & 31;
  const sp = stack(x);
  const bp = x.let(x.gpr(RBP));
  let pushed = 0;
  const put = (value: Expr): void => {
    pushed++;
    x.store(x.let(linear(x, SS, sp.wrap(i64.sub(sp.old, c64(size * pushed))))), size, value);
  };
  const frame = x.let(i64.sub(sp.old, c64(size)));
  const slots = level === 0 ? 1 : level + 1;
  const final = x.let(i64.sub(sp.old, c64(size * slots + (x.insn.imm & 0xffff))));
  // The processor probes the final top of the stack for writing.
  probe(x, x.let(linear(x, SS, sp.wrap(final))), size);
  put(fromI64(size, bp));
  for (let i = 1; i < level; i++) put(x.let(x.load(x.let(linear(x, SS, sp.wrap(i64.sub(bp, c64(size * i))))), size)));
  if (level > 0) put(fromI64(size, sp.wrap(frame)));
  x.setGprSized(RBP, size, fromI64(size, sp.wrap(frame)));
  sp.set(final);
}

function leave(x: Sem): void {
  const size = x.insn.osize;
  const sp = stack(x);
  const bp = x.let(x.gpr(RBP));
  const value = x.let(x.load(x.let(linear(x, SS, sp.wrap(bp))), size));
  sp.set(x.let(i64.add(bp, c64(size))));
  x.setGprSized(RBP, size, value);
}

export function register(ops: OpTable): void {
  define(ops, "push", push);
  define(ops, "pop", pop);
  define(ops, "pusha", pusha);
  define(ops, "popa", popa);
  define(ops, "enter", enter, { imm: true });
  define(ops, "leave", leave);
  define(ops, "push_sreg", (x) => {
    const selector = i32.and(i32.load(i32.shl(x.regNumber(0), c32(2)), SEG_SEL), c32(0xffff));
    x.push(x.insn.osize, x.let(x.insn.osize === 8 ? toI64(4, selector) : selector));
  });
  define(ops, "pop_sreg", (x) => x.system(), { ends: true });
}
