/**
 * The decoder against iced-x86: every opcode of the four maps under every mandatory prefix, with all ModRM bytes, and a sample of other
 * prefixes, in all three code sizes. Same validity, length, mnemonic, operand size, operands, memory operand, immediates and prefixes.
 *
 * The differences that are meant are `HIDDEN` (features that CPUID does not show, hence `ud`) and the renamings in `mnemonic`.
 */
import {
  Code,
  CpuidFeature,
  Decoder,
  DecoderOptions,
  EncodingKind,
  Instruction,
  MemorySizeExt,
  Mnemonic,
  OpKind,
  Register,
  RegisterExt,
} from "iced-x86";
import { describe, expect, it } from "vitest";
import { BASE_RIP, K, type Insn, type Operand } from "../insn.js";
import { decode, MNEMONICS } from "./index.js";

/** Features that the CPU shows. An instruction that needs another one is `ud`. */
const SHOWN = new Set<string>(
  (
    "INTEL8086 INTEL8086_ONLY INTEL186 INTEL286 INTEL286_ONLY INTEL386 INTEL386_ONLY INTEL486 X64 CLFSH CMOV CMPXCHG16B CPUID CX8 FPU FPU287 " +
    "FPU287XL_ONLY FPU387 FXSR MMX MONITOR MSR MULTIBYTENOP PAUSE POPCNT PREFETCHW RDPMC RDTSCP SEP SSE SSE2 SSE3 SSE4_1 SSE4_2 SSSE3 " +
    "SYSCALL TSC"
  ).split(" "),
);

/** Hidden though their features are shown, or shown though their features are not; by iced's code name. */
const HIDDEN = /^(Loadall|Rsm$|Getsec|Umov|Storeall|Frstpm|Fstdw|Fstsg|F?storeall)/;
const SHOWN_ANYWAY = /^(Vmcall|Vmmcall|Vmgexit|Invlpga)/;

interface Known {
  readonly name: string;
  readonly op: string;
  readonly shown: boolean;
  /** Of the memory operand. */
  readonly size: number;
  /** Operand size, 0 where the operands tell it. */
  readonly osize: number;
}

const known = new Map<number, Known>();

/** Iced's string instructions (SSE's movsd and cmpsd have xmm in their names). */
const STRING = /^(Movs|Stos|Lods|Cmps|Scas|Ins|Outs)(b|w|d|q)_(?!xmm)/;
const STRING_SIZE: Record<string, number> = { b: 1, w: 2, d: 4, q: 8 };
/** Codes that tell the operand size of an instruction that may have no operand to tell it. */
const SIZED = /^(?:Retn|Retf|Iret|Pushf|Popf|Leave|Enter|Pusha|Popa|Push|Pop|Sysret|Sysexit)([wdq])(?:_|$)/;
const SIZED_BY_NAME: Record<string, number> = { Cbw: 2, Cwde: 4, Cdqe: 8, Cwd: 2, Cdq: 4, Cqo: 8 };

