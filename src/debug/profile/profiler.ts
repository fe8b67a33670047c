/**
 * Where a machine's time goes. The profiler stands between the hypervisor and the CPU (`cpu.run`) and between the shell and the machine
 * (`runSlice`), so that every nanosecond of the host belongs to exactly one part: the engine, an exit's handling, the host, idling. Engine time is
 * given to guest code by samples: about every `interval` instructions the engine is made to stop, and the time since the last sample belongs to what
 * is running then. Samples fall where the engine looks at its budget, at the ends of blocks and loops: good for functions, not for instructions.
 *
 * Invariant: what the guest computes is the same as without it. Under a virtual clock its time is not: each stop takes what an exit takes.
 */
import { hypercallName, hypercalls } from "../../hypervisor/hypercalls/table.js";
import { vectorName } from "../../hypervisor/traps/inject.js";
import type { Vcpu } from "../../hypervisor/vcpu.js";
import type { Domain } from "../../hypervisor/domain.js";
import type { Va } from "../../machine/cpu/api.js";
import { Exit, type ExitReason } from "../../machine/cpu/exits.js";
import { RBP, RSP } from "../../machine/cpu/insn.js";
import { hexVa } from "../../machine/hex.js";
import type { Machine } from "../../toolstack/machine.js";
import type { KernelCode } from "./kernel-code.js";
import { unwind, type StackSource } from "./unwind.js";

export interface ProfilerOptions {
  /** The host's time in milliseconds, as fine as it has it. */
  readonly now: () => number;
  /** Instructions from sample to sample, on the average. Default 50,000. */
  readonly interval?: number | undefined;
  /** What is known of a domain's kernel; null: addresses only. */
  readonly codeOf?: ((domain: Domain) => KernelCode | null) | undefined;
}

/** Milliseconds and how often. */
export interface Spent {
  ms: number;
  n: number;
}

export interface EngineShare {
  readonly ms: number;
  /** Retired instructions, where they are what the time was spent on. */
  readonly instructions: number;
}

export interface Profile {
  /** All time from attach to detach, in milliseconds. */
  readonly totalMs: number;
  readonly samples: number;
  readonly instructions: number;
  /** The engine's parts. Translating is measured; the others are the rest of its time, shared out by what an instruction costs in each. */
  readonly translated: EngineShare;
  readonly interpreted: EngineShare;
  readonly translating: EngineShare;
  /** Handling of exits, by what they were. */
  readonly exits: ReadonlyMap<string, Readonly<Spent>>;
  readonly hostMs: number;
  readonly idleMs: number;
  /** Engine time by domain and symbol: `NAME;symbol`. */
  readonly symbols: ReadonlyMap<string, Readonly<Spent>>;
  /** All time but idling, by stack: names from the outermost to the innermost, joined with `;`. */
  readonly stacks: ReadonlyMap<string, number>;
}

const DEFAULT_INTERVAL = 50_000;
const RAX = 0;
const RDI = 7;
/** rdx, rdi, r10, r13 by ORC's numbers. */
const ORC_REGISTER: readonly number[] = [0, 0, 2, 7, 0, 0, 10, 13];
const TWO32 = 4294967296;
const EXIT_NAME: Partial<Record<ExitReason, string>> = {
  [Exit.BUDGET]: "turns, events, timers",
  [Exit.SYSENTER]: "sysenter",
  [Exit.INT_N]: "int n",
  [Exit.HLT]: "hlt",
  [Exit.PAUSE]: "pause",
  [Exit.BREAK]: "debugger",
};
const TURNS = "turns, events, timers";
const OUTSIDE = "[hypervisor]";

/** Names of frames stand between semicolons. */
const frameName = (name: string): string => name.replace(/[;\s]+/g, "_");

/** What an instruction costs interpreted and translated: least squares over the samples. */
class CostFit {
  private kk = 0;
  private km = 0;
  private mm = 0;
  private kt = 0;
  private mt = 0;
  interpreted = 0;
  translated = 0;
  ms = 0;
  add(interpreted: number, translated: number, ms: number): void {
    this.interpreted += interpreted;
    this.translated += translated;
    this.ms += ms;
    this.kk += interpreted * interpreted;
    this.km += interpreted * translated;
    this.mm += translated * translated;
    this.kt += interpreted * ms;
    this.mt += translated * ms;
  }
  /** The time of the interpreted ones; the rest is the translated ones'. */
  interpretedMs(): number {
    if (this.interpreted === 0) return 0;
    if (this.translated === 0) return this.ms;
    const d = this.kk * this.mm - this.km * this.km;
    const flat = this.ms / (this.interpreted + this.translated);
    const a = d > 0 ? (this.kt * this.mm - this.mt * this.km) / d : flat;
    const b = d > 0 ? (this.mt * this.kk - this.kt * this.km) / d : flat;
    const forK = Math.max(0, a) * this.interpreted;
    const forM = Math.max(0, b) * this.translated;
    return forK + forM > 0 ? (this.ms * forK) / (forK + forM) : 0;
  }
}

