/**
 * Decoding what was seen before: blocks of 64-bit code whose instructions all have a known form are written here, without the host side.
 *
 * The decoder is the host side's (cpu/decode). Of an instruction that it decoded it leaves a *form* here (FORMS, cpu/forms.ts): which handler runs it,
 * and from which of its bytes each field of its record comes. The key of a form is all that the decoder and the choice of a handler look at, but
 * for register numbers, displacements and (mostly) immediates. Invariant: a block made here is, byte for byte, what the host side would have made of it;
 * what is not sure of that is left to it: other prefixes and maps, instructions over two pages, indirect branches, frames to be compared with others.
 */
import {
  ARENA_NEXT, BLOCK_BESIDE, BLOCK_HEADER, BLOCK_MADDR, BLOCK_MODE, BLOCK_N, BLOCK_NEXT, CODE_MASK, CODE_PAGE, DECODED, DECODES, DECODES_MAX, ENTRIES_MAP, ENTRIES_MAP_BITS,
  FORM_MODRM, FORM_CONST, FORM_ENDS, FORM_FLAGS, FORM_HANDLER, FORM_IMM, FORM_IMM_SIZE, FORM_KEY, FORM_OPERANDS, FORM_READS,
  FORM_RELATIVE, FORM_SIZE, FORM_STATIC, FORMS, FORMS_COUNT, FORMS_ENTRIES, FORMS_MAX, FORM_AFTER, FRAME_CODE, GPR, MODE_BITS_64, MODE_BITS_MASK, OPCODE_FORMS, RECORDS_END, REC_BASE, REC_DISP,
  REC_HANDLER, REC_IMM, REC_NEXT, REC_POS, REC_R0, REC_R2, REC_SCALE, REC_SIZE, SEG_BASE, XMM, ZERO,
} from "../generated/layout";
import { dropWriters } from "./mmu";

/** Of cpu.ts. */
const MAX_BLOCK: u32 = 64;
const MAX_PREFIXES: u32 = 6;
const MAX_LENGTH: u32 = 15;
/** Of interpreter/sem.ts. */
const CC_UNKNOWN: i32 = -1;
const CC_SAME: i32 = -2;

const DS: u32 = 3;
const SS: u32 = 2;
const FS: u32 = 4;
const GS: u32 = 5;

/** What `parse` found. */
let p: u32 = 0;
let form: u32 = 0;
let rex: u32 = 0;
let opcode: u32 = 0;
let modrm: u32 = 0;
let base: u32 = 0;
let index: u32 = 0;
let scale: u32 = 0;
let disp: i64 = 0;
let relative: bool = false;
let segment: u32 = 0;

