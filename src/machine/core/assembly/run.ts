/**
 * The dispatcher and the interpreter's loop: find the code at RIP, run its region if it has one, else its records one by one.
 *
 * Code is found by virtual address and mode in the jump cache, whose entries are good for one epoch (spaces.ts); behind it by machine address and mode in the block hash, so that code is decoded once however often it is mapped.
 */
import {
  BLOCK_BEHIND, BLOCK_COUNT, BLOCK_ENTRY, BLOCK_HASH, BLOCK_HASH_ENTRIES, BLOCK_HEADER, BLOCK_MADDR, BLOCK_MODE, BLOCK_N, BLOCK_NEXT, BLOCK_PAGE2,
  BLOCK_ALIASED, BLOCK_REGION, BLOCK_SEEN, BLOCK_SEEN_KEY, BLOCK_TARGETS, BLOCK_TO, BLOCK_VA, BUDGET, CODE_PAGE, CODE_TLB, CODE_TLB_ENTRIES, EFL, EPOCHS, EPOCH_LOWER0, EPOCH_LOWER1, EPOCH_UPPER0, EPOCH_UPPER1, CALL_LINK_TARGET, LEFT_CALL, LEFT_EPOCH_MASK, LEFT_INDIRECT, LEFT_LINK, LEFT_RETURN, LINK_RETURN, LINK_RETURN_EPOCH, LINK_RETURN_MODE, LINK_RETURN_VA, LINK_TARGET, MOVES_FROM, MOVES_TO, EXIT_CR2, EXIT_REASON, EXIT_VECTOR, HOT_LIST, HOT_MAX, JUMP_CACHE, JUMP_CACHE_ENTRIES, MODE,
  MODE_BITS_64, MODE_BITS_MASK, MODE_CPL_SHIFT, MODE_SPACE, PV_ON, REC_AT, REC_HANDLER, REC_LEN, REC_NEXT, REC_POS, REC_SIZE, REGIONS, REGION_DELTAS, REGION_SIZE, RETURNS, RETURNS_DEPTH, RIP, SEG_BASE,
  SMC_PENDING, ST_AFTER, ST_AT, ST_END, ST_HANDLER, ST_JUMP, ST_NEXT, TARGET_FOLLOWS, TARGET_SIZE, TARGETS_MAX,
} from "../generated/layout";
import { decodeKnown } from "./decode";
import { codeFrame, forceInterp, setForceInterp, walk } from "./mmu";
import { pvTransition } from "./pv";
import { codeTlb, floor, forgetKeptLower, isKept, newEpoch, returned } from "./spaces";
import { TSC_PER_NS } from "./tsc";

/** Nanoseconds since machine start. */
@external("env", "now")
declare function now(): f64;

const BUDGET_EXIT: u32 = 1;
const DECODE_EXIT: u32 = 9;
const HOT_EXIT: u32 = 10;
const STEP_EXIT: u32 = 11;
const TF: u32 = 0x100;
/** Executions by the interpreter after which a block's region, which could not be entered, is looked at again. */
const RETRY: u32 = 64;

/** For the profile: instructions interpreted, regions entered, look-ups past the jump cache, regions whose pages were checked, links followed (in sixty-fours), regions found elsewhere than where they were made. */
let interpreted: i64 = 0;
let entered: f64 = 0;
let lookups: f64 = 0;
let checks: f64 = 0;
let moved: f64 = 0;
export function engineCount(what: i32): f64 {
  return what == 0 ? <f64>interpreted : what == 1 ? entered : what == 2 ? lookups : what == 3 ? checks : what == 4 ? linked : moved;
}
let threshold: u32 = 500;
/** The host side was asked to translate the block at RIP: if it could not, the block is interpreted and not offered again at once. */
let seenHot: bool = false;
/** Hot blocks that make the dispatcher return to the host side. */
let hotBatch: u32 = 8;
/** Machine address of the code that the host side should decode. */
let codeMaddr: u32 = 0;
export function lastCodeMaddr(): u32 {
  return codeMaddr;
}
/** Entries by one address after which a region is translated again, with more in it; 0 = never. */
let again: u32 = 0;
export function setHotness(t: u32, batch: u32, more: u32): void {
  again = more;
  threshold = t;
  hotBatch = batch;
}

