/** WebAssembly signatures of the core's functions that generated code may call. */
import type { FuncType } from "../wasm/encoder.js";
import { fpHelpers } from "./sem/helpers-fp.js";
import { intHelpers } from "./sem/helpers-int.js";

export const coreHelpers: Record<string, FuncType> = {
  translateR: { params: ["i64", "i32"], results: ["i32"] },
  translateW: { params: ["i64", "i32"], results: ["i32"] },
  translateWx: { params: ["i64", "i32"], results: ["i32"] },
  commitW: { params: [], results: [] },
  recordFault: { params: ["i32", "i32"], results: [] },
  recordExit: { params: ["i32", "i32"], results: [] },
  ccFlags: { params: ["i32", "i64", "i64", "i64"], results: ["i32"] },
  ccCond: { params: ["i32", "i64", "i64", "i64", "i32"], results: ["i32"] },
  ccCarry: { params: ["i32", "i64", "i64", "i64"], results: ["i32"] },
  rdtsc: { params: [], results: ["i64"] },
};

/**
 * Of these the core exports `…Wide` too, with a v128 for its result or none: generated code calls that. For each signature that a module imports
 * V8 makes a wrapper in case the import is a function of JavaScript, by its optimizing compiler and while the guest waits, which is a third of what a
 * module of a few regions costs (V8 11, AddImportWrapperUnits). No such wrapper can exist where the signature has a v128.
 */
export const wideHelpers: ReadonlySet<string> = new Set([...Object.keys(coreHelpers), ...Object.keys(intHelpers)]);

export const helperTypes: Record<string, FuncType> = { ...coreHelpers, ...intHelpers, ...fpHelpers };
