/**
 * Ethernet frames on their way between vifs, switches and hosts, with what offloading left undone: a checksum that is still the pseudo header's
 * sum (`csumBlank`), a TCP segment larger than the wire takes (`gso`). `finishChecksum` and `segment` do that work in software, where a
 * frame reaches somebody who cannot.
 *
 * Frames are immutable once they are handed on: whoever changes one copies it first.
 */

export const ETH_HLEN = 14;
export const ETHERTYPE_IPV4 = 0x0800,
  ETHERTYPE_ARP = 0x0806,
  ETHERTYPE_VLAN = 0x8100,
  ETHERTYPE_IPV6 = 0x86dd;
export const IPPROTO_ICMP = 1,
  IPPROTO_TCP = 6,
  IPPROTO_UDP = 17,
  IPPROTO_ICMPV6 = 58;

/** Segmentation still to be done: none, TCP over IPv4, TCP over IPv6. */
export type Gso = 0 | 1 | 2;
export const GSO_NONE = 0,
  GSO_TCPV4 = 1,
  GSO_TCPV6 = 2;

export interface Packet {
  /** From the destination address on, without the trailing checksum. */
  readonly data: Uint8Array;
  /** The TCP or UDP checksum field holds the pseudo header's sum only. */
  readonly csumBlank: boolean;
  /** Nobody needs to look at the checksum again: it was checked, or the frame never left this host. */
  readonly validated: boolean;
  readonly gso: Gso;
  /** Payload bytes of each segment. */
  readonly gsoSize: number;
}

/** A frame as it is on a wire. */
export function wire(data: Uint8Array): Packet {
  return { data, csumBlank: false, validated: false, gso: GSO_NONE, gsoSize: 0 };
}

export function be16(b: Uint8Array, at: number): number {
  return ((b[at] as number) << 8) | (b[at + 1] as number);
}
export function be32(b: Uint8Array, at: number): number {
  return (be16(b, at) * 65536 + be16(b, at + 2)) >>> 0;
}
export function put16(b: Uint8Array, at: number, v: number): void {
  b[at] = v >>> 8;
  b[at + 1] = v;
}
export function put32(b: Uint8Array, at: number, v: number): void {
  put16(b, at, v >>> 16);
  put16(b, at + 2, v & 0xffff);
}

/** An Ethernet address as a number (exact: 48 bits). */
export function macAt(b: Uint8Array, at: number): number {
  return be16(b, at) * 4294967296 + be32(b, at + 2);
}
export function putMac(b: Uint8Array, at: number, mac: number): void {
  put16(b, at, Math.floor(mac / 4294967296));
  put32(b, at + 2, mac % 4294967296);
}
export const BROADCAST = 0xffffffffffff;
/** The group bit: broadcast and multicast. */
export function isGroup(b: Uint8Array, at: number): boolean {
  return ((b[at] as number) & 1) !== 0;
}
export function parseMac(text: string): number {
  if (!/^[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}$/i.test(text)) throw new Error(`not an Ethernet address: ${text}`);
  return text.split(":").reduce((n, h) => n * 256 + parseInt(h, 16), 0);
}
export function formatMac(mac: number): string {
  return (mac.toString(16).padStart(12, "0").match(/../g) as string[]).join(":");
}

/** Ones' complement sum of bytes, not yet folded nor inverted. */
export function sum(b: Uint8Array, from: number, to: number, start = 0): number {
  let s = start;
  let i = from;
  for (; i + 1 < to; i += 2) s += ((b[i] as number) << 8) | (b[i + 1] as number);
  if (i < to) s += (b[i] as number) << 8;
  return s;
}
export function fold(s: number): number {
  while (s > 0xffff) s = (s & 0xffff) + Math.floor(s / 65536);
  return s;
}

