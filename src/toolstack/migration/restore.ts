/**
 * A domain out of a stream: built paused and without devices (`buildFrom`), made one of the machine's, given its devices (`equip`), set going.
 *
 * Invariant: what goes wrong before the guest runs leaves nothing behind: no domain, no nodes, no open image.
 */
import type { Domain } from "../../hypervisor/domain.js";
import { MAXMEM_SLACK_PAGES, type Machine, type RunningDomain } from "../machine.js";
import { adoptDomain, openServicePorts } from "./adopt.js";
import { Reader, type ByteSource } from "./bytes.js";
import { parseSavedConfig, type RestorePlan } from "./config.js";
import { damaged, MigrationError } from "./errors.js";
import { PT_XTAB } from "./formats.js";
import { checkLeaves } from "./policy.js";
import { readImage, readXlHeader, type ImageHandler } from "./reader.js";
import { rebuildDomain, type ServicePorts, type SuspendedState } from "./rebuild.js";
import { breathe, type Progress } from "./save.js";

export interface RestoreOptions {
  /** How to build it, from the configuration in the stream ("": none). Default: as `saveDomain` itself wrote it, without disks. */
  readonly plan?: ((config: string) => RestorePlan | Promise<RestorePlan>) | undefined;
  /** Leave it paused. */
  readonly paused?: boolean | undefined;
  readonly onProgress?: ((p: Progress) => void) | undefined;
}

export interface Restored {
  readonly running: RunningDomain;
  /** The configuration the stream carried. */
  readonly config: string;
  readonly plan: RestorePlan;
  readonly pages: number;
}

const E820_RAM = 1;

/** The plan of a stream that `saveDomain` wrote with its own configuration. */
export function defaultPlan(config: string): RestorePlan {
  if (config === "") throw damaged("the stream carries no configuration");
  const { plan, disks } = parseSavedConfig(config);
  const first = disks[0];
  if (first !== undefined)
    throw new MigrationError("unsupported", `the saved domain has disks (${first.vdev}): say how to open them`);
  return plan;
}

/** Takes pages into a new domain. */
class Builder implements ImageHandler {
  types = new Uint8Array(0);
  frames: Int32Array = new Int32Array(0);
  pfns = 0;
  pages = 0;
  constructor(
    private readonly machine: Machine,
    private readonly domain: Domain,
    private readonly onProgress: ((p: Progress) => void) | undefined,
    private readonly reader: Reader,
  ) {}

  cpuidPolicy(leaves: Uint8Array): void {
    checkLeaves(leaves, this.domain.cpuid);
  }
  p2mFrames(pfns: number, frames: Int32Array): void {
    const types = new Uint8Array(pfns).fill(PT_XTAB);
    types.set(this.types);
    this.types = types;
    this.frames = frames;
    this.pfns = pfns;
  }
  page(pfn: number, type: number, content: Uint8Array | null): void {
    const { mm } = this.domain;
    let mfn = mm.mfnOf(pfn);
    if (mfn < 0) mfn = mm.allocPage(pfn);
    if (mfn < 0) throw new MigrationError("no-memory", "the host has not enough free memory for the domain");
    this.types[pfn] = type;
    if (content !== null) this.machine.mem.write(mfn * 4096, content);
    this.pages++;
  }
  absent(pfn: number): void {
    this.types[pfn] = PT_XTAB;
    const { mm } = this.domain;
    const mfn = mm.mfnOf(pfn);
    if (mfn < 0) return;
    // It was there in an earlier round: the guest has given it back since.
    mm.forget(mfn);
    this.machine.xen.frames.putAllocRef(mfn);
  }
  async batch(): Promise<void> {
    this.onProgress?.({
      phase: "copying",
      round: 0,
      pages: this.pages,
      of: this.pfns,
      bytes: this.reader.position,
    });
    await breathe(this.machine);
  }
}

