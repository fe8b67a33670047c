/**
 * Domains from files: an xl.cfg, or a kernel straight; which of the two it is, the content says.
 * What is wrong with a file is an InputError: one line that names the file.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, isAbsolute, join } from "node:path";
import { parseDisk, unsupportedDisk } from "../../toolstack/config/disk.js";
import { parseVif } from "../../toolstack/config/vif.js";
import type { DiskSpec } from "../../toolstack/disks.js";
import type { DomainSpec, VifSpec } from "../../toolstack/machine.js";
import { FileImage } from "./file-image.js";
import { ConfigError, parseDomainConfig, type Action, type DomainConfig } from "../../toolstack/config/index.js";

/** A mistake of the person who gave the input, in one line. */
export class InputError extends Error {
  override readonly name = "InputError";
}

/** A domain to be made, and what is to be done when it ends. */
export interface DomainPlan {
  readonly spec: DomainSpec & { readonly name: string; readonly memoryMiB: number };
  /** The kernel's file: what a BuildError is about. */
  readonly kernelPath: string;
  readonly onPoweroff: Action;
  readonly onReboot: Action;
  readonly onCrash: Action;
  readonly onWatchdog: Action;
  readonly onSoftReset: Action;
  readonly cpuWeight: number | undefined;
  readonly cap: number | undefined;
  /** One line each. */
  readonly warnings: readonly string[];
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

/** MiB of a domain that is started from a kernel. */
const DEFAULT_MEMORY = 256;
/** The largest file that is read at all: a linear memory of 4 GiB could not hold more. */
const MAX_FILE = 2 ** 32;

const WHY: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  EACCES: "permission denied",
  EISDIR: "is a directory, not a file",
  ENOTDIR: "no such file",
};

/** The bytes of a file; anything wrong with it is an InputError. */
export async function readInput(path: string): Promise<Uint8Array> {
  try {
    const bytes = await readFile(path);
    if (bytes.length >= MAX_FILE) throw new InputError(`${path}: larger than 4 GiB`);
    return bytes;
  } catch (e) {
    if (e instanceof InputError) throw e;
    const code = (e as NodeJS.ErrnoException).code ?? "";
    throw new InputError(`${path}: ${WHY[code] ?? (e instanceof Error ? e.message : String(e))}`);
  }
}

const starts = (bytes: Uint8Array, at: number, ...magic: number[]): boolean =>
  magic.every((m, i) => bytes[at + i] === m);

/** An ELF image, a bzImage or a gzip file. */
export function looksLikeKernel(bytes: Uint8Array): boolean {
  return (
    starts(bytes, 0, 0x7f, 0x45, 0x4c, 0x46) ||
    starts(bytes, 0, 0x1f, 0x8b) ||
    starts(bytes, 0x202, 0x48, 0x64, 0x72, 0x53)
  );
}

