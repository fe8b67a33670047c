/**
 * Guest code on frames that are shared copy-on-write: loads go to what an alias frame stands for, a store gives it memory of its own and is
 * done again, and nothing that was found before (translations, decoded code) leads to the old memory afterwards. In every engine mode.
 */
import { describe, expect, it } from "vitest";
import { PhysMem, type Maddr } from "../memory.js";
import { READ, WRITE } from "./api.js";
import type { CpuOptions } from "./cpu.js";
import { Exit } from "./exits.js";
import { RAX, RBX, RCX, RDI, RSI, RSP } from "./insn.js";
import { hex, MODES, TestBox } from "./testing.js";

const ALIASES = 2_000_000;
const CODE = 0x400000;
const DATA = 0x600000;

/** Code and data pages are alias frames, also some of the page tables; data pages begin shared. */
class Box extends TestBox {
  /** Alias frames that got memory of their own. */
  readonly broken: number[] = [];
  /** False: there is no memory. */
  memory = true;
  protected override readonly slice = 997;
  /** Far beyond 4 GiB, where machine addresses have more than 32 bits. */
  private nextAlias = this.mem.frames + 1_900_000;
  constructor(options: CpuOptions) {
    super(options, [], new PhysMem(4 << 20, ALIASES));
    this.mem.breakSharing = (mfn) => {
      if (!this.memory) return false;
      const old = this.mem.ram(mfn);
      const now = this.frame();
      this.mem.u8.copyWithin(now, old * 4096, old * 4096 + 4096);
      this.mem.aliasTable[mfn - this.mem.frames] = now / 4096;
      this.mem.onRemap(old);
      this.broken.push(mfn);
      return true;
    };
    this.map(CODE, this.table());
    for (let i = 0; i < 4; i++) this.share(DATA + i * 4096);
    this.at(CODE, [RSP, DATA + 0x3000], [RBX, DATA]);
  }
  /** An alias of a frame. */
  alias(ram: Maddr): Maddr {
    const a = this.nextAlias++;
    this.mem.aliasTable[a - this.mem.frames] = ram / 4096;
    return a * 4096;
  }
  protected override table(): Maddr {
    return this.alias(this.frame());
  }
  /** Map a shared page at `va`; the frame of RAM behind it. */
  share(va: number): Maddr {
    const ram = this.frame();
    this.map(va, this.alias(ram));
    this.mem.setShared(ram / 4096, true);
    return ram;
  }
  /** The byte of RAM at an address. */
  ram(va: number): number {
    return this.cpu.peek(0, va);
  }
  code(text: string): void {
    this.mem.write(this.ram(CODE), Uint8Array.from(hex(text)));
    this.cpu.rip = CODE;
  }
}

