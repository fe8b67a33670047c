import { describe, expect, it } from "vitest";
import {
  be16,
  be32,
  checksumOk,
  finishChecksum,
  fold,
  formatMac,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  type Packet,
  parse,
  parseMac,
  pseudoSum,
  put16,
  put32,
  segment,
  sum,
  writeIpChecksum,
} from "./packet.js";
import { PcapWriter } from "./pcap.js";
import { TokenBucket } from "./token-bucket.js";

/** A TCP frame with its checksum blank. */
function tcp(payload: number, v6 = false, flags = 0x18): Uint8Array {
  const l4 = v6 ? 54 : 34;
  const b = new Uint8Array(l4 + 20 + payload).map((_, i) => (i * 31) & 255);
  b.fill(0, 14, l4 + 20);
  put16(b, 12, v6 ? 0x86dd : 0x0800);
  if (v6) {
    b[14] = 0x60;
    put16(b, 18, 20 + payload);
    b[20] = 6;
    b[22] = 0xfe;
    b[38] = 0xfd;
  } else {
    b[14] = 0x45;
    put16(b, 16, 40 + payload);
    b[22] = 64;
    b[23] = 6;
    put32(b, 26, 0x0a000001);
    put32(b, 30, 0x0a000002);
    writeIpChecksum(b, 14);
  }
  put32(b, l4 + 4, 1000);
  b[l4 + 12] = 0x50;
  b[l4 + 13] = flags;
  const at = parse(b);
  if (at !== null) put16(b, l4 + 16, fold(pseudoSum(b, at, at.end - at.l4)));
  return b;
}
const packet = (data: Uint8Array, gso: 0 | 1 | 2 = GSO_NONE, gsoSize = 0): Packet => ({
  data,
  csumBlank: true,
  validated: true,
  gso,
  gsoSize,
});

describe("frames", () => {
  it("have addresses as numbers", () => {
    expect(formatMac(parseMac("00:16:3e:aa:bb:cc"))).toBe("00:16:3e:aa:bb:cc");
    expect(() => parseMac("00:16:3e:aa:bb")).toThrow("not an Ethernet address");
  });
  it("have the checksum of RFC 1071's example", () => {
    expect(fold(sum(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7), 0, 8))).toBe(0xddf2);
  });
  it.each([false, true])("get their blank checksum filled in (IPv6: %s)", (v6) => {
    const p = packet(tcp(333, v6));
    const done = finishChecksum(p);
    const at = parse(done.data);
    expect(at !== null && checksumOk(done.data, at)).toBe(true);
    expect(done.csumBlank).toBe(false);
    expect(p.data).toEqual(tcp(333, v6)); // the original is as it was
  });
  it.each([
    [false, GSO_TCPV4],
    [true, GSO_TCPV6],
  ] as const)("are cut into segments (IPv6: %s)", (v6, gso) => {
    const big = tcp(5000, v6, 0x19);
    const parts = segment(packet(big, gso, 1448));
    const head = v6 ? 74 : 54;
    expect(parts.map((p) => p.data.length - head)).toEqual([1448, 1448, 1448, 656]);
    const joined = new Uint8Array(5000);
    parts.forEach((p, i) => {
      const at = parse(p.data);
      if (at === null) throw new Error("not a datagram");
      expect(checksumOk(p.data, at)).toBe(true);
      if (!v6) expect(fold(sum(p.data, 14, 34))).toBe(0xffff);
      expect(be32(p.data, at.l4 + 4)).toBe(1000 + i * 1448);
      // FIN and PSH only in the last.
      expect(p.data[at.l4 + 13]).toBe(i === 3 ? 0x19 : 0x10);
      joined.set(p.data.subarray(head), i * 1448);
    });
    expect(joined).toEqual(big.subarray(head));
  });
  it("that claim to be segments and are not are left as they are", () => {
    const arp = new Uint8Array(60);
    put16(arp, 12, 0x0806);
    expect(segment(packet(arp, GSO_TCPV4, 100))).toHaveLength(1);
    expect(segment(packet(tcp(10), GSO_TCPV4, 100))).toHaveLength(1);
  });
  it("with lengths that lie are not looked into", () => {
    const b = tcp(100);
    put16(b, 16, 5000);
    expect(parse(b)).toBeNull();
    const c = tcp(100);
    c[14] = 0x4f;
    put16(c, 16, 40);
    expect(parse(c)).toBeNull();
    expect(parse(new Uint8Array(13))).toBeNull();
  });
});

describe("a pcap file", () => {
  it("has frames with their time and finished checksums", () => {
    const out: Uint8Array[] = [];
    const w = new PcapWriter(
      (b) => out.push(b),
      () => 1_700_000_000_123_456_789,
    );
    w.write(packet(tcp(100)));
    expect(out.map((b) => b.length)).toEqual([24, 16 + 154]);
    const v = new DataView((out[1] as Uint8Array).buffer);
    expect([v.getUint32(0, true), v.getUint32(4, true), v.getUint32(8, true)]).toEqual([1_700_000_000, 123_456, 154]);
    const data = (out[1] as Uint8Array).subarray(16);
    const at = parse(data);
    expect(at !== null && checksumOk(data, at)).toBe(true);
    expect(be16(data, 12)).toBe(0x0800);
  });
});

describe("a token bucket", () => {
  it("gives what has been saved up, and says how long to wait", () => {
    const t = new TokenBucket(1000, 1e6, 0);
    expect(t.take(600, 0)).toBe(0);
    expect(t.take(600, 0)).toBe(200_000);
    expect(t.take(600, 200_000)).toBe(0);
    expect(t.take(1000, 10e6)).toBe(0);
  });
  it("lets a frame larger than itself pass when full, and waits the longer", () => {
    const t = new TokenBucket(1000, 1e6, 0);
    expect(t.take(3000, 0)).toBe(0);
    expect(t.take(1, 0)).toBe(2_001_000);
  });
});
