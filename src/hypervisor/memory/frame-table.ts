/**
 * The frame table: for each machine frame its owner, its general reference count, its type and type count, and the free list.
 * It decides who may use a frame and as what (the rules of Xen's page reference and type counts).
 *
 * Invariants:
 * - a frame with a reference count of zero is on the free list and has no owner, no type and no flags but F_DIRTY;
 * - a non-zero type count excludes every other type: a page table is therefore never mapped writable;
 * - a frame whose type or whose last reference was dropped is neither retyped nor handed out before the live TLB was flushed
 *   (`stamp` holds the flush clock at the drop; Xen's tlbflush_timestamp);
 * - a frame is zero when it is handed out;
 * - frames from `ramLimit` on are aliases of RAM (sharing/sharing.ts); they are on no free list.
 * A broken one throws InvariantError.
 */
import { DOMID_IO, DOMID_XEN } from "../../abi/xen.js";
import { EINVAL, ENOMEM } from "../../abi/errno.js";
import type { CpuApi } from "../../machine/cpu/api.js";
import {
  FRAMES_CHANGES,
  FRAMES_CLOCK,
  FRAMES_CODE_CHANGED,
  FRAMES_FIRST,
  FRAMES_FLAGS,
  FRAMES_LIMIT,
  FRAMES_OWNER,
  FRAMES_REF,
  FRAMES_STAMP,
  FRAMES_TCOUNT,
  FRAMES_TYPE,
} from "../../machine/layout.js";
import type { Mfn, PhysMem } from "../../machine/memory.js";
import { bug } from "./invariant.js";
import { M2p } from "./m2p.js";
import { PageTypes } from "./page-types.js";
import { Sharing } from "./sharing/sharing.js";

/** Page types; the numbers are Xen's PGT_* (type field). */
export const PGT_none = 0,
  PGT_l1_page_table = 1,
  PGT_l2_page_table = 2,
  PGT_l3_page_table = 3,
  PGT_l4_page_table = 4,
  PGT_seg_desc_page = 5,
  PGT_shared_page = 6,
  PGT_writable_page = 7;
export type PageType = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7;

/** Flags. ALLOCATED: the owner's own reference (PGC_allocated) is held. XENHEAP: not part of the owner's reservation. */
export const F_ALLOCATED = 1,
  F_XENHEAP = 2,
  F_PINNED = 4,
  F_VALIDATED = 8,
  F_DIRTY = 16;

/** Owner numbers are the frame table's own, never reused, so that a frame outliving its domain never falls to a new one of the same domid. */
export const OWNER_NONE = 0,
  OWNER_XEN = 1,
  OWNER_IO = 2;

const COUNT_MAX = 0x3fffffff;

/** What the frame table knows of an owner. */
export interface Owner {
  readonly domid: number;
  /** Relinquishing its pages: no new ones are given to it. */
  dying: boolean;
  /** Pages of the reservation it may hold. */
  maxPages: number;
}

export class FrameTable {
  readonly first: Mfn;
  /** One past the last frame of RAM, and one past the last frame that may be an alias of one. */
  readonly ramLimit: Mfn;
  limit: Mfn;
  // In the machine's memory, as the core changes page-table entries too (core/assembly/pagetables.ts).
  readonly owner: Int32Array;
  readonly ref: Int32Array;
  readonly type: Uint8Array;
  readonly tcount: Int32Array;
  readonly flags: Uint8Array;
  /** Linear page tables: > 0 entries of this table that map tables of its own level, < 0 uses of it by such entries; never both. */
  readonly linear: Int16Array;
  readonly stamp: Uint32Array;
  private next: Int32Array;
  private prev: Int32Array;
  private freeHead = -1;
  private freeTail = -1;
  freeFrames = 0;
  private readonly u32: Uint32Array;

  private readonly owners: Owner[] = [];
  /** Per owner: first page of the reservation's list, number of pages on it, number of shared Xen frames. */
  private readonly heads: number[] = [];
  readonly pages: number[] = [];
  readonly xenPages: number[] = [];

