/**
 * A domain into a stream: suspended and written in one go (`saveDomain`), or first copied while it runs, round after round (`copyLive`, which
 * live migration uses).
 *
 * Invariants: after a failure the domain runs on as if nothing had been asked; the stream is written only while the domain exists; one batch of
 * pages is read from memory at a time and the machine runs between batches.
 */
import type { Domain } from "../../hypervisor/domain.js";
import { type LogDirty } from "../../hypervisor/memory/log-dirty.js";
import type { Machine, RunningDomain } from "../machine.js";
import type { ByteSink } from "./bytes.js";
import { captureState, captureTypes, pfnMap } from "./capture.js";
import { defaultConfig } from "./config.js";
import { MigrationError } from "./errors.js";
import { MAX_BATCH, PT_XTAB, tableLevel } from "./formats.js";
import { readP2m, type GuestP2m } from "./p2m.js";
import { canonicaliseFrame } from "./page-tables.js";
import type { SuspendedState } from "./rebuild.js";
import { quiesceDisks } from "./quiesce.js";
import { resumeDomain, suspendDomain } from "./suspend.js";
import { ImageWriter, type PageFiller } from "./writer.js";

export interface Progress {
  readonly phase: "suspending" | "copying" | "final" | "done";
  /** Round of copying, from 0. */
  readonly round: number;
  /** Pages of this round that were sent, and in all. */
  readonly pages: number;
  readonly of: number;
  readonly bytes: number;
}

export interface SaveOptions {
  /** The configuration kept in the stream (libxl's JSON); default: made from what XenStore says of the domain. */
  readonly config?: string | undefined;
  /** What becomes of the domain. Default: destroyed. */
  readonly after?: "destroy" | "continue" | "pause" | undefined;
  /** For each of the guest's two steps. Default 60 s. */
  readonly suspendTimeoutMs?: number | undefined;
  readonly onProgress?: ((p: Progress) => void) | undefined;
}

export interface SaveResult {
  readonly pages: number;
  readonly bytes: number;
}

/** Let the machine run, and everything else on this thread. */
export function breathe(machine: Machine): Promise<void> {
  return new Promise((resolve) => {
    machine.xen.post(resolve);
    machine.onInput();
  });
}

/** Gives pages as they are in memory, page tables in canonical form. */
function filler(domain: Domain, p2m: GuestP2m): PageFiller {
  const { mem } = domain.xen;
  const pfnOf = pfnMap(domain, p2m);
  return (pfn, type, out, at) => {
    const mfn = p2m.mfn[pfn] as number;
    const level = tableLevel(type);
    if (level !== 0) return canonicaliseFrame(mem, mfn, level, pfnOf, out, at) < 0;
    mem.readInto(mfn * 4096, out.subarray(at, at + 4096));
    return true;
  };
}

/** What the other side has been given of each page. */
interface Sent {
  types: Uint8Array;
  mfn: Int32Array;
}

/** One domain on its way into a stream. */
export class Copier {
  private readonly writer: ImageWriter;
  private sent: Sent = { types: new Uint8Array(0), mfn: new Int32Array(0) };
  private p2m: GuestP2m | null = null;
  private begun = false;
  /** Pages sent, those of all rounds together. */
  pages = 0;
  round = 0;

  constructor(
    private readonly machine: Machine,
    private readonly domain: Domain,
    sink: ByteSink,
    private readonly config: string,
    private readonly onProgress: (p: Progress) => void,
  ) {
    this.writer = new ImageWriter(sink);
  }
  get bytes(): number {
    return this.writer.bytes;
  }

  private alive(): void {
    if (this.domain.dying) throw new MigrationError("state", `domain ${this.domain.domid} was destroyed`);
  }
  private async begin(p2m: GuestP2m): Promise<void> {
    if (this.begun) {
      const old = this.p2m;
      const same = old !== null && old.pfns === p2m.pfns && old.frames.every((f, i) => f === p2m.frames[i]);
      this.p2m = p2m;
      if (!same) {
        const grown: Sent = { types: new Uint8Array(p2m.pfns).fill(PT_XTAB), mfn: new Int32Array(p2m.pfns).fill(-1) };
        grown.types.set(this.sent.types.subarray(0, p2m.pfns));
        grown.mfn.set(this.sent.mfn.subarray(0, p2m.pfns));
        this.sent = grown;
        await this.writer.p2mFrames(p2m);
      }
      return;
    }
    this.begun = true;
    this.p2m = p2m;
    this.sent = { types: new Uint8Array(p2m.pfns).fill(PT_XTAB), mfn: new Int32Array(p2m.pfns).fill(-1) };
    await this.writer.begin(this.config, this.domain.cpuid, p2m);
  }

