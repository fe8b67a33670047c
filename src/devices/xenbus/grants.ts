/**
 * A back end's way to the pages a front end grants: copies in and out, and mappings that last while the device is connected.
 *
 * Invariant: no mapping outlives `close()`; a copy holds its mapping only for the copy. Without a grant nothing is touched.
 */
import { GNTST_general_error } from "../../abi/grant_table.js";
import type { Domain } from "../../hypervisor/domain.js";
import { mapForHost } from "../../hypervisor/grants/grant-table.js";
import { SharedPages } from "./ring.js";
import { DeviceError } from "./errors.js";

const PAGE = 4096;

interface Mapping {
  readonly mfn: number;
  unmap(): void;
}

export class GuestGrants {
  private readonly held: Mapping[] = [];
  /** Persistent grants by reference, least recently used first. */
  private readonly persistent = new Map<number, Mapping>();
  /** Persistent grants kept at most; 0: none. */
  maxPersistent = 0;
  /** Maps and unmaps done so far. */
  maps = 0;

  constructor(
    private readonly guest: Domain,
    /** The back end's domain. */
    private readonly mapper = 0,
  ) {}

  private map(ref: number, write: boolean): Mapping | number {
    this.maps++;
    return mapForHost(this.guest, ref, write, this.mapper);
  }

  /** Map pages to read and write until `close`. Throws a DeviceError where one is not granted. */
  pages(refs: readonly number[]): SharedPages {
    const mfns: number[] = [];
    for (const ref of refs) {
      const m = this.map(ref, true);
      if (typeof m === "number") throw new DeviceError(`mapping of grant ${ref} refused (GNTST ${m})`);
      this.held.push(m);
      mfns.push(m.mfn);
    }
    return new SharedPages(this.guest.xen.mem, mfns);
  }

  /** Do something with a granted page; 0, or a negative GNTST_* where it is not granted so. */
  private use(ref: number, write: boolean, work: (page: number) => void): number {
    const kept = this.persistent.get(ref);
    if (kept !== undefined) {
      work(kept.mfn * PAGE);
      return 0;
    }
    if (this.persistent.size < this.maxPersistent) {
      // A persistent grant serves both directions, so that it is mapped to be written.
      const m = this.map(ref, true);
      if (typeof m !== "number") {
        this.persistent.set(ref, m);
        work(m.mfn * PAGE);
        return 0;
      }
    }
    const m = this.map(ref, write);
    if (typeof m === "number") return m;
    try {
      work(m.mfn * PAGE);
    } finally {
      m.unmap();
    }
    return 0;
  }

  /** Copy from a granted page. `offset + into.length` beyond the page is refused. */
  copyIn(ref: number, offset: number, into: Uint8Array): number {
    if (offset < 0 || offset + into.length > PAGE) return GNTST_general_error;
    return this.use(ref, false, (page) => this.guest.xen.mem.readInto(page + offset, into));
  }
  /** Copy to a page granted for writing. */
  copyOut(ref: number, offset: number, bytes: Uint8Array): number {
    if (offset < 0 || offset + bytes.length > PAGE) return GNTST_general_error;
    return this.use(ref, true, (page) => this.guest.xen.mem.write(page + offset, bytes));
  }

  /** Persistent grants held. */
  get kept(): number {
    return this.persistent.size;
  }

  /** Let go of everything. */
  close(): void {
    for (const m of this.held.splice(0)) m.unmap();
    for (const m of this.persistent.values()) m.unmap();
    this.persistent.clear();
  }
}
