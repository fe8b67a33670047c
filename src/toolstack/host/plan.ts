/**
 * From a configuration to what a machine can make of it: everything it names is read and checked, so that nothing has been made when
 * something is wrong. `xenolith run` and the host of domains share this.
 */
import type { GrantLimits } from "../../hypervisor/grants/grant-table.js";
import type { BlockImage } from "../../devices/block/index.js";
import { ConfigError, type Action, type DomainConfig } from "../config/index.js";
import { parseDisk, type DiskConfig } from "../config/disk.js";
import { parseVif } from "../config/vif.js";
import type { DiskSpec } from "../disks.js";
import type { DomainSpec, VifSpec } from "../machine.js";
import { parseCpuList } from "./cpu-list.js";
import type { PathBase } from "./platform.js";
import type { SchedWords } from "./sched.js";

/** A domain to be made, and what is to be done when it ends. */
export interface DomainPlan extends SchedWords {
  readonly spec: DomainSpec & { readonly name: string; readonly memoryMiB: number };
  /** The kernel's file: what a BuildError is about. */
  readonly kernelPath: string;
  readonly onPoweroff: Action;
  readonly onReboot: Action;
  readonly onCrash: Action;
  readonly onWatchdog: Action;
  readonly onSoftReset: Action;
  readonly pool?: string | undefined;
  /** Where each vCPU may run, and would rather; fewer entries than vCPUs: the last holds for the rest. */
  readonly hardAffinity?: readonly (readonly number[] | null)[] | undefined;
  readonly softAffinity?: readonly (readonly number[] | null)[] | undefined;
  /** One line each. */
  readonly warnings: readonly string[];
}

/** The part of a plan that says where and how a domain is scheduled. */
export type Placing = SchedWords & Pick<DomainPlan, "hardAffinity" | "softAffinity">;

export function placing(c: DomainConfig, source = c.name): Placing {
  return {
    cpuWeight: c.cpuWeight,
    cap: c.cap,
    period: c.period,
    slice: c.slice,
    latency: c.latency,
    extratime: c.extratime,
    hardAffinity: c.cpus.length === 0 ? undefined : c.cpus.map((text) => parseCpuList(text, source)),
    softAffinity: c.cpusSoft.length === 0 ? undefined : c.cpusSoft.map((text) => parseCpuList(text, source)),
  };
}

/** max_grant_frames, max_maptrack_frames, max_grant_version. */
export function grantLimits(c: DomainConfig, source = c.name): GrantLimits {
  const { maxGrantFrames, maxMaptrackFrames, maxGrantVersion: version } = c;
  if (version !== undefined && version !== 1 && version !== 2) {
    throw new ConfigError(`${source}: max_grant_version: ${version} is neither 1 nor 2`);
  }
  return {
    ...(maxGrantFrames === undefined ? {} : { maxGrantFrames }),
    ...(maxMaptrackFrames === undefined ? {} : { maxMaptrackFrames }),
    ...(version === undefined ? {} : { maxVersion: version }),
  };
}

/** The network interfaces of a configuration. */
export function vifSpecs(c: DomainConfig): VifSpec[] {
  return c.vif.map((text) => planVif(text).vif);
}

/** What a command line may say over the file's head. */
export interface PlanDefaults {
  readonly name?: string | undefined;
  readonly ramdisk?: string | undefined;
  readonly cmdline?: string | undefined;
  readonly memoryMiB?: number | undefined;
  readonly vcpus?: number | undefined;
  /** Further disks and network interfaces, as in xl.cfg's lists. */
  readonly disks?: readonly string[] | undefined;
  readonly vifs?: readonly string[] | undefined;
  /** `key=value` settings of xl.cfg, read after the file. */
  readonly overrides?: readonly string[] | undefined;
}

/** The part of a platform that reading a configuration takes. */
export interface PlanPlatform {
  resolve(path: string, base: PathBase): string;
  readFile(path: string): Promise<Uint8Array>;
  openDisk(disk: DiskConfig, path: string): Promise<BlockImage>;
  checkDisk(disk: DiskConfig, path: string, source: string): Promise<void>;
}

/** The bridge name that stands for the machine's NAT to the host's network. */
export const NAT_BRIDGE = "nat";

