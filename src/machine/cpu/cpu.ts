/**
 * The CPU: the loaded vCPU's state and the engine that runs it.
 *
 * The state block lives at fixed addresses of the linear memory (layout.ts), where generated code works on it; a vCPU that is not
 * loaded keeps its bytes in a `CpuContext`. `run` alternates between the core's dispatcher (WebAssembly) and what the host side does for
 * it: decoding new blocks, translating hot ones, system instructions.
 */
import type { Clock } from "../clock.js";
import {
  BLOCK_HEADER,
  BUDGET,
  CC_A,
  CC_OP,
  CPU,
  CPU_CONTEXT_SIZE,
  CR0,
  CR4,
  DECODED,
  DECODES_MAX,
  DR,
  EFER,
  EFL,
  EXIT_CR2,
  EXIT_ERROR,
  EXIT_LENGTH,
  EXIT_REASON,
  EXIT_VECTOR,
  FCW,
  GPR,
  HOT_LIST,
  LEVELS,
  MODE,
  MODE_BITS_16,
  MODE_BITS_32,
  MODE_BITS_64,
  MODE_BITS_MASK,
  MODE_CPL_SHIFT,
  MODE_FLAT,
  MODE_NO_FPU,
  MODE_SPACE,
  MODE_SS32,
  MODE_STEP,
  MXCSR,
  PV_CHARGED,
  REC_BASE,
  REC_DISP,
  REC_HANDLER,
  REC_IMM,
  REC_INDEX,
  REC_LEN,
  REC_NEXT,
  REC_POS,
  REC_R0,
  REC_R1,
  REC_R2,
  REC_SCALE,
  REC_SEG,
  REC_SIZE,
  RIP,
  ROOT,
  SEG_ATTR,
  SEG_BASE,
  SEG_LIMIT,
  SEG_SEL,
  SCRATCH,
  ZERO,
  CODE_PAGE,
} from "../layout.js";
import type { Maddr, PhysMem } from "../memory.js";
import { coreWasm } from "../core/generated/core.js";
import { TSC_PER_NS } from "../clock.js";
import { type Access, type CpuApi, type CpuContext, EXEC, type ExitInfo, type ModeSpec, type Va } from "./api.js";
import { ALL_CODE, blockBytes, blockField, CodeCache, type CodeRange, type CodeUnit } from "./code-cache.js";
import { SWEEP } from "./code-twins.js";
import { decode } from "./decode/index.js";
import { DebugStops } from "./debug-stops.js";
import { armed, dataHits, instructionHits } from "./breakpoints.js";
import { Exit, type ExitReason } from "./exits.js";
import { ARITH, CC, ccOp, RF, TF } from "./flags.js";
import { Forms } from "./forms.js";
import { helperTypes } from "./helpers.js";
import { type CpuCounters, newCounters } from "./counters.js";
import { BASE_RIP, CS, DS, ES, K, RSP, SS, type Insn, type Operand } from "./insn.js";
import { HandlerCache, type Handler, type ModuleHost } from "./interpreter/handlers.js";
import { PREWARM, type ShapeGroup } from "./interpreter/prewarm.js";
import { CC_SAME, CC_UNKNOWN, registerAddress } from "./interpreter/sem.js";
import { opTable } from "./sem/index.js";
import { linearAddress, systemInstruction } from "./system.js";
import { RegionCompiler } from "./regions.js";

const MAX_BLOCK = 64;
/**
 * Executions after which a block is translated. V8 takes about 30 µs a guest instruction to make good code of a region, in which the
 * interpreter executes some thousands that are in the caches; between 2,000 and 8,000 the running thread's time in a boot is nearly flat, and
 * that of V8's threads falls by a third.
 */
const THRESHOLD = 4000;
/** Entries at one address after which a region is made again with all that it calls in it: only what is really hot is worth it. */
const AGAIN = 50000;
/** Hot blocks that are translated together, and slices after which fewer are. */
const HOT_BATCH = 16;
const HOT_WAIT = 16;
/** Most instructions that a region retires between two looks at its budget: its largest size, and a block. */
const REGION_MARGIN = 3300;

export type EngineKind = "auto" | "interpreter" | "translator";
/** What is taken where nobody chooses, so that everything can be run in one mode (sys/node/engine-flags.ts). */
export const engineDefault: { kind: EngineKind } = { kind: "auto" };

export interface CpuOptions {
  /** `auto` (the default): interpret cold code and translate hot code; `translator`: translate everything at first sight. */
  engine?: EngineKind;
  /** Entries after which a region is translated again with the functions that it calls; 0 = never. Default 50,000. */
  again?: number;
  /** Executions after which a block is hot. Default 4,000. */
  threshold?: number;
  /** `run(budget)` retires exactly so many instructions, unless an exit comes first: what replay stands on. Slower. */
  exact?: boolean;
}

