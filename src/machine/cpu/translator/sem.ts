/**
 * `Sem` for the translator: operands are static, guest registers are wasm locals.
 *
 * Flags are a description, not values: the operation and the expressions it was computed from, over locals that are kept for as
 * long as the description is (`FlagState`). An exit writes them out on its cold path; a condition becomes one compare. Where control flow
 * joins they move into four fixed locals A, B, R and OP, of which an operation fills only what the others do not follow from.
 */
import {
  BOUNCE,
  BUDGET,
  CC_A,
  CC_B,
  CC_OP,
  CC_R,
  EXIT_LENGTH,
  FPR,
  GPR,
  MODE_SPACE,
  RIP,
  SMC_PENDING,
  TLB,
  TLB_ARRAY_SIZE,
  TLB_ENTRIES,
  XMM,
} from "../../layout.js";
import { c32, c64, c64n, i32, i64, local, N, select, STORE, v, withArgs, type Expr } from "../../wasm/expr.js";
import type { Code } from "../../wasm/encoder.js";
import type { Va } from "../api.js";
import { CC } from "../flags.js";
import { BASE_RIP, K, RSP, type Insn } from "../insn.js";
import { BaseSem, type CcState, type Helpers } from "../sem/base.js";
import type { Rmw } from "../sem/context.js";
import {
  cut,
  DYNAMIC,
  FIRST_GPR,
  NEED_A,
  NEED_B,
  NEED_R,
  needs,
  registersIn,
  same,
  symbolicFlags,
  UNSEEN,
  writes,
  type Flags,
} from "./flow.js";
import { isShared, type Access, type Group, type Plan } from "./accesses.js";
import { relativeTarget } from "./grow.js";
import type { Shape } from "./shape.js";

/** The flags are those in the state block (as at a region's entry). */
export const IN_MEMORY = -3;
/** Nobody looks. */
const DEAD = -4;

export interface FlagState {
  /** A flag operation, DYNAMIC, IN_MEMORY or DEAD. */
  readonly op: number;
  readonly a: Expr | undefined;
  readonly b: Expr | undefined;
  readonly r: Expr | undefined;
  /** Guest registers that the components read (bit n). */
  readonly registers: number;
  /** The same made of guest registers and constants as far as these still have it: better on cold paths, as it keeps nothing alive. */
  readonly cold: Flags | undefined;
  readonly coldRegisters: number;
  /**
   * At an entry that is also reached inside the region: this description holds unless nothing has run yet since the region was entered.
   * That is so if the budget, with these instructions given back, is still what the state block has.
   */
  readonly since: number | undefined;
  /** Where exits with this description write it out. */
  readonly spill: Spill | undefined;
  /** Locals that this block took for it. */
  readonly owned: readonly number[];
}

/**
 * The cold code that writes one description to the state block, shared by all exits that have it. It stands after the last of them:
 * expressions that only it uses are then computed there, and not (as V8 would share them between exits) on the hot path.
 */
interface Spill {
  readonly next: number;
  readonly label: number;
  readonly state: FlagState;
  used: boolean;
  /** Cold components that all exits so far still had. */
  cold: Flags | undefined;
}

/** How control leaves a block. */
export type Leave =
  | { readonly kind: "jump"; readonly target: Va }
  | { readonly kind: "branch"; readonly cond: Expr; readonly target: Va }
  | { readonly kind: "indirect"; readonly target: Expr; readonly canonical: boolean }
  /** Already left. */
  | { readonly kind: "gone" };

/** A new description; each is an object of the same members, since they are looked up all the time. */
function flagState(
  op: number,
  a: Expr | undefined,
  b: Expr | undefined,
  r: Expr | undefined,
  registers: number,
  cold: Flags | undefined,
  since: number | undefined,
): FlagState {
  const coldRegisters = cold ? registersIn(cold.a) | registersIn(cold.b) | registersIn(cold.r) : 0;
  return { op, a, b, r, registers, cold, coldRegisters, since, spill: undefined, owned: NO_LOCALS };
}
/** The same, apart from these. */
function changed(
  s: FlagState,
  since: number | undefined,
  spill: Spill | undefined,
  owned: readonly number[],
): FlagState {
  const { op, a, b, r, registers, cold, coldRegisters } = s;
  return { op, a, b, r, registers, cold, coldRegisters, since, spill, owned };
}
const NO_LOCALS: readonly number[] = [];
const plainState = (op: number): FlagState => flagState(op, undefined, undefined, undefined, 0, undefined, undefined);
const MEMORY_STATE = plainState(IN_MEMORY);
const DEAD_STATE = plainState(DEAD);
const DYNAMIC_STATE = plainState(DYNAMIC);
/** Load opcodes by size. */
const LOADS: Record<number, number> = { 1: 0x2d, 2: 0x2f, 4: 0x28, 8: 0x29, 16: 0xfd0000 };
/** A site counts instructions in its low bits: blocks are shorter than this (grow.ts, MAX_BLOCK). */
const SITE_BITS = 8;
const SITE_UNIT = 1 << SITE_BITS;
/** A description larger than this is computed. */
const MAX_TREE = 40;

export class TranslatorSem extends BaseSem {
  protected override readonly translateW = "translateWx";
  /** General registers' locals; all sixteen, so that no temporary is ever reused as one. */
  readonly gprs: number[] = [];
  readonly xmms: number[] = [];
  readonly gprUsed = new Uint8Array(16);
  readonly gprDirty = new Uint8Array(16);
  readonly xmmUsed = new Uint8Array(16);
  readonly xmmDirty = new Uint8Array(16);
  readonly budget: number;
  readonly flagA: number;
  readonly flagB: number;
  readonly flagR: number;
  readonly flagOp: number;
  private readonly fixed: number;
  /** Number of the exit: how far rip is from `origin`, and how many instructions of the block have not run. */
  readonly site: number;
  /** Labels of the common exits: all but the registers already in the state block; rip and budget by `site`; flags in A, B, R, OP as well. */
  exitLabel = 0;
  exitSiteLabel = 0;
  exitFlagsLabel = 0;
  /** What the region returns beside whether it leaves the engine; zero but on exits that lead to a known place. */
  readonly left: number;
  /** How far from where it was made the region runs. */
  private readonly delta: number;
  usesDelta = false;
  usesLeft = false;
  usesFlagOp = false;

