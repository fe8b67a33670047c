import { beforeEach, describe, expect, it } from "vitest";
import { EBUSY, EFAULT, EINVAL, ENOSYS } from "../../abi/errno.js";
import {
  GNTCOPY_dest_gref,
  GNTCOPY_source_gref,
  GNTMAP_application_map,
  GNTMAP_contains_pte,
  GNTMAP_device_map,
  GNTMAP_host_map,
  GNTMAP_readonly,
  GNTST_bad_copy_arg,
  GNTST_bad_dev_addr,
  GNTST_bad_domain,
  GNTST_bad_gntref,
  GNTST_bad_handle,
  GNTST_bad_page,
  GNTST_eagain,
  GNTST_general_error,
  GNTST_no_space,
  GNTST_okay,
  GNTST_permission_denied,
  GNTTABOP_cache_flush,
  GNTTABOP_copy,
  GNTTABOP_get_status_frames,
  GNTTABOP_get_version,
  GNTTABOP_map_grant_ref,
  GNTTABOP_query_size,
  GNTTABOP_set_version,
  GNTTABOP_setup_table,
  GNTTABOP_swap_grant_ref,
  GNTTABOP_transfer,
  GNTTABOP_unmap_and_replace,
  GNTTABOP_unmap_grant_ref,
  GTF_accept_transfer,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_sub_page,
  GTF_transitive,
  GTF_writing,
} from "../../abi/grant_table.js";
import { DOMID_SELF } from "../../abi/xen.js";
import { CODE_MASK } from "../../machine/layout.js";
import type { Domain } from "../domain.js";
import { PGT_l1_page_table, PGT_writable_page } from "../memory/frame-table.js";
import { doMmuUpdate } from "../memory/mmu-update.js";
import { doMmuextOp } from "../memory/mmuext-op.js";
import { World } from "../memory/testing.js";
import { mapForHost } from "./grant-table.js";
import { doGrantTableOp } from "./handlers.js";
import { seeded } from "../../testing.js";

const GRANT_BIT = 0x40000000;
const NX = 0x80000000;
const KERNEL = 0x00100000;

/** Domain 1 grants, domain 2 maps. */
let w: World;
let a: Domain;
let b: Domain;
let tb: { l4: number; l3: number; l2: number; l1: number };
/** Arguments of domain 2's and of domain 1's hypercalls. */
let buf: number;
let bufA: number;
/** A page of domain 1 that is granted, and its reference. */
let page: number;
const REF = 9;

beforeEach(() => {
  w = new World();
  a = w.domain(1, 64, { maxPages: 70 });
  b = w.domain(2, 64, { limits: { maxMaptrackFrames: 1 } });
  w.build(a);
  tb = w.build(b);
  bufA = a.mm.mfnOf(8) * 4096;
  buf = b.mm.mfnOf(8) * 4096;
  page = a.mm.mfnOf(20);
});

/** Write an entry of version 1 as the guest does. */
function grant(d: Domain, ref: number, flags: number, domid: number, frame: number): void {
  const at = d.grants.entryAt(ref);
  w.mem.w32(at + 4, frame);
  w.mem.w16(at + 2, domid);
  w.mem.w16(at, flags);
}
const flagsOf = (d: Domain, ref: number): number => w.mem.r16(d.grants.statusAt(ref));

interface Mapped {
  status: number;
  handle: number;
  dev: number;
}
function map(flags: number, host: number, ref = REF, dom = 1, by = b): Mapped {
  const at = by === b ? buf : bufA;
  w.mem.w64n(at, host);
  w.mem.w32(at + 8, flags);
  w.mem.w32(at + 12, ref);
  w.mem.w16(at + 16, dom);
  expect(w.call(by, doGrantTableOp, GNTTABOP_map_grant_ref, at, 1)).toBe(0);
  return { status: (w.mem.r16(at + 18) << 16) >> 16, handle: w.mem.r32(at + 20), dev: w.mem.r32(at + 24) };
}
function unmap(handle: number, host: number, dev = 0): number {
  w.mem.w64n(buf, host);
  w.mem.w64n(buf + 8, dev);
  w.mem.w32(buf + 16, handle);
  expect(w.call(b, doGrantTableOp, GNTTABOP_unmap_grant_ref, buf, 1)).toBe(0);
  return (w.mem.r16(buf + 20) << 16) >> 16;
}
const VA = 0x64000; // slot 100 of domain 2's L1

function status(op: number, at: number, off: number, d: Domain): number {
  expect(w.call(d, doGrantTableOp, op, at, 1)).toBe(0);
  return (w.mem.r16(at + off) << 16) >> 16;
}

