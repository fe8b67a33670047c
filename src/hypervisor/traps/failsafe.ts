/**
 * The failsafe callback (public/callback.h, CALLBACKTYPE_failsafe): selectors of data segments are loaded anew when a vCPU comes back to a
 * physical CPU. One whose descriptor has gone meanwhile becomes null, and the guest kernel is told, with the selectors that it had.
 */
import { DS, ES, FS, GS } from "../../machine/cpu/insn.js";
import type { Vcpu } from "../vcpu.js";
import { bounce, NO_ERROR } from "./bounce.js";
import { loadSegment } from "./load-segments.js";

const ORDER = [DS, ES, FS, GS] as const;

/** Load ds, es, fs and gs of the vCPU that has just been put on the CPU. Null selectors, the usual case, cost nothing. */
export function reloadSegments(v: Vcpu): void {
  const { cpu } = v.domain.xen;
  if (((cpu.selector(DS) | cpu.selector(ES) | cpu.selector(FS) | cpu.selector(GS)) & ~3) === 0) return;
  const were = ORDER.map((s) => cpu.selector(s));
  let lost = false;
  for (const s of ORDER) {
    const selector = cpu.selector(s);
    if ((selector & ~3) === 0) continue;
    const lo = cpu.segBaseLo(s);
    const hi = cpu.segBaseHi(s);
    if (!loadSegment(v, s, selector)) {
      cpu.setSegment(s, 0, 0, 0, 0);
      lost = true;
    } else if (s === FS || s === GS) {
      // The base may have been set apart from the descriptor (SEGBASE_FS, MSRs): it is the vCPU's own.
      cpu.setSegBase(s, lo, hi);
    }
  }
  if (lost) bounce(v, v.traps.failsafeCallback, v.traps.failsafeMasks, NO_ERROR, were);
}
