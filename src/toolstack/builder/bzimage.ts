// The Linux x86 boot image (bzImage): finds the compressed ELF kernel inside.
// Source: Linux, Documentation/arch/x86/boot.rst (setup header, protocol 2.08 and later).
import { BuildError } from "./errors.js";
import { compressionOf, unpack, type Compression } from "./decompress/index.js";

const SETUP_SECTS = 0x1f1;
const BOOT_FLAG = 0x1fe;
const HEADER_MAGIC = 0x202;
const VERSION = 0x206;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const MAX_KERNEL = 1 << 30;

export const isBzImage = (b: Uint8Array): boolean =>
  b.length > 0x250 &&
  b[BOOT_FLAG] === 0x55 &&
  b[BOOT_FLAG + 1] === 0xaa &&
  b[HEADER_MAGIC] === 0x48 &&
  b[HEADER_MAGIC + 1] === 0x64 &&
  b[HEADER_MAGIC + 2] === 0x72 &&
  b[HEADER_MAGIC + 3] === 0x53;

/** The ELF kernel inside a bzImage, and how it was compressed. */
export function unwrapBzImage(image: Uint8Array): { elf: Uint8Array; compression: Compression | "none" } {
  const view = new DataView(image.buffer, image.byteOffset, image.length);
  const version = view.getUint16(VERSION, true);
  if (version < 0x0208) {
    throw new BuildError(
      `the bzImage has boot protocol ${version >> 8}.${String(version & 255).padStart(2, "0")}, Xen needs 2.08 or later`,
    );
  }
  const start = ((image[SETUP_SECTS] || 4) + 1) * 512 + view.getUint32(PAYLOAD_OFFSET, true);
  const length = view.getUint32(PAYLOAD_LENGTH, true);
  if (start + length > image.length || length < 8) throw new BuildError("the bzImage is truncated");
  const payload = image.subarray(start, start + length);
  if (payload[0] === 0x7f && payload[1] === 0x45) return { elf: payload, compression: "none" };
  const compression = compressionOf(payload);
  if (compression === undefined) {
    const magic = [...payload.subarray(0, 4)].map((b) => b.toString(16).padStart(2, "0")).join(" ");
    throw new BuildError(`the kernel image has an unknown compression (its data begin with ${magic})`);
  }
  // The kernel's build appends the uncompressed size; gzip ends with that very field itself.
  const size = view.getUint32(start + length - 4, true);
  if (size > MAX_KERNEL) throw new BuildError("the bzImage is truncated or damaged: its kernel would exceed 1 GiB");
  const data = compression === "gzip" ? payload : payload.subarray(0, length - 4);
  return { elf: unpack(compression, data, size), compression };
}
