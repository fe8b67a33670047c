/**
 * Writes WebAssembly: function bodies (`Code`) and modules (`ModuleBuilder`).
 *
 * Only what the code generators need: one imported memory, imported functions, functions, exports, and the branch hints of the "metadata.code.branch_hint" section (branch hinting proposal).
 */
import { N, STORE, type Expr, type ValType } from "./expr.js";

const TYPE: Record<ValType, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };

/** A growing byte buffer with LEB128. */
export class Bytes {
  buf: Uint8Array;
  len = 0;
  constructor(size = 1024) {
    this.buf = new Uint8Array(size);
  }
  /** Make sure that `need` more bytes fit, for who writes into `buf` itself. */
  room(need: number): void {
    if (this.len + need > this.buf.length) this.grow(need);
  }
  private grow(need: number): void {
    let size = this.buf.length * 2;
    while (size < this.len + need) size *= 2;
    const next = new Uint8Array(size);
    next.set(this.buf.subarray(0, this.len));
    this.buf = next;
  }
  u8(b: number): void {
    if (this.len + 1 > this.buf.length) this.grow(1);
    this.buf[this.len++] = b;
  }
  bytes(b: Uint8Array): void {
    if (this.len + b.length > this.buf.length) this.grow(b.length);
    this.buf.set(b, this.len);
    this.len += b.length;
  }
  /** Unsigned LEB128 of a value below 2^32. */
  u32(value: number): void {
    let x = value >>> 0;
    if (x < 0x80) {
      if (this.len + 1 > this.buf.length) this.grow(1);
      this.buf[this.len++] = x;
      return;
    }
    while (x > 0x7f) {
      this.u8((x & 0x7f) | 0x80);
      x >>>= 7;
    }
    this.u8(x);
  }
  /** Signed LEB128 of an int32. */
  s32(value: number): void {
    let x = value | 0;
    if (x >= -64 && x < 64) {
      if (this.len + 1 > this.buf.length) this.grow(1);
      this.buf[this.len++] = x & 0x7f;
      return;
    }
    for (;;) {
      const b = x & 0x7f;
      x >>= 7;
      if ((x === 0 && (b & 0x40) === 0) || (x === -1 && (b & 0x40) !== 0)) {
        this.u8(b);
        return;
      }
      this.u8(b | 0x80);
    }
  }
  /** Signed LEB128 of a 64-bit value in halves. */
  s64(lo: number, hi: number): void {
    let l = lo | 0;
    let h = hi | 0;
    if (h === l >> 31) {
      this.s32(l);
      return;
    }
    for (;;) {
      const b = l & 0x7f;
      l = (l >>> 7) | (h << 25);
      h >>= 7;
      const done = (l === 0 && h === 0 && (b & 0x40) === 0) || (l === -1 && h === -1 && (b & 0x40) !== 0);
      if (done) {
        this.u8(b);
        return;
      }
      this.u8(b | 0x80);
    }
  }
  /** 32 bits, lowest byte first. */
  word(bits: number): void {
    for (let i = 0; i < 32; i += 8) this.u8((bits >>> i) & 0xff);
  }
  name(s: string): void {
    const b = new Uint8Array(s.length);
    for (let i = 0; i < s.length; i++) b[i] = s.charCodeAt(i);
    this.u32(b.length);
    this.bytes(b);
  }
  take(): Uint8Array {
    return this.buf.slice(0, this.len);
  }
}

export interface FuncType {
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
}

/** Which way a branch usually goes: false = rarely taken. */
export type Hint = boolean | undefined;

/** The body of one function while it is written. Labels are absolute nesting depths, turned into relative ones here. */
export class Code {
  readonly out = new Bytes(2048);
  private readonly localTypes: ValType[] = [];
  private free: Map<ValType, number[]> = new Map();
  readonly hints: { at: number; likely: boolean }[] = [];
  depth = 0;
  constructor(readonly type: FuncType) {}

  newLocal(t: ValType): number {
    const free = this.free.get(t);
    const reused = free?.pop();
    if (reused !== undefined) return reused;
    this.localTypes.push(t);
    return this.type.params.length + this.localTypes.length - 1;
  }
  freeLocal(index: number): void {
    if (index < this.type.params.length) return;
    const t = this.localTypes[index - this.type.params.length] as ValType;
    const list = this.free.get(t);
    if (list) list.push(index);
    else this.free.set(t, [index]);
  }

  private op(code: number): void {
    if (code >= 0xfd0000) {
      this.out.u8(0xfd);
      this.out.u32(code & 0xffff);
    } else if (code >= 0xfc00) {
      this.out.u8(0xfc);
      this.out.u32(code & 0xff);
    } else this.out.u8(code);
  }

