// A link between two hosts in one process that breaks where a test wants it to.
import type { Duplex } from "../../src/toolstack/migration/index.js";

class Way {
  private readonly chunks: Uint8Array[] = [];
  private wake: (() => void) | null = null;
  broken = false;
  ended = false;
  /** Bytes that have arrived. */
  passed = 0;
  /** Where one write ended and the next began. */
  readonly bounds: number[] = [];
  constructor(private readonly pipe: { onPassed(): void }) {}
  write(bytes: Uint8Array, limit: number): void {
    if (this.broken || this.ended) throw new Error("broken pipe");
    const room = Math.max(0, Math.min(bytes.length, limit - this.passed));
    if (room > 0) this.chunks.push(bytes.slice(0, room));
    this.passed += room;
    this.bounds.push(this.passed);
    this.stir();
    this.pipe.onPassed();
  }
  stir(): void {
    const f = this.wake;
    this.wake = null;
    f?.();
  }
  async read(): Promise<Uint8Array | null> {
    for (;;) {
      const c = this.chunks.shift();
      if (c !== undefined) return c;
      if (this.broken) throw new Error("connection reset");
      if (this.ended) return null;
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }
}

export interface Cut {
  /** Break once so many bytes have passed there, or back. */
  readonly there?: number;
  readonly back?: number;
}

/** Both ends: what one writes the other reads. After a break neither gets anything more; what had passed before can still be read. */
export function pipe(cut: Cut = {}): {
  a: Duplex;
  b: Duplex;
  passed: () => { there: number; back: number };
  break: () => void;
  /** The bytes after which each message to the other side had gone. */
  bounds: readonly number[];
} {
  const limits = { there: cut.there ?? Infinity, back: cut.back ?? Infinity };
  const watch = {
    onPassed: (): void => {
      if (there.passed >= limits.there || back.passed >= limits.back) snap();
    },
  };
  const there: Way = new Way(watch);
  const back: Way = new Way(watch);
  const snap = (): void => {
    for (const w of [there, back]) {
      w.broken = true;
      w.stir();
    }
  };
  const end = (out: Way, into: Way, limit: number): Duplex => ({
    write: (bytes) => out.write(bytes, limit),
    read: () => into.read(),
    close: () => {
      for (const w of [out, into]) {
        w.ended = true;
        w.stir();
      }
    },
  });
  return {
    a: end(there, back, limits.there),
    b: end(back, there, limits.back),
    passed: () => ({ there: there.passed, back: back.passed }),
    break: snap,
    bounds: there.bounds,
  };
}
