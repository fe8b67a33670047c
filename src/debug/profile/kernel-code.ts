/** What a profile wants to know of a kernel: its symbols and how to unwind its stack, from its image or from a System.map. */
import { isElf, parseElf } from "../../toolstack/builder/elf.js";
import { unwrapBzImage } from "../../toolstack/builder/bzimage.js";
import { BuildError } from "../../toolstack/builder/index.js";
import { readKallsyms } from "../symbols/kallsyms.js";
import { parseSystemMap, SymbolTable } from "../symbols/symbol-table.js";
import type { OrcTable } from "./unwind.js";
import { readOrc } from "../symbols/orc.js";

export interface KernelCode {
  readonly symbols: SymbolTable;
  readonly orc: OrcTable | null;
}

/** `map`: lines of a System.map or of `nm -n`, in place of the kernel's own names. Null where neither has any. */
export function kernelCode(kernel: Uint8Array, map?: string): KernelCode | null {
  try {
    const image = isElf(kernel) ? kernel : unwrapBzImage(kernel).elf;
    const named = map === undefined ? readKallsyms(image) : parseSystemMap(map);
    if (named === null) return null;
    const symbols = new SymbolTable(named);
    return symbols.size === 0 ? null : { symbols, orc: readOrc(parseElf(image)) };
  } catch (e) {
    // Whoever builds the domain says what is wrong with the image.
    if (e instanceof BuildError) return null;
    throw e;
  }
}
