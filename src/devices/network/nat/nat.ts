/**
 * User-mode NAT: a gateway for guests that reaches the host's network through ordinary sockets, so that no root is needed. It answers ARP and DHCP, echoes
 * ping, relays DNS, and ends TCP and UDP of the guests in sockets of the host (RFC 9293, 4787). Addresses by default as QEMU's and slirp's: network
 * 10.0.2.0/24, gateway 10.0.2.2 (which is also the host's loopback), name server 10.0.2.3, guests from 10.0.2.15 on.
 *
 * Invariants: every table is bounded; a guest speaks only for addresses within its network; what a socket brings enters through `host.post`.
 */
import { Bridge, type BridgePort, type FrameSink, type PortOptions } from "../bridge.js";
import {
  be16,
  BROADCAST,
  checksumOk,
  ETH_HLEN,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  fold,
  GSO_NONE,
  GSO_TCPV4,
  type Gso,
  IPPROTO_ICMP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  macAt,
  type Packet,
  parse,
  put16,
  sum,
} from "../packet.js";
import { Arp } from "./arp.js";
import { DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpServer } from "./dhcp.js";
import type { NatHost, NatTimer } from "./host.js";
import { type Datagram, formatIp, frames, type Ipv4, LIMITED_BROADCAST, parseIp, Reassembler } from "./ip.js";
import type { Listener, TcpHandlers, TcpSocket, UdpSocket } from "./sockets.js";
import { parseSegment, resetFor, type Segment, SYN, ACK, RST, TcpConnection, type TcpOwner } from "./tcp.js";
import { parseUdp, udpDatagram, UdpFlows } from "./udp.js";

/** A port of the host that leads to a guest. */
export interface Forward {
  readonly proto: "tcp" | "udp";
  /** Default 127.0.0.1. */
  readonly hostAddress?: string;
  /** 0: any; see `Nat.forward`'s promise. */
  readonly hostPort: number;
  /** Default: the first address that DHCP gives. */
  readonly guestAddress?: string;
  readonly guestPort: number;
}

export interface NatOptions {
  /** Default 10.0.2.2. */
  readonly gateway?: string;
  /** Bits of the network. Default 24. */
  readonly prefix?: number;
  /** Default 10.0.2.3. */
  readonly dns?: string;
  /** First address of DHCP. Default 10.0.2.15. */
  readonly dhcpStart?: string;
  /** Default 86400. */
  readonly leaseSeconds?: number;
  readonly domain?: string;
  /** Default 1500. */
  readonly mtu?: number;
  readonly forwards?: readonly Forward[];
  /** Guests reach nothing but the gateway's own services and forwarded ports. */
  readonly restrict?: boolean;
  /** Asked before anything is contacted, with the address on the host's side. */
  readonly allow?: (proto: "tcp" | "udp", address: string, port: number) => boolean;
  /** Plug in to this switch in place of one of its own. */
  readonly bridge?: Bridge;
}

export interface NatMetrics {
  framesIn: number;
  framesOut: number;
  badFrames: number;
  tcpOpened: number;
  tcpRefused: number;
  udpIn: number;
  udpOut: number;
  forwarded: number;
}

const MAX_TCP = 1024;
/** A connection that was silent for so long may make room for a new one. */
const TCP_IDLE_NS = 60e9;
const SWEEP_NS = 30e9;
const FIRST_PORT = 49152;
const PORTS = 65536 - FIRST_PORT;
const LOOPBACK = "127.0.0.1";
const MAX_FORWARD_PEERS = 256;

export class Nat implements TcpOwner {
  readonly bridge: Bridge;
  readonly gateway: Ipv4;
  readonly dns: Ipv4;
  readonly mac: number;
  readonly metrics: NatMetrics = {
    framesIn: 0,
    framesOut: 0,
    badFrames: 0,
    tcpOpened: 0,
    tcpRefused: 0,
    udpIn: 0,
    udpOut: 0,
    forwarded: 0,
  };
  private readonly mask: Ipv4;
  private readonly mtu: number;
  private readonly dhcpStart: Ipv4;
  private readonly port: BridgePort;
  private readonly arp: Arp;
  private readonly dhcp: DhcpServer;
  private readonly reassembler = new Reassembler();
  private readonly udp: UdpFlows;
  private readonly tcp = new Map<string, TcpConnection>();
  private readonly forwards = new Set<() => void>();
  /** What a guest writes to for a peer of a forwarded UDP port. */
  private readonly forwardPeers = new Map<string, { socket: UdpSocket; address: string; port: number }>();
  private readonly sweeper: NatTimer;
  private sweeping = false;
  private nextPort = 0;
  private closedDown = false;

