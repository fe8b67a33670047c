/**
 * fxsave, fxrstor. The helpers work on the state block, so the XMM registers are put there before and taken from there after; where
 * an engine keeps them in the block anyway this costs a few moves in a rare instruction.
 */
import { c32, v } from "../../wasm/expr.js";
import { XMM } from "../../layout.js";
import type { OpTable, Sem } from "./context.js";
import { callStatus, def } from "./fp-util.js";

export function register(ops: OpTable): void {
  const count = (x: Sem): number => (x.insn.bits === 64 ? 16 : 8);
  for (const suffix of ["", "64"]) {
    const wide = (x: Sem): number => (suffix === "64" || x.insn.osize === 8 ? 1 : 0);
    def(ops, `fxsave${suffix}`, (x) => {
      const n = count(x);
      const a = x.let(x.ea());
      for (let i = 0; i < n; i++) x.code.store(16, c32(0), x.xmm(i), XMM + 16 * i);
      callStatus(x, "x87Fxsave", [a, c32(wide(x)), c32(n)]);
    });
    def(ops, `fxrstor${suffix}`, (x) => {
      const n = count(x);
      const a = x.let(x.ea());
      // A fault must leave the registers: the block gets their present values first.
      for (let i = 0; i < n; i++) x.code.store(16, c32(0), x.xmm(i), XMM + 16 * i);
      callStatus(x, "x87Fxrstor", [a, c32(wide(x)), c32(n)]);
      for (let i = 0; i < n; i++) x.setXmm(i, x.let(v.load(c32(0), XMM + 16 * i)));
    });
  }
}
