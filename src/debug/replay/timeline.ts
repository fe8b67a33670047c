/**
 * A replay that can be at any of its instants: positions are counts of retired instructions. Forward it runs; backward it goes to a snapshot and runs forward from there.
 *
 * Snapshots are taken on the way, fewer the longer the run gets; near where somebody steps backwards there is soon one close by.
 */
import type { Xen } from "../../hypervisor/xen.js";
import type { Ending, Recording } from "./recording.js";
import { Snapshot, type SnapshotParts } from "./snapshot.js";
import type { ExactRun } from "./run.js";

/** Instructions between snapshots at first, and how many are kept before every second one is dropped. */
const FIRST_INTERVAL = 20_000_000;
const MAX_SNAPSHOTS = 24;
/** A snapshot this much before the place somebody goes back to. */
const NEAR = 100_000;
const SLICE_MS = 20;

/** Where a run stands; part of every snapshot. */
interface Cursor {
  next: number;
}

export interface HostTurn {
  /** Let the host's events have their turn. */
  turn(): Promise<void>;
}

export class Timeline {
  private readonly cursor: Cursor = { next: 0 };
  private readonly snapshots: { at: number; snapshot: Snapshot }[] = [];
  private interval = FIRST_INTERVAL;
  private readonly parts: SnapshotParts;
  private readonly xen: Xen;
  /** The furthest position that was reached: output before it has been seen. */
  private reached = 0;
  private going = false;
  /** It has gone back to a snapshot: what was seen after that instant will be seen again. */
  onBack: () => void = () => {};

  constructor(
    readonly run: ExactRun,
    private readonly recording: Recording,
    private readonly host: HostTurn,
    /** Objects that are not the machine's state: those that watch it. */
    outside: readonly object[] = [],
  ) {
    const { machine } = run;
    this.xen = machine.xen;
    this.parts = {
      mem: machine.mem,
      cpu: machine.cpu,
      roots: [machine, run.domains, run.hashes, run.said, this.cursor],
      outside: [machine.xen.trace, ...outside],
    };
    this.xen.onRound = (round) => this.feed(round);
    this.keep();
  }

  /** Instructions retired so far. */
  get position(): number {
    return this.run.machine.cpu.retired;
  }
  /** It has been here before. */
  get again(): boolean {
    return this.position < this.reached;
  }
  /** Nothing comes after this. */
  get atEnd(): boolean {
    return this.position >= this.end || (this.run.ended && !this.xen.frozen);
  }
  get bytesKept(): number {
    return this.snapshots.reduce((n, s, i) => n + s.snapshot.ownBytes(this.snapshots[i - 1]?.snapshot ?? null), 0);
  }

  private feed(round: number): void {
    const { inputs } = this.recording;
    for (let i = inputs[this.cursor.next]; i !== undefined && i.round <= round; i = inputs[this.cursor.next]) {
      if (i.round < round || !this.run.type(i))
        throw new ReplayError(`the input of round ${i.round} did not fit: the run has taken another way`);
      this.cursor.next++;
    }
  }

  /** Where the recording ends. */
  get end(): number {
    const { end } = this.recording;
    return end === null || end.codes.every((c) => c >= 0) ? Infinity : end.retired;
  }

  /** Run to a position, or until the machine is frozen or nothing comes any more; `stop` is asked between slices. */
  async forward(to = Infinity, stop: () => boolean = () => false): Promise<void> {
    if (this.going) throw new Error("the timeline is being moved already");
    this.going = true;
    try {
      const last = Math.min(to, this.end);
      while (this.position < last && !this.atEnd && !stop()) {
        const next = Math.min(last, this.nextSnapshot());
        this.xen.freezeAt = next;
        this.xen.thaw();
        const idle = this.xen.runSlice(SLICE_MS);
        this.reached = Math.max(this.reached, this.position);
        if (this.xen.frozen) {
          if (this.position >= last || stop()) break;
          // Somebody else wants it to stand still.
          if (this.position < next) break;
          this.keep();
          continue;
        }
        if (idle === Infinity && this.recording.inputs[this.cursor.next] === undefined) break;
        await this.host.turn();
      }
    } finally {
      this.xen.freezeAt = Infinity;
      this.going = false;
    }
  }

  /** Be at a position. */
  async seek(to: number): Promise<void> {
    if (to < this.position) this.back(to);
    await this.forward(to);
  }

  /** To the last snapshot at or before a position. */
  back(to: number): void {
    const found = this.before(to);
    // A debugger came later, and stays.
    const hooks = this.run.domains.map((d) => d.domain.debug);
    found.snapshot.restore(this.parts);
    this.run.domains.forEach((d, i) => {
      d.domain.debug = hooks[i] ?? null;
    });
    this.onBack();
  }
  /** Position of the last snapshot at or before. */
  snapshotBefore(to: number): number {
    return this.before(to).at;
  }
  private before(to: number): { at: number; snapshot: Snapshot } {
    for (let i = this.snapshots.length - 1; i >= 0; i--) {
      const s = this.snapshots[i];
      if (s !== undefined && s.at <= to) return s;
    }
    throw new Error("the beginning has no snapshot");
  }
  /** Have a snapshot close before a position that is going to be left backwards. */
  async prepare(position: number): Promise<void> {
    const near = Math.max(0, position - NEAR);
    if (this.snapshotBefore(position) >= near || near === 0) return;
    await this.seek(near);
    if (this.position === near) this.keep();
  }

  private nextSnapshot(): number {
    const last = this.snapshots.at(-1)?.at ?? 0;
    return this.position < last ? Infinity : last + this.interval;
  }
  private keep(): void {
    const at = this.position;
    if (this.snapshots.some((s) => s.at === at)) return;
    const i = this.snapshots.findIndex((s) => s.at > at);
    const before = (i < 0 ? this.snapshots.at(-1) : this.snapshots[i - 1])?.snapshot ?? null;
    const made = { at, snapshot: Snapshot.take(this.parts, before) };
    if (i < 0) this.snapshots.push(made);
    else this.snapshots.splice(i, 0, made);
    if (this.snapshots.length <= MAX_SNAPSHOTS) return;
    this.interval *= 2;
    for (let k = this.snapshots.length - 2; k > 0; k -= 2) this.snapshots.splice(k, 1);
  }

  /** What differs from the recording at its end; nothing: replayed exactly. */
  differences(): string[] {
    const { end } = this.recording;
    if (end === null) return [];
    const now: Ending = this.run.ending ?? this.run.summary();
    const out: string[] = [];
    // A recording that was stopped ends anywhere in its last round.
    const exact = end.codes.every((c) => c >= 0);
    for (const key of exact ? (["rounds", "retired", "time"] as const) : (["retired"] as const))
      if (now[key] !== end[key]) out.push(`${key}: ${now[key]}, recorded ${end[key]}`);
    now.console.forEach((c, i) => {
      const was = end.console[i];
      if (c.bytes !== was?.bytes || c.hash !== was.hash)
        out.push(`console ${i}: ${c.bytes} bytes, recorded ${was?.bytes ?? 0}`);
    });
    now.codes.forEach((c, i) => {
      if (c !== end.codes[i]) out.push(`domain ${i}: ended with ${c}, recorded ${String(end.codes[i])}`);
    });
    return out;
  }
}

/** The run is not the recorded one: another kernel, another version. */
export class ReplayError extends Error {
  override readonly name = "ReplayError";
}
