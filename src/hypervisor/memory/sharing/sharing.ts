/**
 * Memory shared copy-on-write between domains. A shared page is an *alias frame*: a machine frame number beyond RAM with an entry of its own in
 * the frame table (owner, type, counts, M2P), that stands for a frame of RAM (`PhysMem.aliasTable`), its *backing*. So a guest's page tables
 * name it as any other frame, while several domains, and the templates they were made from, use one backing.
 *
 * Invariants:
 * - a backing belongs to DOMID_COW; its reference count is the number of its holders: the alias frames that stand for it, the templates that
 *   keep it, and this room for the frame of zeroes;
 * - or it is *lent*: a frame of RAM that is still a domain's, the one the template was made from. Its holders are counted apart. Before its owner
 *   writes it, the holders get a copy (`vacate`); when its owner frees it, it becomes DOMID_COW's as it is;
 * - a backing that is lent or has had more than one holder is marked (`PhysMem.isShared`) and written by nobody: neither guests nor the
 *   hypervisor. A write first gives its frame memory of its own (`makePrivate`), as Xen's memory sharing does. One that is not marked has
 *   exactly one holder;
 * - host side code that keeps the address of a page keeps its machine address, never that of the memory it stands for at the moment;
 * - a page table or descriptor page is never shared, nor a page that is mapped to be written by anyone but its owner: only the owner's own
 *   stores may find no memory left. Then the owner is crashed, never the machine (`onExhausted`).
 */
import { DOMID_COW } from "../../../abi/xen.js";
import { PAGE_SIZE } from "../../../machine/layout.js";
import type { Mfn } from "../../../machine/memory.js";
import { F_ALLOCATED, F_XENHEAP, PGT_l1_page_table, PGT_l4_page_table, type FrameTable } from "../frame-table.js";
import { bug } from "../invariant.js";

/** Backings that a template holds, by pseudo-physical frame; those greater than 0 may be replaced by others of the same content. */
export type Keep = Int32Array;

/** A run of alias frames that was handed out together; it may be used again when all of them are free. */
interface Range {
  readonly base: Mfn;
  readonly count: number;
  live: number;
}

export class Sharing {
  /** A domain needed memory for a page of its own and there is none. */
  onExhausted: (ownerId: number) => void = () => {};
  /** One past the last frame of RAM: the first alias frame. */
  readonly first: Mfn;
  /** Backings that are shared, and the holders they have together (a lent one's owner among them). */
  sharedFrames = 0;
  holders = 0;
  /** Pages that got memory of their own so far. */
  broken = 0;
  /** Alias frames that are some domain's. */
  aliasesUsed = 0;
  private readonly id: number;
  private readonly ranges: Range[] = [];
  private zeroFrame: Mfn = 0;
  /** For each frame of RAM that is lent: how many hold it besides its owner, and at which pseudo-physical frame they have it, most likely. */
  private lent = new Int32Array(0);
  private lentAt = new Int32Array(0);
  private readonly keeps = new Set<Keep>();

  constructor(private readonly ft: FrameTable) {
    const { mem } = ft;
    this.first = mem.frames;
    this.id = ft.addOwner({ domid: DOMID_COW, dying: false, maxPages: 0 });
    mem.breakSharing = (mfn) => this.breakOrStop(mfn);
    mem.sink = ft.emptySink;
  }

  // --- numbers (as Xen counts them: `sharing_freed_memory`, `sharing_used_memory`) -----------------------------------------------

  /** Frames that would be needed besides if nothing were shared. */
  get savedFrames(): number {
    return this.holders - this.sharedFrames;
  }

  // --- backings --------------------------------------------------------------------------------------------------------------------

