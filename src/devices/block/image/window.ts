/** A run of sectors of another image as an image of its own. */
import type { BlockImage } from "./image.js";

export class WindowImage implements BlockImage {
  readonly sectorSize: number;
  readonly readOnly: boolean;
  readonly discardGranularity: number;
  constructor(
    private readonly whole: BlockImage,
    private readonly start: number,
    readonly sectors: number,
    /** Close the whole with this part. */
    private readonly owns = false,
  ) {
    if (start + sectors > whole.sectors) throw new Error("a window beyond the image's end");
    this.sectorSize = whole.sectorSize;
    this.readOnly = whole.readOnly;
    this.discardGranularity = whole.discardGranularity ?? 0;
  }
  read(sector: number, into: Uint8Array): Promise<void> | void {
    return this.whole.read(this.start + sector, into);
  }
  write(sector: number, bytes: Uint8Array): Promise<void> | void {
    return this.whole.write(this.start + sector, bytes);
  }
  flush(): Promise<void> | void {
    return this.whole.flush();
  }
  discard(sector: number, count: number): Promise<void> | void {
    return this.whole.discard(this.start + sector, count);
  }
  close(): Promise<void> | void {
    if (this.owns) return this.whole.close();
  }
}
