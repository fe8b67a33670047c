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
  readonly insn: Insn;
  readonly code: Uint8Array;
  readonly gpr: Uint32Array;
  /** Arithmetic flags and DF. */
  readonly rflags: number;
  readonly fx: Uint8Array;
  /** Memory where it differs from the base pattern: records of u32 offset (a multiple of 8) and 8 bytes. */
  readonly patches: Uint8Array;
  /** A branch: no way back follows the instruction. */
  readonly landing: boolean;
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
  /** What changed in the area: records of u32 offset (a multiple of 8, ascending) and the 8 bytes now there. */
  changes: Uint8Array;
}

export interface EngineUnderTest {
  readonly name: string;
  /** How many cases it translated (the interpreter: none). */
  readonly translated: number;
  /** What the area holds before every case. */
  setMemory(base: Uint8Array): void;
  /** Runs the one instruction to its end (all rounds of a repeated one) or its fault. */
  run(c: Case): Result;
}

export const PIECE = 12;
const CASE_HEADER = 128 + 8 + 16 + FX_SIZE;
const RESULT_HEADER = 128 + 16 + 16 + FX_SIZE;

export function encodeCases(base: Uint8Array, cases: readonly Case[]): Uint8Array {
  let size = AREA_SIZE;
  for (const c of cases) size += CASE_HEADER + c.patches.length;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  bytes.set(base);
  let at = AREA_SIZE;
  for (const c of cases) {
    for (let i = 0; i < 32; i++) view.setUint32(at + i * 4, c.gpr[i], true);
    view.setUint32(at + 128, c.rflags, true);
    bytes[at + 132] = c.bits;
    bytes[at + 133] = c.code.length;
    bytes[at + 134] = c.landing ? 1 : c.insn.op === "int3" ? 2 : 0;
    bytes[at + 135] = c.patches.length / PIECE;
    bytes.set(c.code, at + 136);
    bytes.set(c.fx, at + 152);
    bytes.set(c.patches, at + CASE_HEADER);
    at += CASE_HEADER + c.patches.length;
  }
  return bytes;
}

export function decodeResults(bytes: Uint8Array, count: number): Result[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const results: Result[] = [];
  let at = 0;
  for (let n = 0; n < count; n++) {
    const gpr = new Uint32Array(32);
    for (let i = 0; i < 32; i++) gpr[i] = view.getUint32(at + i * 4, true);
    const changes = view.getUint32(at + 156, true) * PIECE;
    results.push({
      gpr,
      ripLo: view.getUint32(at + 128, true),
      ripHi: view.getUint32(at + 132, true),
      cr2Lo: view.getUint32(at + 136, true),
      cr2Hi: view.getUint32(at + 140, true),
      rflags: view.getUint32(at + 144, true),
      vector: view.getInt32(at + 148, true),
      error: view.getUint32(at + 152, true),
      fx: bytes.subarray(at + 160, at + RESULT_HEADER),
      changes: bytes.subarray(at + RESULT_HEADER, at + RESULT_HEADER + changes),
    });
    at += RESULT_HEADER + changes;
  }
  return results;
}