describe("map and unmap", () => {
  it("the CPU, which keeps what it knows of address spaces, is told of an entry that goes, and of one that is mapped over", () => {
    grant(a, REF, GTF_permit_access, 2, page);
    const told = (change: () => void): boolean => {
      const before = w.changes;
      change();
      return w.changes !== before;
    };
    let m = map(GNTMAP_host_map, VA);
    expect(told(() => unmap(m.handle, VA))).toBe(true);
    // Code of the guest's own is there.
    const code = b.mm.mfnOf(20);
    w.mem.u32[(CODE_MASK + code * 8) >>> 2] = 1;
    w.mem.w64n(buf, tb.l1 * 4096 + 100 * 8);
    w.mem.w64n(buf + 8, code * 4096 + 5);
    expect(w.call(b, doMmuUpdate, buf, 1, 0, DOMID_SELF)).toBe(0);
    w.ft.codeChanged = 0;
    expect(told(() => (m = map(GNTMAP_host_map, VA)))).toBe(true);
    expect(w.ft.codeChanged).not.toBe(0);
    expect(unmap(m.handle, VA)).toBe(GNTST_okay);
  });

  it("writable: entry made, references held, flags set; unmapping undoes it all", () => {
    grant(a, REF, GTF_permit_access, 2, page);
    const before = w.snapshot();
    const m = map(GNTMAP_host_map, VA);
    expect(m).toMatchObject({ status: GNTST_okay, dev: page * 4096 });
    expect(w.readPte(tb.l1, 100)).toEqual([((page << 12) | 0x67) >>> 0, (GRANT_BIT | NX | KERNEL) >>> 0]);
    expect([w.ft.ref[page], w.ft.type[page], w.ft.tcount[page]]).toEqual([2, PGT_writable_page, 1]);
    expect(flagsOf(a, REF)).toBe(GTF_permit_access | GTF_reading | GTF_writing);
    expect(unmap(m.handle, VA)).toBe(GNTST_okay);
    expect(w.readPte(tb.l1, 100)).toEqual([0, 0]);
    expect(flagsOf(a, REF)).toBe(GTF_permit_access);
    expect(w.snapshot().replace(`${page}:${a.mm.id}:1:7:0`, `${page}:${a.mm.id}:1:0:0`)).toBe(before);
    expect(unmap(m.handle, VA)).toBe(GNTST_bad_handle);
  });

  it("read-only: no type reference, only GTF_reading; user mappings are global", () => {
    grant(a, REF, GTF_permit_access | GTF_readonly, 2, page);
    expect(map(GNTMAP_host_map, VA).status).toBe(GNTST_general_error);
    const m = map(GNTMAP_host_map | GNTMAP_readonly | GNTMAP_application_map | (5 << 16), VA);
    expect(m.status).toBe(GNTST_okay);
    expect(w.readPte(tb.l1, 100)).toEqual([((page << 12) | 0xb65) >>> 0, (GRANT_BIT | NX) >>> 0]);
    expect([w.ft.ref[page], w.ft.tcount[page]]).toEqual([2, 0]);
    expect(flagsOf(a, REF)).toBe(GTF_permit_access | GTF_readonly | GTF_reading);
    expect(unmap(m.handle, VA)).toBe(GNTST_okay);
    expect(flagsOf(a, REF)).toBe(GTF_permit_access | GTF_readonly);
  });

  it("by the entry's machine address", () => {
    grant(a, REF, GTF_permit_access, 2, page);
    const at = tb.l1 * 4096 + 100 * 8;
    const flags = GNTMAP_host_map | GNTMAP_contains_pte;
    expect(map(flags, at + 4).status).toBe(GNTST_general_error);
    expect(map(flags, tb.l2 * 4096 + 800).status).toBe(GNTST_general_error);
    expect(map(flags, a.mm.mfnOf(3) * 4096).status).toBe(GNTST_general_error);
    expect(w.ft.ref[page]).toBe(1);
    const m = map(flags, at);
    expect(m.status).toBe(GNTST_okay);
    expect(unmap(m.handle, at)).toBe(GNTST_okay);
    expect(w.ft.ref[page]).toBe(1);
  });

  it("device mappings count for themselves, and have their own address", () => {
    grant(a, REF, GTF_permit_access, 2, page);
    const m = map(GNTMAP_host_map | GNTMAP_device_map, VA);
    expect([w.ft.ref[page], w.ft.tcount[page]]).toEqual([3, 2]);
    expect(unmap(m.handle, 0, 0x1000)).toBe(GNTST_bad_dev_addr);
    expect(unmap(m.handle, VA)).toBe(GNTST_okay);
    expect([w.ft.ref[page], w.ft.tcount[page]]).toEqual([2, 1]);
    expect(flagsOf(a, REF) & GTF_writing).toBe(GTF_writing);
    expect(unmap(m.handle, 0, page * 4096)).toBe(GNTST_okay);
    expect([w.ft.ref[page], w.ft.tcount[page]]).toEqual([1, 0]);
    expect(flagsOf(a, REF)).toBe(GTF_permit_access);
  });

  it("refusals: no flags, no domain, no reference, wrong domain, wrong type, wrong frame, no table entry, a page table", () => {
    const before = w.snapshot();
    expect(map(0, VA).status).toBe(GNTST_bad_gntref);
    expect(map(GNTMAP_host_map, VA, REF, 7).status).toBe(GNTST_bad_domain);
    expect(map(GNTMAP_host_map, VA, REF, DOMID_SELF).status).toBe(GNTST_bad_domain);
    expect(map(GNTMAP_host_map, VA, 512).status).toBe(GNTST_bad_gntref);
    expect(map(GNTMAP_host_map, VA).status).toBe(GNTST_general_error);
    grant(a, REF, GTF_permit_access, 3, page);
    expect(map(GNTMAP_host_map, VA).status).toBe(GNTST_general_error);
    grant(a, REF, GTF_permit_access, 2, b.mm.mfnOf(20));
    expect(map(GNTMAP_host_map, VA).status).toBe(GNTST_bad_page);
    expect(flagsOf(a, REF)).toBe(GTF_permit_access);
    grant(a, REF, GTF_permit_access, 2, page);
    expect(map(GNTMAP_host_map, 0x400000).status).toBe(GNTST_general_error);
    grant(a, REF, GTF_permit_access, 2, a.mm.mfnOf(3)); // domain 1's L1 table
    expect(map(GNTMAP_host_map, VA).status).toBe(GNTST_general_error);
    expect(map(GNTMAP_host_map | GNTMAP_device_map, VA).status).toBe(GNTST_general_error);
    expect(flagsOf(a, REF)).toBe(GTF_permit_access);
    expect(w.snapshot().replace(`${page}:${a.mm.id}:1:7:0`, `${page}:${a.mm.id}:1:0:0`)).toBe(before);
    expect(a.grants.pin[REF]).toBe(0);
  });

  it("a granted page cannot become a page table while it is mapped writable, nor be given back to Xen", () => {
    grant(a, REF, GTF_permit_access, 2, page);
    const m = map(GNTMAP_host_map, VA);
    w.mem.w32(bufA, 0);
    w.mem.w64n(bufA + 8, page);
    expect(w.call(a, doMmuextOp, bufA, 1, 0, DOMID_SELF)).toBe(-EINVAL);
    expect(unmap(m.handle, VA)).toBe(GNTST_okay);
    expect(w.call(a, doMmuextOp, bufA, 1, 0, DOMID_SELF)).toBe(0);
    expect(w.ft.type[page]).toBe(PGT_l1_page_table);
  });

  it("what was granted stays what was mapped, whatever the entry says later", () => {
    grant(a, REF, GTF_permit_access, 2, page);
    const m = map(GNTMAP_host_map | GNTMAP_readonly, VA);
    grant(a, REF, GTF_permit_access, 2, a.mm.mfnOf(21));
    const n = map(GNTMAP_host_map | GNTMAP_readonly, VA + 4096);
    expect(w.ft.ref[page]).toBe(3);
    expect(unmap(n.handle, VA + 4096)).toBe(GNTST_okay);
    expect(unmap(m.handle, VA)).toBe(GNTST_okay);
    expect(w.ft.ref[page]).toBe(1);
  });

  it("at most 128 mappings of one kind (a field with its top bit set takes no more)", () => {
    grant(a, REF, GTF_permit_access, 2, page);
    for (let i = 0; i < 128; i++) expect(map(GNTMAP_host_map | GNTMAP_readonly, VA + i * 4096).status).toBe(GNTST_okay);
    expect(map(GNTMAP_host_map | GNTMAP_readonly, VA + 128 * 4096).status).toBe(GNTST_general_error);
  });

  it("handles run out: GNTST_no_space", () => {
    for (let r = 8; r < 11; r++) grant(a, r, GTF_permit_access, 2, page);
    for (let i = 0; i < 256; i++)
      expect(map(GNTMAP_host_map | GNTMAP_readonly, VA + (i % 3) * 4096, 8 + (i % 3)).status).toBe(GNTST_okay);
    expect(map(GNTMAP_host_map | GNTMAP_readonly, VA).status).toBe(GNTST_no_space);
  });

  it("an entry that is not the grant's is not unmapped; an overwritten grant entry is told and its references dropped", () => {
    grant(a, REF, GTF_permit_access, 2, page);
    const m = map(GNTMAP_host_map, VA);
    expect(unmap(m.handle, VA + 4096)).toBe(GNTST_general_error);
    const lost: number[] = [];
    w.ft.types.onGrantEntryLost = (id) => lost.push(id);
    w.mem.w64n(buf, tb.l1 * 4096 + 800);
    w.mem.w64n(buf + 8, 0);
    expect(w.call(b, doMmuUpdate, buf, 1, 0, DOMID_SELF)).toBe(0);
    expect(lost).toEqual([b.mm.id]);
    expect(w.ft.ref[page]).toBe(1);
    expect(unmap(m.handle, VA)).toBe(GNTST_general_error);
    // The pin stays until the domain dies.
    expect(a.grants.pin[REF]).toBe(1);
    w.destroy(b);
    expect(a.grants.pin[REF]).toBe(0);
    expect(flagsOf(a, REF)).toBe(GTF_permit_access);
    w.ft.audit();
  });

  it("unmap_and_replace moves another entry there", () => {
    grant(a, REF, GTF_permit_access, 2, page);
    const m = map(GNTMAP_host_map, VA);
    const own = b.mm.mfnOf(10); // mapped at 0xa000
    w.mem.w64n(buf, VA);
    w.mem.w64n(buf + 8, 0xa000);
    w.mem.w32(buf + 16, m.handle);
    expect(status(GNTTABOP_unmap_and_replace, buf, 20, b)).toBe(GNTST_okay);
    expect((w.readPte(tb.l1, 100)[0] as number) >>> 12).toBe(own);
    expect(w.readPte(tb.l1, 10)).toEqual([0, 0]);
    expect([w.ft.ref[own], w.ft.tcount[own], w.ft.ref[page]]).toEqual([2, 1, 1]);
  });

  it("a long array continues by itself; an unreadable one is −EFAULT", () => {
    grant(a, REF, GTF_permit_access, 2, page);
    const at = b.mm.mfnOf(9) * 4096;
    for (let i = 0; i < 40; i++) {
      w.mem.w64n(at + i * 32, VA + i * 4096);
      w.mem.w32(at + i * 32 + 8, GNTMAP_host_map);
      w.mem.w32(at + i * 32 + 12, REF);
      w.mem.w16(at + i * 32 + 16, 1);
    }
    w.preempt = true;
    expect(w.call(b, doGrantTableOp, GNTTABOP_map_grant_ref, at, 40)).toBe(0);
    expect(w.ft.tcount[page]).toBe(40);
    for (let i = 39; i >= 0; i--) {
      const handle = w.mem.r32(at + i * 32 + 20);
      w.mem.w64n(buf + i * 24, VA + i * 4096);
      w.mem.w64n(buf + i * 24 + 8, 0);
      w.mem.w32(buf + i * 24 + 16, handle);
    }
    expect(w.call(b, doGrantTableOp, GNTTABOP_unmap_grant_ref, buf, 40)).toBe(0);
    expect(w.ft.ref[page]).toBe(1);
    expect(w.call(b, doGrantTableOp, GNTTABOP_map_grant_ref, 8, 1)).toBe(-EFAULT);
    expect(w.call(b, doGrantTableOp, GNTTABOP_map_grant_ref, buf, 0x80000000)).toBe(-EINVAL);
    expect(w.call(b, doGrantTableOp, GNTTABOP_map_grant_ref | 0x1000, buf, 1)).toBe(-EINVAL);
    expect(w.call(b, doGrantTableOp, GNTTABOP_cache_flush, buf, 1)).toBe(-ENOSYS);
    expect(w.call(b, doGrantTableOp, 77, buf, 1)).toBe(-ENOSYS);
  });
});

