/**
 * Decoded code: blocks by machine address and mode, in the engine's arena, and the watch that drops them when their bytes change.
 *
 * There are many blocks, so those that lie in one frame are listed in linear memory (FRAME_CODE, BLOCK_BESIDE); what else is made from code is a `CodeUnit`.
 *
 * Invariant: a block or region exists only while every granule of its bytes has its bit set in CODE_MASK, so that no store to them can
 * go unseen (mmu.ts keeps such frames out of the write TLB; PhysMem checks the host side's writes).
 */
import {
  ARENA_NEXT,
  BLOCK_ALIASED,
  BLOCK_BESIDE,
  BLOCK_HASH,
  BLOCK_HASH_END,
  BLOCK_HEADER,
  BLOCK_MADDR,
  BLOCK_MODE,
  BLOCK_N,
  BLOCK_NEXT,
  BLOCK_PAGE2,
  BLOCK_REGION,
  BLOCK_SEEN,
  BLOCK_SEEN_KEY,
  BLOCK_TARGETS,
  CODE_MASK,
  CODE_MASK_END,
  FRAME_CODE,
  HOT_LIST,
  RECORDS,
  RECORDS_END,
  REC_POS,
  REC_SIZE,
} from "../layout.js";
import type { Mfn, PhysMem } from "../memory.js";
import { CodeTwins, type TwinCore } from "./code-twins.js";

/** Every place where code may be mapped, for `flushTlb`: lower half, upper half of space 0, of space 1. */
export const ALL_CODE = 7;

export interface CodeRange {
  maddr: number;
  len: number;
}

/** Something made from guest code bytes. */
export interface CodeUnit {
  readonly ranges: readonly CodeRange[];
  /** Forget it: its bytes have changed. True: the jump cache may still lead to it, and a new epoch must begin. */
  drop(): boolean;
}

function touches(ranges: readonly CodeRange[], from: number, to: number): boolean {
  for (const r of ranges) if (r.maddr < to && r.maddr + r.len > from) return true;
  return false;
}

/** So much space given back begins an epoch, to be used again. */
const RELEASE = 1 << 18;

/** So much of it free, and blocks are decoded by the host side, which uses it. */
const FREE_MAX = 1 << 22;

/** What of the core the cache needs. */
export interface CacheCore extends TwinCore {
  blockHash(maddr: number, mode: number): number;
  forgetCode(lo: number, hi: number): void;
}

/** Of a frame the word with its first block, and the one with the number of its units, blocks included. */
const firstOf = (frame: Mfn): number => (FRAME_CODE + frame * 8) >>> 2;
const unitsOf = (frame: Mfn): number => (FRAME_CODE + frame * 8 + 4) >>> 2;

export class CodeCache {
  /** Units that are no blocks of one frame. */
  private readonly byFrame = new Map<Mfn, Set<CodeUnit>>();
  /** Forget a block, as `CodeUnit.drop` does. */
  dropBlock: (at: number) => boolean = () => false;
  /** Space that was given back: addresses by size, and what waits for an epoch (address and size in turn). */
  private readonly free = new Map<number, number[]>();
  private readonly released: number[] = [];
  private releasedBytes = 0;
  private freeBytes = 0;
  /** Frames that share their code. */
  readonly twins: CodeTwins;
  /** Units dropped because their bytes changed. */
  invalidations = 0;
  constructor(
    private readonly mem: PhysMem,
    private readonly core: CacheCore,
  ) {
    this.next = RECORDS;
    this.twins = new CodeTwins(mem, core, {
      frames: () => this.framesWithCode(),
      units: (frame) => this.mem.u32[unitsOf(frame)] as number,
      dropUnits: (frame) => {
        this.forgetTouched(frame, frame * 4096, frame * 4096 + 4096);
        this.remask(frame);
      },
      remask: (frame) => this.remask(frame),
    });
  }

  /** Where the arena goes on: the core takes from it too. */
  private get next(): number {
    return this.mem.u32[ARENA_NEXT >>> 2] as number;
  }
  private set next(at: number) {
    this.mem.u32[ARENA_NEXT >>> 2] = at;
  }
  get used(): number {
    return this.next - RECORDS;
  }
  /** There is space of earlier blocks to be used again, which the core knows nothing of. */
  get hasFree(): boolean {
    return this.freeBytes >= FREE_MAX;
  }

  /** Space in the arena, 16-byte aligned; 0 when it is full (the caller resets everything). */
  allocate(bytes: number): number {
    const at = this.next;
    if (at + bytes > RECORDS_END) return 0;
    this.next = (at + bytes + 15) & ~15;
    return at;
  }
  /** Space for a block, that of an earlier one if there is. (Only blocks: what still leads there takes what it finds for one.) */
  allocateBlock(bytes: number): number {
    if (this.releasedBytes >= RELEASE) this.reclaim();
    const at = this.free.get((bytes + 15) & ~15)?.pop();
    if (at === undefined) return this.allocate(bytes);
    this.freeBytes -= (bytes + 15) & ~15;
    return at;
  }

