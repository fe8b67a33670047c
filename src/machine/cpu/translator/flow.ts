/**
 * Flags over the region. Backwards: which flag-setting instructions matter to anyone. Forwards: what the flags are made of at each
 * block's start, so that what paths agree on need not be carried: the operation, and operands that are still in a guest register or
 * constant (`cmp rax, rdx; jne loop` leaves flags that can be made again from rax and rdx).
 */
import { c32, c64, i32, i64, local, N, type Expr } from "../../wasm/expr.js";
import { CC } from "../flags.js";
import { K, type Insn } from "../insn.js";
import { END, type Block } from "./grow.js";
import { SYMBOL, type Shape } from "./shape.js";
import type { Structure } from "./structure.js";

/** The operation in force is known only at run time. */
export const DYNAMIC = -1;
/** No path inside the region leads here: the flags are those of the region's entry. */
export const UNSEEN = -2;

/** wasm local of general register 0; the others follow. */
export const FIRST_GPR = 1;

/** Flags at a join. A missing component is in its local (A, B, R) if the operation needs it. */
export interface Flags {
  op: number;
  a?: Expr | undefined;
  b?: Expr | undefined;
  r?: Expr | undefined;
}

/** Which components an operation needs; R of sums and differences follows from the others. */
export const NEED_A = 1,
  NEED_B = 2,
  NEED_R = 4;
export function needs(op: number): number {
  switch (op >> 2) {
    case CC.FLAGS:
      return NEED_A;
    case CC.ADD:
    case CC.SUB:
      return NEED_A | NEED_B;
    case CC.LOGIC:
      return NEED_R;
    case CC.INC:
    case CC.DEC:
      return NEED_B | NEED_R;
    default:
      return NEED_A | NEED_B | NEED_R;
  }
}

export interface FlagFlow {
  /** Somebody may look at the flags that are in force at the block's start. */
  readonly liveIn: Uint8Array;
  readonly liveOut: Uint8Array;
  /** The flags at the start, by the paths inside the region (an entry also has those in the state block). */
  readonly at: readonly Flags[];
}

/** The end of the block is an exit (or may be one, where the budget is checked). */
function exposedEnd(b: Block, at: ReadonlyMap<number, Block>, s: Structure, precise: boolean): boolean {
  const retreats = precise && b.succ.some((t) => (s.rpo[t + 1] as number) <= (s.rpo[b.index + 1] as number));
  if (retreats) return true;
  switch (b.end) {
    case END.FALL:
      return !at.has(b.next);
    case END.JUMP:
    case END.CALL:
      return !at.has(b.target);
    case END.BRANCH:
      return !at.has(b.next) || !at.has(b.target);
    default:
      return true;
  }
}

/** General registers that an instruction writes (bit n). */
export function writes(insn: Insn, shape: Shape): number {
  let m = shape.writesFixed;
  if (shape.writesOperands !== 0)
    insn.ops.forEach((o, i) => {
      if (o.kind === K.GPR && (shape.writesOperands & (1 << i)) !== 0) m |= 1 << o.reg;
    });
  return m;
}

/** General registers that an expression reads. */
export function registersIn(e: Expr | undefined): number {
  if (!e) return 0;
  if (e.n === N.LOCAL) return e.code >= FIRST_GPR && e.code < FIRST_GPR + 16 ? 1 << (e.code - FIRST_GPR) : 0;
  let m = 0;
  for (const x of e.args) m |= registersIn(x);
  return m;
}

function gprValue(n: number, size: number, high: boolean): Expr {
  const e = local(FIRST_GPR + n, "i64");
  if (size === 8) return e;
  const w = i32.wrap(e);
  if (high) return i32.and(i32.shr_u(w, c32(8)), c32(0xff));
  return size === 4 ? w : i32.and(w, c32(size === 2 ? 0xffff : 0xff));
}

/** A symbolic component for this instruction, over the registers as they are after it; undefined if it needs a value that is gone. */
function instantiate(e: Expr | undefined, insn: Insn, gone: number): Expr | undefined {
  if (!e) return undefined;
  if (e.n === N.LOCAL) {
    const kind = e.code & 0xf000;
    const i = e.code & 0xfff;
    if (kind === SYMBOL.REGISTER) return (gone & (1 << i)) === 0 ? local(FIRST_GPR + i, "i64") : undefined;
    if (kind === SYMBOL.IMM) return e.t === "i64" ? c64(insn.imm, insn.immHi) : c32(insn.imm);
    const o = insn.ops[i];
    if (!o) return undefined;
    if (o.kind === K.IMM) {
      if (e.t === "i64") return c64(insn.imm, insn.immHi);
      const size = insn.ops[0]?.size ?? 4;
      return c32(size === 1 ? insn.imm & 0xff : size === 2 ? insn.imm & 0xffff : insn.imm);
    }
    if (o.kind !== K.GPR || (kind === SYMBOL.OLD && (gone & (1 << o.reg)) !== 0)) return undefined;
    return gprValue(o.reg, o.size, o.high);
  }
  if (e.args.length === 0) return e;
  const args: Expr[] = [];
  for (const x of e.args) {
    const y = instantiate(x, insn, gone);
    if (!y) return undefined;
    args.push(y);
  }
  return { ...e, args };
}

