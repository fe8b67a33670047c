import { describe, expect, it } from "vitest";
import { CS, RAX, RBX, RCX, RDX, RSP } from "../../machine/cpu/insn.js";
import { onException, onInt, onSyscall, onSysenter } from "./exits.js";
import { KCODE, KSTACK, TestPv, UCODE, USTACK } from "./testing.js";

function userMachine(): TestPv {
  const m = new TestPv();
  m.v.traps.kernelSpLo = (KSTACK + 0x2000) >>> 0;
  m.v.traps.kernelSpHi = -1;
  m.user(UCODE + 2, USTACK + 0x800);
  return m;
}
function raise(m: TestPv, vector: number, error = -1): void {
  m.cpu.exit.vector = vector;
  m.cpu.exit.errorCode = error;
  onException(m.v);
}

describe("system calls", () => {
  it("reach the syscall callback with rcx = rip, r11 = rflags, DF clear", () => {
    const m = userMachine();
    m.v.traps.syscallCallback = KCODE + 0x100;
    m.v.traps.syscallMasks = true;
    m.cpu.rflags = 0x602;
    onSyscall(m.v);
    expect(m.cpu.rip).toBe(KCODE + 0x100);
    expect(m.mask).toBe(1);
    expect(m.cpu.rflags & 0x400).toBe(0);
    const w = m.words(m.cpu.regVa(RSP), 7);
    expect(w[0]).toEqual([UCODE + 2, 0]);
    expect(w[1]).toEqual([0x602, 0]);
    expect(w[2]).toEqual([UCODE + 2, 0]);
    expect(w[3]).toEqual([0xe033, 0]);
    expect(w[4]).toEqual([0x602, 0]);
  });
  it("without a callback are #UD at the instruction", () => {
    const m = userMachine();
    m.v.traps.setTrap(6, 0, 0, KCODE + 0x200);
    onSyscall(m.v);
    expect(m.cpu.rip).toBe(KCODE + 0x200);
    expect(m.words(m.cpu.regVa(RSP), 7)[2]).toEqual([UCODE, 0]);
  });
  it("of 32-bit code are #UD", () => {
    const m = userMachine();
    m.v.traps.syscallCallback = KCODE + 0x100;
    m.v.traps.setTrap(6, 0, 0, KCODE + 0x200);
    m.cpu.setSegment(CS, 0xe023, 0, 0xffffffff, 0xc0fb);
    onSyscall(m.v);
    expect(m.cpu.rip).toBe(KCODE + 0x200);
  });
  it("sysenter without a callback is #GP(0)", () => {
    const m = userMachine();
    m.v.traps.setTrap(13, 0, 0, KCODE + 0x300);
    onSysenter(m.v);
    expect(m.cpu.rip).toBe(KCODE + 0x300);
  });
  it("sysenter shows a null frame", () => {
    const m = userMachine();
    m.v.traps.sysenterCallback = KCODE + 0x300;
    onSysenter(m.v);
    const w = m.words(m.cpu.regVa(RSP), 7);
    expect([w[2], w[3], w[5]]).toEqual([
      [0, 0],
      [3, 0],
      [0, 0],
    ]);
  });
});

