/** Memory shared copy-on-write: the frame table's side of it, and that no hypercall writes or gives away what is shared. */
import { beforeEach, describe, expect, it } from "vitest";
import { EINVAL, ENOMEM } from "../../../abi/errno.js";
import {
  GNTCOPY_dest_gref,
  GNTMAP_contains_pte,
  GNTMAP_device_map,
  GNTMAP_host_map,
  GNTMAP_readonly,
  GNTST_general_error,
  GNTST_okay,
  GNTTABOP_copy,
  GNTTABOP_map_grant_ref,
  GNTTABOP_transfer,
  GNTTABOP_unmap_grant_ref,
  GTF_accept_transfer,
  GTF_permit_access,
} from "../../../abi/grant_table.js";
import {
  XENMEM_decrease_reservation,
  XENMEM_exchange,
  XENMEM_get_sharing_freed_pages,
  XENMEM_get_sharing_shared_pages,
} from "../../../abi/memory.js";
import { DOMID_COW, DOMID_SELF, MMUEXT_CLEAR_PAGE, MMUEXT_COPY_PAGE, MMUEXT_PIN_L1_TABLE } from "../../../abi/xen.js";
import type { Domain } from "../../domain.js";
import { DomainFrames } from "../../events/guest-frame.js";
import { mapForHost } from "../../grants/grant-table.js";
import { doGrantTableOp } from "../../grants/handlers.js";
import { doMemoryOp } from "../memory-op.js";
import { doMmuUpdate } from "../mmu-update.js";
import { doMmuextOp } from "../mmuext-op.js";
import { PGT_l1_page_table, PGT_writable_page } from "../frame-table.js";
import { World } from "../testing.js";
import { walkL1 } from "../walk.js";
import type { Keep, Sharing } from "./sharing.js";
import { seeded } from "../../../testing.js";

const PAGES = 64;

let w: World;
let s: Sharing;
/** The domain whose memory is a template, and its pages that the template keeps. */
let parent: Domain;
let kept: Keep;

beforeEach(() => {
  w = new World(16 << 20, 4096);
  s = w.ft.sharing;
  parent = w.domain(1, PAGES);
  for (let p = 0; p < PAGES; p += 2) w.mem.w32(parent.mm.mfnOf(p) * 4096 + 4 * p, 0x1000 + p);
  kept = keepAll(parent);
});
function keepAll(d: Domain): Keep {
  const keep = new Int32Array(PAGES).fill(-1);
  s.register(keep);
  for (let p = 0; p < PAGES; p++) expect(s.freeze(d.mm.mfnOf(p), keep, p)).toBe(true);
  return keep;
}
function check(): void {
  w.ft.audit();
  s.audit();
}

/** A domain all of whose pages are alias frames; pfns in `own` have pages of zeroes of their own. */
function child(domid: number, own: readonly number[] = []): Domain {
  const d = w.domain(domid, 0, { maxPages: PAGES + 8, privileged: false });
  const base = s.takeRange(PAGES);
  const backings = Int32Array.from(kept);
  for (const p of own) backings[p] = 0;
  if (!s.give(base, d.mm.id, backings)) throw new Error("no memory");
  for (let p = 0; p < PAGES; p++) d.mm.setPfn(base + p, p);
  return d;
}
const at = (d: Domain, pfn: number): number => d.mm.mfnOf(pfn) * 4096;
const pte = (mfn: number, flags: number): [number, number] => [((mfn << 12) | flags) >>> 0, mfn >>> 20];
/** Use up all free memory. */
function exhaust(): Domain {
  return w.domain(99, w.ft.freeFrames - 8, { maxPages: 1 << 20 });
}
function fillUp(): number[] {
  const taken: number[] = [];
  for (let f = w.ft.allocXen(); f >= 0; f = w.ft.allocXen()) taken.push(f);
  return taken;
}