  state: FlagState = MEMORY_STATE;
  private va: Va = 0;
  private next: Va = 0;
  /** Instructions of the block from this one on. */
  private remaining = 0;
  /** Anyone looks at the flags after this instruction. */
  private live = true;
  private merging = false;
  private shape: Shape | undefined;
  private baseDepth = 0;
  private plan: Plan | undefined;
  /** The instruction's memory operand's and stack slot's addresses, to know them again when they are accessed. */
  private eaExpr: Expr | undefined;
  private spExpr: Expr | undefined;
  private leaving: Leave | undefined;

  constructor(
    code: Code,
    mode: number,
    helpers: Helpers,
    xmmNeeded: readonly boolean[],
    private readonly missLeaves: boolean,
    private readonly origin: Va,
    private readonly moves: boolean,
  ) {
    super(code, mode, helpers);
    for (let i = 0; i < 16; i++) this.gprs.push(code.newLocal("i64"));
    if (this.gprs[0] !== FIRST_GPR) throw new Error("translator: registers' locals moved");
    this.flagA = code.newLocal("i64");
    this.flagB = code.newLocal("i64");
    this.flagR = code.newLocal("i64");
    this.budget = code.newLocal("i32");
    this.site = code.newLocal("i64");
    this.flagOp = code.newLocal("i32");
    this.left = code.newLocal("i32");
    this.delta = code.newLocal("i64");
    this.fixed = this.delta;
    for (let i = 0; i < 16; i++) this.xmms.push(xmmNeeded[i] ? code.newLocal("v128") : -1);
  }

  /** Translate one instruction; the answer says how it left the block, if it did. */
  emit(insn: Insn, shape: Shape, va: Va, remaining: number, live: boolean, plan: Plan | undefined): Leave | undefined {
    this.insn = insn;
    this.plan = plan;
    this.eaExpr = this.spExpr = undefined;
    this.va = va;
    this.next = va + insn.len;
    this.remaining = remaining;
    this.live = live;
    this.merging = shape.merges && !live;
    this.leaving = undefined;
    const state = this.state;
    if (
      state.since !== undefined &&
      (shape.sets === 2 || (shape.reads && !this.merging) || insn.op.startsWith("rdtsc"))
    )
      this.toDynamic();
    else if ((state.registers !== 0 || state.cold) && (shape.writesOperands | shape.writesFixed) !== 0) {
      const written = writes(insn, shape);
      if ((state.registers & written) !== 0) this.rescue(state.registers & written);
      if (state.cold && (state.coldRegisters & written) !== 0) this.coolOff(written);
    }
    this.shape = shape;
    this.baseDepth = this.code.depth;
    shape.def.emit(this);
    return this.leaving;
  }
  /** Give back the instruction's temporaries. */
  done(): void {
    this.releaseTemps();
  }

  // ---- operands ----
  private immSize(): number {
    return this.insn.ops[0]?.size ?? 4;
  }
  override read(i: number): Expr {
    const o = this.insn.ops[i];
    if (!o) throw new Error(`translator: ${this.insn.op} has no operand ${i}`);
    switch (o.kind) {
      case K.GPR:
        if (o.high) return i32.and(i32.shr_u(i32.wrap(this.gpr(o.reg)), c32(8)), c32(0xff));
        return this.gprSized(o.reg, o.size);
      case K.MEM:
        return this.load(this.ea(), o.size);
      case K.IMM: {
        const size = this.immSize();
        if (size === 8) return this.imm64();
        return c32(size === 1 ? this.insn.imm & 0xff : size === 2 ? this.insn.imm & 0xffff : this.insn.imm);
      }
      case K.XMM:
        return this.readXmm(i);
      case K.MMX:
        return this.readMmx(i);
      default:
        return this.regNumber(i);
    }
  }
  override write(i: number, e: Expr): void {
    const o = this.insn.ops[i];
    if (!o) throw new Error(`translator: ${this.insn.op} has no operand ${i}`);
    if (o.kind === K.MEM) {
      // The value first: it may be a load, whose fault comes before the store's.
      const value = this.let(e);
      this.store(this.ea(), o.size, value);
    } else if (o.kind === K.GPR) {
      if (o.high)
        this.setGpr(
          o.reg,
          i64.or(i64.and(this.gpr(o.reg), c64(~0xff00, -1)), i64.extend_u(i32.shl(i32.and(e, c32(0xff)), c32(8)))),
        );
      else this.setGprSized(o.reg, o.size, e);
    } else if (o.kind === K.XMM) this.writeXmm(i, e);
    else if (o.kind === K.MMX) this.writeMmx(i, e);
    else throw new Error(`translator: ${this.insn.op} writes operand ${i} of kind ${o.kind}`);
  }
  override rmw(i: number): Rmw {
    const o = this.insn.ops[i];
    if (o?.kind === K.MEM) return this.rmwAt(this.ea(), o.size);
    return { value: this.let(this.read(i)), commit: (e) => this.write(i, e) };
  }
  override imm32(): Expr {
    return c32(this.insn.imm);
  }
  override imm64(): Expr {
    return c64(this.insn.imm, this.insn.immHi);
  }
  protected override numberOf(_i: number, reg: number): Expr {
    return c32(reg);
  }

