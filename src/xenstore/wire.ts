/**
 * Messages of the XenStore protocol (io/xs_wire.h): a header of four 32-bit words and at most 4096 bytes of payload.
 *
 * The parser is a state machine over bytes in any portions: `need` more, `packet` (one message is in `message`; go on with the rest of the
 * bytes), `failed` (the peer broke the framing: there is no way to find the next message, so the connection is lost).
 */
import { XENSTORE_PAYLOAD_MAX, xsd_sockmsg as H } from "../abi/io_xs_wire.js";

export interface XsMessage {
  readonly type: number;
  readonly reqId: number;
  readonly txId: number;
  readonly payload: Uint8Array;
}

const EMPTY = new Uint8Array(0);

export class XsParser {
  state: "need" | "packet" | "failed" = "need";
  message: XsMessage = { type: 0, reqId: 0, txId: 0, payload: EMPTY };
  private readonly header = new Uint8Array(H.size);
  private readonly view = new DataView(this.header.buffer);
  private payload: Uint8Array = EMPTY;
  /** Bytes of header and payload so far. */
  private have = 0;

  /** Take bytes from `start` on, up to the end of one message; returns how many were taken. */
  feed(bytes: Uint8Array, start = 0): number {
    if (this.state === "failed") return bytes.length - start;
    let at = start;
    this.state = "need";
    if (this.have < H.size) {
      const n = Math.min(H.size - this.have, bytes.length - at);
      this.header.set(bytes.subarray(at, at + n), this.have);
      this.have += n;
      at += n;
      if (this.have < H.size) return at - start;
      const len = this.view.getUint32(H.len, true);
      if (len > XENSTORE_PAYLOAD_MAX) {
        this.state = "failed";
        return bytes.length - start;
      }
      this.payload = len === 0 ? EMPTY : new Uint8Array(len);
    }
    const got = this.have - H.size;
    const n = Math.min(this.payload.length - got, bytes.length - at);
    if (n > 0) {
      this.payload.set(bytes.subarray(at, at + n), got);
      this.have += n;
      at += n;
    }
    if (this.have === H.size + this.payload.length) {
      const { view } = this;
      this.message = {
        type: view.getUint32(H.type, true),
        reqId: view.getUint32(H.req_id, true),
        txId: view.getUint32(H.tx_id, true),
        payload: this.payload,
      };
      this.have = 0;
      this.payload = EMPTY;
      this.state = "packet";
    }
    return at - start;
  }

  /** Forget everything: the peer starts anew. */
  reset(): void {
    this.state = "need";
    this.have = 0;
    this.payload = EMPTY;
  }
}

export function encode(type: number, reqId: number, txId: number, payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(H.size + payload.length);
  const view = new DataView(out.buffer);
  view.setUint32(H.type, type, true);
  view.setUint32(H.req_id, reqId, true);
  view.setUint32(H.tx_id, txId, true);
  view.setUint32(H.len, payload.length, true);
  out.set(payload, H.size);
  return out;
}
