/**
 * Grows a region: which guest blocks are translated together, and the edges between them.
 *
 * From the entry, first the whole of the function (fallthrough, direct jumps, both sides of conditional ones), then the functions it
 * calls, level by level. Only what the interpreter has seen run is taken: everything else is a cold exit.
 */
import { MODE_BITS_64, MODE_BITS_MASK, MOVES_REACH } from "../../layout.js";
import type { Va } from "../api.js";
import type { Insn } from "../insn.js";
import type { Shape, Shapes } from "./shape.js";
import type { CodeRange, CodeSource, TranslateOptions } from "./types.js";

/** How a block ends. */
export const END = {
  /** Runs on into the instruction at `next` (another block's start, a limit, or something not translatable). */
  FALL: 0,
  JUMP: 1,
  BRANCH: 2,
  CALL: 3,
  INDIRECT_JUMP: 4,
  INDIRECT_CALL: 5,
  RETURN: 6,
  /** Leaves the region. */
  OUT: 7,
} as const;
export type End = (typeof END)[keyof typeof END];

export interface Block {
  index: number;
  readonly va: Va;
  readonly insns: Insn[];
  readonly shapes: Shape[];
  readonly vas: Va[];
  /** Address after the last instruction. */
  next: Va;
  end: End;
  /** Static target of a jump, call or taken branch. */
  target: Va;
  /** Observed targets of an indirect branch, return points of a `ret`: those in the region, most likely first. */
  candidates: Va[];
  /** Successors in the region (block indices), without repetition. */
  succ: number[];
  readonly count: number;
}

export interface Graph {
  readonly blocks: Block[];
  readonly at: Map<Va, Block>;
  readonly instructions: number;
  /** Return points, in the order found. */
  readonly returns: Va[];
}

const ENDS = new Map<string, End>([
  ["jmp", END.JUMP],
  ["jcc", END.BRANCH],
  ["loop", END.BRANCH],
  ["loope", END.BRANCH],
  ["loopne", END.BRANCH],
  ["jcxz", END.BRANCH],
  ["call", END.CALL],
  ["jmp_ind", END.INDIRECT_JUMP],
  ["call_ind", END.INDIRECT_CALL],
  ["ret", END.RETURN],
]);

/** Longest compare chain of a `ret`, largest set of an indirect branch. */
const MAX_RETURNS = 8;
const MAX_TARGETS = 64;
const MAX_CALL_DEPTH = 4;
/**
 * How much code a region may become: instructions, where one that may leave (an access to memory above all) counts for three. To a function of more
 * than 8,192 values V8 11 allocates registers by a simpler algorithm that leaves nearly all of them in memory, which is half as fast; a region
 * of this size stays well below.
 */
const MAX_SIZE = 1150;
const SIZE_OF_ACCESS = 3;
/** Instructions of one block: an exit's number counts them in eight bits. */
const MAX_BLOCK = 250;

const LIMIT = 2 ** 47;

/** Target of a relative branch; NaN if it is not canonical. */
export function relativeTarget(insn: Insn, next: Va, mode: number): Va {
  if ((mode & MODE_BITS_MASK) === MODE_BITS_64 && insn.osize === 8) {
    const t = next + insn.imm;
    return t >= LIMIT || t < -LIMIT ? Number.NaN : t;
  }
  const t = next + insn.imm;
  return insn.osize === 2 ? t & 0xffff : t >>> 0;
}

