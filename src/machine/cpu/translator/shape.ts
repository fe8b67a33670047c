/**
 * What an instruction does to the flags and whether it can leave, found by running its emitter once against a recorder.
 *
 * Emitters depend only on what is in the key (context.ts), so that the answer is kept per operation, sizes and operand kinds.
 */
import type { Code } from "../../wasm/encoder.js";
import { Code as CodeBuffer } from "../../wasm/encoder.js";
import { c32, c64, local, type Expr, type ValType } from "../../wasm/expr.js";
import { K, type Insn } from "../insn.js";
import { BaseSem, type CcState, type Helpers } from "../sem/base.js";
import type { OpDef, OpTable, Rmw } from "../sem/context.js";

export interface Shape {
  readonly def: OpDef;
  /** Looks at the flags. */
  readonly reads: boolean;
  /** Looks at the flags only to carry some of them over into what it sets: no look if the result is dead. */
  readonly merges: boolean;
  /** Sets all flags: 0 no, 1 always, 2 depends on run-time values. */
  readonly sets: 0 | 1 | 2;
  /** The flag operation it leaves, if `sets` is 1. */
  readonly op: number;
  /** May leave the region in its middle, with the flags of before. */
  readonly leaves: boolean;
  /** May leave after its own flags are set. */
  readonly leavesAfter: boolean;
}

/** Operations whose look at the flags image has no effect but on the flags they set. */
const MERGING = new Set(["rol", "ror", "rcl", "rcr", "stc", "clc", "cmc", "sahf"]);

const NO_TYPE: Code["type"] = { params: ["i32", "i64", "v128", "f32", "f64"], results: [] };
const PARAM: Record<ValType, number> = { i32: 0, i64: 1, v128: 2, f32: 3, f64: 4 };
const any = (t: ValType): Expr => local(PARAM[t], t);
const ofSize = (size: number): Expr => any(size <= 4 ? "i32" : size === 8 ? "i64" : "v128");

class Recorder extends BaseSem {
  protected override readonly translateW = "";
  reads = false;
  readsImage = false;
  sets: 0 | 1 | 2 = 0;
  op = 0;
  leaves = false;
  leavesAfter = false;

  begin(insn: Insn): void {
    this.insn = insn;
    this.reads = this.readsImage = this.leaves = this.leavesAfter = false;
    this.sets = 0;
    this.op = 0;
  }
  end(): void {
    this.releaseTemps();
    this.code.out.len = 0;
    this.code.hints.length = 0;
    this.code.depth = 0;
  }
  private leave(): void {
    if (this.sets !== 0) this.leavesAfter = true;
    else this.leaves = true;
  }
  private sizeOf(i: number): number {
    const o = this.insn.ops[i];
    if (!o) return 4;
    return (o.kind === K.IMM ? this.insn.ops[0]?.size : o.size) ?? 4;
  }
  override read(i: number): Expr {
    if (this.insn.ops[i]?.kind === K.MEM) this.leave();
    return ofSize(this.sizeOf(i));
  }
  override write(i: number): void {
    if (this.insn.ops[i]?.kind === K.MEM) this.leave();
  }
  override rmw(i: number): Rmw {
    if (this.insn.ops[i]?.kind === K.MEM) this.leave();
    return { value: ofSize(this.sizeOf(i)), commit: () => undefined };
  }
  override imm32(): Expr {
    return c32(this.insn.imm);
  }
  override imm64(): Expr {
    return c64(this.insn.imm, this.insn.immHi);
  }
  override gpr(): Expr {
    return any("i64");
  }
  override setGpr(): void {}
  override eaOffset(): Expr {
    return any("i64");
  }
  override readXmm(): Expr {
    return any("v128");
  }
  override writeXmm(): void {}
  override readMmx(): Expr {
    return any("i64");
  }
  override writeMmx(): void {}
  override xmm(): Expr {
    return any("v128");
  }
  override setXmm(): void {}
  override regNumber(i: number): Expr {
    return c32(this.insn.ops[i]?.reg ?? 0);
  }
  override nextRip(): Expr {
    return any("i64");
  }
  override jumpRel(): void {}
  override branchIf(): void {}
  override jumpTo(): void {
    this.leave();
  }
  override exit(): void {
    this.leave();
  }
  override endBlock(): void {
    this.leave();
  }
  override stateHelper(): void {
    this.leave();
  }
  protected override leaveAt(): void {
    this.leave();
  }
  protected override cc(): CcState {
    this.reads = true;
    return { op: -1, a: any("i64"), b: any("i64"), r: any("i64"), dynamicOp: any("i32") };
  }
  override cond(): Expr {
    this.reads = true;
    return any("i32");
  }
  override flagsImage(): Expr {
    this.readsImage = true;
    return any("i32");
  }
  protected override setCc(op: number): void {
    this.sets = 1;
    this.op = op;
  }
  protected override setCcIf(): void {
    this.sets = 2;
  }
  protected override memSegBase(): Expr {
    return any("i64");
  }
  protected override afterSlowStore(): void {}
  override load(_addr: Expr, size: number): Expr {
    this.leave();
    return ofSize(size);
  }
  override store(): void {
    this.leave();
  }
  override rmwAt(_addr: Expr, size: number): Rmw {
    this.leave();
    return { value: ofSize(size), commit: () => undefined };
  }
}

