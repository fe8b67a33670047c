/**
 * Cases for the oracle, from the decoder's own opcode tables: every row that runs in user mode, with operand sizes, register and memory
 * forms, prefixes and addressing forms, and with operands from `values.ts`. Case `index` of seed `seed` is always the same.
 *
 * Memory operands are steered into the area by setting their base or index register (or the displacement where there is none), mostly
 * well inside, sometimes across its end or somewhere unmapped. What the operand, the stack or a string finds there is a patch.
 */
import { decode } from "../../src/machine/cpu/decode/index.js";
import { H, PLACES, type Place } from "../../src/machine/cpu/decode/table.js";
import { BASE_RIP, K, type Insn } from "../../src/machine/cpu/insn.js";
import { AREA, AREA_SIZE, CODE, CODE_PAGE, FX_SIZE, GS_BASE, PIECE, type Case } from "./case.js";
import { Random } from "./random.js";
import { decimal, float32, float64, float80, integer } from "./values.js";

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

export type InstructionSet = "integer" | "x87" | "sse";

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

/** What the area holds before each case: words of all value classes. */
export function memoryBase(seed: number): Uint8Array {
  const r = new Random();
  r.reseed(seed, 0xffffffff);
  const bytes = new Uint8Array(AREA_SIZE);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < AREA_SIZE; at += 8) integer(r, view, at);
  return bytes;
}

const STRINGS = new Set(["movs", "stos", "lods", "cmps", "scas", "ins", "outs"]);
const LANDING = new Set(["jmp", "jcc", "call", "ret", "jmp_ind", "call_ind", "loop", "loope", "loopne", "jcxz"]);
const STACK = new Set([
  "push",
  "pop",
  "pusha",
  "popa",
  "pushf",
  "popf",
  "push_sreg",
  "enter",
  "leave",
  "ret",
  "call",
  "call_ind",
]);
/** Bytes before the opcode of each map, and the mandatory prefix of each column. */
const ESCAPES: readonly (readonly number[])[] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
const MANDATORY = [0, 0x66, 0xf3, 0xf2];

type Format = "int" | "f32" | "f64" | "f80" | "bcd";

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

function value(r: Random, f: Format, view: DataView, at: number): void {
  if (f === "f32") {
    float32(r, view, at);
    float32(r, view, at + 4);
  } else if (f === "f64") float64(r, view, at);
  else if (f === "f80") float80(r, view, at);
  else if (f === "bcd") decimal(r, view, at);
  else integer(r, view, at);
}

export class Generator {
  readonly #forms: readonly Form[];
  readonly #seed: number;
  readonly #base: DataView;
  readonly #r = new Random();
  // The case being made.
  #gpr = new Uint32Array(32);
  #gprView = new DataView(this.#gpr.buffer);
  readonly #patch = new Map<number, Uint8Array>();
  readonly #scratch = new DataView(new ArrayBuffer(64));

  constructor(seed: number, list: readonly Form[], base: Uint8Array) {
    if (list.length === 0) throw new Error("oracle: no instruction form selected");
    this.#seed = seed;
    this.#forms = list;
    this.#base = new DataView(base.buffer, base.byteOffset);
  }

