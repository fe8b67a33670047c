import { describe, expect, it } from "vitest";
import {
  XENSTORE_ERROR_COMM,
  XENSTORE_ERROR_PROTO,
  XENSTORE_ERROR_RINGIDX,
  XENSTORE_RECONNECT,
  XENSTORE_RING_SIZE,
} from "../abi/io_xs_wire.js";
import type { XsMessage } from "./wire.js";
import { encode } from "./wire.js";
import { strings } from "./text.js";
import { addDomain, testServer, typeOf } from "./testing.js";

describe("a domain's ring", () => {
  it("answers, consumes the request, and notifies", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    const before = s.host.notified.get(1) ?? 0;
    d.request("READ", strings("/tool"), 42);
    const [m] = d.receive() as [XsMessage];
    expect([m.type, m.reqId]).toEqual([typeOf("ERROR"), 42]);
    expect(d.get("req_cons")).toBe(d.get("req_prod"));
    expect(s.host.notified.get(1)).toBeGreaterThan(before);
  });
  it("offers reconnection and the error field", () => {
    const s = testServer();
    expect(addDomain(s, 1).get("server_features") & 3).toBe(3);
  });
  it("works across the wrap of the ring and of the 32-bit indices", () => {
    const s = testServer();
    s.host.alive.add(1);
    for (const f of [2048, 2052, 2056, 2060]) s.host.mem.w32(4096 + f, 0xffffff80);
    const d = addDomain(s, 1);
    for (let i = 0; i < 60; i++) {
      expect(d.ask("WRITE", `k${i % 3}`, "v".repeat(i * 7))).toEqual(["WRITE OK|"]);
      expect(d.ask("READ", `k${i % 3}`)).toEqual([`READ ${"v".repeat(i * 7)}|`]);
    }
  });
  it("a message larger than the ring goes through in portions, both ways", () => {
    const s = testServer({ quota: { nodeSize: 100000 } });
    const d = addDomain(s, 1);
    const value = "x".repeat(4000);
    expect(d.ask("WRITE", "big", value)).toEqual(["WRITE OK|"]);
    expect(d.ask("READ", "big")).toEqual([`READ ${value}|`]);
  });
  it("an event reaches a domain that does not ask", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    d.ask("WATCH", "x", "t");
    const before = s.host.notified.get(1) as number;
    s.dom0.write("/local/domain/1/x", "");
    expect(s.host.notified.get(1)).toBe(before + 1);
    expect(d.text()).toEqual(["WATCH_EVENT x|t|"]);
  });
  it("an event that waits is not told twice, one that was taken is", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    d.ask("WATCH", "x", "t");
    // Fill the ring so that events must wait.
    for (let i = 0; i < 200; i++) s.dom0.write(`/local/domain/1/x/n${i}`, "");
    const waiting = s.server.ringOf(1)?.outstanding as number;
    expect(waiting).toBeGreaterThan(100);
    for (let i = 100; i < 200; i++) s.dom0.write(`/local/domain/1/x/n${i}`, "");
    expect(s.server.ringOf(1)?.outstanding).toBe(waiting);
    expect(d.text()).toHaveLength(200);
    s.dom0.write("/local/domain/1/x/n150", "");
    expect(d.text()).toEqual(["WATCH_EVENT x/n150|t|"]);
  });
  it("who does not take answers is not heard further, and loses nothing", () => {
    const s = testServer({ quota: { outstanding: 4 } });
    const d = addDomain(s, 1);
    s.dom0.write("/local/domain/1/v", "y".repeat(1000));
    const ask = encode(typeOf("READ"), 1, 0, strings("v"));
    let put = 0;
    for (let i = 0; i < 30; i++) {
      if (d.put(ask) < ask.length) break;
      put++;
      s.host.kick(1);
    }
    expect(s.server.ringOf(1)?.outstanding).toBe(4);
    expect(d.get("req_prod") - d.get("req_cons")).toBeGreaterThan(0);
    expect(d.text()).toHaveLength(put);
    expect(d.get("req_prod")).toBe(d.get("req_cons"));
  });
  it("a domain that lets events pile up without end loses its connection", () => {
    const s = testServer({ quota: { pendingBytes: 8192 } });
    const d = addDomain(s, 1);
    d.ask("WATCH", "x", "t");
    for (let i = 0; i < 500; i++) s.dom0.write(`/local/domain/1/x/n${i}`, "");
    expect(d.get("error")).toBe(XENSTORE_ERROR_COMM);
    expect(s.server.ringOf(1)?.outstanding).toBe(0);
  });
});

