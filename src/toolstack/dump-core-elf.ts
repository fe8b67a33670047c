/**
 * The ELF file around a domain's core, as Xen's own tools write it: sections `.note.Xen`, `.xen_prstatus`, `.xen_shared_info`, `.xen_pages`,
 * `.xen_p2m` (docs/misc/dump-core-format.txt). On top of that it has program headers and `CORE` notes, which Xen's has not: gdb opens nothing
 * without them. Readers of Xen's format find their sections by name and do not see the difference.
 *
 * Pure: sizes in, bytes out; the pages themselves are written by the caller between `head` and `tail`.
 */
import { cpu_user_regs as R } from "../abi/arch_x86_xen.js";
import {
  XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION,
  XEN_ELFNOTE_DUMPCORE_HEADER,
  XEN_ELFNOTE_DUMPCORE_NONE,
  XEN_ELFNOTE_DUMPCORE_XEN_VERSION,
} from "../abi/elfnote.js";
import {
  XEN_CAPABILITIES_INFO_LEN,
  XEN_CHANGESET_INFO_LEN,
  XEN_EXTRAVERSION_LEN,
  xen_compile_info,
} from "../abi/version.js";
import { vcpu_guest_context as C } from "../abi/arch_x86_xen.js";
import { fromLatin1 } from "../xenstore/text.js";

const EHDR = 64,
  PHDR = 56,
  SHDR = 64;
const ET_CORE = 4,
  EM_X86_64 = 62;
const PT_LOAD = 1,
  PT_NOTE = 4;
const SHT_PROGBITS = 1,
  SHT_STRTAB = 3,
  SHT_NOTE = 7;
const NT_PRSTATUS = 1;
const PAGE = 4096;
/** XC_CORE_MAGIC: a PV domain. */
const CORE_MAGIC = 0xf00febed;
/** struct elf_prstatus of x86-64 Linux: its size, and where pid and registers are. */
const PRSTATUS = { size: 336, pid: 32, reg: 112 } as const;
/** user_regs_struct's order; null: not known of a guest. */
const REGS: readonly (number | null)[] = [
  R.r15,
  R.r14,
  R.r13,
  R.r12,
  R.rbp,
  R.rbx,
  R.r11,
  R.r10,
  R.r9,
  R.r8,
  R.rax,
  R.rcx,
  R.rdx,
  R.rsi,
  R.rdi,
  null,
  R.rip,
  R.cs,
  R.rflags,
  R.rsp,
  R.ss,
  null,
  null,
  R.ds,
  R.es,
  R.fs,
  R.gs,
];
/** Places of fs_base and gs_base in that order. */
const FS_BASE = 21,
  GS_BASE = 22;

/** A stretch of virtual memory that is in consecutive pages of the file. */
export interface LoadedRange {
  readonly va: number;
  readonly pages: number;
  /** Index of its first page in `.xen_pages`. */
  readonly first: number;
  readonly writable: boolean;
  readonly executable: boolean;
}

export interface CoreVersion {
  readonly major: number;
  readonly minor: number;
  readonly extra: string;
  readonly compiler: string;
  readonly compileBy: string;
  readonly compileDomain: string;
  readonly compileDate: string;
  readonly capabilities: string;
  readonly changeset: string;
  /** HYPERVISOR_VIRT_START as a sign-extended number. */
  readonly virtStart: number;
}

export interface CoreParts {
  /** `vcpu_guest_context` of each vCPU. */
  readonly vcpus: readonly Uint8Array[];
  readonly sharedInfo: Uint8Array;
  /** Pseudo-physical and machine frame of each page, in the order of the pages. */
  readonly pages: readonly { readonly pfn: number; readonly mfn: number }[];
  readonly ranges: readonly LoadedRange[];
  readonly version: CoreVersion;
}

