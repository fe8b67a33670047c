/**
 * What both code generators share of `Sem`: values, control structure, memory access through the TLB, the stack, and the
 * derivation of conditions from lazy flags. The interpreter and the translator add registers, operands and control flow.
 *
 * Memory access: the TLB hit path is inline (design: an entry is {tag i64, addend i32}, the check
 * `((va + size − 1) & ~0xfff) == tag` also refuses page-crossing accesses); the miss path calls the core, which returns a host address
 * (perhaps of the bounce buffer) or 0 after recording a fault.
 */
import {
  BOUNCE,
  EFL,
  MODE_BITS_64,
  MODE_BITS_MASK,
  MODE_CPL_SHIFT,
  MODE_FLAT,
  MODE_NO_FPU,
  MODE_SPACE,
  MODE_SS32,
  SEG_BASE,
  TLB,
  TLB_ARRAY_SIZE,
  TLB_ENTRIES,
} from "../../layout.js";
import { c32, c64, call, i32, i64, isConst, local, N, v, type Expr, type ValType } from "../../wasm/expr.js";
import type { Code, FuncType } from "../../wasm/encoder.js";
import { AF, CC, CC_LOOKS, CF, OF, PF, SF, ZF, ccOp, type CcKind } from "../flags.js";
import { Exit } from "../exits.js";
import { FS, K, RSP, SS, type Insn } from "../insn.js";
import type { Rmw, Sem, Var } from "./context.js";

/** How generated code finds the core's functions. */
export interface Helpers {
  index(name: string): number;
  type(name: string): FuncType;
  /** The function at `index` has its result, or none, in the low part of a v128 (helpers.ts). */
  wide(name: string): boolean;
}

/** Static or dynamic state of the lazy flags: a known operation, or −1 where only the run knows. */
export interface CcState {
  op: number;
  a: Expr;
  b: Expr;
  r: Expr;
  /** The operation as a run-time value, when `op` is −1. */
  dynamicOp: Expr;
}

const MASK_PAGE = c64(-4096, -1);

/** Instructions that raise #GP(0) whenever CPL is not 0 (SDM vol. 3, 5.9). */
const PRIVILEGED = new Set(
  "rdmsr wrmsr hlt clts lgdt lidt lldt ltr lmsw invlpg invlpga wbinvd invd mov_cr mov_dr sysret sysexit swapgs".split(
    " ",
  ),
);
/** Instructions that ask for CPL ≤ IOPL; there is no I/O bitmap outside the hypervisor's emulation. */
const IOPL_OPS = new Set(["in", "out", "ins", "outs", "cli", "sti"]);
const IOPL = 0x3000;

export abstract class BaseSem implements Sem {
  insn!: Insn;
  constructor(
    readonly code: Code,
    readonly mode: number,
    readonly helpers: Helpers,
  ) {}

  // ---- what an engine provides ----
  abstract read(i: number): Expr;
  abstract write(i: number, e: Expr): void;
  abstract rmw(i: number): Rmw;
  abstract imm32(): Expr;
  abstract imm64(): Expr;
  abstract gpr(n: number): Expr;
  abstract setGpr(n: number, e: Expr): void;
  abstract eaOffset(): Expr;
  abstract readXmm(i: number): Expr;
  abstract writeXmm(i: number, e: Expr): void;
  abstract readMmx(i: number): Expr;
  abstract writeMmx(i: number, e: Expr): void;
  abstract xmm(n: number): Expr;
  abstract setXmm(n: number, e: Expr): void;
  abstract syncXmm(): void;
  abstract reloadXmm(): void;
  abstract helperStored(): void;
  abstract nextRip(): Expr;
  abstract jumpRel(): void;
  abstract branchIf(cond: Expr): void;
  abstract jumpTo(target: Expr, kind: "jmp" | "call" | "ret"): void;
  abstract exit(reason: number, opts: { atNext: boolean; vector?: number; vectorExpr?: Expr }): void;
  abstract endBlock(): void;
  abstract stateHelper(name: string, args: readonly Expr[], regs: readonly number[]): void;
  /** Leave the engine with rip at this instruction; the exit record is already filled. */
  protected abstract leaveAt(): void;
  /** The present lazy flags. */
  protected abstract cc(): CcState;
  /** Set them; values are i64 or absent. `op` is a constant. */
  protected abstract setCc(op: number, a: Expr | undefined, b: Expr | undefined, r: Expr | undefined): void;
  protected abstract setCcIf(
    cond: Expr,
    op: number,
    a: Expr | undefined,
    b: Expr | undefined,
    r: Expr | undefined,
  ): void;
  /** Segment base of the memory operand, when it is not known to be zero. */
  protected abstract memSegBase(): Expr;
  /** After a store that took the slow path (interpreter: notice invalidated code). */
  protected abstract afterSlowStore(): void;
  /** Name of the helper that checks a store on the slow path. */
  protected abstract readonly translateW: string;

