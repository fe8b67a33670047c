// Shared rings (DEFINE_RING_TYPES): the indices at the head of the page and the arithmetic over them.
// Source: <xen/io/ring.h>, <xen/io/blkif.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.
// Indices run freely modulo 2^32: differences are taken with `>>> 0`, and never trusted when the other end wrote them.

/** struct blkif_sring */
export const blkif_sring = {
  req_prod: 0, // RING_IDX
  req_event: 4, // RING_IDX
  rsp_prod: 8, // RING_IDX
  rsp_event: 12, // RING_IDX
  ring: 64, // the entries
} as const;

/** The head of every shared ring; all rings made by DEFINE_RING_TYPES share it. */
export const sring = blkif_sring;

/** __RING_SIZE: how many entries of `entrySize` bytes fit in `bytes` of shared memory, rounded down to a power of two. */
export function ringSize(bytes: number, entrySize: number): number {
  const room = Math.floor((bytes - sring.ring) / entrySize);
  return room < 1 ? 0 : 1 << (31 - Math.clz32(room));
}

/**
 * RING_PUSH_*_AND_CHECK_NOTIFY: whether moving a producer index from `oldProd` to `newProd` passed the point at which
 * the other end asked to be woken (`event`).
 */
export function ringMustNotify(oldProd: number, newProd: number, event: number): boolean {
  return (newProd - event) >>> 0 < (newProd - oldProd) >>> 0;
}
