/**
 * The two rings of netif (public/io/netif.h) as the back end has them: `TxQueue` turns the guest's requests into frames, `RxQueue` puts frames into the
 * buffers the guest offers. No XenStore, no event channels: rings, grants and frames only.
 *
 * Invariants: a request is copied once before it is looked at; a frame has at most MAX_SLOTS slots, each within its page; every request
 * is answered exactly once, in the rx ring in the order of the requests (the guest finds its buffers by position). What breaks the
 * protocol is a DeviceError and ends the vif; a frame that is merely wrong is dropped. The rules and their order are Linux netback's.
 */
import {
  NETIF_RSP_ERROR,
  NETIF_RSP_NULL,
  NETIF_RSP_OKAY,
  NETRXF_csum_blank,
  NETRXF_data_validated,
  NETRXF_extra_info,
  NETRXF_more_data,
  NETTXF_csum_blank,
  NETTXF_data_validated,
  NETTXF_extra_info,
  NETTXF_more_data,
  XEN_NETIF_EXTRA_FLAG_MORE,
  XEN_NETIF_EXTRA_TYPE_GSO,
  XEN_NETIF_EXTRA_TYPE_MAX,
  XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
  XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
  XEN_NETIF_EXTRA_TYPE_NONE,
  XEN_NETIF_GSO_TYPE_TCPV4,
  XEN_NETIF_GSO_TYPE_TCPV6,
  netif_extra_info as X,
  netif_rx_request,
  netif_rx_response,
  netif_tx_request as TX,
  netif_tx_response,
} from "../../abi/io_netif.js";
import { sring } from "../../abi/io_ring.js";
import { DeviceError } from "../xenbus/errors.js";
import { type SharedPages, SharedRing } from "../xenbus/ring.js";
import type { VifMetrics } from "./metrics.js";
import {
  ETH_HLEN,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  finishChecksum,
  fold,
  frameLimit,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  isGroup,
  macAt,
  BROADCAST,
  type Packet,
  parse,
  pseudoSum,
  put16,
  segment,
} from "./packet.js";
import type { TokenBucket } from "./token-bucket.js";

const PAGE = 4096;
/** XEN_NETBK_LEGACY_SLOTS_MAX: a frame of more slots is dropped, one of more than FATAL_SLOTS is an attack. */
const MAX_SLOTS = 18;
const FATAL_SLOTS = 20;
/** Multicast groups a guest may name (XEN_NETBK_MCAST_MAX). */
const MAX_GROUPS = 64;
/** Frames and bytes that wait for the guest's buffers, and for how long. */
const RX_FRAMES = 2048;
const RX_BYTES = 4 << 20;
const RX_STALL_NS = 10e9;

/** Copies from and to granted pages: 0 or a negative GNTST_*. */
export interface GrantCopy {
  copyIn(ref: number, offset: number, into: Uint8Array): number;
  copyOut(ref: number, offset: number, bytes: Uint8Array): number;
}

interface Slot {
  gref: number;
  offset: number;
  flags: number;
  id: number;
  size: number;
}

export class TxQueue {
  private readonly ring: SharedRing;
  private readonly raw = new Uint8Array(TX.size);
  private readonly view = new DataView(this.raw.buffer);
  private readonly rsp = new Uint8Array(netif_tx_response.size);
  private readonly rspView = new DataView(this.rsp.buffer);
  /** The slots of the frame in hand, and how many of them count. */
  private readonly slots: Slot[] = [];
  private used = 0;
  /** The connection is over: the pages are no longer ours. */
  closed = false;
  /** The guest's rate. */
  bucket: TokenBucket | null = null;

  constructor(
    pages: SharedPages,
    private readonly grants: GrantCopy,
    private readonly metrics: VifMetrics,
    private readonly now: () => number,
    private readonly accept: (packet: Packet) => void,
    /** Multicast groups the guest has named, on any of its queues. */
    readonly groups: Set<number> = new Set(),
  ) {
    this.ring = new SharedRing(pages, TX.size, netif_tx_response.size);
    for (let i = 0; i <= FATAL_SLOTS; i++) this.slots.push({ gref: 0, offset: 0, flags: 0, id: 0, size: 0 });
  }

