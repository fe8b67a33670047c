/**
 * Where a zstd frame ends (RFC 8878, 3.1.1), so that what follows it in a cluster's last sector is not taken for more of it. −1: no whole
 * frame is there.
 */
export function zstdFrameLength(b: Uint8Array): number {
  const v = new DataView(b.buffer, b.byteOffset, b.byteLength);
  if (b.length < 6 || v.getUint32(0, true) !== 0xfd2fb528) return -1;
  const descriptor = b[4] as number;
  const single = (descriptor & 0x20) !== 0;
  const contentFlag = descriptor >>> 6;
  const contentSize = contentFlag === 0 ? (single ? 1 : 0) : 1 << contentFlag;
  const dictionary = [0, 1, 2, 4][descriptor & 3] as number;
  let at = 5 + (single ? 0 : 1) + dictionary + contentSize;
  for (let last = false; !last;) {
    if (at + 3 > b.length) return -1;
    const header = (b[at] as number) | ((b[at + 1] as number) << 8) | ((b[at + 2] as number) << 16);
    last = (header & 1) !== 0;
    // A block of one repeated byte has only that byte.
    at += 3 + (((header >>> 1) & 3) === 1 ? 1 : header >>> 3);
  }
  if ((descriptor & 4) !== 0) at += 4;
  return at <= b.length ? at : -1;
}
