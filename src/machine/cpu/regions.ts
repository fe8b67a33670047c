/**
 * Hot code: takes the blocks that the dispatcher found hot, has regions made of them, and puts them in the function table.
 *
 * A region is entered through the blocks at its entries (BLOCK_REGION, BLOCK_ENTRY, BLOCK_VA); the dispatcher checks that the virtual
 * address is the one it was made for and, once an epoch, that all its pages are still mapped to the same frames. Regions of user code where
 * position-independent programs and libraries lie may run elsewhere too (REGION_DELTAS): their pages must be there, in the same distances.
 */
import {
  BLOCK_COUNT,
  BLOCK_ENTRY,
  BLOCK_MADDR,
  BLOCK_MODE,
  BLOCK_REGION,
  BLOCK_VA,
  CALL_LINK_SIZE,
  ENTRIES_MAP,
  ENTRIES_MAP_BITS,
  HOT_LIST,
  LEFT_CALL,
  LEFT_INDIRECT,
  LINKS,
  LINKS_END,
  LINK_RETURN_EPOCH,
  LINK_RETURN_MODE,
  LINK_RETURN_VA,
  MADE_FROM,
  MODE,
  MODE_BITS_64,
  MODE_BITS_MASK,
  MODE_CPL_SHIFT,
  MODE_SPACE,
  MOVES_TO,
  REGIONS,
  REGIONS_MAX,
  REGION_DELTAS,
  REGION_SIZE,
  TARGETS_MAX,
  TARGET_FOLLOWS,
  TARGET_SIZE,
} from "../layout.js";
import { EXEC, type Va } from "./api.js";
import type { CodeUnit } from "./code-cache.js";
import type { Cpu } from "./cpu.js";
import { decode } from "./decode/index.js";
import type { Insn } from "./insn.js";
import { PendingModule } from "./interpreter/handlers.js";
import { translateRegion, type CodeSource, type Region } from "./translator/index.js";

const TWO32 = 4294967296;
/**
 * Modules with a region in use. V8 maps memory for each, and the process dies when the system gives it no more mappings (Linux: 65,530).
 */
const MODULES_MAX = 8192;
/** Links are 16 bytes apart, so that their addresses leave room for the epoch's number. */
const LINK_STEP = 16;
/** What a region may span that is made again with all that it calls: a kernel's functions are short, and lie far apart. */
const AGAIN_BLOCKS = 400;
const AGAIN_PAGES = 48;
const NO_TARGETS: readonly Va[] = [];
/** Numbers of the epochs (EPOCHS). */
const [LOWER0, UPPER0, UPPER1, LOWER1] = [0, 1, 2, 3] as const;
/** A target that an indirect branch takes less often than this share of all is left to the dispatcher. */
const RARE = 1 / 64;
/**
 * Whoever jumps further, from one place only, may have left its program or library for another, which is elsewhere relative to it in
 * every process: such a target has no place in a region that is to run elsewhere.
 */
const NEAR = 32768;

interface Entry {
  slot: number;
  number: number;
  va: Va;
}

/** May a region made at this address run at others? Kernels' code, and programs linked to an address below, never do. */
function moves(va: Va, mode: number): boolean {
  const user = ((mode >> MODE_CPL_SHIFT) & 3) === 3;
  return user && (mode & MODE_BITS_MASK) === MODE_BITS_64 && va >= MADE_FROM && va < MOVES_TO;
}

interface Made {
  readonly region: Region;
  readonly slot: number;
  /** It may run at other addresses. */
  readonly movable: boolean;
  readonly mode: number;
  readonly again: boolean;
}

class LiveRegion implements CodeUnit {
  readonly ranges: Region["ranges"];
  readonly va: Va;
  /** It calls functions that are not in it. */
  readonly calls: boolean;
  /** From its beginning it was made with all that it calls, or that was tried. */
  again = false;
  constructor(
    private readonly owner: RegionCompiler,
    readonly module: { live: number },
    readonly slot: number,
    readonly entries: readonly { va: Va; maddr: number; number: number }[],
    region: Region,
    readonly movable: boolean,
    readonly mode: number,
    readonly maddr: number,
    /** It is made with all that it calls. */
    readonly whole: boolean,
  ) {
    this.ranges = region.ranges;
    this.va = region.entries[0] as Va;
    this.calls = region.calls;
  }
  drop(): boolean {
    this.owner.drop(this);
    return false;
  }
}

