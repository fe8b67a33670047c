/**
 * Short programs for the oracle: straight pieces of register and memory instructions, branches forward, and loops that end. They are about what
 * single instructions do not show: flags that travel between instructions and over joins, registers and their parts, faults in the middle.
 *
 * RSP and RDI (the data) stay as they are, and ECX only counts. No instruction looks at flags that the manuals leave undefined.
 */
import { decode } from "../../src/machine/cpu/decode/index.js";
import { ARITH, CF, OF, ZF } from "../../src/machine/cpu/flags.js";
import type { Insn } from "../../src/machine/cpu/insn.js";
import { MAX_CODE } from "./case.js";
import { flagsRead } from "./prelude.js";
import type { Random } from "./random.js";
import { undefinedFlags } from "./rules.js";

export interface Program {
  readonly code: Uint8Array;
  /** Flags that are undefined at its end or at a fault. */
  readonly loose: number;
}

interface Item {
  readonly bytes: number[];
  readonly insn: Insn;
  /** A branch or call to the item with this number; its last byte (of a call: four) is the displacement. */
  target: number;
}

const EAX = 0,
  RDI = 7;
/** Registers that programs compute with. */
const FREE_64 = [0, 2, 3, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15] as const;
const FREE_32 = [0, 2, 3, 5, 6] as const;

class Writer {
  readonly #r: Random;
  readonly #wide: boolean;
  readonly #free: readonly number[];
  constructor(r: Random, bits: 64 | 32) {
    this.#r = r;
    this.#wide = bits === 64;
    this.#free = this.#wide ? FREE_64 : FREE_32;
  }

  /** Prefixes, opcode and ModRM. `rm` −1: memory at RDI. */
  #form(
    size: number,
    prefix: number,
    opcode: readonly number[],
    reg: number,
    rm: number,
    imm: readonly number[] = [],
  ): number[] {
    const bytes: number[] = [];
    if (size === 2) bytes.push(0x66);
    if (prefix) bytes.push(prefix);
    const rex = (size === 8 ? 8 : 0) | ((reg >> 3) << 2) | (rm >= 8 ? 1 : 0);
    if (this.#wide && (rex !== 0 || size === 1)) bytes.push(0x40 | rex);
    bytes.push(...opcode);
    if (rm < 0) bytes.push(0x40 | ((reg & 7) << 3) | RDI, (this.#r.below(0x40) - 0x10 + 0x100) & 0xff);
    else bytes.push(0xc0 | ((reg & 7) << 3) | (rm & 7));
    bytes.push(...imm);
    return bytes;
  }
  #size(): number {
    return this.#r.pick(this.#wide ? [1, 2, 4, 4, 8, 8] : [1, 2, 4, 4]);
  }
  /** A register for this size; bytes of 32-bit code are AL DL BL AH DH BH. */
  #reg(size: number): number {
    return size === 1 && !this.#wide ? this.#r.pick([0, 2, 3, 4, 6, 7]) : this.#r.pick(this.#free);
  }
  #any(size: number): number {
    return this.#r.chance(25) ? -1 : this.#reg(size);
  }

  /** An instruction that computes. */
  compute(): number[] {
    const r = this.#r;
    const size = this.#size();
    const w = size === 1 ? 0 : 1;
    const reg = this.#reg(size);
    const big = Math.max(size, 2);
    switch (r.below(20)) {
      case 0:
      case 1:
      case 2: // add … cmp, both directions
        return this.#form(size, 0, [r.below(8) * 8 + w + (r.chance(50) ? 2 : 0)], reg, this.#any(size));
      case 3: // with an immediate
        return this.#form(size, 0, [0x82 + w === 0x82 ? 0x80 : 0x83], r.below(8), this.#any(size), [r.below(256)]);
      case 4:
        return this.#form(size, 0, [0x84 + w], reg, this.#any(size)); // test
      case 5: // inc dec
        return this.#form(size, 0, [0xfe + w], r.below(2), this.#any(size));
      case 6: // not neg
        return this.#form(size, 0, [0xf6 + w], 2 + r.below(2), this.#any(size));
      case 7: // shifts and rotations
        if (r.chance(40)) return this.#form(size, 0, [0xd0 + w], r.below(8), this.#any(size));
        if (r.chance(70)) return this.#form(size, 0, [0xc0 + w], r.below(8), this.#any(size), [r.below(32)]);
        return this.#form(size, 0, [0xd2 + w], r.below(8), this.#any(size));
      case 8: // mov
        return this.#form(size, 0, [0x88 + w + (r.chance(50) ? 2 : 0)], reg, this.#any(size));
      case 9: // movzx movsx of a byte or word
        return this.#form(big === 2 ? 4 : big, 0, [0x0f, r.pick([0xb7, 0xbf])], this.#reg(4), this.#any(4));
      case 10: // bt and its kin
        return this.#form(big, 0, [0x0f, 0xba], 4 + r.below(4), this.#any(big), [r.below(64)]);
      case 11: // imul
        return this.#form(big, 0, [0x0f, 0xaf], this.#reg(big), this.#any(big));
      case 12: // xadd, cmpxchg
        return this.#form(size, 0, [0x0f, (r.chance(50) ? 0xc0 : 0xb0) + w], reg, this.#any(size));
      case 13: // stc clc cmc, sahf, cdq; lahf
        return r.chance(20) ? [0x9f] : [r.pick([0xf9, 0xf8, 0xf5, 0x9e, 0x99])];
      case 14: // popcnt, xchg
        return r.chance(50)
          ? this.#form(big, 0xf3, [0x0f, 0xb8], this.#reg(big), this.#any(big))
          : this.#form(size, 0, [0x86 + w], reg, this.#any(size));
      case 15: // setcc
        return this.#form(1, 0, [0x0f, 0x90 + r.below(16)], 0, this.#any(1));
      case 16: // cmovcc
        return this.#form(big, 0, [0x0f, 0x40 + r.below(16)], this.#reg(big), this.#any(big));
      case 17: // push and pop of different registers
        return this.#wide ? [0x50 + r.pick([0, 2, 3, 5, 6])] : [0x50 + r.pick([0, 2, 3, 5, 6])];
      case 18: // adc sbb once more: carry chains
        return this.#form(size, 0, [r.pick([0x10, 0x18]) + w], reg, this.#any(size));
      default:
        return this.#vector();
    }
  }
  /** XMM registers, in between: they are locals of a region too. */
  #vector(): number[] {
    const r = this.#r;
    const x = r.below(4);
    const rm = r.chance(30) ? -1 : r.below(4);
    const g = this.#reg(4);
    switch (r.below(6)) {
      case 0:
        return this.#form(4, 0xf3, [0x0f, r.pick([0x6f, 0x7f])], x, rm); // movdqu
      case 1:
        return this.#form(4, 0x66, [0x0f, r.pick([0x6e, 0x7e])], x, g); // movd
      case 2:
        return this.#form(4, 0, [0x0f, r.pick([0x2e, 0x2f])], x, rm); // ucomiss comiss
      case 3:
        return this.#form(4, 0xf3, [0x0f, 0x58], x, rm); // addss
      default:
        return this.#form(4, 0x66, [0x0f, r.pick([0xfe, 0xef, 0xd4, 0x66])], x, rm < 0 ? x : rm); // paddd pxor paddq pcmpgtd
    }
  }
  /** Count down: the flags of the branch that follows come from here, but for `loop`. */
  count(): number[] {
    const r = this.#r;
    if (!this.#wide && r.chance(50)) return [0x49]; // dec ecx
    return r.pick([
      [0xff, 0xc9], // dec ecx
      [0x83, 0xe9, 1], // sub ecx, 1
      [0x83, 0xc1, 0xff], // add ecx, −1
    ]);
  }
}

