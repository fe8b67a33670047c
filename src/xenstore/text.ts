/**
 * Text and bytes of XenStore. On the wire a string is bytes without NUL; inside the core it is kept one character a byte (Latin-1), so that
 * any token comes back as it was sent. What a user of the library writes and reads is UTF-8.
 */
export function latin1(bytes: Uint8Array, start = 0, end = bytes.length): string {
  let s = "";
  for (let i = start; i < end; i++) s += String.fromCharCode(bytes[i] as number);
  return s;
}

export function fromLatin1(s: string): Uint8Array {
  const out = new Uint8Array(s.length);
  for (let i = 0; i < s.length; i++) out[i] = s.charCodeAt(i);
  return out;
}

/** UTF-8 bytes of a JavaScript string. */
export function utf8(s: string): Uint8Array {
  const out: number[] = [];
  for (const ch of s) {
    const c = ch.codePointAt(0) as number;
    if (c < 0x80) out.push(c);
    else if (c < 0x800) out.push(0xc0 | (c >> 6), 0x80 | (c & 63));
    else if (c < 0x10000) out.push(0xe0 | (c >> 12), 0x80 | ((c >> 6) & 63), 0x80 | (c & 63));
    else out.push(0xf0 | (c >> 18), 0x80 | ((c >> 12) & 63), 0x80 | ((c >> 6) & 63), 0x80 | (c & 63));
  }
  return Uint8Array.from(out);
}

/** A string from bytes: UTF-8 where they are that, otherwise a character a byte. */
export function fromUtf8(bytes: Uint8Array): string {
  let ascii = true;
  let percent = "";
  for (const b of bytes) {
    if (b >= 0x80) ascii = false;
    percent += "%" + (b < 16 ? "0" : "") + b.toString(16);
  }
  if (ascii) return latin1(bytes);
  try {
    return decodeURIComponent(percent);
  } catch {
    return latin1(bytes);
  }
}

/** Payload of NUL-terminated strings. */
export function strings(...list: readonly string[]): Uint8Array {
  return fromLatin1(list.map((s) => s + "\0").join(""));
}

/** As C's atoi: leading digits with a sign, 0 where there are none. */
export function atoi(s: string): number {
  const m = /^\s*([+-]?\d+)/.exec(s);
  return m === null ? 0 : Number(m[1]);
}
