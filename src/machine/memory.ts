/**
 * The machine's memory: one linear WebAssembly memory in which machine frame n is bytes n × 4096.
 *
 * Frame numbers from `frames` up to `limit` are *aliases*: each stands for a frame of RAM by `aliasTable`, so that several domains may use
 * one frame's contents under numbers of their own (memory shared copy-on-write). The methods here take machine addresses of both kinds.
 *
 * Invariants: every write by the host side goes through the methods here, so that code translated from the written frame is
 * dropped (`onCodeWrite`) and a frame that is shared is written by nobody (`breakSharing`); frames below `firstFrame` are the engine's and
 * are never handed out. The plain views (`u8` …) know RAM only: `resolve` an address first.
 */
import { CODE_MASK, DIRTY, ENGINE_END, FRAMES_ENTRY, MAX_FRAMES, PAGE_SIZE, SHARED } from "./layout.js";

/** A machine address: a byte offset in the linear memory, or one beyond it in an alias frame. */
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
  /** Frames of RAM, the engine's included. */
  readonly frames: number;
  /** Alias frames there may be, and one past the last of them. */
  readonly aliases: number;
  readonly limit: number;
  readonly firstFrame: number = ENGINE_END / PAGE_SIZE;
  /** For each alias frame the frame of RAM it stands for; 0 = none. It lies behind the last frame, so that no domain can own it. */
  readonly aliasTable: Uint32Array;
  /** Address of FRAMES_ENTRY zeroed bytes for each frame, RAM and alias, for the hypervisor's table of them: behind the last frame too. */
  readonly frameTable: number;
  /** Called before a write of the host side to a frame that holds decoded code. */
  onCodeWrite: (mfn: Mfn) => void = () => {};
  /**
   * Give a shared machine frame memory of its own, before it is written. False where there is none to be had: its owner has been
   * stopped, and what the host side writes to it is lost.
   */
  breakSharing: (mfn: Mfn) => boolean = () => false;
  /** A machine frame stands for another frame of RAM than this one from now on: nothing may find the old one by an earlier look. */
  onRemap: (ram: Mfn) => void = () => {};
  /** Where writes go that found no memory. */
  sink: Mfn = 0;
  /** From the engine: begin or cease to mark the frames that guests write. */
  onLogDirty: (on: boolean) => void = () => {};
  private logging = false;
  private readonly ramEnd: number;
  private readonly shared: Uint8Array;

  /**
   * @param bytes memory for domains and the hypervisor's tables, on top of the engine's own area
   * @param aliases frame numbers for memory that is shared copy-on-write
   */
  constructor(bytes: number, aliases = 0) {
    const wanted = Math.ceil((ENGINE_END + bytes) / 65536);
    const table = Math.ceil((aliases * 4 + (wanted * 16 + aliases) * FRAMES_ENTRY + 8) / 65536);
    const pages = Math.min(65536, wanted + table);
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.buffer = this.memory.buffer;
    this.u8 = new Uint8Array(this.buffer);
    this.u16 = new Uint16Array(this.buffer);
    this.u32 = new Uint32Array(this.buffer);
    this.i32 = new Int32Array(this.buffer);
    this.f64 = new Float64Array(this.buffer);
    this.frames = Math.min(MAX_FRAMES, ((pages - table) * 65536) / PAGE_SIZE);
    this.aliases = aliases;
    this.limit = this.frames + aliases;
    this.ramEnd = this.frames * PAGE_SIZE;
    this.aliasTable = new Uint32Array(this.buffer, (pages - table) * 65536, aliases);
    this.frameTable = Math.ceil(((pages - table) * 65536 + aliases * 4) / 8) * 8;
    this.shared = new Uint8Array(this.buffer, SHARED, this.frames);
  }

  // --- alias frames -----------------------------------------------------------------------------------------------------

  /** The frame of RAM that a machine frame stands for: itself, but for an alias. */
  ram(mfn: Mfn): Mfn {
    if (mfn < this.frames) return mfn;
    const f = this.aliasTable[mfn - this.frames];
    if (f === undefined || f === 0) throw new RangeError(`machine frame ${mfn} stands for no memory`);
    return f;
  }
  /** The byte of the linear memory at a machine address; for the rest of its frame, not beyond. */
  resolve(a: Maddr): number {
    return a < this.ramEnd ? a : this.ram(Math.floor(a / PAGE_SIZE)) * PAGE_SIZE + (a % PAGE_SIZE);
  }
  /** Is this frame of RAM shared: to be written by nobody? */
  isShared(ram: Mfn): boolean {
    return this.shared[ram] !== 0;
  }
  setShared(ram: Mfn, on: boolean): void {
    this.shared[ram] = on ? 1 : 0;
  }
  /** Where in the plain views to write at a machine address, at once; for the rest of its frame, not beyond. */
  forWrite(a: Maddr): number {
    let r = this.resolve(a);
    if (this.shared[r >>> 12] !== 0)
      r = this.breakSharing(Math.floor(a / PAGE_SIZE)) ? this.resolve(a) : this.sink * PAGE_SIZE + (a % PAGE_SIZE);
    if (this.hasCode(r >>> 12)) this.onCodeWrite(r >>> 12);
    if (this.logging) this.mark(r >>> 12);
    return r;
  }

  // --- the log of writes ------------------------------------------------------------------------------------------------

  /** Keep marks of the frames that are written, by guests and by the host side. */
  logDirty(on: boolean): void {
    this.logging = on;
    this.onLogDirty(on);
  }
  get logsDirty(): boolean {
    return this.logging;
  }
  private mark(ram: Mfn): void {
    const w = (DIRTY >>> 2) + (ram >>> 5);
    this.u32[w] = (this.u32[w] as number) | (1 << (ram & 31));
  }
  /** Has the memory of a machine frame been written since its mark was cleared? */
  isDirty(mfn: Mfn): boolean {
    const ram = this.ram(mfn);
    return ((this.u32[(DIRTY >>> 2) + (ram >>> 5)] as number) & (1 << (ram & 31))) !== 0;
  }
  /** Guests may write a frame unseen until the TLB is flushed. */
  clearDirty(mfn: Mfn): void {
    const ram = this.ram(mfn);
    const w = (DIRTY >>> 2) + (ram >>> 5);
    this.u32[w] = (this.u32[w] as number) & ~(1 << (ram & 31));
  }

  // --- access -----------------------------------------------------------------------------------------------------------

  r8(a: Maddr): number {
    return this.u8[this.resolve(a)] as number;
  }
  r16(a: Maddr): number {
    return (a & 1) === 0 ? (this.u16[this.resolve(a) >>> 1] as number) : this.r8(a) | (this.r8(a + 1) << 8);
  }
  /** Unsigned 32-bit read. */
  r32(a: Maddr): number {
    return (a & 3) === 0 ? (this.u32[this.resolve(a) >>> 2] as number) : (this.r16(a) | (this.r16(a + 2) << 16)) >>> 0;
  }
  /** Unsigned 64-bit read as a double: exact below 2^53. */
  r64(a: Maddr): number {
    return this.r32(a) + this.r32(a + 4) * 4294967296;
  }
  /** Does the engine hold code decoded from this frame? */
  hasCode(mfn: Mfn): boolean {
    const mask = (CODE_MASK + this.ram(mfn) * 8) >>> 2;
    return ((this.u32[mask] as number) | (this.u32[mask + 1] as number)) !== 0;
  }
  w8(a: Maddr, v: number): void {
    this.u8[this.forWrite(a)] = v;
  }
  w16(a: Maddr, v: number): void {
    if ((a & 1) === 0) this.u16[this.forWrite(a) >>> 1] = v;
    else {
      this.w8(a, v);
      this.w8(a + 1, v >>> 8);
    }
  }
  w32(a: Maddr, v: number): void {
    if ((a & 3) === 0) this.u32[this.forWrite(a) >>> 2] = v;
    else {
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
    const at = this.forWrite(mfn * PAGE_SIZE);
    this.u8.fill(0, at, at + PAGE_SIZE);
  }
  copyFrame(dst: Mfn, src: Mfn): void {
    const to = this.forWrite(dst * PAGE_SIZE);
    const from = this.ram(src) * PAGE_SIZE;
    this.u8.copyWithin(to, from, from + PAGE_SIZE);
  }
  /** A copy of `len` bytes. */
  read(a: Maddr, len: number): Uint8Array {
    const out = new Uint8Array(len);
    this.readInto(a, out);
    return out;
  }
  /** Copy the bytes at a machine address into a buffer of the host's. */
  readInto(a: Maddr, into: Uint8Array): void {
    if (a + into.length <= this.ramEnd) into.set(this.u8.subarray(a, a + into.length));
    else
      for (let done = 0; done < into.length;) {
        const n = Math.min(into.length - done, PAGE_SIZE - ((a + done) % PAGE_SIZE));
        const r = this.resolve(a + done);
        into.set(this.u8.subarray(r, r + n), done);
        done += n;
      }
  }
  write(a: Maddr, bytes: Uint8Array): void {
    const room = PAGE_SIZE - (a % PAGE_SIZE);
    if (bytes.length <= room) {
      if (bytes.length > 0) this.u8.set(bytes, this.forWrite(a));
      return;
    }
    for (let done = 0; done < bytes.length;) {
      const n = Math.min(bytes.length - done, PAGE_SIZE - ((a + done) % PAGE_SIZE));
      this.u8.set(bytes.subarray(done, done + n), this.forWrite(a + done));
      done += n;
    }
  }
  fill(a: Maddr, value: number, len: number): void {
    for (let done = 0; done < len;) {
      const n = Math.min(len - done, PAGE_SIZE - ((a + done) % PAGE_SIZE));
      const r = this.forWrite(a + done);
      this.u8.fill(value, r, r + n);
      done += n;
    }
  }
}
