/**
 * Runs guest code through translated regions alone: no interpreter, no page tables. Guest addresses are machine addresses.
 * Cold code runs as regions of one block, which also count; a hot block becomes the entry of a real region.
 */
import { decode } from "../../src/machine/cpu/decode/index.js";
import type { Va } from "../../src/machine/cpu/api.js";
import type { Insn } from "../../src/machine/cpu/insn.js";
import type { Helpers } from "../../src/machine/cpu/sem/base.js";
import type { OpTable } from "../../src/machine/cpu/sem/context.js";
import { intHelpers } from "../../src/machine/cpu/sem/helpers-int.js";
import { translateRegion, type Region, type TranslateOptions } from "../../src/machine/cpu/translator/index.js";
import * as L from "../../src/machine/layout.js";
import { PhysMem } from "../../src/machine/memory.js";
import { ModuleBuilder, type FuncType } from "../../src/machine/wasm/encoder.js";

export const CORE_TYPES: Record<string, FuncType> = {
  translateR: { params: ["i64", "i32"], results: ["i32"] },
  translateWx: { params: ["i64", "i32"], results: ["i32"] },
  commitW: { params: [], results: [] },
  recordFault: { params: ["i32", "i32"], results: [] },
  recordExit: { params: ["i32", "i32"], results: [] },
  ccFlags: { params: ["i32", "i64", "i64", "i64"], results: ["i32"] },
  ccCond: { params: ["i32", "i64", "i64", "i64", "i32"], results: ["i32"] },
  rdtsc: { params: [], results: ["i64"] },
  ...intHelpers,
};

/** Imports every function that is asked for; a module's region functions come after them. */
export class Imports implements Helpers {
  readonly names: string[] = [];
  constructor(private readonly types: Record<string, FuncType>) {}
  index(name: string): number {
    const i = this.names.indexOf(name);
    return i >= 0 ? i : this.names.push(name) - 1;
  }
  wide(): boolean {
    return false;
  }
  type(name: string): FuncType {
    const t = this.types[name];
    if (!t) throw new Error(`no helper ${name}`);
    return t;
  }
}

export type RegionFunction = (entry: number) => number;

export interface Built {
  region: Region;
  run: RegionFunction;
  bytes: number;
  translateMs: number;
}

/** The flags of a lazy description, as flags.ts says, in BigInt (tests and cold paths). */
export function flagsOf(op: number, a: bigint, b: bigint, r: bigint): number {
  const bits = 8n << BigInt(op & 3);
  const m = (1n << bits) - 1n;
  const kind = op >> 2;
  if (kind === 0) return Number(a & 0x8d5n);
  a &= m;
  b &= m;
  r &= m;
  const top = (x: bigint): boolean => (x & m) >> (bits - 1n) === 1n;
  let cf = false;
  let of = false;
  let af = false;
  const axr = (a ^ b ^ r) & 16n;
  switch (kind) {
    case 1:
      cf = r < a;
      of = top((a ^ r) & (b ^ r));
      af = axr !== 0n;
      break;
    case 2:
      cf = top((a & b) | ((a | b) & ~r));
      of = top((a ^ r) & (b ^ r));
      af = axr !== 0n;
      break;
    case 3:
      cf = a < b;
      of = top((a ^ b) & (a ^ r));
      af = axr !== 0n;
      break;
    case 4:
      cf = top((~a & b) | ((~a | b) & r));
      of = top((a ^ b) & (a ^ r));
      af = axr !== 0n;
      break;
    case 6:
      cf = (b & 1n) === 1n;
      of = r === 1n << (bits - 1n);
      af = (r & 15n) === 0n;
      break;
    case 7:
      cf = (b & 1n) === 1n;
      of = r === (1n << (bits - 1n)) - 1n;
      af = (r & 15n) === 15n;
      break;
    case 8:
      cf = (a & 1n) === 1n;
      of = (b & 1n) === 1n;
      break;
  }
  let parity = Number(r & 255n);
  parity ^= parity >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return (
    (cf ? 1 : 0) |
    ((parity & 1) === 0 ? 4 : 0) |
    (af ? 16 : 0) |
    (r === 0n ? 64 : 0) |
    (top(r) ? 128 : 0) |
    (of ? 0x800 : 0)
  );
}
function condOf(f: number, cc: number): number {
  const bit = (m: number): boolean => (f & m) !== 0;
  const less = bit(128) !== bit(0x800);
  const yes = [bit(0x800), bit(1), bit(64), bit(65), bit(128), bit(4), less, less || bit(64)][cc >> 1] as boolean;
  return yes !== ((cc & 1) === 1) ? 1 : 0;
}