  /**
   * Take the frames that are in the ring. Returns ns after which to come again where the guest's rate is used up, 0 otherwise. The answers
   * are written; `push` shows them.
   */
  run(): number {
    do {
      // What a frame brings about may end this very connection.
      while (!this.closed && this.ring.peek(0, this.raw)) {
        if (this.bucket !== null) {
          const wait = this.bucket.take(this.view.getUint16(TX.size_, true), this.now());
          if (wait > 0) {
            this.metrics.throttled++;
            return wait;
          }
        }
        this.frame();
      }
    } while (!this.closed && this.ring.moreRequests());
    return 0;
  }
  /** Show the answers; true where the guest is to be notified. */
  push(): boolean {
    return !this.closed && this.ring.push();
  }

  private read(s: Slot): void {
    if (!this.ring.take(this.raw)) throw new DeviceError("tx: a frame's slots exceed what is in the ring");
    const v = this.view;
    s.gref = v.getUint32(TX.gref, true);
    s.offset = v.getUint16(TX.offset, true);
    s.flags = v.getUint16(TX.flags, true);
    s.id = v.getUint16(TX.id, true);
    s.size = v.getUint16(TX.size_, true);
    this.metrics.requests++;
  }

  private frame(): void {
    const { slots } = this;
    const first = slots[0] as Slot;
    this.read(first);
    let extras = 0;
    let gso = 0;
    let gsoSize = 0;
    let group = -1;
    let groupAdd = false;
    if ((first.flags & NETTXF_extra_info) !== 0) {
      for (let more = true; more; extras++) {
        if (!this.ring.take(this.raw)) throw new DeviceError("tx: missing extra info");
        const type = this.raw[X.type] as number;
        more = ((this.raw[X.flags] as number) & XEN_NETIF_EXTRA_FLAG_MORE) !== 0;
        if (type === XEN_NETIF_EXTRA_TYPE_NONE || type >= XEN_NETIF_EXTRA_TYPE_MAX)
          throw new DeviceError(`tx: invalid extra type: ${type}`);
        if (type === XEN_NETIF_EXTRA_TYPE_GSO) {
          gso = this.raw[X.u_gso_type] as number;
          gsoSize = this.view.getUint16(X.u_gso_size, true);
          if (gsoSize === 0) throw new DeviceError("tx: GSO size must not be zero");
          if (gso !== XEN_NETIF_GSO_TYPE_TCPV4 && gso !== XEN_NETIF_GSO_TYPE_TCPV6)
            throw new DeviceError(`tx: bad GSO type ${gso}`);
        } else if (type === XEN_NETIF_EXTRA_TYPE_MCAST_ADD || type === XEN_NETIF_EXTRA_TYPE_MCAST_DEL) {
          group = macAt(this.raw, X.u_mcast_addr);
          groupAdd = type === XEN_NETIF_EXTRA_TYPE_MCAST_ADD;
        }
      }
    }
    if (group >= 0) {
      this.used = 1;
      this.answer(extras, this.setGroup(group, groupAdd) ? NETIF_RSP_OKAY : NETIF_RSP_ERROR);
      return;
    }
    const total = first.size;
    const sound = this.collect(first);
    if (!sound || first.size < ETH_HLEN) {
      this.metrics.txDropped++;
      this.answer(extras, NETIF_RSP_ERROR);
      return;
    }
    if (first.offset + first.size > PAGE)
      throw new DeviceError(`tx: slot of ${first.size} bytes at ${first.offset} crosses a page`);
    const data = new Uint8Array(total);
    for (let i = 0, at = 0; i < this.used; i++) {
      const s = slots[i] as Slot;
      if (s.size > 0 && this.grants.copyIn(s.gref, s.offset, data.subarray(at, at + s.size)) !== 0) {
        this.metrics.txDropped++;
        this.answer(extras, NETIF_RSP_ERROR);
        return;
      }
      at += s.size;
    }
    const blank = (first.flags & NETTXF_csum_blank) !== 0;
    const validated = (first.flags & NETTXF_data_validated) !== 0;
    this.answer(extras, NETIF_RSP_OKAY);
    const packet = admit(data, blank, validated, gso, gsoSize);
    if (packet === null) {
      this.metrics.txDropped++;
      return;
    }
    this.metrics.txFrames++;
    this.metrics.txBytes += data.length;
    if (packet.gso !== GSO_NONE) this.metrics.txGso++;
    this.accept(packet);
  }

  /** The further slots of a frame. The first's size, which is the whole's, becomes its own. False: drop it. */
  private collect(first: Slot): boolean {
    let sound = true;
    this.used = 1;
    for (let last = first; (last.flags & NETTXF_more_data) !== 0;) {
      const s = this.slots[this.used];
      if (s === undefined) throw new DeviceError(`tx: malicious front end using ${this.used} slots`);
      this.read(s);
      // A frame of 64 KiB and more has lost its size's top bits: dropped, for some front ends do that.
      if (++this.used > MAX_SLOTS + 1 || s.size > first.size) sound = false;
      first.size = (first.size - s.size) & 0xffff;
      if (s.offset + s.size > PAGE) throw new DeviceError(`tx: slot of ${s.size} bytes at ${s.offset} crosses a page`);
      last = s;
    }
    return sound;
  }