  readonly types: PageTypes;
  readonly m2p: M2p;
  /** Memory shared copy-on-write. */
  readonly sharing: Sharing;
  /** An all-empty L4 of Xen's: the root of an address space that has none. */
  readonly emptyRoot: Mfn;
  /** Where writes to a shared page go when there is no memory for them. */
  readonly emptySink: Mfn;

  constructor(
    readonly mem: PhysMem,
    private readonly cpu: CpuApi,
  ) {
    const n = mem.frames;
    this.first = mem.firstFrame;
    this.ramLimit = n;
    this.limit = n;
    const u32 = (this.u32 = mem.u32);
    const { buffer, limit } = mem;
    let end = mem.frameTable;
    const place = (bytes: number, told = 0): number => {
      const at = end;
      end += bytes * limit;
      if (told !== 0) u32[told >>> 2] = at;
      return at;
    };
    this.owner = new Int32Array(buffer, place(4, FRAMES_OWNER), limit);
    this.ref = new Int32Array(buffer, place(4, FRAMES_REF), limit);
    this.tcount = new Int32Array(buffer, place(4, FRAMES_TCOUNT), limit);
    this.stamp = new Uint32Array(buffer, place(4, FRAMES_STAMP), limit);
    this.linear = new Int16Array(buffer, place(2), limit);
    this.type = new Uint8Array(buffer, place(1, FRAMES_TYPE), limit);
    this.flags = new Uint8Array(buffer, place(1, FRAMES_FLAGS), limit);
    u32[FRAMES_FIRST >>> 2] = this.first;
    u32[FRAMES_LIMIT >>> 2] = n;
    this.tlbClock = 1;
    this.codeChanged = 7;
    cpu.watchTables();
    this.next = new Int32Array(n).fill(-1);
    this.prev = new Int32Array(n).fill(-1);
    this.addOwner({ domid: -1, dying: true, maxPages: 0 });
    this.addOwner({ domid: DOMID_XEN, dying: false, maxPages: 0 });
    this.addOwner({ domid: DOMID_IO, dying: false, maxPages: 0 });
    for (let f = this.first; f < n; f++) this.appendFree(f);
    this.types = new PageTypes(this);
    this.m2p = new M2p(this);
    this.emptyRoot = this.allocXen();
    this.emptySink = this.allocXen();
    if (this.emptyRoot < 0 || this.emptySink < 0) bug("no memory for the hypervisor's own frames");
    this.sharing = new Sharing(this);
  }

  /** Counts flushes of the live TLB. */
  get tlbClock(): number {
    return this.u32[FRAMES_CLOCK >>> 2] as number;
  }
  private set tlbClock(n: number) {
    this.u32[FRAMES_CLOCK >>> 2] = n;
  }
  /**
   * Where executable mappings have changed since the last flush (`CpuApi.flushTlb`). A flush that only concerns data leaves the
   * engine's knowledge of code alone.
   */
  get codeChanged(): number {
    return this.u32[FRAMES_CODE_CHANGED >>> 2] as number;
  }
  set codeChanged(where: number) {
    this.u32[FRAMES_CODE_CHANGED >>> 2] = where;
  }

  /** A present page-table entry has changed, in whichever table: what the CPU keeps of address spaces that are not loaded may not have it. */
  entryChanged(): void {
    const i = FRAMES_CHANGES >>> 2;
    this.u32[i] = (this.u32[i] as number) + 1;
  }
  /** A top-level page table begins or ceases to be one. */
  rootChanged(l4: Mfn): void {
    this.cpu.forgetRoot(this.mem.ram(l4) * 4096);
  }

  addOwner(o: Owner): number {
    this.owners.push(o);
    this.heads.push(-1);
    this.pages.push(0);
    this.xenPages.push(0);
    return this.owners.length - 1;
  }
  ownerOf(id: number): Owner {
    return this.owners[id] ?? bug(`owner ${id} does not exist`);
  }
  /** The owning domid of a frame, −1 for a free one. */
  ownerDomid(mfn: Mfn): number {
    return this.ownerOf(this.owner[mfn] as number).domid;
  }
  /** A frame that a domain could own. */
  valid(mfn: number): boolean {
    return mfn >= this.first && mfn < this.limit;
  }

