import { existsSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { SIF_MOD_START_PFN, SIF_VIRT_P2M_4TOOLS, start_info } from "../../abi/xen.js";
import { type PhysMem } from "../../machine/memory.js";
import {
  type BuildMemory,
  buildPv64,
  parseKernel,
  type BuildTarget,
  type KernelImage,
  type PvImage,
  type PvOptions,
} from "./index.js";

const PAGE = 4096;
/** The machine's memory serves as the builder's: checked by the compiler. */
export const asBuildMemory = (mem: PhysMem): BuildMemory => mem;

// --- A domain made of a plain array; its frames are in reverse order in the machine, so that nothing relies on runs. ---

class TestTarget implements BuildTarget {
  readonly totalPages: number;
  readonly sharedInfoMfn = 7;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly mem;
  constructor(mib: number) {
    this.totalPages = (mib << 20) / PAGE;
    this.bytes = new Uint8Array((this.totalPages + 16) * PAGE);
    this.view = new DataView(this.bytes.buffer);
    this.mem = {
      write: (a: number, b: Uint8Array) => this.bytes.set(b, a),
      zeroFrame: (mfn: number) => this.bytes.fill(0, mfn * PAGE, (mfn + 1) * PAGE),
    };
  }
  mfnOf(pfn: number): number {
    if (pfn < 0 || pfn >= this.totalPages) throw new Error(`pfn ${pfn}`);
    return this.totalPages + 15 - pfn;
  }
  pfnOf(mfn: number): number {
    return this.totalPages + 15 - mfn;
  }
  long(maddr: number): number {
    return this.view.getInt32(maddr + 4, true) * 4294967296 + this.view.getUint32(maddr, true);
  }
  /** The leaf entry that maps `va`, by walking the tables as the hardware does. */
  walk(image: PvImage, va: number): { mfn: number; flags: number } | undefined {
    let table = image.l4Mfn;
    for (let level = 4; ; level--) {
      const index = Number((BigInt.asUintN(64, BigInt(va)) >> BigInt(3 + 9 * level)) & 511n);
      const lo = this.view.getUint32(table * PAGE + index * 8, true);
      const hi = this.view.getUint32(table * PAGE + index * 8 + 4, true);
      if ((lo & 1) === 0) return undefined;
      table = (lo >>> 12) + hi * 0x100000;
      if (level === 1) return { mfn: table, flags: lo & 0xfff };
    }
  }
  /** `length` bytes at `va` through the initial page tables. */
  at(image: PvImage, va: number, length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (let i = 0; i < length; i++) {
      const page = this.walk(image, va + i);
      if (page === undefined) throw new Error(`${(va + i).toString(16)} is not mapped`);
      out[i] = this.bytes[page.mfn * PAGE + ((va + i) & (PAGE - 1))];
    }
    return out;
  }
}

// --- ELF files of our own ---

interface TestNote {
  owner?: string;
  type: number;
  desc: Uint8Array;
}
const text = (s: string): Uint8Array => new Uint8Array(Buffer.from(`${s}\0`));
const u64 = (v: bigint): Uint8Array => {
  const b = new Uint8Array(8);
  new DataView(b.buffer).setBigUint64(0, BigInt.asUintN(64, v), true);
  return b;
};
const GENERIC: TestNote[] = [
  { type: 8, desc: text("generic") },
  { type: 5, desc: text("xen-3.0") },
];
const BASE = 0xffffffff80000000n;

interface ElfSpec {
  bits?: 32 | 64;
  machine?: number;
  entry?: bigint;
  segments?: { paddr: number; data: Uint8Array; memSize: number }[];
  notes?: TestNote[];
  notesIn?: "segment" | "section";
  guestString?: string;
}

function makeElf(spec: ElfSpec): Uint8Array {
  const wide = (spec.bits ?? 64) === 64;
  const segments = spec.segments ?? [{ paddr: 0x100000, data: Uint8Array.of(1, 2, 3, 4, 5), memSize: 0x3000 }];
  const noteBytes = Buffer.concat(
    (spec.notes ?? []).map((n) => {
      const owner = Buffer.from(`${n.owner ?? "Xen"}\0`);
      const head = Buffer.alloc(12);
      head.writeUInt32LE(owner.length, 0);
      head.writeUInt32LE(n.desc.length, 4);
      head.writeUInt32LE(n.type, 8);
      const pad = (b: Uint8Array): Buffer => Buffer.concat([b, Buffer.alloc(-b.length & 3)]);
      return Buffer.concat([head, pad(owner), pad(n.desc)]);
    }),
  );
  const guest = Buffer.from(`${spec.guestString ?? ""}\0`);
  const names = Buffer.from("\0.notes\0__xen_guest\0.names\0");
  const ehsize = wide ? 64 : 52;
  const phsize = wide ? 56 : 32;
  const shsize = wide ? 64 : 40;
  const inSegment = (spec.notesIn ?? "segment") === "segment" && noteBytes.length > 0;
  const phnum = segments.length + (inSegment ? 1 : 0);
  const parts: Uint8Array[] = [...segments.map((s) => s.data), noteBytes, guest, names];
  const offsets: number[] = [];
  let at = ehsize + phnum * phsize;
  for (const p of parts) {
    offsets.push(at);
    at += p.length;
  }
  const sections = [
    { name: 0, type: 0, offset: 0, size: 0 },
    { name: 1, type: 7, offset: offsets[segments.length], size: noteBytes.length },
    ...(spec.guestString === undefined
      ? []
      : [{ name: 8, type: 1, offset: offsets[segments.length + 1], size: guest.length }]),
    { name: 20, type: 3, offset: offsets[segments.length + 2], size: names.length },
  ];
  const out = Buffer.alloc(at + sections.length * shsize);
  const word = (v: number | bigint, o: number): void => {
    if (wide) out.writeBigUInt64LE(BigInt.asUintN(64, BigInt(v)), o);
    else out.writeUInt32LE(Number(v), o);
  };
  out.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  out.writeUInt16LE(2, 16);
  out.writeUInt16LE(spec.machine ?? (wide ? 62 : 3), 18);
  word(spec.entry ?? 0x100010, 24);
  word(ehsize, wide ? 32 : 28);
  word(at, wide ? 40 : 32);
  for (const [i, v] of [ehsize, phsize, phnum, shsize, sections.length, sections.length - 1].entries()) {
    out.writeUInt16LE(v, (wide ? 52 : 40) + 2 * i);
  }
  const header = (i: number, type: number, paddr: number, offset: number, size: number, memSize: number): void => {
    const p = ehsize + i * phsize;
    out.writeUInt32LE(type, p);
    out.writeUInt32LE(7, p + (wide ? 4 : 24));
    word(offset, p + (wide ? 8 : 4));
    word(paddr, p + (wide ? 24 : 12));
    word(size, p + (wide ? 32 : 16));
    word(memSize, p + (wide ? 40 : 20));
  };
  segments.forEach((s, i) => header(i, 1, s.paddr, offsets[i], s.data.length, s.memSize));
  if (inSegment) header(segments.length, 4, 0, offsets[segments.length], noteBytes.length, noteBytes.length);
  parts.forEach((p, i) => out.set(p, offsets[i]));
  sections.forEach((s, i) => {
    const p = at + i * shsize;
    out.writeUInt32LE(s.name, p);
    out.writeUInt32LE(s.type, p + 4);
    word(s.offset, p + (wide ? 24 : 16));
    word(s.size, p + (wide ? 32 : 20));
  });
  return new Uint8Array(out);
}

const HIGH = [...GENERIC, { type: 3, desc: u64(BASE) }, { type: 1, desc: u64(BASE + 0x100010n) }];
const OPTS: PvOptions = { storeEvtchn: 11, consoleEvtchn: 12 };
const parse = (spec: ElfSpec): Promise<KernelImage> => parseKernel(makeElf(spec));
async function built(spec: ElfSpec, mib = 32, opts: Partial<PvOptions> = {}): Promise<[TestTarget, PvImage]> {
  const target = new TestTarget(mib);
  return [target, buildPv64(await parse(spec), target, { ...OPTS, ...opts })];
}

describe("kernel files", () => {
  it.each<[string, Uint8Array | ElfSpec, string]>([
    ["an empty file", new Uint8Array(0), "not an ELF or bzImage kernel"],
    ["a text file", new Uint8Array(Buffer.from("hello, world")), "not an ELF or bzImage kernel"],
    ["a gzip file of text", new Uint8Array(gzipSync("hello, world")), "not an ELF or bzImage kernel"],
    ["an ELF without notes", {}, "no Xen notes"],
    ["notes of other owners only", { notes: [{ owner: "GNU", type: 3, desc: u64(1n) }] }, "no Xen notes"],
    ["another processor", { machine: 183, notes: GENERIC }, "for another processor (machine 183)"],
    ["a cut ELF header", makeElf({ notes: GENERIC }).subarray(0, 40), "truncated"],
    ["cut program headers", makeElf({ notes: GENERIC }).subarray(0, 100), "truncated"],
    ["a cut segment", makeElf({ notes: GENERIC }).subarray(0, 178), "truncated"],
    [
      "an entry outside the image",
      { notes: [...GENERIC, { type: 3, desc: u64(BASE) }, { type: 1, desc: u64(0x1000n) }] },
      "contradict",
    ],
    [
      "PADDR_OFFSET without VIRT_BASE",
      { notes: [...GENERIC, { type: 4, desc: u64(0n) }] },
      "PADDR_OFFSET but no VIRT_BASE",
    ],
    [
      "an unknown required feature",
      { notes: [...HIGH, { type: 10, desc: text("dom0|!flying") }] },
      'requires the Xen feature "flying"',
    ],
  ])("%s is refused in one line", async (_, file, message) => {
    const bytes = file instanceof Uint8Array ? file : makeElf(file);
    await expect(parseKernel(bytes)).rejects.toThrow(message);
    await expect(parseKernel(bytes)).rejects.toMatchObject({ name: "BuildError" });
    await expect(parseKernel(bytes)).rejects.toThrow(/^[^\n]*$/);
  });

  const bz = (payload: number[], version = 0x020f): Uint8Array => {
    const b = Buffer.alloc(1024 + payload.length);
    b[0x1f1] = 1;
    b.writeUInt16LE(0xaa55, 0x1fe);
    b.write("HdrS", 0x202);
    b.writeUInt16LE(version, 0x206);
    b.writeUInt32LE(payload.length, 0x24c);
    b.set(payload, 1024);
    return new Uint8Array(b);
  };
  it.each<[string, Uint8Array, string]>([
    ["an unknown compression", bz([1, 2, 3, 4, 5, 6, 7, 8]), "unknown compression (its data begin with 01 02 03 04)"],
    ["an old boot protocol", bz([0, 0, 0, 0, 0, 0, 0, 0], 0x0207), "boot protocol 2.07"],
    ["a cut payload", bz([1, 2, 3, 4, 5, 6, 7, 8]).subarray(0, 1030), "the bzImage is truncated"],
    ["bzip2", bz([0x42, 0x5a, 0x68, 0x39, 0, 0, 0, 0, 0]), "compressed with bzip2"],
  ])("a bzImage with %s is refused in one line", async (_, file, message) => {
    await expect(parseKernel(file)).rejects.toThrow(message);
  });
  it("a bzImage with a gzip payload is unwrapped", async () => {
    const image = await parseKernel(bz([...gzipSync(makeElf({ notes: HIGH }))]));
    expect(image).toMatchObject({ format: "bzImage", compression: "gzip" });
  });
});

describe("Xen notes", () => {
  it("are taken from PT_NOTE, and from note sections when no segment has any", async () => {
    for (const notesIn of ["segment", "section"] as const) {
      expect((await parse({ notes: HIGH, notesIn })).notes).toMatchObject({ source: "notes", virtBase: -0x80000000 });
    }
  });
  it("win over the __xen_guest string", async () => {
    const { notes } = await parse({ notes: HIGH, guestString: "LOADER=generic,XEN_VER=xen-3.0,VIRT_BASE=0x40000000" });
    expect(notes.source).toBe("notes");
  });
  it("have defaults: VIRT_BASE 0, PADDR_OFFSET 0, ENTRY e_entry", async () => {
    const { notes } = await parse({ notes: GENERIC });
    expect(notes).toMatchObject({ virtBase: 0, paddrOffset: 0, entry: 0x100010, hypercallPage: undefined });
  });
  it("as a legacy string default PADDR_OFFSET to VIRT_BASE and count HYPERCALL_PAGE in pages", async () => {
    const { notes } = await parse({
      segments: [{ paddr: 0x40000000, data: Uint8Array.of(1), memSize: 0x3000 }],
      entry: 0x40000000n,
      notes: [{ owner: "name", type: 3, desc: u64(1n) }],
      guestString: "GUEST_OS=Mach,XEN_VER=xen-3.0,VIRT_BASE=0x40000000,HYPERCALL_PAGE=0x2,LOADER=generic,PAE=yes",
    });
    expect(notes).toMatchObject({
      source: "__xen_guest",
      virtBase: 0x40000000,
      paddrOffset: 0x40000000,
      virtStart: 0x40000000,
      hypercallPage: 0x40002000,
      entry: 0x40000000,
      pae: "yes",
    });
  });
  it("tell supported and required features apart", async () => {
    const { notes } = await parse({
      notes: [
        ...HIGH,
        { type: 10, desc: text("!writable_page_tables|pae_pgdir_above_4gb|new_one") },
        { type: 17, desc: Uint8Array.of(1, 0x88, 0, 0) },
      ],
    });
    expect(notes).toMatchObject({ requiredFeatures: 1, supportedFeatures: 0x8811, unknownFeatures: ["new_one"] });
  });
  it("of a PVH kernel are enough to parse it and not to build PV", async () => {
    const image = await parse({ notes: [{ type: 18, desc: Uint8Array.of(0, 0, 0x10, 0) }] });
    expect(image.notes.phys32Entry).toBe(0x100000);
    expect(() => buildPv64(image, new TestTarget(32), OPTS)).toThrow("for PVH only");
  });
  it("must name a known loader and interface for PV", async () => {
    const other = await parse({
      notes: [GENERIC[1], { type: 8, desc: text("special") }, { type: 6, desc: text("x") }],
    });
    expect(() => buildPv64(other, new TestTarget(32), OPTS)).toThrow('asks for the loader "special"');
    const later = await parse({ notes: [GENERIC[0], { type: 5, desc: text("xen-9") }] });
    expect(() => buildPv64(later, new TestTarget(32), OPTS)).toThrow('interface "xen-9"');
  });
});

describe("the initial memory of a PV64 domain", () => {
  it("maps the whole region one to one from VIRT_BASE", async () => {
    const [target, image] = await built({ notes: HIGH });
    for (let va = image.virtBase, pfn = 0; va < image.virtEnd; va += PAGE, pfn++) {
      const page = target.walk(image, va);
      expect(page?.mfn).toBe(target.mfnOf(pfn));
    }
    expect(target.walk(image, image.virtEnd)).toBeUndefined();
    expect(target.walk(image, image.virtBase - PAGE)).toBeUndefined();
  });
  it("orders its parts as libxc does", async () => {
    const ramdisk = new Uint8Array(5000).fill(9);
    const [, image] = await built({ notes: HIGH }, 32, { ramdisk });
    expect(image.regions.map((r) => r.name)).toEqual([
      "padding",
      "kernel",
      "ramdisk",
      "p2m",
      "start_info",
      "xenstore",
      "console",
      "page tables",
      "boot stack",
      "padding",
    ]);
    expect(Math.abs(image.virtEnd) % (4 << 20)).toBe(0);
    expect(image.virtEnd - image.stackTop).toBeGreaterThanOrEqual(512 * 1024);
    let pfn = 0;
    for (const r of image.regions) {
      expect(r.pfn).toBe(pfn);
      pfn += r.pages;
    }
  });
  it("maps page tables read-only, everything else writable, with Xen's flags for each level", async () => {
    const [target, image] = await built({ notes: HIGH });
    const tables = new Set(image.pageTables.map((t) => t.mfn));
    expect(image.pageTables[0]).toMatchObject({ mfn: image.l4Mfn, level: 4 });
    for (let va = image.virtBase; va < image.virtEnd; va += PAGE) {
      const page = target.walk(image, va);
      expect(page?.flags).toBe(tables.has(page?.mfn ?? -1) ? 0x61 : 0x63);
    }
    // Present entries of upper levels point only to frames of the next level.
    const levels = new Map(image.pageTables.map((t) => [t.mfn, t.level]));
    for (const t of image.pageTables.filter((p) => p.level > 1)) {
      for (let i = 0; i < 512; i++) {
        const entry = target.long(t.mfn * PAGE + i * 8);
        if (entry === 0) continue;
        expect(entry & 0xfff).toBe(0x67);
        expect(levels.get(Math.floor(entry / PAGE))).toBe(t.level - 1);
      }
    }
  });
  it("loads segments by physical address and leaves the rest of them zero", async () => {
    const data = Uint8Array.from({ length: 3 * PAGE + 5 }, (_, i) => (i * 7) & 255);
    const [target, image] = await built({
      notes: HIGH,
      segments: [
        { paddr: 0x100000, data: Uint8Array.of(1, 2, 3), memSize: 0x1000 },
        { paddr: 0x102800, data, memSize: 0x5000 },
      ],
    });
    expect(target.at(image, -0x80000000 + 0x102800, data.length)).toEqual(data);
    expect(target.at(image, -0x80000000 + 0x100000, 5)).toEqual(Uint8Array.of(1, 2, 3, 0, 0));
  });
  it("fills start_info", async () => {
    const ramdisk = new Uint8Array(5000).fill(9);
    const [target, image] = await built({ notes: HIGH }, 32, {
      ramdisk,
      cmdline: "console=hvc0 root=/dev/xvda",
      flags: 3,
    });
    const info = image.startInfoMfn * PAGE;
    const field = (name: keyof typeof start_info): number => target.long(info + start_info[name]);
    const string = (at: number): string => {
      const b = target.bytes.subarray(at, at + 1024);
      return Buffer.from(b.subarray(0, b.indexOf(0))).toString();
    };
    const region = (name: string): number => image.regions.find((r) => r.name === name)?.va ?? 0;
    expect(string(info + start_info.magic)).toBe("xen-3.0-x86_64");
    expect(field("nr_pages")).toBe(8192);
    expect(field("shared_info")).toBe(7 * PAGE);
    expect(target.view.getUint32(info + start_info.flags, true)).toBe(3 | SIF_VIRT_P2M_4TOOLS);
    expect(field("store_mfn")).toBe(image.xenstoreMfn);
    expect(target.view.getUint32(info + start_info.store_evtchn, true)).toBe(11);
    expect(field("console_domU_mfn")).toBe(image.consoleMfn);
    expect(target.view.getUint32(info + start_info.console_domU_evtchn, true)).toBe(12);
    expect(field("pt_base")).toBe(region("page tables"));
    expect(field("nr_pt_frames")).toBe(image.pageTables.length);
    expect(field("mfn_list")).toBe(region("p2m"));
    expect(field("mod_start")).toBe(region("ramdisk"));
    expect(field("mod_len")).toBe(5000);
    expect(field("first_p2m_pfn")).toBe(0);
    expect(string(info + start_info.cmd_line)).toBe("console=hvc0 root=/dev/xvda");
    expect(target.at(image, region("ramdisk"), 5000)).toEqual(ramdisk);
    expect(image.startInfoVa).toBe(region("start_info"));
    expect(image.stackTop).toBe(region("boot stack") + PAGE);
    const list = target.at(image, region("p2m"), 8192 * 8);
    const view = new DataView(list.buffer);
    for (let pfn = 0; pfn < 8192; pfn++) expect(view.getUint32(pfn * 8, true)).toBe(target.mfnOf(pfn));
  });
  it("cuts an overlong command line", async () => {
    const [target, image] = await built({ notes: HIGH }, 32, { cmdline: "x".repeat(2000) });
    const at = image.startInfoMfn * PAGE + start_info.cmd_line;
    expect(target.bytes[at + 1022]).toBe(0x78);
    expect(target.bytes[at + 1023]).toBe(0);
  });
  it("leaves the RAM disk unmapped for MOD_START_PFN", async () => {
    const [target, image] = await built({ notes: [...HIGH, { type: 16, desc: u64(1n) }] }, 32, {
      ramdisk: Uint8Array.of(1, 2, 3),
    });
    const info = image.startInfoMfn * PAGE;
    const pfn = target.long(info + start_info.mod_start);
    expect(target.view.getUint32(info + start_info.flags, true) & SIF_MOD_START_PFN).toBe(SIF_MOD_START_PFN);
    expect(pfn).toBe((image.virtEnd - image.virtBase) / PAGE);
    expect(target.bytes[target.mfnOf(pfn) * PAGE + 2]).toBe(3);
  });
  it("maps the P2M list at INIT_P2M with page tables of its own", async () => {
    const p2m = 0x8000000000;
    const [target, image] = await built({ notes: [...HIGH, { type: 15, desc: u64(BigInt(p2m)) }] });
    const info = image.startInfoMfn * PAGE;
    const first = target.long(info + start_info.first_p2m_pfn);
    expect(target.long(info + start_info.mfn_list)).toBe(p2m);
    // 16 pages of list, and one L3, L2 and L1 table.
    expect(target.long(info + start_info.nr_p2m_frames)).toBe(19);
    expect(first).toBe((image.virtEnd - image.virtBase) / PAGE);
    expect(image.pageTables.slice(-3).map((t) => [t.level, t.pfn])).toEqual([
      [3, first + 16],
      [2, first + 17],
      [1, first + 18],
    ]);
    expect(target.long(info + start_info.nr_pt_frames)).toBe(image.pageTables.length - 3);
    for (let i = 0; i < 16; i++) expect(target.walk(image, p2m + i * PAGE)?.mfn).toBe(target.mfnOf(first + i));
    expect(target.walk(image, p2m + 16 * PAGE)).toBeUndefined();
    expect(new DataView(target.at(image, p2m + 8, 4).buffer).getUint32(0, true)).toBe(target.mfnOf(1));
  });
  it("unpacks a gzip RAM disk, unless it is only the first part of the file", async () => {
    const cpio = Buffer.alloc(20_000, "070701");
    const [target, image] = await built({ notes: HIGH }, 32, { ramdisk: new Uint8Array(gzipSync(cpio)) });
    expect(target.long(image.startInfoMfn * PAGE + start_info.mod_len)).toBe(cpio.length);
    const two = Buffer.concat([gzipSync(cpio), gzipSync(cpio)]);
    const [target2, image2] = await built({ notes: HIGH }, 32, { ramdisk: new Uint8Array(two) });
    expect(target2.long(image2.startInfoMfn * PAGE + start_info.mod_len)).toBe(two.length);
  });
  it("refuses a domain that is too small, and a 32-bit PV kernel", async () => {
    await expect(built({ notes: HIGH }, 3)).rejects.toThrow(
      "too little memory: the initial memory needs at least 4 MiB, the domain has 3 MiB",
    );
    await expect(built({ bits: 32, notes: GENERIC })).rejects.toThrow("wrong class");
  });
  it("hands back the hypercall page only where the kernel has one", async () => {
    const [, without] = await built({ notes: HIGH });
    expect(without.hypercallPage).toBeUndefined();
    const [target, image] = await built({ notes: [...HIGH, { type: 2, desc: u64(BASE + 0x101000n) }] });
    expect(image.hypercallPage).toEqual({ va: -0x80000000 + 0x101000, mfn: target.mfnOf(0x101) });
    await expect(built({ notes: [...HIGH, { type: 2, desc: u64(0n) }] })).rejects.toThrow("hypercall page at 0x0");
  });
});

// --- Real kernels, from the cache that tools/setup-debian.mjs fills ---

const cache = fileURLToPath(new URL("../../../.cache/debian/", import.meta.url));
const real = (name: string, test: (bytes: Uint8Array) => Promise<void>): void => {
  const there = existsSync(cache + name);
  it.skipIf(!there)(there ? name : `${name} (skipped: run npm run setup:debian)`, async () => {
    await test(new Uint8Array(readFileSync(cache + name)));
  });
};

describe("real kernels", () => {
  const linux = async (bytes: Uint8Array, compression: string): Promise<void> => {
    const kernel = await parseKernel(bytes);
    expect(kernel).toMatchObject({ format: "bzImage", compression });
    expect(kernel.notes).toMatchObject({
      guestOs: "linux",
      virtBase: -0x80000000,
      paddrOffset: 0,
      virtStart: -0x80000000 + 0x1000000,
      p2mBase: 0x8000000000,
      unmappedInitrd: true,
      hypercallPage: undefined,
      supportedFeatures: 0x8811,
      hvStartLow: -0x800000000000,
      l1MfnValid: [{ mask: [1, 0], value: [1, 0] }],
    });
    const target = new TestTarget(256);
    const image = buildPv64(kernel, target, { ...OPTS, ramdisk: new Uint8Array(100) });
    // startup_xen begins with `cld` or an endbr64; either way it is code, so not zero.
    expect(target.at(image, image.entry, 4).some((b) => b !== 0)).toBe(true);
    expect(() => buildPv64(kernel, new TestTarget(64), OPTS)).toThrow("too little memory");
  };
  real("vmlinuz-cloud", (bytes) => linux(bytes, "lz4"));
  real("vmlinuz-generic", (bytes) => linux(bytes, "xz"));
  real("grub-x86_64-xen.bin", async (bytes) => {
    const kernel = await parseKernel(bytes);
    expect(kernel.notes).toMatchObject({ guestOs: "GRUB", virtBase: 0, entry: 0, p2mBase: undefined });
    const target = new TestTarget(64);
    const image = buildPv64(kernel, target, OPTS);
    for (let va = 0; va < image.virtEnd; va += PAGE) expect(target.walk(image, va)?.mfn).toBe(target.mfnOf(va / PAGE));
  });
  real("gnumach.gz", async (bytes) => {
    const kernel = await parseKernel(bytes);
    expect(kernel).toMatchObject({ format: "elf", compression: "gzip" });
    expect(kernel.notes).toMatchObject({ source: "__xen_guest", virtBase: 0x40000000, hypercallPage: 0x40002000 });
    const target = new TestTarget(64);
    const image = buildPv64(kernel, target, OPTS);
    expect(image.entry).toBe(0x40000000);
    expect(target.walk(image, 0x40000000)?.mfn).toBe(target.mfnOf(0));
    expect(image.hypercallPage?.mfn).toBe(target.mfnOf(2));
  });
});
