/**
 * A case of the oracle (one instruction and the state it runs from), the state it leaves, and their binary form (see `native.c`).
 * 64-bit values are pairs of uint32: `gpr[2 * i]` is the low half of register i, `gpr[2 * i + 1]` the high one.
 */
import type { Insn } from "../../src/machine/cpu/insn.js";

/** The memory area: two pages, unmapped ones on both sides. */
export const AREA = 0x10000000;
export const AREA_SIZE = 0x2000;
/** Where the instruction lies, in a page full of `int3`. */
export const CODE_PAGE = 0x20000000;
export const CODE = 0x20000800;
export const GS_BASE = 0x100;
/** fxsave image as far as XMM15. */
export const FX_SIZE = 416;
/** What the host's user mode has in its segment registers: ES CS SS DS FS GS. */
export const SELECTORS_64 = [0x2b, 0x33, 0x2b, 0x2b, 0, 0] as const;
export const SELECTORS_32 = [0x2b, 0x23, 0x2b, 0x2b, 0, 0] as const;

export interface Case {
  readonly seed: number;
  readonly index: number;
  readonly bits: 64 | 32;
  /** The instruction that the case is about: the last of `code`. */
  readonly insn: Insn;
  /** Cases of the same encoding share it. */
  readonly code: Uint8Array;
  readonly gpr: Uint32Array;
  /** Arithmetic flags and DF. */
  readonly rflags: number;
  readonly fx: Uint8Array;
  /** Memory where it differs from the base pattern: records of u32 offset (a multiple of 8) and 8 bytes. */
  readonly patches: Uint8Array;
  /** A branch: no way back follows the instruction. */
  readonly landing: boolean;
  /** Flags that the instructions before it leave undefined. */
  readonly loose: number;
}

export interface Result {
  readonly gpr: Uint32Array;
  ripLo: number;
  ripHi: number;
  cr2Lo: number;
  cr2Hi: number;
  rflags: number;
  /** −1: completed. */
  vector: number;
  error: number;
  readonly fx: Uint8Array;
  /** The same bytes. */
  readonly fxWords: Uint32Array;
  /** What changed in the area: records of u32 offset (a multiple of 8, ascending) and the 8 bytes now there. */
  changes: Uint8Array;
}

export interface EngineUnderTest {
  readonly name: string;
  /** How many cases it translated (the interpreter: none). */
  readonly translated: number;
  /** What the area holds before every case. */
  setMemory(base: Uint8Array): void;
  /** Cases that come next: what they have in common is made in one go. */
  prepare(cases: readonly Case[]): void;
  /** Runs the one instruction to its end (all rounds of a repeated one) or its fault. The result is good until the next run. */
  run(c: Case): Result;
}

export const PIECE = 12;
/** Longest code of a case. */
export const MAX_CODE = 64;
const FX_AT = 128 + 8 + MAX_CODE;
const CASE_HEADER = FX_AT + FX_SIZE;
const RESULT_HEADER = 128 + 16 + 16 + FX_SIZE;

/** Where cases are put, ready to be handed to the host: the base, then a record each. Parts of a case are views of it. */
export class Batch {
  readonly cases: Case[] = [];
  #bytes: Uint8Array;
  #words: Uint32Array;
  #end = AREA_SIZE;

  constructor(base: Uint8Array, room = 0) {
    this.#bytes = new Uint8Array(Math.max(room & ~3, 1 << 20));
    this.#words = new Uint32Array(this.#bytes.buffer);
    this.#bytes.set(base);
  }

  /** Start again, in the memory of the cases that were there. */
  clear(): void {
    this.cases.length = 0;
    this.#end = AREA_SIZE;
  }

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#end);
  }

  /** Registers and floating-point state of the next case, to be filled in. */
  open(): { gpr: Uint32Array; fx: Uint8Array } {
    // Views of the old memory stay good for the cases that are there already; only the host needs them all in one piece.
    if (this.#end + CASE_HEADER + 256 * PIECE > this.#bytes.length) {
      const more = new Uint8Array(this.#bytes.length * 2);
      more.set(this.#bytes);
      this.#bytes = more;
      this.#words = new Uint32Array(more.buffer);
    }
    const w = this.#end >>> 2;
    const fx = this.#end + FX_AT;
    return { gpr: this.#words.subarray(w, w + 32), fx: this.#bytes.subarray(fx, fx + FX_SIZE) };
  }

  /** Room for the patches of the case that is open. */
  patches(n: number): Uint8Array {
    const at = this.#end + CASE_HEADER;
    return this.#bytes.subarray(at, at + n * PIECE);
  }

  add(c: Case): void {
    const bytes = this.#bytes;
    const at = this.#end;
    this.#words[(at + 128) >>> 2] = c.rflags;
    bytes[at + 132] = c.bits;
    bytes[at + 133] = c.code.length;
    bytes[at + 134] = c.landing ? 1 : c.insn.op === "int3" ? 2 : 0;
    bytes[at + 135] = c.patches.length / PIECE;
    bytes.set(c.code, at + 136);
    this.#end = at + CASE_HEADER + c.patches.length;
    this.cases.push(c);
  }
}

/** Views of `bytes`, which must be aligned to words. */
export function decodeResults(bytes: Uint8Array, count: number): Result[] {
  if (bytes.byteOffset & 3) bytes = bytes.slice();
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
  const results: Result[] = [];
  let at = 0;
  for (let n = 0; n < count; n++) {
    const w = at >>> 2;
    const end = at + RESULT_HEADER + words[w + 39] * PIECE;
    results.push({
      gpr: words.subarray(w, w + 32),
      ripLo: words[w + 32],
      ripHi: words[w + 33],
      cr2Lo: words[w + 34],
      cr2Hi: words[w + 35],
      rflags: words[w + 36],
      vector: words[w + 37] | 0,
      error: words[w + 38],
      fx: bytes.subarray(at + 160, at + RESULT_HEADER),
      fxWords: words.subarray(w + 40, w + RESULT_HEADER / 4),
      changes: bytes.subarray(at + RESULT_HEADER, end),
    });
    at = end;
  }
  return results;
}
