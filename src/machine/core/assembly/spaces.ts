/**
 * Address spaces: for how long what is known of them counts, and what is kept of those that are not loaded, so that coming back to one is cheap.
 *
 * What the jump cache, the regions and their links know of virtual addresses is good for an epoch: a number for each half of each of the two spaces.
 * Every number is given once, so that an address space can take its own up again. The TLB is emptied when another address space is loaded, and what was
 * in it can be put back.
 *
 * On the processor a new root begins with nothing known of it, and guests rely on it. It is kept therefore only where whoever owns the page tables
 * says of each change to them (`watchTables`), in whichever address space: a count of changes to present entries (FRAMES_CHANGES), and where mappings of
 * code have changed since the last flush (FRAMES_CODE_CHANGED). Invariants:
 * - TLB entries are kept, and put back, only if no present entry of any table has changed from when none of them was stale;
 * - every flush, and every change that is not one of a table (a frame begins to hold code, stands for another one), forgets all TLB entries that are kept;
 * - an epoch is taken up again only if no mapping of code has changed since in that half of any address space, and no decoded code was dropped
 *   that what is known may lead to;
 * - roots with the same entries in the kernel's half have one epoch there, so that an entry that one of them gets counts as a change of code;
 * - nothing is kept of a root that is a page table no longer (`forgetRoot`).
 */
import {
  BLOCK_HASH, BLOCK_HASH_END, BLOCK_NEXT, BLOCK_SEEN_KEY, CODE_TLB, CODE_TLB_ENTRIES, EPOCHS, EPOCH_LAST, EPOCH_LOWER0, EPOCH_LOWER1, EPOCH_UPPER0, EPOCH_UPPER1,
  FRAMES_CHANGES, FRAMES_CODE_CHANGED, JUMP_CACHE, JUMP_CACHE_END, KEPT, KEPT_CLEAN, KEPT_COUNT, KEPT_END, KEPT_LEVELS, KEPT_LOWER, KEPT_NONE, KEPT_ROOT,
  KEPT_SIZE, KEPT_SPACES, KEPT_TLB, KEPT_TLB_MAX, KEPT_TLB_SIZE, KEPT_UPPER, LEVELS, LINKS, LINKS_END, LINK_SIZE, REGIONS, REGIONS_MAX, REGION_SIZE, ROOT,
  SPACES, SPACE_CLEAN, SPACE_FILLED, SPACE_GONE, SPACE_LEVELS, SPACE_RETURNED, SPACE_ROOT, SPACE_SIZE, TLB_FILLED, TLB_FILLED_SIZE,
} from "../generated/layout";
import { emptyTlb, filled, flushPage, setFilled } from "./mmu";

/** Epochs and modes share a word. */
const EPOCHS_MAX: u32 = 1 << 21;
/** Places of code: the lower half of both spaces, the upper half of space 0, of space 1. */
const LOWER: u32 = 1;
const UPPER0: u32 = 2;
const UPPER1: u32 = 4;

/** The epoch from which on what the jump cache holds is still decoded code; an entry of an older one may lead to something dropped. */
export let floor: u32 = 1;
/** Epochs that are kept count from these on. */
let keptLower: u32 = 1;
let keptUpper0: u32 = 1;
let keptUpper1: u32 = 1;
/** Something is kept: TLB entries; epochs of lower halves. */
let someTlb: bool = false;
let someLower: bool = false;
/** Where the next address space of each space is kept. */
let next0: u32 = 0;
let next1: u32 = 0;
let watched: bool = false;

/**
 * The look-ups of code pages (CODE_TLB) of this count are good; it is below the size of a page. They are not only of pages that hold code, whose
 * mappings alone an epoch watches.
 */
export let codeTlb: u32 = 0;
function forgetCodePages(): void {
  codeTlb = (codeTlb + 1) & 0xfff;
  if (codeTlb == 0) memory.fill(CODE_TLB, 0xff, CODE_TLB_ENTRIES << 4);
}

