/**
 * The region translator: hot guest code to one WebAssembly function a region.
 *
 * Structure follows Ramsey, "Beyond Relooper" (ICFP 2022): the dominator tree of the region's blocks becomes nested wasm blocks
 * and loops; entries and what is irreducible go through one outer dispatch. Guest registers are locals for the whole
 * region; all exits meet in one place that stores them back.
 */
import {
  BUDGET,
  EXIT_REASON,
  GPR,
  LEFT_CALL,
  LEFT_LINK,
  LEFT_RETURN,
  LINK_RETURN_VA,
  MODE_BITS_16,
  MODE_BITS_64,
  MODE_BITS_MASK,
  MODE_BREAK,
  MODE_FLAT,
  MODE_STEP,
  MOVES_REACH,
  XMM,
} from "../../layout.js";
import { Code } from "../../wasm/encoder.js";
import { c32, c64n, i32, i64, local, type Expr } from "../../wasm/expr.js";
import type { Va } from "../api.js";
import { K } from "../insn.js";
import type { Helpers } from "../sem/base.js";
import type { OpTable } from "../sem/context.js";
import { planAccesses } from "./accesses.js";
import { DYNAMIC, flagFlow, isBackEdge, NEED_A, NEED_B, NEED_R, needs, type FlagFlow, type Flags } from "./flow.js";
import { END, grow, ranges, type Block, type Graph } from "./grow.js";
import { TranslatorSem, type FlagState, type Leave } from "./sem.js";
import { shapesFor } from "./shape.js";
import { structure, type Structure } from "./structure.js";
import type { CodeSource, Region, TranslateOptions } from "./types.js";

export type { CodeRange, CodeSource, Region, TranslateOptions } from "./types.js";

const REGION_TYPE = { params: ["i32"], results: ["i32"] } as const;
/** An entry's number is a byte in links. */
const ENTRIES_MAX = 256;
/** Candidates of an indirect branch that are compared one by one; more are searched. */
const CHAIN = 4;

/** Translate the code around `entry`, or null if it cannot be (the interpreter keeps it). */
export function translateRegion(
  src: CodeSource,
  ops: OpTable,
  helpers: Helpers,
  entry: Va,
  mode: number,
  opts: TranslateOptions = {},
): Region | null {
  if ((mode & (MODE_STEP | MODE_BREAK)) !== 0) return null;
  const bits = mode & MODE_BITS_MASK;
  if (bits === MODE_BITS_16 || (bits !== MODE_BITS_64 && (mode & MODE_FLAT) === 0)) return null;
  const graph = grow(src, shapesFor(ops, mode, helpers), entry, mode, opts);
  if (!graph) return null;
  const wanted: number[] = [];
  for (const va of graph.returns) {
    const b = graph.at.get(va);
    if (b) wanted.push(b.index);
  }
  const s = structure(graph.blocks, wanted);
  const flow = flagFlow(graph.blocks, graph.at, s, opts.preciseFlags ?? true);
  const code = new RegionWriter(graph, s, flow, helpers, mode, opts).write();
  return {
    code,
    entries: s.targets.slice(0, ENTRIES_MAX).map((t) => (graph.blocks[t - 1] as Block).va),
    ranges: ranges(src, graph.blocks),
    instructions: graph.instructions,
    blocks: graph.blocks.length,
    calls: graph.blocks.some(
      (b) =>
        (b.end === END.CALL && !graph.at.has(b.target)) ||
        (b.end === END.INDIRECT_CALL &&
          b.candidates.length === 0 &&
          src.targets(b.vas[b.vas.length - 1] as Va, opts.delta !== undefined).length > 0),
    ),
  };
}

class RegionWriter {
  private readonly code = new Code(REGION_TYPE);
  private readonly sem: TranslatorSem;
  private readonly blockLabel: Int32Array;
  private readonly loopLabel: Int32Array;
  private readonly label = 0;
  private readonly precise: boolean;
  private readonly shareChecks: boolean;

  constructor(
    private readonly graph: Graph,
    private readonly s: Structure,
    private readonly flow: FlagFlow,
    helpers: Helpers,
    private readonly mode: number,
    private readonly opts: TranslateOptions,
  ) {
    this.shareChecks = opts.shareChecks ?? true;
    this.precise = opts.preciseFlags ?? true;
    this.sem = new TranslatorSem(
      this.code,
      mode,
      helpers,
      xmmRegisters(graph.blocks),
      opts.missLeaves ?? false,
      (graph.blocks[0] as Block).va,
      opts.delta !== undefined,
    );
    const n = graph.blocks.length + 1;
    this.blockLabel = new Int32Array(n);
    this.loopLabel = new Int32Array(n);
  }