export class RegionCompiler {
  private readonly entries = new Map<number, Entry>();
  private readonly bySlot = new Map<number, LiveRegion>();
  /** Regions made with all that they call, by machine address and mode of their beginning. */
  private readonly whole = new Map<number, LiveRegion>();
  private readonly freeSlots: number[] = [];
  /** Something did not fit, neither in the table nor in the arena: before the next translation, everything is forgotten. */
  private full = false;
  /** Modules that have a region in use. */
  private modules = 0;
  /** Milliseconds spent translating and compiling on the running thread, and bytes of WebAssembly made. */
  readonly stats = {
    again: 0,
    modules: 0,
    regions: 0,
    live: 0,
    instructions: 0,
    wasmBytes: 0,
    translateMs: 0,
    refused: 0,
    /** Hot blocks that had gone, or were of another address space. */
    missed: 0,
  };
  /** Blocks that could not be translated, by machine address and mode, so that they are not tried again and again. */
  private readonly refused = new Set<number>();
  /** Lists of observed targets by the machine address of the indirect branch. */
  private readonly branches = new Map<number, number>();
  private nextLink = LINKS;

  constructor(
    private readonly cpu: Cpu,
    /** Blocks that ran less often are left out of other blocks' regions: code that is not hot is not worth V8's time. */
    private readonly minCount: number,
    private readonly now: () => number = () => 0,
  ) {}

  /** Where the core notes the targets of the indirect branch at a machine address; 0 = there is no room. */
  noteTargets(maddr: number): number {
    let list = this.branches.get(maddr);
    if (list === undefined) {
      list = this.cpu.cache.allocate(TARGETS_MAX * TARGET_SIZE);
      if (list === 0) return 0;
      this.cpu.mem.u8.fill(0, list, list + TARGETS_MAX * TARGET_SIZE);
      this.branches.set(maddr, list);
    }
    return list;
  }

  /** Where the indirect branch at an address went, most often first; `near`: only what is at the same distance wherever the branch is. */
  private targetsOf(va: Va, maddr: number, near: boolean): readonly Va[] {
    const list = this.branches.get(maddr);
    if (list === undefined) return NO_TARGETS;
    const { u32 } = this.cpu.mem;
    const found: { va: Va; n: number }[] = [];
    const page = va - (maddr & 4095);
    let all = 0;
    for (let at = list >>> 2, i = 0; i < TARGETS_MAX; i++, at += TARGET_SIZE >>> 2) {
      const n = u32[at + 2] as number;
      if (n === 0) break;
      all += n;
      const distance = this.word64(at * 4);
      if (near && Math.abs(distance) > NEAR && u32[at + 3] !== TARGET_FOLLOWS) continue;
      found.push({ va: page + distance, n });
    }
    return found
      .filter((t) => t.n >= all * RARE)
      .sort((a, b) => b.n - a.n)
      .map((t) => t.va);
  }

  private key(maddr: number, mode: number): number {
    return maddr * 1024 + mode;
  }

  /** A block was decoded: it may be an entry of a region that exists already. */
  adopt(block: number, maddr: number, mode: number): void {
    const e = this.entries.get(this.key(maddr, mode));
    if (e !== undefined) this.install(block, e);
  }

  private install(block: number, e: Entry): void {
    const u32 = this.cpu.mem.u32;
    u32[(block + BLOCK_REGION) >>> 2] = e.slot;
    u32[(block + BLOCK_ENTRY) >>> 2] = e.number;
    this.putWord64(block + BLOCK_VA, e.va);
  }

  /** Make a link for an exit of a region for `mode`. One that is not used in the end is no loss. */
  private link(mode: number, target: Va, returnTo: Va | undefined, indirect = 0): number {
    const at = this.nextLink;
    if (at + CALL_LINK_SIZE + LINK_STEP > LINKS_END) {
      this.full = true;
      return 0;
    }
    // (One with a target beside it has room for that.)
    this.nextLink = at + (returnTo === undefined ? LINK_STEP : CALL_LINK_SIZE + (indirect !== 0 ? LINK_STEP : 0));
    const { u32 } = this.cpu.mem;
    u32.fill(0, at >>> 2, this.nextLink >>> 2);
    const epoch = (va: Va): number =>
      (mode & MODE_SPACE) === 0 ? (va >= 0 ? LOWER0 : UPPER0) : va >= 0 ? LOWER1 : UPPER1;
    if (returnTo === undefined) return at | indirect | epoch(target);
    this.putWord64(at + LINK_RETURN_VA, returnTo);
    u32[(at + LINK_RETURN_EPOCH) >>> 2] = epoch(returnTo);
    u32[(at + LINK_RETURN_MODE) >>> 2] = mode;
    return at | LEFT_CALL | indirect | epoch(target);
  }

