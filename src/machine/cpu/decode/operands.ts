/**
 * The operand objects. There are few different ones, so all instructions share these, frozen; `===` tells them apart.
 */
import { K, type Kind, type Operand } from "../insn.js";

const SIZES = [1, 2, 4, 6, 8, 10, 16] as const;

function operand(kind: Kind, size: number, reg: number, high = false): Operand {
  return Object.freeze({ kind, size, reg, high });
}

function registers(kind: Kind, size: number, count: number): readonly Operand[] {
  return Array.from({ length: count }, (_, reg) => operand(kind, size, reg));
}

function bySize(make: (size: number) => Operand): readonly Operand[] {
  const table: Operand[] = [];
  for (let size = 0; size <= 16; size++) table.push(make(size));
  return table;
}

const gprs: Operand[][] = [];
for (const size of SIZES) gprs[size] = [...registers(K.GPR, size, 16)];
/** General registers: `GPR[size][number]`, sizes 1 2 4 8. */
export const GPR: readonly (readonly Operand[])[] = gprs;

/** Byte registers of an instruction without REX: 4–7 are AH CH DH BH. */
export const GPR8_LEGACY: readonly Operand[] = Array.from({ length: 16 }, (_, reg) =>
  reg >= 4 && reg < 8 ? operand(K.GPR, 1, reg - 4, true) : GPR[1][reg],
);

/** Memory and immediates by size (0–16). */
export const MEM = bySize((size) => operand(K.MEM, size, 0));
export const IMM = bySize((size) => operand(K.IMM, size, 0));

export const XMM = registers(K.XMM, 16, 16);
export const MMX = registers(K.MMX, 8, 8);
export const ST = registers(K.ST, 10, 8);
export const SREG = registers(K.SREG, 2, 6);
/** Control and debug registers by size (4 or 8) and number. */
export const CR: readonly (readonly Operand[])[] = [
  [],
  [],
  [],
  [],
  registers(K.CR, 4, 16),
  [],
  [],
  [],
  registers(K.CR, 8, 16),
];
export const DR: readonly (readonly Operand[])[] = [
  [],
  [],
  [],
  [],
  registers(K.DR, 4, 8),
  [],
  [],
  [],
  registers(K.DR, 8, 8),
];
