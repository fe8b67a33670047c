/**
 * qcow2 images, read and written: clusters are allocated as they are written, over an optional backing image that is never written; internal
 * snapshots stay as they are (what they share is copied before it is changed); compressed clusters are read.
 *
 * Order on the medium. Data goes to the file at once; L2 entries, reference counts and the L1 table are changed in memory and brought to
 * the file by `flush` in this order, each step safe on the medium before the next begins:
 *   1. data, reference counts, new L2 tables          nobody refers to them yet
 *   2. the reference count table (only where new blocks of counts came, or it moved)
 *   3. L2 entries and L1 entries                      what was acknowledged before the flush is there now
 *   4. only now the counts of clusters that were let go go down (no step waits for that): they may be given out again.
 * So a crash at any moment leaves what was flushed, and at worst clusters that are counted and not used (`leaks` of qemu-img check).
 */
import { ImageError, type ByteFile } from "../byte-file.js";
import { Commits } from "../commits.js";
import { SECTOR, type BlockImage } from "../image.js";
import { SharedLock } from "../lock.js";
import { run, wait, type Steps } from "../steps.js";
import { H, parseHeader, putU64, type Qcow2Header } from "./header.js";
import { Refcounts } from "./refcounts.js";
import { Table, takeDirty, type Patch } from "./table.js";

/** Unpack `bytes` (which may be followed by more) to exactly `size` bytes; throws where that cannot be. */
export type Decompress = (bytes: Uint8Array, size: number) => Uint8Array;

export interface Qcow2Options {
  readonly readOnly?: boolean;
  /** What the image stands on, where it names a backing file. It may be shorter or longer. */
  readonly backing?: BlockImage | undefined;
  /** Close the backing image with this one. */
  readonly ownsBacking?: boolean;
  readonly decompress?: { readonly deflate?: Decompress; readonly zstd?: Decompress };
}

/** Clean L2 tables kept. */
const CACHED_TABLES = 128;
/** Tables with changes that wait for a flush; with more, one is begun. */
const DIRTY_TABLES = 64;

/** Bits of an entry's upper half. */
const COPIED = 0x80000000;
const COMPRESSED = 0x40000000;
/** Bit of its lower half. */
const ZERO = 1;

interface Entry {
  readonly hi: number;
  readonly lo: number;
}
type Mapped =
  | { readonly kind: "none" }
  /** `offset` 0: nothing allocated behind it. */
  | { readonly kind: "zero"; readonly offset: number; readonly own: boolean }
  | { readonly kind: "data"; readonly offset: number; readonly own: boolean }
  | { readonly kind: "compressed"; readonly offset: number; readonly length: number };

/** What one commit brings to the medium, as it was at its beginning. */
interface Commit {
  /** Length the file must have. */
  readonly length: number;
  readonly first: Patch[];
  readonly second: Patch[];
  readonly moved: {
    readonly offset: number;
    readonly clusters: number;
    readonly old: { offset: number; clusters: number };
  } | null;
  readonly third: Patch[];
  readonly dropped: number[];
  /** Called when it failed: what was taken is dirty again. */
  readonly undo: () => void;
}

export class Qcow2Image implements BlockImage {
  readonly sectorSize = SECTOR;
  readonly sectors: number;
  readonly readOnly: boolean;
  readonly discardGranularity: number;
  readonly clusterSize: number;
  private readonly perTable: number;
  private readonly lock = new SharedLock();
  private readonly l1: DataView;
  private readonly dirtyL1 = new Set<number>();
  /** By their index in the L1 table; the oldest use first. */
  private readonly tables = new Map<number, Table>();
  private readonly tablePlaces = new Set<number>();
  private refcounts!: Refcounts;
  /** Clusters that nothing in memory refers to any more, while the medium may. */
  private dropped: number[] = [];
  private readonly commits = new Commits(() => this.commit());
  private unpacked: { readonly at: number; readonly bytes: Uint8Array } | null = null;
  private closed = false;

  private constructor(
    private readonly file: ByteFile,
    readonly header: Qcow2Header,
    l1: Uint8Array,
    private readonly options: Qcow2Options,
  ) {
    this.clusterSize = 2 ** header.clusterBits;
    this.perTable = this.clusterSize / 8;
    this.sectors = Math.floor(header.size / SECTOR);
    this.readOnly = options.readOnly === true || file.readOnly;
    this.discardGranularity = this.readOnly ? 0 : this.clusterSize;
    this.l1 = new DataView(l1.buffer, l1.byteOffset, l1.byteLength);
  }

