/** Devices of a running domain as `xl` lists, plugs and unplugs them. */
import { BlockBackend, type BlockImage } from "../../devices/block/index.js";
import { VifBackend } from "../../devices/network/index.js";
import { DeviceError, XenbusState } from "../../devices/xenbus/index.js";
import type { StoreAccess } from "../../xenstore/client.js";
import { diskName, diskNumber, parseDisk, type DiskConfig } from "../config/disk.js";
import { changeMedium } from "../disks.js";
import type { VifSpec } from "../machine.js";
import { HostError, type DeviceInfo, type DeviceStats } from "./api.js";
import type { DiskRecord, ManagedDomain } from "./managed-domain.js";
import { planDisk } from "./plan.js";
import type { HostPlatform, PathBase } from "./platform.js";

/** Disks of a configuration, to be had again when the domain starts again. */
export function records(specs: readonly string[], base: PathBase): DiskRecord[] {
  return specs.map((spec) => ({ spec, vdev: parseDisk(spec, base.source).vdev, ...base }));
}

function whole(text: string | null, fallback: number): number {
  return text !== null && /^\d{1,10}$/.test(text) ? Number(text) : fallback;
}

/** From the toolstack's own records of devices; what a front end says of itself is only shown, never believed. */
export function list(xs: StoreAccess, domid: number, kind: DeviceInfo["kind"]): DeviceInfo[] {
  const libxl = `/libxl/${domid}/device/${kind}`;
  const ids = (xs.list(libxl) ?? []).filter((n) => /^\d{1,10}$/.test(n)).map(Number);
  return ids
    .sort((a, b) => a - b)
    .filter((devid) => kind !== "console" || devid > 0)
    .map((devid): DeviceInfo => {
      const at = `${libxl}/${devid}`;
      const back = xs.read(`${at}/backend`) ?? "";
      const front = xs.read(`${at}/frontend`) ?? "";
      const text = (path: string): string | undefined => xs.read(path) ?? undefined;
      const number = (name: string, fallback: number): number => whole(xs.read(`${front}/${name}`), fallback);
      const queue = xs.exists(`${front}/queue-0`) ? `${front}/queue-0` : front;
      const vif = kind === "vif";
      return {
        kind,
        devid,
        backendDomid: number("backend-id", 0),
        handle: vif ? number("handle", devid) : whole(xs.read(`${back}/handle`), vif ? devid : 1),
        state: number("state", XenbusState.Unknown),
        evtchn: number(kind === "console" ? "port" : "event-channel", -1),
        ringRef: vif ? whole(xs.read(`${queue}/tx-ring-ref`), -1) : number("ring-ref", number("ring-ref0", -1)),
        rxRingRef: vif ? whole(xs.read(`${queue}/rx-ring-ref`), -1) : -1,
        backendPath: back,
        vdev: kind === "vbd" ? (text(`${back}/dev`) ?? diskName(devid)) : undefined,
        mac: text(`${at}/mac`),
        script: text(`${at}/script`),
        target: kind === "vbd" ? text(`${back}/params`) : undefined,
        cdrom: kind === "vbd" ? text(`${back}/device-type`) === "cdrom" : undefined,
        connection: text(`${at}/connection`),
      };
    });
}

/** A disk by its name or number. */
function findDisk(d: ManagedDomain, vdev: string): number {
  const devid = diskNumber(vdev);
  if (devid < 0 || d.running.devices.get("vbd", devid) === undefined) {
    throw new HostError("not-found", `Error: Device ${vdev} not connected.`);
  }
  return devid;
}

export async function detachDisk(d: ManagedDomain, vdev: string, force: boolean, wake: () => void): Promise<void> {
  const devid = findDisk(d, vdev);
  d.disks = d.disks.filter((x) => diskNumber(x.vdev) !== devid);
  await unplug(d, "vbd", devid, force, wake);
}

/** By number or by address. */
export async function detachVif(d: ManagedDomain, vif: string, wake: () => void): Promise<void> {
  const mac = vif.toLowerCase();
  const record = /^\d{1,5}$/.test(vif)
    ? d.vifs.find((v) => v.devid === Number(vif))
    : d.vifs.find((v) => v.mac === mac);
  const devid = record?.devid ?? (/^\d{1,5}$/.test(vif) ? Number(vif) : -1);
  if (d.running.devices.get("vif", devid) === undefined) throw new HostError("not-found", `Unknown device ${vif}.`);
  d.vifs = d.vifs.filter((v) => v.devid !== devid);
  await unplug(d, "vif", devid, false, wake);
}

async function unplug(d: ManagedDomain, kind: string, devid: number, force: boolean, wake: () => void): Promise<void> {
  try {
    const gone = d.running.devices.detach(kind, devid, force);
    wake();
    await gone;
  } catch (e) {
    if (e instanceof DeviceError) throw new HostError("not-found", e.message);
    throw e;
  }
}

/** Put another image into a CD drive, or (null) none. */
export async function changeCd(
  platform: HostPlatform,
  d: ManagedDomain,
  vdev: string,
  target: string | null,
  base: PathBase,
): Promise<void> {
  const devid = findDisk(d, vdev);
  const empty = `vdev=${vdev},access=ro,devtype=cdrom`;
  const spec = target === null ? empty : `${empty},target=${target}`;
  if (target === null) await changeMedium(d.running.devices, vdev, null);
  else {
    const { disk } = await planDisk(platform, spec, base);
    if (disk.image === null) throw new HostError("invalid", `cd-insert: no image given for ${vdev}`);
    await changeMedium(d.running.devices, vdev, {
      image: async () => d.track(typeof disk.image === "function" ? await disk.image() : (disk.image as BlockImage)),
      name: disk.name ?? "",
    });
  }
  d.disks = d.disks.map((x) => (diskNumber(x.vdev) === devid ? { spec, vdev, ...base } : x));
}

/** A disk as it was asked for, its files by paths that hold everywhere. */
export function absolute(platform: Pick<HostPlatform, "resolve">, x: DiskRecord): DiskConfig {
  const d = parseDisk(x.spec, x.source);
  const full = (path: string): string => (path === "" ? "" : platform.resolve(path, x));
  return { ...d, target: full(d.target), overlay: d.overlay === undefined ? undefined : full(d.overlay) };
}

/** Interfaces with the addresses that XenStore has for them. */
export function vifsOf(xs: StoreAccess, domid: number, specs: readonly VifSpec[]): VifSpec[] {
  return specs.map((v, i) => {
    const devid = v.devid ?? i;
    return { ...v, devid, mac: xs.read(`/libxl/${domid}/device/vif/${devid}/mac`) ?? v.mac };
  });
}

/** Counters of a domain's back ends. */
export function stats(d: ManagedDomain): DeviceStats {
  const { devices } = d.running;
  const out: { vifs: DeviceStats["vifs"][number][]; vbds: DeviceStats["vbds"][number][] } = { vifs: [], vbds: [] };
  for (const device of devices.list()) {
    if (device instanceof VifBackend) {
      const m = device.metrics;
      out.vifs.push({
        devid: device.devid,
        rxBytes: m.rxBytes,
        rxPackets: m.rxFrames,
        rxDropped: m.rxDropped,
        txBytes: m.txBytes,
        txPackets: m.txFrames,
        txDropped: m.txDropped,
      });
    } else if (device instanceof BlockBackend) {
      const m = device.metrics;
      out.vbds.push({
        devid: device.devid,
        outOfRequests: 0,
        reads: m.reads,
        writes: m.writes,
        sectorsRead: m.sectorsRead,
        sectorsWritten: m.sectorsWritten,
      });
    }
  }
  return out;
}
