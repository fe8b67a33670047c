/**
 * The memory management unit: page walks, the software TLB's miss path, page-crossing accesses, and the watch over pages with code.
 *
 * Source: SDM vol. 3, chapter 4 (4-level, PAE and 32-bit paging; access rights 4.6; accessed and dirty flags 4.8).
 * Invariants: a write-array entry exists only for a page whose leaf is writable and dirty and whose frame holds no code.
 */
import {
  BOUNCE, CODE_MASK, CR0, CR4, DIRTY, EFER, EXIT_CR2, EXIT_ERROR, EXIT_REASON, EXIT_VECTOR, LEVELS, MODE, MODE_BITS_64, MODE_BITS_MASK,
  MODE_CPL_SHIFT, MODE_SPACE, ROOT, SHARED, SMC_PENDING, SPACES, SPACE_FILLED, SPACE_SIZE, TLB, TLB_ARRAY_SIZE, TLB_ENTRIES, TLB_FILLED, TLB_FILLED_MAX,
  TLB_FILLED_SIZE, TWIN,
} from "../generated/layout";
import { forgetKeptTlbs } from "./spaces";

/** Host side: code in [offset, offset+len) of the frame was written; drop what was made from it. */
@external("env", "invalidate")
declare function invalidate(frame: u32, offset: u32, len: u32): void;

/** Host side: give this shared machine frame memory of its own. False: there is none, and its owner has been stopped. */
@external("env", "breakSharing")
declare function breakSharing(mfn: u32): bool;

/** Exit.EXCEPTION and Exit.PAUSE of exits.ts. */
const EXCEPTION: u32 = 2;
const PAUSE: u32 = 7;
/** Error code marker: a non-canonical address; the host side decides between #GP and #SS. */
const NON_CANONICAL: i32 = -2;

const READ: i32 = 0;
const WRITE: i32 = 1;
const EXEC: i32 = 2;

/** The frame of a page-table entry. */
export const ADDR: u64 = 0x000ffffffffff000;

let frames: u32 = 0;
/** Frame numbers from `frames` on stand for a frame of RAM, by this table (PhysMem.aliasTable; 0 = for none). */
let aliasTable: u32 = 0;
let aliases: u32 = 0;
export function setAliases(table: u32, n: u32): void {
  aliasTable = table;
  aliases = n;
}
function aliasOf(mfn: u64): u64 {
  const i = mfn - <u64>frames;
  return i < <u64>aliases ? <u64>load<u32>(aliasTable + (<u32>i << 2)) : 0;
}

/** The frame of RAM that a machine frame stands for; 0 = none. */
export function ramOf(mfn: u64): u32 {
  return <u32>(mfn < <u64>frames ? mfn : aliasOf(mfn));
}

/** A store to a shared frame: it gets memory of its own, and the instruction starts again, for addresses found before may be of the old frame. */
function unshare(mfn: u32): u32 {
  store<u32>(EXIT_REASON, breakSharing(mfn) ? 0 : PAUSE);
  return 0;
}

/** Frames that are written are marked, before a write entry leads to them: who clears marks flushes the TLB. */
let logDirty: bool = false;
export function setLogDirty(on: bool): void {
  logDirty = on;
}
function markDirty(maddr: u32): void {
  const at = DIRTY + (maddr >>> 15);
  store<u8>(at, load<u8>(at) | (<u8>1 << (<u8>(maddr >>> 12) & 7)));
}

/** Set when a region left at an instruction that only the interpreter can do (a store to decoded code): the dispatcher interprets one block. */
export let forceInterp: bool = false;
export function setForceInterp(on: bool): void {
  forceInterp = on;
}

export function setFrames(n: u32): void {
  frames = n;
}

export function recordFault(vector: i32, error: i32): void {
  store<u32>(EXIT_REASON, EXCEPTION);
  store<i32>(EXIT_VECTOR, vector);
  store<i32>(EXIT_ERROR, error);
}

export function recordExit(reason: i32, vector: i32): void {
  store<i32>(EXIT_REASON, reason);
  store<i32>(EXIT_VECTOR, vector);
  store<i32>(EXIT_ERROR, -1);
}

function pageFault(va: u64, error: i32): u32 {
  recordFault(14, error);
  store<u64>(EXIT_CR2, va);
  return 0;
}

export function canonical(va: u64): bool {
  return (<i64>(va << 16) >> 16) == <i64>va;
}

/**
 * Accessed and dirty bits of a table's entry. A table whose code others share (all of it is marked then) is no longer what they have: true, an
 * epoch has begun, and what runs must leave and start its instruction again.
 */
