/**
 * Flags over the region. Backwards: which flag-setting instructions matter to anyone. Forwards: what the flags are made of at each
 * block's start, so that what paths agree on need not be carried: the operation, and operands that are still in a guest register or
 * constant (`cmp rax, rdx; jne loop` leaves flags that can be made again from rax and rdx).
 */
import { c32, c64, i32, i64, local, N, withArgs, type Expr } from "../../wasm/expr.js";
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
  a: Expr | undefined;
  b: Expr | undefined;
  r: Expr | undefined;
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
  /**
   * Loop heads whose flags are those of `at` only when reached along a back edge; whoever else comes leaves its flags in the state
   * block, and the budget with them, which tells the two apart (FlagState.since).
   */
  readonly checkpoint: Uint8Array;
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

/** General registers that an instruction writes more than once. */
function twice(insn: Insn, shape: Shape): number {
  let once = shape.writesFixed;
  let again = 0;
  insn.ops.forEach((o, i) => {
    if (o.kind !== K.GPR || (shape.writesOperands & (1 << i)) === 0) return;
    again |= once & (1 << o.reg);
    once |= 1 << o.reg;
  });
  return again;
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

/**
 * A symbolic component for this instruction, over the registers as they are after it; undefined if it needs a value that is gone.
 * @param gone registers that the instruction writes
 * @param unclear those of them that it writes twice
 */
function instantiate(e: Expr | undefined, insn: Insn, gone: number, unclear: number): Expr | undefined {
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
    if (o.kind !== K.GPR || ((kind === SYMBOL.OLD ? gone : unclear) & (1 << o.reg)) !== 0) return undefined;
    return gprValue(o.reg, o.size, o.high);
  }
  if (e.args.length === 0) return e;
  const args: Expr[] = [];
  for (const x of e.args) {
    const y = instantiate(x, insn, gone, unclear);
    if (!y) return undefined;
    args.push(y);
  }
  return withArgs(e, args);
}

/** Cut a 64-bit sum or difference to the operation's size. */
export function cut(op: number, e: Expr): Expr {
  const size = op & 3;
  if (size === 3) return e;
  return i64.and(e, size === 2 ? c64(-1, 0) : c64(size === 1 ? 0xffff : 0xff));
}

const LOW32 = c64(-1, 0);

/** An i32 as i64; a register's low part straight from the register, so that nothing is computed before it is needed. */
function widened(e: Expr): Expr {
  if (e.t === "i64") return e;
  const wrap = (x: Expr | undefined): Expr | undefined =>
    x && x.n === N.OP && x.code === 0xa7 && x.args[0]?.n === N.LOCAL ? x.args[0] : undefined;
  const whole = wrap(e);
  if (whole) return i64.and(whole, LOW32);
  const m = e.args[1];
  const part = e.n === N.OP && e.code === 0x71 && m?.n === N.I32 ? wrap(e.args[0]) : undefined;
  if (part && m && m.lo >= 0) return i64.and(part, c64(m.lo, 0));
  return i64.extend_u(e);
}

/**
 * What a flag-setting instruction leaves the flags made of, over the guest registers as they are after it and constants; a component
 * that needs anything else is missing.
 */
export function symbolicFlags(insn: Insn, shape: Shape): Flags {
  const { op } = shape;
  const w = writes(insn, shape);
  const unclear = twice(insn, shape);
  const value = (e: Expr | undefined): Expr | undefined => {
    const x = instantiate(e, insn, w, unclear);
    return x && widened(x);
  };
  const f: Flags = { op, a: value(shape.a), b: value(shape.b), r: value(shape.r) };
  const kind = op >> 2;
  if (!f.a && f.b && f.r && (kind === CC.ADD || kind === CC.SUB))
    f.a = cut(op, kind === CC.ADD ? i64.sub(f.r, f.b) : i64.add(f.r, f.b));
  return f;
}

export function same(x: Expr | undefined, y: Expr | undefined): boolean {
  if (x === y) return true;
  if (!x || !y || x.n !== y.n || x.code !== y.code || x.lo !== y.lo || x.hi !== y.hi || x.args.length !== y.args.length)
    return false;
  for (let i = 0; i < x.args.length; i++) if (!same(x.args[i], y.args[i])) return false;
  return true;
}