// @ts-ignore: decorator
@inline
function space(s: u32): u32 {
  return SPACES + s * SPACE_SIZE;
}
// @ts-ignore: decorator
@inline
function lowerOf(s: u32): u32 {
  return s == 0 ? EPOCH_LOWER0 : EPOCH_LOWER1;
}
// @ts-ignore: decorator
@inline
function upperOf(s: u32): u32 {
  return s == 0 ? EPOCH_UPPER0 : EPOCH_UPPER1;
}

/** A number that no epoch had. When there are no more, everything that is known of code by virtual address is forgotten, and they begin again. */
function nextEpoch(): u32 {
  const epoch = load<u32>(EPOCH_LAST) + 1;
  if (epoch < EPOCHS_MAX) {
    store<u32>(EPOCH_LAST, epoch);
    return epoch;
  }
  store<u32>(EPOCH_LAST, 1);
  for (let i: u32 = 0; i < 4; i++) store<u32>(EPOCHS + i * 4, 1);
  for (let head: u32 = BLOCK_HASH; head < BLOCK_HASH_END; head += 4) {
    for (let b = load<u32>(head); b != 0; b = load<u32>(b, BLOCK_NEXT)) store<u32>(b, 0, BLOCK_SEEN_KEY);
  }
  for (let i: u32 = LINKS; i < LINKS_END; i += LINK_SIZE) store<u32>(i, 0);
  floor = keptLower = keptUpper0 = keptUpper1 = 1;
  memory.fill(KEPT, 0, KEPT_END - KEPT);
  memory.fill(JUMP_CACHE, 0xff, JUMP_CACHE_END - JUMP_CACHE);
  forgetCodePages();
  for (let i: u32 = 0; i < REGIONS_MAX; i++) store<u32>(REGIONS + i * REGION_SIZE, 0);
  return 1;
}

/**
 * Code mappings changed in the lower half of the address space (1), in the upper half of space 0 (2), of space 1 (4): what the jump cache and
 * the regions knew about virtual addresses there, and what is kept of it in other address spaces, no longer counts.
 */
export function newEpoch(where: u32): void {
  if (where == 0) return;
  const epoch = nextEpoch();
  if ((where & LOWER) != 0) {
    keptLower = epoch;
    store<u32>(EPOCH_LOWER0, epoch);
    store<u32>(EPOCH_LOWER1, epoch);
    store<u32>(space(0), 0, SPACE_RETURNED);
    store<u32>(space(1), 0, SPACE_RETURNED);
  }
  if ((where & UPPER0) != 0) {
    keptUpper0 = epoch;
    store<u32>(EPOCH_UPPER0, epoch);
  }
  if ((where & UPPER1) != 0) {
    keptUpper1 = epoch;
    store<u32>(EPOCH_UPPER1, epoch);
  }
}
/** Decoded code was dropped that the jump cache may still lead to, anywhere. */
export function codeDropped(): void {
  newEpoch(LOWER | UPPER0 | UPPER1);
  floor = load<u32>(EPOCH_LOWER0);
}

/** Is the epoch of the lower half of a space one that it came back to? Then more may be known in it than is known to be. */
// @ts-ignore: decorator
@inline
export function returned(s: u32): bool {
  return load<u32>(space(s), SPACE_RETURNED) != 0;
}
/** May an address space that is not loaded come back to this epoch of a half? */
// @ts-ignore: decorator
@inline
export function isKept(epoch: u32, s: u32, upper: bool): bool {
  const from = upper ? (s == 0 ? keptUpper0 : keptUpper1) : keptLower;
  // (What the jump cache was made to forget has a number that no epoch has.)
  return epoch >= from && epoch <= load<u32>(EPOCH_LAST) && epoch != load<u32>(upper ? upperOf(s) : lowerOf(s));
}
/** What is known of the lower halves of address spaces that are not loaded does not count. */
export function forgetKeptLower(): void {
  if (!someLower) return;
  someLower = false;
  for (let k: u32 = KEPT; k < KEPT_END; k += KEPT_SIZE) store<u32>(k, 0, KEPT_LOWER);
}
export function forgetKeptTlbs(): void {
  if (!someTlb) return;
  someTlb = false;
  for (let k: u32 = KEPT; k < KEPT_END; k += KEPT_SIZE) store<u32>(k, KEPT_NONE, KEPT_COUNT);
}

