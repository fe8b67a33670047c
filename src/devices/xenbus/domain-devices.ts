/** The devices of one domain: plug, unplug, and their end with the domain. */
import type { Domain } from "../../hypervisor/domain.js";
import { Timer } from "../../hypervisor/time/timers.js";
import type { BackendDevice, BackendHost } from "./device.js";
import { removeDeviceNodes, requestUnplug, writeDeviceNodes, type Nodes } from "./device-nodes.js";
import { DeviceError } from "./errors.js";
import { EEXIST, ENOENT } from "../../abi/errno.js";

/** libxl gives a front end so long to let go of a device, in ns. */
const UNPLUG_TIMEOUT = 10e9;

export class DomainDevices {
  private readonly devices = new Map<string, BackendDevice>();

  constructor(
    private readonly host: BackendHost,
    readonly domain: Domain,
  ) {
    domain.onDestroy(() => {
      for (const d of [...this.devices.values()]) d.destroy();
    });
  }

  /** Write the nodes of a device and start its back end, which is the front end's to find now. */
  attach(device: BackendDevice, nodes: { readonly front: Nodes; readonly back: Nodes }): void {
    const key = `${device.kind}/${device.devid}`;
    if (this.devices.has(key)) throw new DeviceError(`device ${key} exists already`, EEXIST);
    const { domid } = this.domain;
    writeDeviceNodes(this.host.xs, {
      kind: device.kind,
      domid,
      devid: device.devid,
      backendDomid: this.host.dom0.domid,
      ...nodes,
    });
    this.devices.set(key, device);
    const before = device.onGone;
    device.onGone = () => {
      if (this.devices.get(key) === device) this.devices.delete(key);
      if (!this.domain.dying) removeDeviceNodes(this.host.xs, device.kind, domid, device.devid, this.host.dom0.domid);
      before();
    };
    device.start();
  }

  /**
   * Unplug as `xl` does: ask, and after ten seconds (of the machine's time) or with `force` take it away. Resolves with whether the front
   * end let go by itself.
   */
  detach(kind: string, devid: number, force = false): Promise<boolean> {
    const device = this.devices.get(`${kind}/${devid}`);
    if (device === undefined) return Promise.reject(new DeviceError(`no device ${kind}/${devid}`, ENOENT));
    if (force) {
      device.destroy();
      return Promise.resolve(false);
    }
    return new Promise((resolve) => {
      const { xen } = this.domain;
      let byItself = true;
      const timer = new Timer(() => {
        byItself = false;
        xen.post(() => device.destroy());
      });
      const before = device.onGone;
      device.onGone = () => {
        xen.timers.stop(timer);
        before();
        resolve(byItself);
      };
      xen.timers.set(timer, xen.clock.now() + UNPLUG_TIMEOUT);
      requestUnplug(this.host.xs, kind, this.domain.domid, devid);
    });
  }

  get(kind: string, devid: number): BackendDevice | undefined {
    return this.devices.get(`${kind}/${devid}`);
  }
  list(kind?: string): BackendDevice[] {
    return [...this.devices.values()].filter((d) => kind === undefined || d.kind === kind);
  }
}
