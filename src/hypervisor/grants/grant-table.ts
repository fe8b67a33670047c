/**
 * A domain's grant table: the entries it shares its pages with (in frames that it writes), what of them is in use (active entries), and the
 * grants of others that it has mapped (maptrack).
 *
 * Invariants:
 * - an active entry's pin counts every mapping and copy in progress; GTF_reading and GTF_writing in the guest's entry follow it;
 * - what an active entry says was read from the guest's entry once, at its first pin; later changes by the guest do not matter;
 * - every mapping holds a general reference on the page, and a writable type reference if it is writable.
 */
import { EINVAL, ENOMEM } from "../../abi/errno.js";
import {
  GNTMAP_device_map,
  GNTMAP_host_map,
  GNTMAP_readonly,
  GNTST_bad_domain,
  GNTST_bad_gntref,
  GNTST_bad_page,
  GNTST_general_error,
  GNTST_okay,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_sub_page,
  GTF_transitive,
  GTF_type_mask,
  GTF_writing,
  grant_entry_v1,
  grant_entry_v2,
} from "../../abi/grant_table.js";
import { XENMEM_resource_grant_table_id_shared, XENMEM_resource_grant_table_id_status } from "../../abi/memory.js";
import type { Maddr, Mfn } from "../../machine/memory.js";
import type { Domain } from "../domain.js";
import { PGT_writable_page, type FrameTable } from "../memory/frame-table.js";
import { bug } from "../memory/invariant.js";

/** Pin counts: four fields of eight bits (mappings by CPU and by device, writable and read-only). */
export const PIN_HSTW = 1,
  PIN_HSTR = 1 << 8,
  PIN_DEVW = 1 << 16,
  PIN_DEVR = 1 << 24;
const HSTW_MASK = 0xff,
  HSTR_MASK = 0xff00,
  DEVW_MASK = 0xff0000,
  DEVR_MASK = 0xff000000;
/** Any pin that may write. */
export const PIN_WRITERS = HSTW_MASK | DEVW_MASK;

const V1_PER_FRAME = 4096 / grant_entry_v1.size;
const V2_PER_FRAME = 4096 / grant_entry_v2.size;
const STATUS_PER_FRAME = 4096 / 2;
const MAPTRACK_PER_FRAME = 256;
const NO_HANDLE = -1;

export interface GrantLimits {
  /** Frames of grant entries the domain may have. */
  maxGrantFrames?: number;
  /** Frames (of 256 entries) of mapped grants it may track. */
  maxMaptrackFrames?: number;
  /** Highest table version it may choose. */
  maxVersion?: 1 | 2;
}

/** A grant mapped by a back end in this process. */
export interface HostMapping {
  readonly mfn: Mfn;
  unmap(): void;
}

export class GrantTable {
  version: 1 | 2 = 1;
  readonly frames: Mfn[] = [];
  readonly statusFrames: Mfn[] = [];
  readonly maxFrames: number;
  readonly maxVersion: 1 | 2;
  /** The domain is gone and its frames with it; mappings of its pages by others may remain. */
  destroyed = false;
  /** Sub-page and transitive copies in progress: the version cannot change under them. */
  v2Ops = 0;

  // Active entries, by reference.
  pin = new Uint32Array(0);
  actDomid = new Uint16Array(0);
  actMfn = new Int32Array(0);
  actStart = new Uint16Array(0);
  actLength = new Uint16Array(0);
  actSub = new Uint8Array(0);
  actTransRef = new Uint32Array(0);
  /** Whose page it is: for transitive grants another table's. */
  readonly actSource: (GrantTable | null)[] = [];

  // Maptrack, by handle. Flags 0 = free (mapRef is then the next free handle, −1 at the end).
  private mapRef = new Int32Array(0);
  private mapFlags = new Uint16Array(0);
  private readonly mapPeer: (GrantTable | null)[] = [];
  private readonly maxHandles: number;
  private freeHead = NO_HANDLE;
  private freeTail = NO_HANDLE;
  /** Handles in use. */
  mapped = 0;

  readonly ft: FrameTable;

