/**
 * fxsave, fxrstor. The helpers work on the state block, where the interpreter keeps the XMM registers anyway; the translator keeps
 * those that its region names in locals, so these are put into the block before and taken from it after. Asking for a
 * register that the region does not name throws, which says just that the block's copy is the current one.
 */
import { c32, v } from "../../wasm/expr.js";
import { XMM } from "../../layout.js";
import type { OpTable, Sem } from "./context.js";
import { callStatus, def } from "./fp-util.js";

function each(x: Sem, n: number, f: (i: number) => void): void {
  for (let i = 0; i < n; i++) {
    try {
      x.xmm(i);
    } catch {
      continue;
    }
    f(i);
  }
}

export function register(ops: OpTable): void {
  for (const op of ["fxsave", "fxsave64", "fxrstor", "fxrstor64"])
    def(ops, op, (x) => {
      const n = x.insn.bits === 64 ? 16 : 8;
      const wide = op.endsWith("64") || x.insn.osize === 8 ? 1 : 0;
      const a = x.let(x.ea());
      each(x, n, (i) => x.code.store(16, c32(0), x.xmm(i), XMM + 16 * i));
      const restore = op.startsWith("fxrstor");
      callStatus(x, restore ? "x87Fxrstor" : "x87Fxsave", [a, c32(wide), c32(n)]);
      if (restore) each(x, n, (i) => x.setXmm(i, v.load(c32(0), XMM + 16 * i)));
    });
}
