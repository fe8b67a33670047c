/**
 * The machine's clock. All guest-visible time (TSC, vcpu_time_info, wall clock, timers) comes from one of these.
 * Times are nanoseconds since the machine started, in a double; the TSC is invariant.
 */
export interface Clock {
  readonly virtual: boolean;
  /** Nanoseconds since machine start; never goes back. */
  now(): number;
  /** Nanoseconds from the Unix epoch to machine start. */
  readonly epochStart: number;
  /** Account retired instructions (virtual time advances by them). */
  retire(instructions: number): void;
  /** Nothing runs until `t`: virtual time jumps there, real time does not move. */
  idleUntil(t: number): void;
}

/** TSC ticks per nanosecond. */
export const TSC_PER_NS = 2;
export const TSC_KHZ = TSC_PER_NS * 1_000_000;

export class RealClock implements Clock {
  readonly virtual = false;
  readonly epochStart: number;
  private readonly start: number;
  private last = 0;
  constructor(
    private readonly nowMs: () => number,
    epochMs: number,
  ) {
    this.start = nowMs();
    this.epochStart = Math.floor(epochMs * 1e6);
  }
  now(): number {
    const t = Math.floor((this.nowMs() - this.start) * 1e6);
    if (t > this.last) this.last = t;
    return this.last;
  }
  retire(): void {}
  idleUntil(): void {}
}

/** Deterministic time: each retired instruction takes a fixed time, and idling takes none of the host's. */
export class VirtualClock implements Clock {
  readonly virtual = true;
  private t = 0;
  constructor(
    readonly epochStart = 1_700_000_000e9,
    /** Nanoseconds an instruction takes. */
    private readonly nsPerInstruction = 1,
  ) {}
  now(): number {
    return this.t;
  }
  retire(instructions: number): void {
    this.t += instructions * this.nsPerInstruction;
  }
  idleUntil(t: number): void {
    if (t > this.t) this.t = t;
  }
}