// @ts-ignore: decorator
@inline
function epochOf(rip: u64, mode: u32): u32 {
  const upper = <i64>rip < 0;
  return load<u32>((mode & MODE_SPACE) == 0 ? (upper ? EPOCH_UPPER0 : EPOCH_LOWER0) : upper ? EPOCH_UPPER1 : EPOCH_LOWER1);
}

export function rdtsc(): u64 {
  return <u64>(now() * TSC_PER_NS);
}

/** The set of the jump cache that RIP belongs to. */
// @ts-ignore: decorator
@inline
function cacheSlot(rip: u64): u32 {
  const r = <u32>rip;
  return JUMP_CACHE + (((r ^ (r >>> 12)) & (JUMP_CACHE_ENTRIES / 2 - 1)) << 6);
}

/** Make the jump cache forget one address: what it leads to has changed, and its entries are counted anew. */
export function forgetCode(lo: u32, hi: u32): void {
  const rip = (<u64>hi << 32) | <u64>lo;
  const at = cacheSlot(rip);
  if (load<u64>(at) == rip) {
    store<u32>(at, 0xffffffff, 8);
    store<u32>(at, 0, 24);
  }
  if (load<u64>(at, 32) == rip) {
    store<u32>(at, 0xffffffff, 40);
    store<u32>(at, 0, 56);
  }
}

export function blockHash(maddr: u32, mode: u32): u32 {
  return BLOCK_HASH + ((((maddr * 0x9e3779b1) >>> 13) ^ mode) & (BLOCK_HASH_ENTRIES - 1)) * 4;
}

/** Linear address of RIP. */
// @ts-ignore: decorator
@inline
function linearRip(rip: u64, mode: u32): u64 {
  return (mode & MODE_BITS_MASK) == MODE_BITS_64 ? rip : (rip + load<u64>(SEG_BASE + 8)) & 0xffffffff;
}

/** Machine page of a code page, kept per epoch and mode as the jump cache is, so that blocks of one page walk the tables once. */
function codePage(lin: u64, mode: u32, key: u32): u32 {
  const page = lin & ~0xfff;
  const tag = page | <u64>codeTlb;
  const at = CODE_TLB + ((<u32>(page >> 12) & (CODE_TLB_ENTRIES - 1)) << 4);
  if (load<u64>(at) == tag && load<u32>(at, 8) == key) return load<u32>(at, 12);
  const maddr = walk(page, 2, (mode & MODE_SPACE) != 0 ? 1 : 0, ((mode >>> MODE_CPL_SHIFT) & 3) == 3, false);
  if (maddr == 0) {
    // CR2 is the address itself, not its page.
    if (load<u32>(EXIT_VECTOR) == 14) store<u64>(EXIT_CR2, lin);
    return 0;
  }
  const code = codeFrame(maddr);
  store<u64>(at, tag);
  store<u32>(at, key, 8);
  store<u32>(at, code, 12);
  return code;
}

/** Where in the jump cache the last look-up left what it found. */
let found: u32 = 0;
/** Leave it there: all of it, as looking for the region may have begun an epoch and emptied the cache. */
function remember(at: u32, rip: u64, mode: u32, b: u32, region: u32, maddr: u32): void {
  store<u64>(at, rip);
  store<u32>(at, (epochOf(rip, mode) << 10) | mode, 8);
  store<u32>(at, b, 12);
  store<u32>(at, region, 16);
  store<u32>(at, load<u32>(b, BLOCK_ENTRY), 20);
  store<u32>(at, maddr, 28);
  found = at;
}
/** Give a block that was looked up a place in the jump cache. */
function keep(b: u32, at: u32, rip: u64, mode: u32, maddr: u32): void {
  const region = enterable(b, rip, mode);
  // The older of the two goes; a stale entry for the same address must not stay behind, but where another address space will come back to it.
  if (load<u64>(at) != rip || isKept(load<u32>(at, 8) >>> 10, (mode & MODE_SPACE) != 0 ? 1 : 0, <i64>rip < 0)) {
    memory.copy(at + 32, at, 32);
    store<u32>(at, 0, 24);
  }
  const seen = load<u64>(b, BLOCK_SEEN);
  if (seen != rip) {
    if (seen != 0) store<u32>(b, 1, BLOCK_ALIASED);
    store<u64>(b, rip, BLOCK_SEEN);
  }
  remember(at, rip, mode, b, region, maddr);
}