const none = (op: number): Flags => ({ op, a: undefined, b: undefined, r: undefined });

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
    const f = symbolicFlags(insn, shape);
    const need = needs(f.op);
    const past = written;
    const kept = (e: Expr | undefined, which: number): Expr | undefined =>
      (need & which) !== 0 && e && (registersIn(e) & past) === 0 ? e : undefined;
    f.a = kept(f.a, NEED_A);
    f.b = kept(f.b, NEED_B);
    f.r = kept(f.r, NEED_R);
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
  /** Reads the flags that it is entered with: there a run-time operation is better than two descriptions. */
  const looks = new Uint8Array(n);
  for (const b of blocks) {
    const i = b.index;
    for (const x of b.shapes) {
      if (x.reads) looks[i] = 1;
      if (x.sets !== 0) break;
    }
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
  for (let changed = true; changed;) {
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
  /** What comes along loops' back edges, and along all others. */
  const back: Flags[] = blocks.map(() => none(UNSEEN));
  const fore: Flags[] = blocks.map(() => none(UNSEEN));
  const either = (i: number): boolean =>
    entry[i] === 1 ||
    (looks[i] === 0 && back[i]?.op !== UNSEEN && fore[i]?.op !== back[i]?.op && (back[i] as Flags).op >= 0);
  const inOf = (i: number): Flags => {
    const b = back[i] as Flags;
    const f = fore[i] as Flags;
    if (b.op === UNSEEN) return f;
    if (b.op === DYNAMIC) return b;
    if (f.op === UNSEEN || f.op !== b.op) return either(i) ? b : none(DYNAMIC);
    if (entry[i] === 1) return b;
    const m: Flags = { op: b.op, a: b.a, b: b.b, r: b.r };
    meet(m, f);
    return m;
  };
  for (let changed = true; changed;) {
    changed = false;
    for (const b of order) {
      const i = b.index;
      const mine = own[i] as { flags: Flags | undefined; written: number };
      let out = mine.flags;
      if (!out) {
        const x = inOf(i);
        // Where the flags are either of two descriptions, a block that does not set them passes on a run-time value.
        if (either(i)) out = none(DYNAMIC);
        else if (x.op < 0) out = x;
        else {
          const kept = (e: Expr | undefined): Expr | undefined =>
            e && (registersIn(e) & mine.written) === 0 ? e : undefined;
          out = { op: x.op, a: kept(x.a), b: kept(x.b), r: kept(x.r) };
        }
      }
      if (out.op === UNSEEN) continue;
      for (const t of b.succ) if (meet((isBackEdge(s, i, t) ? back : fore)[t] as Flags, out)) changed = true;
    }
  }
  const checkpoint = new Uint8Array(n);
  for (let i = 0; i < n; i++) if (s.isLoop[i + 1] === 1 && either(i)) checkpoint[i] = 1;
  return { liveIn, liveOut, at: blocks.map((b) => inOf(b.index)), checkpoint };
}

/** Lower `x` to what it has in common with `y`; true if that changed it. */
function meet(x: Flags, y: Flags): boolean {
  if (x.op === UNSEEN) {
    x.op = y.op;
    x.a = y.a;
    x.b = y.b;
    x.r = y.r;
    return y.op !== UNSEEN;
  }
  if (x.op === DYNAMIC || y.op === UNSEEN) return false;
  if (x.op !== y.op) {
    x.op = DYNAMIC;
    x.a = x.b = x.r = undefined;
    return true;
  }
  let changed = false;
  for (const c of ["a", "b", "r"] as const)
    if (x[c] && !same(x[c], y[c])) {
      x[c] = undefined;
      changed = true;
    }
  return changed;
}

/** An edge from a loop's body to its head (block indices). */
export function isBackEdge(s: Structure, from: number, to: number): boolean {
  return (s.rpo[to + 1] as number) <= (s.rpo[from + 1] as number) && s.dominates(to + 1, from + 1);
}
