/** `xenolith symbols`: a kernel's own names, and how to unwind its stack, as a file for gdb. */
import { writeFileSync } from "node:fs";
import { gdbSymbolFile, kernelSymbols, systemMap } from "../debug/symbols/index.js";
import { BuildError } from "../toolstack/builder/index.js";
import { InputError, readInput } from "../sys/node/index.js";

export async function writeSymbols(kernel: string, output: string, map: boolean): Promise<void> {
  const bytes = await readInput(kernel);
  let data: Uint8Array | string | null;
  try {
    if (map) {
      const symbols = kernelSymbols(bytes);
      data = symbols === null ? null : systemMap(symbols);
    } else data = gdbSymbolFile(bytes);
  } catch (e) {
    if (e instanceof BuildError) throw new InputError(`${kernel}: ${e.message}`);
    throw e;
  }
  if (data === null) throw new InputError(`${kernel}: the kernel holds no symbol table (kallsyms) that is known here`);
  try {
    writeFileSync(output, data);
  } catch (e) {
    throw new InputError(`${output}: ${(e as Error).message}`);
  }
}
