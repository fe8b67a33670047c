/** A DHCP server (RFC 2131, 2132) for one small network: an address per Ethernet address, leases kept as long as there is room. */
import { be16, be32, macAt, put16, put32 } from "../packet.js";
import type { Ipv4 } from "./ip.js";

export const DHCP_SERVER_PORT = 67;
export const DHCP_CLIENT_PORT = 68;
const COOKIE = 0x63825363;
const HEADER = 240;

const DISCOVER = 1,
  OFFER = 2,
  REQUEST = 3,
  DECLINE = 4,
  DHCP_ACK = 5,
  NAK = 6,
  RELEASE = 7,
  INFORM = 8;

const OPT_MASK = 1,
  OPT_ROUTER = 3,
  OPT_DNS = 6,
  OPT_HOST_NAME = 12,
  OPT_DOMAIN = 15,
  OPT_MTU = 26,
  OPT_BROADCAST = 28,
  OPT_REQUESTED = 50,
  OPT_LEASE = 51,
  OPT_TYPE = 53,
  OPT_SERVER = 54,
  OPT_PARAMETERS = 55,
  OPT_END = 255;

export interface DhcpConfig {
  readonly server: Ipv4;
  readonly router: Ipv4;
  readonly dns: Ipv4;
  readonly mask: Ipv4;
  /** The range that is given away, both ends included. */
  readonly first: Ipv4;
  readonly last: Ipv4;
  readonly mtu: number;
  readonly leaseSeconds: number;
  readonly domain?: string;
}

export interface DhcpReply {
  readonly message: Uint8Array;
  /** The address it goes to; null: broadcast. */
  readonly to: Ipv4 | null;
  /** The client's Ethernet address. */
  readonly mac: number;
}

interface Lease {
  readonly ip: Ipv4;
  until: number;
}

export class DhcpServer {
  private readonly leases = new Map<number, Lease>();
  /** Addresses a client found in use by somebody else. */
  private readonly declined = new Set<Ipv4>();

  constructor(private readonly config: DhcpConfig) {}

  /** Who has an address. */
  macOf(ip: Ipv4): number | undefined {
    for (const [mac, l] of this.leases) if (l.ip === ip) return mac;
    return undefined;
  }
  get addresses(): readonly { mac: number; ip: Ipv4 }[] {
    return [...this.leases].map(([mac, l]) => ({ mac, ip: l.ip }));
  }

  private lease(mac: number, wanted: Ipv4, now: number): Lease | null {
    const { first, last } = this.config;
    const had = this.leases.get(mac);
    if (had !== undefined) return had;
    const used = new Set([...this.leases.values()].map((l) => l.ip));
    let ip = wanted >= first && wanted <= last && !used.has(wanted) && !this.declined.has(wanted) ? wanted : 0;
    for (let a = first; ip === 0 && a <= last; a++) if (!used.has(a) && !this.declined.has(a)) ip = a;
    if (ip === 0) {
      // The one that ran out first.
      for (const [m, l] of this.leases) {
        if (l.until >= now) continue;
        this.leases.delete(m);
        ip = l.ip;
        break;
      }
      if (ip === 0) return null;
    }
    const lease = { ip, until: now + 60e9 };
    this.leases.set(mac, lease);
    return lease;
  }

