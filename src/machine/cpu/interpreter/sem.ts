/**
 * The interpreter's half of `Sem`: a handler `(record) → status` whose operands come from the pre-decoded record, so that one
 * handler serves every instruction of the same shape. Statuses are layout's ST_*.
 */
import {
  CC_A,
  CC_B,
  CC_OP,
  CC_R,
  CODE_PAGE,
  EXIT_LENGTH,
  FPR,
  GPR,
  MODE_BITS_64,
  MODE_BITS_MASK,
  REC_BASE,
  REC_DISP,
  REC_IMM,
  REC_INDEX,
  REC_LEN,
  REC_NEXT,
  REC_R0,
  REC_SCALE,
  REC_SEG,
  RIP,
  SMC_PENDING,
  ST_AFTER,
  ST_AT,
  ST_END,
  ST_JUMP,
  ST_NEXT,
  XMM,
} from "../../layout.js";
import { c32, c64, i32, i64, local, select, v, type Expr } from "../../wasm/expr.js";
import { Code } from "../../wasm/encoder.js";
import { K, type Insn, type Operand } from "../insn.js";
import type { Rmw } from "../sem/context.js";
import { BaseSem, type CcState, type Helpers } from "../sem/base.js";

const ZERO32 = c32(0);
const REC = local(0, "i32");

/** What is known about the lazy flags after an instruction: an operation, or one of these. */
export const CC_UNKNOWN = -1;
export const CC_SAME = -2;

export class InterpreterSem extends BaseSem {
  protected readonly translateW = "translateW";
  /** Local of the status after an instruction that goes on; −1: it is ST_NEXT. */
  protected status = -1;
  /** Did the emitter read the flags? Then the handler depends on the known operation. */
  usedCc = false;
  ccAfter = CC_SAME;

  constructor(
    mode: number,
    helpers: Helpers,
    override readonly insn: Insn,
    /** Immediates are constants in this shape. */
    private readonly staticImm: boolean,
    /** The flag operation known to be current, or CC_UNKNOWN. */
    private readonly known: number,
    code: Code = new Code({ params: ["i32"], results: ["i32"] }),
  ) {
    super(code, mode, helpers);
  }

  /** Close the handler. */
  finish(): Code {
    this.leave(this.status >= 0 ? local(this.status, "i32") : c32(ST_NEXT));
    return this.code;
  }
  /** A local that is ST_NEXT here, and where this code is not reached. */
  protected statusLocal(): number {
    return this.code.newLocal("i32");
  }
  /** Stop with a status. */
  protected leave(status: Expr): void {
    this.code.return(status);
  }

  private operand(i: number): Operand {
    const o = this.insn.ops[i];
    if (o === undefined) throw new Error(`${this.insn.op}: no operand ${i}`);
    return o;
  }
  private regAddr(i: number): Expr {
    return i32.load16_u(REC, REC_R0 + 2 * i);
  }

  read(i: number): Expr {
    const o = this.operand(i);
    switch (o.kind) {
      case K.GPR:
      case K.XMM:
      case K.MMX:
        return this.let(this.rawAt(this.regAddr(i), o.size));
      case K.MEM:
        return this.load(this.ea(), o.size);
      case K.IMM: {
        const size = i === 0 ? o.size : this.operand(0).size;
        if (size === 8) return this.imm64();
        const imm = this.imm32();
        return size === 4 ? imm : i32.and(imm, c32(size === 2 ? 0xffff : 0xff));
      }
      default:
        throw new Error(`${this.insn.op}: cannot read operand kind ${o.kind}`);
    }
  }
  private rawAt(addr: Expr, size: number): Expr {
    switch (size) {
      case 1:
        return i32.load8_u(addr);
      case 2:
        return i32.load16_u(addr);
      case 4:
        return i32.load(addr);
      case 8:
        return i64.load(addr);
      default:
        return v.load(addr);
    }
  }
  write(i: number, e: Expr): void {
    const o = this.operand(i);
    if (o.kind === K.MEM) {
      this.store(this.ea(), o.size, e);
      return;
    }
    if (o.kind === K.MMX) this.writeMmx(i, e);
    else if (o.kind === K.GPR && o.size === 4) this.code.store(8, this.regAddr(i), i64.extend_u(e));
    else this.code.store(o.size, this.regAddr(i), e);
  }
  rmw(i: number): Rmw {
    const o = this.operand(i);
    if (o.kind === K.MEM) return this.rmwAt(this.ea(), o.size);
    return { value: this.read(i), commit: (e) => this.write(i, e) };
  }
  imm32(): Expr {
    return this.staticImm ? c32(this.insn.imm) : i32.load(REC, REC_IMM);
  }
  imm64(): Expr {
    return this.staticImm ? c64(this.insn.imm, this.insn.immHi) : i64.load(REC, REC_IMM);
  }

