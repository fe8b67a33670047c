/**
 * The shape of a region's control flow: reverse postorder, dominators, loops, and which blocks are reached through the outer
 * dispatch. Node 0 is the root (the dispatch); block i is node i + 1.
 *
 * Invariant of the result: every retreating edge either goes to a block that dominates its source (a loop) or is in
 * `viaDispatch`'s targets, so that the control flow is reducible.
 */
import type { Block } from "./grow.js";

export interface Structure {
  /** Nodes that the dispatch can reach: all of them are entries. */
  readonly targets: readonly number[];
  readonly rpo: Int32Array;
  /** Children in the dominator tree, in reverse postorder. */
  readonly kids: readonly (readonly number[])[];
  readonly idom: Int32Array;
  readonly isLoop: Uint8Array;
  /** Two or more forward edges lead here. */
  readonly isMerge: Uint8Array;
  /** Some edge goes back to the dispatch. */
  readonly dispatchLoops: boolean;
  dominates(a: number, b: number): boolean;
}

const MAX_ENTRIES = 48;

interface Order {
  rpo: Int32Array;
  order: number[];
  idom: Int32Array;
}

function orderOf(succ: readonly (readonly number[])[]): Order {
  const n = succ.length;
  const rpo = new Int32Array(n).fill(-1);
  const post: number[] = [];
  const stack = [0];
  const at = new Int32Array(n);
  const seen = new Uint8Array(n);
  seen[0] = 1;
  while (stack.length > 0) {
    const x = stack[stack.length - 1] as number;
    const s = succ[x] as readonly number[];
    const i = at[x] as number;
    if (i < s.length) {
      at[x] = i + 1;
      // The last successor first: so the first one (the taken branch, the callee) comes earlier in the order.
      const y = s[s.length - 1 - i] as number;
      if (seen[y] === 0) {
        seen[y] = 1;
        stack.push(y);
      }
    } else {
      post.push(x);
      stack.pop();
    }
  }
  const order = post.reverse();
  order.forEach((x, i) => (rpo[x] = i));
  const preds: number[][] = succ.map(() => []);
  for (const x of order) for (const y of succ[x] as readonly number[]) (preds[y] as number[]).push(x);
  // Cooper, Harvey, Kennedy: "A Simple, Fast Dominance Algorithm".
  const idom = new Int32Array(n).fill(-1);
  idom[0] = 0;
  for (let changed = true; changed;) {
    changed = false;
    for (let k = 1; k < order.length; k++) {
      const x = order[k] as number;
      let d = -1;
      for (const p of preds[x] as number[]) {
        if (idom[p] === -1) continue;
        if (d === -1) d = p;
        else {
          let a = p;
          let b = d;
          while (a !== b) {
            while ((rpo[a] as number) > (rpo[b] as number)) a = idom[a] as number;
            while ((rpo[b] as number) > (rpo[a] as number)) b = idom[b] as number;
          }
          d = a;
        }
      }
      if (idom[x] !== d) {
        idom[x] = d;
        changed = true;
      }
    }
  }
  return { rpo, order, idom };
}

function dominatesIn(o: Order): (a: number, b: number) => boolean {
  return (a, b) => {
    let x = b;
    while ((o.rpo[x] as number) > (o.rpo[a] as number)) x = o.idom[x] as number;
    return x === a;
  };
}

/** Which nodes lie in a cycle of `succ` (strongly connected components of more than one node, or with an edge to itself). */
function cycles(succ: readonly (readonly number[])[]): Int32Array {
  const n = succ.length;
  const index = new Int32Array(n).fill(-1);
  const low = new Int32Array(n);
  const on = new Uint8Array(n);
  const component = new Int32Array(n).fill(-1);
  const path: number[] = [];
  let counter = 0;
  let components = 0;
  const work: { x: number; i: number }[] = [];
  for (let root = 0; root < n; root++) {
    if (index[root] !== -1) continue;
    work.push({ x: root, i: 0 });
    while (work.length > 0) {
      const f = work[work.length - 1] as { x: number; i: number };
      const x = f.x;
      if (f.i === 0) {
        index[x] = low[x] = counter++;
        path.push(x);
        on[x] = 1;
      }
      const s = succ[x] as readonly number[];
      let pushed = false;
      while (f.i < s.length) {
        const y = s[f.i++] as number;
        if (index[y] === -1) {
          work.push({ x: y, i: 0 });
          pushed = true;
          break;
        }
        if (on[y] === 1) low[x] = Math.min(low[x] as number, index[y] as number);
      }
      if (pushed) continue;
      if (low[x] === index[x]) {
        let size = 0;
        let y: number;
        const id = components++;
        do {
          y = path.pop() as number;
          on[y] = 0;
          component[y] = id;
          size++;
        } while (y !== x);
        if (size === 1 && !s.includes(x)) component[x] = -1;
      }
      work.pop();
      const up = work[work.length - 1];
      if (up) low[up.x] = Math.min(low[up.x] as number, low[x] as number);
    }
  }
  return component;
}

