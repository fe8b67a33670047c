/**
 * A vCPU's address spaces and descriptor tables: kernel and user root, GDT frames, LDT.
 *
 * Invariants: each root holds a general and an L4 type reference; each GDT and mapped LDT frame a general and a seg_desc one. The CPU's root of
 * space 0 is the kernel's, of space 1 the user's (Xen's empty table where the guest has set none, so that user mode faults at once).
 */
import { FIRST_RESERVED_GDT_ENTRY, FIRST_RESERVED_GDT_PAGE } from "../../abi/arch_x86_xen.js";
import { EINVAL } from "../../abi/errno.js";
import { VMASST_TYPE_m2p_strict } from "../../abi/xen.js";
import type { Va } from "../../machine/cpu/api.js";
import type { Mfn } from "../../machine/memory.js";
import type { Vcpu } from "../vcpu.js";
import type { Xen } from "../xen.js";
import { PGT_l4_page_table, PGT_seg_desc_page } from "./frame-table.js";
import { addrOk, hasAssist } from "./util.js";

const LDT_PAGES = 16;

export class VcpuMm {
  /** 0 where there is none. */
  kernelRoot: Mfn = 0;
  userRoot: Mfn = 0;
  /** One per page of the guest's part of the GDT; −1 where it has none (reads as zeroes). */
  readonly gdtFrames = new Int32Array(FIRST_RESERVED_GDT_PAGE).fill(-1);
  gdtEntries = 0;
  ldtBase: Va = 0;
  ldtEntries = 0;
  /** LDT pages mapped so far (on first use); −1 where not. */
  readonly ldtFrames = new Int32Array(LDT_PAGES).fill(-1);

  constructor(
    private readonly xen: Xen,
    private readonly vcpu: Vcpu,
  ) {}

  private get loaded(): boolean {
    return this.xen.current === this.vcpu;
  }

  /**
   * Give the CPU this vCPU's address spaces. Roots that are already there keep their TLB entries: all flushes act on the live TLB and on what the CPU keeps
   * of others, whoever asks, and a frame is not reused before one.
   */
  load(): void {
    this.apply(0, this.kernelRoot);
    this.apply(1, this.userRoot);
  }
  private apply(space: 0 | 1, root: Mfn): void {
    const { mem, cpu, frames } = this.xen;
    cpu.setRoot(space, mem.ram(root === 0 ? frames.emptyRoot : root) * 4096, 4);
  }

  /** MMUEXT_NEW_BASEPTR. */
  newBaseptr(mfn: number): number {
    const ft = this.xen.frames;
    const old = this.kernelRoot;
    if (mfn === old) {
      ft.flushTlb();
      return 0;
    }
    const rc = ft.getPageAndType(mfn, this.vcpu.domain.mm.id, PGT_l4_page_table);
    if (rc !== 0) return rc;
    this.dropLdt();
    if (!hasAssist(this.vcpu.domain, VMASST_TYPE_m2p_strict)) ft.types.showM2p(mfn, true);
    this.kernelRoot = mfn;
    if (this.loaded) this.apply(0, mfn);
    if (old !== 0) ft.putPageAndType(old);
    return 0;
  }

  /** MMUEXT_NEW_USER_BASEPTR; 0 = none. */
  newUserBaseptr(mfn: number): number {
    const ft = this.xen.frames;
    const old = this.userRoot;
    if (mfn === old) return 0;
    if (mfn !== 0) {
      const rc = ft.getPageAndType(mfn, this.vcpu.domain.mm.id, PGT_l4_page_table);
      if (rc !== 0) return rc;
      if (hasAssist(this.vcpu.domain, VMASST_TYPE_m2p_strict)) ft.types.showM2p(mfn, false);
    }
    this.userRoot = mfn;
    if (this.loaded) this.apply(1, mfn);
    if (old !== 0) ft.putPageAndType(old);
    return 0;
  }

  /** Both roots of a new vCPU context (builder, VCPUOP_initialise, restore). 0 or a negative errno; the kernel's must be given. */
  setRoots(kernel: number, user: number): number {
    const rc = kernel === 0 ? -EINVAL : this.newBaseptr(kernel);
    return rc !== 0 ? rc : this.newUserBaseptr(user);
  }

  /** HYPERVISOR_set_gdt. */
  setGdt(frames: readonly number[], entries: number): number {
    if (!(entries >= 0 && entries <= FIRST_RESERVED_GDT_ENTRY)) return -EINVAL;
    const ft = this.xen.frames;
    const n = Math.ceil(entries / 512);
    for (let i = 0; i < n; i++) {
      if (ft.getPageAndType(frames[i] ?? -1, this.vcpu.domain.mm.id, PGT_seg_desc_page) !== 0) {
        while (i-- > 0) ft.putPageAndType(frames[i] as number);
        return -EINVAL;
      }
    }
    this.dropGdt();
    for (let i = 0; i < n; i++) this.gdtFrames[i] = frames[i] as number;
    this.gdtEntries = entries;
    return 0;
  }
  private dropGdt(): void {
    this.gdtEntries = 0;
    for (let i = 0; i < FIRST_RESERVED_GDT_PAGE; i++) {
      const f = this.gdtFrames[i] as number;
      if (f >= 0) this.xen.frames.putPageAndType(f);
      this.gdtFrames[i] = -1;
    }
  }

  /** MMUEXT_SET_LDT; pages are mapped when a selector first needs them. */
  setLdt(base: Va, entries: number): number {
    if (entries > 8192 || (entries !== 0 && (!addrOk(base) || base % 4096 !== 0))) return -EINVAL;
    if (this.ldtEntries !== entries || this.ldtBase !== base) {
      this.dropLdt();
      this.ldtBase = entries === 0 ? 0 : base;
      this.ldtEntries = entries;
    }
    return 0;
  }
  private dropLdt(): void {
    for (let i = 0; i < LDT_PAGES; i++) {
      const f = this.ldtFrames[i] as number;
      if (f >= 0) this.xen.frames.putPageAndType(f);
      this.ldtFrames[i] = -1;
    }
  }

  /** Drop everything held; the vCPU will not run again. */
  destroy(): void {
    const ft = this.xen.frames;
    this.dropGdt();
    this.dropLdt();
    this.ldtEntries = 0;
    const k = this.kernelRoot;
    const u = this.userRoot;
    this.kernelRoot = 0;
    this.userRoot = 0;
    if (this.loaded) this.load();
    if (k !== 0) ft.putPageAndType(k);
    if (u !== 0) ft.putPageAndType(u);
  }
}
