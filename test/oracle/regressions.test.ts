/**
 * What the oracle once found, one test a rule, in both engines, with the answers written down: they hold on any host. Where the manuals leave
 * a choice it is what the processors of the oracle's hosts do.
 */
import { describe, expect, it } from "vitest";
import { decode } from "../../src/machine/cpu/decode/index.js";
import { CF, OF, ZF } from "../../src/machine/cpu/flags.js";
import type { Insn } from "../../src/machine/cpu/insn.js";
import {
  AREA,
  AREA_SIZE,
  CODE,
  FX_SIZE,
  GS_BASE,
  MAX_CODE,
  PIECE,
  type Case,
  type EngineUnderTest,
  type Result,
} from "./case.js";
import { difference } from "./compare.js";
import { openEngine } from "./engine.js";
import { Random } from "./random.js";

const END = AREA + AREA_SIZE;
const IE = 1,
  SF = 0x40,
  C1 = 0x200,
  C2 = 0x400;
const GP = 13,
  SS = 12,
  PF = 14,
  MF = 16;

interface Start {
  bits?: 64 | 32;
  /** By number; a bigint for all 64 bits. */
  regs?: Readonly<Record<number, number | bigint>>;
  rflags?: number;
  fcw?: number;
  fsw?: number;
  /** Tags, one bit a physical register. */
  ftw?: number;
  /** First bytes of a register's value, by number. */
  xmm?: Readonly<Record<number, readonly number[]>>;
  /** 32-bit words in the area, by address. */
  memory?: Readonly<Record<number, number>>;
}

function makeCase(text: string, s: Start): Case {
  const bytes = (text.replace(/\s/g, "").match(/../g) ?? []).map((x) => parseInt(x, 16));
  const bits = s.bits ?? 64;
  const code = new Uint8Array(bytes);
  const padded = new Uint8Array(MAX_CODE + 16);
  padded.set(code);
  let insn: Insn | null = null;
  for (let at = 0; at < code.length; at += insn.len) {
    insn = decode(padded, at, padded.length, bits);
    if (!insn) throw new Error(`${text} does not decode`);
  }
  if (!insn) throw new Error("no code");
  const gpr = new Uint32Array(32);
  gpr[8] = AREA + 0x800;
  for (const [n, v] of Object.entries(s.regs ?? {})) {
    const big = BigInt.asUintN(64, BigInt(v));
    gpr[Number(n) * 2] = Number(big & 0xffffffffn);
    gpr[Number(n) * 2 + 1] = bits === 64 ? Number(big >> 32n) : 0;
  }
  const fx = new Uint8Array(FX_SIZE);
  const view = new DataView(fx.buffer);
  view.setUint16(0, s.fcw ?? 0x37f, true);
  view.setUint16(2, s.fsw ?? 0, true);
  fx[4] = s.ftw ?? 0;
  view.setUint32(24, 0x1f80, true);
  for (let i = 0; i < 8; i++) view.setUint16(32 + i * 16 + 8, 0x3fff + i, true);
  for (let i = 0; i < 8; i++) view.setUint32(32 + i * 16 + 4, 0x80000000, true);
  for (const [n, v] of Object.entries(s.xmm ?? {})) fx.set(v, 160 + Number(n) * 16);
  const memory = Object.entries(s.memory ?? {}).map(([a, v]) => [Number(a) - AREA, v] as const);
  const patches = new Uint8Array(memory.length * PIECE);
  const words = new DataView(patches.buffer);
  memory.forEach(([offset, v], i) => {
    words.setUint32(i * PIECE, offset, true);
    words.setUint32(i * PIECE + 4, v, true);
  });
  const landing = /^(j|loop|call|ret)/.test(insn.op);
  return { seed: 0, index: 0, bits, insn, code, gpr, rflags: s.rflags ?? 0, fx, patches, landing, loose: 0 };
}

/** 32-bit word at an address after the run; only for what changed. */
function changed(r: Result, address: number): number | undefined {
  const view = new DataView(r.changes.buffer, r.changes.byteOffset, r.changes.byteLength);
  for (let at = 0; at < r.changes.length; at += PIECE) {
    const offset = view.getUint32(at, true) + AREA;
    if (address === offset) return view.getUint32(at + 4, true);
    if (address === offset + 4) return view.getUint32(at + 8, true);
  }
  return undefined;
}