export class Machine {
  readonly mem: PhysMem;
  readonly view: DataView;
  /** Pages that fault, by number. */
  readonly absent = new Set<number>();
  /** Pages that hold "decoded code": stores there return 0. */
  readonly codePages = new Set<number>();
  readonly counts = new Map<Va, number>();
  readonly observed = new Map<Va, Set<Va>>();
  readonly blocks = new Map<Va, Built>();
  readonly regions = new Map<Va, { built: Built; entry: number }>();
  readonly built: Built[] = [];
  mode = L.MODE_BITS_64 | L.MODE_FLAT;
  hot = 50;
  misses = 0;
  leaves = 0;
  retired = 0;
  private readonly decoded = new Map<Va, Insn | null>();
  private readonly functions: Record<string, (...args: never[]) => unknown>;

  constructor(
    readonly ops: OpTable,
    readonly opts: TranslateOptions = {},
    bytes = 48 << 20,
    types: Record<string, FuncType> = CORE_TYPES,
    extra: Record<string, (...args: never[]) => unknown> = {},
  ) {
    this.types = types;
    this.mem = new PhysMem(bytes);
    this.view = new DataView(this.mem.buffer);
    const v = this.view;
    this.flushTlb();
    v.setInt32(L.EFL, 0x202, true);
    v.setInt32(L.MODE, this.mode, true);
    const map = (write: boolean) => (va: bigint, size: number) => {
      this.misses++;
      const addr = Number(va);
      const last = addr + size - 1;
      for (const a of [addr, last])
        if (a < L.ENGINE_END || a >= this.mem.frames * 4096 || this.absent.has(Math.floor(a / 4096))) {
          this.record(2, 14);
          v.setInt32(L.EXIT_ERROR, write ? 6 : 4, true);
          v.setBigInt64(L.EXIT_CR2, BigInt(a === addr ? addr : Math.floor(last / 4096) * 4096), true);
          return 0;
        }
      if (write && (this.codePages.has(addr >>> 12) || this.codePages.has(last >>> 12))) return 0;
      const page = Math.floor(addr / 4096) * 4096;
      const entry = L.TLB + (write ? L.TLB_ARRAY_SIZE : 0) + ((addr >>> 8) & ((L.TLB_ENTRIES - 1) << 4));
      v.setBigInt64(entry, BigInt(page), true);
      v.setInt32(entry + 8, 0, true);
      return addr;
    };
    this.functions = {
      translateR: map(false),
      translateWx: map(true),
      commitW: () => undefined,
      recordFault: (vector: number, error: number) => {
        this.record(2, vector);
        v.setInt32(L.EXIT_ERROR, error, true);
      },
      recordExit: (reason: number, vector: number) => this.record(reason, vector),
      ccFlags: (op: number, a: bigint, b: bigint, r: bigint) =>
        flagsOf(op, BigInt.asUintN(64, a), BigInt.asUintN(64, b), BigInt.asUintN(64, r)),
      ccCond: (op: number, a: bigint, b: bigint, r: bigint, cc: number) =>
        condOf(flagsOf(op, BigInt.asUintN(64, a), BigInt.asUintN(64, b), BigInt.asUintN(64, r)), cc),
      rdtsc: () => BigInt(v.getInt32(L.BUDGET, true)),
      div128: (hi: bigint, lo: bigint, d: bigint) =>
        BigInt.asIntN(64, ((BigInt.asUintN(64, hi) << 64n) | BigInt.asUintN(64, lo)) / BigInt.asUintN(64, d)),
      ...extra,
    } as Record<string, (...args: never[]) => unknown>;
  }
  private readonly types: Record<string, FuncType>;

  flushTlb(): void {
    for (let i = L.TLB; i < L.TLB_END; i += 16) this.view.setBigInt64(i, 1n, true);
  }
  private record(reason: number, vector: number): void {
    this.view.setInt32(L.EXIT_REASON, reason, true);
    this.view.setInt32(L.EXIT_VECTOR, vector, true);
    this.view.setInt32(L.EXIT_ERROR, -1, true);
  }

  readonly source = {
    codeAddr: (va: Va): number => va,
    decodeAt: (va: Va): Insn | null => {
      let x = this.decoded.get(va);
      if (x === undefined) {
        x =
          va >= L.ENGINE_END && va + 16 < this.mem.frames * 4096
            ? decode(this.mem.u8, va, va + 15, (this.mode & L.MODE_BITS_MASK) === L.MODE_BITS_64 ? 64 : 32)
            : null;
        this.decoded.set(va, x);
      }
      return x;
    },
    count: (va: Va): number => this.counts.get(va) ?? 0,
    targets: (va: Va): readonly Va[] => [...(this.observed.get(va) ?? [])],
  };