  /** Answer a client's message; null: there is nothing to say. */
  handle(m: Uint8Array, now: number): DhcpReply | null {
    if (m.length < HEADER || m[0] !== 1 || m[1] !== 1 || m[2] !== 6 || be32(m, 236) !== COOKIE) return null;
    const options = readOptions(m);
    const type = options.get(OPT_TYPE)?.[0];
    const mac = macAt(m, 28);
    const ciaddr = be32(m, 12);
    const address = (o: number): Ipv4 => {
      const b = options.get(o);
      return b !== undefined && b.length >= 4 ? be32(b, 0) : 0;
    };
    const server = address(OPT_SERVER);
    switch (type) {
      case DISCOVER: {
        const l = this.lease(mac, address(OPT_REQUESTED), now);
        return l === null ? null : this.reply(m, OFFER, l.ip, mac, options);
      }
      case REQUEST: {
        if (server !== 0 && server !== this.config.server) return null; // it took another server's offer
        const wanted = address(OPT_REQUESTED) || ciaddr;
        const l = this.lease(mac, wanted, now);
        if (l === null || l.ip !== wanted) return this.reply(m, NAK, 0, mac, options);
        l.until = now + this.config.leaseSeconds * 1e9;
        return this.reply(m, DHCP_ACK, l.ip, mac, options);
      }
      case INFORM:
        return this.reply(m, DHCP_ACK, 0, mac, options);
      case DECLINE:
        if (this.declined.size < 64) this.declined.add(address(OPT_REQUESTED));
        this.leases.delete(mac);
        return null;
      case RELEASE:
        if (this.leases.get(mac)?.ip === ciaddr) this.leases.delete(mac);
        return null;
      default:
        return null;
    }
  }

  private reply(m: Uint8Array, type: number, yiaddr: Ipv4, mac: number, asked: Map<number, Uint8Array>): DhcpReply {
    const { config } = this;
    const options: number[] = [];
    const ip = (a: Ipv4): number[] => [a >>> 24, (a >>> 16) & 255, (a >>> 8) & 255, a & 255];
    const put = (o: number, ...bytes: number[]): void => void options.push(o, bytes.length, ...bytes);
    put(OPT_TYPE, type);
    put(OPT_SERVER, ...ip(config.server));
    if (type !== NAK) {
      const inform = asked.get(OPT_TYPE)?.[0] === INFORM;
      if (!inform) put(OPT_LEASE, ...ip(config.leaseSeconds));
      put(OPT_MASK, ...ip(config.mask));
      put(OPT_ROUTER, ...ip(config.router));
      put(OPT_DNS, ...ip(config.dns));
      put(OPT_BROADCAST, ...ip((config.router | ~config.mask) >>> 0));
      const wants = asked.get(OPT_PARAMETERS) ?? new Uint8Array(0);
      if (wants.includes(OPT_MTU)) put(OPT_MTU, config.mtu >> 8, config.mtu & 255);
      if (config.domain !== undefined) put(OPT_DOMAIN, ...[...config.domain].map((c) => c.charCodeAt(0) & 127));
    }
    options.push(OPT_END);
    // RFC 1542: at least 300 bytes.
    const out = new Uint8Array(Math.max(300, HEADER + options.length));
    out[0] = 2;
    out[1] = 1;
    out[2] = 6;
    out.set(m.subarray(4, 8), 4);
    const flags = be16(m, 10);
    put16(out, 10, flags);
    const ciaddr = be32(m, 12);
    if (type !== NAK) put32(out, 12, ciaddr);
    put32(out, 16, yiaddr);
    if (type !== NAK) put32(out, 20, config.server);
    out.set(m.subarray(28, 44), 28);
    put32(out, 236, COOKIE);
    out.set(options, HEADER);
    const broadcast = type === NAK || (flags & 0x8000) !== 0;
    return { message: out, to: ciaddr !== 0 && type !== NAK ? ciaddr : broadcast ? null : yiaddr, mac };
  }
}

function readOptions(m: Uint8Array): Map<number, Uint8Array> {
  const out = new Map<number, Uint8Array>();
  for (let i = HEADER; i < m.length;) {
    const o = m[i] as number;
    if (o === OPT_END) break;
    if (o === 0) {
      i++;
      continue;
    }
    const n = m[i + 1] ?? 0;
    if (i + 2 + n > m.length) break;
    out.set(o, m.subarray(i + 2, i + 2 + n));
    i += 2 + n;
  }
  return out;
}

/** For tests and logs. */
export const DHCP = { DISCOVER, OFFER, REQUEST, DECLINE, ACK: DHCP_ACK, NAK, RELEASE, INFORM, OPT_HOST_NAME } as const;
