/**
 * Page tables of 64-bit PV guests: validation when a page first becomes a table, release when it ceases to be one, and the change of single
 * entries (Xen's PGT_l1…l4_page_table rules).
 *
 * Invariants:
 * - every present L1 entry holds a general reference on its page, and a writable type reference if it is writable;
 * - every present L2–L4 entry holds a general and a typed reference (of the next lower level, or of its own for linear tables), but for an
 *   entry that maps its own table;
 * - slots 256–271 of an L4 are Xen's: filled here, never the guest's;
 * - guest kernel and user mode both run at CPL 3, so every present entry has U; a kernel L1 entry is told by bit 52, a user one by G.
 */
import { EBUSY, EINVAL, ENOMEM, EPERM } from "../../abi/errno.js";
import type { Maddr, Mfn } from "../../machine/memory.js";
import {
  OWNER_NONE,
  PGT_l1_page_table,
  PGT_l2_page_table,
  PGT_l3_page_table,
  PGT_l4_page_table,
  PGT_seg_desc_page,
  PGT_writable_page,
  F_VALIDATED,
  type FrameTable,
  type PageType,
} from "./frame-table.js";
import { fixDescriptor } from "./descriptor-check.js";
import { bug } from "./invariant.js";

/** Entry bits, low half. */
export const PTE_P = 0x001,
  PTE_RW = 0x002,
  PTE_US = 0x004,
  PTE_A = 0x020,
  PTE_D = 0x040,
  PTE_PS = 0x080,
  PTE_G = 0x100,
  PTE_AVAIL = 0xe00;
/** Entry bits, high half: bit 52 marks a guest kernel's L1 entry, bit 62 one made by a grant, bit 63 is NX. */
export const PTE_HI_KERNEL = 0x00100000,
  PTE_HI_GRANT = 0x40000000,
  PTE_HI_NX = 0x80000000;

/** Bits a guest may not set: cache attributes and, above L1, PS and G; the grant mark in L1. */
const L1_DISALLOW_LO = 0x098;
const LX_DISALLOW_LO = 0x198;
/** What may change in an entry without its references changing: U A D G, the available bits, NX. */
const FAST_LO = 0xf64;
const SLOW_LO = ~FAST_LO;
const SLOW_HI = 0x000fffff;

export const XEN_SLOT_FIRST = 256;
export const XEN_SLOT_LAST = 271;

/** Places of code as `CpuApi.flushTlb` names them. */
export const CODE_LOWER = 1;
export const CODE_UPPER = 2 | 4;
const CODE_USER = 1 | 4;

/** The frame number of an entry: exact, up to 40 bits. */
export function pteMfn(lo: number, hi: number): number {
  const h = hi & 0xfffff;
  return h === 0 ? lo >>> 12 : h * 0x100000 + (lo >>> 12);
}

export class PageTypes {
  /** A guest overwrote a grant's entry instead of unmapping it; Xen answers with #GP. The traps room sets this. */
  onGrantEntryLost: (ownerId: number) => void = () => {};
  constructor(private readonly ft: FrameTable) {}

  // --- L1 ------------------------------------------------------------------------------------------------------------------

  /**
   * References for a present L1 entry of a table of `ptOwner`, naming a page of `pgOwner`. 0 or a negative errno. The errno are Xen's:
   * −EINVAL for bits, −EPERM for frames that are no RAM, −EBUSY for a wrong owner or a page that must not be written.
   */
  getL1e(lo: number, hi: number, pgOwner: number): number {
    if ((lo & L1_DISALLOW_LO) !== 0 || (hi & PTE_HI_GRANT) !== 0) return -EINVAL;
    const ft = this.ft;
    const mfn = pteMfn(lo, hi);
    if (!(mfn >= ft.first && mfn < ft.limit)) return mfn === 0xffffffffff ? -EINVAL : -EPERM;
    if (!ft.getPage(mfn, pgOwner)) return -EBUSY;
    if ((lo & PTE_RW) !== 0 && ft.getPageType(mfn, PGT_writable_page) !== 0) {
      ft.putPage(mfn);
      return -EBUSY;
    }
    return 0;
  }

  putL1e(lo: number, hi: number, ptOwner: number): void {
    if ((lo & PTE_P) === 0) return;
    const mfn = pteMfn(lo, hi);
    if ((hi & PTE_HI_GRANT) !== 0 && !this.ft.ownerOf(ptOwner).dying) this.onGrantEntryLost(ptOwner);
    if ((lo & PTE_RW) !== 0) this.ft.putPageType(mfn);
    this.ft.putPage(mfn);
  }

