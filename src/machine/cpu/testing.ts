/**
 * For tests of the engine: a CPU in 64-bit mode at CPL 3 over 4-level page tables, with pages where the test wants them. Programs are bytes in
 * hexadecimal, and end with `int3`.
 */
import { expect } from "vitest";
import { VirtualClock } from "../clock.js";
import { PhysMem, type Maddr } from "../memory.js";
import type { Va } from "./api.js";
import { engineCounters, type EngineCounters } from "./counters.js";
import { Cpu, type CpuOptions } from "./cpu.js";
import { Exit, type ExitReason } from "./exits.js";
import { RAX } from "./insn.js";

/** Bits of page-table entries, and all that a page of a program's data has. */
export const P = 1;
export const RW = 2;
export const US = 4;
export const USER = P | RW | US;

/** Bytes from hexadecimal text. */
export const hex = (text: string): number[] =>
  (text.replace(/\s/g, "").match(/../g) ?? []).map((digits) => parseInt(digits, 16));
export const imm32 = (v: number): number[] => [v & 0xff, (v >> 8) & 0xff, (v >> 16) & 0xff, v >>> 24];
/** `int3`. */
export const STOP = 0xcc;

/** What is to be so in every mode of the engine is tested in these. */
export const MODES: readonly (readonly [string, CpuOptions])[] = [
  ["interpreter", { engine: "interpreter" }],
  ["auto", { engine: "auto", threshold: 8 }],
  ["translator", { engine: "translator" }],
];

/** Differences of the engine's counters. */
export type Counted = (what: keyof EngineCounters) => number;

export class TestBox {
  readonly mem: PhysMem;
  readonly cpu: Cpu;
  /** Instructions between two looks at the budget. */
  protected readonly slice: number = 1000;
  private next: number;
  /** Of the tables that are changed and looked at. */
  protected root: Maddr = 0;

  /** With pages of memory at the addresses. */
  constructor(options: CpuOptions, pages: readonly Va[] = [], mem = new PhysMem(8 << 20)) {
    this.mem = mem;
    this.cpu = new Cpu(mem, new VirtualClock(), options);
    this.next = mem.firstFrame;
    this.tables();
    for (const va of pages) this.map(va, this.frame());
    this.cpu.setMode({ bits: 64, cpl: 3, space: 0 });
    this.cpu.rflags = 0x202;
  }

  /** A frame of zeros: every other one, so that what is adjacent in virtual memory is not in the machine's. */
  frame(): Maddr {
    const mfn = this.next;
    this.next += 2;
    this.mem.zeroFrame(mfn);
    return mfn * 4096;
  }
  /** A frame for a page table. */
  protected table(): Maddr {
    return this.frame();
  }

  /** Page tables with nothing in them yet, for a space of the CPU's; changed and looked at are these from now on. */
  tables(space: 0 | 1 = 0): Maddr {
    this.root = this.frame();
    this.cpu.setRoot(space, this.root, 4);
    return this.root;
  }
  /** Where the leaf entry for an address is. */
  pte(va: Va): Maddr {
    let table = this.root;
    for (let level = 3; level > 0; level--) {
      const at = table + (Math.floor(va / 2 ** (12 + 9 * level)) & 511) * 8;
      if (this.mem.r32(at) === 0) this.enter(at, this.table(), USER, 0);
      table = this.entry(at);
    }
    return table + (Math.floor(va / 4096) & 511) * 8;
  }
  /** `hi`: further bits for the upper half of the entry. */
  map(va: Va, frame: Maddr, flags = USER, hi = 0): void {
    this.enter(this.pte(va), frame, flags, hi);
  }
  unmap(va: Va): void {
    this.mem.w64(this.pte(va), 0, 0);
  }
  private enter(at: Maddr, frame: Maddr, flags: number, hi: number): void {
    this.mem.w64(at, ((frame % 2 ** 32) | flags) >>> 0, (Math.floor(frame / 2 ** 32) | hi) >>> 0);
  }
  private entry(at: Maddr): Maddr {
    return (this.mem.r32(at + 4) & 0xfffff) * 2 ** 32 + ((this.mem.r32(at) & ~4095) >>> 0);
  }

  /** The machine address of a byte that is mapped. */
  maddr(va: Va): Maddr {
    const at = this.pte(va);
    if ((this.mem.r32(at) & P) === 0) throw new Error(`nothing is mapped at ${va.toString(16)}`);
    return this.entry(at) + (va & 4095);
  }
  /** Bytes into pages that are mapped. */
  write(va: Va, bytes: readonly number[]): void {
    bytes.forEach((b, i) => this.mem.w8(this.maddr(va + i), b));
  }
  /** Bytes into a frame. */
  put(at: Maddr, bytes: readonly number[]): void {
    bytes.forEach((b, i) => this.mem.w8(at + i, b));
  }

  /** Go on from an address with these values in registers. */
  at(rip: Va, ...registers: readonly (readonly [register: number, value: Va])[]): this {
    for (const [r, value] of registers) this.cpu.setRegVa(r, value);
    this.cpu.rip = rip;
    return this;
  }
  /** Run to an exit other than the end of a slice, in slices. */
  go(slice = this.slice): { reason: ExitReason; vector: number } {
    for (let i = 0; i < 100_000; i++) {
      const reason = this.cpu.run(slice);
      if (reason !== Exit.BUDGET) return { reason, vector: this.cpu.exit.vector };
    }
    throw new Error("the program does not end");
  }
  /** Run to the program's `int3`; what it leaves in rax. */
  finish(slice = this.slice): number {
    expect(this.go(slice)).toEqual({ reason: Exit.EXCEPTION, vector: 3 });
    return this.cpu.regLo(RAX);
  }
  /** Run to a page fault. */
  pageFault(): { error: number; cr2: Va; rip: Va } {
    expect(this.go()).toEqual({ reason: Exit.EXCEPTION, vector: 14 });
    const { errorCode, cr2Hi, cr2Lo } = this.cpu.exit;
    return { error: errorCode, cr2: cr2Hi * 2 ** 32 + cr2Lo, rip: this.cpu.rip };
  }

  counted(run: () => void): Counted {
    const before = engineCounters(this.cpu);
    run();
    const after = engineCounters(this.cpu);
    return (what) => Number(after[what]) - Number(before[what]);
  }
}
