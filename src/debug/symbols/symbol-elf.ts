/**
 * An ELF file with nothing but symbols and call frame information, for gdb's `symbol-file`: what a stripped kernel still knows of itself.
 */
import { ByteWriter } from "./byte-writer.js";
import type { KernelSymbol } from "./symbol-table.js";

const ET_EXEC = 2,
  EM_X86_64 = 62;
const SHT_PROGBITS = 1,
  SHT_SYMTAB = 2,
  SHT_STRTAB = 3,
  SHT_NOBITS = 8;
const SHF_ALLOC = 2,
  SHF_EXECINSTR = 4;
const STB_GLOBAL = 1;
const STT_OBJECT = 1,
  STT_FUNC = 2;
const SHN_ABS = 0xfff1;
const EHDR = 64,
  SHDR = 64,
  SYM = 24;

/** `frames`: a .debug_frame section, or nothing. */
export function symbolElf(symbols: readonly KernelSymbol[], frames: Uint8Array | null): Uint8Array {
  const kernel = symbols.filter((s) => s.va < 0);
  const code = kernel.filter((s) => /[tTwW]/.test(s.type));
  const [first, last] = [Math.min(...code.map((s) => s.va)), Math.max(...code.map((s) => s.va)) + 16];

  const strings = new ByteWriter();
  const table = new ByteWriter();
  strings.u8(0);
  table.bytes(new Uint8Array(SYM));
  const sorted = [...kernel].sort((a, b) => (isGlobal(a) ? 1 : 0) - (isGlobal(b) ? 1 : 0));
  const encoder = new TextEncoder();
  for (const s of sorted) {
    const isCode = /[tTwW]/.test(s.type);
    table.u32(strings.length);
    table.u8(((isGlobal(s) ? STB_GLOBAL : 0) << 4) | (isCode ? STT_FUNC : STT_OBJECT));
    table.u8(0);
    // Code belongs to the one section that covers it; the rest is absolute.
    table.u16(isCode ? 1 : SHN_ABS);
    table.va(s.va);
    table.va(0);
    strings.bytes(encoder.encode(s.name));
    strings.u8(0);
  }
  const locals = sorted.filter((s) => !isGlobal(s)).length + 1;

  interface Section {
    name: string;
    type: number;
    flags?: number;
    addr?: number;
    data: Uint8Array;
    size?: number;
    link?: number;
    info?: number;
    entsize?: number;
  }
  const sections: Section[] = [
    {
      name: ".text",
      type: SHT_NOBITS,
      flags: SHF_ALLOC | SHF_EXECINSTR,
      addr: first,
      data: new Uint8Array(0),
      size: last - first,
    },
    { name: ".symtab", type: SHT_SYMTAB, data: table.result(), link: 3, info: locals, entsize: SYM },
    { name: ".strtab", type: SHT_STRTAB, data: strings.result() },
    ...(frames === null ? [] : [{ name: ".debug_frame", type: SHT_PROGBITS, data: frames }]),
  ];
  const names = new ByteWriter();
  names.u8(0);
  const nameAt = [...sections.map((s) => s.name), ".shstrtab"].map((n) => {
    const at = names.length;
    names.bytes(encoder.encode(n));
    names.u8(0);
    return at;
  });
  sections.push({ name: ".shstrtab", type: SHT_STRTAB, data: names.result() });

  const out = new ByteWriter();
  const offsets: number[] = [];
  let at = EHDR;
  for (const s of sections) {
    at = (at + 7) & ~7;
    offsets.push(at);
    at += s.data.length;
  }
  const shoff = (at + 7) & ~7;
  out.bytes(Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  out.u16(ET_EXEC);
  out.u16(EM_X86_64);
  out.u32(1);
  out.va(first);
  out.va(0);
  out.va(shoff);
  out.u32(0);
  for (const half of [EHDR, 0, 0, SHDR, sections.length + 1, sections.length]) out.u16(half);
  const pad = (to: number): void => out.bytes(new Uint8Array(to - out.length));
  sections.forEach((s, i) => {
    pad(offsets[i] as number);
    out.bytes(s.data);
  });
  pad(shoff);
  out.bytes(new Uint8Array(SHDR));
  sections.forEach((s, i) => {
    out.u32(nameAt[i] as number);
    out.u32(s.type);
    out.va(s.flags ?? 0);
    out.va(s.addr ?? 0);
    out.va(offsets[i] as number);
    out.va(s.size ?? s.data.length);
    out.u32(s.link ?? 0);
    out.u32(s.info ?? 0);
    out.va(8);
    out.va(s.entsize ?? 0);
  });
  return out.result();
}

/** nm writes global symbols in capitals. */
const isGlobal = (s: KernelSymbol): boolean => /[A-Z]/.test(s.type);