  /** No link may lead to a region that has gone. */
  private unlink(slot: number): void {
    const { u32 } = this.cpu.mem;
    for (let i = LINKS >>> 2, end = this.nextLink >>> 2; i < end; i += 2)
      if ((u32[i + 1] as number) >>> 8 === slot) u32[i] = 0;
  }

  /** Translate what the dispatcher listed as hot. */
  compileHot(): void {
    const { mem, cache } = this.cpu;
    const u32 = mem.u32;
    const n = u32[HOT_LIST >>> 2] as number;
    u32[HOT_LIST >>> 2] = 0;
    if (this.full) {
      this.cpu.forgetCode();
      return;
    }
    const t0 = this.now();
    const made: Made[] = [];
    const module = new PendingModule(this.cpu);
    // In the order of their addresses, as a function's beginning takes in what follows: what is in a region made just now is not
    // made again, unless it becomes hot once more.
    const hot: { va: Va; block: number; again: boolean }[] = [];
    for (let i = 0; i < n; i++) {
      const at = (HOT_LIST + 16 + i * 16) >>> 2;
      hot.push({
        va: this.word64(at * 4),
        block: u32[at + 2] as number,
        again: u32[at + 3] === 1,
      });
    }
    hot.sort((a, b) => a.va - b.va);
    const { mode: present } = this.cpu;
    // What is made again now: its other entries were counted before.
    const redone = new Set<LiveRegion>();
    for (const { va, block, again } of hot) {
      const maddr = u32[(block + BLOCK_MADDR) >>> 2] as number;
      const mode = u32[(block + BLOCK_MODE) >>> 2] as number;
      // The kernel's code is looked at as the kernel sees it and the program's as the program does, whichever was stopped for it.
      u32[MODE >>> 2] = mode;
      // The block may have gone, or belong to an address space that is not the present one: it will become hot again.
      if (cache.find(maddr, mode) !== block || this.cpu.codeAddr(va) !== maddr) {
        this.stats.missed++;
        continue;
      }
      if (again) {
        const old = this.bySlot.get(u32[(block + BLOCK_REGION) >>> 2] as number);
        if (old === undefined || old.whole || old.mode !== mode || !old.calls) continue;
        // From its beginning: it may have been entered in its middle. What is still entered often there although that was done is made from there: it is
        // in a loop of which the other cannot be entered, where the budget ran out or a call came back.
        const { again: behind } = old;
        if (redone.has(old)) continue;
        redone.add(old);
        old.again = true;
        const delta = va - this.word64(block + BLOCK_VA);
        const start = behind ? va : old.va + delta;
        const at = behind ? maddr : old.maddr;
        if (this.cpu.codeAddr(start) !== at) continue;
        // All are counted anew.
        for (const e of old.entries) this.forgetAt(e.va + delta);
        const whole = this.whole.get(this.key(at, mode));
        if (whole !== undefined && this.isMapped(whole, start - whole.va)) {
          this.enter(whole, start - whole.va);
          continue;
        }
        if (whole !== undefined && behind) continue;
        const m = this.translate(module, start, mode, true);
        if (typeof m === "string") continue;
        this.stats.again++;
        made.push(m);
        continue;
      }
      if (u32[(block + BLOCK_REGION) >>> 2] !== 0) {
        // It has a region, which is of no use here: if that is another domain's, code of one's own is better than taking turns.
        const own = this.cpu.translate(va, EXEC) >>> 12;
        if (cache.twins.has(own)) {
          cache.twins.unsuited(own);
          continue;
        }
      }
      if (made.some((m) => m.mode === mode && m.region.ranges.some((r) => va >= r.va && va < r.va + r.len))) continue;
      if (this.refused.has(this.key(maddr, mode))) continue;
      const m = this.translate(module, va, mode, false);
      if (m === "refused") {
        this.refused.add(this.key(maddr, mode));
        this.stats.refused++;
      } else if (m !== "full") made.push(m);
    }
    if (made.length > 0) this.build(module, made);
    u32[MODE >>> 2] = present;
    this.stats.translateMs += this.now() - t0;
  }

