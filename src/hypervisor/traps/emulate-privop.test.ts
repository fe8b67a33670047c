import { describe, expect, it } from "vitest";
import { FS, GS, RAX, RBX, RCX, RDX, RSI, RSP } from "../../machine/cpu/insn.js";
import { ARCH_CAPS_LO } from "./cpuid-policy.js";
import { emulatePrivop } from "./emulate-privop.js";
import { onException } from "./exits.js";
import { KCODE, KDATA, KSTACK, TestPv, UCODE, USTACK } from "./testing.js";

function run(bytes: number[], setup: (m: TestPv) => void = () => {}): { m: TestPv; done: boolean } {
  const m = new TestPv();
  m.v.traps.iopl = 1;
  m.poke(0, KCODE, bytes);
  setup(m);
  const done = emulatePrivop(m.v);
  return { m, done };
}
const msrTo = (index: number) => (m: TestPv) => {
  m.cpu.setReg(RCX, index | 0, 0);
};

describe("port I/O", () => {
  it("in reads all ones, with the operand's size", () => {
    const { m, done } = run([0xec], (t) => {
      t.cpu.setReg(RAX, 0x12345600, 7);
      t.cpu.setReg(RDX, 0x61, 0);
    });
    expect(done).toBe(true);
    expect([m.cpu.regLo(RAX), m.cpu.regHi(RAX)]).toEqual([0x123456ff, 7]);
    expect(m.cpu.rip).toBe(KCODE + 1);
    expect(run([0x66, 0xed]).m.cpu.regLo(RAX)).toBe(0xffff);
    const wide = run([0xed], (t) => t.cpu.setReg(RAX, 0, 5)).m;
    expect([wide.cpu.regLo(RAX), wide.cpu.regHi(RAX)]).toEqual([-1, 0]);
  });
  it("in with an immediate port and out go on", () => {
    expect(run([0xe4, 0x43]).m.cpu.regLo(RAX)).toBe(0xff);
    expect(run([0xe6, 0x80]).m.cpu.rip).toBe(KCODE + 2);
  });
  it("without IOPL and bitmap it is the guest's #GP", () => {
    expect(run([0xec], (m) => (m.v.traps.iopl = 0)).done).toBe(false);
  });
  it("architectural_iopl lets the kernel do it at IOPL 0", () => {
    const { done } = run([0xec], (m) => {
      m.v.traps.iopl = 0;
      m.domain.vmAssist = 1 << 4;
    });
    expect(done).toBe(true);
  });
  it("the I/O bitmap may allow a port", () => {
    const { done } = run([0xec], (m) => {
      m.v.traps.iopl = 0;
      m.v.traps.ioBitmap = KDATA;
      m.v.traps.ioBitmapPorts = 65536 / 64;
      m.poke(0, KDATA, new Array<number>(64).fill(0xff));
      m.poke(0, KDATA + (0x61 >> 3), [0xfd]);
      m.cpu.setReg(RDX, 0x61, 0);
    });
    expect(done).toBe(true);
  });
  it("0xcf8 is latched, 0xcfc is all ones", () => {
    const m = new TestPv();
    m.v.traps.iopl = 1;
    m.poke(0, KCODE, [0xef, 0xed]);
    m.cpu.setReg(RAX, 0x80001234 | 0, 0);
    m.cpu.setReg(RDX, 0xcf8, 0);
    expect(emulatePrivop(m.v)).toBe(true);
    m.cpu.setReg(RAX, 0, 0);
    expect(emulatePrivop(m.v)).toBe(true);
    expect(m.cpu.regLo(RAX)).toBe(0x80001234 | 0);
  });
  it("rep outsb consumes its count", () => {
    const { m, done } = run([0xf3, 0x6e], (t) => {
      t.cpu.setReg(RCX, 3, 0);
      t.cpu.setRegVa(RSI, KDATA);
    });
    expect(done).toBe(true);
    expect(m.cpu.regLo(RCX)).toBe(0);
    expect(m.cpu.regVa(RSI)).toBe(KDATA + 3);
  });
});

