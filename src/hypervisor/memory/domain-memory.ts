/**
 * A domain's memory: its reservation, the frames it was given, where it thinks they are (P2M), its shared info frame and memory map.
 *
 * Invariants: `p2m` records what the builder and this hypervisor gave; a PV guest keeps its own and need not tell us every change, so nothing is
 * decided by it. Ownership is the frame table's. `relinquish` gives everything back: afterwards only frames that others still map remain.
 */
import { EINVAL, ENOMEM } from "../../abi/errno.js";
import { shared_info } from "../../abi/xen.js";
import type { Mfn } from "../../machine/memory.js";
import type { Domain } from "../domain.js";
import type { Xen } from "../xen.js";
import { F_PINNED, PGT_l4_page_table, type FrameTable, type Owner } from "./frame-table.js";

/** One entry of the pseudo-physical memory map (E820). */
export interface MemoryMapEntry {
  readonly addr: number;
  readonly size: number;
  /** 1 RAM, 2 reserved. */
  readonly type: number;
}

export class DomainMemory implements Owner {
  /** The frame table's number for this owner. */
  readonly id: number;
  readonly domid: number;
  dying = false;
  maxPages: number;
  /** Pseudo-physical frame → machine frame, −1 where empty. */
  p2m = new Int32Array(0);
  /** One past the highest pseudo-physical frame in use. */
  p2mLength = 0;
  /** The shared info page. */
  readonly sharedInfo: Mfn;
  /** XENMEM_memory_map; empty until the toolstack sets one. */
  memoryMap: MemoryMapEntry[] = [];
  /** Pages promised by XENMEM_claim_pages and not yet allocated. */
  claimed = 0;
  private readonly ft: FrameTable;

  constructor(
    xen: Xen,
    readonly domain: Domain,
    maxPages: number,
  ) {
    this.ft = xen.frames;
    this.domid = domain.domid;
    this.maxPages = maxPages;
    this.id = this.ft.addOwner(this);
    this.sharedInfo = this.ft.allocShared(this.id);
    if (this.sharedInfo < 0) throw new Error("not enough memory for a domain's shared info page");
  }

  get totPages(): number {
    return this.ft.pages[this.id] as number;
  }
  /** True once nothing of the domain's memory is left, not even mapped by others. */
  get empty(): boolean {
    return this.totPages === 0 && this.ft.xenPages[this.id] === 0;
  }

  /** A new page at `pfn`: its machine frame, zeroed, or −1. */
  allocPage(pfn: number): Mfn {
    const mfn = this.ft.alloc(this.id);
    if (mfn >= 0) this.setPfn(mfn, pfn);
    return mfn;
  }
  /** 2^order contiguous pages from `pfn` on: the first, or −1. */
  allocExtent(pfn: number, order: number): Mfn {
    const mfn = this.ft.alloc(this.id, order);
    if (mfn >= 0) for (let i = 0; i < 2 ** order; i++) this.setPfn(mfn + i, pfn + i);
    return mfn;
  }
  /** Fill pseudo-physical frames from..from+count−1: 0 or −ENOMEM (what was allocated stays the domain's). */
  populate(from: number, count: number): number {
    for (let pfn = from; pfn < from + count; pfn++) if (this.allocPage(pfn) < 0) return -ENOMEM;
    return 0;
  }

