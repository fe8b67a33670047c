/**
 * VHD images, read and written: fixed, dynamic (blocks come as they are written) and differencing (a sector that is not there is its
 * parent's, which is never written).
 *
 * Order on the medium: a new block, its bitmap and the footer behind it first, then the entry that refers to it and the bits of sectors in
 * blocks that were there; each step is safe before the next. The copy of the footer at the file's start is always good, so that an image
 * whose last footer a crash has cut off is whole. Blocks are never given back: the format has no place to note it.
 */
import { ImageError, type ByteFile } from "../byte-file.js";
import { Commits } from "../commits.js";
import { SECTOR, type BlockImage } from "../image.js";
import { SharedLock } from "../lock.js";
import { RawImage } from "../raw.js";
import { run, wait, type Steps } from "../steps.js";
import {
  DIFFERENCING,
  FIXED,
  FOOTER_SIZE,
  HEADER_SIZE,
  isVhdFooter,
  locatorPath,
  parseFooter,
  parseSparseHeader,
  UNUSED,
  W2KU,
  W2RU,
  type Footer,
  type SparseHeader,
} from "./format.js";

export interface VhdFacts {
  readonly footer: Footer;
  readonly header: SparseHeader | null;
  /** Differencing: where the parent may be, the likeliest first (relative to the image, with slashes). */
  readonly parents: readonly string[];
}

export interface VhdOptions {
  readonly readOnly?: boolean;
  /** What a differencing image stands on, and its identifier (it must be the one the image names). */
  readonly parent?: { readonly image: BlockImage; readonly uuid: string } | undefined;
  readonly ownsParent?: boolean;
}

interface Bitmap {
  readonly bits: Uint8Array;
  dirty: boolean;
  /** The block has no entry on the medium yet. */
  fresh: boolean;
}

const CACHED_BITMAPS = 4096;

/** What an image says of itself, before it can be opened. */
export function vhdFacts(file: ByteFile): Promise<VhdFacts> | VhdFacts {
  return run(readFacts(file));
}

function* readFacts(file: ByteFile): Steps<VhdFacts> {
  const size = file.size();
  const at = function* (offset: number, length: number): Steps<Uint8Array> {
    const b = new Uint8Array(length);
    yield* wait(file.read(offset, b));
    return b;
  };
  const start = yield* at(0, FOOTER_SIZE);
  const startSays = parseFooter(start, file.name);
  const end = size < FOOTER_SIZE ? null : yield* at(size - FOOTER_SIZE, FOOTER_SIZE);
  const endSays = end === null ? null : parseFooter(end, file.name);
  // A fixed image may hold another's bytes: only a sparse one has its copy in front.
  const footer = startSays !== null && startSays.type !== FIXED ? startSays : endSays;
  if (footer === null) {
    const damaged = isVhdFooter(start) || (end !== null && isVhdFooter(end));
    throw new ImageError(`${file.name}: ${damaged ? "damaged: the footer's checksum" : "not a VHD image"}`);
  }
  if (footer.type === FIXED) {
    if (footer.size > size - FOOTER_SIZE) throw new ImageError(`${file.name}: damaged: shorter than its disk`);
    return { footer, header: null, parents: [] };
  }
  const header = parseSparseHeader(yield* at(footer.dataOffset, HEADER_SIZE), file.name);
  if (header.entries * header.blockSize < footer.size)
    throw new ImageError(`${file.name}: damaged: the block allocation table is too short`);
  const parents: string[] = [];
  if (footer.type === DIFFERENCING) {
    // Relative ones first: images are moved together.
    const rank = (code: number): number => (code === W2RU ? 0 : code === W2KU ? 2 : 1);
    for (const l of [...header.locators].sort((a, b) => rank(a.code) - rank(b.code))) {
      const path = locatorPath(l.code, yield* at(l.offset, l.length));
      if (path !== null && path !== "") parents.push(path);
    }
    if (header.parentName !== "") parents.push(header.parentName.replaceAll("\\", "/"));
  }
  return { footer, header, parents };
}

export class VhdImage implements BlockImage {
  readonly sectorSize = SECTOR;
  readonly sectors: number;
  readonly readOnly: boolean;
  private readonly lock = new SharedLock();
  private readonly commits = new Commits(() => this.commit());
  private readonly table: DataView;
  /** Sectors of the table that the file does not have. */
  private readonly dirtyTable = new Set<number>();
  private readonly bitmaps = new Map<number, Bitmap>();
  private readonly bitmapBytes: number;
  private readonly perBlock: number;
  /** Where the next block goes: behind all that is used. */
  private next: number;
  /** Blocks are behind the image's own tables. */
  private readonly firstBlock: number;
  private footerMoved = false;
  private closed = false;