  /** Have entries for alias frames below this number; false where the machine has not so many numbers. */
  extend(to: Mfn): boolean {
    if (to <= this.limit) return true;
    if (to > this.mem.limit) return false;
    const n = Math.min(this.mem.limit, Math.max(to, this.ramLimit + 2 * (this.limit - this.ramLimit)));
    const more = (a: Int32Array): Int32Array => {
      const longer = new Int32Array(n);
      longer.set(a);
      return longer;
    };
    this.next = more(this.next);
    this.prev = more(this.prev);
    this.u32[FRAMES_LIMIT >>> 2] = n;
    this.limit = n;
    return true;
  }
  /** Drop the translation of one page, and what is known of code in its half if that changed. */
  invlpg(va: number): void {
    const where = this.codeChanged & (va < 0 ? 6 : 1);
    this.cpu.invlpg(va, where);
    this.codeChanged &= ~where;
  }
  flushTlb(): void {
    this.tlbClock++;
    this.cpu.flushTlb(this.codeChanged);
    this.codeChanged = 0;
  }

  // --- free list -----------------------------------------------------------------------------------------------------

  private appendFree(f: Mfn): void {
    this.prev[f] = this.freeTail;
    this.next[f] = -1;
    if (this.freeTail >= 0) this.next[this.freeTail] = f;
    else this.freeHead = f;
    this.freeTail = f;
    this.freeFrames++;
  }
  /** `zero` false: the caller writes all of it. */
  private takeFree(f: Mfn, zero = true): void {
    const p = this.prev[f] as number;
    const n = this.next[f] as number;
    if (p >= 0) this.next[p] = n;
    else this.freeHead = n;
    if (n >= 0) this.prev[n] = p;
    else this.freeTail = p;
    this.freeFrames--;
    if (this.ref[f] !== 0 || this.owner[f] !== OWNER_NONE) bug(`free frame ${f} is in use`);
    if (this.stamp[f] === this.tlbClock) this.flushTlb();
    if (((this.flags[f] as number) & F_DIRTY) !== 0) {
      if (zero) this.mem.zeroFrame(f);
      else if (this.mem.hasCode(f)) this.mem.onCodeWrite(f);
    }
    this.flags[f] = 0;
    this.type[f] = PGT_none;
    this.linear[f] = 0;
  }
  /** First frame of 2^order free, aligned, contiguous ones (taken off the list), or −1. */
  private takeRun(order: number): Mfn {
    if (order === 0) {
      const f = this.freeHead;
      if (f >= 0) this.takeFree(f);
      return f;
    }
    const size = 2 ** order;
    if (size > this.freeFrames) return -1;
    search: for (let b = Math.ceil(this.first / size) * size; b + size <= this.ramLimit; b += size) {
      for (let f = b; f < b + size; f++) if (this.ref[f] !== 0) continue search;
      for (let f = b; f < b + size; f++) this.takeFree(f);
      return b;
    }
    return -1;
  }
  private release(f: Mfn): void {
    if (this.tcount[f] !== 0) bug(`frame ${f} freed with type count ${this.tcount[f]}`);
    if (((this.flags[f] as number) & (F_PINNED | F_ALLOCATED)) !== 0) bug(`frame ${f} freed while pinned or allocated`);
    const id = this.owner[f] as number;
    if (((this.flags[f] as number) & F_XENHEAP) !== 0) this.xenPages[id] = (this.xenPages[id] as number) - 1;
    else this.unlink(f, id);
    this.owner[f] = OWNER_NONE;
    this.type[f] = PGT_none;
    this.linear[f] = 0;
    this.flags[f] = F_DIRTY;
    this.stamp[f] = this.tlbClock;
    this.m2p.clear(f);
    this.becomeFree(f);
  }
  private becomeFree(f: Mfn): void {
    if (f >= this.ramLimit) {
      this.flags[f] = 0;
      this.sharing.released(f);
    } else if (this.mem.isShared(f)) this.sharing.inherit(f);
    else this.appendFree(f);
  }
  /** A frame that is being freed becomes one of `allocFor` instead, with so many references. */
  takeOver(f: Mfn, id: number, refs: number): void {
    this.own(f, id);
    this.ref[f] = refs;
  }
  private own(f: Mfn, id: number): void {
    this.owner[f] = id;
    this.ref[f] = 1;
    this.tcount[f] = 1;
    this.flags[f] = F_ALLOCATED | F_XENHEAP | F_VALIDATED;
    this.xenPages[id] = (this.xenPages[id] as number) + 1;
  }

