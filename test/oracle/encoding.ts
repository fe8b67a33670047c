/**
 * Instructions for the oracle, from the decoder's own opcode tables: every row that runs in user mode, with operand sizes, register
 * and memory forms, prefixes and addressing forms; and sometimes others before it that set the flags it finds (`prelude.ts`).
 * One encoding serves several cases: what it decides about addresses is only what has no register in it.
 */
import { decode } from "../../src/machine/cpu/decode/index.js";
import { H, PLACES, type Place } from "../../src/machine/cpu/decode/table.js";
import { BASE_RIP, K, type Insn, type Operand } from "../../src/machine/cpu/insn.js";
import { AREA, AREA_SIZE, CODE, CODE_PAGE, GS_BASE } from "./case.js";
import { makePrelude } from "./prelude.js";
import { makeProgram } from "./program.js";
import type { Random } from "./random.js";

/** Not comparable with the host, and why. */
export const EXCLUDED: Readonly<Record<string, string>> = {
  syscall: "enters the host's kernel",
  sysenter: "enters the host's kernel",
  int: "enters the host's kernel",
  int1: "the host's kernel reports it as a step",
  cpuid: "the answers differ on purpose",
  rdtsc: "the answers differ",
  rdtscp: "the answers differ",
  rdpmc: "depends on the host's CR4.PCE",
  sgdt: "the host's kernel emulates it (UMIP)",
  sidt: "the host's kernel emulates it (UMIP)",
  sldt: "the host's kernel emulates it (UMIP)",
  str: "the host's kernel emulates it (UMIP)",
  smsw: "the host's kernel emulates it (UMIP)",
  lar: "looks at the host's descriptor tables",
  lsl: "looks at the host's descriptor tables",
  verr: "looks at the host's descriptor tables",
  verw: "looks at the host's descriptor tables",
  pop_sreg: "loads the host's segments",
  lds: "loads the host's segments",
  les: "loads the host's segments",
  lss: "loads the host's segments",
  lfs: "loads the host's segments",
  lgs: "loads the host's segments",
  call_far: "loads the host's segments",
  jmp_far: "loads the host's segments",
  call_far_imm: "loads the host's segments",
  jmp_far_imm: "loads the host's segments",
  ret_far: "loads the host's segments",
  iret: "loads the host's segments",
  vmcall: "a call to the host's hypervisor",
  vmmcall: "a call to the host's hypervisor",
  invlpga: "depends on the host's EFER.SVME",
  monitor: "#UD or not by the host's choice",
  mwait: "#UD or not by the host's choice",
};

/** A row of the decode tables in one code size. */
export interface Form {
  readonly place: Place;
  readonly bits: 64 | 32;
}

export type InstructionSet = "integer" | "x87" | "sse" | "program";

/** Which part of the processor a row belongs to (MMX counts as SSE). */
export function setOf(place: Place): InstructionSet {
  if (place.map === 0 && ((place.first >= 0xd8 && place.first <= 0xdf) || place.first === 0x9b)) return "x87";
  const fp = (h: number): boolean => h === H.V || h === H.W || h === H.U || h === H.P || h === H.Q || h === H.N;
  if (place.row.codes.some((c) => fp(c.h)) || /^(emms|ldmxcsr|stmxcsr|fxsave|fxrstor)$/.test(place.row.op))
    return "sse";
  return "integer";
}

/** All forms, or those of some mnemonics or of an instruction set. */
export function forms(
  bits: readonly (64 | 32)[] = [64, 32],
  only?: (op: string) => boolean,
  set?: InstructionSet,
): Form[] {
  const list: Form[] = [];
  for (const b of bits) {
    for (const place of PLACES) {
      if (b === 64 ? place.n64 : place.o64) continue;
      if (place.row.op in EXCLUDED) continue;
      // Prefetches with a register operand: #UD on AMD processors, nothing on Intel's and here.
      if (place.map === 1 && place.first === 0x0d) continue;
      // D9 D8, an undocumented fstp that does not report an empty register; here it is fstp.
      if (place.row.text.startsWith("d9/3 fstp STi")) continue;
      if (place.row.op === "mov_sreg" && place.row.codes[0].h === H.SREG_FIELD) continue;
      if (set && setOf(place) !== set) continue;
      if (only && !only(place.row.op) && !only(place.row.opW)) continue;
      list.push({ place, bits: b });
    }
  }
  return list;
}

