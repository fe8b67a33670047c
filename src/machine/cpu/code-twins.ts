/**
 * Frames of the same content share their code: what was decoded and translated from one of them serves the others, so that a second domain with
 * the same kernel decodes and translates little of its own.
 *
 * A group has one frame that its code belongs to; each of the others has that one's number in TWIN, and wherever the engine turns an address into
 * the machine address of code, it goes by that table (`codeFrame` in mmu.ts). Frames are compared when code is first decoded from one, and all of
 * them now and then, for kernels patch themselves while they boot.
 *
 * Invariants: the frames of a group hold the same bytes. All granules of each are marked in CODE_MASK, so that no store to any byte of them goes
 * unseen; a store that changes a byte first takes the frame out of its group (`written`), or ends the group if the frame is the one with the code.
 * A frame with a TWIN has no code of its own. Who joins is decided by contents and by counts, never by the time of day.
 */
import { CODE_MASK, DECODES, MAX_FRAMES, TWIN } from "../layout.js";
import type { Mfn, PhysMem } from "../memory.js";

/** What of the core is needed here. */
export interface TwinCore {
  hashFrame(frame: number): number;
  sameFrame(a: number, b: number): number;
  dropWriters(frame: number): void;
  codeDropped(): void;
}
/** What of the code cache is. */
export interface TwinHost {
  /** Frames that code was decoded from. */
  frames(): Iterable<Mfn>;
  units(frame: Mfn): number;
  dropUnits(frame: Mfn): void;
  remask(frame: Mfn): void;
}

/** Blocks decoded between two comparisons of all frames with code. The core counts too (DECODES). */
export const SWEEP = 4096;
/** So often a frame may leave a group until it is no longer taken into one; and after so many sweeps that is forgotten. */
const LEAVES_MAX = 4;
const FORGIVEN = 32;

export class CodeTwins {
  /** Joins so far. */
  joined = 0;
  private readonly table: Uint32Array;
  private readonly groups = new Map<Mfn, Set<Mfn>>();
  /** A frame that had this content when it was last looked at. */
  private readonly byHash = new Map<number, Mfn>();
  private readonly leaves = new Map<Mfn, number>();
  private sweeps = 0;

  constructor(
    private readonly mem: PhysMem,
    private readonly core: TwinCore,
    private readonly host: TwinHost,
  ) {
    this.table = new Uint32Array(mem.buffer, TWIN, MAX_FRAMES);
  }

  /** Frames that use the code of another. */
  get members(): number {
    let n = 0;
    for (const g of this.groups.values()) n += g.size;
    return n;
  }

  /** Where the code at a machine address of RAM is kept. */
  codeAddr(maddr: number): number {
    const t = this.table[maddr >>> 12] as number;
    return t === 0 ? maddr : t * 4096 + (maddr & 4095);
  }

  /** Code is about to be decoded from a frame. True: it, or others, joined a group: look for the code again. */
  settle(frame: Mfn): boolean {
    const { u32 } = this.mem;
    const decodes = (u32[DECODES >>> 2] as number) + 1;
    u32[DECODES >>> 2] = decodes % SWEEP;
    if (decodes === SWEEP && this.sweep()) return true;
    const units = this.host.units(frame);
    if ((units & (units - 1)) !== 0) return false;
    const hash = this.core.hashFrame(frame);
    const other = this.byHash.get(hash);
    if (other !== undefined && this.join(frame, other)) {
      this.core.codeDropped();
      return true;
    }
    this.byHash.set(hash, frame);
    return false;
  }

  private sweep(): boolean {
    if (++this.sweeps % FORGIVEN === 0) this.leaves.clear();
    this.byHash.clear();
    let any = false;
    for (const frame of [...this.host.frames()]) {
      const hash = this.core.hashFrame(frame);
      const other = this.byHash.get(hash);
      if (other === undefined) this.byHash.set(hash, frame);
      else if (this.join(frame, other)) any = true;
    }
    if (any) this.core.codeDropped();
    return any;
  }

  private join(frame: Mfn, to: Mfn): boolean {
    if (frame === to || this.table[to] !== 0 || this.host.units(to) === 0) return false;
    if (this.groups.has(frame) || this.solitary(frame) || this.solitary(to)) return false;
    if (this.core.sameFrame(frame, to) === 0) return false;
    this.host.dropUnits(frame);
    let group = this.groups.get(to);
    if (group === undefined) {
      group = new Set();
      this.groups.set(to, group);
      this.markAll(to);
    }
    group.add(frame);
    this.table[frame] = to;
    this.markAll(frame);
    this.core.dropWriters(frame);
    this.joined++;
    return true;
  }
  private solitary(frame: Mfn): boolean {
    return (this.leaves.get(frame) ?? 0) >= LEAVES_MAX;
  }
  private markAll(frame: Mfn): void {
    this.mem.u32.fill(0xffffffff, (CODE_MASK + frame * 8) >>> 2, (CODE_MASK + frame * 8 + 8) >>> 2);
  }

  /** Is a frame in a group? */
  has(frame: Mfn): boolean {
    return this.table[frame] !== 0 || this.groups.has(frame);
  }

  /** A frame is being changed: it is nobody's twin any more. */
  written(frame: Mfn): void {
    this.part(frame, 1);
  }
  /** Its code does not suit both: a region leads from it to a page that they do not share. */
  unsuited(frame: Mfn): void {
    this.part(frame, LEAVES_MAX / 2);
  }
  /** `weight`: of LEAVES_MAX, how much that tells against joining again. */
  private part(frame: Mfn, weight: number): void {
    if (!this.has(frame)) return;
    this.leaves.set(frame, (this.leaves.get(frame) ?? 0) + weight);
    const of = this.table[frame] as number;
    if (of !== 0) {
      this.leave(frame);
      const group = this.groups.get(of);
      group?.delete(frame);
      if (group?.size === 0) {
        this.groups.delete(of);
        this.host.remask(of);
      }
    } else {
      const group = this.groups.get(frame);
      this.groups.delete(frame);
      for (const member of group ?? []) this.leave(member);
      this.host.remask(frame);
    }
    this.core.codeDropped();
  }
  private leave(member: Mfn): void {
    this.table[member] = 0;
    this.host.remask(member);
  }

  /** All code was forgotten. */
  reset(): void {
    for (const group of this.groups.values()) for (const member of group) this.table[member] = 0;
    this.groups.clear();
    this.byHash.clear();
    this.leaves.clear();
  }
}