describe("interrupt flag", () => {
  it("cli and sti do nothing with IOPL, and are #GP without", () => {
    const { m, done } = run([0xfa]);
    expect(done).toBe(true);
    expect(m.mask).toBe(0);
    expect(m.cpu.rip).toBe(KCODE + 1);
    expect(run([0xfb], (t) => (t.v.traps.iopl = 0)).done).toBe(false);
  });
});

describe("control registers", () => {
  it("CR0 reads as the host's with the guest's TS; only TS can be written", () => {
    const { m } = run([0x0f, 0x20, 0xc3], (t) => (t.v.traps.ts = true));
    expect(m.cpu.regLo(RBX)).toBe(0x8005003b | 0);
    const w = run([0x0f, 0x22, 0xc3], (t) => t.cpu.setReg(RBX, 0x8005003b | 0, 0));
    expect(w.done).toBe(true);
    expect(w.m.v.traps.ts).toBe(true);
    expect(run([0x0f, 0x22, 0xc3], (t) => t.cpu.setReg(RBX, 0x8004003b | 0, 0)).done).toBe(false);
  });
  it("clts clears TS", () => {
    const { m } = run([0x0f, 0x06], (t) => (t.v.traps.ts = true));
    expect(m.v.traps.ts).toBe(false);
  });
  it("CR2 is the virtual one", () => {
    const { m } = run([0x0f, 0x20, 0xd3], (t) => {
      t.v.traps.cr2Lo = 5;
      t.v.traps.cr2Hi = 6;
    });
    expect([m.cpu.regLo(RBX), m.cpu.regHi(RBX)]).toEqual([5, 6]);
  });
  it("CR3 is the kernel root's address", () => {
    const { m } = run([0x0f, 0x20, 0xdb], (t) => (t.v.mm.kernelRoot = 0x1234));
    expect(m.cpu.regLo(RBX)).toBe(0x1234000);
    m.v.mm.kernelRoot = 0;
  });
  it("CR4 shows PAE MCE OSFXSR OSXMMEXCPT and the guest's TSD and DE", () => {
    const { m } = run([0x0f, 0x22, 0xe3], (t) => t.cpu.setReg(RBX, 0xffff, 0));
    expect(m.v.traps.cr4).toBe(0x66c);
  });
  it("CR8 is the guest's #GP", () => {
    expect(run([0x44, 0x0f, 0x20, 0xc3]).done).toBe(false);
  });
});

describe("MSRs", () => {
  it("FS, GS and kernel GS bases", () => {
    const r = run([0x0f, 0x32], (t) => {
      t.cpu.setSegBase(FS, 0x10, 0x20);
      msrTo(0xc0000100)(t);
    }).m;
    expect([r.cpu.regLo(RAX), r.cpu.regLo(RDX)]).toEqual([0x10, 0x20]);
    const w = run([0x0f, 0x30], (t) => {
      t.cpu.setReg(RAX, 0x30, 0);
      t.cpu.setReg(RDX, 0x7fff, 0);
      msrTo(0xc0000101)(t);
    }).m;
    expect([w.cpu.segBaseLo(GS), w.cpu.segBaseHi(GS)]).toEqual([0x30, 0x7fff]);
    const s = run([0x0f, 0x30], (t) => {
      t.cpu.setReg(RAX, 0x40, 0);
      t.cpu.setReg(RDX, 1, 0);
      msrTo(0xc0000102)(t);
    }).m;
    expect([s.v.traps.gsUserLo, s.v.traps.gsUserHi]).toEqual([0x40, 1]);
  });
  it("a non-canonical base is #GP", () => {
    const { done } = run([0x0f, 0x30], (t) => {
      t.cpu.setReg(RDX, 0x8000, 0);
      msrTo(0xc0000100)(t);
    });
    expect(done).toBe(false);
  });
  it.each([
    [0xc0000080, 0xd01, 0],
    [0x277, 0x70406, 0x501],
    [0x1b, 0xfee00900 | 0, 0],
    [0x1a0, 0x801801, 0],
    [0xce, 0, 0],
    [0x10a, ARCH_CAPS_LO | 0, 1 << 30],
    [0x345, 0, 0],
    [0xc1, 0, 0],
  ])("rdmsr %#x", (index, lo, hi) => {
    const { m, done } = run([0x0f, 0x32], msrTo(index));
    expect(done).toBe(true);
    expect([m.cpu.regLo(RAX), m.cpu.regLo(RDX)]).toEqual([lo, hi]);
  });
  it("an unknown MSR is #GP, and zero while nobody could handle that", () => {
    expect(
      run([0x0f, 0x32], (t) => {
        t.v.traps.setTrap(13, 0, 0, KCODE + 0x300);
        msrTo(0x1234)(t);
      }).done,
    ).toBe(false);
    expect(run([0x0f, 0x32], msrTo(0x1234)).done).toBe(true);
  });
  it("user mode gets the #GP", () => {
    const m = new TestPv();
    m.poke(1, UCODE, [0x0f, 0x32]);
    m.user(UCODE, USTACK);
    msrTo(0x277)(m);
    expect(emulatePrivop(m.v)).toBe(false);
  });
});