describe.each(["interpreter", "translator"] as const)("found by the oracle, %s", (kind) => {
  const engine: EngineUnderTest = openEngine(kind);
  engine.setMemory(new Uint8Array(AREA_SIZE));
  const run = (text: string, start: Start = {}): Result => engine.run(makeCase(text, start));
  const reg = (r: Result, n: number): bigint => BigInt(r.gpr[n * 2]) | (BigInt(r.gpr[n * 2 + 1]) << 32n);

  it("bt keeps operands of earlier operations out of RFLAGS", () => {
    // add rax, rbx; bt eax, ecx: the addition's second operand must not be taken for the bit test's OF.
    for (const op of ["0fa3c8", "0fabc8", "0fb3c8", "0fbbc8"]) {
      const r = run(`4801d8 ${op}`, { regs: { 0: 0, 3: -1n, 1: 5 } });
      expect(r.rflags & ~0x2d5).toBe(2);
      expect(r.rflags & (CF | ZF | OF)).toBe(CF);
    }
  });

  it("a 16-bit branch in 32-bit code cuts EIP only where it is taken", () => {
    for (const [text, taken] of [
      ["667510", { rflags: 0 }],
      ["66e210", { regs: { 1: 2 } }],
      ["66e110", { regs: { 1: 2 }, rflags: ZF }],
      ["66e010", { regs: { 1: 2 } }],
      ["66e310", { regs: { 1: 0 } }],
    ] as const) {
      const not: Start = text === "667510" ? { rflags: ZF } : { regs: { 1: 1 } };
      expect(run(text, { bits: 32, ...not }).ripLo).toBe(CODE + 3);
      expect(run(text, { bits: 32, ...taken }).ripLo).toBe((CODE + 3 + 0x10) & 0xffff);
    }
  });

  it("loop and jcxz count at the address size, whichever form was met first", () => {
    const rcx = 0x100000001n;
    expect(reg(run("e210", { regs: { 1: rcx } }), 1)).toBe(0x100000000n);
    expect(run("e210", { regs: { 1: rcx } }).ripLo).toBe(CODE + 0x12);
    expect(reg(run("67e210", { regs: { 1: rcx } }), 1)).toBe(0n);
    expect(run("67e210", { regs: { 1: rcx } }).ripLo).toBe(CODE + 3);
    expect(run("e310", { regs: { 1: 0x100000000n } }).ripLo).toBe(CODE + 2);
    expect(run("67e310", { regs: { 1: 0x100000000n } }).ripLo).toBe(CODE + 0x13);
  });

  it("maskmovdqu honours segment and address size, whichever form was met first", () => {
    const start = (rdi: bigint): Start => ({ regs: { 7: rdi }, xmm: { 0: [1, 2, 3, 4], 1: [0x80, 0x80, 0x80, 0x80] } });
    const at = BigInt(AREA + 0x100);
    const word = 0x04030201;
    expect(changed(run("660ff7c1", start(at)), AREA + 0x100)).toBe(word);
    expect(changed(run("65660ff7c1", start(at)), AREA + 0x100 + GS_BASE)).toBe(word);
    expect(changed(run("67660ff7c1", start(at | (7n << 32n))), AREA + 0x100)).toBe(word);
  });

  it("fxsave and fxrstor see and set XMM registers that code around them uses", () => {
    const saved = run("0f28ca 0fae07", { regs: { 7: AREA + 0x200 }, xmm: { 2: [1, 2, 3, 4], 5: [9, 9, 9, 9] } });
    expect(changed(saved, AREA + 0x200 + 160 + 16)).toBe(0x04030201); // xmm1, by movaps
    expect(changed(saved, AREA + 0x200 + 160 + 5 * 16)).toBe(0x09090909); // named nowhere
    const restored = run("0fae0f 0f28ca", {
      regs: { 7: AREA + 0x200 },
      xmm: { 2: [1, 2, 3, 4] },
      memory: { [AREA + 0x200]: 0x37f, [AREA + 0x218]: 0x1f80, [AREA + 0x200 + 160 + 32]: 0x55 },
    });
    expect(restored.fx[160 + 16]).toBe(0x55); // xmm1, from the new xmm2
    expect(restored.fx[160 + 32]).toBe(0x55);
  });

  it("fxsave and fxrstor need all 512 bytes", () => {
    for (const op of ["0fae07", "0fae0f"]) {
      const r = run(op, { regs: { 7: END - 496 } });
      expect([r.vector, r.cr2Lo]).toEqual([PF, END]);
      expect(r.changes.length).toBe(0);
    }
  });

  it("fxsave at a non-canonical address in the stack segment is #SS even if it is misaligned; movaps is #GP", () => {
    expect(run("0fae4500", { regs: { 5: 0x9000_0000_0000_0001n } }).vector).toBe(SS);
    expect(run("0fae07", { regs: { 7: 0x9000_0000_0000_0001n } }).vector).toBe(GP);
    expect(run("0f284500", { regs: { 5: 0x9000_0000_0000_0001n } }).vector).toBe(GP);
    expect(run("0f284500", { regs: { 5: 0x9000_0000_0000_0000n } }).vector).toBe(SS);
  });

  it("clflush faults as a read of one byte does", () => {
    const r = run("0fae3f", { regs: { 7: END } });
    expect([r.vector, r.error, r.cr2Lo]).toEqual([PF, 4, END]);
    expect(run("0fae3f", { regs: { 7: 0x9000_0000_0000_0000n } }).vector).toBe(GP);
    expect(run("0fae3f", { regs: { 7: END - 1 } }).vector).toBe(-1);
  });

  it("fptan and fsincos clear C2 on a masked stack overflow", () => {
    for (const op of ["d9f2", "d9fb"]) {
      const r = run(op, { fsw: C2, ftw: 0xff });
      expect((r.fx[2] | (r.fx[3] << 8)) & (IE | SF | C1 | C2)).toBe(IE | SF | C1);
    }
  });

  it("fld of an empty register is an underflow even where the destination is full", () => {
    // TOP = 0, ST(1) empty, ST(7) full.
    const r = run("d9c1", { fsw: C1, ftw: 0x81 });
    expect((r.fx[2] | (r.fx[3] << 8)) & (IE | SF | C1)).toBe(IE | SF);
  });

  it("a repeated string instruction whose first element faults leaves its registers whole", () => {
    const regs = { 1: 0x500000003n, 6: 0x600000000n | BigInt(END), 7: 0x700000000n | BigInt(END) };
    for (const op of ["67f3a4", "67f3a6", "67f3aa", "67f3ac", "67f3ae"]) {
      const r = run(op, { regs });
      expect(r.vector).toBe(PF);
      expect([reg(r, 1), reg(r, 6), reg(r, 7)]).toEqual([regs[1], regs[6], regs[7]]);
    }
    // Two elements fit.
    const r = run("67f3aa", { regs: { ...regs, 7: 0x700000000n | BigInt(END - 2) } });
    expect([reg(r, 1), reg(r, 7)]).toEqual([1n, BigInt(END)]);
  });

  it("a pending x87 exception comes before the memory operand", () => {
    const pending = { fcw: 0x37e, fsw: 0x8081, regs: { 7: END } };
    // fadd, fcom, fld, fild, fldcw; paddb, movd, cvtpd2pi (misaligned too)
    for (const op of ["d807", "d817", "d907", "db07", "d92f", "0ffc07", "0f6e07", "660f2d4701"])
      expect(run(op, pending).vector).toBe(MF);
    // These do not wait: fnstcw.
    expect(run("d93f", pending).vector).toBe(PF);
  });

  it("a memory operand that is not canonical is not the stack's fault", () => {
    const bad = 0x9000_0000_0000_0000n;
    expect(run("ff33", { regs: { 3: bad } }).vector).toBe(GP); // push [rbx]
    expect(run("ff33", { regs: { 3: AREA, 4: bad } }).vector).toBe(SS);
    expect(run("8f03", { regs: { 3: bad } }).vector).toBe(GP); // pop [rbx]
    expect(run("ff13", { regs: { 3: bad } }).vector).toBe(GP); // call [rbx]
  });

  it("an operand whose end is not canonical is #GP and not a page fault of its beginning", () => {
    const edge = 0x7fff_ffff_fffcn;
    expect(run("488b07", { regs: { 7: edge } }).vector).toBe(GP);
    expect(run("488907", { regs: { 7: edge } }).vector).toBe(GP);
    expect(run("d937", { regs: { 7: edge } }).vector).toBe(GP); // fnstenv
    expect(run("8b07", { regs: { 7: edge } }).vector).toBe(PF);
  });
});