describe("alias frames", () => {
  it("read as what the template keeps, and cost no memory but a table's", () => {
    const free = w.ft.freeFrames;
    const c = child(2);
    expect(free - w.ft.freeFrames).toBeLessThanOrEqual(3);
    for (let p = 0; p < PAGES; p++) expect(w.mem.r32(at(c, p) + 4 * p)).toBe(p % 2 === 0 ? 0x1000 + p : 0);
    expect(w.ft.valid(c.mm.mfnOf(5))).toBe(true);
    expect(c.mm.totPages).toBe(PAGES);
    expect(w.ft.m2p.get(c.mm.mfnOf(5))).toBe(5);
    check();
  });

  it("keeping a domain takes no memory: its frames are lent, and are still its own", () => {
    expect([...kept]).toEqual(Array.from({ length: PAGES }, (_, p) => parent.mm.mfnOf(p)));
    expect(w.ft.ownerDomid(kept[4] as number)).toBe(1);
    expect([s.sharedFrames, s.savedFrames]).toEqual([PAGES, PAGES]);
    check();
  });

  it("when the parent writes a lent frame, all who hold it get a copy first, and the frame is its own again", () => {
    const [a, b] = [child(2), child(3)];
    const m = parent.mm.mfnOf(4);
    const free = w.ft.freeFrames;
    const remapped: number[] = [];
    w.mem.onRemap = (f) => remapped.push(f);
    w.mem.w32(m * 4096 + 16, 7);
    expect([w.mem.r32(m * 4096 + 16), w.mem.isShared(m), remapped]).toEqual([7, false, [m]]);
    expect(w.ft.freeFrames).toBe(free - 1);
    expect(w.mem.r32(at(a, 4) + 16)).toBe(0x1004);
    expect([w.mem.ram(a.mm.mfnOf(4)), w.mem.ram(b.mm.mfnOf(4))]).toEqual([kept[4], kept[4]]);
    expect(w.ft.ownerDomid(kept[4] as number)).toBe(DOMID_COW);
    w.mem.w32(m * 4096 + 20, 8);
    expect(w.ft.freeFrames).toBe(free - 1);
    check();
  });

  it("a page of zeroes that the parent writes costs nothing: who holds it gets the one frame of zeroes", () => {
    const c = child(2);
    w.mem.w32(at(parent, 1), 1);
    const free = w.ft.freeFrames;
    w.mem.w32(at(parent, 3), 1);
    expect([w.ft.freeFrames, w.mem.ram(c.mm.mfnOf(1))]).toEqual([free, w.mem.ram(c.mm.mfnOf(3))]);
    expect(w.mem.r32(at(c, 3))).toBe(0);
    check();
  });

  it("a page that holds −0 or only its last byte is no page of zeroes", () => {
    const c = child(2);
    w.mem.w8(at(c, 1) + 4095, 0x80);
    const keep = keepAll(c);
    w.mem.w8(at(c, 1), 1);
    const d = child(3);
    expect(w.mem.r8((keep[1] as number) * 4096 + 4095)).toBe(0x80);
    expect(w.mem.r8(at(d, 1) + 4095)).toBe(0);
    const lone = w.domain(5, PAGES);
    w.mem.w8(at(lone, 7) + 4095, 0x80);
    const other = keepAll(lone);
    w.mem.w8(at(lone, 7), 1);
    expect(w.mem.r8((other[7] as number) * 4096 + 4095)).toBe(0x80);
    check();
  });

  it("a parent that is destroyed leaves its lent frames to those who hold them, as they are", () => {
    const c = child(2);
    const free = w.ft.freeFrames;
    const m = parent.mm.mfnOf(4);
    w.destroy(parent);
    expect(w.ft.freeFrames - free).toBeLessThan(PAGES);
    expect([w.mem.ram(c.mm.mfnOf(4)), w.mem.r32(at(c, 4) + 16), w.ft.ownerDomid(m)]).toEqual([m, 0x1004, DOMID_COW]);
    check();
    w.mem.w32(at(c, 4), 1);
    s.letGo(kept);
    check();
    w.destroy(c);
    check();
    expect([s.sharedFrames, s.aliasesUsed]).toEqual([0, 0]);
  });

  it("a lent page that its owner gives back, exchanges or makes a page table is dealt with alike", () => {
    const c = child(2);
    w.build(parent);
    expect(w.mem.isShared(parent.mm.mfnOf(1))).toBe(false);
    const m = parent.mm.mfnOf(20);
    parent.mm.forget(m);
    w.ft.putAllocRef(m);
    expect([w.ft.ownerDomid(m), w.mem.r32(at(c, 20) + 80)]).toEqual([DOMID_COW, 0x1014]);
    const x = parent.mm.mfnOf(22);
    expect(w.ft.steal(x, parent.mm.id)).toBe(0);
    w.ft.freeUnowned(x);
    expect([w.ft.ownerDomid(x), w.mem.r32(at(c, 22) + 88)]).toEqual([DOMID_COW, 0x1016]);
    for (let p = 0; p < PAGES; p += 2) expect(w.mem.r32(at(c, p) + 4 * p)).toBe(0x1000 + p);
    check();
  });

  it("holders that have the page elsewhere are found too", () => {
    const c = child(2);
    // The fork has moved its page 4 to 50, and is forked in turn.
    const keep = new Int32Array(PAGES).fill(-1);
    s.register(keep);
    s.freeze(c.mm.mfnOf(4), keep, 50);
    const base = s.takeRange(PAGES);
    const d = w.domain(3, 0, { maxPages: PAGES });
    expect(s.give(base, d.mm.id, keep)).toBe(true);
    w.mem.w32(at(parent, 4) + 16, 7);
    expect([w.mem.r32((base + 50) * 4096 + 16), w.mem.r32(at(c, 4) + 16), keep[50]]).toEqual([0x1004, 0x1004, kept[4]]);
    check();
  });

  it("a page table or a page of the hypervisor's is not kept", () => {
    const t = w.build(w.domain(6, PAGES));
    const keep = new Int32Array(PAGES).fill(-1);
    s.register(keep);
    expect([s.freeze(t.l1, keep, 0), s.freeze(parent.mm.sharedInfo, keep, 1)]).toEqual([false, false]);
    expect([keep[0], keep[1]]).toEqual([-1, -1]);
    check();
  });

  it("a write breaks sharing for the writer alone", () => {
    const a = child(2);
    const b = child(3);
    const remapped: number[] = [];
    w.mem.onRemap = (f) => remapped.push(f);
    w.mem.w32(at(a, 4), 0xaaaa);
    expect(remapped).toEqual([kept[4]]);
    expect([w.mem.r32(at(a, 4)), w.mem.r32(at(a, 4) + 16)]).toEqual([0xaaaa, 0x1004]);
    expect([w.mem.r32(at(b, 4)), w.mem.r32((kept[4] as number) * 4096)]).toEqual([0, 0]);
    expect(s.isShared(a.mm.mfnOf(4))).toBe(false);
    expect(s.isShared(b.mm.mfnOf(4))).toBe(true);
    // The next write finds a page of its own.
    w.mem.w32(at(a, 4), 0xbbbb);
    expect(remapped.length).toBe(1);
    expect(s.broken).toBe(1);
    check();
  });

  it("every way of writing of the host side breaks sharing, also across frames", () => {
    const c = child(2);
    const ways: (() => void)[] = [
      () => w.mem.w8(at(c, 2) + 1, 1),
      () => w.mem.w16(at(c, 4) + 1, 1),
      () => w.mem.w64(at(c, 6), 1, 2),
      () => w.mem.zeroFrame(c.mm.mfnOf(8)),
      () => w.mem.copyFrame(c.mm.mfnOf(10), c.mm.mfnOf(12)),
      () => w.mem.write(at(c, 14) + 4090, new Uint8Array(20).fill(9)),
      () => w.mem.fill(at(c, 18) + 4000, 3, 200),
    ];
    const before = Array.from(kept, (f) => [...w.mem.read(f * 4096, 4096)].join());
    for (const way of ways) way();
    expect(Array.from(kept, (f) => [...w.mem.read(f * 4096, 4096)].join())).toEqual(before);
    for (const p of [2, 4, 6, 8, 10, 14, 15, 18, 19]) expect(s.isShared(c.mm.mfnOf(p))).toBe(false);
    expect(s.isShared(c.mm.mfnOf(12))).toBe(true);
    expect(w.mem.r32(at(c, 10) + 48)).toBe(0x100c);
    expect([...w.mem.read(at(c, 14) + 4088, 24)]).toEqual([0, 0, ...Array<number>(20).fill(9), 0, 0]);
    check();
  });

  it("the last holder of a page writes it without a copy, once no translation of another's can lead there", () => {
    const c = child(2);
    const f = kept[4] as number;
    w.destroy(parent);
    s.letGo(kept);
    const free = w.ft.freeFrames;
    let dropped = -1;
    w.mem.onRemap = (r) => (dropped = r);
    w.mem.w32(at(c, 4), 1);
    expect([w.ft.freeFrames, dropped, w.mem.r32(f * 4096)]).toEqual([free, f, 1]);
    check();
  });

  it("destroying forks and template gives everything back", () => {
    s.letGo(kept);
    const before = w.snapshot();
    kept = keepAll(parent);
    const [a, b] = [child(2), child(3)];
    w.mem.w32(at(a, 4), 1);
    w.mem.w32(at(b, 5), 1);
    w.destroy(a);
    check();
    s.letGo(kept);
    expect(w.mem.r32(at(b, 6) + 24)).toBe(0x1006);
    w.destroy(b);
    expect(w.snapshot()).toBe(before);
    expect([s.aliasesUsed, s.savedFrames, s.freeAliases]).toEqual([0, 0, 4096]);
    check();
  });

  it("numbers are handed out again, after a flush, when all of a fork's are free", () => {
    const a = child(2);
    const first = a.mm.mfnOf(0);
    const b = child(3);
    w.destroy(a);
    const flushes = w.cpu.flushes;
    expect(child(4).mm.mfnOf(0)).toBe(first);
    expect(flushes).toBeGreaterThan(0);
    w.destroy(b);
    check();
  });

  it("a frame of another fork that is still referenced keeps the numbers and the contents", () => {
    const a = child(2);
    const m = a.mm.mfnOf(4);
    expect(w.ft.getPage(m, a.mm.id)).toBe(true);
    w.destroy(a);
    expect(child(3).mm.mfnOf(0)).not.toBe(m - 4);
    expect(w.mem.r32(m * 4096 + 16)).toBe(0x1004);
    w.ft.putPage(m);
    check();
  });

  it("there are not more numbers than asked for", () => {
    expect(s.takeRange(4097)).toBe(-1);
    const base = s.takeRange(4096);
    expect([base, w.ft.limit]).toEqual([w.ft.ramLimit, w.mem.limit]);
    expect(s.takeRange(1)).toBe(-1);
    s.returnRange(base);
    expect(s.takeRange(1)).toBe(base);
  });

  it("a number that stands for nothing is an error of ours, not frame 0", () => {
    expect(() => w.mem.r32(w.ft.ramLimit * 4096)).toThrow("stands for no memory");
    expect(() => w.mem.w32((w.mem.limit + 5) * 4096, 0)).toThrow("stands for no memory");
    expect(w.ft.getPage(w.ft.ramLimit, parent.mm.id)).toBe(false);
    expect(w.ft.valid(w.mem.limit)).toBe(false);
  });

  it("a fork of a fork shares what the fork had, and neither sees the other's writes", () => {
    const a = child(2);
    w.mem.w32(at(a, 4), 0xaa);
    const again = keepAll(a);
    expect(s.isShared(a.mm.mfnOf(4))).toBe(true);
    const b = w.domain(3, 0, { maxPages: PAGES });
    const base = s.takeRange(PAGES);
    expect(s.give(base, b.mm.id, again)).toBe(true);
    expect(w.mem.r32(base * 4096 + 4 * 4096)).toBe(0xaa);
    w.mem.w32(at(a, 4), 0xbb);
    w.mem.w32((base + 4) * 4096, 0xcc);
    expect([w.mem.r32(at(a, 4)), w.mem.r32((base + 4) * 4096), w.mem.r32((again[4] as number) * 4096)]).toEqual([
      0xbb, 0xcc, 0xaa,
    ]);
    check();
  });
});