export const STRINGS = new Set(["movs", "stos", "lods", "cmps", "scas", "ins", "outs"]);
export const LANDING = new Set(["jmp", "jcc", "call", "ret", "jmp_ind", "call_ind", "loop", "loope", "loopne", "jcxz"]);
/** Bytes before the opcode of each map, and the mandatory prefix of each column. */
const ESCAPES: readonly (readonly number[])[] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
const MANDATORY = [0, 0x66, 0xf3, 0xf2];

export type Format = "int" | "f32" | "f64" | "f80" | "bcd";

/** The format that an instruction's memory or XMM operands most likely have. */
function format(insn: Insn): Format {
  const op = insn.op;
  const mem = insn.ops.find((o) => o.kind === K.MEM);
  if (op === "fbld") return "bcd";
  if (/^f(ld|st|stp|add|sub|mul|div|subr|divr|com|comp)$/.test(op) && mem)
    return mem.size === 4 ? "f32" : mem.size === 8 ? "f64" : "f80";
  if (op[0] === "p" || op.startsWith("cvtdq") || op.startsWith("cvtsi") || op.startsWith("cvtpi")) return "int";
  if (/(ps|ss|ps2pi|ss2si|ps2dq|ps2pd|ss2sd)$/.test(op)) return "f32";
  if (/(pd|sd|pd2pi|sd2si|pd2dq|pd2ps|sd2ss)$/.test(op)) return "f64";
  return "int";
}

/** An instruction, with whatever comes before it. */
export interface Encoding {
  readonly bits: 64 | 32;
  /** The last instruction of `code`: the one that the case is about. */
  readonly insn: Insn;
  readonly code: Uint8Array;
  readonly landing: boolean;
  /** Flags that the instructions before it leave undefined. */
  readonly loose: number;
  /** Its memory operand, and whether ModRM or a moffs gives it an address at all. */
  readonly mem: Operand | undefined;
  readonly addressed: boolean;
  /** The address of an operand without registers in it, else −1. */
  readonly fixed: number;
  readonly format: Format;
  /** General registers in the address (bit n). */
  readonly addressRegisters: number;
  readonly x87: boolean;
  /** Uses the x87, MMX or XMM registers; and which of them it names. */
  readonly floating: boolean;
  readonly mmx: readonly number[];
  readonly xmm: readonly number[];
  readonly st: readonly number[];
}

/** An address for a memory operand of this size. */
export function target(r: Random, op: string, size: number): number {
  const room = IMAGES.test(op) ? 512 : 32;
  if (r.chance(2)) return AREA + AREA_SIZE - r.below(Math.max(size, SPANS[op] ?? 1) + 4); // near or across the end
  if (r.chance(0.5)) return AREA - 1 - r.below(20);
  if (r.chance(0.5)) return r.pick([AREA + 0x100000, 0x1000, 0x30000000]);
  let at = AREA + 64 + r.below(AREA_SIZE - 128 - room);
  if (r.chance(3)) at = AREA + 0x1000 - r.below(16); // across the pages
  if (size === 16 || room === 512 ? r.chance(92) : r.chance(60)) at &= ~15;
  return at;
}
const SPANS: Readonly<Record<string, number>> = { fxsave: 530, fxrstor: 530, fnsave: 108, frstor: 108, fnstenv: 28, fldenv: 28 }; // prettier-ignore
const IMAGES = /^(fxsave|fxrstor|fldenv|fnstenv|fnsave|frstor)$/;

/** A target of a branch: a landing place in the code page, or rarely an unmapped one. */
export const landing = (r: Random): number =>
  r.chance(95) ? CODE_PAGE + r.below(0x700) : 0x40000000 + r.below(0x1000);