  private translate(module: PendingModule, va: Va, mode: number, again: boolean): Made | "full" | "refused" {
    const slot = this.takeSlot();
    if (slot < 0) return "full";
    const movable = moves(va, mode);
    const region = translateRegion(this.source(mode), this.cpu.ops, module, va, mode, {
      link: (target, back) => this.link(mode, target, back),
      indirectLink: (at, back) => this.link(mode, at, back, LEFT_INDIRECT),
      ...(movable ? { delta: REGION_DELTAS + slot * 8 } : {}),
      ...(again ? { inlineLimit: Infinity, maxBlocks: AGAIN_BLOCKS, maxPages: AGAIN_PAGES } : {}),
    });
    if (region !== null) return { region, slot, mode, movable, again };
    this.freeSlots.push(slot);
    return "refused";
  }

  /** A virtual address, or a distance between two, in memory. */
  private word64(at: number): number {
    return (this.cpu.mem.i32[(at + 4) >>> 2] as number) * TWO32 + (this.cpu.mem.u32[at >>> 2] as number);
  }
  private putWord64(at: number, va: Va): void {
    const { u32 } = this.cpu.mem;
    u32[at >>> 2] = va | 0;
    u32[(at + 4) >>> 2] = Math.floor(va / TWO32) | 0;
  }

  private build(module: PendingModule, made: Made[]): void {
    made.forEach((m, i) => module.builder.addFunc(m.region.code, `r${i}`));
    const bytes = module.builder.finish();
    this.stats.modules++;
    this.stats.wasmBytes += bytes.length;
    const { exports } = this.cpu.instantiate(bytes);
    const home = { live: 0 };
    made.forEach((m, i) => {
      this.cpu.setFunction(m.slot, exports[`r${i}`]);
      this.publish(m, home);
    });
    if (home.live > 0 && ++this.modules >= MODULES_MAX) this.full = true;
  }

  /** A place in the function table that has a descriptor, or −1. */
  private takeSlot(): number {
    const free = this.freeSlots.pop();
    if (free !== undefined) return free;
    const slot = this.full ? REGIONS_MAX : this.cpu.allocate(1);
    if (slot < REGIONS_MAX) return slot;
    this.full = true;
    return -1;
  }

  private publish({ region, slot, mode, movable, again }: Made, home: { live: number }): void {
    const { mem, cache } = this.cpu;
    // Its entries are looked up as its own mode sees them.
    mem.u32[MODE >>> 2] = mode;
    const pages = new Map<Va, number>();
    for (const r of region.ranges) pages.set(r.va - (r.maddr & 4095), r.maddr & ~4095);
    const list = cache.allocate(pages.size * 16);
    if (list === 0) {
      this.cpu.setFunction(slot, null);
      this.freeSlots.push(slot);
      this.full = true;
      return;
    }
    let at = list;
    for (const [va, maddr] of pages) {
      this.putWord64(at, va);
      mem.u32[(at + 8) >>> 2] = maddr;
      at += 16;
    }
    const d = (REGIONS + slot * REGION_SIZE) >>> 2;
    mem.u32[d] = 0;
    mem.u32[d + 1] = pages.size;
    mem.u32[d + 2] = list;
    mem.u32[d + 3] = movable ? 1 : 0;
    this.putWord64(REGION_DELTAS + slot * 8, 0);
    const entries: { va: Va; maddr: number; number: number }[] = [];
    region.entries.forEach((va, number) => {
      const maddr = this.cpu.codeAddr(va);
      if (maddr >= 0) entries.push({ va, maddr, number });
    });
    const live = new LiveRegion(
      this,
      home,
      slot,
      entries,
      region,
      movable,
      mode,
      this.cpu.codeAddr(region.entries[0] as Va),
      again,
    );
    this.bySlot.set(slot, live);
    if (again) this.whole.set(this.key(live.maddr, mode), live);
    this.enter(live, 0);
    cache.watch(live);
    home.live++;
    this.stats.regions++;
    this.stats.live++;
    this.stats.instructions += region.instructions;
    this.cpu.counters.regions++;
  }

  /** Are the region's pages mapped as they were when it was made, `delta` further on? */
  private isMapped(r: LiveRegion, delta: number): boolean {
    if (delta !== 0 && !r.movable) return false;
    return r.ranges.every((x) => this.cpu.codeAddr(x.va + delta) === x.maddr);
  }