it("a guest reads the machine's numbers as on Xen", () => {
  const c = child(2);
  expect(w.call(c, doMemoryOp, XENMEM_get_sharing_shared_pages, 0)).toBe(PAGES);
  // Parent, template and fork hold each of them: two frames are saved for each.
  expect(w.call(c, doMemoryOp, XENMEM_get_sharing_freed_pages, 0)).toBe(2 * PAGES);
  w.mem.w32(at(c, 4), 1);
  expect(w.call(c, doMemoryOp, XENMEM_get_sharing_freed_pages, 0)).toBe(2 * PAGES - 1);
});

describe("memory that runs out", () => {
  it("a store of the host side is lost and its owner stopped: nothing else changes", () => {
    const c = child(2);
    const stopped: number[] = [];
    s.onExhausted = (id) => stopped.push(id);
    fillUp();
    w.mem.w32(at(c, 4), 0xdead);
    expect(stopped).toEqual([c.mm.id]);
    expect(w.mem.r32(at(c, 4))).toBe(0);
    check();
  });

  it("hypercalls that write are refused with −ENOMEM and leave no reference", () => {
    const c = child(2, [0, 1, 2, 3, 8]);
    const before = (): string => w.snapshot().replace(/^\d+;/, "");
    fillUp();
    const was = before();
    const buf = at(c, 8);
    const ram = w.mem.resolve(buf);
    const ext = (cmd: number, a1: number, a2 = 0): number => {
      w.mem.w64n(ram, cmd);
      w.mem.w64n(ram + 8, a1);
      w.mem.w64n(ram + 16, a2);
      return w.call(c, doMmuextOp, ram, 1, 0, DOMID_SELF);
    };
    const m = c.mm.mfnOf(20);
    expect(ext(MMUEXT_CLEAR_PAGE, m)).toBe(-ENOMEM);
    expect(ext(MMUEXT_COPY_PAGE, m, c.mm.mfnOf(8))).toBe(-ENOMEM);
    expect(ext(MMUEXT_PIN_L1_TABLE, m)).toBe(-ENOMEM);
    w.mem.w64n(ram, m * 4096);
    w.mem.w64n(ram + 8, 5);
    expect(w.call(c, doMmuUpdate, ram, 1, 0, DOMID_SELF)).toBe(-ENOMEM);
    expect(new DomainFrames(c).getWritable(m, 0)).toBe(-ENOMEM);
    expect(s.isShared(m)).toBe(true);
    // Only types that are not in use may differ.
    const plain = (x: string): string => x.replace(/:\d:0(?=,|$)/g, "");
    expect(plain(before())).toBe(plain(was));
    check();
  });

  it("a fork that does not fit gives back what it took", () => {
    const before = w.snapshot();
    const e = exhaust();
    const d = w.domain(2, 0, { maxPages: PAGES });
    const base = s.takeRange(PAGES);
    expect(s.give(base, d.mm.id, new Int32Array(PAGES))).toBe(false);
    w.destroy(d);
    w.destroy(e);
    expect(w.snapshot()).toBe(before);
    check();
  });
});