/** One disk by its specification (xl-disk-configuration(5)). */
export async function planDisk(
  platform: PlanPlatform,
  text: string,
  base: PathBase,
): Promise<{ disk: DiskSpec; config: DiskConfig; warnings: readonly string[] }> {
  const parsed = parseDisk(text, base.source);
  const d = parsed.overlay === undefined ? parsed : { ...parsed, overlay: platform.resolve(parsed.overlay, base) };
  const path = d.target === "" ? "" : platform.resolve(d.target, base);
  await platform.checkDisk(d, path, base.source);
  return {
    config: d,
    disk: {
      vdev: d.vdev,
      image: path === "" ? null : () => platform.openDisk(d, path),
      readOnly: d.readOnly,
      cdrom: d.cdrom,
      discard: d.discard,
      name: path,
    },
    warnings: d.warnings,
  };
}

/** One network interface by its specification (xl-network-configuration(5)). */
export function planVif(text: string): { vif: VifSpec; warnings: readonly string[] } {
  const { warnings, bridge, ...vif } = parseVif(text);
  return { vif: bridge === NAT_BRIDGE ? { ...vif, nat: true as const } : { ...vif, bridge }, warnings };
}

export async function planDevices(
  platform: PlanPlatform,
  base: PathBase,
  disks: readonly string[],
  vifs: readonly string[],
): Promise<{ disks: DiskSpec[]; vifs: VifSpec[]; warnings: string[] }> {
  const warnings: string[] = [];
  const warn = (more: readonly string[]): void =>
    void warnings.push(...more.map((w) => (w.startsWith(`${base.source}: `) ? w : `${base.source}: warning: ${w}`)));
  const out: { disks: DiskSpec[]; vifs: VifSpec[] } = { disks: [], vifs: [] };
  for (const text of disks) {
    const d = await planDisk(platform, text, base);
    warn(d.warnings);
    out.disks.push(d.disk);
  }
  for (const text of vifs) {
    const v = planVif(text);
    warn(v.warnings);
    out.vifs.push(v.vif);
  }
  return { ...out, warnings };
}

/** Reads what a configuration names. Refuses what cannot work, warns of what is not there yet. */
export async function planDomain(
  platform: PlanPlatform,
  base: PathBase,
  c: DomainConfig,
  given: PlanDefaults = {},
): Promise<DomainPlan> {
  const path = base.source;
  if (c.type !== "pv") throw new ConfigError(`${path}: type="${c.type}" is not supported yet: only PV domains are`);
  if (c.kernel === undefined) throw new ConfigError(`${path}: bootloader= is not supported yet: give kernel=`);
  const warnings = [...c.warnings];
  const devices = await planDevices(
    platform,
    base,
    [...c.disk, ...(given.disks ?? [])],
    [...c.vif, ...(given.vifs ?? [])],
  );
  warnings.push(...devices.warnings);
  const kernelPath = platform.resolve(c.kernel, base);
  const ramdiskPath = given.ramdisk ?? (c.ramdisk === undefined ? undefined : platform.resolve(c.ramdisk, base));
  const kernel = await platform.readFile(kernelPath);
  const hasRamdisk = ramdiskPath !== undefined && ramdiskPath !== "";
  const ramdisk = hasRamdisk ? await platform.readFile(ramdiskPath) : undefined;
  const memoryMiB = given.memoryMiB ?? c.memory;
  const vcpus = given.vcpus ?? c.vcpus;
  return {
    spec: {
      name: given.name ?? c.name,
      kernel,
      memoryMiB,
      maxMemoryMiB: Math.max(memoryMiB, c.maxmem),
      vcpus,
      maxVcpus: Math.max(vcpus, c.maxvcpus),
      cmdline: given.cmdline ?? c.cmdline,
      kernelPath,
      ...(hasRamdisk ? { ramdiskPath } : {}),
      ...(c.uuid === undefined ? {} : { uuid: c.uuid }),
      ...(ramdisk === undefined ? {} : { ramdisk }),
      ...(c.maxEventChannels === undefined ? {} : { maxPort: c.maxEventChannels }),
      grantLimits: grantLimits(c, path),
      disks: devices.disks,
      vifs: devices.vifs,
    },
    kernelPath,
    onPoweroff: c.onPoweroff,
    onReboot: c.onReboot,
    onCrash: c.onCrash,
    onWatchdog: c.onWatchdog,
    onSoftReset: c.onSoftReset,
    ...placing(c, path),
    pool: c.pool,
    warnings,
  };
}