  /** From now on its entries, which are `delta` further on at present, lead into this region. */
  private enter({ slot, mode, entries }: LiveRegion, delta: number): void {
    const replaced: number[] = [];
    for (const { va, maddr, number } of entries) {
      const e: Entry = { slot, number, va };
      const was = this.entries.get(this.key(maddr, mode));
      if (was !== undefined && was.slot !== slot && !replaced.includes(was.slot)) replaced.push(was.slot);
      this.entries.set(this.key(maddr, mode), e);
      const bit = this.cpu.core.entryBit(maddr, mode);
      const word = (ENTRIES_MAP >>> 2) + (bit >>> 5);
      this.cpu.mem.u32[word] = (this.cpu.mem.u32[word] as number) | (1 << (bit & 31));
      const block = this.cpu.cache.find(maddr, mode);
      if (block !== 0) this.install(block, e);
      // The jump cache still leads elsewhere.
      this.forgetAt(va + delta);
    }
    for (const old of replaced) this.unlink(old);
  }

  /** The region's bytes changed. It may be on the stack right now: only its ways in are removed. */
  drop(r: LiveRegion): void {
    const u32 = this.cpu.mem.u32;
    const delta = this.word64(REGION_DELTAS + r.slot * 8);
    const { mode } = r;
    if (this.whole.get(this.key(r.maddr, mode)) === r) this.whole.delete(this.key(r.maddr, mode));
    for (const { va, maddr } of r.entries) {
      // (In the present epoch it ran there only, and entries of older ones are looked at anew.)
      this.forgetAt(va + delta);
      const key = this.key(maddr, mode);
      const e = this.entries.get(key);
      if (e === undefined || e.slot !== r.slot) continue;
      this.entries.delete(key);
      const block = this.cpu.cache.find(maddr, mode);
      if (block !== 0 && u32[(block + BLOCK_REGION) >>> 2] === r.slot) u32[(block + BLOCK_REGION) >>> 2] = 0;
    }
    this.bySlot.delete(r.slot);
    this.unlink(r.slot);
    this.cpu.setFunction(r.slot, null);
    this.freeSlots.push(r.slot);
    this.stats.live--;
    if (--r.module.live === 0) this.modules--;
  }

  /** Make the jump cache forget an address. */
  private forgetAt(va: Va): void {
    this.cpu.core.forgetCode(va | 0, Math.floor(va / TWO32) | 0);
  }

  reset(): void {
    this.entries.clear();
    this.cpu.mem.u32.fill(0, ENTRIES_MAP >>> 2, (ENTRIES_MAP + ENTRIES_MAP_BITS / 8) >>> 2);
    this.bySlot.clear();
    this.whole.clear();
    this.refused.clear();
    this.branches.clear();
    this.cpu.mem.u32.fill(0, LINKS >>> 2, this.nextLink >>> 2);
    this.nextLink = LINKS;
    this.full = false;
  }

  private source(mode: number): CodeSource {
    const cpu = this.cpu;
    const minCount = this.minCount;
    const u8 = cpu.mem.u8;
    const bits = cpu.bits;
    const { breaks } = cpu.stops;
    const codeAddr = (va: Va): number => cpu.codeAddr(va);
    // One page is asked for again and again: remember the last.
    let page = NaN;
    let base = -1;
    const pageOf = (va: Va): number => {
      const low = va & 4095;
      const p = va - low;
      if (p !== page) {
        page = p;
        base = codeAddr(p);
      }
      return base < 0 ? -1 : base + low;
    };
    return {
      codeAddr: pageOf,
      decodeAt: (va): Insn | null => {
        const ma = pageOf(va);
        if (ma < 0 || breaks.has(ma)) return null;
        const end = (ma & ~4095) + 4096;
        const insn = decode(u8, ma, end, bits);
        if (insn !== null) return insn;
        const next = codeAddr(va + (end - ma));
        if (next < 0) return null;
        const bytes = new Uint8Array(end - ma + 15);
        bytes.set(u8.subarray(ma, end));
        bytes.set(u8.subarray(next, next + 15), end - ma);
        return decode(bytes, 0, bytes.length, bits);
      },
      count: (va) => {
        const ma = pageOf(va);
        if (ma < 0) return 0;
        const block = cpu.cache.find(ma, mode);
        const n = block === 0 ? 0 : (cpu.mem.u32[(block + BLOCK_COUNT) >>> 2] as number);
        return n < minCount ? 0 : n;
      },
      targets: (va, near) => {
        const ma = pageOf(va);
        return ma < 0 ? NO_TARGETS : this.targetsOf(va, ma, near);
      },
    };
  }
}
