import { describe, expect, it } from "vitest";
import { be16, be32, BROADCAST, put16, put32, putMac } from "../packet.js";
import { arpFrame } from "./arp.js";
import { DHCP } from "./dhcp.js";
import { parseIp } from "./ip.js";
import { FakeTcp, GATEWAY, GUEST, GUEST_MAC, Net } from "./testing.js";

const MS = 1e6;
const bytes = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));
const text = (b: Uint8Array): string => String.fromCharCode(...b);

function dhcp(type: number, options: number[] = [], mac = GUEST_MAC, ciaddr = 0): Uint8Array {
  const m = new Uint8Array(300);
  m.set([1, 1, 6, 0]);
  put32(m, 4, 0x12345678);
  put32(m, 12, ciaddr);
  putMac(m, 28, mac);
  put32(m, 236, 0x63825363);
  m.set([53, 1, type, ...options, 255], 240);
  return m;
}
function option(m: Uint8Array, wanted: number): Uint8Array | undefined {
  for (let i = 240; i < m.length && m[i] !== 255; i += 2 + (m[i + 1] as number))
    if (m[i] === wanted) return m.subarray(i + 2, i + 2 + (m[i + 1] as number));
  return undefined;
}

describe("ARP", () => {
  it("is answered for the gateway and the name server only", () => {
    const net = new Net();
    for (const last of [2, 3, 4]) net.frame(arpFrame(1, BROADCAST, GUEST_MAC, GUEST, 0, 0x0a000200 + last));
    const replies = net.inbox.splice(0).map((p) => p.data);
    expect(replies.map((d) => [be16(d, 20), be32(d, 28)])).toEqual([
      [2, 0x0a000202],
      [2, 0x0a000203],
    ]);
  });
});

describe("DHCP", () => {
  const ask = (net: Net, m: Uint8Array): Uint8Array | undefined => {
    net.udp(0xffffffff, 68, 67, m, 0, BROADCAST);
    return net.seenUdp()[0]?.data;
  };
  it("gives an address in two steps, with mask, router, name server and lease", () => {
    const net = new Net();
    const offer = ask(net, dhcp(DHCP.DISCOVER, [55, 4, 1, 3, 6, 26]));
    if (offer === undefined) throw new Error("no offer");
    expect([offer[0], be32(offer, 4), be32(offer, 16)]).toEqual([2, 0x12345678, 0x0a00020f]);
    expect(option(offer, 53)).toEqual(Uint8Array.of(DHCP.OFFER));
    const ack = ask(net, dhcp(DHCP.REQUEST, [50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2, 55, 1, 26]));
    if (ack === undefined) throw new Error("no ack");
    const ip = (o: number): number => be32(option(ack, o) as Uint8Array, 0);
    expect(option(ack, 53)).toEqual(Uint8Array.of(DHCP.ACK));
    expect([ip(1), ip(3), ip(6), ip(54), ip(51), ip(28)]).toEqual([
      0xffffff00, 0x0a000202, 0x0a000203, 0x0a000202, 86400, 0x0a0002ff,
    ]);
    expect(option(ack, 26)).toEqual(Uint8Array.of(1500 >> 8, 1500 & 255));
  });
  it("gives each guest its own, the same again, and refuses another's", () => {
    const net = new Net();
    const at = (m: Uint8Array): number => be32(ask(net, m) as Uint8Array, 16);
    expect(at(dhcp(DHCP.DISCOVER))).toBe(0x0a00020f);
    expect(at(dhcp(DHCP.DISCOVER, [], GUEST_MAC + 1))).toBe(0x0a000210);
    expect(at(dhcp(DHCP.DISCOVER))).toBe(0x0a00020f);
    const nak = ask(net, dhcp(DHCP.REQUEST, [50, 4, 10, 0, 2, 16]));
    expect(option(nak as Uint8Array, 53)).toEqual(Uint8Array.of(DHCP.NAK));
  });
  it("says nothing to an offer taken elsewhere, nor to nonsense", () => {
    const net = new Net();
    expect(ask(net, dhcp(DHCP.REQUEST, [50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 99]))).toBeUndefined();
    expect(ask(net, new Uint8Array(300))).toBeUndefined();
    expect(ask(net, dhcp(DHCP.DISCOVER).subarray(0, 200))).toBeUndefined();
  });
  it("runs out of addresses without harm", () => {
    const net = new Net({ prefix: 29, gateway: "10.0.2.2", dns: "10.0.2.3", dhcpStart: "10.0.2.4" });
    let given = 0;
    for (let i = 0; i < 10; i++) if (ask(net, dhcp(DHCP.DISCOVER, [], GUEST_MAC + i)) !== undefined) given++;
    expect(given).toBe(3);
  });
});