/** The core's exports. */
interface Core {
  run(): void;
  step(): void;
  flushTlb(where: number): void;
  invlpg(lo: number, hi: number, where: number): void;
  switchSpaces(): void;
  watchTables(): void;
  forgetRoot(root: number): void;
  clearTlb(): void;
  codeDropped(): void;
  forgetCode(lo: number, hi: number): void;
  translate(lo: number, hi: number, access: number): number;
  peek(lo: number, hi: number, space: number): number;
  peekCode(lo: number, hi: number): number;
  dropFrame(frame: number): void;
  dropWriters(frame: number): void;
  setAliases(table: number, n: number): void;
  setFrames(n: number): void;
  setLogDirty(on: boolean): void;
  stopAfterStore(on: boolean): void;
  setExact(margin: number): void;
  inFlightBudget(): number;
  setFused(fused: number, first: number, count: number): void;
  setHotness(threshold: number, batch: number, again: number): void;
  lastCodeMaddr(): number;
  engineCount(what: number): number;
  blockHash(maddr: number, mode: number): number;
  formOf(at: number, limit: number, mode: number, known: number): number;
  formPlace(mode: number, known: number, flags: number): number;
  entryBit(maddr: number, mode: number): number;
  hashFrame(frame: number): number;
  sameFrame(a: number, b: number): number;
  arithFlags(): number;
  recordFault(vector: number, error: number): void;
  fxsaveTo(addr: number): void;
  fxrstorFrom(addr: number): void;
  table: WebAssembly.Table;
}

let compiledCore: WebAssembly.Module | undefined;

function base64(s: string): Uint8Array<ArrayBuffer> {
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const value = new Uint8Array(128);
  for (let i = 0; i < 64; i++) value[digits.charCodeAt(i)] = i;
  const pad = s.endsWith("==") ? 2 : s.endsWith("=") ? 1 : 0;
  const out = new Uint8Array((s.length / 4) * 3 - pad);
  for (let i = 0, o = 0; i < s.length; i += 4) {
    const n =
      ((value[s.charCodeAt(i)] as number) << 18) |
      ((value[s.charCodeAt(i + 1)] as number) << 12) |
      ((value[s.charCodeAt(i + 2)] as number) << 6) |
      (value[s.charCodeAt(i + 3)] as number);
    out[o++] = n >> 16;
    if (o < out.length) out[o++] = n >> 8;
    if (o < out.length) out[o++] = n;
  }
  return out;
}

/** What stands in a block for a debugger's breakpoint: CPUID, which leaves the engine at every privilege level. */
const STOP = Uint8Array.of(0x0f, 0xa2);

const TWO32 = 4294967296;
const hiOf = (va: Va): number => Math.floor(va / TWO32) | 0;
const canonical = (va: Va): boolean => va >= -(2 ** 47) && va < 2 ** 47;

/** A block that lies in two frames. */
class Block implements CodeUnit {
  constructor(
    readonly at: number,
    readonly ranges: readonly CodeRange[],
    private readonly cpu: Cpu,
  ) {}
  drop(): boolean {
    return this.cpu.dropBlock(this.at);
  }
}

export class Cpu implements CpuApi, ModuleHost {
  readonly exit: ExitInfo = { reason: Exit.NONE, vector: 0, errorCode: -1, length: 0, cr2Lo: 0, cr2Hi: 0 };
  readonly helperTypes = helperTypes;
  readonly core: Core;
  readonly cache: CodeCache;
  readonly ops = opTable();
  readonly counters: CpuCounters = newCounters();
  private readonly handlers: HandlerCache;
  private readonly forms: Forms;
  /** Breakpoints and watches of a debugger. */
  readonly stops: DebugStops;
  readonly regions: RegionCompiler;
  private readonly coreExports: WebAssembly.Exports;
  private readonly u32: Uint32Array;
  private readonly i32: Int32Array;
  private readonly dv: DataView;
  /** The loaded vCPU's state block. */
  private readonly live: Uint8Array;
  private nextSlot: number;
  private spent = 0;
  /** Slices that ended since hot blocks began to wait. */
  private waited = 0;
  /** When set, one example of each instruction shape met is kept here (tools/prewarm.mjs makes the list of prewarm.ts from it). */
  shapeLog: Map<Handler, { mode: number; known: number; bytes: Uint8Array }> | null = null;
  cpuid: (leaf: number, subleaf: number) => [number, number, number, number] = () => [0, 0, 0, 0];
  /**
   * Load a segment register from its descriptor (the tables belong to whoever owns the vCPU). False: refused, and `exit.vector` and
   * `exit.errorCode` say which fault.
   */
  loadSegment: (seg: number, selector: number) => boolean = (_seg, selector) => {
    this.exit.vector = 13;
    this.exit.errorCode = selector & 0xfffc;
    return false;
  };

