/**
 * XenStore on a unix socket: the transport that Debian's own `xenstore-*` commands, libxenstore and pyxs use (`XENSTORED_PATH`).
 *
 * Bytes in, bytes out: the protocol is the core's (`xenstore/wire.ts`). A client that breaks it, or that does not read its replies, loses its
 * connection and nothing else. The socket is the privileged one: who may open the file acts as domain 0, so it is made for its owner only.
 */
import { createServer, type Socket } from "node:net";
import { chmodSync, lstatSync, unlinkSync } from "node:fs";
import type { XenStoreServer } from "../../xenstore/server.js";
import { encode, XsParser } from "../../xenstore/wire.js";

/** Replies that may wait for a client that does not read. */
const BACKLOG = 1 << 20;

export interface XenStoreSocket {
  readonly path: string;
  close(): void;
}

/**
 * Serve `server` at `path`. A stale socket of an earlier run is replaced; any other file there is an error. Node calls back between the
 * machine's slices, so a request never meets a hypercall in progress; `wake` ends the machine's sleep after one.
 */
export async function serveXenStore(server: XenStoreServer, path: string, wake: () => void): Promise<XenStoreSocket> {
  removeStale(path);
  const open = new Set<Socket>();
  let number = 0;
  const listener = createServer((socket) => {
    open.add(socket);
    const parser = new XsParser();
    const connection = server.open(`A${number++}`, {
      send: (type, requestId, transactionId, body) => {
        socket.write(encode(type, requestId, transactionId, body));
        if (socket.writableLength > BACKLOG) socket.destroy();
      },
    });
    socket.on("data", (bytes) => {
      for (let at = 0; at < bytes.length && !socket.destroyed;) {
        at += parser.feed(bytes, at);
        if (parser.state === "packet") connection.handle(parser.message);
        else if (parser.state === "failed") socket.destroy();
      }
      wake();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      open.delete(socket);
      connection.close();
      wake();
    });
  });
  await new Promise<void>((resolve, reject) => {
    listener.once("error", reject);
    listener.listen(path, resolve);
  });
  chmodSync(path, 0o600);
  return {
    path,
    close: () => {
      for (const s of open) s.destroy();
      listener.close();
    },
  };
}

function removeStale(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new Error(`${path}: there is a file that is not a socket`);
  unlinkSync(path);
}
