/** What the toolstack writes of a virtual disk: libxl's names, values and order (device_disk_add). */
import { XenbusState, type Nodes } from "../xenbus/index.js";

export interface DiskFacts {
  readonly domid: number;
  readonly devid: number;
  /** As the user wrote it: `xvda`. */
  readonly vdev: string;
  /** Path or name of what is behind it. */
  readonly params: string;
  readonly readOnly: boolean;
  readonly cdrom: boolean;
  readonly removable: boolean;
  readonly discard: boolean;
  readonly script?: string;
}

export function diskNodes(d: DiskFacts): { front: Nodes; back: Nodes } {
  const deviceType = d.cdrom ? "cdrom" : "disk";
  return {
    front: [
      ["state", XenbusState.Initialising],
      ["virtual-device", d.devid],
      ["device-type", deviceType],
      ["trusted", 1],
      ["protocol", "x86_64-abi"],
    ],
    back: [
      ["params", d.params],
      ["script", d.script ?? "/etc/xen/scripts/block"],
      ["frontend-id", d.domid],
      ["online", 1],
      ["removable", d.removable ? 1 : 0],
      ["bootable", 1],
      ["state", XenbusState.Initialising],
      ["dev", d.vdev],
      ["type", "phy"],
      ["mode", d.readOnly ? "r" : "w"],
      ["device-type", deviceType],
      ["discard-enable", d.discard ? 1 : 0],
      ["specification", "xen"],
    ],
  };
}
