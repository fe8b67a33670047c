/**
 * Make a suspended domain live again from its pages and state: page tables are localised, the guest's P2M, its start info and shared info
 * pages are written for this host, tables are pinned and vCPUs set, both checked by the hypervisor as any guest's.
 *
 * The pages are in place when this begins (`domain.mm` knows each by its pseudo-physical frame) and no vCPU has run: from a stream, or shared
 * with another domain. What is not as it should be is said with a MigrationError; the caller then destroys the domain.
 */
import { shared_info, start_info, vcpu_info } from "../../abi/xen.js";
import type { Domain } from "../../hypervisor/domain.js";
import type { Mfn } from "../../machine/memory.js";
import { damaged } from "./errors.js";
import { PT_NOTAB, PT_PINNED, PT_XTAB, tableLevel } from "./formats.js";
import { writeP2m } from "./p2m.js";
import { localiseFrame, type TableLevel } from "./page-tables.js";
import { restoreVcpu, startInfoPfn, type SavedVcpu } from "./vcpus.js";

/** Multiplier and so on of a TSC that is emulated or moved (XEN_DOMCTL_settscinfo). */
export interface TscInfo {
  readonly mode: number;
  readonly khz: number;
  readonly nsec: number;
  readonly incarnation: number;
}

/** All of a suspended domain but the content of its pages. */
export interface SuspendedState {
  /** One past the highest pseudo-physical frame. */
  readonly pfns: number;
  /** Type of each frame as in a stream (formats.ts): level of a page table, PT_PINNED, PT_XTAB where there is none. */
  readonly types: Uint8Array;
  /** Pseudo-physical frames that hold the guest's P2M, in order. */
  readonly p2mFrames: Int32Array;
  /** The shared info page (4096 bytes, or what shared_info needs of it). */
  readonly sharedInfo: Uint8Array;
  readonly vcpus: readonly SavedVcpu[];
  readonly tsc?: TscInfo | undefined;
}

/** Event channels that the new host has for XenStore and the console. */
export interface ServicePorts {
  readonly store: number;
  readonly console: number;
}
/** Where the guest's rings are now. */
export interface ServiceFrames {
  readonly storeMfn: Mfn;
  readonly consoleMfn: Mfn;
}

/** Pseudo-physical to machine frames of a new domain; −1 outside. */
function frameMap(domain: Domain, state: SuspendedState): (pfn: number) => Mfn {
  const { mm } = domain;
  return (pfn) => (pfn < state.pfns ? mm.mfnOf(pfn) : -1);
}

/** A page of data that the toolstack writes for the guest: it must be there and be no page table. */
function dataPage(state: SuspendedState, mfnOf: (pfn: number) => Mfn, pfn: number, what: string): Mfn {
  const mfn = mfnOf(pfn);
  if (mfn < 0 || state.types[pfn] !== PT_NOTAB) throw damaged(`the ${what} (frame ${pfn}) is no page of the domain's`);
  return mfn;
}

/** Step 1: every page table names this host's frames. `only` restricts it to some tables (those not shared with another domain). */
export function localiseTables(
  domain: Domain,
  state: SuspendedState,
  only: (pfn: number) => boolean = () => true,
): void {
  const { mem } = domain.xen;
  const mfnOf = frameMap(domain, state);
  for (let pfn = 0; pfn < state.pfns; pfn++) {
    const type = state.types[pfn] as number;
    const level = tableLevel(type);
    if (level === 0 || type === PT_XTAB || !only(pfn)) continue;
    const mfn = mfnOf(pfn);
    if (mfn < 0) throw damaged(`page table ${pfn} is missing`);
    const bad = localiseFrame(mem, mfn, level, mfnOf);
    if (bad >= 0)
      throw damaged(`entry ${bad} of the L${level} page table ${pfn} names memory that the domain does not have`);
  }
}

/** Step 2: the guest's P2M. */
export function rebuildP2m(domain: Domain, state: SuspendedState): void {
  const mfnOf = frameMap(domain, state);
  if (state.p2mFrames.length < Math.ceil(state.pfns / 512)) throw damaged("the P2M table is too short");
  for (const pfn of state.p2mFrames) dataPage(state, mfnOf, pfn, "P2M table");
  const mfn = new Int32Array(state.pfns);
  for (let pfn = 0; pfn < state.pfns; pfn++) mfn[pfn] = mfnOf(pfn);
  writeP2m(domain, { pfns: state.pfns, mfn, frames: state.p2mFrames });
}

