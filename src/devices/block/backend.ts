/**
 * The back end of a virtual disk (blkif, public/io/blkif.h): requests from the rings of one front end, carried out on a `BlockImage`.
 *
 * Invariants:
 * - a request that is wrong in any way is answered with an error and touches neither the image nor a page; a ring that is wrong ends the device;
 * - guest pages are touched only while a request is taken (data to be written is copied in) and when it is answered (data read is copied
 *   out), never in between, so that a device can go at any time;
 * - a flush is answered when every write taken before it is on the medium.
 */
import { ENODEV } from "../../abi/errno.js";
import {
  BLKIF_DISCARD_SECURE,
  BLKIF_MAX_SEGMENTS_PER_REQUEST,
  BLKIF_OP_DISCARD,
  BLKIF_OP_FLUSH_DISKCACHE,
  BLKIF_OP_INDIRECT,
  BLKIF_OP_READ,
  BLKIF_OP_WRITE,
  BLKIF_OP_WRITE_BARRIER,
  BLKIF_RSP_EOPNOTSUPP,
  BLKIF_RSP_ERROR,
  BLKIF_RSP_OKAY,
  blkif_request_segment,
  VDISK_CDROM,
  VDISK_READONLY,
  VDISK_REMOVABLE,
} from "../../abi/io_blkif.js";
import type { Domain } from "../../hypervisor/domain.js";
import type { StoreAccess } from "../../xenstore/client.js";
import {
  BackendDevice,
  DeviceError,
  FrontNodes,
  newDeviceMetrics,
  type BackendHost,
  type EventChannel,
  type SharedRing,
} from "../xenbus/index.js";
import { SECTOR, type BlockImage } from "./image/image.js";
import type { BlockMetrics } from "./metrics.js";
import {
  blockAbi,
  decodeRequest,
  decodeSegments,
  encodeResponse,
  SEGMENTS_PER_PAGE,
  type BlockAbi,
  type BlockRequest,
  type Segment,
} from "./protocol.js";
import { after, InFlight, type Wait } from "./state.js";

const MAX_RING_ORDER = 4;
const MAX_INDIRECT_SEGMENTS = 256;
const SECTORS_PER_PAGE = 8;
/** Persistent grants kept per ring, as xen-blkback has it: all that one ring of 32 indirect requests can use. */
const PERSISTENT_PER_RING = 1056;

export interface BlockBackendOptions {
  /** The guest may only read, whatever the image can. */
  readonly readOnly?: boolean;
  readonly cdrom?: boolean;
  readonly removable?: boolean;
  /** Offer to keep grants mapped. Default yes. */
  readonly persistent?: boolean;
  /** Offer discard where the image can. Default yes. */
  readonly discard?: boolean;
  /** Rings offered at most. Default 1. */
  readonly queues?: number;
  /** For `physical-device` and `physical-device-path`. */
  readonly physical?: { readonly device: string; readonly path: string };
  /** Close the image with the device. */
  readonly owns?: boolean;
}

/** What is put into a drive. */
export interface Medium {
  readonly image: BlockImage;
  /** For `params`. */
  readonly name: string;
  /** Close the image when it is taken out. */
  readonly owns: boolean;
}

/** A request being carried out: where its data is to go. */
interface Job {
  readonly request: BlockRequest;
  readonly operation: number;
  readonly segments: readonly Segment[];
  readonly data: Uint8Array;
  /** When it was taken; only while somebody traces. */
  readonly started: number;
}

const OPERATION_NAMES: Readonly<Record<number, string>> = {
  [BLKIF_OP_READ]: "read",
  [BLKIF_OP_WRITE]: "write",
  [BLKIF_OP_WRITE_BARRIER]: "write_barrier",
  [BLKIF_OP_FLUSH_DISKCACHE]: "flush_diskcache",
  [BLKIF_OP_DISCARD]: "discard",
};

/** One ring with its channel. */
class Queue {
  alive = true;
  requests = 0;
  private readonly entry: Uint8Array;
  private scheduled = false;
  channel!: EventChannel;

  constructor(
    readonly device: BlockBackend,
    readonly ring: SharedRing,
    readonly abi: BlockAbi,
  ) {
    this.entry = new Uint8Array(abi.requestSize);
  }

