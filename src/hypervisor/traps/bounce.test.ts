import { describe, expect, it } from "vitest";
import { SHUTDOWN_crash } from "../../abi/sched.js";
import { GS } from "../../machine/cpu/insn.js";
import { bounce, NO_ERROR } from "./bounce.js";
import { deliverPending } from "./upcall.js";
import { injectException, injectPageFault } from "./inject.js";
import { KCODE, KSTACK, TestPv, UCODE, USTACK } from "./testing.js";

const HANDLER = KCODE + 0x800;

describe("bounce frames", () => {
  it("from the kernel: rcx r11 rip cs|mask rflags rsp ss below rsp, aligned, RPL 0 in the saved cs", () => {
    const m = new TestPv();
    m.kernel(KCODE + 0x10, KSTACK + 0x1808);
    m.cpu.setReg(1, 0x11111111, 0x22222222);
    m.cpu.setReg(11, 0x33333333, 0x44444444);
    m.cpu.rflags = 0x246;
    expect(bounce(m.v, HANDLER, false, NO_ERROR)).toBe(true);
    expect(m.cpu.regVa(4)).toBe(KSTACK + 0x1800 - 56);
    const w = m.words(KSTACK + 0x1800 - 56, 7);
    expect(w).toEqual([
      [0x11111111, 0x22222222],
      [0x33333333, 0x44444444],
      [(KCODE + 0x10) >>> 0, 0xffffffff],
      [0xe030, 0],
      [0x246, 0],
      [(KSTACK + 0x1808) >>> 0, 0xffffffff],
      [0xe02b, 0],
    ]);
    expect(m.cpu.rip).toBe(HANDLER);
    expect(m.cpu.selector(1)).toBe(0xe033);
  });

  it("with an error code: between r11 and rip, eight bytes lower", () => {
    const m = new TestPv();
    bounce(m.v, HANDLER, false, 0x18);
    expect(m.cpu.regVa(4)).toBe(KSTACK + 0x1800 - 64);
    const w = m.words(KSTACK + 0x1800 - 64, 8);
    expect(w[2]).toEqual([0x18, 0]);
    expect(w[3]).toEqual([KCODE >>> 0, 0xffffffff]);
  });

  it("a frame across a page boundary is the same", () => {
    const m = new TestPv();
    m.kernel(KCODE, KSTACK + 0x1010);
    bounce(m.v, HANDLER, false, 5);
    const w = m.words(KSTACK + 0x1010 - 64, 8);
    expect(w[2]).toEqual([5, 0]);
    expect(w[7]).toEqual([0xe02b, 0]);
  });

  it("IF in the frame is the inverse of the upcall mask, and the mask is in cs's upper half", () => {
    const m = new TestPv();
    m.setMask(1);
    m.cpu.rflags = 0x246;
    bounce(m.v, HANDLER, true, NO_ERROR);
    const w = m.words(m.cpu.regVa(4), 7);
    expect(w[3]).toEqual([0xe030, 1]);
    expect(w[4]).toEqual([0x046, 0]);
    expect(m.mask).toBe(1);
  });

  it("entry clears TF NT RF AC and keeps the rest; the frame has them", () => {
    const m = new TestPv();
    m.cpu.rflags = 0x202 | 0x100 | 0x4000 | 0x40000 | 0x400;
    bounce(m.v, HANDLER, true, NO_ERROR);
    expect(m.cpu.rflags).toBe(0x602);
    expect(m.words(m.cpu.regVa(4), 7)[4]?.[0]).toBe(0x202 | 0x100 | 0x4000 | 0x40000 | 0x400);
    expect(m.mask).toBe(1);
  });

  it("from user mode: onto the stack of stack_switch, in the kernel's space, GS bases swapped, cs with RPL 3", () => {
    const m = new TestPv();
    m.v.traps.kernelSpLo = (KSTACK + 0x2000) >>> 0;
    m.v.traps.kernelSpHi = -1;
    m.v.traps.gsKernelLo = 0x1000;
    m.user(UCODE, USTACK + 0xff8);
    m.cpu.setSegBase(GS, 0x77, 0);
    bounce(m.v, HANDLER, false, NO_ERROR);
    expect(m.v.kernelMode).toBe(true);
    expect(m.cpu.space).toBe(0);
    expect(m.cpu.segBaseLo(GS)).toBe(0x1000);
    expect(m.v.traps.gsUserLo).toBe(0x77);
    const w = m.words(KSTACK + 0x2000 - 56, 7);
    expect(w[2]).toEqual([UCODE, 0]);
    expect(w[3]).toEqual([0xe033, 0]);
    expect(w[5]).toEqual([(USTACK + 0xff8) >>> 0, 0x7f]);
  });

  it("IOPL shows only under architectural_iopl", () => {
    const m = new TestPv();
    m.v.traps.iopl = 1;
    bounce(m.v, HANDLER, false, NO_ERROR);
    expect(m.words(m.cpu.regVa(4), 7)[4]?.[0]).toBe(0x202);
    m.domain.vmAssist = 1 << 4;
    bounce(m.v, HANDLER, false, NO_ERROR);
    expect(m.words(m.cpu.regVa(4), 7)[4]?.[0]).toBe(0x1202);
  });

  it("a stack that is not writable ends the domain", () => {
    const m = new TestPv();
    m.kernel(KCODE, 0x10000);
    expect(bounce(m.v, HANDLER, false, NO_ERROR)).toBe(false);
    expect(m.domain.shutdownCode).toBe(SHUTDOWN_crash);
    expect(m.lines.some((l) => l.includes("RIP:"))).toBe(true);
  });

  it("a stack in the hypervisor's range ends the domain", () => {
    const m = new TestPv();
    m.kernel(KCODE, -(2 ** 47) + 0x10000);
    bounce(m.v, HANDLER, false, NO_ERROR);
    expect(m.domain.shutdownCode).toBe(SHUTDOWN_crash);
  });

  it("an exception without a handler ends the domain", () => {
    const m = new TestPv();
    injectException(m.v, 13, 0);
    expect(m.domain.shutDown).toBe(true);
    expect(m.domain.crashReason).toContain("#GP");
  });
});

