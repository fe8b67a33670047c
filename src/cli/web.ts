/** `xenolith web`: the lab's pages, Debian's files from the cache, and the way to the host service, on this machine's own address. */
import { existsSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { InvalidArgumentError, type Command } from "commander";
import { connectHost, InputError, packageRoot } from "../sys/node/index.js";
import { serveLabSocket } from "../sys/node/web/lab-socket.js";
import { serveFile } from "../sys/node/web/static-files.js";
import { STATUS_OK } from "./status.js";

const DEFAULT_PORT = 8080;
const SOCKET = "/lab-socket";
const NAMES = { kernel: "vmlinuz-cloud", ramdisk: "initramfs.cpio.gz" } as const;

export interface WebOptions {
  /** 0: any. */
  readonly port: number;
  readonly address?: string;
  /** The built lab; default the one of this installation. */
  readonly folder?: string;
}
export interface WebServer {
  readonly url: string;
  close(): Promise<void>;
}

export async function startWeb(options: WebOptions): Promise<WebServer> {
  const folder = options.folder ?? `${packageRoot}dist/web`;
  const address = options.address ?? "127.0.0.1";
  if (!existsSync(`${folder}/index.html`)) throw new InputError("the lab is not built: npm run build:web");
  const cache = `${packageRoot}.cache/debian/`;
  const debian =
    existsSync(cache + NAMES.kernel) && existsSync(cache + NAMES.ramdisk)
      ? { kernel: `debian/${NAMES.kernel}`, ramdisk: `debian/${NAMES.ramdisk}` }
      : null;
  const files = {
    folder,
    more: new Map(
      debian === null
        ? []
        : [debian.kernel, debian.ramdisk].map((name) => [name, cache + name.slice("debian/".length)]),
    ),
    made: new Map([["lab.json", () => JSON.stringify({ debian, service: true })]]),
  };
  const server = createServer((request, answer) => {
    serveFile(files, request, answer).catch(() => answer.destroy());
  });
  const sockets = serveLabSocket(server, SOCKET, {
    connect: () => connectHost({ autostart: false, onNotice: () => {} }),
    guests: `${packageRoot}guests/images/`,
    debian: debian === null ? null : { kernel: cache + NAMES.kernel, ramdisk: cache + NAMES.ramdisk },
  });
  const port = await listen(server, options.port, address);
  return {
    url: `http://${address === "127.0.0.1" ? "localhost" : address}:${port}/`,
    close: () =>
      new Promise((resolve) => {
        sockets.close();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, port: number, address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", (e: NodeJS.ErrnoException) =>
      reject(
        new InputError(
          e.code === "EADDRINUSE" ? `port ${port} is in use: choose another with --port` : `port ${port}: ${e.message}`,
        ),
      ),
    );
    server.listen(port, address, () => {
      const at = server.address();
      resolve(typeof at === "object" && at !== null ? at.port : port);
    });
  });
}

function portNumber(text: string): number {
  const n = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!(n >= 0 && n <= 65535)) throw new InvalidArgumentError("It must be a port from 0 to 65535.");
  return n;
}

/** Add the command; `done` hears the exit status, once a signal has ended it. */
export function webCommand(program: Command, done: (status: number) => void): void {
  program
    .command("web")
    .description("serve the lab: the hypervisor in a page, and the host service seen from one")
    .option("--port <port>", "port (0: any)", portNumber, DEFAULT_PORT)
    .action(async (flags: { port: number }) => {
      const web = await startWeb({ port: flags.port });
      process.stdout.write(`the lab is at ${web.url} (Ctrl-C ends it)\n`);
      await new Promise<void>((resolve) => {
        for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => resolve());
      });
      await web.close();
      done(STATUS_OK);
    });
}
