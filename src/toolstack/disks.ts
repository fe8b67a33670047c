/** Disks of a domain: from a specification to nodes and a back end. */
import { BlockBackend, diskNodes, type BlockImage } from "../devices/block/index.js";
import type { BackendHost, DomainDevices } from "../devices/xenbus/index.js";
import { diskNumber } from "./config/disk.js";

export type DiskImage = BlockImage | (() => BlockImage | Promise<BlockImage>);

export interface DiskSpec {
  /** `xvda`, `hda`, `sda1`, … (xen-vbd-interface(7)). */
  readonly vdev: string;
  /** An image stays its owner's; a function opens one for this device alone, which is flushed and closed with it. Null: an empty CD drive. */
  readonly image: DiskImage | null;
  readonly readOnly?: boolean | undefined;
  readonly cdrom?: boolean | undefined;
  readonly removable?: boolean | undefined;
  /** Let the guest discard where the image can. Default yes. */
  readonly discard?: boolean | undefined;
  /** What `params` says: the image's path. */
  readonly name?: string | undefined;
  /** Rings offered at most. Default 1. */
  readonly queues?: number | undefined;
  readonly persistent?: boolean | undefined;
}

/** The same image, told to `sink` when it is opened. */
export function openTracked(image: DiskImage | null, sink: (image: BlockImage) => void): DiskImage | null {
  if (image === null) return null;
  return async () => {
    const opened = typeof image === "function" ? await image() : image;
    sink(opened);
    return opened;
  };
}

/** A mistake in a disk, in one line. */
export class DiskError extends Error {
  override readonly name = "DiskError";
}

/** The number a disk has in XenStore; throws a DiskError for no disk's name. */
export function diskId(vdev: string): number {
  const devid = diskNumber(vdev);
  if (devid < 0) throw new DiskError(`disk ${vdev}: no such virtual device (xvda, hda, sda, …)`);
  return devid;
}

/** Loop device numbers, as a host with loop-mounted images would show them. */
const LOOP_MAJOR = 7;

export async function attachDisk(host: BackendHost, devices: DomainDevices, spec: DiskSpec): Promise<BlockBackend> {
  const { domain } = devices;
  const devid = diskId(spec.vdev);
  const taken = (): void => {
    if (devices.get("vbd", devid) !== undefined) throw new DiskError(`disk ${spec.vdev}: exists already`);
    if (domain.dying) throw new DiskError(`disk ${spec.vdev}: the domain is gone`);
  };
  taken();
  const owns = typeof spec.image === "function";
  const image = typeof spec.image === "function" ? await spec.image() : spec.image;
  const removable = spec.removable ?? spec.cdrom ?? false;
  try {
    taken();
    if (image === null && spec.cdrom !== true) throw new DiskError(`disk ${spec.vdev}: only a CD drive may be empty`);
    if (image !== null && image.sectors < 1) throw new DiskError(`disk ${spec.vdev}: the image is empty`);
    if (image?.readOnly === true && spec.readOnly === false && spec.cdrom !== true) {
      throw new DiskError(`disk ${spec.vdev}: the image is read-only`);
    }
    const name = spec.name ?? (image === null ? "" : "memory");
    const backend = new BlockBackend(host, domain, devid, image, {
      readOnly: spec.readOnly ?? false,
      cdrom: spec.cdrom ?? false,
      removable,
      discard: spec.discard ?? true,
      persistent: spec.persistent ?? true,
      queues: spec.queues ?? 1,
      physical: { device: `${LOOP_MAJOR}:${devices.list("vbd").length.toString(16)}`, path: name },
      owns,
    });
    devices.attach(
      backend,
      diskNodes({
        domid: domain.domid,
        devid,
        vdev: spec.vdev,
        params: name,
        readOnly: backend.readOnly,
        cdrom: spec.cdrom ?? false,
        removable,
        discard: spec.discard ?? true,
      }),
    );
    return backend;
  } catch (e) {
    if (owns) await image?.close();
    throw e;
  }
}

/** Put another medium into a running domain's CD drive, or (null) take out what is there. On a failure the drive keeps what it has. */
export async function changeMedium(
  devices: DomainDevices,
  vdev: string,
  medium: { readonly image: DiskImage; readonly name: string } | null,
): Promise<void> {
  const backend = devices.get("vbd", diskId(vdev));
  if (!(backend instanceof BlockBackend)) throw new DiskError(`disk ${vdev}: no such disk`);
  if (!backend.isCdrom) throw new DiskError(`disk ${vdev}: not a CD drive`);
  if (medium === null) return backend.changeMedium(null);
  const owns = typeof medium.image === "function";
  const image = typeof medium.image === "function" ? await medium.image() : medium.image;
  try {
    if (image.sectors < 1) throw new DiskError(`disk ${vdev}: the image is empty`);
    await backend.changeMedium({ image, name: medium.name, owns });
  } catch (e) {
    if (owns) await image.close();
    throw e;
  }
}