/** The block at RIP; 0 = page fault recorded, or EXIT_REASON = DECODE. */
function lookup(rip: u64, mode: u32, at: u32): u32 {
  lookups++;
  const lin = linearRip(rip, mode);
  const space: u32 = (mode & MODE_SPACE) != 0 ? 1 : 0;
  const user = ((mode >>> MODE_CPL_SHIFT) & 3) == 3;
  const key = (epochOf(rip, mode) << 10) | mode;
  const base = codePage(lin, mode, key);
  if (base == 0) return 0;
  const maddr = base | (<u32>lin & 0xfff);
  // Mostly a new epoch finds everything where it was.
  let way = at;
  if (load<u64>(way) != rip) way += 32;
  if (load<u64>(way) == rip && load<u32>(way, 28) == maddr) {
    const old = load<u32>(way, 8);
    if ((old & 1023) == mode && old >>> 10 >= floor) {
      const b = load<u32>(way, 12);
      let region = load<u32>(way, 16);
      // Of one that can run elsewhere, entries of older epochs at other addresses are left behind when it goes: the block knows.
      if (region == 0 || <i64>rip >= 0) region = enterable(b, rip, mode);
      else if (!regionValid(region, mode, rip, 0)) region = 0;
      // What another address space will come back to stays; this one's is beside it.
      if (isKept(old >>> 10, space, <i64>rip < 0)) {
        way ^= 32;
        if (load<u64>(way) != rip) store<u32>(way, 0, 24);
      }
      remember(way, rip, mode, b, region, maddr);
      return b;
    }
  }
  const hash = blockHash(maddr, mode);
  for (let b = load<u32>(hash); b != 0; b = load<u32>(b + BLOCK_NEXT)) {
    if (load<u32>(b + BLOCK_MADDR) != maddr || load<u32>(b + BLOCK_MODE) != mode) continue;
    const page2 = load<u32>(b + BLOCK_PAGE2);
    if (page2 != 0) {
      const second = walk((lin | 0xfff) + 1, 2, space, user, false);
      if (second == 0) return 0;
      if (codeFrame(second) != page2) continue;
    }
    keep(b, at, rip, mode, page2 == 0 ? maddr : 0);
    return b;
  }
  const made = decodeKnown(maddr, mode, hash);
  if (made != 0) {
    keep(made, at, rip, mode, maddr);
    return made;
  }
  codeMaddr = maddr;
  store<u32>(EXIT_REASON, DECODE_EXIT);
  return 0;
}

/** The region that the block enters if it is at RIP, or 0. */
function enterable(b: u32, rip: u64, mode: u32): u32 {
  const region = load<u32>(b, BLOCK_REGION);
  if (region == 0) return 0;
  const delta = rip - load<u64>(b, BLOCK_VA);
  if (delta != 0 && (rip < MOVES_FROM || rip >= MOVES_TO || load<u32>(REGIONS + region * REGION_SIZE, 12) == 0)) return 0;
  return regionValid(region, mode, rip, delta) ? region : 0;
}

/**
 * Are the region's pages mapped as they were when it was made, `delta` further on?
 *
 * In one epoch a region runs at one place only, so that a link that was noted (from it, or to it) is right for as long as it counts: at another
 * place it begins a new epoch, unless it cannot have run in this one; and what address spaces kept that it may have run in, is forgotten. (Where one begins while a region runs, that region leaves at once and by no link: stores to code, shared pages.)
 */
function regionValid(region: u32, mode: u32, rip: u64, delta: u64): bool {
  const d = REGIONS + region * REGION_SIZE;
  const epoch = epochOf(rip, mode);
  const known = load<u32>(d) == epoch;
  const stays = load<u64>(REGION_DELTAS + region * 8) == delta;
  if (known && stays) return true;
  checks++;
  const n = load<u32>(d, 4);
  let p = load<u32>(d, 8);
  const space: u32 = (mode & MODE_SPACE) != 0 ? 1 : 0;
  const user = ((mode >>> MODE_CPL_SHIFT) & 3) == 3;
  for (let i: u32 = 0; i < n; i++, p += 16) {
    if (codeFrame(walk(load<u64>(p) + delta, 2, space, user, true)) != load<u32>(p, 8)) return false;
  }
  if (!stays) {
    if (known || returned(space)) {
      newEpoch(1);
      pending = 0;
    } else forgetKeptLower();
    store<u64>(REGION_DELTAS + region * 8, delta);
  }
  if (delta != 0) moved++;
  store<u32>(d, epochOf(rip, mode));
  return true;
}

