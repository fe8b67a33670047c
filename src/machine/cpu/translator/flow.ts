/**
 * Flags over the region: which flag-setting instructions matter to anyone (backwards), and which flag operation is in force
 * at each block's start (forwards), so that merged flags are a run-time value only where paths really differ.
 */
import { END, type Block } from "./grow.js";
import type { Structure } from "./structure.js";

/** The operation in force is known only at run time. */
export const DYNAMIC = -1;

export interface FlagFlow {
  /** Somebody may look at the flags that are in force at the block's start. */
  readonly liveIn: Uint8Array;
  readonly liveOut: Uint8Array;
  /** The operation at the start, or DYNAMIC. */
  readonly opIn: Int32Array;
  readonly opOut: Int32Array;
}

const UNSEEN = -2;

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

export function flagFlow(blocks: readonly Block[], at: ReadonlyMap<number, Block>, s: Structure, precise: boolean): FlagFlow {
  const n = blocks.length;
  const use = new Uint8Array(n);
  const kill = new Uint8Array(n);
  const end = new Uint8Array(n);
  const own = new Int32Array(n).fill(UNSEEN);
  for (const b of blocks) {
    const i = b.index;
    for (const x of b.shapes) {
      if (kill[i] === 0 && (x.reads || (precise && x.leaves))) use[i] = 1;
      if (x.sets === 1) {
        kill[i] = 1;
        own[i] = x.op;
      } else if (x.sets === 2) own[i] = DYNAMIC;
    }
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
  const opIn = new Int32Array(n).fill(UNSEEN);
  const opOut = new Int32Array(n).fill(UNSEEN);
  for (const t of s.targets) opIn[t - 1] = DYNAMIC;
  const meet = (x: number, y: number): number => (x === UNSEEN ? y : y === UNSEEN || x === y ? x : DYNAMIC);
  for (let changed = true; changed; ) {
    changed = false;
    for (const b of order) {
      const i = b.index;
      opOut[i] = own[i] === UNSEEN ? (opIn[i] as number) : (own[i] as number);
      for (const t of b.succ) {
        const m = meet(opIn[t] as number, opOut[i] as number);
        if (m !== opIn[t]) {
          opIn[t] = m;
          changed = true;
        }
      }
    }
  }
  return { liveIn, liveOut, opIn, opOut };
}
