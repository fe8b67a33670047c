// Builds the initial memory of a 64-bit PV domain, frame for frame as libxc lays it out.
//
// The initial region is mapped one to one from VIRT_BASE, which is pfn 0: kernel, RAM disk, P2M list, start_info,
// XenStore page, console page, page tables, boot stack, padding of at least 512 KiB up to a multiple of 4 MiB. A RAM
// disk for MOD_START_PFN and a P2M list for INIT_P2M come after it; the latter is mapped by page tables of its own.
// Invariant: a page-table frame is nowhere mapped writable. Source: xen/xen.h ("start of day memory layout").
import { PAGE_SIZE } from "../../machine/layout.js";
import { MAX_GUEST_CMDLINE, SIF_MOD_START_PFN, SIF_VIRT_P2M_4TOOLS, start_info } from "../../abi/xen.js";
import { gunzipMember, isGzip } from "./decompress/index.js";
import { EM_X86_64 } from "./elf.js";
import { BuildError } from "./errors.js";
import type { KernelImage } from "./image.js";
import type { BuildTarget, PageTableFrame, PvImage, PvOptions, Region } from "./target.js";
import { checkPvNotes, hex } from "./xen-notes.js";

const PADDING = 512 * 1024;
const REGION_ALIGN = 4 << 20;
const MIB = 1 << 20;

const PTE_PRESENT = 0x01;
const PTE_RW = 0x02;
const PTE_USER = 0x04;
const PTE_ACCESSED = 0x20;
const PTE_DIRTY = 0x40;
const LEAF = PTE_PRESENT | PTE_RW | PTE_ACCESSED | PTE_DIRTY;
const TABLE = LEAF | PTE_USER;

/** Bytes that one entry-table of a level covers: 2 MiB for L1, 1 GiB for L2, 512 GiB for L3. */
const span = (level: number): number => 2 ** (12 + 9 * level);
const alignDown = (x: number, to: number): number => Math.floor(x / to) * to;
const alignUp = (x: number, to: number): number => Math.ceil(x / to) * to;
const pagesOf = (bytes: number): number => Math.ceil(bytes / PAGE_SIZE);
/** The index of `va` in a table of `level`; `va` may be negative (the upper half of the address space). */
const indexOf = (va: number, level: number): number => {
  const i = Math.floor(va / span(level - 1)) % 512;
  return i < 0 ? i + 512 : i;
};

/** Hands out the domain's frames in order; pfn and, while it is mapped, VA grow together. */
class Allocator {
  pfn = 0;
  readonly regions: Region[] = [];
  private readonly limit: number;
  private readonly base: number;

  constructor(limit: number, base: number) {
    this.limit = limit;
    this.base = base;
  }

  /** The VA that the next frame has in the initial region. */
  get va(): number {
    return this.base + this.pfn * PAGE_SIZE;
  }

  take(name: string, pages: number, mapped = true): Region {
    if (this.pfn + pages > this.limit) throw tooSmall(this.pfn + pages, this.limit);
    const region = { name, pfn: this.pfn, pages, va: mapped ? this.va : undefined };
    this.pfn += pages;
    this.regions.push(region);
    return region;
  }

  padTo(va: number): void {
    const pages = (va - this.va) / PAGE_SIZE;
    if (pages < 0 || !Number.isInteger(pages)) throw new BuildError(`the kernel cannot be placed at ${hex(va)}`);
    if (pages > 0) this.take("padding", pages);
  }
}

const tooSmall = (need: number, have: number): BuildError =>
  new BuildError(
    `too little memory: the initial memory needs at least ${Math.ceil((need * PAGE_SIZE) / MIB)} MiB, the domain has ${Math.floor((have * PAGE_SIZE) / MIB)} MiB`,
  );

/** A table of the initial page tables, before it has a frame. */
interface Table {
  readonly level: 1 | 2 | 3 | 4;
  /** First VA that it covers. */
  readonly va: number;
}

