/**
 * Reference counts of a qcow2 image's clusters, and where new clusters come from.
 *
 * Invariants:
 * - a count goes down only when no table on the medium refers to the cluster any more (the image calls `drop` then), so that a cluster is
 *   never given out again while a crash could bring back an older reference to it;
 * - a cluster that is given out has a count of one in memory at once; the file learns of it with the next commit, before any reference.
 */
import { ImageError, type ByteFile } from "../byte-file.js";
import { wait, type Steps } from "../steps.js";
import { putU64, u64, type Qcow2Header } from "./header.js";
import { Table } from "./table.js";

/** Bits below the offset in an entry of the reference count table are reserved. */
const RESERVED = 512;

export class Refcounts {
  /** One entry per block of counts: its place in the file, 0 where there is none. */
  private entries: Float64Array;
  private readonly blocks = new Map<number, Table>();
  private readonly places = new Set<number>();
  /** Entries that the file's table does not have. */
  readonly dirtyEntries = new Set<number>();
  /** The table moved: its old place, until the header says so. */
  moved: { readonly offset: number; readonly clusters: number } | null = null;
  /** No cluster below is free. */
  private cursor = 0;
  /** Clusters from here on were never written: they read as zeros. */
  end: number;
  readonly perBlock: number;
  private readonly bits: number;
  tableOffset: number;
  tableClusters: number;

  private constructor(
    private readonly file: ByteFile,
    private readonly header: Qcow2Header,
    /** Clusters that hold the image's own tables, by number: never given out, whatever the counts say. */
    private readonly guarded: (cluster: number) => boolean,
  ) {
    const { clusterBits, refcountOrder } = header;
    this.bits = 2 ** refcountOrder;
    this.perBlock = 2 ** (clusterBits + 3 - refcountOrder);
    this.tableOffset = header.refcountTableOffset;
    this.tableClusters = header.refcountTableClusters;
    this.entries = new Float64Array((this.tableClusters * this.cluster) / 8);
    this.end = Math.ceil(file.size() / this.cluster);
  }

  static *load(file: ByteFile, header: Qcow2Header, guarded: (cluster: number) => boolean): Steps<Refcounts> {
    const r = new Refcounts(file, header, guarded);
    const bytes = new Uint8Array(r.tableClusters * r.cluster);
    yield* wait(file.read(r.tableOffset, bytes));
    const v = new DataView(bytes.buffer);
    for (let i = 0; i < r.entries.length; i++) {
      const at = u64(v, i * 8, file.name);
      r.place(i, at - (at % RESERVED));
    }
    return r;
  }

  private get cluster(): number {
    return 2 ** this.header.clusterBits;
  }
  private damaged(why: string): ImageError {
    return new ImageError(`${this.file.name}: damaged: ${why} (see \`qemu-img check\`)`);
  }
  private place(index: number, at: number): void {
    this.entries[index] = at;
    if (at !== 0) this.places.add(at);
  }
  /** Are counts kept in this cluster? */
  isBlock(cluster: number): boolean {
    return this.places.has(cluster * this.cluster);
  }
  /** The place of a block; 0: none. */
  blockOffset(index: number): number {
    return this.entries[index] ?? 0;
  }

  *block(index: number): Steps<Table | null> {
    const known = this.blocks.get(index);
    if (known !== undefined) return known;
    const at = this.blockOffset(index);
    if (at === 0) return null;
    if (at % this.cluster !== 0) throw this.damaged("the place of a block of reference counts");
    const bytes = new Uint8Array(this.cluster);
    yield* wait(this.file.read(at, bytes));
    // Somebody else may have waited for the same block.
    const meanwhile = this.blocks.get(index);
    if (meanwhile !== undefined) return meanwhile;
    const table = new Table(at, bytes, false);
    this.blocks.set(index, table);
    return table;
  }

  private getCount(t: Table, i: number): number {
    switch (this.bits) {
      case 8:
        return t.bytes[i] as number;
      case 16:
        return t.view.getUint16(i * 2);
      case 32:
        return t.view.getUint32(i * 4);
      case 64:
        return t.view.getUint32(i * 8) * 2 ** 32 + t.view.getUint32(i * 8 + 4);
      default: {
        // Several counts in a byte: the first in its lowest bits.
        const shift = (i * this.bits) & 7;
        return ((t.bytes[(i * this.bits) >>> 3] as number) >>> shift) & ((1 << this.bits) - 1);
      }
    }
  }
  private setCount(t: Table, i: number, n: number): void {
    const at = (i * this.bits) / 8;
    t.touch(Math.floor(at));
    switch (this.bits) {
      case 8:
        t.bytes[i] = n;
        break;
      case 16:
        t.view.setUint16(at, n);
        break;
      case 32:
        t.view.setUint32(at, n);
        break;
      case 64:
        putU64(t.view, at, n);
        break;
      default: {
        const shift = (i * this.bits) & 7;
        const mask = ((1 << this.bits) - 1) << shift;
        const b = Math.floor(at);
        t.bytes[b] = ((t.bytes[b] as number) & ~mask) | (n << shift);
      }
    }
  }

