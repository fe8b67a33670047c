/**
 * The typed trace stream. `on` is a plain boolean tested at every site, so that tracing costs nothing when off.
 * Every record carries the time, the domain and the vCPU it belongs to.
 */
export type TraceKind =
  "hypercall" | "event" | "grant" | "trap" | "pagetable" | "sched" | "domain" | "emulate" | "timer" | "xenstore";

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
