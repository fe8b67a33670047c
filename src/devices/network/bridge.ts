/**
 * A learning Ethernet switch in software. Vifs, the NAT and links to other hosts are its ports.
 *
 * Invariants: a frame never leaves by the port it came in by, nor outside its VLAN; a port can neither fill the address table (each has its share of it)
 * nor move the address of a filtered port; frames to the reserved group addresses 01-80-C2-00-00-0x stay on their link.
 */
import { ETHERTYPE_VLAN, be16, isGroup, macAt, type Packet, put16 } from "./packet.js";
import { TokenBucket } from "./token-bucket.js";

/** What is plugged in takes frames with this. */
export type FrameSink = (packet: Packet) => void;

export interface PortOptions {
  /** For lists and messages: "vif1.0". */
  readonly name?: string;
  /** Only these source addresses may send through this port. */
  readonly macs?: readonly number[];
  /** Untagged frames of this port belong to this VLAN (default 0: none). */
  readonly vlan?: number;
  /** Tagged frames of these VLANs pass in both directions; "all" for a trunk. Default: none. */
  readonly trunk?: readonly number[] | "all";
  /** Frames from the port above this rate are dropped. */
  readonly rate?: { readonly bytes: number; readonly intervalNs: number };
}

export interface BridgeOptions {
  /** ns after which an address that was not heard of is forgotten. Default 300 s, as Linux. */
  readonly ageingNs?: number;
  /** Addresses in all. Default 4096. */
  readonly maxAddresses?: number;
  /** Addresses behind one port. Default 256. */
  readonly maxPerPort?: number;
}

export interface PortCounters {
  rxFrames: number;
  rxBytes: number;
  txFrames: number;
  txBytes: number;
  filtered: number;
  rateDropped: number;
}

/** An address in the table. */
interface Station {
  readonly mac: number;
  readonly vlan: number;
  port: BridgePort;
  seen: number;
}

const VLAN_MASK = 0xfff;
/** 01-80-C2-00-00-00 to -0F: for the bridge itself. */
const RESERVED_GROUPS = 0x0180c2000000;

export class BridgePort {
  readonly counters: PortCounters = { rxFrames: 0, rxBytes: 0, txFrames: 0, txBytes: 0, filtered: 0, rateDropped: 0 };
  /** @internal Addresses behind it, oldest first. */
  readonly stations = new Set<Station>();
  private readonly bucket: TokenBucket | null;
  /** The addresses it is bound to, if it is. */
  readonly macs: ReadonlySet<number> | null;
  private readonly trunk: ReadonlySet<number> | "all";
  readonly name: string;
  readonly vlan: number;
  attached = true;

  constructor(
    readonly bridge: Bridge,
    private readonly sink: FrameSink,
    options: PortOptions,
    now: number,
  ) {
    this.name = options.name ?? "port";
    this.vlan = (options.vlan ?? 0) & VLAN_MASK;
    this.macs = options.macs === undefined ? null : new Set(options.macs);
    this.trunk = options.trunk === "all" ? "all" : new Set(options.trunk ?? []);
    this.bucket = options.rate === undefined ? null : new TokenBucket(options.rate.bytes, options.rate.intervalNs, now);
  }

  /** A frame from what is plugged in here. */
  send(packet: Packet): void {
    if (!this.attached) return;
    const { data } = packet;
    this.counters.rxFrames++;
    this.counters.rxBytes += data.length;
    if (data.length < 14 || isGroup(data, 6) || (this.macs !== null && !this.macs.has(macAt(data, 6)))) {
      this.counters.filtered++;
      return;
    }
    let vlan = this.vlan;
    if (be16(data, 12) === ETHERTYPE_VLAN && data.length >= 18) {
      const tag = be16(data, 14) & VLAN_MASK;
      // A priority tag (VLAN 0) says nothing of membership.
      if (tag !== 0) {
        if (!this.carries(tag)) {
          this.counters.filtered++;
          return;
        }
        vlan = tag;
      }
    }
    if (this.bucket !== null && this.bucket.take(data.length, this.bridge.now()) !== 0) {
      this.counters.rateDropped++;
      return;
    }
    this.bridge.forward(this, packet, vlan);
  }

  private carries(vlan: number): boolean {
    return this.trunk === "all" || this.trunk.has(vlan);
  }
  member(vlan: number): boolean {
    return vlan === this.vlan || (vlan !== 0 && this.carries(vlan));
  }
  /** @internal Hand a frame of a VLAN out, with the tag as this port has it. */
  deliver(packet: Packet, vlan: number): void {
    const tagged = packet.data.length >= 18 && be16(packet.data, 12) === ETHERTYPE_VLAN;
    const wanted = vlan !== this.vlan;
    let p = packet;
    if (wanted && !tagged) p = { ...packet, data: addTag(packet.data, vlan) };
    else if (!wanted && tagged && vlan !== 0) p = { ...packet, data: dropTag(packet.data) };
    this.counters.txFrames++;
    this.counters.txBytes += p.data.length;
    this.sink(p);
  }
  detach(): void {
    if (!this.attached) return;
    this.attached = false;
    this.bridge.forget(this);
  }
}