  // --- the reservation's page list -------------------------------------------------------------------------------------

  private link(f: Mfn, id: number): void {
    const h = this.heads[id] as number;
    this.prev[f] = -1;
    this.next[f] = h;
    if (h >= 0) this.prev[h] = f;
    this.heads[id] = f;
    this.pages[id] = (this.pages[id] as number) + 1;
  }
  private unlink(f: Mfn, id: number): void {
    const p = this.prev[f] as number;
    const n = this.next[f] as number;
    if (p >= 0) this.next[p] = n;
    else this.heads[id] = n;
    if (n >= 0) this.prev[n] = p;
    this.pages[id] = (this.pages[id] as number) - 1;
    if ((this.pages[id] as number) < 0) bug(`owner ${id} has fewer than no pages`);
  }
  /** The pages of an owner's reservation, as they are now. */
  pagesOf(id: number): Mfn[] {
    const out: Mfn[] = [];
    for (let f = this.heads[id] as number; f >= 0; f = this.next[f] as number) out.push(f);
    return out;
  }

  // --- allocation ------------------------------------------------------------------------------------------------------

  private give(f: Mfn, id: number): void {
    this.owner[f] = id;
    this.ref[f] = 1;
    this.flags[f] = (this.flags[f] as number) | F_ALLOCATED;
    this.link(f, id);
  }
  /** An alias frame that stands for something now becomes a page of an owner's reservation. */
  giveAlias(f: Mfn, id: number): void {
    if (this.ref[f] !== 0) bug(`alias frame ${f} is in use`);
    this.flags[f] = 0;
    this.type[f] = PGT_none;
    this.linear[f] = 0;
    this.give(f, id);
  }
  /** 2^order contiguous zeroed pages for an owner's reservation: the first, or −1 (no memory, over the limit, dying). */
  alloc(id: number, order = 0): Mfn {
    const o = this.ownerOf(id);
    const n = 2 ** order;
    if (o.dying || (this.pages[id] as number) + n > o.maxPages) return -1;
    const f = this.takeRun(order);
    if (f >= 0) for (let i = 0; i < n; i++) this.give(f + i, id);
    return f;
  }
  /** As `alloc` for a page that replaces a stolen one: the reservation does not grow. */
  allocUnowned(order: number): Mfn {
    const f = this.takeRun(order);
    if (f >= 0) for (let i = 0; i < 2 ** order; i++) this.ref[f + i] = -1;
    return f;
  }
  /** Give an unowned page (from `allocUnowned` or `steal`) to an owner. */
  assign(f: Mfn, id: number): void {
    if (this.ref[f] !== -1) bug(`frame ${f} assigned while owned`);
    this.give(f, id);
  }
  freeUnowned(f: Mfn): void {
    if (this.ref[f] !== -1) bug(`frame ${f} is not unowned`);
    this.ref[f] = 0;
    this.flags[f] = F_DIRTY;
    this.type[f] = PGT_none;
    this.stamp[f] = this.tlbClock;
    this.m2p.clear(f);
    this.becomeFree(f);
  }
  /**
   * Take a page away from its owner. Only a page with no other reference than the owner's can be taken; afterwards it is unowned
   * (to be assigned or freed). 0 or −EINVAL.
   */
  steal(f: Mfn, id: number): number {
    if (!this.valid(f) || this.owner[f] !== id || this.ref[f] !== 1) return -EINVAL;
    if (((this.flags[f] as number) & (F_ALLOCATED | F_XENHEAP)) !== F_ALLOCATED) return -EINVAL;
    if (this.tcount[f] !== 0) bug(`frame ${f} has a type count but no reference for it`);
    this.unlink(f, id);
    this.owner[f] = OWNER_NONE;
    this.ref[f] = -1;
    this.type[f] = PGT_none;
    this.flags[f] = 0;
    this.stamp[f] = this.tlbClock;
    return 0;
  }