const SIZE_CODE: Record<number, number> = { 0: 0, 1: 1, 2: 2, 4: 3, 8: 4, 16: 5, 10: 6 };
const sizeCode = (s: number): number => SIZE_CODE[s] ?? 7;

export class Shapes {
  private readonly byOp = new Map<string, { def: OpDef; shapes: Map<number, Shape> }>();
  private readonly recorder: Recorder;

  constructor(
    private readonly ops: OpTable,
    mode: number,
    types: Helpers,
  ) {
    // Indices are of no interest here, and asking for one may add an import.
    this.recorder = new Recorder(new CodeBuffer(NO_TYPE), mode, { index: () => 0, type: (n) => types.type(n) });
  }

  /** The shape, or undefined for an operation that the table does not have. */
  of(insn: Insn): Shape | undefined {
    let entry = this.byOp.get(insn.op);
    if (!entry) {
      const def = this.ops.get(insn.op);
      if (!def) return undefined;
      entry = { def, shapes: new Map() };
      this.byOp.set(insn.op, entry);
    }
    // Sizes, prefixes and operand kinds fill 34 bits (three operands), an immediate's low byte 8 more.
    let key = sizeCode(insn.osize) | (sizeCode(insn.asize) << 3) | (insn.rep << 6) | ((insn.lock ? 1 : 0) << 8) | (insn.cc << 9);
    let high = 0;
    const ops = insn.ops;
    for (let i = 0; i < ops.length; i++) {
      const o = ops[i];
      if (o) high = high * 128 + (o.kind * 8 + sizeCode(o.size));
    }
    key += high * 8192;
    const keyed = entry.def.regs !== true && (entry.def.imm !== true || (insn.imm >= 0 && insn.imm < 256 && insn.ops.length <= 3));
    if (entry.def.imm) key = key * 256 + insn.imm;
    if (keyed) {
      const known = entry.shapes.get(key);
      if (known) return known;
    }
    const r = this.recorder;
    r.begin(insn);
    entry.def.emit(r);
    const shape: Shape = {
      def: entry.def,
      reads: r.reads || r.readsImage,
      merges: r.readsImage && !r.reads && MERGING.has(insn.op),
      sets: r.sets,
      op: r.op,
      leaves: r.leaves,
      leavesAfter: r.leavesAfter,
    };
    r.end();
    if (keyed) entry.shapes.set(key, shape);
    return shape;
  }
}

const cache = new WeakMap<OpTable, Map<number, Shapes>>();
export function shapesFor(ops: OpTable, mode: number, types: Helpers): Shapes {
  let byMode = cache.get(ops);
  if (!byMode) cache.set(ops, (byMode = new Map()));
  let s = byMode.get(mode);
  if (!s) byMode.set(mode, (s = new Shapes(ops, mode, types)));
  return s;
}