describe.each(MODES)("%s", (_, options) => {
  it("loads from a shared page leave it shared", () => {
    const b = new Box(options);
    b.mem.u32[b.ram(DATA + 8) >>> 2] = 1234;
    b.code("8b4308 cc"); // mov eax, [rbx+8]
    b.finish();
    expect([b.cpu.regLo(RAX), b.broken]).toEqual([1234, []]);
  });

  it("a store gives the page memory of its own; later loads see it, the old memory does not", () => {
    const b = new Box(options);
    const old = b.ram(DATA);
    // mov eax,[rbx]; mov dword [rbx+4],7; mov ecx,[rbx+4]; add [rbx+8],ecx; mov eax,[rbx+8]
    b.mem.u32[(old + 8) >>> 2] = 100;
    b.code("8b03 c7430407000000 8b4b04 014b08 8b4308 cc");
    b.finish();
    expect([b.cpu.regLo(RCX), b.cpu.regLo(RAX), b.broken.length]).toEqual([7, 107, 1]);
    expect([b.mem.u32[(old + 4) >>> 2], b.mem.u32[(old + 8) >>> 2]]).toEqual([0, 100]);
    expect(b.mem.u32[b.ram(DATA + 8) >>> 2]).toBe(107);
  });

  it("hot code that reads a page for long and then writes it sees its own write at once", () => {
    const b = new Box(options);
    // loop 5000 times: eax += [rbx]; at count 100: [rbx] = 3
    // mov ecx,5000; L: add eax,[rbx]; cmp ecx,100; jne +6; mov dword [rbx],3; dec ecx; jnz L
    b.mem.u32[b.ram(DATA) >>> 2] = 1;
    b.code("31c0 b988130000 0303 83f964 7506 c70303000000 ffc9 75ef cc");
    b.finish();
    expect(b.cpu.regLo(RAX)).toBe(4901 + 99 * 3);
    expect(b.broken.length).toBe(1);
  });

  it("a second mapping of the same frame follows", () => {
    const b = new Box(options);
    const ram = b.share(DATA + 0x10000);
    const last = b.mem.limit - 1;
    b.mem.aliasTable[last - b.mem.frames] = ram / 4096;
    b.map(DATA + 0x11000, last * 4096);
    b.map(DATA + 0x10000, last * 4096);
    // mov eax,[rbx+0x10000]; mov eax,[rbx+0x11000]; mov byte [rbx+0x10000],9; mov eax,[rbx+0x11000]
    b.code("8b8300000100 8b8300100100 c6830000010009 8b8300100100 cc");
    b.finish();
    expect([b.cpu.regLo(RAX), b.mem.u8[ram]]).toEqual([9, 0]);
  });

  it("a store across two shared pages writes both or none", () => {
    const b = new Box(options);
    // mov qword [rbx+0xffc], rcx
    b.cpu.setReg(RCX, 0x11223344, 0x55667788);
    b.code("48898bfc0f0000 cc");
    b.finish();
    expect(b.broken.length).toBe(2);
    expect([b.mem.u32[b.ram(DATA + 0xffc) >>> 2], b.mem.u32[b.ram(DATA + 0x1000) >>> 2]]).toEqual([
      0x11223344, 0x55667788,
    ]);
  });

  it("string instructions within one shared page, overlapping, and over several", () => {
    const b = new Box(options);
    for (let i = 0; i < 64; i++) b.mem.u8[b.ram(DATA) + i] = i + 1;
    b.cpu.setRegVa(RSI, DATA);
    b.cpu.setRegVa(RDI, DATA + 1);
    b.cpu.setReg(RCX, 0x2100, 0);
    b.code("f3a4 cc"); // rep movsb: the first byte spreads
    b.finish();
    expect([b.ram(DATA), b.ram(DATA + 63), b.ram(DATA + 0x1000), b.ram(DATA + 0x2100)].map((a) => b.mem.u8[a])).toEqual(
      [1, 1, 1, 1],
    );
    expect(b.broken.length).toBe(3);
    b.cpu.setRegVa(RDI, DATA + 0x3000);
    b.cpu.setReg(RCX, 4096, 0);
    b.cpu.setReg(RAX, 0x5a, 0);
    b.code("f3aa cc"); // rep stosb
    b.finish();
    expect(b.mem.u8[b.ram(DATA + 0x3fff)]).toBe(0x5a);
  });

  it("code in a shared page runs, and a store to it is seen by the very next instructions, not by other users of the page", () => {
    const b = new Box(options);
    const ram = b.ram(CODE);
    // L: mov eax,1 (patched to 2 in the second round); inc ecx; cmp ecx,50; jb L; cmp ecx,51; jae end; mov dword [CODE+3],2; jmp L; end: int3
    b.cpu.setReg(RCX, 0, 0);
    b.cpu.setRegVa(RBX, CODE);
    b.code("b801000000 ffc1 83f932 72f4 83f933 7309 c7430102000000 ebe6 cc");
    b.mem.setShared(ram / 4096, true);
    b.finish();
    expect([b.cpu.regLo(RAX), b.cpu.regLo(RCX), b.broken.length]).toEqual([2, 51, 1]);
    expect(b.mem.u8[ram + 1]).toBe(1);
    // Whoever else uses the page runs what it was.
    b.map(CODE, b.alias(ram));
    b.cpu.flushTlb();
    b.cpu.rip = CODE;
    b.cpu.setReg(RCX, 49, 0);
    b.memory = false;
    b.cpu.setReg(RAX, 0, 0);
    expect(b.cpu.run(2)).toBe(Exit.BUDGET);
    expect(b.cpu.regLo(RAX)).toBe(1);
  });

  it("without memory the store is not done: an exit at the instruction, for the owner of the machine to act upon", () => {
    const b = new Box(options);
    b.memory = false;
    b.code("b805000000 8903 cc");
    expect(b.cpu.run(1000)).toBe(Exit.PAUSE);
    expect([b.cpu.rip, b.mem.u32[b.ram(DATA) >>> 2]]).toEqual([CODE + 5, 0]);
    b.memory = true;
    b.finish();
    expect(b.mem.u32[b.ram(DATA) >>> 2]).toBe(5);
  });

  it("the host side's `translate` to write gives memory of its own, to read does not", () => {
    const b = new Box(options);
    const old = b.ram(DATA);
    expect([b.cpu.translate(DATA, READ), b.broken.length]).toEqual([old, 0]);
    const now = b.cpu.translate(DATA, WRITE);
    expect([now !== old, b.cpu.translate(DATA, READ) === now, b.broken.length]).toEqual([true, true, 1]);
    b.memory = false;
    expect(b.cpu.translate(DATA + 0x1000, WRITE)).toBe(-1);
    expect(b.cpu.exit.vector).toBe(14);
  });

  it("a number that stands for nothing faults, as one beyond all does", () => {
    const b = new Box(options);
    for (const mfn of [b.mem.frames + 5, b.mem.limit]) {
      b.map(DATA + 0x20000, mfn * 4096);
      b.cpu.flushTlb();
      b.code("8b8300000200 cc");
      expect(b.cpu.run(100)).toBe(Exit.EXCEPTION);
      expect([b.cpu.exit.vector, b.cpu.exit.errorCode & 8]).toEqual([14, 8]);
    }
  });
});