/**
 * The tables that map [from, to), root excluded, highest level first and by address within a level (libxc's order).
 * Tables that `have` already holds are not made twice.
 */
function tablesFor(from: number, to: number, have: readonly Table[]): Table[] {
  const made: Table[] = [];
  for (const level of [3, 2, 1] as const) {
    for (let va = alignDown(from, span(level)); va < to; va += span(level)) {
      if (!have.some((t) => t.level === level && t.va === va)) made.push({ level, va });
    }
  }
  return made;
}

/** Writes byte runs over frames that are contiguous for the guest and maybe not in the machine. */
function writePfns(target: BuildTarget, paddr: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) {
    const at = paddr + done;
    const pfn = Math.floor(at / PAGE_SIZE);
    const mfn = target.mfnOf(pfn);
    let frames = 1;
    const want = Math.floor((paddr + bytes.length - 1) / PAGE_SIZE) - pfn + 1;
    while (frames < want && target.mfnOf(pfn + frames) === mfn + frames) frames++;
    const n = Math.min(bytes.length - done, (pfn + frames) * PAGE_SIZE - at);
    target.mem.write(mfn * PAGE_SIZE + (at - pfn * PAGE_SIZE), bytes.subarray(done, done + n));
    done += n;
  }
}

/** The RAM disk as it goes into memory: a whole gzip file is unpacked, for the host does that faster than the guest. */
function unpackRamdisk(ramdisk: Uint8Array, totalBytes: number): Uint8Array {
  if (!isGzip(ramdisk) || ramdisk.length < 18) return ramdisk;
  const end = ramdisk.length;
  const size = (ramdisk[end - 4] | (ramdisk[end - 3] << 8) | (ramdisk[end - 2] << 16) | (ramdisk[end - 1] << 24)) >>> 0;
  if (size > totalBytes / 4) return ramdisk;
  try {
    const { bytes, used } = gunzipMember(ramdisk);
    return used === end ? bytes : ramdisk;
  } catch (e) {
    // The kernel may make more of it (concatenated archives): it gets the file as it is.
    if (e instanceof BuildError) return ramdisk;
    throw e;
  }
}

