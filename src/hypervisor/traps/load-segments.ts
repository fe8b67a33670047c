/**
 * Segment register loads of a PV guest: the descriptor comes from the guest's GDT or LDT (or Xen's own part of the GDT), with the
 * checks and faults of the hardware (SDM vol. 3, 5.5–5.8; vol. 2 MOV). All guest code runs at CPL 3.
 *
 * A load that fails leaves the register as it was; the fault is left in `fault`.
 */
import { CS, FS, GS, SS } from "../../machine/cpu/insn.js";
import { readDescriptor } from "../memory/descriptors.js";
import type { Vcpu } from "../vcpu.js";
import { GP, NP, STACK } from "./inject.js";
import { ATTR_CODE, ATTR_DPL_SHIFT, ATTR_EC, ATTR_L, ATTR_NULL, ATTR_P, ATTR_S, ATTR_WR } from "./segments.js";

/** The exception a failed load calls for. */
export const fault = { vector: 0, error: 0 };

function fail(vector: number, error: number): false {
  fault.vector = vector;
  fault.error = error;
  return false;
}

/**
 * Load ES, SS, DS, FS or GS of the loaded vCPU as `mov sreg, r/m16` does. False: `fault` says which exception.
 */
export function loadSegment(v: Vcpu, sreg: number, selector: number): boolean {
  const { cpu } = v.domain.xen;
  v.domain.xen.counters.segmentLoads++;
  const sel = selector & 0xffff;
  const error = sel & ~3;
  if (sreg === CS) return fail(6, -1);
  if ((sel & ~3) === 0) {
    // A null SS is allowed in 64-bit mode only at CPL 0–2.
    if (sreg === SS) return fail(GP, 0);
    if (sreg === FS || sreg === GS) cpu.setSegment(sreg, sel, 0, 0, ATTR_NULL);
    else cpu.setSegment(sreg, sel, 0, 0xffffffff, ATTR_NULL);
    return true;
  }
  const d = readDescriptor(v, sel);
  if (d === null) return fail(GP, error);
  const { attr } = d;
  const dpl = (attr >> ATTR_DPL_SHIFT) & 3;
  if ((attr & ATTR_S) === 0) return fail(GP, error);
  const code = (attr & ATTR_CODE) !== 0;
  if (sreg === SS) {
    if (code || (attr & ATTR_WR) === 0 || (sel & 3) !== 3 || dpl !== 3) return fail(GP, error);
    if ((attr & ATTR_P) === 0) return fail(STACK, error);
  } else {
    if (code && (attr & ATTR_WR) === 0) return fail(GP, error);
    // Data and non-conforming code need DPL ≥ CPL and RPL; the CPL is 3.
    if (!(code && (attr & ATTR_EC) !== 0) && dpl !== 3) return fail(GP, error);
    if ((attr & ATTR_P) === 0) return fail(NP, error);
  }
  cpu.setSegment(sreg, sel, d.base, d.limit, attr | 1);
  return true;
}

/** Load CS for a return to guest code; the width of that code, or 0 with `fault` set. */
export function loadCode(v: Vcpu, selector: number): 0 | 16 | 32 | 64 {
  const sel = selector & 0xffff;
  const error = sel & ~3;
  if (error === 0) {
    fail(GP, 0);
    return 0;
  }
  const d = readDescriptor(v, sel);
  if (d === null) {
    fail(GP, error);
    return 0;
  }
  const { attr } = d;
  const dpl = (attr >> ATTR_DPL_SHIFT) & 3;
  const conforming = (attr & ATTR_EC) !== 0;
  if ((attr & (ATTR_S | ATTR_CODE)) !== (ATTR_S | ATTR_CODE) || (!conforming && dpl !== 3)) {
    fail(GP, error);
    return 0;
  }
  if ((attr & ATTR_P) === 0) {
    fail(NP, error);
    return 0;
  }
  if ((attr & ATTR_L) !== 0 && (attr & 0x4000) !== 0) {
    fail(GP, error);
    return 0;
  }
  v.domain.xen.cpu.setSegment(CS, sel, d.base, d.limit, attr | 1);
  return (attr & ATTR_L) !== 0 ? 64 : (attr & 0x4000) !== 0 ? 32 : 16;
}