/** Drop all translations; `where` as in newEpoch. The roots may be others than before (a snapshot was put back): then it is everywhere. */
export function flushTlb(where: u32): void {
  const changes = load<u32>(FRAMES_CHANGES);
  for (let s: u32 = 0; s < 2; s++) {
    if (!isLoaded(s)) {
      enter(s, load<u32>(ROOT + s * 4), load<u32>(LEVELS + s * 4));
      where = LOWER | UPPER0 | UPPER1;
    }
    emptyTlb(s);
    store<u32>(space(s), changes, SPACE_CLEAN);
  }
  forgetKeptTlbs();
  forgetCodePages();
  newEpoch(where);
}
export function invlpg(lo: u32, hi: u32, where: u32): void {
  flushPage(lo, hi);
  forgetKeptTlbs();
  forgetCodePages();
  newEpoch(where);
}

/** For the host side: from now on, all changes to page tables are told. */
export function watchTables(): void {
  watched = true;
}
/** For the host side: this page table is a root no longer, or is to be one anew. */
export function forgetRoot(root: u32): void {
  for (let k: u32 = KEPT; k < KEPT_END; k += KEPT_SIZE) if (load<u32>(k, KEPT_ROOT) == root) store<u32>(k, 0, KEPT_ROOT);
  for (let s: u32 = 0; s < 2; s++) if (load<u32>(space(s), SPACE_ROOT) == root) store<u32>(space(s), 1, SPACE_GONE);
}

function isLoaded(s: u32): bool {
  return load<u32>(space(s), SPACE_ROOT) == load<u32>(ROOT + s * 4) && load<u32>(space(s), SPACE_LEVELS) == load<u32>(LEVELS + s * 4);
}

/** For the host side: roots were changed (ROOT, LEVELS). */
export function switchSpaces(): void {
  const to0 = !isLoaded(0);
  const to1 = !isLoaded(1);
  if (!to0 && !to1) return;
  if (!watched) {
    flushTlb(0);
    return;
  }
  const changed = load<u32>(FRAMES_CODE_CHANGED);
  store<u32>(FRAMES_CODE_CHANGED, 0);
  newEpoch(changed);
  forgetCodePages();
  if (to0) switchSpace(0);
  if (to1) switchSpace(1);
}

function enter(s: u32, root: u32, levels: u32): void {
  store<u32>(space(s), root, SPACE_ROOT);
  store<u32>(space(s), levels, SPACE_LEVELS);
  store<u32>(space(s), 0, SPACE_GONE);
}

/** Where something is kept of an address space; 0 = nothing. */
function find(s: u32, root: u32, levels: u32): u32 {
  let k = KEPT + s * KEPT_SPACES * KEPT_SIZE;
  for (const end = k + KEPT_SPACES * KEPT_SIZE; k < end; k += KEPT_SIZE)
    if (load<u32>(k, KEPT_ROOT) == root && load<u32>(k, KEPT_LEVELS) == levels) return k;
  return 0;
}
/** Where an address space is to be kept: a free place, or each in turn. */
function place(s: u32): u32 {
  const first = KEPT + s * KEPT_SPACES * KEPT_SIZE;
  for (let k = first, end = first + KEPT_SPACES * KEPT_SIZE; k < end; k += KEPT_SIZE) if (load<u32>(k, KEPT_ROOT) == 0) return k;
  const n = s == 0 ? next0++ : next1++;
  return first + (n & (KEPT_SPACES - 1)) * KEPT_SIZE;
}

