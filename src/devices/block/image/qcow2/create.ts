/** New qcow2 images, version 3: empty, or on a backing image. */
import { ImageError, type ByteFile } from "../byte-file.js";
import { run, wait, type Steps } from "../steps.js";
import { EXT_BACKING_FORMAT, H, HEADER_V3, putU64, QCOW2_MAGIC } from "./header.js";

export interface CreateQcow2 {
  /** Bytes of the disk. */
  readonly size: number;
  /** Default 64 KiB. */
  readonly clusterSize?: number;
  /** A path as the image's readers will resolve it, and the format found there. */
  readonly backing?: { readonly name: string; readonly format: string };
}

/** Make an image in an empty file. */
export function createQcow2(file: ByteFile, options: CreateQcow2): Promise<void> | void {
  return run(creating(file, options));
}

function* creating(file: ByteFile, options: CreateQcow2): Steps<void> {
  const { backing } = options;
  const cluster = options.clusterSize ?? 65536;
  const clusterBits = Math.log2(cluster);
  if (!Number.isInteger(clusterBits) || clusterBits < 9 || clusterBits > 21)
    throw new ImageError(`${file.name}: clusters of ${cluster} bytes (a power of two, 512 to 2 MiB)`);
  if (file.size() > 0) throw new ImageError(`${file.name}: is not empty`);
  const size = Math.ceil(options.size / 512) * 512;
  const l1Size = Math.max(1, Math.ceil(size / (cluster * (cluster / 8))));
  const l1Clusters = Math.ceil((l1Size * 8) / cluster);
  // Header, reference count table, its first block(s), L1 table.
  const perBlock = cluster / 2;
  let blocks = 1;
  while (2 + blocks + l1Clusters > blocks * perBlock) blocks++;
  if (blocks > cluster / 8) throw new ImageError(`${file.name}: ${size} bytes are too many for such clusters`);
  const used = 2 + blocks + l1Clusters;
  const bytes = new Uint8Array(used * cluster);
  const v = new DataView(bytes.buffer);
  v.setUint32(H.magic, QCOW2_MAGIC);
  v.setUint32(H.version, 3);
  v.setUint32(H.cluster_bits, clusterBits);
  putU64(v, H.size, size);
  v.setUint32(H.l1_size, l1Size);
  putU64(v, H.l1_table_offset, (2 + blocks) * cluster);
  putU64(v, H.refcount_table_offset, cluster);
  v.setUint32(H.refcount_table_clusters, 1);
  v.setUint32(H.refcount_order, 4);
  v.setUint32(H.header_length, HEADER_V3);
  if (backing !== undefined) {
    const utf8 = new TextEncoder();
    const format = utf8.encode(backing.format);
    const name = utf8.encode(backing.name);
    v.setUint32(HEADER_V3, EXT_BACKING_FORMAT);
    v.setUint32(HEADER_V3 + 4, format.length);
    const nameAt = HEADER_V3 + 8 + Math.ceil(format.length / 8) * 8 + 8;
    if (name.length > 1023 || nameAt + name.length > cluster)
      throw new ImageError(`${file.name}: the backing file's name is too long`);
    bytes.set(format, HEADER_V3 + 8);
    bytes.set(name, nameAt);
    putU64(v, H.backing_file_offset, nameAt);
    v.setUint32(H.backing_file_size, name.length);
  }
  for (let b = 0; b < blocks; b++) putU64(v, cluster + b * 8, (2 + b) * cluster);
  for (let c = 0; c < used; c++) v.setUint16(2 * cluster + c * 2, 1);
  // Without its first bytes it is no image: they come last.
  yield* wait(file.write(512, bytes.subarray(512)));
  yield* wait(file.flush());
  yield* wait(file.write(0, bytes.subarray(0, 512)));
  yield* wait(file.flush());
}
