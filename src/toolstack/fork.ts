/**
 * Instant start: running copies of a domain whose memory is shared copy-on-write (docs/forks.md).
 *
 * The domain is asked to suspend itself, as for a migration, and kept as a `Snapshot`; it then goes on ("cancelled suspend", nothing of it has
 * changed). Each fork is a new domain that comes back from the same suspension: same memory, own number, name, UUID, MAC addresses; its disks are
 * overlays in memory over the parent's as they were. Snapshots may be kept (`takeSnapshot`), and come from saved domains (`snapshotFromStream`).
 *
 * Invariant: what goes wrong leaves no half-made fork, and the parent running.
 */
import { BlockBackend } from "../devices/block/index.js";
import { attachVif, VifBackend } from "../devices/network/index.js";
import type { Domain } from "../hypervisor/domain.js";
import { randomMac } from "./config/vif.js";
import type { DiskSpec } from "./disks.js";
import { ForkedImage, type FrozenView } from "./fork-disks.js";
import type { Machine, RunningDomain } from "./machine.js";
import { adoptDomain, openServicePorts } from "./migration/adopt.js";
import { Reader, type ByteSource } from "./migration/bytes.js";
import { MigrationError } from "./migration/errors.js";
import { quiesceDisks } from "./migration/quiesce.js";
import { pinTables, rebuildSharedInfo, rebuildStartInfo, rebuildVcpus } from "./migration/rebuild.js";
import { discard, loadFrom, type RestoreOptions } from "./migration/restore.js";
import { resumeDomain, suspendDomain } from "./migration/suspend.js";
import { factsOf, Snapshot } from "./snapshot.js";

/** A disk that forks have: a view of the parent's, or what a plan says (null: an empty drive). */
interface ForkDisk {
  readonly spec: Omit<DiskSpec, "image">;
  readonly view: FrozenView | null;
  readonly image: DiskSpec["image"];
}
interface ForkVif {
  /** Plug such a one in to a fork. */
  attach(fork: RunningDomain, mac: string): void;
}

/** A snapshot with what forks of it are equipped with. */
export class Template {
  constructor(
    readonly machine: Machine,
    readonly snapshot: Snapshot,
    private readonly disks: readonly ForkDisk[],
    private readonly vifs: readonly ForkVif[],
  ) {
    snapshot.onRelease(() => {
      for (const d of disks) void d.view?.close();
    });
  }
  /** Forks that run go on; their memory remains shared among them. */
  release(): void {
    this.snapshot.release();
  }
  /** @internal */
  async equip(fork: RunningDomain, options: SpawnOptions): Promise<void> {
    const { disks } = options;
    if (disks !== undefined) for (const d of disks) await fork.attachDisk(d);
    else
      for (const { spec, view, image } of this.disks) {
        const own = view === null ? image : spec.readOnly === true ? () => view.reader() : () => view.overlay();
        await fork.attachDisk({ ...spec, image: own });
      }
    for (const [i, v] of this.vifs.entries())
      v.attach(fork, options.macs?.[i] ?? randomMac(() => this.machine.random()));
  }
}

export interface SpawnOptions {
  readonly name: string;
  readonly uuid?: string | undefined;
  readonly paused?: boolean | undefined;
  /** In place of overlays over the parent's disks. */
  readonly disks?: readonly DiskSpec[] | undefined;
  /** Addresses of its network interfaces, in order; default: random ones. */
  readonly macs?: readonly string[] | undefined;
}

export interface ForkOptions {
  /** Default 1. */
  readonly count?: number | undefined;
  /** Of the fork; of several, what their names begin with. Default: the parent's name. */
  readonly name?: string | undefined;
  /** Leave them paused. */
  readonly paused?: boolean | undefined;
  /** For each of the guest's two steps of suspending. Default 60 s. */
  readonly suspendTimeoutMs?: number | undefined;
}

export interface ForkResult {
  readonly forks: readonly RunningDomain[];
  /** Milliseconds of the host: the guest's own way into suspension, keeping it, and each fork. */
  readonly suspendMs: number;
  readonly snapshotMs: number;
  readonly forkMs: readonly number[];
}

/** What a shell shows of memory that is shared. */
export function sharingMiB(machine: Machine): { readonly freedMiB: number; readonly usedMiB: number } {
  const { sharing } = machine.xen.frames;
  return { freedMiB: Math.floor(sharing.savedFrames / 256), usedMiB: Math.ceil(sharing.sharedFrames / 256) };
}