describe("page tables", () => {
  /** Tables at pfns 0–3, on pages of the child's own. */
  function build(c: Domain): { l4: number; l1: number } {
    const [l4, l3, l2, l1] = [0, 1, 2, 3].map((p) => c.mm.mfnOf(p)) as [number, number, number, number];
    w.pte(l4, 0, ...pte(l3, 7));
    w.pte(l3, 0, ...pte(l2, 7));
    w.pte(l2, 0, ...pte(l1, 7));
    for (let p = 0; p < 16; p++) w.pte(l1, p, ...pte(c.mm.mfnOf(p), p < 4 ? 5 : 7));
    expect(c.mm.finishBuild({ l4Mfn: l4 })).toBe(0);
    return { l4, l1 };
  }

  it("name alias frames as any others: validated, walked, torn down", () => {
    const before = w.snapshot();
    const c = child(2, [0, 1, 2, 3]);
    const { l4, l1 } = build(c);
    c.vcpus[0]?.mm.load();
    expect(w.cpu.roots[0]).toBe(w.mem.ram(l4) * 4096);
    expect(walkL1(w.ft, l4, 5 * 4096)).toBe(l1 * 4096 + 5 * 8);
    expect([w.ft.type[c.mm.mfnOf(5)], w.ft.tcount[c.mm.mfnOf(5)], w.ft.ref[c.mm.mfnOf(5)]]).toEqual([
      PGT_writable_page,
      1,
      2,
    ]);
    // A mapping to be written is no write: the page stays shared.
    expect(s.isShared(c.mm.mfnOf(5))).toBe(true);
    check();
    w.destroy(c);
    expect(w.snapshot()).toBe(before);
  });

  it("a shared page that becomes a table gets memory of its own first, and the template's page keeps its contents", () => {
    const c = child(2, [0, 1, 2, 3, 8]);
    build(c);
    const m = c.mm.mfnOf(20);
    const old = w.mem.ram(m);
    const was = w.mem.read(old * 4096, 4096);
    // (What was in it, 0x1014, is no present entry.)
    const ram = w.mem.resolve(at(c, 8));
    w.mem.w64n(ram, MMUEXT_PIN_L1_TABLE);
    w.mem.w64n(ram + 8, m);
    expect(w.call(c, doMmuextOp, ram, 1, 0, DOMID_SELF)).toBe(0);
    expect([s.isShared(m), w.ft.type[m]]).toEqual([false, PGT_l1_page_table]);
    expect(w.mem.read(old * 4096, 4096)).toEqual(was);
    check();
  });

  it("an update by a machine address beyond RAM changes the child's table and nothing else", () => {
    const c = child(2, [0, 1, 2, 3, 8]);
    const { l1 } = build(c);
    const ram = w.mem.resolve(at(c, 8));
    const [lo, hi] = pte(c.mm.mfnOf(40), 7);
    w.mem.w64n(ram, l1 * 4096 + 30 * 8);
    w.mem.w64(ram + 8, lo, hi);
    expect(w.call(c, doMmuUpdate, ram, 1, 0, DOMID_SELF)).toBe(0);
    expect(w.readPte(l1, 30)).toEqual([(lo | 0x100) >>> 0, hi]);
    expect(w.ft.tcount[c.mm.mfnOf(40)]).toBe(1);
    check();
  });

  it("another fork's frames are refused", () => {
    const c = child(2, [0, 1, 2, 3, 8]);
    const other = child(3);
    const { l1 } = build(c);
    const ram = w.mem.resolve(at(c, 8));
    for (const m of [other.mm.mfnOf(40), kept[40] as number, w.ft.limit - 1, w.mem.limit - 1, w.mem.limit + 7]) {
      w.mem.w64n(ram, l1 * 4096 + 30 * 8);
      w.mem.w64(ram + 8, ...pte(m, 5));
      expect(w.call(c, doMmuUpdate, ram, 1, 0, DOMID_SELF)).toBeLessThan(0);
    }
    check();
  });

  it("a control domain's mapping to write another's shared page breaks sharing when it is made; one to read does not", () => {
    const c = child(2);
    const x = w.domain(4, 64, { privileged: true });
    const t = w.build(x);
    const buf = x.mm.mfnOf(8) * 4096;
    const put = (slot: number, m: number, flags: number): number => {
      w.mem.w64n(buf, t.l1 * 4096 + slot * 8);
      w.mem.w64(buf + 8, ...pte(m, flags));
      return w.call(x, doMmuUpdate, buf, 1, 0, 2);
    };
    expect(put(100, c.mm.mfnOf(40), 5)).toBe(0);
    expect(s.isShared(c.mm.mfnOf(40))).toBe(true);
    expect(put(101, c.mm.mfnOf(40), 7)).toBe(0);
    expect(s.isShared(c.mm.mfnOf(40))).toBe(false);
    fillUp();
    const refs = w.ft.ref[c.mm.mfnOf(42)];
    expect(put(102, c.mm.mfnOf(42), 7)).toBe(-ENOMEM);
    expect([w.ft.ref[c.mm.mfnOf(42)], w.ft.tcount[c.mm.mfnOf(42)]]).toEqual([refs, 0]);
    check();
  });
});

