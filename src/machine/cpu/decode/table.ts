/**
 * The row language of the opcode tables, and the tables compiled from it.
 *
 *     opcode[-last][/digit[r|m] | :modrm]  [np|66|f3|f2]  mnemonic[|mnemonic with REX.W]  operands…  flags…
 *
 * Opcodes are hexadecimal. `/digit` selects on ModRM.reg (`r`: register form only, `m`: memory form only), `:modrm` on the whole ModRM byte. A
 * row with a prefix column belongs to that mandatory prefix only, and the prefix then has no other meaning; a row without
 * one belongs to all four. F2 and F3 (the last one given) win over 66.
 *
 * Operand codes follow the SDM's appendix A: a letter for the place and a letter for the size.
 *
 *     E  GPR or memory by ModRM.rm      G  GPR by ModRM.reg       M  memory only       Z  GPR by the opcode's low bits
 *     Rs/Ms  as E with a size each for register and memory         Rn Cn Dn  mov to and from CR and DR (mod ignored)
 *     V  XMM by reg    W  XMM or memory   U  XMM by rm   P  MMX by reg   Q  MMX or memory   N  MMX by rm   S  segment by reg
 *     I  immediate (Ib and Iw zero-extended, Is = sign-extended byte, I2 = byte into imm2)   J  relative   A  far pointer   O  moffs
 *     1  immediate one    AL AX rAX eAX CL DX ES…GS ST0  fixed     STi  ST(rm)     E_  ModRM read, no operand
 *     sizes: b w d q t x = 1 2 4 8 10 16; v osize; y 8 if osize is 8, else 4; z min(osize, 4) for immediates;
 *            p osize + 2; a 2 × osize; c 16 if osize is 8, else 8; x after E (movsxd's source) min(osize, 4)
 *
 * Flags: lock (allowed, with a memory destination), n64 (invalid in 64-bit code), o64 (only in it), d64 (operand size 8 by default in it),
 * f64 (8 always), byte (operand size 1), z (operand size at most 4), o66 (66 still is an operand-size prefix in spite of the prefix column), no66 (66 has no meaning),
 * native (operand size 8 in 64-bit code, else 4), string (implied memory operand; `rep` means something), es (its segment is ES),
 * cc (condition in the low four bits).
 */
import { ES, CS, SS, DS, FS, GS } from "../insn.js";
import { ONE_BYTE } from "./one-byte.js";
import { MAP_0F38, MAP_0F3A } from "./three-byte.js";
import { TWO_BYTE } from "./two-byte.js";
import { X87 } from "./x87.js";

/** What an operand code does. */
export const H = {
  E: 0,
  G: 1,
  M: 2,
  Z: 3,
  FIXED_GPR: 4,
  V: 5,
  W: 6,
  P: 7,
  Q: 8,
  N: 9,
  U: 10,
  SREG_FIELD: 11,
  SREG_FIXED: 12,
  CR: 13,
  DR: 14,
  ST_RM: 15,
  ST_FIXED: 16,
  IMM_BYTE: 17,
  IMM_SIGNED: 18,
  IMM_WORD: 19,
  IMM_Z: 20,
  IMM_V: 21,
  IMM_ONE: 22,
  IMM2_BYTE: 23,
  REL_BYTE: 24,
  REL_Z: 25,
  FAR: 26,
  MOFFS: 27,
  NONE: 28,
} as const;

export interface Code {
  readonly h: number;
  /** Operand size by the instruction's osize (1 2 4 8); of a memory operand where the two differ. */
  readonly size: Uint8Array;
  readonly memSize: Uint8Array;
  /** Fixed register number. */
  readonly reg: number;
}

export interface Row {
  /** The row as written, for tools and error messages. */
  readonly text: string;
  /** Mnemonic without and with REX.W. */
  readonly op: string;
  readonly opW: string;
  readonly codes: readonly Code[];
  readonly ignoreMod: boolean;
  readonly lock: boolean;
  readonly d64: boolean;
  readonly f64: boolean;
  readonly byte: boolean;
  readonly z: boolean;
  readonly native: boolean;
  readonly string: boolean;
  readonly es: boolean;
  readonly cc: boolean;
  /** 66 is no operand-size prefix: it (or its absence) selects the opcode, or it means nothing. */
  readonly selected: boolean;
  /** `cmps`, `scas`: F2 means repne (elsewhere it is rep). */
  readonly repne: boolean;
}

/** All rows of one opcode under one prefix. `rows[reg]` are the memory forms, `rows[8 + (modrm & 63)]` the register forms; without ModRM `rows[0]`. */
export interface Node {
  readonly modrm: boolean;
  readonly rows: readonly (Row | null)[];
}

/** Mandatory prefix columns. */
export const PREFIXES = ["np", "66", "f3", "f2"] as const;
/** Opcode maps: one-byte, 0F, 0F38, 0F3A. */
export const MAPS = [ONE_BYTE + X87, TWO_BYTE, MAP_0F38, MAP_0F3A] as const;