  /** Answer every request of the frame: the first, its extras (NULL), the rest. */
  private answer(extras: number, status: number): void {
    this.respond((this.slots[0] as Slot).id, status);
    for (let i = 0; i < extras; i++) this.respond(0, NETIF_RSP_NULL);
    for (let i = 1; i < this.used; i++) this.respond((this.slots[i] as Slot).id, status);
    if (status !== NETIF_RSP_OKAY) this.metrics.errors++;
  }
  private respond(id: number, status: number): void {
    this.rspView.setUint16(netif_tx_response.id, id, true);
    this.rspView.setInt16(netif_tx_response.status, status, true);
    this.ring.respond(this.rsp);
    this.metrics.responses++;
  }

  private setGroup(mac: number, add: boolean): boolean {
    if (!add) {
      this.groups.delete(mac);
      return true;
    }
    if (!this.groups.has(mac) && this.groups.size >= MAX_GROUPS) return false;
    this.groups.add(mac);
    return true;
  }
}

/** Check what a frame claims of its offloads; null: it cannot be so. */
function admit(data: Uint8Array, blank: boolean, validated: boolean, gso: number, gsoSize: number): Packet | null {
  if (!blank && gso === 0) return { data, csumBlank: false, validated, gso: GSO_NONE, gsoSize: 0 };
  const at = parse(data);
  if (at === null || (at.proto !== IPPROTO_TCP && at.proto !== IPPROTO_UDP)) return null;
  if (at.l4 + (at.proto === IPPROTO_TCP ? 20 : 8) > at.end) return null;
  if (gso === 0) return { data, csumBlank: true, validated: true, gso: GSO_NONE, gsoSize: 0 };
  if (at.proto !== IPPROTO_TCP) return null;
  if (at.type !== (gso === XEN_NETIF_GSO_TYPE_TCPV4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6)) return null;
  // A segment to be cut has its checksum made anew for each part: the field has to hold the pseudo header's sum.
  if (!blank) put16(data, at.l4 + 16, fold(pseudoSum(data, at, at.end - at.l4)));
  const kind = gso === XEN_NETIF_GSO_TYPE_TCPV4 ? GSO_TCPV4 : GSO_TCPV6;
  return { data, csumBlank: true, validated: true, gso: kind, gsoSize };
}

/** What the guest takes. */
export interface RxAbilities {
  readonly sg: boolean;
  readonly gsoV4: boolean;
  readonly gsoV6: boolean;
  readonly csumV4: boolean;
  readonly csumV6: boolean;
  multicastControl: boolean;
}

export class RxQueue {
  private readonly ring: SharedRing;
  private readonly req = new Uint8Array(netif_rx_request.size);
  private readonly reqView = new DataView(this.req.buffer);
  private readonly rsp = new Uint8Array(netif_rx_response.size);
  private readonly rspView = new DataView(this.rsp.buffer);
  private readonly queue: { packet: Packet; since: number }[] = [];
  private head = 0;
  private bytes = 0;
  /** Room left free in front of each slot's data. */
  headroom = 0;
  private readonly limit: number;

  constructor(
    private readonly pages: SharedPages,
    private readonly grants: GrantCopy,
    private readonly metrics: VifMetrics,
    private readonly now: () => number,
    private readonly able: RxAbilities,
    mtu: number,
    private readonly groups: ReadonlySet<number>,
  ) {
    this.ring = new SharedRing(pages, netif_rx_request.size, netif_rx_response.size);
    this.limit = Math.min(frameLimit(mtu), able.sg ? Infinity : PAGE);
  }

  /** Frames that wait for buffers. */
  get waiting(): number {
    return this.queue.length - this.head;
  }

  /** Take a frame for the guest, in the form that it can have it. */
  add(packet: Packet): void {
    if (this.able.multicastControl && isGroup(packet.data, 0)) {
      const to = macAt(packet.data, 0);
      if (to !== BROADCAST && !this.groups.has(to)) return;
    }
    if (packet.gso === GSO_NONE) {
      this.enqueue(packet);
      return;
    }
    const able =
      this.able.sg &&
      (packet.gso === GSO_TCPV4 ? this.able.gsoV4 && this.able.csumV4 : this.able.gsoV6 && this.able.csumV6);
    if (able) this.enqueue(packet);
    else {
      this.metrics.rxSegmented++;
      for (const p of segment(packet)) this.enqueue(p);
    }
  }

