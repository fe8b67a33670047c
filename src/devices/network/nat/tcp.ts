/**
 * One TCP connection between a guest and a socket of the host: the NAT is the guest's peer (RFC 9293, NewReno of RFC 6582, timer of RFC 6298) and
 * carries the bytes over. The guest reaches us by frames that may be lost; the socket loses nothing.
 *
 * Invariants: `una ≤ nxt ≤ max` (modulo 2^32); `out` holds the bytes from `una` on that the guest has not acknowledged; the window offered never
 * shrinks below what was promised, and what the host's socket has not taken counts against it; after `finish` nothing happens any more.
 */
import { be16, be32, put16, put32 } from "../packet.js";
import type { NatHost, NatTimer } from "./host.js";
import type { TcpHandlers, TcpSocket } from "./sockets.js";

export const FIN = 1,
  SYN = 2,
  RST = 4,
  PSH = 8,
  ACK = 16;

/** Bytes for the guest that wait here before the socket is paused, and below which it is resumed. */
const SEND_HIGH = 1 << 20;
const SEND_LOW = SEND_HIGH / 2;
/** What the guest may have under way to a host that does not take it. */
const RECEIVE_MAX = 1 << 20;
const WINDOW_SCALE = 5;
/** Segments that came before their turn, at most. */
const MAX_EARLY = 64;
const MS = 1e6;
const RTO_FIRST = 1000 * MS,
  RTO_MIN = 200 * MS,
  RTO_MAX = 60_000 * MS;
const MAX_RETRIES = 10;
/** After the end on both sides: for a last segment that was lost. */
const LINGER = 1000 * MS;
/** A guest that does not close its side after the host has closed. */
const HALF_CLOSED = 120_000 * MS;
/** One large segment for the receiver to cut: an IPv4 datagram has 16 bits of length. */
const MAX_BURST = 60_000;

/** a < b in sequence space. */
const before = (a: number, b: number): boolean => ((a - b) | 0) < 0;
const plus = (a: number, n: number): number => (a + n) >>> 0;

/** A TCP segment from a guest. */
export interface Segment {
  readonly srcPort: number;
  readonly dstPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly window: number;
  readonly mss: number;
  /** −1: the option is not there. */
  readonly scale: number;
  readonly data: Uint8Array;
}

export function parseSegment(b: Uint8Array): Segment | null {
  if (b.length < 20) return null;
  const header = ((b[12] as number) >> 4) * 4;
  if (header < 20 || header > b.length) return null;
  let mss = 536;
  let scale = -1;
  for (let i = 20; i < header;) {
    const kind = b[i] as number;
    if (kind === 0) break;
    if (kind === 1) {
      i++;
      continue;
    }
    const n = i + 1 < header ? (b[i + 1] as number) : 0;
    if (n < 2 || i + n > header) break;
    if (kind === 2 && n === 4) mss = be16(b, i + 2);
    if (kind === 3 && n === 3) scale = Math.min(14, b[i + 2] as number);
    i += n;
  }
  return {
    srcPort: be16(b, 0),
    dstPort: be16(b, 2),
    seq: be32(b, 4),
    ack: be32(b, 8),
    flags: b[13] as number,
    window: be16(b, 14),
    mss: Math.max(64, mss),
    scale,
    data: b.subarray(header),
  };
}

/** A segment's bytes, checksum zero. */
export function makeSegment(
  srcPort: number,
  dstPort: number,
  seq: number,
  ack: number,
  flags: number,
  window: number,
  options: readonly number[],
  length: number,
): Uint8Array {
  const b = new Uint8Array(20 + options.length + length);
  put16(b, 0, srcPort);
  put16(b, 2, dstPort);
  put32(b, 4, seq);
  put32(b, 8, ack);
  b[12] = ((20 + options.length) / 4) << 4;
  b[13] = flags;
  put16(b, 14, window);
  b.set(options, 20);
  return b;
}

