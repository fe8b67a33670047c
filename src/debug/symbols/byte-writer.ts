/** Little-endian bytes that grow, with DWARF's variable-length numbers. */
export class ByteWriter {
  private data = new Uint8Array(64);
  length = 0;

  private room(n: number): void {
    if (this.length + n <= this.data.length) return;
    const more = new Uint8Array(Math.max(this.data.length * 2, this.length + n));
    more.set(this.data);
    this.data = more;
  }
  u8(v: number): void {
    this.room(1);
    this.data[this.length++] = v;
  }
  u16(v: number): void {
    this.u8(v);
    this.u8(v >>> 8);
  }
  u32(v: number): void {
    this.u16(v);
    this.u16(v >>> 16);
  }
  /** A 64-bit word from a number that is exact in a double (an address, a length). */
  va(v: number): void {
    this.u32(v >>> 0);
    this.u32(Math.floor(v / 4294967296) >>> 0);
  }
  uleb(v: number): void {
    for (; v >= 128; v = Math.floor(v / 128)) this.u8((v & 127) | 128);
    this.u8(v);
  }
  sleb(v: number): void {
    for (;;) {
      const b = v & 127;
      v >>= 7;
      if ((v === 0 && (b & 64) === 0) || (v === -1 && (b & 64) !== 0)) {
        this.u8(b);
        return;
      }
      this.u8(b | 128);
    }
  }
  bytes(b: Uint8Array): void {
    this.room(b.length);
    this.data.set(b, this.length);
    this.length += b.length;
  }
  result(): Uint8Array {
    return this.data.subarray(0, this.length);
  }
}