  /**
   * Give a block's space back. What the dispatcher keeps for an epoch may lead to it still, and it may be running: it is used again when an epoch has begun
   * since, and never by the core itself.
   */
  release(at: number, bytes: number): void {
    this.released.push(at, (bytes + 15) & ~15);
    this.releasedBytes += bytes;
  }
  private reclaim(): void {
    const { released } = this;
    for (let i = 0; i < released.length; i += 2) {
      const size = released[i + 1] as number;
      const list = this.free.get(size);
      if (list === undefined) this.free.set(size, [released[i] as number]);
      else list.push(released[i] as number);
    }
    released.length = 0;
    this.freeBytes += this.releasedBytes;
    this.releasedBytes = 0;
    this.core.codeDropped();
  }

  /** Watch a unit's bytes. */
  watch(unit: CodeUnit): void {
    for (const r of unit.ranges) {
      const frame = r.maddr >>> 12;
      let units = this.byFrame.get(frame);
      if (units === undefined) {
        units = new Set();
        this.byFrame.set(frame, units);
      }
      if (!units.has(unit)) this.count(frame, 1);
      units.add(unit);
      if (this.mark(frame, r)) this.core.dropWriters(frame);
    }
  }

  /** Watch the bytes of a block, all in one frame. */
  watchBlock(at: number): void {
    const u32 = this.mem.u32;
    const frame = (u32[(at + BLOCK_MADDR) >>> 2] as number) >>> 12;
    u32[(at + BLOCK_BESIDE) >>> 2] = u32[firstOf(frame)] as number;
    u32[firstOf(frame)] = at;
    this.count(frame, 1);
    if (this.markBlock(frame, at)) this.core.dropWriters(frame);
  }

  /** Watch a unit no longer. */
  unwatch(unit: CodeUnit): void {
    for (const r of unit.ranges) {
      const frame = r.maddr >>> 12;
      if (this.remove(frame, unit)) this.remask(frame);
    }
  }

  private count(frame: Mfn, by: number): void {
    this.mem.u32[unitsOf(frame)] = (this.mem.u32[unitsOf(frame)] as number) + by;
  }
  private remove(frame: Mfn, unit: CodeUnit): boolean {
    const units = this.byFrame.get(frame);
    if (units?.delete(unit) !== true) return false;
    if (units.size === 0) this.byFrame.delete(frame);
    this.count(frame, -1);
    return true;
  }
  private framesWithCode(): Mfn[] {
    const { u32, frames } = this.mem;
    const found: Mfn[] = [];
    for (let frame = 0; frame < frames; frame++) if (u32[unitsOf(frame)] !== 0) found.push(frame);
    return found;
  }

  /** Where in its page a block ends. (What stands for a breakpoint may be longer than the room.) */
  private endOf(at: number): number {
    const u32 = this.mem.u32;
    const n = u32[(at + BLOCK_N) >>> 2] as number;
    return Math.min((u32[(at + BLOCK_HEADER + n * REC_SIZE + REC_POS) >>> 2] as number) & 0xffff, 4096);
  }
  private markBlock(frame: Mfn, at: number): boolean {
    return this.markBytes(frame, (this.mem.u32[(at + BLOCK_MADDR) >>> 2] as number) & 4095, this.endOf(at));
  }

  /** True: nothing was marked there, so that writers may know the frame. */
  private mark(frame: Mfn, r: CodeRange): boolean {
    return this.markBytes(frame, r.maddr & 4095, (r.maddr & 4095) + r.len);
  }
  private markBytes(frame: Mfn, from: number, to: number): boolean {
    const word = (CODE_MASK + frame * 8) >>> 2;
    const u32 = this.mem.u32;
    const fresh = u32[word] === 0 && u32[word + 1] === 0;
    const first = from >>> 6;
    const last = (to - 1) >>> 6;
    for (let g = first; g <= last; g++) {
      u32[word + (g >>> 5)] = (u32[word + (g >>> 5)] as number) | (1 << (g & 31));
    }
    return fresh;
  }

  /** Insert a block into the hash; `at` is its header's address. */
  insert(at: number, maddr: number, mode: number): void {
    const head = this.core.blockHash(maddr, mode) >>> 2;
    this.mem.u32[(at + BLOCK_NEXT) >>> 2] = this.mem.u32[head] as number;
    this.mem.u32[head] = at;
  }

  /** The block decoded at a machine address, or 0. */
  find(maddr: number, mode: number): number {
    const u32 = this.mem.u32;
    for (
      let b = u32[this.core.blockHash(maddr, mode) >>> 2] as number;
      b !== 0;
      b = u32[(b + BLOCK_NEXT) >>> 2] as number
    ) {
      if (u32[(b + BLOCK_MADDR) >>> 2] === maddr && u32[(b + BLOCK_MODE) >>> 2] === mode) return b;
    }
    return 0;
  }