  /** Number of an operand's register, for the kinds that have no value of their own in the state block. */
  regNumber(i: number): Expr {
    const o = this.insn.ops[i];
    if (o?.kind !== K.ST && o?.kind !== K.SREG && o?.kind !== K.CR && o?.kind !== K.DR)
      throw new Error(`${this.insn.op}: operand ${i} is not known by its number`);
    return this.numberOf(i, o.reg);
  }
  /** `reg`, where operand i is static. */
  protected abstract numberOf(i: number, reg: number): Expr;

  // ---- values ----
  let(e: Expr): Expr {
    if (isConst(e)) return e;
    const l = this.code.newLocal(e.t);
    this.code.setLocal(l, e);
    this.temps.push(l);
    return local(l, e.t);
  }
  /** Locals to give back when the instruction is finished. */
  protected readonly temps: number[] = [];
  protected releaseTemps(): void {
    for (const l of this.temps) this.code.freeLocal(l);
    this.temps.length = 0;
  }
  var(t: ValType, init?: Expr): Var {
    const l = this.code.newLocal(t);
    this.temps.push(l);
    const code = this.code;
    // A reused local holds an old value: start from the one that is asked for, else from zero where a loop could see it.
    if (init) code.setLocal(l, init);
    return {
      t,
      get: () => local(l, t),
      set: (e) => code.setLocal(l, e),
    };
  }
  when(cond: Expr, then: () => void, otherwise?: () => void, likely?: boolean): void {
    this.code.if(cond, likely);
    then();
    if (otherwise) {
      this.code.else();
      otherwise();
    }
    this.code.end();
  }
  helper(name: string, args: readonly Expr[]): Expr {
    return this.let(this.call(name, args));
  }
  helperVoid(name: string, args: readonly Expr[]): void {
    const index = this.helpers.index(name);
    if (this.helpers.wide(name)) this.code.drop(call(index, "v128", args));
    else this.code.callVoid(index, args);
  }
  /** A call of a helper with a result, not evaluated yet. */
  protected call(name: string, args: readonly Expr[]): Expr {
    const index = this.helpers.index(name);
    const t = this.helpers.type(name).results[0] as ValType;
    if (!this.helpers.wide(name)) return call(index, t, args);
    const e = call(index, "v128", args);
    return t === "i64" ? v.i64x2_extract(e, 0) : v.i32x4_extract(e, 0);
  }
  checkStatus(status: Expr): void {
    this.code.if(status, false);
    this.leaveAt();
    this.code.end();
  }

