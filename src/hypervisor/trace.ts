/**
 * The typed trace stream. `on` is a plain boolean tested at every site, so that tracing costs nothing when off.
 * Every record carries the time, the domain and the vCPU it belongs to.
 */
export type TraceKind =
  | "hypercall"
  | "event"
  | "grant"
  | "trap"
  | "pagetable"
  | "sched"
  | "domain"
  | "emulate"
  | "timer"
  | "xenstore"
  | "block";

export interface TraceRecord {
  readonly kind: TraceKind;
  /** Nanoseconds since machine start. */
  readonly time: number;
  readonly domid: number;
  readonly vcpu: number;
  /** What happened, in the public headers' words: `mmu_update`, `send`, `map_grant_ref`, `#PF`. */
  readonly name: string;
  /** Decoded arguments; values are numbers (addresses as Va or Mfn) or text. */
  readonly args: Readonly<Record<string, number | string | boolean>>;
  /** Result where there is one. */
  readonly result?: number;
  /** Nanoseconds it took, where it was measured (hypercalls). */
  readonly duration?: number;
}

/**
 * A 64-bit word as a record's value: a number where that is exact (an address, anything below 2^53), else hexadecimal text, as the
 * low bits of a page-table entry with NX must not be lost.
 */
export function word(lo: number, hi: number): number | string {
  const top = hi >>> 0;
  if (top < 0x200000) return top * 4294967296 + (lo >>> 0);
  if (top >= 0xffff8000) return (hi | 0) * 4294967296 + (lo >>> 0);
  return `0x${top.toString(16)}${(lo >>> 0).toString(16).padStart(8, "0")}`;
}

export class Trace {
  on = false;
  private sinks: ((r: TraceRecord) => void)[] = [];
  add(sink: (r: TraceRecord) => void): () => void {
    this.sinks.push(sink);
    this.on = true;
    return () => {
      this.sinks = this.sinks.filter((s) => s !== sink);
      this.on = this.sinks.length > 0;
    };
  }
  emit(r: TraceRecord): void {
    for (const s of this.sinks) s(r);
  }
}
