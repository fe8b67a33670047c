/**
 * A vCPU's segment descriptors: set_gdt, update_descriptor, the LDT's pages on demand, and reading a descriptor by selector for the traps room.
 *
 * Invariant: a descriptor is only read from frames typed seg_desc (all their descriptors were checked) or from Xen's own reserved entries.
 */
import { FIRST_RESERVED_GDT_ENTRY } from "../../abi/arch_x86_xen.js";
import { EFAULT, EINVAL, ENOMEM } from "../../abi/errno.js";
import type { Maddr } from "../../machine/memory.js";
import type { Call } from "../hypercalls/call.js";
import type { Vcpu } from "../vcpu.js";
import { fixDescriptor } from "./descriptor-check.js";
import { PGT_seg_desc_page, PGT_writable_page } from "./frame-table.js";
import { PTE_P, pteMfn } from "./page-types.js";
import { u64, view } from "./util.js";
import { walkL1 } from "./walk.js";

/** Xen's own GDT entries from FIRST_RESERVED_GDT_ENTRY on, high and low halves: what FLAT_* selectors name. */
const RESERVED: readonly (readonly [lo: number, hi: number])[] = [
  [0, 0],
  [0x0000ffff, 0x00af9b00], // 0xe008: Xen's 64-bit code
  [0x0000ffff, 0x00cf9300], // 0xe010: Xen's data
  [0, 0],
  [0x0000ffff, 0x00cffb00], // 0xe023: ring 3, 32-bit code
  [0x0000ffff, 0x00cff300], // 0xe02b: ring 3, data
  [0x0000ffff, 0x00affb00], // 0xe033: ring 3, 64-bit code
  [0x0000ffff, 0x00cf9b00], // 0xe038: Xen's 32-bit code
];

export interface SegmentDescriptor {
  readonly lo: number;
  readonly hi: number;
  /** Base address (32 bits; code and data). */
  readonly base: number;
  /** Limit in bytes, inclusive. */
  readonly limit: number;
  /** Bits 40–55: type, S, DPL, P, AVL, L, D/B, G (limit bits cleared). */
  readonly attr: number;
}

function decode(lo: number, hi: number): SegmentDescriptor {
  const raw = (lo & 0xffff) | (hi & 0xf0000);
  return {
    lo: lo >>> 0,
    hi: hi >>> 0,
    base: ((lo >>> 16) | ((hi & 0xff) << 16) | (hi & 0xff000000)) >>> 0,
    limit: (hi & 0x800000) !== 0 ? raw * 4096 + 4095 : raw,
    attr: (hi >>> 8) & 0xf0ff,
  };
}

/**
 * Bring in the LDT page that covers byte `offset` of the LDT: true if it is there now, false if the fault is the guest's.
 */
export function ldtFault(vcpu: Vcpu, offset: number): boolean {
  const mm = vcpu.mm;
  if (!(offset >= 0 && offset < mm.ldtEntries * 8)) return false;
  const page = offset >>> 12;
  if ((mm.ldtFrames[page] as number) >= 0) return true;
  const ft = vcpu.domain.xen.frames;
  const at = walkL1(ft, mm.kernelRoot, mm.ldtBase + page * 4096);
  if (at < 0) return false;
  const lo = ft.mem.r32(at);
  if ((lo & PTE_P) === 0) return false;
  const mfn = pteMfn(lo, ft.mem.r32(at + 4));
  if (ft.getPageAndType(mfn, vcpu.domain.mm.id, PGT_seg_desc_page) !== 0) return false;
  mm.ldtFrames[page] = mfn;
  return true;
}

/** Where the descriptor of a selector lies, −1 for Xen's own and empty ones, −2 beyond the table. */
function locate(vcpu: Vcpu, selector: number): Maddr {
  const index = selector >>> 3;
  const mm = vcpu.mm;
  if ((selector & 4) !== 0) {
    if (index >= mm.ldtEntries || !ldtFault(vcpu, index * 8)) return -2;
    return (mm.ldtFrames[index >>> 9] as number) * 4096 + (index & 511) * 8;
  }
  if (index >= FIRST_RESERVED_GDT_ENTRY) return index < FIRST_RESERVED_GDT_ENTRY + RESERVED.length ? -1 : -2;
  const f = mm.gdtFrames[index >>> 9] as number;
  return f < 0 ? -1 : f * 4096 + (index & 511) * 8;
}

/**
 * The descriptor a selector names, or null where it lies beyond its table (#GP with the selector). A present code or data descriptor is marked
 * accessed, as the processor does. Null selectors (0–3) read as an empty descriptor: what they mean is the caller's business.
 */
export function readDescriptor(vcpu: Vcpu, selector: number): SegmentDescriptor | null {
  selector &= 0xffff;
  if (selector < 4) return decode(0, 0);
  const at = locate(vcpu, selector);
  if (at === -2) return null;
  if (at === -1) {
    const r = RESERVED[(selector >>> 3) - FIRST_RESERVED_GDT_ENTRY];
    return r === undefined ? decode(0, 0) : decode(r[0], r[1]);
  }
  const mem = vcpu.domain.xen.mem;
  const lo = mem.r32(at);
  let hi = mem.r32(at + 4);
  if ((hi & 0x9100) === 0x9000) {
    hi |= 0x100;
    mem.w32(at + 4, hi);
  }
  return decode(lo, hi);
}

export function doSetGdt(call: Call): number {
  const entries = call.lo(1);
  if (entries > FIRST_RESERVED_GDT_ENTRY) return -EINVAL;
  const n = Math.ceil(entries / 512);
  const raw = call.guest.copyFrom(call.va(0), n * 8);
  if (raw === null) return -EFAULT;
  const v = view(raw);
  const frames: number[] = [];
  for (let i = 0; i < n; i++) frames.push(u64(v, i * 8));
  const rc = call.vcpu.mm.setGdt(frames, entries);
  if (rc === 0) call.xen.frames.flushTlb();
  return rc;
}

export function doUpdateDescriptor(call: Call): number {
  const ft = call.xen.frames;
  const mm = call.domain.mm;
  const ga = call.num(0);
  const d = fixDescriptor(call.lo(1), call.hi(1));
  if (ga % 8 !== 0 || d === null) return -EINVAL;
  const { lo, hi } = d;
  const mfn = Math.floor(ga / 4096);
  if (!ft.getPage(mfn, mm.id)) return -EINVAL;
  const type = ft.type[mfn] === PGT_seg_desc_page ? PGT_seg_desc_page : PGT_writable_page;
  if (ft.getPageType(mfn, type) !== 0) {
    ft.putPage(mfn);
    return -EINVAL;
  }
  if (!ft.sharing.makePrivate(mfn)) {
    ft.putPageAndType(mfn);
    return -ENOMEM;
  }
  ft.mem.w64(ga, lo, hi);
  ft.putPageAndType(mfn);
  return 0;
}
