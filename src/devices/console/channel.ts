/**
 * A further console of a domain (`channel=`): a XenBus device of class `console` with the first console's ring, granted by its front end. In a
 * Linux guest it is /dev/hvc1 and up; its name is in the front end's node `name`.
 */
import type { Domain } from "../../hypervisor/domain.js";
import type { StoreAccess } from "../../xenstore/client.js";
import { BackendDevice, type BackendHost } from "../xenbus/device.js";
import type { Nodes } from "../xenbus/device-nodes.js";
import type { DomainDevices } from "../xenbus/domain-devices.js";
import { newDeviceMetrics } from "../xenbus/metrics.js";
import { ConsolePort } from "./console-port.js";
import { ConsoleRing } from "./ring.js";

export interface ChannelNodes {
  readonly name?: string | undefined;
  readonly connection: "pty" | "socket";
  readonly path?: string | undefined;
}

/** As of the first console. */
const LIMIT = 1048576;

export class ChannelBackend extends BackendDevice {
  readonly metrics = newDeviceMetrics();
  /** The bytes, whether or not the front end is connected. */
  readonly port = new ConsolePort();

  constructor(host: BackendHost, guest: Domain, devid: number) {
    super(host, guest, "console", devid);
  }

  protected advertise(_t: StoreAccess): void {}

  protected connect(): void {
    const ring = new ConsoleRing(this.grants.pages([this.front.number("ring-ref")]));
    const channel = this.bind(this.front.number("port"), () => this.port.kick());
    this.port.connect(ring, () => this.notify(channel));
    // What was typed while nobody was there.
    this.later(() => this.port.kick());
  }
  protected disconnect(): void {
    this.port.drain();
    this.port.disconnect();
  }
}

/** Plug a channel in to a domain: the nodes that libxl writes for a console beyond the first. */
export function attachChannel(
  host: BackendHost,
  devices: DomainDevices,
  devid: number,
  c: ChannelNodes,
): ChannelBackend {
  const { domain } = devices;
  const name: Nodes = c.name === undefined ? [] : [["name", c.name]];
  // What the guest may read and not write.
  const fixed: Nodes = [["limit", LIMIT], ["type", "xenconsoled"], ["output", c.connection], ["tty", ""], ...name];
  const backend = new ChannelBackend(host, domain, devid);
  devices.attach(backend, {
    front: [["state", 1], ["protocol", "vt100"], ...fixed],
    back: [
      ["frontend-id", domain.domid],
      ["online", 1],
      ["state", 1],
      ["protocol", "vt100"],
      ...name,
      ["connection", c.connection],
      ...(c.path === undefined ? [] : ([["path", c.path]] as const)),
    ],
  });
  for (const [node] of fixed)
    host.xs.setPerms(`${backend.frontPath}/${node}`, [`n${host.dom0.domid}`, `r${domain.domid}`]);
  return backend;
}
