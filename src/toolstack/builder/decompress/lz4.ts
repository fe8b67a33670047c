// LZ4 in the legacy frame of the Linux kernel's build: magic 0x184C2102, then blocks of a 32-bit compressed size and an
// LZ4 block, each of at most 8 MiB uncompressed, up to the end of the input. No checksums.
// Invariant: nothing is read or written outside the two buffers, whatever the input says.
import { BuildError } from "../errors.js";

const MAGIC = 0x184c2102;
const BLOCK_MAX = 8 << 20;

const le32 = (b: Uint8Array, i: number): number => (b[i] | (b[i + 1] << 8) | (b[i + 2] << 16) | (b[i + 3] << 24)) >>> 0;

/** Unpacks a legacy frame of exactly `size` bytes. */
export function unpackLz4Legacy(input: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size);
  let at = 0;
  let made = 0;
  while (at + 4 <= input.length) {
    const length = le32(input, at);
    at += 4;
    if (length === MAGIC) continue;
    if (length === 0) break;
    if (length > BLOCK_MAX + (BLOCK_MAX >> 7) || at + length > input.length) throw truncated();
    made = unpackBlock(input, at, at + length, out, made);
    at += length;
  }
  if (made !== size) throw truncated();
  return out;
}

/** Unpacks one LZ4 block from `input[at, end)` to `out` at `made`; answers the new end of the output. */
function unpackBlock(input: Uint8Array, at: number, end: number, out: Uint8Array, made: number): number {
  const room = out.length;
  const first = made;
  for (;;) {
    if (at >= end) throw truncated();
    const token = input[at++];
    let literals = token >>> 4;
    if (literals === 15) {
      let more = 255;
      while (more === 255) {
        if (at >= end) throw truncated();
        more = input[at++];
        literals += more;
      }
    }
    if (at + literals > end || made + literals > room) throw truncated();
    if (literals < 32) for (let i = 0; i < literals; i++) out[made + i] = input[at + i];
    else out.set(input.subarray(at, at + literals), made);
    at += literals;
    made += literals;
    // The last sequence of a block has literals only.
    if (at === end) return made;

    if (at + 2 > end) throw truncated();
    const distance = input[at] | (input[at + 1] << 8);
    at += 2;
    let length = token & 15;
    if (length === 15) {
      let more = 255;
      while (more === 255) {
        if (at >= end) throw truncated();
        more = input[at++];
        length += more;
      }
    }
    length += 4;
    let from = made - distance;
    if (distance === 0 || from < first || made + length > room) throw truncated();
    // An overlapping match repeats what it has just written, so it must go byte by byte.
    if (length >= 32 && distance >= length) {
      out.copyWithin(made, from, from + length);
      made += length;
    } else {
      for (const stop = made + length; made < stop;) out[made++] = out[from++];
    }
  }
}

const truncated = (): BuildError => new BuildError("the LZ4 data of the kernel image is truncated or damaged");
