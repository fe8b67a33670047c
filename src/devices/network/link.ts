/**
 * A link between the bridges of two hosts: a byte stream (TCP) that carries frames in both directions, each with what offloading left undone, so that a
 * large segment crosses as one.
 *
 * The stream: eight bytes of greeting from either side ("XNLINK", version 1 as two bytes); then frames, each a header of eight bytes (length in
 * four, flags, segmentation, segment size in two, all big-endian) and its bytes.
 * Invariants: what the other side sends is checked before it is a frame; a wrong byte ends the link, never the bridge; a slow link loses frames
 * instead of keeping them. Two links between the same bridges make a loop: there is no spanning tree.
 */
import type { Bridge, BridgePort } from "./bridge.js";
import type { Listener, SocketProvider, TcpHandlers, TcpSocket } from "./nat/sockets.js";
import { be16, be32, ETH_HLEN, GSO_NONE, GSO_TCPV6, type Gso, type Packet, put16, put32 } from "./packet.js";

const GREETING = Uint8Array.of(0x58, 0x4e, 0x4c, 0x49, 0x4e, 0x4b, 0, 1);
const HEADER = 8;
/** A datagram of 64 KiB with its Ethernet header and a VLAN tag. */
const MAX_FRAME = 65_536 + ETH_HLEN + 4;
const F_CSUM_BLANK = 1;
/** Bytes on their way beyond which frames are lost. */
const MAX_BUFFERED = 4 << 20;
/** How long after a failure the next attempt comes. */
const RETRY_NS = 1e9;

/** The other side broke the rules of the stream. */
export class LinkError extends Error {
  override readonly name = "LinkError";
}

export function encodeFrame(p: Packet): Uint8Array {
  const out = new Uint8Array(HEADER + p.data.length);
  put32(out, 0, p.data.length);
  out[4] = p.csumBlank ? F_CSUM_BLANK : 0;
  out[5] = p.gso;
  put16(out, 6, p.gsoSize);
  out.set(p.data, HEADER);
  return out;
}

/** Frames out of a stream, however it was cut. */
export class FrameReader {
  private rest: Uint8Array = new Uint8Array(0);
  private greeted = false;

  /** Throws a LinkError for what no other side of ours would send. */
  *push(bytes: Uint8Array): Generator<Packet> {
    const all = new Uint8Array(this.rest.length + bytes.length);
    all.set(this.rest);
    all.set(bytes, this.rest.length);
    let at = 0;
    if (!this.greeted) {
      for (let i = 0; i < Math.min(all.length, GREETING.length); i++)
        if (all[i] !== GREETING[i])
          throw new LinkError("the other side is no bridge of this kind, or of another version");
      if (all.length < GREETING.length) {
        this.rest = all;
        return;
      }
      this.greeted = true;
      at = GREETING.length;
    }
    while (all.length - at >= HEADER) {
      const length = be32(all, at);
      const flags = all[at + 4] as number;
      const gso = all[at + 5] as number;
      const gsoSize = be16(all, at + 6);
      if (length < ETH_HLEN || length > MAX_FRAME) throw new LinkError(`a frame of ${length} bytes`);
      if ((flags & ~F_CSUM_BLANK) !== 0 || gso > GSO_TCPV6 || (gso !== GSO_NONE && gsoSize === 0)) {
        throw new LinkError("a frame with flags that are not known");
      }
      if (all.length - at < HEADER + length) break;
      const data = all.slice(at + HEADER, at + HEADER + length);
      at += HEADER + length;
      yield { data, csumBlank: (flags & F_CSUM_BLANK) !== 0, validated: false, gso: gso as Gso, gsoSize };
    }
    this.rest = all.slice(at);
  }
}

export interface LinkHost {
  readonly sockets: SocketProvider;
  /** Run between slices of guest work. */
  post(fn: () => void): void;
  timer(fire: () => void): { set(deadline: number): void; stop(): void };
  now(): number;
  /** What became of the link, for people. */
  say(line: string): void;
}

export interface LinkAddress {
  readonly address: string;
  readonly port: number;
  /** Wait for the other side instead of calling it. */
  readonly listen: boolean;
}