  /** A zeroed frame for the hypervisor itself, owned by DOMID_XEN: never mapped writable by anyone (its type count is held as PGT_none). */
  allocXen(): Mfn {
    return this.allocFor(OWNER_XEN, true);
  }
  /** The same for another owner that is no domain; `zero` false: the caller writes all of it. */
  allocFor(id: number, zero: boolean): Mfn {
    const f = this.freeHead;
    if (f < 0) return -1;
    this.takeFree(f, zero);
    this.own(f, id);
    return f;
  }
  /** Free a frame of `allocFor` to which nobody else holds a reference. */
  freeFor(f: Mfn): void {
    if (this.ref[f] !== 1 || this.tcount[f] !== 1) bug(`frame ${f} is still in use`);
    this.tcount[f] = 0;
    this.putAllocRef(f);
  }
  /** A zeroed Xen frame shared with a domain: it may map it writable; as its writable type is held, it can never be a page table. */
  allocShared(id: number): Mfn {
    if (this.ownerOf(id).dying) return -1;
    const f = this.takeRun(0);
    if (f < 0) return -1;
    this.owner[f] = id;
    this.ref[f] = 1;
    this.type[f] = PGT_writable_page;
    this.tcount[f] = 1;
    this.flags[f] = F_ALLOCATED | F_XENHEAP | F_VALIDATED;
    this.xenPages[id] = (this.xenPages[id] as number) + 1;
    return f;
  }
  /** Xen's own hold on a shared frame ends; it is freed with the last mapping of it. */
  freeShared(f: Mfn): void {
    if (((this.flags[f] as number) & (F_ALLOCATED | F_XENHEAP)) !== (F_ALLOCATED | F_XENHEAP))
      bug(`frame ${f} is not shared`);
    this.flags[f] = (this.flags[f] as number) & ~F_ALLOCATED;
    this.putPageType(f);
    this.putPage(f);
  }

  // --- general references -----------------------------------------------------------------------------------------------

  /** Take a general reference on a page of the given owner. */
  getPage(mfn: number, id: number): boolean {
    if (!(mfn >= this.first && mfn < this.limit) || this.owner[mfn] !== id) return false;
    const r = this.ref[mfn] as number;
    if (r <= 0 || r >= COUNT_MAX) return false;
    this.ref[mfn] = r + 1;
    return true;
  }
  putPage(mfn: Mfn): void {
    const r = (this.ref[mfn] as number) - 1;
    if (r < 0) bug(`frame ${mfn}: reference count below zero`);
    this.ref[mfn] = r;
    if (r === 0) this.release(mfn);
  }
  /** Drop the owner's own reference (decrease_reservation, domain destruction). */
  putAllocRef(mfn: Mfn): boolean {
    const fl = this.flags[mfn] as number;
    if ((fl & F_ALLOCATED) === 0) return false;
    this.flags[mfn] = fl & ~F_ALLOCATED;
    this.putPage(mfn);
    return true;
  }

  // --- type references --------------------------------------------------------------------------------------------------