/** Where the parts of a frame are. */
export interface Layout {
  /** The innermost EtherType, VLAN tag skipped. */
  readonly type: number;
  /** Start of the network header. */
  readonly l3: number;
  /** End of the IP datagram (the frame may be padded). */
  readonly end: number;
  /** IP protocol, or −1 where the frame is not whole IP or not the first fragment. */
  readonly proto: number;
  /** Start of the transport header. */
  readonly l4: number;
}

/** Look into a frame; null where it is too short for what it says it is. */
export function parse(b: Uint8Array): Layout | null {
  if (b.length < ETH_HLEN) return null;
  let l3 = ETH_HLEN;
  let type = be16(b, 12);
  if (type === ETHERTYPE_VLAN) {
    if (b.length < 18) return null;
    type = be16(b, 16);
    l3 = 18;
  }
  const none = { type, l3, end: b.length, proto: -1, l4: b.length };
  if (type === ETHERTYPE_IPV4) {
    if (b.length < l3 + 20) return null;
    const ihl = ((b[l3] as number) & 15) * 4;
    const end = l3 + be16(b, l3 + 2);
    if ((b[l3] as number) >> 4 !== 4 || ihl < 20 || end > b.length || l3 + ihl > end) return null;
    if ((be16(b, l3 + 6) & 0x3fff) !== 0) return { ...none, end, l4: l3 + ihl };
    return { type, l3, end, proto: b[l3 + 9] as number, l4: l3 + ihl };
  }
  if (type === ETHERTYPE_IPV6) {
    if (b.length < l3 + 40) return null;
    const end = l3 + 40 + be16(b, l3 + 4);
    if ((b[l3] as number) >> 4 !== 6 || end > b.length) return null;
    let next = b[l3 + 6] as number;
    let l4 = l3 + 40;
    // Hop-by-hop, routing and destination options.
    for (let n = 0; n < 8 && (next === 0 || next === 43 || next === 60); n++) {
      if (l4 + 8 > end) return null;
      next = b[l4] as number;
      l4 += ((b[l4 + 1] as number) + 1) * 8;
      if (l4 > end) return null;
    }
    return { type, l3, end, proto: next === 44 ? -1 : next, l4 };
  }
  return none;
}

/** Where the checksum field of a transport header is, relative to it; −1 for none that offloading knows. */
function checksumField(proto: number): number {
  return proto === IPPROTO_TCP ? 16 : proto === IPPROTO_UDP ? 6 : -1;
}

/** Sum of the pseudo header for a transport segment of `length` bytes. */
export function pseudoSum(b: Uint8Array, at: Layout, length: number): number {
  return at.type === ETHERTYPE_IPV4
    ? sum(b, at.l3 + 12, at.l3 + 20, at.proto + length)
    : sum(b, at.l3 + 8, at.l3 + 40, at.proto + (length >>> 16) + (length & 0xffff));
}

/** Compute the transport checksum of a frame in place. False: it has none. */
export function writeChecksum(b: Uint8Array, at: Layout): boolean {
  const field = checksumField(at.proto);
  if (field < 0 || at.l4 + field + 2 > at.end) return false;
  put16(b, at.l4 + field, 0);
  const s = fold(sum(b, at.l4, at.end, pseudoSum(b, at, at.end - at.l4)));
  const c = s ^ 0xffff;
  // A UDP checksum of zero means none.
  put16(b, at.l4 + field, c === 0 && at.proto === IPPROTO_UDP ? 0xffff : c);
  return true;
}

/** Is the transport checksum right (or absent, as UDP over IPv4 allows)? */
export function checksumOk(b: Uint8Array, at: Layout): boolean {
  const field = checksumField(at.proto);
  if (field < 0) return true;
  if (at.l4 + field + 2 > at.end) return false;
  if (at.proto === IPPROTO_UDP && at.type === ETHERTYPE_IPV4 && be16(b, at.l4 + 6) === 0) return true;
  return fold(sum(b, at.l4, at.end, pseudoSum(b, at, at.end - at.l4))) === 0xffff;
}