/** `HOST:PORT`, or `listen:[ADDRESS:]PORT` (default 127.0.0.1); throws with one line for anything else. */
export function parseLinkAddress(text: string): LinkAddress {
  const m = /^(listen:)?(?:(\[[0-9a-f:]+\]|[^:\s]+):)?(\d{1,5})$/i.exec(text);
  const port = Number(m?.[3]);
  const listen = m?.[1] !== undefined;
  if (m === null || port > 65_535 || (!listen && (m[2] === undefined || port === 0)))
    throw new Error(`link: "${text}" is neither HOST:PORT nor listen:[ADDRESS:]PORT`);
  return { address: (m[2] ?? "127.0.0.1").replace(/^\[|\]$/g, ""), port, listen };
}

/** One end of a link; it lasts until `close`, through any number of connections, one at a time. */
export class BridgeLink {
  /** Frames that a slow link lost. */
  lost = 0;
  private socket: TcpSocket | null = null;
  private plug: BridgePort | null = null;
  private listener: Listener | null = null;
  private readonly retry: { set(deadline: number): void; stop(): void };
  private closed = false;

  constructor(
    private readonly host: LinkHost,
    readonly bridge: Bridge,
    readonly where: LinkAddress,
    /** Called with the port that is listened on. */
    private readonly onListening: (port: number) => void = () => {},
  ) {
    this.retry = host.timer(() => this.call());
    if (where.listen) {
      this.listener = host.sockets.listenTcp(where.address, where.port, (socket, from) => this.accept(socket, from), {
        listening: (port) => this.onListening(port),
        failed: (error) => host.say(`link: cannot listen on ${where.address}:${where.port}: ${error}`),
      });
    } else this.call();
  }

  get connected(): boolean {
    return this.plug !== null;
  }

  close(): void {
    this.closed = true;
    this.retry.stop();
    this.listener?.close();
    this.drop();
  }

  private call(): void {
    if (this.closed || this.socket !== null) return;
    const { address, port } = this.where;
    this.socket = this.host.sockets.connectTcp(
      address,
      port,
      this.handlers(`${address}:${port}`, () => this.socket),
    );
  }
  private accept(socket: TcpSocket, from: string): TcpHandlers | null {
    if (this.closed || this.socket !== null) return null;
    this.socket = socket;
    const handlers = this.handlers(from, () => socket);
    this.host.post(() => handlers.connected());
    return handlers;
  }

  private handlers(name: string, mine: () => TcpSocket | null): TcpHandlers {
    const reader = new FrameReader();
    const { host } = this;
    const current = (): boolean => this.socket !== null && mine() === this.socket;
    return {
      connected: () => {
        if (!current() || this.plug !== null) return;
        this.socket?.write(GREETING);
        this.plug = this.bridge.attach((p) => this.toStream(p), { name: `link ${name}`, trunk: "all" });
        host.say(`link: ${this.bridge.name} is connected to ${name}`);
      },
      data: (bytes) =>
        host.post(() => {
          if (!current()) return;
          try {
            for (const p of reader.push(bytes)) this.plug?.send(p);
          } catch (e) {
            if (!(e instanceof LinkError)) throw e;
            host.say(`link: ${name}: ${e.message}`);
            this.ended(name, undefined);
          }
        }),
      drained: () => {},
      ended: () => {
        if (current()) this.ended(name, undefined);
      },
      closed: (error) => {
        if (current()) this.ended(name, error);
      },
    };
  }

  private toStream(p: Packet): void {
    const { socket } = this;
    if (socket === null) return;
    if (socket.buffered > MAX_BUFFERED || p.data.length > MAX_FRAME) {
      this.lost++;
      return;
    }
    socket.write(encodeFrame(p));
  }

  private ended(name: string, error: string | undefined): void {
    if (this.plug !== null)
      this.host.say(`link: ${this.bridge.name} has lost ${name}${error === undefined ? "" : `: ${error}`}`);
    this.drop();
    if (!this.where.listen && !this.closed) this.retry.set(this.host.now() + RETRY_NS);
  }
  private drop(): void {
    const { socket, plug } = this;
    this.socket = null;
    this.plug = null;
    plug?.detach();
    socket?.destroy();
  }
}