  constructor(
    readonly domain: Domain,
    limits: GrantLimits = {},
  ) {
    this.ft = domain.xen.frames;
    this.maxFrames = limits.maxGrantFrames ?? 64;
    this.maxHandles = (limits.maxMaptrackFrames ?? 1024) * MAPTRACK_PER_FRAME;
    this.maxVersion = limits.maxVersion ?? 2;
    if (this.maxFrames < 1 || this.grow(1) !== 0) throw new Error("not enough memory for a domain's grant table");
  }

  /** The frame table's number for the owner of the granted pages. */
  get owner(): number {
    return this.domain.mm.id;
  }
  get entries(): number {
    return this.frames.length * (this.version === 1 ? V1_PER_FRAME : V2_PER_FRAME);
  }

  // --- size ----------------------------------------------------------------------------------------------------------------

  private statusFor(frames: number): number {
    return Math.ceil((frames * V2_PER_FRAME) / STATUS_PER_FRAME);
  }
  /** Enlarge to `frames` (at most `maxFrames`): 0 or −ENOMEM with nothing changed. */
  grow(frames: number): number {
    const wanted = Math.max(1, frames);
    const had = this.frames.length;
    while (this.frames.length < wanted) {
      const f = this.ft.allocShared(this.owner);
      if (f < 0) {
        this.shrinkTo(this.frames, had);
        return -ENOMEM;
      }
      this.frames.push(f);
    }
    if (this.version === 2 && this.populateStatus() !== 0) {
      this.shrinkTo(this.frames, had);
      return -ENOMEM;
    }
    const n = this.frames.length * V1_PER_FRAME;
    if (n > this.pin.length) {
      const u32 = (a: Uint32Array): Uint32Array<ArrayBuffer> => {
        const b = new Uint32Array(n);
        b.set(a);
        return b;
      };
      const u16 = (a: Uint16Array): Uint16Array<ArrayBuffer> => {
        const b = new Uint16Array(n);
        b.set(a);
        return b;
      };
      this.pin = u32(this.pin);
      this.actTransRef = u32(this.actTransRef);
      this.actDomid = u16(this.actDomid);
      this.actStart = u16(this.actStart);
      this.actLength = u16(this.actLength);
      const mfn = new Int32Array(n);
      mfn.set(this.actMfn);
      this.actMfn = mfn;
      const sub = new Uint8Array(n);
      sub.set(this.actSub);
      this.actSub = sub;
      while (this.actSource.length < n) this.actSource.push(null);
    }
    return 0;
  }
  private shrinkTo(list: Mfn[], n: number): void {
    while (list.length > n) this.ft.freeShared(list.pop() as Mfn);
  }
  /** Status frames for version 2: 0 or −ENOMEM. */
  populateStatus(): number {
    const had = this.statusFrames.length;
    while (this.statusFrames.length < this.statusFor(this.frames.length)) {
      const f = this.ft.allocShared(this.owner);
      if (f < 0) {
        this.shrinkTo(this.statusFrames, had);
        return -ENOMEM;
      }
      this.statusFrames.push(f);
    }
    return 0;
  }
  /** True if nobody maps a status frame, so that they can go. */
  get statusUnused(): boolean {
    return this.statusFrames.every((f) => this.ft.ref[f] === 1 && this.ft.tcount[f] === 1);
  }
  dropStatus(): void {
    this.shrinkTo(this.statusFrames, 0);
  }
  /** Frames that `needed` grant frames at this version call for are there. */
  covers(frames: number): boolean {
    return frames <= this.frames.length && (this.version === 1 || this.statusFor(frames) <= this.statusFrames.length);
  }

  // --- XENMEM_acquire_resource --------------------------------------------------------------------------------------------

