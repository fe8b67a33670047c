/**
 * What may come before an instruction under test: one or two register instructions that set flags, so that the flags it finds are those
 * of an operation that the engine knows (lazily, or in the translator's description) and not an image. They touch no register
 * that the instruction under test or its rules look at.
 */
import { decode } from "../../src/machine/cpu/decode/index.js";
import { AF, ARITH, CF, OF, PF, SF, ZF } from "../../src/machine/cpu/flags.js";
import { K, type Insn } from "../../src/machine/cpu/insn.js";
import type { Random } from "./random.js";
import { undefinedFlags } from "./rules.js";

export interface Prelude {
  readonly bytes: readonly number[];
  /** Flags that are undefined when the last instruction has been executed because these left them so. */
  readonly loose: number;
}

/** Flags that a condition looks at, by cc >> 1. */
const CONDITIONS = [OF, CF, ZF, CF | ZF, SF, PF, SF | OF, ZF | SF | OF] as const;
const READS: Readonly<Record<string, number>> = {
  adc: CF,
  sbb: CF,
  rcl: CF,
  rcr: CF,
  cmc: CF,
  salc: CF,
  lahf: ARITH,
  pushf: ARITH,
  loope: ZF,
  loopne: ZF,
  into: OF,
  aaa: AF,
  aas: AF,
  daa: AF | CF,
  das: AF | CF,
  fcmovb: CF,
  fcmovnb: CF,
  fcmove: ZF,
  fcmovne: ZF,
  fcmovbe: CF | ZF,
  fcmovnbe: CF | ZF,
  fcmovu: PF,
  fcmovnu: PF,
};
const SETS_ALL = /^(add|adc|sub|sbb|cmp|and|or|xor|test|neg|xadd|popcnt|cmpxchg|u?comis[sd]|ptest|pcmp[ei]str[im])$/;

/** Flags that an instruction looks at. */
export function flagsRead(insn: Insn): number {
  if (insn.op === "jcc" || insn.op === "setcc" || insn.op === "cmovcc") return CONDITIONS[insn.cc >> 1];
  return READS[insn.op] ?? 0;
}

/** General registers that the instruction or its rules may look at (bit n). */
function uses(insn: Insn): number {
  let m = 0xdf; // what instructions use unnamed: all of the first eight but rbp
  for (const o of insn.ops) if (o.kind === K.GPR) m |= 1 << (o.high ? o.reg & 3 : o.reg);
  if (insn.memBase >= 0 && insn.memBase < 16) m |= 1 << insn.memBase;
  if (insn.memIndex >= 0) m |= 1 << insn.memIndex;
  if (/^(enter|leave|pusha|popa)$/.test(insn.op)) m |= 1 << 5;
  return m;
}

/** One flag-setting instruction on registers; `free`: those it may write. Null where the choice cannot be made. */
function setter(r: Random, bits: 64 | 32, free: readonly number[]): number[] | null {
  const size = r.pick(bits === 64 ? [1, 2, 4, 8] : [1, 2, 4]);
  const any = r.below(bits === 64 ? 16 : 8);
  const writable = free.length > 0 && !(bits === 32 && size === 1);
  const to = writable ? r.pick(free) : -1;
  const wide = size === 1 ? 0 : 1;
  /** opcode (or 0F opcode), ModRM.reg, ModRM.rm. */
  const make = (opcode: readonly number[], reg: number, rm: number, imm: readonly number[] = []): number[] | null => {
    if (rm < 0 || reg < 0) return null;
    const bytes: number[] = [];
    if (size === 2) bytes.push(0x66);
    const rex = (size === 8 ? 8 : 0) | ((reg >> 3) << 2) | (rm >> 3);
    if (bits === 64 && (rex !== 0 || size === 1)) bytes.push(0x40 | rex);
    bytes.push(...opcode, 0xc0 | ((reg & 7) << 3) | (rm & 7), ...imm);
    return bytes;
  };
  switch (r.below(12)) {
    case 0:
    case 1: // add or adc sbb and sub xor
      return make([r.below(7) * 8 + wide], any, to);
    case 2:
    case 3: // cmp
      return make([0x38 + wide], any, r.below(bits === 64 ? 16 : 8));
    case 4: // test
      return make([0x84 + wide], any, r.below(bits === 64 ? 16 : 8));
    case 5: // inc dec
      return make([0xfe + wide], r.below(2), to);
    case 6: // neg
      return make([0xf6 + wide], 3, to);
    case 7: // rotations and shifts by one
      return make([0xd0 + wide], r.below(8), to);
    case 8: // by an immediate or by CL
      return r.chance(70)
        ? make([0xc0 + wide], r.below(8), to, [r.below(r.chance(80) ? 32 : 256)])
        : make([0xd2 + wide], r.below(8), to);
    case 9: // bt, and bts btr btc
      if (size === 1) return null;
      return r.chance(50) ? make([0x0f, 0xa3], any, r.below(8)) : make([0x0f, 0xba], 5 + r.below(3), to, [r.below(64)]);
    case 10:
      // imul, xadd
      if (r.chance(50)) return size === 1 ? null : make([0x0f, 0xaf], to, any);
      return free.length > 1 ? make([0x0f, 0xc0 + wide], r.pick(free), to) : null;
    default: // stc clc cmc sahf
      return [r.pick([0xf9, 0xf8, 0xf5, 0x9e])];
  }
}

/** Something to put before `insn`, in `percent` of 100; undefined where it shall be alone. */
export function makePrelude(r: Random, insn: Insn, percent: number): Prelude | undefined {
  if (!r.chance(percent) || insn.op === "int3") return undefined;
  const used = uses(insn);
  const free = (insn.bits === 64 ? [5, 8, 9, 10, 11, 12, 13, 14, 15] : [5]).filter((n) => !((used >> n) & 1));
  const bytes: number[] = [];
  let loose = 0;
  for (let n = r.chance(30) ? 2 : 1; n > 0; n--) {
    const one = setter(r, insn.bits === 64 ? 64 : 32, free);
    if (!one) return undefined;
    const buffer = new Uint8Array(16);
    buffer.set(one);
    const p = decode(buffer, 0, 16, insn.bits);
    if (p?.len !== one.length) throw new Error("oracle: a prelude does not decode");
    if ((flagsRead(p) & loose) !== 0) return undefined;
    // A count in CL is not known here: whatever a shift may leave undefined.
    const byCl = /^(sh[lr]|sar|r[oc][lr])$/.test(p.op) && p.ops[1].kind === K.GPR;
    const mine = byCl ? AF | OF | CF : undefinedFlags({ insn: p, gpr: NO_GPR }, 0);
    loose = (SETS_ALL.test(p.op) ? 0 : loose) | mine;
    bytes.push(...one);
  }
  if (bytes.length + insn.len > 15 || (flagsRead(insn) & loose) !== 0) return undefined;
  return { bytes, loose };
}
const NO_GPR = new Uint32Array(32);
