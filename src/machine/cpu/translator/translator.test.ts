/**
 * The translator against itself: whole regions, with small budgets, against one instruction at a time (where no flow of flags
 * or control exists that could be wrong). What single instructions mean is tested with the semantics.
 */
import { describe, expect, it } from "vitest";
import { Machine, type Built } from "../../../../bench/translator-kernels/harness.js";
import { BUDGET, EXIT_CR2, EXIT_VECTOR, MODE, MODE_BITS_32, MODE_FLAT, MODE_SS32, XMM } from "../../layout.js";
import { opTable } from "../sem/index.js";
import type { TranslateOptions } from "./index.js";

const CODE = 0x6000000;
const DATA = 0x6100000;
const STACK = 0x6200000;
const STOP = 0x7000;

/** A small assembler: bytes and labels. */
class Asm {
  readonly bytes: number[] = [];
  private readonly labels = new Map<string, number>();
  private readonly fixes: { at: number; label: string }[] = [];
  label(name: string): this {
    this.labels.set(name, this.bytes.length);
    return this;
  }
  b(...bytes: number[]): this {
    this.bytes.push(...bytes.map((x) => x & 0xff));
    return this;
  }
  hex(s: string): this {
    return this.b(...(s.replace(/ /g, "").match(/../g) ?? []).map((x) => parseInt(x, 16)));
  }
  i32(v: number): this {
    return this.b(v, v >> 8, v >> 16, v >> 24);
  }
  private rel(label: string): this {
    this.fixes.push({ at: this.bytes.length, label });
    return this.i32(0);
  }
  jcc(cc: number, label: string): this {
    return this.b(0x0f, 0x80 + cc).rel(label);
  }
  jmp(label: string): this {
    return this.b(0xe9).rel(label);
  }
  call(label: string): this {
    return this.b(0xe8).rel(label);
  }
  ret(): this {
    return this.b(0xc3);
  }
  done(): Uint8Array {
    for (const f of this.fixes) {
      const rel = (this.labels.get(f.label) ?? 0) - (f.at + 4);
      for (let i = 0; i < 4; i++) this.bytes[f.at + i] = (rel >> (8 * i)) & 0xff;
    }
    return new Uint8Array(this.bytes);
  }
  at(label: string): number {
    return CODE + (this.labels.get(label) ?? 0);
  }
}

function machine(code: Uint8Array, opts: TranslateOptions = {}, bits = 64): Machine {
  const m = new Machine(opTable(), opts, 24 << 20);
  if (bits === 32) {
    m.mode = MODE_BITS_32 | MODE_FLAT | MODE_SS32;
    m.view.setInt32(MODE, m.mode, true);
  }
  m.mem.u8.set(code, CODE);
  for (let i = 0; i < 16; i++) m.setReg(i, 0n);
  m.setReg(4, BigInt(STACK - 8));
  m.view.setBigInt64(STACK - 8, BigInt(STOP), true);
  m.flags = 0;
  m.rip = CODE;
  return m;
}
/** All blocks count as seen. */
function region(m: Machine, va: number, opts: TranslateOptions = {}): Built {
  const seen = { ...m.source, count: () => 1 };
  Object.assign(m.source, seen);
  const b = m.build(va, opts);
  if (!b) throw new Error("not translated");
  return b;
}
const RAX = 0,
  RCX = 1,
  RDX = 2,
  RBX = 3,
  RSI = 6;

