// The LZMA decoder, with its two containers inside kernels: the `.lzma` file and LZMA2 (the xz filter).
// The output buffer is the dictionary. Invariant: nothing is read or written outside the buffers, whatever the input says.
// Source: the LZMA specification (public domain, Igor Pavlov) and the xz file format, section 5.3.1.
import { BuildError } from "../errors.js";

const TOP = 1 << 24;
const HALF = 1024; // a probability of one half, in units of 2^-11

// Where each model begins in the one array of probabilities.
const IS_MATCH = 0; // [state 12][position 16]
const IS_REP = IS_MATCH + 12 * 16;
const IS_REP_G0 = IS_REP + 12;
const IS_REP_G1 = IS_REP_G0 + 12;
const IS_REP_G2 = IS_REP_G1 + 12;
const IS_REP0_LONG = IS_REP_G2 + 12; // [state 12][position 16]
const SLOT = IS_REP0_LONG + 12 * 16; // [length class 4][64]
const SPECIAL = SLOT + 4 * 64; // reverse trees of the middle distances
const ALIGN = SPECIAL + 128;
const LENGTH = ALIGN + 16; // choice, choice2, low[16][8], middle[16][8], high[256]
const LENGTH_SIZE = 2 + 16 * 8 + 16 * 8 + 256;
const REP_LENGTH = LENGTH + LENGTH_SIZE;
const LITERAL = REP_LENGTH + LENGTH_SIZE;

export class LzmaDecoder {
  out: Uint8Array;
  made = 0;
  /** Matches may not reach back beyond this point of the output. */
  private origin = 0;

  private input: Uint8Array = new Uint8Array(0);
  at = 0;
  private end = 0;
  private range = 0;
  private code = 0;

  private probs = new Uint16Array(LITERAL);
  private lc = 0;
  private literalMask = 0;
  private positionMask = 0;
  private state = 0;
  private rep0 = 0;
  private rep1 = 0;
  private rep2 = 0;
  private rep3 = 0;

  constructor(size: number) {
    this.out = new Uint8Array(size);
  }

  /** @param props the packed lc, lp and pb. */
  setProps(props: number): void {
    if (props >= 9 * 5 * 5) throw damaged();
    this.lc = props % 9;
    const lp = Math.floor(props / 9) % 5;
    this.literalMask = (1 << lp) - 1;
    this.positionMask = (1 << Math.floor(props / 45)) - 1;
    this.probs = new Uint16Array(LITERAL + (0x300 << (this.lc + lp)));
  }

  resetState(): void {
    this.probs.fill(HALF);
    this.state = this.rep0 = this.rep1 = this.rep2 = this.rep3 = 0;
  }

  resetDictionary(): void {
    this.origin = this.made;
  }

  startRange(input: Uint8Array, at: number, end: number): void {
    if (at + 5 > end) throw truncated();
    if (input[at] !== 0) throw damaged();
    this.input = input;
    this.code = (input[at + 1] << 24) | (input[at + 2] << 16) | (input[at + 3] << 8) | input[at + 4];
    this.range = -1;
    this.at = at + 5;
    this.end = end;
  }

  private room(n: number): void {
    if (this.made + n <= this.out.length) return;
    const bigger = new Uint8Array(Math.max(this.out.length * 2, this.made + n));
    bigger.set(this.out.subarray(0, this.made));
    this.out = bigger;
  }

  copyLiteral(bytes: Uint8Array): void {
    this.room(bytes.length);
    this.out.set(bytes, this.made);
    this.made += bytes.length;
  }

  private normalize(): void {
    if (this.range >>> 0 < TOP) {
      if (this.at >= this.end) throw truncated();
      this.range <<= 8;
      this.code = (this.code << 8) | this.input[this.at++];
    }
  }

  private bit(index: number): 0 | 1 {
    this.normalize();
    const p = this.probs[index];
    const bound = Math.imul(this.range >>> 11, p);
    if (this.code >>> 0 < bound >>> 0) {
      this.range = bound;
      this.probs[index] = p + ((2048 - p) >> 5);
      return 0;
    }
    this.range -= bound;
    this.code -= bound;
    this.probs[index] = p - (p >> 5);
    return 1;
  }

  private tree(base: number, bits: number): number {
    let m = 1;
    for (let i = 0; i < bits; i++) m = (m << 1) | this.bit(base + m);
    return m - (1 << bits);
  }

  private reverseTree(base: number, bits: number): number {
    let m = 1;
    let v = 0;
    for (let i = 0; i < bits; i++) {
      const b = this.bit(base + m);
      m = (m << 1) | b;
      v |= b << i;
    }
    return v;
  }

  private direct(bits: number): number {
    let v = 0;
    for (let i = 0; i < bits; i++) {
      this.normalize();
      this.range >>>= 1;
      if (this.code >>> 0 >= this.range >>> 0) {
        this.code -= this.range;
        v = (v << 1) | 1;
      } else v <<= 1;
    }
    return v;
  }

  private length(base: number, positionState: number): number {
    if (this.bit(base) === 0) return 2 + this.tree(base + 2 + positionState * 8, 3);
    if (this.bit(base + 1) === 0) return 10 + this.tree(base + 2 + 128 + positionState * 8, 3);
    return 18 + this.tree(base + 2 + 256, 8);
  }

