// The seam between the domain builder and the hypervisor: what the builder needs of a new domain, and what it hands back.
import type { XenNotes } from "./xen-notes.js";

/** The machine's memory as the builder writes it; `PhysMem` of the machine has all of it. */
export interface BuildMemory {
  /** Copies `bytes` to machine memory; it may span frames that are contiguous in the machine. */
  write(maddr: number, bytes: Uint8Array): void;
  zeroFrame(mfn: number): void;
}

/** A new domain with its memory allocated and nothing in it. */
export interface BuildTarget {
  /** Frames of the domain: pfn 0 … totalPages − 1 are populated. **Their contents are zero.** */
  readonly totalPages: number;
  mfnOf(pfn: number): number;
  readonly mem: BuildMemory;
  /** The shared_info frame (owned by Xen, outside the pfn space). */
  readonly sharedInfoMfn: number;
}

export interface PvOptions {
  /** At most 1,023 bytes count (MAX_GUEST_CMDLINE). */
  readonly cmdline?: string;
  /** The RAM disk as it is in its file; a gzip file is unpacked, as libxc does, unless that would fill the domain. */
  readonly ramdisk?: Uint8Array | undefined;
  /** SIF_PRIVILEGED, SIF_INITDOMAIN …; the builder adds SIF_VIRT_P2M_4TOOLS and SIF_MOD_START_PFN. */
  readonly flags?: number;
  /** Ports of the guest, already allocated, that lead to XenStore and to the console. */
  readonly storeEvtchn: number;
  readonly consoleEvtchn: number;
}

/** A page-table frame that the builder has made. Level 4 is the root. */
export interface PageTableFrame {
  readonly mfn: number;
  readonly pfn: number;
  readonly level: 1 | 2 | 3 | 4;
}

/** One piece of the initial memory, for logs and tests. `va` is undefined where it is not mapped. */
export interface Region {
  readonly name: string;
  readonly pfn: number;
  readonly pages: number;
  readonly va: number | undefined;
}

/** A built PV domain: what vCPU 0's context and the hypervisor's bookkeeping need. All Va are canonical numbers. */
export interface PvImage {
  readonly bits: 64;
  readonly entry: number;
  /** rsp: the top of the one-page boot stack. */
  readonly stackTop: number;
  /** rsi. */
  readonly startInfoVa: number;
  readonly startInfoMfn: number;
  readonly l4Mfn: number;
  /**
   * Every page-table frame, root first. The tables map these frames read-only. The hypervisor types them (pins the root,
   * as MMUEXT_PIN_L4_TABLE would), fills its own slots of the root and adds the flags that are its own.
   */
  readonly pageTables: readonly PageTableFrame[];
  readonly consoleMfn: number;
  readonly consolePfn: number;
  readonly xenstoreMfn: number;
  readonly xenstorePfn: number;
  /** Where the kernel wants its hypercall page, filled by the hypervisor; most kernels make their own. */
  readonly hypercallPage?: { readonly va: number; readonly mfn: number };
  /** VA range of the initial mapping: [virtBase, virtEnd). */
  readonly virtBase: number;
  readonly virtEnd: number;
  readonly notes: XenNotes;
  readonly regions: readonly Region[];
}