  // ---- mode ----
  protected get bits64(): boolean {
    return (this.mode & MODE_BITS_MASK) === MODE_BITS_64;
  }
  fpuAvailable(): boolean {
    if ((this.mode & MODE_NO_FPU) === 0) return true;
    this.raise(7);
    return false;
  }
  segBase(seg: number): Expr {
    if (this.bits64 ? seg < FS : (this.mode & MODE_FLAT) !== 0 && seg < FS) return c64(0);
    return i64.load(c32(0), SEG_BASE + seg * 8);
  }
  protected get stackSize(): number {
    return this.bits64 ? 8 : (this.mode & MODE_SS32) !== 0 ? 4 : 2;
  }

  // ---- registers at a size ----
  gprSized(n: number, size: number): Expr {
    const e = this.gpr(n);
    if (size === 8) return e;
    const w = i32.wrap(e);
    return size === 4 ? w : i32.and(w, c32(size === 2 ? 0xffff : 0xff));
  }
  setGprSized(n: number, size: number, e: Expr): void {
    this.setGpr(n, this.merge(this.gpr(n), size, e));
  }
  /** The 64-bit register after writing its low `size` bytes. */
  protected merge(old: Expr, size: number, e: Expr): Expr {
    if (size === 8) return e;
    if (size === 4) return i64.extend_u(e);
    const mask = size === 2 ? 0xffff : 0xff;
    return i64.or(i64.and(old, c64(~mask, -1)), i64.extend_u(i32.and(e, c32(mask))));
  }
  /** Bring a value of any type rule to i64, zero-extended. */
  protected wide(e: Expr | undefined): Expr | undefined {
    return e === undefined || e.t === "i64" ? e : i64.extend_u(e);
  }

  // ---- memory ----
  ea(delta?: Expr): Expr {
    let off = this.eaOffset();
    if (delta !== undefined) {
      off = i64.add(off, delta);
      if (this.insn.asize !== 8) off = i64.and(off, this.insn.asize === 4 ? c64(-1, 0) : c64(0xffff));
    }
    const seg = this.insn.seg;
    if (this.bits64 ? seg < FS : (this.mode & MODE_FLAT) !== 0 && seg < FS) return off;
    const lin = i64.add(off, this.memSegBase());
    return this.bits64 ? lin : i64.and(lin, c64(-1, 0));
  }
  private tlbBase(write: boolean): number {
    return TLB + ((this.mode & MODE_SPACE) !== 0 ? 2 * TLB_ARRAY_SIZE : 0) + (write ? TLB_ARRAY_SIZE : 0);
  }
  private tlbIndex(addr: Expr): Expr {
    return this.let(i32.and(i32.wrap(i64.shr_u(addr, c64(8))), c32((TLB_ENTRIES - 1) << 4)));
  }
  private tlbHit(addr: Expr, index: Expr, size: number, base: number): Expr {
    const last = size === 1 ? addr : i64.add(addr, c64(size - 1));
    return i64.eq(i64.and(last, MASK_PAGE), i64.load(index, base));
  }
  private rawLoad(host: Expr, size: number): Expr {
    switch (size) {
      case 1:
        return i32.load8_u(host);
      case 2:
        return i32.load16_u(host);
      case 4:
        return i32.load(host);
      case 8:
        return i64.load(host);
      default:
        return v.load(host);
    }
  }
  load(addrExpr: Expr, size: number): Expr {
    const addr = this.let(addrExpr);
    const base = this.tlbBase(false);
    const index = this.tlbIndex(addr);
    const host = this.code.newLocal("i32");
    this.temps.push(host);
    this.code.if(this.tlbHit(addr, index, size, base), true);
    this.code.setLocal(host, i32.add(i32.wrap(addr), i32.load(index, base + 8)));
    this.code.else();
    this.code.setLocal(host, this.call("translateR", [addr, c32(size)]));
    this.code.if(i32.eqz(local(host, "i32")), false);
    this.leaveAt();
    this.code.end();
    this.code.end();
    return this.let(this.rawLoad(local(host, "i32"), size));
  }
  store(addrExpr: Expr, size: number, e: Expr): void {
    const addr = this.let(addrExpr);
    const value = this.let(e);
    const base = this.tlbBase(true);
    const index = this.tlbIndex(addr);
    this.code.if(this.tlbHit(addr, index, size, base), true);
    this.code.store(size, i32.add(i32.wrap(addr), i32.load(index, base + 8)), value);
    this.code.else();
    const host = this.code.newLocal("i32");
    this.code.setLocal(host, this.call(this.translateW, [addr, c32(size)]));
    this.code.if(i32.eqz(local(host, "i32")), false);
    this.leaveAt();
    this.code.end();
    this.code.store(size, local(host, "i32"), value);
    this.helperVoid("commitW", []);
    this.afterSlowStore();
    this.code.freeLocal(host);
    this.code.end();
  }
  rmwAt(addrExpr: Expr, size: number): Rmw {
    const addr = this.let(addrExpr);
    const base = this.tlbBase(true);
    const index = this.tlbIndex(addr);
    const host = this.code.newLocal("i32");
    this.temps.push(host);
    const h = local(host, "i32");
    this.code.if(this.tlbHit(addr, index, size, base), true);
    this.code.setLocal(host, i32.add(i32.wrap(addr), i32.load(index, base + 8)));
    this.code.else();
    this.code.setLocal(host, this.call(this.translateW, [addr, c32(size)]));
    this.code.if(i32.eqz(h), false);
    this.leaveAt();
    this.code.end();
    this.code.end();
    const value = this.let(this.rawLoad(h, size));
    return {
      value,
      commit: (e) => {
        this.code.store(size, h, e);
        this.code.if(i32.eq(h, c32(BOUNCE)), false);
        this.helperVoid("commitW", []);
        this.afterSlowStore();
        this.code.end();
      },
    };
  }
  checkAligned16(addr: Expr): void {
    this.raiseIf(i32.and(i32.wrap(addr), c32(15)), 13, 0);
  }
  loadAligned16(addrExpr: Expr): Expr {
    const addr = this.let(addrExpr);
    this.checkAligned16(addr);
    return this.load(addr, 16);
  }
  storeAligned16(addrExpr: Expr, e: Expr): void {
    const addr = this.let(addrExpr);
    this.checkAligned16(addr);
    this.store(addr, 16, e);
  }
  read128(i: number, aligned: boolean): Expr {
    const o = this.insn.ops[i];
    if (o?.kind === K.MEM) return aligned ? this.loadAligned16(this.ea()) : this.load(this.ea(), 16);
    return this.readXmm(i);
  }