  constructor(
    readonly mem: PhysMem,
    readonly clock: Clock,
    readonly options: CpuOptions = {},
  ) {
    this.u32 = mem.u32;
    this.i32 = mem.i32;
    this.dv = new DataView(mem.buffer);
    this.live = mem.u8.subarray(CPU, CPU + CPU_CONTEXT_SIZE);
    compiledCore ??= new WebAssembly.Module(base64(coreWasm));
    const instance = new WebAssembly.Instance(compiledCore, {
      env: {
        memory: mem.memory,
        now: () => {
          this.account();
          return this.clock.now();
        },
        invalidate: (frame: number, offset: number, len: number) => {
          this.counters.invalidations++;
          this.cache.invalidate(frame >>> 0, offset, len);
        },
        breakSharing: (mfn: number) => (mem.breakSharing(mfn >>> 0) ? 1 : 0),
        abort: () => {
          throw new Error("core: abort");
        },
      },
    });
    this.coreExports = instance.exports;
    this.core = instance.exports as unknown as Core;
    this.nextSlot = Math.max(this.core.table.length, 1);
    this.core.setFrames(mem.frames);
    mem.onLogDirty = (on) => this.core.setLogDirty(on);
    this.core.setAliases(mem.aliasTable.byteOffset, mem.aliases);
    mem.onRemap = (frame) => {
      if (mem.hasCode(frame)) this.core.flushTlb(ALL_CODE);
      else this.core.dropFrame(frame);
    };
    this.cache = new CodeCache(mem, this.core);
    this.cache.dropBlock = (at) => this.dropBlock(at);
    this.stops = new DebugStops(this.cache, (on) => this.core.stopAfterStore(on));
    mem.onCodeWrite = (mfn) => this.cache.invalidate(mfn, 0, 4096);
    this.handlers = new HandlerCache(this, this.ops);
    this.forms = new Forms(mem, this.core);
    this.prewarm();
    const engine = options.engine ?? engineDefault.kind;
    const threshold = engine === "interpreter" ? 0 : engine === "translator" ? 1 : (options.threshold ?? THRESHOLD);
    this.regions = new RegionCompiler(this, Math.max(1, threshold >> 4), () => performance.now());
    this.core.setHotness(
      threshold,
      engine === "translator" ? 1 : HOT_BATCH,
      engine === "auto" ? (options.again ?? AGAIN) : 0,
    );
    if (options.exact === true) this.core.setExact(REGION_MARGIN);
    this.core.clearTlb();
    this.core.codeDropped();
    this.reset();
  }

  /** Make the handlers of the usual instructions in one module, instead of one by one as they are met; and those of the commonest in one function. */
  private prewarm(): void {
    for (const group of PREWARM) if (group.hot) this.makeHandlers(group);
    const { fused, first, count } = this.handlers.flushFused();
    this.core.setFused(fused, first, count);
    for (const group of PREWARM) if (!group.hot) this.makeHandlers(group);
    this.handlers.flush();
  }
  private makeHandlers(group: ShapeGroup): void {
    const bytes = new Uint8Array(16);
    for (const item of group.shapes.split(" ")) {
      const colon = item.indexOf(":");
      const known = colon < 0 ? CC_UNKNOWN : parseInt(item.slice(colon + 1));
      const n = (colon < 0 ? item.length : colon) / 2;
      for (let i = 0; i < n; i++) bytes[i] = parseInt(item.slice(2 * i, 2 * i + 2), 16);
      const insn = decode(bytes, 0, n, (group.mode & MODE_BITS_MASK) === MODE_BITS_64 ? 64 : 32);
      if (insn !== null) this.handlers.get(insn, group.mode, known);
    }
  }

  private reset(): void {
    this.dv.setUint32(EFL, 2, true);
    this.dv.setUint32(MXCSR, 0x1f80, true);
    this.dv.setUint32(FCW, 0x37f, true);
    this.setWord64(CR0, 0x80050033, 0);
    this.setWord64(CR4, 0x6f0, 0);
    this.setWord64(EFER, 0xd01, 0);
    this.setWord64(DR + 6 * 8, 0xffff0ff0, 0);
    this.setWord64(DR + 7 * 8, 0x400, 0);
    this.setMode({ bits: 64, cpl: 3, space: 0 });
  }
  private setWord64(at: number, lo: number, hi: number): void {
    this.u32[at >>> 2] = lo;
    this.u32[(at + 4) >>> 2] = hi;
  }

  // ---- ModuleHost ----
  allocate(n: number): number {
    const at = this.nextSlot;
    this.nextSlot += n;
    const table = this.core.table;
    if (this.nextSlot > table.length) table.grow(Math.max(this.nextSlot - table.length, 1024));
    return at;
  }
  setFunction(slot: number, f: unknown): void {
    this.core.table.set(slot, f);
  }
  instantiate(bytes: Uint8Array<ArrayBuffer>): WebAssembly.Instance {
    return new WebAssembly.Instance(new WebAssembly.Module(bytes), {
      env: { memory: this.mem.memory },
      core: this.coreExports,
    });
  }

  // ---- running ----
  get retired(): number {
    return this.spent;
  }
  /** @internal A snapshot is put back. */
  setRetired(n: number): void {
    this.spent = n;
  }
  requestAttention(): void {
    this.i32[BUDGET >>> 2] = 0;
  }

  run(budget: number): ExitReason {
    this.stops.rearm();
    if (armed(this)) return this.runWatched(budget);
    return this.runFree(budget);
  }

  /** One instruction, for a debugger: the guest sees nothing of it. */
  stepOne(): ExitReason {
    this.stops.rearm();
    if (armed(this)) return this.runWatched(1);
    return this.runFree(1, true);
  }

