/**
 * Messages of a live migration on a byte stream: a type, a length, a body. The saved domain travels inside DATA messages, so that either side
 * can say at any time that it gives up.
 */
import { viewOf, type Duplex } from "./bytes.js";
import { MigrationError } from "./errors.js";
import { MAX_RECORD } from "./formats.js";

/** From the sending host. */
export const HELLO = 1,
  DATA = 2,
  IMAGE_END = 3,
  COMMIT = 4,
  ABORT = 5,
  QUERY = 6;
/** From the receiving host. */
export const WELCOME = 0x81,
  READY = 0x82,
  COMMITTED = 0x83,
  FAILED = 0x84,
  ANSWER = 0x85;

const HEADER = 8;
const MAX_BODY = MAX_RECORD + 65536;
/** Messages other than DATA are short. */
const MAX_CONTROL = 4096;

export interface Frame {
  readonly type: number;
  readonly body: Uint8Array;
}

/** The link is gone: nobody knows what of the last message arrived. */
export class LinkLost extends MigrationError {
  constructor(why: string) {
    super("peer", `the link to the other host broke: ${why}`);
  }
}

export class FrameLink {
  private chunk = new Uint8Array(0);
  private at = 0;
  private closed = false;
  constructor(private readonly link: Duplex) {}

  async send(type: number, body: Uint8Array = new Uint8Array(0)): Promise<void> {
    const head = new Uint8Array(HEADER);
    const d = viewOf(head);
    d.setUint32(0, type, true);
    d.setUint32(4, body.length, true);
    try {
      await this.link.write(head);
      if (body.length > 0) await this.link.write(body);
    } catch (e) {
      throw new LinkLost(e instanceof Error ? e.message : String(e));
    }
  }

  /** The next message; LinkLost where there is none. */
  async next(): Promise<Frame> {
    const d = viewOf(await this.exact(HEADER));
    const type = d.getUint32(0, true);
    const length = d.getUint32(4, true);
    if (length > (type === DATA ? MAX_BODY : MAX_CONTROL))
      throw new MigrationError("peer", `the other host sent a message of ${length} bytes`);
    return { type, body: await this.exact(length) };
  }

  private async exact(n: number): Promise<Uint8Array> {
    const out = new Uint8Array(n);
    for (let got = 0; got < n;) {
      if (this.at >= this.chunk.length) {
        let next: Uint8Array | null;
        try {
          next = await this.link.read();
        } catch (e) {
          throw new LinkLost(e instanceof Error ? e.message : String(e));
        }
        if (next === null || this.closed) throw new LinkLost("it was closed");
        this.chunk = next as Uint8Array<ArrayBuffer>;
        this.at = 0;
        continue;
      }
      const take = Math.min(n - got, this.chunk.length - this.at);
      out.set(this.chunk.subarray(this.at, this.at + take), got);
      this.at += take;
      got += take;
    }
    return out;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.link.close();
  }
}