  gpr(n: number): Expr {
    return this.let(i64.load(ZERO32, GPR + n * 8));
  }
  setGpr(n: number, e: Expr): void {
    this.code.store(8, ZERO32, e, GPR + n * 8);
  }
  eaOffset(): Expr {
    const n = this.insn;
    let e: Expr | undefined;
    if (n.memBase >= 0) e = i64.load(i32.load16_u(REC, REC_BASE));
    if (n.memIndex >= 0) {
      const x = i64.load(i32.load16_u(REC, REC_INDEX));
      const scaled = n.memScale === 0 ? x : i64.shl(x, i64.load8_u(REC, REC_SCALE));
      e = e ? i64.add(e, scaled) : scaled;
    }
    const disp = i64.load(REC, REC_DISP);
    e = e ? i64.add(e, disp) : disp;
    if (n.asize === 4) e = i64.and(e, c64(-1, 0));
    else if (n.asize === 2) e = i64.and(e, c64(0xffff));
    return e;
  }
  protected memSegBase(): Expr {
    return i64.load(i32.load16_u(REC, REC_SEG));
  }
  readXmm(i: number): Expr {
    return this.let(v.load(this.regAddr(i)));
  }
  writeXmm(i: number, e: Expr): void {
    this.code.store(16, this.regAddr(i), e);
  }
  readMmx(i: number): Expr {
    return this.let(i64.load(this.regAddr(i)));
  }
  writeMmx(i: number, e: Expr): void {
    this.code.store(8, this.regAddr(i), e);
    this.code.store(2, this.regAddr(i), c32(0xffff), 8);
  }
  /** The state block is where the interpreter works. */
  syncXmm(): void {}
  reloadXmm(): void {}
  xmm(n: number): Expr {
    return this.let(v.load(ZERO32, XMM + n * 16));
  }
  setXmm(n: number, e: Expr): void {
    this.code.store(16, ZERO32, e, XMM + n * 16);
  }
  protected numberOf(i: number): Expr {
    return this.regAddr(i);
  }

  protected cc(): CcState {
    this.usedCc = true;
    return {
      op: this.known,
      a: i64.load(ZERO32, CC_A),
      b: i64.load(ZERO32, CC_B),
      r: i64.load(ZERO32, CC_R),
      dynamicOp: i32.load(ZERO32, CC_OP),
    };
  }
  protected setCc(op: number, a: Expr | undefined, b: Expr | undefined, r: Expr | undefined): void {
    if (a) this.code.store(8, ZERO32, a, CC_A);
    if (b) this.code.store(8, ZERO32, b, CC_B);
    if (r) this.code.store(8, ZERO32, r, CC_R);
    this.code.store(4, ZERO32, c32(op), CC_OP);
    this.ccAfter = op;
  }
  protected setCcIf(cond: Expr, op: number, a: Expr | undefined, b: Expr | undefined, r: Expr | undefined): void {
    this.code.if(cond);
    this.setCc(op, a, b, r);
    this.code.end();
    this.ccAfter = CC_UNKNOWN;
  }

  nextRip(): Expr {
    return this.let(this.wrapRip(i64.add(i64.load(ZERO32, CODE_PAGE), i64.load(REC, REC_NEXT)), 4));
  }
  private wrapRip(e: Expr, osize: number): Expr {
    if ((this.mode & MODE_BITS_MASK) === MODE_BITS_64) return e;
    return i64.and(e, osize === 2 ? c64(0xffff) : c64(-1, 0));
  }
  /** Only a branch that is taken cuts rip to the operand size. */
  private relTarget(): Expr {
    return this.wrapRip(i64.add(i64.load(ZERO32, CODE_PAGE), i64.load(REC, REC_IMM)), this.insn.osize);
  }
  private setRip(e: Expr): void {
    this.code.store(8, ZERO32, e, RIP);
    this.leave(c32(ST_JUMP));
  }
  jumpRel(): void {
    this.setRip(this.relTarget());
  }
  branchIf(cond: Expr): void {
    const c = this.let(cond);
    this.setRip(select(c, this.relTarget(), this.nextRip()));
  }
  jumpTo(target: Expr, _kind: "jmp" | "call" | "ret"): void {
    const t = this.let(target);
    if (this.bits64) this.raiseIf(i64.ne(i64.shr_s(i64.shl(t, c64(16)), c64(16)), t), 13, 0);
    this.setRip(t);
  }
  exit(reason: number, opts: { atNext: boolean; vector?: number; vectorExpr?: Expr }): void {
    this.helperVoid("recordExit", [c32(reason), opts.vectorExpr ?? c32(opts.vector ?? 0)]);
    this.code.store(4, ZERO32, i32.load8_u(REC, REC_LEN), EXIT_LENGTH);
    this.leave(c32(opts.atNext ? ST_AFTER : ST_AT));
  }
  endBlock(): void {
    this.leave(c32(ST_END));
  }
  /** No helper sets flags (those that have some to give return an image): what is known about them stays known. */
  stateHelper(name: string, args: readonly Expr[], _regs: readonly number[]): void {
    this.code.if(this.call(name, args), false);
    this.leaveAt();
    this.code.end();
    this.afterSlowStore();
  }
  helperStored(): void {
    this.afterSlowStore();
  }
  protected leaveAt(): void {
    this.leave(c32(ST_AT));
  }
  protected afterSlowStore(): void {
    if (this.status < 0) this.status = this.statusLocal();
    this.code.if(i32.load(ZERO32, SMC_PENDING), false);
    this.code.setLocal(this.status, c32(ST_END));
    this.code.end();
  }
}

/** Absolute address of an operand's register in the state block (the register number itself for kinds without one). */
export function registerAddress(o: Operand): number {
  switch (o.kind) {
    case K.GPR:
      return GPR + o.reg * 8 + (o.high ? 1 : 0);
    case K.XMM:
      return XMM + o.reg * 16;
    case K.MMX:
      return FPR + o.reg * 16;
    default:
      return o.reg;
  }
}