/** KiB of a domain that are shared with others (or lent to them), as `xl sharing` shows it. */
export function sharedKiB(domain: Domain): number {
  const { frames } = domain.xen;
  const { sharing } = frames;
  if (sharing.sharedFrames === 0) return 0;
  let n = 0;
  for (const mfn of frames.pagesOf(domain.mm.id)) if (sharing.isShared(mfn)) n++;
  return n * 4;
}

// --- templates ----------------------------------------------------------------------------------------------------------------

/** Keep a running domain: it suspends itself, and goes on where it was. `release` the result when no more forks are wanted. */
export async function takeSnapshot(
  machine: Machine,
  running: RunningDomain,
  options: Pick<ForkOptions, "suspendTimeoutMs"> = {},
): Promise<Template & { readonly suspendMs: number; readonly snapshotMs: number }> {
  const { domain } = running;
  const begin = performance.now();
  await suspendDomain(machine, running, { timeoutMs: options.suspendTimeoutMs });
  const suspended = performance.now();
  try {
    await quiesceDisks(running);
    const vifs = vifsOf(machine, running);
    const snapshot = Snapshot.take(machine, domain, factsOf(machine, domain));
    const template = new Template(machine, snapshot, disksOf(machine, running), vifs);
    return Object.assign(template, { suspendMs: suspended - begin, snapshotMs: performance.now() - suspended });
  } finally {
    if (!domain.dying) resumeDomain(machine, running);
  }
}

/**
 * Keep a saved domain: forks of it begin where it was saved. The stream is as for `restoreDomain`; disks of the plan are given to each fork by
 * their `image` functions, so that a disk of which there are to be several users should open an overlay.
 */
export async function snapshotFromStream(
  machine: Machine,
  source: ByteSource,
  options: Pick<RestoreOptions, "plan" | "onProgress"> = {},
): Promise<Template> {
  const { domain, state, plan } = await loadFrom(machine, new Reader(source), options);
  try {
    const { mm } = domain;
    const snapshot = Snapshot.take(
      machine,
      domain,
      {
        name: plan.name,
        maxVcpus: plan.vcpus,
        maxPages: mm.maxPages,
        maxPort: domain.events.maxPort,
        memoryMap: mm.memoryMap,
        maxMemKiB: plan.maxMemoryMiB === undefined ? undefined : plan.maxMemoryMiB * 1024,
        targetKiB: plan.memoryMiB === undefined ? undefined : plan.memoryMiB * 1024,
        kernelPath: plan.kernelPath,
        ramdiskPath: plan.ramdiskPath,
        cmdline: plan.cmdline,
      },
      state,
    );
    const disks = (plan.disks ?? []).map(({ image, ...spec }) => ({ spec, view: null, image }));
    const vifs = (plan.vifs ?? []).map(({ mac: _, ...vif }) => ({
      attach: (fork: RunningDomain, mac: string) => void fork.attachVif({ ...vif, mac }),
    }));
    return new Template(machine, snapshot, disks, vifs);
  } finally {
    // Its pages live on with the snapshot.
    discard(machine, domain);
  }
}

function disksOf(machine: Machine, running: RunningDomain): ForkDisk[] {
  const { xs } = machine;
  const out: ForkDisk[] = [];
  for (const d of running.devices.list("vbd")) {
    if (!(d instanceof BlockBackend)) continue;
    const node = (name: string): string => xs.read(`${d.backPath}/${name}`) ?? "";
    const spec = {
      vdev: node("dev"),
      readOnly: d.readOnly,
      cdrom: d.isCdrom,
      removable: node("removable") === "1",
      discard: node("discard-enable") !== "0",
      name: node("params"),
    };
    let view: FrozenView | null = null;
    // (One that is only read as well: it must not be closed with the parent.)
    d.wrapImage((image) => {
      const forked = image instanceof ForkedImage ? image : new ForkedImage(image);
      view = forked.freeze();
      return forked;
    });
    out.push({ spec, view, image: null });
  }
  return out;
}

function vifsOf(machine: Machine, running: RunningDomain): ForkVif[] {
  const out: ForkVif[] = [];
  for (const d of running.devices.list("vif")) {
    if (!(d instanceof VifBackend)) continue;
    const node = (name: string): string | undefined => machine.xs.read(`${d.backPath}/${name}`) ?? undefined;
    const { options } = d;
    const words = {
      bridge: node("bridge") ?? "",
      script: node("script") ?? "",
      mtu: options.mtu,
      vlan: node("vlan"),
      filter: options.port?.macs !== undefined,
      ...(options.rate === undefined
        ? {}
        : { rate: { bytesPerInterval: options.rate.bytes, intervalUsecs: options.rate.intervalNs / 1000 } }),
    };
    out.push({
      attach: (fork, mac) =>
        void attachVif(machine, fork.devices, fork.domain, options.network, { ...words, mac, devid: d.devid }),
    });
  }
  return out;
}

