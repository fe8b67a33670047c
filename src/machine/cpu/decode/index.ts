/**
 * The instruction decoder: bytes to `Insn`, for 16-, 32- and 64-bit code. Opcode tables: `one-byte.ts`, `two-byte.ts`,
 * `three-byte.ts`, `x87.ts` (row language in `table.ts`). Mnemonics: `MNEMONICS`.
 *
 * What is exposed is x86-64-v2 without XSAVE, MOVBE, AES and the like; any other encoding is `ud`. The rules where
 * processors differ are Intel's: near branches in 64-bit code ignore 66.
 *
 * Conventions beyond those of `insn.ts`:
 *  - Immediates are the value at the operand's size, zero-extended to 64 bits: after `83 /0 ib` with operand size 2, imm is
 *    0xFFxx; with 4, imm is the int32 and immHi 0; with 8, immHi is the sign. Branch displacements are sign-extended.
 *  - `enter` has one IMM operand (imm = frame size, imm2 = level); `jmp_far_imm` and `call_far_imm` have one IMM operand.
 *  - `fxch`, `fcmovcc` and compares are [ST(0), ST(i)]; `fld`, `fst`, `fstp`, `ffree`, `ffreep` have one ST operand.
 *  - String instructions, `xlat` and `maskmovq`/`maskmovdqu` have their source's segment in `seg` (ES for `stos`, `scas`, `ins`). `rep` is 1 for
 *    F2 too where the instruction does not compare.
 *  - A stack-based address has SS as its default segment also in 64-bit code (#SS instead of #GP).
 *  - `lar`/`lsl`/`lldt`…: GPR or 2-byte memory; `sldt`/`str`/`smsw`/`mov_sreg` to a register have its operand size.
 *  - Mem operand of `sgdt` …: 10 bytes in 64-bit code, else 6. `fxsave`, `fldenv`, `fnsave`, `invlpg`, `lea`: size 0.
 */
import { BASE_RIP, CS, DS, ES, FS, GS, SS, type Insn, type Operand } from "../insn.js";
import { CR, DR, GPR, GPR8_LEGACY, IMM, MEM, MMX, SREG, ST, XMM } from "./operands.js";
import { H, TABLES_64, TABLES_LEGACY, type Row } from "./table.js";

export { MNEMONICS } from "./table.js";

/** SDM vol. 2, 2.3.11: a longer instruction is #GP(0). */
const MAX_LENGTH = 15;

/** 16-bit addressing by ModRM.rm: base and index (SDM vol. 2, table 2-1). */
const BASE16 = [3, 3, 5, 5, 6, 7, 5, 3];
const INDEX16 = [6, 7, 6, 7, -1, -1, -1, -1];

function blank(op: string, len: number, bits: 16 | 32 | 64): Insn {
  return {
    op,
    len,
    bits,
    osize: bits === 16 ? 2 : 4,
    asize: bits >> 3,
    ops: [],
    memBase: -1,
    memIndex: -1,
    memScale: 0,
    disp: 0,
    dispHi: 0,
    seg: DS,
    imm: 0,
    immHi: 0,
    imm2: 0,
    cc: 0,
    rep: 0,
    lock: false,
  };
}

/** Out of bytes: null, unless they ran out because the instruction is too long. */
function short(at: number, limit: number, bits: 16 | 32 | 64): Insn | null {
  return limit - at >= MAX_LENGTH ? blank("gp", MAX_LENGTH, bits) : null;
}

/**
 * Decode the bytes `buf[at..limit)`. Null: they end before the instruction does. An invalid encoding, or one of a feature that is not
 * exposed, is `ud`; one longer than 15 bytes is `gp`.
 */
