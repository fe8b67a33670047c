// gzip (RFC 1952) and DEFLATE (RFC 1951), so that the common code needs no platform's zlib.
// Invariant: nothing is read or written outside the buffers, whatever the input says; CRC and length are checked.
import { BuildError } from "../errors.js";
import { crc32 } from "./crc32.js";

const LENGTH_BASE = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
  8193, 12289, 16385, 24577,
];
const CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** A prefix code as a direct table: index = the next `bits` bits, entry = symbol << 4 | length, 0 = no such code. */
interface Code {
  readonly bits: number;
  readonly table: Uint16Array;
}

function makeCode(lengths: Uint8Array): Code {
  const count = new Uint16Array(16);
  for (const n of lengths) count[n]++;
  count[0] = 0;
  let bits = 15;
  while (bits > 1 && count[bits] === 0) bits--;
  const next = new Uint16Array(16);
  for (let n = 1, code = 0; n <= 15; n++) {
    code = (code + count[n - 1]) << 1;
    if (code + count[n] > 1 << n) throw damaged();
    next[n] = code;
  }
  const table = new Uint16Array(1 << bits);
  for (let symbol = 0; symbol < lengths.length; symbol++) {
    const n = lengths[symbol];
    if (n === 0) continue;
    let reversed = 0;
    for (let i = 0, code = next[n]++; i < n; i++, code >>= 1) reversed = (reversed << 1) | (code & 1);
    for (let i = reversed; i < table.length; i += 1 << n) table[i] = (symbol << 4) | n;
  }
  return { bits, table };
}

let fixed: { literals: Code; distances: Code } | undefined;
function fixedCodes(): { literals: Code; distances: Code } {
  if (fixed === undefined) {
    const lengths = new Uint8Array(288).fill(8, 0, 144).fill(9, 144, 256).fill(7, 256, 280).fill(8, 280);
    fixed = { literals: makeCode(lengths), distances: makeCode(new Uint8Array(30).fill(5)) };
  }
  return fixed;
}

class Inflater {
  private readonly input: Uint8Array;
  at: number;
  out: Uint8Array;
  made = 0;
  private hold = 0;
  private held = 0;

  constructor(input: Uint8Array, at: number, sizeHint: number) {
    this.input = input;
    this.at = at;
    this.out = new Uint8Array(Math.max(sizeHint, 64));
  }

  private need(n: number): void {
    while (this.held < n) {
      if (this.at >= this.input.length) throw truncated();
      this.hold |= this.input[this.at++] << this.held;
      this.held += 8;
    }
  }

  private take(n: number): number {
    this.need(n);
    const v = this.hold & ((1 << n) - 1);
    this.hold >>>= n;
    this.held -= n;
    return v;
  }

  private symbol(code: Code): number {
    // Near the end of the input fewer bits than the longest code may be left: feed what there is.
    while (this.held < code.bits && this.at < this.input.length) {
      this.hold |= this.input[this.at++] << this.held;
      this.held += 8;
    }
    const entry = code.table[this.hold & ((1 << code.bits) - 1)];
    const n = entry & 15;
    if (n === 0) throw damaged();
    if (n > this.held) throw truncated();
    this.hold >>>= n;
    this.held -= n;
    return entry >>> 4;
  }

  private room(n: number): void {
    if (this.made + n <= this.out.length) return;
    const bigger = new Uint8Array(Math.max(this.out.length * 2, this.made + n));
    bigger.set(this.out.subarray(0, this.made));
    this.out = bigger;
  }

  run(): void {
    let last = false;
    while (!last) {
      last = this.take(1) === 1;
      const type = this.take(2);
      if (type === 0) this.stored();
      else if (type === 1) this.block(fixedCodes().literals, fixedCodes().distances);
      else if (type === 2) this.dynamic();
      else throw damaged();
    }
    // Whole bytes read ahead belong to what follows the DEFLATE data.
    this.at -= this.held >>> 3;
    this.held = 0;
    this.hold = 0;
  }

