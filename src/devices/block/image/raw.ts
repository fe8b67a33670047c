/** A raw image: the disk's bytes as they are. A last part of a sector, if the file has one, is no part of the disk. */
import type { ByteFile } from "./byte-file.js";
import { SECTOR, type BlockImage } from "./image.js";

/** What hosts' file systems free at a time. */
const HOLE = 4096;

export class RawImage implements BlockImage {
  readonly sectorSize = SECTOR;
  readonly sectors: number;
  readonly readOnly: boolean;
  readonly discardGranularity: number;

  constructor(
    private readonly file: ByteFile,
    size = file.size(),
  ) {
    this.sectors = Math.floor(size / SECTOR);
    this.readOnly = file.readOnly;
    this.discardGranularity = !file.readOnly && file.punch !== undefined ? HOLE : 0;
  }
  read(sector: number, into: Uint8Array): Promise<void> | void {
    return this.file.read(sector * SECTOR, into);
  }
  write(sector: number, bytes: Uint8Array): Promise<void> | void {
    return this.file.write(sector * SECTOR, bytes);
  }
  flush(): Promise<void> | void {
    return this.file.flush();
  }
  discard(sector: number, count: number): Promise<void> | void {
    return this.file.punch?.(sector * SECTOR, count * SECTOR);
  }
  close(): Promise<void> | void {
    return this.file.close();
  }
}