function setBits(at: u32, pte: u64): bool {
  const seen = load<u64>(CODE_MASK + (at >>> 12) * 8) == ~(<u64>0);
  if (seen) {
    invalidate(at >>> 12, at & 0xfff, 8);
    store<u32>(EXIT_REASON, 0);
  }
  store<u64>(at, pte);
  if (logDirty) markDirty(at);
  return seen;
}

/**
 * Walk the tables of `space`. Returns the machine address of `va`, or 0 after recording the fault (if `quiet`, without a trace and
 * without setting accessed or dirty bits). `user`: the access is a user-mode one.
 */
export function walk(va: u64, access: i32, space: u32, user: bool, quiet: bool): u32 {
  const levels = load<i32>(LEVELS + space * 4);
  if (levels == 0) {
    const pa = <u32>va;
    return va >> 32 == 0 && pa >>> 12 < frames ? pa : 0;
  }
  if (levels == 2) return walk32(<u32>va, access, space, user, quiet);
  let table: u64 = <u64>load<u32>(ROOT + space * 4);
  const err: i32 = (access == WRITE ? 2 : 0) | (user ? 4 : 0) | (access == EXEC && (load<u64>(EFER) & 0x800) != 0 ? 16 : 0);
  if (levels == 4 && !canonical(va)) {
    if (!quiet) recordFault(13, NON_CANONICAL);
    return 0;
  }
  let rw: u64 = 2;
  let us: u64 = 4;
  let nx: u64 = 0;
  let level = levels;
  let shift: u64 = 12 + 9 * (<u64>level - 1);
  for (;;) {
    const index: u64 = (va >> shift) & (levels == 3 && level == 3 ? 3 : 511);
    const at = <u32>table + (<u32>index << 3);
    const pte = load<u64>(at);
    if ((pte & 1) == 0) return quiet ? 0 : pageFault(va, err);
    if (levels == 3 && level == 3) {
      // PDPTEs carry no rights.
    } else {
      rw &= pte;
      us &= pte;
      nx |= pte >> 63;
    }
    const leaf = level == 1 || ((pte & 0x80) != 0 && level <= 3 && !(levels == 3 && level == 3));
    let frame = (pte & ADDR) >> 12;
    if (frame >= <u64>frames) {
      // An alias stands for one page, never for the parts of a large one.
      frame = leaf && level != 1 ? 0 : aliasOf(frame);
      if (frame == 0) return quiet ? 0 : pageFault(va, err | 9);
    }
    if (leaf) {
      if (access == WRITE && rw == 0 && (user || (load<u64>(CR0) & 0x10000) != 0)) return quiet ? 0 : pageFault(va, err | 1);
      if (user && us == 0) return quiet ? 0 : pageFault(va, err | 1);
      if (access == EXEC && nx != 0 && (load<u64>(EFER) & 0x800) != 0) return quiet ? 0 : pageFault(va, err | 1);
      if (access == EXEC && !user && us != 0 && (load<u64>(CR4) & 0x100000) != 0) return quiet ? 0 : pageFault(va, err | 1);
      if (access == WRITE && load<u8>(SHARED + <u32>frame) != 0) return quiet ? 0 : unshare(<u32>((pte & ADDR) >> 12));
      if (!quiet) {
        const want: u64 = access == WRITE ? 0x60 : 0x20;
        if ((pte & want) != want && setBits(at, pte | want) && access != EXEC) return 0;
      }
      const mask: u64 = (<u64>1 << shift) - 1;
      return <u32>(((frame << 12) & ~mask) | (va & mask));
    }
    if (!quiet && (pte & 0x20) == 0 && !(levels == 3 && level == 3) && setBits(at, pte | 0x20) && access != EXEC) return 0;
    table = frame << 12;
    level--;
    shift -= 9;
  }
  return 0;
}

