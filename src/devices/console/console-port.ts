/**
 * What is typed at a console and does not fit into its ring yet, and what the guest printed: the part that the first console and the further ones
 * have in common.
 */
import type { ConsoleRing } from "./ring.js";

/** Input that waits for room in the ring; more is refused. */
const BACKLOG = 64 * 1024;

export class ConsolePort {
  /** Called with what the guest printed. */
  onOutput: (bytes: Uint8Array) => void = () => {};
  /** Called when input that waited has moved: there may be room for more. */
  onRoom: () => void = () => {};
  private backlog: Uint8Array[] = [];
  private waiting = 0;
  private ring: ConsoleRing | null = null;
  private notify: () => void = () => {};

  /** The ring is there; `notify` tells the guest. */
  connect(ring: ConsoleRing, notify: () => void): void {
    this.ring = ring;
    this.notify = notify;
  }
  disconnect(): void {
    this.ring = null;
    this.notify = () => {};
  }

  /** The guest says that there is something to do. */
  kick(): void {
    if (this.ring === null) return;
    const out = this.ring.takeOutput();
    const moved = this.feed();
    if (out.length > 0 || moved) this.notify();
    if (out.length > 0) this.onOutput(out);
    if (moved) this.onRoom();
  }

  /** Collect what is in the ring without waiting for an event (the domain has ended). */
  drain(): void {
    const out = this.ring?.takeOutput();
    if (out !== undefined && out.length > 0) this.onOutput(out);
  }

  private feed(): boolean {
    const { ring } = this;
    if (ring === null) return false;
    let moved = false;
    for (;;) {
      const head = this.backlog[0];
      if (head === undefined) return moved;
      const n = ring.putInput(head);
      if (n === 0) return moved;
      moved = true;
      this.waiting -= n;
      if (n < head.length) this.backlog[0] = head.subarray(n);
      else this.backlog.shift();
    }
  }

  /** Type at the console. Returns false where too much is waiting already. */
  write(bytes: Uint8Array): boolean {
    if (this.waiting + bytes.length > BACKLOG) return false;
    this.backlog.push(bytes.slice());
    this.waiting += bytes.length;
    if (this.feed()) this.notify();
    return true;
  }
}
