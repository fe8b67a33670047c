/**
 * Cases for the oracle: encodings (`encoding.ts`), several cases of each, with operands from `values.ts`. Case `index` of seed `seed`
 * and the same number of cases an encoding is always the same.
 *
 * Memory operands are steered into the area by setting their base or index register, mostly well inside, sometimes across its end or
 * somewhere unmapped. What the operand, the stack or a string finds there is a patch.
 */
import { K, type Insn } from "../../src/machine/cpu/insn.js";
import { AREA, AREA_SIZE, FX_SIZE, GS_BASE, PIECE, type Batch, type Case } from "./case.js";
import {
  encodeProgram,
  landing,
  makeEncoding,
  STRINGS,
  target,
  type Encoding,
  type Form,
  type Format,
} from "./encoding.js";
import { Random } from "./random.js";
import { decimal, float32, float64, float80, integer } from "./values.js";

/** Cases of one encoding, if the caller does not say. */
export const VARIANTS = 8;

/** What the area holds before each case: words of all value classes. */
export function memoryBase(seed: number): Uint8Array {
  const r = new Random();
  r.reseed(seed, 0xffffffff);
  const bytes = new Uint8Array(AREA_SIZE);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < AREA_SIZE; at += 8) integer(r, view, at);
  return bytes;
}