  private promoteL1(mfn: Mfn, owner: number): number {
    const u = this.ft.mem.u32;
    const base = this.ft.mem.ram(mfn) * 1024;
    for (let i = base; i < base + 1024; i += 2) {
      const lo = u[i] as number;
      if ((lo & PTE_P) === 0) continue;
      const hi = u[i + 1] as number;
      const rc = this.getL1e(lo, hi, owner);
      if (rc !== 0) {
        for (i -= 2; i >= base; i -= 2) this.putL1e(u[i] as number, u[i + 1] as number, owner);
        return rc;
      }
      this.adjustL1(i, lo, hi);
    }
    return 0;
  }

  private adjustL1(i: number, lo: number, hi: number): void {
    const u = this.ft.mem.u32;
    if ((lo & PTE_US) === 0) {
      u[i] = lo | PTE_US;
      u[i + 1] = hi | PTE_HI_KERNEL;
    } else if ((hi & PTE_HI_KERNEL) === 0 && (lo & PTE_G) === 0) u[i] = lo | PTE_G;
  }

  /**
   * Change an entry of a validated L1 table. `keepAd`: the present A and D bits stay set (MMU_PT_UPDATE_PRESERVE_AD). The old entry's
   * references are dropped. 0 or a negative errno, with nothing changed.
   */
  modL1(at: Maddr, lo: number, hi: number, keepAd: boolean, ptOwner: number, pgOwner: number): number {
    const mem = this.ft.mem;
    at = mem.resolve(at);
    const i = at >>> 2;
    const olo = mem.u32[i] as number;
    const ohi = mem.u32[i + 1] as number;
    if ((lo & PTE_P) !== 0) {
      if ((lo & L1_DISALLOW_LO) !== 0 || (hi & PTE_HI_GRANT) !== 0) return -EINVAL;
      if ((lo & PTE_US) === 0) {
        lo |= PTE_US;
        hi |= PTE_HI_KERNEL;
      } else if ((hi & PTE_HI_KERNEL) === 0) lo |= PTE_G;
      if ((((olo ^ lo) & SLOW_LO) | ((ohi ^ hi) & SLOW_HI)) === 0) {
        if (keepAd) lo |= olo & (PTE_A | PTE_D);
        // A grant's mark goes with a rewrite, as the entry's references stay.
        mem.w64(at, lo, hi);
        this.left(olo, ohi, hi);
        return 0;
      }
      const rc = this.getL1e(lo, hi, pgOwner);
      if (rc !== 0) return rc;
      // What others may write has memory of its own: they could not be stopped for it.
      if (pgOwner !== ptOwner && (lo & PTE_RW) !== 0 && !this.ft.sharing.makePrivate(pteMfn(lo, hi))) {
        this.ft.putPageAndType(pteMfn(lo, hi));
        return -ENOMEM;
      }
    }
    if (keepAd) lo |= olo & (PTE_A | PTE_D);
    mem.w64(at, lo, hi);
    this.left(olo, ohi);
    this.putL1e(olo, ohi, ptOwner);
    return 0;
  }

  /**
   * An L1 entry was changed: what it was, and the upper half of what it is where that maps the same page. An executable mapping that went is noted by where
   * it was: a kernel's pages are in the upper half of the address space, users' in the lower or at vsyscall.
   */
  left(olo: number, ohi: number, hi = PTE_HI_NX): void {
    if ((olo & PTE_P) === 0) return;
    this.ft.entryChanged();
    if ((hi & PTE_HI_NX) !== 0 && this.mapsCode(olo, ohi))
      this.ft.codeChanged |= (ohi & PTE_HI_KERNEL) !== 0 ? CODE_UPPER : CODE_USER;
  }

  // --- L2, L3, L4 ------------------------------------------------------------------------------------------------------------

  /** References for a present entry of a table `table` of level `level` (2–4) of `owner`. */
  private getLxe(lo: number, hi: number, table: Mfn, level: PageType, owner: number): number {
    if ((lo & LX_DISALLOW_LO) !== 0) return -EINVAL;
    const mfn = pteMfn(lo, hi);
    const rc = this.ft.getPageAndType(mfn, owner, (level - 1) as PageType);
    return rc === -EINVAL && this.getLinear(lo, mfn, table, level, owner) ? 0 : rc;
  }

