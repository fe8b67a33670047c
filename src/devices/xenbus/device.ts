/**
 * The base of every back end: XenBus's handshake for one device of one domain, so that a device class has only its own nodes, its ring's
 * entries and its work to say.
 *
 * Invariants:
 * - nothing that a front end does, and no mistake of a device class, throws out of a callback: it ends this device (`fatal`);
 * - no event channel and no mapping is held unless the device is connected;
 * - `disconnect` has made everything in flight harmless when it returns: what completes later does not touch the guest.
 */
import { EIO } from "../../abi/errno.js";
import type { Domain } from "../../hypervisor/domain.js";
import { InvariantError } from "../../hypervisor/memory/invariant.js";
import type { StoreAccess, XenStoreClient } from "../../xenstore/client.js";
import { domainPath } from "../../xenstore/paths.js";
import { EventChannel } from "./channel.js";
import { devicePaths } from "./device-nodes.js";
import { DeviceError } from "./errors.js";
import { FrontNodes } from "./front-nodes.js";
import { GuestGrants } from "./grants.js";
import type { DeviceMetrics } from "./metrics.js";
import { SharedRing } from "./ring.js";
import { parseState, stateName, XenbusState } from "./states.js";

/** Where back ends live: a native domain and its connection to XenStore. */
export interface BackendHost {
  /** The back end's domain (0, or a native driver domain). */
  readonly dom0: Domain;
  readonly xs: XenStoreClient;
}

export abstract class BackendDevice {
  readonly frontPath: string;
  readonly backPath: string;
  /** What the back end's state node says. */
  state: XenbusState = XenbusState.Initialising;
  /** Why the device was stopped last, or "". */
  lastError = "";
  abstract readonly metrics: DeviceMetrics;
  /** Called once when the device is closed for good: unplugged, or its domain is gone. Its nodes may be removed. */
  onGone: () => void = () => {};

  /** The front end's nodes. */
  protected readonly front: FrontNodes;
  /** The way to the front end's pages, anew with every connection. */
  protected grants: GuestGrants;
  private readonly errorPath: string;
  private readonly watches: (() => void)[] = [];
  private readonly channels: EventChannel[] = [];
  private connected = false;
  /** In-flight work of an earlier connection is awaited before the next step. */
  private settling = false;
  private broken = false;
  private gone = false;

  constructor(
    protected readonly host: BackendHost,
    readonly guest: Domain,
    /** `vbd`, `vif`, … */
    readonly kind: string,
    readonly devid: number,
  ) {
    const paths = devicePaths(kind, guest.domid, devid, host.dom0.domid);
    this.frontPath = paths.front;
    this.backPath = paths.back;
    this.errorPath = `${domainPath(host.dom0.domid)}/error/backend/${kind}/${guest.domid}/${devid}`;
    this.front = new FrontNodes(host.xs, this.frontPath);
    this.grants = new GuestGrants(guest, host.dom0.domid);
  }

  // --- what a device class says -------------------------------------------------------------------------------------------------

  /** Write what the front end may choose from (features, limits), before InitWait. Paths are under `backPath`. */
  protected abstract advertise(t: StoreAccess): void;
  /**
   * The front end has published its rings: read `this.front`, make rings with `this.ring`, bind with `this.bind`. What goes wrong is
   * thrown as a DeviceError.
   */
  protected abstract connect(): void;
  /** Write what the front end reads once connected (sizes), with the step to Connected. */
  protected describe(_t: StoreAccess): void {}
  /**
   * The connection ends: forget rings and requests. Channels and mappings go right after. A promise says when work in flight (on files)
   * is done; the next step of the handshake waits for it.
   */
  protected abstract disconnect(): Promise<void> | void;
  /** The device is gone: give back what it holds of the host. */
  protected closed(): void {}

  // --- for device classes -------------------------------------------------------------------------------------------------------

  /** Map a ring of one or more pages. */
  protected ring(refs: readonly number[], requestSize: number, responseSize: number): SharedRing {
    return new SharedRing(this.grants.pages(refs), requestSize, responseSize);
  }
  /** Bind to the front end's port; `onEvent` runs between grains of guest work and may throw. */
  protected bind(guestPort: number, onEvent: () => void): EventChannel {
    const channel = new EventChannel(this.host.dom0, this.guest, guestPort, () => {
      if (!this.connected || this.broken) return;
      this.metrics.events++;
      this.guard(onEvent);
    });
    this.channels.push(channel);
    return channel;
  }
  /** Tell the front end, and count it. */
  protected notify(channel: EventChannel): void {
    this.metrics.notifications++;
    channel.notify();
  }
  /** Run `fn` between grains, as a callback of this device (completions of the host's work). */
  protected later(fn: () => void): void {
    this.host.dom0.xen.post(() => this.guard(fn));
  }
  get isConnected(): boolean {
    return this.connected && !this.broken;
  }
  get isGone(): boolean {
    return this.gone;
  }

  /** Stop the device: the reason goes to its error node and to Xen's log, its state to Closing. */
  protected fatal(message: string, errno = EIO): void {
    if (this.gone || this.broken) return;
    this.metrics.fatal++;
    this.lastError = `-${errno} ${message}`;
    this.host.dom0.xen.console.log(`d${this.guest.domid} ${this.kind}/${this.devid}: ${this.lastError}`);
    this.broken = true;
    this.quietly(() => this.host.xs.write(`${this.errorPath}/error`, this.lastError));
    this.stop(() => this.setState(XenbusState.Closing));
  }

