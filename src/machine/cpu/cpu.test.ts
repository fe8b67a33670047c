/**
 * The CPU as a whole, one rule a test, in every engine mode: what the rest of the machine relies on and single instructions do not show.
 * (What instructions mean is compared with the host CPU by test/oracle.)
 */
import { describe, expect, it } from "vitest";
import { DR } from "../layout.js";
import { READ, WRITE } from "./api.js";
import type { CpuOptions } from "./cpu.js";
import { Exit } from "./exits.js";
import { CF, TF, ZF } from "./flags.js";
import { RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP } from "./insn.js";
import { hex, imm32, MODES, P, RW, STOP, TestBox, US, USER } from "./testing.js";

const ACCESSED = 0x20;
const DIRTY = 0x40;
const NX = 0x80000000;

const CODE = 0x400000;
const DATA = 0x600000;
const STACK = 0x800000;

const PAGES = [CODE, CODE + 4096, ...[0, 1, 2, 3].map((i) => DATA + i * 4096), STACK];

/** Two pages of code (writable), four of data, one of stack. */
class Box extends TestBox {
  protected override readonly slice = 97;
  constructor(options: CpuOptions) {
    super(options, PAGES);
    this.cpu.setRegVa(RSP, STACK + 0x800);
  }
  read32(va: number): number {
    let v = 0;
    for (let i = 3; i >= 0; i--) v = (v << 8) | this.mem.r8(this.maddr(va + i));
    return v >>> 0;
  }
  code(...parts: readonly (readonly number[])[]): void {
    this.write(CODE, parts.flat());
    this.cpu.rip = CODE;
  }
}

