/**
 * The PV console's ring (public/io/console.h) as the back end sees it: a pure state machine over one shared page.
 *
 * Every index in the page is the guest's to forge: what it says is reduced to the ring's size before use, so that a hostile front end
 * costs only its own output.
 */
import { xencons_interface as X } from "../../abi/io_console.js";
import type { PhysMem } from "../../machine/memory.js";

const IN_SIZE = X.out - X.in;
const OUT_SIZE = X.in_cons - X.out;

export class ConsoleRing {
  constructor(
    private readonly mem: PhysMem,
    private readonly page: number,
  ) {}

  /** Bytes the guest has written since the last time. */
  takeOutput(): Uint8Array {
    const { mem, page } = this;
    const cons = mem.r32(page + X.out_cons);
    const prod = mem.r32(page + X.out_prod);
    const n = (prod - cons) >>> 0;
    if (n === 0) return new Uint8Array(0);
    if (n > OUT_SIZE) {
      // The front end broke the ring: drop what it claims and go on from there, as xenconsoled does.
      mem.w32(page + X.out_cons, prod);
      return new Uint8Array(0);
    }
    const out = new Uint8Array(n);
    for (let i = 0; i < n; i++) out[i] = mem.r8(page + X.out + ((cons + i) & (OUT_SIZE - 1)));
    mem.w32(page + X.out_cons, prod);
    return out;
  }

  /** Offer input; returns how many bytes fitted. */
  putInput(bytes: Uint8Array): number {
    const { mem, page } = this;
    const cons = mem.r32(page + X.in_cons);
    const prod = mem.r32(page + X.in_prod);
    const used = (prod - cons) >>> 0;
    if (used > IN_SIZE) return 0;
    const n = Math.min(bytes.length, IN_SIZE - used);
    for (let i = 0; i < n; i++) mem.w8(page + X.in + ((prod + i) & (IN_SIZE - 1)), bytes[i] as number);
    mem.w32(page + X.in_prod, prod + n);
    return n;
  }
}
