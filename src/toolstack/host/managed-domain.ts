/** What the host keeps of a domain beside the machine's own objects: how it was asked for, its consoles, what waits for its end. */
import type { BlockImage } from "../../devices/block/index.js";
import type { DomainConfig } from "../config/index.js";
import type { RunningDomain, VifSpec } from "../machine.js";
import type { Actions, RestartLimit } from "./actions.js";
import { HostError, type CreateRequest } from "./api.js";
import type { Channels } from "./channels.js";
import type { ConsoleHub } from "./console-hub.js";

/** A disk as it was asked for, so that the domain has it again when it starts again. */
export interface DiskRecord {
  /** xl's grammar. */
  readonly spec: string;
  readonly vdev: string;
  readonly cwd?: string | undefined;
  readonly source: string;
}

/** What stays of a plan when the domain is there. */
export interface Kept extends Actions {
  readonly kernelPath: string;
  readonly ramdiskPath: string | undefined;
  readonly warnings: readonly string[];
}

export class ManagedDomain {
  /** Milliseconds from the epoch. */
  startedAt = 0;
  /** Pauses by the toolstack, as Xen counts them. */
  pauses = 0;
  /** Its end has been taken note of. */
  ended = false;
  /** Said by a crash of its own or by the hypervisor. */
  crashReason = "";
  /** An operation has the domain for itself: what is said to others meanwhile ("being saved"). */
  busy: string | null = null;
  disks: readonly DiskRecord[] = [];
  vifs: readonly VifSpec[] = [];
  /** Sockets of its further consoles. */
  channels: Channels | undefined;
  /** A running copy of another domain. */
  isFork = false;
  /** Told of its end. */
  readonly waiters = new Set<(code: number) => void>();
  /** Images this domain has open; a domain is gone when they are closed. */
  readonly images = new Set<Promise<void>>();

  constructor(
    readonly running: RunningDomain,
    /** As it was asked for; what the command line said is in it. */
    public request: CreateRequest,
    public config: DomainConfig,
    public plan: Kept,
    public name: string,
    readonly consoles: ConsoleHub[],
    readonly limit: RestartLimit,
  ) {}

  get domid(): number {
    return this.running.domain.domid;
  }
  get uuid(): string {
    return this.running.domain.uuid;
  }

  /** The domain's operations are one at a time. */
  assertFree(): void {
    if (this.busy !== null) throw new HostError("state", `Domain ${this.domid} is ${this.busy}`);
  }
  async exclusively<T>(what: string, body: () => Promise<T>): Promise<T> {
    this.assertFree();
    this.busy = what;
    try {
      return await body();
    } finally {
      this.busy = null;
    }
  }

  /** Note an image as this domain's until it is closed. */
  track(image: BlockImage): BlockImage {
    const { images } = this;
    const close = image.close.bind(image);
    let closed = (): void => {};
    const gone = new Promise<void>((resolve) => (closed = resolve));
    images.add(gone);
    image.close = async () => {
      try {
        await close();
      } finally {
        images.delete(gone);
        closed();
      }
    };
    return image;
  }

  settle(code: number): void {
    for (const w of this.waiters) w(code);
    this.waiters.clear();
  }
}