  /** Read the header alone: what the image stands on, before it can be opened. */
  static header(file: ByteFile): Promise<Qcow2Header> | Qcow2Header {
    return run(readHeader(file));
  }

  static open(file: ByteFile, options: Qcow2Options = {}): Promise<Qcow2Image> | Qcow2Image {
    return run(Qcow2Image.opening(file, options));
  }
  private static *opening(file: ByteFile, options: Qcow2Options): Steps<Qcow2Image> {
    const header = yield* readHeader(file);
    if (header.backing !== undefined && options.backing === undefined)
      throw new ImageError(`${file.name}: its backing file ${header.backing.name} is not open`);
    const l1 = new Uint8Array(header.l1Size * 8);
    yield* wait(file.read(header.l1Offset, l1));
    const image = new Qcow2Image(file, header, l1, options);
    for (let i = 0; i < header.l1Size; i++) {
      const at = image.tableOffset(i);
      if (at !== 0) image.tablePlaces.add(at / image.clusterSize);
    }
    if (!image.readOnly) {
      image.refcounts = yield* Refcounts.load(file, header, (c) => image.guarded(c));
      if (header.autoclear) {
        // We do not keep up what these bits say is kept up (dirty bitmaps).
        yield* wait(file.write(H.autoclear_features, new Uint8Array(8)));
        yield* wait(file.flush());
      }
    }
    return image;
  }

  // --- tables ---------------------------------------------------------------------------------------------------------------

  private damaged(why: string): ImageError {
    return new ImageError(`${this.file.name}: damaged: ${why} (see \`qemu-img check\`)`);
  }
  /** The header, the L1 table and all tables and blocks that are referred to. */
  private guarded(cluster: number): boolean {
    const { header, clusterSize, refcounts } = this;
    const within = (at: number, bytes: number): boolean =>
      cluster >= Math.floor(at / clusterSize) && cluster < Math.ceil((at + bytes) / clusterSize);
    if (cluster === 0 || within(header.l1Offset, header.l1Size * 8)) return true;
    if (within(refcounts.tableOffset, refcounts.tableClusters * clusterSize)) return true;
    if (header.snapshots > 0 && cluster === Math.floor(header.snapshotsOffset / clusterSize)) return true;
    return this.tablePlaces.has(cluster) || refcounts.isBlock(cluster);
  }

  private tableOffset(index: number): number {
    const at = placeOf({ hi: this.l1.getUint32(index * 8), lo: this.l1.getUint32(index * 8 + 4) });
    if (at % this.clusterSize !== 0 || !Number.isSafeInteger(at + this.clusterSize))
      throw this.damaged("the place of an L2 table");
    return at;
  }

  /** The L2 table for reading; null: nothing of its range is allocated. */
  private *table(index: number): Steps<Table | null> {
    const known = this.tables.get(index);
    if (known !== undefined) {
      this.tables.delete(index);
      this.tables.set(index, known);
      return known;
    }
    const at = this.tableOffset(index);
    if (at === 0) return null;
    const bytes = new Uint8Array(this.clusterSize);
    yield* wait(this.file.read(at, bytes));
    // Another reader may have waited for the same table.
    const meanwhile = this.tables.get(index);
    if (meanwhile !== undefined) return meanwhile;
    const table = new Table(at, bytes, false);
    this.keep(index, table);
    return table;
  }
  private keep(index: number, table: Table): void {
    this.tables.set(index, table);
    if (this.tables.size <= CACHED_TABLES) return;
    for (const [i, t] of this.tables) {
      if (t.isDirty || t === table) continue;
      this.tables.delete(i);
      if (this.tables.size <= CACHED_TABLES) break;
    }
  }