/** 32-bit non-PAE paging (two levels, 4-byte entries). */
function walk32(va: u32, access: i32, space: u32, user: bool, quiet: bool): u32 {
  const err: i32 = (access == WRITE ? 2 : 0) | (user ? 4 : 0);
  const pdeAt = load<u32>(ROOT + space * 4) + ((va >>> 22) << 2);
  const pde = load<u32>(pdeAt);
  if ((pde & 1) == 0) return quiet ? 0 : pageFault(va, err);
  const wp = (load<u64>(CR0) & 0x10000) != 0;
  if ((pde & 0x80) != 0 && (load<u64>(CR4) & 0x10) != 0) {
    if ((access == WRITE && (pde & 2) == 0 && (user || wp)) || (user && (pde & 4) == 0)) return quiet ? 0 : pageFault(va, err | 1);
    if (pde >>> 12 >= frames) return quiet ? 0 : pageFault(va, err | 9);
    const want: u32 = access == WRITE ? 0x60 : 0x20;
    if (!quiet && (pde & want) != want) store<u32>(pdeAt, pde | want);
    return (pde & 0xffc00000) | (va & 0x3fffff);
  }
  if (pde >>> 12 >= frames) return quiet ? 0 : pageFault(va, err | 9);
  const pteAt = (pde & 0xfffff000) + (((va >>> 12) & 1023) << 2);
  const pte = load<u32>(pteAt);
  if ((pte & 1) == 0) return quiet ? 0 : pageFault(va, err);
  const both = pde & pte;
  if ((access == WRITE && (both & 2) == 0 && (user || wp)) || (user && (both & 4) == 0)) return quiet ? 0 : pageFault(va, err | 1);
  if (pte >>> 12 >= frames) return quiet ? 0 : pageFault(va, err | 9);
  if (!quiet) {
    if ((pde & 0x20) == 0) store<u32>(pdeAt, pde | 0x20);
    const want: u32 = access == WRITE ? 0x60 : 0x20;
    if ((pte & want) != want) store<u32>(pteAt, pte | want);
  }
  return (pte & 0xfffff000) | (va & 0xfff);
}

// @ts-ignore: decorator
@inline
function modeSpace(): u32 {
  return (load<u32>(MODE) & MODE_SPACE) != 0 ? 1 : 0;
}
// @ts-ignore: decorator
@inline
function modeUser(): bool {
  return ((load<u32>(MODE) >>> MODE_CPL_SHIFT) & 3) == 3;
}
// @ts-ignore: decorator
@inline
function clip(va: u64): u64 {
  return (load<u32>(MODE) & MODE_BITS_MASK) == MODE_BITS_64 ? va : va & 0xffffffff;
}

// @ts-ignore: decorator
@inline
function slot(va: u64, space: u32, write: u32): u32 {
  return TLB + space * 2 * TLB_ARRAY_SIZE + write * TLB_ARRAY_SIZE + ((<u32>(va >> 12) & (TLB_ENTRIES - 1)) << 4);
}

/** How many TLB entries of a space were filled since it was empty; past TLB_FILLED_MAX they are no longer listed. */
// @ts-ignore: decorator
@inline
export function filled(space: u32): u32 {
  return load<u32>(SPACES + space * SPACE_SIZE, SPACE_FILLED);
}
// @ts-ignore: decorator
@inline
export function setFilled(space: u32, n: u32): void {
  store<u32>(SPACES + space * SPACE_SIZE, n, SPACE_FILLED);
}

function fill(at: u32, space: u32, va: u64, maddr: u32): void {
  const n = filled(space);
  if (n < TLB_FILLED_MAX) store<u32>(TLB_FILLED + space * TLB_FILLED_SIZE + n * 4, at);
  setFilled(space, n + 1);
  store<u64>(at, va & ~0xfff);
  store<u32>(at + 8, (maddr & ~0xfff) - <u32>(va & ~0xfff));
}

/** Machine address for a read of the byte at `va`; 0 = fault recorded. */
function addrR(va: u64): u32 {
  const space = modeSpace();
  const at = slot(va, space, 0);
  if (load<u64>(at) == (va & ~0xfff)) return <u32>va + load<u32>(at + 8);
  const maddr = walk(va, READ, space, modeUser(), false);
  if (maddr != 0) fill(at, space, va, maddr);
  return maddr;
}

/** Machine address for a write; 0 = fault recorded. Fills the write array unless the frame holds code. */
function addrW(va: u64): u32 {
  const space = modeSpace();
  const at = slot(va, space, 1);
  if (load<u64>(at) == (va & ~0xfff)) return <u32>va + load<u32>(at + 8);
  const maddr = walk(va, WRITE, space, modeUser(), false);
  if (maddr != 0 && logDirty) markDirty(maddr);
  if (maddr != 0 && load<u64>(CODE_MASK + (maddr >>> 12) * 8) == 0) fill(at, space, va, maddr);
  return maddr;
}

/** Machine address of user-mode data at `va` of `space` if the TLB has it for that access, else 0. */
export function cached(va: u64, space: u32, write: u32): u32 {
  const at = slot(va, space, write);
  return load<u64>(at) == (va & ~0xfff) ? <u32>va + load<u32>(at + 8) : 0;
}