describe("regions", () => {
  it("run a loop to its end in one call", () => {
    // mov ecx,1000; L: add rax,rcx; dec rcx; jnz L; ret
    const a = new Asm().hex("b9 e8030000").label("L").hex("4801c8 48ffc9").jcc(5, "L").ret();
    const m = machine(a.done());
    const r = region(m, CODE);
    m.budget = 100000;
    expect(r.run(0)).toBe(0);
    expect(m.rip).toBe(STOP);
    expect(m.reg(RAX)).toBe(500500n);
    expect(m.reg(RCX)).toBe(0n);
    expect(m.budget).toBe(100000 - 3002);
    expect(m.flags & 0x40).toBe(0x40);
  });

  it("leave at a loop's head when the budget is spent, and can be entered there again", () => {
    const a = new Asm().hex("b9 e8030000").label("L").hex("4801c8 48ffc9").jcc(5, "L").ret();
    const m = machine(a.done());
    const r = region(m, CODE);
    const head = r.region.entries.indexOf(a.at("L"));
    expect(head).toBeGreaterThan(0);
    m.budget = 100;
    expect(r.run(0)).toBe(0);
    expect(m.rip).toBe(a.at("L"));
    let spent = 100 - m.budget;
    while (m.rip !== STOP) {
      m.budget = 100;
      r.run(head);
      spent += 100 - m.budget;
    }
    expect(spent).toBe(3002);
    expect(m.reg(RAX)).toBe(500500n);
  });

  it("follow calls and come back through the return stack", () => {
    // fib(rdi) → rax, recursive
    const a = new Asm()
      .label("fib")
      .hex("4883ff02")
      .jcc(2, "base")
      .hex("57 48ffcf")
      .call("fib")
      .hex("5f 50 4883ef02")
      .call("fib")
      .hex("59 4801c8")
      .ret()
      .label("base")
      .hex("4889f8")
      .ret();
    const m = machine(a.done());
    m.setReg(7, 15n);
    const r = region(m, CODE);
    m.budget = 1 << 30;
    expect(r.run(0)).toBe(0);
    expect(m.rip).toBe(STOP);
    expect(m.reg(RAX)).toBe(610n);
    expect(m.reg(4)).toBe(BigInt(STACK));
  });

  it("report a fault at its instruction, with the registers and flags of those before it", () => {
    // add eax,ebx ; mov rcx,[rsi] ; inc rdx
    const a = new Asm().hex("01d8 488b0e 48ffc2").ret();
    const m = machine(a.done());
    m.setReg(RAX, 0xffffffffn);
    m.setReg(RBX, 1n);
    m.setReg(RSI, BigInt(DATA + 8));
    m.absent.add(DATA >>> 12);
    const r = region(m, CODE);
    m.budget = 100;
    expect(r.run(0)).toBe(2);
    expect(m.view.getInt32(EXIT_VECTOR, true)).toBe(14);
    expect(Number(m.view.getBigInt64(EXIT_CR2, true))).toBe(DATA + 8);
    expect(m.rip).toBe(CODE + 2);
    expect(m.reg(RAX)).toBe(0n);
    expect(m.reg(RDX)).toBe(0n);
    expect(m.flags).toBe(0x1 | 0x4 | 0x10 | 0x40);
    expect(m.view.getInt32(BUDGET, true)).toBe(99);
  });

  it("go back to the dispatcher at a store to a page with code", () => {
    const a = new Asm().hex("48ffc0 48890e 48ffc0").ret();
    const m = machine(a.done());
    m.setReg(RSI, BigInt(DATA));
    m.codePages.add(DATA >>> 12);
    const r = region(m, CODE);
    m.budget = 100;
    expect(r.run(0)).toBe(0);
    expect(m.rip).toBe(CODE + 3);
    expect(m.reg(RAX)).toBe(1n);
  });

  it("are not made where single steps or breakpoints are wanted, nor of 16-bit code", () => {
    const m = machine(new Asm().ret().done());
    for (const mode of [0x80 | 2 | 0x40, 0x100 | 2 | 0x40, 0x40]) {
      Object.assign(m, { mode });
      expect(m.build(CODE, {})).toBeNull();
    }
  });

  it("name the code they were made from", () => {
    const a = new Asm();
    while (a.bytes.length < 4094) a.b(0x90);
    a.hex("48ffc0").ret(); // crosses the page
    const m = machine(a.done());
    const r = region(m, CODE, { maxInstructions: 5000, maxSize: Infinity });
    expect(r.region.ranges).toEqual([
      { va: CODE, maddr: CODE, len: 4096 },
      { va: CODE + 4096, maddr: CODE + 4096, len: 2 },
    ]);
    expect(r.region.instructions).toBe(4096);
  }, 60000);

  it("end where V8 would no longer keep their registers in registers: accesses to memory count for three", () => {
    const made = (instruction: string): number => {
      const a = new Asm();
      for (let i = 0; i < 2000; i++) a.hex(instruction);
      return region(machine(a.ret().done()), CODE).region.instructions;
    };
    const register = made("4883c001"); // add rax, 1
    expect(register).toBeGreaterThan(1000);
    expect(register).toBeLessThan(1300);
    expect(made("488b4608")).toBe(Math.ceil(register / 3)); // mov rax, [rsi+8]
  });

  /** test edi,edi; jz B; A: add rax,1; B: add rax,2; dec rcx: a loop that is entered at A or at B, up to where it goes on. */
  const twoEntries = (): Asm =>
    new Asm().hex("85ff").jcc(4, "B").label("A").hex("4883c001").label("B").hex("4883c002 48ffc9");

  it("handle loops with two entries through the dispatch", () => {
    // jz out; test cl,1; jnz A; jmp B; out: ret
    const a = twoEntries().jcc(4, "out").hex("f6c101").jcc(5, "A").jmp("B").label("out").ret();
    for (const edi of [0n, 1n]) {
      const m = machine(a.done());
      m.setReg(7, edi);
      m.setReg(RCX, 10n);
      const r = region(m, CODE);
      m.budget = 1000;
      expect(r.run(0)).toBe(0);
      expect(m.rip).toBe(STOP);
      // B ten times, A on odd counters, and once more when entered there.
      expect(m.reg(RAX)).toBe(20n + 5n + edi);
    }
  });

  it("can be entered again where the budget ran out in a loop with two entries", () => {
    const a = twoEntries().jcc(5, "A").ret();
    for (const edi of [0n, 1n]) {
      const m = machine(a.done());
      m.setReg(7, edi);
      m.setReg(RCX, 10n);
      const r = region(m, CODE);
      let runs = 0;
      for (; m.rip !== STOP; runs++) {
        const entry = r.region.entries.indexOf(m.rip);
        expect(entry).toBeGreaterThanOrEqual(0);
        m.budget = 1;
        r.run(entry);
      }
      expect(runs).toBe(10);
      expect(m.reg(RAX)).toBe(29n + edi);
    }
  });
});

