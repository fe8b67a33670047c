/**
 * The back-end SDK: what every split driver's back end has in common.
 *
 * A device class is three things:
 *
 * 1. **Nodes**: `advertise` (features, before InitWait) and `describe` (sizes, with Connected) write to XenStore what the front end reads;
 *    `this.front` reads, with checks, what it wrote. The toolstack's three directories are a table of names and values (`DeviceNodes`).
 * 2. **Ring entries**: the sizes of a request and a response, and how their bytes are read and written. `SharedRing` does the indices.
 * 3. **A handler**: what is done for a request. It gets at the guest's pages through `this.grants` only.
 *
 *     class Echo extends BackendDevice {
 *       readonly metrics = newDeviceMetrics();
 *       constructor(host: BackendHost, guest: Domain, devid: number) { super(host, guest, "echo", devid); }
 *       protected advertise(t: StoreAccess) { t.write(`${this.backPath}/feature-echo`, 1); }
 *       protected connect() {
 *         const ring = this.ring([this.front.number("ring-ref")], 8, 8);
 *         const entry = new Uint8Array(8);
 *         const channel = this.bind(this.front.number("event-channel"), () => {
 *           do while (ring.take(entry)) ring.respond(entry); while (ring.moreRequests());
 *           if (ring.push()) this.notify(channel);
 *         });
 *       }
 *       protected disconnect() {}
 *     }
 *     running.devices.attach(new Echo(host, domain, 0), { front: [["state", 1]], back: [["frontend-id", domid], ["online", 1], ["state", 1]] });
 *
 * The base does the rest: states 0–8, reconnection after a reboot in place, kexec or crash of the front end, unplug (`online` 0 and state
 * Closing, as `xl block-detach` writes them) and plug while running, channels, mappings, error nodes, counters. A DeviceError thrown
 * anywhere in a callback stops that device; nothing reaches the run loop.
 */
export { EventChannel } from "./channel.js";
export { BackendDevice, type BackendHost } from "./device.js";
export {
  devicePaths,
  removeDeviceNodes,
  requestUnplug,
  writeDeviceNodes,
  type DeviceNodes,
  type DevicePaths,
  type Nodes,
} from "./device-nodes.js";
export { DomainDevices } from "./domain-devices.js";
export { DeviceError } from "./errors.js";
export { FrontNodes } from "./front-nodes.js";
export { GuestGrants } from "./grants.js";
export { newDeviceMetrics, type DeviceMetrics } from "./metrics.js";
export { SharedPages, SharedRing } from "./ring.js";
export { parseState, stateName, XenbusState } from "./states.js";
