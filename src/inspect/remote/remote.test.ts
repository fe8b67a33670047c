// Calls and consoles over a pipe, as objects and as text.
import { describe, expect, test } from "vitest";
import { HostError } from "../../toolstack/host/api.js";
import type { InspectApi } from "../api.js";
import { LabClient, serveLab, type LabHost } from "./lab.js";
import { inspectOver, inspectRequests } from "./over-host.js";
import { RpcError, type Message } from "./rpc.js";
import { decode, encode } from "./text.js";

interface FakeConsole {
  data(bytes: Uint8Array): void;
  end(reason: string): void;
}

function connected(): { client: LabClient; typed: Uint8Array[]; sinks: FakeConsole[]; closed: string[] } {
  const typed: Uint8Array[] = [];
  const sinks: FakeConsole[] = [];
  const closed: string[] = [];
  const host = {
    pause: async (ref: number) => {
      if (ref !== 1) throw new HostError("unknown-domain", `${ref} is an invalid domain identifier`);
    },
    openConsole: async (_ref: number, _index: number, sink: FakeConsole) => {
      sinks.push(sink);
      // Kept output comes before the caller has its channel.
      sink.data(Uint8Array.of(104, 105));
      return { write: (b: Uint8Array) => void typed.push(b), close: () => void closed.push("console") };
    },
    onEvent: () => () => void closed.push("events"),
  } as unknown as LabHost;
  for (const name of ["info", "listDomains", "getDomain", "create", "destroy", "shutdown", "unpause"] as const) {
    (host as unknown as Record<string, unknown>)[name] ??= async () => null;
  }
  for (const name of ["rename", "setSched", "save", "restore", "fork", "dmesg"] as const) {
    (host as unknown as Record<string, unknown>)[name] ??= async () => null;
  }
  const inspect = new Proxy({}, { get: (_t, name) => async () => ({ view: String(name) }) }) as unknown as InspectApi;
  const wire = (m: Message, to: (m: Message) => void): void => void Promise.resolve().then(() => to(decode(encode(m))));
  const served = serveLab({ host, inspect, extra: { twice: (n: number) => n * 2 } }, (m) =>
    wire(m, (x) => client.rpc.receive(x)),
  );
  const client: LabClient = new LabClient((m) => wire(m, (x) => served.rpc.receive(x)));
  return { client, typed, sinks, closed };
}
const soon = (): Promise<void> => new Promise((r) => setTimeout(r, 5));

describe("a lab over a pipe", () => {
  test("calls of the host, of the inspector and of the lab itself are answered", async () => {
    const { client } = connected();
    await expect(client.host.pause(1)).resolves.toBeUndefined();
    expect(await client.inspect.machine()).toEqual({ view: "machine" });
    expect(await client.extraCall("twice", 21)).toBe(42);
  });

  test("what fails there fails here, with its code and its line", async () => {
    const { client } = connected();
    const e = await client.host.pause(7).catch((x: unknown) => x);
    expect(e).toBeInstanceOf(RpcError);
    expect(e).toMatchObject({
      kind: "HostError",
      code: "unknown-domain",
      message: "7 is an invalid domain identifier",
    });
    await expect(client.extraCall("nothing")).rejects.toMatchObject({ code: "unsupported" });
  });

  test("a console's output that came first is not lost, and comes in order", async () => {
    const { client, sinks, typed } = connected();
    let text = "";
    const channel = await client.host.openConsole(1, 0, {
      data: (b) => (text += String.fromCharCode(...b)),
      end: (why) => (text += `[${why}]`),
    });
    sinks[0]?.data(Uint8Array.of(33));
    channel.write(Uint8Array.of(1, 2, 255));
    await soon();
    sinks[0]?.end("gone");
    await soon();
    expect(text).toBe("hi![gone]");
    expect(typed).toEqual([Uint8Array.of(1, 2, 255)]);
  });

  test("every call settles when the other side goes away", async () => {
    const client = new LabClient(() => {});
    const call = client.host.listDomains();
    client.rpc.closed("the worker has failed");
    await expect(call).rejects.toThrow("the worker has failed");
    await expect(client.host.listDomains()).rejects.toThrow("the worker has failed");
  });

  test("bytes of any length pass as text", () => {
    for (let n = 0; n < 10; n++) {
      const bytes = Uint8Array.from({ length: n }, (_, i) => i * 37);
      expect(decode(encode({ event: "x", data: { bytes } }))).toEqual({ event: "x", data: { bytes } });
    }
    expect(() => decode("[]")).toThrow();
    expect(() => decode("7")).toThrow();
  });

  test("the inspector beside a host's own line", async () => {
    const inspect = new Proxy(
      {},
      {
        get:
          (_t, name) =>
          async (...p: unknown[]) => [name, ...p],
      },
    ) as unknown as InspectApi;
    const requests = inspectRequests(inspect);
    const far = inspectOver((m, ...p) => (requests[m] as (p: readonly unknown[]) => Promise<unknown>)(p));
    expect(await far.grants(3, 10)).toEqual(["grants", 3, 10]);
  });
});
