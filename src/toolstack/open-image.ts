/**
 * An image by its format, with all it stands on, over files that the platform opens: the part of opening a disk that Node and browsers
 * share.
 *
 * A format is never guessed from the content of a raw image: a guest could write a header there that names any file of the host. So a qcow2
 * image that names a backing file must also say its format.
 */
import { decompress as unpackZstd } from "fzstd";
import {
  ImageError,
  Qcow2Image,
  RawImage,
  vhdFacts,
  VhdImage,
  zstdFrameLength,
  type BlockImage,
  type ByteFile,
} from "../devices/block/index.js";
import { inflateRaw } from "./builder/decompress/index.js";

export type ImageFormat = "raw" | "qcow2" | "vhd";

/** What an image that names another one needs. */
export interface ImageFiles {
  /** Open a file for reading that an image names. `from` is the image's own name. Throws where there is none. */
  open(name: string, from: string): Promise<ByteFile>;
}

export interface OpenImageOptions {
  readonly readOnly?: boolean;
  readonly files: ImageFiles;
}

/** Images that stand on images, at most. */
const MAX_CHAIN = 32;
/** Names of formats in an image (QEMU's) and ours. */
const BACKING_FORMATS: Readonly<Record<string, ImageFormat>> = {
  raw: "raw",
  host_device: "raw",
  file: "raw",
  qcow2: "qcow2",
  vpc: "vhd",
  vhd: "vhd",
};

const decompress = {
  deflate: (bytes: Uint8Array, size: number): Uint8Array => inflateRaw(bytes, size),
  zstd: (bytes: Uint8Array, size: number): Uint8Array => {
    const length = zstdFrameLength(bytes);
    if (length < 0) throw new ImageError("damaged zstd data");
    return unpackZstd(bytes.subarray(0, length), new Uint8Array(size));
  },
};

/** The file is closed with the image, and here where the image cannot be opened. */
export function openImage(file: ByteFile, format: ImageFormat, options: OpenImageOptions): Promise<BlockImage> {
  return open(file, format, options, 0);
}

async function open(
  file: ByteFile,
  format: ImageFormat,
  options: OpenImageOptions,
  depth: number,
): Promise<BlockImage> {
  let below: BlockImage | undefined;
  try {
    if (depth > MAX_CHAIN) throw new ImageError(`${file.name}: more than ${MAX_CHAIN} images stand on each other`);
    const readOnly = options.readOnly === true;
    switch (format) {
      case "raw":
        return new RawImage(file);
      case "qcow2": {
        const { backing } = await Qcow2Image.header(file);
        if (backing !== undefined) {
          below = await openBacking(file, backing, options, depth);
        }
        return await Qcow2Image.open(file, { readOnly, backing: below, ownsBacking: true, decompress });
      }
      case "vhd": {
        const facts = await vhdFacts(file);
        if (facts.header === null || facts.parents.length === 0) return await VhdImage.open(file, { readOnly });
        const parent = await openParent(file, facts.parents, options, depth);
        below = parent.image;
        return await VhdImage.open(file, { readOnly, parent, ownsParent: true });
      }
    }
  } catch (e) {
    await below?.close();
    await file.close();
    throw e;
  }
}

async function openBacking(
  file: ByteFile,
  backing: { readonly name: string; readonly format: string | undefined },
  options: OpenImageOptions,
  depth: number,
): Promise<BlockImage> {
  const { name } = backing;
  if (backing.format === undefined) {
    throw new ImageError(
      `${file.name}: does not say the format of its backing file ${name}, and it is not guessed: ` +
        `\`qemu-img rebase -u -F raw -b ${name} …\` records it`,
    );
  }
  const format = BACKING_FORMATS[backing.format];
  if (format === undefined)
    throw new ImageError(
      `${file.name}: its backing file has the format ${backing.format} (raw, qcow2 and vpc are known)`,
    );
  if (/^(?!https?:|file:)[a-z][a-z0-9+.-]+:/.test(name))
    throw new ImageError(`${file.name}: its backing file ${name} cannot be opened here (paths and http(s) can)`);
  const below = await options.files.open(name.replace(/^file:(?:\/\/(?=\/))?/, ""), file.name);
  return open(below, format, { ...options, readOnly: true }, depth + 1);
}

async function openParent(
  file: ByteFile,
  candidates: readonly string[],
  options: OpenImageOptions,
  depth: number,
): Promise<{ image: BlockImage; uuid: string }> {
  let failure: unknown;
  for (const name of candidates) {
    let below: ByteFile;
    try {
      below = await options.files.open(name, file.name);
    } catch (e) {
      failure ??= e;
      continue;
    }
    const { footer } = await vhdFacts(below);
    return { image: await open(below, "vhd", { ...options, readOnly: true }, depth + 1), uuid: footer.uuid };
  }
  throw new ImageError(
    `${file.name}: its parent cannot be opened: ${failure instanceof Error ? failure.message : String(failure)}`,
  );
}