export function buildPv64(image: KernelImage, target: BuildTarget, opts: PvOptions): PvImage {
  const { elf, notes } = image;
  checkPvNotes(notes);
  if (elf.bits !== 64 || elf.machine !== EM_X86_64) {
    throw new BuildError("wrong class: the kernel is a 32-bit PV kernel, only 64-bit PV kernels are supported");
  }
  const { totalPages, mem } = target;
  const base = notes.virtBase;
  if (base % PAGE_SIZE !== 0) throw new BuildError(`the kernel's VIRT_BASE ${hex(base)} is not page-aligned`);
  const alloc = new Allocator(totalPages, base);
  const vaOf = (pfn: number): number => base + pfn * PAGE_SIZE;

  // --- Layout ---
  alloc.padTo(alignDown(notes.virtStart, PAGE_SIZE));
  alloc.take("kernel", pagesOf(notes.virtEnd - alignDown(notes.virtStart, PAGE_SIZE)));

  const ramdisk = opts.ramdisk === undefined ? undefined : unpackRamdisk(opts.ramdisk, totalPages * PAGE_SIZE);
  const initrdUnmapped = notes.unmappedInitrd;
  let initrd: Region | undefined;
  if (ramdisk !== undefined && !initrdUnmapped) initrd = alloc.take("ramdisk", pagesOf(ramdisk.length));

  const p2mPages = pagesOf(totalPages * 8);
  // INIT_P2M is honoured only below VIRT_BASE and page-aligned, where it cannot meet the initial region.
  const p2mBase =
    notes.p2mBase !== undefined && notes.p2mBase % PAGE_SIZE === 0 && unsignedLess(notes.p2mBase, base)
      ? notes.p2mBase
      : undefined;
  let p2m: Region | undefined;
  if (p2mBase === undefined) p2m = alloc.take("p2m", p2mPages);

  const startInfo = alloc.take("start_info", 1);
  const xenstore = alloc.take("xenstore", 1);
  const console = alloc.take("console", 1);

  // The page tables map themselves, the boot stack and the padding, so their number is found by repetition.
  let tables: Table[] = [];
  let virtEnd = 0;
  for (;;) {
    const used = alloc.va + tables.length * PAGE_SIZE + PAGE_SIZE + PADDING;
    virtEnd = alignUp(used + 1, REGION_ALIGN);
    if ((virtEnd - base) / PAGE_SIZE > totalPages) throw tooSmall((virtEnd - base) / PAGE_SIZE, totalPages);
    const next: Table[] = [{ level: 4, va: 0 }, ...tablesFor(base, virtEnd, [])];
    const settled = next.length === tables.length;
    tables = next;
    if (settled) break;
  }
  const pageTables = alloc.take("page tables", tables.length);
  const stack = alloc.take("boot stack", 1);
  alloc.padTo(virtEnd);

  if (ramdisk !== undefined && initrdUnmapped) initrd = alloc.take("ramdisk", pagesOf(ramdisk.length), false);

  const pfnOfTable = tables.map((_, i) => pageTables.pfn + i);
  if (p2mBase !== undefined) {
    const own = tablesFor(p2mBase, p2mBase + p2mPages * PAGE_SIZE, tables);
    p2m = { ...alloc.take("p2m", p2mPages + own.length, false), va: p2mBase };
    for (const [i, t] of own.entries()) {
      tables.push(t);
      pfnOfTable.push(p2m.pfn + p2mPages + i);
    }
  }
  if (p2m === undefined) throw new BuildError("no room for the P2M list");

  // --- Contents ---
  for (const s of elf.segments) writePfns(target, s.paddr - notes.paddrOffset, s.data);
  if (initrd !== undefined && ramdisk !== undefined) writePfns(target, initrd.pfn * PAGE_SIZE, ramdisk);

  const list = new Uint32Array(totalPages * 2);
  for (let pfn = 0; pfn < totalPages; pfn++) list[pfn * 2] = target.mfnOf(pfn);
  writePfns(target, p2m.pfn * PAGE_SIZE, new Uint8Array(list.buffer));

  fillTables(target, tables, pfnOfTable, [
    { from: base, to: virtEnd, pfn: 0 },
    ...(p2mBase === undefined ? [] : [{ from: p2mBase, to: p2mBase + p2mPages * PAGE_SIZE, pfn: p2m.pfn }]),
  ]);

  const info = new Uint8Array(PAGE_SIZE);
  const view = new DataView(info.buffer);
  const long = (at: number, v: number): void => {
    view.setUint32(at, v % 4294967296 < 0 ? (v % 4294967296) + 4294967296 : v % 4294967296, true);
    view.setInt32(at + 4, Math.floor(v / 4294967296), true);
  };
  let flags = (opts.flags ?? 0) | SIF_VIRT_P2M_4TOOLS;
  const encoder = new TextEncoder();
  info.set(encoder.encode("xen-3.0-x86_64"), start_info.magic);
  long(start_info.nr_pages, totalPages);
  long(start_info.shared_info, target.sharedInfoMfn * PAGE_SIZE);
  long(start_info.store_mfn, target.mfnOf(xenstore.pfn));
  view.setUint32(start_info.store_evtchn, opts.storeEvtchn, true);
  long(start_info.console_domU_mfn, target.mfnOf(console.pfn));
  view.setUint32(start_info.console_domU_evtchn, opts.consoleEvtchn, true);
  long(start_info.pt_base, vaOf(pageTables.pfn));
  long(start_info.nr_pt_frames, pageTables.pages);
  long(start_info.mfn_list, p2m.va ?? 0);
  if (p2mBase !== undefined) {
    long(start_info.first_p2m_pfn, p2m.pfn);
    long(start_info.nr_p2m_frames, p2m.pages);
  }
  if (initrd !== undefined && ramdisk !== undefined) {
    if (initrdUnmapped) flags |= SIF_MOD_START_PFN;
    long(start_info.mod_start, initrdUnmapped ? initrd.pfn : vaOf(initrd.pfn));
    long(start_info.mod_len, ramdisk.length);
  }
  view.setUint32(start_info.flags, flags, true);
  info.set(encoder.encode(opts.cmdline ?? "").subarray(0, MAX_GUEST_CMDLINE - 1), start_info.cmd_line);
  writePfns(target, startInfo.pfn * PAGE_SIZE, info);
  mem.zeroFrame(target.mfnOf(xenstore.pfn));
  mem.zeroFrame(target.mfnOf(console.pfn));

  const frames: PageTableFrame[] = tables.map((t, i) => ({
    mfn: target.mfnOf(pfnOfTable[i]),
    pfn: pfnOfTable[i],
    level: t.level,
  }));
  const page = notes.hypercallPage;
  if (page !== undefined && (page % PAGE_SIZE !== 0 || page < base || page >= virtEnd)) {
    throw new BuildError(`the kernel wants its hypercall page at ${hex(page)}, outside the initial memory`);
  }
  return {
    bits: 64,
    entry: notes.entry,
    stackTop: vaOf(stack.pfn + 1),
    startInfoVa: vaOf(startInfo.pfn),
    startInfoMfn: target.mfnOf(startInfo.pfn),
    l4Mfn: target.mfnOf(pageTables.pfn),
    pageTables: frames,
    consoleMfn: target.mfnOf(console.pfn),
    consolePfn: console.pfn,
    xenstoreMfn: target.mfnOf(xenstore.pfn),
    xenstorePfn: xenstore.pfn,
    ...(page === undefined ? {} : { hypercallPage: { va: page, mfn: target.mfnOf((page - base) / PAGE_SIZE) } }),
    virtBase: base,
    virtEnd,
    notes,
    regions: alloc.regions,
  };
}