/** Grows; all fields little endian. */
class Bytes {
  private data = new Uint8Array(4096);
  private view = new DataView(this.data.buffer);
  length = 0;
  private room(n: number): number {
    const at = this.length;
    if (at + n > this.data.length) {
      const grown = new Uint8Array(Math.max(at + n, this.data.length * 2));
      grown.set(this.data);
      this.data = grown;
      this.view = new DataView(grown.buffer);
    }
    this.length = at + n;
    return at;
  }
  u16(v: number): void {
    const at = this.room(2);
    this.view.setUint16(at, v, true);
  }
  u32(v: number): void {
    const at = this.room(4);
    this.view.setUint32(at, v >>> 0, true);
  }
  /** A number below 2^53, or a sign-extended address. */
  u64(v: number): void {
    this.u32(v >>> 0);
    this.u32(Math.floor(v / 4294967296) >>> 0);
  }
  bytes(b: Uint8Array): void {
    const at = this.room(b.length);
    this.data.set(b, at);
  }
  text(s: string, size: number): void {
    const at = this.room(size);
    this.data.set(fromLatin1(s).subarray(0, size - 1), at);
  }
  align(n: number): void {
    this.room((n - (this.length % n)) % n);
  }
  note(name: string, type: number, desc: Uint8Array): void {
    this.u32(name.length + 1);
    this.u32(desc.length);
    this.u32(type);
    this.text(name, (name.length + 4) & ~3);
    this.bytes(desc);
    this.align(4);
  }
  done(): Uint8Array {
    return this.data.slice(0, this.length);
  }
}

function body(fill: (b: Bytes) => void): Uint8Array {
  const b = new Bytes();
  fill(b);
  return b.done();
}

function xenNotes(p: CoreParts): Uint8Array {
  const v = p.version;
  return body((b) => {
    b.note("Xen", XEN_ELFNOTE_DUMPCORE_NONE, new Uint8Array(0));
    b.note(
      "Xen",
      XEN_ELFNOTE_DUMPCORE_HEADER,
      body((h) => {
        for (const n of [CORE_MAGIC, p.vcpus.length, p.pages.length, PAGE]) h.u64(n);
      }),
    );
    b.note(
      "Xen",
      XEN_ELFNOTE_DUMPCORE_XEN_VERSION,
      body((h) => {
        h.u64(v.major);
        h.u64(v.minor);
        h.text(v.extra, XEN_EXTRAVERSION_LEN);
        const start = h.length;
        h.text(v.compiler, xen_compile_info.compile_by);
        h.text(v.compileBy, xen_compile_info.compile_domain - xen_compile_info.compile_by);
        h.text(v.compileDomain, xen_compile_info.compile_date - xen_compile_info.compile_domain);
        h.text(v.compileDate, xen_compile_info.size - (h.length - start));
        h.text(v.capabilities, XEN_CAPABILITIES_INFO_LEN);
        h.text(v.changeset, XEN_CHANGESET_INFO_LEN);
        h.u64(v.virtStart);
        h.u64(PAGE);
      }),
    );
    b.note(
      "Xen",
      XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION,
      body((h) => h.u64(1)),
    );
  });
}

/** Registers as gdb looks for them: one thread a vCPU. */
function coreNotes(p: CoreParts): Uint8Array {
  return body((b) => {
    p.vcpus.forEach((context, i) => {
      const c = new DataView(context.buffer, context.byteOffset, context.byteLength);
      const status = new Uint8Array(PRSTATUS.size);
      const d = new DataView(status.buffer);
      d.setUint32(PRSTATUS.pid, i + 1, true);
      REGS.forEach((offset, n) => {
        const from =
          offset !== null ? C.user_regs + offset : n === FS_BASE ? C.fs_base : n === GS_BASE ? C.gs_base_kernel : -1;
        if (from < 0) return;
        const at = PRSTATUS.reg + n * 8;
        const narrow =
          offset === R.cs ||
          offset === R.ss ||
          offset === R.ds ||
          offset === R.es ||
          offset === R.fs ||
          offset === R.gs;
        if (narrow) d.setUint16(at, c.getUint16(from, true), true);
        else {
          d.setUint32(at, c.getUint32(from, true), true);
          d.setUint32(at + 4, c.getUint32(from + 4, true), true);
        }
      });
      b.note("CORE", NT_PRSTATUS, status);
    });
  });
}