/** Our mnemonic for an iced code. */
function mnemonic(insn: Instruction, name: string): string {
  const m = (Mnemonic[insn.mnemonic] ?? "").toLowerCase();
  const string = STRING.exec(name);
  if (string) return string[1].toLowerCase();
  if (insn.conditionCode !== 0 && /^(J|Set|Cmov)/.test(name))
    return name.startsWith("J") ? "jcc" : name.startsWith("S") ? "setcc" : "cmovcc";
  if (/^(Reservednop|Nop|Prefetch|Endbr|Cldemote|Rdssp)/.test(name)) return "nop";
  if (/^(Jmp|Call)_ptr/.test(name)) return `${m}_far_imm`;
  if (/^(Jmp|Call)_m16/.test(name)) return `${m}_far`;
  if (/^(Jmp|Call)_rm/.test(name)) return `${m}_ind`;
  if (/^Mov_(.*_)?(Sreg)/.test(name)) return "mov_sreg";
  if (/^Mov_(.*_)?cr/.test(name)) return "mov_cr";
  if (/^Mov_(.*_)?dr/.test(name)) return "mov_dr";
  if (/^Pushw?d?_?[A-Z]+$/.test(name) || /^Push[wdq]_[A-Z]S$/.test(name)) return "push_sreg";
  if (/^Pop[wdq]_[A-Z]S$/.test(name)) return "pop_sreg";
  if (/^Push[wdq]?_imm/.test(name)) return "push";
  if (/^Imul_rm\d+$/.test(name)) return "imul1";
  switch (m) {
    case "retf":
      return "ret_far";
    case "iretd":
    case "iretq":
      return "iret";
    case "cwde":
    case "cdqe":
      return "cbw";
    case "cdq":
    case "cqo":
      return "cwd";
    case "jecxz":
    case "jrcxz":
      return "jcxz";
    case "pushad":
      return "pusha";
    case "popad":
      return "popa";
    case "pushfd":
    case "pushfq":
      return "pushf";
    case "popfd":
    case "popfq":
      return "popf";
    case "xlatb":
      return "xlat";
    case "sal":
      return "shl";
    case "sysretq":
      return "sysret";
    case "sysexitq":
      return "sysexit";
    case "fxsave64":
      return "fxsave";
    case "fxrstor64":
      return "fxrstor";
    case "pcmpestri64":
      return "pcmpestri";
    case "pcmpestrm64":
      return "pcmpestrm";
    case "fneni":
    case "fndisi":
    case "fnsetpm":
      return "nop";
    case "fstpnce":
      return "fstp";
    case "lzcnt":
      return "bsr";
    case "vmgexit": // what a processor without SEV-ES takes it for
      return "vmmcall";
    case "tzcnt":
      return "bsf";
    default:
      return m;
  }
}

function know(insn: Instruction): Known {
  let k = known.get(insn.code);
  if (k) return k;
  const name = Code[insn.code] ?? "";
  const features = [...insn.cpuidFeatures()].map((f) => CpuidFeature[f] ?? "");
  const op = mnemonic(insn, name);
  const shown =
    insn.encoding === EncodingKind.Legacy &&
    (SHOWN_ANYWAY.test(name) || op === "nop" || (features.every((f) => SHOWN.has(f)) && !HIDDEN.test(name)));
  const string = STRING.exec(name);
  const size = string ? STRING_SIZE[string[2]] : (MemorySizeExt.size(insn.memorySize) ?? 0);
  const sized = SIZED.exec(name);
  k = { name, op, shown, size, osize: sized ? STRING_SIZE[sized[1]] : (SIZED_BY_NAME[name] ?? 0) };
  known.set(insn.code, k);
  return k;
}

/** Operands of ours that iced lists, or lists otherwise; we compare none for these. */
const IMPLICIT = new Set(
  "movs stos lods cmps scas ins outs xlat nop maskmovq maskmovdqu monitor mwait invlpga enter ud1 ud0".split(" "),
);

const SEGMENTS: readonly number[] = [Register.ES, Register.CS, Register.SS, Register.DS, Register.FS, Register.GS];

const registers = new Map<number, string>();
/** A register as text, the same for both decoders. */
function registerName(register: number): string {
  let s = registers.get(register);
  if (s === undefined) {
    s = (Register[register] ?? "?").toLowerCase();
    registers.set(register, s);
  }
  return s;
}
const BY_SIZE: Record<number, readonly string[]> = {
  1: "al cl dl bl spl bpl sil dil r8l r9l r10l r11l r12l r13l r14l r15l".split(" "),
  2: "ax cx dx bx sp bp si di r8w r9w r10w r11w r12w r13w r14w r15w".split(" "),
  4: "eax ecx edx ebx esp ebp esi edi r8d r9d r10d r11d r12d r13d r14d r15d".split(" "),
  8: "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split(" "),
};
function operandName(o: Operand): string {
  switch (o.kind) {
    case K.GPR:
      return o.high ? ["ah", "ch", "dh", "bh"][o.reg] : BY_SIZE[o.size][o.reg];
    case K.XMM:
      return `xmm${o.reg}`;
    case K.MMX:
      return `mm${o.reg}`;
    case K.ST:
      return `st${o.reg}`;
    case K.SREG:
      return ["es", "cs", "ss", "ds", "fs", "gs"][o.reg];
    case K.CR:
      return `cr${o.reg}`;
    case K.DR:
      return `dr${o.reg}`;
    default:
      return "?";
  }
}