  /** A read-only entry that maps a table of its own level: itself, or an already valid one without such entries of its own. */
  private getLinear(lo: number, mfn: number, table: Mfn, level: PageType, owner: number): boolean {
    if ((lo & PTE_RW) !== 0) return false;
    if (mfn === table) return true;
    const ft = this.ft;
    if (ft.owner[table] !== owner || !ft.getPage(mfn, owner)) return false;
    const entries = ft.linear[table] as number;
    const uses = ft.linear[mfn] as number;
    if (
      entries < 0 ||
      entries >= 0x7fff ||
      uses > 0 ||
      uses <= -0x8000 ||
      ft.type[mfn] !== level ||
      ((ft.flags[mfn] as number) & F_VALIDATED) === 0 ||
      ft.getPageType(mfn, level) !== 0
    ) {
      ft.putPage(mfn);
      return false;
    }
    ft.linear[table] = entries + 1;
    ft.linear[mfn] = uses - 1;
    return true;
  }

  private putLxe(lo: number, hi: number, table: Mfn): void {
    if ((lo & PTE_P) === 0) return;
    const mfn = pteMfn(lo, hi);
    if (mfn === table) return;
    this.ft.putPageType(mfn, table);
    this.ft.putPage(mfn);
  }

  private promoteLx(mfn: Mfn, level: PageType, owner: number): number {
    const u = this.ft.mem.u32;
    const l4 = level === PGT_l4_page_table;
    const adjust = l4 ? PTE_US | PTE_A : PTE_US;
    const base = this.ft.mem.ram(mfn) * 1024;
    for (let s = 0; s < 512; s++) {
      if (l4 && s === XEN_SLOT_FIRST) s = XEN_SLOT_LAST + 1;
      const i = base + s * 2;
      const lo = u[i] as number;
      if ((lo & PTE_P) === 0) continue;
      const rc = this.getLxe(lo, u[i + 1] as number, mfn, level, owner);
      if (rc !== 0) {
        this.releaseEntries(mfn, level, s - 1);
        return rc;
      }
      u[i] = lo | adjust;
    }
    if (l4) this.fillXenSlots(mfn);
    return 0;
  }

  private releaseEntries(mfn: Mfn, level: PageType, from: number): void {
    const u = this.ft.mem.u32;
    const base = this.ft.mem.ram(mfn) * 1024;
    for (let s = from; s >= 0; s--) {
      if (level === PGT_l4_page_table && s === XEN_SLOT_LAST) s = XEN_SLOT_FIRST - 1;
      const i = base + s * 2;
      this.putLxe(u[i] as number, u[i + 1] as number, mfn);
    }
  }

  /** Change an entry of a validated L2, L3 or L4 table. */
  modLx(at: Maddr, lo: number, hi: number, keepAd: boolean, level: PageType): number {
    const ft = this.ft;
    const mem = ft.mem;
    const table = Math.floor(at / 4096);
    const slot = (at & 4095) >>> 3;
    if (level === PGT_l4_page_table && slot >= XEN_SLOT_FIRST && slot <= XEN_SLOT_LAST) return -EINVAL;
    at = mem.resolve(at);
    const i = at >>> 2;
    const olo = mem.u32[i] as number;
    const ohi = mem.u32[i + 1] as number;
    if ((lo & PTE_P) !== 0) {
      if ((lo & LX_DISALLOW_LO) !== 0) return -EINVAL;
      lo |= level === PGT_l4_page_table ? PTE_US | PTE_A : PTE_US;
      if ((((olo ^ lo) & SLOW_LO) | ((ohi ^ hi) & SLOW_HI)) === 0) {
        if (keepAd) lo |= olo & (PTE_A | PTE_D);
        mem.w64(at, lo, hi);
        ft.entryChanged();
        if ((hi & ~ohi & PTE_HI_NX) !== 0) ft.codeChanged |= this.codeBelow(level, slot, pteMfn(olo, ohi));
        return 0;
      }
      const rc = this.getLxe(lo, hi, table, level, ft.owner[table] as number);
      if (rc !== 0) return rc;
    }
    if (keepAd) lo |= olo & (PTE_A | PTE_D);
    mem.w64(at, lo, hi);
    if ((olo & PTE_P) !== 0) {
      ft.entryChanged();
      ft.codeChanged |= this.codeBelow(level, slot, pteMfn(olo, ohi));
    } else if (level === PGT_l4_page_table && slot > XEN_SLOT_LAST) {
      // What is known of one root's upper half counts for all that have the same entries there.
      ft.codeChanged |= CODE_UPPER;
    }
    this.putLxe(olo, ohi, table);
    return 0;
  }

