/** fxsave, fxrstor: the helpers work on the state block. */
import { c32 } from "../../wasm/expr.js";
import type { OpTable } from "./context.js";
import { callStatus, def } from "./fp-util.js";

export function register(ops: OpTable): void {
  for (const op of ["fxsave", "fxsave64", "fxrstor", "fxrstor64"])
    def(ops, op, (x) => {
      const n = x.insn.bits === 64 ? 16 : 8;
      const wide = op.endsWith("64") || x.insn.osize === 8 ? 1 : 0;
      const restore = op.startsWith("fxrstor");
      const a = x.let(x.ea());
      x.syncXmm();
      callStatus(x, restore ? "x87Fxrstor" : "x87Fxsave", [a, c32(wide), c32(n)]);
      if (restore) x.reloadXmm();
      else x.helperStored();
    });
}