  // ---- registers ----
  override gpr(n: number): Expr {
    this.gprUsed[n] = 1;
    return local(this.gprs[n] as number, "i64");
  }
  override setGpr(n: number, e: Expr): void {
    this.gprDirty[n] = 1;
    this.code.setLocal(this.gprs[n] as number, e);
  }
  override xmm(n: number): Expr {
    this.xmmUsed[n] = 1;
    return local(this.xmmLocal(n), "v128");
  }
  override setXmm(n: number, e: Expr): void {
    this.xmmDirty[n] = 1;
    this.code.setLocal(this.xmmLocal(n), e);
  }
  private xmmLocal(n: number): number {
    const l = this.xmms[n] as number;
    if (l < 0) throw new Error(`translator: ${this.insn.op} uses xmm${n} without naming it`);
    return l;
  }
  override readXmm(i: number): Expr {
    return this.xmm(this.insn.ops[i]?.reg ?? 0);
  }
  override writeXmm(i: number, e: Expr): void {
    this.setXmm(this.insn.ops[i]?.reg ?? 0, e);
  }
  override readMmx(i: number): Expr {
    return i64.load(c32(0), FPR + 16 * (this.insn.ops[i]?.reg ?? 0));
  }
  override writeMmx(i: number, e: Expr): void {
    const at = FPR + 16 * (this.insn.ops[i]?.reg ?? 0);
    this.code.store(8, c32(0), e, at);
    this.code.store(2, c32(0), c32(0xffff), at + 8);
  }
  /** Those that the region names are in locals; of the others the state block's copy is the current one. */
  override syncXmm(): void {
    this.xmms.forEach((l, n) => {
      if (l >= 0) this.code.store(16, c32(0), this.xmm(n), XMM + n * 16);
    });
  }
  override reloadXmm(): void {
    this.xmms.forEach((l, n) => {
      if (l >= 0) this.setXmm(n, v.load(c32(0), XMM + n * 16));
    });
  }

  // ---- addresses ----
  /** An address that is known relative to the code. */
  placed(va: Va): Expr {
    return this.moves ? i64.add(this.deltaLocal(), c64n(va)) : c64n(va);
  }
  /** A computed address as it would be where the region was made. */
  unplaced(e: Expr): Expr {
    return this.moves ? i64.sub(e, this.deltaLocal()) : e;
  }
  private deltaLocal(): Expr {
    this.usesDelta = true;
    return local(this.delta, "i64");
  }
  setDelta(code: Code, cell: number): void {
    code.setLocal(this.delta, i64.load(c32(0), cell));
  }
  override eaOffset(): Expr {
    const x = this.insn;
    const wide = x.asize === 8;
    const base = x.memBase;
    if (base === BASE_RIP) {
      const at = this.next + x.disp;
      return wide ? this.placed(at) : this.moves ? i64.and(this.placed(at), c64(-1, 0)) : c64(at | 0, 0);
    }
    if (wide) {
      let e: Expr | undefined = base >= 0 ? this.gpr(base) : undefined;
      if (x.memIndex >= 0) {
        const index = this.gpr(x.memIndex);
        const scaled = x.memScale > 0 ? i64.shl(index, c64(x.memScale)) : index;
        e = e ? i64.add(e, scaled) : scaled;
      }
      const disp = c64(x.disp, x.dispHi);
      return e ? i64.add(e, disp) : disp;
    }
    let e: Expr | undefined = base >= 0 ? i32.wrap(this.gpr(base)) : undefined;
    if (x.memIndex >= 0) {
      const scaled = i32.shl(i32.wrap(this.gpr(x.memIndex)), c32(x.memScale));
      e = e ? i32.add(e, scaled) : scaled;
    }
    const sum = e ? i32.add(e, c32(x.disp)) : c32(x.disp);
    return i64.extend_u(x.asize === 2 ? i32.and(sum, c32(0xffff)) : sum);
  }
  protected override memSegBase(): Expr {
    return this.segBase(this.insn.seg);
  }

  // ---- leaving ----
  /** Leave at a known address; `back` instructions of this block have not run. */
  leave(rip: Va, back: number): void {
    const { code, state } = this;
    const { since, spill } = state;
    if (state.op >= 0 && !spill) this.spillFlags(state, state.cold);
    const at = (rip - this.origin) * SITE_UNIT + back;
    code.setLocal(this.site, c64n(at));
    if (state.op === DYNAMIC) {
      this.usesFlagOp = true;
      code.br(this.exitFlagsLabel);
    } else if (state.op >= 0 && spill) {
      if (since !== undefined) code.brIf(this.exitSiteLabel, this.untouched(since), false);
      noteCold(spill, state.cold);
      code.br(spill.label);
    } else code.br(this.exitSiteLabel);
    if (code.depth === this.baseDepth) this.leaving = { kind: "gone" };
  }
  /** Leave at a computed address, at a block's end. */
  leaveIndirect(rip: Expr, how: number): void {
    const { code, state } = this;
    this.setLeft(how);
    if (state.op === DYNAMIC) this.spillDynamic();
    else if (state.op >= 0) this.spillFlags(state, state.cold);
    code.store(8, c32(0), rip, RIP);
    code.store(4, c32(0), local(this.budget, "i32"), BUDGET);
    code.br(this.exitLabel);
  }
  /** The part of the common exit that finds rip and the budget from the exit's number. */
  storeSite(): void {
    const { code } = this;
    const site = local(this.site, "i64");
    code.store(8, c32(0), i64.add(i64.shr_s(site, c64(SITE_BITS)), this.placed(this.origin)), RIP);
    const back = i32.and(i32.wrap(site), c32(SITE_UNIT - 1));
    code.store(4, c32(0), i32.add(local(this.budget, "i32"), back), BUDGET);
  }
  protected override leaveAt(): void {
    this.leave(this.va, this.remaining);
  }
  override nextRip(): Expr {
    return this.placed(this.next);
  }
  override jumpRel(): void {
    const target = relativeTarget(this.insn, this.next, this.mode);
    if (Number.isNaN(target)) this.raise(13, 0);
    else this.leaving = { kind: "jump", target };
  }
  override branchIf(cond: Expr): void {
    const target = relativeTarget(this.insn, this.next, this.mode);
    if (Number.isNaN(target)) {
      this.raiseIf(cond, 13, 0);
      this.leaving = { kind: "jump", target: this.next };
    } else this.leaving = { kind: "branch", cond, target };
  }
  override jumpTo(target: Expr, kind: "jmp" | "call" | "ret"): void {
    this.leaving = { kind: "indirect", target: this.let(target), canonical: kind !== "jmp" || !this.bits64 };
  }
  override exit(reason: number, opts: { atNext: boolean; vector?: number; vectorExpr?: Expr }): void {
    this.helperVoid("recordExit", [c32(reason), opts.vectorExpr ?? c32(opts.vector ?? 0)]);
    this.code.store(4, c32(0), c32(this.insn.len), EXIT_LENGTH);
    if (opts.atNext) this.leave(this.next, this.remaining - 1);
    else this.leaveAt();
  }
  override endBlock(): void {
    this.leave(this.next, this.remaining - 1);
  }
  private setLeft(how: number): void {
    if (how === 0) return;
    this.usesLeft = true;
    this.code.setLocal(this.left, c32(how));
  }
  /** An exit between blocks. */
  leaveTo(rip: Va, how = 0): void {
    this.baseDepth = -1;
    this.setLeft(how);
    this.leave(rip, 0);
  }
  /** #GP(0) at the block's last instruction. */
  raiseAt(va: Va): void {
    this.helperVoid("recordFault", [c32(13), c32(0)]);
    this.baseDepth = -1;
    this.leave(va, 1);
  }

