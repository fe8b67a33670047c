/** Bytes in memory, sparse: only what was written is there, in chunks; the rest reads as zeros. */
export class SparseBytes {
  private readonly chunks = new Map<number, Uint8Array>();

  constructor(private readonly chunk: number) {}

  private each(
    start: number,
    length: number,
    part: (chunk: number, at: number, done: number, n: number) => void,
  ): void {
    for (let done = 0; done < length;) {
      const at = (start + done) % this.chunk;
      const n = Math.min(length - done, this.chunk - at);
      part(Math.floor((start + done) / this.chunk), at, done, n);
      done += n;
    }
  }
  read(start: number, into: Uint8Array): void {
    this.each(start, into.length, (chunk, at, done, n) => {
      const c = this.chunks.get(chunk);
      if (c === undefined) into.fill(0, done, done + n);
      else into.set(c.subarray(at, at + n), done);
    });
  }
  write(start: number, bytes: Uint8Array): void {
    this.each(start, bytes.length, (chunk, at, done, n) => {
      let c = this.chunks.get(chunk);
      if (c === undefined) this.chunks.set(chunk, (c = new Uint8Array(this.chunk)));
      c.set(bytes.subarray(done, done + n), at);
    });
  }
  /** This range reads as zeros again; whole chunks are given back. */
  clear(start: number, length: number): void {
    this.each(start, length, (chunk, at, _done, n) => {
      if (n === this.chunk) this.chunks.delete(chunk);
      else this.chunks.get(chunk)?.fill(0, at, at + n);
    });
  }
  /** Memory in use for content. */
  get stored(): number {
    return this.chunks.size * this.chunk;
  }
}