/** With RFLAGS.TF set the host side runs instruction by instruction. */
let stepping: bool = false;
export function step(): void {
  stepping = true;
  store<i32>(BUDGET, 1);
  run();
  stepping = false;
}

/** Put a block on the list of the hot ones; true: the host side should look at it now. */
function hot(rip: u64, block: u32, again: u32, urgent: bool): bool {
  const n = load<u32>(HOT_LIST);
  if (n >= HOT_MAX) return false;
  const at = HOT_LIST + 16 + n * 16;
  store<u64>(at, rip);
  store<u32>(at, block, 8);
  store<u32>(at, again, 12);
  store<u32>(HOT_LIST, n + 1);
  if (n + 1 < hotBatch && !urgent) return false;
  store<u32>(EXIT_REASON, HOT_EXIT);
  return true;
}

/**
 * Exact mode: a region retires at most so many instructions between two looks at its budget, so it is entered only with more than that left,
 * and with a budget that is lower by as much; the rest is interpreted, which is exact. 0 = off.
 */
let margin: i32 = 0;
/** What the budget of a running region is too low by. */
let bias: i32 = 0;
export function setExact(m: i32): void {
  margin = m;
}
/** What is left of the budget, also in the middle of a region. */
export function inFlightBudget(): i32 {
  return load<i32>(BUDGET) + bias;
}

/** A debugger watches bytes that were just stored to: the host side looks once the instruction has ended. */
let watchHit: bool = false;
export function stopAfterStore(on: bool): void {
  watchHit = on;
}

/** Remember how far from its page an indirect branch went; where there is no more room, the newcomer inherits the place of the rarest (Metwally's "space saving"). */
function noteTarget(list: u32, target: u64, page: u32): void {
  let rarest = list;
  let least: u32 = 0xffffffff;
  const end = list + TARGETS_MAX * TARGET_SIZE;
  for (let at = list; at < end; at += TARGET_SIZE) {
    const n = load<u32>(at, 8);
    if (n == 0 || load<u64>(at) == target) {
      store<u64>(at, target);
      store<u32>(at, n + 1, 8);
      if (n == 0 || load<u32>(at, 12) != page) store<u32>(at, n == 0 ? page : TARGET_FOLLOWS, 12);
      return;
    }
    if (n < least) {
      least = n;
      rarest = at;
    }
  }
  store<u64>(rarest, target);
  store<u32>(rarest, least + 1, 8);
  store<u32>(rarest, page, 12);
}

/** The link that the region to be entered next is to be noted in; 0 = none. */
let pending: u32 = 0;
/** How many entries the next one stands for: those along links are counted by samples. */
let weight: u32 = 1;
let ticks: u32 = 0;
let linked: f64 = 0;
const SAMPLE: u32 = 64;
/** Where in the ring the latest call is whose return is still to come (byte offset). */
let calls: u32 = 0;

const RING: u32 = RETURNS_DEPTH * 4 - 1;
const GO_ON: u32 = 0;
const ELSEWHERE: u32 = 1;
const LEAVE: u32 = 2;

// @ts-ignore: decorator
@inline
function returnsTo(call: u32, rip: u64): bool {
  return call != 0 && load<u64>(call, LINK_RETURN_VA) == rip && load<u32>(call, LINK_RETURN_MODE) == load<u32>(MODE);
}

