/**
 * The structures of a VHD image (Virtual Hard Disk Image Format Specification 1.0): the footer, the header of a sparse image, the places
 * where a differencing image looks for its parent. All numbers are big-endian.
 */
import { ImageError } from "../byte-file.js";
import { SECTOR } from "../image.js";

export const FOOTER = {
  cookie: 0,
  features: 8,
  version: 12,
  data_offset: 16,
  timestamp: 24,
  creator: 28,
  creator_version: 32,
  creator_os: 36,
  original_size: 40,
  current_size: 48,
  geometry: 56,
  type: 60,
  checksum: 64,
  uuid: 68,
  saved: 84,
} as const;
export const FOOTER_SIZE = 512;

export const HEADER = {
  cookie: 0,
  data_offset: 8,
  table_offset: 16,
  version: 24,
  entries: 28,
  block_size: 32,
  checksum: 36,
  parent_uuid: 40,
  parent_timestamp: 56,
  parent_name: 64,
  locators: 576,
} as const;
export const HEADER_SIZE = 1024;
export const LOCATORS = 8;
export const LOCATOR_SIZE = 24;

export const FIXED = 2;
export const DYNAMIC = 3;
export const DIFFERENCING = 4;
/** An entry of the block allocation table for a block that is not there. */
export const UNUSED = 0xffffffff;

/** Platform codes of locators. */
export const W2RU = 0x57327275;
export const W2KU = 0x57326b75;
export const MACX = 0x4d616358;

export interface Footer {
  readonly type: typeof FIXED | typeof DYNAMIC | typeof DIFFERENCING;
  readonly size: number;
  readonly dataOffset: number;
  readonly uuid: string;
  readonly timestamp: number;
}

export interface SparseHeader {
  readonly tableOffset: number;
  readonly entries: number;
  readonly blockSize: number;
  readonly parentUuid: string;
  readonly parentName: string;
  readonly locators: readonly { readonly code: number; readonly offset: number; readonly length: number }[];
}

/** The one's complement of the sum of all bytes but its own. */
export function checksum(bytes: Uint8Array, at: number): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) if (i < at || i >= at + 4) sum += bytes[i] as number;
  return ~sum >>> 0;
}

const ascii = (bytes: Uint8Array): string => String.fromCharCode(...bytes);
const hex = (bytes: Uint8Array): string => [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
const big = (v: DataView, at: number): number => v.getUint32(at) * 2 ** 32 + v.getUint32(at + 4);
const view = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.byteLength);

export function isVhdFooter(bytes: Uint8Array): boolean {
  return bytes.length >= 85 && ascii(bytes.subarray(0, 8)) === "conectix";
}

/** Null where these bytes are no footer, or a damaged one. */
export function parseFooter(bytes: Uint8Array, name: string): Footer | null {
  if (!isVhdFooter(bytes)) return null;
  const v = view(bytes);
  if (v.getUint32(FOOTER.checksum) !== checksum(bytes, FOOTER.checksum)) return null;
  if (v.getUint32(FOOTER.version) >>> 16 !== 1) throw new ImageError(`${name}: an unknown version of VHD`);
  const type = v.getUint32(FOOTER.type);
  if (type !== FIXED && type !== DYNAMIC && type !== DIFFERENCING)
    throw new ImageError(`${name}: VHD type ${type} is not known (fixed, dynamic and differencing are)`);
  const size = big(v, FOOTER.current_size);
  if (!Number.isSafeInteger(size) || size % SECTOR !== 0) throw new ImageError(`${name}: damaged: the disk's size`);
  return {
    type,
    size,
    dataOffset: big(v, FOOTER.data_offset),
    uuid: hex(bytes.subarray(FOOTER.uuid, FOOTER.uuid + 16)),
    timestamp: v.getUint32(FOOTER.timestamp),
  };
}

export function parseSparseHeader(bytes: Uint8Array, name: string): SparseHeader {
  const refuse = (why: string): ImageError => new ImageError(`${name}: damaged: ${why}`);
  const v = view(bytes);
  if (ascii(bytes.subarray(0, 8)) !== "cxsparse") throw refuse("no header of a sparse image");
  if (v.getUint32(HEADER.checksum) !== checksum(bytes, HEADER.checksum)) throw refuse("the header's checksum");
  const blockSize = v.getUint32(HEADER.block_size);
  if (blockSize < SECTOR || blockSize > 1 << 28 || (blockSize & (blockSize - 1)) !== 0)
    throw refuse(`blocks of ${blockSize} bytes`);
  const tableOffset = big(v, HEADER.table_offset);
  const entries = v.getUint32(HEADER.entries);
  if (!Number.isSafeInteger(tableOffset) || tableOffset % SECTOR !== 0 || tableOffset < FOOTER_SIZE)
    throw refuse("the place of the block allocation table");
  if (entries > 1 << 24) throw refuse("the length of the block allocation table");
  let parentName = "";
  for (let i = 0; i < 256; i++) {
    const c = v.getUint16(HEADER.parent_name + i * 2);
    if (c === 0) break;
    parentName += String.fromCharCode(c);
  }
  const locators = [];
  for (let i = 0; i < LOCATORS; i++) {
    const at = HEADER.locators + i * LOCATOR_SIZE;
    const code = v.getUint32(at);
    if (code !== 0) locators.push({ code, length: Math.min(v.getUint32(at + 8), 4096), offset: big(v, at + 16) });
  }
  const parentUuid = hex(bytes.subarray(HEADER.parent_uuid, HEADER.parent_uuid + 16));
  return { tableOffset, entries, blockSize, parentUuid, parentName, locators };
}

/** The path that a locator's bytes say, with slashes, or null. */
export function locatorPath(code: number, bytes: Uint8Array): string | null {
  if (code === W2RU || code === W2KU) {
    const v = view(bytes);
    let s = "";
    for (let i = 0; i + 1 < bytes.length; i += 2) {
      const c = v.getUint16(i, true);
      if (c === 0) break;
      s += String.fromCharCode(c);
    }
    return s.replaceAll("\\", "/");
  }
  if (code !== MACX) return null;
  const end = bytes.indexOf(0);
  const url = new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
  return url.replace(/^file:\/\/(?:localhost)?/, "");
}

/** Cylinders, heads and sectors for a size, by the specification's appendix. */
export function geometry(size: number): { cylinders: number; heads: number; sectors: number } {
  const total = Math.min(Math.floor(size / SECTOR), 65535 * 16 * 255);
  let sectors: number;
  let heads: number;
  let cylinderHeads: number;
  if (total >= 65535 * 16 * 63) {
    sectors = 255;
    heads = 16;
    cylinderHeads = Math.floor(total / sectors);
  } else {
    sectors = 17;
    cylinderHeads = Math.floor(total / sectors);
    heads = Math.max(4, Math.ceil(cylinderHeads / 1024));
    if (cylinderHeads >= heads * 1024 || heads > 16) {
      sectors = 31;
      heads = 16;
      cylinderHeads = Math.floor(total / sectors);
    }
    if (cylinderHeads >= heads * 1024) {
      sectors = 63;
      heads = 16;
      cylinderHeads = Math.floor(total / sectors);
    }
  }
  return { cylinders: Math.floor(cylinderHeads / heads), heads, sectors };
}