describe("int n", () => {
  function int(m: TestPv, vector: number): void {
    m.cpu.exit.vector = vector;
    m.cpu.exit.length = 2;
    onInt(m.v);
  }
  it("with a DPL below the caller's is #GP(vector * 8 + 2) at the instruction", () => {
    const m = userMachine();
    m.v.traps.setTrap(13, 0, 0, KCODE + 0x300);
    m.v.traps.setTrap(0x20, 0, 0, KCODE + 0x400);
    int(m, 0x20);
    const w = m.words(m.cpu.regVa(RSP), 8);
    expect(m.cpu.rip).toBe(KCODE + 0x300);
    expect(w[2]).toEqual([0x20 * 8 + 2, 0]);
    expect(w[3]).toEqual([UCODE, 0]);
  });
  it("with DPL 3 goes to its handler, rip behind it, without an error code", () => {
    const m = userMachine();
    m.v.traps.setTrap(0x21, 3, 0, KCODE + 0x400);
    int(m, 0x21);
    expect(m.cpu.rip).toBe(KCODE + 0x400);
    expect(m.words(m.cpu.regVa(RSP), 7)[2]).toEqual([UCODE + 2, 0]);
  });
  it("the guest kernel counts as ring 1", () => {
    const m = new TestPv();
    m.v.traps.setTrap(0x21, 1, 0, KCODE + 0x400);
    int(m, 0x21);
    expect(m.cpu.rip).toBe(KCODE + 0x400);
  });
  it("0x80 reaches its handler", () => {
    const m = userMachine();
    m.v.traps.setTrap(0x80, 3, 0, KCODE + 0x500);
    int(m, 0x80);
    expect(m.cpu.rip).toBe(KCODE + 0x500);
  });
  it("3 is #BP whatever the DPL", () => {
    const m = userMachine();
    m.v.traps.setTrap(3, 0, 0, KCODE + 0x600);
    int(m, 3);
    expect(m.cpu.rip).toBe(KCODE + 0x600);
  });
});

describe("exceptions", () => {
  it("ud2; xen; cpuid is emulated before there is a trap table", () => {
    const m = new TestPv();
    m.poke(0, KCODE, [0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2]);
    m.cpu.setReg(RAX, 0x40000000, 0);
    raise(m, 6);
    expect(m.cpu.rip).toBe(KCODE + 7);
    expect(m.cpu.regLo(RBX)).toBe(0x566e6558);
    expect(m.cpu.regLo(RCX)).toBe(0x65584d4d);
    expect(m.cpu.regLo(RDX)).toBe(0x4d4d566e);
  });
  it("another #UD goes to the guest", () => {
    const m = new TestPv();
    m.poke(0, KCODE, [0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0x0b]);
    m.v.traps.setTrap(6, 0, 0, KCODE + 0x200);
    raise(m, 6);
    expect(m.cpu.rip).toBe(KCODE + 0x200);
  });
  it("#NM goes to the guest once and clears its TS; without TS the FPU is switched on", () => {
    const m = new TestPv();
    m.v.traps.setTrap(7, 0, 0, KCODE + 0x200);
    m.v.traps.ts = true;
    m.cpu.setTaskSwitched(true);
    raise(m, 7);
    expect(m.cpu.rip).toBe(KCODE + 0x200);
    expect(m.v.traps.ts).toBe(false);
    expect(m.cpu.s.ts).toBe(false);
    m.cpu.rip = KCODE;
    m.cpu.setTaskSwitched(true);
    raise(m, 7);
    expect(m.cpu.rip).toBe(KCODE);
    expect(m.cpu.s.ts).toBe(false);
  });
  it("a page fault goes to the guest", () => {
    const m = userMachine();
    m.v.traps.setTrap(14, 4, 0, KCODE + 0x200);
    m.cpu.exit.cr2Lo = 0xdead000;
    m.cpu.exit.cr2Hi = 0;
    raise(m, 14, 6);
    expect(m.cpu.rip).toBe(KCODE + 0x200);
    expect(m.words(m.cpu.regVa(RSP), 8)[2]).toEqual([6, 0]);
  });
  it("a page fault in the hypervisor's range is the guest's", () => {
    const m = new TestPv();
    m.v.traps.setTrap(14, 4, 0, KCODE + 0x200);
    m.domain.vmAssist = 1 << 2;
    m.cpu.exit.cr2Lo = 0x1000;
    m.cpu.exit.cr2Hi = 0xffff8000 | 0;
    raise(m, 14, 7);
    expect(m.cpu.rip).toBe(KCODE + 0x200);
    expect(m.words(m.cpu.regVa(RSP), 8)[2]).toEqual([3, 0]);
  });
  it("a reserved bit ends the domain", () => {
    const m = new TestPv();
    raise(m, 14, 9);
    expect(m.domain.shutDown).toBe(true);
  });
});