/** The answer to a segment that belongs to no connection; null for a reset. */
export function resetFor(s: Segment): Uint8Array | null {
  if ((s.flags & RST) !== 0) return null;
  if ((s.flags & ACK) !== 0) return makeSegment(s.dstPort, s.srcPort, s.ack, 0, RST, 0, [], 0);
  const len = s.data.length + (s.flags & SYN ? 1 : 0) + (s.flags & FIN ? 1 : 0);
  return makeSegment(s.dstPort, s.srcPort, 0, plus(s.seq, len), RST | ACK, 0, [], 0);
}

/** Bytes from the host in the order of their sequence numbers. */
class ByteQueue {
  private chunks: Uint8Array[] = [];
  private first = 0;
  /** Bytes of the first chunk that are gone. */
  private skip = 0;
  length = 0;

  push(b: Uint8Array): void {
    if (b.length === 0) return;
    this.chunks.push(b);
    this.length += b.length;
  }
  copy(offset: number, into: Uint8Array): void {
    let i = this.first;
    let at = offset + this.skip;
    while (at >= (this.chunks[i] as Uint8Array).length) at -= (this.chunks[i++] as Uint8Array).length;
    for (let done = 0; done < into.length; i++, at = 0) {
      const c = this.chunks[i] as Uint8Array;
      const n = Math.min(into.length - done, c.length - at);
      into.set(c.subarray(at, at + n), done);
      done += n;
    }
  }
  drop(n: number): void {
    this.length -= n;
    this.skip += n;
    for (let c = this.chunks[this.first]; c !== undefined && this.skip >= c.length; c = this.chunks[this.first]) {
      this.skip -= c.length;
      this.first++;
    }
    if (this.first > 64) {
      this.chunks = this.chunks.slice(this.first);
      this.first = 0;
    }
  }
}

export type TcpState = "connecting" | "syn-sent" | "syn-received" | "open" | "lingering" | "closed";

/** Where a connection lives. */
export interface TcpOwner {
  /** Send to the guest; `cut`: payload bytes of each segment where the receiver is to cut it, else 0. */
  emit(c: TcpConnection, segment: Uint8Array, cut: number): void;
  /** The host cannot be reached: `code` as the socket said it. True: the guest was told. */
  unreachable(c: TcpConnection, code: string): boolean;
  finished(c: TcpConnection): void;
}

export class TcpConnection implements TcpHandlers {
  state: TcpState;
  /** Time of the last segment from the guest. */
  lastHeard: number;
  private socket: TcpSocket | null = null;

  // Sending.
  private una: number;
  private nxt: number;
  private max: number;
  private readonly out = new ByteQueue();
  private window = 0;
  private scale = 0;
  private wl1 = 0;
  private wl2 = 0;
  private mss = 536;
  private cwnd = 0;
  private ssthresh = 0x7fff_ffff;
  private dupAcks = 0;
  private recover: number;
  private recovering = false;
  /** The host sends no more; our FIN follows the last byte. */
  private hostEnded = false;
  private finAcked = false;
  private paused = false;

  // Round trips.
  private srtt = 0;
  private rttvar = 0;
  private rto = RTO_FIRST;
  private timedSeq = 0;
  private timedAt = -1;
  private retries = 0;
  private readonly timer: NatTimer;
  private deadline = Infinity;

  // Receiving.
  private rcvNxt = 0;
  private irs = 0;
  private scaled = false;
  /** Right edge of the window promised. */
  private promised = 0;
  private early: { seq: number; data: Uint8Array; fin: boolean }[] = [];
  private guestEnded = false;
  private socketGone = false;

  constructor(
    private readonly host: NatHost,
    private readonly owner: TcpOwner,
    readonly guestIp: number,
    readonly guestPort: number,
    readonly peerIp: number,
    readonly peerPort: number,
    private readonly mtu: number,
    active: boolean,
  ) {
    this.una = this.nxt = this.max = this.recover = Math.floor(host.random() * 4294967296);
    this.timer = host.timer(() => this.expired());
    this.state = active ? "syn-sent" : "connecting";
    this.lastHeard = host.now();
  }

  attach(socket: TcpSocket): void {
    this.socket = socket;
  }

  // --- beginnings ---------------------------------------------------------------------------------------------------------------