const STACK = new Set("push pop pusha popa pushf popf push_sreg enter leave ret call call_ind".split(" "));
const MAX_PATCHES = 255;

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
  readonly #variants: number;
  readonly #programs: boolean;
  readonly #base: Uint8Array;
  readonly #r = new Random();
  #encoding: Encoding | undefined;
  #group = -1;
  /** The floating-point state that an encoding's cases start from. */
  readonly #fxOfGroup = new Uint8Array(FX_SIZE);
  // The case being made.
  readonly #gpr = new Uint32Array(32);
  readonly #gprView = new DataView(this.#gpr.buffer);
  /** Patches: which one is at a piece of the area (0: none, n: the n-th), where they are, and their bytes. */
  readonly #patchAt = new Uint8Array(AREA_SIZE / 8);
  readonly #patched = new Uint16Array(MAX_PATCHES + 1);
  readonly #bytes = new Uint8Array((MAX_PATCHES + 1) * 8);
  #patches = 0;
  readonly #scratch = new DataView(new ArrayBuffer(64));

  /** `programs`: of the forms only the code sizes count. */
  constructor(seed: number, list: readonly Form[], base: Uint8Array, variants = VARIANTS, programs = false) {
    if (list.length === 0) throw new Error("oracle: no instruction form selected");
    this.#seed = seed;
    this.#forms = list;
    this.#base = base;
    this.#variants = variants;
    this.#programs = programs;
  }

  /** Make a case and put it into `batch`. */
  make(index: number, batch: Batch): Case {
    const e = this.#encodingOf(Math.floor(index / this.#variants));
    this.#r.reseed(this.#seed, (index << 1) | 1);
    const c = this.#case(e, index, batch);
    batch.add(c);
    return c;
  }

  #encodingOf(group: number): Encoding {
    if (this.#encoding && this.#group === group) return this.#encoding;
    const r = this.#r;
    r.reseed(this.#seed, group << 1);
    let e: Encoding | null;
    do e = this.#programs ? encodeProgram(r, r.pick(this.#forms).bits) : makeEncoding(r, r.pick(this.#forms));
    while (!e);
    this.#group = group;
    this.#encoding = e;
    this.#registers(e, this.#fxOfGroup, true);
    return e;
  }

  #case(e: Encoding, index: number, batch: Batch): Case {
    const r = this.#r;
    const { bits, insn } = e;
    const gpr = this.#gpr;
    const made = batch.open();
    this.#patches = 0;
    for (let i = 0; i < 16; i++) integer(r, this.#gprView, i * 8);
    if (r.chance(15)) this.#copyGpr(r.below(16), r.below(16));
    // The stack is always in the area: no fault of the host needs it, but push and pop do.
    this.#setGpr(4, AREA + 0x800 + r.below(0x400) * (r.chance(90) ? 8 : 1));
    if (r.chance(1)) this.#setGpr(4, AREA + r.below(16));

    // Several reasons to fault at once: which comes first?
    const hostile = e.floating && r.chance(0.4);
    let ea = e.fixed;
    if (e.addressed) {
      const format = r.chance(15) ? r.pick(FORMATS) : e.format;
      if (ea < 0) {
        const at = hostile ? AREA + AREA_SIZE - r.below(16) : target(r, insn.op, e.mem?.size ?? 16);
        ea = this.#steer(e, at);
        if (insn.seg === 5) ea += GS_BASE;
      }
      if (e.mem) this.#operand(e, ea, e.mem.size, format);
    }
    if (bits === 32) for (let i = 1; i < 32; i += 2) gpr[i] = 0;
    this.#implicit(e, ea);
    if (e.landing) this.#branch(insn, ea);
    made.gpr.set(gpr);
    const rflags = r.u32() & 0xcd5;
    this.#fx(e, hostile, made.fx);
    return {
      seed: this.#seed,
      index,
      bits,
      insn,
      code: e.code,
      gpr: made.gpr,
      rflags,
      fx: made.fx,
      patches: this.#collect(batch),
      landing: e.landing,
      loose: e.loose,
    };
  }

  /** The patches, in ascending order. */
  #collect(batch: Batch): Uint8Array {
    const n = this.#patches;
    if (n === 0) return NO_PATCHES;
    const order = this.#patched.subarray(1, n + 1);
    if (n > 1) order.sort();
    const patches = batch.patches(n);
    for (let i = 0; i < n; i++) {
      const offset = order[i];
      const from = this.#patchAt[offset >> 3] * 8;
      patches[i * PIECE] = offset & 0xff;
      patches[i * PIECE + 1] = offset >> 8;
      patches[i * PIECE + 2] = patches[i * PIECE + 3] = 0;
      for (let k = 0; k < 8; k++) patches[i * PIECE + 4 + k] = this.#bytes[from + k];
      this.#patchAt[offset >> 3] = 0;
    }
    return patches;
  }

  #setGpr(i: number, value: number): void {
    this.#gpr[i * 2] = value;
    this.#gpr[i * 2 + 1] = value < 0 ? 0xffffffff : 0;
  }
  #copyGpr(to: number, from: number): void {
    this.#gpr[to * 2] = this.#gpr[from * 2];
    this.#gpr[to * 2 + 1] = this.#gpr[from * 2 + 1];
  }

  /** Set the address registers so that the operand is at `ea`, or near it; the answer is where it is. */
  #steer(e: Encoding, ea: number): number {
    const r = this.#r;
    const { insn } = e;
    const scale = 1 << insn.memScale;
    const base = insn.memBase;
    const index = insn.memIndex;
    if (e.bits === 64 && insn.asize === 8 && r.chance(0.5) && this.#outside(base) && this.#outside(index)) return -1;
    if (base < 0 || index === base) {
      // disp + n × unit
      const unit = base < 0 ? scale : 1 + scale;
      let n = Math.floor((ea - insn.disp) / unit);
      if ((ea & 15) === 0) for (let i = 0; i < 16 && ((insn.disp + n * unit) & 15) !== 0; i++) n++;
      this.#setGpr(index, n);
      ea = insn.disp + n * unit;
    } else if (index < 0) this.#setGpr(base, ea - insn.disp);
    else if (base === 4 && r.chance(70)) {
      // Keep the stack pointer in the area and bring the operand there with a displacement or the index.
      const n = r.below(256) - 128;
      this.#setGpr(index, n);
      this.#setGpr(4, ea - insn.disp - n * scale);
    } else {
      const n = r.below(0x2000) - 0x1000;
      this.#setGpr(index, n);
      this.#setGpr(base, ea - insn.disp - n * scale);
    }
    if (e.bits === 64 && insn.asize === 4 && r.chance(50)) {
      // The upper halves must not matter.
      if (base >= 0) this.#gpr[base * 2 + 1] = r.u32();
      if (index >= 0) this.#gpr[index * 2 + 1] = r.u32();
    }
    return ea;
  }

  /** With this register the address may be anywhere, non-canonical too, but not where the oracle itself lies. */
  #outside(register: number): boolean {
    const hi = register < 0 ? 0x1000 : this.#gpr[register * 2 + 1];
    return hi !== 0 && hi !== 0xffffffff && (hi < 0x5000 || hi >= 0x7fff);
  }

  /** Put bytes into the area (clipped to it). */
  #store(address: number, view: DataView, size: number): void {
    for (let i = 0; i < size; i++) {
      const offset = address + i - AREA;
      if (offset < 0 || offset >= AREA_SIZE) continue;
      const piece = offset >> 3;
      let n = this.#patchAt[piece];
      if (n === 0) {
        if (this.#patches === MAX_PATCHES) throw new Error("oracle: too many patches");
        this.#patchAt[piece] = n = ++this.#patches;
        this.#patched[n] = piece << 3;
        for (let k = 0; k < 8; k++) this.#bytes[n * 8 + k] = this.#base[piece * 8 + k];
      }
      this.#bytes[n * 8 + (offset & 7)] = view.getUint8(i);
    }
  }

  #store64(address: number, lo: number, hi = 0): void {
    const s = this.#scratch;
    s.setUint32(0, lo >>> 0, true);
    s.setUint32(4, hi >>> 0, true);
    this.#store(address, s, 8);
  }

  #operand(e: Encoding, ea: number, size: number, f: Format): void {
    const { insn } = e;
    const r = this.#r;
    const s = this.#scratch;
    if (insn.op === "fxrstor") {
      const image = new Uint8Array(FX_SIZE);
      this.#fx(e, false, image);
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
  #implicit(e: Encoding, ea: number): void {
    const { insn } = e;
    const r = this.#r;
    const op = insn.op;
    const gpr = this.#gpr;
    const used = (i: number): boolean => ((e.addressRegisters >> i) & 1) !== 0;
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
    if (op === "program") {
      // The stack apart from the data: return addresses stay what they are.
      this.#setGpr(4, AREA + 0x400 + r.below(0x200));
      this.#setGpr(7, r.chance(10) ? AREA + AREA_SIZE - 0x30 + r.below(0x40) : AREA + 0x800 + r.below(0x1700));
      this.#setGpr(1, 1 + r.below(6));
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
      const n = this.#patchAt[offset >> 3];
      v |= (n ? this.#bytes[n * 8 + (offset & 7)] : this.#base[offset]) << (8 * i);
    }
    return v >>> 0;
  }

  /** Where a branch by a register or by memory goes. */
  #branch(insn: Insn, ea: number): void {
    if (insn.op === "ret") this.#store64(this.#gpr[8], landing(this.#r), 0);
    else if (insn.op === "jmp_ind" || insn.op === "call_ind") {
      const o = insn.ops[0];
      if (o.kind === K.MEM) this.#store64(ea, landing(this.#r), 0);
      else this.#setGpr(o.reg, landing(this.#r));
    }
  }

  /** Values for the x87, MMX and XMM registers: those that the encoding names, or all. */
  #registers(e: Encoding, fx: Uint8Array, all: boolean): void {
    const r = this.#r;
    const view = new DataView(fx.buffer, fx.byteOffset);
    if (all) for (let i = 0; i < 8; i++) float80(r, view, 32 + i * 16);
    else for (const i of e.st) float80(r, view, 32 + i * 16);
    if (e.mmx.length > 0) {
      const top = (fx[3] >> 3) & 7;
      if (all) for (let i = 0; i < 8; i++) integer(r, view, 32 + i * 16);
      else for (const i of e.mmx) integer(r, view, 32 + ((i - top) & 7) * 16);
    }
    if (e.x87 && r.chance(10)) for (let i = 1; i < 8; i++) fx.copyWithin(32 + i * 16, 32, 42);
    const f = e.format === "f80" || e.format === "bcd" ? "int" : e.format;
    const one = (i: number): void => {
      const g = r.chance(70) ? f : r.pick(FORMATS);
      value(r, g, view, 160 + i * 16);
      value(r, g, view, 168 + i * 16);
    };
    if (all) for (let i = 0; i < 16; i++) one(i);
    else for (const i of e.xmm) one(i);
    if (e.xmm.length === 0) return;
    if (r.chance(15)) {
      const from = r.pick(e.xmm);
      fx.copyWithin(160 + r.pick(e.xmm) * 16, 160 + from * 16, 176 + from * 16);
    }
    if (e.insn.op.includes("str")) {
      // String comparison: few different characters, with ends.
      for (const i of e.xmm) for (let k = 0; k < 16; k++) fx[160 + i * 16 + k] = r.pick(CHARACTERS);
    }
  }

  /** x87, MMX and SSE state. */
  #fx(e: Encoding, hostile: boolean, fx: Uint8Array): void {
    const r = this.#r;
    fx.set(this.#fxOfGroup);
    const masks = r.chance(hostile ? 0 : 96) ? 0x3f : r.below(64);
    const control =
      0x40 | masks | (r.chance(60) ? 0x300 : r.pick([0, 0x200, 0x300])) | (r.chance(60) ? 0 : r.below(4) << 10);
    // Sticky exceptions only where masked: a pending one is a case of its own.
    let status = (r.u32() & 0x4700) | (r.below(8) << 11);
    if (hostile || r.chance(30)) status |= r.below(64) & (r.chance(hostile ? 50 : 97) ? masks : 0x3f);
    if (status & ~masks & 0x3f) status |= 0x8080;
    fx[0] = control & 0xff;
    fx[1] = control >> 8;
    fx[2] = status & 0xff;
    fx[3] = status >> 8;
    fx[4] = r.chance(60) ? 0xff : r.chance(30) ? 0 : r.below(256);
    let mxcsr = 0x1f80 | (r.chance(60) ? 0 : r.below(4) << 13);
    if (r.chance(10)) mxcsr |= 0x8000;
    if (r.chance(10)) mxcsr |= 0x40;
    if (r.chance(hostile ? 50 : 3)) mxcsr &= ~(r.below(64) << 7);
    if (r.chance(30)) mxcsr |= r.below(64);
    fx[24] = mxcsr & 0xff;
    fx[25] = mxcsr >> 8;
    if (e.floating) this.#registers(e, fx, r.chance(4));
  }
}

const FORMATS: readonly Format[] = ["int", "f32", "f64"];
const CHARACTERS = [0x61, 0x61, 0x62, 0x63, 0x80, 0] as const;
const NO_PATCHES = new Uint8Array(0);
