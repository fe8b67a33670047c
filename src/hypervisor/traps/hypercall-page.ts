/**
 * The hypercall page: 128 slots of 32 bytes, each a stub that issues hypercall n with `syscall`, preserving rcx and r11; the slot of
 * iret pushes rcx, r11 and rax, the top of the frame that HYPERVISOR_iret expects, and does not return.
 */
import { __HYPERVISOR_iret } from "../../abi/xen.js";
import type { Maddr } from "../../machine/memory.js";
import type { Domain } from "../domain.js";

/** The 4096 bytes of a PV64 hypercall page. */
export function hypercallPage64(): Uint8Array {
  const page = new Uint8Array(4096).fill(0xcc);
  for (let n = 0; n < 128; n++) {
    const number = [n & 0xff, n >> 8, 0, 0];
    const stub =
      n === __HYPERVISOR_iret
        ? [0x51, 0x41, 0x53, 0x50, 0xb8, ...number, 0x0f, 0x05]
        : [0x51, 0x41, 0x53, 0xb8, ...number, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3];
    page.set(stub, n * 32);
  }
  return page;
}

/** Fill the frame at `maddr` (the domain builder's way in). */
export function fillHypercallPage(domain: Domain, maddr: Maddr): void {
  domain.xen.mem.write(maddr, hypercallPage64());
}

/** MSR 0x40000000: page number in bits 12 up, page index (must be 0) below. The frame must be the domain's and writable. */
export function writeHypercallPage(domain: Domain, lo: number, hi: number): boolean {
  if ((lo & 0xfff) !== 0) return false;
  const at = domain.events.frames.getWritable(((lo >>> 12) | (hi << 20)) >>> 0, hi >>> 12);
  if (at < 0) return false;
  fillHypercallPage(domain, at);
  domain.events.frames.putWritable(at);
  return true;
}