export function grow(src: CodeSource, shapes: Shapes, entry: Va, mode: number, opts: TranslateOptions): Graph | null {
  const maxBlocks = opts.maxBlocks ?? 200;
  const maxInstructions = opts.maxInstructions ?? 3000;
  const maxPages = opts.maxPages ?? 24;
  const inlineLimit = opts.inlineLimit ?? 40;
  const moves = opts.delta !== undefined;
  const blocks: Block[] = [];
  const at = new Map<Va, Block>();
  /** Which block an instruction start belongs to. */
  const owner = new Map<Va, Block>();
  const pages = new Set<number>();
  const returns: Va[] = [];
  let instructions = 0;
  let budget = maxInstructions;
  let room = opts.maxSize ?? MAX_SIZE;

  /** What is left to look at, by call depth. */
  const queues: Va[][] = [[entry]];
  const depthOf = new Map<Va, number>([[entry, 0]]);
  const want = (va: Va, depth: number): void => {
    if (Number.isNaN(va) || depth > MAX_CALL_DEPTH || at.has(va)) return;
    if (moves && Math.abs(va - entry) >= MOVES_REACH) return;
    if (src.count(va) === 0) return;
    const d = depthOf.get(va);
    if (d !== undefined && d <= depth) return;
    depthOf.set(va, depth);
    (queues[depth] ??= []).push(va);
  };

  const inlined = new Map<Va, boolean>();
  const inlines = (callee: Va): boolean => {
    if (inlineLimit === Infinity) return true;
    if (inlineLimit === 0 || Number.isNaN(callee)) return false;
    let yes = inlined.get(callee);
    if (yes === undefined) inlined.set(callee, (yes = isSmall(src, callee, mode, inlineLimit, moves)));
    return yes;
  };

  const newBlock = (va: Va): Block => {
    const b: Block = {
      index: 0,
      va,
      insns: [],
      shapes: [],
      vas: [],
      next: va,
      end: END.FALL,
      target: Number.NaN,
      candidates: [],
      succ: [],
      count: src.count(va),
    };
    blocks.push(b);
    at.set(va, b);
    return b;
  };

  /** Cut the block that has an instruction at `va` in two there. */
  const split = (b: Block, va: Va): void => {
    const i = b.vas.indexOf(va);
    const tail = newBlock(va);
    tail.insns.push(...b.insns.splice(i));
    tail.shapes.push(...b.shapes.splice(i));
    tail.vas.push(...b.vas.splice(i));
    tail.next = b.next;
    tail.end = b.end;
    tail.target = b.target;
    tail.candidates = b.candidates;
    for (const v of tail.vas) owner.set(v, tail);
    b.next = va;
    b.end = END.FALL;
    b.target = Number.NaN;
    b.candidates = [];
  };

  const addBlock = (start: Va, depth: number): void => {
    const inside = owner.get(start);
    if (inside) {
      if (inside.va !== start) split(inside, start);
      return;
    }
    const page = Math.floor(start / 4096);
    if (!pages.has(page) && pages.size >= maxPages) return;
    let b: Block | undefined;
    let va = start;
    for (;;) {
      if (va !== start) {
        if (at.has(va)) break;
        const other = owner.get(va);
        if (other) {
          split(other, va);
          break;
        }
      }
      if (budget <= 0 || room <= 0) break;
      if (b && b.insns.length === MAX_BLOCK) {
        addBlock(va, depth);
        return;
      }
      const insn = src.decodeAt(va);
      const shape = insn ? shapes.of(insn) : undefined;
      if (!insn || !shape) break;
      b ??= newBlock(start);
      budget--;
      room -= shape.leaves ? SIZE_OF_ACCESS : 1;
      instructions++;
      b.insns.push(insn);
      b.shapes.push(shape);
      b.vas.push(va);
      owner.set(va, b);
      va += insn.len;
      pages.add(Math.floor((va - 1) / 4096));
      b.next = va;
      const end = ENDS.get(insn.op);
      if (end === undefined) {
        if (shape.def.ends !== true) continue;
        b.end = END.OUT;
        return;
      }
      b.end = end;
      const last = va - insn.len;
      switch (end) {
        case END.JUMP:
          b.target = relativeTarget(insn, va, mode);
          want(b.target, depth);
          break;
        case END.BRANCH:
          b.target = relativeTarget(insn, va, mode);
          want(va, depth);
          want(b.target, depth);
          break;
        case END.CALL:
          b.target = relativeTarget(insn, va, mode);
          returns.push(va);
          want(va, depth);
          if (inlines(b.target)) want(b.target, depth + 1);
          break;
        case END.INDIRECT_CALL:
          returns.push(va);
          want(va, depth);
          b.candidates = src.targets(last, moves).slice(0, MAX_TARGETS);
          for (const t of b.candidates.slice(0, 4)) if (inlines(t)) want(t, depth + 1);
          break;
        case END.INDIRECT_JUMP:
          b.candidates = src.targets(last, moves).slice(0, MAX_TARGETS);
          for (const t of b.candidates) want(t, depth);
          break;
        case END.RETURN:
          b.candidates = [];
          break;
      }
      return;
    }
    // Ran into another block, a limit, or code that cannot be decoded: fall out or on at `b.next`.
  };

  for (let depth = 0; depth < queues.length; depth++) {
    const queue = queues[depth];
    if (!queue) continue;
    for (let i = 0; i < queue.length; i++) {
      if (blocks.length >= maxBlocks || budget <= 0 || room <= 0) break;
      const va = queue[i] as Va;
      if (!at.has(va)) addBlock(va, depth);
    }
  }
  if (!at.has(entry)) return null;
  // The entry first, the rest as found.
  blocks.forEach((b, i) => (b.index = i));
  returnCandidates(blocks, at);
  for (const b of blocks) link(b, at);
  return { blocks, at, instructions, returns };
}

