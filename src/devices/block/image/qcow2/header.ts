/**
 * The header of a qcow2 image, versions 2 and 3, and its extensions (QEMU's docs/interop/qcow2). All numbers are big-endian.
 *
 * What cannot be honoured is refused here, by name: an image is opened whole or not at all.
 */
import { ImageError } from "../byte-file.js";

export const QCOW2_MAGIC = 0x514649fb;

/** Byte offsets of the header's fields. */
export const H = {
  magic: 0,
  version: 4,
  backing_file_offset: 8,
  backing_file_size: 16,
  cluster_bits: 20,
  size: 24,
  crypt_method: 32,
  l1_size: 36,
  l1_table_offset: 40,
  refcount_table_offset: 48,
  refcount_table_clusters: 56,
  nb_snapshots: 60,
  snapshots_offset: 64,
  incompatible_features: 72,
  compatible_features: 80,
  autoclear_features: 88,
  refcount_order: 96,
  header_length: 100,
  compression_type: 104,
} as const;
export const HEADER_V2 = 72;
export const HEADER_V3 = 112;

export const EXT_END = 0;
export const EXT_BACKING_FORMAT = 0xe2792aca;
const EXT_FEATURE_NAMES = 0x6803f857;

/** Incompatible features. */
const DIRTY = 0;
const CORRUPT = 1;
const EXTERNAL_DATA = 2;
const COMPRESSION_TYPE = 3;
const EXTENDED_L2 = 4;

const MAX_L1_BYTES = 32 << 20;
const MAX_REFCOUNT_TABLE_BYTES = 8 << 20;
const MAX_BACKING_NAME = 1023;

export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  /** Bytes of the disk. */
  readonly size: number;
  readonly l1Size: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly refcountOrder: number;
  readonly snapshots: number;
  readonly snapshotsOffset: number;
  readonly compression: "deflate" | "zstd";
  readonly backing: { readonly name: string; readonly format: string | undefined } | undefined;
  /** Autoclear bits are set: whoever writes clears them first. */
  readonly autoclear: boolean;
}

/** A 64-bit number that must be exact; throws where it is beyond what can be. */
export function u64(v: DataView, at: number, name: string): number {
  const n = v.getUint32(at) * 2 ** 32 + v.getUint32(at + 4);
  if (!Number.isSafeInteger(n)) throw new ImageError(`${name}: damaged: a number in it is beyond 2^53`);
  return n;
}
export function putU64(v: DataView, at: number, n: number): void {
  v.setUint32(at, Math.floor(n / 2 ** 32));
  v.setUint32(at + 4, n >>> 0);
}

export function isQcow2(start: Uint8Array): boolean {
  return start.length >= HEADER_V2 && new DataView(start.buffer, start.byteOffset, 4).getUint32(0) === QCOW2_MAGIC;
}