describe("giving pages away", () => {
  let c: Domain;
  let buf: number;
  beforeEach(() => {
    c = child(2, [8]);
    buf = w.mem.resolve(at(c, 8));
  });

  it("decrease_reservation frees the number and lets go of the contents", () => {
    const m = c.mm.mfnOf(40);
    const { holders } = s;
    w.mem.w64n(buf + 64, m);
    w.mem.w64n(buf, buf + 64);
    w.mem.w64n(buf + 8, 1);
    w.mem.w32(buf + 16, 0);
    w.mem.w32(buf + 20, 0);
    w.mem.w16(buf + 24, DOMID_SELF);
    expect(w.call(c, doMemoryOp, XENMEM_decrease_reservation, buf)).toBe(1);
    expect([w.ft.owner[m], s.holders]).toEqual([0, holders - 1]);
    expect(w.call(c, doMemoryOp, XENMEM_decrease_reservation, buf)).toBe(0);
    check();
  });

  it("exchange takes a shared page and gives one of RAM", () => {
    const m = c.mm.mfnOf(40);
    const struct = buf;
    w.mem.w64n(buf + 512, m);
    w.mem.w64n(buf + 520, 40);
    const put = (o: number, list: number): void => {
      w.mem.w64n(struct + o, list);
      w.mem.w64n(struct + o + 8, 1);
      w.mem.w32(struct + o + 16, 0);
      w.mem.w32(struct + o + 20, 0);
      w.mem.w16(struct + o + 24, DOMID_SELF);
    };
    put(0, buf + 512);
    put(32, buf + 520);
    w.mem.w64n(struct + 64, 0);
    expect(w.call(c, doMemoryOp, XENMEM_exchange, struct)).toBe(0);
    const got = w.mem.r64(buf + 520);
    expect(got).toBeLessThan(w.ft.ramLimit);
    expect([c.mm.mfnOf(40), w.ft.owner[m], w.mem.r32(got * 4096 + 160)]).toEqual([got, 0, 0]);
    check();
  });

  it("a transferred page has memory of its own before it is another's", () => {
    const r = w.domain(3, 16, { maxPages: 20 });
    const m = c.mm.mfnOf(40);
    const e = r.grants.entryAt(9);
    w.mem.w32(e + 4, 17);
    w.mem.w16(e + 2, 2);
    w.mem.w16(e, GTF_accept_transfer);
    w.mem.w64n(buf, m);
    w.mem.w16(buf + 8, 3);
    w.mem.w32(buf + 12, 9);
    expect(w.call(c, doGrantTableOp, GNTTABOP_transfer, buf, 1)).toBe(0);
    expect([w.mem.r16(buf + 16), w.ft.owner[m], s.isShared(m)]).toEqual([GNTST_okay, r.mm.id, false]);
    expect(w.mem.r32(m * 4096 + 160)).toBe(0x1028);
    w.destroy(c);
    expect(w.mem.r32(m * 4096 + 160)).toBe(0x1028);
    w.destroy(r);
    check();
  });
});

