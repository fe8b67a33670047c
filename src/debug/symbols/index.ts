/** What a kernel knows of its own names: from its image to a file that gdb reads, or to a table that profiles and traces ask. */
import { hexVa } from "../../machine/hex.js";
import { unwrapBzImage } from "../../toolstack/builder/bzimage.js";
import { isElf, parseElf } from "../../toolstack/builder/elf.js";
import { readKallsyms } from "./kallsyms.js";
import { debugFrame, readOrc } from "./orc.js";
import { symbolElf } from "./symbol-elf.js";
import type { KernelSymbol } from "./symbol-table.js";

export { parseSystemMap, SymbolTable, type KernelSymbol } from "./symbol-table.js";

/** The ELF image of a kernel file. */
function imageOf(kernel: Uint8Array): Uint8Array {
  return isElf(kernel) ? kernel : unwrapBzImage(kernel).elf;
}

/** The symbols built into a Linux kernel (bzImage or ELF); null where there are none. Throws a BuildError for what is no kernel. */
export function kernelSymbols(kernel: Uint8Array): KernelSymbol[] | null {
  return readKallsyms(imageOf(kernel));
}

/** A symbol file for gdb with the kernel's names and, where it has an ORC table, all it takes to unwind; null where there are no names. */
export function gdbSymbolFile(kernel: Uint8Array): Uint8Array | null {
  const image = imageOf(kernel);
  const symbols = readKallsyms(image);
  if (symbols === null) return null;
  const orc = readOrc(parseElf(image));
  return symbolElf(symbols, orc === null ? null : debugFrame(orc, symbols));
}

/** As the lines of a System.map. */
export function systemMap(symbols: readonly KernelSymbol[]): string {
  return symbols.map((s) => `${hexVa(s.va)} ${s.type} ${s.name}\n`).join("");
}