  private constructor(
    private readonly file: ByteFile,
    readonly facts: VhdFacts,
    private readonly header: SparseHeader,
    private readonly footer: Uint8Array,
    table: Uint8Array,
    private readonly options: VhdOptions,
  ) {
    this.sectors = facts.footer.size / SECTOR;
    this.readOnly = options.readOnly === true || file.readOnly;
    this.table = new DataView(table.buffer);
    this.perBlock = header.blockSize / SECTOR;
    this.bitmapBytes = Math.ceil(this.perBlock / 8 / SECTOR) * SECTOR;
    const blockBytes = this.bitmapBytes + header.blockSize;
    let next = Math.max(facts.footer.dataOffset + HEADER_SIZE, header.tableOffset + table.length);
    for (const l of header.locators) next = Math.max(next, l.offset + Math.ceil(l.length / SECTOR) * SECTOR);
    this.firstBlock = next;
    for (let i = 0; i < header.entries; i++) {
      const at = this.table.getUint32(i * 4);
      if (at !== UNUSED) next = Math.max(next, at * SECTOR + blockBytes);
    }
    this.next = Math.ceil(next / SECTOR) * SECTOR;
  }

  static open(file: ByteFile, options: VhdOptions = {}): Promise<BlockImage> | BlockImage {
    return run(VhdImage.opening(file, options));
  }
  private static *opening(file: ByteFile, options: VhdOptions): Steps<BlockImage> {
    const facts = yield* readFacts(file);
    const { header } = facts;
    if (header === null) return new RawImage(file, facts.footer.size);
    if (facts.footer.type === DIFFERENCING) {
      if (options.parent === undefined) throw new ImageError(`${file.name}: its parent is not open`);
      if (options.parent.uuid !== header.parentUuid)
        throw new ImageError(`${file.name}: its parent is another one (identifiers differ)`);
    }
    const table = new Uint8Array(Math.ceil((header.entries * 4) / SECTOR) * SECTOR);
    yield* wait(file.read(header.tableOffset, table));
    const footer = new Uint8Array(FOOTER_SIZE);
    yield* wait(file.read(0, footer));
    const image = new VhdImage(file, facts, header, footer, table, options);
    // Something behind the last block that is not the footer (another program's tables): blocks come after it.
    const tail = new Uint8Array(FOOTER_SIZE);
    const end = Math.max(0, file.size() - FOOTER_SIZE);
    yield* wait(file.read(end, tail));
    if (isVhdFooter(tail)) image.next = Math.max(image.next, Math.ceil(end / SECTOR) * SECTOR);
    return image;
  }

  private damaged(why: string): ImageError {
    return new ImageError(`${this.file.name}: damaged: ${why}`);
  }
  /** Place of a block in the file, −1 where there is none. */
  private place(block: number): number {
    const at = this.table.getUint32(block * 4);
    if (at === UNUSED) return -1;
    if (at * SECTOR < this.firstBlock) throw this.damaged(`the place of block ${block}`);
    return at * SECTOR;
  }
  private *bitmap(block: number): Steps<Bitmap> {
    const known = this.bitmaps.get(block);
    if (known !== undefined) return known;
    const bits = new Uint8Array(this.bitmapBytes);
    yield* wait(this.file.read(this.place(block), bits));
    const meanwhile = this.bitmaps.get(block);
    if (meanwhile !== undefined) return meanwhile;
    const b = { bits, dirty: false, fresh: false };
    this.bitmaps.set(block, b);
    if (this.bitmaps.size > CACHED_BITMAPS)
      for (const [i, old] of this.bitmaps) {
        if (old === b || old.dirty || old.fresh) continue;
        this.bitmaps.delete(i);
        break;
      }
    return b;
  }

  read(sector: number, into: Uint8Array): Promise<void> | void {
    return this.lock.shared(() => this.reading(sector, into));
  }
  private *reading(start: number, into: Uint8Array): Steps<void> {
    const count = into.length / SECTOR;
    const waits: Promise<void>[] = [];
    for (let done = 0; done < count;) {
      const sector = start + done;
      const block = Math.floor(sector / this.perBlock);
      const within = sector % this.perBlock;
      let n = Math.min(count - done, this.perBlock - within);
      const place = this.place(block);
      let own = false;
      if (place >= 0) {
        const { bits } = yield* this.bitmap(block);
        own = bitOf(bits, within);
        let same = 1;
        while (same < n && bitOf(bits, within + same) === own) same++;
        n = same;
      }
      const part = into.subarray(done * SECTOR, (done + n) * SECTOR);
      const w = own ? this.file.read(place + this.bitmapBytes + within * SECTOR, part) : this.readParent(sector, part);
      if (w !== undefined) waits.push(w);
      done += n;
    }
    if (waits.length > 0) yield* wait(Promise.all(waits));
  }
  private readParent(sector: number, into: Uint8Array): Promise<void> | void {
    const parent = this.options.parent?.image;
    const have = parent === undefined ? 0 : Math.max(0, Math.min(into.length, (parent.sectors - sector) * SECTOR));
    into.fill(0, have);
    if (parent !== undefined && have > 0) return parent.read(sector, into.subarray(0, have));
  }

