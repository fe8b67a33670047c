/** gdb over TCP on the loopback interface: one connection at a time, each a debugger's session of its own on the domain that is there then. */
import { createServer, type Server, type Socket } from "node:net";
import { Debugger, type DebugMachine } from "../../debug/debugger.js";
import { GdbStub, type History, type StubOptions } from "../../debug/gdb/stub.js";
import type { Domain } from "../../hypervisor/domain.js";

export interface GdbServerOptions extends StubOptions {
  /** 0: any free port. */
  readonly port: number;
  /** Default: a debugger that stops the domain alone. */
  readonly attach?: (domain: Domain) => { readonly debug: Debugger; readonly history: History };
  /** The domain to debug now, or null while there is none. */
  readonly domain: () => Domain | null;
  /** There is something to do: wake the run loop. */
  readonly wake: () => void;
}

export interface GdbServer {
  readonly port: number;
  /** The session in progress. */
  readonly debugger: Debugger | null;
  close(): void;
}

/** Rejects where the port cannot be had. */
export function serveGdb(machine: DebugMachine, options: GdbServerOptions): Promise<GdbServer> {
  let session: { socket: Socket; debug: Debugger; stub: GdbStub } | null = null;
  const server: Server = createServer({ noDelay: true }, (socket) => {
    const domain = options.domain();
    if (session !== null || domain === null || domain.debug !== null || domain.dying) {
      socket.destroy();
      return;
    }
    const made = options.attach?.(domain) ?? { debug: new Debugger(machine, domain) };
    const { debug } = made;
    const stub = new GdbStub(debug, (bytes) => socket.write(bytes), { ...options, ...made });
    session = { socket, debug, stub };
    const end = (): void => {
      if (session?.socket !== socket) return;
      session = null;
      stub.close();
      options.wake();
    };
    socket.on("data", (bytes) => {
      stub.receive(bytes);
      options.wake();
    });
    socket.on("error", end);
    socket.on("close", end);
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, "127.0.0.1", () => {
      const address = server.address();
      resolve({
        port: typeof address === "object" && address !== null ? address.port : options.port,
        get debugger() {
          return session?.debug ?? null;
        },
        close() {
          session?.socket.destroy();
          server.close();
        },
      });
    });
  });
}
