/**
 * The shared ring of a domain (io/xs_wire.h, docs/misc/xenstore-ring.txt): requests in one half, answers and events in the other.
 *
 * The page is the guest's to write at any time: indices are read once a visit and checked; a ring whose indices lie further apart than its size, or a
 * message longer than the protocol allows, ends this connection with the reason in the page's error field, and nothing else. The guest
 * may start anew by writing XENSTORE_RECONNECT. A guest that does not take its answers is not heard further (`outstanding`); what waits for
 * it is bounded.
 */
import {
  XENSTORE_CONNECTED,
  XENSTORE_ERROR_COMM,
  XENSTORE_ERROR_NONE,
  XENSTORE_ERROR_PROTO,
  XENSTORE_ERROR_RINGIDX,
  XENSTORE_RECONNECT,
  XENSTORE_RING_SIZE,
  XENSTORE_SERVER_FEATURE_ERROR,
  XENSTORE_SERVER_FEATURE_RECONNECTION,
  XS_WATCH_EVENT,
  xenstore_domain_interface as X,
} from "../abi/io_xs_wire.js";
import type { Maddr, PhysMem } from "../machine/memory.js";
import { Connection, type Link } from "./connection.js";
import type { XenStoreServer } from "./server.js";
import { latin1 } from "./text.js";
import { encode, XsParser } from "./wire.js";

const MASK = XENSTORE_RING_SIZE - 1;

/** The memory that holds ring pages. */
export type RingMemory = Pick<PhysMem, "r8" | "w8" | "r32" | "w32">;

interface Packet {
  readonly bytes: Uint8Array;
  /** The text of an event; null for an answer. */
  readonly event: string | null;
}

export class RingTransport implements Link {
  readonly connection: Connection;
  /** Tell the guest that the ring moved. */
  notify: () => void;
  private readonly parser = new XsParser();
  private queue: Packet[] = [];
  /** Events in the queue that are not begun. */
  private readonly events = new Set<string>();
  /** Bytes of the first packet that are in the ring. */
  private sent = 0;
  private waiting = 0;
  private busy = false;
  private closed = false;
  private failedWith: number = XENSTORE_ERROR_NONE;

  constructor(
    private readonly server: XenStoreServer,
    readonly domid: number,
    private readonly mem: RingMemory,
    private readonly page: Maddr,
    notify: () => void,
  ) {
    this.notify = notify;
    this.connection = new Connection(server, domid, `D${domid}`, this);
    server.remember(this.connection);
    mem.w32(page + X.server_features, XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR);
    mem.w32(page + X.error, XENSTORE_ERROR_NONE);
  }

  /** XENSTORE_ERROR_* that ended the connection, or 0. */
  get error(): number {
    return this.failedWith;
  }
  /** Messages that the guest has not taken yet. */
  get outstanding(): number {
    return this.queue.length;
  }

  // --- out ---------------------------------------------------------------------------------------------------------------------------

  send(type: number, reqId: number, txId: number, payload: Uint8Array): void {
    if (this.closed || this.failedWith !== XENSTORE_ERROR_NONE) return;
    const { quota } = this.server;
    const event = type === XS_WATCH_EVENT ? latin1(payload) : null;
    // An event that waits already need not be told twice.
    if (event !== null && this.events.has(event)) return;
    const packet: Packet = { bytes: encode(type, reqId, txId, payload), event };
    if (!this.connection.who.privileged && this.waiting + packet.bytes.length > quota.pendingBytes) {
      this.fail(XENSTORE_ERROR_COMM);
      return;
    }
    this.queue.push(packet);
    if (event !== null) this.events.add(event);
    this.waiting += packet.bytes.length;
    if (!this.busy && this.flush()) this.notify();
  }