function setU32(bytes: number[], at: number, v: number): void {
  for (let i = 0; i < 4; i++) bytes[at + i] = (v >>> (8 * i)) & 0xff;
}

/** Prefixes, opcode, ModRM, SIB and displacement; where the displacement is (−1: no memory operand by ModRM). */
function encode(r: Random, form: Form): { bytes: number[]; disp: number } {
  const { place, bits } = form;
  const row = place.row;
  const is64 = bits === 64;
  const bytes: number[] = [];
  const branch = LANDING.has(row.op);
  if (row.lock && place.mem && r.chance(10)) bytes.push(0xf0);
  else if (r.chance(0.3)) bytes.push(0xf0);
  if (is64 ? r.chance(4) : r.chance(2) && !place.hasModrm && !row.string) bytes.push(0x67);
  if (r.chance(5)) bytes.push(is64 ? r.pick([0x65, 0x65, 0x2e, 0x3e, 0x26, 0x36]) : r.pick([0x3e, 0x26, 0x36]));
  const mandatory = MANDATORY[Math.max(place.prefix, 0)];
  // AMD processors honour 66 on near branches in 64-bit code; Intel's, and we, do not.
  if ((place.prefix <= 0 && !row.selected && r.chance(25) && !(branch && is64)) || (place.prefix > 1 && r.chance(5))) {
    if (place.prefix < 0 || row.string || place.prefix > 1) bytes.push(0x66);
  }
  if (row.string && STRINGS.has(row.op)) {
    if (r.chance(60)) bytes.push(r.chance(50) ? 0xf3 : 0xf2);
  } else if (place.map === 0 && place.prefix < 0 && !row.op.startsWith("loop") && r.chance(1))
    // They mean nothing here (but for AMD, whose loope and loopne take their condition from them).
    bytes.push(r.chance(50) ? 0xf3 : 0xf2);
  if (mandatory) bytes.push(mandatory);
  // A REX that is not the last prefix means nothing.
  if (is64 && r.chance(0.5)) bytes.unshift(0x40 | r.below(16));
  if (is64 && r.chance(55)) bytes.push(0x40 | r.below(16));
  bytes.push(...ESCAPES[place.map]);
  bytes.push(place.first + r.below(place.last - place.first + 1));
  let disp = -1;
  if (place.hasModrm) {
    let modrm = r.below(256);
    if (place.exact >= 0) modrm = place.exact;
    else {
      if (place.digit >= 0) modrm = (modrm & 0xc7) | (place.digit << 3);
      if (place.mem && !(place.reg && r.chance(40))) {
        modrm &= 0x3f;
        modrm |= r.below(3) << 6;
      } else modrm |= 0xc0;
    }
    bytes.push(modrm);
    if (modrm < 0xc0 && !row.ignoreMod) {
      const mod = modrm >> 6;
      let size = mod === 1 ? 1 : mod === 2 ? 4 : 0;
      if ((modrm & 7) === 4) {
        const sib = r.below(256);
        bytes.push(sib);
        if (mod === 0 && (sib & 7) === 5) size = 4;
      } else if (mod === 0 && (modrm & 7) === 5) size = 4;
      disp = bytes.length;
      // Displacements of 32 bits are kept small so that a register can bring the address into the area.
      const small = r.below(0x20000) - 0x10000;
      for (let i = 0; i < size; i++) bytes.push(size === 1 ? r.below(256) : (small >> (8 * i)) & 0xff);
    }
  }
  return { bytes, disp };
}

/** A short program instead of an instruction (`program.ts`). */
export function encodeProgram(r: Random, bits: 64 | 32): Encoding | null {
  const p = makeProgram(r, bits);
  if (!p) return null;
  const buffer = new Uint8Array(16);
  buffer[0] = 0x90;
  const nop = decode(buffer, 0, 16, bits);
  if (!nop) throw new Error("oracle: no nop");
  return {
    bits,
    insn: { ...nop, op: "program" },
    code: p.code,
    landing: false,
    loose: p.loose,
    mem: undefined,
    addressed: false,
    fixed: -1,
    format: "f32",
    addressRegisters: 0,
    x87: false,
    floating: true,
    mmx: [],
    xmm: [0, 1, 2, 3],
    st: [],
  };
}

