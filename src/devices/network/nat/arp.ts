/** ARP for the NAT: who has our addresses, and where the guests are. Bounded in what it remembers and keeps waiting. */
import {
  BROADCAST,
  be16,
  be32,
  ETH_HLEN,
  ETHERTYPE_ARP,
  macAt,
  type Packet,
  put16,
  put32,
  putMac,
  wire,
} from "../packet.js";
import type { NatHost, NatTimer } from "./host.js";
import type { Ipv4 } from "./ip.js";

const MAX_ENTRIES = 256;
const MAX_WAITING = 64;
const RETRY_NS = 1e9;
const TRIES = 5;

export function arpFrame(
  op: number,
  toMac: number,
  fromMac: number,
  fromIp: Ipv4,
  targetMac: number,
  targetIp: Ipv4,
): Packet {
  // Padded to the shortest Ethernet frame.
  const b = new Uint8Array(60);
  putMac(b, 0, toMac);
  putMac(b, 6, fromMac);
  put16(b, 12, ETHERTYPE_ARP);
  put16(b, 14, 1);
  put16(b, 16, 0x0800);
  b[18] = 6;
  b[19] = 4;
  put16(b, 20, op);
  putMac(b, 22, fromMac);
  put32(b, 28, fromIp);
  putMac(b, 32, targetMac);
  put32(b, 38, targetIp);
  return wire(b);
}

interface Waiting {
  frames: ((mac: number) => void)[];
  tries: number;
  readonly timer: NatTimer;
}

export class Arp {
  private readonly table = new Map<Ipv4, number>();
  private readonly waiting = new Map<Ipv4, Waiting>();

  constructor(
    private readonly host: NatHost,
    private readonly mac: number,
    private readonly ip: Ipv4,
    private readonly ours: (ip: Ipv4) => boolean,
    private readonly inSubnet: (ip: Ipv4) => boolean,
    private readonly send: (p: Packet) => void,
  ) {}

  /** Somebody of the subnet was heard. */
  learn(ip: Ipv4, mac: number): void {
    if (!this.inSubnet(ip) || this.ours(ip)) return;
    if (!this.table.has(ip) && this.table.size >= MAX_ENTRIES)
      this.table.delete(this.table.keys().next().value as Ipv4);
    this.table.set(ip, mac);
    const w = this.waiting.get(ip);
    if (w === undefined) return;
    this.waiting.delete(ip);
    w.timer.stop();
    for (const f of w.frames) f(mac);
  }

  receive(b: Uint8Array): void {
    const at = ETH_HLEN;
    if (b.length < at + 28 || be16(b, at) !== 1 || be16(b, at + 2) !== 0x0800 || b[at + 4] !== 6 || b[at + 5] !== 4)
      return;
    const op = be16(b, at + 6);
    const mac = macAt(b, at + 8);
    const ip = be32(b, at + 14);
    const target = be32(b, at + 24);
    if (ip !== 0) this.learn(ip, mac);
    if (op === 1 && this.ours(target)) this.send(arpFrame(2, mac, this.mac, target, mac, ip));
  }

  /** Call `f` with the address of `ip` once it is known; never, if nobody answers. */
  resolve(ip: Ipv4, f: (mac: number) => void): void {
    const known = this.table.get(ip);
    if (known !== undefined) {
      f(known);
      return;
    }
    let w = this.waiting.get(ip);
    if (w === undefined) {
      if (this.waiting.size >= MAX_WAITING) return;
      const made: Waiting = {
        frames: [],
        tries: 0,
        timer: this.host.timer(() => this.ask(ip, made)),
      };
      this.waiting.set(ip, (w = made));
      w.frames.push(f);
      this.ask(ip, w);
    } else if (w.frames.length < MAX_WAITING) w.frames.push(f);
  }
  private ask(ip: Ipv4, w: Waiting): void {
    if (this.waiting.get(ip) !== w) return;
    if (w.tries++ >= TRIES) {
      this.waiting.delete(ip);
      return;
    }
    w.timer.set(this.host.now() + RETRY_NS);
    this.send(arpFrame(1, BROADCAST, this.mac, this.ip, 0, ip));
  }

  close(): void {
    for (const w of this.waiting.values()) w.timer.stop();
    this.waiting.clear();
  }
}