/** A domain of which only the pages are there, page tables still canonical. */
interface Loaded {
  readonly domain: Domain;
  readonly state: SuspendedState;
  readonly ports: ServicePorts;
  readonly config: string;
  readonly plan: RestorePlan;
  readonly pages: number;
}

/** Read a stream into a new domain that is not yet rebuilt; `plan` is asked when the configuration is known. */
export async function loadFrom(
  machine: Machine,
  reader: Reader,
  options: RestoreOptions,
  rename: (name: string) => string = (n) => n,
): Promise<Loaded> {
  const config = await readXlHeader(reader);
  const plan = await (options.plan ?? defaultPlan)(config);
  const { xen } = machine;
  const domain = xen.createDomain({
    uuid: plan.uuid ?? machine.newUuid(),
    name: rename(plan.name),
    maxVcpus: plan.vcpus,
    maxPages: xen.frames.limit,
    ...(plan.maxPort === undefined ? {} : { maxPort: plan.maxPort }),
    ...(plan.grantLimits === undefined ? {} : { grantLimits: plan.grantLimits }),
  });
  try {
    const builder = new Builder(machine, domain, options.onProgress, reader);
    const ports = openServicePorts(domain);
    const tail = await readImage(reader, builder);
    if (domain.dying) throw new MigrationError("state", "the domain was destroyed while it was restored");
    const { mm } = domain;
    const wanted = plan.memoryMiB === undefined ? mm.totPages : Math.floor(plan.memoryMiB * 256);
    mm.maxPages = Math.max(mm.totPages, wanted) + MAXMEM_SLACK_PAGES;
    mm.memoryMap = [{ addr: 0, size: Math.max(builder.pfns, wanted) * 4096, type: E820_RAM }];
    const state = { pfns: builder.pfns, types: builder.types, p2mFrames: builder.frames, ...tail };
    return { domain, state, ports, config, plan, pages: builder.pages };
  } catch (e) {
    discard(machine, domain);
    throw e;
  }
}

/** Everything up to a paused domain without devices. */
export async function buildFrom(
  machine: Machine,
  reader: Reader,
  options: RestoreOptions,
  rename?: (name: string) => string,
): Promise<Restored> {
  const { domain, state, ports, config, plan, pages } = await loadFrom(machine, reader, options, rename);
  try {
    const frames = rebuildDomain(domain, state, ports);
    const running = adoptDomain(machine, domain, frames, ports, {
      maxMemKiB: plan.maxMemoryMiB === undefined ? undefined : plan.maxMemoryMiB * 1024,
      targetKiB: plan.memoryMiB === undefined ? undefined : plan.memoryMiB * 1024,
      kernelPath: plan.kernelPath,
      ramdiskPath: plan.ramdiskPath,
      cmdline: plan.cmdline,
      tty: plan.tty,
    });
    return { running, config, plan, pages };
  } catch (e) {
    discard(machine, domain);
    throw e;
  }
}

/** Take an unfinished domain back. */
export function discard(machine: Machine, domain: Domain): void {
  const running = machine.runningOf(domain.domid);
  if (running !== undefined && running.domain === domain) running.destroy();
  else machine.xen.destroyDomain(domain);
}

/** Give it its devices, as a creation would. */
export async function equip(machine: Machine, { running, plan }: Restored): Promise<void> {
  try {
    for (const disk of plan.disks ?? []) await running.attachDisk(disk);
    for (const vif of plan.vifs ?? []) running.attachVif(vif);
    await plan.equip?.(running);
  } catch (e) {
    discard(machine, running.domain);
    throw e;
  }
}

/** Build a domain from a stream and let it go on from its suspension. */
export async function restoreDomain(
  machine: Machine,
  source: ByteSource,
  options: RestoreOptions = {},
): Promise<Restored> {
  const restored = await buildFrom(machine, new Reader(source), options);
  await equip(machine, restored);
  if (options.paused !== true) machine.xen.unpause(restored.running.domain);
  machine.onInput();
  return restored;
}
