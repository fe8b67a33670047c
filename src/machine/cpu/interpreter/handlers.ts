/**
 * Handlers by shape: made from the semantics when a shape is first met, many to a WebAssembly module, and kept in the core's
 * function table. A shape is everything an emitter may look at: operation, sizes, operand kinds, mode, and (for operations that ask for
 * it) the immediate; plus, for operations that read flags, which operation set them.
 */
import { MODE_BITS_MASK, MODE_CPL_SHIFT, MODE_FLAT, MODE_NO_FPU, MODE_SPACE, MODE_SS32 } from "../../layout.js";
import { ModuleBuilder, type FuncType } from "../../wasm/encoder.js";
import { K, type Insn } from "../insn.js";
import type { Helpers } from "../sem/base.js";
import type { OpTable } from "../sem/context.js";
import { CC_UNKNOWN, InterpreterSem } from "./sem.js";

const SHAPE_MODE = MODE_BITS_MASK | MODE_SPACE | (3 << MODE_CPL_SHIFT) | MODE_SS32 | MODE_FLAT | MODE_NO_FPU;

export interface Handler {
  /** Index in the core's function table. */
  index: number;
  ccAfter: number;
}

/** Where modules get the core's functions and memory from. */
export interface ModuleHost {
  readonly helperTypes: Record<string, FuncType>;
  /** Table slots from the returned index on, `n` of them. */
  allocate(n: number): number;
  setFunction(slot: number, f: unknown): void;
  instantiate(bytes: Uint8Array<ArrayBuffer>): WebAssembly.Instance;
}

export class HandlerCache {
  private readonly handlers = new Map<string, Handler>();
  private readonly usesCc = new Map<string, boolean>();
  /** Handlers to be compiled with the next `flush`. */
  private pending: { handler: Handler; sem: InterpreterSem }[] = [];
  private module: PendingModule | undefined;
  constructor(
    private readonly host: ModuleHost,
    private readonly ops: OpTable,
  ) {}

  get size(): number {
    return this.handlers.size;
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

  /** The handler for `insn` after a known flag operation (or CC_UNKNOWN). */
  get(insn: Insn, mode: number, known: number): Handler {
    const def = this.ops.get(insn.op) ?? this.ops.get("ud");
    if (def === undefined) throw new Error(`no semantics for ${insn.op}`);
    const staticImm = def.imm === true && insn.ops.some((o) => o.kind === K.IMM);
    let key = this.shape(insn, mode, staticImm);
    const reads = this.usesCc.get(key);
    if (reads === true) key += `@${known}`;
    const found = this.handlers.get(key);
    if (found !== undefined && (reads !== undefined || known === CC_UNKNOWN)) return found;
    this.module ??= new PendingModule(this.host);
    const sem = new InterpreterSem(mode, this.module, insn, staticImm, known);
    def.emit(sem);
    if (reads === undefined) {
      this.usesCc.set(key, sem.usedCc);
      if (sem.usedCc) key += `@${known}`;
    }
    const handler: Handler = { index: -1, ccAfter: sem.ccAfter };
    this.handlers.set(key, handler);
    this.pending.push({ handler, sem });
    return handler;
  }

  /** Compile what `get` has made since the last time; every handler then has its index. */
  flush(): void {
    const module = this.module;
    if (module === undefined) return;
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
      i = this.builder.importFunc("core", name, this.type(name));
      this.indices.set(name, i);
    }
    return i;
  }
  type(name: string): FuncType {
    const t = this.host.helperTypes[name];
    if (t === undefined) throw new Error(`no helper ${name}`);
    return t;
  }
}
