/**
 * The log of a domain's written frames, for live migration: which were written since their mark was cleared, whoever wrote: the guest's own
 * instructions, accessed and dirty bits of page walks, hypercalls, grant copies, back ends.
 *
 * The marks are the machine's, one per frame of RAM; logs of several domains do not disturb each other. Invariant: while a log is open no write
 * goes unmarked: marks are cleared together with a flush of the TLB, and writable translations are found anew only by marking.
 */
import type { Mfn } from "../../machine/memory.js";
import type { Xen } from "../xen.js";

/** Open logs of each machine. */
const open = new WeakMap<Xen, number>();

export class LogDirty {
  private live = true;
  constructor(private readonly xen: Xen) {
    const n = open.get(xen) ?? 0;
    open.set(xen, n + 1);
    if (n === 0) {
      xen.mem.logDirty(true);
      xen.frames.flushTlb();
    }
  }

  /** Forget that these frames were written: from now on. */
  clear(frames: Iterable<Mfn>): void {
    for (const mfn of frames) this.xen.mem.clearDirty(mfn);
    this.xen.frames.flushTlb();
  }
  isDirty(mfn: Mfn): boolean {
    return this.xen.mem.isDirty(mfn);
  }

  close(): void {
    if (!this.live) return;
    this.live = false;
    const n = (open.get(this.xen) ?? 1) - 1;
    open.set(this.xen, n);
    if (n === 0) this.xen.mem.logDirty(false);
  }
}