  /** Instruction by instruction, for the debug registers' sake (breakpoints.ts). */
  private runWatched(budget: number): ExitReason {
    for (let left = budget; left > 0; left--) {
      const flags = this.rflags;
      const hits = (flags & RF) === 0 ? instructionHits(this, this.linearRip()) : 0;
      if (hits !== 0) return this.debugException(hits);
      const insn = this.insnAtRip();
      const data = insn === null ? 0 : dataHits(this, insn);
      if ((flags & RF) !== 0) this.rflags = flags & ~RF;
      const reason = this.runFree(1, true);
      // A trap for this instruction may come together with its single-step trap; a fault leaves it undone.
      if (reason !== Exit.BUDGET) {
        if (reason === Exit.EXCEPTION && this.exit.vector === 1 && data !== 0) this.noteDebug(data);
        return reason;
      }
      if (data !== 0) return this.debugException(data);
    }
    return this.finish(Exit.BUDGET, 0, -1);
  }
  private noteDebug(bits: number): void {
    this.u32[(DR + 48) >>> 2] = (this.u32[(DR + 48) >>> 2] as number) | bits;
  }
  private debugException(hits: number): ExitReason {
    this.noteDebug(hits);
    return this.finish(Exit.EXCEPTION, 1, -1);
  }

  /** Over a breakpoint that is not for who runs now. */
  private passBreak(maddr: Maddr): ExitReason {
    this.stops.setBreak(maddr, false);
    const reason = this.runFree(1, true);
    this.stops.setBreak(maddr, true);
    return reason;
  }

  /** `exact`: no region may run past the budget of one instruction. */
  private runFree(budget: number, exact = false): ExitReason {
    this.counters.runs++;
    const alone = this.stops.any || this.shapeLog !== null || this.cache.hasFree;
    this.u32[DECODES_MAX >>> 2] = alone ? 0 : SWEEP;
    const want = Math.min(budget | 0, 0x3fffffff);
    let left = want;
    for (;;) {
      this.i32[BUDGET >>> 2] = left;
      this.mark = left;
      this.inCore = true;
      if (exact && !this.stepping) {
        this.mark = 1;
        this.core.step();
        left -= 1;
      } else {
        this.core.run();
        left = 0;
      }
      this.inCore = false;
      let now = this.i32[BUDGET >>> 2] as number;
      // What transitions of a PV guest were charged is no instruction that retired.
      const charged = this.u32[PV_CHARGED >>> 2] as number;
      if (charged !== 0) this.u32[PV_CHARGED >>> 2] = 0;
      const decoded = this.u32[DECODED >>> 2] as number;
      if (decoded !== 0) {
        this.u32[DECODED >>> 2] = 0;
        this.counters.blocks += decoded;
      }
      this.retire(this.mark - now - charged);
      left += now;
      let reason = this.u32[EXIT_REASON >>> 2] as ExitReason;
      if (this.stops.hit !== null && reason === Exit.BUDGET) return this.finish(Exit.BREAK, 0, -1);
      if (reason === Exit.STEP) {
        this.mark = 1;
        this.inCore = true;
        this.core.step();
        this.inCore = false;
        now = this.i32[BUDGET >>> 2] as number;
        this.retire(this.mark - now);
        left -= 1 - now;
        reason = this.u32[EXIT_REASON >>> 2] as ExitReason;
        if (reason === Exit.BUDGET && now <= 0) {
          // SDM vol. 3, 17.2.3: the trap after the instruction, DR6.BS set.
          this.noteDebug(0x4000);
          return this.finish(Exit.EXCEPTION, 1, -1);
        }
      }
      this.counters.exits[reason] = (this.counters.exits[reason] as number) + 1;
      switch (reason) {
        case Exit.DECODE: {
          const r = this.decodeBlock();
          if (r !== Exit.NONE) return this.collect(r);
          break;
        }
        case Exit.HOT:
          this.waited = 0;
          this.regions.compileHot();
          break;
        case Exit.SYSTEM: {
          const at = this.stops.breaks.size > 0 ? this.codeAddr(this.linearRip()) : -1;
          if (this.stops.breaks.has(at)) {
            if (this.stops.wanted()) return this.finish(Exit.BREAK, 0, -1);
            const r = this.passBreak(at);
            if (r !== Exit.BUDGET) return r;
            left--;
            break;
          }
          this.counters.systemExits++;
          const r = this.system();
          if (r !== Exit.NONE) return this.collect(r);
          this.retire(1);
          left--;
          break;
        }
        case Exit.EXCEPTION:
          if ((this.i32[EXIT_ERROR >>> 2] as number) === -2) this.nonCanonical();
          return this.collect(reason);
        case Exit.BUDGET:
          // A module costs much whatever is in it: a few hot blocks wait for more.
          if ((this.u32[HOT_LIST >>> 2] as number) > 0 && ++this.waited >= HOT_WAIT) {
            this.waited = 0;
            this.regions.compileHot();
          }
          if (left > 0) break;
          return this.collect(reason);
        default:
          return this.collect(reason);
      }
    }
  }