  constructor(
    private readonly host: NatHost,
    private readonly options: NatOptions = {},
  ) {
    const prefix = options.prefix ?? 24;
    if (!(prefix >= 8 && prefix <= 30)) throw new Error(`nat: a prefix of ${prefix} bits is not within 8 and 30`);
    this.gateway = parseIp(options.gateway ?? "10.0.2.2");
    this.mask = (0xffffffff << (32 - prefix)) >>> 0;
    const network = (this.gateway & this.mask) >>> 0;
    this.dns = options.dns === undefined ? network + 3 : parseIp(options.dns);
    this.dhcpStart = options.dhcpStart === undefined ? network + (prefix <= 24 ? 15 : 4) : parseIp(options.dhcpStart);
    this.mtu = options.mtu ?? 1500;
    this.mac = 0x525500000000 + this.gateway;
    for (const ip of [this.dns, this.dhcpStart])
      if (!this.inSubnet(ip))
        throw new Error(`nat: ${formatIp(ip)} is not within the network of ${formatIp(this.gateway)}`);
    this.bridge = options.bridge ?? new Bridge("nat", () => host.now());
    this.port = this.bridge.attach((p) => this.receive(p), { name: "nat" });
    this.arp = new Arp(
      host,
      this.mac,
      this.gateway,
      (ip) => this.ours(ip),
      (ip) => this.inSubnet(ip),
      (p) => this.send(p),
    );
    this.dhcp = new DhcpServer({
      server: this.gateway,
      router: this.gateway,
      dns: this.dns,
      mask: this.mask,
      first: this.dhcpStart,
      last: ((network | ~this.mask) >>> 0) - 1,
      mtu: this.mtu,
      leaseSeconds: options.leaseSeconds ?? 86400,
      ...(options.domain === undefined ? {} : { domain: options.domain }),
    });
    this.udp = new UdpFlows(host, (guest, guestPort, from, fromPort, data) => {
      this.metrics.udpIn++;
      this.datagram(guest, from, IPPROTO_UDP, udpDatagram(fromPort, guestPort, data));
    });
    this.sweeper = host.timer(() => this.sweep());
    for (const f of options.forwards ?? []) this.forward(f).catch(() => {});
  }

  /** Plug a vif in. */
  attach(sink: FrameSink, options?: PortOptions): BridgePort {
    return this.bridge.attach(sink, options);
  }
  /** Connections of guests that exist now. */
  get connections(): number {
    return this.tcp.size;
  }
  get leases(): readonly { mac: number; ip: Ipv4 }[] {
    return this.dhcp.addresses;
  }

  close(): void {
    if (this.closedDown) return;
    this.closedDown = true;
    for (const c of [...this.tcp.values()]) c.reset();
    for (const f of [...this.forwards]) f();
    this.udp.close();
    this.arp.close();
    this.sweeper.stop();
    this.port.detach();
  }

  private ours(ip: Ipv4): boolean {
    return ip === this.gateway || ip === this.dns;
  }
  private inSubnet(ip: Ipv4): boolean {
    return (ip & this.mask) >>> 0 === (this.gateway & this.mask) >>> 0;
  }

  // --- frames -------------------------------------------------------------------------------------------------------------------

  private send(p: Packet): void {
    this.metrics.framesOut++;
    this.port.send(p);
  }

  private receive(p: Packet): void {
    const { data } = p;
    const to = macAt(data, 0);
    if (this.closedDown || (to !== this.mac && to !== BROADCAST)) return;
    this.metrics.framesIn++;
    const type = be16(data, 12);
    if (type === ETHERTYPE_ARP) {
      this.arp.receive(data);
      return;
    }
    if (type !== ETHERTYPE_IPV4) return;
    const at = parse(data);
    // A checksum that was left blank is nobody's to check: the frame has not left this host.
    if (at === null || (!p.csumBlank && !p.validated && !checksumOk(data, at))) {
      this.metrics.badFrames++;
      return;
    }
    const d = this.reassembler.take(data, ETH_HLEN, this.host.now());
    if (d === null) return;
    const mac = macAt(data, 6);
    if (d.proto === IPPROTO_UDP && this.takesDhcp(d)) return;
    if (!this.inSubnet(d.src) || this.ours(d.src) || d.src === this.broadcastAddress || to === BROADCAST) return;
    this.arp.learn(d.src, mac);
    switch (d.proto) {
      case IPPROTO_ICMP:
        this.icmp(d);
        break;
      case IPPROTO_UDP:
        this.udpOut(d);
        break;
      case IPPROTO_TCP:
        this.tcpIn(d);
        break;
      default:
        this.refuse(d, 2);
    }
  }
  private get broadcastAddress(): Ipv4 {
    return (this.gateway | ~this.mask) >>> 0;
  }