/** A function of at most `limit` instructions on the paths seen, with those that it calls, and without indirect calls. */
function isSmall(src: CodeSource, start: Va, mode: number, limit: number, near: boolean): boolean {
  const seen = new Set<Va>();
  const work: Va[] = [start];
  let left = limit;
  for (let va = work.pop(); va !== undefined; va = work.pop()) {
    if (seen.has(va) || src.count(va) === 0) continue;
    for (;;) {
      if (seen.has(va)) break;
      seen.add(va);
      if (--left < 0) return false;
      const insn = src.decodeAt(va);
      if (!insn) return false;
      const next: Va = va + insn.len;
      const end = ENDS.get(insn.op);
      if (end === END.RETURN) break;
      if (end === END.BRANCH) work.push(next, relativeTarget(insn, next, mode));
      else if (end === END.JUMP) work.push(relativeTarget(insn, next, mode));
      else if (end === END.INDIRECT_JUMP) {
        const targets = src.targets(va, near);
        if (targets.length === 0) return false;
        work.push(...targets);
      } else if (end === END.CALL) work.push(relativeTarget(insn, next, mode));
      else if (end !== undefined) return false;
      if (end !== undefined && end !== END.CALL) break;
      va = next;
    }
  }
  return left < limit;
}

function link(b: Block, at: Map<Va, Block>): void {
  const add = (va: Va): void => {
    const t = at.get(va);
    if (t && !b.succ.includes(t.index)) b.succ.push(t.index);
  };
  switch (b.end) {
    case END.FALL:
      add(b.next);
      break;
    case END.JUMP:
    case END.CALL:
      add(b.target);
      break;
    case END.BRANCH:
      add(b.target);
      add(b.next);
      break;
    default:
      b.candidates = b.candidates.filter((v) => at.has(v));
      for (const v of b.candidates) add(v);
  }
}

/** Each `ret` may go to the return points of the region's calls of the functions that it belongs to. */
function returnCandidates(blocks: Block[], at: Map<Va, Block>): void {
  /** Return points by callee. */
  const callers = new Map<Block, Block[]>();
  for (const b of blocks) {
    if (b.end !== END.CALL && b.end !== END.INDIRECT_CALL) continue;
    const back = at.get(b.next);
    if (!back) continue;
    for (const t of b.end === END.CALL ? [b.target] : b.candidates) {
      const callee = at.get(t);
      if (!callee) continue;
      const list = callers.get(callee);
      if (list) list.push(back);
      else callers.set(callee, [back]);
    }
  }
  const points = new Map<Block, Set<Block>>();
  for (const [callee, backs] of callers) {
    const seen = new Set<Block>([callee]);
    const work = [callee];
    for (let b = work.pop(); b; b = work.pop()) {
      if (b.end === END.RETURN) {
        let set = points.get(b);
        if (!set) points.set(b, (set = new Set()));
        for (const p of backs) set.add(p);
        continue;
      }
      const go = (va: Va): void => {
        const t = at.get(va);
        if (t && !seen.has(t)) {
          seen.add(t);
          work.push(t);
        }
      };
      if (b.end === END.JUMP) go(b.target);
      else if (b.end === END.BRANCH) {
        go(b.target);
        go(b.next);
      } else if (b.end === END.FALL || b.end === END.CALL || b.end === END.INDIRECT_CALL) go(b.next);
      else if (b.end === END.INDIRECT_JUMP) for (const v of b.candidates) go(v);
    }
  }
  for (const [b, set] of points)
    b.candidates = [...set]
      .sort((x, y) => y.count - x.count)
      .slice(0, MAX_RETURNS)
      .map((p) => p.va);
}

/** The bytes of the blocks, page by page, adjacent and overlapping pieces merged. */
export function ranges(src: CodeSource, blocks: readonly Block[]): CodeRange[] {
  const spans = blocks.map((b) => ({ from: b.va, to: b.next })).sort((x, y) => x.from - y.from);
  const out: CodeRange[] = [];
  let from = Number.NaN;
  let to = Number.NaN;
  const flush = (): void => {
    for (let va = from; va < to;) {
      const end = Math.min(to, (Math.floor(va / 4096) + 1) * 4096);
      out.push({ va, maddr: src.codeAddr(va), len: end - va });
      va = end;
    }
  };
  for (const s of spans) {
    if (s.from <= to) to = Math.max(to, s.to);
    else {
      flush();
      from = s.from;
      to = s.to;
    }
  }
  flush();
  return out;
}