export class Profiler {
  private readonly interval: number;
  private readonly now: () => number;
  private readonly startedAt: number;
  private readonly startRetired: number;
  private detached = false;
  private samples = 0;
  private hostMs = 0;
  private idleMs = 0;
  private readonly exits = new Map<string, Spent>();
  private readonly symbols = new Map<string, Spent>();
  private readonly stacks = new Map<string, number>();
  private readonly fit = new CostFit();
  private translateMs = 0;
  /** Since the last sample. */
  private engineMs = 0;
  private nextSample: number;
  private lastRetired: number;
  private lastInterpreted: number;
  private lastTranslate: number;
  /** When the engine or the machine was left, and why. */
  private leftAt: number;
  private why = TURNS;
  private whose = "";
  private inSlice = false;
  private idling = false;
  private seed = 1;
  private readonly codes = new Map<Domain, KernelCode | null>();

  /** Begins at once. */
  constructor(
    private readonly machine: Machine,
    private readonly options: ProfilerOptions,
  ) {
    this.interval = Math.max(1000, options.interval ?? DEFAULT_INTERVAL);
    this.now = options.now;
    this.startedAt = this.leftAt = this.now();
    const { cpu } = machine;
    this.startRetired = this.lastRetired = cpu.retired;
    this.lastInterpreted = this.interpretedNow();
    this.lastTranslate = cpu.regions.stats.translateMs;
    this.nextSample = this.lastRetired + this.interval;
    const run = cpu.run.bind(cpu);
    const runSlice = machine.runSlice.bind(machine);
    cpu.run = (budget) => (this.detached ? run(budget) : this.run(run, budget));
    machine.runSlice = (maxMs) => (this.detached ? runSlice(maxMs) : this.slice(runSlice, maxMs));
  }

  private interpretedNow(): number {
    return this.machine.cpu.core.engineCount(0);
  }

  private slice(runSlice: (maxMs: number) => number, maxMs: number): number {
    const begin = this.now();
    const away = begin - this.leftAt;
    if (this.idling) this.idleMs += away;
    else {
      this.hostMs += away;
      this.charge("[host]", away);
    }
    this.leftAt = begin;
    this.why = TURNS;
    this.inSlice = true;
    try {
      const ns = runSlice(maxMs);
      this.idling = ns > 0;
      return ns;
    } finally {
      this.between(this.now());
      this.inSlice = false;
    }
  }

  /** Time outside the engine since it was left: the handling of the exit. */
  private between(at: number): void {
    const ms = at - this.leftAt;
    this.leftAt = at;
    const spent = this.exits.get(this.why);
    if (spent === undefined) this.exits.set(this.why, { ms, n: 1 });
    else {
      spent.ms += ms;
      spent.n++;
    }
    const domain = this.whose === "" ? "" : `${this.whose};`;
    this.charge(`${domain}${OUTSIDE};${frameName(this.why)}`, ms);
  }
  private charge(stack: string, ms: number): void {
    this.stacks.set(stack, (this.stacks.get(stack) ?? 0) + ms);
  }

  private run(run: (budget: number) => ExitReason, budget: number): ExitReason {
    const { cpu } = this.machine;
    const begin = this.now();
    if (this.inSlice) this.between(begin);
    const v = this.machine.xen.current;
    this.whose = v === null ? "" : frameName(v.domain.name);
    const reason = run(Math.min(budget, Math.max(1, this.nextSample - cpu.retired)));
    const end = this.now();
    this.engineMs += end - begin;
    this.leftAt = end;
    if (v === null) return reason;
    this.why = this.exitName(v, reason);
    if (cpu.retired >= this.nextSample) {
      this.sample(v);
      // Not the guest's time: what a sample itself takes is left out of the profile's parts but the host's.
      const after = this.now();
      this.hostMs += after - end;
      this.charge("[host];profiler", after - end);
      this.leftAt = after;
    }
    return reason;
  }

  private exitName(v: Vcpu, reason: ExitReason): string {
    const { cpu } = this.machine;
    if (reason === Exit.SYSCALL) {
      if (!v.kernelMode) return "system call";
      // An unknown number is the guest's: it may not make as many names as it likes.
      const number = cpu.regLo(RAX) >>> 0;
      const info = hypercalls[number];
      if (info === undefined) return "hypercall (unknown)";
      return `hypercall ${info.ops.has(cpu.regLo(RDI)) ? hypercallName(number, cpu.regLo(RDI)) : info.name}`;
    }
    if (reason === Exit.EXCEPTION) return `exception ${vectorName(cpu.exit.vector)}`;
    return EXIT_NAME[reason] ?? `exit ${reason}`;
  }