  write(): Code {
    const { code, sem } = this;
    sem.exitLabel = code.block();
    sem.exitSiteLabel = code.block();
    sem.exitFlagsLabel = code.block();
    this.tree(0, undefined);
    code.unreachable();
    code.end();
    if (sem.usesFlagOp) sem.spillDynamic();
    code.end();
    sem.storeSite();
    code.end();
    for (let i = 0; i < 16; i++) {
      if (sem.gprDirty[i] === 1) code.store(8, c32(0), local(sem.gprs[i] as number, "i64"), GPR + i * 8);
      if (sem.xmmDirty[i] === 1) code.store(16, c32(0), local(sem.xmms[i] as number, "v128"), XMM + i * 16);
    }
    const status = i32.shl(i32.ne(i32.load(c32(0), EXIT_REASON), c32(0)), c32(1));
    if (sem.usesLeft) {
      code.if(local(sem.left, "i32"));
      code.return(local(sem.left, "i32"));
      code.end();
    }
    code.return(status);
    this.prologue();
    return code;
  }

  /** What the region needs is known only now: put its loads in front of the code. */
  private prologue(): void {
    const { code, sem } = this;
    const head = new Code(REGION_TYPE);
    head.setLocal(sem.budget, i32.load(c32(0), BUDGET));
    if (sem.usesFlagOp) head.setLocal(sem.flagOp, c32(-1));
    if (sem.usesDelta) sem.setDelta(head, this.opts.delta ?? 0);
    for (let i = 0; i < 16; i++) {
      if (sem.gprUsed[i] === 1 || sem.gprDirty[i] === 1) head.setLocal(sem.gprs[i] as number, sem.loadRegister(i));
      if (sem.xmmUsed[i] === 1 || sem.xmmDirty[i] === 1) head.setLocal(sem.xmms[i] as number, sem.loadXmm(i));
    }
    const shift = head.out.len;
    head.out.bytes(code.out.buf.subarray(0, code.out.len));
    code.out.buf = head.out.buf;
    code.out.len = head.out.len;
    for (const h of code.hints) h.at += shift;
  }

  /** Node `x` and everything that it dominates. */
  private tree(x: number, flags: FlagState | undefined): void {
    const { code, s } = this;
    const merges = (s.kids[x] as readonly number[]).filter((k) => s.isMerge[k] === 1);
    const loops = x === 0 ? s.dispatchLoops : s.isLoop[x] === 1;
    if (loops) this.loopLabel[x] = code.loop();
    for (let i = merges.length - 1; i >= 0; i--) this.blockLabel[merges[i] as number] = code.block();
    if (x === 0) this.root();
    else this.block(this.graph.blocks[x - 1] as Block, flags);
    for (const k of merges) {
      code.end();
      this.tree(k, undefined);
    }
    if (loops) code.end();
  }

  /** The dispatch on the entry number. */
  private root(): void {
    const { code, s, sem } = this;
    const first = s.targets[0] as number;
    sem.enterFromMemory();
    let joins = false;
    for (const t of s.targets) if (this.isJoin(t) && this.flow.liveIn[t - 1] === 1) joins = true;
    // OP starts as "in the state block" (prologue).
    if (joins) sem.usesFlagOp = true;
    if (s.targets.length === 1) {
      this.go(0, first, sem.inherited());
      return;
    }
    code.brTable(
      local(this.label, "i32"),
      s.targets.slice(0, -1).map((t) => this.blockLabel[t] as number),
      this.blockLabel[s.targets[s.targets.length - 1] as number] as number,
    );
  }

  private isEntry(x: number): boolean {
    return this.s.targets.includes(x);
  }
  /** Flags that go along this edge go through the state block. */
  private checkpoints(from: number, to: number): boolean {
    return (
      from !== 0 &&
      this.flow.checkpoint[to - 1] === 1 &&
      this.flow.liveIn[to - 1] === 1 &&
      !isBackEdge(this.s, from - 1, to - 1)
    );
  }
  private isJoin(x: number): boolean {
    return this.s.isMerge[x] === 1 || this.s.isLoop[x] === 1;
  }