  /** A backing with one holder, of a given content (none: zeroes). −1: no memory. */
  private newBacking(from: Mfn): Mfn {
    const { ft } = this;
    const f = ft.allocFor(this.id, from <= 0);
    if (f > 0 && from > 0) ft.mem.u8.copyWithin(f * PAGE_SIZE, from * PAGE_SIZE, (from + 1) * PAGE_SIZE);
    return f;
  }
  /** One more holder of a backing, which is shared from now on. The caller flushes the TLB if it was not. */
  private hold(ram: Mfn): void {
    const { ft } = this;
    if (ft.owner[ram] !== this.id) {
      this.lent[ram] = (this.lent[ram] as number) + 1;
      this.holders++;
      return;
    }
    ft.ref[ram] = (ft.ref[ram] as number) + 1;
    if (!ft.mem.isShared(ram)) this.mark(ram);
    else this.holders++;
  }
  private mark(ram: Mfn): void {
    this.ft.mem.setShared(ram, true);
    this.sharedFrames++;
    this.holders += this.ft.ref[ram] as number;
  }
  private unmark(ram: Mfn): void {
    this.ft.mem.setShared(ram, false);
    this.sharedFrames--;
    this.holders -= this.ft.ref[ram] as number;
  }
  /** A holder lets go. */
  private drop(ram: Mfn): void {
    const { ft } = this;
    if (ft.owner[ram] !== this.id) return this.giveBack(ram);
    const n = (ft.ref[ram] as number) - 1;
    if (n < 0) bug(`backing ${ram} has no holder`);
    if (n > 0) {
      if (!ft.mem.isShared(ram)) bug(`backing ${ram} has ${n + 1} holders and is not shared`);
      this.holders--;
      ft.ref[ram] = n;
      return;
    }
    if (ft.mem.isShared(ram)) this.unmark(ram);
    ft.freeFor(ram);
  }

  /** The frame of zeroes, made at the first need; −1: no memory. */
  private zeroes(): Mfn {
    if (this.zeroFrame > 0) return this.zeroFrame;
    const f = this.newBacking(0);
    if (f < 0) return -1;
    this.zeroFrame = f;
    this.mark(f);
    return f;
  }

  // --- lent frames ------------------------------------------------------------------------------------------------------------------

  /** The first holder of a domain's frame besides itself. */
  private lend(ram: Mfn, pfn: number): void {
    if (this.lent.length === 0) {
      this.lent = new Int32Array(this.first);
      this.lentAt = new Int32Array(this.first);
    }
    this.lentAt[ram] = pfn;
    this.lent[ram] = 1;
    this.ft.mem.setShared(ram, true);
    this.sharedFrames++;
    this.holders += 2;
  }
  private giveBack(ram: Mfn): void {
    const n = (this.lent[ram] ?? 0) - 1;
    if (n < 0) bug(`frame ${ram} is no backing`);
    this.lent[ram] = n;
    this.holders--;
    if (n === 0) this.returned(ram);
  }
  /** Nobody but its owner holds the frame any more. */
  private returned(ram: Mfn): void {
    this.lent[ram] = 0;
    this.ft.mem.setShared(ram, false);
    this.sharedFrames--;
    this.holders--;
  }
  /** The owner of a lent frame is about to write it: who else holds it gets a copy. False: there is no memory. */
  private vacate(ram: Mfn): boolean {
    const { ft } = this;
    const n = this.lent[ram] as number;
    const zero = this.isZero(ram);
    const copy = zero ? this.zeroes() : this.newBacking(ram);
    if (copy < 0) return false;
    if (zero) this.addHolders(copy, n);
    else {
      ft.ref[copy] = n;
      this.mark(copy);
    }
    this.repoint(ram, copy, n);
    this.holders -= n;
    this.returned(ram);
    this.broken++;
    ft.mem.onRemap(ram);
    return true;
  }
  /** Let the `n` holders of a lent frame hold another backing. */
  private repoint(from: Mfn, to: Mfn, n: number): void {
    const { aliasTable } = this.ft.mem;
    const at = this.lentAt[from] as number;
    for (const k of this.keeps)
      if (k[at] === from) {
        k[at] = to;
        n--;
      }
    for (const r of this.ranges) {
      const i = r.base - this.first + at;
      if (at < r.count && aliasTable[i] === from) {
        aliasTable[i] = to;
        n--;
      }
    }
    if (n === 0) return;
    // A fork has moved the page to another place of its own, and was forked again.
    for (const k of this.keeps)
      for (let i = 0; i < k.length; i++)
        if (k[i] === from) {
          k[i] = to;
          n--;
        }
    for (const r of this.ranges)
      for (let i = r.base - this.first, e = i + r.count; i < e; i++)
        if (aliasTable[i] === from) {
          aliasTable[i] = to;
          n--;
        }
    if (n !== 0) bug(`lent frame ${from}: ${n} holders cannot be found`);
  }
  /** From the frame table: the owner of a lent frame has freed it. It lives on as a backing. */
  inherit(ram: Mfn): void {
    const n = this.lent[ram] as number;
    if (n <= 0) bug(`frame ${ram} is freed while it is marked as shared`);
    this.lent[ram] = 0;
    this.holders--;
    this.ft.takeOver(ram, this.id, n);
  }

