/** Messages as JSON text, for sockets: bytes travel as `{"$bytes": base64}`. */
import { fromBase64, toBase64 } from "../../toolstack/host/base64.js";
import type { Message } from "./rpc.js";

export function encode(m: Message): string {
  return JSON.stringify(m, (_key, value: unknown) =>
    value instanceof Uint8Array ? { $bytes: toBase64(value) } : value,
  );
}

/** Throws where the text is no message. */
export function decode(text: string): Message {
  const m: unknown = JSON.parse(text, (_key, value: unknown) => {
    if (typeof value !== "object" || value === null || !("$bytes" in value)) return value;
    const bytes = fromBase64(String(value.$bytes));
    if (bytes === null) throw new Error("no base64");
    return bytes;
  });
  if (typeof m !== "object" || m === null || !("id" in m || "event" in m)) throw new Error("no message");
  return m as Message;
}
