import { describe, expect, test } from "vitest";
import { RealClock } from "../clock.js";
import { PhysMem } from "../memory.js";
import { Cpu, type EngineKind } from "./cpu.js";
import { Exit } from "./exits.js";
import { RAX, RBX, RSP } from "./insn.js";

const CODE = 0x5100000;
const DATA = 0x5200000;

/** A machine without paging, 64-bit code at CODE. */
function machine(engine: EngineKind, bytes: number[]): Cpu {
  const mem = new PhysMem(16 << 20);
  const cpu = new Cpu(mem, new RealClock(() => 0, 0), { engine });
  mem.write(CODE, Uint8Array.from(bytes));
  cpu.rip = CODE;
  cpu.setRegVa(RSP, DATA + 0x1000);
  cpu.setRegVa(RBX, DATA);
  return cpu;
}

/** mov rax,[rbx] ; mov [rbx+8],rax ; inc rax ; push rax ; int 0x80 */
const PROGRAM = [0x48, 0x8b, 0x03, 0x48, 0x89, 0x43, 0x08, 0x48, 0xff, 0xc0, 0x50, 0xcd, 0x80];

describe.each(["interpreter", "translator"] as const)("breakpoints (%s)", (engine) => {
  test("an instruction breakpoint faults before the instruction and RF steps over it", () => {
    const cpu = machine(engine, PROGRAM);
    cpu.setDr(0, CODE + 7, 0);
    cpu.setDr(7, 0x401, 0);
    expect(cpu.run(100)).toBe(Exit.EXCEPTION);
    expect(cpu.exit.vector).toBe(1);
    expect(cpu.rip).toBe(CODE + 7);
    expect(cpu.drLo(6) & 15).toBe(1);
    cpu.rflags |= 0x10000;
    expect(cpu.run(100)).toBe(Exit.INT_N);
    expect(cpu.regLo(RAX)).toBe(1);
  });
  test("a data write breakpoint traps after the store and not on loads", () => {
    const cpu = machine(engine, PROGRAM);
    cpu.setDr(1, DATA, 0);
    cpu.setDr(2, DATA + 8, 0);
    // DR1 and DR2: write only, 8 bytes.
    cpu.setDr(7, 0x414 | (0b1001 << 20) | (0b1001 << 24), 0);
    expect(cpu.run(100)).toBe(Exit.EXCEPTION);
    expect(cpu.rip).toBe(CODE + 7);
    expect(cpu.drLo(6) & 15).toBe(4);
    expect(cpu.run(100)).toBe(Exit.INT_N);
  });
  test("a read-write breakpoint sees loads and the stack", () => {
    const cpu = machine(engine, PROGRAM);
    cpu.setDr(0, DATA, 0);
    cpu.setDr(3, DATA + 0xff8, 0);
    cpu.setDr(7, 0x441 | (0b1011 << 16) | (0b1011 << 28), 0);
    expect(cpu.run(100)).toBe(Exit.EXCEPTION);
    expect(cpu.rip).toBe(CODE + 3);
    expect(cpu.run(100)).toBe(Exit.EXCEPTION);
    expect(cpu.rip).toBe(CODE + 11);
    expect(cpu.drLo(6) & 15).toBe(9);
  });
  test("disarmed, nothing happens", () => {
    const cpu = machine(engine, PROGRAM);
    cpu.setDr(0, CODE + 7, 0);
    cpu.setDr(7, 0x400, 0);
    expect(cpu.run(100)).toBe(Exit.INT_N);
    expect(cpu.regLo(RAX)).toBe(1);
  });
});
