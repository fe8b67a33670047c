/**
 * What the engine has done, for a profile: read at any time, differences between two readings count. The core counts what happens inside
 * WebAssembly, the host side what it is asked for.
 */
import { Exit } from "./exits.js";

/** Counters that the host side keeps. */
export interface CpuCounters {
  /** Blocks decoded. */
  blocks: number;
  /** Interpreter handlers made. */
  handlers: number;
  /** Regions made. */
  regions: number;
  /** Stores to decoded code. */
  invalidations: number;
  /** Calls of `run`. */
  runs: number;
  /** Instructions that the host side carried out. */
  systemExits: number;
  /** Times that everything was forgotten for want of room. */
  arenaResets: number;
  /** Returns of `run` and stops in between, by `Exit`. */
  readonly exits: Uint32Array;
}

export function newCounters(): CpuCounters {
  return {
    blocks: 0,
    handlers: 0,
    regions: 0,
    invalidations: 0,
    runs: 0,
    systemExits: 0,
    arenaResets: 0,
    exits: new Uint32Array(EXITS.length),
  };
}

/** Names of the exits by number. */
export const EXITS: readonly string[] = Object.entries(Exit)
  .sort((a, b) => a[1] - b[1])
  .map(([name]) => name.toLowerCase());

/** What `engineCount` of the core counts, by its argument. */
const CORE = ["interpreted", "entered", "lookups", "regionChecks", "linked", "moved"] as const;

export interface EngineCounters {
  /** Instructions retired, and those of them that were interpreted. */
  readonly instructions: number;
  readonly interpreted: number;
  /** Regions entered from the dispatcher, and along links from other regions. */
  readonly entered: number;
  readonly linked: number;
  /** Look-ups of code past the jump cache, and regions whose mappings were checked anew. */
  readonly lookups: number;
  readonly regionChecks: number;
  /** Those of them that were found elsewhere than where they were made. */
  readonly moved: number;
  /** Units of code dropped because their bytes changed. */
  readonly dropped: number;
  /** Bytes of the arena of decoded code in use. */
  readonly arenaBytes: number;
  readonly host: Readonly<CpuCounters>;
  /** Translation: modules, regions, guest instructions, bytes of WebAssembly, milliseconds on the running thread. */
  readonly translation: Readonly<Record<string, number>>;
}

/** The parts of a CPU that counters are read from. */
export interface Counted {
  readonly retired: number;
  readonly core: { engineCount(what: number): number };
  readonly cache: { readonly invalidations: number; readonly used: number };
  readonly counters: CpuCounters;
  readonly regions: { readonly stats: Readonly<Record<string, number>> };
}

export function engineCounters(cpu: Counted): EngineCounters {
  const [interpreted, entered, lookups, regionChecks, linked, moved] = CORE.map((_, i) => cpu.core.engineCount(i)) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  return {
    instructions: cpu.retired,
    interpreted,
    entered,
    linked,
    lookups,
    regionChecks,
    moved,
    dropped: cpu.cache.invalidations,
    arenaBytes: cpu.cache.used,
    host: { ...cpu.counters, exits: cpu.counters.exits.slice() },
    translation: { ...cpu.regions.stats },
  };
}