/** Parse the instruction at `at` up to its immediates: its form's key is in `form`. False: it may be no such instruction, or is not whole. */
function parse(at: u32, limit: u32): bool {
  p = at;
  rex = 0;
  let key: u32 = 0x80000000;
  segment = DS;
  let byte: u32 = 0;
  for (;;) {
    if (p >= limit) return false;
    if (p - at > MAX_PREFIXES) return false;
    byte = load<u8>(p++);
    if ((byte & 0xf0) == 0x40) {
      rex = byte;
      continue;
    }
    if (byte == 0x66) key |= 1 << 9;
    else if (byte == 0xf3) key = (key & ~(3 << 10)) | (1 << 10);
    else if (byte == 0xf2) key = (key & ~(3 << 10)) | (2 << 10);
    else if (byte == 0xf0) key |= 1 << 14;
    else if (byte == 0x64) segment = FS;
    else if (byte == 0x65) segment = GS;
    // The other segments' prefixes do nothing here.
    else if ((byte & 0xe7) != 0x26) break;
    rex = 0;
  }
  if (segment != DS) key |= (segment - 3) << 15;
  if (rex != 0) key |= (1 << 13) | ((rex & 8) << 9);
  if (byte == 0x0f) {
    if (p >= limit) return false;
    byte = load<u8>(p++);
    key |= 1 << 8;
  }
  opcode = byte;
  key |= byte;
  const kind = <u32>load<u8>(OPCODE_FORMS + (key & 0x1ff));
  if (kind == 0) return false;
  // `xchg r8, rax` shares its byte with `nop`.
  if ((key & 0x1ff) == 0x90 && (rex & 1) != 0) return false;
  base = ZERO;
  index = ZERO;
  scale = 0;
  disp = 0;
  relative = false;
  if (kind == 1) {
    form = key;
    return true;
  }
  if (p >= limit) return false;
  modrm = load<u8>(p++);
  if (kind == 3) key |= (modrm & 0x38) << 16;
  if (modrm >= 0xc0) {
    form = key | (1 << 17);
    return true;
  }
  key |= 1 << 18;
  const mod = modrm >>> 6;
  let rm = modrm & 7;
  let size: u32 = mod == 1 ? 1 : mod == 2 ? 4 : 0;
  let stack = false;
  if (rm == 4) {
    if (p >= limit) return false;
    const sib = <u32>load<u8>(p++);
    const x = ((sib >>> 3) & 7) | ((rex & 2) << 2);
    if (x != 4) {
      index = GPR + x * 8;
      scale = sib >>> 6;
      key |= (scale == 0 ? 1 : 2) << 23;
    }
    rm = sib & 7;
    if (rm == 5 && mod == 0) size = 4;
    else {
      stack = (rm == 4 || rm == 5) && (rex & 1) == 0;
      base = GPR + (rm | ((rex & 1) << 3)) * 8;
      key |= 1 << 22;
    }
  } else if (rm == 5 && mod == 0) {
    size = 4;
    relative = true;
    base = CODE_PAGE;
    key |= 1 << 22;
  } else {
    stack = rm == 5 && (rex & 1) == 0;
    base = GPR + (rm | ((rex & 1) << 3)) * 8;
    key |= 1 << 22;
  }
  if (p + size > limit) return false;
  if (size == 1) disp = <i64>load<i8>(p);
  else if (size == 4) disp = <i64>load<i32>(p);
  p += size;
  if (stack && segment == DS) {
    segment = SS;
    key |= 1 << 25;
  }
  form = key;
  return true;
}

/** The form with these keys, or the empty place for it. */
function place(key: u32, detail: u32): u32 {
  let h = (key * 0x9e3779b1) ^ (detail * 0x85ebca6b);
  h ^= h >>> 15;
  for (;;) {
    h &= FORMS_ENTRIES - 1;
    const at = FORMS + h * FORM_SIZE;
    const k = load<u64>(at, FORM_KEY);
    if (k == 0 || k == (<u64>key | (<u64>detail << 32))) return at;
    h++;
  }
  return 0;
}

/** What of the immediate's first byte and of the flags' last operation is part of the key, where a form says so. */
// @ts-ignore: decorator
@inline
function detailed(mode: u32, flags: u32, known: i32, imm: u32): u32 {
  return mode | ((flags & FORM_READS) != 0 ? <u32>(known + 2) << 10 : 0) | ((flags & FORM_STATIC) != 0 ? (imm + 1) << 18 : 0);
}

