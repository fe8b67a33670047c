/**
 * What the manuals leave undefined, by rule: flags, registers, x87 condition codes, and where a numeric tolerance applies.
 * SDM vol. 2 (and APM vol. 3, vol. 5 where it says more) "Flags Affected" and "FPU Flags Affected".
 */
import { PLACES } from "../../src/machine/cpu/decode/table.js";
import { AF, CF, OF, PF, SF, ZF } from "../../src/machine/cpu/flags.js";
import { K } from "../../src/machine/cpu/insn.js";
import { AREA, CODE, GS_BASE, type Case } from "./case.js";

const ALL = CF | PF | AF | ZF | SF | OF;

/** An instruction and the registers it starts from. */
type Instruction = Pick<Case, "insn" | "gpr">;

/** Value of the count operand of a shift or rotation, before masking. */
function count(c: Instruction): number {
  const o = c.insn.ops[c.insn.ops.length - 1];
  return o.kind === K.IMM ? c.insn.imm & 0xff : c.gpr[o.reg * 2] & 0xff;
}

/** Count as the processor masks it. */
function masked(c: Instruction): number {
  return count(c) & (c.insn.osize === 8 ? 63 : 31);
}

function shift(c: Instruction): number {
  const n = masked(c);
  if (n === 0) return 0;
  let undefinedFlags = AF;
  if (n > 1) undefinedFlags |= OF;
  if (n >= c.insn.osize * 8 && c.insn.op !== "sar") undefinedFlags |= CF;
  return undefinedFlags;
}
const rotate = (c: Instruction): number => (masked(c) > 1 ? OF : 0);
function doubleShift(c: Instruction): number {
  const n = masked(c);
  if (n === 0) return 0;
  if (n > c.insn.osize * 8) return ALL;
  return n === 1 ? AF : AF | OF;
}
const bitTest = OF | SF | AF | PF;

/** Flags that an instruction leaves undefined when it completes. */
const UNDEFINED_FLAGS: Readonly<Record<string, number | ((c: Instruction) => number)>> = {
  and: AF,
  or: AF,
  xor: AF,
  test: AF,
  shl: shift,
  shr: shift,
  sar: shift,
  rol: rotate,
  ror: rotate,
  rcl: rotate,
  rcr: rotate,
  shld: doubleShift,
  shrd: doubleShift,
  mul: SF | ZF | AF | PF,
  imul1: SF | ZF | AF | PF,
  imul: SF | ZF | AF | PF,
  div: ALL,
  idiv: ALL,
  bsf: CF | OF | SF | AF | PF,
  bsr: CF | OF | SF | AF | PF,
  bt: bitTest,
  bts: bitTest,
  btr: bitTest,
  btc: bitTest,
  aaa: OF | SF | ZF | PF,
  aas: OF | SF | ZF | PF,
  daa: OF,
  das: OF,
  aam: OF | AF | CF,
  aad: OF | AF | CF,
};

/** `status`: FSW afterwards. */
export function undefinedFlags(c: Instruction, status: number): number {
  // SDM, FCOMI: an unmasked invalid operation leaves the flags; AMD processors set them to "unordered" all the same.
  if (/^fu?comip?$/.test(c.insn.op) && status & 0x80) return ALL;
  const rule = UNDEFINED_FLAGS[c.insn.op];
  return rule === undefined ? 0 : typeof rule === "number" ? rule : rule(c);
}

/** Bit i: general register i is undefined after this (completed) instruction; `before` tells that the source was zero and so on. */
export function undefinedRegisters(c: Case, zf: boolean): number {
  const { insn } = c;
  const first = insn.ops[0];
  if (!first || first.kind !== K.GPR) return 0;
  switch (insn.op) {
    case "bsf":
    case "bsr": // undefined with a zero source
      return zf ? 1 << first.reg : 0;
    case "bswap":
      return insn.osize === 2 ? 1 << first.reg : 0;
    case "shld":
    case "shrd":
      return masked(c) > insn.osize * 8 ? 1 << first.reg : 0;
    default:
      return 0;
  }
}

/**
 * After a fault of these, what they had already done is up to the processor: registers but rsp, memory, and which of several addresses
 * CR2 names. (They can be restarted all the same.)
 */
const PARTIAL = new Set(["pusha", "popa", "enter"]);
export function partialAtFault(c: Case): boolean {
  return PARTIAL.has(c.insn.op);
}

/** CR2 may name another byte of the operand than its first: large state images, of which processors do not say in which order. */
export function looseFaultAddress(c: Case): boolean {
  return partialAtFault(c) || /^(fldenv|fnstenv|fnsave|frstor|fxsave|fxrstor)$/.test(c.insn.op);
}

/** Page-fault error code bits that may differ: whether the first access of a read and a conditional write counts as a write. */
export function ignoredErrorBits(c: Case): number {
  return partialAtFault(c) || c.insn.op === "arpl" ? 2 : 0;
}

/** SDM, REP: after a fault of a repeated compare the flags are those before it; AMD processors keep those of the last round. */
export function flagsAtFault(c: Case): number {
  return c.insn.rep !== 0 && (c.insn.op === "cmps" || c.insn.op === "scas") ? ALL : 0;
}

/** x87 condition codes in FSW. */
const C0 = 0x100,
  C1 = 0x200,
  C2 = 0x400,
  C3 = 0x4000;

