// Reads a Linux kernel's built-in symbol table and prints it as a System.map: Debian's own is a stub, and the symbols make traces,
// profiles and crash dumps of guests readable.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";

/** The reader, bundled on the fly so that this tool needs no build. */
async function symbols() {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("../src/debug/symbols/index.ts", import.meta.url))],
    bundle: true,
    write: false,
    format: "esm",
    platform: "node",
  });
  const url = `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`;
  return await import(url);
}

/** The text of a System.map for a bzImage. */
export async function systemMap(bzImage) {
  const { kernelSymbols, systemMap: text } = await symbols();
  const found = kernelSymbols(bzImage);
  if (found === null) throw new Error("no kallsyms table in the kernel");
  return text(found);
}
