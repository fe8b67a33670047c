/**
 * A page's way to the host service: each WebSocket gets a connection of its own to the service, and the lab's calls go through.
 *
 * Invariants: only pages of this server get in (a WebSocket is not bound by the same-origin rule, so its Origin is looked at); files that
 * a page brings live in a folder of the connection's own, and go with it.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import type { IncomingMessage, Server } from "node:http";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { WebSocketServer, type WebSocket } from "ws";
import { inspectOver } from "../../../inspect/remote/over-host.js";
import { serveLab } from "../../../inspect/remote/lab.js";
import { decode, encode } from "../../../inspect/remote/text.js";
import { HostError } from "../../../toolstack/host/api.js";
import type { HostConnection } from "../host/connect.js";

/** Longest message: a kernel or an initramfs that was dropped on the page, as base64. */
const MAX_MESSAGE = 1 << 30;
/** Close codes for applications begin here. */
const NO_SERVICE = 4000;
/** A reason of a close frame has 123 bytes at most. */
const REASON_MAX = 120;

export interface LabSocketOptions {
  readonly connect: () => Promise<HostConnection>;
  /** Folder of the guests' images. */
  readonly guests: string;
  readonly debian: { readonly kernel: string; readonly ramdisk: string } | null;
}

/** Is the page that asks one of ours? Names other than the loopback's could be anybody's (DNS rebinding). */
export function allowed(request: Pick<IncomingMessage, "headers">): boolean {
  const { origin, host } = request.headers;
  if (origin === undefined || host === undefined) return false;
  try {
    const url = new URL(origin);
    return url.host === host && /^(localhost|127\.0\.0\.1|\[::1\])$/.test(url.hostname);
  } catch {
    return false;
  }
}

export function serveLabSocket(server: Server, path: string, options: LabSocketOptions): { close(): void } {
  const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE });
  server.on("upgrade", (request, socket, head) => {
    const where = new URL(request.url ?? "/", "http://lab").pathname;
    if (where !== path || !allowed(request)) {
      socket.end(`HTTP/1.1 ${where === path ? "403 Forbidden" : "404 Not Found"}\r\nConnection: close\r\n\r\n`);
      return;
    }
    sockets.handleUpgrade(request, socket, head, (ws) => void attach(ws, options));
  });
  return {
    close: () => {
      for (const ws of sockets.clients) ws.terminate();
      sockets.close();
    },
  };
}

async function attach(ws: WebSocket, options: LabSocketOptions): Promise<void> {
  const early: string[] = [];
  let receive = (text: string): void => void early.push(text);
  ws.on("message", (data, binary) => {
    // ws gives text as a Buffer.
    if (!binary) receive(String(data));
  });
  ws.on("error", () => {});
  let host: HostConnection;
  try {
    host = await options.connect();
  } catch (e) {
    const why = e instanceof Error ? e.message : String(e);
    ws.close(NO_SERVICE, why.slice(0, REASON_MAX));
    return;
  }
  if (ws.readyState !== ws.OPEN) return host.close();
  const folder = mkdtempSync(join(tmpdir(), "xenolith-lab-"));
  const lab = serveLab(
    { host, inspect: inspectOver((m, ...p) => host.request(m, ...p)), extra: extras(folder, options) },
    (m) => {
      if (ws.readyState === ws.OPEN) ws.send(encode(m));
    },
  );
  receive = (text) => {
    try {
      lab.rpc.receive(decode(text));
    } catch {
      ws.close(1003, "this is no message of the lab's");
    }
  };
  for (const text of early.splice(0)) receive(text);
  void host.closed.then((why) => ws.close(NO_SERVICE, why.slice(0, REASON_MAX)));
  ws.on("close", () => {
    lab.closed();
    host.close();
    rmSync(folder, { recursive: true, force: true });
  });
}

function extras(folder: string, { guests, debian }: LabSocketOptions) {
  const at = (name: string): string => join(folder, basename(name));
  return {
    environment: async () => ({
      kind: "service",
      guests,
      files: `${folder}/`,
      debian,
      memoryMiB: 0,
      isolated: false,
      title: "a host service on this machine",
    }),
    putFile: async (name: string, content: unknown) => {
      if (!(content instanceof Uint8Array)) throw new HostError("invalid", `${name}: no bytes came with it`);
      await writeFile(at(name), content, { mode: 0o600 });
      return at(name);
    },
    getFile: async (name: string) => {
      try {
        return new Uint8Array(await readFile(at(name)));
      } catch {
        throw new HostError("not-found", `${basename(name)}: no such file`);
      }
    },
    removeFile: (name: string) => rm(at(name), { force: true }),
  };
}