// --- forks --------------------------------------------------------------------------------------------------------------------

/** One more domain from a template. */
export async function spawnFork(machine: Machine, template: Template, options: SpawnOptions): Promise<RunningDomain> {
  const { xen } = machine;
  const { snapshot } = template;
  const { state, facts } = snapshot;
  snapshot.hold();
  try {
    const domain = xen.createDomain({
      uuid: options.uuid ?? machine.newUuid(),
      name: options.name,
      maxVcpus: facts.maxVcpus,
      maxPages: facts.maxPages,
      maxPort: facts.maxPort,
    });
    try {
      domain.mm.memoryMap = facts.memoryMap;
      if (facts.sched !== undefined) xen.scheduler.adjust(domain, facts.sched);
      snapshot.populate(domain);
      const ports = openServicePorts(domain);
      const info = rebuildStartInfo(domain, state, ports);
      rebuildSharedInfo(domain, state.sharedInfo);
      pinTables(domain, state);
      rebuildVcpus(domain, state, info.startInfoMfn);
      const { sharing } = xen.frames;
      // Back ends write these for the guest: they have memory before anyone relies on it.
      if (!sharing.makePrivate(info.storeMfn) || !sharing.makePrivate(info.consoleMfn))
        throw new MigrationError("no-memory", "the host has not enough free memory for the fork's rings");
      const fork = adoptDomain(machine, domain, info, ports, facts);
      await template.equip(fork, options);
      if (options.paused !== true) {
        xen.unpause(domain);
        machine.onInput();
      }
      return fork;
    } catch (e) {
      const fork = machine.runningOf(domain.domid);
      if (fork !== undefined && fork.domain === domain) fork.destroy();
      else xen.destroyDomain(domain);
      throw e;
    }
  } finally {
    snapshot.release();
  }
}

/** Names that no domain has: `name` itself for one that was asked for by name, else with a number. */
function forkNames(machine: Machine, parent: string, count: number, name: string | undefined): string[] {
  const taken = new Set([...machine.xen.domains.values()].map((d) => d.name));
  if (name !== undefined && count === 1) {
    if (taken.has(name)) throw new MigrationError("state", `a domain is named ${name} already`);
    return [name];
  }
  const out: string[] = [];
  for (let i = 1; out.length < count; i++) {
    const n = `${name ?? parent}-${i}`;
    if (!taken.has(n)) out.push(n);
  }
  return out;
}

/** `count` running copies of a domain; all of them or none. */
export async function forkDomain(
  machine: Machine,
  running: RunningDomain,
  options: ForkOptions = {},
): Promise<ForkResult> {
  const count = options.count ?? 1;
  if (!Number.isInteger(count) || count < 1) throw new MigrationError("state", `${count} is no number of forks`);
  const names = forkNames(machine, running.domain.name, count, options.name);
  const template = await takeSnapshot(machine, running, options);
  try {
    const { forks, forkMs } = await spawnAll(machine, template, names, options.paused === true);
    return { forks, forkMs, suspendMs: template.suspendMs, snapshotMs: template.snapshotMs };
  } finally {
    template.release();
  }
}

/** Forks of a template that is kept; all of them or none. */
export async function forkTemplate(
  machine: Machine,
  template: Template,
  options: Omit<ForkOptions, "suspendTimeoutMs"> = {},
): Promise<{ readonly forks: readonly RunningDomain[]; readonly forkMs: readonly number[] }> {
  const names = forkNames(machine, template.snapshot.facts.name, options.count ?? 1, options.name);
  return spawnAll(machine, template, names, options.paused === true);
}

async function spawnAll(
  machine: Machine,
  template: Template,
  names: readonly string[],
  paused: boolean,
): Promise<{ forks: RunningDomain[]; forkMs: number[] }> {
  const forks: RunningDomain[] = [];
  const forkMs: number[] = [];
  try {
    for (const name of names) {
      const begin = performance.now();
      // None runs before all are there.
      forks.push(await spawnFork(machine, template, { name, paused: true }));
      forkMs.push(performance.now() - begin);
    }
  } catch (e) {
    for (const f of forks) f.destroy();
    throw e;
  }
  if (!paused) for (const f of forks) machine.xen.unpause(f.domain);
  machine.onInput();
  return { forks, forkMs };
}