  // ---- stack ----
  protected stackAddr(offset: Expr): Expr {
    if (this.bits64) return offset;
    const base = this.segBase(SS);
    const wrapped = i64.and(offset, this.stackSize === 4 ? c64(-1, 0) : c64(0xffff));
    return isConst(base) ? wrapped : i64.and(i64.add(wrapped, base), c64(-1, 0));
  }
  protected setRsp(e: Expr): void {
    const s = this.stackSize;
    if (s === 8) this.setGpr(RSP, e);
    else this.setGprSized(RSP, s, i32.wrap(e));
  }
  push(size: number, e: Expr): void {
    const value = this.let(e);
    const sp = this.let(i64.sub(this.gpr(RSP), c64(size)));
    this.store(this.stackAddr(sp), size, value);
    this.setRsp(sp);
  }
  pop(size: number): Expr {
    const value = this.load(this.stackAddr(this.gpr(RSP)), size);
    this.setRsp(i64.add(this.gpr(RSP), c64(size)));
    return value;
  }

  // ---- faults ----
  raise(vector: number, error = -1): void {
    this.helperVoid("recordFault", [c32(vector), c32(error)]);
    this.leaveAt();
  }
  raiseIf(cond: Expr, vector: number, error = -1): void {
    this.code.if(cond, false);
    this.raise(vector, error);
    this.code.end();
  }
  system(): void {
    // The usual end of these at CPL 3 is #GP(0); it needs no host side to find that out.
    if (((this.mode >> MODE_CPL_SHIFT) & 3) === 3) {
      if (PRIVILEGED.has(this.insn.op)) {
        this.raise(13, 0);
        return;
      }
      if (IOPL_OPS.has(this.insn.op)) this.raiseIf(i32.ne(i32.and(this.efl(), c32(IOPL)), c32(IOPL)), 13, 0);
    }
    this.exit(Exit.SYSTEM, { atNext: false });
  }
  efl(): Expr {
    return i32.load(c32(0), EFL);
  }
  setEfl(e: Expr): void {
    this.code.store(4, c32(0), e, EFL);
  }

