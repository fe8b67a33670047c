/** For tests: a clock that is turned by hand, sockets that are scripted, and a guest that says exactly what it is told to. */
import { be16, be32, checksumOk, finishChecksum, macAt, type Packet, parse, segment, wire } from "../packet.js";
import { arpFrame } from "./arp.js";
import type { NatHost, NatTimer } from "./host.js";
import { frames, type Ipv4 } from "./ip.js";
import { Nat, type NatOptions } from "./nat.js";
import type { ListenHandlers, SocketProvider, TcpHandlers, TcpSocket, UdpHandlers } from "./sockets.js";
import { makeSegment, parseSegment, type Segment } from "./tcp.js";
import { parseUdp, udpDatagram } from "./udp.js";

export class FakeTcp implements TcpSocket {
  readonly written: Uint8Array[] = [];
  buffered = 0;
  ended = false;
  destroyed = false;
  paused = false;
  /** Keep what is written, as a host that does not read. */
  stuck = false;
  constructor(
    readonly address: string,
    readonly port: number,
    public handlers: TcpHandlers,
  ) {}
  write(b: Uint8Array): void {
    this.written.push(b);
    if (this.stuck) this.buffered += b.length;
  }
  end(): void {
    this.ended = true;
  }
  destroy(): void {
    this.destroyed = true;
  }
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  get text(): string {
    return this.written.map((b) => String.fromCharCode(...b)).join("");
  }
}

export class FakeHost implements NatHost, SocketProvider {
  time = 0;
  readonly sockets = this;
  readonly tcp: FakeTcp[] = [];
  readonly udp: {
    handlers: UdpHandlers;
    sent: { data: Uint8Array; address: string; port: number }[];
    closed: boolean;
  }[] = [];
  readonly listeners: {
    accept: (s: TcpSocket, address: string, port: number) => TcpHandlers | null;
    closed: boolean;
  }[] = [];
  private readonly timers = new Set<{ at: number; fire: () => void }>();

  now(): number {
    return this.time;
  }
  timer(fire: () => void): NatTimer {
    const t = { at: Infinity, fire };
    return {
      set: (at) => {
        t.at = at;
        this.timers.add(t);
      },
      stop: () => void this.timers.delete(t),
    };
  }
  get activeTimers(): number {
    return this.timers.size;
  }
  /** Let `ns` pass, timers firing in order. */
  pass(ns: number): void {
    const end = this.time + ns;
    for (;;) {
      let next: { at: number; fire: () => void } | null = null;
      for (const t of this.timers) if (t.at <= end && (next === null || t.at < next.at)) next = t;
      if (next === null) break;
      this.timers.delete(next);
      this.time = Math.max(this.time, next.at);
      next.fire();
    }
    this.time = end;
  }
  post(fn: () => void): void {
    fn();
  }
  random(): number {
    return 0.9999999;
  }
  connectTcp(address: string, port: number, handlers: TcpHandlers): TcpSocket {
    const s = new FakeTcp(address, port, handlers);
    this.tcp.push(s);
    return s;
  }
  listenTcp(
    _address: string,
    port: number,
    accept: (s: TcpSocket, address: string, port: number) => TcpHandlers | null,
    handlers: ListenHandlers,
  ): { close: () => void } {
    const l = { accept, closed: false };
    this.listeners.push(l);
    handlers.listening(port);
    return { close: () => void (l.closed = true) };
  }
  openUdp(handlers: UdpHandlers): {
    send: (data: Uint8Array, address: string, port: number) => void;
    close: () => void;
  } {
    const s = { handlers, sent: [] as { data: Uint8Array; address: string; port: number }[], closed: false };
    this.udp.push(s);
    return {
      send: (data, address, port) => void s.sent.push({ data, address, port }),
      close: () => void (s.closed = true),
    };
  }
  nameServer(): { address: string; port: number } {
    return { address: "127.0.0.53", port: 5353 };
  }
}

export const GUEST_MAC = 0x00163e000001;
export const GUEST: Ipv4 = 0x0a00020f;
export const GATEWAY: Ipv4 = 0x0a000202;

/** What the guest has received, looked into. */
export interface Seen {
  readonly to: number;
  readonly src: Ipv4;
  readonly dst: Ipv4;
  readonly proto: number;
  readonly payload: Uint8Array;
}

export class Net {
  readonly host = new FakeHost();
  readonly nat: Nat;
  /** Frames as the guest has them: cut, with checksums, each checked. */
  readonly inbox: Packet[] = [];
  /** Asked for each frame to the guest: is it lost? */
  lose: (p: Packet) => boolean = () => false;
  private readonly port;

  constructor(options: NatOptions = {}) {
    this.nat = new Nat(this.host, options);
    this.port = this.nat.attach((p) => {
      for (const s of segment(p)) {
        const f = finishChecksum(s);
        const at = parse(f.data);
        if (at === null || !checksumOk(f.data, at)) throw new Error("the NAT sent a bad frame");
        if (!this.lose(f)) this.inbox.push(f);
      }
    });
  }
  frame(p: Packet): void {
    this.port.send(p);
  }
  /** The guest is known, as after its ARP. */
  hello(): this {
    this.frame(arpFrame(1, 0xffffffffffff, GUEST_MAC, GUEST, 0, GATEWAY));
    this.inbox.length = 0;
    return this;
  }
  ip(dst: Ipv4, proto: number, payload: Uint8Array, src = GUEST, toMac = this.nat.mac, mtu = 1500): void {
    for (const p of frames({ toMac, fromMac: GUEST_MAC, src, dst, proto, payload, mtu }))
      this.frame(wire(finishChecksum(p).data));
  }
  seen(): Seen[] {
    return this.inbox.splice(0).map(({ data: d }) => ({
      to: macAt(d, 0),
      src: be16(d, 12) === 0x0800 ? be32(d, 26) : 0,
      dst: be16(d, 12) === 0x0800 ? be32(d, 30) : 0,
      proto: be16(d, 12) === 0x0800 ? (d[23] as number) : -1,
      payload: d.subarray(be16(d, 12) === 0x0800 ? 34 : 14, be16(d, 12) === 0x0800 ? 14 + be16(d, 16) : d.length),
    }));
  }
  udp(dst: Ipv4, srcPort: number, dstPort: number, data: Uint8Array, src = GUEST, mac = this.nat.mac): void {
    this.ip(dst, 17, udpDatagram(srcPort, dstPort, data), src, mac);
  }
  seenUdp(): { src: Ipv4; srcPort: number; dstPort: number; data: Uint8Array }[] {
    return this.seen()
      .filter((s) => s.proto === 17)
      .map((s) => ({ src: s.src, ...(parseUdp(s.payload) as NonNullable<ReturnType<typeof parseUdp>>) }));
  }
  tcp(
    flags: number,
    seq: number,
    ack: number,
    data: string | Uint8Array = "",
    { window = 65535, options = [] as number[], from = 1000, to = 80, dst = GATEWAY } = {},
  ): void {
    const bytes = typeof data === "string" ? Uint8Array.from(data, (c) => c.charCodeAt(0)) : data;
    const b = makeSegment(from, to, seq >>> 0, ack >>> 0, flags, window, options, bytes.length);
    b.set(bytes, b.length - bytes.length);
    this.ip(dst, 6, b);
  }
  seenTcp(): Segment[] {
    return this.seen()
      .filter((s) => s.proto === 6)
      .map((s) => parseSegment(s.payload) as Segment);
  }
}
