/**
 * Pages of a guest that the hypervisor itself keeps writing to (registered vcpu_info, FIFO control blocks and event arrays).
 *
 * Invariant: while such a page is held it has a reference of type "writable page", so that it can never become a page table.
 */
import { EINVAL, ENOMEM } from "../../abi/errno.js";
import type { Maddr } from "../../machine/memory.js";
import type { Domain } from "../domain.js";
import { PGT_writable_page } from "../memory/frame-table.js";

export interface GuestFrames {
  /** Take a reference and a writable type reference on one of the domain's frames: its machine address, or a negative errno. */
  getWritable(gfnLo: number, gfnHi: number): Maddr;
  putWritable(page: Maddr): void;
}

/** The frames of a domain, held through the machine's frame table. A PV guest's gfn is a machine frame number. */
export class DomainFrames implements GuestFrames {
  constructor(private readonly domain: Domain) {}
  getWritable(gfnLo: number, gfnHi: number): Maddr {
    if (gfnHi !== 0) return -EINVAL;
    const mfn = gfnLo >>> 0;
    const ft = this.domain.xen.frames;
    if (ft.getPageAndType(mfn, this.domain.mm.id, PGT_writable_page) !== 0) return -EINVAL;
    if (ft.sharing.makePrivate(mfn)) return mfn * 4096;
    ft.putPageAndType(mfn);
    return -ENOMEM;
  }
  putWritable(page: Maddr): void {
    this.domain.xen.frames.putPageAndType(page / 4096);
  }
}