export function decode(buf: Uint8Array, at: number, limit: number, bits: 16 | 32 | 64): Insn | null {
  const end = limit - at > MAX_LENGTH ? at + MAX_LENGTH : limit;
  const is64 = bits === 64;
  let pos = at;
  let rex = 0;
  let opsize = false;
  let adsize = false;
  let lock = false;
  let repeat = 0;
  let seg = -1;
  let byte = 0;

  // Prefixes. A REX counts only right before the opcode. In 64-bit code ES CS SS DS overrides do nothing.
  prefixes: for (;;) {
    if (pos >= end) return short(at, limit, bits);
    byte = buf[pos++];
    if (is64 && (byte & 0xf0) === 0x40) {
      rex = byte;
      continue;
    }
    switch (byte) {
      case 0x66:
        opsize = true;
        break;
      case 0x67:
        adsize = true;
        break;
      case 0xf0:
        lock = true;
        break;
      case 0xf2:
        repeat = 2;
        break;
      case 0xf3:
        repeat = 1;
        break;
      case 0x26:
        if (!is64) seg = ES;
        break;
      case 0x2e:
        if (!is64) seg = CS;
        break;
      case 0x36:
        if (!is64) seg = SS;
        break;
      case 0x3e:
        if (!is64) seg = DS;
        break;
      case 0x64:
        seg = FS;
        break;
      case 0x65:
        seg = GS;
        break;
      default:
        break prefixes;
    }
    rex = 0;
  }

  // Opcode.
  let map = 0;
  if (byte === 0x0f) {
    if (pos >= end) return short(at, limit, bits);
    byte = buf[pos++];
    map = 1;
    if (byte === 0x38 || byte === 0x3a) {
      map = byte === 0x38 ? 2 : 3;
      if (pos >= end) return short(at, limit, bits);
      byte = buf[pos++];
    }
  }
  const opcode = byte;
  const prefix = repeat === 1 ? 2 : repeat === 2 ? 3 : opsize ? 1 : 0;
  const node = (is64 ? TABLES_64 : TABLES_LEGACY)[map][(prefix << 8) | opcode];
  if (node === null) return blank("ud", pos - at, bits);

  // ModRM.
  let row: Row | null;
  let modrm = 0xc0;
  if (node.modrm) {
    if (pos >= end) return short(at, limit, bits);
    modrm = buf[pos++];
    row = node.rows[modrm >= 0xc0 ? 8 + (modrm & 63) : (modrm >> 3) & 7];
  } else row = node.rows[0];
  if (row === null) return blank("ud", pos - at, bits);

  // Sizes.
  const asize = is64 ? (adsize ? 4 : 8) : (bits === 16) === adsize ? 4 : 2;
  const rexW = (rex & 8) !== 0;
  let osize = rexW ? 8 : row.selected ? 4 : (bits === 16) === opsize ? 4 : 2;
  if (is64) {
    if (row.f64 || row.native || (row.d64 && osize === 4)) osize = 8;
  } else if (row.native) osize = 4;
  if (row.byte) osize = 1;
  else if (row.z && osize === 8) osize = 4;

  // Memory operand.
  let memBase = -1;
  let memIndex = -1;
  let memScale = 0;
  let disp = 0;
  let dispHi = 0;
  let stack = false;
  const isMem = modrm < 0xc0 && !row.ignoreMod;
  if (isMem) {
    const mod = modrm >> 6;
    let rm = modrm & 7;
    let dispSize = mod === 1 ? 1 : 0;
    if (asize === 2) {
      if (mod === 2) dispSize = 2;
      if (mod === 0 && rm === 6) dispSize = 2;
      else {
        memBase = BASE16[rm];
        memIndex = INDEX16[rm];
        stack = memBase === 5;
      }
    } else {
      if (mod === 2) dispSize = 4;
      if (rm === 4) {
        if (pos >= end) return short(at, limit, bits);
        const sib = buf[pos++];
        const index = ((sib >> 3) & 7) | ((rex & 2) << 2);
        if (index !== 4) {
          memIndex = index;
          memScale = sib >> 6;
        }
        rm = sib & 7;
        if (rm === 5 && mod === 0) dispSize = 4;
        else {
          stack = (rm === 4 || rm === 5) && (rex & 1) === 0;
          memBase = rm | ((rex & 1) << 3);
        }
      } else if (rm === 5 && mod === 0) {
        dispSize = 4;
        if (is64) memBase = BASE_RIP;
      } else {
        stack = rm === 5 && (rex & 1) === 0;
        memBase = rm | ((rex & 1) << 3);
      }
    }
    if (pos + dispSize > end) return short(at, limit, bits);
    if (dispSize === 1) disp = (buf[pos] << 24) >> 24;
    else if (dispSize === 4) disp = buf[pos] | (buf[pos + 1] << 8) | (buf[pos + 2] << 16) | (buf[pos + 3] << 24);
    else if (dispSize === 2) disp = ((buf[pos] | (buf[pos + 1] << 8)) << 16) >> 16;
    pos += dispSize;
    dispHi = disp >> 31;
  }

  if (lock && !(row.lock && isMem)) return blank("ud", pos - at, bits);

  // Operands.
  let op = rexW ? row.opW : row.op;
  let ops: Operand[] = [];
  let imm = 0;
  let immHi = 0;
  let imm2 = 0;
  const codes = row.codes;
  for (let i = 0; i < codes.length; i++) {
    const c = codes[i];
    const size = c.size[osize];
    switch (c.h) {
      case H.E: {
        if (isMem) ops.push(MEM[c.memSize[osize]]);
        else {
          const n = (modrm & 7) | ((rex & 1) << 3);
          ops.push(size === 1 && rex === 0 ? GPR8_LEGACY[n] : GPR[size][n]);
        }
        break;
      }
      case H.G: {
        const n = ((modrm >> 3) & 7) | ((rex & 4) << 1);
        ops.push(size === 1 && rex === 0 ? GPR8_LEGACY[n] : GPR[size][n]);
        break;
      }
      case H.M:
        ops.push(MEM[c.memSize[osize]]);
        break;
      case H.Z: {
        const n = (opcode & 7) | ((rex & 1) << 3);
        ops.push(size === 1 && rex === 0 ? GPR8_LEGACY[n] : GPR[size][n]);
        break;
      }
      case H.FIXED_GPR:
        ops.push(GPR[size][c.reg]);
        break;
      case H.V:
        ops.push(XMM[((modrm >> 3) & 7) | ((rex & 4) << 1)]);
        break;
      case H.W:
        ops.push(isMem ? MEM[c.memSize[osize]] : XMM[(modrm & 7) | ((rex & 1) << 3)]);
        break;
      case H.U:
        ops.push(XMM[(modrm & 7) | ((rex & 1) << 3)]);
        break;
      case H.P:
        ops.push(MMX[(modrm >> 3) & 7]);
        break;
      case H.Q:
        ops.push(isMem ? MEM[c.memSize[osize]] : MMX[modrm & 7]);
        break;
      case H.N:
        ops.push(MMX[modrm & 7]);
        break;
      case H.SREG_FIELD: {
        // REX.R is ignored; a segment register above GS, or a load of CS, is #UD.
        const n = (modrm >> 3) & 7;
        if (n > GS || (n === CS && i === 0)) return blank("ud", pos - at, bits);
        ops.push(SREG[n]);
        break;
      }
      case H.SREG_FIXED:
        ops.push(SREG[c.reg]);
        break;
      case H.CR: {
        const n = ((modrm >> 3) & 7) | ((rex & 4) << 1);
        if (n > 8 || n === 1 || (n > 4 && n < 8)) return blank("ud", pos - at, bits);
        ops.push(CR[size][n]);
        break;
      }
      case H.DR: {
        if ((rex & 4) !== 0) return blank("ud", pos - at, bits);
        ops.push(DR[size][(modrm >> 3) & 7]);
        break;
      }
      case H.ST_RM:
        ops.push(ST[modrm & 7]);
        break;
      case H.ST_FIXED:
        ops.push(ST[c.reg]);
        break;
      case H.IMM_BYTE:
        if (pos >= end) return short(at, limit, bits);
        imm = buf[pos++];
        ops.push(IMM[1]);
        break;
      case H.IMM_SIGNED: {
        if (pos >= end) return short(at, limit, bits);
        imm = (buf[pos++] << 24) >> 24;
        if (size === 8) immHi = imm >> 31;
        else if (size === 2) imm &= 0xffff;
        ops.push(IMM[size]);
        break;
      }
      case H.IMM_WORD:
        if (pos + 2 > end) return short(at, limit, bits);
        imm = buf[pos] | (buf[pos + 1] << 8);
        pos += 2;
        ops.push(IMM[2]);
        break;
      case H.IMM_V:
      case H.IMM_Z: {
        const long = size === 8 && c.h === H.IMM_V;
        const n = long ? 8 : size === 2 ? 2 : 4;
        if (pos + n > end) return short(at, limit, bits);
        imm = buf[pos] | (buf[pos + 1] << 8);
        if (n !== 2) imm |= (buf[pos + 2] << 16) | (buf[pos + 3] << 24);
        if (long) immHi = buf[pos + 4] | (buf[pos + 5] << 8) | (buf[pos + 6] << 16) | (buf[pos + 7] << 24);
        else if (size === 8) immHi = imm >> 31;
        pos += n;
        ops.push(IMM[size]);
        break;
      }
      case H.IMM_ONE:
        imm = 1;
        ops.push(IMM[1]);
        break;
      case H.IMM2_BYTE:
        if (pos >= end) return short(at, limit, bits);
        imm2 = buf[pos++];
        break;
      case H.REL_BYTE:
        if (pos >= end) return short(at, limit, bits);
        imm = (buf[pos++] << 24) >> 24;
        immHi = imm >> 31;
        ops.push(IMM[size]);
        break;
      case H.REL_Z: {
        const n = size === 2 ? 2 : 4;
        if (pos + n > end) return short(at, limit, bits);
        imm = buf[pos] | (buf[pos + 1] << 8);
        if (n === 4) imm |= (buf[pos + 2] << 16) | (buf[pos + 3] << 24);
        else imm = (imm << 16) >> 16;
        immHi = imm >> 31;
        pos += n;
        ops.push(IMM[size]);
        break;
      }
      case H.FAR: {
        const n = size === 2 ? 2 : 4;
        if (pos + n + 2 > end) return short(at, limit, bits);
        imm = buf[pos] | (buf[pos + 1] << 8);
        if (n === 4) imm |= (buf[pos + 2] << 16) | (buf[pos + 3] << 24);
        pos += n;
        imm2 = buf[pos] | (buf[pos + 1] << 8);
        pos += 2;
        ops.push(IMM[size]);
        break;
      }
      case H.MOFFS: {
        if (pos + asize > end) return short(at, limit, bits);
        disp = buf[pos] | (buf[pos + 1] << 8);
        if (asize === 2) disp = (disp << 16) >> 16;
        else disp |= (buf[pos + 2] << 16) | (buf[pos + 3] << 24);
        dispHi =
          asize === 8 ? buf[pos + 4] | (buf[pos + 5] << 8) | (buf[pos + 6] << 16) | (buf[pos + 7] << 24) : disp >> 31;
        pos += asize;
        ops.push(MEM[size]);
        break;
      }
      default: // H.NONE: the ModRM byte was all there is.
        break;
    }
  }

  // 90 is `nop` (F3 90 `pause`) unless REX.B makes it `xchg r8, rax`.
  if (opcode === 0x90 && map === 0 && (rex & 1) === 0) {
    op = repeat === 1 ? "pause" : "nop";
    ops = [];
  }

  return {
    op,
    len: pos - at,
    bits,
    osize,
    asize,
    ops,
    memBase,
    memIndex,
    memScale,
    disp,
    dispHi,
    seg: row.es ? ES : seg >= 0 ? seg : stack ? SS : DS,
    imm,
    immHi,
    imm2,
    cc: row.cc ? opcode & 15 : 0,
    rep: row.string && repeat !== 0 ? (repeat === 2 && !row.repne ? 1 : repeat) : 0,
    lock,
  };
}
