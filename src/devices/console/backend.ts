/**
 * The console daemon's part for one domain: moves bytes between the console ring of a guest and whoever watches it. The ring and the port of the first
 * console are the builder's; there is no handshake.
 */
import type { Domain } from "../../hypervisor/domain.js";
import { SharedPages } from "../xenbus/ring.js";
import { ConsolePort } from "./console-port.js";
import { ConsoleRing } from "./ring.js";

const PAGE = 4096;

export class ConsoleBackend extends ConsolePort {
  private readonly port: number;

  /** @param page machine address of the ring */
  constructor(
    private readonly dom0: Domain,
    guest: Domain,
    page: number,
    guestPort: number,
  ) {
    super();
    this.port = dom0.events.bindInterdomainHost(guest, guestPort, () => this.kick());
    if (this.port < 0) throw new Error(`console: cannot bind to port ${guestPort} of domain ${guest.domid}`);
    this.connect(new ConsoleRing(new SharedPages(dom0.xen.mem, [page / PAGE])), () => {
      dom0.events.sendHost(this.port);
    });
  }

  close(): void {
    this.dom0.events.closeHost(this.port);
  }
}