  private enqueue(packet: Packet): void {
    let p = packet;
    if (p.gso === GSO_NONE && p.data.length > this.limit) {
      this.metrics.rxDropped++;
      return;
    }
    if (p.csumBlank && p.gso === GSO_NONE) {
      const at = parse(p.data);
      if (at === null || !(at.type === ETHERTYPE_IPV4 ? this.able.csumV4 : this.able.csumV6)) {
        this.metrics.checksums++;
        p = finishChecksum(p);
      }
    }
    if (this.waiting >= RX_FRAMES || this.bytes + p.data.length > RX_BYTES) {
      this.expire();
      if (this.waiting >= RX_FRAMES || this.bytes + p.data.length > RX_BYTES) {
        this.metrics.rxDropped++;
        return;
      }
    }
    this.queue.push({ packet: p, since: this.now() });
    this.bytes += p.data.length;
  }

  private shift(): void {
    const e = this.queue[this.head++];
    if (e !== undefined) this.bytes -= e.packet.data.length;
    if (this.head === this.queue.length || this.head > 512) {
      this.queue.splice(0, this.head);
      this.head = 0;
    }
  }
  /** A guest that takes nothing for a long time loses what waits. */
  private expire(): void {
    const before = this.now() - RX_STALL_NS;
    for (let e = this.queue[this.head]; e !== undefined && e.since < before; e = this.queue[this.head]) {
      this.metrics.rxDropped++;
      this.shift();
    }
  }

  /** Move what fits into the guest's buffers. True where the guest is to be notified. */
  flush(): boolean {
    for (;;) {
      const e = this.queue[this.head];
      if (e === undefined) break;
      const gso = e.packet.gso !== GSO_NONE;
      const needed = Math.max(1, Math.ceil(e.packet.data.length / (PAGE - this.headroom))) + (gso ? 1 : 0);
      if (this.ring.available() < needed) {
        // Wake us at the next buffer. (The guest posts them in batches; it may have done so just now.)
        this.pages.w32(sring.req_event, (this.ring.reqCons + this.ring.available() + 1) >>> 0);
        if (this.ring.available() < needed) break;
      }
      this.place(e.packet);
      this.shift();
    }
    if (this.waiting === 0) this.ring.moreRequests();
    return this.ring.push();
  }
  /** Look at the ring though nothing waits, so that a broken one is found. */
  check(): void {
    this.ring.available();
  }

  private place(p: Packet): void {
    const { data } = p;
    let at = 0;
    let first = true;
    do {
      this.ring.take(this.req);
      this.metrics.requests++;
      const id = this.reqView.getUint16(netif_rx_request.id, true);
      const gref = this.reqView.getUint32(netif_rx_request.gref, true);
      const n = Math.min(PAGE - this.headroom, data.length - at);
      const rc = this.grants.copyOut(gref, this.headroom, data.subarray(at, at + n));
      at += n;
      let flags = at < data.length ? NETRXF_more_data : 0;
      if (first) {
        if (p.csumBlank) flags |= NETRXF_csum_blank | NETRXF_data_validated;
        else if (p.validated) flags |= NETRXF_data_validated;
        if (p.gso !== GSO_NONE) flags |= NETRXF_extra_info;
      }
      if (rc !== 0) this.metrics.errors++;
      const v = this.rspView;
      v.setUint16(netif_rx_response.id, id, true);
      v.setUint16(netif_rx_response.offset, this.headroom, true);
      v.setUint16(netif_rx_response.flags, flags, true);
      v.setInt16(netif_rx_response.status, rc === 0 ? n : NETIF_RSP_ERROR, true);
      this.ring.respond(this.rsp);
      this.metrics.responses++;
      if (first && p.gso !== GSO_NONE) {
        this.ring.take(this.req);
        this.rsp.fill(0);
        this.rsp[X.type] = XEN_NETIF_EXTRA_TYPE_GSO;
        this.rsp[X.u_gso_type] = p.gso === GSO_TCPV4 ? XEN_NETIF_GSO_TYPE_TCPV4 : XEN_NETIF_GSO_TYPE_TCPV6;
        v.setUint16(X.u_gso_size, p.gsoSize, true);
        this.ring.respond(this.rsp);
        this.metrics.rxGso++;
      }
      first = false;
    } while (at < data.length);
    this.metrics.rxFrames++;
    this.metrics.rxBytes += data.length;
  }
}