  /** The budget up to which retired instructions are accounted for, while the core runs. */
  private mark = 0;
  private inCore = false;
  /** A guest reads the clock in the middle of a run: under a virtual clock, what it has retired so far is time that has passed. */
  private account(): void {
    if (!this.inCore || !this.clock.virtual) return;
    const now = this.core.inFlightBudget();
    this.retire(this.mark - now);
    this.mark = now;
  }

  private retire(n: number): void {
    this.spent += n;
    this.clock.retire(n);
  }

  /** Record a fault as generated code would. */
  fault(vector: number, error: number): void {
    this.u32[EXIT_REASON >>> 2] = Exit.EXCEPTION;
    this.u32[EXIT_VECTOR >>> 2] = vector;
    this.i32[EXIT_ERROR >>> 2] = error;
  }
  private finish(reason: ExitReason, vector: number, error: number): ExitReason {
    this.u32[EXIT_REASON >>> 2] = reason;
    this.u32[EXIT_VECTOR >>> 2] = vector;
    this.i32[EXIT_ERROR >>> 2] = error;
    return this.collect(reason);
  }
  private collect(reason: ExitReason): ExitReason {
    const e = this.exit;
    e.reason = reason;
    e.vector = this.u32[EXIT_VECTOR >>> 2] as number;
    e.errorCode = this.i32[EXIT_ERROR >>> 2] as number;
    e.length = this.u32[EXIT_LENGTH >>> 2] as number;
    e.cr2Lo = this.u32[EXIT_CR2 >>> 2] as number;
    e.cr2Hi = this.u32[(EXIT_CR2 + 4) >>> 2] as number;
    return reason;
  }

  /**
   * SDM vol. 1, 3.3.7.1: a non-canonical address raises #SS when the reference is by the stack segment, else #GP; a code fetch
   * raises #GP.
   */
  private nonCanonical(): void {
    const insn = this.insnAtRip();
    let stack = insn !== null && STACK_OPS.has(insn.op);
    const mem = insn?.ops.find((o) => o.kind === K.MEM);
    // `pop` looks at the stack first, the others at their memory operand.
    if (insn && mem && !(insn.op === "pop" && !canonical(this.regVa(RSP)))) {
      const va = linearAddress(this, insn);
      // (A bit offset may lead away from it.)
      const bad =
        insn.op.startsWith("bt") ||
        !canonical(va) ||
        !canonical(va + (mem.size || (insn.op.startsWith("fx") ? 512 : 108)) - 1);
      // With a canonical operand it was the stack, or a misaligned operand.
      if (bad || !stack) stack = bad && insn.seg === SS;
    }
    this.fault(stack ? 12 : 13, 0);
  }

  /** The instruction at RIP, or null if it cannot be fetched. No effects. */
  insnAtRip(): Insn | null {
    const va = this.linearRip();
    const out = new Uint8Array(15);
    let n = 0;
    while (n < 15) {
      const ma = this.peek(this.space, va + n);
      if (ma < 0) break;
      const room = Math.min(15 - n, 4096 - (ma & 4095));
      out.set(this.mem.u8.subarray(ma, ma + room), n);
      n += room;
    }
    return decode(out, 0, n, this.bits);
  }
  private linearRip(): Va {
    return this.bits === 64 ? this.rip : (this.rip + (this.u32[(SEG_BASE + CS * 8) >>> 2] as number)) % TWO32;
  }

  private system(): ExitReason {
    const insn = this.insnAtRip();
    if (insn === null) {
      this.fault(13, 0);
      return Exit.EXCEPTION;
    }
    return systemInstruction(this, insn);
  }

