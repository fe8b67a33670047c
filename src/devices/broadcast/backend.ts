/** One domain's end of a broadcast channel: XenBus's handshake from the SDK's base, and the nodes of nodes.ts. */
import type { Domain } from "../../hypervisor/domain.js";
import type { StoreAccess } from "../../xenstore/client.js";
import { BackendDevice, DeviceError, FrontNodes, newDeviceMetrics, type BackendHost } from "../xenbus/index.js";
import { EBUSY } from "../../abi/errno.js";
import type { BroadcastChannel } from "./channel.js";
import { answerNode, KIND, readerNode, type Role } from "./nodes.js";

/** Ports of a domain with FIFO event channels. */
const MAX_PORT = 131_071;

export class BroadcastBackend extends BackendDevice {
  readonly metrics = { ...newDeviceMetrics(), introductions: 0 };
  private unwatch: () => void = () => {};

  constructor(
    host: BackendHost,
    guest: Domain,
    devid: number,
    readonly channel: BroadcastChannel,
    readonly role: Role,
  ) {
    super(host, guest, KIND, devid);
  }

  protected advertise(t: StoreAccess): void {
    t.write(`${this.backPath}/feature-broadcast`, 1);
  }

  protected connect(): void {
    if (!this.channel.join(this)) throw new DeviceError(`channel ${this.channel.name} has a writer already`, EBUSY);
    if (this.role === "writer") {
      this.unwatch = this.host.xs.watch(this.frontPath, (path) => this.guard(() => this.answered(path)));
    }
  }
  protected disconnect(): void {
    this.unwatch();
    this.unwatch = () => {};
    this.channel.leave(this);
    const { xs } = this.host;
    if (this.role === "writer" && xs.exists(`${this.backPath}/state`)) xs.rm(`${this.backPath}/readers`);
    else this.forget();
  }

  // --- the writer's ---------------------------------------------------------------------------------------------------------------

  /** Ask the writer to let a domain read. */
  invite(domid: number): void {
    this.host.xs.write(`${this.backPath}/${readerNode(domid)}`, "");
  }
  /** It reads no more: the writer may take its grant back. */
  dismiss(domid: number): void {
    if (this.isConnected) this.host.xs.rm(`${this.backPath}/${readerNode(domid)}`);
  }
  private answered(path: string): void {
    const m = /\/reader-(\d{1,5})(?:\/|$)/.exec(path.slice(this.frontPath.length));
    if (m === null || !this.isConnected) return;
    const domid = Number(m[1]);
    const nodes = new FrontNodes(this.host.xs, `${this.frontPath}/${answerNode(domid)}`);
    // The two nodes come one after the other.
    if (nodes.text("page-ref") === undefined || nodes.text("event-channel") === undefined) return;
    this.metrics.introductions++;
    this.channel.introduce(this, domid, nodes.number("page-ref"), nodes.number("event-channel", MAX_PORT));
  }

  // --- a reader's -----------------------------------------------------------------------------------------------------------------

  /** Tell the reader where the page is. */
  meet(writer: number, page: number, port: number): void {
    this.host.xs.transaction((t) => {
      t.write(`${this.backPath}/writer-id`, writer);
      t.write(`${this.backPath}/event-channel`, port);
      t.write(`${this.backPath}/page-ref`, page);
    });
  }
  /** There is no writer any more. */
  forget(): void {
    const { xs } = this.host;
    for (const n of ["page-ref", "event-channel", "writer-id"])
      if (xs.exists(`${this.backPath}/${n}`)) xs.rm(`${this.backPath}/${n}`);
  }
}