  resourceFrames(id: number): number {
    if (id === XENMEM_resource_grant_table_id_shared) return this.maxFrames;
    return id === XENMEM_resource_grant_table_id_status ? this.statusFor(this.maxFrames) : 0;
  }
  /** One frame of the table or of its status, growing it as needed; −EINVAL beyond the limit. */
  resourceFrame(id: number, index: number): Mfn {
    if (this.destroyed) return -EINVAL;
    if (id === XENMEM_resource_grant_table_id_shared) {
      if (index >= this.maxFrames) return -EINVAL;
      if (index >= this.frames.length && this.grow(index + 1) !== 0) return -EINVAL;
      return this.frames[index] as Mfn;
    }
    if (id !== XENMEM_resource_grant_table_id_status || this.version !== 2) return -EINVAL;
    if (index >= this.statusFrames.length) {
      const frames = Math.ceil(((index + 1) * STATUS_PER_FRAME) / V2_PER_FRAME);
      if (frames > this.maxFrames || this.grow(frames) !== 0) return -EINVAL;
    }
    return this.statusFrames[index] ?? -EINVAL;
  }

  // --- entries in the guest's frames ---------------------------------------------------------------------------------------

  entryAt(ref: number): Maddr {
    return this.version === 1
      ? (this.frames[Math.floor(ref / V1_PER_FRAME)] as Mfn) * 4096 + (ref % V1_PER_FRAME) * grant_entry_v1.size
      : (this.frames[Math.floor(ref / V2_PER_FRAME)] as Mfn) * 4096 + (ref % V2_PER_FRAME) * grant_entry_v2.size;
  }
  /** Where GTF_reading and GTF_writing are kept; −1 where there is no such entry any more. */
  statusAt(ref: number): Maddr {
    if (this.destroyed || ref >= this.entries) return -1;
    if (this.version === 1) return this.entryAt(ref);
    return (this.statusFrames[Math.floor(ref / STATUS_PER_FRAME)] as Mfn) * 4096 + (ref % STATUS_PER_FRAME) * 2;
  }
  /** The granted frame number in an entry. */
  frameOf(ref: number): number {
    const at = this.entryAt(ref);
    return this.version === 1
      ? this.ft.mem.r32(at + grant_entry_v1.frame)
      : this.ft.mem.r64(at + grant_entry_v2.full_page_frame);
  }

  /** Write an entry for the guest before it runs (the toolstack's console and XenStore grants). */
  seed(ref: number, domid: number, frame: number): void {
    const at = this.entryAt(ref);
    const mem = this.ft.mem;
    if (this.version === 1) mem.w32(at + grant_entry_v1.frame, frame);
    else mem.w64n(at + grant_entry_v2.full_page_frame, frame);
    mem.w16(at + 2, domid);
    mem.w16(at, GTF_permit_access);
  }

  /**
   * Mark an entry in use for `domid`. With a pin held only the read-only bit still counts. `forMap`: sub-page and transitive grants cannot be mapped.
   */
  setStatus(ref: number, readonly: boolean, forMap: boolean, domid: number): number {
    const mem = this.ft.mem;
    const at = this.entryAt(ref);
    const flags = mem.r16(at);
    if (this.pin[ref] === 0) {
      const type = flags & (forMap ? GTF_type_mask | GTF_sub_page : GTF_type_mask);
      const ok = type === GTF_permit_access || (this.version === 2 && !forMap && type === GTF_transitive);
      if (!ok || mem.r16(at + 2) !== domid) return GNTST_general_error;
    }
    if (!readonly && (flags & GTF_readonly) !== 0) return GNTST_general_error;
    const s = this.statusAt(ref);
    mem.w16(s, mem.r16(s) | GTF_reading | (readonly ? 0 : GTF_writing));
    return GNTST_okay;
  }
  /** After a pin was dropped: clear what no pin needs any more. */
  reduceStatus(ref: number, readonly: boolean): void {
    let clear = this.pin[ref] === 0 ? GTF_reading : 0;
    if (!readonly && ((this.pin[ref] as number) & PIN_WRITERS) === 0) clear |= GTF_writing;
    if (clear === 0) return;
    const s = this.statusAt(ref);
    if (s >= 0) this.ft.mem.w16(s, this.ft.mem.r16(s) & ~clear);
  }