  /** Send a datagram to a guest, once its Ethernet address is known. `cut`: for the receiver to cut. */
  private datagram(to: Ipv4, from: Ipv4, proto: number, payload: Uint8Array, cut = 0): void {
    if (!this.inSubnet(to)) return;
    this.arp.resolve(to, (mac) => {
      const gso: Gso = cut > 0 ? GSO_TCPV4 : GSO_NONE;
      const s = { toMac: mac, fromMac: this.mac, src: from, dst: to, proto, payload, mtu: this.mtu, gso, gsoSize: cut };
      for (const p of frames(s)) this.send(p);
    });
  }

  // --- DHCP ---------------------------------------------------------------------------------------------------------------------

  private takesDhcp(d: Datagram): boolean {
    const u = parseUdp(d.payload);
    if (u === null || u.dstPort !== DHCP_SERVER_PORT || u.srcPort !== DHCP_CLIENT_PORT) return false;
    if (d.dst !== LIMITED_BROADCAST && d.dst !== this.gateway && d.dst !== this.broadcastAddress) return false;
    const r = this.dhcp.handle(u.data, this.host.now());
    if (r === null) return true;
    const payload = udpDatagram(DHCP_SERVER_PORT, DHCP_CLIENT_PORT, r.message);
    // To the client's Ethernet address, which has no IP address yet that it would answer ARP for.
    const out = frames({
      toMac: r.to === null ? BROADCAST : r.mac,
      fromMac: this.mac,
      src: this.gateway,
      dst: r.to ?? LIMITED_BROADCAST,
      proto: IPPROTO_UDP,
      payload,
      mtu: this.mtu,
    });
    for (const p of out) this.send(p);
    return true;
  }

  // --- ICMP ---------------------------------------------------------------------------------------------------------------------

  private icmp(d: Datagram): void {
    const b = d.payload;
    if (b.length < 8 || fold(sum(b, 0, b.length)) !== 0xffff) return;
    if (b[0] !== 8) return;
    if (!this.ours(d.dst)) {
      // Only the gateway can be pinged: raw sockets are for root.
      this.refuse(d, 13);
      return;
    }
    const reply = b.slice();
    reply[0] = 0;
    put16(reply, 2, 0);
    put16(reply, 2, fold(sum(reply, 0, reply.length)) ^ 0xffff);
    this.datagram(d.src, d.dst, IPPROTO_ICMP, reply);
  }

  /** Destination unreachable (never for errors and fragments of them). */
  private refuse(d: Datagram, code: number): void {
    if (d.dst === LIMITED_BROADCAST || d.dst >>> 28 === 14 || d.dst === this.broadcastAddress) return;
    if (d.proto === IPPROTO_ICMP && d.payload[0] !== 8) return;
    this.unreachableTo(d.src, code, d.header, d.payload);
  }
  private unreachableTo(guest: Ipv4, code: number, header: Uint8Array, payload: Uint8Array): void {
    const quoted = payload.subarray(0, 8);
    const b = new Uint8Array(8 + header.length + quoted.length);
    b[0] = 3;
    b[1] = code;
    b.set(header, 8);
    b.set(quoted, 8 + header.length);
    put16(b, 2, fold(sum(b, 0, b.length)) ^ 0xffff);
    this.datagram(guest, this.gateway, IPPROTO_ICMP, b);
  }

  // --- where guests may go ------------------------------------------------------------------------------------------------------

  private route(proto: "tcp" | "udp", ip: Ipv4, port: number): { address: string; port: number } | null {
    let to: { address: string; port: number } | null;
    if (ip === this.dns) to = port === 53 ? this.host.sockets.nameServer() : null;
    else if (this.options.restrict === true) return null;
    else if (ip === this.gateway) to = { address: LOOPBACK, port };
    // Other guests are on the switch; 0/8 and 127/8 are not for the wire; multicast and reserved addresses are not relayed.
    else if (this.inSubnet(ip) || ip >>> 24 === 0 || ip >>> 24 === 127 || ip >>> 28 >= 14) to = null;
    else to = { address: formatIp(ip), port };
    return to !== null && (this.options.allow?.(proto, to.address, to.port) ?? true) ? to : null;
  }

