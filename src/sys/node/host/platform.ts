/** The platform of a host on Node: files of the file system, sockets of the network, the state folder's logs. */
import { randomBytes } from "node:crypto";
import { closeSync, lstatSync, mkdirSync, openSync, renameSync, statSync, writeSync } from "node:fs";
import { open, rename, unlink, type FileHandle } from "node:fs/promises";
import { connect as netConnect, createServer, type Socket } from "node:net";
import { cpus, hostname } from "node:os";
import { dirname, join } from "node:path";
import type { DebugMachine } from "../../../debug/debugger.js";
import type { Domain } from "../../../hypervisor/domain.js";
import { serveGdb } from "../gdb-server.js";
import type { BlockImage } from "../../../devices/block/index.js";
import type { DiskConfig } from "../../../toolstack/config/disk.js";
import { HostError } from "../../../toolstack/host/api.js";
import type {
  ByteStream,
  FileReader,
  FileWriter,
  HostPlatform,
  LogSink,
  PathBase,
} from "../../../toolstack/host/platform.js";
import { readInput, resolvePath } from "../files.js";
import { InputError } from "../input-error.js";
import { checkDisk, openDisk } from "../open-disk.js";

/** A log is put aside at this size; the one put aside before goes. */
const LOG_LIMIT = 16 << 20;
/** What may wait in a stream before its writer does. */
const STREAM_WINDOW = 1 << 20;

/** Node's errors as the host has them. */
export async function asHost<T>(path: string, f: () => Promise<T>): Promise<T> {
  try {
    return await f();
  } catch (e) {
    if (e instanceof HostError) throw e;
    if (e instanceof InputError) throw new HostError("invalid", e.message);
    const { code, message } = e as NodeJS.ErrnoException;
    if (code === undefined) {
      // Mistakes of ours have types; a plain Error is about the file.
      if (e instanceof Error && e.constructor === Error) throw new HostError("invalid", message);
      throw e;
    }
    const known: Readonly<Record<string, string>> = {
      ENOENT: "No such file or directory",
      EACCES: "Permission denied",
      EISDIR: "Is a directory",
      ENOTDIR: "Not a directory",
      ENOSPC: "No space left on device",
      EROFS: "Read-only file system",
    };
    throw new HostError(code === "ENOSPC" ? "io" : "invalid", `${path}: ${known[code] ?? message}`);
  }
}

/** Written beside its place, and moved there when it is whole and on the medium. */
export async function createFile(path: string): Promise<FileWriter> {
  const temporary = `${path}.${randomBytes(4).toString("hex")}.part`;
  const file = await asHost(path, () => open(temporary, "wx", 0o600));
  let state: "open" | "done" = "open";
  const abort = async (): Promise<void> => {
    if (state === "done") return;
    state = "done";
    await file.close().catch(() => undefined);
    await unlink(temporary).catch(() => undefined);
  };
  return {
    write: (bytes) =>
      asHost(path, async () => {
        for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at, bytes.length - at)).bytesWritten;
      }),
    commit: () =>
      asHost(path, async () => {
        try {
          await file.sync();
          await file.close();
          await rename(temporary, path);
          state = "done";
          await syncFolder(dirname(path));
        } catch (e) {
          await abort();
          throw e;
        }
      }),
    abort,
  };
}

/** A renamed file is only there after a crash when its folder is on the medium. */
async function syncFolder(path: string): Promise<void> {
  let folder: FileHandle | null = null;
  try {
    folder = await open(path, "r");
    await folder.sync();
  } catch {
    // Some file systems know no fsync of folders.
  } finally {
    await folder?.close();
  }
}

export async function openFile(path: string): Promise<FileReader> {
  return asHost(path, async () => {
    const file = await open(path, "r");
    const stat = await file.stat();
    if (stat.isDirectory()) {
      await file.close();
      throw new HostError("invalid", `${path}: Is a directory`);
    }
    return {
      size: stat.size,
      read: (offset, length) =>
        asHost(path, async () => {
          const out = new Uint8Array(length);
          let at = 0;
          while (at < length) {
            const { bytesRead } = await file.read(out, at, length - at, offset + at);
            if (bytesRead === 0) break;
            at += bytesRead;
          }
          return out.subarray(0, at);
        }),
      close: () => file.close(),
    };
  });
}

/** A socket as a stream: reading keeps the other side waiting, writing waits for it. */
export function socketStream(socket: Socket): ByteStream {
  const chunks: Uint8Array[] = [];
  let ended = false;
  let failure = null as Error | null;
  let reader: (() => void) | null = null;
  let writers: (() => void)[] = [];
  const broken = (): string => failure?.message ?? "the connection is closed";
  const wake = (): void => {
    reader?.();
    reader = null;
  };
  const released = (): void => {
    const all = writers;
    writers = [];
    for (const w of all) w();
  };
  socket.on("data", (b: Buffer) => {
    // The buffer may be a piece of a pool that Node uses again.
    chunks.push(Uint8Array.from(b));
    socket.pause();
    wake();
  });
  socket.on("drain", released);
  socket.on("error", (e) => {
    failure = e;
  });
  socket.on("end", () => {
    ended = true;
    wake();
  });
  socket.on("close", () => {
    ended = true;
    failure ??= new Error("the connection was closed");
    wake();
    released();
  });
  return {
    write: async (bytes) => {
      if (failure !== null || socket.destroyed) throw new HostError("io", broken());
      socket.write(bytes);
      while (socket.writableLength > STREAM_WINDOW && !socket.destroyed)
        await new Promise<void>((r) => writers.push(r));
      if (socket.destroyed) throw new HostError("io", broken());
    },
    read: async () => {
      for (;;) {
        const head = chunks.shift();
        if (head !== undefined) return head;
        if (ended) return null;
        socket.resume();
        await new Promise<void>((r) => (reader = r));
      }
    },
    close: () => {
      socket.end();
      socket.destroySoon();
    },
  };
}

