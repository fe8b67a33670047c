/**
 * Is a qcow2 image sound? Walks all that refers to clusters and compares with the reference counts, as `qemu-img check` does. Internal
 * snapshots are counted too.
 */
import { ImageError, type ByteFile } from "../byte-file.js";
import { run, wait, type Steps } from "../steps.js";
import { parseHeader, u64 } from "./header.js";
import { Refcounts } from "./refcounts.js";

export interface Qcow2Check {
  /** Clusters that are counted and not used: space that is lost, nothing else. */
  readonly leaks: number;
  /** One line for each thing that is wrong. */
  readonly errors: readonly string[];
  /** Clusters of the file in use. */
  readonly used: number;
}

export function checkQcow2(file: ByteFile): Promise<Qcow2Check> | Qcow2Check {
  return run(checking(file));
}

function* checking(file: ByteFile): Steps<Qcow2Check> {
  const start = new Uint8Array(Math.min(2 ** 21, file.size()));
  yield* wait(file.read(0, start));
  const h = parseHeader(start, file.name);
  const cluster = 2 ** h.clusterBits;
  const perTable = cluster / 8;
  const refs = new Map<number, number>();
  const errors: string[] = [];
  const refer = (at: number, bytes: number): void => {
    for (let c = Math.floor(at / cluster); c <= Math.floor((at + bytes - 1) / cluster); c++)
      refs.set(c, (refs.get(c) ?? 0) + 1);
  };
  const load = function* (at: number, bytes: number): Steps<DataView> {
    const b = new Uint8Array(bytes);
    yield* wait(file.read(at, b));
    return new DataView(b.buffer);
  };
  const offset = (v: DataView, i: number): number =>
    (v.getUint32(i * 8) & 0x00ffffff) * 2 ** 32 + ((v.getUint32(i * 8 + 4) & 0xfffffe00) >>> 0);

  refer(0, 1);
  refer(h.refcountTableOffset, h.refcountTableClusters * cluster);
  /** COPIED entries of the active tables: their clusters must count one. */
  const copied = new Map<number, boolean>();
  const walk = function* (l1Offset: number, l1Size: number, active: boolean): Steps<void> {
    if (l1Size > 0) refer(l1Offset, l1Size * 8);
    const l1 = yield* load(l1Offset, l1Size * 8);
    for (let i = 0; i < l1Size; i++) {
      const at = offset(l1, i);
      if (at === 0) continue;
      if (at % cluster !== 0) {
        errors.push(`L1 entry ${i}: unaligned`);
        continue;
      }
      refer(at, cluster);
      if (active) copied.set(at / cluster, (l1.getUint32(i * 8) & 0x80000000) !== 0);
      const l2 = yield* load(at, cluster);
      for (let j = 0; j < perTable; j++) {
        const hi = l2.getUint32(j * 8);
        if ((hi & 0x40000000) !== 0) {
          const bits = 62 - (h.clusterBits - 8) - 32;
          const from = (hi & 0x3fffffff & (2 ** bits - 1)) * 2 ** 32 + l2.getUint32(j * 8 + 4);
          refer(from, (((hi & 0x3fffffff) >>> bits) + 1) * 512 - (from % 512));
          continue;
        }
        const data = offset(l2, j);
        if (data === 0) continue;
        if (data % cluster !== 0) errors.push(`L2 entry ${i}/${j}: unaligned`);
        refer(data, cluster);
        if (active) copied.set(data / cluster, (hi & 0x80000000) !== 0);
      }
    }
  };
  yield* walk(h.l1Offset, h.l1Size, true);
  let at = h.snapshotsOffset;
  for (let s = 0; s < h.snapshots; s++) {
    const v = yield* load(at, 40);
    yield* walk(u64(v, 0, file.name), v.getUint32(8), false);
    const length = 40 + v.getUint32(36) + v.getUint16(12) + v.getUint16(14);
    at += Math.ceil(length / 8) * 8;
  }
  if (h.snapshots > 0) refer(h.snapshotsOffset, at - h.snapshotsOffset);

  const counts = yield* Refcounts.load(file, h, () => false);
  for (let i = 0; i * counts.perBlock < Math.max(counts.end, counts.perBlock); i++) {
    const block = counts.blockOffset(i);
    if (block === 0) continue;
    if (block % cluster !== 0 || block >= file.size()) {
      errors.push(`block of counts ${i}: at ${block}`);
      continue;
    }
    refer(block, cluster);
  }
  let leaks = 0;
  const last = Math.max(counts.end, ...[...refs.keys()].map((c) => c + 1));
  for (let c = 0; c < last; c++) {
    const expected = refs.get(c) ?? 0;
    let have = 0;
    try {
      have = yield* counts.count(c);
    } catch (e) {
      if (!(e instanceof ImageError)) throw e;
    }
    if (have > expected) leaks++;
    else if (have < expected) errors.push(`cluster ${c}: ${expected} references, counted ${have}`);
    const flag = copied.get(c);
    if (flag !== undefined && flag && have !== 1)
      errors.push(`cluster ${c}: marked as the only reference, counted ${have}`);
  }
  return { leaks, errors, used: refs.size };
}