/** Does [maddr, maddr+size), within one frame, touch decoded code? */
// @ts-ignore: decorator
@inline
function hitsCode(maddr: u32, size: u32): bool {
  const mask = load<u64>(CODE_MASK + (maddr >>> 12) * 8);
  if (mask == 0) return false;
  const first = (maddr & 0xfff) >>> 6;
  const last = ((maddr & 0xfff) + size - 1) >>> 6;
  const n = <u64>(last - first);
  const bits: u64 = (n == 63 ? ~(<u64>0) : (<u64>2 << n) - 1) << first;
  return (mask & bits) != 0;
}

/** Staged write: parts to copy from the bounce buffer when it is committed. */
let staged: bool = false;
let part1: u32 = 0;
let len1: u32 = 0;
let part2: u32 = 0;
let len2: u32 = 0;

export function translateR(va: u64, size: i32): u32 {
  va = clip(va);
  const room: u32 = 4096 - (<u32>va & 0xfff);
  if (<u32>size <= room) return addrR(va);
  if (!whole(va, <u32>size)) return 0;
  const h1 = addrR(va);
  if (h1 == 0) return 0;
  const h2 = addrR(clip(va + room));
  if (h2 == 0) return 0;
  memory.copy(BOUNCE, h1, room);
  memory.copy(BOUNCE + room, h2, <u32>size - room);
  return BOUNCE;
}

/** A non-canonical byte anywhere in an operand comes before a page fault of its other part. */
export function whole(va: u64, size: u32): bool {
  if (canonical(clip(va + size - 1))) return true;
  recordFault(13, NON_CANONICAL);
  return false;
}

function stage(va: u64, size: u32, room: u32): u32 {
  if (size > room && !whole(va, size)) return 0;
  const h1 = addrW(va);
  if (h1 == 0) return 0;
  part1 = h1;
  len1 = size;
  len2 = 0;
  if (size > room) {
    len1 = room;
    const h2 = addrW(clip(va + room));
    if (h2 == 0) return 0;
    part2 = h2;
    len2 = size - room;
    memory.copy(BOUNCE + room, h2, len2);
  }
  memory.copy(BOUNCE, h1, len1);
  staged = true;
  return BOUNCE;
}

export function translateW(va: u64, size: i32): u32 {
  staged = false;
  va = clip(va);
  const room: u32 = 4096 - (<u32>va & 0xfff);
  if (<u32>size > room) return stage(va, <u32>size, room);
  const h = addrW(va);
  if (h == 0 || !hitsCode(h, <u32>size)) return h;
  return stage(va, <u32>size, room);
}

/** The translator's store check: a store that would hit decoded code leaves the region instead (0, no exit recorded). */
export function translateWx(va: u64, size: i32): u32 {
  const h = translateW(va, size);
  if (h == BOUNCE && (hitsCode(part1, len1) || (len2 != 0 && hitsCode(part2, len2)))) {
    staged = false;
    forceInterp = true;
    store<u32>(EXIT_REASON, 0);
    return 0;
  }
  return h;
}

export function commitW(): void {
  if (!staged) return;
  staged = false;
  // A store of what is there already changes no code.
  const code1 = hitsCode(part1, len1) && memory.compare(part1, BOUNCE, len1) != 0;
  const code2 = len2 != 0 && hitsCode(part2, len2) && memory.compare(part2, BOUNCE + len1, len2) != 0;
  memory.copy(part1, BOUNCE, len1);
  if (len2 != 0) memory.copy(part2, BOUNCE + len1, len2);
  if (code1 || code2) {
    store<u32>(SMC_PENDING, 1);
    if (code1) invalidate(part1 >>> 12, part1 & 0xfff, len1);
    if (code2) invalidate(part2 >>> 12, part2 & 0xfff, len2);
  }
}

/** Host address of the byte at `va` if its page may be read, else 0, recording nothing. */
export function pageR(va: u64): u32 {
  va = clip(va);
  const space = modeSpace();
  const at = slot(va, space, 0);
  if (load<u64>(at) == (va & ~0xfff)) return <u32>va + load<u32>(at + 8);
  if (walk(va, READ, space, modeUser(), true) == 0) return 0;
  return addrR(va);
}