/** A program of random instructions, branches and short loops, calls and memory accesses. */
function randomProgram(seed: number, faults: boolean, bits: 32 | 64): Asm {
  let s = (seed * 2654435761) >>> 0 || 1;
  const rnd = (n: number): number => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    s >>>= 0;
    return s % n;
  };
  const a = new Asm();
  // rsi: data; rsp; loop counters: r12 and r13, or ebp; the others free.
  const free = bits === 64 ? [0, 1, 2, 3, 7, 8, 9, 10, 11] : [0, 1, 2, 3, 7];
  const reg = (): number => free[rnd(free.length)] as number;
  const rex = (w: number, r: number, b: number): number[] =>
    bits === 64 ? [0x40 | (w << 3) | ((r >> 3) << 2) | (b >> 3)] : [];
  const modrm = (r: number, b: number): number => 0xc0 | ((r & 7) << 3) | (b & 7);
  const sized = (op: number, r: number, b: number, mem: number | undefined): void => {
    const size = (bits === 64 ? [1, 2, 4, 4, 8, 8] : [1, 2, 4, 4, 4, 4])[rnd(6)] as number;
    if (size === 2) a.b(0x66);
    a.b(...rex(size === 8 ? 1 : 0, r, mem === undefined ? b : 6));
    a.b(size === 1 ? op & ~1 : op | 1);
    if (mem === undefined) a.b(modrm(r, b));
    else a.b(0x86 | ((r & 7) << 3)).i32(mem);
  };
  const mem = (): number | undefined => {
    if (rnd(4) !== 0) return undefined;
    // Mostly the first page; now and then across its end or on a page that may be absent.
    const where = rnd(faults ? 12 : 8);
    return where < 7 ? rnd(512) * 8 : where === 7 ? 4096 - 1 - rnd(7) : 8192 + rnd(500) * 8;
  };
  const one = (): void => {
    const r = reg();
    const b = reg();
    switch (rnd(18)) {
      case 0:
      case 1:
      case 2:
        sized([0x01, 0x29, 0x31, 0x21, 0x09, 0x39][rnd(6)] as number, r, b, mem());
        break;
      case 3:
        sized([0x03, 0x2b, 0x33, 0x23, 0x3b, 0x13, 0x1b][rnd(7)] as number, r, b, mem());
        break;
      case 4:
        sized([0x11, 0x19][rnd(2)] as number, r, b, mem());
        break;
      case 5: // test
        sized(0x85, r, b, mem());
        break;
      case 6: // inc dec
        sized(0xff, rnd(2), b, mem());
        break;
      case 7: // mov
        sized(rnd(2) === 0 ? 0x89 : 0x8b, r, b, mem());
        break;
      case 8: // shifts by an immediate
        a.b(...rex(rnd(2), 0, b), 0xc1, modrm([0, 1, 4, 5, 7, 2, 3][rnd(7)] as number, b), rnd(34));
        break;
      case 9: // shifts by cl
        a.b(...rex(rnd(2), 0, b), 0xd3, modrm([0, 1, 4, 5, 7][rnd(5)] as number, b));
        break;
      case 10: // setcc
        a.b(...rex(0, 0, b), 0x0f, 0x90 + rnd(16), modrm(0, b));
        break;
      case 11: // cmovcc
        a.b(...rex(rnd(2), r, b), 0x0f, 0x40 + rnd(16), modrm(r, b));
        break;
      case 12: // imul
        a.b(...rex(rnd(2), r, b), 0x0f, 0xaf, modrm(r, b));
        break;
      case 13: // mul neg not
        a.b(...rex(rnd(2), 0, b), 0xf7, modrm([4, 3, 2, 5][rnd(4)] as number, b));
        break;
      case 14: // lea, stc, clc, cmc, bt
        if (rnd(2) === 0)
          a.b(...rex(1, r, b), 0x8d, 0x80 | ((r & 7) << 3) | (b & 7), ...((b & 7) === 4 ? [0x24] : [])).i32(rnd(1000));
        else a.b([0xf9, 0xf8, 0xf5][rnd(3)] as number);
        break;
      case 15:
      case 16: // movdqu, paddd, pxor, movd
        {
          const m = 0x86 | ((r & 7) << 3);
          if (rnd(3) === 0) a.b(0xf3, 0x0f, rnd(2) === 0 ? 0x6f : 0x7f, m).i32(rnd(300) * 8);
          else if (rnd(2) === 0) a.b(0x66, 0x0f, rnd(2) === 0 ? 0xfe : 0xef, modrm(r & 7, b & 7));
          else a.b(0x66, 0x0f, rnd(2) === 0 ? 0x6e : 0x7e, modrm(r & 7, free[rnd(4)] as number));
        }
        break;
      default: // push, pop, pushf
        a.b(rnd(3) === 0 ? 0x9c : 0x50 + (b & 7));
        a.b(0x58 + (free[rnd(4)] as number));
    }
  };
  let labels = 0;
  const chunk = (depth: number, budget: number): void => {
    for (let i = 0; i < budget; i++) {
      const k = rnd(12);
      if (k < 8 || depth > 3) one();
      else if (k < 10) {
        // A forward branch over something, perhaps with an else.
        const skip = `s${labels++}`;
        const end = `e${labels++}`;
        a.jcc(rnd(16), skip);
        chunk(depth + 1, 1 + rnd(3));
        if (rnd(2) === 0) {
          a.jmp(end).label(skip);
          chunk(depth + 1, 1 + rnd(3));
          a.label(end);
        } else a.label(skip);
      } else if (k === 10 && depth < (bits === 64 ? 2 : 1)) {
        // A loop with a branch out.
        const c = bits === 64 ? 12 + depth : 5;
        const top = `l${labels++}`;
        const out = `o${labels++}`;
        a.b(...(c > 7 ? [0x41] : []), 0xb8 + (c & 7)).i32(2 + rnd(6));
        a.label(top);
        chunk(depth + 1, 1 + rnd(4));
        if (rnd(2) === 0) a.jcc(rnd(16), out);
        chunk(depth + 1, rnd(3));
        a.b(...(c > 7 ? [0x49] : []), 0xff, 0xc8 + (c & 7)); // dec
        a.jcc(5, top).label(out);
      } else if (depth === 0) a.call(`f${rnd(2)}`);
      else one();
    }
  };
  chunk(0, 14);
  a.ret();
  for (let f = 0; f < 2; f++) {
    a.label(`f${f}`);
    chunk(1, 4);
    a.ret();
  }
  return a;
}

