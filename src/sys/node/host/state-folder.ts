/**
 * The state folder of a host service: where it is, what is in it, and the record by which the end of a service that nobody asked for is
 * found.
 *
 *   lock            held by the service (lock.ts)
 *   domains.json    while a service lives: its process and its domains. Still there without a service: it ended unasked
 *   service.log     what the service says            console/guest-NAME.log   what a domain prints
 *   dump/           core dumps                       socket, xenstore         the sockets
 *
 * A unix socket's path is short (108 bytes with the final zero on Linux, 104 elsewhere): where the folder's own is too long, the sockets are in a
 * folder of this user's below the system's temporary one.
 */
import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { HostError, type CreateRequest } from "../../../toolstack/host/api.js";

/** What works everywhere. */
const MAX_SOCKET_PATH = 100;

export interface StatePaths {
  readonly folder: string;
  readonly lock: string;
  readonly log: string;
  readonly record: string;
  readonly socket: string;
  readonly xenstore: string;
  /** Incoming migrations. */
  readonly migration: string;
}

export interface DomainRecord {
  readonly domid: number;
  readonly name: string;
  /** How it was asked for, so that it can be asked for again. */
  readonly request?: CreateRequest;
}
/** What `domains.json` holds. */
export interface ServiceRecord {
  readonly pid: number;
  /** Milliseconds from the epoch. */
  readonly startedAt: number;
  readonly domains: readonly DomainRecord[];
  /** Why it ended, where it could still say. */
  readonly reason?: string;
}

export function stateFolder(given?: string): string {
  const env = process.env;
  const of = (name: string): string | undefined =>
    env[name] === undefined || env[name] === "" ? undefined : env[name];
  const xdg = of("XDG_STATE_HOME");
  const folder =
    given ??
    of("XENOLITH_STATE") ??
    (xdg !== undefined && isAbsolute(xdg) ? join(xdg, "xenolith") : join(homedir(), ".local/state/xenolith"));
  return resolve(folder);
}

/** The folder with what belongs in it, made for its owner only. */
export function statePaths(given?: string): StatePaths {
  const wanted = stateFolder(given);
  try {
    mkdirSync(wanted, { recursive: true, mode: 0o700 });
    chmodSync(wanted, 0o700);
  } catch (e) {
    throw new HostError("invalid", `state folder ${wanted}: ${(e as Error).message}`);
  }
  const folder = realpathSync(wanted);
  const sockets = Buffer.byteLength(join(folder, "migration")) <= MAX_SOCKET_PATH ? folder : shortFolder(folder);
  return {
    folder,
    lock: join(folder, "lock"),
    log: join(folder, "service.log"),
    record: join(folder, "domains.json"),
    socket: join(sockets, "socket"),
    xenstore: join(sockets, "xenstore"),
    migration: join(sockets, "migration"),
  };
}

/** A short folder that belongs to this state folder and this user alone. */
function shortFolder(folder: string): string {
  const uid = process.getuid?.() ?? 0;
  const hash = createHash("sha256").update(folder).digest("hex").slice(0, 16);
  const base = Buffer.byteLength(tmpdir()) < 40 ? tmpdir() : "/tmp";
  const path = join(base, `xenolith-${uid}-${hash}`);
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== "EEXIST") throw e;
  }
  // Anybody may make folders there: one of somebody else's is not used.
  const s = lstatSync(path);
  if (!s.isDirectory() || s.uid !== uid || (s.mode & 0o077) !== 0) {
    throw new HostError("invalid", `${path} belongs to somebody else: set XENOLITH_STATE to a shorter path`);
  }
  return path;
}

/** Whole or not at all. */
export function writeRecord(path: string, record: ServiceRecord): void {
  const temporary = `${path}.${randomBytes(4).toString("hex")}`;
  writeFileSync(temporary, JSON.stringify(record), { mode: 0o600 });
  renameSync(temporary, path);
}

/** What a service left behind. The lock must be held. */
export function readRecord(path: string): ServiceRecord | null {
  try {
    const r = JSON.parse(readFileSync(path, "utf8")) as Partial<ServiceRecord>;
    return {
      pid: Number(r.pid ?? 0),
      startedAt: Number(r.startedAt ?? 0),
      domains: Array.isArray(r.domains) ? r.domains : [],
      ...(typeof r.reason === "string" ? { reason: r.reason } : {}),
    };
  } catch {
    return null;
  }
}
/** And taken away: the caller is the one who tells. */
export function takeRecord(path: string): ServiceRecord | null {
  const record = readRecord(path);
  rmSync(path, { force: true });
  return record;
}

/** The lost service in words. */
export function lossLines(r: ServiceRecord, log: string): string[] {
  const why = r.reason === undefined ? "was killed, or the machine went down" : r.reason;
  const lines = [`the host service (process ${r.pid}) ended without being asked to: ${why} (its log: ${log})`];
  if (r.domains.length === 0) lines.push("no domain was running on it");
  else {
    const names = r.domains.map((d) => `${d.name} (${d.domid})`).join(", ");
    lines.push(
      r.domains.length === 1
        ? `this domain was lost with it: ${names}`
        : `these ${r.domains.length} domains were lost with it: ${names}`,
    );
  }
  return lines;
}