describe("others", () => {
  it("mov dr writes with Xen's reserved bits and reads back", () => {
    const { m } = run([0x0f, 0x23, 0xfb], (t) => t.cpu.setReg(RBX, 0x1, 0));
    expect(m.cpu.drLo(7)).toBe(0x401);
    expect(run([0x0f, 0x23, 0xc3], (t) => t.cpu.setReg(RBX, 0, 0xffff8000 | 0)).m.domain.shutDown).toBe(true);
  });
  it("rdtsc answers when it traps", () => {
    const { m } = run([0x0f, 0x31]);
    expect([m.cpu.regLo(RAX), m.cpu.regLo(RDX)]).toEqual([0x23456789, 1]);
  });
  it("wbinvd is ignored", () => {
    expect(run([0x0f, 0x09]).done).toBe(true);
  });
  it.each([
    ["hlt", [0xf4]],
    ["invlpg", [0x0f, 0x01, 0x38]],
    ["lgdt", [0x0f, 0x01, 0x10]],
    ["swapgs", [0x0f, 0x01, 0xf8]],
    ["lmsw", [0x0f, 0x01, 0xf0]],
  ])("%s is the guest's #GP(0)", (_n, bytes) => {
    const m = new TestPv();
    m.poke(0, KCODE, bytes as number[]);
    m.v.traps.setTrap(13, 0, 0, KCODE + 0x300);
    m.cpu.exit.vector = 13;
    m.cpu.exit.errorCode = 0;
    onException(m.v);
    expect(m.cpu.rip).toBe(KCODE + 0x300);
    expect(m.words(m.cpu.regVa(RSP), 8)[3]).toEqual([KCODE >>> 0, 0xffffffff]);
  });
  it("single step after an emulated instruction is #DB", () => {
    const { m } = run([0xfa], (t) => {
      t.v.traps.setTrap(1, 0, 0, KCODE + 0x300);
      t.cpu.rflags = 0x302;
    });
    expect(m.cpu.rip).toBe(KCODE + 0x300);
    expect(m.cpu.drLo(6) & 0x4000).toBe(0x4000);
    expect(m.words(m.cpu.regVa(RSP), 8)[2]).toEqual([(KCODE + 1) >>> 0, 0xffffffff]);
  });
  it("code that was rewritten is decoded anew", () => {
    const m = new TestPv();
    m.v.traps.iopl = 1;
    m.poke(0, KCODE, [0xfa]);
    expect(emulatePrivop(m.v)).toBe(true);
    m.cpu.rip = KCODE;
    m.poke(0, KCODE, [0xf4]);
    expect(emulatePrivop(m.v)).toBe(false);
    expect(KSTACK).toBeLessThan(0);
  });
});