function sizes(of: (osize: number) => number): Uint8Array {
  const table = new Uint8Array(9);
  for (const osize of [1, 2, 4, 8]) table[osize] = of(osize);
  return table;
}
const SIZE: Record<string, Uint8Array> = {
  "": sizes(() => 0),
  b: sizes(() => 1),
  w: sizes(() => 2),
  d: sizes(() => 4),
  q: sizes(() => 8),
  t: sizes(() => 10),
  x: sizes(() => 16),
  v: sizes((o) => o),
  n: sizes((o) => o),
  s: sizes((o) => o),
  z: sizes((o) => Math.min(o, 4)),
  y: sizes((o) => (o === 8 ? 8 : 4)),
  p: sizes((o) => o + 2),
  a: sizes((o) => 2 * o),
  c: sizes((o) => (o === 8 ? 16 : 8)),
};
const MOVSXD_SOURCE = SIZE["z"];

const FIXED: Record<string, readonly [h: number, size: string, reg: number]> = {
  AL: [H.FIXED_GPR, "b", 0],
  AX: [H.FIXED_GPR, "w", 0],
  rAX: [H.FIXED_GPR, "v", 0],
  eAX: [H.FIXED_GPR, "v", 0],
  CL: [H.FIXED_GPR, "b", 1],
  DX: [H.FIXED_GPR, "w", 2],
  ES: [H.SREG_FIXED, "w", ES],
  CS: [H.SREG_FIXED, "w", CS],
  SS: [H.SREG_FIXED, "w", SS],
  DS: [H.SREG_FIXED, "w", DS],
  FS: [H.SREG_FIXED, "w", FS],
  GS: [H.SREG_FIXED, "w", GS],
  ST0: [H.ST_FIXED, "t", 0],
  STi: [H.ST_RM, "t", 0],
  1: [H.IMM_ONE, "b", 0],
  Ib: [H.IMM_BYTE, "b", 0],
  Is: [H.IMM_SIGNED, "v", 0],
  Iw: [H.IMM_WORD, "w", 0],
  Iz: [H.IMM_Z, "v", 0],
  Iv: [H.IMM_V, "v", 0],
  I2: [H.IMM2_BYTE, "b", 0],
  Jb: [H.REL_BYTE, "v", 0],
  Jz: [H.REL_Z, "v", 0],
  Ap: [H.FAR, "v", 0],
  Ob: [H.MOFFS, "b", 0],
  Ov: [H.MOFFS, "v", 0],
  E_: [H.NONE, "", 0],
  Rn: [H.E, "v", 0],
  Cn: [H.CR, "v", 0],
  Dn: [H.DR, "v", 0],
  V: [H.V, "x", 0],
  U: [H.U, "x", 0],
  P: [H.P, "q", 0],
  N: [H.N, "q", 0],
};
const LETTER: Record<string, number> = { E: H.E, G: H.G, M: H.M, Z: H.Z, W: H.W, Q: H.Q, S: H.SREG_FIELD };

const codes = new Map<string, Code>();
function code(text: string): Code {
  let c = codes.get(text);
  if (c) return c;
  const fixed = FIXED[text];
  const slash = /^R(\w)\/M(\w)$/.exec(text);
  if (fixed) {
    const size = SIZE[fixed[1]];
    c = { h: fixed[0], size, memSize: size, reg: fixed[2] };
  } else if (slash) {
    c = { h: H.E, size: SIZE[slash[1]], memSize: SIZE[slash[2]], reg: 0 };
  } else {
    const h = LETTER[text[0]];
    const size = text === "Ex" ? MOVSXD_SOURCE : SIZE[text.slice(1)];
    if (h === undefined || size === undefined) throw new Error(`opcode table: unknown operand code ${text}`);
    c = { h, size, memSize: size, reg: 0 };
  }
  codes.set(text, c);
  return c;
}

const MODRM_HANDLERS = new Set<number>([
  H.E, H.G, H.M, H.V, H.W, H.P, H.Q, H.N, H.U, H.SREG_FIELD, H.CR, H.DR, H.ST_RM, H.NONE,
]); // prettier-ignore
const REGISTER_ONLY = new Set<number>([H.N, H.U, H.ST_RM]);
const BYTE_FIRST = new Set<number>([H.E, H.G, H.Z, H.FIXED_GPR, H.MOFFS]);
const FLAGS = new Set("lock n64 o64 d64 f64 byte z o66 no66 native string es cc".split(" "));

/** A row and where it belongs. */
export interface Place {
  readonly map: number;
  readonly row: Row;
  readonly first: number;
  readonly last: number;
  /** Index into PREFIXES, −1 = all. */
  readonly prefix: number;
  /** ModRM.reg, −1 = any. */
  readonly digit: number;
  /** Whole ModRM byte, −1 = any. */
  readonly exact: number;
  readonly hasModrm: boolean;
  readonly mem: boolean;
  readonly reg: boolean;
  readonly n64: boolean;
  readonly o64: boolean;
}