function switchSpace(s: u32): void {
  const changes = load<u32>(FRAMES_CHANGES);
  const here = space(s);
  const old = load<u32>(here, SPACE_ROOT);
  const oldLevels = load<u32>(here, SPACE_LEVELS);
  const gone = old == 0 || load<u32>(here, SPACE_GONE) != 0;
  if (!gone) {
    let k = find(s, old, oldLevels);
    if (k == 0) k = place(s);
    store<u32>(k, old, KEPT_ROOT);
    store<u32>(k, oldLevels, KEPT_LEVELS);
    store<u32>(k, load<u32>(lowerOf(s)), KEPT_LOWER);
    store<u32>(k, load<u32>(upperOf(s)), KEPT_UPPER);
    store<u32>(k, changes, KEPT_CLEAN);
    store<u32>(k, load<u32>(here, SPACE_CLEAN) == changes ? keepTlb(s, k) : KEPT_NONE, KEPT_COUNT);
    someLower = true;
  }
  emptyTlb(s);

  const root = load<u32>(ROOT + s * 4);
  const levels = load<u32>(LEVELS + s * 4);
  enter(s, root, levels);
  store<u32>(here, changes, SPACE_CLEAN);
  const k = find(s, root, levels);
  if (k != 0 && load<u32>(k, KEPT_COUNT) != KEPT_NONE && load<u32>(k, KEPT_CLEAN) == changes) putTlbBack(s, k);
  // Kernels share their half between all roots: then code there is where it was.
  const upper: u32 = k == 0 ? 0 : load<u32>(k, KEPT_UPPER);
  if (upper >= (s == 0 ? keptUpper0 : keptUpper1)) store<u32>(upperOf(s), upper);
  else if (gone || oldLevels != 4 || levels != 4 || !sameUpperHalf(old, root)) store<u32>(upperOf(s), nextEpoch());
  // (Read again: the epochs may have begun anew.)
  const lower: u32 = k == 0 ? 0 : load<u32>(k, KEPT_LOWER);
  const back = lower >= keptLower;
  store<u32>(lowerOf(s), back ? lower : nextEpoch());
  store<u32>(here, back ? 1 : 0, SPACE_RETURNED);
}

/** Keep what is in the TLB of a space; how many entries that is. */
function keepTlb(s: u32, k: u32): u32 {
  const n = filled(s);
  if (n > KEPT_TLB_MAX) return KEPT_NONE;
  let list = TLB_FILLED + s * TLB_FILLED_SIZE;
  const first = KEPT_TLB + ((k - KEPT) / KEPT_SIZE) * KEPT_TLB_SIZE;
  let to = first;
  for (const end = list + n * 4; list < end; list += 4) {
    const at = load<u32>(list);
    const tag = load<u64>(at);
    if ((tag & 0xfff) != 0) continue;
    store<u32>(to, at);
    store<u32>(to, load<u32>(at, 8), 4);
    store<u64>(to, tag, 8);
    to += 16;
  }
  someTlb = true;
  return (to - first) >>> 4;
}
function putTlbBack(s: u32, k: u32): void {
  let from = KEPT_TLB + ((k - KEPT) / KEPT_SIZE) * KEPT_TLB_SIZE;
  let list = TLB_FILLED + s * TLB_FILLED_SIZE;
  const n = load<u32>(k, KEPT_COUNT);
  for (const end = from + (n << 4); from < end; from += 16) {
    const at = load<u32>(from);
    store<u32>(at, load<u32>(from, 4), 8);
    store<u64>(at, load<u64>(from, 8));
    store<u32>(list, at);
    list += 4;
  }
  setFilled(s, n);
}

/** Slots of an L4 that are the guest's kernel's; the hypervisor's before them hold no code. */
const KERNEL_SLOTS: u32 = 272;
const ACCESSED_DIRTY: u64 = 0x60;

function sameUpperHalf(a: u32, b: u32): bool {
  for (let i: u32 = KERNEL_SLOTS * 8; i < 4096; i += 8) if (((load<u64>(a + i) ^ load<u64>(b + i)) & ~ACCESSED_DIRTY) != 0) return false;
  return true;
}