  /** The L2 table for writing: our own, made or copied where it is not. */
  private *ownTable(index: number): Steps<Table> {
    const old = yield* this.table(index);
    if (old !== null && (this.l1.getUint32(index * 8) & COPIED) !== 0) return old;
    const cluster = yield* this.refcounts.allocate();
    this.refcounts.used(cluster);
    const bytes = old === null ? new Uint8Array(this.clusterSize) : old.bytes.slice();
    const table = new Table(cluster * this.clusterSize, bytes, true);
    if (old !== null) {
      this.dropped.push(old.offset / this.clusterSize);
      this.tablePlaces.delete(old.offset / this.clusterSize);
    }
    this.tablePlaces.add(cluster);
    const high = Math.floor(table.offset / 2 ** 32);
    this.l1.setUint32(index * 8, (COPIED | high) >>> 0);
    this.l1.setUint32(index * 8 + 4, table.offset >>> 0);
    this.dirtyL1.add(index);
    this.keep(index, table);
    return table;
  }

  private decode(e: Entry): Mapped {
    if ((e.hi & COMPRESSED) !== 0) {
      // The offset's width depends on the cluster's; the rest counts further sectors of 512 bytes.
      const offsetBits = 62 - (this.header.clusterBits - 8);
      const high = e.hi & 0x3fffffff;
      const offset = (high & (2 ** (offsetBits - 32) - 1)) * 2 ** 32 + e.lo;
      if (!Number.isSafeInteger(offset)) throw this.damaged("the place of a compressed cluster");
      const more = high >>> (offsetBits - 32);
      return { kind: "compressed", offset, length: (more + 1) * SECTOR - (offset % SECTOR) };
    }
    const offset = placeOf(e);
    const own = (e.hi & COPIED) !== 0;
    if (offset % this.clusterSize !== 0 || !Number.isSafeInteger(offset + this.clusterSize))
      throw this.damaged("the place of a cluster");
    if ((e.lo & ZERO) !== 0 && this.header.version === 3) return { kind: "zero", offset, own };
    return offset === 0 ? { kind: "none" } : { kind: "data", offset, own };
  }
  private entry(table: Table | null, i: number): Mapped {
    if (table === null) return { kind: "none" };
    return this.decode({ hi: table.view.getUint32(i * 8), lo: table.view.getUint32(i * 8 + 4) });
  }
  /** May the guest's data go there? A damaged entry must not lead into the image's own tables. */
  private writable(m: Mapped): boolean {
    if (m.kind !== "data" || !m.own) return false;
    if (this.guarded(m.offset / this.clusterSize)) throw this.damaged("a cluster of data in the place of a table");
    return true;
  }
  private setEntry(table: Table, i: number, offset: number, flags: { copied: boolean; zero: boolean }): void {
    table.view.setUint32(i * 8, ((flags.copied ? COPIED : 0) | Math.floor(offset / 2 ** 32)) >>> 0);
    table.view.setUint32(i * 8 + 4, ((offset >>> 0) | (flags.zero ? ZERO : 0)) >>> 0);
    table.touch(i * 8);
  }
  /** Nothing refers to these bytes of the file any more. */
  private release(m: Mapped): void {
    if (m.kind === "none") return;
    if (m.kind !== "compressed") {
      if (m.offset !== 0) this.dropped.push(m.offset / this.clusterSize);
      return;
    }
    // A compressed cluster counts once in each cluster of the file that it touches.
    const last = Math.floor((m.offset + m.length - 1) / this.clusterSize);
    for (let c = Math.floor(m.offset / this.clusterSize); c <= last; c++) this.dropped.push(c);
  }

  // --- reading --------------------------------------------------------------------------------------------------------------