const M64 = 0xffffffffffffffffn;
const u64 = (lo: number, hi: number): bigint => (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
const mask = (size: number): bigint => (size >= 8 ? M64 : (1n << BigInt(size * 8)) - 1n);

/** We give 4 bytes where iced follows REX.W though the upper half is always zero, … */
const NARROW = /^(Pextr[bw]|Movmsk|Pmovmskb|Extractps|Pinsr[bw])/;
/** … and 2 where only the selector in the low half is read, whatever the operand size. */
const SELECTOR = /^(Arpl|Lar|Lsl|Mov_Sreg|Verr|Verw|Lldt|Ltr|Lmsw)/;

/** What differs between our decoding and iced's, or "". */
function difference(mine: Insn, theirs: Instruction, bits: 16 | 32 | 64): string {
  const k = know(theirs);
  const valid = theirs.code !== Code.INVALID && k.shown;
  if (!valid) return mine.op === "ud" ? "" : `${mine.op} should be ud (iced: ${k.name})`;
  if (mine.op !== k.op) return `${mine.op} should be ${k.op} (${k.name})`;
  if (mine.len !== theirs.length) return `length ${mine.len}, should be ${theirs.length}`;
  if (mine.lock !== theirs.hasLockPrefix) return `lock ${mine.lock}`;
  if (mine.op.endsWith("cc") && mine.cc !== theirs.conditionCode - 1) return `cc ${mine.cc}`;
  if (k.osize !== 0 && mine.osize !== k.osize) return `osize ${mine.osize}, should be ${k.osize} (${k.name})`;
  const isString = STRING.test(k.name);
  if (isString) {
    const repne = mine.op === "cmps" || mine.op === "scas";
    const rep = theirs.hasRepePrefix || (theirs.hasRepnePrefix && !repne) ? 1 : theirs.hasRepnePrefix ? 2 : 0;
    if (mine.rep !== rep) return `rep ${mine.rep}, should be ${rep}`;
    if (mine.osize !== k.size) return `osize ${mine.osize}, should be ${k.size}`;
  }
  if (isString || mine.op === "xlat" || mine.op.startsWith("maskmov")) {
    const segment = theirs.segmentPrefix;
    let want = segment === Register.None ? 3 : SEGMENTS.indexOf(segment);
    if (bits === 64 && want < 4) want = 3;
    if (["stos", "scas", "ins"].includes(mine.op)) want = 0;
    if (mine.seg !== want) return `segment ${mine.seg}, should be ${want}`;
  }
  if (mine.op === "enter" && (mine.imm !== theirs.immediate16 || mine.imm2 !== theirs.immediate8_2nd))
    return "enter's immediates";
  if (IMPLICIT.has(mine.op)) return "";
  if (mine.ops.length !== theirs.opCount) return `${mine.ops.length} operands, should be ${theirs.opCount} (${k.name})`;
  for (let i = 0; i < mine.ops.length; i++) {
    const o = mine.ops[i];
    const kind = theirs.opKind(i);
    if (kind === OpKind.Register) {
      const a = operandName(o);
      let b = registerName(theirs.opRegister(i));
      if (NARROW.test(k.name) && o.kind === K.GPR) b = BY_SIZE[4][RegisterExt.number(theirs.opRegister(i))];
      if (SELECTOR.test(k.name) && o.kind === K.GPR && o.size === 2)
        b = BY_SIZE[2][RegisterExt.number(theirs.opRegister(i))];
      if (a !== b) return `operand ${i}: ${a}, should be ${b} (${k.name})`;
    } else if (kind === OpKind.Memory) {
      if (o.kind !== K.MEM) return `operand ${i} should be memory`;
      const m = memoryDifference(mine, theirs, bits);
      if (m !== "") return m;
      if (o.size !== 0 && o.size !== k.size) return `memory size ${o.size}, should be ${k.size} (${k.name})`;
      if (o.size === 0 && k.size !== 0 && k.size <= 16 && !/^(Lea|Invlpg|Fldenv|Fnstenv|Frstor|Fnsave)/.test(k.name))
        return `memory size 0, should be ${k.size} (${k.name})`;
    } else if (kind === OpKind.NearBranch16 || kind === OpKind.NearBranch32 || kind === OpKind.NearBranch64) {
      const size = kind === OpKind.NearBranch16 ? 2 : kind === OpKind.NearBranch32 ? 4 : 8;
      const target = (theirs.nextIP + u64(mine.imm, mine.immHi)) & mask(size);
      if (target !== theirs.nearBranchTarget)
        return `branch target ${target.toString(16)}, should be ${theirs.nearBranchTarget.toString(16)}`;
      if (mine.osize !== size) return `branch osize ${mine.osize}, should be ${size}`;
    } else if (kind === OpKind.FarBranch16 || kind === OpKind.FarBranch32) {
      const offset = kind === OpKind.FarBranch16 ? theirs.farBranch16 : theirs.farBranch32;
      if (mine.imm >>> 0 !== offset || mine.imm2 !== theirs.farBranchSelector) return "far pointer";
    } else {
      if (o.kind !== K.IMM) return `operand ${i} should be an immediate`;
      const size = Math.max(o.size, 1);
      const want = theirs.immediate(i) & mask(size);
      if ((u64(mine.imm, mine.immHi) & M64) !== want)
        return `immediate ${u64(mine.imm, mine.immHi).toString(16)}, should be ${want.toString(16)} (${k.name})`;
    }
  }
  return "";
}

function memoryDifference(mine: Insn, theirs: Instruction, bits: 16 | 32 | 64): string {
  const baseRegister = theirs.memoryBase;
  let base = -1;
  let asize = mine.asize;
  if (baseRegister === Register.RIP || baseRegister === Register.EIP) {
    base = BASE_RIP;
    asize = baseRegister === Register.RIP ? 8 : 4;
  } else if (baseRegister !== Register.None) {
    base = RegisterExt.number(baseRegister);
    asize = RegisterExt.size(baseRegister);
  }
  const indexRegister = theirs.memoryIndex;
  const index = indexRegister === Register.None ? -1 : RegisterExt.number(indexRegister);
  if (mine.memBase !== base) return `base ${mine.memBase}, should be ${base}`;
  if (mine.asize !== asize) return `asize ${mine.asize}, should be ${asize}`;
  if (mine.memIndex !== index) return `index ${mine.memIndex}, should be ${index}`;
  if (index >= 0 && 1 << mine.memScale !== theirs.memoryIndexScale) return `scale ${mine.memScale}`;
  // Wrapped to the address size: iced zero-extends where we sign-extend.
  const disp = base === BASE_RIP ? theirs.memoryDisplacementU64 - theirs.nextIP : theirs.memoryDisplacementU64;
  if (((u64(mine.disp, mine.dispHi) - disp) & mask(asize)) !== 0n)
    return `displacement ${mine.disp.toString(16)}, should be ${disp.toString(16)}`;
  const segment = theirs.segmentPrefix;
  const stack = base === 4 || base === 5;
  let seg = segment === Register.None ? (stack ? 2 : 3) : SEGMENTS.indexOf(segment);
  if (bits === 64 && seg < 4) seg = stack ? 2 : 3;
  if (mine.seg !== seg) return `segment ${mine.seg}, should be ${seg}`;
  return "";
}

/** xorshift32: the cases are the same in every run. */
function random(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

const hex = (bytes: Uint8Array): string => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join(" ");

const SLOT = 16;
const BATCH = 4096;
const ESCAPES: readonly (readonly number[])[] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
/** All ModRM bytes with these; three of each ModRM.reg with those of `OTHER`. */
const MANDATORY: readonly (readonly number[])[] = [[], [0x66], [0xf3], [0xf2]];
const OTHER: readonly (readonly number[])[] = [[0x67], [0x64], [0x26], [0xf0], [0x66, 0xf3], [0xf2, 0x66], [0xf3, 0xf2], [0xf2, 0xf3], [0x2e, 0x65], [0x67, 0x66], [0xf0, 0x66]]; // prettier-ignore
const WITH_REX: readonly (readonly number[])[] = [[0x48], [0x41], [0x44], [0x4f], [0x40], [0x42], [0x66, 0x48], [0xf3, 0x48], [0xf2, 0x4d], [0xf0, 0x49], [0x66, 0x45], [0x48, 0x66], [0x67, 0x43], [0x67, 0x4e]]; // prettier-ignore

/** Decodes batches of 16-byte slots with both decoders and collects the differences. */
class Comparison {
  readonly #buffer = new Uint8Array(BATCH * SLOT);
  readonly #insn = new Instruction();
  readonly #random: () => number;
  readonly #bits: 16 | 32 | 64;
  #fill = 0;
  count = 0;
  readonly failures: string[] = [];
  readonly seen = new Set<string>();

  constructor(bits: 16 | 32 | 64, seed: number) {
    this.#bits = bits;
    this.#random = random(seed);
  }

  add(...parts: (readonly number[])[]): void {
    let at = this.#fill * SLOT;
    const end = at + SLOT;
    for (const part of parts) for (const byte of part) this.#buffer[at++] = byte;
    while (at < end) {
      const r = this.#random();
      this.#buffer[at++] = r;
      if (at < end) this.#buffer[at++] = r >>> 8;
      if (at < end) this.#buffer[at++] = r >>> 16;
    }
    if (++this.#fill === BATCH) this.flush();
  }

  /** A ModRM byte with the given reg field, the rest random. */
  modrm(reg: number): number {
    return (this.#random() & 0xc7) | (reg << 3);
  }

  flush(): void {
    const options =
      DecoderOptions.ForceReservedNop |
      DecoderOptions.NoMPFX_0FBC |
      DecoderOptions.NoMPFX_0FBD |
      DecoderOptions.NoWbnoinvd;
    const decoder = new Decoder(this.#bits, this.#buffer, options);
    for (let i = 0; i < this.#fill; i++) {
      decoder.position = i * SLOT;
      decoder.ip = 0x1000n;
      decoder.decodeOut(this.#insn);
      const mine = decode(this.#buffer, i * SLOT, i * SLOT + SLOT, this.#bits);
      const what = mine === null ? "null" : difference(mine, this.#insn, this.#bits);
      if (mine && what === "" && mine.op !== "ud") {
        this.seen.add(mine.op);
        if (decode(this.#buffer, i * SLOT, i * SLOT + mine.len - 1, this.#bits) !== null)
          this.failures.push(
            `${hex(this.#buffer.subarray(i * SLOT, i * SLOT + mine.len))}: decoded without its last byte`,
          );
      }
      if (what !== "" && this.failures.length < 400)
        this.failures.push(`${hex(this.#buffer.subarray(i * SLOT, i * SLOT + (mine?.len ?? 15)))}: ${what}`);
    }
    decoder.free();
    this.count += this.#fill;
    this.#fill = 0;
  }
}

function sweep(bits: 16 | 32 | 64, seed: number): Comparison {
  const c = new Comparison(bits, seed);
  for (const escape of ESCAPES) {
    for (let opcode = 0; opcode < 256; opcode++) {
      if (escape.length === 0 && /^(0f|26|2e|36|3e|6[4567]|f[023])$/.test(opcode.toString(16))) continue;
      if (escape.length === 0 && bits === 64 && opcode >= 0x40 && opcode < 0x50) continue;
      if (escape.length === 1 && (opcode === 0x38 || opcode === 0x3a)) continue;
      const tail = [...escape, opcode];
      for (const prefixes of MANDATORY) for (let modrm = 0; modrm < 256; modrm++) c.add(prefixes, tail, [modrm]);
      for (const prefixes of bits === 64 ? [...OTHER, ...WITH_REX] : OTHER)
        for (let reg = 0; reg < 8; reg++) for (let n = 0; n < 3; n++) c.add(prefixes, tail, [c.modrm(reg)]);
    }
  }
  c.flush();
  return c;
}

const bytes = (text: string): Uint8Array => Uint8Array.from(text.split(" ").map((b) => parseInt(b, 16)));
function one(text: string, bits: 16 | 32 | 64 = 64): Insn | null {
  const b = bytes(text);
  return decode(b, 0, b.length, bits);
}

describe("decode", () => {
  const seen = new Set<string>();
  for (const bits of [64, 32, 16] as const) {
    it(`agrees with iced-x86 in ${bits}-bit code`, { timeout: 60_000 }, () => {
      const c = sweep(bits, 0x9e3779b9);
      expect(c.failures).toEqual([]);
      expect(c.count).toBeGreaterThan(1_000_000);
      for (const op of c.seen) seen.add(op);
    });
  }

  it("produces every mnemonic that it lists, and no other", () => {
    expect([...seen].sort()).toEqual(MNEMONICS.filter((op) => op !== "ud" && op !== "gp"));
  });

  it("is gp for an instruction of more than 15 bytes, and null when 15 bytes are not there to tell", () => {
    const nop16 = "66 ".repeat(15) + "90";
    expect(one(nop16)?.op).toBe("gp");
    expect(one("66 ".repeat(14) + "90")).toMatchObject({ op: "nop", len: 15 });
    expect(one("66 ".repeat(13) + "66")).toBeNull();
    expect(one("66 ".repeat(14) + "66")?.op).toBe("gp");
  });

  it("takes lock only where the destination is memory and the instruction allows it", () => {
    expect(one("f0 01 00")).toMatchObject({ op: "add", lock: true });
    expect(one("f0 01 c0")?.op).toBe("ud");
    expect(one("f0 03 00")?.op).toBe("ud");
    expect(one("f0 39 00")?.op).toBe("ud");
    expect(one("f0 90")?.op).toBe("ud");
  });

  it("ignores a REX that is not right before the opcode", () => {
    expect(one("48 66 01 c0")).toMatchObject({ len: 4, osize: 2 });
    expect(one("48 41 01 c0")).toMatchObject({ len: 4, osize: 4 });
  });

  it("gives immediates zero-extended from the operand's size", () => {
    expect(one("66 83 c0 ff")).toMatchObject({ osize: 2, imm: 0xffff, immHi: 0 });
    expect(one("83 c0 ff")).toMatchObject({ osize: 4, imm: -1, immHi: 0 });
    expect(one("48 83 c0 ff")).toMatchObject({ osize: 8, imm: -1, immHi: -1 });
    expect(one("04 ff")).toMatchObject({ osize: 1, imm: 0xff, immHi: 0 });
    expect(one("6a ff")).toMatchObject({ op: "push", osize: 8, imm: -1, immHi: -1 });
    expect(one("48 b8 01 00 00 00 ff ff ff ff")).toMatchObject({ op: "mov", imm: 1, immHi: -1 });
  });

  it("decodes the full 64-bit offset of moffs", () => {
    expect(one("a1 04 03 02 01 08 07 06 05")).toMatchObject({
      op: "mov",
      memBase: -1,
      disp: 0x01020304,
      dispHi: 0x05060708,
    });
    expect(one("67 a1 04 03 02 81")).toMatchObject({ op: "mov", asize: 4, disp: 0x81020304 | 0, dispHi: -1 });
  });

  it("shares its operand objects", () => {
    expect(one("01 d8")?.ops[0]).toBe(one("29 c0")?.ops[0]);
  });
});
