/**
 * A file on a web server, read in parts (HTTP range requests) and kept in blocks; over it stand the formats, so that a disk can be on the
 * other side of the network, in Node and in browsers alike.
 *
 * Invariants:
 * - all that is read is of one version: when the server's file changes (entity tag, date or length), every read from then on is an error;
 * - a read that failed for the network's sake is an error of that request only, after some tries; the next one tries again;
 * - what is kept is bounded.
 */
import { ImageError, type ByteFile } from "./byte-file.js";

/** As much of `fetch` as is used. */
export interface HttpResponse {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  arrayBuffer(): Promise<ArrayBuffer>;
  readonly body?: { cancel(): Promise<void> } | null;
}
export type Fetch = (url: string, init: { readonly headers: Record<string, string> }) => Promise<HttpResponse>;

export interface HttpOptions {
  /** The platform's `fetch`, with a time limit of its own. */
  readonly fetch: Fetch;
  readonly delay: (ms: number) => Promise<void>;
  /** Bytes of a block; default 64 KiB. */
  readonly blockSize?: number;
  /** Bytes kept at most; default 64 MiB. */
  readonly cacheSize?: number;
  /** The largest file that is loaded whole from a server without ranges; default 256 MiB. */
  readonly wholeLimit?: number;
  /** Tries of a request; default 4. */
  readonly tries?: number;
}

/** Bytes of one request at most, when a reader goes straight on. */
const MAX_REQUEST = 1 << 20;
const FIRST_DELAY_MS = 200;

interface Version {
  readonly size: number;
  readonly etag: string | null;
  readonly modified: string | null;
}

export class HttpFile implements ByteFile {
  readonly readOnly = true;
  /** Requests sent, and bytes received. */
  readonly metrics = { requests: 0, bytes: 0, retries: 0, hits: 0 };
  private readonly blockSize: number;
  private readonly maxBlocks: number;
  /** By number; the oldest use first. */
  private readonly blocks = new Map<number, Uint8Array>();
  private readonly coming = new Map<number, Promise<void>>();
  private whole: Uint8Array | null = null;
  private broken: ImageError | null = null;
  /** The block after the last one that was asked for, and how many to ask for at a time. */
  private ahead = { next: -1, blocks: 1 };

  private constructor(
    readonly name: string,
    private readonly options: HttpOptions,
    private version: Version,
  ) {
    this.blockSize = options.blockSize ?? 65536;
    this.maxBlocks = Math.max(4, Math.floor((options.cacheSize ?? 64 << 20) / this.blockSize));
  }

  static async open(url: string, options: HttpOptions): Promise<HttpFile> {
    const file = new HttpFile(url, options, { size: 0, etag: null, modified: null });
    const r = await file.request(0, file.blockSize);
    if (r.status === 206) {
      const total = rangeOf(r, url).total;
      file.version = versionOf(r, total);
      const bytes = new Uint8Array(await r.arrayBuffer());
      file.metrics.bytes += bytes.length;
      if (bytes.length !== Math.min(total, file.blockSize))
        throw new ImageError(`${url}: the server sent another range`);
      file.blocks.set(0, bytes);
      return file;
    }
    // No ranges: the whole of it, where it is small enough.
    const limit = options.wholeLimit ?? 256 << 20;
    const length = Number(r.headers.get("content-length") ?? "NaN");
    if (!(length <= limit)) {
      await r.body?.cancel();
      const size = Number.isNaN(length) ? "a length it does not say" : `${Math.ceil(length / 2 ** 20)} MiB`;
      throw new ImageError(`${url}: the server sends no ranges, and the file has ${size}`);
    }
    file.whole = new Uint8Array(await r.arrayBuffer());
    file.metrics.bytes += file.whole.length;
    file.version = versionOf(r, file.whole.length);
    return file;
  }

  size(): number {
    return this.version.size;
  }

