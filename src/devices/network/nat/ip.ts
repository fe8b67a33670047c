/** IPv4 for the NAT: addresses, datagrams out of and into frames, fragments. */
import {
  be16,
  be32,
  ETH_HLEN,
  ETHERTYPE_IPV4,
  GSO_NONE,
  type Gso,
  IPPROTO_TCP,
  IPPROTO_UDP,
  type Packet,
  fold,
  put16,
  put32,
  putMac,
  sum,
  writeIpChecksum,
} from "../packet.js";

/** An address as an unsigned number. */
export type Ipv4 = number;

export function parseIp(text: string): Ipv4 {
  const m = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  const n = m === null ? NaN : m.slice(1).reduce((a, b) => (Number(b) > 255 ? NaN : a * 256 + Number(b)), 0);
  if (!(n >= 0)) throw new Error(`not an IPv4 address: ${text}`);
  return n;
}
export function formatIp(ip: Ipv4): string {
  return [24, 16, 8, 0].map((s) => (ip >>> s) & 255).join(".");
}
export const LIMITED_BROADCAST: Ipv4 = 0xffffffff;

/** A datagram, whole. */
export interface Datagram {
  readonly src: Ipv4;
  readonly dst: Ipv4;
  readonly proto: number;
  readonly ttl: number;
  /** The header as it came, for ICMP errors. */
  readonly header: Uint8Array;
  readonly payload: Uint8Array;
}

/** Fragments of datagrams on their way in, bounded in number, size and time. */
const MAX_REASSEMBLIES = 16;
const REASSEMBLY_NS = 30e9;

interface Reassembly {
  readonly parts: Map<number, Uint8Array>;
  header: Uint8Array | null;
  end: number;
  since: number;
}

export class Reassembler {
  private readonly open = new Map<string, Reassembly>();

  /** A datagram from an Ethernet frame whose checksums are right or waived; null: not whole, or not sound. */
  take(frame: Uint8Array, l3: number, now: number): Datagram | null {
    const b = frame;
    if (b.length < l3 + 20) return null;
    const ihl = ((b[l3] as number) & 15) * 4;
    const total = be16(b, l3 + 2);
    if ((b[l3] as number) >> 4 !== 4 || ihl < 20 || total < ihl || l3 + total > b.length) return null;
    if (fold(sum(b, l3, l3 + ihl)) !== 0xffff) return null;
    const header = b.subarray(l3, l3 + ihl);
    const payload = b.subarray(l3 + ihl, l3 + total);
    const frag = be16(b, l3 + 6);
    const make = (h: Uint8Array, p: Uint8Array): Datagram => ({
      src: be32(h, 12),
      dst: be32(h, 16),
      proto: h[9] as number,
      ttl: h[8] as number,
      header: h,
      payload: p,
    });
    if ((frag & 0x3fff) === 0) return make(header, payload);
    const key = `${be32(b, l3 + 12)} ${be32(b, l3 + 16)} ${b[l3 + 9]} ${be16(b, l3 + 4)}`;
    const offset = (frag & 0x1fff) * 8;
    const more = (frag & 0x2000) !== 0;
    if ((more && payload.length % 8 !== 0) || payload.length === 0 || offset + payload.length > 65515) return null;
    for (const [k, r] of this.open) if (now - r.since > REASSEMBLY_NS) this.open.delete(k);
    let r = this.open.get(key);
    if (r === undefined) {
      if (this.open.size >= MAX_REASSEMBLIES) this.open.delete(this.open.keys().next().value as string);
      this.open.set(key, (r = { parts: new Map(), header: null, end: -1, since: now }));
    }
    r.parts.set(offset, payload.slice());
    if (offset === 0) r.header = header.slice();
    if (!more) r.end = offset + payload.length;
    if (r.end < 0 || r.header === null) return null;
    const whole = new Uint8Array(r.end);
    for (let at = 0; at < r.end;) {
      const part = r.parts.get(at);
      if (part === undefined) return null;
      if (at + part.length > r.end) break;
      whole.set(part, at);
      at += part.length;
    }
    this.open.delete(key);
    return make(r.header, whole);
  }
}

export interface Send {
  readonly toMac: number;
  readonly fromMac: number;
  readonly src: Ipv4;
  readonly dst: Ipv4;
  readonly proto: number;
  readonly payload: Uint8Array;
  readonly mtu: number;
  /** Cut by the receiver (TCP): payload bytes of each segment. */
  readonly gso?: Gso;
  readonly gsoSize?: number;
}

let ident = 0;

/**
 * Frames for a datagram: one, or fragments where it is larger than the MTU and not for the receiver to cut. The checksums of TCP and UDP are left blank (the
 * pseudo header's sum in their field) where the datagram is whole: nobody on this host needs them.
 */
export function frames(s: Send): Packet[] {
  const { payload } = s;
  const whole = payload.length + 20 <= s.mtu || (s.gso ?? GSO_NONE) !== GSO_NONE;
  const field = s.proto === IPPROTO_TCP ? 16 : s.proto === IPPROTO_UDP ? 6 : -1;
  if (field >= 0) {
    const pseudo = (s.src >>> 16) + (s.src & 0xffff) + (s.dst >>> 16) + (s.dst & 0xffff) + s.proto + payload.length;
    put16(payload, field, 0);
    if (whole) put16(payload, field, fold(pseudo));
    else {
      const c = fold(sum(payload, 0, payload.length, pseudo)) ^ 0xffff;
      put16(payload, field, c === 0 ? 0xffff : c);
    }
  }
  ident = (ident + 1) & 0xffff;
  const out: Packet[] = [];
  const step = whole ? payload.length : Math.floor((s.mtu - 20) / 8) * 8;
  let at = 0;
  do {
    const n = Math.min(step, payload.length - at);
    const data = new Uint8Array(ETH_HLEN + 20 + n);
    putMac(data, 0, s.toMac);
    putMac(data, 6, s.fromMac);
    put16(data, 12, ETHERTYPE_IPV4);
    data[14] = 0x45;
    put16(data, 16, 20 + n);
    put16(data, 18, ident);
    put16(data, 20, (whole ? 0x4000 : 0) | (at / 8) | (at + n < payload.length ? 0x2000 : 0));
    data[22] = 64;
    data[23] = s.proto;
    put32(data, 26, s.src);
    put32(data, 30, s.dst);
    writeIpChecksum(data, ETH_HLEN);
    data.set(payload.subarray(at, at + n), ETH_HLEN + 20);
    at += n;
    out.push({
      data,
      csumBlank: whole && field >= 0,
      validated: true,
      gso: s.gso ?? GSO_NONE,
      gsoSize: s.gsoSize ?? 0,
    });
  } while (at < payload.length);
  return out;
}
