// The host's interface over a line: what travels, in which order, and what costs a connection.
import { describe, expect, it } from "vitest";
import { HostError, type HostApi, type HostEvent } from "./api.js";
import { fromBase64, toBase64 } from "./base64.js";
import { hostClient } from "./client.js";
import { MAX_MESSAGE, serveHost, type WireEnd } from "./wire.js";

const turn = (): Promise<void> => new Promise((r) => setTimeout(r, 0));
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const chars = (b: Uint8Array): string => new TextDecoder().decode(b);

interface Console {
  typed: string;
  closed: boolean;
  sink: { data(b: Uint8Array): void; end(reason: string): void };
}

/** A host that answers with what it was asked, behind a line. */
function line(over: Partial<HostApi> = {}) {
  const asked: unknown[][] = [];
  const consoles: Console[] = [];
  const listeners = new Set<(e: HostEvent) => void>();
  const host = new Proxy({} as HostApi, {
    get: (_, name: string) => {
      if (name === "openConsole") {
        return async (_ref: unknown, index: number, sink: Console["sink"]) => {
          if (index > 1) throw new HostError("not-found", `no console ${index}`);
          const c: Console = { typed: "", closed: false, sink };
          consoles.push(c);
          sink.data(bytes("kept "));
          if (index === 1) sink.end("over at once");
          return { write: (b: Uint8Array) => void (c.typed += chars(b)), close: () => void (c.closed = true) };
        };
      }
      if (name === "onEvent") {
        return (sink: (e: HostEvent) => void) => {
          listeners.add(sink);
          return () => void listeners.delete(sink);
        };
      }
      const own = (over as Record<string, unknown>)[name];
      if (own !== undefined) return own;
      return async (...args: unknown[]) => {
        asked.push([name, ...args]);
        return { name, args };
      };
    },
  });
  const state = { buffered: 0, sent: [] as string[], serverClosed: false, clientClosed: false };
  const client = hostClient({
    send: (text) => server.receive(text),
    close: () => {
      state.clientClosed = true;
      server.closed();
    },
  });
  const server: WireEnd = serveHost(
    host,
    {
      send: (text) => {
        state.sent.push(text);
        client.wire.receive(text);
      },
      close: () => {
        state.serverClosed = true;
        client.wire.closed("closed by the host");
      },
      get buffered() {
        return state.buffered;
      },
    },
    { hello: async (params) => ({ hi: params }) },
  );
  return { ...client, server, state, asked, consoles, listeners };
}

describe("base64", () => {
  it("is the usual one, for all lengths", () => {
    for (let n = 0; n < 70; n++) {
      const b = Uint8Array.from({ length: n }, (_, i) => (i * 37 + n) & 255);
      expect(toBase64(b)).toBe(Buffer.from(b).toString("base64"));
      expect(fromBase64(toBase64(b))).toEqual(b);
    }
  });
  it("refuses what is none", () => {
    for (const bad of ["A", "AA=", "A===", "====", "A=AA", "Ä===", "AA A"]) expect(fromBase64(bad)).toBeNull();
  });
});