  *count(cluster: number): Steps<number> {
    const block = yield* this.block(Math.floor(cluster / this.perBlock));
    return block === null ? 0 : this.getCount(block, cluster % this.perBlock);
  }

  /** A cluster of one's own; its number. */
  *allocate(): Steps<number> {
    for (let c = this.cursor; ; c++) {
      const index = Math.floor(c / this.perBlock);
      if (index >= this.entries.length) yield* this.grow(index);
      let block = yield* this.block(index);
      if (block === null) {
        if (this.guarded(c)) continue;
        // The counts of a range for which there are none yet are kept in its own first cluster.
        block = new Table(c * this.cluster, new Uint8Array(this.cluster), true);
        this.blocks.set(index, block);
        this.place(index, block.offset);
        this.dirtyEntries.add(index);
        this.setCount(block, c % this.perBlock, 1);
        this.used(c);
        continue;
      }
      if (this.getCount(block, c % this.perBlock) !== 0) continue;
      if (this.guarded(c)) throw this.damaged(`cluster ${c} holds a table and counts as free`);
      this.setCount(block, c % this.perBlock, 1);
      this.cursor = c + 1;
      return c;
    }
  }
  /** This cluster has been written (or is about to be). */
  used(cluster: number): void {
    this.end = Math.max(this.end, cluster + 1);
  }

  /** One reference less. True: nobody has it any more. */
  *drop(cluster: number): Steps<boolean> {
    const block = yield* this.block(Math.floor(cluster / this.perBlock));
    const i = cluster % this.perBlock;
    const n = block === null ? 0 : this.getCount(block, i);
    if (block === null || n === 0) throw this.damaged(`cluster ${cluster} is in use and counts as free`);
    this.setCount(block, i, n - 1);
    if (n > 1) return false;
    this.cursor = Math.min(this.cursor, cluster);
    return true;
  }

  /** A longer table, in a new place at the file's end, for a block of this index. The old one is good until the header is changed. */
  private *grow(index: number): Steps<void> {
    const perCluster = this.cluster / 8;
    const first = this.end;
    let clusters = Math.ceil(Math.max(index + 1, this.entries.length * 1.5) / perCluster);
    // It must reach over itself and its own new blocks of counts.
    while (Math.ceil((first + clusters * 2) / this.perBlock) + 1 > clusters * perCluster) clusters++;
    const bigger = new Float64Array(clusters * perCluster);
    bigger.set(this.entries);
    this.entries = bigger;
    const before = { offset: this.tableOffset, clusters: this.tableClusters };
    const never = this.moved === null ? null : before;
    this.moved ??= before;
    this.tableOffset = first * this.cluster;
    this.tableClusters = clusters;
    this.end = first + clusters;
    for (let c = first; c < first + clusters; c++) yield* this.claim(c);
    // One that was not used yet is free at once.
    if (never !== null) for (let i = 0; i < never.clusters; i++) yield* this.drop(never.offset / this.cluster + i);
  }
  /** Count a cluster that was taken without asking. */
  private *claim(cluster: number): Steps<void> {
    const index = Math.floor(cluster / this.perBlock);
    let block = yield* this.block(index);
    if (block === null) {
      const at = this.end++;
      block = new Table(at * this.cluster, new Uint8Array(this.cluster), true);
      this.blocks.set(index, block);
      this.place(index, block.offset);
      this.dirtyEntries.add(index);
      yield* this.claim(at);
    }
    this.setCount(block, cluster % this.perBlock, 1);
  }

  get isDirty(): boolean {
    if (this.dirtyEntries.size > 0 || this.moved !== null) return true;
    for (const b of this.blocks.values()) if (b.isDirty) return true;
    return false;
  }
  dirtyBlocks(): Table[] {
    return [...this.blocks.values()].filter((b) => b.isDirty);
  }
  /** The whole table as the file has it. */
  encode(): Uint8Array {
    const bytes = new Uint8Array(this.entries.length * 8);
    const v = new DataView(bytes.buffer);
    this.entries.forEach((at, i) => putU64(v, i * 8, at));
    return bytes;
  }
}