describe("grants", () => {
  const REF = 9;
  let c: Domain;
  let b: Domain;
  let buf: number;
  let page: number;
  let l1: number;
  beforeEach(() => {
    c = child(2);
    b = w.domain(3, 64);
    l1 = w.build(b).l1;
    buf = b.mm.mfnOf(8) * 4096;
    page = c.mm.mfnOf(40);
    const e = c.grants.entryAt(REF);
    w.mem.w32(e + 4, page);
    w.mem.w16(e + 2, 3);
    w.mem.w16(e, GTF_permit_access);
  });
  function map(flags: number, host: number): { status: number; handle: number; dev: number } {
    w.mem.w64n(buf, host);
    w.mem.w32(buf + 8, flags);
    w.mem.w32(buf + 12, REF);
    w.mem.w16(buf + 16, 2);
    expect(w.call(b, doGrantTableOp, GNTTABOP_map_grant_ref, buf, 1)).toBe(0);
    return { status: (w.mem.r16(buf + 18) << 16) >> 16, handle: w.mem.r32(buf + 20), dev: w.mem.r64(buf + 24) };
  }

  it("mapped to be read, a shared page stays shared: the entry names the granter's number, and follows its writes", () => {
    const m = map(GNTMAP_host_map | GNTMAP_readonly, 100 * 4096);
    expect(m).toMatchObject({ status: GNTST_okay, dev: page * 4096 });
    const [lo, hi] = w.readPte(l1, 100);
    expect((lo >>> 12) + (hi & 0xfffff) * 2 ** 20).toBe(page);
    expect(s.isShared(page)).toBe(true);
    w.mem.w32(page * 4096, 0x77);
    expect(w.mem.r32((kept[40] as number) * 4096)).toBe(0);
    w.mem.w64n(buf, 100 * 4096);
    w.mem.w64n(buf + 8, 0);
    w.mem.w32(buf + 16, m.handle);
    expect(w.call(b, doGrantTableOp, GNTTABOP_unmap_grant_ref, buf, 1)).toBe(0);
    expect((w.mem.r16(buf + 20) << 16) >> 16).toBe(GNTST_okay);
    check();
  });

  it("mapped to be written, it gets memory of its own at once", () => {
    expect(map(GNTMAP_host_map | GNTMAP_device_map, 100 * 4096).status).toBe(GNTST_okay);
    expect(s.isShared(page)).toBe(false);
    w.mem.w32(page * 4096 + 160, 1);
    expect(w.mem.r32((kept[40] as number) * 4096 + 160)).toBe(0x1028);
    check();
  });

  it("an entry may be named by a machine address beyond RAM, if the table is the caller's", () => {
    const d = child(4, [0, 1, 2, 3, 8]);
    const [l4, l3, l2, t1] = [0, 1, 2, 3].map((p) => d.mm.mfnOf(p)) as [number, number, number, number];
    w.pte(l4, 0, ...pte(l3, 7));
    w.pte(l3, 0, ...pte(l2, 7));
    w.pte(l2, 0, ...pte(t1, 7));
    expect(d.mm.finishBuild({ l4Mfn: l4 })).toBe(0);
    w.mem.w16(c.grants.entryAt(REF) + 2, 4);
    const ram = w.mem.resolve(at(d, 8));
    const ask = (host: number): number => {
      w.mem.w64n(ram, host);
      w.mem.w32(ram + 8, GNTMAP_host_map | GNTMAP_readonly | GNTMAP_contains_pte);
      w.mem.w32(ram + 12, REF);
      w.mem.w16(ram + 16, 2);
      expect(w.call(d, doGrantTableOp, GNTTABOP_map_grant_ref, ram, 1)).toBe(0);
      return (w.mem.r16(ram + 18) << 16) >> 16;
    };
    expect(ask(l1 * 4096 + 8)).toBe(GNTST_general_error);
    expect(ask((w.ft.limit + 3) * 4096)).toBe(GNTST_general_error);
    expect(ask(t1 * 4096 + 50 * 8)).toBe(GNTST_okay);
    expect((w.readPte(t1, 50)[0] >>> 12) + (w.readPte(t1, 50)[1] & 0xfffff) * 2 ** 20).toBe(page);
    check();
  });

  it("a back end's mapping: to be read it stays shared, to be written it is made private, without memory refused", () => {
    const e = c.grants.entryAt(REF);
    w.mem.w16(e + 2, 0);
    const r = mapForHost(c, REF, false);
    if (typeof r === "number") throw new Error("refused");
    expect([r.mfn, s.isShared(page), w.mem.r32(r.mfn * 4096 + 160)]).toEqual([page, true, 0x1028]);
    r.unmap();
    const all = fillUp();
    const was = w.snapshot();
    expect(mapForHost(c, REF, true)).toBe(GNTST_general_error);
    expect(w.snapshot().replace(/:7:0/g, ":0:0")).toBe(was.replace(/:7:0/g, ":0:0"));
    w.ft.freeFor(all.pop() as number);
    const x = mapForHost(c, REF, true);
    if (typeof x === "number") throw new Error("refused");
    expect(s.isShared(page)).toBe(false);
    x.unmap();
    check();
  });

  it("GNTTABOP_copy onto a shared page gives it memory of its own", () => {
    w.mem.w32(buf + 256, 0x5555);
    w.mem.w64n(buf, b.mm.mfnOf(8));
    w.mem.w16(buf + 8, DOMID_SELF);
    w.mem.w16(buf + 10, 256);
    w.mem.w32(buf + 16, REF);
    w.mem.w16(buf + 24, 2);
    w.mem.w16(buf + 26, 8);
    w.mem.w16(buf + 32, 4);
    w.mem.w16(buf + 34, GNTCOPY_dest_gref);
    expect(w.call(b, doGrantTableOp, GNTTABOP_copy, buf, 1)).toBe(0);
    expect((w.mem.r16(buf + 36) << 16) >> 16).toBe(GNTST_okay);
    expect([w.mem.r32(page * 4096 + 8), w.mem.r32(page * 4096 + 160)]).toEqual([0x5555, 0x1028]);
    expect(w.mem.r32((kept[40] as number) * 4096 + 8)).toBe(0);
    check();
  });

  it("a page that is not the granter's is refused, whatever it stands for", () => {
    for (const m of [parent.mm.mfnOf(40), kept[40] as number, child(7).mm.mfnOf(40), w.ft.limit - 1]) {
      w.mem.w32(c.grants.entryAt(REF) + 4, m);
      expect(map(GNTMAP_host_map | GNTMAP_readonly, 100 * 4096).status).toBeLessThan(0);
    }
    check();
  });
});