  /** Record where a frame of this domain is: P2M and M2P. */
  setPfn(mfn: Mfn, pfn: number): void {
    this.forget(mfn);
    this.ft.m2p.setPfn(mfn, pfn);
    // A guest may name any number; beyond the machine's own size it is kept in the M2P alone.
    if (!(pfn < this.ft.limit)) return;
    if (pfn >= this.p2m.length) {
      const grown = new Int32Array(Math.min(this.ft.limit, Math.max(pfn + 1, this.p2m.length * 2, 1024))).fill(-1);
      grown.set(this.p2m);
      this.p2m = grown;
    }
    this.p2m[pfn] = mfn;
    if (pfn >= this.p2mLength) this.p2mLength = pfn + 1;
  }
  /** As `setPfn` for frames that follow each other, of a domain that has none yet: base + pfn at pfn, but where `present` is negative. */
  setRun(base: Mfn, present: Int32Array): void {
    const n = present.length;
    const p2m = new Int32Array(n);
    for (let pfn = 0; pfn < n; pfn++) p2m[pfn] = (present[pfn] as number) < 0 ? -1 : base + pfn;
    this.p2m = p2m;
    this.p2mLength = n;
    this.ft.m2p.setRun(base, present);
  }
  /** The frame is no longer anywhere in this domain. */
  forget(mfn: Mfn): void {
    const pfn = this.ft.m2p.get(mfn);
    if (pfn >= 0 && pfn < this.p2m.length && this.p2m[pfn] === mfn) this.p2m[pfn] = -1;
    this.ft.m2p.clear(mfn);
  }
  mfnOf(pfn: number): Mfn {
    return pfn >= 0 && pfn < this.p2m.length ? (this.p2m[pfn] as number) : -1;
  }
  /** A guest frame number of a hypercall to a machine frame: PV guests use machine frames. */
  gfnToMfn(gfn: number): number {
    return gfn;
  }
  /** Whether the frame is this domain's and alive. */
  owns(mfn: number): boolean {
    return this.ft.valid(mfn) && this.ft.owner[mfn] === this.id;
  }

  /** The highest pseudo-physical frame, by what the guest declared in its shared info. */
  get maximumGpfn(): number {
    const n = this.ft.mem.r64(this.sharedInfo * 4096 + shared_info.arch_max_pfn);
    return (n === 0 ? 1 : n) - 1;
  }

  /**
   * The builder has written the page tables: validate and pin the top one and make it vCPU 0's kernel root. 0 or a negative errno.
   */
  finishBuild(b: { l4Mfn: Mfn }): number {
    const rc = this.pin(b.l4Mfn, PGT_l4_page_table);
    if (rc !== 0) return rc;
    const mm = this.domain.vcpus[0]?.mm;
    return mm === undefined ? 0 : mm.setRoots(b.l4Mfn, 0);
  }
  /** MMUEXT_PIN_L*_TABLE. */
  pin(mfn: number, type: 1 | 2 | 3 | 4): number {
    const ft = this.ft;
    const rc = ft.getPageAndType(mfn, this.id, type);
    if (rc !== 0) return rc;
    if (((ft.flags[mfn] as number) & F_PINNED) !== 0) {
      ft.putPageAndType(mfn);
      return -EINVAL;
    }
    ft.flags[mfn] = (ft.flags[mfn] as number) | F_PINNED;
    return 0;
  }
  /** MMUEXT_UNPIN_TABLE. */
  unpin(mfn: number): number {
    const ft = this.ft;
    if (!this.owns(mfn) || ((ft.flags[mfn] as number) & F_PINNED) === 0) return -EINVAL;
    ft.flags[mfn] = (ft.flags[mfn] as number) & ~F_PINNED;
    ft.putPageAndType(mfn);
    return 0;
  }

  /**
   * The domain dies: its vCPUs' roots and descriptor tables, the grants it mapped, its pins and its own references are dropped. Frames that
   * other domains still map stay until they let go; `empty` tells.
   */
  relinquish(): void {
    const ft = this.ft;
    if (this.dying) return;
    this.dying = true;
    this.claimed = 0;
    this.domain.grants?.releaseMappings();
    for (const v of this.domain.vcpus) v.mm?.destroy();
    // Stale entries of this domain must go before its frames do.
    ft.flushTlb();
    for (const mfn of ft.pagesOf(this.id)) {
      if (ft.owner[mfn] !== this.id) continue;
      if (((ft.flags[mfn] as number) & F_PINNED) !== 0) this.unpin(mfn);
    }
    for (const mfn of ft.pagesOf(this.id)) if (ft.owner[mfn] === this.id) ft.putAllocRef(mfn);
    this.domain.grants?.destroy();
    ft.freeShared(this.sharedInfo);
    this.p2m = new Int32Array(0);
    this.p2mLength = 0;
  }
}
