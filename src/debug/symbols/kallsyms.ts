/**
 * A Linux kernel's built-in symbol table (kallsyms, the layout of 5.x and 6.1 with relative addresses), read from the image alone:
 * Debian's own System.map is a stub.
 *
 * The table has no pointer to it in a stripped image. It is found by its token table, which holds the ten digits one after the other, and
 * proven by the token index that follows; the names stand somewhere before it, proven by the marker of every 256th name.
 */
import type { KernelSymbol } from "./symbol-table.js";

const align8 = (n: number): number => (n + 7) & ~7;
const MAX_NAMES = 1 << 20;
const MIN_NAMES = 1000;
/** Tokens that stand before the first digit are punctuation: fewer than these. */
const TOKENS_BEFORE_DIGITS = 48;

class Reader {
  readonly view: DataView;
  constructor(readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  u32(at: number): number {
    return this.view.getUint32(at, true);
  }
  indexOf(needle: Uint8Array, from: number): number {
    const { bytes } = this;
    const first = needle[0] as number;
    for (let at = bytes.indexOf(first, from); at >= 0; at = bytes.indexOf(first, at + 1)) {
      if (needle.every((b, i) => bytes[at + i] === b)) return at;
    }
    return -1;
  }
  text(from: number, to: number): string {
    let out = "";
    for (let i = from; i < to; i++) out += String.fromCharCode(this.bytes[i] as number);
    return out;
  }
}

/** The 256 tokens that begin here, if the index of their offsets follows. */
function tokensFrom(r: Reader, start: number): string[] | null {
  const tokens: string[] = [];
  const offsets: number[] = [];
  let p = start;
  for (let i = 0; i < 256; i++) {
    const end = r.bytes.indexOf(0, p);
    if (end < 0) return null;
    offsets.push(p - start);
    tokens.push(r.text(p, end));
    p = end + 1;
  }
  const index = align8(p);
  if (index + 512 > r.bytes.length) return null;
  return offsets.every((o, i) => r.view.getUint16(index + 2 * i, true) === o) ? tokens : null;
}

function findTokens(r: Reader): { start: number; tokens: string[] } | null {
  const digits = Uint8Array.from([..."0123456789"].flatMap((c) => [c.charCodeAt(0), 0]));
  for (let at = r.indexOf(digits, 0); at >= 0; at = r.indexOf(digits, at + 1)) {
    let start = at;
    for (let back = 0; back <= TOKENS_BEFORE_DIGITS && start > 1; back++) {
      const tokens = tokensFrom(r, start);
      if (tokens !== null) return { start, tokens };
      start = r.bytes.lastIndexOf(0, start - 2) + 1;
    }
  }
  return null;
}

/** All symbols of a kernel's image (the ELF inside a bzImage), or null where it holds no such table. */
export function readKallsyms(image: Uint8Array): KernelSymbol[] | null {
  const r = new Reader(image);
  const found = findTokens(r);
  if (found === null) return null;
  const { start, tokens } = found;
  const nameAt = (p: number): [number, number] => {
    const short = image[p] ?? 0;
    return short < 0x80 ? [short, p + 1] : [(short & 0x7f) | ((image[p + 1] ?? 0) << 7), p + 2];
  };
  // Before the names: base, number of names; after them: one marker (the offset) for every 256th name.
  for (let names = align8(start) - 8; names >= 16; names -= 8) {
    const count = r.u32(names - 8);
    if (count < MIN_NAMES || count > MAX_NAMES || r.u32(names - 4) !== 0) continue;
    let p = names;
    let second = 0;
    for (let i = 0; i < count && p < start; i++) {
      if (i === 256) second = p - names;
      const [length, data] = nameAt(p);
      p = data + length;
    }
    if (p >= start || r.u32(align8(p)) !== 0 || r.u32(align8(p) + 4) !== second) continue;
    const base = r.view.getInt32(names - 12, true) * 4294967296 + r.u32(names - 16);
    const offsets = names - 16 - align8(count * 4);
    if (offsets < 0) continue;
    const out: KernelSymbol[] = [];
    p = names;
    for (let i = 0; i < count; i++) {
      const [length, data] = nameAt(p);
      let text = "";
      for (let k = 0; k < length; k++) text += tokens[image[data + k] as number] as string;
      p = data + length;
      // Per-cpu symbols are absolute; all others count down from the base.
      const offset = r.view.getInt32(offsets + i * 4, true);
      out.push({ va: offset >= 0 ? offset : base - 1 - offset, type: text[0] ?? "?", name: text.slice(1) });
    }
    return out;
  }
  return null;
}
