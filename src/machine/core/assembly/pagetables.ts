/**
 * Changes of L1 page-table entries of a PV guest without leaving the core: one entry by HYPERVISOR_mmu_update or update_va_mapping, a store of the
 * guest kernel's to a table of its own, and the TLB flushes that go with them.
 *
 * The hypervisor's TypeScript is the reference (memory/page-types.ts, mmu-update.ts, update-va-mapping.ts, mmuext-op.ts, writable-pagetables.ts), and
 * does all else. What is done here: the table is a validated L1 of the domain's own, and what the entry is to map is RAM of its own, of which it
 * holds another reference anyway, and which no change of type is needed for but to writable. Invariant: as in pv.ts, all of it or nothing.
 */
import {
  CODE_MASK, EXIT_CR2, FRAMES_CHANGES, FRAMES_CLOCK, FRAMES_CODE_CHANGED, FRAMES_FIRST, FRAMES_FLAGS, FRAMES_LIMIT, FRAMES_OWNER, FRAMES_REF, FRAMES_STAMP,
  FRAMES_TCOUNT, FRAMES_TYPE, MODE, MODE_SPACE, PV_OWNER, PV_WRITABLE_TABLES, RIP, ROOT, SHARED,
} from "../generated/layout";
import {
  DOMID_SELF, MMUEXT_INVLPG_ALL, MMUEXT_INVLPG_LOCAL, MMUEXT_TLB_FLUSH_ALL, MMUEXT_TLB_FLUSH_LOCAL, MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_NO_TRANSLATE,
  MMU_PT_UPDATE_PRESERVE_AD, UVMF_ALL, UVMF_FLUSHTYPE_MASK, UVMF_INVLPG, UVMF_TLB_FLUSH, mmuext_op_arg1, mmuext_op_cmd, mmuext_op_size,
} from "../generated/abi";
import { ADDR, cached, canonical, ramOf, walk } from "./mmu";
import { R10, RDI, RDX, register, RSI } from "./registers";
import { flushTlb, invlpg } from "./spaces";

/** Of frame-table.ts. */
const L1_TABLE: u8 = 1;
const WRITABLE: u8 = 7;
const VALIDATED: u8 = 8;
const COUNT_MAX: i32 = 0x3fffffff;

/** Bits of an entry, and how page-types.ts sorts them. */
const P: u64 = 0x001;
const RW: u64 = 0x002;
const US: u64 = 0x004;
const AD: u64 = 0x060;
const PS: u64 = 0x080;
const G: u64 = 0x100;
const KERNEL: u64 = 0x0010000000000000;
const GRANT: u64 = 0x4000000000000000;
const NX: u64 = 0x8000000000000000;
const DISALLOW: u64 = GRANT | 0x098;
/** What cannot change without the references of an entry. */
const SLOW: u64 = 0x000ffffffffff09b;

const CODE_UPPER: u32 = 6;
const CODE_USER: u32 = 5;

// @ts-ignore: decorator
@inline
function word(table: u32, mfn: u32): u32 {
  return load<u32>(table) + mfn * 4;
}
// @ts-ignore: decorator
@inline
function typeOf(mfn: u32): u8 {
  return load<u8>(load<u32>(FRAMES_TYPE) + mfn);
}
// @ts-ignore: decorator
@inline
function validated(mfn: u32): bool {
  return (load<u8>(load<u32>(FRAMES_FLAGS) + mfn) & VALIDATED) != 0;
}
// @ts-ignore: decorator
@inline
function refs(mfn: u32): i32 {
  return load<i32>(word(FRAMES_REF, mfn));
}
// @ts-ignore: decorator
@inline
function types(mfn: u32): i32 {
  return load<i32>(word(FRAMES_TCOUNT, mfn));
}
// @ts-ignore: decorator
@inline
function valid(mfn: u64): bool {
  return mfn >= <u64>load<u32>(FRAMES_FIRST) && mfn < <u64>load<u32>(FRAMES_LIMIT);
}
/** Alive, the domain's, and room for another reference. */
// @ts-ignore: decorator
@inline
function own(mfn: u64): bool {
  return valid(mfn) && load<u32>(word(FRAMES_OWNER, <u32>mfn)) == load<u32>(PV_OWNER) && refs(<u32>mfn) > 0 && refs(<u32>mfn) < COUNT_MAX;
}
// @ts-ignore: decorator
@inline
function hasCode(ram: u32): bool {
  return load<u64>(CODE_MASK + ram * 8) != 0;
}

/** The part of the address space that is the hypervisor's. */
// @ts-ignore: decorator
@inline
export function hypervisors(va: u64): bool {
  return va >>> 43 == 0x1ffff0;
}
// @ts-ignore: decorator
@inline
function refused(va: u64): bool {
  return hypervisors(va) || !canonical(va);
}

