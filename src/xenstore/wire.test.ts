import { describe, expect, it } from "vitest";
import { latin1 } from "./text.js";
import { encode, XsParser, type XsMessage } from "./wire.js";

const bytes = (s: string): Uint8Array => Uint8Array.from(s, (c) => c.charCodeAt(0));

function parse(parser: XsParser, stream: Uint8Array, portion: number): XsMessage[] {
  const out: XsMessage[] = [];
  for (let from = 0; from < stream.length; from += portion) {
    const chunk = stream.subarray(from, from + portion);
    for (let at = 0; at < chunk.length;) {
      at += parser.feed(chunk, at);
      if (parser.state === "packet") out.push(parser.message);
    }
  }
  return out;
}

describe("the wire parser", () => {
  const stream = new Uint8Array([
    ...encode(2, 1, 0, bytes("/a\0")),
    ...encode(6, 2, 0, bytes("")),
    ...encode(11, 0xffffffff, 0x80000001, bytes("/b\0" + "x".repeat(4000))),
  ]);
  for (const portion of [1, 2, 3, 15, 16, 17, 100, 5000])
    it(`finds the same messages in portions of ${portion}`, () => {
      const got = parse(new XsParser(), stream, portion);
      expect(got.map((m) => [m.type, m.reqId, m.txId, m.payload.length])).toEqual([
        [2, 1, 0, 3],
        [6, 2, 0, 0],
        [11, 0xffffffff, 0x80000001, 4003],
      ]);
      expect(latin1((got[0] as XsMessage).payload)).toBe("/a\0");
    });
  it("takes no byte beyond one message", () => {
    const p = new XsParser();
    expect(p.feed(stream)).toBe(19);
    expect(p.state).toBe("packet");
  });
  it("needs more until the last byte", () => {
    const p = new XsParser();
    p.feed(stream.subarray(0, 18));
    expect(p.state).toBe("need");
  });
  it("takes a payload of 4096 bytes and fails on one more, for good", () => {
    expect(parse(new XsParser(), encode(2, 0, 0, new Uint8Array(4096)), 7)).toHaveLength(1);
    const p = new XsParser();
    expect(parse(p, encode(2, 0, 0, new Uint8Array(4097)), 7)).toHaveLength(0);
    expect(p.state).toBe("failed");
    p.feed(stream);
    expect(p.state).toBe("failed");
  });
  it("survives any bytes", () => {
    let seed = 12345;
    const random = (): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 16;
    for (let round = 0; round < 200; round++) {
      const p = new XsParser();
      const junk = Uint8Array.from({ length: random() % 300 }, () => (random() % 4 === 0 ? random() : 0));
      for (const m of parse(p, junk, 1 + (random() % 40))) expect(m.payload.length).toBeLessThanOrEqual(4096);
    }
  });
});
