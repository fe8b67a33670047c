// Reads a Linux kernel's built-in symbol table (kallsyms, layout of 5.x and 6.1) and prints it as a System.map.
// Debian's own System.map is a stub; the symbols make traces and crash dumps of guests readable.
import { build } from "esbuild";
import { fileURLToPath } from "node:url";

/** The bzImage unpacker of the domain builder, bundled on the fly so that this tool needs no build. */
async function unwrapper() {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("../src/toolstack/builder/bzimage.ts", import.meta.url))],
    bundle: true,
    write: false,
    format: "esm",
    platform: "node",
  });
  const url = `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`;
  return (await import(url)).unwrapBzImage;
}

const align8 = (n) => (n + 7) & ~7;

/** The table of 256 tokens: found by its digits, proven by the index that follows it. */
function findTokens(image) {
  const digits = Buffer.from([..."0123456789"].flatMap((c) => [c.charCodeAt(0), 0]));
  for (let at = image.indexOf(digits); at >= 0; at = image.indexOf(digits, at + 1)) {
    for (let start = at, back = 0; back <= 48; back++) {
      if (back === 48) {
        const tokens = [];
        const offsets = [];
        let p = start;
        for (let i = 0; i < 256; i++) {
          const end = image.indexOf(0, p);
          offsets.push(p - start);
          tokens.push(image.toString("latin1", p, end));
          p = end + 1;
        }
        const index = align8(p);
        if (offsets.every((o, i) => image.readUInt16LE(index + 2 * i) === o)) return { start, tokens };
      } else start = image.lastIndexOf(0, start - 2) + 1;
    }
  }
  throw new Error("no kallsyms token table in the kernel");
}

/** The text of a System.map for a bzImage. */
export async function systemMap(bzImage) {
  const image = Buffer.from((await unwrapper())(bzImage).elf);
  const { start, tokens } = findTokens(image);

  const nameAt = (p) => {
    const short = image[p];
    return short < 0x80 ? [short, p + 1] : [(short & 0x7f) | (image[p + 1] << 7), p + 2];
  };

  // Somewhere before the tokens stand: base, number of names, names, and one marker (the offset) for every 256th name.
  for (let names = align8(start) - 8; ; names -= 8) {
    if (names < 16) throw new Error("no kallsyms name table in the kernel");
    const count = image.readUInt32LE(names - 8);
    if (count < 1000 || count > 1 << 20 || image.readUInt32LE(names - 4) !== 0) continue;
    let p = names;
    let second = 0;
    for (let i = 0; i < count && p < start; i++) {
      if (i === 256) second = p - names;
      const [length, data] = nameAt(p);
      p = data + length;
    }
    if (p >= start || image.readUInt32LE(align8(p)) !== 0 || image.readUInt32LE(align8(p) + 4) !== second) continue;

    const base = image.readBigUInt64LE(names - 16);
    const offsets = names - 16 - align8(count * 4);
    const lines = [];
    p = names;
    for (let i = 0; i < count; i++) {
      const [length, data] = nameAt(p);
      let text = "";
      for (let k = 0; k < length; k++) text += tokens[image[data + k]];
      p = data + length;
      // Per-cpu symbols are absolute; all others count down from the base.
      const offset = image.readInt32LE(offsets + i * 4);
      const address = offset >= 0 ? BigInt(offset) : base - 1n - BigInt(offset);
      lines.push(`${address.toString(16).padStart(16, "0")} ${text[0]} ${text.slice(1)}`);
    }
    return `${lines.join("\n")}\n`;
  }
}