/** For the host side: the form of the instruction at `at`, its ModRM byte at FORM_MODRM; 0 = it has none, or it is known already. */
export function formOf(at: u32, limit: u32, mode: u32, known: i32): u32 {
  if (load<u32>(FORMS_COUNT) >= FORMS_MAX || !parse(at, limit)) return 0;
  const f = place(form, mode);
  if (load<u64>(f) != 0) {
    const flags = load<u32>(f, FORM_FLAGS);
    if ((flags & (FORM_READS | FORM_STATIC)) == 0 || load<u64>(place(form, detailed(mode, flags, known, load<u8>(p)))) != 0) return 0;
  }
  store<u32>(FORM_MODRM, modrm);
  return form;
}
/** For the host side, after `formOf`: where that form is to be put (`flags`: what else its handler depends on); 0 = it is there. */
export function formPlace(mode: u32, known: i32, flags: u32): u32 {
  if (flags != 0) {
    // What stands at the plain key only says what else to look at.
    const plain = place(form, mode);
    if (load<u64>(plain) == 0) {
      store<u64>(plain, <u64>form | (<u64>mode << 32));
      store<u32>(plain, flags, FORM_FLAGS);
      store<u32>(FORMS_COUNT, load<u32>(FORMS_COUNT) + 1);
    }
  }
  const detail = detailed(mode, flags, known, load<u8>(p));
  const entry = place(form, detail);
  if (load<u64>(entry) != 0) return 0;
  store<u64>(entry, <u64>form | (<u64>detail << 32));
  store<u32>(FORMS_COUNT, load<u32>(FORMS_COUNT) + 1);
  return entry;
}

/** Address of the register that an operand's field comes from. */
function operand(kind: u32, fixed: u32): u32 {
  let n: u32;
  switch (kind) {
    case 1: return GPR + ((modrm & 7) | ((rex & 1) << 3)) * 8;
    case 2: return GPR + (((modrm >>> 3) & 7) | ((rex & 4) << 1)) * 8;
    case 3: return GPR + ((opcode & 7) | ((rex & 1) << 3)) * 8;
    case 4: n = (modrm & 7) | ((rex & 1) << 3); break;
    case 5: n = ((modrm >>> 3) & 7) | ((rex & 4) << 1); break;
    case 6: n = (opcode & 7) | ((rex & 1) << 3); break;
    case 7: return XMM + ((modrm & 7) | ((rex & 1) << 3)) * 16;
    case 8: return XMM + (((modrm >>> 3) & 7) | ((rex & 4) << 1)) * 16;
    default: return fixed;
  }
  // Without REX, byte registers 4–7 are AH CH DH BH.
  return rex == 0 && n >= 4 ? GPR + (n - 4) * 8 + 1 : GPR + n * 8;
}