  // ---- flags ----
  flags(kind: CcKind, size: number, vals: { a?: Expr; b?: Expr; r?: Expr }): void {
    const [a, b, r] = this.components(kind, vals);
    this.setCc(ccOp(kind, size), a, b, r);
  }
  flagsIf(cond: Expr, kind: CcKind, size: number, vals: { a?: Expr; b?: Expr; r?: Expr }): void {
    const [a, b, r] = this.components(kind, vals);
    this.setCcIf(cond, ccOp(kind, size), a, b, r);
  }
  /** As i64; what the kind looks at and the emitter leaves out is zero, not what an earlier operation left there. */
  private components(
    kind: CcKind,
    vals: { a?: Expr; b?: Expr; r?: Expr },
  ): [Expr | undefined, Expr | undefined, Expr | undefined] {
    const looks = CC_LOOKS[kind];
    const one = (e: Expr | undefined, bit: number): Expr | undefined =>
      e === undefined && (looks & bit) !== 0 ? c64(0) : this.wide(e);
    return [one(vals.a, 1), one(vals.b, 2), one(vals.r, 4)];
  }
  setFlagsImage(image: Expr): void {
    this.setCc(ccOp(CC.FLAGS, 1), i64.extend_u(image), undefined, undefined);
  }
  flagsImage(): Expr {
    const s = this.cc();
    if (s.op < 0) return this.let(this.call("ccFlags", [s.dynamicOp, s.a, s.b, s.r]));
    if (s.op >> 2 === CC.FLAGS) return this.let(i32.and(i32.wrap(s.a), c32(CF | PF | AF | ZF | SF | OF)));
    return this.let(this.call("ccFlags", [c32(s.op), s.a, s.b, s.r]));
  }
  cond(cc: number): Expr {
    const s = this.cc();
    if (s.op < 0) return this.let(this.call("ccCond", [s.dynamicOp, s.a, s.b, s.r, c32(cc)]));
    return this.let(condExpr(s, cc));
  }
  cf(): Expr {
    return this.cond(2);
  }
}

const bool = (e: Expr): Expr => i32.ne(e, c32(0));

/** A condition code as an expression of 0 or 1, for a known flag operation. */
export function condExpr(s: CcState, cc: number): Expr {
  const negate = (cc & 1) !== 0;
  const e = positive(s, cc & ~1);
  return negate ? i32.eqz(e) : e;
}

/** i64 to i32, without the detour of a value that was widened before. */
function narrow(e: Expr): Expr {
  if (e.n === N.OP && e.code === 0xad) return e.args[0] as Expr;
  const m = e.args[1];
  if (e.n === N.OP && e.code === 0x83 && m?.n === N.I64 && m.lo === -1) return i32.wrap(e.args[0] as Expr);
  return i32.wrap(e);
}