  /** The guest's SYN: wait for the host's answer. */
  begin(s: Segment): void {
    this.learn(s);
    this.window = s.window;
  }
  /** Ask the guest (a forwarded port). */
  open(): void {
    this.sendSyn();
    this.arm(this.rto);
  }
  private learn(s: Segment): void {
    this.irs = s.seq;
    this.rcvNxt = plus(s.seq, 1);
    this.promised = this.rcvNxt;
    this.mss = Math.min(s.mss, this.mtu - 40);
    this.scaled = s.scale >= 0;
    this.scale = this.scaled ? s.scale : 0;
    this.wl1 = s.seq;
    this.cwnd = 10 * this.mss;
  }
  private sendSyn(): void {
    const answering = this.state !== "syn-sent";
    const mss = this.mtu - 40;
    const options = [2, 4, mss >> 8, mss & 255, ...(answering && !this.scaled ? [] : [1, 3, 3, WINDOW_SCALE])];
    const window = Math.min(65535, RECEIVE_MAX);
    const syn = makeSegment(
      this.peerPort,
      this.guestPort,
      this.una,
      answering ? this.rcvNxt : 0,
      answering ? SYN | ACK : SYN,
      window,
      options,
      0,
    );
    if (answering) this.promised = plus(this.rcvNxt, window);
    this.nxt = this.max = plus(this.una, 1);
    this.owner.emit(this, syn, 0);
  }

  // --- the socket's side --------------------------------------------------------------------------------------------------------

  connected(): void {
    if (this.state !== "connecting") return;
    this.state = "syn-received";
    this.sendSyn();
    this.arm(this.rto);
  }
  data(bytes: Uint8Array): void {
    if (this.state === "closed" || this.hostEnded) return;
    this.out.push(bytes);
    if (this.out.length > SEND_HIGH && !this.paused) {
      this.paused = true;
      this.socket?.pause();
    }
    this.output();
  }
  drained(): void {
    if (this.state !== "open") return;
    // Tell of the room once it is worth it.
    const room = this.room();
    if (((plus(this.rcvNxt, room) - this.promised) | 0) >= Math.min(RECEIVE_MAX / 2, 4 * this.mss)) this.acknowledge();
  }
  ended(): void {
    if (this.state === "closed" || this.hostEnded) return;
    this.hostEnded = true;
    this.output();
  }
  closed(error?: string): void {
    this.socketGone = true;
    if (this.state === "closed") return;
    if (this.state === "connecting") {
      if (error === undefined || !this.owner.unreachable(this, error)) {
        this.owner.emit(this, makeSegment(this.peerPort, this.guestPort, 0, this.rcvNxt, RST | ACK, 0, [], 0), 0);
      }
      this.finish();
    } else if (error !== undefined) this.reset();
    else {
      this.ended();
      this.maybeDone();
    }
  }

