/**
 * A suspended domain, kept: what forks begin from. Its pages are backings of the hypervisor's sharing room, held here; its page tables are kept in
 * canonical form (pseudo-physical frame numbers), so that a fork's are made from them by an addition.
 *
 * Invariants: a snapshot never changes; what it holds is held until `release` by all who use it (its maker and forks in the making; forks that
 * run hold their pages themselves); frames of a fork follow each other, its page tables, P2M and start info page are its own from the start.
 */
import type { Domain } from "../hypervisor/domain.js";
import type { SchedParams } from "../hypervisor/scheduler/index.js";
import type { Mfn } from "../machine/memory.js";
import { domainPath } from "../xenstore/paths.js";
import type { Machine } from "./machine.js";
import { MigrationError } from "./migration/errors.js";
import { tableLevel } from "./migration/formats.js";
import {
  canonicaliseFrame,
  captureState,
  localiseTable,
  readP2m,
  startInfoPfn,
  type SuspendedState,
  type TableLevel,
} from "./migration/index.js";

const PAGE = 4096;
/** Entries of eight bytes in a page, and its words of four. */
const PER_PAGE = 512;
const WORDS = 1024;

/** In `pages`: the fork's own page, written when it is made; and no page at all. */
const OWN = 0;
const NONE = -1;

/** What XenStore said of the domain, and its creator. */
export interface SnapshotFacts {
  readonly name: string;
  readonly maxVcpus: number;
  readonly maxPages: number;
  readonly maxPort: number;
  readonly memoryMap: Domain["mm"]["memoryMap"];
  /** Weight, cap and the like. */
  readonly sched?: SchedParams | undefined;
  readonly maxMemKiB?: number | undefined;
  readonly targetKiB?: number | undefined;
  readonly kernelPath?: string | undefined;
  readonly ramdiskPath?: string | undefined;
  readonly cmdline?: string | undefined;
}

/** What is known of a domain that runs on this machine. */
export function factsOf(machine: Machine, domain: Domain): SnapshotFacts {
  const { xs } = machine;
  const dom = domainPath(domain.domid);
  const kib = (name: string): number | undefined => {
    const n = Number(xs.read(`${dom}/memory/${name}`) ?? NaN);
    return n > 0 ? n : undefined;
  };
  const sched = domain.xen.scheduler.adjust(domain, null);
  const image = (name: string): string | undefined => xs.read(`/vm/${domain.uuid}/image/${name}`) ?? undefined;
  return {
    name: domain.name,
    maxVcpus: domain.vcpus.length,
    maxPages: domain.mm.maxPages,
    maxPort: domain.events.maxPort,
    memoryMap: domain.mm.memoryMap,
    sched: typeof sched === "number" ? undefined : sched,
    maxMemKiB: kib("static-max"),
    targetKiB: kib("target"),
    kernelPath: image("kernel"),
    ramdiskPath: image("ramdisk"),
    cmdline: image("cmdline"),
  };
}

export class Snapshot {
  /** Pages the domain had. */
  readonly totalPages: number;
  private holders = 1;
  private readonly atEnd: (() => void)[] = [];

  private constructor(
    private readonly machine: Machine,
    readonly state: SuspendedState,
    readonly facts: SnapshotFacts,
    /** Per pseudo-physical frame a held backing, OWN or NONE. */
    private readonly pages: Int32Array,
    /** Page tables in canonical form, one after the other, and where each belongs. */
    private readonly tables: readonly { readonly pfn: number; readonly level: TableLevel }[],
    private readonly words: Uint32Array,
    private readonly startInfo: Uint8Array,
  ) {
    this.totalPages = pages.reduce((n, b) => (b === NONE ? n : n + 1), 0);
  }