describe("mappings of back ends in this process", () => {
  it("follow the same rules and hold the page beyond its domain's death", () => {
    grant(a, REF, GTF_permit_access, 0, page);
    expect(mapForHost(a, 8, true)).toBe(GNTST_general_error);
    expect(mapForHost(a, 5000, true)).toBe(GNTST_bad_gntref);
    expect(mapForHost(a, REF, true, 3)).toBe(GNTST_general_error);
    const m = mapForHost(a, REF, true);
    if (typeof m === "number") throw new Error(`status ${m}`);
    expect(m.mfn).toBe(page);
    expect([w.ft.ref[page], w.ft.tcount[page]]).toEqual([2, 1]);
    expect(flagsOf(a, REF)).toBe(GTF_permit_access | GTF_reading | GTF_writing);
    w.destroy(a);
    expect(a.mm.totPages).toBe(1);
    m.unmap();
    m.unmap();
    expect(a.mm.empty).toBe(true);
    w.ft.audit();
  });

  it("a page table is not mapped writable, but read-only it is", () => {
    grant(a, REF, GTF_permit_access, 0, a.mm.mfnOf(3));
    expect(mapForHost(a, REF, true)).toBe(GNTST_general_error);
    const m = mapForHost(a, REF, false);
    if (typeof m === "number") throw new Error(`status ${m}`);
    m.unmap();
    expect(flagsOf(a, REF)).toBe(GTF_permit_access);
  });
});

