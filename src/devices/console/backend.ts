/**
 * The console daemon's part for one domain: moves bytes between the console ring of a guest and whoever watches it.
 */
import type { Domain } from "../../hypervisor/domain.js";
import { ConsoleRing } from "./ring.js";

/** Input that waits for room in the ring; more is refused. */
const BACKLOG = 64 * 1024;

export class ConsoleBackend {
  /** Called with what the guest printed. */
  onOutput: (bytes: Uint8Array) => void = () => {};
  private readonly ring: ConsoleRing;
  private readonly port: number;
  private backlog: Uint8Array[] = [];
  private waiting = 0;

  constructor(
    private readonly dom0: Domain,
    guest: Domain,
    page: number,
    guestPort: number,
  ) {
    this.ring = new ConsoleRing(dom0.xen.mem, page);
    this.port = dom0.events.bindInterdomainHost(guest, guestPort, () => this.kick());
    if (this.port < 0) throw new Error(`console: cannot bind to port ${guestPort} of domain ${guest.domid}`);
  }

  private kick(): void {
    const out = this.ring.takeOutput();
    const moved = this.feed();
    if (out.length > 0 || moved) this.dom0.events.sendHost(this.port);
    if (out.length > 0) this.onOutput(out);
  }

  /** Collect what is in the ring without waiting for an event (the domain has ended). */
  drain(): void {
    const out = this.ring.takeOutput();
    if (out.length > 0) this.onOutput(out);
  }

  private feed(): boolean {
    let moved = false;
    for (;;) {
      const head = this.backlog[0];
      if (head === undefined) return moved;
      const n = this.ring.putInput(head);
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
    if (this.feed()) this.dom0.events.sendHost(this.port);
    return true;
  }

  close(): void {
    this.dom0.events.closeHost(this.port);
  }
}