  write(sector: number, bytes: Uint8Array): Promise<void> | void {
    if (this.readOnly) throw new ImageError(`${this.file.name}: read-only`);
    return this.lock.alone(() => this.writing(sector, bytes));
  }
  private *writing(start: number, bytes: Uint8Array): Steps<void> {
    const count = bytes.length / SECTOR;
    for (let done = 0; done < count;) {
      const sector = start + done;
      const block = Math.floor(sector / this.perBlock);
      const within = sector % this.perBlock;
      const n = Math.min(count - done, this.perBlock - within);
      if (this.place(block) < 0) yield* this.allocate(block);
      const b = yield* this.bitmap(block);
      const part = bytes.subarray(done * SECTOR, (done + n) * SECTOR);
      yield* wait(this.file.write(this.place(block) + this.bitmapBytes + within * SECTOR, part));
      for (let s = within; s < within + n; s++) {
        if (bitOf(b.bits, s)) continue;
        b.bits[s >>> 3] |= 0x80 >>> (s & 7);
        b.dirty = true;
      }
      done += n;
    }
  }
  private *allocate(block: number): Steps<void> {
    const at = this.next;
    const bytes = this.bitmapBytes + this.header.blockSize;
    // What is there (the old footer, or what a crash has left) must not be taken for content by those who do not look at bitmaps.
    const stale = Math.min(this.file.size() - at, bytes);
    if (stale > 0) yield* wait(this.file.write(at, new Uint8Array(stale)));
    if (at / SECTOR >= UNUSED) throw new ImageError(`${this.file.name}: the image cannot grow further`);
    // A dynamic image has all of a block it has; a differencing one only what was written.
    const bits = new Uint8Array(this.bitmapBytes).fill(this.facts.footer.type === DIFFERENCING ? 0 : 0xff);
    this.bitmaps.set(block, { bits, dirty: true, fresh: true });
    this.next = at + bytes;
    this.footerMoved = true;
    this.table.setUint32(block * 4, at / SECTOR);
    this.dirtyTable.add(Math.floor((block * 4) / SECTOR));
  }

  flush(): Promise<void> | void {
    if (!this.readOnly) return this.commits.flush();
  }
  private *commit(): Steps<void> {
    const { file, header } = this;
    const first: { at: number; bytes: Uint8Array }[] = [];
    const second: { at: number; bytes: Uint8Array }[] = [];
    const undo: (() => void)[] = [];
    for (const [block, b] of this.bitmaps) {
      if (!b.dirty) continue;
      (b.fresh ? first : second).push({ at: this.place(block), bytes: b.bits.slice() });
      const { fresh } = b;
      undo.push(() => ((b.dirty = true), (b.fresh ||= fresh)));
      b.dirty = b.fresh = false;
    }
    if (this.footerMoved) {
      first.push({ at: this.next, bytes: this.footer });
      undo.push(() => (this.footerMoved = true));
      this.footerMoved = false;
    }
    for (const s of this.dirtyTable) {
      const bytes = new Uint8Array(this.table.buffer.slice(s * SECTOR, (s + 1) * SECTOR) as ArrayBuffer);
      second.push({ at: header.tableOffset + s * SECTOR, bytes });
      undo.push(() => this.dirtyTable.add(s));
    }
    this.dirtyTable.clear();
    try {
      for (const p of first) yield* wait(file.write(p.at, p.bytes));
      yield* wait(file.flush());
      if (second.length === 0) return;
      for (const p of second) yield* wait(file.write(p.at, p.bytes));
      yield* wait(file.flush());
    } catch (e) {
      for (const fn of undo) fn();
      throw e;
    }
  }
  discard(): void {}

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    try {
      await this.flush();
    } finally {
      await this.file.close();
      if (this.options.ownsParent === true) await this.options.parent?.image.close();
    }
  }
}

const bitOf = (bits: Uint8Array, i: number): boolean => ((bits[i >>> 3] as number) & (0x80 >>> (i & 7))) !== 0;