/** Cut a 64-bit sum or difference to the operation's size. */
export function cut(op: number, e: Expr): Expr {
  const size = op & 3;
  if (size === 3) return e;
  return i64.and(e, size === 2 ? c64(-1, 0) : c64(size === 1 ? 0xffff : 0xff));
}

function same(x: Expr | undefined, y: Expr | undefined): boolean {
  if (x === y) return true;
  if (!x || !y || x.n !== y.n || x.code !== y.code || x.lo !== y.lo || x.hi !== y.hi || x.args.length !== y.args.length)
    return false;
  for (let i = 0; i < x.args.length; i++) if (!same(x.args[i], y.args[i])) return false;
  return true;
}

const none = (op: number): Flags => ({ op });

/** The flags that a block leaves, or undefined where it leaves what it finds; and the registers it writes after that. */
function leaves(b: Block): { flags: Flags | undefined; written: number } {
  let written = 0;
  for (let i = b.shapes.length - 1; i >= 0; i--) {
    const shape = b.shapes[i];
    const insn = b.insns[i];
    if (!shape || !insn) continue;
    const w = shape.writesFixed | shape.writesOperands ? writes(insn, shape) : 0;
    if (shape.sets === 2) return { flags: none(DYNAMIC), written };
    if (shape.sets === 0) {
      written |= w;
      continue;
    }
    const op = shape.op;
    // A partial write of a register changes all of it; the new value of an operand is read back at its size.
    const value = (e: Expr | undefined): Expr | undefined => {
      const x = instantiate(e, insn, w);
      if (!x || (registersIn(x) & written) !== 0) return undefined;
      if (x.t === "i64") return x;
      return i64.extend_u(x);
    };
    const f: Flags = { op, a: value(shape.a), b: value(shape.b), r: value(shape.r) };
    const kind = op >> 2;
    if (!f.a && f.b && f.r && (kind === CC.ADD || kind === CC.SUB))
      f.a = cut(op, kind === CC.ADD ? i64.sub(f.r, f.b) : i64.add(f.r, f.b));
    const need = needs(op);
    if ((need & NEED_A) === 0) f.a = undefined;
    if ((need & NEED_B) === 0) f.b = undefined;
    if ((need & NEED_R) === 0) f.r = undefined;
    return { flags: f, written };
  }
  return { flags: undefined, written };
}

export function flagFlow(
  blocks: readonly Block[],
  at: ReadonlyMap<number, Block>,
  s: Structure,
  precise: boolean,
): FlagFlow {
  const n = blocks.length;
  const use = new Uint8Array(n);
  const kill = new Uint8Array(n);
  const end = new Uint8Array(n);
  for (const b of blocks) {
    const i = b.index;
    for (const x of b.shapes) {
      if (x.reads || (precise && x.leaves)) {
        use[i] = 1;
        break;
      }
      if (x.sets === 1) {
        kill[i] = 1;
        break;
      }
    }
    if (use[i] === 1) for (const x of b.shapes) if (x.sets === 1) kill[i] = 1;
    if (exposedEnd(b, at, s, precise)) end[i] = 1;
  }
  const liveIn = new Uint8Array(n);
  const liveOut = new Uint8Array(n);
  const order = blocks.slice().sort((x, y) => (s.rpo[y.index + 1] as number) - (s.rpo[x.index + 1] as number));
  for (let changed = true; changed; ) {
    changed = false;
    for (const b of order) {
      const i = b.index;
      let out = end[i] === 1;
      for (const t of b.succ) if (liveIn[t] === 1) out = true;
      const into = use[i] === 1 || (kill[i] === 0 && out);
      if (out && liveOut[i] === 0) {
        liveOut[i] = 1;
        changed = true;
      }
      if (into && liveIn[i] === 0) {
        liveIn[i] = 1;
        changed = true;
      }
    }
  }
  order.reverse();
  const entry = new Uint8Array(n);
  for (const t of s.targets) entry[t - 1] = 1;
  const own = blocks.map(leaves);
  const into: Flags[] = blocks.map(() => none(UNSEEN));
  for (let changed = true; changed; ) {
    changed = false;
    for (const b of order) {
      const i = b.index;
      const mine = own[i] as { flags: Flags | undefined; written: number };
      let out = mine.flags;
      if (!out) {
        const x = into[i] as Flags;
        // An entry passes on either flag state.
        if (entry[i] === 1) out = none(DYNAMIC);
        else if (x.op < 0) out = x;
        else {
          const kept = (e: Expr | undefined): Expr | undefined =>
            e && (registersIn(e) & mine.written) === 0 ? e : undefined;
          out = { op: x.op, a: kept(x.a), b: kept(x.b), r: kept(x.r) };
        }
      }
      if (out.op === UNSEEN) continue;
      for (const t of b.succ) {
        const x = into[t] as Flags;
        if (x.op === UNSEEN) {
          into[t] = { ...out };
          changed = true;
        } else if (x.op !== out.op) {
          if (x.op !== DYNAMIC) {
            into[t] = none(DYNAMIC);
            changed = true;
          }
        } else
          for (const c of ["a", "b", "r"] as const)
            if (x[c] && !same(x[c], out[c])) {
              x[c] = undefined;
              changed = true;
            }
      }
    }
  }
  return { liveIn, liveOut, at: into };
}
