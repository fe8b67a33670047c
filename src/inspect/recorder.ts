/**
 * Keeps what the trace says for the views that need it: the last records, the scheduler's turns, the time hypercalls take.
 *
 * Invariants: the trace is on only while somebody has asked within `LEASE` of the host's time; what is kept is bounded.
 */
import type { Trace, TraceRecord } from "../hypervisor/trace.js";
import type { HypercallRow, TraceQuery, TraceView, Turn } from "./api.js";

/** Milliseconds that the trace stays on after the last question. */
const LEASE = 3000;
const RECORDS = 20_000;
const TURNS = 8_000;

interface Timing {
  count: number;
  total: number;
  max: number;
  errors: number;
}

export class Recorder {
  private stop: (() => void) | null = null;
  private leaseEnd = 0;
  private records: TraceRecord[] = [];
  /** Number of the first record kept. */
  private first = 0;
  private turnsDone: Turn[] = [];
  private readonly running: (Turn | null)[] = [];
  private readonly timings = new Map<string, Timing>();
  private readonly domains = new Map<number, number>();

  constructor(
    private readonly trace: Trace,
    /** Host milliseconds. */
    private readonly hostNow: () => number,
  ) {}

  /** Somebody looks: keep the trace on. */
  lease(): void {
    this.leaseEnd = this.hostNow() + LEASE;
    this.stop ??= this.trace.add((r) => this.take(r));
  }
  get on(): boolean {
    return this.stop !== null;
  }
  close(): void {
    this.stop?.();
    this.stop = null;
    this.running.length = 0;
  }

  /** Time has gone back: nothing was seen yet of what comes from here on. */
  rewind(now: number): void {
    while ((this.records.at(-1)?.time ?? -1) >= now) this.records.pop();
    this.turnsDone = this.turnsDone.filter((t) => t.to < now);
    this.running.length = 0;
  }

  private take(r: TraceRecord): void {
    const seq = this.first + this.records.push(r);
    if (this.records.length >= RECORDS * 2) {
      this.records = this.records.slice(RECORDS);
      this.first += RECORDS;
    }
    // Time is looked at now and then only: records come by the hundred thousand.
    if ((seq & 255) === 0 && this.hostNow() > this.leaseEnd) return this.close();
    if (r.kind === "sched") this.takeTurn(r);
    else if (r.kind === "hypercall") this.takeHypercall(r);
  }

  private takeTurn(r: TraceRecord): void {
    const pcpu = Number(r.args["pcpu"]);
    const last = this.running[pcpu];
    if (last) {
      this.turnsDone.push({ ...last, to: r.time });
      if (this.turnsDone.length >= TURNS * 2) this.turnsDone = this.turnsDone.slice(TURNS);
    }
    this.running[pcpu] =
      r.args["next"] === "idle" ? null : { pcpu, domid: r.domid, vcpu: r.vcpu, from: r.time, to: r.time };
  }

  private takeHypercall(r: TraceRecord): void {
    let t = this.timings.get(r.name);
    if (t === undefined) this.timings.set(r.name, (t = { count: 0, total: 0, max: 0, errors: 0 }));
    t.count++;
    const ns = r.duration ?? 0;
    t.total += ns;
    if (ns > t.max) t.max = ns;
    if ((r.result ?? 0) < 0) t.errors++;
    this.domains.set(r.domid, (this.domains.get(r.domid) ?? 0) + 1);
  }

  /** Who has a pCPU now: a turn that began before the trace was on is known from here only. */
  note(pcpu: number, domid: number, vcpu: number, now: number): void {
    this.running[pcpu] ??= { pcpu, domid, vcpu, from: now, to: now };
  }

  turns(since: number, now: number): Turn[] {
    const out: Turn[] = [];
    for (let i = this.turnsDone.length - 1; i >= 0; i--) {
      const t = this.turnsDone[i] as Turn;
      if (t.to <= since) break;
      out.push(t);
    }
    out.reverse();
    for (const t of this.running) if (t) out.push({ ...t, to: now });
    return out;
  }

  hypercalls(): HypercallRow[] {
    return [...this.timings].map(([name, t]) => ({
      name,
      count: t.count,
      timed: t.count,
      totalNs: t.total,
      maxNs: t.max,
      errors: t.errors,
    }));
  }
  byDomain(): { domid: number; count: number }[] {
    return [...this.domains].map(([domid, count]) => ({ domid, count })).sort((a, b) => a.domid - b.domid);
  }

  query(q: TraceQuery): TraceView {
    const total = this.first + this.records.length;
    const limit = Math.max(1, Math.min(q.limit, 2000));
    const kinds = q.kinds === undefined ? null : new Set(q.kinds);
    const text = q.text === undefined || q.text === "" ? null : q.text.toLowerCase();
    const wanted = (r: TraceRecord): boolean =>
      (kinds === null || kinds.has(r.kind)) &&
      (q.domid === undefined || r.domid === q.domid) &&
      (text === null || r.name.toLowerCase().includes(text) || JSON.stringify(r.args).toLowerCase().includes(text));
    const from = Math.max(q.after + 1, this.first);
    const lines: TraceView["lines"][number][] = [];
    // From the end, so that a reader who is slow sees the latest.
    for (let seq = total - 1; seq >= from && lines.length < limit; seq--) {
      const r = this.records[seq - this.first] as TraceRecord;
      if (!wanted(r)) continue;
      const { time, kind, domid, vcpu, name, args, result } = r;
      lines.push({ seq, time, kind, domid, vcpu, name, args, result: result ?? null });
    }
    lines.reverse();
    return { lines, next: total - 1, total, lost: q.after < 0 ? 0 : Math.max(0, this.first - (q.after + 1)) };
  }
}