describe("ICMP", () => {
  const echo = (n: number): Uint8Array => {
    const b = new Uint8Array(8 + n).map((_, i) => i);
    b.set([8, 0, 0, 0]);
    let s = 0;
    for (let i = 0; i < b.length; i += 2) s += be16(b, i);
    while (s > 0xffff) s = (s & 0xffff) + (s >>> 16);
    put16(b, 2, s ^ 0xffff);
    return b;
  };
  it("echo to the gateway comes back, with its data", () => {
    const net = new Net().hello();
    net.ip(GATEWAY, 1, echo(56));
    const [r] = net.seen();
    expect([r?.src, r?.dst, r?.payload[0]]).toEqual([GATEWAY, GUEST, 0]);
    expect(r?.payload.subarray(4)).toEqual(echo(56).subarray(4));
  });
  it("echo in fragments too", () => {
    const net = new Net().hello();
    net.ip(GATEWAY, 1, echo(4000));
    expect(net.inbox).toHaveLength(3);
  });
  it("echo to anybody else is prohibited", () => {
    const net = new Net().hello();
    net.ip(parseIp("192.0.2.1"), 1, echo(8));
    expect([...(net.seen()[0]?.payload.subarray(0, 2) ?? [])]).toEqual([3, 13]);
  });
  it("other protocols are unreachable", () => {
    const net = new Net().hello();
    net.ip(GATEWAY, 47, new Uint8Array(20));
    expect([...(net.seen()[0]?.payload.subarray(0, 2) ?? [])]).toEqual([3, 2]);
  });
});

describe("UDP", () => {
  it("goes to the host's loopback through the gateway, and back", () => {
    const net = new Net().hello();
    net.udp(GATEWAY, 4000, 7777, bytes("ping"));
    const s = net.host.udp[0];
    expect(s?.sent.map((x) => [text(x.data), x.address, x.port])).toEqual([["ping", "127.0.0.1", 7777]]);
    s?.handlers.message(bytes("pong"), "127.0.0.1", 7777);
    expect(net.seenUdp().map((u) => [u.src, u.srcPort, u.dstPort, text(u.data)])).toEqual([
      [GATEWAY, 7777, 4000, "pong"],
    ]);
  });
  it("is not let in from strangers", () => {
    const net = new Net().hello();
    net.udp(GATEWAY, 4000, 7777, bytes("x"));
    net.host.udp[0]?.handlers.message(bytes("evil"), "127.0.0.1", 7778);
    expect(net.seen()).toEqual([]);
  });
  it("to the name server is relayed to the host's", () => {
    const net = new Net().hello();
    net.udp(parseIp("10.0.2.3"), 4000, 53, bytes("query"));
    const s = net.host.udp[0];
    expect(s?.sent[0]).toMatchObject({ address: "127.0.0.53", port: 5353 });
    s?.handlers.message(bytes("answer"), "127.0.0.53", 5353);
    expect(net.seenUdp()[0]).toMatchObject({ src: parseIp("10.0.2.3"), srcPort: 53, dstPort: 4000 });
  });
  it("larger than the MTU is put together and cut", () => {
    const net = new Net().hello();
    const big = new Uint8Array(5000).map((_, i) => i * 3);
    net.udp(GATEWAY, 4000, 7777, big);
    expect(net.host.udp[0]?.sent[0]?.data).toEqual(big);
    net.host.udp[0]?.handlers.message(big, "127.0.0.1", 7777);
    expect(net.inbox).toHaveLength(4);
  });
  it("is forgotten when silent, and bounded", () => {
    const net = new Net().hello();
    for (let i = 0; i < 600; i++) net.udp(GATEWAY, 1000 + i, 7777, bytes("x"));
    expect(net.host.udp.filter((u) => !u.closed)).toHaveLength(512);
    net.host.pass(200_000 * MS);
    expect(net.host.udp.filter((u) => !u.closed)).toHaveLength(0);
    expect(net.host.activeTimers).toBe(0);
  });
  it("forwarded from the host reaches the guest, and its answer the sender", async () => {
    const net = new Net({
      forwards: [{ proto: "udp", hostPort: 5000, guestPort: 53, guestAddress: "10.0.2.15" }],
    }).hello();
    net.host.udp[0]?.handlers.message(bytes("q"), "127.0.0.1", 33333);
    const [q] = net.seenUdp();
    expect([q?.src, q?.dstPort]).toEqual([GATEWAY, 53]);
    net.udp(GATEWAY, 53, q?.srcPort as number, bytes("a"));
    expect(net.host.udp[0]?.sent.map((x) => [text(x.data), x.address, x.port])).toEqual([["a", "127.0.0.1", 33333]]);
  });
  it("goes nowhere else under `restrict`, nor where `allow` says no", () => {
    const net = new Net({ restrict: true }).hello();
    net.udp(GATEWAY, 1, 2, bytes("x"));
    const other = new Net({ allow: (_p, address) => address !== "127.0.0.1" }).hello();
    other.udp(GATEWAY, 1, 2, bytes("x"));
    expect([net.host.udp.length, other.host.udp.length]).toEqual([0, 0]);
  });
  it("from an address outside the network is dropped", () => {
    const net = new Net().hello();
    net.udp(GATEWAY, 1, 2, bytes("x"), parseIp("192.0.2.7"));
    expect(net.host.udp).toHaveLength(0);
  });
});

