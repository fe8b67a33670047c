/**
 * Files and block devices of the host as rows of bytes for disk images.
 *
 * A write is acknowledged when the host's kernel has it; `flush` is fdatasync. Reads and writes go straight to the host's page cache, which
 * takes microseconds, where a turn of the event loop would cost a busy guest a whole slice; with `background` they do not hold up the
 * machine where the medium is slow. A flush never does. Node cannot punch holes: `fallocate` of util-linux does, where it is there.
 * Within this process a file that is open for writing is open once; other processes are not kept out.
 */
import { spawn } from "node:child_process";
import { existsSync, ftruncateSync, readSync, writeSync } from "node:fs";
import { open, realpath, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import type { ByteFile } from "../../devices/block/index.js";

const SECTOR = 512;

/** Real paths of open images: how many readers, or −1 for a writer. */
const inUse = new Map<string, number>();
/** Called when an image has been closed. */
const waiting = new Set<() => void>();

/** Another disk of this process has the file. */
export class InUseError extends Error {
  override readonly name = "InUseError";
}

function claim(path: string, write: boolean): void {
  const users = inUse.get(path) ?? 0;
  if (users < 0 || (write && users > 0)) throw new InUseError(`${path}: in use by another disk`);
  inUse.set(path, write ? -1 : users + 1);
}
function release(path: string): void {
  const users = inUse.get(path) ?? 0;
  if (users > 1) inUse.set(path, users - 1);
  else inUse.delete(path);
  for (const fn of [...waiting]) fn();
}

/**
 * Wait until no image is open for writing any more: before a process ends, so that what its disks keep in memory (the tables of formats)
 * is in the files. Gives up after so long; the result says whether all is closed.
 */
export function disksClosed(timeoutMs = 10_000): Promise<boolean> {
  return until(() => ![...inUse.values()].some((n) => n < 0), timeoutMs);
}

/** Open what another disk may be about to close: a domain that starts anew finds the disks of the one before it. */
export async function whenFree<T>(open: () => Promise<T>, timeoutMs: number): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await open();
    } catch (e) {
      const left = end - performance.now();
      if (!(e instanceof InUseError) || left <= 0) throw e;
      let released = false;
      const note = (): void => void (released = true);
      waiting.add(note);
      await until(() => released, left);
      waiting.delete(note);
    }
  }
}

/** Looks whenever an image is closed; false when the time is over. */
async function until(what: () => boolean, timeoutMs: number): Promise<boolean> {
  if (what()) return true;
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      waiting.delete(look);
      resolve(what());
    };
    const look = (): void => {
      if (what()) end();
    };
    const timer = setTimeout(end, timeoutMs);
    waiting.add(look);
  });
}

const FALLOCATE = ["/usr/bin/fallocate", "/bin/fallocate"].find((p) => process.platform === "linux" && existsSync(p));

export interface ImageFileOptions {
  readonly readOnly?: boolean;
  /** Make the file, or make it this large, if it is not yet (bytes). */
  readonly size?: number;
  /** Make an empty file; one that is there is an error. */
  readonly create?: boolean;
  /** Read and write on another thread. */
  readonly background?: boolean;
}

export class ImageFile implements ByteFile {
  private isOpen = true;
  punch?: (at: number, length: number) => Promise<void>;
  private punching: Promise<void> = Promise.resolve();

  private constructor(
    /** Its real path. */
    readonly name: string,
    private readonly file: FileHandle,
    private length: number,
    readonly readOnly: boolean,
    private readonly background: boolean,
    /** A block device has a fixed length. */
    private readonly fixed: boolean,
  ) {
    if (!readOnly && FALLOCATE !== undefined) this.punch = (at, n) => this.punchHole(FALLOCATE, at, n);
  }