/** Step 3: start info, with the rings' places as the guest left them (as pseudo-physical frames) and this host's event channels. */
export function rebuildStartInfo(
  domain: Domain,
  state: SuspendedState,
  ports: ServicePorts,
): ServiceFrames & { readonly startInfoMfn: Mfn } {
  const { mem } = domain.xen;
  const mfnOf = frameMap(domain, state);
  const first = state.vcpus.find((v) => v.id === 0);
  if (first === undefined) throw damaged("there is no vCPU 0");
  const startInfoMfn = dataPage(state, mfnOf, startInfoPfn(first), "start info page");
  const at = startInfoMfn * 4096;
  const storeMfn = dataPage(state, mfnOf, mem.r64(at + start_info.store_mfn), "XenStore ring");
  const consoleMfn = dataPage(state, mfnOf, mem.r64(at + start_info.console_domU_mfn), "console ring");
  mem.w64n(at + start_info.nr_pages, domain.mm.totPages);
  mem.w64n(at + start_info.shared_info, domain.mm.sharedInfo * 4096);
  mem.w32(at + start_info.flags, 0);
  mem.w64n(at + start_info.store_mfn, storeMfn);
  mem.w32(at + start_info.store_evtchn, ports.store);
  mem.w64n(at + start_info.console_domU_mfn, consoleMfn);
  mem.w32(at + start_info.console_domU_evtchn, ports.console);
  return { storeMfn, consoleMfn, startInfoMfn };
}

/** Step 4: shared info. vCPUs' parts and the guest's own words are kept; events are all gone and masked, the P2M's place is told anew by the guest. */
export function rebuildSharedInfo(domain: Domain, saved: Uint8Array): void {
  const { mem } = domain.xen;
  const at = domain.mm.sharedInfo * 4096;
  if (saved.length < shared_info.size) throw damaged("the shared info page is too short");
  mem.write(at, saved.subarray(0, shared_info.evtchn_pending));
  mem.write(at + shared_info.arch, saved.subarray(shared_info.arch, shared_info.size));
  mem.w64(at + shared_info.arch_pfn_to_mfn_frame_list_list, 0, 0);
  mem.w64(at + shared_info.arch_p2m_cr3, 0, 0);
  for (let p = at; p < at + shared_info.evtchn_pending; p += vcpu_info.size)
    mem.w64(p + vcpu_info.evtchn_pending_sel, 0, 0);
  mem.fill(at + shared_info.evtchn_pending, 0, shared_info.evtchn_mask - shared_info.evtchn_pending);
  mem.fill(at + shared_info.evtchn_mask, 0xff, shared_info.wc_version - shared_info.evtchn_mask);
  domain.time.updateWallclock();
}

/** Step 5: pins. The hypervisor validates each table and all below it. */
export function pinTables(domain: Domain, state: SuspendedState): void {
  for (let pfn = 0; pfn < state.pfns; pfn++) {
    const type = state.types[pfn] as number;
    const level = tableLevel(type);
    if (level === 0 || (type & PT_PINNED) === 0) continue;
    const rc = domain.mm.pin(domain.mm.mfnOf(pfn), level as TableLevel);
    if (rc !== 0) throw damaged(`the L${level} page table ${pfn} is refused (${rc})`);
  }
}

/** Step 6: vCPUs. */
export function rebuildVcpus(domain: Domain, state: SuspendedState, startInfoMfn: Mfn): void {
  const mfnOf = frameMap(domain, state);
  for (const saved of state.vcpus) {
    const v = domain.vcpus[saved.id];
    if (v === undefined) throw damaged(`vCPU ${saved.id} is beyond the domain's ${domain.vcpus.length}`);
    restoreVcpu(v, saved, mfnOf, startInfoMfn);
  }
  if (state.tsc !== undefined) domain.cpuid.incarnation = state.tsc.incarnation + 1;
}

/** All steps, in order. The domain is paused still. */
export function rebuildDomain(domain: Domain, state: SuspendedState, ports: ServicePorts): ServiceFrames {
  localiseTables(domain, state);
  rebuildP2m(domain, state);
  const info = rebuildStartInfo(domain, state, ports);
  rebuildSharedInfo(domain, state.sharedInfo);
  pinTables(domain, state);
  rebuildVcpus(domain, state, info.startInfoMfn);
  return info;
}
