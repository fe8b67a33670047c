/**
 * The hypervisor's timers: a binary min-heap of absolute deadlines against the machine's clock.
 *
 * Invariants: a timer is in the heap at most once; two timers of one deadline fire in the order in which they were set, so a run under
 * the virtual clock is repeatable; nothing is allocated by `set`, `stop` or `runDue`.
 */

/** A one-shot timer; make it once and set it as often as needed. */
export class Timer {
  /** Absolute deadline in ns, while set. */
  deadline = Infinity;
  /** Place in the heap, −1 when not set. */
  index = -1;
  /** Order of setting, to break ties. */
  seq = 0;
  constructor(readonly fire: (now: number) => void) {}
  get active(): boolean {
    return this.index >= 0;
  }
}

export class Timers {
  private readonly heap: Timer[] = [];
  private size = 0;
  private seq = 0;
  /** Told when the earliest deadline is one that was just set. */
  onEarlier: () => void = () => {};

  create(fire: (now: number) => void): Timer {
    return new Timer(fire);
  }

  /** Set or move a timer. A deadline in the past fires at the next `runDue`. */
  set(t: Timer, deadline: number): void {
    t.seq = ++this.seq;
    const old = t.deadline;
    t.deadline = deadline;
    if (t.index < 0) {
      const i = this.size++;
      this.heap[i] = t;
      t.index = i;
      this.up(t, i);
    } else if (deadline < old) this.up(t, t.index);
    else this.down(t, t.index);
    if (t.index === 0) this.onEarlier();
  }

  stop(t: Timer): void {
    const i = t.index;
    if (i < 0) return;
    t.index = -1;
    t.deadline = Infinity;
    // (The array stays as long as it was: making it shorter and longer again is slow.)
    const last = this.heap[--this.size] as Timer;
    if (last !== t) {
      last.index = i;
      this.heap[i] = last;
      this.up(last, i);
      this.down(last, last.index);
    }
  }

  /** Earliest deadline, or Infinity. */
  next(): number {
    return this.size === 0 ? Infinity : (this.heap[0] as Timer).deadline;
  }

  /** Fire everything due at `now`; returns how many fired. */
  runDue(now: number): number {
    let n = 0;
    while (this.size > 0) {
      const t = this.heap[0] as Timer;
      if (t.deadline > now) break;
      this.stop(t);
      n++;
      t.fire(now);
    }
    return n;
  }

  private static before(a: Timer, b: Timer): boolean {
    return a.deadline < b.deadline || (a.deadline === b.deadline && a.seq < b.seq);
  }

  private up(t: Timer, from: number): void {
    const h = this.heap;
    let i = from;
    while (i > 0) {
      const pi = (i - 1) >> 1;
      const p = h[pi] as Timer;
      if (!Timers.before(t, p)) break;
      h[i] = p;
      p.index = i;
      i = pi;
    }
    h[i] = t;
    t.index = i;
  }

  private down(t: Timer, from: number): void {
    const h = this.heap;
    let i = from;
    for (;;) {
      let ci = 2 * i + 1;
      if (ci >= this.size) break;
      let c = h[ci] as Timer;
      if (ci + 1 < this.size) {
        const r = h[ci + 1] as Timer;
        if (Timers.before(r, c)) {
          c = r;
          ci++;
        }
      }
      if (!Timers.before(c, t)) break;
      h[i] = c;
      c.index = i;
      i = ci;
    }
    h[i] = t;
    t.index = i;
  }
}
