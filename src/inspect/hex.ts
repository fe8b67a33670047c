/** 64-bit values as hexadecimal text, the form in which they travel. */
import type { Va } from "../machine/cpu/api.js";
import { InspectError } from "./api.js";

export { hex64, hexVa } from "../machine/hex.js";

/** A canonical address from text, with or without `0x`. */
export function parseVa(text: string): Va {
  const digits = text.trim().replace(/^0x/i, "").replace(/[_']/g, "");
  if (!/^[0-9a-f]{1,16}$/i.test(digits)) throw new InspectError("invalid", `"${text}" is no hexadecimal address`);
  const padded = digits.padStart(16, "0");
  const hi = parseInt(padded.slice(0, 8), 16) | 0;
  const va = hi * 4294967296 + parseInt(padded.slice(8), 16);
  if (!(va >= -(2 ** 47) && va < 2 ** 47)) {
    throw new InspectError("invalid", `${text} is not canonical: bits 48–63 must repeat bit 47`);
  }
  return va;
}

const PAIRS = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));

export function hexBytes(bytes: Uint8Array): string {
  let out = "";
  for (const b of bytes) out += PAIRS[b] as string;
  return out;
}
