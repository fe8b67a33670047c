/**
 * The PV console's ring (public/io/console.h) as the back end sees it: a pure state machine over one shared page.
 *
 * Every index in the page is the guest's to forge: what it says is reduced to the ring's size before use, so that a hostile front end
 * costs only its own output.
 */
import { xencons_interface as X } from "../../abi/io_console.js";

/** The shared page. */
export interface RingPage {
  r32(offset: number): number;
  w32(offset: number, value: number): void;
  read(offset: number, into: Uint8Array): void;
  write(offset: number, bytes: Uint8Array): void;
}

const IN_SIZE = X.out - X.in;
const OUT_SIZE = X.in_cons - X.out;

export class ConsoleRing {
  constructor(private readonly page: RingPage) {}

  /** Bytes the guest has written since the last time. */
  takeOutput(): Uint8Array {
    const { page } = this;
    const cons = page.r32(X.out_cons);
    const prod = page.r32(X.out_prod);
    const n = (prod - cons) >>> 0;
    if (n === 0) return new Uint8Array(0);
    if (n > OUT_SIZE) {
      // The front end broke the ring: drop what it claims and go on from there, as xenconsoled does.
      page.w32(X.out_cons, prod);
      return new Uint8Array(0);
    }
    const out = new Uint8Array(n);
    const from = cons & (OUT_SIZE - 1);
    const first = Math.min(n, OUT_SIZE - from);
    page.read(X.out + from, out.subarray(0, first));
    if (first < n) page.read(X.out, out.subarray(first));
    page.w32(X.out_cons, prod);
    return out;
  }

  /** Offer input; returns how many bytes fitted. */
  putInput(bytes: Uint8Array): number {
    const { page } = this;
    const cons = page.r32(X.in_cons);
    const prod = page.r32(X.in_prod);
    const used = (prod - cons) >>> 0;
    if (used > IN_SIZE) return 0;
    const n = Math.min(bytes.length, IN_SIZE - used);
    if (n === 0) return 0;
    const at = prod & (IN_SIZE - 1);
    const first = Math.min(n, IN_SIZE - at);
    page.write(X.in + at, bytes.subarray(0, first));
    if (first < n) page.write(X.in, bytes.subarray(first, n));
    page.w32(X.in_prod, prod + n);
    return n;
  }
}
