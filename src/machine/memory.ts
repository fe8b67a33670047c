/**
 * The machine's memory: one linear WebAssembly memory in which machine frame n is bytes n × 4096.
 *
 * Invariants: every write by the host side goes through the methods here, so that code translated from the written frame is
 * dropped (`onCodeWrite`); frames below `firstFrame` are the engine's and are never handed out.
 */
import { CODE_MASK, ENGINE_END, MAX_FRAMES, PAGE_SIZE } from "./layout.js";

/** A machine address: a byte offset in the linear memory. */
export type Maddr = number;
/** A machine frame number. */
export type Mfn = number;

export class PhysMem {
  readonly memory: WebAssembly.Memory;
  readonly buffer: ArrayBufferLike;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly f64: Float64Array;
  /** Total frames, the engine's included. */
  readonly frames: number;
  readonly firstFrame: number = ENGINE_END / PAGE_SIZE;
  /** Called before a write of the host side to a frame that holds decoded code. */
  onCodeWrite: (mfn: Mfn) => void = () => {};

  /** @param bytes memory for domains and the hypervisor's tables, on top of the engine's own area. */
  constructor(bytes: number) {
    const pages = Math.min(65536, Math.ceil((ENGINE_END + bytes) / 65536));
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.buffer = this.memory.buffer;
    this.u8 = new Uint8Array(this.buffer);
    this.u16 = new Uint16Array(this.buffer);
    this.u32 = new Uint32Array(this.buffer);
    this.i32 = new Int32Array(this.buffer);
    this.f64 = new Float64Array(this.buffer);
    this.frames = Math.min(MAX_FRAMES, (pages * 65536) / PAGE_SIZE);
  }

  r8(a: Maddr): number {
    return this.u8[a] as number;
  }
  r16(a: Maddr): number {
    return (a & 1) === 0 ? (this.u16[a >>> 1] as number) : this.r8(a) | (this.r8(a + 1) << 8);
  }
  /** Unsigned 32-bit read. */
  r32(a: Maddr): number {
    return (a & 3) === 0 ? (this.u32[a >>> 2] as number) : (this.r16(a) | (this.r16(a + 2) << 16)) >>> 0;
  }
  /** Unsigned 64-bit read as a double: exact below 2^53. */
  r64(a: Maddr): number {
    return this.r32(a) + this.r32(a + 4) * 4294967296;
  }
  /** Does the engine hold code decoded from this frame? */
  hasCode(mfn: Mfn): boolean {
    const mask = (CODE_MASK + mfn * 8) >>> 2;
    return ((this.u32[mask] as number) | (this.u32[mask + 1] as number)) !== 0;
  }
  private check(a: Maddr): void {
    if (this.hasCode(a >>> 12)) this.onCodeWrite(a >>> 12);
  }
  w8(a: Maddr, v: number): void {
    this.check(a);
    this.u8[a] = v;
  }
  w16(a: Maddr, v: number): void {
    this.check(a);
    if ((a & 1) === 0) this.u16[a >>> 1] = v;
    else {
      this.u8[a] = v;
      this.w8(a + 1, v >>> 8);
    }
  }
  w32(a: Maddr, v: number): void {
    if ((a & 3) === 0) {
      this.check(a);
      this.u32[a >>> 2] = v;
    } else {
      this.w16(a, v);
      this.w16(a + 2, v >>> 16);
    }
  }
  w64(a: Maddr, lo: number, hi: number): void {
    this.w32(a, lo);
    this.w32(a + 4, hi);
  }
  /** Write a non-negative safe integer as 64 bits. */
  w64n(a: Maddr, v: number): void {
    this.w64(a, v >>> 0, Math.floor(v / 4294967296) >>> 0);
  }
  zeroFrame(mfn: Mfn): void {
    this.check(mfn * PAGE_SIZE);
    this.u8.fill(0, mfn * PAGE_SIZE, (mfn + 1) * PAGE_SIZE);
  }
  copyFrame(dst: Mfn, src: Mfn): void {
    this.check(dst * PAGE_SIZE);
    this.u8.copyWithin(dst * PAGE_SIZE, src * PAGE_SIZE, (src + 1) * PAGE_SIZE);
  }
  /** A copy of `len` bytes. */
  read(a: Maddr, len: number): Uint8Array {
    const out = new Uint8Array(len);
    out.set(this.u8.subarray(a, a + len));
    return out;
  }
  write(a: Maddr, bytes: Uint8Array): void {
    for (let p = a - (a % PAGE_SIZE); p < a + bytes.length; p += PAGE_SIZE) this.check(p);
    this.u8.set(bytes, a);
  }
  fill(a: Maddr, value: number, len: number): void {
    for (let p = a - (a % PAGE_SIZE); p < a + len; p += PAGE_SIZE) this.check(p);
    this.u8.fill(value, a, a + len);
  }
}
