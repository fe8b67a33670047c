/** UDP between guests and the host's network: one socket per guest address and port, forgotten when it has been silent. Only peers that the guest has written to may answer. */
import { be16, put16 } from "../packet.js";
import type { NatHost } from "./host.js";
import type { Ipv4 } from "./ip.js";
import type { UdpSocket } from "./sockets.js";

export const UDP_HEADER = 8;
const MAX_FLOWS = 512;
const MAX_PEERS = 256;
/** RFC 4787: at least two minutes. */
export const UDP_IDLE_NS = 120e9;

/** Header and data, checksum zero. */
export function udpDatagram(srcPort: number, dstPort: number, data: Uint8Array): Uint8Array {
  const b = new Uint8Array(UDP_HEADER + data.length);
  put16(b, 0, srcPort);
  put16(b, 2, dstPort);
  put16(b, 4, b.length);
  b.set(data, UDP_HEADER);
  return b;
}
/** The ports and data of a datagram; null where its length is wrong. */
export function parseUdp(b: Uint8Array): { srcPort: number; dstPort: number; data: Uint8Array } | null {
  if (b.length < UDP_HEADER) return null;
  const n = be16(b, 4);
  if (n < UDP_HEADER || n > b.length) return null;
  return { srcPort: be16(b, 0), dstPort: be16(b, 2), data: b.subarray(UDP_HEADER, n) };
}

interface Peer {
  readonly ip: Ipv4;
  readonly port: number;
}
interface Flow {
  readonly socket: UdpSocket;
  /** As the guest knows them, by the host's address and port. */
  readonly peers: Map<string, Peer>;
  used: number;
}

export class UdpFlows {
  private readonly flows = new Map<string, Flow>();

  constructor(
    private readonly host: NatHost,
    /** Hand a datagram to a guest. */
    private readonly deliver: (guest: Ipv4, guestPort: number, from: Ipv4, fromPort: number, data: Uint8Array) => void,
  ) {}

  get size(): number {
    return this.flows.size;
  }

  /** Send for a guest to `address`, which it calls `ip`. */
  send(
    guest: Ipv4,
    guestPort: number,
    ip: Ipv4,
    port: number,
    address: string,
    hostPort: number,
    data: Uint8Array,
  ): void {
    const key = `${guest}:${guestPort}`;
    let flow = this.flows.get(key);
    if (flow === undefined) {
      if (this.flows.size >= MAX_FLOWS) this.drop(this.flows.keys().next().value as string);
      const peers = new Map<string, Peer>();
      const made: Flow = {
        peers,
        used: 0,
        socket: this.host.sockets.openUdp({
          message: (bytes, from, fromPort) =>
            this.host.post(() => {
              const peer = peers.get(`${from}:${fromPort}`);
              if (peer === undefined || this.flows.get(key) !== made) return;
              made.used = this.host.now();
              this.deliver(guest, guestPort, peer.ip, peer.port, bytes);
            }),
          failed: () =>
            this.host.post(() => {
              if (this.flows.get(key) === made) this.drop(key);
            }),
        }),
      };
      flow = made;
    } else this.flows.delete(key);
    // The one used last is last.
    this.flows.set(key, flow);
    const peer = `${address}:${hostPort}`;
    if (!flow.peers.has(peer) && flow.peers.size >= MAX_PEERS)
      flow.peers.delete(flow.peers.keys().next().value as string);
    flow.peers.set(peer, { ip, port });
    flow.used = this.host.now();
    flow.socket.send(data, address, hostPort);
  }

  private drop(key: string): void {
    this.flows.get(key)?.socket.close();
    this.flows.delete(key);
  }
  /** Forget what was silent; true where some are left. */
  sweep(): boolean {
    const limit = this.host.now() - UDP_IDLE_NS;
    for (const [key, f] of this.flows) if (f.used < limit) this.drop(key);
    return this.flows.size > 0;
  }
  close(): void {
    for (const key of [...this.flows.keys()]) this.drop(key);
  }
}
