/**
 * Domains from files: an xl.cfg, or a kernel straight; which of the two it is, the content says.
 * What is wrong with a file is an InputError: one line that names the file.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, isAbsolute, join } from "node:path";
import { parseDomainConfig, type DomainConfig } from "../../toolstack/config/index.js";
import {
  planDevices,
  planDomain,
  type DomainPlan,
  type PlanDefaults,
  type PlanPlatform,
} from "../../toolstack/host/plan.js";
import type { PathBase } from "../../toolstack/host/platform.js";
import { InputError } from "./input-error.js";
import { checkDisk, openDisk } from "./open-disk.js";

export type { DomainPlan, PlanDefaults };
export { InputError };

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

/** A path of a configuration: from the caller's folder, as xl has it, or else beside the configuration. */
export function resolvePath(path: string, base: PathBase): string {
  if (isAbsolute(path) || /^https?:\/\//.test(path)) return path;
  const cwd = base.cwd ?? process.cwd();
  const here = join(cwd, path);
  if (existsSync(here)) return base.cwd === undefined ? path : here;
  const source = isAbsolute(base.source) ? base.source : join(cwd, base.source);
  const beside = join(dirname(source), path);
  if (existsSync(beside)) return beside;
  // A file that is yet to be made (an overlay) goes where its folder is.
  if (!existsSync(dirname(here)) && existsSync(dirname(beside))) return beside;
  return base.cwd === undefined ? path : here;
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
  const { disks, vifs, warnings } = await planDevices(
    nodePlans,
    { source: "command line" },
    given.disks ?? [],
    given.vifs ?? [],
  );
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

/** Node's part of reading a configuration. */
export const nodePlans: PlanPlatform = {
  resolve: resolvePath,
  readFile: readInput,
  openDisk,
  checkDisk,
};

/** Reads what a configuration names. Refuses what cannot work, warns of what is not there yet. */
export function planFromConfig(path: string, c: DomainConfig, given: PlanDefaults = {}): Promise<DomainPlan> {
  return planDomain(nodePlans, { source: path }, c, given);
}