  /** Take a type reference; the caller holds a general one. 0 or a negative errno (−EINVAL where the frame is in use as something else). */
  getPageType(mfn: Mfn, t: PageType): number {
    const c = this.tcount[mfn] as number;
    if (c === 0) {
      if (this.type[mfn] !== t) {
        // A stale writable TLB entry must not outlive the change to a table (and a stale table entry not the change from one).
        if (this.stamp[mfn] === this.tlbClock) this.flushTlb();
        this.type[mfn] = t;
        this.flags[mfn] = (this.flags[mfn] as number) & ~F_VALIDATED;
      }
    } else if (this.type[mfn] !== t || c >= COUNT_MAX || ((this.flags[mfn] as number) & F_VALIDATED) === 0)
      return -EINVAL;
    this.tcount[mfn] = c + 1;
    if (((this.flags[mfn] as number) & F_VALIDATED) !== 0) return 0;
    if (t !== PGT_writable_page && t !== PGT_shared_page) {
      this.linear[mfn] = 0;
      const rc = this.sharing.makePrivate(mfn) ? this.types.promote(mfn, t) : -ENOMEM;
      if (rc !== 0) {
        this.type[mfn] = PGT_none;
        this.tcount[mfn] = 0;
        return rc;
      }
    }
    this.flags[mfn] = (this.flags[mfn] as number) | F_VALIDATED;
    return 0;
  }
  /** Drop a type reference. `ptpg` is the table whose entry held it, where there is one (linear page tables are counted by it). */
  putPageType(mfn: Mfn, ptpg: Mfn = -1): void {
    const c = (this.tcount[mfn] as number) - 1;
    if (c < 0) bug(`frame ${mfn}: type count below zero`);
    const t = this.type[mfn] as PageType;
    if (((this.flags[mfn] as number) & F_VALIDATED) === 0)
      bug(`frame ${mfn}: type reference on a page that is not validated`);
    if (c === 0) {
      if (t >= PGT_l1_page_table && t <= PGT_l4_page_table) {
        this.flags[mfn] = (this.flags[mfn] as number) & ~F_VALIDATED;
        this.types.demote(mfn, t);
      }
      this.stamp[mfn] = this.tlbClock;
    }
    this.tcount[mfn] = c;
    if (ptpg >= 0 && this.type[ptpg] === t) {
      // XSA-240: at most one level of linear tables.
      this.linear[mfn] = (this.linear[mfn] as number) + 1;
      this.linear[ptpg] = (this.linear[ptpg] as number) - 1;
    }
  }
  getPageAndType(mfn: number, id: number, t: PageType): number {
    if (!this.getPage(mfn, id)) return -EINVAL;
    const rc = this.getPageType(mfn, t);
    if (rc !== 0) this.putPage(mfn);
    return rc;
  }
  putPageAndType(mfn: Mfn): void {
    this.putPageType(mfn);
    this.putPage(mfn);
  }

  // --- checking -----------------------------------------------------------------------------------------------------------

  /** Verify the invariants that can be seen from the table alone; for tests and for a debug key. */
  audit(): void {
    let free = 0;
    for (let f = this.freeHead, p = -1; f >= 0; p = f, f = this.next[f] as number) {
      free++;
      if (this.prev[f] !== p) bug(`free list broken at ${f}`);
      if (this.owner[f] !== OWNER_NONE || this.ref[f] !== 0 || this.tcount[f] !== 0) bug(`free frame ${f} is in use`);
      if (((this.flags[f] as number) & ~F_DIRTY) !== 0) bug(`free frame ${f} has flags`);
    }
    if (free !== this.freeFrames) bug(`free list has ${free} frames, counted ${this.freeFrames}`);
    const pages = this.pages.map(() => 0);
    const xen = this.pages.map(() => 0);
    let used = 0;
    for (let f = this.first; f < this.limit; f++) {
      const id = this.owner[f] as number;
      const fl = this.flags[f] as number;
      if (id === OWNER_NONE) continue;
      used++;
      if ((this.ref[f] as number) <= 0) bug(`frame ${f} is owned without a reference`);
      if ((fl & F_PINNED) !== 0 && this.tcount[f] === 0) bug(`frame ${f} is pinned without a type`);
      if ((this.ref[f] as number) < (this.tcount[f] as number)) bug(`frame ${f} has more types than references`);
      const list = (fl & F_XENHEAP) !== 0 ? xen : pages;
      list[id] = (list[id] as number) + 1;
    }
    used -= this.sharing.aliasesUsed;
    if (used + free !== this.ramLimit - this.first) bug(`${this.ramLimit - this.first - used - free} frames are lost`);
    for (let id = 1; id < pages.length; id++) {
      if (pages[id] !== this.pages[id] || xen[id] !== this.xenPages[id]) bug(`owner ${id}: page counts are wrong`);
      if (this.pagesOf(id).length !== pages[id]) bug(`owner ${id}: page list is wrong`);
    }
  }
}
