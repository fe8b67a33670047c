/** What the translator takes from the engine and gives back. */
import type { Code } from "../../wasm/encoder.js";
import type { Va } from "../api.js";
import type { Insn } from "../insn.js";

/** The guest's code as the translator may look at it; nothing here has an effect. */
export interface CodeSource {
  /** Machine address of the code byte at `va` in the present address space; −1 if it is not mapped executable. */
  codeAddr(va: Va): number;
  /** The instruction at `va` (it may cross into a mapped page); null if it cannot be decoded. */
  decodeAt(va: Va): Insn | null;
  /** How often the interpreter entered a block at `va`; 0 = never seen. */
  count(va: Va): number;
  /** Observed targets of the indirect branch at `va`; `near`: only those that are where they are if it is elsewhere. */
  targets(va: Va, near: boolean): readonly Va[];
}

export interface CodeRange {
  readonly va: Va;
  readonly maddr: number;
  readonly len: number;
}

export interface Region {
  /** `(entry: i32) → i32`: how it left, one of LEFT_* of layout.ts. */
  readonly code: Code;
  /** `entries[i]` is entered with argument i. */
  readonly entries: readonly Va[];
  /** The guest code it was made from, page by page. */
  readonly ranges: readonly CodeRange[];
  readonly instructions: number;
  readonly blocks: number;
  /** It has direct calls of functions that are not in it. */
  readonly calls: boolean;
}

export interface TranslateOptions {
  /**
   * Address of a cell with how far from `entry` and all else the region runs (i64, a number of pages): what it knows of virtual addresses
   * moves by that. Default: it runs where it was made.
   */
  delta?: number;
  /** A link for an exit to a known address, for a call with its return point; 0 = none (layout.ts, LINKS). Default: exits go through the dispatcher. */
  link?: (target: Va, returnTo: Va | undefined) => number;
  /** The same for an indirect branch at `va`, whose target it remembers. */
  indirectLink?: (va: Va, returnTo: Va | undefined) => number;
  maxBlocks?: number;
  maxInstructions?: number;
  /** How much code it may become, in instructions without access to memory. */
  maxSize?: number;
  maxPages?: number;
  /**
   * Follow direct calls into callees of at most so many instructions with those that they call (default 40); Infinity follows all. Code
   * that is only warm gets much bigger by it, and V8's time for it with it; what is really hot gains by half.
   */
  inlineLimit?: number;
  /** Accesses of a block near each other share one TLB check (default true). */
  shareChecks?: boolean;
  /** A TLB miss leaves the region and the interpreter makes the access (default false: a cold call inline). */
  missLeaves?: boolean;
  /** Arithmetic flags are right at faults and budget exits even where the code that follows never looks (default true). */
  preciseFlags?: boolean;
}
