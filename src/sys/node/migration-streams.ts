/** Saved domains in files, and migrations over sockets: Node's side of the byte streams of toolstack/migration. */
import { closeSync, fsyncSync, openSync, readSync, renameSync, rmSync, writeSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import type { ByteSink, ByteSource, Duplex } from "../../toolstack/migration/bytes.js";

/** Written under another name and renamed when it is whole, so that a failed save leaves no half of a file nor harms an older one. */
export class FileSink implements ByteSink {
  private readonly fd: number;
  private readonly part: string;
  private open = true;
  constructor(private readonly path: string) {
    this.part = `${path}.part-${process.pid}`;
    this.fd = openSync(this.part, "w", 0o600);
  }
  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) at += writeSync(this.fd, bytes, at, bytes.length - at);
  }
  /** It is all there: on the medium, under its name. */
  finish(): void {
    if (!this.open) return;
    this.open = false;
    try {
      fsyncSync(this.fd);
    } finally {
      closeSync(this.fd);
    }
    renameSync(this.part, this.path);
  }
  /** It came to nothing. */
  discard(): void {
    if (!this.open) return;
    this.open = false;
    closeSync(this.fd);
    rmSync(this.part, { force: true });
  }
}

const PIECE = 1 << 20;

export class FileSource implements ByteSource {
  private readonly fd: number;
  constructor(path: string) {
    this.fd = openSync(path, "r");
  }
  read(): Uint8Array | null {
    const piece = new Uint8Array(PIECE);
    const n = readSync(this.fd, piece, 0, PIECE, null);
    return n === 0 ? null : piece.subarray(0, n);
  }
  close(): void {
    closeSync(this.fd);
  }
}

/** A socket as both ends of a migration use it: writes wait while the kernel's buffers are full, reads take what has come. */
export class SocketLink implements Duplex {
  private readonly chunks: Uint8Array[] = [];
  private failure: Error | null = null;
  private over = false;
  private wakeReader: (() => void) | null = null;
  private readonly wakeWriters = new Set<() => void>();

  constructor(
    private readonly socket: Socket,
    /** Something has come or gone: a machine that sleeps should look. */
    private readonly onActivity: () => void = () => {},
  ) {
    socket.setNoDelay(true);
    socket.on("data", (bytes: Buffer) => {
      this.chunks.push(bytes);
      if (this.chunks.length > 64) socket.pause();
      this.wake();
    });
    socket.on("error", (e) => {
      this.failure ??= e;
      this.end();
    });
    socket.on("end", () => this.end());
    socket.on("close", () => this.end());
    socket.on("drain", () => this.wakeAll());
  }
  private end(): void {
    this.over = true;
    this.wake();
    this.wakeAll();
  }
  private wake(): void {
    const f = this.wakeReader;
    this.wakeReader = null;
    f?.();
    this.onActivity();
  }
  private wakeAll(): void {
    for (const f of [...this.wakeWriters]) f();
    this.wakeWriters.clear();
    this.onActivity();
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.failure !== null) throw this.failure;
    if (this.socket.destroyed || this.socket.writableEnded) throw new Error("the connection is closed");
    if (this.socket.write(bytes)) return;
    await new Promise<void>((resolve) => this.wakeWriters.add(resolve));
    if (this.failure !== null) throw this.failure;
    if (this.socket.destroyed) throw new Error("the connection is closed");
  }
  async read(): Promise<Uint8Array | null> {
    for (;;) {
      const chunk = this.chunks.shift();
      if (chunk !== undefined) {
        if (this.chunks.length === 32) this.socket.resume();
        return chunk;
      }
      if (this.failure !== null) throw this.failure;
      if (this.over) return null;
      await new Promise<void>((resolve) => (this.wakeReader = resolve));
    }
  }
  close(): void {
    // What was written last is still to be sent; a peer that does not take it is not waited for.
    this.socket.end();
    setTimeout(() => this.socket.destroy(), 2000).unref();
  }
}

/** `host:port`, `port`, or the path of a unix socket. */
export function connectLink(to: string, onActivity?: () => void): Promise<SocketLink> {
  const m = /^(?:(.*):)?(\d+)$/.exec(to);
  const socket = m === null ? connect(to) : connect(Number(m[2]), m[1] ?? "127.0.0.1");
  return new Promise((resolve, reject) => {
    socket.once("connect", () => {
      socket.removeListener("error", reject);
      resolve(new SocketLink(socket, onActivity));
    });
    socket.once("error", reject);
  });
}

/** Take migrations on a socket of its own; each connection is `onLink`'s. Resolves when it listens. */
export function listenForLinks(
  at: { readonly port: number; readonly host?: string } | { readonly path: string },
  onLink: (link: SocketLink) => void,
  onActivity?: () => void,
): Promise<Server> {
  const server = createServer((socket) => onLink(new SocketLink(socket, onActivity)));
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    const listening = (): void => {
      server.removeListener("error", reject);
      resolve(server);
    };
    if ("path" in at) server.listen(at.path, listening);
    else server.listen(at.port, at.host ?? "127.0.0.1", listening);
  });
}