  // ---- helpers ----
  override helper(name: string, args: readonly Expr[]): Expr {
    if (name === "rdtsc") this.code.store(4, c32(0), i32.add(local(this.budget, "i32"), c32(this.remaining)), BUDGET);
    return super.helper(name, args);
  }
  override stateHelper(name: string, args: readonly Expr[], regs: readonly number[]): void {
    for (const n of regs) this.code.store(8, c32(0), this.gpr(n), GPR + n * 8);
    const status = this.let(this.call(name, args));
    for (const n of regs) this.setGpr(n, i64.load(c32(0), GPR + n * 8));
    this.checkStatus(status);
    this.helperStored();
  }
  /** A helper may write code, of this region too: go on through the dispatcher then. */
  override helperStored(): void {
    this.code.if(i32.load(c32(0), SMC_PENDING), false);
    this.code.store(4, c32(0), c32(0), SMC_PENDING);
    this.leave(this.next, this.remaining - 1);
    this.code.end();
  }
  protected override afterSlowStore(): void {}

  // ---- memory ----
  override let(e: Expr): Expr {
    const l = super.let(e);
    if (this.plan) {
      if (e === this.eaExpr) this.eaExpr = l;
      if (e === this.spExpr || (this.insn.op === "ret" && e.n === N.LOCAL && e.code === this.gprs[RSP]))
        this.spExpr = l;
    }
    return l;
  }
  override ea(delta?: Expr): Expr {
    const e = super.ea(delta);
    if (this.plan && delta === undefined) this.eaExpr = e;
    return e;
  }
  protected override stackAddr(offset: Expr): Expr {
    const e = super.stackAddr(offset);
    if (this.plan) this.spExpr = e;
    return e;
  }
  /** The shared check that this access takes part in. */
  private sharedBy(addr: Expr, size: number, write: boolean): Access | undefined {
    const { plan } = this;
    if (!plan || this.missLeaves || this.code.depth !== this.baseDepth) return undefined;
    const a = addr === this.eaExpr ? plan.operand : addr === this.spExpr ? plan.stack : undefined;
    return isShared(a) && a.size === size && (a.group.write || !write) ? a : undefined;
  }
  /** Check a group's whole span once: the host address of its start, or 0. `addr` (bound) is the address of this access. */
  private open(a: Access, addr: Expr): Expr {
    const g = a.group;
    const { code } = this;
    if (g.local >= 0) return local(g.local, "i32");
    g.local = code.newLocal("i32");
    this.groups.push(g);
    const base = this.let(a.offset === g.lo ? addr : i64.sub(addr, c64n(a.offset - g.lo)));
    this.ifHit(base, g.hi - g.lo, g.write);
    code.else();
    code.out.u8(0x41);
    code.out.u8(0);
    code.end();
    code.out.u8(0x21);
    code.out.u32(g.local);
    return local(g.local, "i32");
  }
  /**
   * `if (hit) (result i32)`, with the host address on the stack of its first arm. Written as bytes, as half of the code is this. The check
   * `((addr + size − 1) & ~0xfff) == tag` also refuses what crosses a page.
   */
  private ifHit(addr: Expr, size: number, write: boolean): void {
    const { code } = this;
    const o = code.out;
    const array = this.tlbArray(write);
    const index = code.newLocal("i32");
    code.expr(addr);
    o.u8(0x42); // i64.const 8; i64.shr_u; i32.wrap_i64
    o.u8(8);
    o.u8(0x88);
    o.u8(0xa7);
    o.u8(0x41); // i32.const; i32.and; local.tee
    o.s32((TLB_ENTRIES - 1) << 4);
    o.u8(0x71);
    o.u8(0x22);
    o.u32(index);
    o.u8(0x29); // i64.load
    o.u8(0);
    o.u32(array);
    code.expr(addr);
    if (size > 1) {
      o.u8(0x42); // i64.const; i64.add
      o.s32(size - 1);
      o.u8(0x7c);
    }
    o.u8(0x42); // i64.const −4096; i64.and; i64.eq
    o.s32(-4096);
    o.u8(0x83);
    o.u8(0x51);
    code.hints.push({ at: o.len, likely: true });
    o.u8(0x04); // if (result i32)
    o.u8(0x7f);
    code.depth++;
    code.expr(addr);
    o.u8(0xa7); // i32.wrap_i64; local.get; i32.load; i32.add
    o.u8(0x20);
    o.u32(index);
    o.u8(0x28);
    o.u8(0);
    o.u32(array + 8);
    o.u8(0x6a);
    code.freeLocal(index);
  }
  /** Host address by the core on the stack, also in `host`; leaves on a fault. */
  private slow(host: number, addr: Expr, size: number, write: boolean): void {
    const { code } = this;
    const o = code.out;
    code.expr(addr);
    const name = write ? this.translateW : "translateR";
    o.u8(0x41); // i32.const; call; i32x4.extract_lane 0; local.tee; i32.eqz
    o.u8(size);
    o.u8(0x10);
    o.u32(this.helpers.index(name));
    if (this.helpers.wide(name)) {
      o.u8(0xfd);
      o.u8(27);
      o.u8(0);
    }
    o.u8(0x22);
    o.u32(host);
    o.u8(0x45);
    code.hints.push({ at: o.len, likely: false });
    o.u8(0x04);
    o.u8(0x40);
    code.depth++;
    this.leaveAt();
    code.end();
    o.u8(0x20);
    o.u32(host);
  }
  /** The load or store instruction on what is on the stack. */
  private access(op: number, offset: number): void {
    const o = this.code.out;
    if (op >= 0xfd0000) {
      o.u8(0xfd);
      o.u32(op & 0xffff);
    } else o.u8(op);
    o.u8(0);
    o.u32(offset);
  }
  private tee(op: number, l: number): void {
    this.code.out.u8(op);
    this.code.out.u32(l);
  }
  private readonly groups: Group[] = [];
  /** The block's end: groups' locals are free again. */
  endGroups(): void {
    for (const g of this.groups) this.code.freeLocal(g.local);
    this.groups.length = 0;
  }
  private tlbArray(write: boolean): number {
    return TLB + ((this.mode & MODE_SPACE) !== 0 ? 2 * TLB_ARRAY_SIZE : 0) + (write ? TLB_ARRAY_SIZE : 0);
  }
  override load(addrExpr: Expr, size: number): Expr {
    const addr = this.let(addrExpr);
    const { code } = this;
    const t = size <= 4 ? "i32" : size === 8 ? "i64" : "v128";
    const op = LOADS[size] as number;
    const out = code.newLocal(t);
    this.temps.push(out);
    const a = this.missLeaves ? undefined : this.sharedBy(addr, size, false);
    const host = code.newLocal("i32");
    if (a) {
      const start = this.open(a, addr);
      code.if(start, true);
      code.expr(start);
      this.access(op, a.offset - a.group.lo);
      this.tee(0x21, out);
      code.else();
      this.slow(host, addr, size, false);
      this.access(op, 0);
      this.tee(0x21, out);
      code.end();
    } else {
      if (this.missLeaves) code.expr(this.missLeave(addr, size, false));
      else {
        this.ifHit(addr, size, false);
        code.else();
        this.slow(host, addr, size, false);
        code.end();
      }
      this.access(op, 0);
      this.tee(0x21, out);
    }
    code.freeLocal(host);
    return local(out, t);
  }
  override store(addrExpr: Expr, size: number, e: Expr): void {
    const addr = this.let(addrExpr);
    const value = this.let(e);
    const { code } = this;
    if (this.missLeaves) {
      code.store(size, this.missLeave(addr, size, true), value);
      return;
    }
    const op = (STORE[value.t] as Record<number, number>)[size] as number;
    const a = this.sharedBy(addr, size, true);
    const host = code.newLocal("i32");
    if (a) {
      const start = this.open(a, addr);
      code.if(start, true);
      code.expr(start);
      code.expr(value);
      this.access(op, a.offset - a.group.lo);
      code.else();
      this.slow(host, addr, size, true);
      code.expr(value);
      this.access(op, 0);
      this.helperVoid("commitW", []);
      code.end();
    } else {
      // The slow path stages into the bounce buffer or writes through; `commitW` finds out which, and does nothing on the fast one.
      const done = code.block();
      this.ifHit(addr, size, true);
      code.expr(value);
      this.access(op, 0);
      code.br(done);
      code.else();
      this.slow(host, addr, size, true);
      code.end();
      code.expr(value);
      this.access(op, 0);
      this.helperVoid("commitW", []);
      code.end();
    }
    code.freeLocal(host);
  }
  override rmwAt(addrExpr: Expr, size: number): Rmw {
    const addr = this.let(addrExpr);
    const { code } = this;
    const host = code.newLocal("i32");
    this.temps.push(host);
    const h = local(host, "i32");
    const t = size <= 4 ? "i32" : size === 8 ? "i64" : "v128";
    const out = code.newLocal(t);
    this.temps.push(out);
    if (this.missLeaves) code.expr(this.missLeave(addr, size, true));
    else {
      const a = this.sharedBy(addr, size, true);
      if (a) {
        const start = this.open(a, addr);
        code.expr(start);
        code.hints.push({ at: code.out.len, likely: true });
        code.out.u8(0x04);
        code.out.u8(0x7f);
        code.depth++;
        code.expr(i32.add(start, c32(a.offset - a.group.lo)));
      } else this.ifHit(addr, size, true);
      code.else();
      this.slow(host, addr, size, true);
      code.end();
    }
    this.tee(0x22, host);
    this.access(LOADS[size] as number, 0);
    this.tee(0x21, out);
    return {
      value: local(out, t),
      commit: (x) => {
        code.store(size, h, x);
        if (this.missLeaves) return;
        code.if(i32.eq(h, c32(BOUNCE)), false);
        this.helperVoid("commitW", []);
        code.end();
      },
    };
  }