  /** Take what is in the ring. */
  work(): void {
    const { ring } = this;
    do {
      while (ring.take(this.entry)) {
        this.requests++;
        this.device.handle(this, decodeRequest(this.abi, this.entry));
      }
    } while (ring.moreRequests());
    this.push();
  }
  respond(request: BlockRequest, operation: number, status: number): void {
    this.ring.respond(encodeResponse(this.abi, request.idLo, request.idHi, operation, status));
  }
  push(): void {
    if (this.ring.push()) this.device.wake(this.channel);
  }
  /** Show responses that were written outside `work`, those of one moment together. */
  pushSoon(later: (fn: () => void) => void): void {
    if (this.scheduled) return;
    this.scheduled = true;
    later(() => {
      this.scheduled = false;
      if (this.alive) this.push();
    });
  }
}

export class BlockBackend extends BackendDevice {
  readonly metrics: BlockMetrics = {
    ...newDeviceMetrics(),
    reads: 0,
    writes: 0,
    flushes: 0,
    barriers: 0,
    discards: 0,
    indirect: 0,
    sectorsRead: 0,
    sectorsWritten: 0,
    imageErrors: 0,
    mediaChanges: 0,
  };
  readonly readOnly: boolean;
  private readonly canDiscard: boolean;
  private readonly flight = new InFlight();
  private queues: Queue[] = [];
  private persistentInUse = false;
  /** What is in the drive; null: nothing (CD drives only). */
  private current: BlockImage | null;
  private owns: boolean;
  private changing: Promise<void> = Promise.resolve();

  constructor(
    host: BackendHost,
    guest: Domain,
    devid: number,
    image: BlockImage | null,
    private readonly options: BlockBackendOptions = {},
  ) {
    super(host, guest, "vbd", devid);
    this.current = image;
    this.owns = options.owns === true;
    this.readOnly = options.readOnly === true || options.cdrom === true || image?.readOnly === true;
    this.canDiscard = options.discard !== false && !this.readOnly && (image?.discardGranularity ?? 0) > 0;
  }

  get image(): BlockImage | null {
    return this.current;
  }
  get isCdrom(): boolean {
    return this.options.cdrom === true;
  }
  /** Put something between the device and its image that shows the same content (toolstack/fork-disks.ts). No request may be in flight. */
  wrapImage(wrap: (image: BlockImage) => BlockImage): void {
    if (this.current !== null) this.current = wrap(this.current);
  }

  /**
   * Another medium, or none (null). The front end learns of it as of a disk that was resized: `sectors`, and the state written anew, which
   * makes Linux read it again. Requests on the old medium are done first; those that come between find no medium.
   */
  changeMedium(medium: Medium | null): Promise<void> {
    const change = async (): Promise<void> => {
      if (!this.isCdrom) throw new DeviceError(`disk ${this.devid} is not a CD drive`);
      if (medium !== null && medium.image.sectorSize !== SECTOR)
        throw new DeviceError("a CD drive takes media with sectors of 512 bytes only");
      const old = this.current;
      const owned = this.owns;
      this.current = null;
      await this.flight.drained();
      if (this.isGone) throw new DeviceError("the drive is gone", ENODEV);
      this.current = medium?.image ?? null;
      this.owns = medium?.owns === true;
      this.metrics.mediaChanges++;
      const name = medium?.name ?? "";
      this.host.xs.transaction((t) => {
        if (!t.exists(`${this.backPath}/state`)) return;
        t.write(`${this.backPath}/params`, name);
        if (t.exists(`${this.backPath}/physical-device-path`)) t.write(`${this.backPath}/physical-device-path`, name);
        const own = `/libxl/${this.guest.domid}/device/vbd/${this.devid}/params`;
        if (t.exists(own)) t.write(own, name);
        if (!t.exists(`${this.backPath}/sectors`)) return;
        t.write(`${this.backPath}/sectors`, this.sectors);
        t.write(`${this.backPath}/state`, this.state);
      });
      if (owned) await old?.close();
    };
    const done = this.changing.then(change);
    this.changing = done.catch(() => {});
    return done;
  }

  private get sectors(): number {
    return this.current?.sectors ?? 0;
  }

  // --- nodes ----------------------------------------------------------------------------------------------------------------

  protected override advertise(t: StoreAccess): void {
    const put = (name: string, value: string | number): void => t.write(`${this.backPath}/${name}`, value);
    put("feature-max-indirect-segments", MAX_INDIRECT_SEGMENTS);
    put("multi-queue-max-queues", this.options.queues ?? 1);
    put("max-ring-page-order", MAX_RING_ORDER);
    const physical = this.options.physical;
    if (physical !== undefined) {
      put("physical-device", physical.device);
      put("physical-device-path", physical.path);
    }
    put("hotplug-status", "connected");
  }

