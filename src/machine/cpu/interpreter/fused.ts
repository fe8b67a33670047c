/**
 * The commonest shapes' handlers in one function: `(record) → status` runs records one after the other, without a call for each, until one
 * ends its block or has a handler of its own. Which record that was is left at REC_AT.
 *
 * Their bodies come from the same emitters as the handlers', so that it makes no difference which of them runs an instruction.
 */
import { REC_AT, REC_HANDLER, REC_SIZE, ST_HANDLER } from "../../layout.js";
import { c32, i32, local, type Expr } from "../../wasm/expr.js";
import { Code } from "../../wasm/encoder.js";
import type { Insn } from "../insn.js";
import type { Helpers } from "../sem/base.js";
import type { OpDef } from "../sem/context.js";
import { InterpreterSem } from "./sem.js";

const ZERO32 = c32(0);
const REC = local(0, "i32");

/** What a handler is made from. */
export interface Shape {
  readonly def: OpDef;
  readonly mode: number;
  readonly insn: Insn;
  readonly staticImm: boolean;
  readonly known: number;
}

class FusedSem extends InterpreterSem {
  /** `shared`: a local that is ST_NEXT whenever an instruction begins, since any other status ends the run. */
  constructor(
    code: Code,
    helpers: Helpers,
    shape: Shape,
    private readonly shared: number,
  ) {
    super(shape.mode, helpers, shape.insn, shape.staticImm, shape.known, code);
  }
  protected override statusLocal(): number {
    return this.shared;
  }
  protected override leave(status: Expr): void {
    this.code.store(4, ZERO32, REC, REC_AT);
    this.code.return(status);
  }
  /** Go on with the next record. */
  next(loop: number): void {
    if (this.status >= 0) {
      const status = local(this.status, "i32");
      this.code.if(status, false);
      this.leave(status);
      this.code.end();
    }
    this.code.setLocal(0, i32.add(REC, c32(REC_SIZE)));
    this.code.br(loop);
    this.releaseTemps();
  }
}

/** One function for `shapes`, whose handlers are in the table from `first` on, in this order. */
export function fuse(shapes: readonly Shape[], first: number, helpers: Helpers): Code {
  const code = new Code({ params: ["i32"], results: ["i32"] });
  const status = code.newLocal("i32");
  const loop = code.loop();
  const other = code.block();
  const labels = shapes.map(() => code.block()).reverse();
  code.brTable(i32.sub(i32.load(REC, REC_HANDLER), c32(first)), labels, other);
  for (const shape of shapes) {
    code.end();
    const sem = new FusedSem(code, helpers, shape, status);
    shape.def.emit(sem);
    sem.next(loop);
  }
  code.end();
  code.store(4, ZERO32, REC, REC_AT);
  code.return(c32(ST_HANDLER));
  code.end();
  code.unreachable();
  return code;
}
