/** Disks of a domain: from a specification to nodes and a back end. */
import { BlockBackend, diskNodes, type BlockImage } from "../devices/block/index.js";
import type { BackendHost, DomainDevices } from "../devices/xenbus/index.js";
import { diskNumber } from "./config/disk.js";

export interface DiskSpec {
  /** `xvda`, `hda`, `sda1`, … (xen-vbd-interface(7)). */
  readonly vdev: string;
  /** An image stays its owner's; a function opens one for this device alone, which is flushed and closed with it. */
  readonly image: BlockImage | (() => BlockImage | Promise<BlockImage>);
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
  try {
    taken();
    if (image.sectors < 1) throw new DiskError(`disk ${spec.vdev}: the image is empty`);
    if (image.readOnly && spec.readOnly === false && spec.cdrom !== true) {
      throw new DiskError(`disk ${spec.vdev}: the image is read-only`);
    }
    const name = spec.name ?? "memory";
    const backend = new BlockBackend(host, domain, devid, image, {
      readOnly: spec.readOnly ?? false,
      cdrom: spec.cdrom ?? false,
      removable: spec.removable ?? false,
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
        removable: spec.removable ?? false,
        discard: spec.discard ?? true,
      }),
    );
    return backend;
  } catch (e) {
    if (owns) await image.close();
    throw e;
  }
}