/** Decode the block at a machine address; 0: the host side must. */
export function decodeKnown(maddr: u32, mode: u32, hash: u32): u32 {
  const limit = (maddr & ~0xfff) + 4096;
  const frame = maddr >>> 12;
  const units = load<u32>(FRAME_CODE + frame * 8, 4);
  if ((mode & MODE_BITS_MASK) != MODE_BITS_64 || load<u32>(DECODES) + 1 >= load<u32>(DECODES_MAX) || (units & (units - 1)) == 0) return 0;
  const bit = entryBit(maddr, mode);
  if ((load<u8>(ENTRIES_MAP + (bit >>> 3)) & (1 << (bit & 7))) != 0) return 0;
  const block = load<u32>(ARENA_NEXT);
  if (block + BLOCK_HEADER + (MAX_BLOCK + 1) * REC_SIZE > RECORDS_END) return 0;
  let rec = block + BLOCK_HEADER;
  let known = CC_UNKNOWN;
  let at = maddr;
  let n: u32 = 0;
  while (n < MAX_BLOCK) {
    if (!parse(at, limit)) return 0;
    let f = place(form, mode);
    if (load<u64>(f) == 0) return 0;
    let flags = load<u32>(f, FORM_FLAGS);
    if ((flags & (FORM_READS | FORM_STATIC)) != 0) {
      if ((flags & FORM_STATIC) != 0 && p >= limit) return 0;
      f = place(form, detailed(mode, flags, known, (flags & FORM_STATIC) != 0 ? load<u8>(p) : 0));
      if (load<u64>(f) == 0) return 0;
      flags = load<u32>(f, FORM_FLAGS);
    }
    let imm: i64 = 0;
    const kind = (flags >>> FORM_IMM) & 15;
    if (kind != 0) {
      const size = (flags >>> FORM_IMM_SIZE) & 15;
      const bytes: u32 = kind <= 2 ? 1 : kind == 3 ? 2 : kind == 4 ? 4 : kind == 5 ? 8 : 0;
      if (p + bytes > limit) return 0;
      if (kind == 1) imm = <i64>load<u8>(p);
      else if (kind == 2) imm = <i64>load<i8>(p);
      else if (kind == 3) imm = <i64>load<u16>(p);
      else if (kind == 4) imm = <i64>load<i32>(p);
      else if (kind == 5) imm = load<i64>(p);
      else imm = 1;
      // Values are of the operand's size, zero-extended; only at eight bytes does the sign reach the upper half.
      if (size == 2) imm &= 0xffff;
      else if (size != 8) imm &= 0xffffffff;
      p += bytes;
    }
    const len = p - at;
    if (len > MAX_LENGTH) return 0;
    const pos = at & 0xfff;
    const next = pos + len;
    const kinds = flags >>> FORM_OPERANDS;
    store<u32>(rec, load<u32>(f, FORM_HANDLER), REC_HANDLER);
    store<u32>(rec, pos | (len << 16), REC_POS);
    store<u32>(rec, operand(kinds & 15, load<u16>(f, FORM_CONST)) | (operand((kinds >>> 4) & 15, load<u16>(f, FORM_CONST + 2)) << 16), REC_R0);
    store<u32>(rec, operand((kinds >>> 8) & 15, load<u16>(f, FORM_CONST + 4)) | ((SEG_BASE + segment * 8) << 16), REC_R2);
    store<u32>(rec, base | (index << 16), REC_BASE);
    store<u32>(rec, scale, REC_SCALE);
    store<u64>(rec, relative ? disp + <i64>next : disp, REC_DISP);
    store<u64>(rec, (flags & FORM_RELATIVE) != 0 ? imm + <i64>next : imm, REC_IMM);
    store<u64>(rec, <u64>next, REC_NEXT);
    rec += REC_SIZE;
    n++;
    at = p;
    const after = <i32>load<i16>(f, FORM_AFTER);
    if (after != CC_SAME) known = after;
    if ((flags & FORM_ENDS) != 0 || at >= limit) break;
  }
  store<u32>(rec, 0, REC_HANDLER);
  store<u32>(rec, at - (maddr & ~0xfff), REC_POS);
  memory.fill(block, 0, BLOCK_HEADER);
  store<u32>(block, n, BLOCK_N);
  store<u32>(block, maddr, BLOCK_MADDR);
  store<u32>(block, mode, BLOCK_MODE);
  store<u32>(block, load<u32>(hash), BLOCK_NEXT);
  store<u32>(hash, block);
  store<u32>(block, load<u32>(FRAME_CODE + frame * 8), BLOCK_BESIDE);
  store<u32>(FRAME_CODE + frame * 8, block);
  store<u32>(FRAME_CODE + frame * 8, units + 1, 4);
  store<u32>(ARENA_NEXT, (rec + REC_SIZE + 15) & ~15);
  const first: u64 = (maddr & 0xfff) >>> 6;
  const last: u64 = (at - 1 - (maddr & ~0xfff)) >>> 6;
  const mask = load<u64>(CODE_MASK + frame * 8);
  store<u64>(CODE_MASK + frame * 8, mask | (((<u64>2 << (last - first)) - 1) << first));
  if (mask == 0) dropWriters(frame);
  store<u32>(DECODES, load<u32>(DECODES) + 1);
  store<u32>(DECODED, load<u32>(DECODED) + 1);
  return block;
}

/** Which bit of the map of regions' entries stands for an address. */
export function entryBit(maddr: u32, mode: u32): u32 {
  return (((maddr * 0x9e3779b1) >>> 10) ^ (mode * 0x85ebca6b >>> 8)) & (ENTRIES_MAP_BITS - 1);
}