  protected override describe(t: StoreAccess): void {
    const put = (name: string, value: string | number): void => t.write(`${this.backPath}/${name}`, value);
    put("feature-flush-cache", 1);
    if (this.canDiscard) {
      put("discard-granularity", this.current?.discardGranularity ?? 0);
      put("discard-alignment", 0);
      put("discard-secure", 0);
      put("feature-discard", 1);
    }
    put("feature-barrier", 1);
    put("feature-persistent", this.options.persistent === false ? 0 : 1);
    put("sectors", this.sectors);
    const { cdrom, removable } = this.options;
    put("info", (cdrom ? VDISK_CDROM : 0) | (removable ? VDISK_REMOVABLE : 0) | (this.readOnly ? VDISK_READONLY : 0));
    const sectorSize = this.current?.sectorSize ?? SECTOR;
    put("sector-size", sectorSize);
    put("physical-sector-size", sectorSize);
  }

  protected override connect(): void {
    const protocol = this.front.text("protocol");
    const abi = blockAbi(protocol);
    if (abi === undefined) throw new DeviceError(`unknown fe protocol ${String(protocol).slice(0, 40)}`, ENODEV);
    const max = this.options.queues ?? 1;
    const queues = this.front.number("multi-queue-num-queues", 0xffff_ffff, 1);
    if (queues < 1 || queues > max)
      throw new DeviceError(`guest requested ${queues} queues, exceeding the maximum of ${max}`);
    const order = this.front.number("ring-page-order", MAX_RING_ORDER, -1);
    this.persistentInUse = this.options.persistent !== false && this.front.flag("feature-persistent");
    this.grants.maxPersistent = this.persistentInUse ? PERSISTENT_PER_RING * queues : 0;
    for (let i = 0; i < queues; i++) {
      const front = queues === 1 ? this.front : new FrontNodes(this.host.xs, `${this.frontPath}/queue-${i}`);
      // `ring-ref` alone is the protocol of one page; a front end that names an order numbers its pages.
      const refs: number[] = [];
      if (order < 0) refs.push(front.number("ring-ref"));
      else for (let p = 0; p < 1 << order; p++) refs.push(front.number(`ring-ref${p}`));
      const queue = new Queue(this, this.ring(refs, abi.requestSize, abi.responseSize), abi);
      this.queues.push(queue);
      queue.channel = this.bind(front.number("event-channel"), () => queue.work());
    }
  }

  protected override disconnect(): Promise<void> | void {
    for (const q of this.queues) q.alive = false;
    this.queues = [];
    if (this.flight.busy) return this.flight.drained();
  }

  protected override closed(): void {
    const image = this.current;
    if (!this.owns || image === null) return;
    const log = (e: unknown): void =>
      this.host.dom0.xen.console.log(`vbd/${this.guest.domid}/${this.devid}: closing the image: ${String(e)}`);
    const close = async (): Promise<void> => {
      await this.flight.drained();
      try {
        if (!this.readOnly) await image.flush();
      } finally {
        await image.close();
      }
    };
    close().catch(log);
  }

  /** The rings of this connection: their entries, and requests taken from them. */
  get rings(): readonly { readonly entries: number; readonly requests: number }[] {
    return this.queues.map((q) => ({ entries: q.ring.size, requests: q.requests }));
  }
  /** Requests in flight on the image. */
  get pending(): number {
    return this.flight.count;
  }
  /** Settles when all requests taken so far are done on the image. */
  drained(): Promise<void> {
    return this.flight.drained();
  }
  /** @internal */
  wake(channel: EventChannel): void {
    this.notify(channel);
  }

  // --- requests -------------------------------------------------------------------------------------------------------------

