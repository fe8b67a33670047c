// A kernel file, unwrapped and understood: the first half of building a domain.
import { unwrapBzImage, isBzImage } from "./bzimage.js";
import { compressionOf, unpack, type Compression } from "./decompress/index.js";
import { isElf, parseElf, type Elf } from "./elf.js";
import { BuildError } from "./errors.js";
import { readXenNotes, type XenNotes } from "./xen-notes.js";

export interface KernelImage {
  readonly format: "elf" | "bzImage";
  readonly compression: Compression | "none";
  readonly elf: Elf;
  readonly notes: XenNotes;
}

/**
 * Unwraps a bzImage or a gzip file, reads the ELF kernel and its Xen notes. Rejects with a
 * BuildError. Asynchronous by contract, so that a platform may unpack elsewhere one day.
 */
export async function parseKernel(bytes: Uint8Array): Promise<KernelImage> {
  let file = bytes;
  let format: KernelImage["format"] = "elf";
  let compression: KernelImage["compression"] = "none";
  if (compressionOf(file) === "gzip") {
    compression = "gzip";
    const end = file.length;
    const size = end < 18 ? 0 : new DataView(file.buffer, file.byteOffset + end - 4, 4).getUint32(0, true);
    file = unpack("gzip", file, size);
  }
  if (isBzImage(file)) {
    format = "bzImage";
    const inner = unwrapBzImage(file);
    compression = inner.compression;
    file = inner.elf;
  }
  if (!isElf(file)) {
    throw new BuildError(
      format === "bzImage" ? "the bzImage holds something else than an ELF kernel" : "not an ELF or bzImage kernel",
    );
  }
  const elf = parseElf(file);
  return { format, compression, elf, notes: readXenNotes(elf) };
}