  unlink(at: number): void {
    const u32 = this.mem.u32;
    const maddr = u32[(at + BLOCK_MADDR) >>> 2] as number;
    let link = this.core.blockHash(maddr, u32[(at + BLOCK_MODE) >>> 2] as number) >>> 2;
    for (;;) {
      const b = u32[link] as number;
      if (b === 0) return;
      if (b === at) {
        u32[link] = u32[(b + BLOCK_NEXT) >>> 2] as number;
        return;
      }
      link = (b + BLOCK_NEXT) >>> 2;
    }
  }

  /** Bytes [offset, offset+len) of a frame are being changed. */
  invalidate(frame: Mfn, offset: number, len: number): void {
    this.twins.written(frame);
    if (this.mem.u32[unitsOf(frame)] === 0) return;
    const stale = this.forgetTouched(frame, frame * 4096 + (offset & ~63), frame * 4096 + offset + len);
    if (stale === undefined) return;
    this.remask(frame);
    if (stale) this.core.codeDropped();
  }

  /** Forget what was made from any of these bytes of a frame. True: an epoch must begin; undefined: there was nothing. */
  private forgetTouched(frame: Mfn, from: number, to: number): boolean | undefined {
    const u32 = this.mem.u32;
    const page = frame * 4096;
    let stale: boolean | undefined;
    let link = firstOf(frame);
    for (;;) {
      const at = u32[link] as number;
      if (at === 0) break;
      const next = (at + BLOCK_BESIDE) >>> 2;
      if ((u32[(at + BLOCK_MADDR) >>> 2] as number) >= to || page + this.endOf(at) <= from) {
        link = next;
        continue;
      }
      u32[link] = u32[next] as number;
      this.count(frame, -1);
      this.invalidations++;
      stale = this.dropBlock(at) || (stale ?? false);
    }
    for (const u of this.byFrame.get(frame) ?? []) {
      if (touches(u.ranges, from, to)) stale = this.forget(u) || (stale ?? false);
    }
    return stale;
  }

  private forget(u: CodeUnit): boolean {
    for (const r of u.ranges) this.remove(r.maddr >>> 12, u);
    this.invalidations++;
    return u.drop();
  }

  /** The frame's granules are those of its units only (it had marks, so that no writer knows it). */
  private remask(frame: Mfn): void {
    const word = (CODE_MASK + frame * 8) >>> 2;
    this.mem.u32[word] = 0;
    this.mem.u32[word + 1] = 0;
    const u32 = this.mem.u32;
    for (let at = u32[firstOf(frame)] as number; at !== 0; at = u32[(at + BLOCK_BESIDE) >>> 2] as number)
      this.markBlock(frame, at);
    for (const u of this.byFrame.get(frame) ?? [])
      for (const r of u.ranges) if (r.maddr >>> 12 === frame) this.mark(frame, r);
  }

  /** Forget everything: the arena is full. */
  reset(): void {
    for (const frame of this.framesWithCode()) {
      const u32 = this.mem.u32;
      for (let at = u32[firstOf(frame)] as number; at !== 0; at = u32[(at + BLOCK_BESIDE) >>> 2] as number)
        this.dropBlock(at);
      u32[firstOf(frame)] = 0;
      u32[unitsOf(frame)] = 0;
    }
    // A unit is listed at each of its frames, and must be dropped once: its place is given to another.
    const all = new Set<CodeUnit>();
    for (const units of this.byFrame.values()) for (const u of units) all.add(u);
    for (const u of all) u.drop();
    this.byFrame.clear();
    this.twins.reset();
    this.mem.u32.fill(0, CODE_MASK >>> 2, CODE_MASK_END >>> 2);
    this.mem.u32.fill(0, BLOCK_HASH >>> 2, BLOCK_HASH_END >>> 2);
    this.mem.u32[HOT_LIST >>> 2] = 0;
    this.next = RECORDS;
    this.free.clear();
    this.freeBytes = 0;
    this.released.length = 0;
    this.releasedBytes = 0;
    this.core.codeDropped();
  }
}

export const blockField = {
  seen: BLOCK_SEEN >>> 2,
  aliased: BLOCK_ALIASED >>> 2,
  seenKey: BLOCK_SEEN_KEY >>> 2,
  region: BLOCK_REGION >>> 2,
  targets: BLOCK_TARGETS >>> 2,
  n: BLOCK_N >>> 2,
  maddr: BLOCK_MADDR >>> 2,
  mode: BLOCK_MODE >>> 2,
  page2: BLOCK_PAGE2 >>> 2,
};
export const blockBytes = (records: number): number => BLOCK_HEADER + records * REC_SIZE;