/** The text of a file, or null for anything that is no text. */
function asText(bytes: Uint8Array): string | null {
  if (bytes.includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** A path of a configuration: from the working directory, as xl has it, or else beside the configuration. */
function resolve(path: string, config: string): string {
  if (isAbsolute(path) || existsSync(path)) return path;
  const beside = join(dirname(config), path);
  return existsSync(beside) ? beside : path;
}

/** Reads a configuration or a kernel and all that belongs to it. */
export async function loadDomain(path: string, given: PlanDefaults = {}): Promise<DomainPlan> {
  const bytes = await readInput(path);
  if (looksLikeKernel(bytes)) return planFromKernel(path, bytes, given);
  const text = asText(bytes);
  if (text === null) throw new InputError(`${path}: not an ELF or bzImage kernel, and not a domain configuration`);
  if (text.trim() === "") throw new InputError(`${path}: the file is empty`);
  return planFromConfig(path, parseDomainConfig(text, path, { overrides: given.overrides ?? [] }), given);
}

async function planFromKernel(path: string, kernel: Uint8Array, given: PlanDefaults): Promise<DomainPlan> {
  if ((given.overrides ?? []).length > 0) {
    throw new InputError(`${given.overrides?.[0] ?? ""}: settings belong to a configuration, and ${path} is a kernel`);
  }
  const ramdisk = given.ramdisk === undefined ? undefined : await readInput(given.ramdisk);
  const { disks, vifs, warnings } = devicesOf("command line", given.disks ?? [], given.vifs ?? []);
  return {
    spec: {
      name: given.name ?? nameOf(path),
      kernel,
      memoryMiB: given.memoryMiB ?? DEFAULT_MEMORY,
      vcpus: given.vcpus ?? 1,
      cmdline: given.cmdline ?? "",
      ...(ramdisk === undefined ? {} : { ramdisk }),
      disks,
      vifs,
    },
    kernelPath: path,
    onPoweroff: "destroy",
    onReboot: "restart",
    onCrash: "destroy",
    onWatchdog: "destroy",
    onSoftReset: "destroy",
    cpuWeight: undefined,
    cap: undefined,
    warnings,
  };
}

/** A name for a domain from its kernel's file name. */
function nameOf(path: string): string {
  return (
    basename(path)
      .replace(/\.(elf|bin|gz)$/, "")
      .replace(/\s+/g, "-") || "domain"
  );
}

/** The bridge name that stands for the machine's NAT to the host's network. */
const NAT_BRIDGE = "nat";

/** Disks and network interfaces from their specifications (xl-disk-configuration(5), xl-network-configuration(5)). */
function devicesOf(
  path: string,
  disks: readonly string[],
  vifs: readonly string[],
): { disks: DiskSpec[]; vifs: VifSpec[]; warnings: string[] } {
  const warnings: string[] = [];
  return {
    disks: disks.map((text) => {
      const d = parseDisk(text, path);
      warnings.push(...d.warnings.map((w) => `${path}: warning: ${w}`));
      const why = unsupportedDisk(d);
      if (why !== undefined) throw new ConfigError(`${path}: ${why}`);
      if (d.target === "") throw new ConfigError(`${path}: disk ${d.vdev}: an empty drive is not supported yet`);
      const file = resolve(d.target, path);
      if (!existsSync(file)) throw new InputError(`${path}: disk ${d.vdev}: ${file}: no such file`);
      return {
        vdev: d.vdev,
        image: () => FileImage.open(file, { readOnly: d.readOnly }),
        readOnly: d.readOnly,
        cdrom: d.cdrom,
        discard: d.discard,
        name: file,
      };
    }),
    vifs: vifs.map((text) => {
      const { warnings: more, bridge, ...vif } = parseVif(text);
      warnings.push(...more.map((w) => `${path}: warning: ${w}`));
      return bridge === NAT_BRIDGE ? { ...vif, nat: true as const } : { ...vif, bridge };
    }),
    warnings,
  };
}

/** Reads what a configuration names. Refuses what cannot work, warns of what is not there yet. */
export async function planFromConfig(path: string, c: DomainConfig, given: PlanDefaults = {}): Promise<DomainPlan> {
  if (c.type !== "pv") throw new ConfigError(`${path}: type="${c.type}" is not supported yet: only PV domains are`);
  if (c.kernel === undefined) throw new ConfigError(`${path}: bootloader= is not supported yet: give kernel=`);
  const warnings = [...c.warnings];
  const {
    disks,
    vifs,
    warnings: deviceWarnings,
  } = devicesOf(path, [...c.disk, ...(given.disks ?? [])], [...c.vif, ...(given.vifs ?? [])]);
  warnings.push(...deviceWarnings);
  if (c.maxmem > c.memory) warnings.push(`${path}: warning: maxmem= is ignored: the domain has memory=${c.memory}`);
  if (c.maxvcpus > c.vcpus) warnings.push(`${path}: warning: maxvcpus= is ignored: the domain has ${c.vcpus}`);
  for (const key of ["pool", "maxGrantFrames", "maxMaptrackFrames", "maxGrantVersion", "maxEventChannels"] as const) {
    if (c[key] === undefined) continue;
    const name = key.replace(/[A-Z]/g, (l) => `_${l.toLowerCase()}`);
    warnings.push(`${path}: warning: ${name}= is ignored: the default holds`);
  }
  if (c.cpus.length + c.cpusSoft.length > 0) warnings.push(`${path}: warning: cpus= is ignored: no pinning yet`);
  const kernelPath = resolve(c.kernel, path);
  const ramdiskPath = given.ramdisk ?? (c.ramdisk === undefined ? undefined : resolve(c.ramdisk, path));
  const kernel = await readInput(kernelPath);
  const ramdisk = ramdiskPath === undefined || ramdiskPath === "" ? undefined : await readInput(ramdiskPath);
  return {
    spec: {
      name: given.name ?? c.name,
      kernel,
      memoryMiB: given.memoryMiB ?? c.memory,
      vcpus: given.vcpus ?? c.vcpus,
      cmdline: given.cmdline ?? c.cmdline,
      ...(c.uuid === undefined ? {} : { uuid: c.uuid }),
      ...(ramdisk === undefined ? {} : { ramdisk }),
      disks,
      vifs,
    },
    kernelPath,
    onPoweroff: c.onPoweroff,
    onReboot: c.onReboot,
    onCrash: c.onCrash,
    onWatchdog: c.onWatchdog,
    onSoftReset: c.onSoftReset,
    cpuWeight: c.cpuWeight,
    cap: c.cap,
    warnings,
  };
}