  build(va: Va, opts: TranslateOptions): Built | null {
    const imports = new Imports(this.types);
    const t = performance.now();
    const region = translateRegion(this.source, this.ops, imports, va, this.mode, opts);
    if (!region) return null;
    const m = new ModuleBuilder();
    const pages = this.mem.buffer.byteLength / 65536;
    m.importMemory("m", "memory", true, pages, pages);
    for (const n of imports.names) m.importFunc("m", n, imports.type(n));
    m.addFunc(region.code, "f");
    const bytes = m.finish();
    const translateMs = performance.now() - t;
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
      m: { memory: this.mem.memory, ...this.functions },
    });
    const b: Built = {
      region,
      run: (instance.exports as unknown as { f: RegionFunction }).f,
      bytes: bytes.length,
      translateMs,
    };
    return b;
  }

  get rip(): Va {
    return Number(this.view.getBigInt64(L.RIP, true));
  }
  set rip(va: Va) {
    this.view.setBigInt64(L.RIP, BigInt(va), true);
  }
  reg(i: number): bigint {
    return this.view.getBigUint64(L.GPR + i * 8, true);
  }
  setReg(i: number, x: bigint): void {
    this.view.setBigUint64(L.GPR + i * 8, BigInt.asUintN(64, x), true);
  }
  get budget(): number {
    return this.view.getInt32(L.BUDGET, true);
  }
  set budget(n: number) {
    this.view.setInt32(L.BUDGET, n, true);
  }
  get flags(): number {
    const v = this.view;
    return flagsOf(
      v.getInt32(L.CC_OP, true),
      v.getBigUint64(L.CC_A, true),
      v.getBigUint64(L.CC_B, true),
      v.getBigUint64(L.CC_R, true),
    );
  }
  set flags(f: number) {
    this.view.setInt32(L.CC_OP, 0, true);
    this.view.setBigInt64(L.CC_A, BigInt(f), true);
  }
  get exitReason(): number {
    return this.view.getInt32(L.EXIT_REASON, true);
  }

  makeHot(va: Va): Built | null {
    const b = this.build(va, this.opts);
    if (!b) return null;
    this.built.push(b);
    b.region.entries.forEach((e, entry) => {
      if (!this.regions.has(e)) this.regions.set(e, { built: b, entry });
    });
    return b;
  }

  /** Run until rip is `stop` or a region leaves with an exit record; gives back the exit reason (0 = stopped). */
  run(stop: Va, slice = 100_000): number {
    for (;;) {
      if (this.rip === stop) return 0;
      const reason = this.runOnce(stop, slice);
      if (reason !== 0) return reason;
    }
  }
  /** One region, or one block. */
  runOnce(stop: Va, slice: number): number {
    this.view.setInt32(L.EXIT_REASON, 0, true);
    {
      const va = this.rip;
      if (va === stop) return 0;
      const n = (this.counts.get(va) ?? 0) + 1;
      this.counts.set(va, n);
      let at = this.regions.get(va);
      if (!at && n >= this.hot) {
        this.makeHot(va);
        at = this.regions.get(va);
      }
      this.budget = slice;
      let status: number;
      if (at) {
        this.leaves++;
        status = at.built.run(at.entry);
      } else {
        let b = this.blocks.get(va);
        if (!b) {
          const one = this.build(va, { ...this.opts, maxBlocks: 1, inlineLimit: 0 });
          if (!one) throw new Error(`cannot translate at ${va.toString(16)}`);
          this.blocks.set(va, (b = one));
        }
        status = b.run(0);
        const from = b.region.ranges.at(-1);
        if (from) {
          const last = this.lastOf(va, from.va + from.len);
          let set = this.observed.get(last);
          if (!set) this.observed.set(last, (set = new Set()));
          set.add(this.rip);
        }
      }
      this.retired += slice - this.budget;
      return status === 2 ? this.exitReason : 0;
    }
  }
  private lastOf(va: Va, end: Va): Va {
    let at = va;
    for (;;) {
      const x = this.source.decodeAt(at);
      if (!x || at + x.len >= end) return at;
      at += x.len;
    }
  }

  /** Call a guest function with the System V convention. */
  call(va: Va, args: readonly bigint[], stack: Va): { reason: number; rax: bigint } {
    const back = 0x7000; // Below every mapped address.
    const sp = stack - 8;
    this.view.setBigInt64(sp, BigInt(back), true);
    this.setReg(4, BigInt(sp));
    [7, 6, 2, 1].forEach((r, i) => this.setReg(r, args[i] ?? 0n));
    this.rip = va;
    const reason = this.run(back);
    return { reason, rax: this.reg(0) };
  }
}