  /**
   * Keep a suspended domain, which is left as it is. A MigrationError says what cannot be kept, or that there is no memory.
   *
   * @param state where the domain is none that suspended itself here but one out of a stream: its pages are in place, tables still canonical
   */
  static take(machine: Machine, domain: Domain, facts: SnapshotFacts, state?: SuspendedState): Snapshot {
    const { mem, frames: ft } = machine.xen;
    const { sharing } = ft;
    const p2m = state === undefined ? readP2m(domain) : null;
    const kept = state ?? captureState(domain, p2m ?? undefined);
    const { pfns, types } = kept;
    const mfnOf = (pfn: number): Mfn => (p2m === null ? domain.mm.mfnOf(pfn) : (p2m.mfn[pfn] ?? -1));
    const first = kept.vcpus.find((v) => v.id === 0);
    if (first === undefined) throw new MigrationError("unsupported", "the domain has no vCPU 0");
    const info = startInfoPfn(first);
    if (!(info >= 0 && info < pfns) || mfnOf(info) < 0)
      throw new MigrationError("unsupported", "the domain's start info page is not its own");
    const pages = new Int32Array(pfns).fill(NONE);
    const tables: { pfn: number; level: TableLevel }[] = [];
    for (let pfn = 0; pfn < pfns; pfn++) {
      const level = tableLevel(types[pfn] as number);
      if (level !== 0 && mfnOf(pfn) >= 0) tables.push({ pfn, level });
    }
    const words = new Uint32Array(tables.length * WORDS);
    const bytes = new Uint8Array(words.buffer);
    const { m2p } = ft;
    const pfnOf = (mfn: Mfn): number => {
      if (!domain.mm.owns(mfn)) return -1;
      const pfn = m2p.get(mfn);
      return pfn >= 0 && pfn < pfns && mfnOf(pfn) === mfn ? pfn : -1;
    };
    for (const [i, t] of tables.entries()) {
      pages[t.pfn] = OWN;
      const mfn = mfnOf(t.pfn);
      if (p2m === null) mem.readInto(mfn * PAGE, bytes.subarray(i * PAGE, (i + 1) * PAGE));
      else {
        const bad = canonicaliseFrame(mem, mfn, t.level, pfnOf, bytes, i * PAGE);
        if (bad >= 0)
          throw new MigrationError(
            "unsupported",
            `domain ${domain.domid} cannot be forked: entry ${bad} of its page table ${t.pfn} maps memory that is not its own`,
          );
      }
    }
    if (kept.p2mFrames.length < Math.ceil(pfns / PER_PAGE))
      throw new MigrationError("stream", "the P2M table is too short");
    for (const pfn of kept.p2mFrames) {
      if (!(pfn >= 0 && pfn < pfns) || mfnOf(pfn) < 0 || pages[pfn] === OWN)
        throw new MigrationError("stream", `page ${pfn} of the P2M table is no page of the domain's`);
      pages[pfn] = OWN;
    }
    if (pages[info] === OWN) throw new MigrationError("stream", `the start info page is a table as well`);
    pages[info] = OWN;
    sharing.register(pages);
    for (let pfn = 0; pfn < pfns; pfn++) {
      const mfn = mfnOf(pfn);
      if (mfn < 0 || pages[pfn] === OWN || sharing.freeze(mfn, pages, pfn)) continue;
      sharing.letGo(pages);
      throw new MigrationError(
        "unsupported",
        `domain ${domain.domid} cannot be forked: its page ${pfn} is the hypervisor's`,
      );
    }
    // From now on stores to these frames are seen.
    ft.flushTlb();
    return new Snapshot(machine, kept, facts, pages, tables, words, mem.read(mfnOf(info) * PAGE, PAGE));
  }

  // --- lifetime -----------------------------------------------------------------------------------------------------------

  /** Use it for longer. */
  hold(): void {
    if (this.holders === 0) throw new Error("the snapshot is gone");
    this.holders++;
  }
  /** Use it no longer: what no fork shares is freed with the last holder. */
  release(): void {
    if (this.holders === 0 || --this.holders > 0) return;
    const { sharing } = this.machine.xen.frames;
    sharing.letGo(this.pages);
    for (const f of this.atEnd.splice(0)) f();
  }
  get released(): boolean {
    return this.holders === 0;
  }
  /** @internal Called when it is gone. */
  onRelease(f: () => void): void {
    this.atEnd.push(f);
  }

  // --- forks --------------------------------------------------------------------------------------------------------------

  /**
   * Give a new domain its memory: shared pages, and its own page tables, P2M and start info page, the tables and P2M naming its own frames. A
   * MigrationError says that there is no room; the caller then destroys the domain.
   */
  populate(domain: Domain): void {
    const { xen } = this.machine;
    const { mem, frames: ft } = xen;
    const { sharing } = ft;
    const { mm } = domain;
    const { pages, state } = this;
    const base = sharing.takeRange(pages.length);
    if (base < 0)
      throw new MigrationError("no-memory", "the machine has no frame numbers left for shared memory (`forkMiB`)");
    const enough = sharing.give(base, mm.id, pages);
    if (mm.totPages === 0) sharing.returnRange(base);
    if (!enough)
      throw new MigrationError("no-memory", "the host has not enough free memory for the fork's page tables");
    mm.setRun(base, pages);
    for (const [i, t] of this.tables.entries()) {
      const bad = localiseTable(this.words, i * WORDS, t.level, base, pages, mem.u32, mem.ram(base + t.pfn) * WORDS);
      if (bad >= 0)
        throw new MigrationError("stream", `entry ${bad} of page table ${t.pfn} names memory that is not there`);
    }
    for (const [i, pfn] of state.p2mFrames.entries()) {
      const u = mem.u32;
      const at = mem.ram(base + pfn) * WORDS;
      for (let e = 0; e < PER_PAGE; e++) {
        const b = pages[i * PER_PAGE + e] ?? NONE;
        u[at + e * 2] = b === NONE ? 0xffffffff : base + i * PER_PAGE + e;
        u[at + e * 2 + 1] = b === NONE ? 0xffffffff : 0;
      }
    }
    mem.write((base + startInfoPfn(this.first())) * PAGE, this.startInfo);
  }
  private first(): SuspendedState["vcpus"][number] {
    const v = this.state.vcpus.find((x) => x.id === 0);
    if (v === undefined) throw new Error("the snapshot has no vCPU 0");
    return v;
  }
}
