/**
 * The image behind a disk of a configuration, by its format: the one place that knows which formats there are on Node. `checkDisk` refuses
 * before anything is made what `openDisk` could only refuse in the middle.
 *
 * Targets are files, block devices and http(s) URLs (read only). `overlay=` puts a qcow2 image over the target that takes what is written
 * and lasts; `snapshot` does so in memory. The target itself is only read then, so that it serves any number of disks.
 */
import { existsSync } from "node:fs";
import { realpath, unlink } from "node:fs/promises";
import { dirname, isAbsolute, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import {
  createQcow2,
  HttpFile,
  ImageError,
  OverlayImage,
  Qcow2Image,
  SECTOR,
  type BlockImage,
  type ByteFile,
} from "../../devices/block/index.js";
import { ConfigError } from "../../toolstack/config/index.js";
import { unsupportedDisk, type DiskConfig } from "../../toolstack/config/disk.js";
import { openImage, type ImageFormat } from "../../toolstack/open-image.js";
import { ImageFile, whenFree } from "./image-file.js";
import { InputError } from "./input-error.js";

const isUrl = (path: string): boolean => /^https?:\/\//.test(path);
/** A server that says nothing for so long is gone. */
const HTTP_TIMEOUT_MS = 30_000;
/** A disk that is being closed is free after so long. */
const CLOSING_MS = 3000;

/** `path` is the disk's target as this process can open it, "" for an empty drive; `source` names the configuration. */
export async function checkDisk(disk: DiskConfig, path: string, source: string): Promise<void> {
  const why = unsupportedDisk(disk);
  if (why !== undefined) throw new ConfigError(`${source}: ${why}`);
  if (path === "") {
    if (!disk.cdrom) throw new ConfigError(`${source}: disk ${disk.vdev}: only a CD drive may be empty`);
    return;
  }
  if (isUrl(path)) {
    if (!disk.readOnly && !disk.snapshot && disk.overlay === undefined)
      throw new ConfigError(
        `${source}: disk ${disk.vdev}: ${path} can only be read: access=ro, snapshot or overlay=FILE`,
      );
    return;
  }
  if (!existsSync(path)) throw new InputError(`${source}: disk ${disk.vdev}: ${path}: no such file`);
}

/** A disk as its configuration has it; `path` is its target, resolved (and `disk.overlay` is). */
export async function openDisk(disk: DiskConfig, path: string): Promise<BlockImage> {
  const format = formatOf(disk);
  const open = async (): Promise<BlockImage> => {
    if (disk.overlay !== undefined) return openOverlay(path, format, disk.overlay);
    const readOnly = disk.readOnly || disk.snapshot;
    const image = await openImage(await openFile(path, readOnly), format, { readOnly, files });
    return disk.snapshot && !disk.readOnly ? OverlayImage.inMemory(image, true) : image;
  };
  try {
    return await whenFree(open, CLOSING_MS);
  } catch (e) {
    throw asInput(e, path);
  }
}

function formatOf(disk: DiskConfig): ImageFormat {
  const { format } = disk;
  if (format === "raw" || format === "qcow2" || format === "vhd") return format;
  throw new ConfigError(`disk ${disk.vdev}: format ${format} is not supported (raw, qcow2 and vhd are)`);
}

function openFile(path: string, readOnly: boolean): Promise<ByteFile> {
  if (!isUrl(path)) return ImageFile.open(path, { readOnly });
  return HttpFile.open(path, {
    fetch: (url, init) => fetch(url, { ...init, signal: AbortSignal.timeout(HTTP_TIMEOUT_MS) }),
    delay: (ms) => setTimeout(ms),
  });
}

/** A name in an image counts from the image's own folder. */
function beside(name: string, from: string): string {
  if (isUrl(name)) return name;
  if (isUrl(from)) return new URL(name, from).href;
  return isAbsolute(name) ? name : join(dirname(from), name);
}
const files = { open: (name: string, from: string): Promise<ByteFile> => openFile(beside(name, from), true) };

/** A qcow2 image at `overlay` that stands on `path`; made where it is not there. */
async function openOverlay(path: string, format: ImageFormat, overlay: string): Promise<BlockImage> {
  const base = isUrl(path) ? path : await realpath(path);
  if (!existsSync(overlay)) {
    const below = await openImage(await openFile(base, true), format, { readOnly: true, files });
    const size = below.sectors * SECTOR;
    await below.close();
    const file = await ImageFile.open(overlay, { create: true });
    try {
      await createQcow2(file, { size, backing: { name: base, format: format === "vhd" ? "vpc" : format } });
    } catch (e) {
      await unlink(overlay).catch(() => {});
      throw e;
    } finally {
      await file.close();
    }
  }
  const file = await ImageFile.open(overlay);
  try {
    const { backing } = await Qcow2Image.header(file);
    const named = backing === undefined ? "nothing" : beside(backing.name, file.name);
    const same = named === base || (!isUrl(named) && existsSync(named) && (await realpath(named)) === base);
    if (!same) throw new ImageError(`${overlay}: stands on ${named}, not on ${base}`);
  } catch (e) {
    await file.close();
    throw e;
  }
  return openImage(file, "qcow2", { files });
}

const WHY: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  EACCES: "permission denied",
  EISDIR: "is a directory",
  EROFS: "is on a read-only file system",
};

/** What is wrong with an image is a mistake of whoever named it, in one line. */
function asInput(e: unknown, path: string): unknown {
  if (e instanceof ConfigError || e instanceof InputError || !(e instanceof Error)) return e;
  const { code, path: at } = e as NodeJS.ErrnoException;
  if (code !== undefined && WHY[code] !== undefined) return new InputError(`${at ?? path}: ${WHY[code]}`);
  return new InputError(e.message.includes(path) || e instanceof ImageError ? e.message : `${path}: ${e.message}`);
}