  read(sector: number, into: Uint8Array): Promise<void> | void {
    return this.lock.shared(() => this.reading(sector * SECTOR, into));
  }
  private *reading(start: number, into: Uint8Array): Steps<void> {
    const { clusterSize: size } = this;
    const waits: Promise<void>[] = [];
    for (let done = 0; done < into.length;) {
      const at = start + done;
      const cluster = Math.floor(at / size);
      const table = yield* this.table(Math.floor(cluster / this.perTable));
      const first = this.entry(table, cluster % this.perTable);
      // Neighbours of the same kind are one run, where the file has them side by side.
      let n = Math.min(into.length - done, size - (at % size));
      for (let c = cluster + 1; done + n < into.length && c % this.perTable !== 0; c++) {
        if (!follows(first, this.entry(table, c % this.perTable), (c - cluster) * size)) break;
        n += Math.min(into.length - done - n, size);
      }
      const part = into.subarray(done, done + n);
      const w = yield* this.readRun(first, at, part);
      if (w !== undefined) waits.push(w);
      done += n;
    }
    if (waits.length > 0) yield* wait(Promise.all(waits));
  }
  private *readRun(m: Mapped, at: number, into: Uint8Array): Steps<Promise<void> | undefined> {
    switch (m.kind) {
      case "zero":
        into.fill(0);
        return undefined;
      case "none":
        return this.readBacking(at, into) ?? undefined;
      case "data":
        return this.file.read(m.offset + (at % this.clusterSize), into) ?? undefined;
      case "compressed": {
        const bytes = yield* this.unpack(m.offset, m.length);
        into.set(bytes.subarray(at % this.clusterSize, (at % this.clusterSize) + into.length));
        return undefined;
      }
    }
  }
  /** From the backing image, or zeros beyond its end. */
  private readBacking(at: number, into: Uint8Array): Promise<void> | void {
    const { backing } = this.options;
    const have = backing === undefined ? 0 : Math.max(0, Math.min(into.length, backing.sectors * SECTOR - at));
    into.fill(0, have);
    if (backing !== undefined && have > 0) return backing.read(at / SECTOR, into.subarray(0, have));
  }
  private *unpack(offset: number, length: number): Steps<Uint8Array> {
    if (this.unpacked?.at === offset) return this.unpacked.bytes;
    const { compression } = this.header;
    const unpack = this.options.decompress?.[compression];
    if (unpack === undefined) throw new ImageError(`${this.file.name}: no decompressor for ${compression} here`);
    const packed = new Uint8Array(length);
    yield* wait(this.file.read(offset, packed));
    let bytes: Uint8Array;
    try {
      bytes = unpack(packed, this.clusterSize);
    } catch {
      throw this.damaged("a compressed cluster");
    }
    if (bytes.length !== this.clusterSize) throw this.damaged("a compressed cluster");
    this.unpacked = { at: offset, bytes };
    return bytes;
  }

  // --- writing --------------------------------------------------------------------------------------------------------------

  write(sector: number, bytes: Uint8Array): Promise<void> | void {
    if (this.readOnly) throw new ImageError(`${this.file.name}: read-only`);
    return this.lock.alone(() => this.writing(sector * SECTOR, bytes));
  }
  private *writing(start: number, bytes: Uint8Array): Steps<void> {
    const { clusterSize: size } = this;
    for (let done = 0; done < bytes.length;) {
      const at = start + done;
      const cluster = Math.floor(at / size);
      const index = Math.floor(cluster / this.perTable);
      const first = this.entry(yield* this.table(index), cluster % this.perTable);
      let n = Math.min(bytes.length - done, size - (at % size));
      if (first.kind === "data" && this.writable(first)) {
        const table = yield* this.table(index);
        for (let c = cluster + 1; done + n < bytes.length && c % this.perTable !== 0; c++) {
          const next = this.entry(table, c % this.perTable);
          if (!follows(first, next, (c - cluster) * size) || !this.writable(next)) break;
          n += Math.min(bytes.length - done - n, size);
        }
        yield* wait(this.file.write(first.offset + (at % size), bytes.subarray(done, done + n)));
      } else {
        yield* this.writeNew(index, cluster, first, at % size, bytes.subarray(done, done + n));
      }
      done += n;
    }
    this.limitDirty();
  }

  /** Into a cluster that is not ours to write in place: a new one takes the whole of it. */
  private *writeNew(index: number, cluster: number, m: Mapped, within: number, bytes: Uint8Array): Steps<void> {
    const { clusterSize: size } = this;
    const table = yield* this.ownTable(index);
    const i = cluster % this.perTable;
    // Allocated and reading as zeros: its content counts for nothing, so it can be filled in place.
    const reuse = m.kind === "zero" && m.own && m.offset !== 0;
    if (reuse && this.guarded(m.offset / size)) throw this.damaged("a cluster of data in the place of a table");
    const target = reuse ? m.offset / size : yield* this.refcounts.allocate();
    const virgin = !reuse && target >= this.refcounts.end;
    const base = m.kind === "none" ? (this.options.backing?.sectors ?? 0) * SECTOR > cluster * size : m.kind !== "zero";
    this.refcounts.used(target);
    try {
      if (bytes.length === size || (virgin && !base)) {
        yield* wait(this.file.write(target * size + within, bytes));
      } else {
        const whole = new Uint8Array(size);
        if (base) {
          const end = Math.min(size, this.header.size - cluster * size);
          const w = yield* this.readRun(m, cluster * size, whole.subarray(0, Math.ceil(end / SECTOR) * SECTOR));
          if (w !== undefined) yield* wait(w);
        }
        whole.set(bytes, within);
        yield* wait(this.file.write(target * size, whole));
      }
    } catch (e) {
      if (!reuse) yield* this.refcounts.drop(target);
      throw e;
    }
    if (!reuse) this.release(m);
    this.setEntry(table, i, target * size, { copied: true, zero: false });
  }