describe("copy", () => {
  const copy = (
    src: { ref?: number; mfn?: number; dom?: number; off?: number },
    dst: { ref?: number; mfn?: number; dom?: number; off?: number },
    len: number,
  ): number => {
    w.mem.w64n(buf, src.ref ?? src.mfn ?? 0);
    w.mem.w16(buf + 8, src.dom ?? (src.ref === undefined ? DOMID_SELF : 1));
    w.mem.w16(buf + 10, src.off ?? 0);
    w.mem.w64n(buf + 16, dst.ref ?? dst.mfn ?? 0);
    w.mem.w16(buf + 24, dst.dom ?? (dst.ref === undefined ? DOMID_SELF : 1));
    w.mem.w16(buf + 26, dst.off ?? 0);
    w.mem.w16(buf + 32, len);
    w.mem.w16(
      buf + 34,
      (src.ref === undefined ? 0 : GNTCOPY_source_gref) | (dst.ref === undefined ? 0 : GNTCOPY_dest_gref),
    );
    return status(GNTTABOP_copy, buf, 36, b);
  };

  it("to and from granted pages; flags and references are as before", () => {
    grant(a, REF, GTF_permit_access, 2, page);
    const own = b.mm.mfnOf(20);
    w.mem.w32(own * 4096 + 16, 0xabcd);
    expect(copy({ mfn: own, off: 16 }, { ref: REF, off: 100 }, 4)).toBe(GNTST_okay);
    expect(w.mem.r32(page * 4096 + 100)).toBe(0xabcd);
    expect(copy({ ref: REF, off: 100 }, { mfn: own, off: 0 }, 4)).toBe(GNTST_okay);
    expect(w.mem.r32(own * 4096)).toBe(0xabcd);
    expect([w.ft.ref[page], w.ft.tcount[page], flagsOf(a, REF), a.grants.pin[REF]]).toEqual([
      1,
      0,
      GTF_permit_access,
      0,
    ]);
  });

  it("refusals", () => {
    grant(a, REF, GTF_permit_access | GTF_readonly, 2, page);
    const own = b.mm.mfnOf(20);
    expect(copy({ mfn: own }, { ref: REF }, 4)).toBe(GNTST_general_error);
    expect(copy({ mfn: own, dom: 1 }, { mfn: own }, 4)).toBe(GNTST_permission_denied);
    expect(copy({ ref: REF, dom: 9 }, { mfn: own }, 4)).toBe(GNTST_bad_domain);
    expect(copy({ ref: 600 }, { mfn: own }, 4)).toBe(GNTST_bad_gntref);
    expect(copy({ ref: REF, off: 4094 }, { mfn: own }, 4)).toBe(GNTST_bad_copy_arg);
    expect(copy({ mfn: page }, { mfn: own }, 4)).toBe(GNTST_bad_page);
    expect(copy({ mfn: own }, { mfn: tb.l1 }, 4)).toBe(GNTST_general_error);
    expect(copy({ ref: 600 }, { mfn: own }, 0)).toBe(GNTST_okay);
    expect(flagsOf(a, REF)).toBe(GTF_permit_access | GTF_readonly);
    expect(w.ft.ref[own]).toBe(1);
  });

  it("sub-page and transitive grants of version 2", () => {
    w.mem.w32(bufA, 2);
    expect(w.call(a, doGrantTableOp, GNTTABOP_set_version, bufA, 1)).toBe(0);
    const at = a.grants.entryAt(REF);
    w.mem.w16(at + 4, 0x100);
    w.mem.w16(at + 6, 0x20);
    w.mem.w64n(at + 8, page);
    w.mem.w16(at + 2, 2);
    w.mem.w16(at, GTF_permit_access | GTF_sub_page);
    const own = b.mm.mfnOf(20);
    expect(copy({ ref: REF, off: 0x100 }, { mfn: own }, 0x20)).toBe(GNTST_okay);
    expect(copy({ ref: REF, off: 0x101 }, { mfn: own }, 0x20)).toBe(GNTST_general_error);
    expect(copy({ ref: REF, off: 0xff }, { mfn: own }, 1)).toBe(GNTST_general_error);
    expect(map(GNTMAP_host_map, VA).status).toBe(GNTST_general_error);
    // Domain 3 grants to 1, which passes it on to 2.
    const c = w.domain(3, 8);
    grant(c, 20, GTF_permit_access, 1, c.mm.mfnOf(5));
    w.mem.w32(c.mm.mfnOf(5) * 4096, 0x55);
    const e = a.grants.entryAt(10);
    w.mem.w16(e + 4, 3);
    w.mem.w32(e + 8, 20);
    w.mem.w16(e + 2, 2);
    w.mem.w16(e, GTF_transitive);
    expect(copy({ ref: 10 }, { mfn: own }, 4)).toBe(GNTST_okay);
    expect(w.mem.r32(own * 4096)).toBe(0x55);
    expect([c.grants.pin[20], a.grants.pin[10], flagsOf(c, 20), a.grants.v2Ops]).toEqual([0, 0, GTF_permit_access, 0]);
    w.mem.w16(e + 4, 1);
    expect(copy({ ref: 10 }, { mfn: own }, 4)).toBe(GNTST_general_error);
    expect(w.mem.r16(a.grants.statusAt(10))).toBe(0);
    expect(map(GNTMAP_host_map, VA, 10).status).toBe(GNTST_general_error);
  });
});

