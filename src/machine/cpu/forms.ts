/**
 * Forms of instructions: what the core needs to write the records of instructions like one that was decoded here (core/assembly/decode.ts).
 *
 * Learned from 64-bit instructions as they are decoded: the handler, and where in the bytes the row of the opcode table (decode/table.ts) has its
 * operands. Forms that have operands of other kinds, or may end a block in other ways than by ending it, are not learned: their blocks are always
 * decoded here.
 */
import {
  FORM_AFTER,
  FORM_CONST,
  FORM_ENDS,
  FORM_FLAGS,
  FORM_HANDLER,
  FORM_IMM,
  FORM_IMM_SIZE,
  FORM_MODRM,
  FORM_OPERANDS,
  FORM_READS,
  FORM_RELATIVE,
  FORM_STATIC,
  GPR,
  OPCODE_FORMS,
} from "../layout.js";
import type { PhysMem } from "../memory.js";
import { H, TABLES_64, type Node, type Row } from "./decode/table.js";
import type { Insn } from "./insn.js";
import type { Handler } from "./interpreter/handlers.js";

export interface FormsCore {
  formOf(at: number, limit: number, mode: number, known: number): number;
  formPlace(mode: number, known: number, flags: number): number;
}

/** What OPCODE_FORMS says of an opcode. */
const NONE = 0,
  PLAIN = 1,
  MODRM = 2,
  GROUP = 3;

/** Kinds of fields for operands, and of immediates, as core/assembly/decode.ts reads them. */
const FIXED = 0,
  RM = 1,
  REG = 2,
  OPCODE = 3,
  /** A byte register's kind is above the wider one's by this. */
  BYTE = 3,
  XMM_RM = 7,
  XMM_REG = 8;
const IMM_U8 = 1,
  IMM_S8 = 2,
  IMM_16 = 3,
  IMM_32 = 4,
  IMM_64 = 5,
  IMM_IS_ONE = 6;

function classify(nodes: readonly (Node | null)[]): number {
  const there = nodes.filter((n) => n !== null);
  const first = there[0];
  if (first === undefined || there.some((n) => n.modrm !== first.modrm)) return NONE;
  if (!first.modrm) return PLAIN;
  let group = false;
  for (const { rows } of there) {
    for (let reg = 0; reg < 8; reg++) {
      for (let rm = 1; rm < 8; rm++) if (rows[8 + reg * 8 + rm] !== rows[8 + reg * 8]) return NONE;
      if (rows[reg] !== rows[0] || rows[8 + reg * 8] !== rows[8]) group = true;
    }
  }
  return group ? GROUP : MODRM;
}

interface Layout {
  readonly kinds: readonly number[];
  readonly fixed: readonly number[];
  readonly imm: number;
  readonly immSize: number;
}

/** Where a row has its operands; undefined: not where the core looks. */
function layout(row: Row, insn: Insn, mem: boolean): Layout | undefined {
  const kinds: number[] = [];
  const fixed: number[] = [];
  let imm = 0;
  let immSize = 0;
  const field = (kind: number, at = 0): void => {
    kinds.push(kind);
    fixed.push(at);
  };
  for (const c of row.codes) {
    const size = c.size[insn.osize] as number;
    const register = (kind: number): void => field(size === 1 ? kind + BYTE : kind);
    let value = 0;
    switch (c.h) {
      case H.E:
        if (mem) field(FIXED);
        else register(RM);
        break;
      case H.G:
        register(REG);
        break;
      case H.M:
        field(FIXED);
        break;
      case H.Z:
        register(OPCODE);
        break;
      case H.NONE:
        break;
      case H.FIXED_GPR:
        field(FIXED, GPR + c.reg * 8);
        break;
      case H.V:
        field(XMM_REG);
        break;
      case H.W:
        field(mem ? FIXED : XMM_RM);
        break;
      case H.U:
        field(XMM_RM);
        break;
      case H.IMM_BYTE:
        value = IMM_U8;
        break;
      case H.IMM_SIGNED:
      case H.REL_BYTE:
        value = IMM_S8;
        break;
      case H.IMM_WORD:
        value = IMM_16;
        break;
      case H.IMM_V:
        value = size === 8 ? IMM_64 : size === 2 ? IMM_16 : IMM_32;
        break;
      case H.IMM_Z:
      case H.REL_Z:
        value = size === 2 ? IMM_16 : IMM_32;
        break;
      case H.IMM_ONE:
        value = IMM_IS_ONE;
        break;
      default:
        return undefined;
    }
    if (value === 0) continue;
    if (imm !== 0) return undefined;
    imm = value;
    immSize = size;
    field(FIXED);
  }
  return kinds.length === insn.ops.length && kinds.length <= 3 ? { kinds, fixed, imm, immSize } : undefined;
}