  discard(sector: number, count: number): Promise<void> | void {
    if (this.readOnly) throw new ImageError(`${this.file.name}: read-only`);
    return this.lock.alone(() => this.discarding(sector * SECTOR, count * SECTOR));
  }
  private *discarding(start: number, length: number): Steps<void> {
    const { clusterSize: size } = this;
    // Whole clusters only; the last one of the disk is whole when the disk ends in it.
    const end =
      start + length >= this.sectors * SECTOR
        ? Math.ceil((start + length) / size)
        : Math.floor((start + length) / size);
    for (let cluster = Math.ceil(start / size); cluster < end; cluster++) {
      const index = Math.floor(cluster / this.perTable);
      const i = cluster % this.perTable;
      const known = yield* this.table(index);
      const m = this.entry(known, i);
      const overBase = (this.options.backing?.sectors ?? 0) * SECTOR > cluster * size;
      // Version 2 has no way to hide the backing image again.
      if (overBase && this.header.version === 2) continue;
      if (m.kind === "none" && !overBase) {
        if (known === null) cluster += this.perTable - 1 - i;
        continue;
      }
      if (m.kind === "zero" && m.offset === 0) continue;
      const table = yield* this.ownTable(index);
      this.release(m);
      this.setEntry(table, i, 0, { copied: false, zero: overBase });
    }
    this.limitDirty();
  }

  // --- to the medium --------------------------------------------------------------------------------------------------------

  flush(): Promise<void> | void {
    if (!this.readOnly) return this.commits.flush();
  }
  /** Changes that only wait in memory cost memory: bring them out when there are many. */
  private limitDirty(): void {
    if (this.commits.busy) return;
    let dirty = 0;
    for (const t of this.tables.values()) if (t.isDirty) dirty++;
    if (dirty <= DIRTY_TABLES) return;
    const w = this.flush();
    // What failed is dirty still, and fails the next flush.
    if (w !== undefined) w.catch(() => {});
  }

  private takeCommit(): Commit {
    const { refcounts: r, header } = this;
    const undo: (() => void)[] = [];
    const take = (table: Table): Patch[] => {
      const wasFresh = table.fresh;
      const sectors = [...table.dirty];
      undo.push(() => {
        table.fresh ||= wasFresh;
        for (const s of sectors) table.dirty.add(s);
      });
      return takeDirty(table);
    };
    const first: Patch[] = [];
    const third: Patch[] = [];
    for (const b of r.dirtyBlocks()) first.push(...take(b));
    for (const t of this.tables.values()) {
      if (t.fresh) first.push(...take(t));
      else if (t.isDirty) third.push(...take(t));
    }
    const entries = [...r.dirtyEntries];
    const old = r.moved;
    r.dirtyEntries.clear();
    r.moved = null;
    undo.push(() => {
      for (const e of entries) r.dirtyEntries.add(e);
      r.moved ??= old;
    });
    const second: Patch[] = [];
    if (old !== null) second.push({ at: r.tableOffset, bytes: r.encode() });
    else
      for (const e of entries) {
        const bytes = new Uint8Array(8);
        putU64(new DataView(bytes.buffer), 0, r.blockOffset(e));
        second.push({ at: r.tableOffset + e * 8, bytes });
      }
    const l1 = [...this.dirtyL1];
    this.dirtyL1.clear();
    undo.push(() => {
      for (const i of l1) this.dirtyL1.add(i);
    });
    for (const i of l1) {
      const at = this.l1.byteOffset + i * 8;
      third.push({
        at: header.l1Offset + i * 8,
        bytes: new Uint8Array(this.l1.buffer.slice(at, at + 8) as ArrayBuffer),
      });
    }
    const { dropped } = this;
    this.dropped = [];
    undo.push(() => (this.dropped = [...dropped, ...this.dropped]));
    return {
      length: r.end * this.clusterSize,
      first,
      second,
      moved: old === null ? null : { offset: r.tableOffset, clusters: r.tableClusters, old },
      third,
      dropped,
      undo: () => undo.forEach((fn) => fn()),
    };
  }

