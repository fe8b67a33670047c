/**
 * For tests of XenStore: clients that keep what they are sent, and domains with a ring in plain memory.
 */
import { XS_ERROR, XS_WATCH_EVENT, xenstore_domain_interface as X, XENSTORE_RING_SIZE } from "../abi/io_xs_wire.js";
import { opName, type Connection } from "./connection.js";
import type { RingMemory } from "./ring-transport.js";
import { XenStoreServer, type DomainChannel, type DomainHost, type ServerOptions } from "./server.js";
import { fromLatin1, latin1, strings } from "./text.js";
import { encode, XsParser, type XsMessage } from "./wire.js";

const TYPES = new Map<string, number>();
for (let i = 0; i < 32; i++) TYPES.set(opName(i), i);

/** Operation by its name in the protocol. */
export function typeOf(name: string): number {
  const t = TYPES.get(name);
  if (t === undefined) throw new Error(name);
  return t;
}

/** A client that is not on a ring: requests by name and strings, answers as text with `|` for NUL. */
export class TestClient {
  readonly events: string[] = [];
  readonly log: string[] = [];
  readonly connection: Connection;
  private answer = "";
  constructor(server: XenStoreServer, domid = 0) {
    this.connection = server.open(`test${domid}`, { send: (type, _r, _t, p) => this.take(type, p) }, domid);
  }
  private take(type: number, payload: Uint8Array): void {
    const text = latin1(payload).replace(/\0/g, "|");
    this.log.push(`${opName(type)} ${text}`);
    if (type === XS_WATCH_EVENT) this.events.push(text);
    else this.answer = type === XS_ERROR ? text.slice(0, -1) : text;
  }
  /** Raw payload. */
  raw(type: number, payload: Uint8Array, txId = 0): string {
    this.answer = "(none)";
    this.connection.handle({ type, reqId: 7, txId, payload });
    return this.answer;
  }
  ask(name: string, ...args: readonly string[]): string {
    return this.raw(typeOf(name), strings(...args));
  }
  in(txId: number, name: string, ...args: readonly string[]): string {
    return this.raw(typeOf(name), strings(...args), txId);
  }
  write(path: string, value: string, txId = 0): string {
    return this.raw(typeOf("WRITE"), fromLatin1(`${path}\0${value}`), txId);
  }
  start(): number {
    return Number(this.ask("TRANSACTION_START", "").slice(0, -1));
  }
  end(txId: number, how = "T"): string {
    return this.in(txId, "TRANSACTION_END", how);
  }
  takeEvents(): string[] {
    return this.events.splice(0);
  }
}

/** Ring pages in plain memory, one for each domain. */
export class TestHost implements DomainHost {
  readonly bytes = new Uint8Array(64 * 4096);
  readonly alive = new Set<number>();
  readonly notified = new Map<number, number>();
  readonly closed: number[] = [];
  private readonly view = new DataView(this.bytes.buffer);
  private readonly kicks = new Map<number, () => void>();
  readonly mem: RingMemory = {
    r8: (a) => this.view.getUint8(a),
    w8: (a, v) => this.view.setUint8(a, v),
    r32: (a) => this.view.getUint32(a, true),
    w32: (a, v) => this.view.setUint32(a, v >>> 0, true),
  };
  exists(domid: number): boolean {
    return this.alive.has(domid);
  }
  connect(domid: number, gfn: number, port: number, onEvent: () => void): DomainChannel | null {
    if (gfn !== domid || port > 100) return null;
    this.kicks.set(domid, onEvent);
    return {
      mem: this.mem,
      page: domid * 4096,
      notify: () => this.notified.set(domid, (this.notified.get(domid) ?? 0) + 1),
      close: () => {
        this.closed.push(domid);
        this.kicks.delete(domid);
      },
    };
  }
  /** The domain signals its event channel. */
  kick(domid: number): void {
    this.kicks.get(domid)?.();
  }
}

/** A guest's end of the ring. */
export class TestGuest {
  private readonly parser = new XsParser();
  constructor(
    readonly host: TestHost,
    readonly domid: number,
  ) {}
  private get page(): number {
    return this.domid * 4096;
  }
  get(field: keyof typeof X): number {
    return this.host.mem.r32(this.page + X[field]);
  }
  set(field: keyof typeof X, v: number): void {
    this.host.mem.w32(this.page + X[field], v);
  }
  /** Put bytes into the request ring, as far as there is room; returns how many went in. */
  put(bytes: Uint8Array): number {
    const prod = this.get("req_prod");
    const n = Math.min(bytes.length, XENSTORE_RING_SIZE - ((prod - this.get("req_cons")) >>> 0));
    for (let i = 0; i < n; i++)
      this.host.mem.w8(this.page + X.req + ((prod + i) & (XENSTORE_RING_SIZE - 1)), bytes[i] as number);
    this.set("req_prod", prod + n);
    return n;
  }
  /** Write all of it, signalling whenever the ring is full, and at the end. */
  send(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const n = this.put(bytes.subarray(at));
      at += n;
      this.host.kick(this.domid);
      if (n === 0 && this.get("req_prod") - this.get("req_cons") === XENSTORE_RING_SIZE) return;
    }
  }
  /** Take what is in the answer ring, without telling the server. */
  receive(): XsMessage[] {
    const out: XsMessage[] = [];
    const cons = this.get("rsp_cons");
    const n = (this.get("rsp_prod") - cons) >>> 0;
    const bytes = new Uint8Array(n);
    for (let i = 0; i < n; i++)
      bytes[i] = this.host.mem.r8(this.page + X.rsp + ((cons + i) & (XENSTORE_RING_SIZE - 1)));
    this.set("rsp_cons", cons + n);
    for (let at = 0; at < n;) {
      at += this.parser.feed(bytes, at);
      if (this.parser.state === "packet") out.push(this.parser.message);
    }
    return out;
  }
  request(name: string, payload: Uint8Array, reqId = 1, txId = 0): void {
    this.send(encode(typeOf(name), reqId, txId, payload));
  }
  /** One request and everything that comes back, as text. */
  ask(name: string, ...args: readonly string[]): string[] {
    this.request(name, strings(...args));
    return this.text();
  }
  text(): string[] {
    const all: string[] = [];
    for (let idle = 0; idle < 2;) {
      const before = this.get("rsp_cons");
      all.push(...this.receive().map((m) => `${opName(m.type)} ${latin1(m.payload).replace(/\0/g, "|")}`));
      idle = this.get("rsp_cons") === before ? idle + 1 : 0;
      this.host.kick(this.domid);
    }
    return all;
  }
}

export function testServer(options: Omit<ServerOptions, "host"> = {}): {
  server: XenStoreServer;
  host: TestHost;
  dom0: TestClient;
} {
  const host = new TestHost();
  const server = new XenStoreServer({ ...options, host });
  return { server, host, dom0: new TestClient(server) };
}

/** Introduce a domain with its own directory. */
export function addDomain(s: { server: XenStoreServer; host: TestHost; dom0: TestClient }, domid: number): TestGuest {
  s.host.alive.add(domid);
  const path = `/local/domain/${domid}`;
  s.dom0.write(path, "");
  s.dom0.ask("SET_PERMS", path, `n${domid}`);
  s.server.introduce(domid, domid, 1);
  return new TestGuest(s.host, domid);
}
