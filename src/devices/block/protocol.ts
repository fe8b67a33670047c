/**
 * blkif's ring entries (public/io/blkif.h) as plain values, in the two layouts a front end may name: x86_64-abi, and x86_32-abi where
 * 64-bit fields stand on four bytes.
 *
 * Pure: an entry's bytes were copied from the ring before; every field is checked by `backend.ts`, not here.
 */
import {
  BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP_DISCARD,
  BLKIF_OP_INDIRECT,
  blkif_request,
  blkif_request_discard,
  blkif_request_indirect,
  blkif_request_segment,
  blkif_response,
} from "../../abi/io_blkif.js";

export interface Segment {
  readonly gref: number;
  readonly first: number;
  readonly last: number;
}

export interface BlockRequest {
  readonly operation: number;
  /** The guest's own 64 bits, given back unread. */
  readonly idLo: number;
  readonly idHi: number;
  /** May be beyond all bounds. */
  readonly sector: number;
  /** As claimed; `segments` holds no more than there is room for. */
  readonly segmentCount: number;
  readonly segments: readonly Segment[];
  /** BLKIF_OP_INDIRECT: what is to be done, and where the segments are. */
  readonly indirectOp: number;
  readonly indirectRefs: readonly number[];
  /** BLKIF_OP_DISCARD. */
  readonly discardFlag: number;
  readonly discardSectors: number;
}

export interface BlockAbi {
  readonly name: string;
  readonly requestSize: number;
  readonly responseSize: number;
  readonly id: number;
  readonly sector: number;
  readonly segments: number;
  readonly discardSectors: number;
  readonly indirectRefs: number;
}

export const ABI_64: BlockAbi = {
  name: "x86_64-abi",
  requestSize: blkif_request.size,
  responseSize: blkif_response.size,
  id: blkif_request.id,
  sector: blkif_request.sector_number,
  segments: blkif_request.seg,
  discardSectors: blkif_request_discard.nr_sectors,
  indirectRefs: blkif_request_indirect.indirect_grefs,
};

export const ABI_32: BlockAbi = {
  name: "x86_32-abi",
  requestSize: 108,
  responseSize: 12,
  id: 4,
  sector: 12,
  segments: 20,
  discardSectors: 20,
  indirectRefs: 24,
};

/** By the `protocol` node; a front end that names none is of our own width. Undefined: nothing we know. */
export function blockAbi(protocol: string | undefined): BlockAbi | undefined {
  if (protocol === undefined || protocol === ABI_64.name) return ABI_64;
  return protocol === ABI_32.name ? ABI_32 : undefined;
}

const SEG = blkif_request_segment;
export const SEGMENTS_PER_PAGE = 4096 / SEG.size;

/** Segments from bytes: those of a request, or of a page of an indirect one. */
export function decodeSegments(bytes: Uint8Array, offset: number, count: number, into: Segment[] = []): Segment[] {
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < count; i++) {
    const at = offset + i * SEG.size;
    into.push({
      gref: v.getUint32(at + SEG.gref, true),
      first: bytes[at + SEG.first_sect] as number,
      last: bytes[at + SEG.last_sect] as number,
    });
  }
  return into;
}

export function decodeRequest(abi: BlockAbi, bytes: Uint8Array): BlockRequest {
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const u64 = (at: number): number => v.getUint32(at, true) + v.getUint32(at + 4, true) * 2 ** 32;
  const operation = bytes[blkif_request.operation] as number;
  const indirect = operation === BLKIF_OP_INDIRECT;
  const discard = operation === BLKIF_OP_DISCARD;
  const second = bytes[blkif_request.nr_segments] as number;
  const segmentCount = indirect ? v.getUint16(blkif_request_indirect.nr_segments, true) : discard ? 0 : second;
  const refs: number[] = [];
  if (indirect) {
    for (let i = 0; i < BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST; i++)
      refs.push(v.getUint32(abi.indirectRefs + i * 4, true));
  }
  return {
    operation,
    idLo: v.getUint32(abi.id, true),
    idHi: v.getUint32(abi.id + 4, true),
    sector: u64(abi.sector),
    segmentCount,
    segments: indirect
      ? []
      : decodeSegments(bytes, abi.segments, Math.min(segmentCount, BLKIF_MAX_SEGMENTS_PER_REQUEST)),
    indirectOp: indirect ? second : 0,
    indirectRefs: refs,
    discardFlag: discard ? second : 0,
    discardSectors: discard ? u64(abi.discardSectors) : 0,
  };
}

/** The response takes the 12 bytes both layouts have in common; the rest is zero. */
export function encodeResponse(
  abi: BlockAbi,
  idLo: number,
  idHi: number,
  operation: number,
  status: number,
): Uint8Array {
  const out = new Uint8Array(abi.responseSize);
  const v = new DataView(out.buffer);
  v.setUint32(blkif_response.id, idLo, true);
  v.setUint32(blkif_response.id + 4, idHi, true);
  out[blkif_response.operation] = operation;
  v.setInt16(blkif_response.status, status, true);
  return out;
}