/** Host address of the byte at `va` if its page may be written and holds no code, else 0, recording nothing. */
export function pageW(va: u64): u32 {
  va = clip(va);
  const space = modeSpace();
  const at = slot(va, space, 1);
  if (load<u64>(at) == (va & ~0xfff)) return <u32>va + load<u32>(at + 8);
  const maddr = walk(va, WRITE, space, modeUser(), true);
  if (maddr == 0 || load<u64>(CODE_MASK + (maddr >>> 12) * 8) != 0) return 0;
  return addrW(va);
}

/** For the host side: as the guest at its present privilege. */
export function translate(lo: u32, hi: u32, access: i32): u32 {
  const va = clip((<u64>hi << 32) | <u64>lo);
  if (access == WRITE) return addrW(va);
  if (access == READ) return addrR(va);
  return walk(va, EXEC, modeSpace(), modeUser(), false);
}

/** For the host side: whatever the rights, without effects. */
export function peek(lo: u32, hi: u32, space: u32): u32 {
  return walk((<u64>hi << 32) | <u64>lo, READ, space, false, true);
}

/** For the host side: where the instruction byte at `va` is, at the present privilege, without effects. */
export function peekCode(lo: u32, hi: u32): u32 {
  return codeFrame(walk(clip((<u64>hi << 32) | <u64>lo), EXEC, modeSpace(), modeUser(), true));
}

/** Where the code at a machine address is kept: frames of the same content share it (cpu/code-twins.ts). */
// @ts-ignore: decorator
@inline
export function codeFrame(maddr: u32): u32 {
  const twin = load<u32>(TWIN + (maddr >>> 12) * 4);
  return twin == 0 ? maddr : (twin << 12) | (maddr & 0xfff);
}
/** For the host side: a number that frames of the same content have in common; and have they? */
export function hashFrame(frame: u32): u32 {
  let h: u64 = 0;
  for (let at = frame << 12, end = at + 4096; at < end; at += 8) h = rotl<u64>((h ^ load<u64>(at)) * 0x9e3779b97f4a7c15, 29);
  return <u32>(h ^ (h >> 32));
}
export function sameFrame(a: u32, b: u32): bool {
  return memory.compare(a << 12, b << 12, 4096) == 0;
}

/** Empty the TLB of a space. */
export function emptyTlb(space: u32): void {
  const n = filled(space);
  if (n <= TLB_FILLED_MAX) {
    let at = TLB_FILLED + space * TLB_FILLED_SIZE;
    for (const end = at + n * 4; at < end; at += 4) store<u64>(load<u32>(at), 1);
  } else {
    // 0x01 in every byte is a tag that no page has.
    memory.fill(TLB + space * 2 * TLB_ARRAY_SIZE, 1, 2 * TLB_ARRAY_SIZE);
  }
  setFilled(space, 0);
}

/** Before the first use: nothing is in the TLB. */
export function clearTlb(): void {
  for (let space: u32 = 0; space < 2; space++) {
    setFilled(space, TLB_FILLED_MAX + 1);
    emptyTlb(space);
  }
}

export function flushPage(lo: u32, hi: u32): void {
  const va = ((<u64>hi << 32) | <u64>lo) & ~0xfff;
  for (let s: u32 = 0; s < 2; s++) {
    for (let w: u32 = 0; w < 2; w++) {
      const at = slot(va, s, w);
      if (load<u64>(at) == va) store<u64>(at, 1);
    }
  }
}

/** Drop the entries that lead to a frame: all, or those to write. */
function dropEntries(frame: u32, writers: bool): void {
  const page = frame << 12;
  for (let space: u32 = 0; space < 2; space++) {
    const listed = filled(space) <= TLB_FILLED_MAX;
    const n: u32 = listed ? filled(space) : 2 * TLB_ENTRIES;
    for (let i: u32 = 0; i < n; i++) {
      const at = listed ? load<u32>(TLB_FILLED + space * TLB_FILLED_SIZE + i * 4) : TLB + space * 2 * TLB_ARRAY_SIZE + (i << 4);
      if (writers && ((at - TLB) & TLB_ARRAY_SIZE) == 0) continue;
      const tag = load<u64>(at);
      if ((tag & 0xfff) == 0 && <u32>tag + load<u32>(at + 8) == page) store<u64>(at, 1);
    }
  }
  forgetKeptTlbs();
}
/** What a machine frame number stands for has changed: no entry may lead to the frame it stood for. */
export function dropFrame(frame: u32): void {
  dropEntries(frame, false);
}
/** A frame now holds code: no write-array entry may lead to it. */
export function dropWriters(frame: u32): void {
  dropEntries(frame, true);
}