  /** Away with it, the guest told. */
  reset(): void {
    if (this.state === "closed") return;
    if (this.state !== "connecting" && this.state !== "lingering")
      this.owner.emit(this, makeSegment(this.peerPort, this.guestPort, this.nxt, this.rcvNxt, RST | ACK, 0, [], 0), 0);
    this.finish();
  }
  private finish(): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.timer.stop();
    if (!this.socketGone) this.socket?.destroy();
    this.socket = null;
    this.early = [];
    this.owner.finished(this);
  }

  // --- segments from the guest --------------------------------------------------------------------------------------------------

  segment(s: Segment): void {
    this.lastHeard = this.host.now();
    switch (this.state) {
      case "closed":
        return;
      case "connecting":
        if ((s.flags & RST) !== 0 && s.seq === this.rcvNxt) this.finish();
        return;
      case "syn-sent":
        this.inSynSent(s);
        return;
      default:
        this.inOpen(s);
    }
  }

  private inSynSent(s: Segment): void {
    const acks = (s.flags & ACK) !== 0;
    if (acks && s.ack !== plus(this.una, 1)) {
      const r = resetFor(s);
      if (r !== null) this.owner.emit(this, r, 0);
      return;
    }
    if ((s.flags & RST) !== 0) {
      if (acks) this.finish();
      return;
    }
    if ((s.flags & SYN) === 0 || !acks) return;
    this.learn(s);
    this.una = s.ack;
    this.window = s.window;
    this.wl2 = s.ack;
    this.state = "open";
    this.retries = 0;
    this.disarm();
    this.acknowledge();
    this.output();
  }

  private inOpen(s: Segment): void {
    let { seq, data } = s;
    let fin = (s.flags & FIN) !== 0;
    const syn = (s.flags & SYN) !== 0;
    if (syn && seq === this.irs) {
      // Its SYN again: our answer was lost.
      if (this.state === "syn-received") this.sendSyn();
      else this.acknowledge();
      return;
    }
    // What we have already.
    const old = (this.rcvNxt - seq) | 0;
    if (old > 0) {
      if (old >= data.length + (fin ? 1 : 0)) {
        if ((s.flags & RST) !== 0) return;
        this.acknowledge();
        // Its acknowledgement may still be news.
        if (this.state === "open" && (s.flags & ACK) !== 0 && this.acked(s, 1)) {
          this.output();
          this.maybeDone();
        }
        return;
      }
      data = data.subarray(Math.min(old, data.length));
      seq = this.rcvNxt;
    }
    if (before(this.promised, seq)) {
      if ((s.flags & RST) === 0) this.acknowledge();
      return;
    }
    if ((s.flags & RST) !== 0) {
      if (s.seq === this.rcvNxt) this.finish();
      else this.acknowledge();
      return;
    }
    if (syn) {
      this.acknowledge();
      return;
    }
    if ((s.flags & ACK) === 0) return;
    if (this.state === "syn-received") {
      if (s.ack !== this.max) {
        const r = resetFor(s);
        if (r !== null) this.owner.emit(this, r, 0);
        return;
      }
      this.state = "open";
      this.una = s.ack;
      this.retries = 0;
      this.wl1 = s.seq;
      this.wl2 = s.ack;
      this.window = s.window << this.scale;
      this.disarm();
    } else if (!this.acked(s, data.length)) return;
    // Beyond the window promised nothing is taken.
    const fits = (this.promised - seq) | 0;
    if (data.length > fits) {
      data = data.subarray(0, Math.max(0, fits));
      fin = false;
      if (data.length === 0) this.acknowledge();
    }
    if (data.length > 0 || fin) this.receive(seq, data, fin);
    this.output();
    this.maybeDone();
  }

  private receive(seq: number, data: Uint8Array, fin: boolean): void {
    if (this.guestEnded) {
      this.acknowledge();
      return;
    }
    if (seq !== this.rcvNxt) {
      if (this.early.length < MAX_EARLY) this.early.push({ seq, data: data.slice(), fin });
      this.acknowledge();
      return;
    }
    this.deliver(data, fin);
    for (let again = this.early.length > 0; again;) {
      again = false;
      for (let i = 0; i < this.early.length; i++) {
        const e = this.early[i] as { seq: number; data: Uint8Array; fin: boolean };
        const old = (this.rcvNxt - e.seq) | 0;
        if (old < 0) continue;
        this.early.splice(i, 1);
        if (old < e.data.length || (e.fin && old === e.data.length)) this.deliver(e.data.subarray(old), e.fin);
        again = true;
        break;
      }
    }
    this.acknowledge();
  }
  private deliver(data: Uint8Array, fin: boolean): void {
    if (this.guestEnded) return;
    this.rcvNxt = plus(this.rcvNxt, data.length);
    if (data.length > 0) {
      if (this.socketGone) {
        // Nobody is there to read it.
        this.reset();
        return;
      }
      this.socket?.write(data.slice());
    }
    if (!fin) return;
    this.rcvNxt = plus(this.rcvNxt, 1);
    this.guestEnded = true;
    if (!this.socketGone) this.socket?.end();
  }

  /** False: the segment's acknowledgement is of something never sent. */
  private acked(s: Segment, length: number): boolean {
    const n = (s.ack - this.una) | 0;
    if (before(this.max, s.ack)) {
      this.acknowledge();
      return false;
    }
    const window = s.window << this.scale;
    if (n > 0) {
      this.advance(s.ack, n);
    } else if (n === 0 && length === 0 && window === this.window && this.max !== this.una && (s.flags & FIN) === 0) {
      this.duplicate();
    }
    if (n >= 0 && (before(this.wl1, s.seq) || (this.wl1 === s.seq && !before(s.ack, this.wl2)))) {
      if (this.window === 0 && window > 0 && this.state === "open") {
        // The probe's byte was not taken: begin there.
        this.nxt = this.una;
        this.rto = this.srtt === 0 ? RTO_FIRST : Math.max(RTO_MIN, this.srtt + 4 * this.rttvar);
        if (this.una !== this.max) this.arm(this.rto);
      }
      this.window = window;
      this.wl1 = s.seq;
      this.wl2 = s.ack;
    }
    return true;
  }

  private advance(ack: number, n: number): void {
    if (this.timedAt >= 0 && !before(ack, this.timedSeq)) this.measured(this.host.now() - this.timedAt);
    const bytes = Math.min(n, this.out.length);
    this.out.drop(bytes);
    if (n > bytes) this.finAcked = true;
    this.una = ack;
    if (before(this.nxt, ack)) this.nxt = ack;
    this.retries = 0;
    if (this.recovering) {
      if (before(ack, this.recover)) {
        // A part of what was under way: the next hole.
        this.cwnd = Math.max(this.mss, this.cwnd - n + this.mss);
        this.resend();
      } else {
        this.recovering = false;
        this.cwnd = Math.max(this.ssthresh, 2 * this.mss);
      }
    } else if (this.cwnd < this.ssthresh) this.cwnd += Math.min(n, 8 * this.mss);
    else this.cwnd += Math.max(1, Math.floor((this.mss * this.mss) / this.cwnd));
    this.dupAcks = 0;
    if (this.una === this.max) this.disarm();
    else this.arm(this.rto);
    if (this.paused && this.out.length < SEND_LOW) {
      this.paused = false;
      this.socket?.resume();
    }
  }

  private duplicate(): void {
    this.dupAcks++;
    if (this.recovering) {
      this.cwnd += this.mss;
      this.output();
    } else if (this.dupAcks === 3) {
      this.recovering = true;
      this.recover = this.max;
      this.ssthresh = Math.max(Math.floor(((this.max - this.una) >>> 0) / 2), 2 * this.mss);
      this.cwnd = this.ssthresh + 3 * this.mss;
      this.timedAt = -1;
      this.resend();
    }
  }

  private measured(rtt: number): void {
    this.timedAt = -1;
    if (this.srtt === 0) {
      this.srtt = rtt;
      this.rttvar = rtt / 2;
    } else {
      this.rttvar += (Math.abs(this.srtt - rtt) - this.rttvar) / 4;
      this.srtt += (rtt - this.srtt) / 8;
    }
    this.rto = Math.min(RTO_MAX, Math.max(RTO_MIN, this.srtt + 4 * this.rttvar));
  }

  // --- segments to the guest ----------------------------------------------------------------------------------------------------

  private room(): number {
    let early = 0;
    for (const e of this.early) early += e.data.length;
    return Math.max(0, RECEIVE_MAX - (this.socket?.buffered ?? 0) - early);
  }
  /** The window field, and with it what is promised. */
  private offer(): number {
    const shift = this.scaled ? WINDOW_SCALE : 0;
    const field = Math.min(65535, this.room() >>> shift);
    const edge = plus(this.rcvNxt, field << shift);
    if (before(this.promised, edge)) this.promised = edge;
    // What was promised stays promised (up to what the scale can say).
    return Math.max(0, Math.min(65535, ((this.promised - this.rcvNxt) | 0) >> shift));
  }
  private acknowledge(): void {
    this.owner.emit(
      this,
      makeSegment(this.peerPort, this.guestPort, this.nxt, this.rcvNxt, ACK, this.offer(), [], 0),
      0,
    );
  }

  /** Bytes (and the FIN) from `seq` on. */
  private send(seq: number, length: number, fin: boolean): void {
    const flags = ACK | (fin ? FIN : 0) | (length > 0 ? PSH : 0);
    const b = makeSegment(this.peerPort, this.guestPort, seq, this.rcvNxt, flags, this.offer(), [], length);
    if (length > 0) this.out.copy((seq - this.una) >>> 0, b.subarray(20));
    this.owner.emit(this, b, length > this.mss ? this.mss : 0);
  }
  /** One segment from the first unacknowledged byte. */
  private resend(): void {
    const n = Math.min(this.mss, this.out.length);
    this.send(this.una, n, this.hostEnded && n === this.out.length);
    this.arm(this.rto);
  }

  /** Send what the windows allow. */
  private output(): void {
    if (this.state !== "open") return;
    for (;;) {
      const offset = (this.nxt - this.una) >>> 0;
      const left = this.out.length - offset;
      const finDue = this.hostEnded && left === 0 && !this.finAcked;
      if (left < 0 || (left === 0 && !finDue)) break;
      const allowed = Math.min(this.window, this.cwnd) - offset;
      let n = Math.min(left, allowed, Math.max(this.mss, Math.floor(MAX_BURST / this.mss) * this.mss));
      if (left > 0) {
        if (n <= 0) {
          // A closed window with nothing under way: probe it.
          if (this.window === 0 && this.una === this.max) this.armIfIdle();
          break;
        }
        // Whole segments, or all there is: no slivers while something is under way.
        if (n < left) {
          if (n >= this.mss) n -= n % this.mss;
          else if (offset > 0) break;
        }
      } else n = 0;
      const fin = this.hostEnded && n === left;
      const end = plus(this.nxt, n + (fin ? 1 : 0));
      if (this.timedAt < 0 && !before(this.nxt, this.max)) {
        this.timedAt = this.host.now();
        this.timedSeq = end;
      }
      const at = this.nxt;
      this.nxt = end;
      if (before(this.max, end)) this.max = end;
      this.send(at, n, fin);
      this.armIfIdle();
      if (fin) break;
    }
  }

  // --- time ---------------------------------------------------------------------------------------------------------------------

  private arm(after: number): void {
    this.deadline = this.host.now() + after;
    this.timer.set(this.deadline);
  }
  private armIfIdle(): void {
    if (this.deadline === Infinity) this.arm(this.rto);
  }
  private disarm(): void {
    this.deadline = Infinity;
    this.timer.stop();
  }

  private expired(): void {
    this.deadline = Infinity;
    if (this.state === "lingering") {
      this.finish();
      return;
    }
    if (this.state === "closed" || this.state === "connecting") return;
    this.timedAt = -1;
    if (this.state === "open" && this.una === this.max) {
      if (this.finAcked) {
        // The guest never closed its side.
        this.reset();
        return;
      }
      // A probe of a closed window: one byte beyond it.
      if (this.out.length > 0 && this.window === 0) {
        this.rto = Math.min(RTO_MAX, this.rto * 2);
        this.max = plus(this.una, 1);
        this.nxt = this.una;
        this.send(this.una, 1, false);
        this.nxt = this.max;
        this.arm(this.rto);
      } else this.output();
      return;
    }
    // A guest that answers probes of its closed window lives, however long it takes.
    const probing = this.state === "open" && this.window === 0 && this.host.now() - this.lastHeard < 2 * RTO_MAX;
    if (!probing && ++this.retries > MAX_RETRIES) {
      this.reset();
      return;
    }
    this.rto = Math.min(RTO_MAX, this.rto * 2);
    if (this.state === "open") {
      this.ssthresh = Math.max(Math.floor(((this.max - this.una) >>> 0) / 2), 2 * this.mss);
      this.cwnd = this.mss;
      this.recovering = false;
      this.dupAcks = 0;
      this.nxt = this.una;
      if (probing) {
        this.send(this.una, Math.min(1, this.out.length), false);
        this.nxt = this.max;
      } else this.output();
    } else this.sendSyn();
    this.arm(this.rto);
  }

  private maybeDone(): void {
    if (this.state !== "open" || !this.finAcked) return;
    if (this.guestEnded) {
      this.state = "lingering";
      this.arm(LINGER);
    } else if (this.socketGone && this.deadline === Infinity) this.arm(HALF_CLOSED);
  }
}
