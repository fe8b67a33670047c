/**
 * Disks of forked domains. The parent goes on writing its image in place (what it was told is on the medium is there); before it changes a sector,
 * the frozen views of that image keep the old content. Forks have overlays in memory over such a view.
 *
 * Invariants: a view's content never changes; a write of the parent begins when the old content is kept and no view is reading the image; an image
 * is closed when its domain is gone and no view needs it.
 */
import { after, type Wait } from "../devices/block/state.js";
import { MemoryImage, OverlayImage, SECTOR, type BlockImage } from "../devices/block/index.js";

/** The image of a domain that was forked, as its back end sees it from then on. */
export class ForkedImage implements BlockImage {
  readonly readOnly: boolean;
  readonly sectors: number;
  readonly sectorSize: number;
  readonly discardGranularity: number;
  private readonly views = new Set<FrozenView>();
  /** Reads of views in progress on the image, and who waits for their end. */
  private reading = 0;
  private waiting: (() => void)[] = [];
  private closing = false;
  private closed: (() => void)[] = [];
  /** Writes keep one after the other, so that no view takes new content for old. */
  private last: Promise<void> | null = null;

  constructor(private readonly image: BlockImage) {
    this.readOnly = image.readOnly;
    this.sectors = image.sectors;
    this.sectorSize = image.sectorSize;
    this.discardGranularity = image.discardGranularity ?? 0;
  }

  /** The content as it is now, for as long as the view is open. No request may be in flight. */
  freeze(): FrozenView {
    const view = new FrozenView(this);
    this.views.add(view);
    return view;
  }

  read(sector: number, into: Uint8Array): Wait {
    return this.image.read(sector, into);
  }
  write(sector: number, bytes: Uint8Array): Wait {
    return this.change(sector, bytes.length / SECTOR, () => this.image.write(sector, bytes));
  }
  discard(sector: number, count: number): Wait {
    return this.change(sector, count, () => this.image.discard(sector, count));
  }
  flush(): Wait {
    return this.image.flush();
  }
  /** The domain is gone: the image is closed with the last view. */
  close(): Promise<void> | void {
    this.closing = true;
    if (this.views.size === 0) return this.image.close();
    return new Promise((resolve) => this.closed.push(resolve));
  }

  private change(sector: number, count: number, write: () => Wait): Wait {
    if (this.views.size === 0 && this.last === null) return write();
    const work = (): Wait => after(this.preserve(sector, count), () => after(this.quiet(), write));
    const wait = this.last === null ? work() : this.last.then(work);
    if (wait === undefined) return;
    const mine: Promise<void> = wait.then(
      () => {
        if (this.last === mine) this.last = null;
      },
      () => {
        if (this.last === mine) this.last = null;
      },
    );
    this.last = mine;
    return wait;
  }
  /** Every view keeps what it has not kept yet of these sectors. */
  private preserve(sector: number, count: number): Wait {
    const takers = [...this.views].filter((v) => !v.keeps(sector, count));
    if (takers.length === 0) return;
    const old = new Uint8Array(count * SECTOR);
    return after(this.image.read(sector, old), () => {
      for (const v of takers) v.keep(sector, old);
    });
  }
  private quiet(): Wait {
    if (this.reading === 0) return;
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** @internal */
  readFor(sector: number, into: Uint8Array): Wait {
    const wait = this.image.read(sector, into);
    if (wait === undefined) return;
    this.reading++;
    const done = (): void => {
      if (--this.reading === 0) for (const f of this.waiting.splice(0)) f();
    };
    return wait.then(done, (e: unknown) => {
      done();
      throw e;
    });
  }
  /** @internal */
  async forget(view: FrozenView): Promise<void> {
    if (!this.views.delete(view) || this.views.size > 0 || !this.closing) return;
    await this.image.close();
    for (const f of this.closed.splice(0)) f();
  }
}

/** An image as it was at one moment. */
export class FrozenView implements BlockImage {
  readonly readOnly = true;
  readonly sectors: number;
  readonly sectorSize: number;
  private readonly kept: MemoryImage;
  private readonly bits: Uint8Array;
  private holders = 1;

  constructor(private readonly source: ForkedImage) {
    this.sectors = source.sectors;
    this.sectorSize = source.sectorSize;
    this.kept = new MemoryImage(source.sectors * SECTOR);
    this.bits = new Uint8Array(Math.ceil(source.sectors / 8));
  }
  private has(sector: number): boolean {
    return ((this.bits[sector >>> 3] as number) & (1 << (sector & 7))) !== 0;
  }
  /** @internal */
  keeps(sector: number, count: number): boolean {
    for (let s = sector; s < sector + count; s++) if (!this.has(s)) return false;
    return true;
  }
  /** @internal */
  keep(sector: number, old: Uint8Array): void {
    for (let i = 0; i < old.length / SECTOR; i++) {
      const s = sector + i;
      if (this.has(s)) continue;
      void this.kept.write(s, old.subarray(i * SECTOR, (i + 1) * SECTOR));
      this.bits[s >>> 3] = (this.bits[s >>> 3] as number) | (1 << (s & 7));
    }
  }

  read(sector: number, into: Uint8Array): Wait {
    const count = into.length / SECTOR;
    let wait: Wait = undefined;
    for (let i = 0; i < count;) {
      const own = this.has(sector + i);
      let n = 1;
      while (i + n < count && this.has(sector + i + n) === own) n++;
      const part = into.subarray(i * SECTOR, (i + n) * SECTOR);
      const at = sector + i;
      // All parts start now: what is not kept at this moment is still in the image, and no write begins meanwhile.
      const one = own ? this.kept.read(at, part) : this.source.readFor(at, part);
      if (one !== undefined) wait = wait === undefined ? one : Promise.all([wait, one]).then(() => {});
      i += n;
    }
    return wait;
  }
  write(): never {
    throw new Error("a frozen view cannot be written");
  }
  discard(): never {
    throw new Error("a frozen view cannot be written");
  }
  flush(): void {}

  /** It as a disk that is only read; closing it lets go of the view. */
  reader(): BlockImage {
    this.holders++;
    return {
      sectors: this.sectors,
      sectorSize: this.sectorSize,
      readOnly: true,
      read: (sector, into) => this.read(sector, into),
      write: () => this.write(),
      flush: () => {},
      discard: () => this.discard(),
      close: () => this.close(),
    };
  }
  /** A writable disk over it, in memory; closing it lets go of the view. */
  overlay(): BlockImage {
    this.holders++;
    const top = OverlayImage.inMemory(this);
    return {
      sectors: top.sectors,
      sectorSize: top.sectorSize,
      readOnly: false,
      discardGranularity: top.discardGranularity,
      read: (sector, into) => top.read(sector, into),
      write: (sector, bytes) => top.write(sector, bytes),
      flush: () => top.flush(),
      discard: (sector, count) => top.discard(sector, count),
      close: async () => {
        await top.close();
        await this.close();
      },
    };
  }
  /** A holder lets go. */
  async close(): Promise<void> {
    if (--this.holders === 0) await this.source.forget(this);
  }
}
