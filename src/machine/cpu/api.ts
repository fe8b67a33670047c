/**
 * The contract between a machine's CPU and what runs on it: the loaded vCPU's state and `run(budget) → exit`.
 * The engine implements it (`cpu.ts`); tests may mock it. 64-bit values travel as halves, addresses as `Va`.
 */
import type { ExitReason } from "./exits.js";
import type { Maddr } from "../memory.js";

/** A canonical virtual address as a sign-extended number. */
export type Va = number;

export const READ = 0,
  WRITE = 1,
  EXEC = 2;
export type Access = typeof READ | typeof WRITE | typeof EXEC;

export interface ExitInfo {
  reason: ExitReason;
  vector: number;
  /** −1 where the exception has none. */
  errorCode: number;
  /** Length of the instruction for INT_N and traps. */
  length: number;
  cr2Lo: number;
  cr2Hi: number;
}

export interface ModeSpec {
  bits: 16 | 32 | 64;
  cpl: 0 | 1 | 2 | 3;
  /** Which of the two address spaces is active. */
  space: 0 | 1;
}

/** A vCPU's registers while it is not loaded: the state block's bytes, in a buffer of its own. */
export interface CpuContext {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

export interface CpuApi {
  readonly exit: ExitInfo;
  /** Run the loaded vCPU until something needs the caller; retires at most about `budget` instructions. */
  run(budget: number): ExitReason;
  /** Instructions retired by all `run`s so far. */
  readonly retired: number;
  /** From host callbacks: make a running `run` return soon. */
  requestAttention(): void;

  newContext(): CpuContext;
  load(ctx: CpuContext): void;
  save(ctx: CpuContext): void;

  regLo(i: number): number;
  regHi(i: number): number;
  setReg(i: number, lo: number, hi: number): void;
  /** Register as a number: exact if the value is a canonical address or below 2^53. */
  regVa(i: number): Va;
  setRegVa(i: number, va: Va): void;
  rip: Va;
  /** RFLAGS, all of it, materialised. */
  rflags: number;
  selector(s: number): number;
  /** Set a selector and its hidden part. attr: descriptor bits 40–55 (type, S, DPL, P, …, L bit 13, D/B bit 14, G bit 15). */
  setSegment(s: number, selector: number, base: Va, limit: number, attr: number): void;
  segBaseLo(s: number): number;
  segBaseHi(s: number): number;
  setSegBase(s: number, lo: number, hi: number): void;
  setMode(m: ModeSpec): void;
  readonly cpl: number;
  readonly space: 0 | 1;
  /**
   * Top-level page table (machine address) of an address space; levels 4, 3 (PAE), 2 or 0 (paging off). As on the processor, nothing is left then of what
   * was known of the space's translations that its tables do not say.
   */
  setRoot(space: 0 | 1, table: Maddr, levels: 0 | 2 | 3 | 4): void;
  /**
   * From now on the CPU is told of each change to a page table (FRAMES_CHANGES, FRAMES_CODE_CHANGED, `forgetRoot`), so that it may keep what it knows of
   * address spaces that are not loaded.
   */
  watchTables(): void;
  /** A page table is no root any more, or becomes one anew: keep nothing of its address space. */
  forgetRoot(table: Maddr): void;
  root(space: 0 | 1): Maddr;
  /**
   * Drop all cached translations. `code` says where mappings of executable pages may have changed since the last flush (1 lower half of the
   * address space, 2 upper half of space 0, 4 upper half of space 1; default all): elsewhere decoded code stays found.
   */
  flushTlb(code?: number): void;
  invlpg(va: Va, code?: number): void;
  /**
   * Machine address of `va` as the guest sees it at its present privilege and address space (accessed and dirty bits are set), or −1:
   * then `exit` holds the page fault (vector 14, error code, cr2).
   */
  translate(va: Va, access: Access): Maddr;
  /** As `translate`, but in a given space, ignoring privilege, and without effects. */
  peek(space: 0 | 1, va: Va): Maddr;
  /** CR0.TS: while set, FPU and SSE instructions raise #NM. */
  setTaskSwitched(on: boolean): void;
  /** Debug registers, as 64-bit halves; breakpoints in DR7 take effect. */
  setDr(i: number, lo: number, hi: number): void;
  drLo(i: number): number;
  drHi(i: number): number;
  /** 512-byte fxsave image (64-bit format) of the loaded vCPU. */
  fxsave(): Uint8Array;
  fxrstor(image: Uint8Array): void;
  /** Time-stamp counter now, in ticks. */
  tsc(): number;
  /** What CPUID answers: leaf, subleaf → eax ebx ecx edx. Set by the owner of the vCPU. */
  cpuid: (leaf: number, subleaf: number) => [number, number, number, number];
}
