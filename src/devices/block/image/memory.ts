/** A disk in memory, sparse: only what was written is there. */
import { SECTOR, type BlockImage } from "./image.js";
import { SparseBytes } from "./sparse.js";

const CHUNK = 4096;

export class MemoryImage implements BlockImage {
  readonly sectors: number;
  readonly sectorSize = SECTOR;
  readonly discardGranularity = CHUNK;
  private readonly content = new SparseBytes(CHUNK);

  constructor(
    bytes: number,
    readonly readOnly = false,
  ) {
    this.sectors = Math.floor(bytes / SECTOR);
  }

  /** A disk with this content (copied), filled up to whole sectors. */
  static from(content: Uint8Array, readOnly = false): MemoryImage {
    const image = new MemoryImage(Math.ceil(content.length / SECTOR) * SECTOR, readOnly);
    image.content.write(0, content);
    return image;
  }

  read(sector: number, into: Uint8Array): void {
    this.content.read(sector * SECTOR, into);
  }
  write(sector: number, bytes: Uint8Array): void {
    this.content.write(sector * SECTOR, bytes);
  }
  flush(): void {}
  discard(sector: number, count: number): void {
    this.content.clear(sector * SECTOR, count * SECTOR);
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
    return this.content.stored;
  }
}