it("steal refuses alias frames that are mapped, as any others", () => {
  const c = child(2);
  const m = c.mm.mfnOf(4);
  expect(w.ft.getPage(m, c.mm.id)).toBe(true);
  expect(w.ft.steal(m, c.mm.id)).toBe(-EINVAL);
  w.ft.putPage(m);
  expect(w.ft.steal(m, c.mm.id)).toBe(0);
  w.ft.assign(m, c.mm.id);
  check();
});

it("random forks, writes, snapshots, moves and ends: everyone reads what they should, and every count is right", () => {
  s.letGo(kept);
  w.destroy(parent);
  const P = 24;
  const next = seeded(20_240_601);
  interface Alive {
    d: Domain;
    /** The word at byte 4 × pfn of each page; −1: no page. */
    want: number[];
  }
  interface Kept {
    keep: Keep;
    want: number[];
  }
  const alive: Alive[] = [];
  const templates: Kept[] = [];
  let domid = 20;
  let stamp = 1;
  const newDomain = (pages: number): Domain => w.domain(domid++, pages, { maxPages: P + 4 });
  const verify = (): void => {
    for (const { d, want } of alive)
      want.forEach((v, p) => {
        if (v >= 0 && w.mem.r32(at(d, p) + 4 * p) !== v) throw new Error(`domain ${d.domid}, page ${p}: not ${v}`);
      });
    for (const { keep, want } of templates)
      want.forEach((v, p) => {
        if (v >= 0 && w.mem.r32((keep[p] as number) * 4096 + 4 * p) !== v)
          throw new Error(`a template's page ${p}: not ${v}`);
      });
  };
  for (let step = 0; step < 4000; step++) {
    const a = alive[next(Math.max(1, alive.length))];
    const t = templates[next(Math.max(1, templates.length))];
    const p = next(P);
    switch (next(12)) {
      case 0:
        if (alive.length < 3) alive.push({ d: newDomain(P), want: Array<number>(P).fill(0) });
        break;
      case 1:
        if (a === undefined || templates.length >= 5) break;
        {
          const keep = new Int32Array(P).fill(-1);
          s.register(keep);
          a.want.forEach((v, q) => {
            if (v >= 0) expect(s.freeze(a.d.mm.mfnOf(q), keep, q)).toBe(true);
          });
          templates.push({ keep, want: a.want.slice() });
        }
        break;
      case 2:
      case 3:
        if (t === undefined || alive.length >= 10) break;
        {
          const d = newDomain(0);
          const base = s.takeRange(P);
          expect(s.give(base, d.mm.id, t.keep)).toBe(true);
          d.mm.setRun(base, t.keep);
          alive.push({ d, want: t.want.slice() });
        }
        break;
      case 4:
        if (t === undefined || next(3) !== 0) break;
        s.letGo(t.keep);
        templates.splice(templates.indexOf(t), 1);
        break;
      case 5:
        if (a === undefined || next(3) !== 0) break;
        w.destroy(a.d);
        alive.splice(alive.indexOf(a), 1);
        break;
      case 6:
        // Given back, and a page of zeroes in its place.
        if (a === undefined || (a.want[p] as number) < 0) break;
        {
          const m = a.d.mm.mfnOf(p);
          a.d.mm.forget(m);
          w.ft.putAllocRef(m);
          a.want[p] = next(2) === 0 && a.d.mm.allocPage(p) >= 0 ? 0 : -1;
        }
        break;
      case 7:
        // To another domain, in place of one that it gives back.
        {
          const b = alive[next(Math.max(1, alive.length))];
          if (a === undefined || b === undefined || a === b || (a.want[p] as number) < 0) break;
          const m = a.d.mm.mfnOf(p);
          if (!s.makePrivate(m)) break;
          expect(w.ft.steal(m, a.d.mm.id)).toBe(0);
          a.d.mm.forget(m);
          const old = b.d.mm.mfnOf(p);
          if ((b.want[p] as number) >= 0) {
            b.d.mm.forget(old);
            w.ft.putAllocRef(old);
          }
          w.ft.assign(m, b.d.mm.id);
          b.d.mm.setPfn(m, p);
          b.want[p] = a.want[p] as number;
          a.want[p] = -1;
        }
        break;
      case 8:
        // A page goes elsewhere within its domain.
        {
          const q = next(P);
          if (a === undefined || p === q || (a.want[p] as number) < 0 || (a.want[q] as number) < 0) break;
          const [m, n] = [a.d.mm.mfnOf(p), a.d.mm.mfnOf(q)];
          a.d.mm.setPfn(m, q);
          a.d.mm.setPfn(n, p);
          const v = stamp++;
          w.mem.w32(at(a.d, p) + 4 * p, v);
          w.mem.w32(at(a.d, q) + 4 * q, v + 1);
          stamp++;
          a.want[p] = v;
          a.want[q] = v + 1;
        }
        break;
      default:
        if (a === undefined || (a.want[p] as number) < 0) break;
        a.want[p] = next(5) === 0 ? 0 : stamp++;
        w.mem.w32(at(a.d, p) + 4 * p, a.want[p]);
    }
    if (step % 20 === 0) {
      verify();
      check();
    }
  }
  for (const { d } of alive) w.destroy(d);
  for (const { keep } of templates) s.letGo(keep);
  check();
  expect([s.aliasesUsed, s.savedFrames, s.freeAliases]).toEqual([0, 0, 4096]);
});

