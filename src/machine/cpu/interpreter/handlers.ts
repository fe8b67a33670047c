/**
 * Handlers by shape: made from the semantics when a shape is first met, many to a WebAssembly module, and kept in the core's
 * function table. A shape is everything an emitter may look at: operation, sizes, operand kinds, mode, and (for operations that ask for
 * it) the immediate; plus, for operations that read flags, which operation set them.
 */
import { MODE_BITS_MASK, MODE_CPL_SHIFT, MODE_FLAT, MODE_NO_FPU, MODE_SPACE, MODE_SS32 } from "../../layout.js";
import { ModuleBuilder, type FuncType } from "../../wasm/encoder.js";
import { wideHelpers } from "../helpers.js";
import { K, type Insn } from "../insn.js";
import type { Helpers } from "../sem/base.js";
import type { OpDef, OpTable } from "../sem/context.js";
import { fuse, type Shape } from "./fused.js";
import { CC_UNKNOWN, InterpreterSem } from "./sem.js";

const SHAPE_MODE = MODE_BITS_MASK | MODE_SPACE | (3 << MODE_CPL_SHIFT) | MODE_SS32 | MODE_FLAT | MODE_NO_FPU;

export interface Handler {
  /** Index in the core's function table. */
  index: number;
  readonly ccAfter: number;
  readonly op: Op;
  /** There are others for the same shape: after other operations on the flags, for other immediates. */
  readonly reads: boolean;
  readonly staticImm: boolean;
}

/** Relative branches: the record holds the target instead of the displacement. */
const RELATIVE = new Set(["jmp", "jcc", "call", "loop", "loope", "loopne", "jcxz"]);
/** Branches whose targets are only known when they run. */
const INDIRECT = new Set(["jmp_ind", "call_ind"]);
/** They read the clock in the middle of nothing: the retired count is exact only between blocks. */
const CLOCK = new Set(["rdtsc", "rdtscp"]);

/** What is asked of an operation for each instruction that is decoded. */
export interface Op {
  readonly id: number;
  readonly def: OpDef;
  readonly ends: boolean;
  readonly relative: boolean;
  readonly indirect: boolean;
  readonly clock: boolean;
}

/** Where modules get the core's functions and memory from. */
export interface ModuleHost {
  readonly helperTypes: Record<string, FuncType>;
  /** Table slots from the returned index on, `n` of them. */
  allocate(n: number): number;
  setFunction(slot: number, f: unknown): void;
  instantiate(bytes: Uint8Array<ArrayBuffer>): WebAssembly.Instance;
}

/** What is known of one shape. */
interface Slot {
  /** It reads the flags, so that its handler depends on the operation that set them; undefined before the first is made. */
  reads: boolean | undefined;
  /** By that operation; all under CC_UNKNOWN where it does not matter. Indices are one above it. */
  readonly byFlags: (Handler | undefined)[];
}

/** Slots by three numbers, open addressing: as this is asked for each instruction that is decoded, it makes no objects and no strings. */
class SlotTable {
  private mask = 4095;
  /** Operation's number + 1 (0 = empty), operands, form, index in `slots`. */
  private words = new Int32Array(4 * 4096);
  private readonly slots: Slot[] = [];

  private place(op: number, operands: number, form: number): number {
    let h = Math.imul(op, 0x9e3779b1) ^ Math.imul(operands, 0x85ebca6b) ^ Math.imul(form, 0xc2b2ae35);
    h ^= h >>> 15;
    for (let i = h & this.mask; ; i = (i + 1) & this.mask) {
      const w = i * 4;
      const { words } = this;
      if (words[w] === 0) return w;
      if (words[w] === op && words[w + 1] === operands && words[w + 2] === form) return w;
    }
  }
  get(id: number, operands: number, form: number): Slot {
    const w = this.place(id + 1, operands, form);
    if (this.words[w] !== 0) return this.slots[this.words[w + 3] as number] as Slot;
    const slot: Slot = { reads: undefined, byFlags: [] };
    this.words.set([id + 1, operands, form, this.slots.length], w);
    this.slots.push(slot);
    if (this.slots.length * 2 > this.mask) this.grow();
    return slot;
  }
  private grow(): void {
    const old = this.words;
    this.mask = this.mask * 2 + 1;
    this.words = new Int32Array(old.length * 2);
    for (let i = 0; i < old.length; i += 4) {
      if (old[i] === 0) continue;
      const w = this.place(old[i] as number, old[i + 1] as number, old[i + 2] as number);
      this.words.set(old.subarray(i, i + 4), w);
    }
  }
}