const TRANSCENDENTAL = new Set("f2xm1 fyl2x fyl2xp1 fptan fpatan fsin fcos fsincos".split(" "));
/** These set the condition codes on purpose: only C1 may be left, by `CLEAN` not even that. */
const SETS_CODES = /^(fcom|fcomp|fcompp|fucom|fucomp|fucompp|ficom|ficomp|ftst|fxam|fprem|fprem1)$/;
/** These leave them alone or load them. */
const KEEPS_CODES =
  /^(fcomi|fcomip|fucomi|fucomip|fldenv|frstor|fxrstor|fnstsw|fnclex|fninit|fnsave|fxsave|emms|wait|f?nop)$/;

/** #XM of a conversion to or from MMX: whether the x87 state has become MMX's by then is up to the processor. */
export function mmxTransitionOpen(c: Case, vector: number): boolean {
  return vector === 19 && /^cvt.*pi/.test(c.insn.op);
}

/** FSW bits that are undefined after this instruction, `status` and `exponent` (of ST(0)) being what the host has after it. */
export function undefinedStatus(c: Case, status: number, exponent: number): number {
  const op = c.insn.op;
  if (op[0] !== "f") return 0;
  // Outside the domain: whatever comes out, and the exceptions that it raises. TOP is right all the same.
  if (ulps(c) === Infinity) return 0xc7ff;
  // SDM: C1 is cleared; AMD processors leave it.
  if (/^fu?comip?$/.test(op)) return C1;
  // An unmasked exception: the operation did not take place.
  if (status & 0x80 && !KEEPS_CODES.test(op)) return C0 | C1 | C2 | C3;
  // No quotient after an invalid operation or with a NaN.
  if (op.startsWith("fprem") && (status & 1 || (exponent & 0x7fff) === 0x7fff)) return C0 | C1 | C3;
  if (SETS_CODES.test(op) || KEEPS_CODES.test(op)) return 0;
  if (op === "fsin" || op === "fcos" || op === "fsincos" || op === "fptan") return C0 | C1 | C3;
  if (TRANSCENDENTAL.has(op)) return C0 | C1 | C2 | C3;
  if (/^(fldcw|fnstcw|fnstenv|ffree|ffreep|fnop)$/.test(op)) return C0 | C1 | C2 | C3;
  return C0 | C2 | C3;
}

/** Allowed difference of x87 results in units of the last place (SDM vol. 1, 8.3.10: transcendental results are within 1 ulp). */
export function ulps(c: Case): number {
  // ST(0) as an 80-bit number in the image. Beyond these ranges the results are undefined (SDM, F2XM1 and FYL2XP1).
  const exponent = (c.fx[40] | (c.fx[41] << 8)) & 0x7fff;
  if (c.insn.op === "f2xm1" && exponent >= 0x3fff) return Infinity;
  if (c.insn.op === "fyl2xp1" && exponent >= 0x3ffd) return Infinity;
  return TRANSCENDENTAL.has(c.insn.op) ? 2 : 0;
}

/** Allowed relative error of approximations: SDM, RCPPS and RSQRTPS: 1.5 × 2^−12. Both sides may err. */
export function relativeError(c: Case): number {
  return /^r(cp|sqrt)(ps|ss)$/.test(c.insn.op) ? 3 * 2 ** -12 : 0;
}

/** Linear address of the memory operand, or −1 (register form, or beyond what fits a double exactly). */
export function effectiveAddress(c: Case): number {
  const { insn, gpr } = c;
  const mem = insn.ops.some((o) => o.kind === K.MEM);
  if (!mem) return -1;
  let lo = insn.disp;
  if (insn.memBase === 16) lo += CODE + c.code.length;
  else if (insn.memBase >= 0) lo += gpr[insn.memBase * 2];
  if (insn.memIndex >= 0) lo += gpr[insn.memIndex * 2] * 2 ** insn.memScale;
  lo = ((lo % 2 ** 32) + 2 ** 32) % 2 ** 32;
  return insn.seg === 5 ? lo + GS_BASE : lo;
}

/**
 * Memory bytes that are not compared: the last-instruction pointers and opcode of saved x87 state (processors differ in
 * when they keep them), MXCSR_MASK and the part of fxsave's area that is not state; undefined shift results.
 */
export function ignoredMemory(c: Case): readonly (readonly [from: number, to: number])[] {
  const { insn } = c;
  const ea = effectiveAddress(c) - AREA;
  switch (insn.op) {
    case "fxsave":
      return [
        [ea + 5, ea + 24],
        [ea + 28, ea + 32],
        [ea + 416, ea + 512],
      ];
    case "fnstenv":
    case "fnsave":
      return insn.osize === 2 ? [[ea + 6, ea + 14]] : [[ea + 12, ea + 28]];
    case "shld":
    case "shrd":
      return masked(c) > insn.osize * 8 ? [[ea, ea + 8]] : [];
    default:
      return [];
  }
}

/** Mnemonics with a rule here that do not exist (none, says the test). */
export function unknownRules(): string[] {
  const ops = new Set(PLACES.flatMap((p) => [p.row.op, p.row.opW]));
  return [...Object.keys(UNDEFINED_FLAGS), ...TRANSCENDENTAL].filter((op) => !ops.has(op));
}