describe("transfer", () => {
  const transfer = (mfn: number, dom: number, ref: number): number => {
    w.mem.w64n(buf, mfn);
    w.mem.w16(buf + 8, dom);
    w.mem.w32(buf + 12, ref);
    return status(GNTTABOP_transfer, buf, 16, b);
  };
  it("moves a page to a domain that accepts it, and tells it which", () => {
    grant(a, REF, GTF_accept_transfer, 2, 333);
    const p = b.mm.mfnOf(20);
    expect(transfer(p, 1, REF)).toBe(GNTST_okay);
    expect(a.mm.owns(p)).toBe(true);
    expect(a.mm.mfnOf(333)).toBe(p);
    expect([a.mm.totPages, b.mm.totPages]).toEqual([65, 63]);
    expect(w.mem.r32(a.grants.entryAt(REF) + 4)).toBe(p);
    expect(w.mem.r16(a.grants.entryAt(REF))).toBe(GTF_accept_transfer | 4 | 8);
    w.ft.audit();
  });
  it("a page in use stays; a page that nobody accepts is lost", () => {
    expect(transfer(b.mm.mfnOf(10), 1, REF)).toBe(GNTST_bad_page);
    expect(transfer(page, 1, REF)).toBe(GNTST_bad_page);
    expect(transfer(b.mm.sharedInfo, 1, REF)).toBe(GNTST_bad_page);
    const free = w.ft.freeFrames;
    expect(transfer(b.mm.mfnOf(20), 9, REF)).toBe(GNTST_bad_domain);
    expect(transfer(b.mm.mfnOf(21), 1, REF)).toBe(GNTST_general_error);
    expect(w.ft.freeFrames).toBe(free + 2);
    w.ft.audit();
  });
});

