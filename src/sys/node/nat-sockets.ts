/** The NAT's sockets on Node: node:net and node:dgram. */
import { createSocket, type Socket as DgramSocket } from "node:dgram";
import { getServers } from "node:dns";
import { createServer, isIPv4, Socket } from "node:net";
import type {
  ListenHandlers,
  Listener,
  SocketProvider,
  TcpHandlers,
  TcpSocket,
  UdpHandlers,
  UdpSocket,
} from "../../devices/network/nat/sockets.js";

const code = (e: Error): string => (e as NodeJS.ErrnoException).code ?? e.message;
/** Datagrams that wait for a socket to be bound. */
const MAX_EARLY = 64;

class NodeTcp implements TcpSocket {
  private handlers: TcpHandlers | null = null;
  private error: string | undefined;
  constructor(private readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.on("error", (e) => {
      this.error = code(e);
    });
  }
  listen(h: TcpHandlers): this {
    this.handlers = h;
    const { socket } = this;
    socket.on("connect", () => this.handlers?.connected());
    // The buffer may be a piece of a pool that Node uses again.
    socket.on("data", (b: Buffer) => this.handlers?.data(Uint8Array.from(b)));
    socket.on("drain", () => this.handlers?.drained());
    socket.on("end", () => this.handlers?.ended());
    socket.on("close", () => this.handlers?.closed(this.error));
    return this;
  }
  write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }
  get buffered(): number {
    return this.socket.writableLength;
  }
  end(): void {
    this.socket.end();
  }
  destroy(): void {
    this.handlers = null;
    if (this.socket.destroyed) return;
    if (this.socket.connecting) this.socket.destroy();
    else this.socket.resetAndDestroy();
  }
  pause(): void {
    this.socket.pause();
  }
  resume(): void {
    this.socket.resume();
  }
}

export class NodeSockets implements SocketProvider {
  /** @param server name server for the guests, "address" or "address:port"; default the host's first with an IPv4 address. */
  constructor(private readonly server?: string) {}

  connectTcp(address: string, port: number, handlers: TcpHandlers): TcpSocket {
    const socket = new Socket({ allowHalfOpen: true });
    const tcp = new NodeTcp(socket).listen(handlers);
    socket.connect({ host: address, port });
    return tcp;
  }

  listenTcp(
    address: string,
    port: number,
    accept: (socket: TcpSocket, address: string, port: number) => TcpHandlers | null,
    handlers: ListenHandlers,
  ): Listener {
    let closed = false;
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      const tcp = new NodeTcp(socket);
      const h = accept(tcp, socket.remoteAddress ?? "", socket.remotePort ?? 0);
      if (h === null) tcp.destroy();
      else tcp.listen(h);
    });
    server.on("error", (e) => {
      if (!closed) handlers.failed(code(e));
    });
    server.listen({ host: address, port }, () => {
      const at = server.address();
      if (!closed) handlers.listening(at !== null && typeof at === "object" ? at.port : port);
    });
    return {
      close: () => {
        closed = true;
        server.close();
      },
    };
  }

  openUdp(handlers: UdpHandlers, bind?: { readonly address: string; readonly port: number }): UdpSocket {
    const socket: DgramSocket = createSocket("udp4");
    let closed = false;
    let ready = false;
    const early: (() => void)[] = [];
    const close = (): void => {
      if (closed) return;
      closed = true;
      socket.close();
    };
    socket.on("message", (b, from) => {
      if (!closed) handlers.message(Uint8Array.from(b), from.address, from.port);
    });
    socket.on("error", (e) => {
      if (closed) return;
      close();
      handlers.failed(code(e));
    });
    socket.bind(bind ?? { address: "0.0.0.0", port: 0 }, () => {
      ready = true;
      for (const f of early.splice(0)) f();
    });
    return {
      send: (bytes, address, port) => {
        const go = (): void => {
          // What a datagram meets on its way is not the guest's to know.
          if (!closed) socket.send(bytes, port, address, () => {});
        };
        if (ready) go();
        else if (early.length < MAX_EARLY) early.push(go);
      },
      close,
    };
  }

  nameServer(): { address: string; port: number } | null {
    const list = this.server === undefined ? getServers() : [this.server];
    for (const s of list) {
      const [address, port] = s.split(":");
      if (address !== undefined && isIPv4(address)) return { address, port: Number(port ?? 53) };
    }
    return null;
  }
}