/** The memory of a table of the domain's own that is a validated L1, if entries can be changed there unseen by anybody; else 0. */
function table(mfn: u64): u32 {
  if (!own(mfn) || typeOf(<u32>mfn) != L1_TABLE || types(<u32>mfn) <= 0 || !validated(<u32>mfn)) return 0;
  const ram = ramOf(mfn);
  return ram == 0 || load<u8>(SHARED + ram) != 0 || hasCode(ram) ? 0 : ram << 12;
}

/** A present entry changed. */
// @ts-ignore: decorator
@inline
function entryChanged(): void {
  store<u32>(FRAMES_CHANGES, load<u32>(FRAMES_CHANGES) + 1);
}
/** An entry that made a page executable goes. */
function codeLeaves(old: u64): void {
  const ram = ramOf((old & ADDR) >> 12);
  if (ram != 0 && hasCode(ram)) store<u32>(FRAMES_CODE_CHANGED, load<u32>(FRAMES_CODE_CHANGED) | ((old & KERNEL) != 0 ? CODE_UPPER : CODE_USER));
}

/** `PageTypes.modL1` of an entry at an address of `table`'s. */
function change(at: u32, value: u64, keepAd: bool): bool {
  const old = load<u64>(at);
  if ((value & P) != 0) {
    if ((value & DISALLOW) != 0) return false;
    if ((value & US) == 0) value |= US | KERNEL;
    else if ((value & KERNEL) == 0) value |= G;
    if (((old ^ value) & SLOW) == 0) {
      if ((old & NX) == 0 && (value & NX) != 0) codeLeaves(old);
      store<u64>(at, keepAd ? value | (old & AD) : value);
      entryChanged();
      return true;
    }
  }
  const clock = load<u32>(FRAMES_CLOCK);
  // What would be let go of is looked at first: the last reference to a page, or to its type, is the reference's business.
  const gone = (old & P) != 0;
  const was = <u32>((old & ADDR) >> 12);
  if (gone) {
    if ((old & GRANT) != 0 || !valid((old & ADDR) >> 12) || refs(was) < 2) return false;
    if ((old & RW) != 0 && (typeOf(was) != WRITABLE || types(was) < 1 || !validated(was))) return false;
  }
  if ((value & P) != 0) {
    if (!own((value & ADDR) >> 12)) return false;
    const mfn = <u32>((value & ADDR) >> 12);
    if ((value & RW) != 0) {
      const n = types(mfn);
      if (n == 0) {
        if (typeOf(mfn) != WRITABLE && load<u32>(word(FRAMES_STAMP, mfn)) == clock) return false;
        store<u8>(load<u32>(FRAMES_TYPE) + mfn, WRITABLE);
        const flags = load<u32>(FRAMES_FLAGS) + mfn;
        store<u8>(flags, load<u8>(flags) | VALIDATED);
      } else if (typeOf(mfn) != WRITABLE || n >= COUNT_MAX || !validated(mfn)) return false;
      store<i32>(word(FRAMES_TCOUNT, mfn), n + 1);
    }
    store<i32>(word(FRAMES_REF, mfn), refs(mfn) + 1);
  }
  store<u64>(at, keepAd ? value | (old & AD) : value);
  if (gone) {
    entryChanged();
    if ((old & NX) == 0) codeLeaves(old);
    if ((old & RW) != 0) {
      const n = types(was) - 1;
      store<i32>(word(FRAMES_TCOUNT, was), n);
      if (n == 0) store<u32>(word(FRAMES_STAMP, was), clock);
    }
    store<i32>(word(FRAMES_REF, was), refs(was) - 1);
  }
  return true;
}

/** Where a structure of a hypercall's arguments can be read, whole in one page that the TLB has; 0 = elsewhere. */
function argument(va: u64, size: u32): u32 {
  if ((<u32>va & 4095) + size > 4096 || refused(va)) return 0;
  const at = cached(va, 0, 0);
  return at != 0 ? at : cached(va, 0, 1);
}

/** One request, nobody's but the caller's own pages, and nothing to be told but the result. */
// @ts-ignore: decorator
@inline
function single(): bool {
  return load<u32>(RSI) == 1 && load<u64>(RDX) == 0 && load<u32>(R10) == DOMID_SELF;
}

export function mmuUpdate(): bool {
  if (!single()) return false;
  const request = argument(load<u64>(RDI), 16);
  if (request == 0) return false;
  const ptr = load<u64>(request);
  const kind = <u32>ptr & 7;
  if (kind != MMU_NORMAL_PT_UPDATE && kind != MMU_PT_UPDATE_PRESERVE_AD && kind != MMU_PT_UPDATE_NO_TRANSLATE) return false;
  const l1 = table(ptr >> 12);
  return l1 != 0 && change(l1 + (<u32>ptr & 0xff8), load<u64>(request, 8), kind == MMU_PT_UPDATE_PRESERVE_AD);
}