interface Outcome {
  reason: number;
  rip: number;
  regs: bigint[];
  flags: number;
  retired: number;
  data: string;
  xmm: string;
}

function outcome(m: Machine, slice: () => number, hot: number, seed: number): Outcome {
  for (const r of [0, 1, 2, 3, 7, 8, 9, 10, 11]) m.setReg(r, BigInt((seed * 7919 + r * 104729) >>> 0) * 0x1000193n);
  m.setReg(RSI, BigInt(DATA));
  m.absent.add((DATA >>> 12) + 2);
  for (let i = 0; i < 4096; i++) m.mem.u8[DATA + i] = (i * 31 + seed) & 0xff;
  m.hot = hot;
  let reason = 0;
  for (let i = 0; i < 5000; i++) {
    const one = slice();
    reason = m.runOnce(STOP, one);
    if (reason !== 0 || m.rip === STOP) break;
  }
  return {
    reason,
    rip: m.rip,
    regs: Array.from({ length: 16 }, (_, i) => m.reg(i)),
    flags: m.flags,
    retired: m.retired,
    xmm: Buffer.from(m.mem.u8.slice(XMM, XMM + 256)).toString("latin1"),
    data: Buffer.from(m.mem.u8.slice(DATA, DATA + 4096 * 2)).toString("latin1"),
  };
}

describe("random programs", () => {
  const rounds = Number(process.env["TRANSLATOR_ROUNDS"] ?? 40);
  const first = Number(process.env["TRANSLATOR_SEED"] ?? 1);
  for (const bits of [64, 32] as const)
    for (const opts of [{}, { inlineLimit: 0 }, { inlineLimit: Infinity }, { maxBlocks: 5 }] as TranslateOptions[]) {
      it(`come out as one instruction at a time (${bits}-bit, ${Object.entries(opts).join()})`, () => {
        let ended = 0;
        for (let seed = first; seed < first + rounds; seed++) {
          const code = randomProgram(seed, seed % 3 === 0, bits).done();
          const reference = outcome(machine(code, { maxInstructions: 1 }, bits), () => 1, 1, seed);
          let x = seed;
          const m = machine(code, opts, bits);
          Object.assign(m.source, { count: () => 1 });
          const got = outcome(m, () => 1 + ((x = (x * 1103515245 + 12345) >>> 0) % 40), 1, seed);
          expect({ seed, ...got }).toEqual({ seed, ...reference });
          if (got.reason === 0) ended++;
        }
        // Most run to their end: the test is about code that runs.
        expect(ended).toBeGreaterThan(rounds / 2);
      }, 120_000);
    }
});