const NO_OPERANDS: Layout = { kinds: [], fixed: [], imm: 0, immSize: 0 };

export class Forms {
  constructor(
    private readonly mem: PhysMem,
    private readonly core: FormsCore,
  ) {
    for (let map = 0; map < 2; map++) {
      const table = TABLES_64[map] as readonly (Node | null)[];
      for (let opcode = 0; opcode < 256; opcode++) {
        const nodes = [0, 1, 2, 3].map((prefix) => table[(prefix << 8) | opcode] as Node | null);
        mem.u8[OPCODE_FORMS + map * 256 + opcode] = classify(nodes);
      }
    }
  }

  /** An instruction was decoded at a machine address, whole in its page; `known`: what its handler could go by of the flags. */
  learn(at: number, insn: Insn, handler: Handler, mode: number, known: number): void {
    const { op } = handler;
    if (insn.bits !== 64 || op.indirect || op.clock || insn.op === "ud" || insn.op === "gp") return;
    const form = this.core.formOf(at, (at & ~4095) + 4096, mode, known) >>> 0;
    if (form === 0) return;
    const { u32 } = this.mem;
    const modrm = u32[FORM_MODRM >>> 2] as number;
    const repeat = (form >>> 10) & 3;
    const prefix = repeat === 1 ? 2 : repeat === 2 ? 3 : (form >>> 9) & 1;
    const node = TABLES_64[(form >>> 8) & 1]?.[(prefix << 8) | (form & 255)];
    if (node === undefined || node === null) return;
    const row = node.rows[!node.modrm ? 0 : modrm >= 0xc0 ? 8 + (modrm & 63) : (modrm >> 3) & 7];
    if (row === undefined || row === null || row.string || row.es || row.ignoreMod) return;
    // `nop` has the row of `xchg`.
    const nop = (form & 0x1ff) === 0x90;
    const where = nop ? NO_OPERANDS : layout(row, insn, node.modrm && modrm < 0xc0);
    if (where === undefined) return;
    const isStatic = handler.staticImm && where.imm !== IMM_IS_ONE;
    if (isStatic && where.imm !== IMM_U8 && where.imm !== IMM_S8) return;
    const depends = (handler.reads ? FORM_READS : 0) | (isStatic ? FORM_STATIC : 0);
    const entry = this.core.formPlace(mode, known, depends) >>> 0;
    if (entry === 0) return;
    let flags = depends | (op.ends ? FORM_ENDS : 0) | (op.relative ? FORM_RELATIVE : 0);
    flags |= (where.imm << FORM_IMM) | (where.immSize << FORM_IMM_SIZE);
    where.kinds.forEach((kind, i) => {
      flags |= kind << (FORM_OPERANDS + 4 * i);
    });
    u32[(entry + FORM_HANDLER) >>> 2] = handler.index;
    u32[(entry + FORM_FLAGS) >>> 2] = flags;
    const [a = 0, b = 0, c = 0] = where.fixed;
    u32[(entry + FORM_CONST) >>> 2] = a | (b << 16);
    u32[(entry + FORM_CONST + 4) >>> 2] = c | ((handler.ccAfter & 0xffff) << (8 * (FORM_AFTER - FORM_CONST - 4)));
  }
}