  // ---- memory, where a TLB miss leaves ----
  /** The access is made again by the dispatcher, after the entry is filled (or the fault recorded). */
  private missLeave(addr: Expr, size: number, write: boolean): Expr {
    const array = this.tlbArray(write);
    const index = this.let(i32.and(i32.wrap(i64.shr_u(addr, c64(8))), c32((TLB_ENTRIES - 1) << 4)));
    const last = size === 1 ? addr : i64.add(addr, c64(size - 1));
    this.code.if(i64.ne(i64.and(last, c64(-4096)), i64.load(index, array)), false);
    this.code.drop(this.call(write ? this.translateW : "translateR", [addr, c32(size)]));
    this.leaveAt();
    this.code.end();
    return i32.add(i32.wrap(addr), i32.load(index, array + 8));
  }

  // ---- flags ----
  private aLocal = (): Expr => local(this.flagA, "i64");
  private bLocal = (): Expr => local(this.flagB, "i64");
  private rLocal = (): Expr => local(this.flagR, "i64");
  private opLocal = (): Expr => local(this.flagOp, "i32");

  /** Start a block at a join. `count`: its instructions, if it is also an entry. */
  enterJoined(live: boolean, flags: Flags, count: number | undefined): void {
    if (!live) this.state = DEAD_STATE;
    else if (flags.op === UNSEEN) this.state = MEMORY_STATE;
    else if (flags.op === DYNAMIC) this.state = DYNAMIC_STATE;
    else {
      const { op } = flags;
      const need = needs(op);
      const a = flags.a ?? (need & NEED_A ? this.aLocal() : undefined);
      const b = flags.b ?? (need & NEED_B ? this.bLocal() : undefined);
      let r = flags.r ?? (need & NEED_R ? this.rLocal() : undefined);
      if (a && b && op >> 2 === CC.ADD) r = cut(op, i64.add(a, b));
      if (a && b && op >> 2 === CC.SUB) r = cut(op, i64.sub(a, b));
      const registers = registersIn(a) | registersIn(b) | registersIn(r);
      for (let i = 0; i < 16; i++) if ((registers & (1 << i)) !== 0) this.gprUsed[i] = 1;
      this.state = flagState(op, a, b, r, registers, undefined, count);
      this.openSpill();
    }
  }
  // ---- shared exits of one description ----
  private readonly spills: Spill[] = [];
  private spillBase = 0;
  /** Spills opened from here on belong to the block; `closeSpills` ends them. */
  beginBlock(): number {
    this.spillBase = this.spills.length;
    return this.spillBase;
  }
  private openSpill(): void {
    const next = this.code.block();
    const label = this.code.block();
    this.baseDepth += 2;
    const spill: Spill = { next, label, state: this.state, used: false, cold: undefined };
    this.spills.push(spill);
    this.state = changed(this.state, this.state.since, spill, this.state.owned);
  }
  /** @param reachable control goes on after them */
  closeSpills(base: number, reachable: boolean): void {
    const { code } = this;
    for (let x = this.spills.length; x > base; x--) {
      const spill = this.spills.pop() as Spill;
      if (spill.used && reachable) code.br(spill.next);
      code.end();
      if (spill.used) {
        this.spillFlags(changed(spill.state, undefined, undefined, NO_LOCALS), spill.cold);
        code.br(this.exitSiteLabel);
      }
      code.end();
      this.baseDepth -= 2;
    }
  }
  /** Start a block that only one other leads to, with its flags. */
  enterInherited(flags: FlagState, count: number): void {
    this.state = flags.since === undefined ? flags : changed(flags, flags.since + count, flags.spill, flags.owned);
  }
  enterFromMemory(): void {
    this.state = MEMORY_STATE;
  }
  /** Before control may reach joins that look at the flags. `missing`: components that one of them wants in their locals. */
  join(dynamic: boolean, missing: number): void {
    if (this.state.op === DYNAMIC) return;
    if (this.state.op === DEAD) throw new Error("translator: dead flags reach a join");
    const code = this.code;
    if (this.state.op === IN_MEMORY) {
      if (!dynamic) throw new Error("translator: flags in memory reach a static join");
      this.usesFlagOp = true;
      code.setLocal(this.flagOp, c32(-1));
      return;
    }
    if (this.state.since !== undefined) {
      if (!dynamic) throw new Error("translator: an entry's flags reach a static join");
      this.toDynamic();
      return;
    }
    const s = this.state;
    const need = dynamic ? needs(s.op) : missing;
    const zero = c64(0);
    if (need & NEED_A) this.assign(this.flagA, s.a ?? zero);
    if (need & NEED_B) this.assign(this.flagB, s.b ?? zero);
    if (need & NEED_R) this.assign(this.flagR, s.r ?? zero);
    if (dynamic) {
      this.usesFlagOp = true;
      code.setLocal(this.flagOp, c32(s.op));
    }
  }
  /** Leave the flags in the state block, with the budget as a mark of when. */
  checkpoint(): void {
    if (this.state.op === DYNAMIC) this.spillDynamic();
    else if (this.state.op >= 0) this.spillFlags(this.state, this.state.cold);
    this.code.store(4, c32(0), local(this.budget, "i32"), BUDGET);
    // Where the loop's flags are dynamic it is not the budget that tells.
    this.code.setLocal(this.flagOp, c32(-1));
  }
  private assign(l: number, e: Expr): void {
    if (e.n !== N.LOCAL || e.code !== l) this.code.setLocal(l, e);
  }
  /** Nothing has run since the region was entered. */
  private untouched(since: number): Expr {
    return i32.eq(i32.add(local(this.budget, "i32"), c32(since)), i32.load(c32(0), BUDGET));
  }
  /** Bring the flags into A, B, R, OP. */
  private toDynamic(): void {
    const s = this.state;
    const { since } = s;
    if (s.op === DYNAMIC) return;
    this.state = changed(s, undefined, s.spill, s.owned);
    this.join(true, 0);
    if (since !== undefined) this.code.setLocal(this.flagOp, select(this.untouched(since), c32(-1), c32(s.op)));
    this.replaceState(DYNAMIC_STATE, []);
  }
  /** Registers change: cold components that read them are gone. */
  private coolOff(written: number): void {
    const f = this.state.cold as Flags;
    const kept = (e: Expr | undefined): Expr | undefined => (e && (registersIn(e) & written) === 0 ? e : undefined);
    const cold: Flags = { op: f.op, a: kept(f.a), b: kept(f.b), r: kept(f.r) };
    const { op, a, b, r, registers, since, spill, owned } = this.state;
    const cooler = flagState(op, a, b, r, registers, cold.a || cold.b || cold.r ? cold : undefined, since);
    this.state = changed(cooler, since, spill, owned);
  }
  /** The instruction changes registers that the description reads: keep their values. */
  private rescue(lost: number): void {
    const s = this.state;
    const copies = new Map<number, number>();
    const copy = (e: Expr): Expr => {
      if (e.n === N.LOCAL) {
        const n = e.code - FIRST_GPR;
        if (n < 0 || n > 15 || (lost & (1 << n)) === 0) return e;
        let l = copies.get(n);
        if (l === undefined) {
          copies.set(n, (l = this.code.newLocal("i64")));
          this.code.setLocal(l, e);
        }
        return local(l, "i64");
      }
      return e.args.length === 0 ? e : withArgs(e, e.args.map(copy));
    };
    const one = (e: Expr | undefined): Expr | undefined => (e ? copy(e) : undefined);
    const a = one(s.a);
    const b = one(s.b);
    const r = one(s.r);
    const saved = flagState(s.op, a, b, r, s.registers & ~lost, s.cold, s.since);
    this.state = changed(saved, s.since, s.spill, [...s.owned, ...copies.values()]);
    this.openSpill();
  }
  /** Write the flags to the state block, on the way out. */
  private spillFlags(s: FlagState, cold: Flags | undefined): void {
    const code = this.code;
    if (s.since !== undefined) code.if(i32.eqz(this.untouched(s.since)), true);
    const b = cold?.b ?? s.b;
    const r = cold?.r ?? s.r;
    let a = cold?.a ?? s.a;
    const kind = s.op >> 2;
    // The old value follows from the result, which is usually still there as a register.
    if (a && b && r && !cold?.a && (isHeld(r) || cold?.r) && (kind === CC.ADD || kind === CC.SUB))
      a = cut(s.op, kind === CC.ADD ? i64.sub(r, b) : i64.add(r, b));
    if (a) this.storeFlag(a, CC_A);
    if (b) this.storeFlag(b, CC_B);
    else if (kind === CC.RES) this.storeFlag(c64(0), CC_B);
    if (r) this.storeFlag(r, CC_R);
    code.store(4, c32(0), c32(s.op), CC_OP);
    if (s.since !== undefined) code.end();
  }
  /** Store a component; a value cut to its size goes as it is, into cleared memory. */
  private storeFlag(e: Expr, at: number): void {
    const { code } = this;
    const zero = c32(0);
    const size = maskSize(e);
    if (size !== 0) {
      code.store(8, zero, c64(0), at);
      code.store(size, zero, uncut(e.args[0] as Expr, size), at);
    } else if (e.n === N.OP && e.code === 0xad) {
      code.store(4, zero, c32(0), at + 4);
      code.store(4, zero, e.args[0] as Expr, at);
    } else code.store(8, zero, e, at);
  }
  /** Flags in A, B, R, OP to the state block; a negative OP says that the state block has them. */
  spillDynamic(): void {
    const code = this.code;
    const zero = c32(0);
    this.usesFlagOp = true;
    code.if(i32.ge_s(this.opLocal(), zero));
    code.store(8, zero, this.aLocal(), CC_A);
    code.store(8, zero, this.bLocal(), CC_B);
    code.store(8, zero, this.derivedR(), CC_R);
    code.store(4, zero, this.opLocal(), CC_OP);
    code.end();
  }
  /** R, or what follows from A and B where the operation is an addition or subtraction known only at run time. */
  private derivedR(): Expr {
    const kind = i32.shr_u(this.opLocal(), c32(2));
    const bits = i32.shl(c32(8), i32.and(this.opLocal(), c32(3)));
    const mask = (e: Expr): Expr => i64.and(e, i64.shr_u(c64(-1), i64.extend_u(i32.sub(c32(64), bits))));
    return select(
      i32.eq(kind, c32(CC.SUB)),
      mask(i64.sub(this.aLocal(), this.bLocal())),
      select(i32.eq(kind, c32(CC.ADD)), mask(i64.add(this.aLocal(), this.bLocal())), this.rLocal()),
    );
  }

