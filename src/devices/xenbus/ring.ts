/**
 * The back end's side of a shared ring (public/io/ring.h) over one or more granted pages.
 *
 * Everything in the pages is the front end's to forge at any time: indices are checked before use, a request is copied out before it is
 * looked at, and the back end's own indices are kept here and only ever written to the page.
 */
import { EINVAL } from "../../abi/errno.js";
import { ringMustNotify, ringSize, sring } from "../../abi/io_ring.js";
import type { PhysMem } from "../../machine/memory.js";
import { DeviceError } from "./errors.js";

const PAGE = 4096;

/** Shared pages, not contiguous in machine memory, as one run of bytes. */
export class SharedPages {
  readonly bytes: number;
  constructor(
    private readonly mem: PhysMem,
    private readonly mfns: readonly number[],
  ) {
    this.bytes = mfns.length * PAGE;
  }
  private at(offset: number): number {
    return (this.mfns[offset >>> 12] as number) * PAGE + (offset & (PAGE - 1));
  }
  /** `offset` must be aligned. */
  r32(offset: number): number {
    return this.mem.r32(this.at(offset));
  }
  /** `offset` must be aligned. */
  w32(offset: number, value: number): void {
    this.mem.w32(this.at(offset), value);
  }
  read(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length;) {
      const n = Math.min(into.length - done, PAGE - ((offset + done) & (PAGE - 1)));
      this.mem.readInto(this.at(offset + done), into.subarray(done, done + n));
      done += n;
    }
  }
  write(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      const n = Math.min(bytes.length - done, PAGE - ((offset + done) & (PAGE - 1)));
      this.mem.write(this.at(offset + done), bytes.subarray(done, done + n));
      done += n;
    }
  }
}

/**
 * Usage, in an event handler:
 *
 *     do {
 *       while (ring.take(request)) handle(request);     // handle → ring.respond(response), now or later
 *     } while (ring.moreRequests());
 *     if (ring.push()) channel.notify();
 *
 * `take`, `available` and `moreRequests` throw a DeviceError where the front end broke the ring; inside a device's callbacks that ends
 * the device and nothing else.
 */
export class SharedRing {
  /** Entries. */
  readonly size: number;
  /** Next request to take, next response to write, responses shown to the front end. */
  reqCons: number;
  rspProd: number;
  private pushed: number;

  /**
   * @param requestSize bytes of a request as laid out in the ring (`sizeof`)
   * @param responseSize the same of a response; an entry is the larger of the two
   */
  constructor(
    private readonly pages: SharedPages,
    readonly requestSize: number,
    readonly responseSize: number,
    private readonly entrySize = Math.max(requestSize, responseSize),
  ) {
    this.size = ringSize(pages.bytes, entrySize);
    // A ring that was in use before (a back end that starts again) is joined where its responses end.
    this.rspProd = this.reqCons = this.pushed = pages.r32(sring.rsp_prod);
    const waiting = (pages.r32(sring.req_prod) - this.rspProd) >>> 0;
    if (waiting > this.size) throw new DeviceError(`ring with ${waiting} requests of at most ${this.size}`, EINVAL);
  }

  private entry(index: number): number {
    return sring.ring + (index & (this.size - 1)) * this.entrySize;
  }

  /** Requests to be taken. */
  available(): number {
    const prod = this.pages.r32(sring.req_prod);
    // RING_REQUEST_PROD_OVERFLOW: what is unanswered and what is new fit in the ring together.
    if ((prod - this.rspProd) >>> 0 > this.size) {
      throw new DeviceError(`ring index out of range: ${prod} requests, ${this.rspProd} responses, size ${this.size}`);
    }
    const waiting = (prod - this.reqCons) >>> 0;
    if (waiting > this.size) throw new DeviceError(`ring index went back: ${prod} after ${this.reqCons}`);
    return waiting;
  }

  /** Requests taken and not yet answered. */
  get outstanding(): number {
    return (this.reqCons - this.rspProd) >>> 0;
  }

  /** Copy the next request; false where there is none. */
  take(into: Uint8Array): boolean {
    if (this.available() === 0) return false;
    this.pages.read(this.entry(this.reqCons), into.length > this.entrySize ? into.subarray(0, this.entrySize) : into);
    this.reqCons = (this.reqCons + 1) >>> 0;
    return true;
  }
  /** Copy a request `ahead` of the next without taking it (for requests of several entries). */
  peek(ahead: number, into: Uint8Array): boolean {
    if (ahead >= this.available()) return false;
    this.pages.read(this.entry(this.reqCons + ahead), into);
    return true;
  }

  /** Ask to be woken at the next request; true where some have come already (RING_FINAL_CHECK_FOR_REQUESTS). */
  moreRequests(): boolean {
    if (this.available() > 0) return true;
    this.pages.w32(sring.req_event, (this.reqCons + 1) >>> 0);
    return this.available() > 0;
  }

  /** Write a response; the front end sees it after `push`. */
  respond(response: Uint8Array): void {
    this.pages.write(this.entry(this.rspProd), response);
    this.rspProd = (this.rspProd + 1) >>> 0;
  }

  /** Show the responses written so far; true where the front end is to be notified. */
  push(): boolean {
    const old = this.pushed;
    if (old === this.rspProd) return false;
    this.pushed = this.rspProd;
    this.pages.w32(sring.rsp_prod, this.rspProd);
    return ringMustNotify(old, this.rspProd, this.pages.r32(sring.rsp_event));
  }
}
