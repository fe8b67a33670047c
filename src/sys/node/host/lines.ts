/** Messages as lines on a socket, with a bound on how long one may be. */
import type { Socket } from "node:net";
import { MAX_MESSAGE, type WireEnd, type WirePort } from "../../../toolstack/host/wire.js";

export function linePort(socket: Socket): WirePort {
  return {
    send: (text) => {
      if (!socket.destroyed) socket.write(`${text}\n`);
    },
    close: () => {
      // What was said before still goes out; a peer that does not take it is cut off.
      socket.end();
      socket.setTimeout(1000, () => socket.destroy());
    },
    get buffered() {
      return socket.writableLength;
    },
  };
}

/** Feed a socket's lines to one end of the form. */
export function readLines(socket: Socket, end: WireEnd): void {
  let parts: Buffer[] = [];
  let held = 0;
  socket.on("data", (bytes: Buffer) => {
    let from = 0;
    for (;;) {
      const at = bytes.indexOf(10, from);
      if (at < 0) break;
      parts.push(bytes.subarray(from, at));
      const line = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
      parts = [];
      held = 0;
      from = at + 1;
      if (line.length > 0) end.receive(line.toString("utf8"));
      if (socket.destroyed) return;
    }
    if (from < bytes.length) {
      parts.push(Buffer.from(bytes.subarray(from)));
      held += bytes.length - from;
      if (held > MAX_MESSAGE) {
        end.closed();
        socket.destroy();
      }
    }
  });
  socket.on("error", () => undefined);
  socket.on("close", () => end.closed());
}