/** `start`: the image's first bytes, a cluster of them (at most 2 MiB) or the whole file if it is shorter. */
export function parseHeader(start: Uint8Array, name: string): Qcow2Header {
  const refuse = (why: string): ImageError => new ImageError(`${name}: ${why}`);
  if (!isQcow2(start)) throw refuse("not a qcow2 image");
  const v = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const version = v.getUint32(H.version);
  if (version !== 2 && version !== 3) throw refuse(`qcow2 version ${version} is not known (2 and 3 are)`);
  if (version === 3 && start.length < HEADER_V3 - 8) throw refuse("damaged: the header is cut off");
  const crypt = v.getUint32(H.crypt_method);
  if (crypt !== 0) throw refuse(`the image is encrypted (${crypt === 2 ? "LUKS" : "AES"}), which is not supported`);
  const clusterBits = v.getUint32(H.cluster_bits);
  if (clusterBits < 9 || clusterBits > 21) throw refuse(`damaged: clusters of 2^${clusterBits} bytes`);
  const headerLength = version === 3 ? v.getUint32(H.header_length) : HEADER_V2;
  if (headerLength < (version === 3 ? 104 : HEADER_V2) || headerLength > start.length || headerLength % 8 !== 0)
    throw refuse(`damaged: a header of ${headerLength} bytes`);

  const backingOffset = u64(v, H.backing_file_offset, name);
  const end = backingOffset === 0 ? start.length : Math.min(backingOffset, start.length);
  const extensions = new Map<number, Uint8Array>();
  for (let at = headerLength; at + 8 <= end;) {
    const type = v.getUint32(at);
    const length = v.getUint32(at + 4);
    if (type === EXT_END) break;
    if (at + 8 + length > end) throw refuse("damaged: a header extension beyond its room");
    extensions.set(type, start.subarray(at + 8, at + 8 + length));
    at += 8 + Math.ceil(length / 8) * 8;
  }

  let compression: Qcow2Header["compression"] = "deflate";
  let autoclear = false;
  let refcountOrder = 4;
  if (version === 3) {
    refuseFeatures(v, extensions.get(EXT_FEATURE_NAMES), refuse);
    const type = headerLength > H.compression_type ? (start[H.compression_type] as number) : 0;
    if (type > 1) throw refuse(`compression type ${type} is not known (0, deflate, and 1, zstd, are)`);
    compression = type === 1 ? "zstd" : "deflate";
    autoclear = (v.getUint32(H.autoclear_features) | v.getUint32(H.autoclear_features + 4)) !== 0;
    refcountOrder = v.getUint32(H.refcount_order);
    if (refcountOrder > 6) throw refuse(`damaged: reference counts of 2^${refcountOrder} bits`);
  }

  const cluster = 2 ** clusterBits;
  const size = u64(v, H.size, name);
  const l1Size = v.getUint32(H.l1_size);
  const l1Offset = u64(v, H.l1_table_offset, name);
  const refcountTableOffset = u64(v, H.refcount_table_offset, name);
  const refcountTableClusters = v.getUint32(H.refcount_table_clusters);
  if (l1Size * 8 > MAX_L1_BYTES) throw refuse("the image is too large: its L1 table has more than 32 MiB");
  if (l1Size < Math.ceil(size / (cluster * (cluster / 8)))) throw refuse("damaged: the L1 table is too short");
  if (l1Offset % cluster !== 0 || (l1Size > 0 && l1Offset === 0)) throw refuse("damaged: the L1 table's place");
  if (refcountTableOffset % cluster !== 0 || refcountTableOffset === 0 || refcountTableClusters === 0)
    throw refuse("damaged: the reference count table's place");
  if (refcountTableClusters * cluster > MAX_REFCOUNT_TABLE_BYTES)
    throw refuse("the image is too large: its reference count table has more than 8 MiB");

  let backing: Qcow2Header["backing"];
  if (backingOffset !== 0) {
    const length = v.getUint32(H.backing_file_size);
    if (length > MAX_BACKING_NAME || backingOffset + length > start.length)
      throw refuse("damaged: the backing file's name");
    const format = extensions.get(EXT_BACKING_FORMAT);
    const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
    if (length > 0) {
      backing = {
        name: text(start.subarray(backingOffset, backingOffset + length)),
        format: format === undefined ? undefined : text(format),
      };
    }
  }
  return {
    version,
    clusterBits,
    size,
    l1Size,
    l1Offset,
    refcountTableOffset,
    refcountTableClusters,
    refcountOrder,
    snapshots: v.getUint32(H.nb_snapshots),
    snapshotsOffset: u64(v, H.snapshots_offset, name),
    compression,
    backing,
    autoclear,
  };
}

function refuseFeatures(v: DataView, names: Uint8Array | undefined, refuse: (why: string) => ImageError): void {
  const has = (bit: number): boolean =>
    (v.getUint32(H.incompatible_features + (bit < 32 ? 4 : 0)) & (1 << (bit & 31))) !== 0;
  if (has(DIRTY))
    throw refuse(
      "the image was not closed (lazy reference counts, dirty bit): repair it with `qemu-img check -r all` first",
    );
  if (has(CORRUPT)) throw refuse("the image is marked as corrupt: repair it with `qemu-img check -r all` first");
  if (has(EXTERNAL_DATA)) throw refuse("its data is in an external data file, which is not supported");
  if (has(EXTENDED_L2)) throw refuse("it has subclusters (extended L2 entries), which are not supported");
  for (let bit = 0; bit < 64; bit++) {
    if (bit !== COMPRESSION_TYPE && has(bit)) throw refuse(`it needs the feature ${featureName(names, bit)}`);
  }
}

/** As the image itself calls it, if it does. */
function featureName(names: Uint8Array | undefined, bit: number): string {
  for (let at = 0; names !== undefined && at + 48 <= names.length; at += 48) {
    if (names[at] !== 0 || names[at + 1] !== bit) continue;
    const text = names.subarray(at + 2, at + 48);
    const end = text.indexOf(0);
    return `"${new TextDecoder().decode(end < 0 ? text : text.subarray(0, end)).replace(/[^ -~]/g, "?")}"`;
  }
  return `with number ${bit}`;
}