/** `to`: host:port, [v6]:port, or a path with a slash in it. */
export function connectStream(to: string): Promise<ByteStream> {
  const hostPort = /^(?:\[([^\]]+)\]|([^:/]+)):(\d{1,5})$/.exec(to);
  if (hostPort === null && !to.includes("/")) {
    return Promise.reject(new HostError("invalid", `${to}: neither host:port nor the path of a socket`));
  }
  return new Promise((resolve, reject) => {
    const socket =
      hostPort === null
        ? netConnect({ path: to })
        : netConnect({ host: hostPort[1] ?? hostPort[2] ?? "", port: Number(hostPort[3]) });
    socket.once("error", (e) => reject(new HostError("io", `${to}: ${e.message}`)));
    socket.once("connect", () => {
      socket.setNoDelay(true);
      resolve(socketStream(socket));
    });
  });
}

/** A socket that nobody listens at any more is in the way of a new one. */
async function removeDead(path: string): Promise<void> {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return;
  const dead = await new Promise<boolean>((resolve) => {
    const socket = netConnect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    socket.once("error", (e: NodeJS.ErrnoException) => resolve(e.code === "ECONNREFUSED"));
  });
  if (dead) await unlink(path).catch(() => undefined);
}

/** A log file that is put aside when it grows too large. */
export function logFile(path: string): LogSink {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  let fd = openSync(path, "a", 0o600);
  let size = statSync(path).size;
  return {
    write: (bytes) => {
      if (fd < 0) return;
      try {
        size += writeSync(fd, bytes);
        if (size < LOG_LIMIT) return;
        closeSync(fd);
        fd = -1;
        renameSync(path, `${path}.1`);
        fd = openSync(path, "a", 0o600);
        size = 0;
      } catch {
        // A full disk must not end the domains.
      }
    },
    close: () => {
      if (fd >= 0) closeSync(fd);
      fd = -1;
    },
  };
}

export class NodePlatform implements HostPlatform {
  readonly hostName = hostname();
  readonly runtime = `Node ${process.versions.node}, ${process.platform} ${process.arch}`;
  readonly cpuMhz: number;

  /** @param folder where logs and dumps go; without one there are none. */
  constructor(
    private readonly folder?: string,
    private readonly logLine: (line: string) => void = () => {},
  ) {
    this.cpuMhz = cpus()[0]?.speed ?? 0;
  }
  resolve(path: string, base: PathBase): string {
    return resolvePath(path, base);
  }
  readFile(path: string): Promise<Uint8Array> {
    return asHost(path, () => readInput(path));
  }
  openFile(path: string): Promise<FileReader> {
    return openFile(path);
  }
  createFile(path: string): Promise<FileWriter> {
    return createFile(path);
  }
  openDisk(disk: DiskConfig, path: string): Promise<BlockImage> {
    return asHost(path, () => openDisk(disk, path));
  }
  checkDisk(disk: DiskConfig, path: string, source: string): Promise<void> {
    return asHost(path, () => checkDisk(disk, path, source));
  }
  connect(to: string): Promise<ByteStream> {
    return connectStream(to);
  }
  async listenSocket(path: string, accept: (stream: ByteStream) => void): Promise<{ close(): void }> {
    await removeDead(path);
    const server = createServer((socket) => accept(socketStream(socket)));
    await new Promise<void>((resolve, reject) => {
      server.once("error", (e) => reject(new HostError("io", `${path}: ${e.message}`)));
      server.listen(path, resolve);
    });
    return { close: () => server.close() };
  }
  consoleLog(name: string): LogSink {
    return this.folder === undefined
      ? { write: () => {}, close: () => {} }
      : logFile(join(this.folder, "console", `guest-${name}.log`));
  }
  async serveGdb(
    machine: DebugMachine,
    domain: Domain,
    port: number,
    wake: () => void,
  ): Promise<{ port: number; close(): void }> {
    try {
      return await serveGdb(machine, { port, wake, domain: () => (domain.dying ? null : domain) });
    } catch (e) {
      throw new HostError("io", `gdb: cannot listen on port ${port}: ${e instanceof Error ? e.message : String(e)}`);
    }
  }
  dumpPath(name: string): string {
    const folder = join(this.folder ?? ".", "dump");
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return join(folder, name);
  }
  cpuTimeNs(): number {
    const { user, system } = process.cpuUsage();
    return (user + system) * 1000;
  }
  log(line: string): void {
    this.logLine(line);
  }
}