/** Operand sizes as three bits; 7 for those that only a name tells apart. */
const SIZE_CODE = new Uint8Array(32).fill(7);
for (const [i, size] of [0, 1, 2, 4, 8, 10, 16].entries()) SIZE_CODE[size] = i;

/** Kinds and sizes of the operands in 26 bits with operand size and repetition; −1 where they do not fit. */
function operandKey(insn: Insn): number {
  const { ops } = insn;
  if (ops.length > 3) return -1;
  let key = 1;
  for (let i = 0; i < ops.length; i++) {
    const o = ops[i];
    if (o === undefined || o.size > 16) return -1;
    const size = SIZE_CODE[o.size] as number;
    if (size === 7) return -1;
    key = key * 128 + o.kind * 8 + size;
  }
  return key * 32 + (SIZE_CODE[insn.osize & 31] as number) * 4 + insn.rep;
}

/** Address form, condition and mode in 25 bits. */
function formKey(insn: Insn, mode: number): number {
  let form = SIZE_CODE[insn.asize & 31] as number;
  let mem = false;
  const { ops } = insn;
  for (let i = 0; i < ops.length; i++) if (ops[i]?.kind === K.MEM) mem = true;
  // Without a memory operand they belong to what an instruction uses unnamed: strings, `loop`, `maskmovq`.
  if (mem)
    form |=
      8 |
      (insn.memBase >= 0 ? 16 : 0) |
      (insn.memIndex >= 0 ? (insn.memScale === 0 ? 32 : 64) : 0) |
      (insn.seg >= 4 ? 128 : 0);
  else form |= insn.seg << 4;
  return (((mode & SHAPE_MODE) * 16 + insn.cc) * 4 + (insn.bits >> 5)) * 256 + form;
}

function hasImmediate(insn: Insn): boolean {
  const { ops } = insn;
  for (let i = 0; i < ops.length; i++) if (ops[i]?.kind === K.IMM) return true;
  return false;
}

export class HandlerCache {
  private readonly slots = new SlotTable();
  private readonly ops = new Map<string, Op>();
  /** Those whose handler depends on more than that. */
  private readonly others = new Map<string, Slot>();
  private count = 0;
  /** Handlers to be compiled with the next `flush`. */
  private pending: { handler: Handler; sem: InterpreterSem; shape: Shape }[] = [];
  private module: PendingModule | undefined;
  constructor(
    private readonly host: ModuleHost,
    ops: OpTable,
  ) {
    for (const [name, def] of ops) {
      this.ops.set(name, {
        id: this.ops.size,
        def,
        ends: def.ends === true,
        relative: RELATIVE.has(name),
        indirect: INDIRECT.has(name),
        clock: CLOCK.has(name),
      });
    }
  }

  get size(): number {
    return this.count;
  }

  private shape(insn: Insn, mode: number, staticImm: boolean): string {
    let key = `${insn.op} ${insn.osize}${insn.bits}${mode & SHAPE_MODE}.${insn.cc}${insn.rep}`;
    let mem = false;
    for (const o of insn.ops) {
      key += o.kind * 100 + o.size + ",";
      if (o.kind === K.MEM) {
        mem = true;
        key += `m${insn.asize}${insn.memBase >= 0 ? "b" : ""}${insn.memIndex >= 0 ? (insn.memScale === 0 ? "x" : "X") : ""}${insn.seg >= 4 ? "s" : ""}`;
      }
    }
    // Without a memory operand they belong to what an instruction uses unnamed: strings, `loop`, `maskmovq`.
    if (!mem) key += `a${insn.asize}s${insn.seg}`;
    if (staticImm) key += `#${insn.imm},${insn.imm2}`;
    return key;
  }

