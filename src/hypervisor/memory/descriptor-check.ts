/**
 * Which segment descriptors a 64-bit PV guest may have in its GDT and LDT (Xen's check_descriptor): code and data at DPL 3, call gates to
 * its own segments (kept at DPL 0 so that using one faults), empty and not-present ones. Everything else would give it the machine.
 */
import { FIRST_RESERVED_GDT_ENTRY, FLAT_KERNEL_CS } from "../../abi/arch_x86_xen.js";

const P = 0x8000;
const S = 0x1000;
const DPL = 0x6000;
const TYPE = 0x0f00;
const CALL_GATE = 0x0c00;

export interface Descriptor {
  lo: number;
  hi: number;
}

function gateSelectorOk(sel: number): boolean {
  return sel >>> 3 < FIRST_RESERVED_GDT_ENTRY || sel === FLAT_KERNEL_CS || (sel & 4) !== 0;
}

const out: Descriptor = { lo: 0, hi: 0 };

/** The descriptor as it may be installed (a shared object, read it at once), or null if it may not be. */
export function fixDescriptor(lo: number, hi: number): Descriptor | null {
  out.lo = lo >>> 0;
  out.hi = hi >>> 0;
  if ((hi & P) === 0) return out;
  if ((hi & S) !== 0) {
    out.hi = (hi | DPL) >>> 0;
    return out;
  }
  if ((hi & TYPE) === 0) return out;
  if ((hi & TYPE) !== CALL_GATE) return null;
  const sel = lo >>> 16;
  if (!gateSelectorOk(sel) || (hi & 0xff) !== 0) return null;
  // Guest-kernel RPL is 3 on a 64-bit guest; the gate's own DPL becomes 0 and its old one moves to the selector's RPL.
  out.lo = ((lo & 0xffff) | ((sel | 3) << 16)) >>> 0;
  out.hi = (hi & ~DPL) >>> 0;
  return out;
}