/**
 * @param wanted blocks that would be good entries; one inside a loop is not made an entry, as the loop would lose its structure
 *   (the dispatcher makes a region of its own for it when it is hot)
 */
export function structure(blocks: readonly Block[], wanted: readonly number[]): Structure {
  const plain: number[][] = [[1], ...blocks.map((b) => b.succ.map((s) => s + 1))];
  const component = cycles(plain);
  /** Nodes through which a cycle is entered from outside. */
  const entered = new Uint8Array(plain.length);
  plain.forEach((s, x) => {
    for (const y of s) if (component[y] !== -1 && component[y] !== component[x]) entered[y] = 1;
  });
  const targets: number[] = [1];
  const isTarget = new Uint8Array(plain.length);
  isTarget[1] = 1;
  const addTarget = (x: number): void => {
    if (isTarget[x] === 0) {
      isTarget[x] = 1;
      targets.push(x);
    }
  };
  const entrances = new Map<number, number>();
  plain.forEach((_, x) => {
    if (entered[x] === 1) entrances.set(component[x] as number, (entrances.get(component[x] as number) ?? 0) + 1);
  });
  const harmless = (x: number): boolean => {
    const c = component[x] as number;
    return c === -1 || (entered[x] === 1 && entrances.get(c) === 1);
  };
  for (const w of wanted) if (targets.length < MAX_ENTRIES && harmless(w + 1)) addTarget(w + 1);
  // Where the budget runs out at an outermost loop's head, the dispatcher comes back there.
  for (let x = 1; x < plain.length && targets.length < MAX_ENTRIES; x++)
    if (entered[x] === 1 && harmless(x)) addTarget(x);
  // Blocks that nothing reaches must be entries, or they would not be translated.
  const reach = new Uint8Array(plain.length);
  const mark = (x: number): void => {
    const work = [x];
    for (let y = work.pop(); y !== undefined; y = work.pop()) {
      if (reach[y] === 1) continue;
      reach[y] = 1;
      for (const z of plain[y] as number[]) work.push(z);
    }
  };
  for (const t of targets) mark(t);
  for (let x = 1; x < plain.length; x++) {
    if (reach[x] === 0) {
      addTarget(x);
      mark(x);
    }
  }

  let o: Order;
  let dominates: (a: number, b: number) => boolean;
  let succ: number[][];
  for (;;) {
    // Edges to a dispatch target that do not come from what it dominates may turn out to go back; only the order tells. Forward ones stay.
    succ = plain.map((s) => s.slice());
    succ[0] = targets.slice();
    o = orderOf(succ);
    dominates = dominatesIn(o);
    let found = false;
    for (const x of o.order)
      for (const y of succ[x] as number[])
        if (x !== 0 && (o.rpo[y] as number) <= (o.rpo[x] as number) && !dominates(y, x) && isTarget[y] === 0) {
          addTarget(y);
          found = true;
        }
    if (!found) break;
  }
  const n = plain.length;
  const isLoop = new Uint8Array(n);
  const forward = new Int32Array(n);
  let dispatchLoops = false;
  for (const x of o.order)
    for (const y of succ[x] as number[]) {
      if ((o.rpo[y] as number) > (o.rpo[x] as number)) forward[y] = (forward[y] as number) + 1;
      else if (dominates(y, x)) isLoop[y] = 1;
      else dispatchLoops = true;
    }
  const isMerge = new Uint8Array(n);
  for (let x = 1; x < n; x++) if ((forward[x] as number) >= 2) isMerge[x] = 1;
  if (targets.length > 1) for (const t of targets) isMerge[t] = 1;
  const kids: number[][] = plain.map(() => []);
  for (let k = 1; k < o.order.length; k++) {
    const x = o.order[k] as number;
    (kids[o.idom[x] as number] as number[]).push(x);
  }
  return { targets, rpo: o.rpo, kids, idom: o.idom, isLoop, isMerge, dispatchLoops, dominates };
}
