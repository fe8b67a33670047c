/**
 * Domains that leave the host and come back: save files, migrations, forks, core dumps. The work is toolstack/migration's and fork's; here it meets
 * the host's bookkeeping: names, configurations, disks, what becomes of the domain afterwards.
 *
 * Invariant: a domain is the host's or it is not: what fails on the way leaves it running here, or nothing here.
 */
import { parseDomainConfig, type DomainConfig } from "../config/index.js";
import { libxlJsonText } from "../config/json-text.js";
import { openTracked } from "../disks.js";
import { forkDomain } from "../fork.js";
import {
  MigrationError,
  receiveDomain,
  restoreDomain,
  saveDomain,
  sendDomain,
  type ByteSource,
  type Duplex,
  type MigrationLedger,
  type RestorePlan,
} from "../migration/index.js";
import type { RunningDomain } from "../machine.js";
import { Channels, planChannels } from "./channels.js";
import type { ConsoleHub } from "./console-hub.js";
import { HostError, type CreateRequest, type CreateResult, type MigrateResult, type SaveOptions } from "./api.js";
import * as devices from "./devices.js";
import type { Host } from "./host.js";
import type { ManagedDomain } from "./managed-domain.js";
import { grantLimits, planDevices } from "./plan.js";
import type { FileReader } from "./platform.js";
import { configText, looksLikeJson } from "./saved-config.js";

/** What a saved domain's configuration is called in messages. */
const SAVED = "<saved>";
const PIECE = 1 << 20;

/** The faults of a migration in the host's words. */
export function asMoveError(e: unknown): unknown {
  if (!(e instanceof MigrationError)) return e;
  switch (e.code) {
    case "no-memory":
    case "state":
    case "timeout":
    case "unsupported":
      return new HostError(e.code, e.message);
    case "stream":
      return new HostError("invalid", e.message);
    default:
      return new HostError("io", e.message);
  }
}
/** Run what moves domains; its faults are the host's. */
export async function moving<T>(body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (e) {
    throw asMoveError(e);
  }
}

/** The configuration to go with a domain: its own, or what the caller has in its place, as libxl's JSON. */
async function storedConfig(host: Host, d: ManagedDomain, given: string | undefined): Promise<string> {
  if (given !== undefined && looksLikeJson(given)) return given;
  const own = await host.getConfig(d.domid);
  if (given === undefined) return libxlJsonText(own);
  return libxlJsonText(host.configJson(parseDomainConfig(given, "command line"), d));
}

export async function save(host: Host, d: ManagedDomain, options: SaveOptions): Promise<void> {
  await d.exclusively("being saved", () =>
    moving(async () => {
      const config = await storedConfig(host, d, options.config);
      const file = await host.platform.createFile(options.file);
      try {
        // The domain goes only when its file is whole and in its place.
        await saveDomain(host.machine, d.running, file, { config, after: "pause" });
        await file.commit();
      } catch (e) {
        await file.abort();
        if (d.running.domain.pauseCount > d.pauses) host.machine.xen.unpause(d.running.domain);
        throw e;
      }
    }),
  );
  const after = options.after ?? "destroy";
  if (after === "destroy") await host.endDomain(d, "the domain has been saved");
  else if (after === "continue") host.machine.xen.unpause(d.running.domain);
  else d.pauses++;
  host.machine.onInput();
}

/** A file as the bytes of a saved domain. */
function fileSource(file: FileReader): ByteSource {
  let at = 0;
  return {
    read: async () => {
      const bytes = await file.read(at, PIECE);
      at += bytes.length;
      return bytes.length === 0 ? null : bytes;
    },
  };
}

/** What is known of a domain that comes in, once its configuration has been read. */
interface Incoming {
  request: CreateRequest;
  config: DomainConfig;
  plan: RestorePlan;
  opened: Parameters<ManagedDomain["track"]>[0][];
  consoles: ConsoleHub[];
  channels: Channels | null;
  warnings: readonly string[];
}

async function planIncoming(host: Host, saved: string, given: string | undefined, cwd?: string): Promise<Incoming> {
  const text = given === undefined || given === "" ? saved : given;
  const source = given === undefined || given === "" ? SAVED : "command line";
  const cfg = looksLikeJson(text) ? configText(text, source) : text;
  const config = parseDomainConfig(cfg, source);
  const request: CreateRequest = { config: cfg, source, ...(cwd === undefined ? {} : { cwd }) };
  const found = await planDevices(host.platform, { cwd, source }, config.disk, config.vif);
  const opened: Incoming["opened"] = [];
  const channels = planChannels(host.platform, { cwd, source }, config.channel);
  const incoming: Incoming = {
    request,
    config,
    opened,
    consoles: [host.newConsole(config.name)],
    channels: null,
    warnings: [...config.warnings, ...found.warnings],
    plan: {
      name: config.name,
      uuid: config.uuid,
      vcpus: config.maxvcpus,
      memoryMiB: config.memory,
      maxMemoryMiB: config.maxmem,
      maxPort: config.maxEventChannels,
      grantLimits: grantLimits(config, source),
      disks: found.disks.map((disk) => ({
        ...disk,
        image: openTracked(disk.image, (image) => void opened.push(image)),
      })),
      vifs: found.vifs,
      kernelPath: config.kernel,
      ramdiskPath: config.ramdisk,
      cmdline: config.cmdline,
      equip: async (running) => {
        const { machine, platform } = host;
        incoming.channels = await Channels.attach(machine, platform, running, channels, incoming.consoles);
      },
    },
  };
  return incoming;
}