/** Flags that an instruction neither sets nor leaves undefined. */
function keeps(insn: Insn): number {
  switch (insn.op) {
    case "inc":
    case "dec":
      return CF;
    case "stc":
    case "clc":
    case "cmc":
      return ARITH & ~CF;
    case "sahf":
      return OF;
    case "rol":
    case "ror":
    case "rcl":
    case "rcr":
      return ARITH;
    case "shl":
    case "shr":
    case "sar":
      return byCl(insn) || (insn.imm & 0x1f) === 0 ? ARITH : 0;
    case "bt":
    case "bts":
    case "btr":
    case "btc":
      return ZF;
    default:
      return SETS_ALL.test(insn.op) ? 0 : ARITH;
  }
}
const SETS_ALL = /^(add|adc|sub|sbb|cmp|and|or|xor|test|neg|xadd|popcnt|cmpxchg|imul|u?comiss)$/;
const byCl = (insn: Insn): boolean => insn.ops.length === 2 && insn.ops[1].kind === 1 && /^(s|r)/.test(insn.op);
const NO_GPR = new Uint32Array(32);
function leaves(insn: Insn): number {
  // A count in CL: whatever it may be.
  if (/^(sh[lr]|sar|r[oc][lr])$/.test(insn.op) && byCl(insn)) return 0x811;
  return undefinedFlags({ insn, gpr: NO_GPR }, 0);
}

/** Where an item leads. */
function successors(items: readonly Item[], i: number): number[] {
  const { insn, target } = items[i];
  if (insn.op === "ret") return items.flatMap((x, k) => (x.insn.op === "call" ? [k + 1] : []));
  if (insn.op === "jmp" || insn.op === "call") return [target];
  return target >= 0 ? [i + 1, target] : [i + 1];
}