  /** Put what waits into the ring as far as there is room; true if the ring moved. */
  private flush(): boolean {
    const { mem, page } = this;
    if (this.queue.length === 0 || this.failedWith !== XENSTORE_ERROR_NONE) return false;
    const cons = mem.r32(page + X.rsp_cons);
    let prod = mem.r32(page + X.rsp_prod);
    let room = XENSTORE_RING_SIZE - ((prod - cons) >>> 0);
    if (room < 0) {
      this.fail(XENSTORE_ERROR_RINGIDX);
      return false;
    }
    let done = 0;
    let moved = false;
    while (room > 0 && done < this.queue.length) {
      const { bytes, event } = this.queue[done] as Packet;
      // What the guest begins to see is told; a change from now on is news again.
      if (event !== null) this.events.delete(event);
      const n = Math.min(room, bytes.length - this.sent);
      for (let i = 0; i < n; i++) mem.w8(page + X.rsp + ((prod + i) & MASK), bytes[this.sent + i] as number);
      prod = (prod + n) >>> 0;
      room -= n;
      this.sent += n;
      this.waiting -= n;
      moved = true;
      if (this.sent === bytes.length) {
        this.sent = 0;
        done++;
      }
    }
    if (done > 0) this.queue = this.queue.slice(done);
    if (moved) mem.w32(page + X.rsp_prod, prod);
    return moved;
  }

  // --- in ----------------------------------------------------------------------------------------------------------------------------

  /** The guest raised its event channel, or something else may have moved the ring. */
  kick(): void {
    if (this.closed || this.busy) return;
    this.busy = true;
    let moved = false;
    try {
      if (this.mem.r32(this.page + X.connection) === XENSTORE_RECONNECT) {
        this.reconnect();
        moved = true;
      }
      for (;;) {
        if (this.flush()) moved = true;
        if (this.queue.length >= this.server.quota.outstanding || !this.take()) break;
        moved = true;
      }
      if (this.flush()) moved = true;
    } finally {
      this.busy = false;
    }
    if (moved && !this.closed) this.notify();
  }

  /** Take one portion of requests; true if there was one. */
  private take(): boolean {
    if (this.failedWith !== XENSTORE_ERROR_NONE) return false;
    const { mem, page, parser, server } = this;
    const cons = mem.r32(page + X.req_cons);
    const n = (mem.r32(page + X.req_prod) - cons) >>> 0;
    if (n > XENSTORE_RING_SIZE) {
      this.fail(XENSTORE_ERROR_RINGIDX);
      return true;
    }
    if (n === 0) return false;
    const bytes = new Uint8Array(n);
    for (let i = 0; i < n; i++) bytes[i] = mem.r8(page + X.req + ((cons + i) & MASK));
    let at = 0;
    while (at < n && this.queue.length < server.quota.outstanding && !this.stopped()) {
      at += parser.feed(bytes, at);
      if (parser.state === "failed") {
        this.fail(XENSTORE_ERROR_PROTO);
        return true;
      }
      if (parser.state === "packet") this.connection.handle(parser.message);
    }
    if (!this.stopped()) mem.w32(page + X.req_cons, cons + at);
    return at > 0;
  }

  private stopped(): boolean {
    return this.closed || this.failedWith !== XENSTORE_ERROR_NONE;
  }

  private fail(error: number): void {
    if (this.stopped()) return;
    this.failedWith = error;
    this.mem.w32(this.page + X.error, error);
    this.drop();
    this.connection.close();
    this.server.onConnectionLost(this.connection, error);
    this.notify();
  }

  private drop(): void {
    this.queue = [];
    this.events.clear();
    this.sent = 0;
    this.waiting = 0;
    this.parser.reset();
  }

  /** The guest wants a fresh connection: no watches, no transactions, empty rings. */
  private reconnect(): void {
    const { mem, page } = this;
    this.drop();
    this.connection.reopen();
    this.failedWith = XENSTORE_ERROR_NONE;
    for (const f of [X.req_cons, X.req_prod, X.rsp_cons, X.rsp_prod]) mem.w32(page + f, 0);
    mem.w32(page + X.error, XENSTORE_ERROR_NONE);
    mem.w32(page + X.connection, XENSTORE_CONNECTED);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.drop();
    this.connection.close();
  }
}