/** Run a region, and those that its exits are linked to. */
function runLinked(region: u32, entry: u32): u32 {
  for (;;) {
    const left = call_indirect<u32>(region, entry);
    let link: u32;
    let epoch: u32;
    if (left >= LEFT_LINK) {
      link = left & ~(LEFT_LINK - 1);
      epoch = load<u32>(EPOCHS + ((left & LEFT_EPOCH_MASK) << 2));
      if ((left & LEFT_CALL) != 0) {
        calls = (calls + 4) & RING;
        store<u32>(RETURNS + calls, link);
      }
      if ((left & LEFT_INDIRECT) != 0) {
        // It leads to where the branch went the last time.
        const target = link + ((left & LEFT_CALL) != 0 ? CALL_LINK_TARGET : LINK_TARGET);
        const rip = load<u64>(RIP);
        if (load<u64>(target) != rip) {
          store<u32>(link, 0);
          if (<i64>rip >= 0 != (((left + 1) & 2) == 0)) return ELSEWHERE;
          store<u64>(target, rip);
        }
      }
    } else if (left == LEFT_RETURN) {
      // The latest call, or the one before it where the latest came back through the interpreter.
      const rip = load<u64>(RIP);
      let call = load<u32>(RETURNS + calls);
      if (!returnsTo(call, rip)) {
        call = load<u32>(RETURNS + ((calls - 4) & RING));
        if (!returnsTo(call, rip)) return ELSEWHERE;
        calls -= 4;
      }
      calls = (calls - 4) & RING;
      link = call + LINK_RETURN;
      epoch = load<u32>(EPOCHS + (load<u32>(call, LINK_RETURN_EPOCH) << 2));
    } else return left == 0 ? GO_ON : LEAVE;
    if (load<u32>(link) != epoch) {
      pending = link;
      return ELSEWHERE;
    }
    if ((++ticks & (SAMPLE - 1)) == 0) {
      weight = SAMPLE;
      linked += SAMPLE;
      return ELSEWHERE;
    }
    if (load<i32>(BUDGET) <= 0) return ELSEWHERE;
    const to = load<u32>(link, 4);
    region = to >>> 8;
    entry = to & 255;
  }
  return LEAVE;
}

/** The function that runs the records of `fusedCount` handlers from `fusedFirst` on without a call for each. */
let fused: u32 = 0;
let fusedFirst: u32 = 0;
let fusedCount: u32 = 0;
export function setFused(at: u32, first: u32, count: u32): void {
  fused = at;
  fusedFirst = first;
  fusedCount = count;
}

/** Run until something needs the host side: EXIT_REASON says what. */
export function run(): void {
  do {
    dispatch();
  } while (load<u32>(PV_ON) != 0 && !stepping && pvTransition());
}

