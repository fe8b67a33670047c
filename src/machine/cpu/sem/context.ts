/**
 * `Sem`: the vocabulary in which an instruction's meaning is written, once, for both engines.
 *
 * An emitter `(x: Sem) => void` *describes* the instruction: it builds expressions and statements that become WebAssembly.
 * In the translator operands are static (a register is a local); in the interpreter the same emitter makes a handler whose
 * operands come from the pre-decoded record. An emitter must therefore never look at a register number or an immediate's
 * value of `x.insn` unless the operation is registered with `imm: true` (immediates are then part of the handler's shape) —
 * only at `op, osize, asize, bits, cc, rep, lock` and at the kinds and sizes of the operands.
 *
 * Precision rules, which every emitter keeps:
 *  1. Everything that can fault (loads, store translation through `rmw`, raises) comes before the first visible write.
 *     A single `store`/`write` to memory may be the last faulting action if register writes come after it.
 *  2. Flags are set last, by exactly one of `flags`, `flagsIf`, `setFlagsImage`; never inside `when`.
 *  3. Expressions that read registers are bound with `let` before any write that could change them.
 *
 * Value types: operands of 1, 2 and 4 bytes are i32 (zero-extended to 32 bits for 1 and 2), of 8 bytes i64, of 16 v128.
 */
import type { Expr, ValType } from "../../wasm/expr.js";
import type { Code } from "../../wasm/encoder.js";
import type { CcKind } from "../flags.js";
import type { Insn } from "../insn.js";

export interface Var {
  readonly t: ValType;
  get(): Expr;
  set(e: Expr): void;
}

export interface Rmw {
  /** The operand's old value, bound. */
  readonly value: Expr;
  commit(e: Expr): void;
}

export interface Sem {
  readonly insn: Insn;
  /** Raw code, for loops and blocks an emitter needs; keep `depth` balanced. */
  readonly code: Code;

  /** Evaluate now, into a fresh local; the result may be used any number of times. */
  let(e: Expr): Expr;
  /** A mutable local. */
  var(t: ValType, init?: Expr): Var;
  /** if (cond) then else otherwise. `likely` false marks the cold side. */
  when(cond: Expr, then: () => void, otherwise?: () => void, likely?: boolean): void;

  /** Value of operand i (register, memory or immediate) at its size; an immediate takes the size of operand 0. */
  read(i: number): Expr;
  /** Write operand i: 4-byte register writes clear the upper half, 1- and 2-byte ones keep the rest. */
  write(i: number, e: Expr): void;
  /** Read operand i for modification; memory is checked for writing now, so that `commit` cannot fault. */
  rmw(i: number): Rmw;
  /** Immediate as i32 / i64. */
  imm32(): Expr;
  imm64(): Expr;

  /** Fixed general register, all 64 bits (i64). */
  gpr(n: number): Expr;
  setGpr(n: number, e: Expr): void;
  /** Fixed register at a size (value type rule above), low part; and its write with the size's rules. */
  gprSized(n: number, size: number): Expr;
  setGprSized(n: number, size: number, e: Expr): void;

  /** Linear address of the memory operand (i64), segment base added, wrapped to the address size; displaced by `delta` bytes (i64). */
  ea(delta?: Expr): Expr;
  /** Offset of the memory operand without the segment base (lea). */
  eaOffset(): Expr;
  /** Base of a segment (i64; constant 0 where the mode says so). */
  segBase(seg: number): Expr;
  load(addr: Expr, size: number): Expr;
  store(addr: Expr, size: number, e: Expr): void;
  /** #GP(0) unless aligned to 16. */
  checkAligned16(addr: Expr): void;
  /** As `load`/`store` of 16 bytes, with that check. */
  loadAligned16(addr: Expr): Expr;
  storeAligned16(addr: Expr, e: Expr): void;
  /** Check `size` bytes at `addr` for writing and return a handle to write there later without a fault. */
  rmwAt(addr: Expr, size: number): Rmw;

  /** Stack at the mode's stack width. `pop` returns the value bound, and has already moved rSP. */
  push(size: number, e: Expr): void;
  pop(size: number): Expr;