  addPin(ref: number, inc: number): void {
    this.pin[ref] = (this.pin[ref] as number) + inc;
  }
  subPin(ref: number, inc: number): void {
    const field =
      inc === PIN_HSTW ? HSTW_MASK : inc === PIN_HSTR ? HSTR_MASK : inc === PIN_DEVW ? DEVW_MASK : DEVR_MASK;
    if (((this.pin[ref] as number) & field) === 0) bug(`grant ${ref} of d${this.domain.domid}: pin count below zero`);
    this.pin[ref] = (this.pin[ref] as number) - inc;
  }

  /**
   * Pin an entry for a mapping by `domid` and take one reference on its page (which is then `actMfn[ref]`). `pins`: the sum of PIN_* to add.
   */
  acquire(ref: number, domid: number, pins: number, readonly: boolean): number {
    if (this.destroyed || ref >= this.entries) return GNTST_bad_gntref;
    const pin = this.pin[ref] as number;
    // A field about to overflow has its top bit set.
    if (pin !== 0 && (this.actDomid[ref] !== domid || (pin & (pins << 7)) !== 0 || this.actSub[ref] !== 0))
      return GNTST_general_error;
    if (pin === 0 || (!readonly && (pin & PIN_WRITERS) === 0)) {
      const rc = this.setStatus(ref, readonly, true, domid);
      if (rc !== GNTST_okay) return rc;
    }
    if (pin === 0) {
      const mfn = this.domain.mm.gfnToMfn(this.frameOf(ref));
      if (!this.ft.getPage(mfn, this.owner)) {
        this.reduceStatus(ref, readonly);
        return GNTST_bad_page;
      }
      this.setActive(ref, domid, mfn, 0, 4096, false, this, ref);
    } else if (!this.ft.getPage(this.actMfn[ref] as number, this.owner)) {
      this.reduceStatus(ref, readonly);
      return GNTST_general_error;
    }
    this.addPin(ref, pins);
    return GNTST_okay;
  }
  setActive(
    ref: number,
    domid: number,
    mfn: Mfn,
    start: number,
    length: number,
    sub: boolean,
    source: GrantTable,
    transRef: number,
  ): void {
    this.actDomid[ref] = domid;
    this.actMfn[ref] = mfn;
    this.actStart[ref] = start;
    this.actLength[ref] = length;
    this.actSub[ref] = sub ? 1 : 0;
    this.actSource[ref] = source;
    this.actTransRef[ref] = transRef;
  }

  /** A mapping by a back end in this process, on behalf of `mapper`. A negative GNTST_* if it is refused. */
  mapForHost(ref: number, write: boolean, mapper: number): HostMapping | number {
    const inc = write ? PIN_HSTW : PIN_HSTR;
    const rc = this.acquire(ref, mapper, inc, !write);
    if (rc !== GNTST_okay) return rc;
    const mfn = this.actMfn[ref] as number;
    const typed = write && this.ft.getPageType(mfn, PGT_writable_page) === 0;
    if (write && (!typed || !this.ft.sharing.makePrivate(mfn))) {
      if (typed) this.ft.putPageType(mfn);
      this.ft.putPage(mfn);
      this.subPin(ref, inc);
      this.reduceStatus(ref, false);
      return GNTST_general_error;
    }
    let live = true;
    return {
      mfn,
      unmap: () => {
        if (!live) return;
        live = false;
        if (write) this.ft.putPageAndType(mfn);
        else this.ft.putPage(mfn);
        this.subPin(ref, inc);
        this.reduceStatus(ref, !write);
      },
    };
  }

  // --- maptrack ------------------------------------------------------------------------------------------------------------