  static async open(path: string, options: ImageFileOptions = {}): Promise<ImageFile> {
    const readOnly = options.readOnly ?? false;
    let file: FileHandle;
    let made = options.create === true;
    try {
      file = await open(path, options.create === true ? "wx+" : readOnly ? "r" : "r+");
    } catch (e) {
      const missing = (e as NodeJS.ErrnoException).code === "ENOENT";
      if (readOnly || options.create === true || options.size === undefined || !missing) throw e;
      file = await open(path, "wx+");
      made = true;
    }
    try {
      const stat = await file.stat();
      let { size } = stat;
      if (stat.isDirectory()) throw new Error(`${path}: is a directory`);
      if (!stat.isFile() && !stat.isBlockDevice()) throw new Error(`${path}: not a file or block device`);
      const device = stat.isBlockDevice();
      if (device) size = await deviceSize(file);
      else if (options.size !== undefined && size < options.size && !readOnly) {
        size = Math.ceil(options.size / SECTOR) * SECTOR;
        await file.truncate(size);
        await file.sync();
      }
      const real = await realpath(path);
      claim(real, !readOnly);
      // A new file's name is to last as its content does.
      if (made) await syncFolder(real);
      return new ImageFile(real, file, size, readOnly, options.background ?? false, device);
    } catch (e) {
      await file.close();
      throw e;
    }
  }

  size(): number {
    return this.length;
  }
  read(at: number, into: Uint8Array): Promise<void> | void {
    const have = Math.max(0, Math.min(into.length, this.length - at));
    into.fill(0, have);
    if (this.background) return this.readLater(at, into.subarray(0, have));
    for (let done = 0; done < have;) {
      const n = readSync(this.file.fd, into, done, have - done, at + done);
      if (n === 0) throw new Error(shorter(this.name));
      done += n;
    }
  }
  write(at: number, bytes: Uint8Array): Promise<void> | void {
    this.room(at + bytes.length);
    if (this.background) return this.writeLater(at, bytes);
    for (let done = 0; done < bytes.length;) {
      const n = writeSync(this.file.fd, bytes, done, bytes.length - done, at + done);
      if (n === 0) throw new Error("nothing written");
      done += n;
    }
    this.length = Math.max(this.length, at + bytes.length);
  }
  private room(end: number): void {
    if (this.fixed && end > this.length) throw new Error(`${this.name}: beyond the device's end`);
  }
  private async readLater(at: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length;) {
      const { bytesRead } = await this.file.read(into, done, into.length - done, at + done);
      if (bytesRead === 0) throw new Error(shorter(this.name));
      done += bytesRead;
    }
  }
  private async writeLater(at: number, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await this.file.write(bytes, done, bytes.length - done, at + done);
      if (bytesWritten === 0) throw new Error("nothing written");
      done += bytesWritten;
    }
    this.length = Math.max(this.length, at + bytes.length);
  }
  grow(size: number): void {
    this.room(size);
    if (size <= this.length) return;
    // At once: what is written beyond while a thread cuts the file to this length would be lost.
    ftruncateSync(this.file.fd, size);
    this.length = size;
  }
  async flush(): Promise<void> {
    await this.file.datasync();
  }

  /** One process at a time. A file system without holes keeps the bytes, and is not asked again. */
  private punchHole(fallocate: string, at: number, length: number): Promise<void> {
    const next = this.punching.then(async () => {
      if (this.punch === undefined || !this.isOpen) return;
      const status = await new Promise<number>((resolve) => {
        const child = spawn(fallocate, ["-p", "-o", String(at), "-l", String(length), "/proc/self/fd/3"], {
          stdio: ["ignore", "ignore", "ignore", this.file.fd],
        });
        child.once("error", () => resolve(-1));
        child.once("exit", (code) => resolve(code ?? -1));
      });
      if (status !== 0) delete this.punch;
    });
    this.punching = next;
    return next;
  }

  async close(): Promise<void> {
    if (!this.isOpen) return;
    await this.punching;
    this.isOpen = false;
    try {
      await this.file.close();
    } finally {
      release(this.name);
    }
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(dirname(path), "r");
  try {
    await folder.sync();
  } catch {
    // Some file systems have no such thing.
  } finally {
    await folder.close();
  }
}

const shorter = (name: string): string => `${name}: the file is shorter than it was`;

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
