// Recognises a compression by its magic and undoes it.
import { decompress as unpackZstd } from "fzstd";
import { BuildError } from "../errors.js";
import { gunzipMember, isGzip } from "./inflate.js";
import { unpackLz4Legacy } from "./lz4.js";
import { unpackLzma } from "./lzma.js";
import { isXz, unpackXz } from "./xz.js";

export type Compression = "gzip" | "xz" | "lz4" | "zstd" | "lzma" | "bzip2" | "lzo";

/** The compression of `bytes` by its magic, or undefined. */
export function compressionOf(bytes: Uint8Array): Compression | undefined {
  const starts = (...magic: number[]): boolean => magic.every((v, i) => bytes[i] === v);
  if (isGzip(bytes)) return "gzip";
  if (isXz(bytes)) return "xz";
  if (starts(0x02, 0x21, 0x4c, 0x18)) return "lz4";
  if (starts(0x28, 0xb5, 0x2f, 0xfd)) return "zstd";
  if (starts(0x5d, 0x00, 0x00)) return "lzma";
  if (starts(0x42, 0x5a, 0x68)) return "bzip2";
  if (starts(0x89, 0x4c, 0x5a, 0x4f, 0x00)) return "lzo";
  return undefined;
}

/** Unpacks a kernel payload whose uncompressed size is known. */
export function unpack(kind: Compression, bytes: Uint8Array, size: number): Uint8Array {
  let out: Uint8Array;
  switch (kind) {
    case "gzip":
      out = gunzipMember(bytes).bytes;
      break;
    case "xz":
      out = unpackXz(bytes, size);
      break;
    case "lz4":
      out = unpackLz4Legacy(bytes, size);
      break;
    case "lzma":
      out = unpackLzma(bytes, size);
      break;
    case "zstd":
      try {
        out = unpackZstd(bytes);
      } catch (e) {
        throw new BuildError(`the zstd data of the kernel image are damaged: ${e instanceof Error ? e.message : e}`);
      }
      break;
    default:
      throw new BuildError(
        `the kernel image is compressed with ${kind}, which is not supported (gzip, xz, lz4, zstd and lzma are)`,
      );
  }
  if (out.length !== size) {
    throw new BuildError(`the kernel image unpacks to ${out.length} bytes, but says that it holds ${size}`);
  }
  return out;
}

export { gunzipMember, inflateRaw, isGzip } from "./inflate.js";