function dispatch(): void {
  store<u32>(EXIT_REASON, 0);
  pending = 0;
  weight = 1;
  let from: u32 = 0;
  for (;;) {
    let budget = load<i32>(BUDGET);
    if ((load<u32>(EFL) & TF) != 0 && !stepping) {
      store<u32>(EXIT_REASON, STEP_EXIT);
      return;
    }
    if (budget <= 0) {
      store<u32>(EXIT_REASON, BUDGET_EXIT);
      return;
    }
    const rip = load<u64>(RIP);
    const mode = load<u32>(MODE);
    const key = (epochOf(rip, mode) << 10) | mode;
    let block: u32 = 0;
    let at: u32 = 0;
    if (from != 0) {
      // Mostly what ran after a block the last time. It says itself where it was found in this epoch, if it has not been dropped since.
      const next = load<u32>(from);
      if (next != 0 && load<u32>(next, BLOCK_SEEN_KEY) == key && load<u64>(next, BLOCK_SEEN) == rip && load<u32>(next, BLOCK_REGION) == 0) block = next;
    }
    if (block == 0) {
      const link = from;
      from = 0;
      at = cacheSlot(rip);
      if (load<u64>(at) != rip || load<u32>(at, 8) != key) {
        if (load<u64>(at, 32) == rip && load<u32>(at, 40) == key) at += 32;
        else {
          if (lookup(rip, mode, at) == 0) return;
          at = found;
        }
      }
      const region = load<u32>(at, 16);
      if (region != 0 && !forceInterp && !stepping && budget > margin) {
        const before = load<u32>(at, 24);
        store<u32>(at, before + weight, 24);
        if (before < again && before + weight >= again && hot(rip, load<u32>(at, 12), 1, false)) return;
        weight = 1;
        entered++;
        seenHot = false;
        const entry = load<u32>(at, 20);
        if (pending != 0) {
          store<u32>(pending, epochOf(rip, mode));
          store<u32>(pending, (region << 8) | entry, 4);
          pending = 0;
        }
        if (margin != 0) {
          bias = margin;
          store<i32>(BUDGET, budget - margin);
        }
        const left = runLinked(region, entry);
        if (margin != 0) {
          store<i32>(BUDGET, load<i32>(BUDGET) + margin);
          bias = 0;
        }
        if (left == LEAVE) return;
        if (left == ELSEWHERE) continue;
        // It left at the instruction it was entered at (a store to code, a restart): that one must be interpreted, or this would never end.
        if (load<i32>(BUDGET) == budget && load<u64>(RIP) == rip) setForceInterp(true);
        continue;
      }
      block = load<u32>(at, 12);
      if (link != 0) store<u32>(link, block);
      store<u64>(block, rip, BLOCK_SEEN);
      // (The look-up may have begun an epoch.)
      store<u32>(block, load<u32>(at, 8), BLOCK_SEEN_KEY);
    }
    pending = 0;
    weight = 1;
    const forced = forceInterp || seenHot;
    setForceInterp(false);
    seenHot = false;
    const count = load<u32>(block, BLOCK_COUNT) + 1;
    store<u32>(block, count, BLOCK_COUNT);
    if (!stepping && !forced) {
      const isHot = count >= threshold && threshold != 0 && count % threshold == 0;
      // A new process (or a fork: Linux leaves it to page faults to map files again) has not all of a region's pages at first. Now and then, and before it is
      // made again, it is asked whether all are there. (A block with a region was found in the jump cache.)
      if ((isHot || (count & (RETRY - 1)) == 0) && load<u32>(block, BLOCK_REGION) != 0 && budget > margin && enterable(block, rip, mode) != 0) {
        store<u32>(at, 0xffffffff, 8);
        continue;
      }
      // A block that became hot a second time while it waited is too hot to wait.
      if (isHot && hot(rip, block, 0, count >= 2 * threshold)) {
        seenHot = true;
        return;
      }
    }
    const lin = linearRip(rip, mode);
    const page = rip - (lin & 0xfff);
    store<u64>(CODE_PAGE, page);
    let rec = block + BLOCK_HEADER;
    const n = <i32>load<u32>(block, BLOCK_N);
    const first = rec;
    let st: i32 = ST_NEXT;
    if (n <= budget) {
      for (;;) {
        let handler = load<u32>(rec);
        if (handler - fusedFirst < fusedCount) {
          st = call_indirect<i32>(fused, rec);
          rec = load<u32>(REC_AT);
          if (st != ST_HANDLER) break;
          handler = load<u32>(rec);
        }
        if (handler == 0) {
          st = ST_NEXT;
          break;
        }
        st = call_indirect<i32>(handler, rec);
        if (st != ST_NEXT) break;
        rec += REC_SIZE;
      }
    } else {
      const last = rec + <u32>budget * REC_SIZE;
      while (rec != last) {
        st = call_indirect<i32>(load<u32>(rec), rec);
        if (st != ST_NEXT) break;
        rec += REC_SIZE;
      }
    }
    const done = <i32>((rec - first) / REC_SIZE);
    interpreted += done;
    if (st == ST_JUMP) {
      store<i32>(BUDGET, budget - done - 1);
      from = block + (load<u64>(RIP) == page + load<u32>(rec, REC_NEXT) ? BLOCK_BEHIND : BLOCK_TO);
      const targets = load<u32>(block, BLOCK_TARGETS);
      if (targets != 0) noteTarget(targets, load<u64>(RIP) - page, <u32>(page >> 12));
    } else if (st == ST_NEXT) {
      // Fell through (block end, or budget spent): continue at the record's own address.
      store<u64>(RIP, page + <u64>load<u16>(rec, REC_POS));
      store<i32>(BUDGET, budget - done);
      from = done == n ? block + BLOCK_BEHIND : 0;
      continue;
    } else if (st == ST_AT) {
      from = 0;
      store<u64>(RIP, page + <u64>load<u16>(rec, REC_POS));
      const left = load<u32>(EXIT_REASON) != 0;
      // A restart (a long string operation) must not run for free for ever.
      store<i32>(BUDGET, budget - done - (left ? 0 : 1));
      if (left) return;
    } else {
      from = 0;
      store<u64>(RIP, page + <u64>load<u16>(rec, REC_POS) + <u64>load<u8>(rec, REC_LEN));
      store<i32>(BUDGET, budget - done - 1);
      store<u32>(SMC_PENDING, 0);
      if (watchHit) {
        watchHit = false;
        if (load<u32>(EXIT_REASON) == 0) store<u32>(EXIT_REASON, BUDGET_EXIT);
        return;
      }
      if (st == ST_AFTER) return;
    }
    if ((mode & MODE_BITS_MASK) != MODE_BITS_64) store<u64>(RIP, load<u64>(RIP) & 0xffffffff);
  }
}
