// The xz container with the filters that kernels use: LZMA2, alone or behind the x86 branch filter.
// CRC-32 checks are verified; CRC-64 and SHA-256 checks are passed over.
// Source: "The .xz File Format" 1.1.0.
import { BuildError } from "../errors.js";
import { crc32 } from "./crc32.js";
import { decodeLzma2, LzmaDecoder } from "./lzma.js";

const MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00];
const FILTER_X86 = 4;
const FILTER_LZMA2 = 0x21;
const CHECK_CRC32 = 1;
const CHECK_SIZES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];

export const isXz = (b: Uint8Array): boolean => MAGIC.every((v, i) => b[i] === v);

/** Unpacks the first stream of `input`; `sizeHint` is about how much will come out. */
export function unpackXz(input: Uint8Array, sizeHint: number): Uint8Array {
  if (input.length < 24) throw truncated();
  const view = new DataView(input.buffer, input.byteOffset, input.length);
  if (!isXz(input) || view.getUint32(8, true) !== crc32(input, 6, 8)) throw damaged();
  const check = input[7] & 15;
  const decoder = new LzmaDecoder(sizeHint);
  let at = 12;
  for (;;) {
    if (at >= input.length) throw truncated();
    if (input[at] === 0) return decoder.out.subarray(0, decoder.made); // the index follows
    const header = at;
    const headerEnd = at + (input[at] + 1) * 4;
    if (headerEnd > input.length) throw truncated();
    if (view.getUint32(headerEnd - 4, true) !== crc32(input, header, headerEnd - 4)) throw damaged();
    const branchStart = readFilters(input, header, headerEnd - 4);

    const first = decoder.made;
    at = decodeLzma2(decoder, input, headerEnd);
    const made = decoder.out.subarray(first, decoder.made);
    if (branchStart !== undefined) unfilterX86(made, branchStart);
    at += (header - at) & 3; // blocks are padded to four bytes
    if (at + CHECK_SIZES[check] > input.length) throw truncated();
    if (check === CHECK_CRC32 && view.getUint32(at, true) !== crc32(made)) throw damaged();
    at += CHECK_SIZES[check];
  }
}

/** Reads a block header's filter list; answers the start offset of the x86 filter where there is one. */
function readFilters(input: Uint8Array, header: number, end: number): number | undefined {
  const flags = input[header + 1];
  let at = header + 2;
  const vli = (): number => {
    let v = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= end) throw damaged();
      const b = input[at++];
      v += (b & 127) * scale;
      if ((b & 128) === 0) return v;
    }
  };
  if ((flags & 0x40) !== 0) vli();
  if ((flags & 0x80) !== 0) vli();
  let branchStart: number | undefined;
  let last = -1;
  for (let i = 0; i <= (flags & 3); i++) {
    last = vli();
    const size = vli();
    if (last === FILTER_X86) {
      branchStart =
        size === 4 ? (input[at] | (input[at + 1] << 8) | (input[at + 2] << 16) | (input[at + 3] << 24)) >>> 0 : 0;
    } else if (last !== FILTER_LZMA2) {
      throw new BuildError(`the xz data use filter ${last}, which is not supported (only LZMA2 and x86 are)`);
    }
    at += size;
  }
  if (last !== FILTER_LZMA2) throw damaged();
  return branchStart;
}

const ALLOWED = [true, true, true, false, true, false, false, false];
const BIT_NUMBER = [0, 1, 2, 2, 3, 3, 3, 3];

/** Undoes the x86 branch filter in place: the targets of CALL and JMP become relative again. */
function unfilterX86(buf: Uint8Array, start: number): void {
  let previous = -1;
  let mask = 0;
  const stop = buf.length - 4;
  for (let i = 0; i < stop; i++) {
    if ((buf[i] & 0xfe) !== 0xe8) continue;
    const gap = i - previous;
    previous = i;
    if (gap > 3) mask = 0;
    else {
      mask = (mask << (gap - 1)) & 7;
      if (mask !== 0) {
        const b = buf[i + 4 - BIT_NUMBER[mask]];
        if (!ALLOWED[mask] || b === 0 || b === 0xff) {
          mask = (mask << 1) | 1;
          continue;
        }
      }
    }
    if (buf[i + 4] !== 0 && buf[i + 4] !== 0xff) {
      mask = (mask << 1) | 1;
      continue;
    }
    let src = buf[i + 1] | (buf[i + 2] << 8) | (buf[i + 3] << 16) | (buf[i + 4] << 24);
    let dest: number;
    for (;;) {
      dest = (src - (start + i + 5)) | 0;
      if (mask === 0) break;
      const j = BIT_NUMBER[mask] * 8;
      const b = (dest >>> (24 - j)) & 0xff;
      if (b !== 0 && b !== 0xff) break;
      src = dest ^ ((1 << (32 - j)) - 1);
    }
    dest = (dest << 7) >> 7; // 25 bits, sign-extended
    buf[i + 1] = dest;
    buf[i + 2] = dest >> 8;
    buf[i + 3] = dest >> 16;
    buf[i + 4] = dest >> 24;
    i += 4;
  }
}

const damaged = (): BuildError => new BuildError("the xz data are damaged");
const truncated = (): BuildError => new BuildError("the xz data are truncated");
