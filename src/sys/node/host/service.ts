/**
 * The host service: one process per state folder with the machine in its main thread, the host's interface on a unix socket, and XenStore on
 * another.
 *
 * Invariants: it holds the folder's lock as long as it lives; `domains.json` is there exactly while it lives or when it ended unasked, and names the
 * domains that run; a connection, whatever it does or however it ends, changes nothing but by its requests.
 */
import { chmodSync, ftruncateSync, rmSync, writeSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { freemem } from "node:os";
import { Machine } from "../../../toolstack/machine.js";
import type { EngineKind } from "../../../machine/cpu/cpu.js";
import type { Forward, LinkAddress } from "../../../devices/network/index.js";
import type { Run } from "../../../api/drive.js";
import { HostError } from "../../../toolstack/host/api.js";
import { Host } from "../../../toolstack/host/host.js";
import { serveHost, WIRE_VERSION, type ExtraMethods } from "../../../toolstack/host/wire.js";
import { Inspector } from "../../../inspect/inspector.js";
import { inspectRequests } from "../../../inspect/remote/over-host.js";
import { engineFlags } from "../engine-flags.js";
import { NodeSockets } from "../nat-sockets.js";
import { realClock, runMachine } from "../run-machine.js";
import { serveXenStore, type XenStoreSocket } from "../xenstore-socket.js";
import { linePort, readLines } from "./lines.js";
import { takeLock, type Lock } from "./lock.js";
import { disksClosed } from "../image-file.js";
import { NodePlatform, socketStream } from "./platform.js";
import { lossLines, statePaths, readRecord, writeRecord, type ServiceRecord, type StatePaths } from "./state-folder.js";

export interface ServiceOptions {
  readonly stateDir?: string | undefined;
  /** For all domains together; default 2048, less where the machine has less to give. */
  readonly memoryMiB?: number | undefined;
  readonly pcpus?: number | undefined;
  readonly scheduler?: string | undefined;
  readonly engine?: EngineKind | undefined;
  readonly threshold?: number | undefined;
  /** Bridges to be made at the start; others come with the first vif that names them. */
  readonly bridges?: readonly string[] | undefined;
  /** Links of bridges to those of other hosts. */
  readonly links?: readonly { readonly bridge: string; readonly where: LinkAddress }[] | undefined;
  /** Ports of the host that lead to guests behind the NAT (`bridge=nat`). */
  readonly forwards?: readonly Forward[] | undefined;
  /** Where incoming migrations are taken: a TCP port, on this address (default the loopback). */
  readonly migrationPort?: number | undefined;
  readonly migrationAddress?: string | undefined;
  readonly version?: string | undefined;
}

/** Bytes of the log that are kept at most. */
const LOG_LIMIT = 16 << 20;
const DEFAULT_MEMORY = 2048;
const LEAST_MEMORY = 128;
/** Idle machines sleep this long at most; whatever brings them input wakes them. */
const SLEEP_MS = 250;

/** The memory of a service that was not told: what domains are likely to need, and not more than half of what is free. */
export function defaultMemory(): number {
  return Math.max(LEAST_MEMORY, Math.min(DEFAULT_MEMORY, Math.floor(freemem() / 2097152)));
}

export class Service {
  readonly host: Host;
  private readonly machine: Machine;
  private readonly startedAt = Date.now();
  private readonly open = new Set<Socket>();
  private server: Server | null = null;
  private xenstore: XenStoreSocket | null = null;
  private run: Run | null = null;
  private readonly stopping = new AbortController();
  private stopped = false;
  private logged = 0;
  /** What nobody has been told yet. */
  private notices: string[] = [];
  /** Closed with the service, in order. */
  private readonly closers: (() => void)[] = [];

  private constructor(
    readonly paths: StatePaths,
    private readonly lock: Lock,
    private readonly options: ServiceOptions,
  ) {
    const say = (line: string): void => this.say(line);
    this.machine = makeMachine(options);
    this.host = new Host({
      machine: this.machine,
      platform: new NodePlatform(paths.folder, say),
      version: options.version ?? "",
      facts: {
        pid: process.pid,
        stateDir: paths.folder,
        socket: paths.socket,
        xenstoreSocket: paths.xenstore,
      },
    });
    this.machine.xen.console.onLine((line) => say(line));
    for (const name of options.bridges ?? []) this.machine.bridge(name);
  }

  /** null: another service has the folder. */
  static async start(options: ServiceOptions): Promise<Service | null> {
    engineFlags();
    const paths = statePaths(options.stateDir);
    const lock = takeLock(paths.lock);
    if (lock === null) return null;
    let service: Service | null = null;
    try {
      service = new Service(paths, lock, options);
      await service.listen();
      return service;
    } catch (e) {
      if (service === null) lock.release();
      else service.close();
      throw e;
    }
  }

  /** Resolves when the service has ended, with the status for the process. */
  async serve(): Promise<number> {
    this.run = runMachine(this.machine, {
      signal: this.stopping.signal,
      until: () => false,
      sleepMs: SLEEP_MS,
    });
    this.machine.onInput = () => this.run?.wake();
    try {
      await this.run;
      return 0;
    } finally {
      this.close();
    }
  }

  private say(line: string): void {
    try {
      // Guests may have a say in it: it does not grow for ever.
      if (this.logged > LOG_LIMIT) {
        ftruncateSync(1, 0);
        this.logged = 0;
      }
      this.logged += writeSync(1, `${new Date().toISOString()} ${line}\n`);
    } catch {
      // A full disk must not end the domains.
    }
  }

  /** The interface comes last: who can reach it finds everything there. */
  private async listen(): Promise<void> {
    const { paths } = this;
    this.xenstore = await serveXenStore(this.machine.xenstore, paths.xenstore, () => this.run?.wake());
    await this.takeMigrations();
    await this.forward();
    // What an earlier service left stays there until this one is up, so that a start that fails does not lose it.
    const lost = readRecord(paths.record);
    if (lost !== null) this.notices = lossLines(lost, paths.log);
    rmSync(paths.socket, { force: true });
    const server = createServer((socket) => this.connection(socket));
    this.server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(paths.socket, resolve);
    });
    chmodSync(paths.socket, 0o600);
    this.record();
    this.host.onEvent(() => this.record());
    this.say(`xenolith ${this.options.version ?? ""}: process ${process.pid}, ${paths.folder}`);
  }

  private async forward(): Promise<void> {
    for (const f of this.options.forwards ?? []) {
      const { hostPort, proto } = f;
      const { port } = await this.machine
        .nat()
        .forward(f)
        .catch((e: unknown) => {
          throw new HostError("io", `${proto} port ${hostPort}: ${e instanceof Error ? e.message : String(e)}`);
        });
      this.say(`${proto} port ${port} leads to ${f.guestAddress ?? "the first guest behind the NAT"}:${f.guestPort}`);
    }
  }

  /** Domains from other hosts: on a socket of this user, and on a port where one was asked for. */
  private async takeMigrations(): Promise<void> {
    const { migrationPort: port, migrationAddress: address = "127.0.0.1" } = this.options;
    const path = this.paths.migration;
    rmSync(path, { force: true });
    const places = [
      { path, what: path },
      ...(port === undefined ? [] : [{ port, host: address, what: `${address}:${port}` }]),
    ];
    for (const { what, ...place } of places) {
      const server = createServer((socket) => this.migration(socket));
      await new Promise<void>((resolve, reject) => {
        server.once("error", (e) => reject(new HostError("io", `migrations at ${what}: ${e.message}`)));
        server.listen(place, resolve);
      });
      const at = server.address();
      if (typeof at === "object" && at !== null) this.host.facts = { ...this.host.facts, migrationPort: at.port };
      this.closers.push(() => server.close());
    }
    chmodSync(path, 0o600);
    this.host.facts = { ...this.host.facts, migrationSocket: path };
  }

  private migration(socket: Socket): void {
    this.open.add(socket);
    socket.on("close", () => this.open.delete(socket));
    socket.setNoDelay(true);
    this.host.receive(socketStream(socket)).then(
      (domid) => {
        if (domid !== null) this.say(`domain ${domid} has come from another host`);
      },
      (e: unknown) =>
        this.say(`a domain from another host did not get here: ${e instanceof Error ? e.message : String(e)}`),
    );
  }

  private connection(socket: Socket): void {
    this.open.add(socket);
    socket.on("close", () => this.open.delete(socket));
    const extra: ExtraMethods = {
      hello: async () => {
        const { notices } = this;
        this.notices = [];
        return { wire: WIRE_VERSION, version: this.options.version ?? "", pid: process.pid, notices };
      },
      stop: (params) => this.stop(params[0] === "force"),
    };
    const internal = (e: Error): void => {
      const { cause = e } = e;
      this.say(`internal error: ${cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)}`);
    };
    const all = { ...extra, ...inspectRequests(this.inspector()) };
    readLines(socket, serveHost(this.host, linePort(socket), all, internal));
  }

  private inspect: Inspector | null = null;
  /** For pages that look inside (made when the first connection comes). */
  private inspector(): Inspector {
    const { xen, cpu, xenstore, xs } = this.machine;
    this.inspect ??= new Inspector(
      { xen, cpu, xenstore, xs, devices: (domid) => this.host.domains.get(domid)?.running.devices.list() ?? [] },
      {
        wake: () => this.run?.wake(),
        later: (fn, ms) => {
          const id = setTimeout(fn, ms);
          return () => clearTimeout(id);
        },
      },
    );
    return this.inspect;
  }

  /** End the service; domains that run are a reason not to. */
  private async stop(force: boolean): Promise<unknown> {
    const running = (await this.host.listDomains()).filter((d) => d.domid !== 0);
    if (running.length > 0 && !force) {
      throw new HostError("state", `domains are running: ${running.map((d) => d.name).join(", ")}`);
    }
    await this.host.close("the host service has ended");
    await disksClosed();
    this.say("ended as asked");
    // The answer goes out first.
    setTimeout(() => this.end(), 20);
    return { pid: process.pid };
  }
  private end(): void {
    this.stopped = true;
    this.stopping.abort();
  }

  /** The process is about to end for another reason: the next command shall know. */
  failed(reason: string): void {
    this.say(`ends: ${reason}`);
    if (!this.stopped) this.record(reason);
    this.stopped = true;
    this.close();
  }

  private record(reason?: string): void {
    if (this.stopped) return;
    const domains = [...this.host.domains.values()].map((d) => ({
      domid: d.domid,
      name: d.name,
      request: d.request,
    }));
    const record: ServiceRecord = {
      pid: process.pid,
      startedAt: this.startedAt,
      domains,
      ...(reason === undefined ? {} : { reason }),
    };
    try {
      writeRecord(this.paths.record, record);
    } catch (e) {
      this.say(`${this.paths.record}: ${(e as Error).message}`);
    }
  }

  private close(): void {
    for (const f of this.closers.splice(0)) f();
    for (const s of this.open) s.destroy();
    this.open.clear();
    this.server?.close();
    this.server = null;
    this.xenstore?.close();
    this.xenstore = null;
    for (const path of [this.paths.socket, this.paths.xenstore, this.paths.migration]) rmSync(path, { force: true });
    if (this.stopped && this.stopping.signal.aborted) rmSync(this.paths.record, { force: true });
    this.lock.release();
  }
}

