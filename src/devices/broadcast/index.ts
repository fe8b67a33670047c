/** The broadcast device: the back-end SDK's worked example (docs/book/10.5-broadcast.md). */
import type { BackendHost, DomainDevices } from "../xenbus/index.js";
import { BroadcastBackend } from "./backend.js";
import type { BroadcastChannel } from "./channel.js";
import { broadcastNodes, KIND, type Role } from "./nodes.js";

export { BroadcastBackend } from "./backend.js";
export { BroadcastChannel } from "./channel.js";
export { type Role } from "./nodes.js";

/** Plug a domain in to a channel, also while it runs. Unplug with `devices.detach("broadcast", devid)`. */
export function attachBroadcast(
  host: BackendHost,
  devices: DomainDevices,
  channel: BroadcastChannel,
  role: Role,
): BroadcastBackend {
  const devid = Math.max(-1, ...devices.list(KIND).map((d) => d.devid)) + 1;
  const { domain } = devices;
  const backend = new BroadcastBackend(host, domain, devid, channel, role);
  devices.attach(backend, broadcastNodes(domain.domid, channel.name, role));
  return backend;
}