/**
 * Programs on which the engines once disagreed, run from many states: the translator makes its regions from what it has seen run, so that
 * the order of the runs matters.
 */
const PROGRAMS: readonly (readonly [rule: string, bits: 64 | 32, code: string])[] = [
  [
    "flags set before a loop that carries them, after an operation that may leave them alone",
    32,
    "0f9547157c08660f4577f46687d5ffc866d3e29ec1672a0375080fb7d30f48d2e2f67600",
  ],
];

describe("programs found by the oracle", () => {
  it.each(PROGRAMS)("%s", (_rule, bits, text) => {
    const base = new Uint8Array(AREA_SIZE);
    const engines = [openEngine("interpreter"), openEngine("translator")] as const;
    for (const e of engines) e.setMemory(base);
    const r = new Random();
    r.reseed(1, 1);
    const first = makeCase(text, { bits });
    for (let i = 0; i < 200; i++) {
      const c = { ...first, gpr: new Uint32Array(32), rflags: r.u32() & 0x8d5 };
      for (let k = 0; k < 16; k++) c.gpr[k * 2] = r.chance(50) ? r.u32() : r.below(4);
      c.gpr[1 * 2] = 1 + r.below(6);
      c.gpr[4 * 2] = AREA + 0x800;
      c.gpr[7 * 2] = AREA + 0x100;
      const want = engines[0].run(c);
      // Twice, so that what the first made of it is used.
      engines[1].run(c);
      expect(difference(c, engines[1].run(c), want, base)).toBe("");
    }
  });
});
