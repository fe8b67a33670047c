/**
 * The decoded instruction: what the decoder produces and what the semantics, the interpreter and the translator read.
 *
 * Mnemonics are Intel's, lower case (SDM vol. 2), one name per meaning; see `decode/` for the list. Operands stand in
 * Intel order (destination first). Implicit operands are not listed unless an encoding makes them explicit.
 */

/** Operand kinds. */
export const K = {
  /** General register; `reg` 0–15, `high` for AH CH DH BH (reg 0–3). */
  GPR: 1,
  /** Memory: address in the instruction's mem* fields. */
  MEM: 2,
  /** Immediate in `imm`/`immHi` (sign- or zero-extended to 64 bits as the instruction uses it). */
  IMM: 3,
  XMM: 4,
  MMX: 5,
  /** x87 stack register ST(reg). */
  ST: 6,
  /** Segment register: ES=0 CS=1 SS=2 DS=3 FS=4 GS=5. */
  SREG: 7,
  CR: 8,
  DR: 9,
} as const;
export type Kind = (typeof K)[keyof typeof K];

export interface Operand {
  readonly kind: Kind;
  /** Size in bytes: 1 2 4 8 10 16 (0 where it has none, as for `lea`'s source or a 512-byte `fxsave` area). */
  readonly size: number;
  readonly reg: number;
  readonly high: boolean;
}

/** General registers by hardware number. */
export const RAX = 0,
  RCX = 1,
  RDX = 2,
  RBX = 3,
  RSP = 4,
  RBP = 5,
  RSI = 6,
  RDI = 7;
export const ES = 0,
  CS = 1,
  SS = 2,
  DS = 3,
  FS = 4,
  GS = 5;
/** `memBase` when the address is relative to the next instruction. */
export const BASE_RIP = 16;

export interface Insn {
  /** Intel mnemonic, lower case. */
  op: string;
  /** Length in bytes, 1–15. */
  len: number;
  /** Code size of the decoder: 16, 32 or 64. */
  bits: 16 | 32 | 64;
  /** Effective operand size in bytes (2, 4, 8) of the instruction (byte forms: 1). */
  osize: number;
  /** Effective address size in bytes: 2, 4, 8. */
  asize: number;
  ops: Operand[];
  /** Memory operand: −1 = none; 0–15; BASE_RIP. */
  memBase: number;
  memIndex: number;
  /** log2 of the scale. */
  memScale: number;
  /** Displacement, sign-extended: low 32 bits as int32, high 32 bits as int32 (differs from sign only for 64-bit moffs). */
  disp: number;
  dispHi: number;
  /** Effective segment of the memory operand (overrides and defaults applied; in 64-bit code only FS and GS have a base). */
  seg: number;
  /** Immediate, int32 halves. Relative branches: displacement from the next instruction. */
  imm: number;
  immHi: number;
  /** Second immediate: `enter`'s level, a far pointer's selector. */
  imm2: number;
  /** Condition code 0–15 of jcc, setcc, cmovcc. */
  cc: number;
  /** String repetition: 0 none, 1 rep/repe (F3), 2 repne (F2). Zero on instructions where the prefix selects the opcode. */
  rep: number;
  lock: boolean;
}