  private codeOf(domain: Domain): KernelCode | null {
    let code = this.codes.get(domain);
    if (code === undefined) {
      code = this.options.codeOf?.(domain) ?? null;
      this.codes.set(domain, code);
    }
    return code;
  }

  /** The engine's time since the last sample, of which so much was translating. */
  private takeEngineTime(): { ms: number; translating: number } {
    const { cpu } = this.machine;
    const interpreted = this.interpretedNow();
    const translate = cpu.regions.stats.translateMs;
    const n = cpu.retired - this.lastRetired;
    const k = Math.min(n, interpreted - this.lastInterpreted);
    const translating = Math.min(this.engineMs, translate - this.lastTranslate);
    const ms = this.engineMs - translating;
    this.fit.add(k, n - k, ms);
    this.translateMs += translating;
    this.engineMs = 0;
    this.lastRetired = cpu.retired;
    this.lastInterpreted = interpreted;
    this.lastTranslate = translate;
    return { ms, translating };
  }

  private sample(v: Vcpu): void {
    const { cpu } = this.machine;
    const { ms, translating } = this.takeEngineTime();
    this.samples++;
    const domain = frameName(v.domain.name);
    if (translating > 0) this.charge(`${domain};[engine];translating`, translating);
    const names = this.stackNames(v);
    this.charge(`${domain};${names.join(";")}`, ms);
    const key = `${domain};${names[names.length - 1] ?? "?"}`;
    const spent = this.symbols.get(key);
    if (spent === undefined) this.symbols.set(key, { ms, n: 1 });
    else {
      spent.ms += ms;
      spent.n++;
    }
    // Not at equal distances, so that a loop of the same length is not always met at the same place.
    this.seed = (Math.imul(this.seed, 1103515245) + 12345) >>> 0;
    this.nextSample = cpu.retired + Math.floor(this.interval * (0.5 + this.seed / TWO32));
  }

  /** The stack, the outermost name first. */
  private stackNames(v: Vcpu): string[] {
    const { cpu } = this.machine;
    if (!v.kernelMode) return ["user"];
    const code = this.codeOf(v.domain);
    if (code === null) return ["kernel", `0x${hexVa(cpu.rip)}`];
    const frames = code.orc === null ? [cpu.rip] : unwind(code.orc, this.source(v));
    return frames.map((va) => frameName(nameOf(code, va))).reverse();
  }

  private source(v: Vcpu): StackSource {
    const { cpu, mem } = this.machine;
    return {
      rip: cpu.rip,
      rsp: cpu.regVa(RSP),
      rbp: cpu.regVa(RBP),
      register: (orc) => cpu.regVa(ORC_REGISTER[orc] ?? 0),
      read: (va) => {
        if (!(va >= -(2 ** 47) && va < 2 ** 47) || (va & 7) !== 0) return null;
        const at = cpu.peek(v.kernelMode ? 0 : 1, va);
        if (at < 0) return null;
        const ram = mem.resolve(at) >>> 2;
        return (mem.i32[ram + 1] as number) * TWO32 + (mem.u32[ram] as number);
      },
    };
  }

  /** Ends it; the machine is as before. What was measured. */
  stop(): Profile {
    const end = this.now();
    if (!this.detached) {
      this.detached = true;
      this.takeEngineTime();
      if (this.idling) this.idleMs += end - this.leftAt;
      else this.hostMs += end - this.leftAt;
    }
    const { cpu } = this.machine;
    const { fit } = this;
    const interpretedMs = fit.interpretedMs();
    return {
      totalMs: end - this.startedAt,
      samples: this.samples,
      instructions: cpu.retired - this.startRetired,
      translated: { ms: fit.ms - interpretedMs, instructions: fit.translated },
      interpreted: { ms: interpretedMs, instructions: fit.interpreted },
      translating: { ms: this.translateMs, instructions: cpu.regions.stats.instructions },
      exits: this.exits,
      hostMs: this.hostMs,
      idleMs: this.idleMs,
      symbols: this.symbols,
      stacks: this.stacks,
    };
  }
}

/** Where Linux puts its modules (Documentation/x86/x86_64/mm.rst), whose names are not in the image. */
const MODULES = -0x40000000;
/** No function is as long: what is farther from the last name belongs to something without one. */
const LONGEST = 1 << 20;
function nameOf(code: KernelCode, va: Va): string {
  const symbol = code.symbols.find(va);
  if (symbol !== undefined && va - symbol.va < LONGEST) return symbol.name;
  return va >= MODULES ? "module" : `0x${hexVa(va)}`;
}