describe("the table itself", () => {
  const setup = (frames: number, dom: number = DOMID_SELF): number => {
    w.mem.w16(buf, dom);
    w.mem.w32(buf + 4, frames);
    w.mem.w64n(buf + 16, buf + 0x100);
    return status(GNTTABOP_setup_table, buf, 8, b);
  };
  it("query_size and setup_table as real Xen: 1 of 64 frames at first; grows; another domain's is refused", () => {
    w.mem.w16(buf, DOMID_SELF);
    expect(status(GNTTABOP_query_size, buf, 12, b)).toBe(GNTST_okay);
    expect([w.mem.r32(buf + 4), w.mem.r32(buf + 8)]).toEqual([1, 64]);
    expect(setup(3)).toBe(GNTST_okay);
    expect(b.grants.frames).toEqual([0, 1, 2].map((i) => w.mem.r32(buf + 0x100 + i * 8)));
    expect(b.grants.entries).toBe(1536);
    expect(setup(65)).toBe(GNTST_general_error);
    expect(setup(1, 1)).toBe(GNTST_permission_denied);
    expect(setup(1, 9)).toBe(GNTST_bad_domain);
    expect(w.call(b, doGrantTableOp, GNTTABOP_setup_table, buf, 2)).toBe(-EINVAL);
    // Its frames can be mapped writable by the guest.
    w.mem.w64n(buf, tb.l1 * 4096 + 800);
    w.mem.w64n(buf + 8, (b.grants.frames[0] as number) * 4096 + 7);
    expect(w.call(b, doMmuUpdate, buf, 1, 0, DOMID_SELF)).toBe(0);
  });

  it("set_version keeps the first eight entries, clears the rest, and is refused while others are in use", () => {
    const version = (v: number): number => {
      w.mem.w32(bufA, v);
      return w.call(a, doGrantTableOp, GNTTABOP_set_version, bufA, 1);
    };
    expect(version(3)).toBe(-EINVAL);
    expect(w.mem.r32(bufA)).toBe(1);
    grant(a, 1, GTF_permit_access, 0, 77);
    grant(a, REF, GTF_permit_access, 2, page);
    const m = map(GNTMAP_host_map, VA);
    expect(version(2)).toBe(-EBUSY);
    expect(unmap(m.handle, VA)).toBe(GNTST_okay);
    const before = w.snapshot();
    expect(version(2)).toBe(0);
    expect(a.grants.entries).toBe(256);
    expect([
      w.mem.r16(a.grants.entryAt(1)),
      w.mem.r32(a.grants.entryAt(1) + 8),
      w.mem.r16(a.grants.entryAt(REF)),
    ]).toEqual([1, 77, 0]);
    w.mem.w16(bufA, DOMID_SELF);
    expect(w.call(a, doGrantTableOp, GNTTABOP_get_version, bufA, 1)).toBe(0);
    expect(w.mem.r32(bufA + 4)).toBe(2);
    w.mem.w32(bufA, 1);
    w.mem.w16(bufA + 4, DOMID_SELF);
    w.mem.w64n(bufA + 8, bufA + 0x100);
    expect(status(GNTTABOP_get_status_frames, bufA, 6, a)).toBe(GNTST_okay);
    expect(w.mem.r32(bufA + 0x100)).toBe(a.grants.statusFrames[0]);
    expect(version(1)).toBe(0);
    expect(w.mem.r32(a.grants.entryAt(1) + 4)).toBe(77);
    expect(w.snapshot()).toBe(before);
  });

  it("version 2: status lies apart, and mappings work", () => {
    w.mem.w32(bufA, 2);
    expect(w.call(a, doGrantTableOp, GNTTABOP_set_version, bufA, 1)).toBe(0);
    const at = a.grants.entryAt(REF);
    w.mem.w64n(at + 8, page);
    w.mem.w16(at + 2, 2);
    w.mem.w16(at, GTF_permit_access);
    const m = map(GNTMAP_host_map, VA);
    expect(m.status).toBe(GNTST_okay);
    expect([w.mem.r16(at), w.mem.r16(a.grants.statusAt(REF))]).toEqual([GTF_permit_access, GTF_reading | GTF_writing]);
    expect(unmap(m.handle, VA)).toBe(GNTST_okay);
    expect(w.mem.r16(a.grants.statusAt(REF))).toBe(0);
  });

  it("swap_grant_ref: own entries that are not in use", () => {
    grant(a, 8, GTF_permit_access, 3, 11);
    grant(a, REF, GTF_permit_access, 2, page);
    const swap = (x: number, y: number): number => {
      w.mem.w32(bufA, x);
      w.mem.w32(bufA + 4, y);
      return status(GNTTABOP_swap_grant_ref, bufA, 8, a);
    };
    expect(swap(8, REF)).toBe(GNTST_okay);
    expect(w.mem.r32(a.grants.entryAt(8) + 4)).toBe(page);
    const m = map(GNTMAP_host_map, VA, 8);
    expect(m.status).toBe(GNTST_okay);
    expect(swap(8, REF)).toBe(GNTST_eagain);
    expect(swap(8, 600)).toBe(GNTST_bad_gntref);
  });
});

