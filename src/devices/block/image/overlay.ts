/**
 * A copy-on-write disk: reads come from the base until a sector is written; the base is never written and serves many overlays.
 *
 * What is written goes to the same place in `top` (any writable image of the size, sparse by nature), and a bitmap of a bit per sector says
 * what is there. For an overlay that lasts, `map` is an image that keeps the bitmap (`mapSectors` long): at a flush first the data, then
 * the bitmap are brought to the medium, so that a crash leaves a sector as it was before or after, never half-claimed.
 */
import { SECTOR, type BlockImage } from "./image.js";
import { MemoryImage } from "./memory.js";

const BITS = SECTOR * 8;

export class OverlayImage implements BlockImage {
  readonly readOnly = false;
  readonly sectors: number;
  readonly sectorSize: number;
  readonly discardGranularity: number;
  private readonly bits: Uint8Array;
  private readonly dirty = new Set<number>();

  private constructor(
    private readonly base: BlockImage,
    private readonly top: BlockImage,
    private readonly map: BlockImage | null,
    private readonly ownsBase = false,
  ) {
    this.sectors = base.sectors;
    this.sectorSize = base.sectorSize;
    this.discardGranularity = top.discardGranularity ?? 0;
    this.bits = new Uint8Array(OverlayImage.mapSectors(base.sectors) * SECTOR);
  }

  /** Sectors that the bitmap of a disk takes. */
  static mapSectors(sectors: number): number {
    return Math.ceil(sectors / BITS);
  }

  /** An overlay that lives as long as this process. */
  static inMemory(base: BlockImage, ownsBase = false): OverlayImage {
    return new OverlayImage(base, new MemoryImage(base.sectors * SECTOR), null, ownsBase);
  }

  /** An overlay in images; what `map` says is taken up again. */
  static async open(base: BlockImage, top: BlockImage, map: BlockImage): Promise<OverlayImage> {
    if (top.sectors < base.sectors || map.sectors < OverlayImage.mapSectors(base.sectors)) {
      throw new Error("the overlay is smaller than its base");
    }
    const o = new OverlayImage(base, top, map);
    await map.read(0, o.bits);
    return o;
  }

  private has(sector: number): boolean {
    return ((this.bits[sector >>> 3] as number) & (1 << (sector & 7))) !== 0;
  }
  private claim(sector: number, count: number): void {
    for (let s = sector; s < sector + count; s++) {
      if (this.has(s)) continue;
      this.bits[s >>> 3] |= 1 << (s & 7);
      if (this.map !== null) this.dirty.add(Math.floor(s / BITS));
    }
  }

  read(sector: number, into: Uint8Array): Promise<void> | void {
    const count = into.length / SECTOR;
    const waits: Promise<void>[] = [];
    for (let i = 0; i < count;) {
      const own = this.has(sector + i);
      let n = 1;
      while (i + n < count && this.has(sector + i + n) === own) n++;
      const part = into.subarray(i * SECTOR, (i + n) * SECTOR);
      const wait = (own ? this.top : this.base).read(sector + i, part);
      if (wait !== undefined) waits.push(wait);
      i += n;
    }
    if (waits.length > 0) return Promise.all(waits).then(() => {});
  }
  write(sector: number, bytes: Uint8Array): Promise<void> | void {
    // Claimed when it is there: a read meanwhile gets the old content.
    const count = bytes.length / SECTOR;
    const wait = this.top.write(sector, bytes);
    if (wait === undefined) this.claim(sector, count);
    else return wait.then(() => this.claim(sector, count));
  }
  flush(): Promise<void> | void {
    if (this.map === null) return this.top.flush();
    return this.flushMap(this.map);
  }
  private async flushMap(map: BlockImage): Promise<void> {
    const sectors = [...this.dirty];
    this.dirty.clear();
    // What is claimed later may not be on the medium with this flush: the bits are taken now.
    const parts = sectors.map((s) => this.bits.slice(s * SECTOR, (s + 1) * SECTOR));
    try {
      await this.top.flush();
      for (const [i, s] of sectors.entries()) await map.write(s, parts[i] as Uint8Array);
      await map.flush();
    } catch (e) {
      for (const s of sectors) this.dirty.add(s);
      throw e;
    }
  }
  discard(sector: number, count: number): Promise<void> | void {
    const wait = this.top.discard(sector, count);
    if (wait === undefined) this.claim(sector, count);
    else return wait.then(() => this.claim(sector, count));
  }
  /** Closes what is the overlay's own; the base is its owner's, unless it was given away. */
  async close(): Promise<void> {
    await this.flush();
    await this.map?.close();
    await this.top.close();
    if (this.ownsBase) await this.base.close();
  }

  /** Sectors that differ from the base (or were written at least). */
  get written(): number {
    let n = 0;
    for (const b of this.bits) for (let x = b; x !== 0; x &= x - 1) n++;
    return n;
  }
}