describe("requests", () => {
  it("have their parameters, absent ones too, and their results", async () => {
    const t = line();
    expect(await t.host.listDomains()).toEqual({ name: "listDomains", args: [] });
    await t.host.pinVcpu("a", "all", undefined, [1]);
    await t.host.pinVcpu(1, 0, null);
    await t.host.waitForEnd("a");
    expect(t.asked).toEqual([
      ["listDomains"],
      ["pinVcpu", "a", "all", undefined, [1]],
      ["pinVcpu", 1, 0, null],
      ["waitForEnd", "a"],
    ]);
    expect(await t.host.request("hello", 1)).toEqual({ hi: [1] });
  });

  it("fail with the host's code and message", async () => {
    const t = line({ pause: () => Promise.reject(new HostError("state", "not now")) });
    await expect(t.host.pause(1)).rejects.toMatchObject({ name: "HostError", code: "state", message: "not now" });
  });

  it("of the wrong form are refused, and only they", async () => {
    const t = line();
    const bad: [string, ...unknown[]][] = [
      ["destroy"],
      ["destroy", {}],
      ["destroy", -1],
      ["destroy", 1, 2],
      ["shutdown", 1, "halt"],
      ["create", { config: "x" }],
      ["create", { config: "x", source: "y", more: 1 }],
      ["setSched", 1, "credit", { weight: "1" }],
      ["pinVcpu", 1, "some"],
      ["poolAddCpus", "a", ["1"]],
    ];
    for (const [method, ...params] of bad)
      await expect(t.host.request(method, ...params)).rejects.toMatchObject({ code: "invalid" });
    for (const name of ["nonsense", "constructor", "__proto__", "toString"])
      await expect(t.host.request(name)).rejects.toMatchObject({ code: "unsupported" });
    expect(t.asked).toEqual([]);
    expect(t.state.serverClosed).toBe(false);
  });

  it("that are no messages cost the connection", async () => {
    for (const text of [
      "",
      "x",
      "1",
      "[]",
      "null",
      '{"id":1}',
      '{"id":"1","method":"info","params":[]}',
      '{"stream":1}',
    ]) {
      const t = line();
      t.server.receive(text);
      expect(t.state.serverClosed, text).toBe(true);
      expect(await t.host.closed).toBe("closed by the host");
    }
    const t = line();
    t.server.receive(`{"id":1,"method":"destroy","params":["${"x".repeat(MAX_MESSAGE)}"]}`);
    expect([t.state.serverClosed, t.asked]).toEqual([true, []]);
  });

  it("are bounded in number", () => {
    const t = line({ info: () => new Promise(() => {}) });
    for (let i = 0; i < 256; i++) t.server.receive(`{"id":${i},"method":"info","params":[]}`);
    expect(t.state.serverClosed).toBe(false);
    t.server.receive('{"id":999,"method":"info","params":[]}');
    expect(t.state.serverClosed).toBe(true);
  });

  it("that wait when the line breaks fail, and later ones at once", async () => {
    const t = line({ info: () => new Promise(() => {}) });
    const waiting = t.host.info();
    t.wire.closed("it broke");
    await expect(waiting).rejects.toMatchObject({ code: "io", message: "it broke" });
    await expect(t.host.listDomains()).rejects.toMatchObject({ code: "io" });
    expect(await t.host.closed).toBe("it broke");
  });

  it("a peer that does not read what it asked for is cut off", async () => {
    const t = line();
    t.state.buffered = 64 << 20;
    t.host.info().catch(() => undefined);
    await turn();
    expect(t.state.serverClosed).toBe(true);
  });
});

describe("consoles", () => {
  async function open(t: ReturnType<typeof line>, index = 0) {
    const got = { text: "", end: null as string | null };
    const channel = await t.host.openConsole("a", index, {
      data: (b) => void (got.text += chars(b)),
      end: (reason) => void (got.end = reason),
    });
    await turn();
    return { got, channel };
  }

  it("carry what is kept, what comes, and what is typed; closing one tells the host", async () => {
    const t = line();
    const { got, channel } = await open(t);
    const c = t.consoles[0];
    c?.sink.data(bytes("später"));
    channel.write(bytes("ü\x03"));
    expect([got.text, c?.typed]).toEqual(["kept später", "ü\x03"]);
    channel.close();
    expect(c?.closed).toBe(true);
    c?.sink.data(bytes("unheard"));
    expect(got.text).toBe("kept später");
  });

  it("say how they ended, also one that was over at once", async () => {
    const t = line();
    const first = await open(t);
    t.consoles[0]?.sink.end("gone");
    const second = await open(t, 1);
    expect([first.got.end, second.got.text, second.got.end]).toEqual(["gone", "kept ", "over at once"]);
    await expect(open(t, 2)).rejects.toMatchObject({ code: "not-found" });
  });

  it("are let go when the line breaks", async () => {
    const t = line();
    const { got } = await open(t);
    t.server.closed();
    t.wire.closed("it broke");
    expect([t.consoles[0]?.closed, got.end]).toEqual([true, "it broke"]);
  });

  it("leave out what a slow reader does not take, and say how much", async () => {
    const t = line();
    const { got } = await open(t);
    t.state.buffered = 8 << 20;
    t.consoles[0]?.sink.data(bytes("xxxxx"));
    t.state.buffered = 0;
    t.consoles[0]?.sink.data(bytes("!"));
    expect(got.text).toBe("kept \r\n[5 bytes were not read in time]\r\n!");
    expect(t.state.serverClosed).toBe(false);
  });

  it("are bounded in number", async () => {
    const t = line();
    for (let i = 0; i < 64; i++) await open(t);
    await expect(open(t)).rejects.toMatchObject({ code: "state" });
  });
});

describe("events", () => {
  it("come to all who listen, until they stop or the line ends", async () => {
    const t = line();
    const seen: string[] = [];
    const stop = t.host.onEvent((e) => void seen.push(`1 ${e.type}`));
    t.host.onEvent((e) => void seen.push(`2 ${e.type}`));
    await turn();
    const say = (): void => {
      for (const l of t.listeners) l({ type: "created", domid: 1, name: "a" });
    };
    say();
    stop();
    say();
    expect(seen).toEqual(["1 created", "2 created", "2 created"]);
    t.server.closed();
    expect(t.listeners.size).toBe(0);
  });
});