/** Undefined flags before each item and at the end, over all paths. */
function undefinedAt(items: readonly Item[]): Uint16Array {
  const at = new Uint16Array(items.length + 1);
  for (let changed = true; changed;) {
    changed = false;
    for (const [i, { insn }] of items.entries()) {
      const out = (at[i] & keeps(insn)) | leaves(insn);
      for (const t of successors(items, i)) {
        if ((at[t] | out) === at[t]) continue;
        at[t] |= out;
        changed = true;
      }
    }
  }
  return at;
}

/** A call, not yet of anything. */
function call(bits: 64 | 32): Insn {
  const insn = decode(new Uint8Array([0xe8, 0, 0, 0, 0, ...new Uint8Array(11)]), 0, 16, bits);
  if (!insn) throw new Error("oracle: no call");
  return insn;
}

/** A program, or null if what came out is not one to try. */
export function makeProgram(r: Random, bits: 64 | 32): Program | null {
  const w = new Writer(r, bits);
  const items: Item[] = [];
  const add = (bytes: number[], target = -1): void => {
    const buffer = new Uint8Array(16);
    buffer.set(bytes);
    const insn = decode(buffer, 0, 16, bits);
    if (insn?.len !== bytes.length || insn.op === "ud") throw new Error(`oracle: ${bytes.join()} does not decode`);
    items.push({ bytes, insn, target });
  };
  const n = 3 + r.below(12);
  let loops = 0;
  for (let i = 0; i < n; i++) {
    const from = items.length;
    // A branch forward, to the item that will have this number.
    if (i > 0 && r.chance(20)) add([0x70 + r.below(16), 0], from + 2 + r.below(4));
    else add(w.compute());
    // One counter: one loop.
    if (loops === 0 && i > 1 && r.chance(20)) {
      loops++;
      const start = r.below(items.length);
      if (r.chance(30)) add([r.pick([0xe2, 0xe2, 0xe1, 0xe0]), 0], start);
      else {
        add(w.count());
        if (r.chance(30)) add(bits === 64 ? [0x8d, 0x40 | (EAX << 3) | RDI, 5] : [0x8b, 0xc3]); // lea eax, [rdi + 5]; mov eax, ebx
        add([0x75, 0], start);
      }
    }
  }
  // A jump over the counting could make a loop endless, and one over its end is fine.
  const counting = items.findIndex((x) => x.target >= 0 && x.target <= items.indexOf(x));
  for (const [i, x] of items.entries()) {
    if (x.target <= i) continue;
    x.target = Math.min(x.target, items.length);
    if (counting >= 0 && i < counting && x.target > counting - 3 && x.target <= counting) x.target = counting + 1;
  }
  // A subroutine, behind a jump over it, and calls of it.
  if (r.chance(25)) {
    const over = items.length;
    add([0xeb, 0], 0);
    for (let i = r.below(4); i > 0; i--) {
      const one = w.compute();
      if (one.length > 1) add(one); // no push
      if (r.chance(20)) add([0x70 + r.below(16), 0], items.length + 2);
    }
    for (const x of items.slice(over)) x.target = Math.min(x.target, items.length);
    add([0xc3]);
    items[over].target = items.length;
    for (;;) {
      // In front of an item before the jump, but not between counting and its branch.
      const where = r.below(over + 1);
      if (counting >= 0 && where > counting - 3 && where <= counting) continue;
      for (const x of items) if (x.target >= where) x.target++;
      items.splice(where, 0, { bytes: [0xe8, 0, 0, 0, 0], insn: call(bits), target: 0 });
      break;
    }
    const made = items.find((x) => x.insn.op === "call");
    if (!made) return null;
    made.target = items.findIndex((x) => x.insn.op === "jmp") + 1;
  }
  const at: number[] = [];
  let size = 0;
  for (const x of items) {
    at.push(size);
    size += x.bytes.length;
  }
  at.push(size);
  if (size > MAX_CODE) return null;
  const undefinedFlagsAt = undefinedAt(items);
  let loose = undefinedFlagsAt[items.length];
  const code = new Uint8Array(size);
  for (const [i, x] of items.entries()) {
    if ((flagsRead(x.insn) & undefinedFlagsAt[i]) !== 0) return null;
    loose |= undefinedFlagsAt[i];
    if (x.target >= 0) {
      const rel = at[x.target] - at[i + 1];
      if (x.insn.op === "call") for (let k = 0; k < 4; k++) x.bytes[1 + k] = (rel >> (8 * k)) & 0xff;
      else x.bytes[x.bytes.length - 1] = rel & 0xff;
    }
    code.set(x.bytes, at[i]);
  }
  return { code, loose };
}
