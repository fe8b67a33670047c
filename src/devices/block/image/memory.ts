/** A disk in memory, sparse: only what was written is there. */
import { SECTOR, type BlockImage } from "./image.js";

const CHUNK = 4096;

export class MemoryImage implements BlockImage {
  readonly sectors: number;
  readonly sectorSize = SECTOR;
  readonly discardGranularity = CHUNK;
  private readonly chunks = new Map<number, Uint8Array>();

  constructor(
    bytes: number,
    readonly readOnly = false,
  ) {
    this.sectors = Math.floor(bytes / SECTOR);
  }

  /** A disk with this content (copied), filled up to whole sectors. */
  static from(content: Uint8Array, readOnly = false): MemoryImage {
    const image = new MemoryImage(Math.ceil(content.length / SECTOR) * SECTOR, readOnly);
    image.put(0, content);
    return image;
  }

  private each(
    start: number,
    length: number,
    part: (chunk: number, at: number, done: number, n: number) => void,
  ): void {
    for (let done = 0; done < length;) {
      const at = (start + done) % CHUNK;
      const n = Math.min(length - done, CHUNK - at);
      part(Math.floor((start + done) / CHUNK), at, done, n);
      done += n;
    }
  }
  private put(start: number, bytes: Uint8Array): void {
    this.each(start, bytes.length, (chunk, at, done, n) => {
      let c = this.chunks.get(chunk);
      if (c === undefined) this.chunks.set(chunk, (c = new Uint8Array(CHUNK)));
      c.set(bytes.subarray(done, done + n), at);
    });
  }

  read(sector: number, into: Uint8Array): void {
    this.each(sector * SECTOR, into.length, (chunk, at, done, n) => {
      const c = this.chunks.get(chunk);
      if (c === undefined) into.fill(0, done, done + n);
      else into.set(c.subarray(at, at + n), done);
    });
  }
  write(sector: number, bytes: Uint8Array): void {
    this.put(sector * SECTOR, bytes);
  }
  flush(): void {}
  discard(sector: number, count: number): void {
    this.each(sector * SECTOR, count * SECTOR, (chunk, at, _done, n) => {
      if (n === CHUNK) this.chunks.delete(chunk);
      else this.chunks.get(chunk)?.fill(0, at, at + n);
    });
  }
  close(): void {}

  /** All of it, as bytes. */
  bytes(): Uint8Array {
    const out = new Uint8Array(this.sectors * SECTOR);
    this.read(0, out);
    return out;
  }
  /** Memory in use for content. */
  get stored(): number {
    return this.chunks.size * CHUNK;
  }
}
