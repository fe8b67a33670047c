/**
 * A Linux kernel's unwind table (ORC: .orc_unwind_ip and .orc_unwind, 6 bytes an entry in 5.x and 6.x) as DWARF call frame information, which
 * gdb reads: a stripped kernel then has whole backtraces, interrupt frames included. (Linux: Documentation/x86/orc-unwinder; DWARF 4, 6.4.)
 */
import type { Elf } from "../../toolstack/builder/elf.js";
import type { Va } from "../../machine/cpu/api.js";
import { ByteWriter } from "./byte-writer.js";
import type { KernelSymbol } from "./symbol-table.js";

/** DWARF's register numbers. */
const RDX = 1,
  RBX = 3,
  RDI = 5,
  RBP = 6,
  RSP = 7,
  R10 = 10,
  R12 = 12,
  R13 = 13,
  R14 = 14,
  R15 = 15,
  RA = 16;
/** By ORC's number of a base register: undefined, prev_sp, dx, di, bp, sp, r10, r13. */
const BASE: readonly (number | undefined)[] = [undefined, undefined, RDX, RDI, RBP, RSP, R10, R13];
/** ORC's numbers of base registers. */
export const ORC_PREV_SP = 1,
  ORC_DX = 2,
  ORC_DI = 3,
  ORC_BP = 4,
  ORC_SP = 5,
  ORC_R10 = 6,
  ORC_R13 = 7,
  ORC_BP_INDIRECT = 8,
  ORC_SP_INDIRECT = 9;
export const TYPE_CALL = 0,
  TYPE_REGS = 1,
  TYPE_REGS_PARTIAL = 2;
/** struct pt_regs (x86-64). */
const PT_R15 = 0,
  PT_R14 = 8,
  PT_R13 = 16,
  PT_R12 = 24,
  PT_BX = 40;
export const PT_BP = 32,
  PT_IP = 128,
  PT_SP = 152;
/** An interrupt's frame: ip, cs, flags, sp, ss. */
export const IRET_IP = 0,
  IRET_SP = 24;

const DW_CFA_advance_loc4 = 0x04,
  DW_CFA_undefined = 0x07,
  DW_CFA_same_value = 0x08,
  DW_CFA_def_cfa = 0x0c,
  DW_CFA_def_cfa_expression = 0x0f,
  DW_CFA_expression = 0x10,
  DW_CFA_offset = 0x80;
const DW_OP_deref = 0x06,
  DW_OP_plus_uconst = 0x23,
  DW_OP_breg0 = 0x70;

interface OrcEntry {
  readonly va: Va;
  readonly spOffset: number;
  readonly bpOffset: number;
  readonly spReg: number;
  readonly bpReg: number;
  readonly type: number;
  readonly end: boolean;
}

/** The table by rising address, or null where the kernel has none. */
export function readOrc(elf: Elf): OrcEntry[] | null {
  const ips = elf.section(".orc_unwind_ip");
  const table = elf.section(".orc_unwind");
  const at = elf.sectionAddress(".orc_unwind_ip");
  if (ips === undefined || table === undefined || at === undefined) return null;
  const n = Math.min(ips.length >> 2, Math.floor(table.length / 6));
  const ip = new DataView(ips.buffer, ips.byteOffset, ips.byteLength);
  const row = new DataView(table.buffer, table.byteOffset, table.byteLength);
  // Newer kernels have a bit (signal) between the type and the end mark.
  let newer = false;
  for (let i = 0; i < n; i++) if ((row.getUint16(6 * i + 4, true) & 0x800) !== 0) newer = true;
  const out: OrcEntry[] = [];
  for (let i = 0; i < n; i++) {
    const bits = row.getUint16(6 * i + 4, true);
    out.push({
      va: at + 4 * i + ip.getInt32(4 * i, true),
      spOffset: row.getInt16(6 * i, true),
      bpOffset: row.getInt16(6 * i + 2, true),
      spReg: bits & 15,
      bpReg: (bits >> 4) & 15,
      type: (bits >> 8) & 3,
      end: (bits & (newer ? 0x800 : 0x400)) !== 0,
    });
  }
  return out.sort((a, b) => a.va - b.va);
}

/** A base register plus an offset on DWARF's stack. */
function base(w: ByteWriter, reg: number, offset: number): void {
  w.u8(DW_OP_breg0 + reg);
  w.sleb(offset);
}

/** ORC's stack pointer of the caller (or of the register block) as an expression; false where there is none. */
function stackPointer(w: ByteWriter, e: OrcEntry): boolean {
  if (e.spReg === ORC_SP_INDIRECT) {
    base(w, RSP, 0);
    w.u8(DW_OP_deref);
    w.u8(DW_OP_plus_uconst);
    w.uleb(Math.max(0, e.spOffset));
    return true;
  }
  if (e.spReg === ORC_BP_INDIRECT) {
    base(w, RBP, e.spOffset);
    w.u8(DW_OP_deref);
    return true;
  }
  const reg = BASE[e.spReg];
  if (reg === undefined) return false;
  base(w, reg, e.spOffset);
  return true;
}