/** Set the IPv4 header checksum. */
export function writeIpChecksum(b: Uint8Array, l3: number): void {
  const end = l3 + ((b[l3] as number) & 15) * 4;
  put16(b, l3 + 10, 0);
  put16(b, l3 + 10, fold(sum(b, l3, end)) ^ 0xffff);
}

/** The same frame with its checksum filled in (a copy), for those who cannot leave it blank. */
export function finishChecksum(p: Packet): Packet {
  if (!p.csumBlank) return p;
  const data = p.data.slice();
  const at = parse(data);
  if (at !== null) writeChecksum(data, at);
  return { ...p, data, csumBlank: false, validated: true };
}

/**
 * Cut a large TCP segment into frames of `gsoSize` bytes of payload each, with sequence numbers, flags and checksums as the guest's own stack would have
 * made them. A frame that is not what it claims comes back as it is, without the claim.
 */
export function segment(p: Packet): Packet[] {
  if (p.gso === GSO_NONE) return [p];
  const at = parse(p.data);
  const plain: Packet = { ...finishChecksum(p), gso: GSO_NONE, gsoSize: 0 };
  if (at === null || at.proto !== IPPROTO_TCP || p.gsoSize <= 0 || at.l4 + 20 > at.end) return [plain];
  const header = at.l4 + ((p.data[at.l4 + 12] as number) >> 4) * 4;
  const payload = at.end - header;
  if (header < at.l4 + 20 || payload <= p.gsoSize) return [plain];
  const out: Packet[] = [];
  const seq = be32(p.data, at.l4 + 4);
  const flags = p.data[at.l4 + 13] as number;
  const v4 = at.type === ETHERTYPE_IPV4;
  const id = v4 ? be16(p.data, at.l3 + 4) : 0;
  for (let off = 0, n = 0; off < payload; off += p.gsoSize, n++) {
    const len = Math.min(p.gsoSize, payload - off);
    const data = new Uint8Array(header + len);
    data.set(p.data.subarray(0, header));
    data.set(p.data.subarray(header + off, header + off + len), header);
    if (v4) {
      put16(data, at.l3 + 2, data.length - at.l3);
      put16(data, at.l3 + 4, (id + n) & 0xffff);
      writeIpChecksum(data, at.l3);
    } else put16(data, at.l3 + 4, data.length - at.l3 - 40);
    put32(data, at.l4 + 4, (seq + off) >>> 0);
    const last = off + len === payload;
    // FIN and PSH belong to the last, CWR to the first.
    data[at.l4 + 13] = flags & ~(last ? 0 : 0x09) & ~(off === 0 ? 0 : 0x80);
    writeChecksum(data, { ...at, end: data.length });
    out.push({ data, csumBlank: false, validated: true, gso: GSO_NONE, gsoSize: 0 });
  }
  return out;
}

/** The largest frame without VLAN tag that a link of this MTU takes. */
export function frameLimit(mtu: number): number {
  return mtu + ETH_HLEN + 4;
}

/** A number that all frames of one conversation in one direction have in common: from addresses, and ports where there are any. */
export function flowHash(b: Uint8Array): number {
  let h = 0x811c9dc5;
  const mix = (from: number, to: number): void => {
    for (let i = from; i < to; i++) h = Math.imul(h ^ (b[i] as number), 0x01000193);
  };
  const at = parse(b);
  if (at !== null && at.type === ETHERTYPE_IPV4 && at.l3 + 20 <= b.length) mix(at.l3 + 12, at.l3 + 20);
  else if (at !== null && at.type === ETHERTYPE_IPV6 && at.l3 + 40 <= b.length) mix(at.l3 + 8, at.l3 + 40);
  else mix(0, Math.min(12, b.length));
  if (at !== null && (at.proto === IPPROTO_TCP || at.proto === IPPROTO_UDP) && at.l4 + 4 <= b.length)
    mix(at.l4, at.l4 + 4);
  return h >>> 0;
}
