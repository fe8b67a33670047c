/**
 * The back end of a network interface (netif): frames between one domain's xen-netfront and a port of a network.
 *
 * Invariants: plugged in to the network only while connected; what another domain's front end does wrong while it is handed a frame ends its
 * own vif, never the sender's; frames wait in a bounded queue for the guest's buffers, and are lost beyond it.
 */
import type { Domain } from "../../hypervisor/domain.js";
import { Timer } from "../../hypervisor/time/timers.js";
import type { StoreAccess } from "../../xenstore/client.js";
import { BackendDevice, type BackendHost } from "../xenbus/device.js";
import type { EventChannel } from "../xenbus/channel.js";
import { parseState, XenbusState } from "../xenbus/states.js";
import type { FrameSink, PortOptions } from "./bridge.js";
import { newVifMetrics } from "./metrics.js";
import { type Packet } from "./packet.js";
import { PcapWriter } from "./pcap.js";
import { type RxAbilities, RxQueue, TxQueue } from "./protocol.js";
import { MAX_QUEUES, readFront, readHeadroom } from "./state.js";
import { TokenBucket } from "./token-bucket.js";

/** A front end without feature-rx-notify is looked at this often while frames wait. */
const POLL_NS = 1e9 / 30;

/** A place in a network. */
export interface NetworkPort {
  send(packet: Packet): void;
  detach(): void;
}
/** What a vif is plugged in to: a bridge, or the NAT. */
export interface Network {
  attach(sink: FrameSink, options?: PortOptions): NetworkPort;
}

export interface VifOptions {
  readonly network: Network;
  readonly port?: PortOptions;
  /** Default 1500. */
  readonly mtu?: number;
  /** The guest's sending rate; it waits where it is used up. */
  readonly rate?: { readonly bytes: number; readonly intervalNs: number };
}

/** Sees every frame of a vif. */
export type Tap = (packet: Packet, fromGuest: boolean) => void;

export class VifBackend extends BackendDevice {
  readonly metrics = newVifMetrics();
  private readonly taps = new Set<Tap>();
  private port: NetworkPort | null = null;
  private tx: TxQueue | null = null;
  private rx: RxQueue | null = null;
  private txChannel: EventChannel | null = null;
  private rxChannel: EventChannel | null = null;
  private rxNotify = true;
  private inTx = false;
  private readonly unwatch: (() => void)[] = [];
  private readonly txTimer = new Timer(() => this.later(() => this.runTx()));
  private readonly rxTimer = new Timer(() => this.later(() => this.flushRx()));

  constructor(
    host: BackendHost,
    guest: Domain,
    devid: number,
    readonly options: VifOptions,
  ) {
    super(host, guest, "vif", devid);
  }

  get name(): string {
    return this.options.port?.name ?? `vif${this.guest.domid}.${this.devid}`;
  }

  /** Watch the frames of this vif; returns how to stop. */
  tap(tap: Tap): () => void {
    this.taps.add(tap);
    return () => this.taps.delete(tap);
  }
  /** Write the frames of this vif as a pcap file to `sink`; returns how to stop. */
  capture(sink: (bytes: Uint8Array) => void): () => void {
    const { clock } = this.guest.xen;
    const pcap = new PcapWriter(sink, () => clock.epochStart + clock.now());
    return this.tap((p) => pcap.write(p));
  }

  // --- XenBus -------------------------------------------------------------------------------------------------------------------

  protected advertise(t: StoreAccess): void {
    const features: readonly (readonly [string, number])[] = [
      ["feature-sg", 1],
      ["feature-gso-tcpv4", 1],
      ["feature-gso-tcpv6", 1],
      ["feature-ipv6-csum-offload", 1],
      ["feature-rx-copy", 1],
      ["feature-xdp-headroom", 1],
      ["feature-rx-flip", 0],
      ["feature-multicast-control", 1],
      ["feature-dynamic-multicast-control", 1],
      ["feature-split-event-channels", 1],
      ["multi-queue-max-queues", MAX_QUEUES],
    ];
    for (const [name, value] of features) t.write(`${this.backPath}/${name}`, value);
    // What the hotplug script says once the interface is on its bridge.
    t.write(`${this.backPath}/hotplug-status`, "connected");
  }