  read(at: number, into: Uint8Array): Promise<void> | void {
    if (this.whole !== null) {
      const have = this.whole.subarray(at, at + into.length);
      into.set(have);
      into.fill(0, have.length);
      return;
    }
    if (this.broken !== null) throw this.broken;
    const last = this.lastBlock(at, into.length);
    for (let b = Math.floor(at / this.blockSize); b <= last; b++)
      if (!this.blocks.has(b)) return this.readSlowly(at, into);
    this.metrics.hits++;
    this.copy(at, into);
  }
  private lastBlock(at: number, length: number): number {
    return Math.floor((Math.min(at + length, this.version.size) - 1) / this.blockSize);
  }
  /** From blocks that are all here. */
  private copy(at: number, into: Uint8Array): void {
    const end = Math.max(0, Math.min(into.length, this.version.size - at));
    into.fill(0, end);
    for (let done = 0; done < end;) {
      const b = Math.floor((at + done) / this.blockSize);
      const within = (at + done) % this.blockSize;
      const bytes = this.blocks.get(b);
      if (bytes === undefined) throw new ImageError(`${this.name}: a block is gone`);
      const n = Math.min(end - done, bytes.length - within);
      into.set(bytes.subarray(within, within + n), done);
      // Used last.
      this.blocks.delete(b);
      this.blocks.set(b, bytes);
      done += n;
    }
  }
  /** Piece by piece, so that a read larger than what is kept works too. */
  private async readSlowly(at: number, into: Uint8Array): Promise<void> {
    const piece = Math.max(1, Math.min(MAX_REQUEST / this.blockSize, this.maxBlocks >>> 1)) * this.blockSize;
    for (let done = 0; done < into.length;) {
      const n = Math.min(into.length - done, piece - ((at + done) % this.blockSize));
      await this.load(at + done, n);
      this.copy(at + done, into.subarray(done, done + n));
      done += n;
    }
  }
  private async load(at: number, length: number): Promise<void> {
    const last = this.lastBlock(at, length);
    let first = Math.floor(at / this.blockSize);
    while (first <= last && this.blocks.has(first)) first++;
    const { ahead } = this;
    const most = Math.max(1, Math.min(MAX_REQUEST / this.blockSize, this.maxBlocks >>> 2));
    ahead.blocks = first === ahead.next ? Math.min(most, ahead.blocks * 2) : 1;
    const until = Math.min(this.lastBlock(0, Infinity), last + ahead.blocks - 1);
    ahead.next = until + 1;
    // Again: what was here may have gone while others were waited for.
    for (first = Math.floor(at / this.blockSize); ;) {
      const waits: Promise<void>[] = [];
      for (let b = first; b <= until;) {
        const known = this.coming.get(b);
        if (known !== undefined && b <= last) waits.push(known);
        if (known !== undefined || this.blocks.has(b)) {
          b++;
          continue;
        }
        let n = 1;
        while (b + n <= until && n * this.blockSize < MAX_REQUEST && !this.blocks.has(b + n) && !this.coming.has(b + n))
          n++;
        const wait = this.fetchBlocks(b, n);
        for (let i = 0; i < n; i++) this.coming.set(b + i, wait);
        if (b <= last) waits.push(wait);
        else wait.catch(() => {});
        b += n;
      }
      if (waits.length === 0) return;
      await Promise.all(waits);
    }
  }
  private async fetchBlocks(first: number, count: number): Promise<void> {
    const { blockSize } = this;
    try {
      // The map of what is coming is filled before anything fails.
      await Promise.resolve();
      const start = first * blockSize;
      const end = Math.min(start + count * blockSize, this.version.size);
      const bytes = await this.fetchRange(start, end);
      for (let i = 0; i < count; i++) this.blocks.set(first + i, bytes.slice(i * blockSize, (i + 1) * blockSize));
      for (const b of this.blocks.keys()) {
        if (this.blocks.size <= this.maxBlocks) break;
        if (b < first || b >= first + count) this.blocks.delete(b);
      }
    } finally {
      for (let i = 0; i < count; i++) this.coming.delete(first + i);
    }
  }
  private async fetchRange(start: number, end: number): Promise<Uint8Array> {
    for (let tried = 1; ; tried++) {
      if (this.broken !== null) throw this.broken;
      const r = await this.request(start, end);
      const { size, etag, modified } = this.version;
      const range = r.status === 206 ? rangeOf(r, this.name) : null;
      const now = versionOf(r, range?.total ?? Number(r.headers.get("content-length")));
      if (now.size !== size || now.etag !== etag || now.modified !== modified) {
        await r.body?.cancel().catch(() => {});
        throw (this.broken = new ImageError(`${this.name}: the file on the server has changed`));
      }
      let why = "the server sent no range";
      if (range !== null) {
        try {
          const bytes = new Uint8Array(await r.arrayBuffer());
          this.metrics.bytes += bytes.length;
          if (range.start === start && bytes.length === end - start) return bytes;
          why = "the server sent another range";
        } catch (e) {
          // Cut off in the middle.
          why = e instanceof Error ? e.message : String(e);
        }
      } else await r.body?.cancel();
      if (tried >= (this.options.tries ?? 4)) throw new ImageError(`${this.name}: ${why}`);
      this.metrics.retries++;
      await this.options.delay(FIRST_DELAY_MS * 2 ** (tried - 1));
    }
  }

  /** One answer that is no failure: 200 or 206. What may pass is tried again. */
  private async request(start: number, end: number): Promise<HttpResponse> {
    const headers = { range: `bytes=${start}-${end - 1}`, "accept-encoding": "identity" };
    for (let tried = 1; ; tried++) {
      let why: string;
      let passing = true;
      try {
        this.metrics.requests++;
        const r = await this.options.fetch(this.name, { headers });
        if (r.status === 200 || r.status === 206) return r;
        await r.body?.cancel();
        why = `HTTP status ${r.status}`;
        if (r.status === 416) why = "the file is empty, or shorter than it was";
        passing = r.status >= 500 || r.status === 429 || r.status === 408;
      } catch (e) {
        why = reason(e);
      }
      if (!passing || tried >= (this.options.tries ?? 4)) throw new ImageError(`${this.name}: ${why}`);
      this.metrics.retries++;
      await this.options.delay(FIRST_DELAY_MS * 2 ** (tried - 1));
    }
  }

  write(): void {
    throw new ImageError(`${this.name}: read-only`);
  }
  grow(): void {
    throw new ImageError(`${this.name}: read-only`);
  }
  flush(): void {}
  close(): void {
    this.blocks.clear();
    this.broken ??= new ImageError(`${this.name}: closed`);
  }
}

/** Platforms hide the reason behind "fetch failed". */
function reason(e: unknown): string {
  const cause = e instanceof Error ? e.cause : undefined;
  const inner = cause instanceof Error ? cause : e;
  const text = inner instanceof Error ? inner.message : String(inner);
  const code = (inner as { code?: unknown } | null)?.code;
  return text !== "" ? text : typeof code === "string" ? code : "no answer";
}

function rangeOf(r: HttpResponse, name: string): { start: number; total: number } {
  const m = /^bytes (\d+)-\d+\/(\d+)$/.exec(r.headers.get("content-range") ?? "");
  if (m === null) throw new ImageError(`${name}: the server does not say how long the file is (Content-Range)`);
  return { start: Number(m[1]), total: Number(m[2]) };
}
function versionOf(r: HttpResponse, size: number): Version {
  return { size, etag: r.headers.get("etag"), modified: r.headers.get("last-modified") };
}