describe("the end of a domain", () => {
  it("releases what it mapped and what is mapped of it, in either order", () => {
    for (const first of ["mapper", "granter"]) {
      const v = new World();
      const before = v.snapshot();
      w = v;
      a = v.domain(1, 64);
      b = v.domain(2, 64);
      v.build(a);
      tb = v.build(b);
      buf = b.mm.mfnOf(8) * 4096;
      page = a.mm.mfnOf(20);
      grant(a, REF, GTF_permit_access, 2, page);
      expect(map(GNTMAP_host_map | GNTMAP_device_map, VA).status).toBe(GNTST_okay);
      if (first === "mapper") {
        v.destroy(b);
        expect(flagsOf(a, REF)).toBe(GTF_permit_access);
        expect(v.ft.ref[page]).toBe(1);
        v.destroy(a);
      } else {
        v.destroy(a);
        expect(a.mm.totPages).toBe(1);
        v.destroy(b);
      }
      expect([a.mm.empty, b.mm.empty]).toEqual([true, true]);
      expect(v.snapshot()).toBe(before);
    }
  });

  it("a grant of a dead domain can still be unmapped", () => {
    grant(a, REF, GTF_permit_access, 2, page);
    const m = map(GNTMAP_host_map, VA);
    w.destroy(a);
    expect(unmap(m.handle, VA)).toBe(GNTST_okay);
    expect(a.mm.empty).toBe(true);
    w.ft.audit();
  });
});