  // --- templates: contents that are kept --------------------------------------------------------------------------------------------

  /**
   * Keep the contents a machine frame has now, at a pseudo-physical frame of `keep`. The caller flushes the TLB after the last one. False: it is a
   * page table, whose entries no other domain could use, or a frame that the hypervisor shares with the domain and writes.
   */
  freeze(mfn: Mfn, keep: Keep, pfn: number): boolean {
    const { ft } = this;
    const type = ft.type[mfn] as number;
    if (((ft.flags[mfn] as number) & F_XENHEAP) !== 0) return false;
    if (type >= PGT_l1_page_table && type <= PGT_l4_page_table && (ft.tcount[mfn] as number) > 0) return false;
    const ram = ft.mem.ram(mfn);
    if (ft.owner[ram] !== this.id && !ft.mem.isShared(ram)) this.lend(ram, pfn);
    else this.hold(ram);
    keep[pfn] = ram;
    return true;
  }
  /** What is frozen in it is held until `letGo`. */
  register(keep: Keep): void {
    this.keeps.add(keep);
  }
  /** None of it is wanted any more. */
  letGo(keep: Keep): void {
    this.keeps.delete(keep);
    for (const b of keep) if (b > 0) this.drop(b);
  }
  private isZero(ram: Mfn): boolean {
    const { f64, u32 } = this.ft.mem;
    // Most pages that are not empty begin with something.
    const w = ram * (PAGE_SIZE / 4);
    if ((u32[w] as number) !== 0 || (u32[w + 1] as number) !== 0) return false;
    for (let i = ram * (PAGE_SIZE / 8), e = i + PAGE_SIZE / 8; i < e; i++) {
      // A NaN is not equal to 0 either; only −0 is, and is no zero in memory.
      if (f64[i] !== 0 || ((u32[2 * i + 1] as number) | 0) !== 0) return false;
    }
    return true;
  }

  // --- alias frames -------------------------------------------------------------------------------------------------------------------

  /** `count` alias frames that follow each other and stand for nothing yet: the first, or −1 where so many numbers are not free. */
  takeRange(count: number): Mfn {
    if (count <= 0) return -1;
    let at = this.first;
    for (let i = 0; i < this.ranges.length; i++) {
      const r = this.ranges[i] as Range;
      if (r.base - at >= count) {
        this.ranges.splice(i, 0, { base: at, count, live: 0 });
        return at;
      }
      at = r.base + r.count;
    }
    if (!this.ft.extend(at + count)) return -1;
    this.ranges.push({ base: at, count, live: 0 });
    return at;
  }
  /** Alias frames no domain has at the moment. */
  get freeAliases(): number {
    let n = this.ft.mem.aliases;
    for (const r of this.ranges) n -= r.count;
    return n;
  }
  private rangeOf(mfn: Mfn): number {
    let lo = 0;
    let hi = this.ranges.length - 1;
    while (lo <= hi) {
      const mid = (lo + hi) >> 1;
      const r = this.ranges[mid] as Range;
      if (mfn < r.base) hi = mid - 1;
      else if (mfn >= r.base + r.count) lo = mid + 1;
      else return mid;
    }
    return bug(`alias frame ${mfn} was never handed out`);
  }
  /** A range of which no frame was given away (a fork that failed). */
  returnRange(base: Mfn): void {
    const i = this.rangeOf(base);
    const r = this.ranges[i] as Range;
    if (r.live !== 0 || r.base !== base) bug(`range ${base} is in use`);
    this.ranges.splice(i, 1);
  }

  /**
   * Give the frames of a taken range to an owner, in order: `keep[i]` > 0 is a kept backing to share, 0 a page of zeroes of its own, −1
   * leaves the number unused. False where memory did not suffice: what was given stays the owner's, to be freed with it.
   */
  give(base: Mfn, id: number, keep: Keep): boolean {
    const { ft } = this;
    const range = this.ranges[this.rangeOf(base)] as Range;
    const table = ft.mem.aliasTable;
    for (let i = 0; i < keep.length; i++) {
      let b = keep[i] as number;
      if (b < 0) continue;
      if (b > 0) this.hold(b);
      else {
        b = this.newBacking(0);
        if (b < 0) return false;
      }
      table[base + i - this.first] = b;
      ft.giveAlias(base + i, id);
      range.live++;
      this.aliasesUsed++;
    }
    return true;
  }
  private addHolders(ram: Mfn, n: number): void {
    if (n === 0) return;
    this.ft.ref[ram] = (this.ft.ref[ram] as number) + n;
    this.holders += n;
  }