  private *commit(): Steps<void> {
    const c = this.takeCommit();
    try {
      if (this.file.size() < c.length) yield* wait(this.file.grow(c.length));
      yield* this.apply(c.first);
      yield* wait(this.file.flush());
      if (c.second.length > 0) {
        yield* this.apply(c.second);
        yield* wait(this.file.flush());
      }
      if (c.moved !== null) {
        const field = new Uint8Array(12);
        const v = new DataView(field.buffer);
        putU64(v, 0, c.moved.offset);
        v.setUint32(8, c.moved.clusters);
        yield* wait(this.file.write(H.refcount_table_offset, field));
        yield* wait(this.file.flush());
      }
      if (c.third.length > 0) {
        yield* this.apply(c.third);
        yield* wait(this.file.flush());
      }
    } catch (e) {
      c.undo();
      throw e;
    }
    yield* this.drop(c);
    // Nothing waits in memory after a flush but what was changed meanwhile: another process may open the file now (a migration).
    for (const b of this.refcounts.dirtyBlocks()) if (!b.fresh) yield* this.applyLate(b);
  }
  private *applyLate(block: Table): Steps<void> {
    const patches = takeDirty(block);
    try {
      yield* this.apply(patches);
    } catch {
      // The next flush tries again, and says so.
      for (const p of patches)
        for (let at = 0; at < p.bytes.length; at += SECTOR) block.touch(p.at - block.offset + at);
    }
  }
  private *apply(patches: readonly Patch[]): Steps<void> {
    for (const p of patches) yield* wait(this.file.write(p.at, p.bytes));
  }
  /** Nothing on the medium refers to these any more. */
  private *drop(c: Commit): Steps<void> {
    const { clusterSize: size, file } = this;
    const clusters = [...c.dropped];
    if (c.moved !== null) for (let i = 0; i < c.moved.old.clusters; i++) clusters.push(c.moved.old.offset / size + i);
    for (let i = 0; i < clusters.length;) {
      const first = clusters[i] as number;
      let n = 0;
      while (clusters[i + n] === first + n && (yield* this.refcounts.count(first + n)) === 1) n++;
      // A hole before others may have the cluster; a host that cannot make one keeps the bytes.
      if (n > 0 && file.punch !== undefined) yield* this.punch(first * size, n * size);
      for (let j = 0; j < Math.max(1, n); j++) yield* this.refcounts.drop(first + j);
      i += Math.max(1, n);
    }
  }
  private *punch(at: number, length: number): Steps<void> {
    try {
      yield* wait(this.file.punch?.(at, length));
    } catch {
      // The space stays taken; the cluster is filled anew before anybody reads it.
    }
  }

  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    try {
      if (!this.readOnly) {
        await this.flush();
        // The counts that went down with it.
        if (this.refcounts.isDirty) await this.flush();
      }
    } finally {
      await this.file.close();
      if (this.options.ownsBacking === true) await this.options.backing?.close();
    }
  }
}

function placeOf(e: Entry): number {
  return (e.hi & 0x00ffffff) * 2 ** 32 + ((e.lo & 0xfffffe00) >>> 0);
}

/** May a run that begins with `first` go on with `next`, `bytes` later? */
function follows(first: Mapped, next: Mapped, bytes: number): boolean {
  if (first.kind !== next.kind || first.kind === "compressed") return false;
  if (first.kind === "data" && next.kind === "data") return next.offset === first.offset + bytes;
  return true;
}

const LARGEST_CLUSTER = 2 ** 21;

function* readHeader(file: ByteFile): Steps<Qcow2Header> {
  // Header, extensions and the backing file's name are in the first cluster.
  const start = new Uint8Array(Math.min(LARGEST_CLUSTER, file.size()));
  yield* wait(file.read(0, start));
  return parseHeader(start, file.name);
}