/** Compares canonical addresses as the unsigned 64-bit numbers that they stand for. */
function unsignedLess(a: number, b: number): boolean {
  return a < 0 === b < 0 ? a < b : b < 0;
}

function fillTables(
  target: BuildTarget,
  tables: readonly Table[],
  pfns: readonly number[],
  maps: readonly { from: number; to: number; pfn: number }[],
): void {
  const readOnly = new Set(pfns);
  const pages = tables.map(() => new Uint32Array(1024));
  const set = (page: Uint32Array, index: number, mfn: number, flags: number): void => {
    page[index * 2] = (mfn << 12) | flags;
    page[index * 2 + 1] = mfn >>> 20;
  };
  for (const [i, t] of tables.entries()) {
    if (t.level < 4) {
      const parent = tables.findIndex(
        (p) => p.level === t.level + 1 && (p.level === 4 || p.va === alignDown(t.va, span(p.level))),
      );
      set(pages[parent], indexOf(t.va, t.level + 1), target.mfnOf(pfns[i]), TABLE);
    }
    if (t.level !== 1) continue;
    for (const map of maps) {
      const from = Math.max(map.from, t.va);
      const to = Math.min(map.to, t.va + span(1));
      let pfn = map.pfn + (from - map.from) / PAGE_SIZE;
      for (let va = from; va < to; va += PAGE_SIZE, pfn++) {
        set(pages[i], indexOf(va, 1), target.mfnOf(pfn), readOnly.has(pfn) ? LEAF & ~PTE_RW : LEAF);
      }
    }
  }
  for (const [i, page] of pages.entries()) {
    target.mem.write(target.mfnOf(pfns[i]) * PAGE_SIZE, new Uint8Array(page.buffer));
  }
}