describe("hostile domains", () => {
  it("random grant and page-table operations break no invariant and lose no frame", () => {
    const rnd = seeded(4711);
    const flags = [1, 2, 3, 5, 6, 7, 0x12, 0x13, 0x16, 0xa];
    let mapped = 0;
    for (let round = 0; round < 6; round++) {
      w = new World();
      const before = w.snapshot();
      const ds = [w.domain(1, 40, { maxPages: 60 }), w.domain(2, 40, { maxPages: 60 })] as [Domain, Domain];
      const tables = ds.map((d) => w.build(d, 30));
      const args = ds.map((d) => d.mm.mfnOf(39) * 4096);
      const hosts: { unmap(): void }[] = [];
      for (let n = 0; n < 3000; n++) {
        const me = rnd(2);
        const d = ds[me] as Domain;
        const at = args[me] as number;
        const other = ds[1 - me] as Domain;
        const mine = d.mm.mfnOf(rnd(39));
        const slot = 28 + rnd(6);
        const ref = rnd(4) === 0 ? rnd(8) : 8 + rnd(4);
        const pte = ((tables[me] as { l1: number }).l1 * 4096 + slot * 8) as number;
        const f = flags[rnd(flags.length)] as number;
        const untold = w.untold();
        switch (rnd(11)) {
          case 0:
          case 1: {
            const e = d.grants.entryAt(ref);
            w.mem.write(
              e,
              new Uint8Array(8).map(() => rnd(256)),
            );
            if (rnd(8) !== 0) {
              w.mem.w16(e, [1, 1, 5, 2, 3, 0x101][rnd(6)] as number);
              w.mem.w16(e + 2, rnd(5) === 0 ? 0 : other.domid);
              if (d.grants.version === 1) w.mem.w32(e + 4, mine);
              else w.mem.w64n(e + 8, rnd(3) === 0 ? ref : mine);
            }
            break;
          }
          case 2:
          case 3: {
            w.mem.w64n(at, (f & GNTMAP_contains_pte) !== 0 ? pte : slot * 4096);
            w.mem.w32(at + 8, f);
            w.mem.w32(at + 12, ref);
            w.mem.w16(at + 16, 1 + rnd(2));
            w.call(d, doGrantTableOp, GNTTABOP_map_grant_ref, at, 1);
            if (w.mem.r16(at + 18) === 0) mapped++;
            break;
          }
          case 4:
          case 5:
            for (let i = 0; i < 3; i++) {
              w.mem.w64n(at + i * 24, rnd(4) === 0 ? 0 : rnd(2) === 0 ? pte : slot * 4096);
              w.mem.w64n(at + i * 24 + 8, rnd(2) === 0 ? 0 : other.mm.mfnOf(rnd(39)) * 4096);
              w.mem.w32(at + i * 24 + 16, rnd(12));
            }
            w.call(d, doGrantTableOp, rnd(5) === 0 ? GNTTABOP_unmap_and_replace : GNTTABOP_unmap_grant_ref, at, 3);
            break;
          case 6:
            w.mem.w64n(at, pte);
            w.mem.w64(at + 8, rnd(2) === 0 ? 0 : (mine << 12) | (rnd(2) * 2 + 5), 0);
            w.call(d, doMmuUpdate, at, 1, 0, DOMID_SELF);
            break;
          case 7:
            w.mem.w32(at, rnd(2) * 4);
            w.mem.w64n(at + 8, mine);
            w.call(d, doMmuextOp, at, 1, 0, DOMID_SELF);
            break;
          case 8:
            w.mem.write(at, new Uint8Array(40));
            w.mem.w64n(at, rnd(2) === 0 ? ref : mine);
            w.mem.w16(at + 8, rnd(2) === 0 ? DOMID_SELF : 1 + rnd(2));
            w.mem.w64n(at + 16, rnd(2) === 0 ? ref : mine);
            w.mem.w16(at + 24, rnd(2) === 0 ? DOMID_SELF : 1 + rnd(2));
            w.mem.w16(at + 32, rnd(300));
            w.mem.w16(at + 34, rnd(4));
            w.call(d, doGrantTableOp, GNTTABOP_copy, at, 1);
            break;
          case 9:
            if (rnd(4) === 0) {
              w.mem.w32(at, 1 + rnd(2));
              w.call(d, doGrantTableOp, GNTTABOP_set_version, at, 1);
            } else if (d.mm.totPages > 35) {
              w.mem.w64n(at, d.mm.mfnOf(30 + rnd(9)));
              w.mem.w16(at + 8, other.domid);
              w.mem.w32(at + 12, ref);
              w.call(d, doGrantTableOp, GNTTABOP_transfer, at, 1);
            }
            break;
          default: {
            const m = mapForHost(d, ref, rnd(2) === 0);
            if (typeof m !== "number") hosts.push(m);
            if (hosts.length > 3) hosts.splice(rnd(hosts.length), 1)[0]?.unmap();
          }
        }
        expect(untold()).toBe("");
        if (n % 250 === 0) w.ft.audit();
      }
      w.ft.audit();
      if (round % 2 === 0) hosts.forEach((h) => h.unmap());
      w.destroy(ds[round % 2] as Domain);
      w.ft.audit();
      w.destroy(ds[1 - (round % 2)] as Domain);
      if (round % 2 !== 0) hosts.forEach((h) => h.unmap());
      expect(w.snapshot()).toBe(before);
    }
    expect(mapped).toBeGreaterThan(50);
  });
});