  /** XMM register of operand i (kind XMM), all 128 bits. */
  readXmm(i: number): Expr;
  writeXmm(i: number, e: Expr): void;
  /** Operand i as 128 bits: XMM register, or 16 bytes of memory (aligned access rule if `aligned`). */
  read128(i: number, aligned: boolean): Expr;
  /** Fixed XMM register (blendv's XMM0). */
  xmm(n: number): Expr;
  setXmm(n: number, e: Expr): void;
  /**
   * MMX register of operand i (i64): the mantissa of an x87 register. Writing makes the exponent field all ones; tags and TOP are the
   * business of helper `mmxEnter`, which the emitter calls first.
   */
  readMmx(i: number): Expr;
  writeMmx(i: number, e: Expr): void;
  /**
   * Helpers that read or write XMM registers in the state block: `syncXmm` before them makes the block current, `reloadXmm` after
   * them takes what they wrote.
   */
  syncXmm(): void;
  reloadXmm(): void;
  /** Operand i's register number as an i32 value (ST, SREG, CR and DR operands only; dynamic in the interpreter). */
  regNumber(i: number): Expr;

  /** Set all six flags lazily. Values of size ≤ 4 are i32, else i64; omitted ones are zero. */
  flags(kind: CcKind, size: number, v: { a?: Expr; b?: Expr; r?: Expr }): void;
  /** As `flags`, only where `cond` (i32) is non-zero; otherwise flags stay. */
  flagsIf(cond: Expr, kind: CcKind, size: number, v: { a?: Expr; b?: Expr; r?: Expr }): void;
  /** Set all six flags from an image at RFLAGS positions (i32; other bits ignored). */
  setFlagsImage(image: Expr): void;
  /** The six flags at their positions (i32). */
  flagsImage(): Expr;
  /** Condition code 0–15 as 0 or 1 (i32). */
  cond(cc: number): Expr;
  /** CF as 0 or 1 (i32). */
  cf(): Expr;
  /** Non-arithmetic RFLAGS (i32: DF, IF, IOPL, …) in the state block. */
  efl(): Expr;
  setEfl(e: Expr): void;

  /** Address of the next instruction (i64). */
  nextRip(): Expr;
  /** Continue at nextRip + immediate, wrapped to the operand size. */
  jumpRel(): void;
  /** Continue at nextRip + immediate if `cond`, else at the next instruction. */
  branchIf(cond: Expr): void;
  /** Continue at a computed address (i64, already wrapped to the operand size); non-canonical raises #GP(0) in 64-bit code. */
  jumpTo(target: Expr, kind: "jmp" | "call" | "ret"): void;
  /** Fault at this instruction: vector, error code (−1 = none). */
  raise(vector: number, error?: number): void;
  raiseIf(cond: Expr, vector: number, error?: number): void;
  /** Leave the engine: `atNext` puts rip after the instruction (traps, syscall), else at it. Reason from exits.ts. */
  exit(reason: number, opts: { atNext: boolean; vector?: number; vectorExpr?: Expr }): void;
  /** Leave the engine for the host-side implementation of this (system) instruction: exit reason SYSTEM, rip at it. */
  system(): void;
  /**
   * End the block after this instruction (it may have changed the mode or the code): continue through the dispatcher at the next one.
   * Call it last.
   */
  endBlock(): void;

  /** Call a core helper with a result; see helpers.ts for the list. */
  helper(name: string, args: readonly Expr[]): Expr;
  helperVoid(name: string, args: readonly Expr[]): void;
  /**
   * Call a helper that works on general registers in the state block: `regs` are stored before and loaded after. The helper returns
   * an i32 status: 0 done; non-zero: leave the engine with rip at this instruction (the helper has filled the exit record, or wants a restart).
   */
  stateHelper(name: string, args: readonly Expr[], regs: readonly number[]): void;
  /** After a helper that returned a status (i32): non-zero leaves the engine with rip at this instruction. */
  checkStatus(status: Expr): void;
  /** After a helper that wrote guest memory itself (`stateHelper` does this): code may have changed. Nothing visible may follow. */
  helperStored(): void;

  /** FPU/SSE available? Emits #NM (and returns false) if the mode says the unit is off. */
  fpuAvailable(): boolean;
}

export interface OpDef {
  emit: (x: Sem) => void;
  /** The immediate is part of the shape: emitters may read `x.insn.imm`. */
  imm?: boolean;
  /** The first/second register operand numbers are part of the shape (rare). */
  regs?: boolean;
  /** Ends a basic block (control flow, mode changes). */
  ends?: boolean;
}

/** Registered operations by mnemonic; the files of `sem/` fill it. */
export type OpTable = Map<string, OpDef>;
