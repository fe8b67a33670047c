/**
 * Memory accesses of a block that can share one TLB check: same base (a register that has only moved by constants in between, the stack
 * pointer with its pushes and pops above all, or none: constant addresses) and a small distance. The first of a group checks the
 * whole span once; the others go by the host address it found, or by the slow path if the span was not on one mapped page.
 */
import { MODE_BITS_64, MODE_BITS_MASK } from "../../layout.js";
import { BASE_RIP, FS, K, RBP, RSP, type Insn } from "../insn.js";
import { writes } from "./flow.js";
import type { Block } from "./grow.js";

export interface Group {
  /** Lowest offset and the end, from the common base. */
  lo: number;
  hi: number;
  write: boolean;
  count: number;
  /** The local with the host address of `lo`, 0 if the check failed; −1 before the check. */
  local: number;
}
export interface Access {
  readonly group: Group;
  /** Offset from the group's base. */
  readonly offset: number;
  readonly size: number;
}
/** The planned accesses of one instruction. */
export interface Plan {
  readonly operand: Access | undefined;
  readonly stack: Access | undefined;
}

/** A longer span is on two pages too often. */
const MAX_SPAN = 256;
const MIN_ACCESSES = 2;
/** Constant addresses, and those relative to RIP, which are elsewhere when the code is. */
const ABSOLUTE = -1;
const RELATIVE = -2;

const NO_ACCESS = new Set(["lea", "nop", "invlpg", "prefetch", "prefetchw", "clflush"]);
const PUSHES = new Set(["push", "push_sreg", "pushf", "call", "call_ind"]);

/** Plans by instruction, or undefined if the block has nothing to share. */
export function planAccesses(b: Block, mode: number): (Plan | undefined)[] | undefined {
  const bits64 = (mode & MODE_BITS_MASK) === MODE_BITS_64;
  const word = bits64 ? 8 : 4;
  const root = new Int32Array(16);
  const off = new Float64Array(16);
  for (let r = 0; r < 16; r++) root[r] = r;
  let roots = 16;
  const fresh = (r: number): void => {
    root[r] = roots++;
    off[r] = 0;
  };
  const open = new Map<number, Group>();
  let shared = false;
  const access = (base: number, offset: number, size: number, write: boolean): Access => {
    let g = open.get(base);
    if (g) {
      const lo = Math.min(g.lo, offset);
      const hi = Math.max(g.hi, offset + size);
      const fits = base < 0 ? Math.floor(lo / 4096) === Math.floor((hi - 1) / 4096) : hi - lo <= MAX_SPAN;
      if (fits) {
        g.lo = lo;
        g.hi = hi;
        g.write ||= write;
        if (++g.count >= MIN_ACCESSES) shared = true;
        return { group: g, offset, size };
      }
    }
    g = { lo: offset, hi: offset + size, write, count: 1, local: -1 };
    open.set(base, g);
    return { group: g, offset, size };
  };
  const plans: (Plan | undefined)[] = [];
  for (let i = 0; i < b.insns.length; i++) {
    const x = b.insns[i] as Insn;
    const shape = b.shapes[i];
    if (!shape) break;
    let operand: Access | undefined;
    let stack: Access | undefined;
    const { op, ops } = x;
    if (x.asize === word && x.memIndex < 0 && x.seg < FS && !NO_ACCESS.has(op) && op !== "pop") {
      for (let k = 0; k < ops.length; k++) {
        const o = ops[k];
        if (o?.kind !== K.MEM || o.size === 0 || o.size > 16) continue;
        const write = shape.stores || (shape.writesOperands & (1 << k)) !== 0;
        if (x.memBase === BASE_RIP) operand = access(RELATIVE, (b.vas[i] as number) + x.len + x.disp, o.size, write);
        else if (x.memBase >= 0) {
          const r = x.memBase;
          operand = access(root[r] as number, (off[r] as number) + x.disp, o.size, write);
        } else if (x.dispHi === x.disp >> 31 || !bits64)
          operand = access(ABSOLUTE, bits64 ? x.disp : x.disp >>> 0, o.size, write);
      }
    }
    if (PUSHES.has(op)) {
      if (x.osize === word) {
        stack = access(root[RSP] as number, (off[RSP] as number) - word, word, true);
        off[RSP] = (off[RSP] as number) - word;
      } else fresh(RSP);
    } else if (op === "pop" && x.osize === word && ops[0]?.kind === K.GPR) {
      stack = access(root[RSP] as number, off[RSP] as number, word, false);
      off[RSP] = (off[RSP] as number) + word;
      fresh(ops[0].reg);
    } else if (op === "ret" && x.osize === word) {
      stack = access(root[RSP] as number, off[RSP] as number, word, false);
    } else if (op === "leave" && x.osize === word) {
      root[RSP] = root[RBP] as number;
      off[RSP] = (off[RBP] as number) + word;
      fresh(RBP);
    } else {
      const d = ops[0];
      const s = ops[1];
      const reg = d?.kind === K.GPR && d.size === word ? d.reg : -1;
      if (reg >= 0 && (op === "add" || op === "sub") && s?.kind === K.IMM)
        off[reg] = (off[reg] as number) + (op === "add" ? x.imm : -x.imm);
      else if (reg >= 0 && (op === "inc" || op === "dec")) off[reg] = (off[reg] as number) + (op === "inc" ? 1 : -1);
      else if (reg >= 0 && op === "mov" && s?.kind === K.GPR) {
        root[reg] = root[s.reg] as number;
        off[reg] = off[s.reg] as number;
      } else if (reg >= 0 && op === "lea" && x.memBase >= 0 && x.memBase < 16 && x.memIndex < 0 && x.asize === word) {
        root[reg] = root[x.memBase] as number;
        off[reg] = (off[x.memBase] as number) + x.disp;
      } else if (shape.writesOperands !== 0 || shape.writesFixed !== 0) {
        const w = writes(x, shape);
        for (let r = 0; r < 16; r++) if ((w & (1 << r)) !== 0) fresh(r);
      }
    }
    plans.push(operand || stack ? { operand, stack } : undefined);
  }
  return shared ? plans : undefined;
}

/** Whether the group is worth it. */
export function isShared(a: Access | undefined): a is Access {
  return a !== undefined && a.group.count >= MIN_ACCESSES;
}