/** An encoding of this form, or null if what came out is not one to try. */
export function makeEncoding(r: Random, form: Form): Encoding | null {
  const { bits } = form;
  const { bytes, disp } = encode(r, form);
  const start = bytes.length;
  for (let i = 0; i < 8; i++)
    bytes.push(r.chance(30) ? r.pick([0, 1, 7, 8, 31, 32, 63, 64, 0x7f, 0x80, 0xff]) : r.below(256));
  const buffer = new Uint8Array(16);
  const read = (): Insn | null => {
    buffer.set(bytes.slice(0, 16));
    return decode(buffer, 0, 16, bits);
  };
  let insn = read();
  if (!insn || insn.len > 15 || insn.op === "gp" || insn.op in EXCLUDED) return null;
  if (insn.op === "ud" && form.place.row.op !== "ud" && !bytes.includes(0xf0)) return null;
  const { op, len } = insn;
  // On AMD processors the first is an access to CR8, and the second reads four bytes.
  if (form.place.row.op === "mov_cr" && bytes.includes(0xf0)) return null;
  if (op === "movsxd" && insn.osize === 2 && insn.ops[1].kind === K.MEM) return null;
  const branch = LANDING.has(op);
  const prelude = makePrelude(r, insn, setOf(form.place) === "integer" || op.startsWith("fcmov") ? 25 : 5);
  const next = CODE + (prelude?.bytes.length ?? 0) + len;

  const mem = insn.ops.find((o) => o.kind === K.MEM);
  const moffs = form.place.row.codes.some((c) => c.h === H.MOFFS);
  const addressed = disp >= 0 || moffs;
  const { memBase, memIndex } = insn;
  let fixed = -1;
  if (addressed && (memBase < 0 || memBase === BASE_RIP)) {
    const at = target(r, op, mem?.size ?? 16);
    if (memIndex >= 0) setU32(bytes, disp, at - r.below(0x1000) * (1 << insn.memScale));
    else {
      if (memBase === BASE_RIP) setU32(bytes, disp, at - next);
      else if (moffs) for (let i = 0; i < insn.asize; i++) bytes[start + i] = i < 4 ? (at >>> (8 * i)) & 0xff : 0;
      else setU32(bytes, disp, at);
      fixed = insn.seg === 5 ? at + GS_BASE : at;
    }
  }
  if (branch) {
    const immediate = len - start;
    if (op === "jmp_ind" || op === "call_ind") {
      const o = insn.ops[0];
      if (o.kind !== K.MEM && o.reg === 4) return null;
    } else if (op !== "ret" && immediate === 1) {
      const rel = (bytes[start] << 24) >> 24;
      if (next + rel >= CODE && next + rel < next) return null;
    } else if (op !== "ret" && immediate === 4) setU32(bytes, start, landing(r) - next);
  }
  insn = read();
  if (!insn || insn.op !== op || insn.len !== len) return null;
  const code = new Uint8Array((prelude?.bytes.length ?? 0) + len);
  if (prelude) code.set(prelude.bytes);
  code.set(buffer.subarray(0, len), code.length - len);
  const registers = (kind: number): number[] => insn.ops.filter((o) => o.kind === kind).map((o) => o.reg);
  const x87 = op[0] === "f";
  const mmx = registers(K.MMX);
  const xmm = registers(K.XMM);
  return {
    bits,
    insn,
    code,
    landing: branch,
    loose: prelude?.loose ?? 0,
    mem,
    addressed,
    fixed,
    format: format(insn),
    addressRegisters: (memBase >= 0 && memBase < 16 ? 1 << memBase : 0) | (memIndex >= 0 ? 1 << memIndex : 0),
    x87,
    floating: x87 || mmx.length + xmm.length > 0,
    mmx,
    // blendv's mask is not named.
    xmm: xmm.length > 0 && /^p?blendv/.test(op) ? [...xmm, 0] : xmm,
    st: x87 ? [0, 1, ...registers(K.ST)] : [],
  };
}