describe("page faults", () => {
  it("the user bit says which half faulted, and cr2 is in vcpu_info", () => {
    const m = new TestPv();
    m.v.traps.setTrap(14, 4, 0, HANDLER);
    injectPageFault(m.v, 7, 0x1234000, 0x55);
    const w = m.words(m.cpu.regVa(4), 8);
    expect(w[2]).toEqual([3, 0]);
    expect(m.mask).toBe(1);
    expect(m.mem.r32(m.info + 16)).toBe(0x1234000);
    expect(m.mem.r32(m.info + 20)).toBe(0x55);
    expect(m.v.traps.cr2Hi).toBe(0x55);
  });
  it("from user mode the bit is set", () => {
    const m = new TestPv();
    m.v.traps.setTrap(14, 0, 0, HANDLER);
    m.v.traps.kernelSpLo = (KSTACK + 0x2000) >>> 0;
    m.v.traps.kernelSpHi = -1;
    m.user(UCODE, USTACK);
    injectPageFault(m.v, 4, 0, 0);
    expect(m.words(m.cpu.regVa(4), 8)[2]).toEqual([4, 0]);
  });
});

describe("event upcalls", () => {
  it("are delivered when pending and not masked, and mask themselves", () => {
    const m = new TestPv();
    m.v.traps.eventCallback = HANDLER;
    m.setPending(1);
    expect(deliverPending(m.v)).toBe(true);
    expect(m.cpu.rip).toBe(HANDLER);
    expect(m.mask).toBe(1);
    expect(m.words(m.cpu.regVa(4), 7)[3]).toEqual([0xe030, 0]);
  });
  it("are held while masked", () => {
    const m = new TestPv();
    m.v.traps.eventCallback = HANDLER;
    m.setPending(1);
    m.setMask(1);
    deliverPending(m.v);
    expect(m.cpu.rip).toBe(KCODE);
  });
  it("an NMI goes below an event delivered at the same entry and does not nest", () => {
    const m = new TestPv();
    m.v.traps.eventCallback = HANDLER;
    m.v.traps.setTrap(2, 4, 0, KCODE + 0x900);
    m.v.traps.nmiPending = true;
    m.setPending(1);
    deliverPending(m.v);
    // The NMI masks events, so the upcall waits.
    expect(m.cpu.rip).toBe(KCODE + 0x900);
    m.v.traps.nmiPending = true;
    const rsp = m.cpu.regVa(4);
    deliverPending(m.v);
    expect(m.cpu.regVa(4)).toBe(rsp);
  });
});
