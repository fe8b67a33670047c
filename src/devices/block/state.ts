/**
 * Requests in flight on an image, in the order the protocol promises: a flush waits for the writes before it, a barrier for everything
 * before it, and everything after a barrier waits for it.
 *
 * Invariant: a failure is a result of its own request only. An image that answers at once is answered at once: no promise is made.
 */

export type Wait = Promise<void> | void;

/** One after the other, at once where there is nothing to wait for. */
export function after(first: Wait, next: () => Wait): Wait {
  return first === undefined ? next() : first.then(next);
}

export class InFlight {
  private readonly all = new Set<Promise<void>>();
  private readonly writes = new Set<Promise<void>>();
  /** A barrier in progress: what comes after it waits. */
  private gate: Promise<void> | null = null;

  get busy(): boolean {
    return this.all.size > 0;
  }
  get count(): number {
    return this.all.size;
  }

  /** Settles (never rejects) when all that is in flight now is done. */
  drained(): Promise<void> {
    return Promise.all(this.all).then(() => {});
  }

  private track(wait: Promise<void>, write: boolean): Promise<void> {
    // What others wait for never rejects; who asked gets the failure.
    const settled: Promise<void> = wait.then(
      () => this.forget(settled),
      () => this.forget(settled),
    );
    this.all.add(settled);
    if (write) this.writes.add(settled);
    return wait;
  }
  private forget(p: Promise<void>): void {
    this.all.delete(p);
    this.writes.delete(p);
  }

  /** After an open gate, at once; else when it opens. */
  private gated(fn: () => Wait, write: boolean): Wait {
    const wait = this.gate === null ? fn() : this.gate.then(fn);
    if (wait !== undefined) return this.track(wait, write);
  }

  read(fn: () => Wait): Wait {
    return this.gated(fn, false);
  }
  write(fn: () => Wait): Wait {
    return this.gated(fn, true);
  }
  /** `fn` runs when the writes submitted so far are done. */
  flush(fn: () => Wait): Wait {
    if (this.writes.size === 0) return this.gated(fn, false);
    const before = Promise.all(this.writes);
    return this.track(
      before.then(() => fn()),
      false,
    );
  }
  /** `fn` runs alone. */
  barrier(fn: () => Wait): Wait {
    if (this.all.size === 0 && this.gate === null) {
      const wait = fn();
      return wait === undefined ? undefined : this.close(wait);
    }
    return this.close(this.drained().then(fn));
  }
  private close(wait: Promise<void>): Promise<void> {
    const open = (): void => {
      if (this.gate === gate) this.gate = null;
    };
    const gate: Promise<void> = wait.then(open, open);
    this.gate = gate;
    return this.track(wait, true);
  }
}
