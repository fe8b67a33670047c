/**
 * The machine-to-physical table: for each machine frame the pseudo-physical frame its owner knows it by (8-byte entries, all ones = none),
 * in frames owned by DOMID_XEN and mapped read-only for guests at MACH2PHYS_VIRT_START through one shared L3 in slot 256 of each L4.
 *
 * Invariant: guests only read it; entries change here alone.
 */
import type { Mfn } from "../../machine/memory.js";
import type { FrameTable } from "./frame-table.js";
import { bug } from "./invariant.js";

/** Present, user, accessed; never writable. */
const RO = 0x25;
const NX_HI = 0x80000000;

export class M2p {
  /** First of `frames` contiguous frames that hold the entries. */
  readonly base: Mfn;
  readonly frames: number;
  readonly l3: Mfn;
  private readonly entries: number;

  constructor(private readonly ft: FrameTable) {
    const mem = ft.mem;
    this.entries = mem.limit;
    this.frames = Math.ceil((this.entries * 8) / 4096);
    this.base = ft.allocXen();
    // The free list is in ascending order when the machine starts, so these follow each other.
    for (let i = 1; i < this.frames; i++)
      if (ft.allocXen() !== this.base + i) bug("no room for the machine-to-physical table");
    this.l3 = ft.allocXen();
    const l2 = ft.allocXen();
    if (this.l3 < 0 || l2 < 0) bug("no room for the machine-to-physical table");
    mem.w64n(this.l3 * 4096, l2 * 4096 + RO);
    for (let i = 0; i * 512 < this.frames; i++) {
      const l1 = ft.allocXen();
      if (l1 < 0) bug("no room for the machine-to-physical table");
      mem.w64n(l2 * 4096 + i * 8, l1 * 4096 + RO);
      for (let j = 0; j < 512 && i * 512 + j < this.frames; j++)
        mem.w64(l1 * 4096 + j * 8, (this.base + i * 512 + j) * 4096 + RO, NX_HI);
    }
    // Those of alias frames are set when they are handed out.
    mem.fill(this.base * 4096, 0xff, ft.ramLimit * 8);
  }

  /** The L4 entry of slot 256. */
  get l4eLo(): number {
    return this.l3 * 4096 + RO;
  }

  set(mfn: Mfn, lo: number, hi: number): void {
    const p = (this.base * 4096 + mfn * 8) >>> 2;
    const u = this.ft.mem.u32;
    u[p] = lo;
    u[p + 1] = hi;
  }
  setPfn(mfn: Mfn, pfn: number): void {
    this.set(mfn, pfn >>> 0, Math.floor(pfn / 4294967296) >>> 0);
  }
  /** Frames that follow each other: pfn at base + pfn, none where `present` is negative. */
  setRun(base: Mfn, present: Int32Array): void {
    const u = this.ft.mem.u32;
    let p = (this.base * 4096 + base * 8) >>> 2;
    for (let pfn = 0; pfn < present.length; pfn++, p += 2) {
      const none = (present[pfn] as number) < 0;
      u[p] = none ? 0xffffffff : pfn;
      u[p + 1] = none ? 0xffffffff : 0;
    }
  }
  clear(mfn: Mfn): void {
    this.set(mfn, 0xffffffff, 0xffffffff);
  }
  /** The pseudo-physical frame, or −1 where there is none (or a value no domain of ours can have). */
  get(mfn: Mfn): number {
    const p = (this.base * 4096 + mfn * 8) >>> 2;
    const u = this.ft.mem.u32;
    return u[p + 1] === 0 && (u[p] as number) < 0x80000000 ? (u[p] as number) : -1;
  }
}
