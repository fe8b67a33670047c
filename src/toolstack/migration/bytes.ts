/**
 * Byte streams: where a saved domain goes, and where it comes from. A platform's files and sockets are adapted to these two.
 *
 * Invariants: a chunk given to `write` is the sink's from then on and is not changed by the writer; `Reader` never holds more than one
 * chunk beyond what was asked for.
 */
import { damaged } from "./errors.js";

export interface ByteSink {
  /** Take bytes. A promise says when more may come (the sink's buffers are full, or bytes are on their way). */
  write(bytes: Uint8Array): Promise<void> | void;
}
export interface ByteSource {
  /** The next bytes, at least one; null at the end. */
  read(): Promise<Uint8Array | null> | Uint8Array | null;
}
/** Both ways, as a socket. */
export interface Duplex extends ByteSink, ByteSource {
  /** No more is written and nothing more is read. Safe to call again. */
  close(): void;
}

/** Collects what is written. */
export class MemorySink implements ByteSink {
  private readonly chunks: Uint8Array[] = [];
  private length = 0;
  write(bytes: Uint8Array): void {
    this.chunks.push(bytes);
    this.length += bytes.length;
  }
  bytes(): Uint8Array {
    const out = new Uint8Array(this.length);
    let at = 0;
    for (const c of this.chunks) {
      out.set(c, at);
      at += c.length;
    }
    return out;
  }
}

/** Gives out an array in pieces. */
export class MemorySource implements ByteSource {
  private at = 0;
  constructor(
    private readonly data: Uint8Array,
    private readonly piece = 1 << 20,
  ) {}
  read(): Uint8Array | null {
    if (this.at >= this.data.length) return null;
    const from = this.at;
    this.at = Math.min(this.data.length, from + this.piece);
    return this.data.subarray(from, this.at);
  }
}

/** Exact pieces out of a source. */
export class Reader {
  private chunk = new Uint8Array(0);
  private at = 0;
  /** Bytes handed out so far. */
  position = 0;
  constructor(private readonly source: ByteSource) {}

  /** The next `n` bytes, in an array of their own; throws where the stream ends before. */
  async exact(n: number, what: string): Promise<Uint8Array> {
    const out = new Uint8Array(n);
    let got = 0;
    while (got < n) {
      if (this.at >= this.chunk.length && !(await this.more()))
        throw damaged(`the stream ends in the middle of ${what} (at byte ${this.position + got})`);
      const take = Math.min(n - got, this.chunk.length - this.at);
      out.set(this.chunk.subarray(this.at, this.at + take), got);
      this.at += take;
      got += take;
    }
    this.position += n;
    return out;
  }

  private async more(): Promise<boolean> {
    for (;;) {
      const next = await this.source.read();
      if (next === null) return false;
      if (next.length === 0) continue;
      this.chunk = next as Uint8Array<ArrayBuffer>;
      this.at = 0;
      return true;
    }
  }
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
