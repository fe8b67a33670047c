/**
 * A stopped vCPU's kernel stack by the kernel's own unwind table (ORC, see symbols/orc.ts). Everything read is the guest's: a stack that leads
 * nowhere ends there, it is never followed upwards for more than `MAX_DEPTH` frames and never downwards.
 */
import type { Va } from "../../machine/cpu/api.js";
import {
  IRET_IP,
  IRET_SP,
  ORC_BP as BP,
  ORC_BP_INDIRECT as BP_INDIRECT,
  ORC_DI as DI,
  ORC_DX as DX,
  ORC_PREV_SP as PREV_SP,
  ORC_R10 as R10,
  ORC_R13 as R13,
  ORC_SP as SP,
  ORC_SP_INDIRECT as SP_INDIRECT,
  PT_BP,
  PT_IP,
  PT_SP,
  type readOrc,
  TYPE_CALL,
  TYPE_REGS,
  TYPE_REGS_PARTIAL,
} from "../symbols/orc.js";

export type OrcTable = NonNullable<ReturnType<typeof readOrc>>;
type OrcRow = OrcTable[number];

const MAX_DEPTH = 48;

/** The registers that the table may refer to, and the guest's memory. */
export interface StackSource {
  readonly rip: Va;
  readonly rsp: Va;
  readonly rbp: Va;
  /** By ORC's number, for rdx, rdi, r10, r13: of the innermost frame only. */
  register(orc: number): Va;
  /** The 64-bit word at a virtual address, or null where nothing is mapped. */
  read(va: Va): Va | null;
}

function rowAt(table: OrcTable, va: Va): OrcRow | undefined {
  let lo = 0;
  let hi = table.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if ((table[mid] as OrcRow).va <= va) lo = mid + 1;
    else hi = mid;
  }
  return table[lo - 1];
}

/** Addresses of the frames, the innermost first; callers' are those of their call, not of the return. */
export function unwind(table: OrcTable, from: StackSource): Va[] {
  const out: Va[] = [from.rip];
  let ip = from.rip;
  let { rsp: sp, rbp: bp } = from;
  let first = true;
  while (out.length < MAX_DEPTH) {
    const row = rowAt(table, ip);
    if (row === undefined || row.end) break;
    const cfa = frameAddress(row, sp, bp, first ? from : null);
    if (cfa === null) break;
    const base = row.spReg === SP_INDIRECT || row.spReg === BP_INDIRECT ? from.read(cfa.at) : cfa.at;
    if (base === null) break;
    const frame = base + cfa.after;
    const isCall = row.type === TYPE_CALL;
    if (!isCall && row.type !== TYPE_REGS && row.type !== TYPE_REGS_PARTIAL) break;
    const whole = row.type === TYPE_REGS;
    const back = from.read(isCall ? frame - 8 : frame + (whole ? PT_IP : IRET_IP));
    const above = isCall ? frame : from.read(frame + (whole ? PT_SP : IRET_SP));
    let under: Va | null = bp;
    if (whole) under = from.read(frame + PT_BP);
    else if (row.bpReg === PREV_SP) under = from.read(frame + row.bpOffset);
    else if (row.bpReg === BP) under = from.read(bp + row.bpOffset);
    // Kernel addresses are in the upper half: anything else is user mode, or the end.
    if (back === null || back >= 0 || above === null || (isCall && above <= sp)) break;
    sp = above;
    bp = under ?? 0;
    // The call stands before the return address; an interrupted instruction is itself.
    ip = isCall ? back - 1 : back;
    out.push(ip);
    first = false;
  }
  return out;
}

/** Where the caller's stack pointer (or the block of registers) is: to be read there, then added to, if the rule says so. */
function frameAddress(row: OrcRow, sp: Va, bp: Va, regs: StackSource | null): { at: Va; after: number } | null {
  switch (row.spReg) {
    case SP:
      return { at: sp + row.spOffset, after: 0 };
    case BP:
      return { at: bp + row.spOffset, after: 0 };
    case SP_INDIRECT:
      return { at: sp, after: row.spOffset };
    case BP_INDIRECT:
      return { at: bp + row.spOffset, after: 0 };
    case DX:
    case DI:
    case R10:
    case R13:
      return regs === null ? null : { at: regs.register(row.spReg) + row.spOffset, after: 0 };
    default:
      return null;
  }
}
