import { describe, expect, it } from "vitest";
import { VGCF_in_syscall } from "../../abi/arch_x86_xen.js";
import { GS } from "../../machine/cpu/insn.js";
import { bounce, NO_ERROR } from "./bounce.js";
import { iret } from "./iret.js";
import { KCODE, KSTACK, TestPv, UCODE, USTACK } from "./testing.js";

function frame(
  m: TestPv,
  f: { flags?: number; rip: number; cs: number; rflags: number; rsp: number; ss: number },
): void {
  const sp = KSTACK + 0x1000;
  m.cpu.setRegVa(4, sp);
  [0xaaaa, 0xbbbb, 0xcccc, f.flags ?? 0, f.rip, f.cs, f.rflags, f.rsp, f.ss].forEach((n, i) => m.poke64(sp + i * 8, n));
}

describe("HYPERVISOR_iret", () => {
  it("to user mode: all registers of the frame, GS base and space switched, mask from IF", () => {
    const m = new TestPv();
    m.v.traps.gsUserLo = 0x5000;
    m.cpu.setSegBase(GS, 0x6000, 0);
    m.setMask(1);
    frame(m, { rip: UCODE + 4, cs: 0xe033, rflags: 0x3202, rsp: USTACK + 0x100, ss: 0xe02b });
    iret(m.v);
    expect(m.v.kernelMode).toBe(false);
    expect(m.cpu.space).toBe(1);
    expect([m.cpu.regLo(0), m.cpu.regLo(11), m.cpu.regLo(1)]).toEqual([0xaaaa, 0xbbbb, 0xcccc]);
    expect(m.cpu.rip).toBe(UCODE + 4);
    expect(m.cpu.regVa(4)).toBe(USTACK + 0x100);
    expect(m.cpu.rflags).toBe(0x202);
    expect(m.mask).toBe(0);
    expect(m.cpu.segBaseLo(GS)).toBe(0x5000);
    expect(m.v.traps.gsKernelLo).toBe(0x6000);
  });

  it("to the kernel: cs with RPL 0–2 stays in the kernel, and gets RPL 3 on the CPU", () => {
    const m = new TestPv();
    frame(m, { rip: KCODE + 8, cs: 0xe030, rflags: 0x2, rsp: KSTACK + 0x800, ss: 0xe028 });
    iret(m.v);
    expect(m.v.kernelMode).toBe(true);
    expect(m.cpu.selector(1)).toBe(0xe033);
    expect(m.cpu.selector(2)).toBe(0xe02b);
    expect(m.mask).toBe(1);
    expect(m.cpu.rflags & 0x200).toBe(0x200);
  });

  it("with VGCF_in_syscall: SYSRET, rcx = rip and r11 = rflags", () => {
    const m = new TestPv();
    frame(m, { flags: VGCF_in_syscall, rip: UCODE + 2, cs: 0x33, rflags: 0x206, rsp: USTACK, ss: 0x2b });
    iret(m.v);
    expect(m.cpu.regLo(1)).toBe(UCODE + 2);
    expect(m.cpu.regLo(11)).toBe(0x206);
    expect(m.cpu.selector(1)).toBe(0xe033);
  });

  it("undoes a bounce", () => {
    const m = new TestPv();
    m.cpu.setReg(1, 1, 2);
    m.cpu.setReg(11, 3, 4);
    bounce(m.v, KCODE + 0x800, true, NO_ERROR);
    // What Linux does: pops rcx and r11, then pushes the head of struct iret_context.
    const base = m.cpu.regVa(4);
    const w = m.words(base, 7);
    const sp = base + 16 - 32;
    const push = [[0x77, 0], w[1], w[0], [0, 0]] as [number, number][];
    push.forEach(([lo, hi], i) => m.mem.w64(m.cpu.peek(0, sp + i * 8), lo, hi));
    m.cpu.setRegVa(4, sp);
    iret(m.v);
    expect(m.cpu.rip).toBe(KCODE);
    expect(m.cpu.regVa(4)).toBe(KSTACK + 0x1800);
    expect([m.cpu.regLo(1), m.cpu.regHi(1), m.cpu.regLo(11), m.cpu.regHi(11)]).toEqual([1, 2, 3, 4]);
    expect(m.cpu.rflags).toBe(0x202);
    expect(m.mask).toBe(0);
  });

  it("a frame that cannot be read ends the domain", () => {
    const m = new TestPv();
    m.cpu.setRegVa(4, 0x9000);
    iret(m.v);
    expect(m.domain.shutDown).toBe(true);
  });

  it("to user mode without user page tables ends the domain", () => {
    const m = new TestPv();
    m.v.mm.userRoot = 0;
    frame(m, { rip: UCODE, cs: 0xe033, rflags: 0x202, rsp: USTACK, ss: 0xe02b });
    iret(m.v);
    expect(m.domain.crashReason).toContain("user page tables");
  });

  it("a cs that does not load is #GP(selector) at the new rip", () => {
    const m = new TestPv();
    m.v.traps.setTrap(13, 4, 0, KCODE + 0xa00);
    frame(m, { rip: KCODE + 8, cs: 0x20, rflags: 0x202, rsp: KSTACK + 0x800, ss: 0xe02b });
    iret(m.v);
    expect(m.cpu.rip).toBe(KCODE + 0xa00);
    const w = m.words(m.cpu.regVa(4), 8);
    expect(w[2]).toEqual([0x20, 0]);
    expect(w[3]).toEqual([(KCODE + 8) >>> 0, 0xffffffff]);
  });
});