  protected connect(): void {
    const { xen } = this.guest;
    const now = (): number => xen.clock.now();
    const front = readFront(this.front);
    const able: RxAbilities = {
      sg: front.sg,
      gsoV4: front.gsoV4,
      gsoV6: front.gsoV6,
      csumV4: front.csumV4,
      csumV6: front.csumV6,
      multicastControl: front.multicastControl,
    };
    const tx = new TxQueue(this.grants.pages([front.txRef]), this.grants, this.metrics, now, (p) => this.fromGuest(p));
    const { rate, mtu = 1500 } = this.options;
    if (rate !== undefined) tx.bucket = new TokenBucket(rate.bytes, rate.intervalNs, now());
    const rx = new RxQueue(this.grants.pages([front.rxRef]), this.grants, this.metrics, now, able, mtu, tx.groups);
    rx.headroom = front.headroom;
    this.rxNotify = front.rxNotify;
    this.tx = tx;
    this.rx = rx;
    if (front.txPort === front.rxPort) {
      this.txChannel = this.rxChannel = this.bind(front.txPort, () => {
        this.runTx();
        this.flushRx();
      });
    } else {
      this.txChannel = this.bind(front.txPort, () => this.runTx());
      this.rxChannel = this.bind(front.rxPort, () => this.flushRx());
    }
    this.port = this.options.network.attach((p) => this.toGuest(p), { name: this.name, ...this.options.port });
    const { xs } = this.host;
    this.unwatch.push(
      xs.watch(`${this.frontPath}/request-multicast-control`, () =>
        this.guard(() => {
          able.multicastControl = this.front.flag("request-multicast-control");
        }),
      ),
      // An XDP program is set up or taken down: the front end waits for Reconfigured.
      xs.watch(`${this.frontPath}/state`, () =>
        this.guard(() => {
          if (this.rx !== rx || parseState(xs.read(`${this.frontPath}/state`)) !== XenbusState.Reconfiguring) return;
          rx.headroom = readHeadroom(this.front);
          this.state = XenbusState.Reconfigured;
          xs.write(`${this.backPath}/state`, this.state);
        }),
      ),
    );
  }

  protected disconnect(): void {
    const { timers } = this.guest.xen;
    timers.stop(this.txTimer);
    timers.stop(this.rxTimer);
    for (const f of this.unwatch.splice(0)) f();
    this.port?.detach();
    if (this.tx !== null) this.tx.closed = true;
    this.port = null;
    this.tx = this.rx = null;
    this.txChannel = this.rxChannel = null;
  }

  // --- frames -------------------------------------------------------------------------------------------------------------------

  private fromGuest(p: Packet): void {
    for (const tap of this.taps) tap(p, true);
    this.port?.send(p);
  }

  private runTx(): void {
    const { tx, txChannel } = this;
    if (tx === null || txChannel === null || this.inTx) return;
    let wait = 0;
    this.inTx = true;
    try {
      wait = tx.run();
    } finally {
      this.inTx = false;
    }
    if (this.tx !== tx) return;
    if (tx.push()) this.notify(txChannel);
    const { timers, clock } = this.guest.xen;
    if (wait > 0) timers.set(this.txTimer, clock.now() + wait);
    // Answers to what the guest sent waited until its requests were done.
    this.flushRx();
  }

  /** A frame from the network. */
  private toGuest(p: Packet): void {
    if (!this.isConnected || this.rx === null) return;
    for (const tap of this.taps) tap(p, false);
    this.guard(() => {
      this.rx?.add(p);
      if (!this.inTx) this.flushRx();
    });
  }

  private flushRx(): void {
    const { rx, rxChannel } = this;
    if (rx === null || rxChannel === null) return;
    if (rx.flush()) this.notify(rxChannel);
    const { timers, clock } = this.guest.xen;
    if (rx.waiting > 0 && !this.rxNotify) timers.set(this.rxTimer, clock.now() + POLL_NS);
  }
}