  /** From the frame table: an alias frame is nobody's any more. */
  released(mfn: Mfn): void {
    const { ft } = this;
    const i = mfn - this.first;
    const ram = ft.mem.ram(mfn);
    ft.mem.aliasTable[i] = 0;
    this.drop(ram);
    // The backing may live on with others: nothing may find it by this number.
    ft.stamp[mfn] = ft.tlbClock;
    this.aliasesUsed--;
    const at = this.rangeOf(mfn);
    const r = this.ranges[at] as Range;
    if (--r.live === 0) {
      // The numbers are handed out again: no old translation may be left.
      ft.flushTlb();
      this.ranges.splice(at, 1);
    }
  }

  // --- writing -------------------------------------------------------------------------------------------------------------------------

  /** Is the frame's memory shared with others (or kept)? */
  isShared(mfn: Mfn): boolean {
    return this.ft.mem.isShared(this.ft.mem.ram(mfn));
  }

  /** Give a frame memory of its own. False: there is none. */
  makePrivate(mfn: Mfn): boolean {
    const { ft } = this;
    const { mem } = ft;
    const old = mem.ram(mfn);
    if (!mem.isShared(old)) return true;
    if (mfn < this.first) return this.vacate(mfn);
    if (ft.ref[old] === 1 && ft.owner[old] === this.id) {
      // The last holder. Others that let go of it may still have translations that lead here.
      this.unmark(old);
      mem.onRemap(old);
      return true;
    }
    const f = this.newBacking(old === this.zeroFrame ? 0 : old);
    if (f < 0) return false;
    mem.aliasTable[mfn - this.first] = f;
    this.drop(old);
    this.broken++;
    mem.onRemap(old);
    return true;
  }
  /** As `makePrivate` for a store that is under way: its owner is stopped where that fails. */
  private breakOrStop(mfn: Mfn): boolean {
    const { ft } = this;
    if (mfn < this.first && ft.owner[mfn] === this.id) bug(`backing ${mfn} is written while it is shared`);
    if (this.makePrivate(mfn)) return true;
    this.onExhausted(ft.owner[mfn] as number);
    return false;
  }

  /** Verify what can be seen from the tables, for tests and for a debug key. */
  audit(): void {
    const { ft } = this;
    const { mem } = ft;
    const held = new Map<Mfn, number>();
    const more = (f: Mfn): void => void held.set(f, (held.get(f) ?? 0) + 1);
    if (this.zeroFrame > 0) more(this.zeroFrame);
    for (const k of this.keeps) for (const b of k) if (b > 0) more(b);
    let used = 0;
    for (let f = this.first; f < ft.limit; f++) {
      const ram = mem.aliasTable[f - this.first] as number;
      if ((ram !== 0) !== (ft.ref[f] !== 0)) bug(`alias frame ${f} is used without memory, or has some unused`);
      if (ram === 0) continue;
      used++;
      more(ram);
    }
    if (used !== this.aliasesUsed) bug(`${used} alias frames are used, counted ${this.aliasesUsed}`);
    if (this.ranges.reduce((n, r) => n + r.live, 0) !== used) bug("the ranges' counts are wrong");
    let frames = 0;
    let holders = 0;
    for (let f = ft.first; f < this.first; f++) {
      const mine = ft.owner[f] === this.id;
      const want = held.get(f) ?? 0;
      if (mine && (ft.ref[f] !== want || ((ft.flags[f] as number) & F_ALLOCATED) === 0))
        bug(`backing ${f} has ${ft.ref[f]} references, ${want} holders`);
      if (!mine && want !== (this.lent[f] ?? 0)) bug(`frame ${f} is lent to ${this.lent[f]} holders and has ${want}`);
      if (!mine && mem.isShared(f) !== want > 0) bug(`lent frame ${f} is not marked, or another one is`);
      if (!mem.isShared(f)) {
        if (want > 1) bug(`backing ${f} has ${want} holders and is not shared`);
        continue;
      }
      frames++;
      holders += mine ? want : want + 1;
    }
    if (frames !== this.sharedFrames || holders !== this.holders)
      bug(`${frames} shared frames with ${holders} holders, counted ${this.sharedFrames} and ${this.holders}`);
  }
}