  make(index: number): Case {
    const r = this.#r;
    r.reseed(this.#seed, index);
    for (;;) {
      const form = r.pick(this.#forms);
      const c = this.#try(form, index);
      if (c) return c;
    }
  }

  /** Prefixes, opcode, ModRM, SIB and displacement; where the displacement is (−1: no memory operand by ModRM). */
  #encode(form: Form): { bytes: number[]; disp: number; dispSize: number } {
    const r = this.#r;
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
    if (
      (place.prefix <= 0 && !row.selected && r.chance(25) && !(branch && is64)) ||
      (place.prefix > 1 && r.chance(5))
    ) {
      if (place.prefix < 0 || row.string || place.prefix > 1) bytes.push(0x66);
    }
    if (row.string && STRINGS.has(row.op) && r.chance(60)) bytes.push(r.chance(50) ? 0xf3 : 0xf2);
    if (mandatory) bytes.push(mandatory);
    if (is64 && r.chance(55)) bytes.push(0x40 | r.below(16));
    bytes.push(...ESCAPES[place.map]);
    bytes.push(place.first + r.below(place.last - place.first + 1));
    let disp = -1;
    let dispSize = 0;
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
        dispSize = mod === 1 ? 1 : mod === 2 ? 4 : 0;
        if ((modrm & 7) === 4) {
          const sib = r.below(256);
          bytes.push(sib);
          if (mod === 0 && (sib & 7) === 5) dispSize = 4;
        } else if (mod === 0 && (modrm & 7) === 5) dispSize = 4;
        disp = bytes.length;
        // Displacements of 32 bits are kept small so that a register can bring the address into the area.
        const small = r.below(0x20000) - 0x10000;
        for (let i = 0; i < dispSize; i++) bytes.push(dispSize === 1 ? r.below(256) : (small >> (8 * i)) & 0xff);
      }
    }
    return { bytes, disp, dispSize };
  }

  #u32(bytes: number[], at: number, v: number): void {
    for (let i = 0; i < 4; i++) bytes[at + i] = (v >>> (8 * i)) & 0xff;
  }

  #try(form: Form, index: number): Case | null {
    const r = this.#r;
    const { bits } = form;
    const { bytes, disp, dispSize } = this.#encode(form);
    const start = bytes.length;
    for (let i = 0; i < 8; i++)
      bytes.push(r.chance(30) ? r.pick([0, 1, 7, 8, 31, 32, 63, 64, 0x7f, 0x80, 0xff]) : r.below(256));
    const buffer = new Uint8Array(16);
    buffer.set(bytes.slice(0, 16));
    let insn = decode(buffer, 0, 16, bits);
    if (!insn || insn.len > 15 || insn.op === "gp" || insn.op in EXCLUDED) return null;
    if (insn.op === "ud" && form.place.row.op !== "ud" && !bytes.includes(0xf0)) return null;

    const gpr = (this.#gpr = new Uint32Array(32));
    this.#gprView = new DataView(gpr.buffer);
    this.#patch.clear();
    for (let i = 0; i < 16; i++) integer(r, this.#gprView, i * 8);
    if (r.chance(15)) this.#copyGpr(r.below(16), r.below(16));
    if (bits === 32) for (let i = 1; i < 32; i += 2) gpr[i] = 0;
    // The stack is always in the area: no fault of the host needs it, but push and pop do.
    this.#setGpr(4, AREA + 0x800 + r.below(0x400) * (r.chance(90) ? 8 : 1));
    if (r.chance(1)) this.#setGpr(4, AREA + r.below(16));

    // Memory operand.
    const mem = insn.ops.find((o) => o.kind === K.MEM);
    let ea = -1;
    let patchFormat: Format = format(insn);
    if (r.chance(15)) patchFormat = r.pick<Format>(["int", "f32", "f64"]);
    const moffs = form.place.row.codes.some((c) => c.h === H.MOFFS);
    if (disp >= 0 || moffs) {
      ea = this.#target(insn, mem?.size ?? 16);
      if (insn.memBase === BASE_RIP) {
        const rel = ea - (CODE + insn.len);
        this.#u32(bytes, disp, rel);
      } else if (insn.memBase < 0 && insn.memIndex < 0) {
        if (moffs) {
          for (let i = 0; i < insn.asize; i++) bytes[start + i] = i < 4 ? (ea >>> (8 * i)) & 0xff : 0;
        } else this.#u32(bytes, disp, ea);
      } else this.#steer(insn, ea, bytes, disp, dispSize);
      if (insn.seg === 5) ea += GS_BASE;
      buffer.set(bytes.slice(0, 16));
      insn = decode(buffer, 0, 16, bits);
      if (!insn) return null;
      if (mem) this.#operand(ea, mem.size, insn, patchFormat);
    }
    this.#implicit(insn, ea);
    if (LANDING.has(insn.op) && !this.#branch(insn, ea, bytes, start)) return null;
    buffer.set(bytes.slice(0, 16));
    insn = decode(buffer, 0, 16, bits);
    if (!insn) return null;

    const patches = new Uint8Array(this.#patch.size * PIECE);
    const view = new DataView(patches.buffer);
    let at = 0;
    for (const [offset, piece] of [...this.#patch].sort((a, b) => a[0] - b[0])) {
      view.setUint32(at, offset, true);
      patches.set(piece, at + 4);
      at += PIECE;
    }
    if (this.#patch.size > 255) return null;
    return {
      seed: this.#seed,
      index,
      bits,
      insn,
      code: buffer.slice(0, insn.len),
      gpr,
      rflags: r.u32() & 0xcd5,
      fx: this.#fx(insn),
      patches,
      landing: LANDING.has(insn.op),
    };
  }

  #setGpr(i: number, value: number): void {
    this.#gpr[i * 2] = value;
    this.#gpr[i * 2 + 1] = value < 0 ? 0xffffffff : 0;
  }
  #copyGpr(to: number, from: number): void {
    this.#gpr[to * 2] = this.#gpr[from * 2];
    this.#gpr[to * 2 + 1] = this.#gpr[from * 2 + 1];
  }

  /** An address for a memory operand of this size. */
  #target(insn: Insn, size: number): number {
    const r = this.#r;
    const room = /^(fxsave|fxrstor|fldenv|fnstenv|fnsave|frstor)$/.test(insn.op) ? 512 : 32;
    if (r.chance(2)) return AREA + AREA_SIZE - r.below(Math.max(size, 1) + 4); // near or across the end
    if (r.chance(0.5)) return AREA - 1 - r.below(20);
    if (r.chance(0.5)) return r.pick([AREA + 0x100000, 0x1000, 0x30000000]);
    let at = AREA + 64 + r.below(AREA_SIZE - 128 - room);
    if (r.chance(3)) at = AREA + 0x1000 - r.below(16); // across the pages
    if (size === 16 || room === 512 ? r.chance(92) : r.chance(60)) at &= ~15;
    return at;
  }

  /** Set the address registers so that the operand is at `ea`. */
  #steer(insn: Insn, ea: number, bytes: number[], disp: number, dispSize: number): void {
    const r = this.#r;
    const scale = 1 << insn.memScale;
    const base = insn.memBase;
    const index = insn.memIndex;
    const wild = r.chance(0.5); // anywhere, non-canonical too
    if (wild && insn.bits === 64) return;
    if (base < 0) {
      // disp32 + index * scale
      const n = r.below(0x1000);
      this.#setGpr(index, n);
      this.#u32(bytes, disp, ea - n * scale);
    } else if (index < 0) this.#setGpr(base, ea - insn.disp);
    else if (index === base) {
      const n = Math.floor((ea - insn.disp) / (1 + scale));
      this.#setGpr(index, n);
      const rest = ea - n * (1 + scale);
      if (dispSize === 4) this.#u32(bytes, disp, rest);
    } else if (base === 4 && r.chance(70)) {
      // Keep the stack pointer in the area and bring the operand there with a displacement or the index.
      const n = r.below(256) - 128;
      this.#setGpr(index, n);
      this.#setGpr(4, ea - insn.disp - n * scale);
    } else {
      const n = r.below(0x2000) - 0x1000;
      this.#setGpr(index, n);
      this.#setGpr(base, ea - insn.disp - n * scale);
    }
    if (insn.bits === 32) for (let i = 1; i < 32; i += 2) this.#gpr[i] = 0;
    else if (insn.asize === 4 && r.chance(50)) {
      // The upper halves must not matter.
      if (base >= 0 && base < 16) this.#gpr[base * 2 + 1] = r.u32();
      if (index >= 0) this.#gpr[index * 2 + 1] = r.u32();
    }
  }

  /** Put bytes into the area (clipped to it). */
  #store(address: number, view: DataView, size: number): void {
    for (let i = 0; i < size; i++) {
      const offset = address + i - AREA;
      if (offset < 0 || offset >= AREA_SIZE) continue;
      const at = offset & ~7;
      let piece = this.#patch.get(at);
      if (!piece) {
        piece = new Uint8Array(8);
        for (let j = 0; j < 8; j++) piece[j] = this.#base.getUint8(at + j);
        this.#patch.set(at, piece);
      }
      piece[offset & 7] = view.getUint8(i);
    }
  }

  #store64(address: number, lo: number, hi = 0): void {
    const s = this.#scratch;
    s.setUint32(0, lo >>> 0, true);
    s.setUint32(4, hi >>> 0, true);
    this.#store(address, s, 8);
  }

  #operand(ea: number, size: number, insn: Insn, f: Format): void {
    const r = this.#r;
    const s = this.#scratch;
    if (insn.op === "fxrstor") {
      const image = this.#fx(insn);
      this.#store(ea, new DataView(image.buffer), FX_SIZE);
      return;
    }
    if (insn.op === "fldenv" || insn.op === "frstor") {
      // Control word, status word, tags; pointers of the 32-bit layout.
      s.setUint16(0, r.pick([0x37f, 0x27f, 0x7f, 0xf7f, 0xb7f, 0x77f, 0x340]), true);
      s.setUint16(2, r.u32() & 0x7f7f, true);
      this.#store(ea, s, 4);
      const wide = insn.osize !== 2;
      s.setUint16(0, r.u32(), true);
      this.#store(ea + (wide ? 4 : 2), s, 2);
      s.setUint16(0, r.pick([0x37f, 0x27f, 0x7f, 0xf7f, 0xb7f, 0x77f, 0x340]), true);
      this.#store(ea, s, 2);
      s.setUint16(0, r.u32() & 0x7f40, true);
      this.#store(ea + (wide ? 4 : 2), s, 2);
      return;
    }
    if (insn.op === "fldcw") {
      s.setUint16(0, r.pick([0x37f, 0x27f, 0x7f, 0xf7f, 0xb7f, 0x77f, 0x340, 0x1f3f]), true);
      this.#store(ea, s, 2);
      return;
    }
    if (insn.op === "ldmxcsr") {
      s.setUint32(0, r.chance(90) ? r.u32() & 0xffff : r.u32(), true);
      this.#store(ea, s, 4);
      return;
    }
    value(r, f, s, 0);
    if (f !== "f80" && f !== "bcd") value(r, f, s, 8);
    this.#store(ea, s, f === "f80" || f === "bcd" ? 10 : Math.max(size, 8));
    const bit = insn.op;
    if (bit === "bt" || bit === "bts" || bit === "btr" || bit === "btc") {
      // The register's bit offset moves the address: keep it in the area.
      const o = insn.ops[1];
      if (o.kind === K.GPR && o.reg !== insn.memBase && o.reg !== insn.memIndex)
        this.#setGpr(o.reg, r.below(1024) - 512);
    }
  }

  /** Registers and memory that an instruction uses without naming them. */
  #implicit(insn: Insn, ea: number): void {
    const r = this.#r;
    const op = insn.op;
    const gpr = this.#gpr;
    const used = (i: number): boolean => insn.memBase === i || insn.memIndex === i;
    if (STRINGS.has(op)) {
      const n = r.chance(5) ? 0 : r.below(16);
      if (insn.rep) this.#setGpr(1, n);
      const place = (): number => {
        if (r.chance(3)) return AREA + AREA_SIZE - r.below(24);
        if (r.chance(3)) return AREA + r.below(24);
        return AREA + 0x200 + r.below(AREA_SIZE - 0x400);
      };
      this.#setGpr(6, place() - (insn.seg === 5 ? GS_BASE : 0));
      this.#setGpr(7, r.chance(25) ? gpr[12] + r.below(64) - 32 : place());
      if (r.chance(40) && (op === "cmps" || op === "scas")) {
        // Equal for a while.
        const s = this.#scratch;
        for (let i = 0; i < 4; i++) integer(r, s, i * 8);
        this.#store(gpr[12] + (insn.seg === 5 ? GS_BASE : 0), s, 32);
        if (op === "scas") this.#store(gpr[14], this.#gprView, 8);
        else this.#store(gpr[14], s, 32);
      }
      if (insn.bits === 64 && insn.asize === 4 && r.chance(50)) for (const i of [1, 6, 7]) gpr[i * 2 + 1] = r.u32();
      return;
    }
    if (op === "xlat") this.#setGpr(3, AREA + 0x100 + r.below(0x1000));
    if (op === "maskmovq" || op === "maskmovdqu") this.#setGpr(7, AREA + 0x100 + r.below(0x1000));
    if (op.startsWith("loop") || op === "jcxz") {
      if (r.chance(50)) this.#setGpr(1, r.below(3));
    }
    if (STACK.has(op) && !used(4)) {
      const s = this.#scratch;
      if (op === "leave" || op === "enter") this.#setGpr(5, AREA + 0x800 + r.below(0x800));
      if (op === "popf") {
        // Any flags but TF, and those that would change the way back.
        s.setUint32(0, r.u32() & 0x00240fd5 & ~0x100, true);
        s.setUint32(4, r.u32(), true);
        this.#store(gpr[8], s, 8);
      }
      if (op === "enter" && r.chance(5)) this.#setGpr(5, AREA + r.below(0x40));
    }
    if (/^i?div$/.test(op) && r.chance(80)) {
      // Make the quotient fit most of the time.
      if (insn.osize === 1) gpr[0] = (gpr[0] & 0xffff0000) | (r.chance(50) ? r.below(0x400) : -r.below(0x400) & 0xffff);
      else {
        const negative = op === "idiv" && r.chance(50);
        const reg = insn.ops[0];
        if (!used(2) && !(reg.kind === K.GPR && reg.reg === 2 && !reg.high)) {
          gpr[4] = negative ? 0xffffffff - r.below(2) : r.below(3);
          gpr[5] = negative && insn.osize === 8 ? 0xffffffff : 0;
        }
      }
    }
    if (op === "cmpxchg" && r.chance(50)) {
      const o = insn.ops[0];
      if (o.kind === K.GPR && !o.high) this.#copyGpr(0, o.reg);
      else if (o.kind === K.MEM && !used(0)) {
        gpr[0] = this.#load32(ea);
        gpr[1] = this.#load32(ea + 4);
      }
    }
    if ((op === "cmpxchg8b" || op === "cmpxchg16b") && r.chance(50)) {
      const wide = op === "cmpxchg16b";
      if (!used(0)) {
        gpr[0] = this.#load32(ea);
        if (wide) gpr[1] = this.#load32(ea + 4);
      }
      if (!used(2)) {
        gpr[4] = this.#load32(ea + (wide ? 8 : 4));
        if (wide) gpr[5] = this.#load32(ea + 12);
      }
    }
    if (/^pcmpestr/.test(op)) {
      if (!used(0) && r.chance(80)) this.#setGpr(0, r.below(40) - 20);
      if (!used(2) && r.chance(80)) this.#setGpr(2, r.below(40) - 20);
    }
    if (insn.bits === 32) for (let i = 1; i < 32; i += 2) gpr[i] = 0;
  }

  #load32(address: number): number {
    let v = 0;
    for (let i = 0; i < 4; i++) {
      const offset = address + i - AREA;
      if (offset < 0 || offset >= AREA_SIZE) return 0;
      const piece = this.#patch.get(offset & ~7);
      v |= (piece ? piece[offset & 7] : this.#base.getUint8(offset)) << (8 * i);
    }
    return v >>> 0;
  }

  /** Give a branch a target: a landing place in the code page, or rarely an unmapped one. False: give up. */
  #branch(insn: Insn, ea: number, bytes: number[], start: number): boolean {
    const r = this.#r;
    const target = r.chance(95) ? CODE_PAGE + r.below(0x700) : 0x40000000 + r.below(0x1000);
    const next = CODE + insn.len;
    const op = insn.op;
    if (op === "ret") {
      this.#store64(this.#gpr[8], target, 0);
      return true;
    }
    if (op === "jmp_ind" || op === "call_ind") {
      const o = insn.ops[0];
      if (o.kind === K.MEM) this.#store64(ea, target, 0);
      else if (o.reg === 4) return false;
      else this.#setGpr(o.reg, target);
      return true;
    }
    const size = insn.len - start;
    if (size === 1) {
      const rel = (bytes[start] << 24) >> 24;
      if (next + rel >= CODE && next + rel < next) return false;
    } else if (size === 4) this.#u32(bytes, start, target - next);
    return true;
  }

  /** x87, MMX and SSE state. */
  #fx(insn: Insn): Uint8Array {
    const r = this.#r;
    const fx = new Uint8Array(FX_SIZE);
    const view = new DataView(fx.buffer);
    const x87 = insn.op[0] === "f";
    const masks = r.chance(96) ? 0x3f : r.below(64);
    const control =
      0x40 | masks | (r.chance(60) ? 0x300 : r.pick([0, 0x200, 0x300])) | (r.chance(60) ? 0 : r.below(4) << 10);
    // Sticky exceptions only where masked: a pending one is a case of its own.
    let status = (r.u32() & 0x4700) | (r.below(8) << 11);
    if (r.chance(30)) status |= r.below(64) & (r.chance(97) ? masks : 0x3f);
    if (status & ~masks & 0x3f) status |= 0x8080;
    view.setUint16(0, control, true);
    view.setUint16(2, status, true);
    fx[4] = r.chance(60) ? 0xff : r.chance(30) ? 0 : r.below(256);
    let mxcsr = 0x1f80 | (r.chance(60) ? 0 : r.below(4) << 13);
    if (r.chance(10)) mxcsr |= 0x8000;
    if (r.chance(10)) mxcsr |= 0x40;
    if (r.chance(3)) mxcsr &= ~(r.below(64) << 7);
    if (r.chance(30)) mxcsr |= r.below(64);
    view.setUint32(24, mxcsr, true);
    const f = format(insn);
    const used = x87 || insn.ops.some((o) => o.kind === K.XMM || o.kind === K.MMX);
    if (!used && r.chance(80)) return fx;
    const near = r.chance(10);
    for (let i = 0; i < 8; i++) {
      float80(r, view, 32 + i * 16);
      if (insn.ops.some((o) => o.kind === K.MMX)) integer(r, view, 32 + i * 16);
      if (near && i > 0) fx.copyWithin(32 + i * 16, 32, 42);
    }
    for (let i = 0; i < 16; i++) {
      const g = r.chance(70) ? f : r.pick<Format>(["int", "f32", "f64"]);
      value(r, g === "f80" || g === "bcd" ? "int" : g, view, 160 + i * 16);
      value(r, g === "f80" || g === "bcd" ? "int" : g, view, 168 + i * 16);
    }
    if (r.chance(15)) fx.copyWithin(160 + r.below(16) * 16, 160, 176);
    if (insn.op.includes("str")) {
      // String comparison: few different characters, with ends.
      for (let i = 160; i < FX_SIZE; i++) fx[i] = r.pick([0x61, 0x61, 0x62, 0x63, 0x80, 0]);
    }
    return fx;
  }
}