describe.each(MODES)("the CPU, %s", (name, options) => {
  /** The loop was hot: what is tested was tested in translated code too. */
  const wasTranslated = (box: Box): void => {
    if (name !== "interpreter") expect(box.cpu.counters.regions).toBeGreaterThan(0);
  };

  it("faults precisely in the middle of a loop, and goes on from there", () => {
    const box = new Box(options);
    const { cpu } = box;
    const end = DATA + 4 * 4096;
    box.code(
      hex("4801c2"), //      loop: add rdx, rax      carries out in the end
      hex("4811d3"), //            adc rbx, rdx
      hex("488907"), //            mov [rdi], rax    at CODE + 6
      hex("4883c708"), //          add rdi, 8
      hex("48ffc0"), //            inc rax
      hex("ffc9"), //              dec ecx
      hex("75ec"), //              jnz loop
      [STOP],
    );
    cpu.setRegVa(RAX, -700);
    cpu.setRegVa(RCX, 5000);
    cpu.setRegVa(RDI, end - 1000 * 8);
    expect(box.pageFault()).toEqual({ error: 6, cr2: end, rip: CODE + 6 });
    expect(cpu.regVa(RAX)).toBe(300);
    expect(cpu.regVa(RCX)).toBe(4000);
    expect(cpu.regVa(RDI)).toBe(end);
    expect(box.read32(end - 8)).toBe(299);
    // What `adc` left, not what `dec` left a round before: the sum of −700 … 300 is −200200.
    expect(cpu.regVa(RDX)).toBe(-200200);
    expect(cpu.rflags & ZF).toBe(0);
    for (let i = 0; i < 8; i++) box.map(end + i * 4096, box.frame());
    box.finish();
    expect(cpu.regVa(RAX)).toBe(4300);
    expect(box.read32(end + 3999 * 8)).toBe(4299);
    wasTranslated(box);
  });

  it("keeps the flags of the instruction before the fault", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(
      hex("4829c8"), //      loop: sub rax, rcx      borrows
      hex("0fb607"), //            movzx eax, byte [rdi]
      hex("48ffc7"), //            inc rdi
      hex("ffca"), //              dec edx
      hex("75f3"), //              jnz loop
      [STOP],
    );
    cpu.setRegVa(RDX, 1 << 20);
    cpu.setRegVa(RCX, 1);
    cpu.setRegVa(RDI, DATA);
    expect(box.pageFault()).toEqual({ error: 4, cr2: DATA + 4 * 4096, rip: CODE + 3 });
    // 0 − 1, the memory being zero.
    expect(cpu.rflags & 0x8d5).toBe(CF | 0x80 | 0x10 | 4);
    wasTranslated(box);
  });

  it("sees code that changes its own block", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(
      hex("880f"), //         loop: mov [rdi], cl
      hex("90"),
      hex("90"),
      hex("b800000000"), //         mov eax, imm32    its first byte at CODE + 5
      hex("01c3"), //               add ebx, eax
      hex("ffc9"), //               dec ecx
      hex("75f1"), //               jnz loop
      [STOP],
    );
    // Elsewhere first, until the loop is hot.
    for (const to of [DATA, CODE + 5]) {
      cpu.rip = CODE;
      cpu.setRegVa(RDI, to);
      cpu.setRegVa(RCX, 60);
      box.finish();
    }
    expect(cpu.regVa(RBX)).toBe((60 * 61) / 2);
    wasTranslated(box);
  });

  it("says how long a software interrupt's instruction is", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(hex("cd21"), hex("90"));
    for (let i = 0; i < 20; i++) {
      cpu.exit.length = 0;
      cpu.rip = CODE;
      expect(cpu.run(100)).toBe(Exit.INT_N);
      expect([cpu.exit.vector, cpu.exit.length, cpu.rip]).toEqual([0x21, 2, CODE + 2]);
    }
    wasTranslated(box);
  });

  it("sees code that changes another block", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(
      hex("890f"), //         loop: mov [rdi], ecx
      hex("e8f9000000"), //         call CODE + 0x100
      hex("01c3"), //               add ebx, eax
      hex("ffc9"), //               dec ecx
      hex("75f3"), //               jnz loop
      [STOP],
    );
    box.write(CODE + 0x100, [...hex("b800000000"), 0xc3]); // mov eax, imm32; ret
    cpu.setRegVa(RDI, CODE + 0x101);
    cpu.setRegVa(RCX, 60);
    box.finish();
    expect(cpu.regVa(RBX)).toBe((60 * 61) / 2);
    wasTranslated(box);
  });

  it("sees a change of either part of an instruction that crosses pages", () => {
    const box = new Box(options);
    const { cpu } = box;
    const f = CODE + 4096 - 3; // the immediate's bytes 0 and 1 are in the first page, 2 and 3 in the second
    box.write(f, [...hex("b800000000"), 0xc3]);
    box.code(
      hex("880f"), //         loop: mov [rdi], cl
      hex("880e"), //               mov [rsi], cl
      hex("e8f70f0000"), //         call f
      hex("01c3"), //               add ebx, eax
      hex("ffc9"), //               dec ecx
      hex("75f1"), //               jnz loop
      [STOP],
    );
    box.write(CODE + 5, imm32(f - (CODE + 9)));
    cpu.setRegVa(RDI, f + 1);
    cpu.setRegVa(RSI, f + 3);
    cpu.setRegVa(RCX, 60);
    box.finish();
    expect(cpu.regVa(RBX)).toBe(((60 * 61) / 2) * 0x10001);
    wasTranslated(box);
  });

  it("sees code that a repeated string instruction or an x87 store changes", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(
      hex("89c8"), //         loop: mov eax, ecx
      hex("4889f7"), //             mov rdi, rsi
      hex("51"), //                 push rcx
      hex("b901000000"), //         mov ecx, 1
      hex("f3ab"), //               rep stosd
      hex("b800000000"), //         mov eax, imm32    at CODE + 14
      hex("59"), //                 pop rcx
      hex("01c3"), //               add ebx, eax
      hex("890c2500006000"), //     mov [DATA], ecx
      hex("db042500006000"), //     fild dword [DATA]
      hex("db5d00"), //             fistp dword [rbp]
      hex("b800000000"), //         mov eax, imm32    at CODE + 39
      hex("01c2"), //               add edx, eax
      hex("ffc9"), //               dec ecx
      hex("75cf"), //               jnz loop
      [STOP],
    );
    for (const [si, bp] of [
      [DATA + 8, DATA + 16],
      [CODE + 14, DATA + 16],
      [DATA + 8, CODE + 39],
    ] as const) {
      cpu.rip = CODE;
      cpu.setRegVa(RSI, si);
      cpu.setRegVa(RBP, bp);
      cpu.setRegVa(RCX, 60);
      box.finish();
      // What is in the code now is what comes from it in the following rounds.
      box.write(CODE + 14, imm32(0));
    }
    expect(cpu.regVa(RBX)).toBe((60 * 61) / 2);
    expect(cpu.regVa(RDX)).toBe((60 * 61) / 2);
    wasTranslated(box);
  });

  it("drops code that the host writes", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(hex("b801000000"), hex("ffc9"), hex("75f7"), [STOP]); // loop: mov eax, 1; dec ecx; jnz loop
    cpu.setRegVa(RCX, 100);
    box.finish();
    expect(cpu.regVa(RAX)).toBe(1);
    box.mem.w8(box.maddr(CODE + 1), 7);
    cpu.setRegVa(RCX, 100);
    cpu.rip = CODE;
    box.finish();
    expect(cpu.regVa(RAX)).toBe(7);
    wasTranslated(box);
  });

  it("reads and writes across pages", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(
      hex("488907"), //       loop: mov [rdi], rax
      hex("488b1f"), //             mov rbx, [rdi]
      hex("0f110e"), //             movups [rsi], xmm1    xmm1 is zero
      hex("0f1016"), //             movups xmm2, [rsi]
      hex("830301"), //             add dword [rbx…]      replaced below
      [STOP],
    );
    box.write(CODE + 12, hex("48830701")); //          add qword [rdi], 1
    box.write(CODE + 16, hex("ffc9 75ec")); //         dec ecx; jnz loop
    box.write(CODE + 20, [STOP]);
    cpu.setReg(RAX, 0x04030201, 0x08070605);
    cpu.setRegVa(RCX, 50);
    cpu.setRegVa(RDI, DATA + 4096 - 3);
    cpu.setRegVa(RSI, DATA + 2 * 4096 - 9);
    for (let i = 0; i < 16; i++) box.write(DATA + 2 * 4096 - 9 + i, [0xee]);
    box.finish();
    expect(cpu.regLo(RBX)).toBe(0x04030201);
    expect(cpu.regHi(RBX)).toBe(0x08070605);
    expect(box.read32(DATA + 4096 - 3)).toBe(0x04030202);
    expect(box.read32(DATA + 4096 + 1)).toBe(0x08070605);
    expect(box.read32(DATA + 2 * 4096 - 2)).toBe(0);
    expect(box.read32(DATA + 2 * 4096 + 3)).toBe(0);
    wasTranslated(box);
  });

  it("writes neither part when the second page refuses", () => {
    const box = new Box(options);
    const { cpu } = box;
    const end = DATA + 4 * 4096;
    box.code(hex("488907"), [STOP]); // mov [rdi], rax
    cpu.setReg(RAX, 0xffffffff, 0xffffffff);
    cpu.setRegVa(RDI, end - 3);
    expect(box.pageFault()).toEqual({ error: 6, cr2: end, rip: CODE });
    expect(box.read32(end - 4)).toBe(0);
  });

  it("sets accessed on a read, and dirty on a write only", () => {
    const box = new Box(options);
    const { cpu, mem } = box;
    box.code(hex("8b07"), hex("8906"), [STOP]); // mov eax, [rdi]; mov [rsi], eax
    cpu.setRegVa(RDI, DATA);
    cpu.setRegVa(RSI, DATA + 4096);
    const state = (va: number): number => mem.r32(box.pte(va)) & (ACCESSED | DIRTY);
    expect(state(DATA)).toBe(0);
    box.finish();
    expect(state(DATA)).toBe(ACCESSED);
    expect(state(DATA + 4096)).toBe(ACCESSED | DIRTY);
    expect(state(DATA + 2 * 4096)).toBe(0);
    expect(state(CODE)).toBe(ACCESSED);
    // A page that is only read so far becomes dirty with its first write.
    cpu.setRegVa(RSI, DATA);
    cpu.rip = CODE;
    box.finish();
    expect(state(DATA)).toBe(ACCESSED | DIRTY);
  });

  it("refuses writes to read-only pages", () => {
    const box = new Box(options);
    box.map(DATA, box.maddr(DATA), P | US);
    box.code(hex("8b07"), hex("8907"), [STOP]); // mov eax, [rdi]; mov [rdi], eax
    box.cpu.setRegVa(RDI, DATA + 0x123);
    expect(box.pageFault()).toEqual({ error: 7, cr2: DATA + 0x123, rip: CODE + 2 });
  });

  it("refuses user accesses to supervisor pages", () => {
    const box = new Box(options);
    box.map(DATA, box.maddr(DATA), P | RW);
    box.code(hex("8b07"), [STOP]);
    box.cpu.setRegVa(RDI, DATA + 8);
    expect(box.pageFault()).toEqual({ error: 5, cr2: DATA + 8, rip: CODE });
  });

  it("refuses to execute from pages with NX, and from none", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.map(DATA, box.maddr(DATA), USER, NX);
    box.code(hex("ffe0")); // jmp rax
    cpu.setRegVa(RAX, DATA + 0x10);
    expect(box.pageFault()).toEqual({ error: 0x15, cr2: DATA + 0x10, rip: DATA + 0x10 });
    cpu.rip = CODE;
    cpu.setRegVa(RAX, 0x10000);
    expect(box.pageFault()).toEqual({ error: 0x14, cr2: 0x10000, rip: 0x10000 });
  });

  it("faults at the second page of an instruction with that page's address", () => {
    const box = new Box(options);
    box.unmap(CODE + 4096);
    box.write(CODE + 4095, [0xb8]);
    box.cpu.rip = CODE + 4095;
    expect(box.pageFault()).toEqual({ error: 0x14, cr2: CODE + 4096, rip: CODE + 4095 });
    box.map(CODE + 4096, box.frame());
    box.write(CODE + 4096, [...imm32(1234), STOP]);
    box.finish();
    expect(box.cpu.regVa(RAX)).toBe(1234);
  });

  it.each(["invlpg", "flushTlb"] as const)("sees a changed mapping of data after %s", (how) => {
    const box = new Box(options);
    const { cpu } = box;
    const forget = (): void => (how === "invlpg" ? cpu.invlpg(DATA) : cpu.flushTlb());
    box.code(hex("8b07"), hex("8907"), hex("ffc9"), hex("75f8"), [STOP]); // loop: mov eax, [rdi]; mov [rdi], eax; dec ecx; jnz loop
    const go = (): void => {
      cpu.setRegVa(RDI, DATA);
      cpu.setRegVa(RCX, 50);
      cpu.rip = CODE;
    };
    box.write(DATA, imm32(1));
    go();
    box.finish();
    const other = box.frame();
    box.mem.w32(other, 2);
    box.map(DATA, other);
    forget();
    go();
    box.finish();
    expect(cpu.regVa(RAX)).toBe(2);
    // Fewer rights.
    box.map(DATA, other, P | US);
    forget();
    go();
    expect(box.pageFault()).toEqual({ error: 7, cr2: DATA, rip: CODE + 2 });
    // Gone.
    box.unmap(DATA);
    forget();
    go();
    expect(box.pageFault()).toEqual({ error: 4, cr2: DATA, rip: CODE });
    wasTranslated(box);
  });

  it.each(["invlpg", "flushTlb"] as const)("runs the code that is mapped now after %s", (how) => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(hex("b801000000"), hex("ffc9"), hex("75f7"), [STOP]); // loop: mov eax, 1; dec ecx; jnz loop
    cpu.setRegVa(RCX, 100);
    box.finish();
    const other = box.frame();
    box.mem.copyFrame(other / 4096, box.maddr(CODE) / 4096);
    box.mem.w8(other + 1, 9);
    box.map(CODE, other);
    if (how === "invlpg") cpu.invlpg(CODE);
    else cpu.flushTlb();
    cpu.rip = CODE;
    cpu.setRegVa(RCX, 100);
    box.finish();
    expect(cpu.regVa(RAX)).toBe(9);
    wasTranslated(box);
  });

  it("keeps the two address spaces apart", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(hex("8b07"), [STOP]);
    box.write(DATA, imm32(1));
    // The same code and other data.
    const code = box.maddr(CODE);
    box.tables(1);
    box.map(CODE, code);
    box.map(DATA, box.frame());
    box.write(DATA, imm32(2));
    for (const [space, want] of [
      [0, 1],
      [1, 2],
      [0, 1],
      [1, 2],
    ] as const) {
      cpu.setMode({ bits: 64, cpl: 3, space });
      cpu.setRegVa(RDI, DATA);
      cpu.rip = CODE;
      box.finish();
      expect(cpu.regVa(RAX)).toBe(want);
    }
  });

  it("traps after every instruction while TF is set", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(hex("ffc0"), hex("ffc9"), hex("75fa"), [STOP]); // loop: inc eax; dec ecx; jnz loop
    cpu.setRegVa(RCX, 100);
    // Warm, then step through two rounds.
    box.finish();
    cpu.rip = CODE;
    cpu.setRegVa(RAX, 0);
    cpu.setRegVa(RCX, 2);
    cpu.rflags = cpu.rflags | TF;
    const seen: number[] = [];
    for (let i = 0; i < 6; i++) {
      expect(cpu.run(1000)).toBe(Exit.EXCEPTION);
      expect(cpu.exit.vector).toBe(1);
      expect((box.mem.u32[(DR + 48) >>> 2] as number) & 0x4000).toBe(0x4000);
      seen.push(cpu.rip - CODE);
    }
    expect(seen).toEqual([2, 4, 0, 2, 4, 6]);
    expect(cpu.regVa(RAX)).toBe(2);
    cpu.rflags = cpu.rflags & ~TF;
    box.finish();
    wasTranslated(box);
  });

  it("traps after the instruction that follows a popf which sets TF", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(
      hex("9c"), //                 pushf
      hex("810c2400010000"), //     or dword [rsp], 0x100
      hex("9d"), //                 popf
      hex("ffc0"), //               inc eax           at CODE + 9
      hex("ffc0"),
      [STOP],
    );
    expect(box.go()).toEqual({ reason: Exit.EXCEPTION, vector: 1 });
    expect(cpu.rip).toBe(CODE + 11);
    expect(cpu.regVa(RAX)).toBe(1);
  });

  it("steps over a repeated string instruction one round at a time or whole, but never past it", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(hex("f3aa"), hex("ffc0"), [STOP]); // rep stosb; inc eax
    cpu.setRegVa(RDI, DATA);
    cpu.setRegVa(RCX, 3);
    cpu.rflags = 0x202 | TF;
    let traps = 0;
    do {
      expect(cpu.run(1000)).toBe(Exit.EXCEPTION);
      expect(cpu.exit.vector).toBe(1);
      traps++;
    } while (cpu.rip === CODE && traps < 10);
    expect(cpu.rip).toBe(CODE + 2);
    expect(cpu.regVa(RCX)).toBe(0);
    expect(cpu.regVa(RAX)).toBe(0);
  });

  it("raises #GP for non-canonical addresses, and #SS where the stack segment is used", () => {
    const box = new Box(options);
    const { cpu } = box;
    const fault = (text: string, registers: readonly (readonly [number, number, number])[]): string => {
      box.code(hex(text), [STOP]);
      cpu.setRegVa(RSP, STACK + 0x800);
      cpu.setRegVa(RBP, STACK);
      for (const [r, lo, hi] of registers) cpu.setReg(r, lo, hi);
      expect(box.go().reason).toBe(Exit.EXCEPTION);
      expect(cpu.rip).toBe(CODE);
      return `${cpu.exit.vector}:${cpu.exit.errorCode}`;
    };
    const bad = [0, 0x9000] as const;
    expect(fault("488b03", [[RBX, ...bad]])).toBe("13:0"); // mov rax, [rbx]
    expect(fault("488903", [[RBX, ...bad]])).toBe("13:0"); // mov [rbx], rax
    expect(fault("488b4500", [[RBP, ...bad]])).toBe("12:0"); // mov rax, [rbp]
    expect(fault("50", [[RSP, ...bad]])).toBe("12:0"); // push rax
    expect(fault("c3", [[RSP, ...bad]])).toBe("12:0"); // ret
    expect(fault("ff33", [[RBX, ...bad]])).toBe("13:0"); // push [rbx]
    expect(fault("ff33", [[RBX, DATA, 0], [RSP, ...bad]])).toBe("12:0"); // prettier-ignore
    expect(fault("8f03", [[RBX, ...bad]])).toBe("13:0"); // pop [rbx]
    // An operand whose end is not canonical any more.
    expect(fault("488b03", [[RBX, 0xfffffffc, 0x7fff]])).toBe("13:0");
  });

  it("raises #GP at a branch to a non-canonical address", () => {
    const box = new Box(options);
    const { cpu } = box;
    for (const text of ["ffd0", "50c3"]) {
      box.code(hex(text)); // call rax; push rax, ret
      cpu.setReg(RAX, 0, 0x8000);
      expect(box.go()).toEqual({ reason: Exit.EXCEPTION, vector: 13 });
      expect(cpu.rip).toBe(CODE + hex(text).length - (text === "ffd0" ? 2 : 1));
    }
  });

  it("stops rep movs at a fault with the registers of the round, and goes on with it", () => {
    const box = new Box(options);
    const { cpu } = box;
    const source = DATA;
    const end = DATA + 4 * 4096;
    const to = end - 40 * 8 - 4; // element 40 crosses into the page that is not there
    for (let i = 0; i < 256; i++) box.write(source + i * 8, [i, 0, 0, 0, 0, 0, 0, i ^ 0x55]);
    box.code(hex("f348a5"), [STOP]); // rep movsq
    cpu.setRegVa(RSI, source);
    cpu.setRegVa(RDI, to);
    cpu.setRegVa(RCX, 256);
    expect(box.pageFault()).toEqual({ error: 6, cr2: end, rip: CODE });
    expect(cpu.regVa(RCX)).toBe(256 - 40);
    expect(cpu.regVa(RSI)).toBe(source + 40 * 8);
    expect(cpu.regVa(RDI)).toBe(to + 40 * 8);
    expect(box.read32(end - 4)).toBe(0); // nothing of element 40
    box.map(end, box.frame());
    box.finish();
    expect(cpu.regVa(RCX)).toBe(0);
    for (const i of [0, 39, 40, 41, 255]) expect(box.read32(to + i * 8 + 4) >>> 24).toBe(i ^ 0x55);
  });

  it("runs as many instructions as it is asked to", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(hex("48ffc0"), hex("48ffc3"), hex("4889d9"), hex("ebf5")); // loop: inc rax; inc rbx; mov rcx, rbx; jmp loop
    for (const n of [1, 2, 3, 4, 5, 7, 100, 1001, 12345]) {
      const before = cpu.retired;
      const rounds = cpu.regVa(RAX);
      expect(cpu.run(n)).toBe(Exit.BUDGET);
      const done = cpu.retired - before;
      if (name === "interpreter") expect(done).toBe(n);
      // A region looks at the budget where it goes back: it may do a round more.
      expect(done).toBeGreaterThanOrEqual(n - 4);
      expect(done).toBeLessThan(n + 8);
      expect(cpu.regVa(RAX) - rounds).toBeGreaterThanOrEqual(Math.floor(done / 4));
    }
    // No instruction is lost or done twice.
    const at = cpu.rip - CODE;
    expect(cpu.retired).toBe(cpu.regVa(RAX) * 4 - (at === 0 ? 0 : at === 3 ? 3 : at === 6 ? 2 : 1));
    expect(cpu.regVa(RCX)).toBe(at === 9 || at === 0 ? cpu.regVa(RBX) : cpu.regVa(RBX) - (at === 6 ? 1 : 0));
    wasTranslated(box);
  });

  it("translates addresses for the host as the guest sees them", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.map(DATA, box.maddr(DATA), P | US);
    expect(cpu.translate(DATA + 5, READ)).toBe(box.maddr(DATA + 5));
    expect(cpu.translate(DATA + 5, WRITE)).toBe(-1);
    expect(cpu.exit.errorCode).toBe(7);
    expect(cpu.exit.cr2Lo).toBe(DATA + 5);
    expect(cpu.translate(0x10000, READ)).toBe(-1);
    expect(cpu.exit.errorCode).toBe(4);
  });

  it("has the state of another context after load, and the first one's after it is loaded again", () => {
    const box = new Box(options);
    const { cpu } = box;
    box.code(hex("ffc0"), hex("ffc9"), hex("75fa"), [STOP]);
    const a = cpu.newContext();
    const b = cpu.newContext();
    cpu.setRegVa(RCX, 1000);
    cpu.run(100);
    cpu.save(a);
    const done = cpu.regVa(RAX);
    cpu.setRegVa(RAX, 0);
    cpu.setRegVa(RCX, 10);
    cpu.rip = CODE;
    cpu.save(b);
    cpu.load(b);
    box.finish();
    expect(cpu.regVa(RAX)).toBe(10);
    cpu.load(a);
    expect(cpu.regVa(RAX)).toBe(done);
    box.finish();
    expect(cpu.regVa(RAX)).toBe(1000);
  });
});
