/**
 * What an instruction does to the flags and whether it can leave, found by running its emitter once against a recorder.
 *
 * Emitters depend only on what is in the key (context.ts), so that the answer is kept per operation, sizes and operand kinds.
 */
import type { Code } from "../../wasm/encoder.js";
import { Code as CodeBuffer } from "../../wasm/encoder.js";
import { c32, c64, isConst, local, N, withArgs, type Expr, type ValType } from "../../wasm/expr.js";
import { K, type Insn } from "../insn.js";
import { BaseSem, type CcState, type Helpers } from "../sem/base.js";
import type { OpDef, OpTable, Rmw, Var } from "../sem/context.js";

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
  /** What the flags are made of afterwards, over symbols (see SYMBOL); undefined components are made of something else. */
  readonly a: Expr | undefined;
  readonly b: Expr | undefined;
  readonly r: Expr | undefined;
  /** Operands it writes (bit i), and general registers it writes beside them (bit n). */
  readonly writesOperands: number;
  readonly writesFixed: number;
  /** Stores other than by writing an operand. */
  readonly stores: boolean;
  /** May leave the region in its middle, with the flags of before. */
  readonly leaves: boolean;
  /** May leave after its own flags are set. */
  readonly leavesAfter: boolean;
}

/** Operations whose look at the flags image has no effect but on the flags they set. */
const MERGING = new Set(["rol", "ror", "rcl", "rcr", "stc", "clc", "cmc", "sahf"]);

