/** 64-bit values as hexadecimal text of 16 digits. */
import type { Va } from "./cpu/api.js";

export function hex64(lo: number, hi: number): string {
  return (hi >>> 0).toString(16).padStart(8, "0") + (lo >>> 0).toString(16).padStart(8, "0");
}
/** A canonical address. */
export function hexVa(va: Va): string {
  return hex64(va >>> 0, Math.floor(va / 4294967296) >>> 0);
}