  private slot(op: Op, insn: Insn, mode: number, staticImm: boolean): Slot {
    const operands = staticImm ? -1 : operandKey(insn);
    if (operands >= 0) return this.slots.get(op.id, operands, formKey(insn, mode));
    const key = this.shape(insn, mode, staticImm);
    let slot = this.others.get(key);
    if (slot === undefined) this.others.set(key, (slot = { reads: undefined, byFlags: [] }));
    return slot;
  }

  /** The handler for `insn` after a known flag operation (or CC_UNKNOWN). */
  get(insn: Insn, mode: number, known: number): Handler {
    const op = this.ops.get(insn.op) ?? this.ops.get("ud");
    if (op === undefined) throw new Error(`no semantics for ${insn.op}`);
    const { def } = op;
    const staticImm = def.imm === true && hasImmediate(insn);
    const slot = this.slot(op, insn, mode, staticImm);
    if (slot.reads !== undefined) {
      const found = slot.byFlags[(slot.reads ? known : CC_UNKNOWN) + 1];
      if (found !== undefined) return found;
    }
    this.module ??= new PendingModule(this.host);
    const sem = new InterpreterSem(mode, this.module, insn, staticImm, known);
    def.emit(sem);
    slot.reads ??= sem.usedCc;
    const handler: Handler = { index: -1, ccAfter: sem.ccAfter, op, reads: slot.reads, staticImm };
    slot.byFlags[(slot.reads ? known : CC_UNKNOWN) + 1] = handler;
    this.count++;
    this.pending.push({ handler, sem, shape: { def, mode, insn, staticImm, known } });
    return handler;
  }

  /**
   * Compile what `get` has made since the last time as `flush` does, and one function that runs all of them; its index, and that of the first
   * of its handlers, which stand in a row.
   */
  flushFused(): { fused: number; first: number; count: number } {
    const module = new PendingModule(this.host);
    const shapes = this.pending.map((p) => p.shape);
    const first = this.flush();
    if (shapes.length === 0) return { fused: 0, first: 0, count: 0 };
    const fused = this.host.allocate(1);
    module.builder.addFunc(fuse(shapes, first, module), "run");
    this.host.setFunction(fused, this.host.instantiate(module.builder.finish()).exports.run);
    return { fused, first, count: shapes.length };
  }

  /** Compile what `get` has made since the last time; every handler then has its index. The first one's. */
  flush(): number {
    const module = this.module;
    if (module === undefined) return 0;
    const base = this.host.allocate(this.pending.length);
    this.pending.forEach((p, i) => {
      module.builder.addFunc(p.sem.finish(), `h${i}`);
      p.handler.index = base + i;
    });
    // The table is filled from outside: V8 11 copies an imported table for every instance (0.4 ms at 20,000 entries).
    const { exports } = this.host.instantiate(module.builder.finish());
    for (let i = 0; i < this.pending.length; i++) this.host.setFunction(base + i, exports[`h${i}`]);
    this.pending = [];
    this.module = undefined;
    return base;
  }
}

/**
 * A module under construction. A helper is imported when it is first asked for; that is sound because functions are added only
 * when all their code is written, and code refers to imports alone.
 */
export class PendingModule implements Helpers {
  readonly builder = new ModuleBuilder();
  private readonly indices = new Map<string, number>();
  constructor(private readonly host: ModuleHost) {
    this.builder.importMemory("env", "memory", true, 1, 65536);
  }
  index(name: string): number {
    let i = this.indices.get(name);
    if (i === undefined) {
      const type = this.type(name);
      i = this.wide(name)
        ? this.builder.importFunc("core", `${name}Wide`, { params: type.params, results: ["v128"] })
        : this.builder.importFunc("core", name, type);
      this.indices.set(name, i);
    }
    return i;
  }
  type(name: string): FuncType {
    const t = this.host.helperTypes[name];
    if (t === undefined) throw new Error(`no helper ${name}`);
    return t;
  }
  wide(name: string): boolean {
    return wideHelpers.has(name);
  }
}