it("a hostile fork with random hypercalls on every kind of frame reaches nobody else's memory, and no count goes wrong", () => {
  const before = { parent: [] as string[], other: [] as string[] };
  const contents = (d: Domain): string[] =>
    Array.from({ length: PAGES }, (_, p) => [...w.mem.read(at(d, p), 4096)].join());
  const other = child(3);
  before.parent = contents(parent);
  before.other = contents(other);
  const a = child(2, [0, 1, 2, 3, 8]);
  const [l4, l3, l2, l1] = [0, 1, 2, 3].map((p) => a.mm.mfnOf(p)) as [number, number, number, number];
  w.pte(l4, 0, ...pte(l3, 7));
  w.pte(l3, 0, ...pte(l2, 7));
  w.pte(l2, 0, ...pte(l1, 7));
  expect(a.mm.finishBuild({ l4Mfn: l4 })).toBe(0);
  const buf = w.mem.resolve(at(a, 8));
  const next = seeded(99);
  const any = (): number => {
    const p = next(PAGES);
    switch (next(8)) {
      case 0:
        return other.mm.mfnOf(p);
      case 1:
        return parent.mm.mfnOf(p);
      case 2:
        return [0, 1, w.ft.ramLimit - 1, w.ft.limit - 1, w.mem.limit, 2 ** 32 + 5, 2 ** 40 - 1, w.ft.emptySink][
          next(8)
        ] as number;
      case 3:
        return next(w.ft.limit);
      default:
        // Its own; 8 is where its arguments are.
        return Math.max(0, a.mm.mfnOf(p === 8 ? 9 : p));
    }
  };
  let ok = 0;
  for (let n = 0; n < 12_000; n++) {
    const [m, k] = [any(), any()];
    const slot = [0, 1, 2, 255, 256, 511][next(6)] as number;
    let rc = -1;
    switch (next(9)) {
      case 0:
      case 1:
      case 2: {
        w.mem.w64n(buf, m * 4096 + slot * 8 + next(3));
        const flags = [0, 1, 3, 5, 7, 0x67, 0x87][next(7)] as number;
        w.mem.w64(buf + 8, ((k << 12) | flags) >>> 0, Math.floor(k / 2 ** 20) & 0xfffff);
        rc = w.call(a, doMmuUpdate, buf, 1, 0, DOMID_SELF);
        break;
      }
      case 3: {
        w.mem.w64n(buf, next(12));
        w.mem.w64n(buf + 8, m);
        w.mem.w64n(buf + 16, k);
        rc = w.call(a, doMmuextOp, buf, 1, 0, DOMID_SELF);
        break;
      }
      case 4: {
        w.mem.w64n(buf, MMUEXT_COPY_PAGE);
        w.mem.w64n(buf + 8, m);
        w.mem.w64n(buf + 16, k);
        rc = w.call(a, doMmuextOp, buf, 1, 0, DOMID_SELF);
        break;
      }
      case 5: {
        const e = a.grants.entryAt(8 + next(4));
        w.mem.w32(e + 4, m);
        w.mem.w16(e + 2, next(4));
        w.mem.w16(e, [1, 5, 2, 3][next(4)] as number);
        break;
      }
      case 6:
        w.mem.w64n(buf, slot * 4096);
        w.mem.w32(buf + 8, [2, 3, 6, 7, 0x12][next(5)] as number);
        w.mem.w32(buf + 12, 8 + next(4));
        w.mem.w16(buf + 16, next(5));
        rc = w.call(a, doGrantTableOp, GNTTABOP_map_grant_ref, buf, 1);
        break;
      case 7: {
        const own = next(2) === 0;
        w.mem.w64n(buf, own ? m : 8 + next(4));
        w.mem.w16(buf + 8, own ? DOMID_SELF : next(5));
        w.mem.w16(buf + 10, next(4000));
        w.mem.w64n(buf + 16, k);
        w.mem.w16(buf + 24, DOMID_SELF);
        w.mem.w16(buf + 26, next(4000));
        w.mem.w16(buf + 32, next(96));
        w.mem.w16(buf + 34, own ? 0 : 1);
        rc = w.call(a, doGrantTableOp, GNTTABOP_copy, buf, 1);
        break;
      }
      default: {
        // Rarely, or it soon has nothing left.
        if (next(20) !== 0) break;
        w.mem.w64n(buf + 64, m);
        w.mem.w64n(buf, buf + 64);
        w.mem.w64n(buf + 8, 1);
        w.mem.w32(buf + 16, next(3) === 0 ? 3 : 0);
        w.mem.w32(buf + 20, 0);
        w.mem.w16(buf + 24, DOMID_SELF);
        rc = w.call(a, doMemoryOp, XENMEM_decrease_reservation, buf);
      }
    }
    if (rc === 0) ok++;
    // Its arguments' page must stay what it is.
    if (w.mem.aliasTable[a.mm.mfnOf(8) - w.ft.ramLimit] !== buf / 4096) throw new Error("the test's own page is gone");
    if (n % 400 === 0) check();
  }
  expect(ok).toBeGreaterThan(800);
  expect(contents(parent)).toEqual(before.parent);
  expect(contents(other)).toEqual(before.other);
  for (let p = 0; p < PAGES; p++)
    expect(w.mem.r32((kept[p] as number) * 4096 + 4 * p)).toBe(p % 2 === 0 ? 0x1000 + p : 0);
  w.destroy(a);
  check();
  w.destroy(other);
  w.destroy(parent);
  s.letGo(kept);
  check();
  expect([s.aliasesUsed, s.savedFrames]).toEqual([0, 0]);
});
