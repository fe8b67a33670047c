/**
 * The back end of a network interface (netif): frames between one domain's xen-netfront and a port of a network.
 *
 * Invariants: plugged in to the network only while connected; what another domain's front end does wrong while it is handed a frame ends its
 * own vif, never the sender's; frames wait in a bounded queue for the guest's buffers, and are lost beyond it.
 */
import type { Domain } from "../../hypervisor/domain.js";
import type { StoreAccess } from "../../xenstore/client.js";
import { BackendDevice, type BackendHost } from "../xenbus/device.js";
import { parseState, XenbusState } from "../xenbus/states.js";
import type { FrameSink, PortOptions } from "./bridge.js";
import { newVifMetrics } from "./metrics.js";
import { flowHash, type Packet } from "./packet.js";
import { PcapWriter } from "./pcap.js";
import { type RxAbilities, RxQueue, TxQueue } from "./protocol.js";
import { VifQueue, type QueueOwner } from "./queue.js";
import { MAX_QUEUES, readFront, readHeadroom } from "./state.js";
import { TokenBucket } from "./token-bucket.js";

/** Queues offered where nothing else is said: as a domain 0 of four CPUs does. */
const DEFAULT_QUEUES = 4;

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
  /** Queues offered (multi-queue-max-queues), 1 to 8. Default 4. */
  readonly queues?: number;
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
  private queues: readonly VifQueue[] = [];
  private readonly unwatch: (() => void)[] = [];

  constructor(
    host: BackendHost,
    guest: Domain,
    devid: number,
    readonly options: VifOptions,
  ) {
    super(host, guest, "vif", devid);
  }

  private get maxQueues(): number {
    return Math.min(MAX_QUEUES, Math.max(1, this.options.queues ?? DEFAULT_QUEUES));
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
      ["multi-queue-max-queues", this.maxQueues],
    ];
    for (const [name, value] of features) t.write(`${this.backPath}/${name}`, value);
    // What the hotplug script says once the interface is on its bridge.
    t.write(`${this.backPath}/hotplug-status`, "connected");
  }

  protected connect(): void {
    const { xen } = this.guest;
    const now = (): number => xen.clock.now();
    const front = readFront(this.front, this.maxQueues);
    const able: RxAbilities = {
      sg: front.sg,
      gsoV4: front.gsoV4,
      gsoV6: front.gsoV6,
      csumV4: front.csumV4,
      csumV6: front.csumV6,
      multicastControl: front.multicastControl,
    };
    const { rate, mtu = 1500 } = this.options;
    // The interface's rate, however many queues it uses.
    const bucket = rate === undefined ? null : new TokenBucket(rate.bytes, rate.intervalNs, now());
    const groups = new Set<number>();
    const owner: QueueOwner = {
      timers: xen.timers,
      now,
      notify: (channel) => this.notify(channel),
      later: (fn) => this.later(fn),
      rxNotify: front.rxNotify,
    };
    const queues = front.queues.map((q) => {
      const accept = (p: Packet): void => this.fromGuest(p);
      const tx = new TxQueue(this.grants.pages([q.txRef]), this.grants, this.metrics, now, accept, groups);
      tx.bucket = bucket;
      const rx = new RxQueue(this.grants.pages([q.rxRef]), this.grants, this.metrics, now, able, mtu, groups);
      rx.headroom = front.headroom;
      const queue = new VifQueue(owner, tx, rx);
      if (q.txPort === q.rxPort) {
        queue.txChannel = queue.rxChannel = this.bind(q.txPort, () => {
          queue.runTx();
          queue.flushRx();
        });
      } else {
        queue.txChannel = this.bind(q.txPort, () => queue.runTx());
        queue.rxChannel = this.bind(q.rxPort, () => queue.flushRx());
      }
      return queue;
    });
    this.queues = queues;
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
          if (this.queues !== queues || parseState(xs.read(`${this.frontPath}/state`)) !== XenbusState.Reconfiguring)
            return;
          const headroom = readHeadroom(this.front);
          for (const q of queues) q.rx.headroom = headroom;
          this.state = XenbusState.Reconfigured;
          xs.write(`${this.backPath}/state`, this.state);
        }),
      ),
    );
  }

  protected disconnect(): void {
    for (const q of this.queues) q.close();
    for (const f of this.unwatch.splice(0)) f();
    this.port?.detach();
    this.port = null;
    this.queues = [];
  }

  // --- frames -------------------------------------------------------------------------------------------------------------------

  private fromGuest(p: Packet): void {
    for (const tap of this.taps) tap(p, true);
    this.port?.send(p);
  }

  /** A frame from the network: those of one flow keep their queue, and so their order. */
  private toGuest(p: Packet): void {
    const { queues } = this;
    const queue = queues.length > 1 ? queues[flowHash(p.data) % queues.length] : queues[0];
    if (!this.isConnected || queue === undefined) return;
    for (const tap of this.taps) tap(p, false);
    this.guard(() => queue.add(p));
  }
}