  /** A free handle, or −1. */
  takeHandle(): number {
    if (this.freeHead === NO_HANDLE) {
      const had = this.mapFlags.length;
      if (had >= this.maxHandles) return NO_HANDLE;
      const n = Math.min(this.maxHandles, had + Math.max(MAPTRACK_PER_FRAME, had));
      const refs = new Int32Array(n);
      refs.set(this.mapRef);
      const flags = new Uint16Array(n);
      flags.set(this.mapFlags);
      this.mapRef = refs;
      this.mapFlags = flags;
      for (let h = had; h < n; h++) {
        this.mapPeer.push(null);
        this.mapRef[h] = h + 1 < n ? h + 1 : NO_HANDLE;
      }
      this.freeHead = had;
      this.freeTail = n - 1;
    }
    const h = this.freeHead;
    this.freeHead = this.mapRef[h] as number;
    if (this.freeHead === NO_HANDLE) this.freeTail = NO_HANDLE;
    return h;
  }
  /** Freed handles go to the end: a stale one stays invalid for as long as possible. */
  freeHandle(h: number): void {
    this.mapRef[h] = NO_HANDLE;
    if (this.freeTail === NO_HANDLE) this.freeHead = h;
    else this.mapRef[this.freeTail] = h;
    this.freeTail = h;
  }
  track(h: number, peer: GrantTable, ref: number, flags: number): void {
    this.mapPeer[h] = peer;
    this.mapRef[h] = ref | 0;
    this.mapFlags[h] = flags;
    this.mapped++;
  }
  /** GNTMAP_* flags of a handle in use, 0 otherwise. */
  flagsOf(h: number): number {
    return h < this.mapFlags.length ? (this.mapFlags[h] as number) : 0;
  }
  refOf(h: number): number {
    return (this.mapRef[h] as number) >>> 0;
  }
  peerOf(h: number): GrantTable {
    return this.mapPeer[h] ?? bug(`grant handle ${h} of d${this.domain.domid} has no peer`);
  }
  /** Handles in use, at most `limit`. */
  mappings(limit: number): { handle: number; domid: number; ref: number; flags: number }[] {
    const out: { handle: number; domid: number; ref: number; flags: number }[] = [];
    for (let handle = 0; handle < this.mapFlags.length && out.length < limit; handle++) {
      const flags = this.mapFlags[handle] as number;
      if ((flags & (GNTMAP_device_map | GNTMAP_host_map)) === 0) continue;
      out.push({ handle, domid: this.peerOf(handle).domain.domid, ref: this.refOf(handle), flags });
    }
    return out;
  }
  setFlags(h: number, flags: number): void {
    if ((flags & (GNTMAP_device_map | GNTMAP_host_map)) !== 0) {
      this.mapFlags[h] = flags;
      return;
    }
    this.mapFlags[h] = 0;
    this.mapPeer[h] = null;
    this.mapped--;
    this.freeHandle(h);
  }

  // --- the end -------------------------------------------------------------------------------------------------------------

  /**
   * The domain dies: drop the pins of what it mapped. The references of CPU mappings go with its page tables; those of device mappings here.
   */
  releaseMappings(): void {
    for (let h = 0; h < this.mapFlags.length; h++) {
      const flags = this.mapFlags[h] as number;
      if ((flags & (GNTMAP_device_map | GNTMAP_host_map)) === 0) continue;
      const peer = this.peerOf(h);
      const ref = this.refOf(h);
      const ro = (flags & GNTMAP_readonly) !== 0;
      if ((flags & GNTMAP_device_map) !== 0) {
        const mfn = peer.actMfn[ref] as number;
        peer.subPin(ref, ro ? PIN_DEVR : PIN_DEVW);
        if (ro) this.ft.putPage(mfn);
        else this.ft.putPageAndType(mfn);
      }
      if ((flags & GNTMAP_host_map) !== 0) peer.subPin(ref, ro ? PIN_HSTR : PIN_HSTW);
      peer.reduceStatus(ref, ro);
      this.setFlags(h, 0);
    }
  }
  /** Xen's hold on the shared frames ends. */
  destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    this.shrinkTo(this.frames, 0);
    this.shrinkTo(this.statusFrames, 0);
  }
}

/**
 * Map a page that `domain` grants (reference `ref`) for a back end in this process acting as domain `mapper` (dom0). The same rules as for a guest's
 * GNTTABOP_map_grant_ref; the page stays the domain's, and stays allocated, until `unmap`. A negative GNTST_* if refused.
 */
export function mapForHost(domain: Domain, ref: number, write: boolean, mapper = 0): HostMapping | number {
  const gt = domain.grants as GrantTable | undefined;
  return gt === undefined ? GNTST_bad_domain : gt.mapForHost(ref, write, mapper);
}
