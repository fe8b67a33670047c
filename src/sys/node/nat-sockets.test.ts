// The NAT's sockets on Node, on the loopback only.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { describe, expect, it } from "vitest";
import type { TcpHandlers } from "../../devices/network/nat/sockets.js";
import { NodeSockets } from "./nat-sockets.js";

const text = (b: Uint8Array): string => Buffer.from(b).toString();

/** Handlers that note what they hear, and a promise for the end. */
function notes(): { log: string[]; handlers: TcpHandlers; closed: Promise<void> } {
  const log: string[] = [];
  let done = (): void => {};
  const closed = new Promise<void>((resolve) => (done = resolve));
  const handlers: TcpHandlers = {
    connected: () => void log.push("connected"),
    data: (b) => void log.push(`data ${text(b)}`),
    drained: () => {},
    ended: () => void log.push("ended"),
    closed: (e) => {
      log.push(`closed ${e ?? ""}`);
      done();
    },
  };
  return { log, handlers, closed };
}

describe("sockets on Node", () => {
  it("connect, carry bytes, and close each side for itself", async () => {
    const server = createServer({ allowHalfOpen: true }, (s) => {
      s.on("data", (d) => s.write(`got ${d.toString()}`));
      s.on("end", () => s.end("bye"));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { log, handlers, closed } = notes();
    const socket = new NodeSockets().connectTcp("127.0.0.1", (server.address() as AddressInfo).port, handlers);
    expect(log).toEqual([]);
    socket.write(Buffer.from("x"));
    socket.end();
    await closed;
    expect([
      log[0],
      log
        .filter((l) => l.startsWith("data"))
        .join("")
        .replaceAll("data ", ""),
      log.at(-2),
      log.at(-1),
    ]).toEqual(["connected", "got xbye", "ended", "closed "]);
    server.close();
  });
  it("say why a connection cannot be had", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    const { log, handlers, closed } = notes();
    new NodeSockets().connectTcp("127.0.0.1", port, handlers);
    await closed;
    expect(log).toEqual(["closed ECONNREFUSED"]);
  });
  it("listen, and refuse", async () => {
    const { log, handlers, closed } = notes();
    let refuse = false;
    const port = await new Promise<number>((resolve, reject) => {
      const listener = new NodeSockets().listenTcp("127.0.0.1", 0, () => (refuse ? null : handlers), {
        listening: resolve,
        failed: reject,
      });
      void closed.then(() => listener.close());
    });
    refuse = true;
    const refused = connect(port, "127.0.0.1");
    const [e] = (await once(refused, "error").catch((x: unknown) => [x])) as [NodeJS.ErrnoException];
    expect(e.code).toBe("ECONNRESET");
    refuse = false;
    const client = connect(port, "127.0.0.1");
    client.end("hello");
    client.resume();
    await new Promise<void>((resolve) => {
      const at = setInterval(() => {
        if (!log.includes("ended")) return;
        clearInterval(at);
        resolve();
      }, 5);
    });
    expect(log).toEqual(["data hello", "ended"]);
    client.destroy();
  });
  it("send and receive datagrams", async () => {
    const echo = createSocket("udp4");
    echo.on("message", (b, from) => echo.send(`re: ${b.toString()}`, from.port, from.address));
    echo.bind(0, "127.0.0.1");
    await once(echo, "listening");
    const got = await new Promise<string>((resolve, reject) => {
      const s = new NodeSockets().openUdp({
        message: (b, address, port) => {
          s.close();
          resolve(`${text(b)} from ${address} ${port === echo.address().port}`);
        },
        failed: reject,
      });
      s.send(Buffer.from("hi"), "127.0.0.1", echo.address().port);
    });
    expect(got).toBe("re: hi from 127.0.0.1 true");
    echo.close();
  });
  it("know a name server", () => {
    expect(new NodeSockets("127.0.0.1:5353").nameServer()).toEqual({ address: "127.0.0.1", port: 5353 });
    expect(new NodeSockets("127.0.0.1").nameServer()).toEqual({ address: "127.0.0.1", port: 53 });
  });
});