  private distance(length: number): number {
    const slot = this.tree(SLOT + (length < 6 ? length - 2 : 3) * 64, 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    const top = (2 | (slot & 1)) << bits;
    if (slot < 14) return top + this.reverseTree(SPECIAL + top - slot, bits);
    return (top + (this.direct(bits - 4) << 4) + this.reverseTree(ALIGN, 4)) >>> 0;
  }

  private literal(): void {
    const previous = this.made > this.origin ? this.out[this.made - 1] : 0;
    const position = (this.made - this.origin) & this.literalMask;
    const base = LITERAL + 0x300 * ((position << this.lc) + (previous >>> (8 - this.lc)));
    let symbol = 1;
    if (this.state >= 7) {
      let match = this.out[this.made - this.rep0 - 1];
      do {
        const m = (match >>> 7) & 1;
        match <<= 1;
        const b = this.bit(base + ((1 + m) << 8) + symbol);
        symbol = (symbol << 1) | b;
        if (m !== b) break;
      } while (symbol < 256);
    }
    while (symbol < 256) symbol = (symbol << 1) | this.bit(base + symbol);
    this.out[this.made++] = symbol;
    this.state = this.state < 4 ? 0 : this.state < 10 ? this.state - 3 : this.state - 6;
  }

  /** Decodes until `size` more bytes are made, or to the end mark when it may come (answers true then). */
  decode(size: number, endMark: boolean): boolean {
    const stop = this.made + size;
    if (Number.isFinite(size)) this.room(size);
    while (this.made < stop) {
      if (!Number.isFinite(size)) this.room(300);
      const positionState = (this.made - this.origin) & this.positionMask;
      const { state } = this;
      if (this.bit(IS_MATCH + state * 16 + positionState) === 0) {
        this.literal();
        continue;
      }
      let length: number;
      if (this.bit(IS_REP + state) === 0) {
        this.rep3 = this.rep2;
        this.rep2 = this.rep1;
        this.rep1 = this.rep0;
        length = this.length(LENGTH, positionState);
        this.rep0 = this.distance(length);
        if (this.rep0 === 0xffffffff) {
          if (!endMark) throw damaged();
          return true;
        }
        this.state = state < 7 ? 7 : 10;
      } else {
        if (this.made === this.origin) throw damaged();
        if (this.bit(IS_REP_G0 + state) === 0) {
          if (this.bit(IS_REP0_LONG + state * 16 + positionState) === 0) {
            this.state = state < 7 ? 9 : 11;
            if (this.rep0 >= this.made - this.origin) throw damaged();
            this.out[this.made] = this.out[this.made - this.rep0 - 1];
            this.made++;
            continue;
          }
        } else {
          let d: number;
          if (this.bit(IS_REP_G1 + state) === 0) d = this.rep1;
          else {
            if (this.bit(IS_REP_G2 + state) === 0) d = this.rep2;
            else {
              d = this.rep3;
              this.rep3 = this.rep2;
            }
            this.rep2 = this.rep1;
          }
          this.rep1 = this.rep0;
          this.rep0 = d;
        }
        length = this.length(REP_LENGTH, positionState);
        this.state = state < 7 ? 8 : 11;
      }
      if (this.rep0 >= this.made - this.origin || length > stop - this.made) throw damaged();
      const { out } = this;
      let to = this.made;
      for (let from = to - this.rep0 - 1, last = to + length; to < last;) out[to++] = out[from++];
      this.made = to;
    }
    return false;
  }
}

/** Decodes LZMA2 chunks of `input[at, …)` into `decoder`; answers where the data after the end mark begin. */
export function decodeLzma2(decoder: LzmaDecoder, input: Uint8Array, at: number): number {
  for (;;) {
    if (at >= input.length) throw truncated();
    const control = input[at++];
    if (control === 0) return at;
    if (at + 5 > input.length) throw truncated();
    if (control < 0x80) {
      if (control > 2) throw damaged();
      if (control === 1) decoder.resetDictionary();
      const size = ((input[at] << 8) | input[at + 1]) + 1;
      at += 2;
      if (at + size > input.length) throw truncated();
      decoder.copyLiteral(input.subarray(at, at + size));
      at += size;
      continue;
    }
    const made = (((control & 31) << 16) | (input[at] << 8) | input[at + 1]) + 1;
    const packed = ((input[at + 2] << 8) | input[at + 3]) + 1;
    at += 4;
    if (control >= 0xe0) decoder.resetDictionary();
    if (control >= 0xc0) decoder.setProps(input[at++]);
    if (control >= 0xa0) decoder.resetState();
    if (at + packed > input.length) throw truncated();
    decoder.startRange(input, at, at + packed);
    decoder.decode(made, false);
    at += packed;
  }
}

/** Unpacks a `.lzma` file: properties, dictionary size, uncompressed size or all ones, the data. */
export function unpackLzma(input: Uint8Array, sizeHint: number): Uint8Array {
  if (input.length < 18) throw truncated();
  const view = new DataView(input.buffer, input.byteOffset, input.length);
  const lo = view.getUint32(5, true);
  const hi = view.getUint32(9, true);
  const unknown = lo === 0xffffffff && hi === 0xffffffff;
  if (!unknown && hi !== 0) throw damaged();
  const decoder = new LzmaDecoder(unknown ? sizeHint : Math.min(lo, input.length * 256));
  decoder.setProps(input[0]);
  decoder.resetState();
  decoder.startRange(input, 13, input.length);
  decoder.decode(unknown ? Infinity : lo, true);
  return decoder.out.subarray(0, decoder.made);
}

const damaged = (): BuildError => new BuildError("the LZMA data are damaged");
const truncated = (): BuildError => new BuildError("the LZMA data are truncated");