  /** Nothing gets out but a broken invariant of the hypervisor itself. */
  protected guard(fn: () => void): void {
    try {
      fn();
    } catch (e) {
      if (e instanceof InvariantError) throw e;
      if (e instanceof DeviceError) this.fatal(e.message, e.errno);
      else this.fatal(`internal error: ${e instanceof Error ? e.message : String(e)}`);
    }
  }
  private quietly(fn: () => void): void {
    try {
      fn();
    } catch (e) {
      if (e instanceof InvariantError) throw e;
    }
  }

  // --- the handshake ------------------------------------------------------------------------------------------------------------

  /** The toolstack has written the nodes: offer the device. */
  start(): void {
    this.guard(() => {
      this.offer();
      const watch = (path: string, onChange: () => void): void => {
        this.watches.push(this.host.xs.watch(path, () => this.guard(onChange)));
      };
      watch(`${this.backPath}/state`, () => this.backChanged());
      watch(`${this.frontPath}/state`, () => this.frontChanged());
    });
  }

  private offer(): void {
    this.broken = false;
    this.host.xs.transaction((t) => {
      this.advertise(t);
      t.write(`${this.backPath}/state`, XenbusState.InitWait);
    });
    this.state = XenbusState.InitWait;
  }

  private setState(state: XenbusState): void {
    if (this.state === state || this.gone) return;
    this.state = state;
    this.quietly(() => {
      // Only where the device is still there: a write must not make half a directory anew.
      if (this.host.xs.exists(`${this.backPath}/state`)) this.host.xs.write(`${this.backPath}/state`, state);
    });
  }

  /** `online` 0: the device is to go for good when it is closed. */
  private get online(): boolean {
    return this.host.xs.read(`${this.backPath}/online`) === "1";
  }

  /** The toolstack asks for something by the back end's own state (unplug: Closing), or has removed the nodes. */
  private backChanged(): void {
    if (this.gone) return;
    const text = this.host.xs.read(`${this.backPath}/state`);
    if (text === null) return this.destroy();
    const state = parseState(text);
    if (state === this.state) return;
    if (state !== XenbusState.Closing && state !== XenbusState.Closed) return;
    this.state = state;
    const front = this.frontState();
    // Nobody there to close it from the other side.
    if (state === XenbusState.Closed || front <= XenbusState.Initialising || front === XenbusState.Closed) {
      this.stop(() => this.finishClose());
    }
  }

  private frontState(): XenbusState {
    return parseState(this.host.xs.read(`${this.frontPath}/state`));
  }

  private frontChanged(): void {
    if (this.gone || this.settling) return;
    switch (this.frontState()) {
      case XenbusState.Initialising:
        // A new kernel in the domain (reboot in place, kexec, crash kernel), or a driver that was loaded again.
        if (this.state !== XenbusState.InitWait && (this.state !== XenbusState.Closing || this.online)) {
          this.stop(() => this.offer());
        }
        break;
      case XenbusState.Initialised:
      case XenbusState.Connected:
        if (this.state === XenbusState.InitWait || (this.state === XenbusState.Closed && this.online)) this.establish();
        break;
      case XenbusState.Closing:
        this.stop(() => this.setState(XenbusState.Closing));
        break;
      case XenbusState.Closed:
        this.stop(() => this.finishClose());
        break;
      case XenbusState.Unknown:
        // The front end's directory is gone.
        if (this.state !== XenbusState.InitWait || !this.online) this.stop(() => this.finishClose());
        break;
      default:
        break;
    }
  }

  private establish(): void {
    this.broken = false;
    this.grants = new GuestGrants(this.guest, this.host.dom0.domid);
    this.connected = true;
    this.connect();
    this.host.xs.transaction((t) => {
      this.describe(t);
      t.write(`${this.backPath}/state`, XenbusState.Connected);
    });
    this.state = XenbusState.Connected;
    this.metrics.connections++;
    if (this.lastError !== "") {
      this.lastError = "";
      this.clearError();
    }
  }

  private clearError(): void {
    this.quietly(() => {
      const xs = this.host.xs;
      const top = `${domainPath(this.host.dom0.domid)}/error`;
      if (!xs.rm(this.errorPath)) return;
      for (let p = this.errorPath; (p = p.slice(0, p.lastIndexOf("/"))).length >= top.length;) {
        if (xs.list(p)?.length !== 0) break;
        xs.rm(p);
      }
    });
  }

  /** End the connection if there is one, then go on with `next`. */
  private stop(next: () => void): void {
    if (this.settling) return;
    if (!this.connected) return next();
    const pending = this.release();
    if (pending === undefined) return next();
    this.settling = true;
    const done = (): void =>
      this.host.dom0.xen.post(() => {
        this.settling = false;
        if (this.gone) return;
        this.guard(() => {
          next();
          this.frontChanged();
        });
      });
    pending.then(done, done);
  }

  private release(): Promise<void> | undefined {
    this.connected = false;
    let pending: Promise<void> | void = undefined;
    try {
      pending = this.disconnect();
    } finally {
      for (const c of this.channels.splice(0)) c.close();
      this.grants.close();
    }
    return pending ?? undefined;
  }

  private finishClose(): void {
    this.setState(XenbusState.Closed);
    if (!this.online) this.destroy();
  }

  /** End the device at once, whatever the front end does (its domain is destroyed, a forced detach). Does nothing the second time. */
  destroy(): void {
    if (this.gone) return;
    this.quietly(() => {
      if (this.connected) void this.release();
    });
    this.gone = true;
    this.quietly(() => {
      for (const unwatch of this.watches.splice(0)) unwatch();
    });
    if (this.lastError !== "") this.clearError();
    this.quietly(() => this.closed());
    this.onGone();
  }

  /** For status lists. */
  toString(): string {
    return `${this.kind}/${this.guest.domid}/${this.devid} ${stateName(this.state)}`;
  }
}