  protected override cc(): CcState {
    const s = this.state;
    const zero = c64(0);
    if (s.op === IN_MEMORY) {
      const at = c32(0);
      return {
        op: -1,
        dynamicOp: i32.load(at, CC_OP),
        a: i64.load(at, CC_A),
        b: i64.load(at, CC_B),
        r: i64.load(at, CC_R),
      };
    }
    if (s.op === DYNAMIC) {
      this.usesFlagOp = true;
      const code = this.code;
      code.if(i32.lt_s(this.opLocal(), c32(0)), false);
      code.setLocal(this.flagA, i64.load(c32(0), CC_A));
      code.setLocal(this.flagB, i64.load(c32(0), CC_B));
      code.setLocal(this.flagR, i64.load(c32(0), CC_R));
      code.setLocal(this.flagOp, i32.load(c32(0), CC_OP));
      code.end();
      return { op: -1, dynamicOp: this.opLocal(), a: this.aLocal(), b: this.bLocal(), r: this.derivedR() };
    }
    if (s.op === DEAD) return { op: 0, a: zero, b: zero, r: zero, dynamicOp: c32(0) };
    return { op: s.op, a: s.a ?? zero, b: s.b ?? zero, r: s.r ?? zero, dynamicOp: c32(s.op) };
  }
  override cond(cc: number): Expr {
    const op = this.state.op;
    if (op === DEAD) return c32(0);
    return op === DYNAMIC && (cc >> 1 === 1 || cc >> 1 === 2) ? this.mergedCond(cc) : super.cond(cc);
  }
  /** CF or ZF where paths with different operations meet (a carry chain's loop, as `dec` keeps CF): the usual cases inline. */
  private mergedCond(cc: number): Expr {
    const s = this.cc();
    const code = this.code;
    const kind = this.let(i32.shr_u(s.dynamicOp, c32(2)));
    const l = code.newLocal("i32");
    this.temps.push(l);
    const zf = cc >> 1 === 2;
    code.if(zf ? i32.ne(kind, c32(CC.FLAGS)) : i32.eq(i32.or(kind, c32(1)), c32(CC.INC | CC.DEC)));
    code.setLocal(l, zf ? i64.eqz(s.r) : i32.wrap(s.b));
    code.else();
    code.setLocal(l, i32.and(zf ? i32.shr_u(i32.wrap(s.a), c32(6)) : i32.wrap(s.a), c32(1)));
    if (!zf) {
      code.if(i32.ne(kind, c32(CC.FLAGS)), false);
      code.setLocal(l, this.call("ccCond", [s.dynamicOp, s.a, s.b, s.r, c32(2)]));
      code.end();
    }
    code.end();
    const e = local(l, "i32");
    return (cc & 1) !== 0 ? i32.eqz(e) : e;
  }
  override flagsImage(): Expr {
    if (this.merging) return c32(0);
    const s = this.cc();
    if (s.op >= 0 && s.op >> 2 === CC.FLAGS) return super.flagsImage();
    const e = this.call("ccFlags", [s.op < 0 ? s.dynamicOp : c32(s.op), s.a, s.b, s.r]);
    // The call is pure: where the flags are known it may stay in a description and be made only where that is used.
    return s.op >= 0 ? e : this.let(e);
  }
  protected override setCc(op: number, a: Expr | undefined, b: Expr | undefined, r: Expr | undefined): void {
    this.closeSpills(this.spillBase, true);
    if (!this.live) {
      this.replaceState(DEAD_STATE, []);
      return;
    }
    const used: number[] = [];
    const ka = this.keep(a, used);
    const kb = this.keep(b, used);
    const kr = this.keep(r, used);
    const cold = this.shape && symbolicFlags(this.insn, this.shape);
    const known = cold && (cold.a || cold.b || cold.r) ? cold : undefined;
    this.replaceState(flagState(op, ka, kb, kr, 0, known, undefined), used);
    this.openSpill();
  }
  protected override setCcIf(
    cond: Expr,
    op: number,
    a: Expr | undefined,
    b: Expr | undefined,
    r: Expr | undefined,
  ): void {
    if (!this.live) return;
    this.toDynamic();
    this.usesFlagOp = true;
    const code = this.code;
    code.if(cond);
    if (a) code.setLocal(this.flagA, a);
    if (b) code.setLocal(this.flagB, b);
    if (r) code.setLocal(this.flagR, r);
    code.setLocal(this.flagOp, c32(op));
    code.end();
  }
  /** Make an expression fit to stay: over locals that nothing else changes. */
  private keep(e: Expr | undefined, used: number[]): Expr | undefined {
    if (!e) return undefined;
    const found: number[] = [];
    if (!this.collect(e, found)) {
      const l = this.code.newLocal(e.t);
      this.code.setLocal(l, e);
      this.temps.push(l);
      used.push(l);
      return local(l, e.t);
    }
    used.push(...found);
    return e;
  }
  private size = 0;
  private collect(e: Expr, found: number[]): boolean {
    this.size = 0;
    return this.walk(e, found);
  }
  private walk(e: Expr, found: number[]): boolean {
    if (e.n === N.LOAD || ++this.size > MAX_TREE) return false;
    if (e.n === N.LOCAL) {
      // The registers' and joins' locals change under it.
      if (e.code <= this.fixed || e.t === "v128") return false;
      if (!found.includes(e.code)) found.push(e.code);
      return true;
    }
    for (const x of e.args) if (!this.walk(x, found)) return false;
    return true;
  }
  /** Take over the locals that the new description needs, give back those of the old one. */
  private replaceState(s: FlagState, used: readonly number[]): void {
    const owned: number[] = [];
    for (const l of this.state.owned) {
      if (used.includes(l)) owned.push(l);
      else this.code.freeLocal(l);
    }
    for (const l of used) {
      const i = this.temps.indexOf(l);
      if (i >= 0) {
        this.temps.splice(i, 1);
        if (!owned.includes(l)) owned.push(l);
      }
    }
    this.state = changed(s, s.since, s.spill, owned);
  }
  /** The description as a block that only this one leads to may use it. */
  inherited(): FlagState {
    return changed(this.state, this.state.since, this.state.spill, NO_LOCALS);
  }
  setState(s: FlagState): void {
    this.state = s;
  }
  freeState(s: FlagState): void {
    for (const l of s.owned) this.code.freeLocal(l);
  }
  /** Temporaries that must outlive the instruction (a branch's condition or target). */
  holdTemps(): number[] {
    return this.temps.splice(0);
  }
  freeTemps(held: readonly number[]): void {
    for (const l of held) this.code.freeLocal(l);
  }
  loadRegister(n: number): Expr {
    return i64.load(c32(0), GPR + n * 8);
  }
  loadXmm(n: number): Expr {
    return v.load(c32(0), XMM + n * 16);
  }
}

