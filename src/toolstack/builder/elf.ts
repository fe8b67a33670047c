// A reader of ELF executables, 32- and 64-bit, little-endian x86: loadable segments, notes and named sections.
// Invariant: every offset of the file is checked before it is used; what does not fit is a BuildError, never a throw of
// another kind. Notes are collected as libelf does: PT_NOTE with a file offset, else SHT_NOTE.
import { BuildError } from "./errors.js";

export const EM_386 = 3;
export const EM_X86_64 = 62;

const PT_LOAD = 1;
const PT_NOTE = 4;
const SHT_NOTE = 7;
const SHT_NOBITS = 8;
const PHDR_FLAGS_RWX = 7;

/** A loadable segment. `paddr` and `memSize` bound what it covers; bytes beyond `data` are zero. */
export interface ElfSegment {
  readonly paddr: number;
  readonly memSize: number;
  readonly data: Uint8Array;
}

export interface ElfNote {
  readonly owner: string;
  readonly type: number;
  readonly desc: Uint8Array;
}

export interface Elf {
  readonly bits: 32 | 64;
  readonly machine: number;
  /** e_entry, as a canonical virtual address. */
  readonly entry: number;
  readonly segments: readonly ElfSegment[];
  /** Lowest and highest physical address of the loadable segments: [pstart, pend). */
  readonly pstart: number;
  readonly pend: number;
  /** Groups of notes, one per PT_NOTE segment (or note section). */
  readonly notes: readonly (readonly ElfNote[])[];
  /** The bytes of the first section of this name, or undefined. */
  section(name: string): Uint8Array | undefined;
  /** Its virtual address. */
  sectionAddress(name: string): number | undefined;
}

export const isElf = (b: Uint8Array): boolean => b[0] === 0x7f && b[1] === 0x45 && b[2] === 0x4c && b[3] === 0x46;

interface Section {
  readonly address: number;
  readonly name: number;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
}

export function parseElf(file: Uint8Array): Elf {
  if (!isElf(file)) throw new BuildError("not an ELF image");
  const truncated = (): BuildError => new BuildError("the ELF image is truncated");
  if (file.length < 52) throw truncated();
  const cls = file[4];
  if (cls !== 1 && cls !== 2) throw new BuildError(`the ELF image has an unknown class (${cls})`);
  if (file[5] !== 1) throw new BuildError("the ELF image is big-endian, not for x86");
  const wide = cls === 2;
  if (wide && file.length < 64) throw truncated();
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const u16 = (at: number): number => view.getUint16(at, true);
  const u32 = (at: number): number => view.getUint32(at, true);
  const word = (at: number): number => (wide ? u32(at) + u32(at + 4) * 4294967296 : u32(at));
  const machine = u16(18);
  if (machine !== EM_386 && machine !== EM_X86_64) {
    throw new BuildError(`the ELF image is for another processor (machine ${machine}), not for x86`);
  }
  const bytes = (offset: number, size: number): Uint8Array => {
    if (offset + size > file.length) throw truncated();
    return file.subarray(offset, offset + size);
  };

  const entry = wide ? view.getInt32(28, true) * 4294967296 + u32(24) : u32(24);
  const phoff = word(wide ? 32 : 28);
  const shoff = word(wide ? 40 : 32);
  const phentsize = u16(wide ? 54 : 42);
  const phnum = u16(wide ? 56 : 44);
  const shentsize = u16(wide ? 58 : 46);
  const shnum = u16(wide ? 60 : 48);
  const shstrndx = u16(wide ? 62 : 50);
  if (phnum > 0 && (phentsize < (wide ? 56 : 32) || phoff + phnum * phentsize > file.length)) throw truncated();

  const segments: ElfSegment[] = [];
  const notes: ElfNote[][] = [];
  let pstart = Infinity;
  let pend = 0;
  for (let i = 0; i < phnum; i++) {
    const at = phoff + i * phentsize;
    const type = u32(at);
    const flags = u32(at + (wide ? 4 : 24));
    const offset = word(at + (wide ? 8 : 4));
    const paddr = word(at + (wide ? 24 : 12));
    const fileSize = word(at + (wide ? 32 : 16));
    const memSize = word(at + (wide ? 40 : 20));
    if (type === PT_LOAD && (flags & PHDR_FLAGS_RWX) !== 0) {
      if (fileSize > memSize) throw new BuildError(`ELF segment ${i} is larger in the file than in memory`);
      segments.push({ paddr, memSize, data: bytes(offset, fileSize) });
      pstart = Math.min(pstart, paddr);
      pend = Math.max(pend, paddr + memSize);
    } else if (type === PT_NOTE && offset !== 0) {
      notes.push(readNotes(bytes(offset, fileSize)));
    }
  }
  if (segments.length === 0) throw new BuildError("the ELF image has nothing to load");

  // Sections matter only for notes outside segments and for `__xen_guest`: a damaged table is the same as none.
  const sections: Section[] = [];
  if (shnum > 0 && shentsize >= (wide ? 64 : 40) && shoff + shnum * shentsize <= file.length) {
    for (let i = 0; i < shnum; i++) {
      const at = shoff + i * shentsize;
      sections.push({
        name: u32(at),
        type: u32(at + 4),
        address: wide ? view.getInt32(at + 20, true) * 4294967296 + u32(at + 16) : u32(at + 12),
        offset: word(at + (wide ? 24 : 16)),
        size: word(at + (wide ? 32 : 20)),
      });
    }
  }
  if (!notes.some((group) => group.length > 0)) {
    for (const s of sections) if (s.type === SHT_NOTE) notes.push(readNotes(bytes(s.offset, s.size)));
  }

  const names = sections[shstrndx];
  const nameOf = (s: Section): string => {
    if (names === undefined || names.offset + names.size > file.length || s.name >= names.size) return "";
    return cString(file.subarray(names.offset + s.name, names.offset + names.size));
  };
  const sectionOf = (name: string): Section | undefined =>
    sections.find((candidate) => candidate.type !== SHT_NOBITS && nameOf(candidate) === name);
  return {
    bits: wide ? 64 : 32,
    machine,
    entry,
    segments,
    pstart,
    pend,
    notes,
    section(name) {
      const s = sectionOf(name);
      return s === undefined ? undefined : bytes(s.offset, s.size);
    },
    sectionAddress: (name) => sectionOf(name)?.address,
  };
}

/** The text of `bytes` up to the first NUL; Latin-1, one character a byte. */
export function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  let s = "";
  for (const b of end < 0 ? bytes : bytes.subarray(0, end)) s += String.fromCharCode(b);
  return s;
}

/** The notes of one segment or section; a note that runs over the end closes the list. */
function readNotes(area: Uint8Array): ElfNote[] {
  const view = new DataView(area.buffer, area.byteOffset, area.length);
  const list: ElfNote[] = [];
  for (let at = 0; at + 12 <= area.length;) {
    const nameSize = view.getUint32(at, true);
    const descSize = view.getUint32(at + 4, true);
    const type = view.getUint32(at + 8, true);
    const name = at + 12;
    const desc = name + Math.ceil(nameSize / 4) * 4;
    if (desc + descSize > area.length) break;
    list.push({
      owner: cString(area.subarray(name, name + nameSize)),
      type,
      desc: area.subarray(desc, desc + descSize),
    });
    at = desc + Math.ceil(descSize / 4) * 4;
  }
  return list;
}
