/** Helpers of the AssemblyScript core (core/assembly/int.ts) that the integer emitters call, with their WebAssembly types. */
import type { FuncType } from "../../wasm/encoder.js";

export const intHelpers: Record<string, FuncType> = {
  /** (hi, lo, d) → quotient of hi:lo / d; requires hi < d. */
  div128: { params: ["i64", "i64", "i64"], results: ["i64"] },
  /** (hi, lo, d) → 1 if the signed quotient does not fit, else 0 and the quotient at SCRATCH; d is not zero. */
  idiv128: { params: ["i64", "i64", "i64"], results: ["i32"] },
  /** (crc, value, bytes) → CRC-32C. */
  crc32: { params: ["i32", "i64", "i32"], results: ["i32"] },
  /** Repeated strings: (shape, source base, destination base) → 0 done, 1 fault recorded, 2 start again. */
  repMovs: { params: ["i32", "i64", "i64"], results: ["i32"] },
  repStos: { params: ["i32", "i64"], results: ["i32"] },
  repLods: { params: ["i32", "i64"], results: ["i32"] },
  repCmps: { params: ["i32", "i64", "i64", "i32"], results: ["i32"] },
  repScas: { params: ["i32", "i64", "i32"], results: ["i32"] },
};