/** Note which cold components an exit still had; only what all have can be used. */
function noteCold(spill: Spill, cold: Flags | undefined): void {
  if (!spill.used) spill.cold = cold;
  else if (spill.cold) {
    const { op, a, b, r } = spill.cold;
    const kept = (x: Expr | undefined, y: Expr | undefined): Expr | undefined => (same(x, y) ? x : undefined);
    spill.cold = { op, a: kept(a, cold?.a), b: kept(b, cold?.b), r: kept(r, cold?.r) };
  }
  spill.used = true;
}

/** Bytes that `and` with a constant leaves, if the expression is that; else 0. */
function maskSize(e: Expr): number {
  const m = e.args[1];
  if (e.n !== N.OP || e.code !== 0x83 || m?.n !== N.I64) return 0;
  return m.lo === -1 && m.hi === 0 ? 4 : m.hi !== 0 ? 0 : m.lo === 0xffff ? 2 : m.lo === 0xff ? 1 : 0;
}
/** Without the masks inside a sum or difference of which only `size` bytes are used. */
function uncut(e: Expr, size: number): Expr {
  if (maskSize(e) >= size) return uncut(e.args[0] as Expr, size);
  if (e.n === N.OP && (e.code === 0x7c || e.code === 0x7d)) {
    return withArgs(
      e,
      e.args.map((x) => uncut(x, size)),
    );
  }
  return e;
}

/** A local, or one zero-extended. */
function isHeld(e: Expr): boolean {
  return e.n === N.LOCAL || (e.n === N.OP && e.args.length === 1 && (e.args[0] as Expr).n === N.LOCAL);
}