  expr(e: Expr): void {
    const o = this.out;
    const args = e.args;
    // The usual nodes are written without calls: this is the busiest function of a translation, and runs before V8 has optimised it.
    const { code, n } = e;
    if (n === N.LOCAL) {
      o.room(6);
      o.buf[o.len++] = 0x20;
      if (code < 0x80) o.buf[o.len++] = code;
      else o.u32(code);
      return;
    }
    const count = args.length;
    if (count > 0) {
      this.expr(args[0] as Expr);
      if (count > 1) {
        this.expr(args[1] as Expr);
        for (let i = 2; i < count; i++) this.expr(args[i] as Expr);
      }
    }
    switch (n) {
      case N.I32:
        o.room(2);
        o.buf[o.len++] = 0x41;
        if (e.lo >= -64 && e.lo < 64) o.buf[o.len++] = e.lo & 0x7f;
        else o.s32(e.lo);
        break;
      case N.I64:
        o.u8(0x42);
        o.s64(e.lo, e.hi);
        break;
      case N.OP:
        if (code < 0x100) {
          o.room(1);
          o.buf[o.len++] = code;
        } else this.op(code);
        break;
      case N.LOAD:
        this.op(code);
        o.u32(0);
        o.u32(e.lo);
        break;
      case N.CALL:
        o.u8(0x10);
        o.u32(e.code);
        break;
      case N.F64:
        o.u8(0x44);
        o.word(e.lo);
        o.word(e.hi);
        break;
      case N.F32:
        o.u8(0x43);
        o.word(e.lo);
        break;
      case N.LANE:
        this.op(e.code);
        o.u8(e.lo);
        break;
      case N.V128:
        o.u8(0xfd);
        o.u32(12);
        o.bytes(e.bytes as Uint8Array);
        break;
      case N.SHUFFLE:
        o.u8(0xfd);
        o.u32(13);
        o.bytes(e.bytes as Uint8Array);
        break;
      case N.GLOBAL:
        o.u8(0x23);
        o.u32(e.code);
        break;
      case N.SELECT:
        if (e.t === "v128") {
          o.u8(0x1c);
          o.u8(1);
          o.u8(TYPE.v128);
        } else o.u8(0x1b);
        break;
      default:
        throw new Error(`wasm: unknown expression node ${e.n}`);
    }
  }

  setLocal(index: number, e: Expr): void {
    this.expr(e);
    this.out.u8(0x21);
    this.out.u32(index);
  }
  setGlobal(index: number, e: Expr): void {
    this.expr(e);
    this.out.u8(0x24);
    this.out.u32(index);
  }
  /** Store `value` (its low `size` bytes) at `addr + offset`. */
  store(size: number, addr: Expr, value: Expr, offset = 0): void {
    const code = (STORE[value.t] as Record<number, number>)[size];
    if (code === undefined) throw new Error(`wasm: no ${value.t} store of ${size} bytes`);
    this.expr(addr);
    this.expr(value);
    this.op(code);
    this.out.u32(0);
    this.out.u32(offset);
  }
  drop(e: Expr): void {
    this.expr(e);
    this.out.u8(0x1a);
  }
  /** Call a function without a result. */
  callVoid(fn: number, args: readonly Expr[]): void {
    for (const a of args) this.expr(a);
    this.out.u8(0x10);
    this.out.u32(fn);
  }
  return(e?: Expr): void {
    if (e) this.expr(e);
    this.out.u8(0x0f);
  }
  unreachable(): void {
    this.out.u8(0x00);
  }
  /** memory.copy / memory.fill */
  memoryCopy(dst: Expr, src: Expr, len: Expr): void {
    this.expr(dst);
    this.expr(src);
    this.expr(len);
    this.out.u8(0xfc);
    this.out.u8(10);
    this.out.u8(0);
    this.out.u8(0);
  }
  memoryFill(dst: Expr, value: Expr, len: Expr): void {
    this.expr(dst);
    this.expr(value);
    this.expr(len);
    this.out.u8(0xfc);
    this.out.u8(11);
    this.out.u8(0);
  }

  /** Open a block; returns its label, to be used with `br`. */
  block(): number {
    this.out.u8(0x02);
    this.out.u8(0x40);
    return ++this.depth;
  }
  loop(): number {
    this.out.u8(0x03);
    this.out.u8(0x40);
    return ++this.depth;
  }
  if(cond: Expr, likely?: Hint): number {
    this.expr(cond);
    this.hint(likely);
    this.out.u8(0x04);
    this.out.u8(0x40);
    return ++this.depth;
  }
  else(): void {
    this.out.u8(0x05);
  }
  end(): void {
    this.out.u8(0x0b);
    this.depth--;
  }
  br(label: number): void {
    this.out.u8(0x0c);
    this.out.u32(this.depth - label);
  }
  brIf(label: number, cond: Expr, likely?: Hint): void {
    this.expr(cond);
    this.hint(likely);
    this.out.u8(0x0d);
    this.out.u32(this.depth - label);
  }
  brTable(index: Expr, labels: readonly number[], otherwise: number): void {
    this.expr(index);
    this.out.u8(0x0e);
    this.out.u32(labels.length);
    for (const l of labels) this.out.u32(this.depth - l);
    this.out.u32(this.depth - otherwise);
  }
  private hint(likely: Hint): void {
    if (likely !== undefined) this.hints.push({ at: this.out.len, likely });
  }

