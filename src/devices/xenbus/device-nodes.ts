/**
 * The toolstack's part of a device: the three directories libxl writes for it (its own record, front end, back end), in its order and with
 * its permissions, and their removal. `3-block-attached.txt` of real Xen is what they are compared with.
 */
import type { StoreAccess, XenStoreClient } from "../../xenstore/client.js";
import { domainPath } from "../../xenstore/paths.js";
import { XenbusState } from "./states.js";

export type Nodes = readonly (readonly [name: string, value: string | number])[];

export interface DeviceNodes {
  /** `vbd`, `vif`, … */
  readonly kind: string;
  readonly domid: number;
  readonly devid: number;
  /** The back end's domain; default 0. */
  readonly backendDomid?: number;
  /** Nodes of the front end, and of the back end and libxl's record, besides the ones every device has (`frontend`, `backend`, …). */
  readonly front: Nodes;
  readonly back: Nodes;
}

export interface DevicePaths {
  readonly front: string;
  readonly back: string;
  readonly libxl: string;
}

export function devicePaths(kind: string, domid: number, devid: number, backendDomid = 0): DevicePaths {
  return {
    front: `${domainPath(domid)}/device/${kind}/${devid}`,
    back: `${domainPath(backendDomid)}/backend/${kind}/${domid}/${devid}`,
    libxl: `/libxl/${domid}/device/${kind}/${devid}`,
  };
}

/**
 * Write a device (in one transaction: nobody sees half of it). `front` begins with what follows `backend` and `backend-id`, and `back`
 * with what follows `frontend`; `state` is among them where libxl has it.
 */
export function writeDeviceNodes(xs: XenStoreClient, d: DeviceNodes): void {
  xs.transaction((t) => putDeviceNodes(t, d));
}

export function putDeviceNodes(t: StoreAccess, d: DeviceNodes): void {
  const backendDomid = d.backendDomid ?? 0;
  const { front, back, libxl } = devicePaths(d.kind, d.domid, d.devid, backendDomid);
  const frontPerms = [`n${d.domid}`, `r${backendDomid}`];
  t.rm(libxl);
  t.write(`${libxl}/frontend`, front);
  t.write(`${libxl}/backend`, back);
  t.rm(front);
  t.mkdir(front);
  t.setPerms(front, frontPerms);
  t.write(`${front}/backend`, back);
  for (const [name, value] of [["backend-id", backendDomid] as const, ...d.front]) {
    t.write(`${front}/${name}`, value);
    t.setPerms(`${front}/${name}`, frontPerms);
  }
  t.rm(back);
  t.mkdir(back);
  t.setPerms(back, [`n${backendDomid}`, `r${d.domid}`]);
  t.write(`${back}/frontend`, front);
  for (const [name, value] of d.back) t.write(`${back}/${name}`, value);
  for (const [name, value] of d.back) t.write(`${libxl}/${name}`, value);
}

/** Ask for a device to be unplugged, as `xl block-detach` does: the front end closes, then the back end. */
export function requestUnplug(xs: XenStoreClient, kind: string, domid: number, devid: number): void {
  const { back } = devicePaths(kind, domid, devid);
  xs.transaction((t) => {
    if (!t.exists(back)) return;
    t.write(`${back}/online`, 0);
    t.write(`${back}/state`, XenbusState.Closing);
  });
}

/** Remove a device's directories and the ones they leave empty in the back end's tree. */
export function removeDeviceNodes(
  xs: XenStoreClient,
  kind: string,
  domid: number,
  devid: number,
  backendDomid = 0,
): void {
  const { front, back, libxl } = devicePaths(kind, domid, devid, backendDomid);
  xs.transaction((t) => {
    for (const path of [front, libxl, back]) {
      t.rm(path);
      // libxl_xs_rm_path_recursive: parents that are empty now go as well, up to the domain's own directories.
      for (let p = up(path); p.split("/").length > (path === libxl ? 4 : 5) && t.list(p)?.length === 0; p = up(p))
        t.rm(p);
    }
  });
}

const up = (path: string): string => path.slice(0, path.lastIndexOf("/"));