  private block(b: Block, flags: FlagState | undefined): void {
    const { code, sem, flow } = this;
    const x = b.index + 1;
    const n = b.insns.length;
    const base = sem.beginBlock();
    if (this.isJoin(x) || !flags)
      sem.enterJoined(
        flow.liveIn[b.index] === 1,
        flow.at[b.index] as Flags,
        this.isEntry(x) || flow.checkpoint[b.index] === 1 ? n : undefined,
      );
    else sem.enterInherited(flags, n);
    code.setLocal(sem.budget, i32.sub(local(sem.budget, "i32"), c32(n)));
    const live = this.liveness(b);
    const plans = this.shareChecks ? planAccesses(b, this.mode) : undefined;
    let leave: Leave | undefined;
    for (let i = 0; i < n; i++) {
      const insn = b.insns[i];
      const shape = b.shapes[i];
      if (!insn || !shape) break;
      leave = sem.emit(insn, shape, b.vas[i] as Va, n - i, live[i] === 1, plans?.[i]);
      if (leave?.kind === "gone") {
        sem.done();
        sem.endGroups();
        sem.closeSpills(base, false);
        sem.freeState(sem.state);
        return;
      }
      if (i < n - 1) sem.done();
    }
    sem.endGroups();
    const held = sem.holdTemps();
    this.finish(b, leave ?? { kind: "jump", target: b.next }, held);
    sem.closeSpills(base, false);
  }

  /** For each instruction, whether anyone looks at the flags after it. */
  private liveness(b: Block): Uint8Array {
    const out = new Uint8Array(b.insns.length);
    let live = this.flow.liveOut[b.index] === 1;
    for (let i = b.shapes.length - 1; i >= 0; i--) {
      const x = b.shapes[i];
      if (!x) continue;
      const after = live || x.leavesAfter;
      out[i] = after ? 1 : 0;
      live = (x.sets === 1 ? false : after) || (x.reads && !(x.merges && !after)) || (this.precise && x.leaves);
    }
    return out;
  }

  private finish(b: Block, leave: Leave, held: readonly number[]): void {
    const { sem, flow } = this;
    let joins = false;
    let dynamic = false;
    let missing = 0;
    for (const t of b.succ) {
      if (flow.liveIn[t] !== 1 || !this.isJoin(t + 1) || this.checkpoints(b.index + 1, t + 1)) continue;
      joins = true;
      const f = flow.at[t] as Flags;
      if (f.op === DYNAMIC) dynamic = true;
      else missing |= needs(f.op) & ((f.a ? 0 : NEED_A) | (f.b ? 0 : NEED_B) | (f.r ? 0 : NEED_R));
    }
    if (joins) sem.join(dynamic, missing);
    const mine = sem.state;
    const flags = sem.inherited();
    switch (leave.kind) {
      case "jump":
        sem.freeTemps(held);
        this.edge(b, leave.target, flags);
        break;
      case "branch":
        this.branch(b, leave.cond, leave.target, held, flags);
        break;
      case "indirect":
        this.indirect(b, leave.target, leave.canonical, flags);
        sem.freeTemps(held);
        break;
      case "gone":
        throw new Error(`translator: block ${b.va.toString(16)} left twice`);
    }
    sem.freeState(mine);
  }

  /** The successor block at `va`, if the edge stays in the region. */
  private inside(b: Block, va: Va): Block | undefined {
    const t = this.graph.at.get(va);
    return t && b.succ.includes(t.index) ? t : undefined;
  }
  /** A forward edge to a join: one `br`. */
  private plainLabel(b: Block, t: Block | undefined): number | undefined {
    if (!t) return undefined;
    const x = t.index + 1;
    const forward = (this.s.rpo[x] as number) > (this.s.rpo[b.index + 1] as number);
    return forward && this.s.isMerge[x] === 1 && !this.checkpoints(b.index + 1, x)
      ? (this.blockLabel[x] as number)
      : undefined;
  }

  private edge(b: Block, va: Va, flags: FlagState): void {
    const t = this.inside(b, va);
    this.sem.setState(flags);
    if (t) {
      this.go(b.index + 1, t.index + 1, flags);
      return;
    }
    const link = this.link(b, va);
    this.noteReturn(b, link);
    this.sem.leaveTo(va, link);
  }
  /** A call's link says where it returns to: here, wherever that is. */
  private noteReturn(b: Block, link: number): void {
    if (this.opts.delta !== undefined && (link & LEFT_CALL) !== 0 && link >= LEFT_LINK)
      this.code.store(8, c32(link & ~(LEFT_LINK - 1)), this.sem.placed(b.next), LINK_RETURN_VA);
  }

  /** The link of an exit to a known address: one for all that lead there. */
  private link(b: Block, va: Va): number {
    const make = this.opts.link;
    // Behind what ends a block without being a branch, mode or flags may be others.
    if (!make || b.end === END.OUT) return 0;
    const { va: entry } = this.graph.blocks[0] as Block;
    if (this.opts.delta !== undefined && Math.abs(va - entry) >= MOVES_REACH) return 0;
    const call = b.end === END.CALL && va === b.target;
    const known = call ? undefined : this.links.get(va);
    if (known !== undefined) return known;
    const link = make(va, call ? b.next : undefined);
    if (!call) this.links.set(va, link);
    return link;
  }
  private readonly links = new Map<Va, number>();

