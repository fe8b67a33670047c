import { describe, expect, it } from "vitest";
import { NodeSockets } from "../../sys/node/nat-sockets.js";
import { Bridge } from "./bridge.js";
import { BridgeLink, encodeFrame, FrameReader, LinkError, parseLinkAddress, type LinkHost } from "./link.js";
import { GSO_TCPV4, type Packet, putMac, wire } from "./packet.js";

const GREETING = Uint8Array.from([..."XNLINK"].map((c) => c.charCodeAt(0)).concat([0, 1]));

function frame(to: number, from: number, size = 60): Uint8Array {
  const data = new Uint8Array(size);
  putMac(data, 0, to);
  putMac(data, 6, from);
  data.set([0x88, 0xb5], 12);
  data[size - 1] = size & 255;
  return data;
}

describe("the stream of a link", () => {
  const packets: Packet[] = [
    wire(frame(1, 2)),
    { data: frame(3, 4, 9000), csumBlank: true, validated: true, gso: GSO_TCPV4, gsoSize: 1448 },
    wire(frame(5, 6, 14)),
  ];
  const stream = Uint8Array.from([...GREETING, ...packets.flatMap((p) => [...encodeFrame(p)])]);

  it("gives back the frames, however it was cut; that they were checked is not believed", () => {
    for (const step of [1, 7, 100, stream.length]) {
      const reader = new FrameReader();
      const got: Packet[] = [];
      for (let at = 0; at < stream.length; at += step) got.push(...reader.push(stream.slice(at, at + step)));
      expect(got).toEqual(packets.map((p) => ({ ...p, validated: false })));
    }
  });

  it.each([
    ["another greeting", Uint8Array.from([..."GET / HT"].map((c) => c.charCodeAt(0)))],
    ["a length of nothing", Uint8Array.from([...GREETING, 0, 0, 0, 3, 0, 0, 0, 0])],
    ["a length beyond any frame", Uint8Array.from([...GREETING, 0, 2, 0, 0, 0, 0, 0, 0])],
    ["a flag that is not known", Uint8Array.from([...GREETING, 0, 0, 0, 60, 2, 0, 0, 0])],
    ["segmentation of no kind", Uint8Array.from([...GREETING, 0, 0, 0, 60, 0, 3, 5, 0])],
    ["segments of no bytes", Uint8Array.from([...GREETING, 0, 0, 0, 60, 0, 1, 0, 0])],
  ])("refuses %s", (_name, bytes) => {
    expect(() => [...new FrameReader().push(bytes)]).toThrow(LinkError);
  });

  it("addresses are HOST:PORT or listen:[ADDRESS:]PORT", () => {
    expect(parseLinkAddress("10.0.0.1:99")).toEqual({ address: "10.0.0.1", port: 99, listen: false });
    expect(parseLinkAddress("[::1]:99")).toEqual({ address: "::1", port: 99, listen: false });
    expect(parseLinkAddress("listen:0")).toEqual({ address: "127.0.0.1", port: 0, listen: true });
    expect(parseLinkAddress("listen:0.0.0.0:7")).toEqual({ address: "0.0.0.0", port: 7, listen: true });
    for (const bad of ["", "99", "host:0", "host:70000", "a b:1", "listen:x"])
      expect(() => parseLinkAddress(bad)).toThrow(/link/);
  });
});

describe("two bridges over TCP", () => {
  const host = (said: string[]): LinkHost => ({
    sockets: new NodeSockets(),
    post: (fn) => void setImmediate(fn),
    timer: (fire) => {
      let t: NodeJS.Timeout | undefined;
      return { set: () => (t = setTimeout(fire, 50)), stop: () => clearTimeout(t) };
    },
    now: () => 0,
    say: (line) => said.push(line),
  });
  const until = async (what: () => boolean): Promise<void> => {
    for (let i = 0; i < 500 && !what(); i++) await new Promise((r) => setTimeout(r, 10));
    expect(what()).toBe(true);
  };

  it("are one network; the link comes back after a loss, and learns addresses as any port", async () => {
    const said: string[] = [];
    const near = new Bridge("near", () => 0);
    const far = new Bridge("far", () => 0);
    const got: Uint8Array[] = [];
    const answers: Uint8Array[] = [];
    const a = near.attach((p) => answers.push(p.data));
    const b = far.attach((p) => got.push(p.data));
    let port = 0;
    let server = new BridgeLink(host(said), far, parseLinkAddress("listen:0"), (p) => (port = p));
    await until(() => port !== 0);
    const client = new BridgeLink(host(said), near, { address: "127.0.0.1", port, listen: false });
    await until(() => client.connected && server.connected);
    a.send(wire(frame(0xffffffffffff, 0x020000000001)));
    await until(() => got.length === 1);
    b.send(wire(frame(0x020000000001, 0x020000000002, 1500)));
    await until(() => answers.length === 1);
    expect(answers[0]).toHaveLength(1500);
    expect(near.lookup(0x020000000002)?.name).toContain("link");

    server.close();
    await until(() => !client.connected);
    expect(near.lookup(0x020000000002)).toBeNull();
    server = new BridgeLink(host(said), far, { address: "127.0.0.1", port, listen: true });
    await until(() => client.connected && server.connected);
    a.send(wire(frame(0xffffffffffff, 0x020000000001)));
    await until(() => got.length === 2);
    client.close();
    await until(() => !server.connected);
    server.close();
    expect(said.filter((s) => s.includes("has lost")).length).toBeGreaterThan(1);
  });
});