  /** Send frames in batches. Returns those whose page table could not be read in the middle of a change. */
  private async send(
    list: readonly number[],
    p2m: GuestP2m,
    types: Uint8Array,
    phase: Progress["phase"],
  ): Promise<number[]> {
    const fill = filler(this.domain, p2m);
    const late: number[] = [];
    for (let at = 0; at < list.length; at += MAX_BATCH) {
      this.alive();
      const batch = list.slice(at, at + MAX_BATCH);
      // Types of this moment: the guest may have run since the list was made.
      const now = phase === "final" ? types : captureTypes(this.domain, p2m);
      const missed = await this.writer.pages(batch, (pfn) => now[pfn] as number, fill);
      const skipped = new Set(missed);
      for (const pfn of batch) {
        if (skipped.has(pfn)) continue;
        this.sent.types[pfn] = now[pfn] as number;
        this.sent.mfn[pfn] = p2m.mfn[pfn] as number;
      }
      late.push(...missed);
      this.pages += batch.length - missed.length;
      this.onProgress({
        phase,
        round: this.round,
        pages: Math.min(list.length, at + MAX_BATCH),
        of: list.length,
        bytes: this.bytes,
      });
      await breathe(this.machine);
    }
    this.alive();
    return late;
  }

  /** Copy while the domain runs: all pages, then what was written meanwhile, until little is left or it does not become less. */
  async live(log: LogDirty, limits: { readonly maxRounds: number; readonly enoughPages: number }): Promise<void> {
    const p2m = readP2m(this.domain);
    await this.begin(p2m);
    const all: number[] = [];
    for (let pfn = 0; pfn < p2m.pfns; pfn++) if ((p2m.mfn[pfn] as number) >= 0) all.push(pfn);
    let list = all;
    // A page table that cannot be told stays for the last round: the log is not asked for it again.
    let late: number[] = [];
    for (this.round = 0; ; this.round++) {
      log.clear(list.map((pfn) => p2m.mfn[pfn] as number));
      late = [...new Set([...late, ...(await this.send(list, p2m, new Uint8Array(0), "copying"))])];
      for (const pfn of late) this.sent.mfn[pfn] = -1;
      const next = all.filter((pfn) => log.isDirty(p2m.mfn[pfn] as number));
      if (next.length <= limits.enoughPages || this.round + 1 >= limits.maxRounds) break;
      // Rounds that no longer help only cost: the domain writes as fast as it is copied.
      if (this.round > 1 && next.length > list.length * 0.9) break;
      list = next;
    }
    this.round++;
  }

  /** The domain is suspended: send what is not there yet, and its state. */
  async final(log: LogDirty | null): Promise<SuspendedState> {
    const p2m = readP2m(this.domain);
    await this.begin(p2m);
    const state = captureState(this.domain, p2m);
    const { sent } = this;
    const list: number[] = [];
    for (let pfn = 0; pfn < p2m.pfns; pfn++) {
      const mfn = p2m.mfn[pfn] as number;
      const type = state.types[pfn] as number;
      const gone = mfn < 0 && sent.types[pfn] !== PT_XTAB;
      const stale = mfn >= 0 && (mfn !== sent.mfn[pfn] || type !== sent.types[pfn] || log?.isDirty(mfn) === true);
      if (gone || stale) list.push(pfn);
    }
    const late = await this.send(list, p2m, state.types, "final");
    if (late.length > 0)
      throw new MigrationError(
        "unsupported",
        `domain ${this.domain.domid} cannot be moved: page table ${late[0]} maps memory that is not its own`,
      );
    await this.writer.finish(state);
    return state;
  }
}

/** Suspend a domain and write it to `sink`. A MigrationError says why not; the domain then runs on. */
export async function saveDomain(
  machine: Machine,
  running: RunningDomain,
  sink: ByteSink,
  options: SaveOptions = {},
): Promise<SaveResult> {
  const { domain } = running;
  const progress = options.onProgress ?? ((): void => {});
  // What cannot be moved is refused before the guest is troubled.
  readP2m(domain);
  const config = options.config ?? defaultConfig(machine, running);
  progress({ phase: "suspending", round: 0, pages: 0, of: 0, bytes: 0 });
  await suspendDomain(machine, running, { timeoutMs: options.suspendTimeoutMs });
  try {
    await quiesceDisks(running);
    const copier = new Copier(machine, domain, sink, config, progress);
    await copier.final(null);
    const { pages, bytes } = copier;
    progress({ phase: "done", round: 0, pages, of: pages, bytes });
    if (options.after === undefined || options.after === "destroy") running.destroy();
    else {
      if (options.after === "pause") domain.pause();
      resumeDomain(machine, running);
    }
    return { pages, bytes };
  } catch (e) {
    if (!domain.dying) resumeDomain(machine, running);
    throw e;
  }
}
