/**
 * Disk images in files and block devices: raw, and copy-on-write overlays in a sparse file.
 *
 * A write is acknowledged when the host's kernel has it; `flush` is fdatasync. Reads and writes go straight to the host's page cache, which
 * takes microseconds, where a turn of the event loop would cost a busy guest a whole slice; with `background` they do not hold up the
 * machine where the medium is slow. A flush never does. Discard is not offered: Node has no way to punch holes.
 * Within this process a file that is open for writing is open once; other processes are not kept out.
 */
import { readSync, writeSync } from "node:fs";
import { open, realpath, type FileHandle } from "node:fs/promises";
import { OverlayImage, SECTOR, WindowImage, type BlockImage } from "../../devices/block/index.js";

/** Real paths of open images: how many readers, or −1 for a writer. */
const inUse = new Map<string, number>();

function claim(path: string, write: boolean): void {
  const users = inUse.get(path) ?? 0;
  if (users < 0 || (write && users > 0)) throw new Error(`${path}: in use by another disk`);
  inUse.set(path, write ? -1 : users + 1);
}
function release(path: string): void {
  const users = inUse.get(path) ?? 0;
  if (users > 1) inUse.set(path, users - 1);
  else inUse.delete(path);
}

export interface FileImageOptions {
  readonly readOnly?: boolean;
  /** Make the file, or make it this large, if it is not yet (bytes). */
  readonly size?: number;
  /** Read and write on another thread. */
  readonly background?: boolean;
}

export class FileImage implements BlockImage {
  readonly sectorSize = SECTOR;
  private open = true;

  private constructor(
    readonly path: string,
    private readonly file: FileHandle,
    readonly sectors: number,
    readonly readOnly: boolean,
    private readonly background: boolean,
  ) {}

  static async open(path: string, options: FileImageOptions = {}): Promise<FileImage> {
    const readOnly = options.readOnly ?? false;
    let file: FileHandle;
    try {
      file = await open(path, readOnly ? "r" : "r+");
    } catch (e) {
      if (readOnly || options.size === undefined || (e as NodeJS.ErrnoException).code !== "ENOENT") throw e;
      file = await open(path, "wx+");
    }
    try {
      let { size } = await file.stat();
      const stat = await file.stat();
      if (stat.isDirectory()) throw new Error(`${path}: is a directory`);
      if (stat.isBlockDevice()) size = await deviceSize(file);
      else if (options.size !== undefined && size < options.size && !readOnly) {
        size = Math.ceil(options.size / SECTOR) * SECTOR;
        await file.truncate(size);
        await file.sync();
      }
      const real = await realpath(path);
      claim(real, !readOnly);
      return new FileImage(real, file, Math.floor(size / SECTOR), readOnly, options.background ?? false);
    } catch (e) {
      await file.close();
      throw e;
    }
  }

  read(sector: number, into: Uint8Array): Promise<void> | void {
    if (this.background) return this.readLater(sector, into);
    for (let done = 0; done < into.length;) {
      const n = readSync(this.file.fd, into, done, into.length - done, sector * SECTOR + done);
      // Somebody made the file shorter: what is not there reads as zeros.
      if (n === 0) return void into.fill(0, done);
      done += n;
    }
  }
  write(sector: number, bytes: Uint8Array): Promise<void> | void {
    if (this.background) return this.writeLater(sector, bytes);
    for (let done = 0; done < bytes.length;) {
      const n = writeSync(this.file.fd, bytes, done, bytes.length - done, sector * SECTOR + done);
      if (n === 0) throw new Error("nothing written");
      done += n;
    }
  }
  private async readLater(sector: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length;) {
      const { bytesRead } = await this.file.read(into, done, into.length - done, sector * SECTOR + done);
      if (bytesRead === 0) return void into.fill(0, done);
      done += bytesRead;
    }
  }
  private async writeLater(sector: number, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await this.file.write(bytes, done, bytes.length - done, sector * SECTOR + done);
      if (bytesWritten === 0) throw new Error("nothing written");
      done += bytesWritten;
    }
  }
  async flush(): Promise<void> {
    await this.file.datasync();
  }
  discard(): void {}
  async close(): Promise<void> {
    if (!this.open) return;
    this.open = false;
    try {
      await this.file.close();
    } finally {
      release(this.path);
    }
  }
}

/** A block device says its size only by how far it can be read. */
async function deviceSize(file: FileHandle): Promise<number> {
  const byte = new Uint8Array(1);
  const readable = async (at: number): Promise<boolean> =>
    (await file.read(byte, 0, 1, at).catch(() => ({ bytesRead: 0 }))).bytesRead === 1;
  let low = 0;
  let high = SECTOR;
  while (high < 2 ** 52 && (await readable(high - 1))) {
    low = high;
    high *= 2;
  }
  while (high - low > SECTOR) {
    const middle = Math.floor((low + high) / 2 / SECTOR) * SECTOR;
    if (await readable(middle + SECTOR - 1)) low = middle + SECTOR;
    else high = middle;
  }
  return low;
}

/** A copy-on-write disk on `base` that lasts: its own part is one sparse file, made if it is not there (the data, then the bitmap). */
export async function openFileOverlay(base: BlockImage, path: string): Promise<OverlayImage> {
  const map = OverlayImage.mapSectors(base.sectors);
  const size = (base.sectors + map) * SECTOR;
  const file = await FileImage.open(path, { size });
  try {
    if (file.sectors !== base.sectors + map) throw new Error(`${path}: not an overlay of a disk of this size`);
    return await OverlayImage.open(
      base,
      new WindowImage(file, 0, base.sectors, true),
      new WindowImage(file, base.sectors, map),
    );
  } catch (e) {
    await file.close();
    throw e;
  }
}
