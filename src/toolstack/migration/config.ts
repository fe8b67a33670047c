/**
 * The configuration inside a saved domain: libxl's JSON, as far as a domain can be built again from it. Whoever keeps a fuller one (a host
 * service) gives its own text to `saveDomain` and a plan to `restoreDomain`.
 */
import { domainPath } from "../../xenstore/paths.js";
import type { GrantLimits } from "../../hypervisor/grants/grant-table.js";
import type { DiskSpec } from "../disks.js";
import type { Machine, RunningDomain, VifSpec } from "../machine.js";
import { damaged } from "./errors.js";

/** How a saved domain is to be built again. */
export interface RestorePlan {
  readonly name: string;
  /** Default: a new one. */
  readonly uuid?: string | undefined;
  readonly vcpus: number;
  /** What it should have; default what it had. */
  readonly memoryMiB?: number | undefined;
  /** What it may grow to; default what it has. */
  readonly maxMemoryMiB?: number | undefined;
  readonly maxPort?: number | undefined;
  readonly grantLimits?: GrantLimits | undefined;
  readonly disks?: readonly DiskSpec[] | undefined;
  readonly vifs?: readonly VifSpec[] | undefined;
  /** Further devices, attached after these. */
  readonly equip?: ((running: RunningDomain) => Promise<void>) | undefined;
  readonly kernelPath?: string | undefined;
  readonly ramdiskPath?: string | undefined;
  readonly cmdline?: string | undefined;
  readonly tty?: string | undefined;
}

/** A disk as the saved configuration names it. */
export interface SavedDisk {
  readonly vdev: string;
  readonly path: string;
  readonly readOnly: boolean;
  readonly cdrom: boolean;
}

/** What `defaultConfig` wrote, or any JSON of libxl's with these members. */
export interface SavedConfig {
  readonly plan: RestorePlan;
  readonly disks: readonly SavedDisk[];
}

const MAX_VCPUS = 8192;

/** libxl's JSON from what XenStore says of a running domain. */
export function defaultConfig(machine: Machine, running: RunningDomain): string {
  const { xs } = machine;
  const { domain } = running;
  const dom = domainPath(domain.domid);
  const kib = (name: string): number => Number(xs.read(`${dom}/memory/${name}`) ?? domain.mm.totPages * 4);
  const back = (kind: string, id: string, name: string): string | null =>
    xs.read(`${domainPath(machine.dom0.domid)}/backend/${kind}/${domain.domid}/${id}/${name}`);
  const disks = (xs.list(`${dom}/device/vbd`) ?? []).map((id) => ({
    pdev_path: back("vbd", id, "params") ?? "",
    vdev: back("vbd", id, "dev") ?? "",
    backend: "phy",
    format: "raw",
    script: back("vbd", id, "script") ?? "",
    removable: Number(back("vbd", id, "removable") ?? 0),
    readwrite: back("vbd", id, "mode") === "r" ? 0 : 1,
    is_cdrom: back("vbd", id, "device-type") === "cdrom" ? 1 : 0,
  }));
  const nics = (xs.list(`${dom}/device/vif`) ?? []).map((id) => ({
    devid: Number(id),
    mac: back("vif", id, "mac") ?? "",
    bridge: back("vif", id, "bridge") ?? "",
    script: back("vif", id, "script") ?? "",
    nictype: "vif",
  }));
  return JSON.stringify(
    {
      c_info: { type: "pv", name: domain.name, uuid: domain.uuid, run_hotplug_scripts: "True" },
      b_info: {
        max_vcpus: domain.vcpus.length,
        avail_vcpus: domain.vcpus.filter((v) => v.up).map((v) => v.id),
        max_memkb: kib("static-max"),
        target_memkb: kib("target"),
        "type.pv": {},
        arch_x86: {},
      },
      ...(disks.length === 0 ? {} : { disks }),
      ...(nics.length === 0 ? {} : { nics }),
    },
    null,
    4,
  );
}

type Json = Readonly<Record<string, unknown>>;
const isObject = (v: unknown): v is Json => typeof v === "object" && v !== null && !Array.isArray(v);
const objects = (v: unknown): Json[] => (Array.isArray(v) ? (v as unknown[]).filter(isObject) : []);
const text = (v: unknown): string => (typeof v === "string" ? v : "");
const truth = (v: unknown): boolean => v === true || v === 1 || v === "True";

/** Read it back. Disks' images are the caller's to open. */
export function parseSavedConfig(config: string): SavedConfig {
  let json: unknown;
  try {
    json = JSON.parse(config);
  } catch {
    throw damaged("the saved configuration is no JSON");
  }
  const c = isObject(json) && isObject(json["c_info"]) ? json["c_info"] : null;
  const b = isObject(json) && isObject(json["b_info"]) ? json["b_info"] : null;
  if (!isObject(json) || c === null || b === null || text(c["name"]) === "")
    throw damaged("the saved configuration names no domain");
  if (c["type"] !== "pv") throw damaged(`the saved domain is of type ${text(c["type"]) || "unknown"}, not pv`);
  const vcpus = Number(b["max_vcpus"] ?? 1);
  if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > MAX_VCPUS)
    throw damaged("the saved configuration has no number of vCPUs");
  const mib = (v: unknown): number | undefined => (typeof v === "number" && v > 0 ? v / 1024 : undefined);
  const uuid = text(c["uuid"]);
  return {
    plan: {
      name: text(c["name"]),
      uuid: uuid === "" ? undefined : uuid,
      vcpus,
      memoryMiB: mib(b["target_memkb"]),
      maxMemoryMiB: mib(b["max_memkb"]),
      vifs: objects(json["nics"]).map((n) => ({
        ...(text(n["mac"]) === "" ? {} : { mac: text(n["mac"]) }),
        ...(text(n["bridge"]) === "" ? {} : { bridge: text(n["bridge"]) }),
      })),
    },
    disks: objects(json["disks"]).map((d) => ({
      vdev: text(d["vdev"]),
      path: text(d["pdev_path"]),
      readOnly: !truth(d["readwrite"] ?? 1),
      cdrom: truth(d["is_cdrom"]),
    })),
  };
}