describe("a hostile ring costs only its own connection", () => {
  const forged: [string, (d: ReturnType<typeof addDomain>) => void, number][] = [
    [
      "a request producer too far ahead",
      (d) => d.set("req_prod", d.get("req_cons") + XENSTORE_RING_SIZE + 1),
      XENSTORE_ERROR_RINGIDX,
    ],
    ["a request producer behind", (d) => d.set("req_prod", d.get("req_cons") - 1), XENSTORE_ERROR_RINGIDX],
    ["a request consumer of the guest's making", (d) => d.set("req_cons", 0x12345678), XENSTORE_ERROR_RINGIDX],
    [
      "an oversized payload",
      (d) => void d.put(encode(2, 0, 0, new Uint8Array(4097)).subarray(0, 16)),
      XENSTORE_ERROR_PROTO,
    ],
    [
      "a payload of 4 GiB",
      (d) => void d.put(Uint8Array.from({ length: 16 }, (_, i) => (i < 12 ? 2 : 255))),
      XENSTORE_ERROR_PROTO,
    ],
    [
      "an answer consumer beyond the producer",
      (d) => {
        d.set("rsp_cons", d.get("rsp_prod") + 5);
        d.put(encode(typeOf("READ"), 1, 0, strings("x")));
      },
      XENSTORE_ERROR_RINGIDX,
    ],
  ];
  for (const [what, forge, error] of forged)
    it(what, () => {
      const s = testServer();
      const lost: number[] = [];
      s.server.onConnectionLost = (_c, e) => lost.push(e);
      const good = addDomain(s, 2);
      const bad = addDomain(s, 1);
      bad.ask("WATCH", "x", "t");
      bad.ask("TRANSACTION_START", "");
      forge(bad);
      s.host.kick(1);
      expect(bad.get("error")).toBe(error);
      expect(lost).toEqual([error]);
      expect(s.server.watches.count(s.server.ringOf(1)!.connection)).toBe(0);
      // Deaf from now on, whatever it does.
      bad.set("req_prod", bad.get("req_cons"));
      bad.put(encode(typeOf("READ"), 1, 0, strings("x")));
      const prod = bad.get("rsp_prod");
      s.host.kick(1);
      s.dom0.write("/local/domain/1/x", "");
      expect(bad.get("rsp_prod")).toBe(prod);
      // The others go on.
      expect(good.ask("WRITE", "x", "")).toEqual(["WRITE OK|"]);
    });
  it("the server writes within the page's own fields only", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    s.host.bytes.fill(0xa5, 4096 + 2076, 8192);
    s.host.bytes.fill(0xa5, 8192, 12288);
    for (const x of [0, 1, 512, 1023, 0xfffffc00, 0xffffffff]) {
      d.set("rsp_prod", x);
      d.set("rsp_cons", x);
      d.ask("DIRECTORY", "/");
    }
    expect(s.host.bytes.subarray(4096 + 2076, 12288).every((b) => b === 0xa5)).toBe(true);
  });
  it("endless junk in any form is answered or ends the connection", () => {
    let seed = 99;
    const random = (): number => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 16;
    for (let round = 0; round < 100; round++) {
      const s = testServer();
      s.server.onInternalError = (e) => {
        throw e;
      };
      const d = addDomain(s, 1);
      for (let i = 0; i < 30; i++) {
        const payload = Uint8Array.from({ length: random() % 60 }, () =>
          random() % 3 === 0 ? 0 : (["/", "a", "@", "1", "n", "T"][random() % 6] as string).charCodeAt(0),
        );
        d.send(encode(random() % 26, random(), random() % 3, payload));
        d.receive();
      }
      expect(s.server.store.check()).toEqual([]);
    }
  });
});

describe("reconnection", () => {
  it("empties the rings, drops watches, transactions and half a request, and goes on", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    d.ask("WATCH", "x", "t");
    const [start] = d.ask("TRANSACTION_START", "");
    expect(start).toBe("TRANSACTION_START 1|");
    d.put(encode(typeOf("READ"), 1, 0, strings("x")).subarray(0, 10));
    s.host.kick(1);
    d.set("connection", XENSTORE_RECONNECT);
    s.host.kick(1);
    expect(
      ["connection", "req_cons", "req_prod", "rsp_cons", "rsp_prod", "error"].map((f) => d.get(f as "error")),
    ).toEqual([0, 0, 0, 0, 0, 0]);
    s.dom0.write("/local/domain/1/x", "1");
    expect(d.text()).toEqual([]);
    expect(d.ask("READ", "x")).toEqual(["READ 1"]);
    d.request("READ", strings("x"), 1, 1);
    expect(d.text()).toEqual(["ERROR ENOENT|"]);
  });
  it("heals a connection that was lost", () => {
    const s = testServer();
    const d = addDomain(s, 1);
    d.set("req_prod", 5000);
    s.host.kick(1);
    expect(d.get("error")).toBe(XENSTORE_ERROR_RINGIDX);
    d.set("connection", XENSTORE_RECONNECT);
    s.host.kick(1);
    expect(d.get("error")).toBe(0);
    expect(d.ask("WRITE", "x", "")).toEqual(["WRITE OK|"]);
    expect(d.ask("WATCH", "x", "t")).toEqual(["WATCH OK|", "WATCH_EVENT x|t|"]);
  });
});