function addTag(data: Uint8Array, vlan: number): Uint8Array {
  const out = new Uint8Array(data.length + 4);
  out.set(data.subarray(0, 12));
  put16(out, 12, ETHERTYPE_VLAN);
  put16(out, 14, vlan);
  out.set(data.subarray(12), 16);
  return out;
}
function dropTag(data: Uint8Array): Uint8Array {
  const out = new Uint8Array(data.length - 4);
  out.set(data.subarray(0, 12));
  out.set(data.subarray(16), 12);
  return out;
}

export class Bridge {
  private readonly portSet = new Set<BridgePort>();
  /** By VLAN, then by address. */
  private readonly tables = new Map<number, Map<number, Station>>();
  private size = 0;
  private readonly ageingNs: number;
  private readonly maxAddresses: number;
  private readonly maxPerPort: number;

  constructor(
    readonly name: string,
    /** Nanoseconds of the machine's clock. */
    readonly now: () => number,
    options: BridgeOptions = {},
  ) {
    this.ageingNs = options.ageingNs ?? 300e9;
    this.maxAddresses = options.maxAddresses ?? 4096;
    this.maxPerPort = options.maxPerPort ?? 256;
  }

  get ports(): readonly BridgePort[] {
    return [...this.portSet];
  }
  /** How many addresses are known. */
  get addresses(): number {
    return this.size;
  }

  attach(sink: FrameSink, options: PortOptions = {}): BridgePort {
    const port = new BridgePort(this, sink, options, this.now());
    this.portSet.add(port);
    return port;
  }

  /** @internal */
  forget(port: BridgePort): void {
    this.portSet.delete(port);
    for (const s of port.stations) this.drop(s);
  }

  /** @internal */
  forward(from: BridgePort, packet: Packet, vlan: number): void {
    const { data } = packet;
    this.learn(from, macAt(data, 6), vlan);
    const to = macAt(data, 0);
    if (isGroup(data, 0)) {
      if (to < RESERVED_GROUPS || to >= RESERVED_GROUPS + 16) this.flood(from, packet, vlan);
      return;
    }
    const port = this.lookup(to, vlan);
    if (port === null) this.flood(from, packet, vlan);
    else if (port !== from && port.member(vlan)) port.deliver(packet, vlan);
  }

  private flood(from: BridgePort, packet: Packet, vlan: number): void {
    // A copy: what a frame brings about may add or remove ports.
    for (const p of [...this.portSet]) if (p !== from && p.attached && p.member(vlan)) p.deliver(packet, vlan);
  }

  /** The port behind which an address is, or null. */
  lookup(mac: number, vlan = 0): BridgePort | null {
    const s = this.tables.get(vlan)?.get(mac);
    if (s === undefined) return null;
    if (this.now() - s.seen <= this.ageingNs) return s.port;
    this.drop(s);
    return null;
  }

  private drop(s: Station): void {
    const table = this.tables.get(s.vlan);
    if (table?.delete(s.mac) !== true) return;
    if (table.size === 0) this.tables.delete(s.vlan);
    s.port.stations.delete(s);
    this.size--;
  }

  private learn(port: BridgePort, mac: number, vlan: number): void {
    const now = this.now();
    const s = this.tables.get(vlan)?.get(mac);
    if (s !== undefined) {
      if (s.port !== port) {
        if (s.port.macs?.has(mac) === true) return;
        s.port.stations.delete(s);
        s.port = port;
        port.stations.add(s);
      }
      s.seen = now;
    } else {
      if (this.size >= this.maxAddresses && !this.expire(now)) return;
      let table = this.tables.get(vlan);
      if (table === undefined) this.tables.set(vlan, (table = new Map()));
      const fresh = { mac, vlan, port, seen: now };
      table.set(mac, fresh);
      port.stations.add(fresh);
      this.size++;
    }
    // The port's oldest address makes room for its newest.
    if (port.stations.size > this.maxPerPort) this.drop(port.stations.values().next().value as Station);
  }
  /** Forget what is too old; false if nothing was. */
  private expire(now: number): boolean {
    const before = this.size;
    for (const table of [...this.tables.values()])
      for (const s of table.values()) if (now - s.seen > this.ageingNs) this.drop(s);
    return this.size < before;
  }
}
