/** A token bucket: bytes per interval, as libxl's `rate` has them (credit for at most one interval is saved up). */
export class TokenBucket {
  private credit: number;
  private since: number;
  /** @param intervalNs after this time the bucket is full again. */
  constructor(
    readonly bytes: number,
    readonly intervalNs: number,
    now: number,
  ) {
    this.credit = bytes;
    this.since = now;
  }

  /**
   * Take `n` bytes at time `now` (ns). Returns 0 if they were there, otherwise ns to wait. A frame larger than the whole bucket passes
   * when the bucket is full, so that it is late and not stuck.
   */
  take(n: number, now: number): number {
    const gained = Math.max(0, ((now - this.since) * this.bytes) / this.intervalNs);
    this.credit = Math.min(this.bytes, this.credit + gained);
    this.since = now;
    const needed = Math.min(n, this.bytes);
    if (this.credit >= needed) {
      this.credit -= n;
      return 0;
    }
    return Math.max(1, Math.ceil(((needed - this.credit) * this.intervalNs) / this.bytes));
  }
}