  // ---- decoding ----
  private decodeBlock(): ExitReason {
    const maddr = this.core.lastCodeMaddr() >>> 0;
    if (!this.stops.any && this.cache.twins.settle(maddr >>> 12)) return Exit.NONE;
    const mode = this.u32[MODE >>> 2] as number;
    const bits = this.bits;
    const pageEnd = (maddr & ~4095) + 4096;
    const u8 = this.mem.u8;
    const insns: Insn[] = [];
    const handlers: Handler[] = [];
    /** What was known of the flags before each. */
    const before: number[] = [];
    let at = maddr;
    let known = CC_UNKNOWN;
    let page2 = 0;
    let crossing = 0;
    while (insns.length < MAX_BLOCK) {
      const stop = this.stops.breaks.has(at);
      if (stop && insns.length > 0) break;
      let insn = stop ? decode(STOP, 0, 2, bits) : decode(u8, at, pageEnd, bits);
      if (insn === null) {
        if (insns.length > 0) break;
        const next = this.linearRip() - (maddr & 4095) + 4096;
        const mapped = this.translate(next, EXEC);
        if (mapped < 0) return Exit.EXCEPTION;
        const second = this.cache.twins.codeAddr(mapped);
        page2 = second;
        const first = pageEnd - at;
        const bytes = new Uint8Array(first + 15);
        bytes.set(u8.subarray(at, pageEnd));
        bytes.set(u8.subarray(second, second + 15), first);
        insn = decode(bytes, 0, bytes.length, bits);
        if (insn === null) throw new Error("decoder: an instruction longer than 15 bytes");
        crossing = insn.len - first;
      }
      const handler = this.handlers.get(insn, mode, known);
      before.push(known);
      const { op } = handler;
      if (op.clock && insns.length > 0) break;
      if (this.shapeLog !== null && handler.index < 0 && crossing === 0 && !this.shapeLog.has(handler)) {
        this.shapeLog.set(handler, { mode, known, bytes: u8.slice(at, at + insn.len) });
      }
      if (handler.ccAfter !== CC_SAME) known = handler.ccAfter;
      insns.push(insn);
      handlers.push(handler);
      at += insn.len;
      if (crossing > 0 || op.ends || at >= pageEnd) break;
    }
    this.handlers.flush();
    this.counters.handlers = this.handlers.size;
    let block = this.cache.allocateBlock(blockBytes(insns.length + 1));
    if (block === 0) {
      this.forgetCode();
      block = this.cache.allocateBlock(blockBytes(insns.length + 1));
    }
    const last = insns[insns.length - 1] as Insn;
    const noted =
      crossing === 0 && (handlers[insns.length - 1] as Handler).op.indirect
        ? this.regions.noteTargets(at - last.len)
        : 0;
    this.u32.fill(0, block >>> 2, (block + BLOCK_HEADER) >>> 2);
    const w = block >>> 2;
    this.u32[w + blockField.n] = insns.length;
    this.u32[w + blockField.maddr] = maddr;
    this.u32[w + blockField.mode] = mode;
    this.u32[w + blockField.page2] = page2;
    this.u32[w + blockField.targets] = noted;
    let pos = maddr & 4095;
    let rec = block + BLOCK_HEADER;
    for (let i = 0; i < insns.length; i++) {
      const insn = insns[i] as Insn;
      this.writeRecord(rec, insn, handlers[i] as Handler, pos);
      if (crossing === 0 && !this.stops.any)
        this.forms.learn(maddr - (maddr & 4095) + pos, insn, handlers[i] as Handler, mode, before[i] as number);
      pos += insn.len;
      rec += REC_SIZE;
    }
    this.u32[(rec + REC_HANDLER) >>> 2] = 0;
    this.u32[(rec + REC_POS) >>> 2] = pos;
    this.cache.insert(block, maddr, mode);
    if (crossing === 0) this.cache.watchBlock(block);
    else {
      const ranges: CodeRange[] = [
        { maddr, len: pageEnd - maddr },
        { maddr: page2, len: crossing },
      ];
      this.cache.watch(new Block(block, ranges, this));
    }
    this.regions.adopt(block, maddr, mode);
    this.counters.blocks++;
    return Exit.NONE;
  }

  /** Forget all code, decoded and translated: there is no room for more. */
  forgetCode(): void {
    this.cache.reset();
    this.regions.reset();
    this.counters.arenaResets++;
  }

  /** Fields that share a word are written together. */
  private writeRecord(rec: number, insn: Insn, handler: Handler, pos: number): void {
    const { u32 } = this;
    const w = rec >>> 2;
    const { ops, disp, imm } = insn;
    const next = pos + insn.len;
    const r0 = ops.length > 0 ? registerAddress(ops[0] as Operand) : 0;
    const r1 = ops.length > 1 ? registerAddress(ops[1] as Operand) : 0;
    const r2 = ops.length > 2 ? registerAddress(ops[2] as Operand) : 0;
    const rip = insn.memBase === BASE_RIP;
    const base = rip ? CODE_PAGE : insn.memBase >= 0 ? GPR + insn.memBase * 8 : ZERO;
    const index = insn.memIndex >= 0 ? GPR + insn.memIndex * 8 : ZERO;
    u32[w + (REC_HANDLER >>> 2)] = handler.index;
    u32[w + (REC_POS >>> 2)] = pos | (insn.len << (8 * (REC_LEN - REC_POS)));
    u32[w + (REC_R0 >>> 2)] = r0 | (r1 << (8 * (REC_R1 - REC_R0)));
    u32[w + (REC_R2 >>> 2)] = r2 | ((SEG_BASE + insn.seg * 8) << (8 * (REC_SEG - REC_R2)));
    u32[w + (REC_BASE >>> 2)] = base | (index << (8 * (REC_INDEX - REC_BASE)));
    u32[w + (REC_SCALE >>> 2)] = insn.memScale;
    const d = rip ? disp + next : disp;
    u32[w + (REC_DISP >>> 2)] = d | 0;
    u32[w + (REC_DISP >>> 2) + 1] = rip ? Math.floor(d / TWO32) : insn.dispHi;
    const relative = handler.op.relative;
    const target = next + imm;
    u32[w + (REC_IMM >>> 2)] = relative ? target | 0 : imm;
    u32[w + (REC_IMM >>> 2) + 1] = relative ? Math.floor(target / TWO32) : insn.immHi;
    u32[w + (REC_NEXT >>> 2)] = next;
    // (It is read as 64 bits, and what was here before need not be zero.)
    u32[w + (REC_NEXT >>> 2) + 1] = 0;
  }