  /** @internal Called with each request as it was in the ring. */
  handle(queue: Queue, request: BlockRequest): void {
    const m = this.metrics;
    m.requests++;
    let operation = request.operation;
    let segments = request.segments;
    switch (operation) {
      case BLKIF_OP_READ:
      case BLKIF_OP_WRITE:
      case BLKIF_OP_WRITE_BARRIER:
      case BLKIF_OP_FLUSH_DISKCACHE:
        if (request.segmentCount > BLKIF_MAX_SEGMENTS_PER_REQUEST) return this.fail(queue, request, operation);
        break;
      case BLKIF_OP_INDIRECT: {
        m.indirect++;
        operation = request.indirectOp;
        const found = this.indirectSegments(request);
        if (found === null) return this.fail(queue, request, operation);
        segments = found;
        break;
      }
      case BLKIF_OP_DISCARD:
        return this.discard(queue, request);
      default:
        return this.fail(queue, request, operation, BLKIF_RSP_EOPNOTSUPP);
    }
    const isRead = operation === BLKIF_OP_READ;
    if (!isRead && this.readOnly && (operation !== BLKIF_OP_FLUSH_DISKCACHE || segments.length > 0)) {
      return this.fail(queue, request, operation);
    }
    if (segments.length === 0 && (isRead || operation === BLKIF_OP_WRITE)) return this.fail(queue, request, operation);
    const { current: image } = this;
    // An empty drive has no sectors, but nothing to lose either.
    if (image === null && operation === BLKIF_OP_FLUSH_DISKCACHE && segments.length === 0) {
      this.metrics.responses++;
      return queue.respond(request, operation, BLKIF_RSP_OKAY);
    }
    if (image === null) return this.fail(queue, request, operation);
    const sectors = this.length(segments);
    if (sectors < 0 || (sectors > 0 && !this.within(request.sector, sectors)))
      return this.fail(queue, request, operation);
    const data = new Uint8Array(sectors * SECTOR);
    if (!isRead && !this.copyIn(segments, data)) return this.fail(queue, request, operation);
    const job: Job = { request, operation, segments, data, started: this.now() };
    let wait: Wait;
    try {
      wait = this.submit(image, job);
    } catch (e) {
      return this.imageFailed(queue, job, e);
    }
    if (wait === undefined) return this.finish(queue, job);
    this.inBackground(wait, queue, job);
  }

  private submit(image: BlockImage, job: Job): Wait {
    const { flight, metrics: m } = this;
    const { data, operation } = job;
    const { sector } = job.request;
    switch (operation) {
      case BLKIF_OP_READ:
        m.reads++;
        m.sectorsRead += data.length / SECTOR;
        return flight.read(() => image.read(sector, data));
      case BLKIF_OP_WRITE:
        m.writes++;
        m.sectorsWritten += data.length / SECTOR;
        return flight.write(() => image.write(sector, data));
      case BLKIF_OP_FLUSH_DISKCACHE:
        m.flushes++;
        if (this.readOnly) return undefined;
        if (data.length === 0) return flight.flush(() => image.flush());
        m.sectorsWritten += data.length / SECTOR;
        return flight.flush(() => after(image.flush(), () => image.write(sector, data)));
      default: {
        // Barrier: what came before is on the medium before this is, and this before what comes after.
        m.barriers++;
        m.sectorsWritten += data.length / SECTOR;
        return flight.barrier(() =>
          after(image.flush(), () =>
            data.length === 0 ? undefined : after(image.write(sector, data), () => image.flush()),
          ),
        );
      }
    }
  }

  /** Carried out on the host meanwhile: virtual time waits, and the answer comes between grains. */
  private inBackground(wait: Promise<void>, queue: Queue, job: Job): void {
    const { xen } = this.host.dom0;
    xen.hostBusy++;
    const done = (failure: unknown, failed: boolean): void => {
      xen.post(() => {
        xen.hostBusy--;
        if (!queue.alive) return;
        this.guard(() => {
          if (failed) this.imageFailed(queue, job, failure);
          else this.finish(queue, job);
          queue.pushSoon((fn) => this.later(fn));
        });
      });
    };
    wait.then(
      () => done(null, false),
      (e: unknown) => done(e, true),
    );
  }

  private finish(queue: Queue, job: Job): void {
    if (job.operation === BLKIF_OP_READ && !this.copyOut(job.segments, job.data)) {
      return this.fail(queue, job.request, job.operation);
    }
    this.metrics.responses++;
    this.trace(job.request, job.operation, BLKIF_RSP_OKAY, job);
    queue.respond(job.request, job.operation, BLKIF_RSP_OKAY);
  }
  private now(): number {
    const { xen } = this.host.dom0;
    return xen.trace.on ? xen.clock.now() : 0;
  }
  /** A request as it is answered, with what it took. */
  private trace(request: BlockRequest, operation: number, status: number, job?: Job): void {
    const { xen } = this.host.dom0;
    if (!xen.trace.on) return;
    const time = xen.clock.now();
    const sectors = operation === BLKIF_OP_DISCARD ? request.discardSectors : (job?.data.length ?? 0) / SECTOR;
    xen.trace.emit({
      kind: "block",
      time,
      domid: this.guest.domid,
      vcpu: -1,
      name: OPERATION_NAMES[operation] ?? `operation_${operation}`,
      args: { device: this.devid, sector: request.sector, sectors },
      result: status,
      ...(job === undefined || job.started === 0 ? {} : { duration: time - job.started }),
    });
  }