/** `walkL1`: the L1 entry for `va` under the kernel's root, if its table is one that entries can be changed in; else 0. */
function entryOf(va: u64): u32 {
  if (refused(va)) return 0;
  let at = load<u32>(ROOT) + ((<u32>(va >> 39) & 511) << 3);
  for (let shift: u64 = 30; ; shift -= 9) {
    const e = load<u64>(at);
    const mfn = (e & ADDR) >> 12;
    if ((e & (P | PS)) != P || !valid(mfn) || refs(<u32>mfn) == 0) return 0;
    if (shift == 12) {
      const l1 = table(mfn);
      return l1 == 0 ? 0 : l1 + ((<u32>(va >> 12) & 511) << 3);
    }
    const ram = ramOf(mfn);
    if (ram == 0) return 0;
    at = (ram << 12) + ((<u32>(va >> shift) & 511) << 3);
  }
  return 0;
}

function flushAll(): void {
  store<u32>(FRAMES_CLOCK, load<u32>(FRAMES_CLOCK) + 1);
  flushTlb(load<u32>(FRAMES_CODE_CHANGED));
  store<u32>(FRAMES_CODE_CHANGED, 0);
}
function flushOne(va: u64): void {
  const changed = load<u32>(FRAMES_CODE_CHANGED);
  const where = changed & (<i64>va < 0 ? 6 : 1);
  invlpg(<u32>va, <u32>(va >> 32), where);
  store<u32>(FRAMES_CODE_CHANGED, changed & ~where);
}

export function updateVaMapping(): bool {
  const flags = load<u64>(RDX);
  const kind = <u32>flags & UVMF_FLUSHTYPE_MASK;
  const whom = flags & ~(<u64>UVMF_FLUSHTYPE_MASK);
  if (whom != 0 && whom != <u64>UVMF_ALL) return false;
  const va = load<u64>(RDI);
  const at = entryOf(va);
  if (at == 0 || !change(at, load<u64>(RSI), false)) return false;
  if (kind == UVMF_TLB_FLUSH) flushAll();
  else if (kind == UVMF_INVLPG) flushOne(va);
  return true;
}

export function mmuextOp(): bool {
  if (!single()) return false;
  const request = argument(load<u64>(RDI), mmuext_op_size);
  if (request == 0) return false;
  const cmd = load<u32>(request, mmuext_op_cmd);
  if (cmd == MMUEXT_TLB_FLUSH_LOCAL || cmd == MMUEXT_TLB_FLUSH_ALL) flushAll();
  else if (cmd == MMUEXT_INVLPG_LOCAL || cmd == MMUEXT_INVLPG_ALL) {
    const va = load<u64>(request, mmuext_op_arg1);
    if (!refused(va)) flushOne(va);
  } else return false;
  return true;
}

/**
 * A store of the guest kernel's to one of its L1 tables, which it maps read-only, at the address that faulted: `xchg`, `mov` of eight bytes, by a
 * register without an index, as compilers address an entry.
 */
export function tableWrite(): bool {
  if (load<u32>(PV_WRITABLE_TABLES) == 0 || (load<u32>(MODE) & MODE_SPACE) != 0) return false;
  const va = load<u64>(EXIT_CR2);
  if ((va & 7) != 0) return false;
  const rip = load<u64>(RIP);
  if ((<u32>rip & 4095) > 4096 - 15) return false;
  const code = walk(rip, 2, 0, true, true);
  if (code == 0) return false;
  // [lock, ds] REX.W opcode ModRM [disp]
  let p = code;
  const prefix = load<u8>(p);
  if (prefix == 0xf0 || prefix == 0x3e) p++;
  const rex = <u32>load<u8>(p);
  const opcode = load<u8>(p, 1);
  const modrm = <u32>load<u8>(p, 2);
  const exchange = opcode == 0x87;
  if ((rex & 0xfa) != 0x48 || (opcode != 0x89 && !exchange) || (prefix == 0xf0 && !exchange)) return false;
  p += 3;
  const mod = modrm >>> 6;
  const base = (modrm & 7) | ((rex & 1) << 3);
  // By rsp and r12 there is an index, and rbp and r13 without a displacement are something else.
  if (mod == 3 || (base & 7) == 4 || (mod == 0 && (base & 7) == 5)) return false;
  let ea = load<u64>(register(base));
  if (mod == 1) {
    ea += <u64>(<i64>load<i8>(p));
    p++;
  } else if (mod == 2) {
    ea += <u64>(<i64>load<i32>(p));
    p += 4;
  }
  if (ea != va) return false;
  const at = entryOf(va);
  // It is mapped by an L1 entry that is read-only, and stands in a table itself.
  if (at == 0) return false;
  const leaf = load<u64>(at);
  if ((leaf & (P | RW)) != P) return false;
  const l1 = table((leaf & ADDR) >> 12);
  if (l1 == 0) return false;
  const entry = l1 + (<u32>va & 0xff8);
  const reg = register(((modrm >>> 3) & 7) | ((rex & 4) << 1));
  const old = load<u64>(entry);
  if (!change(entry, load<u64>(reg), false)) return false;
  if (exchange) store<u64>(reg, old);
  store<u64>(RIP, rip + <u64>(p - code));
  return true;
}