function expression(w: ByteWriter, op: number, reg: number | undefined, body: ByteWriter): void {
  w.u8(op);
  if (reg !== undefined) w.uleb(reg);
  w.uleb(body.length);
  w.bytes(body.result());
}

/** A register saved in memory, `offset` beyond the block of registers that `e` leads to. */
function saved(w: ByteWriter, e: OrcEntry, reg: number, offset: number): void {
  const body = new ByteWriter();
  stackPointer(body, e);
  body.u8(DW_OP_plus_uconst);
  body.uleb(offset);
  expression(w, DW_CFA_expression, reg, body);
}

/** An interrupt's or exception's registers are on the stack: only entries from outside have such rows. */
const isEntry = (e: OrcEntry): boolean => e.type === TYPE_REGS || e.type === TYPE_REGS_PARTIAL;

/** The rules of one row, all of them anew. */
function rules(w: ByteWriter, e: OrcEntry): void {
  const probe = new ByteWriter();
  const known = stackPointer(probe, e);
  if (e.end || !known) {
    w.u8(DW_CFA_def_cfa);
    w.uleb(RSP);
    w.uleb(8);
    w.u8(DW_CFA_undefined);
    w.uleb(RA);
    return;
  }
  if (isEntry(e)) {
    const whole = e.type === TYPE_REGS;
    probe.u8(DW_OP_plus_uconst);
    probe.uleb(whole ? PT_SP : IRET_SP);
    probe.u8(DW_OP_deref);
    expression(w, DW_CFA_def_cfa_expression, undefined, probe);
    saved(w, e, RA, whole ? PT_IP : IRET_IP);
    if (!whole) {
      w.u8(DW_CFA_same_value);
      w.uleb(RBP);
      return;
    }
    for (const [reg, offset] of [
      [RBP, PT_BP],
      [RBX, PT_BX],
      [R12, PT_R12],
      [R13, PT_R13],
      [R14, PT_R14],
      [R15, PT_R15],
    ] as const)
      saved(w, e, reg, offset);
    return;
  }
  const reg = e.type === TYPE_CALL ? BASE[e.spReg] : undefined;
  if (reg !== undefined && e.spOffset >= 0) {
    w.u8(DW_CFA_def_cfa);
    w.uleb(reg);
    w.uleb(e.spOffset);
  } else expression(w, DW_CFA_def_cfa_expression, undefined, probe);
  w.u8(DW_CFA_offset | RA);
  w.uleb(1);
  if (e.bpReg === ORC_PREV_SP && e.bpOffset <= 0 && e.bpOffset % 8 === 0) {
    w.u8(DW_CFA_offset | RBP);
    w.uleb(-e.bpOffset / 8);
  } else if (e.bpReg === ORC_BP) {
    const body = new ByteWriter();
    base(body, RBP, e.bpOffset);
    expression(w, DW_CFA_expression, RBP, body);
  } else {
    w.u8(DW_CFA_same_value);
    w.uleb(RBP);
  }
}

/** .debug_frame: one common entry and one entry for each function that the symbols name. */
export function debugFrame(orc: readonly OrcEntry[], symbols: readonly KernelSymbol[]): Uint8Array {
  const w = new ByteWriter();
  const padded = (body: ByteWriter): void => {
    while (body.length % 8 !== 4) body.u8(0);
    w.u32(body.length);
    w.bytes(body.result());
  };
  const cie = (augmentation: readonly number[]): number => {
    const offset = w.length;
    const cie = new ByteWriter();
    cie.u32(0xffffffff);
    cie.u8(1);
    for (const c of augmentation) cie.u8(c);
    cie.u8(0);
    cie.uleb(1);
    cie.sleb(-8);
    cie.uleb(RA);
    cie.u8(DW_CFA_def_cfa);
    cie.uleb(RSP);
    cie.uleb(8);
    cie.u8(DW_CFA_offset | RA);
    cie.uleb(1);
    padded(cie);
    return offset;
  };
  const calls = cie([]);
  // What an exception's entry interrupted is at that instruction, not behind a call before it.
  const interrupts = cie([0x53]);

  const starts = [...new Set(symbols.filter((s) => /[tT]/.test(s.type) && s.va < 0).map((s) => s.va))].sort(
    (a, b) => a - b,
  );
  let row = 0;
  starts.forEach((start, i) => {
    const end = starts[i + 1] ?? start + 16;
    while (row + 1 < orc.length && (orc[row + 1] as OrcEntry).va <= start) row++;
    const first = orc[row];
    if (first === undefined || first.va > start) return;
    const fde = new ByteWriter();
    let entry = isEntry(first);
    for (let r = row + 1; !entry && r < orc.length && (orc[r] as OrcEntry).va < end; r++)
      entry = isEntry(orc[r] as OrcEntry);
    fde.u32(entry ? interrupts : calls);
    fde.va(start);
    fde.va(end - start);
    rules(fde, first);
    let at = start;
    for (let r = row + 1; r < orc.length; r++) {
      const e = orc[r] as OrcEntry;
      if (e.va >= end) break;
      if (e.va === at) continue;
      fde.u8(DW_CFA_advance_loc4);
      fde.u32(e.va - at);
      at = e.va;
      rules(fde, e);
    }
    padded(fde);
  });
  return w.result();
}