function positive(s: CcState, cc: number): Expr {
  const kind = s.op >> 2;
  const size = 1 << (s.op & 3);
  const wide = size === 8;
  const I = wide ? i64 : i32;
  const val = (e: Expr): Expr => (wide ? e : narrow(e));
  const zero = wide ? c64(0) : c32(0);
  /** Sign-extend a value of the operation's size within its wasm type. */
  const sx = (e: Expr): Expr => (size === 1 ? i32.extend8_s(e) : size === 2 ? i32.extend16_s(e) : e);
  /** The top bit of a value of the operation's size as 0 or 1. */
  const top = (e: Expr): Expr =>
    wide ? i32.wrap(i64.shr_u(e, c64(63))) : i32.and(i32.shr_u(e, c32(size * 8 - 1)), c32(1));
  const a = val(s.a);
  const b = val(s.b);
  const r = val(s.r);
  if (kind === CC.FLAGS) {
    const f = i32.wrap(s.a);
    const bit = (m: number): Expr => bool(i32.and(f, c32(m)));
    switch (cc) {
      case 0:
        return bit(OF);
      case 2:
        return bit(CF);
      case 4:
        return bit(ZF);
      case 6:
        return bit(CF | ZF);
      case 8:
        return bit(SF);
      case 10:
        return bit(PF);
      case 12:
        return i32.xor(bit(SF), bit(OF));
      default:
        return i32.or(bit(ZF), i32.xor(bit(SF), bit(OF)));
    }
  }
  // A difference that was computed anyway needs no second comparison; one that was not (cmp) is compared.
  const zf = (): Expr => (kind === CC.SUB && r.n !== N.LOCAL ? I.eq(a, b) : I.eqz(r));
  const sf = (): Expr => (size >= 4 ? I.lt_s(r, zero) : top(r));
  const cf = (): Expr => {
    switch (kind) {
      case CC.ADD:
        return I.lt_u(r, a);
      case CC.SUB:
        return I.lt_u(a, b);
      case CC.ADC:
        return top(I.or(I.and(a, b), I.and(I.or(a, b), I.xor(r, wide ? c64(-1) : c32(-1)))));
      case CC.SBB: {
        const na = I.xor(a, wide ? c64(-1) : c32(-1));
        return top(I.or(I.and(na, b), I.and(I.or(na, b), r)));
      }
      case CC.INC:
      case CC.DEC:
        return i32.wrap(s.b);
      case CC.RES:
        return i32.wrap(s.a);
      default:
        return c32(0);
    }
  };
  const of = (): Expr => {
    switch (kind) {
      case CC.ADD:
      case CC.ADC:
        return top(I.and(I.xor(a, r), I.xor(b, r)));
      case CC.SUB:
      case CC.SBB:
        return top(I.and(I.xor(a, b), I.xor(a, r)));
      case CC.INC:
        return I.eq(r, minOf(size));
      case CC.DEC:
        return I.eq(r, maxOf(size));
      case CC.RES:
        return i32.wrap(s.b);
      default:
        return c32(0);
    }
  };
  switch (cc) {
    case 0:
      return of();
    case 2:
      return cf();
    case 4:
      return zf();
    case 6:
      if (kind === CC.SUB) return I.le_u(a, b);
      if (kind === CC.LOGIC) return zf();
      return i32.or(cf(), zf());
    case 8:
      return sf();
    case 10:
      return i32.and(i32.xor(i32.popcnt(i32.and(i32.wrap(s.r), c32(0xff))), c32(1)), c32(1));
    case 12:
      if (kind === CC.SUB) return I.lt_s(sx(a), sx(b));
      if (kind === CC.LOGIC) return sf();
      return i32.xor(sf(), of());
    default:
      if (kind === CC.SUB) return I.le_s(sx(a), sx(b));
      if (kind === CC.LOGIC) return I.le_s(sx(r), zero);
      return i32.or(zf(), i32.xor(sf(), of()));
  }
}

function minOf(size: number): Expr {
  return size === 8 ? c64(0, 0x80000000 | 0) : c32(size === 4 ? 0x80000000 | 0 : size === 2 ? 0x8000 : 0x80);
}
function maxOf(size: number): Expr {
  return size === 8 ? c64(-1, 0x7fffffff) : c32(size === 4 ? 0x7fffffff : size === 2 ? 0x7fff : 0x7f);
}
