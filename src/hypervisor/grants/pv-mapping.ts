/**
 * Grants in a PV guest's page tables: making the L1 entry of a mapping, and removing exactly that entry again.
 */
import {
  _GNTMAP_guest_avail0,
  GNTMAP_application_map,
  GNTMAP_contains_pte,
  GNTMAP_readonly,
  GNTST_general_error,
  GNTST_okay,
} from "../../abi/grant_table.js";
import type { Maddr, Mfn } from "../../machine/memory.js";
import type { Call } from "../hypercalls/call.js";
import { F_VALIDATED, PGT_l1_page_table } from "../memory/frame-table.js";
import {
  PTE_A,
  PTE_AVAIL,
  PTE_D,
  PTE_G,
  PTE_HI_GRANT,
  PTE_HI_KERNEL,
  PTE_HI_NX,
  PTE_P,
  PTE_RW,
  PTE_US,
  pteMfn,
} from "../memory/page-types.js";
import { walkL1 } from "../memory/walk.js";
import { toVa } from "../memory/util.js";

/** The L1 entry that `addr` names: itself, by its machine address, or the one of a linear address. −1 if there is none of the caller's. */
function locate(call: Call, lo: number, hi: number, flags: number): Maddr {
  const ft = call.xen.frames;
  let at: Maddr;
  if ((flags & GNTMAP_contains_pte) !== 0) {
    if ((lo & 7) !== 0) return -1;
    at = hi * 4294967296 + (lo >>> 0);
  } else at = walkL1(ft, call.vcpu.mm.kernelRoot, toVa(lo, hi));
  if (at < 0) return -1;
  const l1 = Math.floor(at / 4096);
  if (!call.domain.mm.owns(l1) || ft.type[l1] !== PGT_l1_page_table) return -1;
  return (ft.flags[l1] as number) & F_VALIDATED ? at : -1;
}

/** Enter the mapping; the references for it are the caller's to hold. What was mapped there is dropped. */
export function createMapping(call: Call, lo: number, hi: number, mfn: Mfn, flags: number): number {
  const at = locate(call, lo, hi, flags);
  if (at < 0) return GNTST_general_error;
  const { mem, types } = call.xen.frames;
  let plo = PTE_P | PTE_A | PTE_D | (((flags >>> _GNTMAP_guest_avail0) << 9) & PTE_AVAIL);
  let phi = (PTE_HI_GRANT | PTE_HI_NX) >>> 0;
  if ((flags & GNTMAP_readonly) === 0) plo |= PTE_RW;
  if ((flags & GNTMAP_application_map) !== 0) plo |= PTE_US | PTE_G;
  else {
    plo |= PTE_US;
    phi |= PTE_HI_KERNEL;
  }
  const olo = mem.r32(at);
  const ohi = mem.r32(at + 4);
  mem.w64(at, (mfn << 12) | plo, phi | (mfn >>> 20));
  types.left(olo, ohi);
  types.putL1e(olo, ohi, call.domain.mm.id);
  return GNTST_okay;
}

/**
 * Remove the entry of a mapping, or put in its place the one of `newLo/newHi` (unmap_and_replace), which is emptied. The entry must still map the
 * frame as it was granted. The references of the removed entry are the caller's to drop.
 */
export function replaceMapping(
  call: Call,
  lo: number,
  hi: number,
  mfn: Mfn,
  flags: number,
  newLo: number,
  newHi: number,
): number {
  const { mem, types } = call.xen.frames;
  const id = call.domain.mm.id;
  let nlo = 0;
  let nhi = 0;
  if (newLo !== 0 || newHi !== 0) {
    if ((flags & GNTMAP_contains_pte) !== 0) return GNTST_general_error;
    const from = locate(call, newLo, newHi, 0);
    if (from < 0) return GNTST_general_error;
    nlo = mem.r32(from);
    nhi = mem.r32(from + 4);
    mem.w64(from, 0, 0);
    types.left(nlo, nhi);
  }
  const at = locate(call, lo, hi, flags);
  const olo = at < 0 ? 0 : mem.r32(at);
  const ohi = at < 0 ? 0 : mem.r32(at + 4);
  const want = PTE_P | ((flags & GNTMAP_readonly) !== 0 ? 0 : PTE_RW);
  if (at < 0 || (olo & (PTE_P | PTE_RW)) !== want || pteMfn(olo, ohi) !== mfn) {
    types.putL1e(nlo, nhi, id);
    return GNTST_general_error;
  }
  mem.w64(at, nlo, nhi);
  types.left(olo, ohi);
  return GNTST_okay;
}