  // --- UDP ----------------------------------------------------------------------------------------------------------------------

  private udpOut(d: Datagram): void {
    const u = parseUdp(d.payload);
    if (u === null || u.dstPort === 0) return;
    if (d.dst === this.gateway) {
      const peer = this.forwardPeers.get(`${d.src}:${u.srcPort}:${u.dstPort}`);
      if (peer !== undefined) {
        this.metrics.udpOut++;
        peer.socket.send(u.data.slice(), peer.address, peer.port);
        return;
      }
    }
    const to = this.route("udp", d.dst, u.dstPort);
    if (to === null) {
      this.refuse(d, this.ours(d.dst) ? 3 : 13);
      return;
    }
    this.metrics.udpOut++;
    this.udp.send(d.src, u.srcPort, d.dst, u.dstPort, to.address, to.port, u.data.slice());
    this.keepSweeping();
  }

  private keepSweeping(): void {
    if (this.sweeping) return;
    this.sweeping = true;
    this.sweeper.set(this.host.now() + SWEEP_NS);
  }
  private sweep(): void {
    this.sweeping = false;
    if (this.udp.sweep()) this.keepSweeping();
  }

  // --- TCP ----------------------------------------------------------------------------------------------------------------------

  private tcpIn(d: Datagram): void {
    const s = parseSegment(d.payload);
    if (s === null || s.dstPort === 0 || s.srcPort === 0) return;
    const key = `${d.src}:${s.srcPort}:${d.dst}:${s.dstPort}`;
    const c = this.tcp.get(key);
    if (c !== undefined) {
      if (c.state !== "lingering" || (s.flags & (SYN | ACK)) !== SYN) {
        c.segment(s);
        return;
      }
      c.reset(); // a new connection with an old one's ports
    }
    if ((s.flags & (SYN | ACK | RST)) !== SYN) {
      this.resetTo(d, s);
      return;
    }
    const to = this.route("tcp", d.dst, s.dstPort);
    if (to === null || !this.roomForTcp()) {
      this.metrics.tcpRefused++;
      this.resetTo(d, s);
      return;
    }
    const made = new TcpConnection(this.host, this, d.src, s.srcPort, d.dst, s.dstPort, this.mtu, false);
    this.tcp.set(key, made);
    this.metrics.tcpOpened++;
    made.begin(s);
    made.attach(this.host.sockets.connectTcp(to.address, to.port, this.posted(made)));
  }

  private resetTo(d: Datagram, s: Segment): void {
    const r = resetFor(s);
    if (r !== null) this.datagram(d.src, d.dst, IPPROTO_TCP, r);
  }

  private roomForTcp(): boolean {
    if (this.tcp.size < MAX_TCP) return true;
    let oldest: TcpConnection | null = null;
    for (const c of this.tcp.values()) if (oldest === null || c.lastHeard < oldest.lastHeard) oldest = c;
    if (oldest === null || this.host.now() - oldest.lastHeard < TCP_IDLE_NS) return false;
    oldest.reset();
    return true;
  }

  /** A connection's handlers, called between grains. */
  private posted(c: TcpConnection): TcpHandlers {
    const { host } = this;
    return {
      connected: () => host.post(() => c.connected()),
      data: (bytes) => host.post(() => c.data(bytes)),
      drained: () => host.post(() => c.drained()),
      ended: () => host.post(() => c.ended()),
      closed: (error) => host.post(() => c.closed(error)),
    };
  }

  /** @internal */
  emit(c: TcpConnection, segment: Uint8Array, cut: number): void {
    this.datagram(c.guestIp, c.peerIp, IPPROTO_TCP, segment, cut);
  }
  /** @internal */
  unreachable(c: TcpConnection, code: string): boolean {
    const icmp = code === "ENETUNREACH" ? 0 : code === "EHOSTUNREACH" || code === "ETIMEDOUT" ? 1 : -1;
    if (icmp < 0) return false;
    // The header of the SYN, as far as an error quotes it.
    const header = new Uint8Array(20);
    header[0] = 0x45;
    header[9] = IPPROTO_TCP;
    for (let i = 0; i < 4; i++) {
      header[12 + i] = c.guestIp >>> (24 - 8 * i);
      header[16 + i] = c.peerIp >>> (24 - 8 * i);
    }
    const ports = new Uint8Array(8);
    put16(ports, 0, c.guestPort);
    put16(ports, 2, c.peerPort);
    this.unreachableTo(c.guestIp, icmp, header, ports);
    return false; // the reset that follows ends it for those who overlook the error
  }
  /** @internal */
  finished(c: TcpConnection): void {
    const key = `${c.guestIp}:${c.guestPort}:${c.peerIp}:${c.peerPort}`;
    if (this.tcp.get(key) === c) this.tcp.delete(key);
  }