const FIN = 1,
  SYN = 2,
  RST = 4,
  ACK = 16;

/** A connection of the guest's that is open: `their` and `mine` are the next sequence numbers. */
function established(net: Net, window = 65535): { socket: FakeTcp; mine: number; their: number } {
  net.tcp(SYN, 5000, 0, "", { options: [2, 4, 1460 >> 8, 1460 & 255], window });
  const socket = net.host.tcp[net.host.tcp.length - 1] as FakeTcp;
  socket.handlers.connected();
  const [synAck] = net.seenTcp();
  if (synAck === undefined) throw new Error("no SYN-ACK");
  expect([synAck.flags, synAck.ack, synAck.mss]).toEqual([SYN | ACK, 5001, 1460]);
  const their = (synAck.seq + 1) >>> 0;
  net.tcp(ACK, 5001, their, "", { window });
  return { socket, mine: 5001, their };
}

describe("TCP", () => {
  it("answers a SYN once the host has, and carries bytes both ways", () => {
    const net = new Net().hello();
    net.tcp(SYN, 5000, 0);
    expect(net.seen()).toEqual([]);
    const { socket, mine, their } = established(net);
    expect([socket.address, socket.port]).toEqual(["127.0.0.1", 80]);
    net.tcp(ACK, mine, their, "GET /");
    expect(socket.text).toBe("GET /");
    expect(net.seenTcp().at(-1)).toMatchObject({ flags: ACK, ack: mine + 5 });
    socket.handlers.data(bytes("hello"));
    const [s] = net.seenTcp();
    expect([s?.seq, text(s?.data as Uint8Array)]).toEqual([their, "hello"]);
    net.tcp(ACK, mine + 5, their + 5);
  });
  it("resets where nobody listens", () => {
    const net = new Net().hello();
    net.tcp(SYN, 5000, 0);
    net.host.tcp[0]?.handlers.closed("ECONNREFUSED");
    expect(net.seenTcp()[0]).toMatchObject({ flags: RST | ACK, ack: 5001 });
    expect([net.nat.connections, net.host.activeTimers]).toEqual([0, 0]);
  });
  it("tells of an unreachable host", () => {
    const net = new Net().hello();
    net.tcp(SYN, 5000, 0, "", { dst: parseIp("192.0.2.1") });
    net.host.tcp[0]?.handlers.closed("EHOSTUNREACH");
    expect([...(net.seen()[0]?.payload.subarray(0, 2) ?? [])]).toEqual([3, 1]);
  });
  it("resets what belongs to no connection, but not a reset", () => {
    const net = new Net().hello();
    net.tcp(ACK, 1, 777, "x");
    expect(net.seenTcp()[0]).toMatchObject({ flags: RST, seq: 777 });
    net.tcp(RST, 1, 1);
    expect(net.seen()).toEqual([]);
  });
  it("repeats its SYN-ACK until it is heard", () => {
    const net = new Net().hello();
    net.tcp(SYN, 5000, 0);
    net.host.tcp[0]?.handlers.connected();
    net.host.pass(3100 * MS);
    expect(net.seenTcp().map((s) => s.flags)).toEqual([SYN | ACK, SYN | ACK, SYN | ACK]);
    net.tcp(SYN, 5000, 0);
    expect(net.seenTcp()).toHaveLength(1);
  });
  it("closes from the guest's side, then the host's", () => {
    const net = new Net().hello();
    const { socket, mine, their } = established(net);
    net.tcp(FIN | ACK, mine, their, "bye");
    expect([socket.text, socket.ended]).toEqual(["bye", true]);
    expect(net.seenTcp().at(-1)).toMatchObject({ flags: ACK, ack: mine + 4 });
    socket.handlers.data(bytes("last"));
    socket.handlers.ended();
    const out = net.seenTcp();
    expect(out.map((s) => text(s.data)).join("")).toBe("last");
    expect((out.at(-1)?.flags as number) & FIN).toBe(FIN);
    net.tcp(ACK, mine + 4, their + 5);
    net.host.pass(2000 * MS);
    expect([net.nat.connections, net.host.activeTimers]).toEqual([0, 0]);
  });
  it("closes from the host's side, then the guest's", () => {
    const net = new Net().hello();
    const { socket, mine, their } = established(net);
    socket.handlers.ended();
    expect(net.seenTcp()[0]).toMatchObject({ flags: FIN | ACK, seq: their });
    net.tcp(ACK, mine, their + 1, "still here");
    expect(socket.text).toBe("still here");
    net.tcp(FIN | ACK, mine + 10, their + 1);
    expect(socket.ended).toBe(true);
    expect(net.seenTcp().at(-1)).toMatchObject({ ack: mine + 11 });
    // Its FIN again: our acknowledgement was lost.
    net.tcp(FIN | ACK, mine + 10, their + 1);
    expect(net.seenTcp().at(-1)).toMatchObject({ flags: ACK, ack: mine + 11 });
    net.host.pass(2000 * MS);
    expect(net.nat.connections).toBe(0);
  });
  it("passes resets on in both directions", () => {
    const net = new Net().hello();
    const one = established(net);
    net.tcp(RST, one.mine + 5, one.their); // not at the edge: only challenged
    expect(one.socket.destroyed).toBe(false);
    net.seen();
    net.tcp(RST, one.mine, one.their);
    expect(one.socket.destroyed).toBe(true);
    const two = established(net);
    two.socket.handlers.closed("ECONNRESET");
    expect(net.seenTcp()[0]).toMatchObject({ flags: RST | ACK, seq: two.their });
    expect(net.nat.connections).toBe(0);
  });
  it("puts segments in order, and drops doubles", () => {
    const net = new Net().hello();
    const { socket, mine, their } = established(net);
    net.tcp(ACK, mine + 3, their, "def");
    expect(net.seenTcp()[0]).toMatchObject({ ack: mine });
    net.tcp(ACK, mine + 6, their, "ghi");
    net.tcp(ACK, mine, their, "abc");
    net.tcp(ACK, mine, their, "abcdef");
    net.tcp(ACK, mine + 7, their, "hijk");
    expect(socket.text).toBe("abcdefghijk");
    expect(net.seenTcp().at(-1)).toMatchObject({ ack: mine + 11 });
  });
  it("sends again after a time what was lost", () => {
    const net = new Net().hello();
    const { socket, mine, their } = established(net);
    net.lose = () => true;
    socket.handlers.data(bytes("lost"));
    net.lose = () => false;
    expect(net.seen()).toEqual([]);
    net.host.pass(1100 * MS);
    const [s] = net.seenTcp();
    expect([s?.seq, text(s?.data as Uint8Array)]).toEqual([their, "lost"]);
    net.tcp(ACK, mine, their + 4);
    expect(net.host.activeTimers).toBe(0);
  });
  it("sends again at once after three duplicate acknowledgements", () => {
    const net = new Net().hello();
    const { socket, mine, their } = established(net);
    socket.handlers.data(new Uint8Array(8 * 1460).fill(7));
    expect(net.seenTcp()).toHaveLength(8);
    net.tcp(ACK, mine, their + 1460);
    net.seen();
    for (let i = 0; i < 3; i++) net.tcp(ACK, mine, their + 1460);
    expect(net.seenTcp()[0]).toMatchObject({ seq: (their + 1460) >>> 0 });
  });
  it("gives up on a guest that is gone", () => {
    const net = new Net().hello();
    const { socket } = established(net);
    socket.handlers.data(bytes("x"));
    net.host.pass(3_600_000 * MS);
    expect([socket.destroyed, net.nat.connections, net.host.activeTimers]).toEqual([true, 0, 0]);
  });
  it("keeps to the guest's window, and probes a closed one", () => {
    const net = new Net().hello();
    const { socket, mine, their } = established(net, 3000);
    socket.handlers.data(bytes("z".repeat(10_000)));
    let sent = net.seenTcp().reduce((n, s) => n + s.data.length, 0);
    expect(sent).toBeLessThanOrEqual(3000);
    net.tcp(ACK, mine, their + sent, "", { window: 0 });
    expect(net.seen()).toEqual([]);
    net.host.pass(5000 * MS);
    const probes = net.seenTcp();
    expect(probes.length).toBeGreaterThan(0);
    expect(probes.every((p) => p.data.length === 1 && p.seq === (their + sent) >>> 0)).toBe(true);
    net.tcp(ACK, mine, their + sent, "", { window: 0 });
    net.tcp(ACK, mine, their + sent, "", { window: 60_000 });
    for (let i = 0; i < 20 && sent < 10_000; i++) {
      for (const s of net.seenTcp()) sent = Math.max(sent, ((s.seq - their) >>> 0) + s.data.length);
      net.tcp(ACK, mine, their + sent, "", { window: 60_000 });
    }
    expect(sent).toBe(10_000);
  });
  it("closes its own window where the host does not take the bytes, and opens it again", () => {
    const net = new Net().hello();
    const { socket, mine, their } = established(net);
    socket.stuck = true;
    let at = mine;
    let window = 65535;
    for (let i = 0; i < 100 && window >= 1000; i++) {
      const n = Math.min(window, 60_000);
      for (let done = 0; done < n; done += 1400)
        net.tcp(ACK, at + done, their, new Uint8Array(Math.min(1400, n - done)));
      at += n;
      window = net.seenTcp().at(-1)?.window as number;
    }
    expect(socket.buffered).toBeLessThanOrEqual(1 << 20);
    expect(window).toBeLessThan(1000);
    socket.buffered = 0;
    socket.handlers.drained();
    expect(net.seenTcp()[0]?.window).toBe(65535);
  });
  it("pauses a host that is quicker than the guest", () => {
    const net = new Net().hello();
    const { socket, mine, their } = established(net);
    for (let i = 0; i < 20; i++) socket.handlers.data(new Uint8Array(65536));
    expect(socket.paused).toBe(true);
    let acked = 0;
    for (let i = 0; i < 1000 && socket.paused; i++) {
      for (const s of net.seenTcp()) acked = Math.max(acked, ((s.seq - their) >>> 0) + s.data.length);
      net.tcp(ACK, mine, their + acked);
    }
    expect(socket.paused).toBe(false);
  });
  it("carries a megabyte over a wire that loses every ninth frame", () => {
    const net = new Net().hello();
    const { socket, mine, their } = established(net);
    const data = new Uint8Array(1_000_000).map((_, i) => (i * 2654435761) >>> 11);
    const got = new Uint8Array(data.length);
    for (let i = 0; i < data.length; i += 100_000) socket.handlers.data(data.subarray(i, i + 100_000));
    socket.handlers.ended();
    let n = 0;
    net.lose = () => ++n % 9 === 0;
    let at = 0;
    let fin = false;
    const early = new Map<number, Uint8Array>();
    for (let round = 0; round < 20_000 && !fin; round++) {
      const arrived = net.seenTcp();
      if (arrived.length === 0) net.host.pass(100 * MS);
      for (const s of arrived) {
        const off = (s.seq - their) >>> 0;
        if (s.data.length > 0) early.set(off, s.data);
        for (let d = early.get(at); d !== undefined; d = early.get(at)) {
          got.set(d, at);
          early.delete(at);
          at += d.length;
        }
        if ((s.flags & FIN) !== 0 && off + s.data.length === at) fin = true;
        net.tcp(ACK, mine, their + at + (fin ? 1 : 0));
      }
    }
    expect([at, fin]).toEqual([data.length, true]);
    expect(Buffer.compare(got, data)).toBe(0);
  });
  it("opens forwarded ports towards the guest, asking by ARP for it first", () => {
    const net = new Net({ forwards: [{ proto: "tcp", hostPort: 8080, guestPort: 80 }] });
    const socket = new FakeTcp("", 0, { connected() {}, data() {}, drained() {}, ended() {}, closed() {} });
    const h = net.host.listeners[0]?.accept(socket, "127.0.0.1", 40000);
    if (h === null || h === undefined) throw new Error("refused");
    const asked = net.inbox.splice(0)[0]?.data as Uint8Array;
    expect([be16(asked, 20), be32(asked, 38)]).toEqual([1, GUEST]);
    net.frame(arpFrame(2, net.nat.mac, GUEST_MAC, GUEST, net.nat.mac, GATEWAY));
    const [syn] = net.seenTcp();
    if (syn === undefined) throw new Error("no SYN");
    expect([syn.flags, syn.dstPort]).toEqual([SYN, 80]);
    net.tcp(SYN | ACK, 900, syn.seq + 1, "", { from: 80, to: syn.srcPort });
    expect(net.seenTcp()[0]).toMatchObject({ flags: ACK, ack: 901 });
    h.data(bytes("hi"));
    expect(text(net.seenTcp()[0]?.data as Uint8Array)).toBe("hi");
    net.tcp(ACK, 901, syn.seq + 3, "there", { from: 80, to: syn.srcPort });
    expect(socket.text).toBe("there");
  });
  it("ends a forwarded connection that the guest refuses", () => {
    const net = new Net({ forwards: [{ proto: "tcp", hostPort: 8080, guestPort: 80 }] }).hello();
    const socket = new FakeTcp("", 0, { connected() {}, data() {}, drained() {}, ended() {}, closed() {} });
    net.host.listeners[0]?.accept(socket, "127.0.0.1", 40000);
    const [syn] = net.seenTcp();
    net.tcp(RST | ACK, 0, (syn?.seq as number) + 1, "", { from: 80, to: syn?.srcPort as number });
    expect([socket.destroyed, net.nat.connections]).toEqual([true, 0]);
  });
  it("has a bounded number of connections", () => {
    const net = new Net().hello();
    for (let i = 0; i < 1100; i++) net.tcp(SYN, 1, 0, "", { from: 2000 + i });
    expect(net.nat.connections).toBe(1024);
    expect(net.seenTcp().filter((s) => s.flags & RST)).toHaveLength(76);
  });
  it("lets go of everything when the NAT is closed", () => {
    const net = new Net({ forwards: [{ proto: "tcp", hostPort: 1, guestPort: 2 }] }).hello();
    const { socket } = established(net);
    net.udp(GATEWAY, 1, 2, bytes("x"));
    net.nat.close();
    expect([socket.destroyed, net.host.udp[0]?.closed, net.host.listeners[0]?.closed, net.host.activeTimers]).toEqual([
      true,
      true,
      true,
      0,
    ]);
  });
});

it("survives any frame", () => {
  const net = new Net().hello();
  let seed = 7;
  const random = (): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 9;
  for (let i = 0; i < 20_000; i++) {
    const b = new Uint8Array(14 + (random() % 120)).map(() => random());
    putMac(b, 0, net.nat.mac);
    putMac(b, 6, GUEST_MAC);
    put16(b, 12, random() % 4 === 0 ? 0x0806 : 0x0800);
    if (b.length > 34 && random() % 2 === 0) {
      b[14] = 0x45;
      put16(b, 16, random() % 3 === 0 ? random() : b.length - 14);
      b[23] = [1, 6, 17][random() % 3] as number;
      put32(b, 26, GUEST);
      put32(b, 30, random() % 2 === 0 ? GATEWAY : 0x0a000203);
    }
    net.frame({ data: b, csumBlank: false, validated: true, gso: 0, gsoSize: 0 });
  }
  net.nat.close();
  expect(net.host.activeTimers).toBe(0);
});
