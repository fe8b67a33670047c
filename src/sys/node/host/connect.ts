/** The way of a command to the host service: connect to it, and start it where there is none. */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { HostError } from "../../../toolstack/host/api.js";
import { hostClient, type HostConnection } from "../../../toolstack/host/client.js";
import { WIRE_VERSION } from "../../../toolstack/host/wire.js";
import { linePort, readLines } from "./lines.js";
import { takeLock } from "./lock.js";
import { packageRoot } from "../package-root.js";
import { READY_FD, type Readiness, type ServiceOptions } from "./service.js";
import { lossLines, statePaths, takeRecord, type StatePaths } from "./state-folder.js";

export type { HostConnection };

export interface ConnectOptions {
  readonly stateDir?: string | undefined;
  /** Start a service where there is none. Default yes. */
  readonly autostart?: boolean | undefined;
  /** For a service that is started. */
  readonly service?: Omit<ServiceOptions, "stateDir"> | undefined;
  /** Lines about domains that were lost; default stderr. */
  readonly onNotice?: ((line: string) => void) | undefined;
}

/** How long a service may take to listen. */
const START_MS = 30_000;
/** One that has the folder and does not listen so long may be one that ends. */
const RETRY_MS = 1000;
/** The command whose hidden part is the service. */
const COMMAND = `${packageRoot}bin/xenolith.js`;
export const SERVICE_COMMAND = "host-service";

export async function connectHost(options: ConnectOptions = {}): Promise<HostConnection> {
  const paths = statePaths(options.stateDir);
  const notice = options.onNotice ?? ((line) => void process.stderr.write(`xenolith: ${line}\n`));
  let socket = await dial(paths.socket);
  if (socket === null) {
    if (options.autostart === false) {
      reportLoss(paths, notice);
      throw new HostError("state", "no host service is running");
    }
    socket = await started(paths, options);
  }
  return greet(socket, notice);
}

/** Start a service; where another one has the folder already, wait for it to listen, or to be gone. */
async function started(paths: StatePaths, options: ConnectOptions): Promise<Socket> {
  for (const end = Date.now() + START_MS; ;) {
    const { started: ours } = await startService({ ...options.service, stateDir: paths.folder });
    for (const next = Date.now() + RETRY_MS; Date.now() < next;) {
      const socket = await dial(paths.socket);
      if (socket !== null) return socket;
      await new Promise((r) => setTimeout(r, 30));
    }
    if (ours || Date.now() > end) throw new HostError("io", `the host service does not answer at ${paths.socket}`);
  }
}

async function greet(socket: Socket, notice: (line: string) => void): Promise<HostConnection> {
  const { host, wire } = hostClient(linePort(socket));
  readLines(socket, wire);
  const hello = (await host.request("hello")) as { wire?: unknown; version?: unknown; notices?: unknown };
  if (hello.wire !== WIRE_VERSION) {
    host.close();
    throw new HostError(
      "unsupported",
      `the host service is another version (${String(hello.version)}): end it with the command it came from`,
    );
  }
  if (Array.isArray(hello.notices)) for (const n of hello.notices) notice(String(n));
  return host;
}

/** null: nobody listens there. */
function dial(path: string): Promise<Socket | null> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once("connect", () => resolve(socket));
    socket.once("error", (e: NodeJS.ErrnoException) => {
      if (e.code === "ENOENT" || e.code === "ECONNREFUSED") resolve(null);
      else reject(new HostError("io", `${path}: ${e.message}`));
    });
  });
}

/** Wait until no service holds the folder any more (at most ten seconds). */
export async function serviceGone(stateDir?: string): Promise<void> {
  const paths = statePaths(stateDir);
  for (const end = Date.now() + 10_000; Date.now() < end;) {
    const lock = takeLock(paths.lock);
    if (lock !== null) return lock.release();
    await new Promise((r) => setTimeout(r, 30));
  }
}

/** Tell of a service that ended unasked, if there was one and nobody has been told. */
function reportLoss(paths: StatePaths, notice: (line: string) => void): void {
  const lock = takeLock(paths.lock);
  if (lock === null) return;
  const lost = takeRecord(paths.record);
  lock.release();
  if (lost !== null) for (const line of lossLines(lost, paths.log)) notice(line);
}

/** Start a service that outlives this process. `started` false: another one has the folder. */
export async function startService(options: ServiceOptions): Promise<{ started: boolean }> {
  const paths = statePaths(options.stateDir);
  const log = openSync(paths.log, "a", 0o600);
  let word: Readiness;
  try {
    const stdio: ("ignore" | "pipe" | number)[] = ["ignore", log, log];
    stdio[READY_FD] = "pipe";
    const child = spawn(
      process.execPath,
      [COMMAND, SERVICE_COMMAND, JSON.stringify({ ...options, stateDir: paths.folder })],
      { detached: true, stdio },
    );
    word = await new Promise<Readiness>((resolve) => {
      const ready = child.stdio[READY_FD] as Socket;
      let text = "";
      const done = (w: Readiness): void => {
        ready.destroy();
        child.removeAllListeners();
        child.unref();
        resolve(w);
      };
      ready.on("data", (b: Buffer) => {
        text += b.toString("utf8");
        if (text.includes("\n")) done(JSON.parse(text) as Readiness);
      });
      ready.on("error", () => undefined);
      child.on("error", (e) => done({ error: e.message }));
      child.on("exit", (code, signal) =>
        // What it said may still be on its way.
        setTimeout(() => done({ error: `it ended (${signal ?? `status ${code ?? "?"}`}), see ${paths.log}` }), 200),
      );
    });
  } finally {
    closeSync(log);
  }
  if ("error" in word) throw new HostError("io", `the host service could not start: ${word.error}`);
  return { started: "ready" in word };
}