function parse(map: number, text: string): Place {
  const tokens = text.split(/\s+/);
  const key = /^([0-9a-f]{2})(?:-([0-9a-f]{2}))?(?:\/([0-7])([rm])?|:([0-9a-f]{2}))?$/.exec(tokens[0]);
  if (!key) throw new Error(`opcode table: bad row ${text}`);
  let at = 1;
  const prefix = PREFIXES.findIndex((p) => p === tokens[at]);
  if (prefix >= 0) at++;
  const [op, opW] = tokens[at++].split("|");
  const flags = new Set<string>();
  const list: Code[] = [];
  for (; at < tokens.length; at++) {
    if (FLAGS.has(tokens[at])) flags.add(tokens[at]);
    else list.push(code(tokens[at]));
  }
  const exact = key[5] === undefined ? -1 : parseInt(key[5], 16);
  const digit = key[3] === undefined ? -1 : Number(key[3]);
  const registerOnly = key[4] === "r" || exact >= 0 || list.some((c) => REGISTER_ONLY.has(c.h));
  const memoryOnly = key[4] === "m" || list.some((c) => c.h === H.M);
  const first = parseInt(key[1], 16);
  const ignoreMod = list.some((c) => c.h === H.CR || c.h === H.DR);
  return {
    map,
    first,
    last: key[2] === undefined ? first : parseInt(key[2], 16),
    prefix,
    digit,
    exact,
    hasModrm: digit >= 0 || exact >= 0 || list.some((c) => MODRM_HANDLERS.has(c.h)),
    mem: !registerOnly,
    reg: !memoryOnly,
    n64: flags.has("n64"),
    o64: flags.has("o64"),
    row: {
      text,
      op,
      opW: opW ?? op,
      codes: list,
      ignoreMod,
      lock: flags.has("lock"),
      d64: flags.has("d64"),
      f64: flags.has("f64"),
      byte: flags.has("byte") || (list.length > 0 && BYTE_FIRST.has(list[0].h) && list[0].size === SIZE["b"]),
      z: flags.has("z"),
      native: flags.has("native") || ignoreMod,
      string: flags.has("string"),
      es: flags.has("es"),
      cc: flags.has("cc"),
      selected: (prefix >= 0 && !flags.has("o66")) || flags.has("no66"),
      repne: op === "cmps" || op === "scas",
    },
  };
}

/** Every row of every map. */
export const PLACES: readonly Place[] = MAPS.flatMap((text, map) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .map((line) => parse(map, line)),
);

function node(places: readonly Place[]): Node | null {
  if (places.length === 0) return null;
  const modrm = places.some((p) => p.hasModrm);
  const rows: (Row | null)[] = new Array<Row | null>(modrm ? 72 : 1).fill(null);
  const put = (index: number, row: Row): void => {
    if (rows[index]) throw new Error(`opcode table: ${row.text} collides with ${rows[index].text}`);
    rows[index] = row;
  };
  for (const p of places) {
    if (!modrm) put(0, p.row);
    else if (p.exact >= 0) put(8 + (p.exact & 63), p.row);
    else {
      for (let reg = 0; reg < 8; reg++) {
        if (p.digit >= 0 && p.digit !== reg) continue;
        if (p.mem) put(reg, p.row);
        if (p.reg) for (let rm = 0; rm < 8; rm++) put(8 + reg * 8 + rm, p.row);
      }
    }
  }
  return { modrm, rows };
}

/** `nodes[prefix * 256 + opcode]` of one map. */
function build(map: number, is64: boolean): readonly (Node | null)[] {
  const nodes: (Node | null)[] = new Array<Node | null>(1024).fill(null);
  const here = PLACES.filter((p) => p.map === map && !(is64 ? p.n64 : p.o64));
  for (let opcode = 0; opcode < 256; opcode++) {
    const places = here.filter((p) => p.first <= opcode && opcode <= p.last);
    if (places.every((p) => p.prefix < 0)) {
      const shared = node(places);
      for (let prefix = 0; prefix < 4; prefix++) nodes[prefix * 256 + opcode] = shared;
    } else {
      const hasModrm = places.some((p) => p.hasModrm);
      for (let prefix = 0; prefix < 4; prefix++) {
        const mine = node(places.filter((p) => p.prefix < 0 || p.prefix === prefix));
        nodes[prefix * 256 + opcode] =
          mine ?? (hasModrm ? { modrm: true, rows: new Array<Row | null>(72).fill(null) } : null);
      }
    }
  }
  return nodes;
}

/** Opcode maps for 16- and 32-bit code, and for 64-bit code. */
export const TABLES_LEGACY = MAPS.map((_, map) => build(map, false));
export const TABLES_64 = MAPS.map((_, map) => build(map, true));

/** Every mnemonic the decoder can produce. */
export const MNEMONICS: readonly string[] = [
  ...new Set(["ud", "gp", "nop", "pause", ...PLACES.flatMap((p) => [p.row.op, p.row.opW])]),
].sort();
