/**
 * A debugger's stops: instruction breakpoints and write watches by machine address, which the guest cannot see and which cost nothing where
 * there are none.
 *
 * A breakpoint takes the place of the code at its address: its block holds one instruction that leaves the engine, and no region reaches over
 * it. A watch is kept like decoded code: a store that changes its bytes goes the way of self-modifying code, and the engine stops after it.
 * Invariant: the bytes of guest memory stay as they are.
 */
import type { Maddr } from "../memory.js";
import type { CodeCache, CodeRange, CodeUnit } from "./code-cache.js";

/** A write watch on some bytes. */
export class Watch implements CodeUnit {
  readonly ranges: readonly CodeRange[];
  constructor(
    private readonly owner: DebugStops,
    maddr: Maddr,
    len: number,
  ) {
    this.ranges = [{ maddr, len }];
  }
  drop(): boolean {
    this.owner.written(this);
    return false;
  }
}

export class DebugStops {
  /** Machine addresses of instructions before which to stop. */
  readonly breaks = new Set<Maddr>();
  /** The watch whose bytes were written since the last look. */
  hit: Watch | null = null;
  /** Asked at a breakpoint: is it one for the vCPU that runs? (Frames can be mapped at several addresses, by several domains.) */
  wanted: () => boolean = () => true;
  private readonly watches = new Set<Watch>();
  /** Watches that fired: they are not in the cache now. */
  private readonly fired = new Set<Watch>();

  constructor(
    private readonly cache: CodeCache,
    private readonly stopAfterStore: (on: boolean) => void,
  ) {}

  /** There are stops: code is then shared by no frames. */
  get any(): boolean {
    return this.breaks.size > 0 || this.watches.size > 0;
  }

  /** Stop before the instruction at a machine address, or no longer. */
  setBreak(maddr: Maddr, on: boolean): void {
    if (on) this.breaks.add(maddr);
    else this.breaks.delete(maddr);
    this.cache.invalidate(maddr >>> 12, maddr & 4095, 1);
  }

  /** Stop after a store that changes one of these bytes; they lie in one frame. */
  watch(maddr: Maddr, len: number): Watch {
    const w = new Watch(this, maddr, len);
    this.watches.add(w);
    this.cache.watch(w);
    return w;
  }
  unwatch(w: Watch): void {
    this.watches.delete(w);
    this.fired.delete(w);
    this.cache.unwatch(w);
  }

  /** @internal */
  written(w: Watch): void {
    if (!this.watches.has(w)) return;
    this.hit ??= w;
    this.fired.add(w);
    this.stopAfterStore(true);
  }

  /** Before guest code runs again: what fired watches again. */
  rearm(): void {
    this.hit = null;
    if (this.fired.size === 0) return;
    this.stopAfterStore(false);
    for (const w of this.fired) this.cache.watch(w);
    this.fired.clear();
  }
}
