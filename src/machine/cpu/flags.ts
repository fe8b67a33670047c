/**
 * Lazy arithmetic flags. The six status flags are not computed when an instruction sets them; the operation and up to three
 * values are kept (CC_OP, CC_A, CC_B, CC_R), and a reader derives just the flag it needs. All values are stored zero-extended
 * from the operation's size to 64 bits. SDM vol. 1, 3.4.3.1 and the "Flags Affected" sections of vol. 2 are the source.
 *
 * CC_OP = CC.X * 4 + log2(size in bytes), for the kinds below; `CC.FLAGS` ignores the size.
 */
export const CC = {
  /** a holds the image of CF PF AF ZF SF OF at their RFLAGS positions. */
  FLAGS: 0,
  /** r = a + b. CF = r <u a; OF, AF from a, b, r. */
  ADD: 1,
  /** r = a + b + carry. CF = msb((a & b) | ((a | b) & ~r)). */
  ADC: 2,
  /** r = a − b (also cmp). CF = a <u b. */
  SUB: 3,
  /** r = a − b − borrow. CF = msb((~a & b) | ((~a | b) & r)). */
  SBB: 4,
  /** r; CF = OF = AF = 0 (and, or, xor, test). */
  LOGIC: 5,
  /** r = old + 1; CF = b (0 or 1). AF = (r & 15) == 0; OF = r == min. */
  INC: 6,
  /** r = old − 1; CF = b (0 or 1). AF = (r & 15) == 15; OF = r == max. */
  DEC: 7,
  /** SF ZF PF from r, CF = a (0 or 1), OF = b (0 or 1), AF = 0 (shifts, multiplications). */
  RES: 8,
} as const;
export type CcKind = (typeof CC)[keyof typeof CC];
/** Which of a (1), b (2) and r (4) the flags of a kind follow from. */
export const CC_LOOKS: Readonly<Record<CcKind, number>> = { 0: 1, 1: 7, 2: 7, 3: 7, 4: 7, 5: 4, 6: 6, 7: 6, 8: 7 };

export const CF = 0x001;
export const PF = 0x004;
export const AF = 0x010;
export const ZF = 0x040;
export const SF = 0x080;
export const TF = 0x100;
export const IF = 0x200;
export const DF = 0x400;
export const OF = 0x800;
export const NT = 0x4000;
export const RF = 0x10000;
export const VM = 0x20000;
export const AC = 0x40000;
/** The six flags kept lazily. */
export const ARITH = CF | PF | AF | ZF | SF | OF;

export function ccOp(kind: CcKind, size: number): number {
  return kind * 4 + (size === 8 ? 3 : size === 4 ? 2 : size === 2 ? 1 : 0);
}
