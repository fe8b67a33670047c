// Block device ring messages.
// Source: <xen/io/blkif.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const BLKIF_OP_READ = 0;
export const BLKIF_OP_WRITE = 1;
export const BLKIF_OP_WRITE_BARRIER = 2;
export const BLKIF_OP_FLUSH_DISKCACHE = 3;
export const BLKIF_OP_RESERVED_1 = 4;
export const BLKIF_OP_DISCARD = 5;
export const BLKIF_OP_INDIRECT = 6;
export const BLKIF_MAX_SEGMENTS_PER_REQUEST = 11;
export const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8;
export const BLKIF_DISCARD_SECURE = 1;
export const BLKIF_RSP_EOPNOTSUPP = -2;
export const BLKIF_RSP_ERROR = -1;
export const BLKIF_RSP_OKAY = 0;

export const VDISK_CDROM = 1;
export const VDISK_REMOVABLE = 2;
export const VDISK_READONLY = 4;

/** struct blkif_request_segment */
export const blkif_request_segment = {
  size: 8,
  gref: 0, // grant_ref_t
  first_sect: 4, // uint8_t
  last_sect: 5, // uint8_t
} as const;

/** struct blkif_request */
export const blkif_request = {
  size: 112,
  operation: 0, // uint8_t
  nr_segments: 1, // uint8_t
  handle: 2, // uint16_t
  id: 8, // uint64_t
  sector_number: 16, // uint64_t
  seg: 24, // struct blkif_request_segment[11]
} as const;

/** struct blkif_request_discard */
export const blkif_request_discard = {
  size: 32,
  operation: 0, // uint8_t
  flag: 1, // uint8_t
  handle: 2, // uint16_t
  id: 8, // uint64_t
  sector_number: 16, // uint64_t
  nr_sectors: 24, // uint64_t
} as const;

/** struct blkif_request_indirect */
export const blkif_request_indirect = {
  size: 64,
  operation: 0, // uint8_t
  indirect_op: 1, // uint8_t
  nr_segments: 2, // uint16_t
  id: 8, // uint64_t
  sector_number: 16, // uint64_t
  handle: 24, // uint16_t
  indirect_grefs: 28, // grant_ref_t[8]
} as const;

/** struct blkif_response */
export const blkif_response = {
  size: 16,
  id: 0, // uint64_t
  operation: 8, // uint8_t
  status: 10, // int16_t
} as const;
