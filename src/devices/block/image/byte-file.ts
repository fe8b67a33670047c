/**
 * What an image format stands on: a row of bytes that can be read and written anywhere. Files of Node, a browser's origin-private files and
 * memory are such; the formats know no platform.
 *
 * Bytes beyond the end read as zeros; a write beyond it makes the file longer, with zeros between. As with images: a method that has nothing
 * to wait for returns nothing, and what was written is safe from a crash of the host after a later `flush` only.
 */
import { SparseBytes } from "./sparse.js";

export interface ByteFile {
  /** For messages. */
  readonly name: string;
  readonly readOnly: boolean;
  /** Bytes, now. */
  size(): number;
  read(at: number, into: Uint8Array): Promise<void> | void;
  write(at: number, bytes: Uint8Array): Promise<void> | void;
  /** Make it at least so long, with zeros; what is written beyond meanwhile stays. */
  grow(size: number): Promise<void> | void;
  flush(): Promise<void> | void;
  /** Give this range back to the host; it reads as zeros then. Absent: cannot. */
  punch?(at: number, length: number): Promise<void> | void;
  close(): Promise<void> | void;
}

/** An image is not what it should be, or cannot be used here: one line that begins with its name. */
export class ImageError extends Error {
  override readonly name = "ImageError";
}

const CHUNK = 65536;

/** A file in memory, sparse. */
export class MemoryFile implements ByteFile {
  readonly readOnly = false;
  private length = 0;
  private readonly content = new SparseBytes(CHUNK);

  constructor(
    readonly name = "memory",
    content?: Uint8Array,
  ) {
    if (content !== undefined) this.write(0, content);
  }
  size(): number {
    return this.length;
  }
  read(start: number, into: Uint8Array): void {
    this.content.read(start, into);
  }
  write(start: number, bytes: Uint8Array): void {
    this.content.write(start, bytes);
    this.length = Math.max(this.length, start + bytes.length);
  }
  grow(size: number): void {
    this.length = Math.max(this.length, size);
  }
  /** Cut off its end. */
  truncate(size: number): void {
    if (size < this.length) this.punch(size, this.length - size);
    this.length = Math.min(this.length, size);
  }
  flush(): void {}
  punch(start: number, length: number): void {
    this.content.clear(start, length);
  }
  close(): void {}
  bytes(): Uint8Array {
    const out = new Uint8Array(this.length);
    this.read(0, out);
    return out;
  }
}