function makeMachine(options: ServiceOptions): Machine {
  const { scheduler, pcpus, engine, threshold } = options;
  for (let memoryMiB = options.memoryMiB ?? defaultMemory(); ; memoryMiB = Math.floor(memoryMiB / 2)) {
    try {
      return new Machine({
        memoryMiB,
        clock: realClock(),
        sockets: new NodeSockets(),
        ...(scheduler === undefined ? {} : { scheduler }),
        ...(pcpus === undefined ? {} : { pcpus }),
        ...(engine === undefined ? {} : { engine }),
        ...(threshold === undefined ? {} : { threshold }),
      });
    } catch (e) {
      if (!(e instanceof RangeError)) throw e;
      // Nobody has asked for so much: less will do.
      if (options.memoryMiB === undefined && memoryMiB >= 2 * LEAST_MEMORY) continue;
      throw new HostError("no-memory", `${memoryMiB} MiB cannot be had: ${e.message}`);
    }
  }
}

/** Descriptor on which the one who started the service waits for a word. */
export const READY_FD = 3;
/** The word: it listens; somebody else does; it could not. */
export type Readiness = { readonly ready: true } | { readonly busy: true } | { readonly error: string };

/** The whole life of the service's process; the result is its status. */
export async function runService(options: ServiceOptions): Promise<number> {
  process.title = "xenolith host service";
  process.umask(0o077);
  process.chdir("/");
  const tell = (word: Readiness): void => {
    try {
      writeSync(READY_FD, `${JSON.stringify(word)}\n`);
    } catch {
      // Whoever started it has gone.
    }
  };
  let service: Service | null;
  try {
    service = await Service.start(options);
  } catch (e) {
    tell({ error: e instanceof Error ? e.message : String(e) });
    return 1;
  }
  if (service === null) {
    tell({ busy: true });
    return 0;
  }
  const alive = service;
  const fatal = (e: unknown): void => {
    const error = e instanceof Error ? e : new Error(String(e));
    alive.failed(`internal error: ${error.message}`);
    process.stderr.write(`${error.stack ?? error.message}\n`);
    process.exit(70);
  };
  process.on("uncaughtException", fatal);
  process.on("unhandledRejection", fatal);
  for (const [signal, status] of [
    ["SIGTERM", 143],
    ["SIGINT", 130],
  ] as const) {
    process.on(signal, () => {
      alive.failed(`it got ${signal}`);
      process.exit(status);
    });
  }
  process.on("SIGHUP", () => {});
  const end = alive.serve();
  tell({ ready: true });
  try {
    return await end;
  } catch (e) {
    fatal(e);
    return 70;
  }
}