  /** Where in the address space an entry of an upper table that goes away may have mapped code (FrameTable.codeChanged). */
  private codeBelow(level: PageType, slot: number, mfn: Mfn): number {
    if (level === PGT_l4_page_table) return slot < XEN_SLOT_FIRST ? CODE_LOWER : CODE_UPPER;
    if (level !== PGT_l2_page_table && level !== PGT_l3_page_table) return CODE_LOWER | CODE_UPPER;
    // Mostly the table is empty by now: what it mapped was unmapped entry by entry.
    const u = this.ft.mem.u32;
    let where = 0;
    const base = this.ft.mem.ram(mfn) * 1024;
    for (let i = base; i < base + 1024; i += 2) {
      const hi = u[i + 1] as number;
      if (((u[i] as number) & PTE_P) === 0) continue;
      if (level === PGT_l3_page_table) where |= this.codeBelow(PGT_l2_page_table, slot, pteMfn(u[i] as number, hi));
      else if (this.mapsCode(u[i] as number, hi)) where |= (hi & PTE_HI_KERNEL) !== 0 ? CODE_UPPER : CODE_USER;
    }
    return where;
  }
  /** Does a present L1 entry make a frame executable from which the engine holds code? */
  private mapsCode(lo: number, hi: number): boolean {
    if ((hi & PTE_HI_NX) !== 0) return false;
    const mfn = pteMfn(lo, hi);
    return this.ft.valid(mfn) && this.ft.mem.hasCode(mfn);
  }

  /** Fill Xen's slots of an L4: the machine-to-physical table in 256, nothing else. */
  fillXenSlots(l4: Mfn): void {
    const mem = this.ft.mem;
    mem.fill(l4 * 4096 + XEN_SLOT_FIRST * 8, 0, (XEN_SLOT_LAST + 1 - XEN_SLOT_FIRST) * 8);
    this.showM2p(l4, true);
  }
  showM2p(l4: Mfn, on: boolean): void {
    const at = l4 * 4096 + XEN_SLOT_FIRST * 8;
    const lo = on ? this.ft.m2p.l4eLo : 0;
    if (this.ft.mem.r32(at) === lo) return;
    this.ft.entryChanged();
    this.ft.mem.w64(at, lo, 0);
  }

  // --- called by the frame table -----------------------------------------------------------------------------------------------

  /** Make a page a table (or a descriptor page): 0, or a negative errno with all references taken given back. */
  promote(mfn: Mfn, t: PageType): number {
    const owner = this.ft.owner[mfn] as number;
    if (owner === OWNER_NONE) bug(`frame ${mfn} without an owner is to be a table`);
    switch (t) {
      case PGT_l1_page_table: {
        this.touchCode(mfn);
        return this.promoteL1(mfn, owner);
      }
      case PGT_l2_page_table:
      case PGT_l3_page_table:
      case PGT_l4_page_table:
        this.touchCode(mfn);
        if (t === PGT_l4_page_table) this.ft.rootChanged(mfn);
        return this.promoteLx(mfn, t, owner);
      case PGT_seg_desc_page:
        return this.promoteDescriptors(mfn);
      default:
        return bug(`frame ${mfn} cannot be validated as type ${t}`);
    }
  }

  /** Entries are adjusted through the plain views: tell the engine first, in case the page held code. */
  private touchCode(mfn: Mfn): void {
    this.ft.mem.w32(mfn * 4096, this.ft.mem.r32(mfn * 4096));
  }

  demote(mfn: Mfn, t: PageType): void {
    this.ft.entryChanged();
    if (t === PGT_l4_page_table) this.ft.rootChanged(mfn);
    if (t === PGT_l1_page_table) {
      const u = this.ft.mem.u32;
      const owner = this.ft.owner[mfn] as number;
      for (let i = this.ft.mem.ram(mfn) * 1024, e = i + 1024; i < e; i += 2) {
        const lo = u[i] as number;
        if ((lo & PTE_P) !== 0) this.putL1e(lo, u[i + 1] as number, owner);
      }
    } else this.releaseEntries(mfn, t, 511);
  }

  private promoteDescriptors(mfn: Mfn): number {
    const mem = this.ft.mem;
    for (let at = mfn * 4096, e = at + 4096; at < e; at += 8) {
      const lo = mem.r32(at);
      const hi = mem.r32(at + 4);
      const d = fixDescriptor(lo, hi);
      if (d === null) return -EINVAL;
      if (d.lo !== lo || d.hi !== hi) mem.w64(at, d.lo, d.hi);
    }
    return 0;
  }
}
