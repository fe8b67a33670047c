/** A back end's end of an event channel that the front end offers. */
import type { Domain } from "../../hypervisor/domain.js";
import { DeviceError } from "./errors.js";

export class EventChannel {
  /** In the back end's domain. */
  readonly port: number;
  private open = true;

  /** The channel starts with an event, so that what came before is seen. Throws a DeviceError where the port cannot be bound. */
  constructor(
    private readonly home: Domain,
    guest: Domain,
    guestPort: number,
    onEvent: () => void,
  ) {
    this.port = home.events.bindInterdomainHost(guest, guestPort, onEvent);
    if (this.port < 0) throw new DeviceError(`binding to event channel ${guestPort}`, -this.port);
  }
  notify(): void {
    if (this.open) this.home.events.sendHost(this.port);
  }
  close(): void {
    if (!this.open) return;
    this.open = false;
    this.home.events.closeHost(this.port);
  }
}