  private go(from: number, to: number, flags: FlagState): void {
    const { code, s, sem } = this;
    if (from !== 0 && (s.rpo[to] as number) <= (s.rpo[from] as number)) {
      code.if(i32.lt_s(local(sem.budget, "i32"), c32(0)), false);
      sem.setState(flags);
      sem.leaveTo((this.graph.blocks[to - 1] as Block).va);
      code.end();
      if (this.checkpoints(from, to)) this.mark(flags);
      if (s.dominates(to, from)) code.br(this.loopLabel[to] as number);
      else {
        code.setLocal(this.label, c32(s.targets.indexOf(to)));
        code.br(this.loopLabel[0] as number);
      }
      return;
    }
    if (this.checkpoints(from, to)) this.mark(flags);
    if (s.isMerge[to] === 1) code.br(this.blockLabel[to] as number);
    else this.tree(to, flags);
  }
  private mark(flags: FlagState): void {
    this.sem.setState(flags);
    this.sem.checkpoint();
  }

  private branch(b: Block, cond: Expr, target: Va, held: readonly number[], flags: FlagState): void {
    const { code, sem } = this;
    if (target === b.next) {
      sem.freeTemps(held);
      this.edge(b, target, flags);
      return;
    }
    const taken = this.inside(b, target);
    const fall = this.inside(b, b.next);
    const takenLabel = this.plainLabel(b, taken);
    const fallLabel = this.plainLabel(b, fall);
    if (takenLabel !== undefined) {
      code.brIf(takenLabel, cond, fall ? undefined : true);
      sem.freeTemps(held);
      this.edge(b, b.next, flags);
      return;
    }
    if (taken && (fallLabel !== undefined || !fall)) {
      if (fallLabel !== undefined) code.brIf(fallLabel, i32.eqz(cond));
      else {
        code.if(i32.eqz(cond), false);
        this.edge(b, b.next, flags);
        code.end();
      }
      sem.freeTemps(held);
      this.edge(b, target, flags);
      return;
    }
    code.if(cond, taken ? undefined : fall ? false : undefined);
    sem.freeTemps(held);
    this.edge(b, target, flags);
    code.end();
    this.edge(b, b.next, flags);
  }

  private indirect(b: Block, target: Expr, canonical: boolean, flags: FlagState): void {
    const { code, sem } = this;
    const inside = b.candidates.filter((va) => this.inside(b, va) !== undefined);
    const out = (): void => {
      sem.setState(flags);
      if (!canonical) {
        code.if(i64.ne(i64.shr_s(i64.shl(target, c64n(16)), c64n(16)), target), false);
        sem.raiseAt(b.vas[b.vas.length - 1] as Va);
        code.end();
      }
      if (b.end === END.RETURN) {
        sem.leaveIndirect(target, this.opts.link ? LEFT_RETURN : 0);
        return;
      }
      const back = b.end === END.INDIRECT_CALL ? b.next : undefined;
      const link = this.opts.indirectLink?.(b.vas[b.vas.length - 1] as Va, back) ?? 0;
      this.noteReturn(b, link);
      sem.leaveIndirect(target, link);
    };
    // The candidates are known by where the region was made.
    let made = target;
    if (this.opts.delta !== undefined && inside.length > 0) {
      const l = code.newLocal("i64");
      code.setLocal(l, sem.unplaced(target));
      made = local(l, "i64");
    }
    const done = (): void => {
      if (made !== target) code.freeLocal(made.code);
    };
    if (inside.length <= CHAIN) {
      inside.forEach((va, i) => {
        code.if(i64.eq(made, c64n(va)), i === inside.length - 1 ? true : undefined);
        this.edge(b, va, flags);
        code.end();
      });
      out();
      done();
      return;
    }
    inside.sort((x, y) => x - y);
    const miss = code.block();
    const search = (lo: number, hi: number): void => {
      if (hi - lo <= 2) {
        for (let i = lo; i < hi; i++) {
          code.if(i64.eq(made, c64n(inside[i] as Va)));
          this.edge(b, inside[i] as Va, flags);
          code.end();
        }
        code.br(miss);
        return;
      }
      const mid = (lo + hi) >> 1;
      code.if(i64.lt_s(made, c64n(inside[mid] as Va)));
      search(lo, mid);
      code.end();
      search(mid, hi);
    };
    search(0, inside.length);
    code.end();
    out();
    done();
  }
}

/** XMM registers that the blocks name; XMM0 is implicit in a few operations. */
function xmmRegisters(blocks: readonly Block[]): boolean[] {
  const out = new Array<boolean>(16).fill(false);
  for (const b of blocks)
    for (const x of b.insns)
      for (const o of x.ops)
        if (o.kind === K.XMM) {
          out[o.reg] = true;
          out[0] = true;
        }
  return out;
}
