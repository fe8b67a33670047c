import { describe, expect, it, vi } from "vitest";
import { EACCES, EBUSY, EFAULT, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from "../../abi/errno.js";
import {
  DOMID_IO,
  DOMID_SELF,
  DOMID_XEN,
  MMU_MACHPHYS_UPDATE,
  MMU_PT_UPDATE_PRESERVE_AD,
  MMUEXT_CLEAR_PAGE,
  MMUEXT_COPY_PAGE,
  MMUEXT_FLUSH_CACHE,
  MMUEXT_INVLPG_ALL,
  MMUEXT_INVLPG_LOCAL,
  MMUEXT_MARK_SUPER,
  MMUEXT_NEW_BASEPTR,
  MMUEXT_NEW_USER_BASEPTR,
  MMUEXT_PIN_L1_TABLE,
  MMUEXT_PIN_L2_TABLE,
  MMUEXT_PIN_L4_TABLE,
  MMUEXT_SET_LDT,
  MMUEXT_TLB_FLUSH_LOCAL,
  MMUEXT_TLB_FLUSH_MULTI,
  MMUEXT_UNPIN_TABLE,
  UVMF_INVLPG,
  UVMF_TLB_FLUSH,
  VMASST_TYPE_m2p_strict,
  VMASST_TYPE_writable_pagetables,
} from "../../abi/xen.js";
import {
  XENMEM_add_to_physmap,
  XENMEM_current_reservation,
  XENMEM_decrease_reservation,
  XENMEM_exchange,
  XENMEM_increase_reservation,
  XENMEM_machphys_mapping,
  XENMEM_maximum_ram_page,
  XENMEM_maximum_reservation,
  XENMEM_memory_map,
  XENMEM_populate_physmap,
} from "../../abi/memory.js";
import type { Domain } from "../domain.js";
import type { Vcpu } from "../vcpu.js";
import { doSetGdt, doUpdateDescriptor, ldtFault, readDescriptor } from "./descriptors.js";
import {
  F_PINNED,
  OWNER_XEN,
  PGT_l1_page_table,
  PGT_l2_page_table,
  PGT_l4_page_table,
  PGT_seg_desc_page,
  PGT_writable_page,
} from "./frame-table.js";
import { InvariantError } from "./invariant.js";
import { doMemoryOp } from "./memory-op.js";
import { doMmuUpdate } from "./mmu-update.js";
import { doMmuextOp } from "./mmuext-op.js";
import { MMU_UPDATE_PREEMPTED } from "./requests.js";
import { doUpdateVaMapping, doUpdateVaMappingOtherdomain } from "./update-va-mapping.js";
import { doVmAssist } from "./vm-assist.js";
import { World } from "./testing.js";
import { CODE_MASK } from "../../machine/layout.js";
import { ptwrFault } from "./writable-pagetables.js";
import { seeded } from "../../testing.js";

const KERNEL = 0x00100000;

interface Env {
  w: World;
  d: Domain;
  t: { l4: number; l3: number; l2: number; l1: number };
  v: Vcpu;
  /** Machine address of a page for arguments. */
  buf: number;
}
function env(pages = 64, options: { privileged?: boolean } = {}): Env {
  const w = new World();
  const d = w.domain(1, pages, options);
  const t = w.build(d);
  return { w, d, t, v: d.vcpus[0] as Vcpu, buf: d.mm.mfnOf(8) * 4096 };
}
/** mmu_update with one request. */
function update(e: Env, mfn: number, slot: number, lo: number, hi = 0, cmd = 0, foreign: number = DOMID_SELF): number {
  e.w.mem.w64n(e.buf, mfn * 4096 + slot * 8 + cmd);
  e.w.mem.w64(e.buf + 8, lo, hi);
  return e.w.call(e.d, doMmuUpdate, e.buf, 1, 0, foreign);
}
function ext(e: Env, cmd: number, arg1 = 0, arg2 = 0, foreign: number = DOMID_SELF): number {
  e.w.mem.w32(e.buf, cmd);
  e.w.mem.w64n(e.buf + 8, arg1);
  e.w.mem.w64n(e.buf + 16, arg2);
  return e.w.call(e.d, doMmuextOp, e.buf, 1, 0, foreign);
}
/** A free pfn's frame that nothing maps writable. */
const page = (e: Env, pfn: number): number => e.d.mm.mfnOf(pfn);

describe("page-table validation", () => {
  it("types and references follow the tables", () => {
    const { w, t } = env();
    expect([w.ft.type[t.l4], w.ft.tcount[t.l4]]).toEqual([PGT_l4_page_table, 2]); // pinned and root
    expect([w.ft.type[t.l2], w.ft.tcount[t.l2]]).toEqual([PGT_l2_page_table, 1]);
    expect([w.ft.type[t.l1], w.ft.tcount[t.l1]]).toEqual([PGT_l1_page_table, 1]);
    w.ft.audit();
  });

  it("entries of L1: user ones become global, kernel ones get U and bit 52; upper ones get U", () => {
    const e = env();
    const p = page(e, 20);
    expect(update(e, e.t.l1, 100, (p << 12) | 0x63)).toBe(0);
    expect(e.w.readPte(e.t.l1, 100)).toEqual([((p << 12) | 0x67) >>> 0, KERNEL]);
    expect(update(e, e.t.l1, 101, (p << 12) | 0x67)).toBe(0);
    expect(e.w.readPte(e.t.l1, 101)).toEqual([((p << 12) | 0x167) >>> 0, 0]);
    // What the golden transcript shows: an entry read back and written again stays a kernel one.
    expect(update(e, e.t.l1, 102, (p << 12) | 0x65, KERNEL)).toBe(0);
    expect(e.w.readPte(e.t.l1, 102)).toEqual([((p << 12) | 0x65) >>> 0, KERNEL]);
    const l1b = page(e, 21);
    expect(update(e, e.t.l2, 5, (l1b << 12) | 3)).toBe(0);
    expect(e.w.readPte(e.t.l2, 5)).toEqual([((l1b << 12) | 7) >>> 0, 0]);
  });

  it("a page table is never mapped writable: −EBUSY", () => {
    const e = env();
    const before = e.w.snapshot();
    for (const m of [e.t.l1, e.t.l2, e.t.l3, e.t.l4]) expect(update(e, e.t.l1, 100, (m << 12) | 7)).toBe(-EBUSY);
    expect(e.w.snapshot()).toBe(before);
  });

  it("a page mapped writable cannot become a table: −EINVAL on a pin, and after the mapping is gone it can", () => {
    const e = env();
    expect(ext(e, MMUEXT_PIN_L1_TABLE, page(e, 10))).toBe(-EINVAL);
    expect(update(e, e.t.l1, 10, (page(e, 10) << 12) | 5)).toBe(0);
    expect(ext(e, MMUEXT_PIN_L1_TABLE, page(e, 10))).toBe(0);
  });

  it("a change of type flushes the TLB if a writable entry may be left in it", () => {
    const e = env();
    expect(update(e, e.t.l1, 10, (page(e, 10) << 12) | 5)).toBe(0);
    const n = e.w.cpu.flushes;
    expect(ext(e, MMUEXT_PIN_L1_TABLE, page(e, 10))).toBe(0);
    expect(e.w.cpu.flushes).toBe(n + 1);
    expect(ext(e, MMUEXT_UNPIN_TABLE, page(e, 10))).toBe(0);
    expect(ext(e, MMUEXT_TLB_FLUSH_LOCAL)).toBe(0);
    const m = e.w.cpu.flushes;
    expect(update(e, e.t.l1, 10, (page(e, 10) << 12) | 7)).toBe(0);
    expect(e.w.cpu.flushes).toBe(m);
  });

  it("forbidden bits: cache attributes, the grant mark, superpages, G above L1: −EINVAL", () => {
    const e = env();
    const p = page(e, 20);
    for (const bit of [0x08, 0x10, 0x80]) expect(update(e, e.t.l1, 100, (p << 12) | 5 | bit)).toBe(-EINVAL);
    expect(update(e, e.t.l1, 100, (p << 12) | 5, 0x40000000)).toBe(-EINVAL);
    for (const bit of [0x08, 0x10, 0x80, 0x100]) {
      expect(update(e, e.t.l2, 100, (p << 12) | 7 | bit)).toBe(-EINVAL);
      expect(update(e, e.t.l3, 100, (p << 12) | 7 | bit)).toBe(-EINVAL);
      expect(update(e, e.t.l4, 100, (p << 12) | 7 | bit)).toBe(-EINVAL);
    }
    // NX and the available bits are the guest's.
    expect(update(e, e.t.l1, 100, (p << 12) | 0xe05, 0xbfe00000)).toBe(0);
  });

  it("frames that are no RAM: −EPERM, the all-ones frame: −EINVAL, the engine's own: −EPERM", () => {
    const e = env();
    expect(update(e, e.t.l1, 100, (e.w.mem.frames << 12) | 7)).toBe(-EPERM);
    expect(update(e, e.t.l1, 100, 0x1007)).toBe(-EPERM);
    expect(update(e, e.t.l1, 100, 7, 0x80000)).toBe(-EPERM);
    expect(update(e, e.t.l1, 100, 0xfffff007, 0xfffff)).toBe(-EINVAL);
  });

  it("another domain's frames, free frames and Xen's frames are refused", () => {
    const e = env();
    const other = e.w.domain(2, 4);
    const before = e.w.snapshot();
    expect(update(e, e.t.l1, 100, (other.mm.mfnOf(0) << 12) | 5)).toBe(-EBUSY);
    expect(update(e, e.t.l1, 100, (e.w.ft.m2p.base << 12) | 5)).toBe(-EBUSY);
    expect(update(e, e.t.l1, 100, ((e.w.ft.limit - 1) << 12) | 5)).toBe(-EBUSY);
    expect(update(e, e.t.l2, 100, (other.mm.mfnOf(0) << 12) | 7)).toBe(-EINVAL);
    expect(e.w.snapshot()).toBe(before);
  });

  it("foreign pages: −ESRCH for no domain and for one's own domid, −EPERM without privilege, mapped with it", () => {
    const e = env(64);
    const other = e.w.domain(2, 8);
    const theirs = other.mm.mfnOf(3);
    expect(update(e, e.t.l1, 100, (theirs << 12) | 7, 0, 0, 9)).toBe(-ESRCH);
    expect(update(e, e.t.l1, 100, (theirs << 12) | 7, 0, 0, 1)).toBe(-ESRCH);
    expect(update(e, e.t.l1, 100, (theirs << 12) | 7, 0, 0, 2)).toBe(-EPERM);
    expect(update(e, e.t.l1, 100, (e.w.ft.m2p.base << 12) | 5, 0, 0, DOMID_XEN)).toBe(-EPERM);
    expect(update(e, e.t.l1, 100, 5, 0, 0, DOMID_IO)).toBe(-EPERM);
    e.d.privileged = true;
    expect(update(e, e.t.l1, 100, (theirs << 12) | 7, 0, 0, 2)).toBe(0);
    expect([e.w.ft.ref[theirs], e.w.ft.tcount[theirs]]).toEqual([2, 1]);
    expect(update(e, e.t.l1, 101, (e.w.ft.m2p.base << 12) | 7, 0, 0, DOMID_XEN)).toBe(-EBUSY);
    expect(update(e, e.t.l1, 101, (e.w.ft.m2p.base << 12) | 5, 0, 0, DOMID_XEN)).toBe(0);
    expect(e.w.ft.owner[e.w.ft.m2p.base]).toBe(OWNER_XEN);
    expect(update(e, e.t.l1, 100, 0)).toBe(0);
    expect([e.w.ft.ref[theirs], e.w.ft.tcount[theirs]]).toEqual([1, 0]);
  });

  it("slots 256–271 of an L4 are Xen's: updates refused, contents ours, the M2P in 256", () => {
    const w = new World();
    const d = w.domain(1, 64);
    const l4 = d.mm.mfnOf(0);
    w.pte(l4, 256, 0xdeadb007);
    w.pte(l4, 271, 0xdeadb007);
    const t = w.build(d);
    const e: Env = { w, d, t, v: d.vcpus[0] as Vcpu, buf: d.mm.mfnOf(8) * 4096 };
    expect(w.readPte(l4, 256)).toEqual([w.ft.m2p.l4eLo >>> 0, 0]);
    expect(w.readPte(l4, 271)).toEqual([0, 0]);
    for (const s of [256, 263, 271]) expect(update(e, l4, s, (page(e, 20) << 12) | 7)).toBe(-EINVAL);
    expect(update(e, l4, 272, (page(e, 20) << 12) | 7)).toBe(0);
    expect(update(e, l4, 255, (page(e, 21) << 12) | 7)).toBe(0);
  });

  it("the M2P can be read at MACH2PHYS_VIRT_START through the guest's tables, read-only", () => {
    const { w, d, t } = env();
    const mfn = d.mm.mfnOf(7);
    const u = w.mem.u32;
    const l4e = u[t.l4 * 1024 + 512] as number;
    const l3e = u[(l4e >>> 12) * 1024] as number;
    const l2e = u[(l3e >>> 12) * 1024] as number;
    const l1e = u[(l2e >>> 12) * 1024 + Math.floor((mfn * 8) / 4096) * 2] as number;
    expect([l4e, l3e, l2e, l1e].map((x) => x & 7)).toEqual([5, 5, 5, 5]);
    expect(w.mem.r64((l1e >>> 12) * 4096 + ((mfn * 8) % 4096))).toBe(7);
    // A free frame is nowhere.
    expect(w.ft.m2p.get(w.ft.limit - 1)).toBe(-1);
  });

  it("a failed validation gives everything back", () => {
    const e = env();
    const [l2, l1] = [page(e, 30), page(e, 31)] as [number, number];
    e.w.pte(l1, 3, (page(e, 33) << 12) | 7);
    e.w.pte(l1, 9, (e.t.l4 << 12) | 7); // a table, writable
    e.w.pte(l2, 1, (l1 << 12) | 7);
    const before = e.w.snapshot();
    expect(ext(e, MMUEXT_PIN_L2_TABLE, l2)).toBe(-EBUSY);
    expect(e.w.ft.tcount[l1]).toBe(0);
    expect(e.w.ft.tcount[page(e, 33)]).toBe(0);
    const counts = (s: string): string => s.replace(/:\d+:(\d+)(?=,|$)/g, ":$1"); // a type may be left without a count
    expect(counts(e.w.snapshot())).toBe(counts(before));
  });

  it("double pin and unpin of what is not pinned: −EINVAL", () => {
    const e = env();
    const p = page(e, 30);
    expect(ext(e, MMUEXT_PIN_L1_TABLE, p)).toBe(0);
    expect((e.w.ft.flags[p] as number) & F_PINNED).not.toBe(0);
    expect(ext(e, MMUEXT_PIN_L1_TABLE, p)).toBe(-EINVAL);
    expect(ext(e, MMUEXT_PIN_L2_TABLE, p)).toBe(-EINVAL);
    expect(ext(e, MMUEXT_UNPIN_TABLE, p)).toBe(0);
    expect(ext(e, MMUEXT_UNPIN_TABLE, p)).toBe(-EINVAL);
    expect(e.w.ft.tcount[p]).toBe(0);
    expect(ext(e, MMUEXT_PIN_L2_TABLE, p)).toBe(0);
  });

  it("an L1 mapping itself read-only is allowed, writable not", () => {
    const e = env();
    const p = page(e, 30);
    e.w.pte(p, 0, (p << 12) | 7);
    expect(ext(e, MMUEXT_PIN_L1_TABLE, p)).toBe(-EBUSY);
    e.w.pte(p, 0, (p << 12) | 5);
    expect(ext(e, MMUEXT_PIN_L1_TABLE, p)).toBe(0);
    expect(e.w.ft.ref[p]).toBe(3);
    expect(ext(e, MMUEXT_UNPIN_TABLE, p)).toBe(0);
    expect(e.w.ft.ref[p]).toBe(1);
  });

  it("linear page tables: read-only, to itself or to a valid table of its level, one deep", () => {
    const e = env();
    const { l4 } = e.t;
    expect(update(e, l4, 10, (l4 << 12) | 7)).toBe(-EINVAL);
    expect(update(e, l4, 10, (l4 << 12) | 5)).toBe(0);
    const b = page(e, 30);
    const c = page(e, 31);
    expect(update(e, l4, 11, (b << 12) | 5)).toBe(0); // an empty page becomes an L3
    expect(update(e, l4, 11, 0)).toBe(0);
    expect(ext(e, MMUEXT_PIN_L4_TABLE, b)).toBe(0);
    expect(ext(e, MMUEXT_PIN_L4_TABLE, c)).toBe(0);
    expect(update(e, l4, 11, (b << 12) | 5)).toBe(0);
    expect(e.w.ft.tcount[b]).toBe(2);
    // b is used by a linear entry: it may not have one; l4 has one: it may not be used by one.
    expect(update(e, b, 0, (c << 12) | 5)).toBe(-EINVAL);
    expect(update(e, c, 0, (l4 << 12) | 5)).toBe(-EINVAL);
    expect(update(e, l4, 11, 0)).toBe(0);
    expect([e.w.ft.linear[l4], e.w.ft.linear[b], e.w.ft.tcount[b]]).toEqual([0, 0, 1]);
    e.w.destroy(e.d);
    e.w.ft.audit();
    expect(e.d.mm.empty).toBe(true);
  });
});

describe("mmu_update", () => {
  it("stops at the first refused request and says how many were done", () => {
    const e = env();
    const p = page(e, 20);
    const reqs = [
      [e.t.l1, 100, (p << 12) | 5],
      [e.t.l1, 101, (p << 12) | 5],
      [e.t.l1, 102, (e.t.l1 << 12) | 7],
      [e.t.l1, 103, (p << 12) | 5],
    ] as const;
    reqs.forEach(([m, s, lo], i) => {
      e.w.mem.w64n(e.buf + i * 16, m * 4096 + s * 8);
      e.w.mem.w64(e.buf + i * 16 + 8, lo, 0);
    });
    expect(e.w.call(e.d, doMmuUpdate, e.buf, 4, e.buf + 0x800, DOMID_SELF)).toBe(-EBUSY);
    expect(e.w.mem.r32(e.buf + 0x800)).toBe(2);
    expect(e.w.readPte(e.t.l1, 103)).toEqual([0, 0]);
  });

  it("a long batch continues by itself with the same count in the end", () => {
    const e = env();
    const p = page(e, 20);
    for (let i = 0; i < 200; i++) {
      e.w.mem.w64n(e.buf + i * 16, e.t.l1 * 4096 + (200 + i) * 8);
      e.w.mem.w64(e.buf + i * 16 + 8, (p << 12) | 5, 0);
    }
    e.w.preempt = true;
    const done = e.buf + 0xff0;
    expect(e.w.call(e.d, doMmuUpdate, e.buf, 200, done, DOMID_SELF)).toBe(0);
    expect(e.w.mem.r32(done)).toBe(200);
    expect(e.w.ft.ref[p]).toBe(201);
    expect((e.w.lastArgs[1] as [number, number])[0]).toBe(MMU_UPDATE_PREEMPTED + 8);
  });

  it("a continuation without requests returns its last argument", () => {
    const e = env();
    expect(e.w.call(e.d, doMmuUpdate, 0, MMU_UPDATE_PREEMPTED, 0, [-14 >>> 0, 0])).toBe(-EFAULT);
  });

  it("PRESERVE_AD keeps A and D; a plain update does not", () => {
    const e = env();
    const p = page(e, 20);
    expect(update(e, e.t.l1, 100, (p << 12) | 0x67)).toBe(0);
    expect(update(e, e.t.l1, 100, (p << 12) | 5, 0, MMU_PT_UPDATE_PRESERVE_AD)).toBe(0);
    expect((e.w.readPte(e.t.l1, 100)[0] as number) & 0x67).toBe(0x65);
    expect(update(e, e.t.l1, 100, (p << 12) | 5)).toBe(0);
    expect((e.w.readPte(e.t.l1, 100)[0] as number) & 0x67).toBe(5);
  });

  it("a page that is no table is written as data; unknown commands are −ENOSYS; bad addresses −EINVAL; unreadable requests −EFAULT", () => {
    const e = env();
    expect(update(e, page(e, 20), 1, 0x1234, 0x5678)).toBe(0);
    expect(e.w.readPte(page(e, 20), 1)).toEqual([0x1234, 0x5678]);
    expect(update(e, e.t.l1, 1, 0, 0, 5)).toBe(-ENOSYS);
    expect(update(e, 5, 0, 0)).toBe(-EINVAL);
    expect(update(e, e.w.mem.frames + 5, 0, 0)).toBe(-EINVAL);
    expect(e.w.call(e.d, doMmuUpdate, 0x10, 1, 0, DOMID_SELF)).toBe(-EFAULT);
  });

  it("MACHPHYS_UPDATE sets the M2P of an own frame only", () => {
    const e = env();
    const other = e.w.domain(2, 4);
    const p = page(e, 20);
    const m2p = (m: number): number => {
      e.w.mem.w64n(e.buf, m * 4096 + MMU_MACHPHYS_UPDATE);
      e.w.mem.w64(e.buf + 8, 0x635, 0);
      return e.w.call(e.d, doMmuUpdate, e.buf, 1, 0, DOMID_SELF);
    };
    expect(m2p(p)).toBe(0);
    expect(e.w.ft.m2p.get(p)).toBe(0x635);
    expect(e.d.mm.mfnOf(0x635)).toBe(p);
    expect(m2p(other.mm.mfnOf(0))).toBe(-EINVAL);
  });

  it("an entry above L1 flushes; an L1 entry does not", () => {
    const e = env();
    const n = e.w.cpu.flushes;
    expect(update(e, e.t.l1, 100, (page(e, 20) << 12) | 5)).toBe(0);
    expect(e.w.cpu.flushes).toBe(n);
    expect(update(e, e.t.l2, 100, (page(e, 21) << 12) | 7)).toBe(0);
    expect(e.w.cpu.flushes).toBe(n + 1);
  });
});

describe("update_va_mapping", () => {
  const uvm = (e: Env, va: number, lo: number, hi: number, flags: number): number =>
    e.w.call(e.d, doUpdateVaMapping, va, [lo, hi], flags);

  it("changes the entry of an address, and flushes as asked", () => {
    const e = env();
    const p = page(e, 20);
    expect(uvm(e, 0x64000, (p << 12) | 0x61, 0x80000000, UVMF_INVLPG)).toBe(0);
    expect(e.w.readPte(e.t.l1, 100)).toEqual([((p << 12) | 0x65) >>> 0, (0x80000000 | KERNEL) >>> 0]);
    expect(e.w.cpu.invlpgs).toEqual([0x64000]);
    const n = e.w.cpu.flushes;
    expect(uvm(e, 0x64000, 0, 0, UVMF_TLB_FLUSH)).toBe(0);
    expect(e.w.cpu.flushes).toBe(n + 1);
    expect(e.w.ft.ref[p]).toBe(1);
  });

  it("without an L1 table there, or in Xen's range: −EINVAL", () => {
    const e = env();
    expect(uvm(e, 0x400000, 0, 0, 0)).toBe(-EINVAL);
    expect(e.w.call(e.d, doUpdateVaMapping, [0, 0xffff8000], 0, 0)).toBe(-EINVAL);
    expect(e.w.call(e.d, doUpdateVaMapping, [0, 0x00008000], 0, 0)).toBe(-EINVAL);
  });

  it("an unreadable vCPU mask is −EFAULT, after the change", () => {
    const e = env();
    expect(uvm(e, 0x64000, (page(e, 20) << 12) | 5, 0, UVMF_TLB_FLUSH | 0x10)).toBe(-EFAULT);
    expect(e.w.ft.ref[page(e, 20)]).toBe(2);
  });

  it("otherdomain: refused without privilege", () => {
    const e = env();
    e.w.domain(2, 4);
    expect(e.w.call(e.d, doUpdateVaMappingOtherdomain, 0x64000, 0, 0, 2)).toBe(-EPERM);
    expect(e.w.call(e.d, doUpdateVaMappingOtherdomain, 0x64000, 0, 0, 7)).toBe(-ESRCH);
  });
});

describe("mmuext_op", () => {
  it("roots: the new one is taken and loaded, the old one released", () => {
    const e = env();
    const b = page(e, 30);
    e.w.pte(b, 0, (e.t.l3 << 12) | 7);
    expect(ext(e, MMUEXT_NEW_BASEPTR, page(e, 10))).toBe(-EINVAL);
    expect(ext(e, MMUEXT_NEW_BASEPTR, b)).toBe(0);
    expect(e.w.cpu.roots[0]).toBe(b * 4096);
    expect(e.w.ft.tcount[e.t.l4]).toBe(1);
    expect(ext(e, MMUEXT_NEW_USER_BASEPTR, e.t.l4)).toBe(0);
    expect(e.w.cpu.roots[1]).toBe(e.t.l4 * 4096);
    expect(ext(e, MMUEXT_UNPIN_TABLE, e.t.l4)).toBe(0);
    expect(ext(e, MMUEXT_NEW_USER_BASEPTR, 0)).toBe(0);
    expect(e.w.cpu.roots[1]).toBe(e.w.ft.emptyRoot * 4096);
    expect(e.w.ft.tcount[e.t.l4]).toBe(0);
    expect(e.w.ft.tcount[e.t.l3]).toBe(1);
  });

  it("m2p_strict keeps the M2P out of user roots", () => {
    const e = env();
    expect(e.w.call(e.d, doVmAssist, 0, VMASST_TYPE_m2p_strict)).toBe(0);
    const b = page(e, 30);
    expect(ext(e, MMUEXT_PIN_L4_TABLE, b)).toBe(0);
    expect(e.w.readPte(b, 256)[0]).not.toBe(0);
    expect(ext(e, MMUEXT_NEW_USER_BASEPTR, b)).toBe(0);
    expect(e.w.readPte(b, 256)).toEqual([0, 0]);
  });

  it("flushes act on the live TLB; a bad vCPU mask is −EINVAL", () => {
    const e = env();
    const n = e.w.cpu.flushes;
    expect(ext(e, MMUEXT_TLB_FLUSH_LOCAL)).toBe(0);
    expect(ext(e, MMUEXT_TLB_FLUSH_MULTI, 0, e.buf)).toBe(0);
    expect(e.w.cpu.flushes).toBe(n + 2);
    expect(ext(e, MMUEXT_TLB_FLUSH_MULTI, 0, 8)).toBe(-EINVAL);
    expect(ext(e, MMUEXT_INVLPG_LOCAL, 0x5000)).toBe(0);
    expect(ext(e, MMUEXT_INVLPG_ALL, 0x6000)).toBe(0);
    expect(e.w.cpu.invlpgs).toEqual([0x5000, 0x6000]);
  });

  it("cache flushes need hardware; superpage marks are −EOPNOTSUPP; others −ENOSYS; another domain −EPERM", () => {
    const e = env();
    e.w.domain(2, 4);
    expect(ext(e, MMUEXT_FLUSH_CACHE)).toBe(-EACCES);
    expect(ext(e, MMUEXT_MARK_SUPER)).toBe(-EOPNOTSUPP);
    expect(ext(e, 99)).toBe(-ENOSYS);
    expect(ext(e, MMUEXT_TLB_FLUSH_LOCAL, 0, 0, 2)).toBe(-EPERM);
    expect(ext(e, MMUEXT_PIN_L1_TABLE, 0, 0, DOMID_XEN)).toBe(-EPERM);
    e.d.privileged = true;
    expect(ext(e, MMUEXT_FLUSH_CACHE)).toBe(0);
    expect(ext(e, MMUEXT_NEW_BASEPTR, e.t.l4, 0, 2)).toBe(-EPERM);
    expect(ext(e, MMUEXT_PIN_L1_TABLE, 0, 0, DOMID_XEN)).toBe(-EINVAL);
  });

  it("clear and copy: own pages that are no tables", () => {
    const e = env();
    const [a, b] = [page(e, 20), page(e, 21)] as [number, number];
    e.w.mem.w32(a * 4096 + 8, 77);
    expect(ext(e, MMUEXT_COPY_PAGE, b, a)).toBe(0);
    expect(e.w.mem.r32(b * 4096 + 8)).toBe(77);
    expect(ext(e, MMUEXT_CLEAR_PAGE, b)).toBe(0);
    expect(e.w.mem.r32(b * 4096 + 8)).toBe(0);
    expect(ext(e, MMUEXT_CLEAR_PAGE, e.t.l1)).toBe(-EINVAL);
    expect(ext(e, MMUEXT_COPY_PAGE, e.t.l1, a)).toBe(-EINVAL);
    expect(e.w.ft.ref[a]).toBe(1);
  });
});

describe("descriptor tables", () => {
  const gdt = (e: Env, mfn: number, entries: number): number => {
    e.w.mem.w64n(e.buf, mfn);
    return e.w.call(e.d, doSetGdt, e.buf, entries);
  };

  it("set_gdt checks and fixes every descriptor and types the frame", () => {
    const e = env();
    const p = page(e, 20);
    e.w.pte(p, 1, 0x0000ffff, 0x00af9a00); // DPL 0 code becomes DPL 3
    expect(gdt(e, p, 16)).toBe(0);
    expect(e.w.readPte(p, 1)[1]).toBe(0x00affa00);
    expect([e.w.ft.type[p], e.w.ft.tcount[p]]).toEqual([PGT_seg_desc_page, 1]);
    expect(update(e, e.t.l1, 100, (p << 12) | 7)).toBe(-EBUSY);
    expect(gdt(e, 0, 0)).toBe(0);
    expect(e.w.ft.tcount[p]).toBe(0);
  });

  it("a system descriptor, a page mapped writable, too many entries, a foreign frame: −EINVAL", () => {
    const e = env();
    const p = page(e, 20);
    e.w.pte(p, 300, 0, 0x00008900); // a TSS
    expect(gdt(e, p, 16)).toBe(-EINVAL);
    expect(gdt(e, page(e, 10), 16)).toBe(-EINVAL);
    expect(gdt(e, p, 0x1c01)).toBe(-EINVAL);
    expect(gdt(e, 1, 16)).toBe(-EINVAL);
    expect(e.w.call(e.d, doSetGdt, 16, 16)).toBe(-EFAULT);
  });

  it("update_descriptor checks the descriptor and the page", () => {
    const e = env();
    const p = page(e, 20);
    expect(gdt(e, p, 16)).toBe(0);
    const ud = (ma: number, lo: number, hi: number): number => e.w.call(e.d, doUpdateDescriptor, ma, [lo, hi]);
    expect(ud(p * 4096 + 0x78, 0, 0x0040f500)).toBe(0);
    expect(ud(p * 4096 + 0x78, 0, 0x00008900)).toBe(-EINVAL);
    expect(ud(p * 4096 + 4, 0, 0)).toBe(-EINVAL);
    expect(ud(e.t.l1 * 4096, 0, 0)).toBe(-EINVAL);
    expect(ud(page(e, 10) * 4096, 1, 0)).toBe(0);
    // A call gate keeps the caller's level in its selector and faults by DPL 0.
    expect(ud(p * 4096 + 0x10, 0x00080000, 0x0000ec00)).toBe(0);
    expect(e.w.readPte(p, 2)).toEqual([0x000b0000, 0x00008c00]);
  });

  it("reads selectors: guest's, Xen's flat ones, LDT pages on demand", () => {
    const e = env();
    const p = page(e, 20);
    e.w.pte(p, 2, 0x0000ffff, 0x00affa00);
    expect(gdt(e, p, 16)).toBe(0);
    expect(readDescriptor(e.v, 0x13)).toMatchObject({ base: 0, limit: 0xffffffff, attr: 0xa0fb });
    expect(readDescriptor(e.v, 0xe033)).toMatchObject({ attr: 0xa0fb });
    expect(readDescriptor(e.v, 0xe02b)).toMatchObject({ attr: 0xc0f3 });
    expect(readDescriptor(e.v, 0xe023)).toMatchObject({ attr: 0xc0fb });
    expect(readDescriptor(e.v, 0x2003)).toMatchObject({ hi: 0 });
    expect(readDescriptor(e.v, 0xe100)).toBeNull();
    expect(readDescriptor(e.v, 0x07)).toBeNull();
    // LDT: page 12 is mapped writable at first.
    expect(ext(e, MMUEXT_SET_LDT, 0xc001, 4)).toBe(-EINVAL);
    expect(ext(e, MMUEXT_SET_LDT, 0xc000, 8193)).toBe(-EINVAL);
    expect(ext(e, MMUEXT_SET_LDT, 0xc000, 4)).toBe(0);
    expect(ldtFault(e.v, 8)).toBe(false);
    expect(update(e, e.t.l1, 12, (page(e, 12) << 12) | 5)).toBe(0);
    e.w.pte(page(e, 12), 1, 0x0000ffff, 0x00cff200);
    expect(readDescriptor(e.v, 0x0f)).toMatchObject({ attr: 0xc0f3 });
    expect(e.w.ft.type[page(e, 12)]).toBe(PGT_seg_desc_page);
    expect(readDescriptor(e.v, 0x27)).toBeNull();
    expect(ext(e, MMUEXT_SET_LDT, 0, 0)).toBe(0);
    expect(e.w.ft.tcount[page(e, 12)]).toBe(0);
  });
});

describe("memory_op", () => {
  const reservation = (e: Env, op: number, frames: number[], order = 0, domid: number = DOMID_SELF): number => {
    const list = e.buf + 0x400;
    frames.forEach((f, i) => e.w.mem.w64n(list + i * 8, f));
    e.w.mem.w64n(e.buf, list);
    e.w.mem.w64n(e.buf + 8, frames.length);
    e.w.mem.w32(e.buf + 16, order);
    e.w.mem.w32(e.buf + 20, 0);
    e.w.mem.w16(e.buf + 24, domid);
    return e.w.call(e.d, doMemoryOp, op, e.buf);
  };
  const listed = (e: Env, i: number): number => e.w.mem.r32(e.buf + 0x400 + i * 8);

  it("decrease gives pages back, also while they are mapped (then with the last mapping)", () => {
    const e = env();
    const free = e.w.ft.freeFrames;
    const p = page(e, 20);
    const q = page(e, 10); // mapped
    expect(reservation(e, XENMEM_decrease_reservation, [p, q])).toBe(2);
    expect(e.w.ft.freeFrames).toBe(free + 1);
    expect(e.d.mm.mfnOf(20)).toBe(-1);
    expect(update(e, e.t.l1, 10, 0)).toBe(0);
    expect(e.w.ft.freeFrames).toBe(free + 2);
    expect(e.d.mm.totPages).toBe(62);
  });

  it("decrease stops at a frame that is not the domain's: the count so far", () => {
    const e = env();
    expect(reservation(e, XENMEM_decrease_reservation, [page(e, 20), 1, page(e, 21)])).toBe(1);
    // What Xen shares with the domain is not its to free.
    expect(reservation(e, XENMEM_decrease_reservation, [e.d.mm.sharedInfo])).toBe(0);
    expect(reservation(e, XENMEM_decrease_reservation, [e.d.grants.frames[0] as number])).toBe(0);
    e.w.ft.audit();
  });

  it("populate and increase stop at the limit, tell the frames, and give them zeroed", () => {
    const e = env();
    const p = page(e, 20);
    e.w.mem.w32(p * 4096, 0xdead);
    expect(reservation(e, XENMEM_populate_physmap, [100])).toBe(0);
    expect(reservation(e, XENMEM_decrease_reservation, [p, page(e, 21)])).toBe(2);
    expect(reservation(e, XENMEM_populate_physmap, [100, 101, 102])).toBe(2);
    expect(e.d.mm.mfnOf(100)).toBe(listed(e, 0));
    expect(e.w.ft.m2p.get(listed(e, 1))).toBe(101);
    for (const i of [0, 1]) expect(e.w.mem.read(listed(e, i) * 4096, 4096).every((b) => b === 0)).toBe(true);
    expect(reservation(e, XENMEM_increase_reservation, [0])).toBe(0);
  });

  it("a freed frame is zero and unreachable by stale TLB entries when it is given again", () => {
    const w = new World();
    const d = w.domain(1, 16);
    const t = w.build(d);
    const e: Env = { w, d, t, v: d.vcpus[0] as Vcpu, buf: d.mm.mfnOf(8) * 4096 };
    d.mm.maxPages = 100000;
    const q = page(e, 10);
    w.mem.w32(q * 4096, 0xdead);
    expect(reservation(e, XENMEM_decrease_reservation, [q])).toBe(1);
    expect(update(e, t.l1, 10, 0)).toBe(0);
    const n = w.cpu.flushes;
    for (;;) {
      const m = d.mm.allocPage(1000);
      if (m === q) break;
      expect(m).toBeGreaterThan(0);
    }
    expect(w.cpu.flushes).toBe(n + 1);
    expect(w.mem.r32(q * 4096)).toBe(0);
  });

  it("extents: contiguous, aligned, at most 2 MiB for a guest; a bad structure counts as nothing done", () => {
    const e = env();
    e.d.mm.maxPages = 1000;
    expect(reservation(e, XENMEM_populate_physmap, [200], 3)).toBe(1);
    const first = listed(e, 0);
    expect(first % 8).toBe(0);
    expect(e.d.mm.mfnOf(207)).toBe(first + 7);
    expect(reservation(e, XENMEM_populate_physmap, [300], 10)).toBe(0);
    expect(reservation(e, XENMEM_populate_physmap, [300], 0, 55)).toBe(0);
    expect(e.w.call(e.d, doMemoryOp, XENMEM_populate_physmap, 8)).toBe(0);
  });

  it("statistics; another domain's only with privilege", () => {
    const e = env();
    e.w.domain(2, 4, { maxPages: 9 });
    const ask = (op: number, domid: number): number => {
      e.w.mem.w16(e.buf, domid);
      return e.w.call(e.d, doMemoryOp, op, e.buf);
    };
    expect(ask(XENMEM_current_reservation, DOMID_SELF)).toBe(64);
    expect(ask(XENMEM_current_reservation, 2)).toBe(-EPERM);
    expect(ask(XENMEM_current_reservation, 3)).toBe(-ESRCH);
    e.d.privileged = true;
    expect(ask(XENMEM_maximum_reservation, 2)).toBe(9);
    expect(e.w.call(e.d, doMemoryOp, XENMEM_maximum_ram_page, 0)).toBe(e.w.mem.frames);
  });

  it("machphys_mapping is as real Xen gives it; memory_map is the toolstack's or −ENOSYS; physmap is −EACCES", () => {
    const e = env();
    expect(e.w.call(e.d, doMemoryOp, XENMEM_machphys_mapping, e.buf)).toBe(0);
    expect([0, 4, 8, 12, 16, 20].map((o) => e.w.mem.r32(e.buf + o))).toEqual([
      0, 0xffff8000, 0, 0xffff8040, 0xffffffff, 7,
    ]);
    e.w.mem.w32(e.buf, 3200);
    e.w.mem.w64n(e.buf + 8, e.buf + 0x100);
    expect(e.w.call(e.d, doMemoryOp, XENMEM_memory_map, e.buf)).toBe(-ENOSYS);
    e.d.mm.memoryMap = [{ addr: 0, size: 0x10800000, type: 1 }];
    expect(e.w.call(e.d, doMemoryOp, XENMEM_memory_map, e.buf)).toBe(0);
    expect(e.w.mem.r32(e.buf)).toBe(1);
    expect([e.w.mem.r32(e.buf + 0x108), e.w.mem.r32(e.buf + 0x110)]).toEqual([0x10800000, 1]);
    e.w.mem.w64n(e.buf, DOMID_SELF);
    expect(e.w.call(e.d, doMemoryOp, XENMEM_add_to_physmap, e.buf)).toBe(-EACCES);
    expect(e.w.call(e.d, doMemoryOp, 60, e.buf)).toBe(-ENOSYS);
  });

  it("exchange: single pages for a contiguous extent; refused if one of them is in use", () => {
    const e = env();
    const list = e.buf + 0x400;
    const go = (frames: number[]): number => {
      frames.forEach((f, i) => e.w.mem.w64n(list + i * 8, f));
      e.w.mem.w64n(list + 0x100, 500);
      e.w.mem.w64n(e.buf, list);
      e.w.mem.w64n(e.buf + 8, 4);
      e.w.mem.w32(e.buf + 16, 0);
      e.w.mem.w32(e.buf + 20, 0);
      e.w.mem.w16(e.buf + 24, DOMID_SELF);
      e.w.mem.w64n(e.buf + 32, list + 0x100);
      e.w.mem.w64n(e.buf + 40, 1);
      e.w.mem.w32(e.buf + 48, 2);
      e.w.mem.w32(e.buf + 52, 0);
      e.w.mem.w16(e.buf + 56, DOMID_SELF);
      e.w.mem.w64n(e.buf + 64, 0);
      return e.w.call(e.d, doMemoryOp, XENMEM_exchange, e.buf);
    };
    const before = e.w.snapshot();
    expect(go([page(e, 20), page(e, 21), page(e, 22), page(e, 10)])).toBe(-EINVAL);
    expect(e.w.snapshot()).toBe(before);
    expect(go([20, 21, 22, 23].map((p) => page(e, p)))).toBe(0);
    const first = e.w.mem.r32(list + 0x100);
    expect(first % 4).toBe(0);
    expect(e.w.mem.r32(e.buf + 64)).toBe(4);
    expect([500, 501, 502, 503].map((p) => page(e, p))).toEqual([first, first + 1, first + 2, first + 3]);
    expect(e.d.mm.totPages).toBe(64);
    e.w.ft.audit();
  });
});

describe("vm_assist", () => {
  it("known types only, commands 0 and 1", () => {
    const e = env();
    const va = (cmd: number, type: number): number => e.w.call(e.d, doVmAssist, cmd, type);
    for (const t of [0, 1, 2, 3, 4, 5, 32]) expect(va(0, t)).toBe(0);
    expect(va(0, 2)).toBe(0);
    expect(e.d.vmAssist).toBe(2 ** 32 + 63);
    expect(va(1, 32)).toBe(0);
    expect(e.d.vmAssist).toBe(63);
    expect(va(0, 6)).toBe(-EINVAL);
    expect(va(2, 0)).toBe(-ENOSYS);
  });
});

describe("what the CPU keeps of address spaces is told of", () => {
  const CODE = 7;
  /** A page of the domain's with code that the engine has decoded. */
  const withCode = (e: Env): number => {
    const mfn = page(e, 20);
    e.w.mem.u32[(CODE_MASK + mfn * 8) >>> 2] = 1;
    return mfn;
  };
  const told = (e: Env, change: () => void): { changes: boolean; code: number } => {
    const before = e.w.changes;
    e.w.ft.codeChanged = 0;
    // (Changes of upper tables flush by themselves.)
    const flush = vi.spyOn(e.w.cpu, "flushTlb");
    change();
    const code = flush.mock.calls.reduce((all, [where]) => all | (where ?? 0), e.w.ft.codeChanged);
    flush.mockRestore();
    return { changes: e.w.changes !== before, code };
  };

  it("a present entry that changes, goes, or loses a right; not one that was not there", () => {
    const e = env();
    const set = (lo: number, hi = 0) =>
      told(e, () => {
        expect(update(e, e.t.l1, 100, lo, hi)).toBe(0);
      }).changes;
    expect(set((page(e, 20) << 12) | 7)).toBe(false);
    expect(set((page(e, 20) << 12) | 5)).toBe(true);
    expect(set((page(e, 21) << 12) | 5)).toBe(true);
    expect(set((page(e, 21) << 12) | 5, 0x80000000)).toBe(true);
    expect(set(0)).toBe(true);
  });

  it("where a mapping of code goes, or is made not executable", () => {
    const e = env();
    const at = (withCode(e) << 12) | 5;
    const set = (lo: number, hi = 0) =>
      told(e, () => {
        expect(update(e, e.t.l1, 100, lo, hi)).toBe(0);
      }).code;
    expect(set(at)).toBe(0);
    expect(set(at, 0x80000000)).toBe(CODE & ~2);
    expect(set(at)).toBe(0);
    expect(set(0)).toBe(CODE & ~2);
    expect(set(at & ~4)).toBe(0);
    expect(set(0)).toBe(CODE & ~1);
  });

  it("where code is below an upper entry that goes, or is made not executable", () => {
    const e = env();
    expect(update(e, e.t.l1, 100, (withCode(e) << 12) | 5)).toBe(0);
    const set = (lo: number, hi = 0) =>
      told(e, () => {
        expect(update(e, e.t.l2, 0, lo, hi)).toBe(0);
      });
    const l2e = (e.t.l1 << 12) | 7;
    expect(set(l2e, 0x80000000)).toEqual({ changes: true, code: CODE & ~2 });
    expect(set(l2e)).toEqual({ changes: true, code: 0 });
    expect(set(0)).toEqual({ changes: true, code: CODE & ~2 });
  });

  it("an entry that a root gets in the kernel's half, for roots with the same entries there count as one", () => {
    const e = env();
    const set = (slot: number) =>
      told(e, () => {
        expect(update(e, e.t.l4, slot, (e.t.l3 << 12) | 7)).toBe(0);
      });
    expect(set(1)).toEqual({ changes: false, code: 0 });
    expect(set(300)).toEqual({ changes: false, code: CODE & ~1 });
  });

  it("a root that is unpinned, and one that is pinned", () => {
    const e = env();
    const l4 = page(e, 30);
    e.w.pte(l4, 0, (e.t.l3 << 12) | 7);
    e.w.cpu.forgotten.length = 0;
    expect(ext(e, MMUEXT_PIN_L4_TABLE, l4)).toBe(0);
    expect(e.w.cpu.forgotten).toEqual([l4 * 4096]);
    expect(ext(e, MMUEXT_UNPIN_TABLE, l4)).toBe(0);
    expect(e.w.cpu.forgotten).toEqual([l4 * 4096, l4 * 4096]);
  });

  it("the M2P that a user root loses", () => {
    const e = env();
    expect(e.w.call(e.d, doVmAssist, 0, VMASST_TYPE_m2p_strict)).toBe(0);
    const b = page(e, 30);
    expect(ext(e, MMUEXT_PIN_L4_TABLE, b)).toBe(0);
    expect(told(e, () => expect(ext(e, MMUEXT_NEW_USER_BASEPTR, b)).toBe(0)).changes).toBe(true);
  });

  it("all roots of a domain that is destroyed", () => {
    const e = env();
    const { l4 } = e.t;
    e.w.cpu.forgotten.length = 0;
    e.w.destroy(e.d);
    expect(e.w.cpu.forgotten).toContain(l4 * 4096);
  });
});

describe("writable page tables", () => {
  /** The table is seen at its own machine address by the mock's fetches, and at VA 0x3000 by the guest's tables. */
  const run = (e: Env, code: number[], rdi: number): boolean => {
    const at = page(e, 9) * 4096;
    code.forEach((b, i) => e.w.mem.w8(at + i, b));
    e.w.cpu.rip = at;
    e.w.cpu.setReg(7, rdi, 0);
    return ptwrFault(e.v, rdi, 7);
  };
  const on = (): Env => {
    const e = env();
    e.d.vmAssist = 1 << VMASST_TYPE_writable_pagetables;
    return e;
  };

  it("a store to a read-only mapped L1 is done with the checks of mmu_update, and rip goes on", () => {
    const e = on();
    const p = page(e, 20);
    e.w.cpu.setReg(0, (p << 12) | 0x63, 0x80000000);
    expect(run(e, [0x48, 0x89, 0x07], 0x3000 + 100 * 8)).toBe(true); // mov [rdi], rax
    expect(e.w.readPte(e.t.l1, 100)).toEqual([((p << 12) | 0x67) >>> 0, (0x80000000 | KERNEL) >>> 0]);
    expect(e.w.cpu.rip).toBe(page(e, 9) * 4096 + 3);
    expect(e.w.ft.tcount[p]).toBe(1);
    e.w.cpu.setReg(0, 0, 0);
    expect(run(e, [0x48, 0x87, 0x07], 0x3000 + 100 * 8)).toBe(true); // xchg [rdi], rax
    expect([e.w.cpu.regLo(0), e.w.cpu.regHi(0)]).toEqual([((p << 12) | 0x67) >>> 0, (0x80000000 | KERNEL) >>> 0]);
    expect(e.w.ft.tcount[p]).toBe(0);
  });

  it("read-modify-write instructions: and, btr, cmpxchg, half-word stores", () => {
    const e = on();
    const p = page(e, 20);
    expect(update(e, e.t.l1, 100, (p << 12) | 0x67)).toBe(0);
    expect(run(e, [0x48, 0x83, 0x27, 0xfd], 0x3000 + 800)).toBe(true); // and qword [rdi], ~2
    expect((e.w.readPte(e.t.l1, 100)[0] as number) & 0x67).toBe(0x65);
    expect(e.w.ft.tcount[p]).toBe(0);
    expect(run(e, [0xf0, 0x48, 0x0f, 0xba, 0x37, 0x05], 0x3000 + 800)).toBe(true); // lock btr [rdi], 5
    expect((e.w.readPte(e.t.l1, 100)[0] as number) & 0x67).toBe(0x45);
    expect(e.w.cpu.rflags & 1).toBe(1);
    e.w.cpu.setReg(0, 1, 0);
    expect(run(e, [0xf0, 0x48, 0x0f, 0xb1, 0x0f], 0x3000 + 800)).toBe(true); // lock cmpxchg [rdi], rcx: differs
    expect(e.w.cpu.rflags & 0x40).toBe(0);
    expect(e.w.cpu.regLo(0)).toBe(e.w.readPte(e.t.l1, 100)[0]);
    expect(run(e, [0xc7, 0x07, 0, 0, 0, 0], 0x3000 + 800)).toBe(true); // mov dword [rdi], 0
    expect(e.w.readPte(e.t.l1, 100)[0]).toBe(0);
    expect(e.w.ft.ref[p]).toBe(1);
  });

  it("what must not be stays a fault: refused values, other pages, user mode, assist off, L2 tables", () => {
    const e = on();
    e.w.cpu.setReg(0, (e.t.l1 << 12) | 7, 0);
    const mov = [0x48, 0x89, 0x07];
    const before = e.w.snapshot();
    expect(run(e, mov, 0x3000 + 800)).toBe(false);
    e.w.cpu.setReg(0, 0, 0);
    expect(run(e, mov, 0x2000 + 800)).toBe(false); // the L2
    expect(run(e, mov, 0x3001)).toBe(false);
    expect(run(e, mov, 0xa000)).toBe(false);
    e.v.kernelMode = false;
    expect(run(e, mov, 0x3000 + 800)).toBe(false);
    e.v.kernelMode = true;
    e.d.vmAssist = 0;
    expect(run(e, mov, 0x3000 + 800)).toBe(false);
    expect(e.w.snapshot()).toBe(before);
  });

  it("rep stos goes on entry by entry", () => {
    const e = on();
    e.w.cpu.setReg(0, 0, 0);
    e.w.cpu.setReg(1, 2, 0);
    expect(run(e, [0xf3, 0x48, 0xab], 0x3000 + 800)).toBe(true);
    expect([e.w.cpu.regLo(1), e.w.cpu.regLo(7)]).toEqual([1, 0x3000 + 808]);
    expect(e.w.cpu.rip).toBe(page(e, 9) * 4096);
    expect(ptwrFault(e.v, 0x3000 + 808, 7)).toBe(true);
    expect(e.w.cpu.rip).toBe(page(e, 9) * 4096 + 3);
  });
});

describe("the frame table", () => {
  it("a count below zero stops the machine", () => {
    const e = env();
    expect(() => e.w.ft.putPageType(page(e, 30))).toThrow(InvariantError);
    const w = new World();
    expect(() => w.ft.putPage(w.ft.limit - 1)).toThrow(InvariantError);
  });

  it("creating and destroying domains leaves it as it was", () => {
    const w = new World();
    const before = w.snapshot();
    for (let round = 0; round < 5; round++) {
      const d = w.domain(round + 1, 64);
      const t = w.build(d);
      const e: Env = { w, d, t, v: d.vcpus[0] as Vcpu, buf: d.mm.mfnOf(8) * 4096 };
      expect(ext(e, MMUEXT_PIN_L1_TABLE, page(e, 40))).toBe(0);
      expect(ext(e, MMUEXT_PIN_L4_TABLE, page(e, 41))).toBe(0);
      expect(update(e, t.l2, 3, (page(e, 40) << 12) | 7)).toBe(0);
      expect(update(e, t.l1, 200, (d.mm.sharedInfo << 12) | 7)).toBe(0);
      expect(update(e, t.l4, 20, (t.l4 << 12) | 5)).toBe(0);
      w.mem.w64n(e.buf, page(e, 42));
      expect(w.call(d, doSetGdt, e.buf, 16)).toBe(0);
      w.destroy(d);
      expect(d.mm.empty).toBe(true);
      expect(w.snapshot()).toBe(before);
    }
  });

  it("a dead domain's pages stay while another maps them, and never fall to a new domain of the same number", () => {
    const e = env(64, { privileged: true });
    const before = e.w.snapshot();
    const other = e.w.domain(2, 8);
    const theirs = other.mm.mfnOf(3);
    expect(update(e, e.t.l1, 100, (theirs << 12) | 7, 0, 0, 2)).toBe(0);
    e.w.destroy(other);
    expect(other.mm.totPages).toBe(1);
    const again = e.w.domain(2, 8);
    expect(again.mm.owns(theirs)).toBe(false);
    e.w.destroy(again);
    expect(update(e, e.t.l1, 100, 0)).toBe(0);
    expect(other.mm.empty).toBe(true);
    expect(e.w.snapshot().split(";")[0]).toBe(before.split(";")[0]);
  });

  it("survives random hypercalls, with every invariant held and nothing lost in the end", () => {
    const rnd = seeded(12345);
    const w = new World();
    const before = w.snapshot();
    const d = w.domain(1, 40);
    const t = w.build(d);
    const e: Env = { w, d, t, v: d.vcpus[0] as Vcpu, buf: d.mm.mfnOf(8) * 4096 };
    const frames = Array.from({ length: 40 }, (_, i) => page(e, i)).filter((m) => m !== e.buf / 4096);
    const pick = (): number => frames[rnd(frames.length)] as number;
    let ok = 0;
    for (let n = 0; n < 20000; n++) {
      const kind = rnd(10);
      const slot = [0, 1, 2, 255, 256, 272, 511][rnd(7)] as number;
      const flags = [0, 1, 3, 5, 7, 0x67, 0x87, 0x107][rnd(8)] as number;
      let rc: number;
      const untold = w.untold();
      if (kind < 6) rc = update(e, pick(), slot, (pick() << 12) | flags, rnd(8) === 0 ? 0x80000000 : 0, rnd(2) * 2);
      else if (kind === 6) rc = ext(e, rnd(4), pick());
      else if (kind === 7) rc = ext(e, MMUEXT_UNPIN_TABLE, pick());
      else if (kind === 8) rc = ext(e, rnd(2) === 0 ? MMUEXT_NEW_BASEPTR : MMUEXT_NEW_USER_BASEPTR, pick());
      else {
        w.mem.w64n(e.buf, pick());
        rc = w.call(d, doSetGdt, e.buf, 16);
      }
      expect(untold()).toBe("");
      if (rc === 0) ok++;
      if (n % 500 === 0) w.ft.audit();
    }
    expect(ok).toBeGreaterThan(2000);
    w.ft.audit();
    // No page is a table and mapped writable at once, by the tables themselves.
    for (const m of frames)
      if (w.ft.type[m] === PGT_l1_page_table && (w.ft.tcount[m] as number) > 0)
        for (let s = 0; s < 512; s++) {
          const [lo] = w.readPte(m, s);
          if ((lo & 3) === 3) expect(w.ft.type[lo >>> 12]).toBe(PGT_writable_page);
        }
    w.destroy(d);
    expect(w.snapshot()).toBe(before);
  });
});