  // --- forwards -----------------------------------------------------------------------------------------------------------------

  /**
   * Lead a port of the host to a guest. Resolves with the host's port and how to stop, rejects where the port cannot be had.
   */
  forward(f: Forward): Promise<{ port: number; close: () => void }> {
    const guest = f.guestAddress === undefined ? null : parseIp(f.guestAddress);
    if (guest !== null && (!this.inSubnet(guest) || this.ours(guest)))
      throw new Error(`nat: ${formatIp(guest)} is no guest's address`);
    const target = (): Ipv4 => guest ?? this.dhcp.addresses[0]?.ip ?? this.dhcpStart;
    const address = f.hostAddress ?? LOOPBACK;
    return f.proto === "tcp" ? this.forwardTcp(f, address, target) : this.forwardUdp(f, address, target);
  }

  private takePort(used: (port: number) => boolean): number {
    for (let i = 0; i < PORTS; i++) {
      const port = FIRST_PORT + (this.nextPort++ % PORTS);
      if (!used(port)) return port;
    }
    return -1;
  }

  private forwardTcp(f: Forward, address: string, target: () => Ipv4): Promise<{ port: number; close: () => void }> {
    return new Promise((resolve, reject) => {
      const accept = (socket: TcpSocket): TcpHandlers | null => {
        const guest = target();
        if (this.closedDown || !this.roomForTcp()) return null;
        const port = this.takePort((p) => this.tcp.has(`${guest}:${f.guestPort}:${this.gateway}:${p}`));
        if (port < 0) return null;
        const c = new TcpConnection(this.host, this, guest, f.guestPort, this.gateway, port, this.mtu, true);
        this.tcp.set(`${guest}:${f.guestPort}:${this.gateway}:${port}`, c);
        this.metrics.forwarded++;
        c.attach(socket);
        this.host.post(() => c.open());
        return this.posted(c);
      };
      let listener: Listener | null = null;
      const close = (): void => {
        this.forwards.delete(close);
        listener?.close();
      };
      this.forwards.add(close);
      listener = this.host.sockets.listenTcp(address, f.hostPort, accept, {
        listening: (port) => resolve({ port, close }),
        failed: (error) => {
          close();
          reject(new Error(`nat: cannot listen on ${address}:${f.hostPort}: ${error}`));
        },
      });
    });
  }

  private forwardUdp(f: Forward, address: string, target: () => Ipv4): Promise<{ port: number; close: () => void }> {
    const mapped = new Map<string, string>();
    const socket = this.host.sockets.openUdp(
      {
        message: (bytes, from, fromPort) =>
          this.host.post(() => {
            const guest = target();
            const peer = `${guest} ${from}:${fromPort}`;
            let key = mapped.get(peer);
            if (key === undefined) {
              const port = this.takePort((p) => this.forwardPeers.has(`${guest}:${f.guestPort}:${p}`));
              if (port < 0) return;
              if (mapped.size >= MAX_FORWARD_PEERS) {
                const [first, old] = mapped.entries().next().value as [string, string];
                mapped.delete(first);
                this.forwardPeers.delete(old);
              }
              key = `${guest}:${f.guestPort}:${port}`;
              mapped.set(peer, key);
              this.forwardPeers.set(key, { socket, address: from, port: fromPort });
            }
            this.metrics.udpIn++;
            const port = Number(key.slice(key.lastIndexOf(":") + 1));
            this.datagram(guest, this.gateway, IPPROTO_UDP, udpDatagram(port, f.guestPort, bytes));
          }),
        failed: () => close(),
      },
      { address, port: f.hostPort },
    );
    const close = (): void => {
      this.forwards.delete(close);
      for (const key of mapped.values()) this.forwardPeers.delete(key);
      mapped.clear();
      socket.close();
    };
    this.forwards.add(close);
    return Promise.resolve({ port: f.hostPort, close });
  }
}
