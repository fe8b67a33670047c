/**
 * The guest's own table of its memory (pseudo-physical to machine frame): a PV guest keeps it in its memory and says in its shared info page
 * where: as a linear list by virtual address (`p2m_cr3`, `p2m_vaddr`), or as a tree of frames (`pfn_to_mfn_frame_list_list`).
 *
 * Everything read here is the guest's: frames must be its own, sizes are bounded, and a page counts only where the machine-to-physical table
 * agrees. Who moves the guest writes the table anew (`writeP2m`).
 */
import { shared_info } from "../../abi/xen.js";
import type { Domain } from "../../hypervisor/domain.js";
import { pteMfn, PTE_P } from "../../hypervisor/memory/page-types.js";
import { walkL1 } from "../../hypervisor/memory/walk.js";
import type { Mfn } from "../../machine/memory.js";
import { MigrationError } from "./errors.js";
import { tableLevel } from "./formats.js";
import { frameType } from "./frame-types.js";

/** Entries of eight bytes in a page. */
export const P2M_PER_PAGE = 512;
/** 64 GiB of pseudo-physical space: more than any machine here has. */
export const MAX_PFNS = 1 << 24;

export interface GuestP2m {
  /** One past the highest frame. */
  readonly pfns: number;
  /** Machine frame of each, −1 where there is none. */
  readonly mfn: Int32Array;
  /** Where the table itself is: the pseudo-physical frame of each of its pages. */
  readonly frames: Int32Array;
}

/** The machine frames that hold the table, or a reason why they cannot be told. */
function tableFrames(domain: Domain, pages: number): Mfn[] | string {
  const { mem, frames: ft } = domain.xen;
  const at = domain.mm.sharedInfo * 4096;
  const own = (mfn: number): boolean => domain.mm.owns(mfn);
  const out: Mfn[] = [];
  const cr3 = mem.r64(at + shared_info.arch_p2m_cr3);
  if (cr3 !== 0) {
    const root = Math.floor(cr3 / 4096);
    const va = mem.r32(at + shared_info.arch_p2m_vaddr) + (mem.r32(at + shared_info.arch_p2m_vaddr + 4) | 0) * 2 ** 32;
    if (!own(root)) return "the root of its P2M list is not its own";
    if (tableLevel(frameType(ft, root)) !== 4) return "the root of its P2M list is no page table";
    if (va % 4096 !== 0) return "its P2M list does not begin with a page";
    for (let i = 0; i < pages; i++) {
      const pte = walkL1(ft, root, va + i * 4096);
      const lo = pte < 0 ? 0 : mem.r32(pte);
      const mfn = pteMfn(lo, pte < 0 ? 0 : mem.r32(pte + 4));
      if ((lo & PTE_P) === 0 || !own(mfn)) return `page ${i} of its P2M list is not mapped`;
      out.push(mfn);
    }
    return out;
  }
  const top = mem.r64(at + shared_info.arch_pfn_to_mfn_frame_list_list);
  if (!own(top)) return "it says nowhere where its P2M table is";
  for (let i = 0; i < pages; i++) {
    if (pages > P2M_PER_PAGE * P2M_PER_PAGE) return "its P2M table is too large";
    const list = mem.r64(top * 4096 + (i >> 9) * 8);
    if (!own(list)) return `page ${i >> 9} of its P2M frame list is not its own`;
    const mfn = mem.r64(list * 4096 + (i & 511) * 8);
    if (!own(mfn)) return `page ${i} of its P2M table is not its own`;
    out.push(mfn);
  }
  return out;
}

/** Read the table; a MigrationError says what is wrong with it. */
export function readP2m(domain: Domain): GuestP2m {
  const { mem, frames: ft } = domain.xen;
  const { mm } = domain;
  const pfns = mem.r64(mm.sharedInfo * 4096 + shared_info.arch_max_pfn);
  const fail = (why: string): never => {
    throw new MigrationError("unsupported", `domain ${domain.domid} cannot be moved: ${why}`);
  };
  if (!(pfns > 0 && pfns <= MAX_PFNS))
    return fail(pfns === 0 ? "it has no P2M table (yet)" : "its P2M table is too large");
  const table = tableFrames(domain, Math.ceil(pfns / P2M_PER_PAGE));
  if (typeof table === "string") return fail(table);
  const mfn = new Int32Array(pfns).fill(-1);
  for (let pfn = 0; pfn < pfns; pfn++) {
    const at = mem.resolve((table[pfn >>> 9] as Mfn) * 4096 + (pfn & 511) * 8) >>> 2;
    // Linux marks what is no page of the guest's own in the uppermost bits.
    if (mem.u32[at + 1] !== 0) continue;
    const m = mem.u32[at] as number;
    if (mm.owns(m) && ft.m2p.get(m) === pfn) mfn[pfn] = m;
  }
  const frames = new Int32Array(table.length);
  for (let i = 0; i < table.length; i++) {
    const pfn = ft.m2p.get(table[i] as Mfn);
    if (!(pfn >= 0 && pfn < pfns) || mfn[pfn] !== table[i]) return fail(`page ${i} of its P2M table is not within it`);
    frames[i] = pfn;
  }
  return { pfns, mfn, frames };
}

/** What the hypervisor itself knows, for domains without a table of their own (dumps of domains that never got that far). */
export function hypervisorP2m(domain: Domain): GuestP2m {
  const { mm } = domain;
  return { pfns: mm.p2mLength, mfn: mm.p2m.slice(0, mm.p2mLength), frames: new Int32Array(0) };
}

/** Write a table anew, into the pages that hold it: empty places are all ones. */
export function writeP2m(domain: Domain, p2m: GuestP2m): void {
  const { mem } = domain.xen;
  const page = new Uint32Array(P2M_PER_PAGE * 2);
  const bytes = new Uint8Array(page.buffer);
  for (let i = 0; i < p2m.frames.length; i++) {
    page.fill(0xffffffff);
    for (let e = 0; e < P2M_PER_PAGE; e++) {
      const mfn = p2m.mfn[i * P2M_PER_PAGE + e] ?? -1;
      if (mfn < 0) continue;
      page[e * 2] = mfn;
      page[e * 2 + 1] = 0;
    }
    mem.write((p2m.mfn[p2m.frames[i] as number] as Mfn) * 4096, bytes);
  }
}
