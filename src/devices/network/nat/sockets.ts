/**
 * What the NAT needs of a host: sockets, as callbacks. `sys/` implements it; tests script it.
 *
 * Rules for implementations: no handler is called from inside a method of this interface (a later turn of the host's event loop calls it); after
 * `destroy` or `close` no handler is called at all.
 */

export interface TcpHandlers {
  connected(): void;
  data(bytes: Uint8Array): void;
  /** What was written has gone out, all of it. */
  drained(): void;
  /** The other side sends no more. */
  ended(): void;
  /** The socket is gone; with a code (ECONNREFUSED, ECONNRESET, …) if something went wrong. */
  closed(error?: string): void;
}

export interface TcpSocket {
  write(bytes: Uint8Array): void;
  /** Bytes written and not yet taken by the host. */
  readonly buffered: number;
  /** No more is sent; receiving goes on. */
  end(): void;
  /** Away with it, with a reset. */
  destroy(): void;
  pause(): void;
  resume(): void;
}

export interface UdpHandlers {
  message(bytes: Uint8Array, address: string, port: number): void;
  /** The socket is gone. */
  failed(error: string): void;
}

export interface UdpSocket {
  send(bytes: Uint8Array, address: string, port: number): void;
  close(): void;
}

export interface ListenHandlers {
  /** The local port, once it is open. */
  listening(port: number): void;
  failed(error: string): void;
}

export interface Listener {
  close(): void;
}

export interface SocketProvider {
  connectTcp(address: string, port: number, handlers: TcpHandlers): TcpSocket;
  /** Each connection: `accept` gives its handlers, or null to refuse. */
  listenTcp(
    address: string,
    port: number,
    accept: (socket: TcpSocket, address: string, port: number) => TcpHandlers | null,
    handlers: ListenHandlers,
  ): Listener;
  /** A socket with a local port of the host's choice, or bound to one. */
  openUdp(handlers: UdpHandlers, bind?: { readonly address: string; readonly port: number }): UdpSocket;
  /** The host's name server; null: it has none. */
  nameServer(): { readonly address: string; readonly port: number } | null;
}
