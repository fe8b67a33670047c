/** Everything of a suspended domain but the content of its pages: what a stream carries besides them, and what a fork starts from. */
import { SHUTDOWN_suspend } from "../../abi/sched.js";
import type { Domain } from "../../hypervisor/domain.js";
import { TSC_KHZ } from "../../machine/clock.js";
import { MigrationError } from "./errors.js";
import { PT_XTAB } from "./formats.js";
import { frameType } from "./frame-types.js";
import { readP2m, type GuestP2m } from "./p2m.js";
import type { FrameMap } from "./page-tables.js";
import type { SuspendedState, TscInfo } from "./rebuild.js";
import { saveVcpu } from "./vcpus.js";

/** Is the domain stopped in the suspend hypercall? */
export function isSuspended(domain: Domain): boolean {
  return domain.shutDown && domain.shutdownCode === SHUTDOWN_suspend && !domain.dying;
}

/** Machine to pseudo-physical frames, as far as the domain's own table and the hypervisor's agree. */
export function pfnMap(domain: Domain, p2m: GuestP2m): FrameMap {
  const { m2p } = domain.xen.frames;
  return (mfn) => {
    if (!domain.mm.owns(mfn)) return -1;
    const pfn = m2p.get(mfn);
    return pfn >= 0 && pfn < p2m.pfns && p2m.mfn[pfn] === mfn ? pfn : -1;
  };
}

/** The type of each frame now. */
export function captureTypes(domain: Domain, p2m: GuestP2m): Uint8Array {
  const ft = domain.xen.frames;
  const types = new Uint8Array(p2m.pfns);
  for (let pfn = 0; pfn < p2m.pfns; pfn++) {
    const mfn = p2m.mfn[pfn] as number;
    types[pfn] = mfn < 0 ? PT_XTAB : frameType(ft, mfn);
  }
  return types;
}

/** The time-stamp counter's frame of reference: never emulated here. */
export function tscInfo(domain: Domain): TscInfo {
  return { mode: 0, khz: TSC_KHZ, nsec: 0, incarnation: domain.cpuid.incarnation };
}

/** @param p2m where it has been read already */
export function captureState(domain: Domain, p2m: GuestP2m = readP2m(domain)): SuspendedState {
  if (!isSuspended(domain)) throw new MigrationError("state", `domain ${domain.domid} is not suspended`);
  const pfnOf = pfnMap(domain, p2m);
  return {
    pfns: p2m.pfns,
    types: captureTypes(domain, p2m),
    p2mFrames: p2m.frames,
    sharedInfo: domain.xen.mem.read(domain.mm.sharedInfo * 4096, 4096),
    vcpus: domain.vcpus.filter((v) => v.initialised).map((v) => saveVcpu(v, pfnOf)),
    tsc: tscInfo(domain),
  };
}