  private stored(): void {
    this.at -= this.held >>> 3;
    this.held = 0;
    this.hold = 0;
    const { input, at } = this;
    if (at + 4 > input.length) throw truncated();
    const length = input[at] | (input[at + 1] << 8);
    if ((length ^ 0xffff) !== (input[at + 2] | (input[at + 3] << 8))) throw damaged();
    if (at + 4 + length > input.length) throw truncated();
    this.room(length);
    this.out.set(input.subarray(at + 4, at + 4 + length), this.made);
    this.made += length;
    this.at = at + 4 + length;
  }

  private dynamic(): void {
    const literals = this.take(5) + 257;
    const distances = this.take(5) + 1;
    const codes = this.take(4) + 4;
    const lengths = new Uint8Array(19);
    for (let i = 0; i < codes; i++) lengths[CODE_ORDER[i]] = this.take(3);
    const code = makeCode(lengths);
    const all = new Uint8Array(literals + distances);
    for (let i = 0; i < all.length;) {
      const symbol = this.symbol(code);
      if (symbol < 16) {
        all[i++] = symbol;
        continue;
      }
      if (symbol === 16 && i === 0) throw damaged();
      const value = symbol === 16 ? all[i - 1] : 0;
      const times = symbol === 16 ? 3 + this.take(2) : symbol === 17 ? 3 + this.take(3) : 11 + this.take(7);
      if (i + times > all.length) throw damaged();
      all.fill(value, i, i + times);
      i += times;
    }
    this.block(makeCode(all.subarray(0, literals)), makeCode(all.subarray(literals)));
  }

  private block(literals: Code, distances: Code): void {
    for (;;) {
      const symbol = this.symbol(literals);
      if (symbol < 256) {
        if (this.made === this.out.length) this.room(1);
        this.out[this.made++] = symbol;
        continue;
      }
      if (symbol === 256) return;
      if (symbol > 285) throw damaged();
      const length = LENGTH_BASE[symbol - 257] + this.take(LENGTH_EXTRA[symbol - 257]);
      const slot = this.symbol(distances);
      if (slot > 29) throw damaged();
      const distance = DISTANCE_BASE[slot] + (slot < 4 ? 0 : this.take((slot >> 1) - 1));
      if (distance > this.made) throw damaged();
      this.room(length);
      const { out } = this;
      let to = this.made;
      for (let from = to - distance, stop = to + length; to < stop;) out[to++] = out[from++];
      this.made = to;
    }
  }
}

/** Unpacks DEFLATE data alone (`size` is what is expected); what follows it in `input` is left. */
export function inflateRaw(input: Uint8Array, size: number): Uint8Array {
  const inflater = new Inflater(input, 0, size);
  inflater.run();
  return inflater.out.subarray(0, inflater.made);
}

export const isGzip = (b: Uint8Array): boolean => b[0] === 0x1f && b[1] === 0x8b && b[2] === 8;

/** Unpacks the first gzip member of `input`; `used` is how many bytes of the input it took. */
export function gunzipMember(input: Uint8Array): { bytes: Uint8Array; used: number } {
  if (input.length < 18) throw truncated();
  const flags = input[3];
  let at = 10;
  if ((flags & 4) !== 0) at += 2 + (input[at] | (input[at + 1] << 8));
  for (const flag of [8, 16]) {
    if ((flags & flag) === 0) continue;
    while (at < input.length && input[at] !== 0) at++;
    at++;
  }
  if ((flags & 2) !== 0) at += 2;
  const tail = new DataView(input.buffer, input.byteOffset, input.length);
  // The length field at the end of the file is right for a single member, and no more than a hint otherwise.
  const hint = Math.min(tail.getUint32(input.length - 4, true), input.length * 32);
  const inflater = new Inflater(input, at, hint);
  inflater.run();
  at = inflater.at;
  if (at + 8 > input.length) throw truncated();
  const bytes = inflater.out.subarray(0, inflater.made);
  if (tail.getUint32(at + 4, true) !== bytes.length || tail.getUint32(at, true) !== crc32(bytes)) throw damaged();
  return { bytes, used: at + 8 };
}

const damaged = (): BuildError => new BuildError("the gzip data is damaged");
const truncated = (): BuildError => new BuildError("the gzip data is truncated");
