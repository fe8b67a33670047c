import { beforeEach, describe, expect, it } from "vitest";
import { Bridge, type BridgePort, type PortOptions } from "./bridge.js";
import { be16, BROADCAST, parseMac, putMac, put16, type Packet, wire } from "./packet.js";

const A = parseMac("00:16:3e:00:00:0a");
const B = parseMac("00:16:3e:00:00:0b");
const C = parseMac("00:16:3e:00:00:0c");

function frame(to: number, from: number, vlan = 0, size = 60): Packet {
  const b = new Uint8Array(size);
  putMac(b, 0, to);
  putMac(b, 6, from);
  put16(b, 12, vlan === 0 ? 0x88b5 : 0x8100);
  if (vlan !== 0) {
    put16(b, 14, vlan);
    put16(b, 16, 0x88b5);
  }
  return wire(b);
}

describe("a bridge", () => {
  let now = 0;
  let bridge: Bridge;
  let got: string[];
  let frames: Packet[];
  const plug = (name: string, options: PortOptions = {}): BridgePort =>
    bridge.attach(
      (p) => {
        got.push(name);
        frames.push(p);
      },
      { name, ...options },
    );
  const take = (): string[] => got.splice(0).sort();
  beforeEach(() => {
    now = 0;
    got = [];
    frames = [];
    bridge = new Bridge("t", () => now, { maxPerPort: 4, maxAddresses: 10, ageingNs: 100 });
  });

  it("floods what it does not know and learns where addresses are", () => {
    const [a, b] = [plug("a"), plug("b"), plug("c")];
    a.send(frame(B, A));
    expect(take()).toEqual(["b", "c"]);
    b.send(frame(A, B));
    expect(take()).toEqual(["a"]);
    a.send(frame(B, A));
    expect(take()).toEqual(["b"]);
  });
  it("floods broadcast and multicast, but not the link's own group addresses", () => {
    const a = plug("a");
    plug("b");
    plug("c");
    a.send(frame(BROADCAST, A));
    a.send(frame(parseMac("01:00:5e:00:00:01"), A));
    expect(take()).toEqual(["b", "b", "c", "c"]);
    a.send(frame(parseMac("01:80:c2:00:00:00"), A));
    expect(take()).toEqual([]);
  });
  it("follows an address that moves", () => {
    const [a, b, c] = [plug("a"), plug("b"), plug("c")];
    b.send(frame(BROADCAST, B));
    c.send(frame(BROADCAST, B));
    take();
    a.send(frame(B, A));
    expect(take()).toEqual(["c"]);
  });
  it("forgets what it has not heard for the ageing time", () => {
    const [a, b] = [plug("a"), plug("b"), plug("c")];
    b.send(frame(BROADCAST, B));
    take();
    now = 101;
    a.send(frame(B, A));
    expect(take()).toEqual(["b", "c"]);
  });
  it("forgets a port that is unplugged, and sends it nothing more", () => {
    const [a, b] = [plug("a"), plug("b"), plug("c")];
    b.send(frame(BROADCAST, B));
    b.detach();
    take();
    a.send(frame(B, A));
    expect(take()).toEqual(["c"]);
    b.send(frame(A, B));
    expect(take()).toEqual([]);
  });
  it("bounds the addresses behind one port, and leaves the others theirs", () => {
    const [a, b] = [plug("a"), plug("b")];
    b.send(frame(BROADCAST, B));
    for (let i = 0; i < 100; i++) a.send(frame(BROADCAST, A + 0x100 + i));
    expect(bridge.addresses).toBe(5);
    expect(bridge.lookup(B)).toBe(b);
    expect(bridge.lookup(A + 0x100 + 99)).toBe(a);
  });
  it("bounds all addresses together", () => {
    for (let p = 0; p < 5; p++) {
      const port = plug(`p${p}`);
      for (let i = 0; i < 4; i++) port.send(frame(BROADCAST, A + 0x100 * p + i));
    }
    expect(bridge.addresses).toBe(10);
  });
  it("lets only a filtered port's own addresses through, and nobody take them", () => {
    const a = plug("a", { macs: [A] });
    const [b, c] = [plug("b"), plug("c")];
    a.send(frame(B, C));
    expect(take()).toEqual([]);
    expect(a.counters.filtered).toBe(1);
    a.send(frame(BROADCAST, A));
    b.send(frame(BROADCAST, A));
    take();
    c.send(frame(A, C));
    expect(take()).toEqual(["a"]);
  });
  it("drops frames from group addresses and short ones", () => {
    const a = plug("a");
    plug("b");
    a.send(frame(B, BROADCAST));
    a.send(wire(new Uint8Array(10)));
    expect(take()).toEqual([]);
  });
  it("keeps VLANs apart, and tags on a trunk", () => {
    const a = plug("a", { vlan: 5 });
    plug("b", { vlan: 5 });
    plug("c", { vlan: 6 });
    const t = plug("trunk", { trunk: "all" });
    a.send(frame(BROADCAST, A));
    expect(got).toEqual(["b", "trunk"]);
    expect(be16(frames[0]?.data as Uint8Array, 12)).toBe(0x88b5);
    expect([be16(frames[1]?.data as Uint8Array, 12), be16(frames[1]?.data as Uint8Array, 14)]).toEqual([0x8100, 5]);
    take();
    frames = [];
    t.send(frame(A, C, 5));
    expect(take()).toEqual(["a"]);
    expect(be16(frames[0]?.data as Uint8Array, 12)).toBe(0x88b5);
    t.send(frame(A, C, 6));
    expect(take()).toEqual(["c"]);
  });
  it("refuses tags from a port that is no trunk", () => {
    const a = plug("a");
    plug("b", { vlan: 5 });
    a.send(frame(BROADCAST, A, 5));
    expect(take()).toEqual([]);
    expect(a.counters.filtered).toBe(1);
  });
  it("limits a port's rate", () => {
    const a = plug("a", { rate: { bytes: 200, intervalNs: 1000 } });
    plug("b");
    for (let i = 0; i < 10; i++) a.send(frame(BROADCAST, A, 0, 100));
    expect(take()).toHaveLength(2);
    expect(a.counters.rateDropped).toBe(8);
    now = 500;
    for (let i = 0; i < 10; i++) a.send(frame(BROADCAST, A, 0, 100));
    expect(take()).toHaveLength(1);
  });
});