  private fail(queue: Queue, request: BlockRequest, operation: number, status: number = BLKIF_RSP_ERROR): void {
    this.metrics.errors++;
    this.metrics.responses++;
    this.trace(request, operation, status);
    queue.respond(request, operation, status);
  }

  private imageFailed(queue: Queue, job: Job, why: unknown): void {
    this.metrics.imageErrors++;
    this.host.dom0.xen.console.log(
      `vbd/${this.guest.domid}/${this.devid}: I/O error at sector ${job.request.sector}: ${why instanceof Error ? why.message : String(why)}`,
    );
    this.fail(queue, job.request, job.operation);
  }

  private discard(queue: Queue, request: BlockRequest): void {
    const { sector, discardSectors: count } = request;
    const image = this.current;
    if (image === null || !this.canDiscard || (request.discardFlag & BLKIF_DISCARD_SECURE) !== 0) {
      return this.fail(queue, request, BLKIF_OP_DISCARD, BLKIF_RSP_EOPNOTSUPP);
    }
    if (!this.within(sector, count)) return this.fail(queue, request, BLKIF_OP_DISCARD);
    this.metrics.discards++;
    const job: Job = {
      request,
      operation: BLKIF_OP_DISCARD,
      segments: [],
      data: new Uint8Array(0),
      started: this.now(),
    };
    let wait: Wait;
    try {
      wait = this.flight.write(() => image.discard(sector, count));
    } catch (e) {
      return this.imageFailed(queue, job, e);
    }
    if (wait === undefined) this.finish(queue, job);
    else this.inBackground(wait, queue, job);
  }

  // --- checks and copies ----------------------------------------------------------------------------------------------------

  /** Does the image have these sectors, on its own sectors' bounds? */
  private within(sector: number, count: number): boolean {
    const unit = (this.current?.sectorSize ?? SECTOR) / SECTOR;
    if (unit > 1 && (sector % unit !== 0 || count % unit !== 0)) return false;
    return count <= this.sectors && sector <= this.sectors - count;
  }

  /** Sectors of all segments; −1 where one is not within its page. */
  private length(segments: readonly Segment[]): number {
    let sectors = 0;
    for (const s of segments) {
      if (s.last >= SECTORS_PER_PAGE || s.first > s.last) return -1;
      sectors += s.last - s.first + 1;
    }
    return sectors;
  }

  /** The segments of an indirect request, from the pages that hold them; null where they are refused. */
  private indirectSegments(request: BlockRequest): Segment[] | null {
    const { indirectOp, segmentCount: count } = request;
    if (indirectOp !== BLKIF_OP_READ && indirectOp !== BLKIF_OP_WRITE) return null;
    if (count < 1 || count > MAX_INDIRECT_SEGMENTS) return null;
    const segments: Segment[] = [];
    for (let done = 0, page = 0; done < count; page++) {
      const n = Math.min(SEGMENTS_PER_PAGE, count - done);
      const bytes = new Uint8Array(n * blkif_request_segment.size);
      if (this.grants.copyIn(request.indirectRefs[page] as number, 0, bytes) < 0) return null;
      decodeSegments(bytes, 0, n, segments);
      done += n;
    }
    return segments;
  }

  private copyIn(segments: readonly Segment[], data: Uint8Array): boolean {
    let at = 0;
    for (const s of segments) {
      const n = (s.last - s.first + 1) * SECTOR;
      if (this.grants.copyIn(s.gref, s.first * SECTOR, data.subarray(at, at + n)) < 0) return false;
      at += n;
    }
    return true;
  }
  private copyOut(segments: readonly Segment[], data: Uint8Array): boolean {
    let at = 0;
    for (const s of segments) {
      const n = (s.last - s.first + 1) * SECTOR;
      if (this.grants.copyOut(s.gref, s.first * SECTOR, data.subarray(at, at + n)) < 0) return false;
      at += n;
    }
    return true;
  }
}