  /** The finished body: local declarations and code; hint offsets are relative to the start of the declarations. */
  finish(): { body: Uint8Array; hints: { at: number; likely: boolean }[] } {
    const head = new Bytes(this.out.len + 64);
    const runs: { t: ValType; n: number }[] = [];
    for (const t of this.localTypes) {
      const last = runs[runs.length - 1];
      if (last && last.t === t) last.n++;
      else runs.push({ t, n: 1 });
    }
    head.u32(runs.length);
    for (const r of runs) {
      head.u32(r.n);
      head.u8(TYPE[r.t]);
    }
    const shift = head.len;
    head.bytes(this.out.buf.subarray(0, this.out.len));
    head.u8(0x0b);
    return {
      body: head.buf.subarray(0, head.len),
      hints: this.hints.map((h) => ({ at: h.at + shift, likely: h.likely })),
    };
  }
}

/** Collects imports, functions and exports and writes the binary. Imports must all be added before the first function. */
export class ModuleBuilder {
  private readonly types: FuncType[] = [];
  private readonly typeKeys = new Map<string, number>();
  private readonly imports: { module: string; name: string; type: number }[] = [];
  private readonly funcs: { type: number; code: Code }[] = [];
  private readonly exports: { name: string; index: number }[] = [];
  private memory: { module: string; name: string; shared: boolean; min: number; max: number } | undefined;

  typeIndex(t: FuncType): number {
    const key = `${t.params.join()}>${t.results.join()}`;
    let i = this.typeKeys.get(key);
    if (i === undefined) {
      i = this.types.push(t) - 1;
      this.typeKeys.set(key, i);
    }
    return i;
  }
  importMemory(module: string, name: string, shared: boolean, min: number, max: number): void {
    this.memory = { module, name, shared, min, max };
  }
  importFunc(module: string, name: string, type: FuncType): number {
    if (this.funcs.length > 0) throw new Error("wasm: import after the first function");
    return this.imports.push({ module, name, type: this.typeIndex(type) }) - 1;
  }
  addFunc(code: Code, exportName?: string): number {
    const index = this.imports.length + this.funcs.push({ type: this.typeIndex(code.type), code }) - 1;
    if (exportName !== undefined) this.exports.push({ name: exportName, index });
    return index;
  }
  finish(): Uint8Array<ArrayBuffer> {
    const out = new Bytes();
    out.bytes(new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]));
    const section = (id: number, fill: (b: Bytes) => void): void => {
      const b = new Bytes();
      fill(b);
      out.u8(id);
      out.u32(b.len);
      out.bytes(b.buf.subarray(0, b.len));
    };
    section(1, (b) => {
      b.u32(this.types.length);
      for (const t of this.types) {
        b.u8(0x60);
        b.u32(t.params.length);
        for (const p of t.params) b.u8(TYPE[p]);
        b.u32(t.results.length);
        for (const r of t.results) b.u8(TYPE[r]);
      }
    });
    section(2, (b) => {
      b.u32(this.imports.length + (this.memory ? 1 : 0));
      for (const i of this.imports) {
        b.name(i.module);
        b.name(i.name);
        b.u8(0);
        b.u32(i.type);
      }
      if (this.memory) {
        b.name(this.memory.module);
        b.name(this.memory.name);
        b.u8(2);
        b.u8(this.memory.shared ? 3 : 1);
        b.u32(this.memory.min);
        b.u32(this.memory.max);
      }
    });
    section(3, (b) => {
      b.u32(this.funcs.length);
      for (const f of this.funcs) b.u32(f.type);
    });
    if (this.exports.length > 0)
      section(7, (b) => {
        b.u32(this.exports.length);
        for (const e of this.exports) {
          b.name(e.name);
          b.u8(0);
          b.u32(e.index);
        }
      });
    const bodies = this.funcs.map((f) => f.code.finish());
    if (bodies.some((x) => x.hints.length > 0))
      section(0, (b) => {
        b.name("metadata.code.branch_hint");
        b.u32(bodies.filter((x) => x.hints.length > 0).length);
        bodies.forEach((body, i) => {
          if (body.hints.length === 0) return;
          b.u32(this.imports.length + i);
          b.u32(body.hints.length);
          for (const h of body.hints) {
            b.u32(h.at);
            b.u32(1);
            b.u8(h.likely ? 1 : 0);
          }
        });
      });
    section(10, (b) => {
      b.u32(bodies.length);
      for (const x of bodies) {
        b.u32(x.body.length);
        b.bytes(x.body);
      }
    });
    return out.take() as Uint8Array<ArrayBuffer>;
  }
}