  /** Called when a block's bytes change. Its memory is not used again at once: the block may be running. */
  dropBlock(at: number): boolean {
    const w = at >>> 2;
    this.cache.unlink(at);
    this.cache.release(at, blockBytes((this.u32[w + blockField.n] as number) + 1));
    this.u32[w + blockField.region] = 0;
    this.u32[w + blockField.seenKey] = 0;
    if (this.u32[w + blockField.aliased] !== 0) return true;
    const lo = this.u32[w + blockField.seen] as number;
    const hi = this.u32[w + blockField.seen + 1] as number;
    if ((lo | hi) !== 0) this.core.forgetCode(lo, hi);
    return false;
  }

  // ---- contexts ----
  newContext(): CpuContext {
    const bytes = new Uint8Array(CPU_CONTEXT_SIZE);
    const view = new DataView(bytes.buffer);
    view.setUint32(EFL - CPU, 2, true);
    view.setUint32(MXCSR - CPU, 0x1f80, true);
    view.setUint32(FCW - CPU, 0x37f, true);
    const set64 = (at: number, lo: number): void => view.setUint32(at - CPU, lo, true);
    set64(CR0, 0x80050033);
    set64(CR4, 0x6f0);
    set64(EFER, 0xd01);
    set64(DR + 6 * 8, 0xffff0ff0);
    set64(DR + 7 * 8, 0x400);
    view.setUint32(MODE - CPU, MODE_BITS_64 | (3 << MODE_CPL_SHIFT) | MODE_FLAT | MODE_SS32, true);
    return { bytes, view };
  }
  load(ctx: CpuContext): void {
    this.live.set(ctx.bytes);
    this.core.switchSpaces();
  }
  save(ctx: CpuContext): void {
    ctx.bytes.set(this.live);
  }

  // ---- registers ----
  regLo(i: number): number {
    return this.u32[(GPR >>> 2) + i * 2] as number;
  }
  regHi(i: number): number {
    return this.u32[(GPR >>> 2) + i * 2 + 1] as number;
  }
  setReg(i: number, lo: number, hi: number): void {
    this.u32[(GPR >>> 2) + i * 2] = lo;
    this.u32[(GPR >>> 2) + i * 2 + 1] = hi;
  }
  regVa(i: number): Va {
    return (this.i32[(GPR >>> 2) + i * 2 + 1] as number) * TWO32 + (this.u32[(GPR >>> 2) + i * 2] as number);
  }
  setRegVa(i: number, va: Va): void {
    this.setReg(i, va | 0, hiOf(va));
  }
  get rip(): Va {
    return (this.i32[(RIP >>> 2) + 1] as number) * TWO32 + (this.u32[RIP >>> 2] as number);
  }
  set rip(va: Va) {
    this.setWord64(RIP, va | 0, hiOf(va));
  }
  get rflags(): number {
    const op = this.i32[CC_OP >>> 2] as number;
    const arith = op >> 2 === CC.FLAGS ? (this.i32[CC_A >>> 2] as number) & ARITH : this.core.arithFlags();
    return arith | ((this.i32[EFL >>> 2] as number) & ~ARITH) | 2;
  }
  set rflags(value: number) {
    this.u32[CC_OP >>> 2] = ccOp(CC.FLAGS, 1);
    this.setWord64(CC_A, value & ARITH, 0);
    this.u32[EFL >>> 2] = (value & ~ARITH) | 2;
    this.u32[MODE >>> 2] = (value & TF) !== 0 ? this.mode | MODE_STEP : this.mode & ~MODE_STEP;
  }
  get stepping(): boolean {
    return ((this.u32[EFL >>> 2] as number) & TF) !== 0;
  }
  selector(s: number): number {
    return this.u32[(SEG_SEL >>> 2) + s] as number;
  }
  setSegment(s: number, selector: number, base: Va, limit: number, attr: number): void {
    this.u32[(SEG_SEL >>> 2) + s] = selector & 0xffff;
    this.setWord64(SEG_BASE + s * 8, base | 0, hiOf(base));
    this.u32[(SEG_LIMIT >>> 2) + s] = limit;
    this.u32[(SEG_ATTR >>> 2) + s] = attr;
    this.updateMode();
  }
  segAttr(s: number): number {
    return this.u32[(SEG_ATTR >>> 2) + s] as number;
  }
  segBaseLo(s: number): number {
    return this.u32[(SEG_BASE >>> 2) + s * 2] as number;
  }
  segBaseHi(s: number): number {
    return this.u32[(SEG_BASE >>> 2) + s * 2 + 1] as number;
  }
  setSegBase(s: number, lo: number, hi: number): void {
    this.setWord64(SEG_BASE + s * 8, lo, hi);
    this.updateMode();
  }