export interface CoreFrame {
  /** Everything before the pages. */
  readonly head: Uint8Array;
  /** Everything behind them. */
  readonly tail: Uint8Array;
}

export function coreFrame(p: CoreParts): CoreFrame {
  const names = [
    "",
    ".shstrtab",
    ".note.Xen",
    ".note.core",
    ".xen_prstatus",
    ".xen_shared_info",
    ".xen_pages",
    ".xen_p2m",
  ];
  const strings = body((b) => {
    for (const n of names) b.text(n, n.length + 1);
  });
  const nameAt = (name: string): number => names.slice(0, names.indexOf(name)).reduce((n, s) => n + s.length + 1, 0);
  const core = coreNotes(p);
  const xen = xenNotes(p);
  const loads = p.ranges.length + 1;
  const headers = EHDR + PHDR * loads + SHDR * names.length;
  const up = (at: number, n: number): number => Math.ceil(at / n) * n;
  const at = { strings: headers, core: 0, xen: 0, prstatus: 0, shared: 0, pages: 0, p2m: 0 };
  at.core = up(at.strings + strings.length, 4);
  at.xen = at.core + core.length;
  at.prstatus = up(at.xen + xen.length, 8);
  at.shared = up(at.prstatus + p.vcpus.length * C.size, PAGE);
  at.pages = at.shared + PAGE;
  at.p2m = at.pages + p.pages.length * PAGE;

  const head = body((b) => {
    b.bytes(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    b.u16(ET_CORE);
    b.u16(EM_X86_64);
    b.u32(1);
    b.u64(0);
    b.u64(EHDR);
    b.u64(EHDR + PHDR * loads);
    b.u32(0);
    for (const n of [EHDR, PHDR, loads, SHDR, names.length, 1]) b.u16(n);

    const program = (type: number, flags: number, offset: number, va: number, size: number, align: number): void => {
      b.u32(type);
      b.u32(flags);
      for (const n of [offset, va, 0, size, type === PT_LOAD ? size : 0, align]) b.u64(n);
    };
    program(PT_NOTE, 4, at.core, 0, core.length + xen.length, 4);
    for (const r of p.ranges)
      program(
        PT_LOAD,
        4 | (r.writable ? 2 : 0) | (r.executable ? 1 : 0),
        at.pages + r.first * PAGE,
        r.va,
        r.pages * PAGE,
        PAGE,
      );

    const section = (name: string, type: number, offset: number, size: number, align: number, entry: number): void => {
      b.u32(nameAt(name));
      b.u32(type);
      b.u64(0);
      b.u64(0);
      b.u64(offset);
      b.u64(size);
      b.u32(0);
      b.u32(0);
      b.u64(align);
      b.u64(entry);
    };
    section("", 0, 0, 0, 0, 0);
    section(".shstrtab", SHT_STRTAB, at.strings, strings.length, 1, 0);
    section(".note.Xen", SHT_NOTE, at.xen, xen.length, 4, 0);
    section(".note.core", SHT_NOTE, at.core, core.length, 4, 0);
    section(".xen_prstatus", SHT_PROGBITS, at.prstatus, p.vcpus.length * C.size, 8, C.size);
    section(".xen_shared_info", SHT_PROGBITS, at.shared, PAGE, 8, PAGE);
    section(".xen_pages", SHT_PROGBITS, at.pages, p.pages.length * PAGE, PAGE, PAGE);
    section(".xen_p2m", SHT_PROGBITS, at.p2m, p.pages.length * 16, 8, 16);

    b.bytes(strings);
    b.align(4);
    b.bytes(core);
    b.bytes(xen);
    b.align(8);
    for (const v of p.vcpus) b.bytes(v);
    b.align(PAGE);
    b.bytes(p.sharedInfo);
  });
  const tail = body((b) => {
    for (const { pfn, mfn } of p.pages) {
      b.u64(pfn);
      b.u64(mfn);
    }
  });
  return { head, tail };
}