/** Leaves of the symbolic flag components: locals with these indices. */
export const SYMBOL = {
  /** Value of operand i before the instruction, after it. */
  OLD: 0x1000,
  NEW: 0x2000,
  /** General register n before the instruction. */
  REGISTER: 0x3000,
  /** The immediate as i32, i64. */
  IMM: 0x4000,
} as const;
/** Larger components are not worth being made again. */
const MAX_SYMBOLIC = 24;

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
  a: Expr | undefined;
  b: Expr | undefined;
  r: Expr | undefined;
  writesOperands = 0;
  writesFixed = 0;
  stores = false;
  private readonly written: (Expr | undefined)[] = [];
  private immediate = false;
  private depth = 0;

  begin(insn: Insn, def: OpDef): void {
    this.insn = insn;
    this.reads = this.readsImage = this.leaves = this.leavesAfter = this.stores = false;
    this.sets = 0;
    this.op = this.writesOperands = this.writesFixed = this.depth = 0;
    this.a = this.b = this.r = undefined;
    this.written.length = 0;
    this.immediate = def.imm === true;
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
  private operand(i: number): Expr {
    const o = this.insn.ops[i];
    const t = ofSize(this.sizeOf(i)).t;
    if (o?.kind === K.GPR || o?.kind === K.IMM) return local(SYMBOL.OLD + i, t);
    if (o?.kind === K.MEM) this.leave();
    return any(t);
  }
  /** Values stay trees, so that what the flags are made of can be recognised. */
  override let(e: Expr): Expr {
    return e;
  }
  override var(t: ValType): Var {
    return { t, get: () => any(t), set: () => undefined };
  }
  override when(_cond: Expr, then: () => void, otherwise?: () => void): void {
    this.depth++;
    then();
    otherwise?.();
    this.depth--;
  }
  override raise(): void {
    this.leave();
  }
  override raiseIf(): void {
    this.leave();
  }
  override checkStatus(): void {
    this.leave();
  }
  override helper(name: string): Expr {
    return any(this.helpers.type(name).results[0] ?? "i32");
  }
  override helperVoid(): void {}
  override read(i: number): Expr {
    return this.operand(i);
  }
  override write(i: number, e: Expr): void {
    const o = this.insn.ops[i];
    if (o?.kind === K.MEM) this.leave();
    this.writesOperands |= 1 << i;
    this.written[i] = this.depth === 0 && o?.kind === K.GPR ? e : undefined;
  }
  override rmw(i: number): Rmw {
    return { value: this.operand(i), commit: (e) => this.write(i, e) };
  }
  override imm32(): Expr {
    return this.immediate ? c32(this.insn.imm) : local(SYMBOL.IMM, "i32");
  }
  override imm64(): Expr {
    return this.immediate ? c64(this.insn.imm, this.insn.immHi) : local(SYMBOL.IMM, "i64");
  }
  override gpr(n: number): Expr {
    return local(SYMBOL.REGISTER + n, "i64");
  }
  override setGpr(n: number): void {
    this.writesFixed |= 1 << n;
  }
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
  protected override numberOf(_i: number, reg: number): Expr {
    return c32(reg);
  }
  override syncXmm(): void {}
  override reloadXmm(): void {}
  override helperStored(): void {
    this.leave();
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
  override stateHelper(_name: string, _args: readonly Expr[], regs: readonly number[]): void {
    for (const n of regs) this.writesFixed |= 1 << n;
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
  protected override setCc(op: number, a: Expr | undefined, b: Expr | undefined, r: Expr | undefined): void {
    this.sets = 1;
    this.op = op;
    this.a = this.symbolic(a);
    this.b = this.symbolic(b);
    this.r = this.symbolic(r);
  }
  protected override setCcIf(): void {
    this.sets = 2;
  }
  /** The tree with written operands' values as symbols; undefined if it has anything else in it than symbols and constants. */
  private symbolic(e: Expr | undefined): Expr | undefined {
    if (!e) return undefined;
    this.nodes = 0;
    return this.symbols(e);
  }
  private nodes = 0;
  private symbols(e: Expr): Expr | undefined {
    if (++this.nodes > MAX_SYMBOLIC) return undefined;
    if (!isConst(e)) {
      const w = this.written.indexOf(e);
      if (w >= 0) return local(SYMBOL.NEW + w, e.t);
    }
    if (e.n === N.LOCAL) return e.code >= SYMBOL.OLD ? e : undefined;
    if (e.n === N.LOAD || e.n === N.CALL || e.n === N.GLOBAL) return undefined;
    if (e.args.length === 0) return e;
    const args: Expr[] = [];
    for (const x of e.args) {
      const y = this.symbols(x);
      if (!y) return undefined;
      args.push(y);
    }
    return withArgs(e, args);
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
    this.stores = true;
    this.leave();
  }
  override rmwAt(_addr: Expr, size: number): Rmw {
    this.stores = true;
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
    this.recorder = new Recorder(new CodeBuffer(NO_TYPE), mode, {
      index: () => 0,
      type: (n) => types.type(n),
      wide: () => false,
    });
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
    let key =
      sizeCode(insn.osize) |
      (sizeCode(insn.asize) << 3) |
      (insn.rep << 6) |
      ((insn.lock ? 1 : 0) << 8) |
      (insn.cc << 9);
    let high = 0;
    const ops = insn.ops;
    for (let i = 0; i < ops.length; i++) {
      const o = ops[i];
      if (o) high = high * 128 + (o.kind * 8 + sizeCode(o.size));
    }
    key += high * 8192;
    const keyed =
      entry.def.regs !== true && (entry.def.imm !== true || (insn.imm >= 0 && insn.imm < 256 && insn.ops.length <= 3));
    if (entry.def.imm) key = key * 256 + insn.imm;
    if (keyed) {
      const known = entry.shapes.get(key);
      if (known) return known;
    }
    const r = this.recorder;
    r.begin(insn, entry.def);
    entry.def.emit(r);
    const shape: Shape = {
      def: entry.def,
      reads: r.reads || r.readsImage,
      merges: r.readsImage && !r.reads && MERGING.has(insn.op),
      sets: r.sets,
      op: r.op,
      a: r.a,
      b: r.b,
      r: r.r,
      writesOperands: r.writesOperands,
      writesFixed: r.writesFixed,
      stores: r.stores,
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