  // ---- mode ----
  get mode(): number {
    return this.u32[MODE >>> 2] as number;
  }
  get bits(): 16 | 32 | 64 {
    const m = this.mode & MODE_BITS_MASK;
    return m === MODE_BITS_64 ? 64 : m === MODE_BITS_32 ? 32 : 16;
  }
  get cpl(): number {
    return (this.mode >> MODE_CPL_SHIFT) & 3;
  }
  get space(): 0 | 1 {
    return (this.mode & MODE_SPACE) !== 0 ? 1 : 0;
  }
  setMode(m: ModeSpec): void {
    const bits = m.bits === 64 ? MODE_BITS_64 : m.bits === 32 ? MODE_BITS_32 : MODE_BITS_16;
    this.u32[MODE >>> 2] =
      (this.mode & (MODE_NO_FPU | MODE_STEP)) | bits | (m.cpl << MODE_CPL_SHIFT) | (m.space === 1 ? MODE_SPACE : 0);
    this.updateMode();
  }
  /** Recompute the mode bits that follow from the segments. */
  private updateMode(): void {
    let m = this.mode & ~(MODE_FLAT | MODE_SS32);
    if ((m & MODE_BITS_MASK) === MODE_BITS_64) m |= MODE_FLAT | MODE_SS32;
    else {
      const base = SEG_BASE >>> 2;
      if (
        this.u32[base + ES * 2] === 0 &&
        this.u32[base + CS * 2] === 0 &&
        this.u32[base + SS * 2] === 0 &&
        this.u32[base + DS * 2] === 0
      )
        m |= MODE_FLAT;
      if ((this.segAttr(SS) & 0x4000) !== 0) m |= MODE_SS32;
    }
    this.u32[MODE >>> 2] = m;
  }
  setTaskSwitched(on: boolean): void {
    this.u32[CR0 >>> 2] = on ? (this.u32[CR0 >>> 2] as number) | 8 : (this.u32[CR0 >>> 2] as number) & ~8;
    this.u32[MODE >>> 2] = on ? this.mode | MODE_NO_FPU : this.mode & ~MODE_NO_FPU;
  }

  // ---- paging ----
  setRoot(space: 0 | 1, table: Maddr, levels: 0 | 2 | 3 | 4): void {
    const r = (ROOT >>> 2) + space;
    const l = (LEVELS >>> 2) + space;
    if (this.u32[r] === table && this.u32[l] === levels) return;
    this.u32[r] = table;
    this.u32[l] = levels;
    this.core.switchSpaces();
  }
  root(space: 0 | 1): Maddr {
    return this.u32[(ROOT >>> 2) + space] as number;
  }
  watchTables(): void {
    this.core.watchTables();
  }
  forgetRoot(table: Maddr): void {
    this.core.forgetRoot(table);
  }
  flushTlb(code: number = ALL_CODE): void {
    this.core.flushTlb(code);
  }
  invlpg(va: Va, code: number = ALL_CODE): void {
    this.core.invlpg(va | 0, hiOf(va), code);
  }
  translate(va: Va, access: Access): Maddr {
    let ma = this.core.translate(va | 0, hiOf(va), access) >>> 0;
    // A shared frame has got memory of its own.
    if (ma === 0 && this.u32[EXIT_REASON >>> 2] === Exit.NONE) ma = this.core.translate(va | 0, hiOf(va), access) >>> 0;
    if (ma !== 0) return ma;
    if (this.u32[EXIT_REASON >>> 2] !== Exit.EXCEPTION) return this.refused(va, access);
    if ((this.i32[EXIT_ERROR >>> 2] as number) === -2) this.fault(13, 0);
    this.collect(Exit.EXCEPTION);
    return -1;
  }
  /** No memory was left for a page of its own: its domain ends; to the caller this is a page fault. */
  private refused(va: Va, access: Access): Maddr {
    this.setWord64(EXIT_CR2, va | 0, hiOf(va));
    this.finish(Exit.EXCEPTION, 14, access === EXEC ? 1 : 3);
    return -1;
  }
  peek(space: 0 | 1, va: Va): Maddr {
    const ma = this.core.peek(va | 0, hiOf(va), space) >>> 0;
    return ma !== 0 ? ma : -1;
  }

  /** Machine address that the instruction at `va` has as code, for the one that runs (of frames of the same content, one), or −1. No effects. */
  codeAddr(va: Va): Maddr {
    const ma = this.core.peekCode(va | 0, hiOf(va)) >>> 0;
    return ma !== 0 ? ma : -1;
  }

  // ---- debug, FPU, time ----
  setDr(i: number, lo: number, hi: number): void {
    this.setWord64(DR + i * 8, lo, hi);
  }
  drLo(i: number): number {
    return this.u32[(DR + i * 8) >>> 2] as number;
  }
  drHi(i: number): number {
    return this.u32[(DR + i * 8 + 4) >>> 2] as number;
  }
  fxsave(): Uint8Array {
    this.core.fxsaveTo(SCRATCH);
    return this.mem.read(SCRATCH, 512);
  }
  fxrstor(image: Uint8Array): void {
    this.mem.u8.set(image.subarray(0, 512), SCRATCH);
    this.core.fxrstorFrom(SCRATCH);
  }
  tsc(): number {
    return Math.floor(this.clock.now() * TSC_PER_NS);
  }
}

/** Instructions whose only memory access is the stack. */
const STACK_OPS = new Set([
  "push",
  "pop",
  "call",
  "call_ind",
  "ret",
  "enter",
  "leave",
  "pushf",
  "popf",
  "pusha",
  "popa",
]);