/** What came of it is the host's. */
function adopted(
  host: Host,
  running: RunningDomain,
  incoming: Incoming,
  pauses: number,
  forget = false,
): ManagedDomain {
  const { request, config, warnings, opened, consoles, channels } = incoming;
  return host.adopt(running, {
    request: { ...request, ...(forget ? { forget } : {}) },
    config,
    warnings,
    opened,
    consoles,
    channels: channels ?? undefined,
    pauses,
  });
}
/** Nothing came of it. */
function dropped(incoming: Incoming | null): void {
  incoming?.channels?.close();
  for (const c of incoming?.consoles ?? []) c.end("the domain did not get here");
}

export async function restore(
  host: Host,
  path: string,
  options: { readonly paused?: boolean; readonly config?: string; readonly forget?: boolean } = {},
): Promise<CreateResult> {
  return moving(async () => {
    const file = await host.platform.openFile(path);
    let release: (() => void) | null = null;
    let incoming: Incoming | null = null;
    const plan = async (saved: string): Promise<RestorePlan> => {
      incoming = await planIncoming(host, saved, options.config);
      release = host.reserveName(incoming.config.name);
      return incoming.plan;
    };
    try {
      const { running } = await restoreDomain(host.machine, fileSource(file), { paused: true, plan });
      const came = known(incoming);
      const d = adopted(host, running, came, 1, options.forget === true);
      if (options.paused !== true) await host.unpause(d.domid);
      return { domid: d.domid, name: d.name, warnings: came.warnings };
    } catch (e) {
      dropped(incoming);
      throw e;
    } finally {
      call(release);
      await file.close();
    }
  });
}

// TypeScript does not see assignments in callbacks.
function known(incoming: Incoming | null): Incoming {
  if (incoming === null) throw new HostError("internal", "a domain came without a configuration");
  return incoming;
}
function call(f: (() => void) | null): void {
  f?.();
}

export async function migrate(
  host: Host,
  d: ManagedDomain,
  to: string,
  options: { readonly config?: string } = {},
): Promise<MigrateResult> {
  const { platform } = host;
  if (platform.connect === undefined) throw new HostError("unsupported", "there is no way to another host from here");
  const connect = platform.connect.bind(platform);
  const sent = await d.exclusively("being migrated", () =>
    moving(async () => {
      const config = await storedConfig(host, d, options.config);
      const link = await connect(to);
      try {
        return await sendDomain(host.machine, d.running, link, { config, reconnect: () => connect(to) });
      } finally {
        link.close();
      }
    }),
  );
  await host.endDomain(d, "the domain has been migrated");
  return {
    domid: sent.remoteDomid,
    rounds: sent.rounds,
    pagesSent: sent.pagesSent,
    downtimeMs: sent.downtimeMs,
    totalMs: sent.totalMs,
  };
}

/** Serve one link from another host; the domain's number here, or null when there was only a question to answer. */
export async function receive(host: Host, link: Duplex, ledger: MigrationLedger): Promise<number | null> {
  let release: (() => void) | null = null;
  let incoming: Incoming | null = null;
  const plan = async (saved: string): Promise<RestorePlan> => {
    incoming = await planIncoming(host, saved, undefined);
    release = host.reserveName(incoming.config.name);
    return incoming.plan;
  };
  try {
    return await moving(async () => {
      const got = await receiveDomain(host.machine, link, ledger, { plan });
      return got === null ? null : adopted(host, got.running, known(incoming), 0).domid;
    });
  } catch (e) {
    dropped(incoming);
    throw e;
  } finally {
    call(release);
  }
}

export async function fork(
  host: Host,
  d: ManagedDomain,
  options: { readonly count?: number; readonly name?: string; readonly paused?: boolean } = {},
): Promise<readonly CreateResult[]> {
  const { forks } = await d.exclusively("being forked", () =>
    moving(() =>
      forkDomain(host.machine, d.running, {
        count: options.count ?? 1,
        paused: true,
        ...(options.name === undefined ? {} : { name: options.name }),
      }),
    ),
  );
  const out: CreateResult[] = [];
  for (const running of forks) {
    const { name, uuid } = running.domain;
    const made = host.adopt(running, {
      request: d.request,
      config: { ...d.config, name, uuid },
      warnings: [],
      opened: [],
      pauses: 1,
      // A fork's disks are views of its parent's at this moment: it cannot have them again once it has ended.
      fork: true,
      disks: d.disks,
      vifs: devices.vifsOf(host.machine.xs, running.domain.domid, d.vifs),
    });
    if (options.paused !== true) await host.unpause(made.domid);
    out.push({ domid: made.domid, name, warnings: [] });
  }
  return out;
}
