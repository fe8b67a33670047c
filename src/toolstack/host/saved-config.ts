/**
 * The configuration of a saved or migrated domain, which is libxl's JSON, as the text of an xl.cfg: a domain that came back is then asked for in
 * the same words as any other, so that it can start again, be saved again and be shown. What a save file says is not believed: it goes through
 * the same parser, which checks it.
 */
import { ConfigError } from "../config/index.js";

type Json = Readonly<Record<string, unknown>>;
const isObject = (v: unknown): v is Json => typeof v === "object" && v !== null && !Array.isArray(v);
const member = (v: unknown, key: string): Json => {
  const m = isObject(v) ? v[key] : undefined;
  return isObject(m) ? m : {};
};
const objects = (v: unknown): Json[] => (Array.isArray(v) ? (v as unknown[]).filter(isObject) : []);
const truth = (v: unknown): boolean => v === true || v === 1 || v === "True";
const text = (v: unknown): string | undefined => (typeof v === "string" && v !== "" ? v : undefined);
const number = (v: unknown): number | undefined => (typeof v === "number" && Number.isFinite(v) ? v : undefined);

/** A string of xl.cfg. */
export function quoted(s: string): string {
  const escaped = s.replace(/["\\]/g, "\\$&").replace(/[\x00-\x1f\x7f]/g, (c) => hex(c));
  return `"${escaped}"`;
}
const hex = (c: string): string => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`;

/** Values with a comma would end their own item. */
function items(pairs: readonly (readonly [string, string | number | undefined] | string)[]): string {
  const out: string[] = [];
  for (const p of pairs) {
    if (typeof p === "string") out.push(p);
    else if (p[1] !== undefined && !String(p[1]).includes(",")) out.push(`${p[0]}=${p[1]}`);
  }
  return out.join(",");
}

function disk(d: Json): string {
  const cdrom = truth(d["is_cdrom"]);
  const target = text(d["pdev_path"]);
  const known = items([
    ["format", target === undefined ? undefined : (text(d["format"]) ?? "raw")],
    ["vdev", text(d["vdev"])],
    ["access", truth(d["readwrite"]) ? "rw" : "ro"],
    ...(cdrom ? ["devtype=cdrom"] : []),
    ["backendtype", text(d["backend"])],
    ["overlay", text(d["overlay"])],
    ...(truth(d["snapshot"]) ? ["snapshot"] : []),
    ...(d["discard_enable"] === undefined ? [] : [truth(d["discard_enable"]) ? "discard" : "no-discard"]),
  ]);
  // The target is last: it may hold commas.
  return target === undefined ? known : `${known},target=${target}`;
}

function vif(n: Json): string {
  const bytes = number(n["rate_bytes_per_interval"]);
  const usecs = number(n["rate_interval_usecs"]);
  const rate =
    bytes === undefined || usecs === undefined || bytes === 0 || usecs === 0
      ? undefined
      : `${Math.ceil((bytes * 1e6) / usecs)}B/s@${usecs}us`;
  return items([
    ["mac", text(n["mac"])],
    ["bridge", text(n["bridge"])],
    ["devid", number(n["devid"])],
    ["mtu", number(n["mtu"])],
    ["model", text(n["model"])],
    ["ip", text(n["ip"])],
    ["vifname", text(n["ifname"])],
    ["script", text(n["script"])],
    ["gatewaydev", text(n["gatewaydev"])],
    ["vlan", text(n["vlan"])],
    ["rate", rate],
  ]);
}

function channel(c: Json): string {
  const path = text(member(c, "connection.socket")["path"]);
  return items([
    ["connection", path === undefined ? "pty" : "socket"],
    ["name", text(c["name"])],
    ["path", path],
  ]);
}

/** pCPUs of one vCPU; none are all. */
function cpuList(v: unknown): string {
  const cpus = (Array.isArray(v) ? (v as unknown[]) : []).filter((n) => typeof n === "number");
  return cpus.length === 0 ? "all" : cpus.join(",");
}

const list = (values: readonly string[]): string => `[${values.map(quoted).join(", ")}]`;

/** xl.cfg's words for libxl's JSON. Throws a ConfigError where it is none. */
export function configText(json: string, source: string): string {
  let all: unknown;
  try {
    all = JSON.parse(json);
  } catch {
    throw new ConfigError(`${source}: the saved configuration is no JSON`);
  }
  const c = member(all, "c_info");
  const b = member(all, "b_info");
  if (!isObject(all) || text(c["name"]) === undefined) {
    throw new ConfigError(`${source}: the saved configuration names no domain`);
  }
  const sched = member(b, "sched_params");
  const online = b["avail_vcpus"];
  const vcpus = Array.isArray(online) && online.length > 0 ? online.length : number(b["max_vcpus"]);
  const mib = (v: unknown): number | undefined => {
    const kib = number(v);
    return kib === undefined ? undefined : Math.max(1, Math.ceil(kib / 1024));
  };
  const memory = mib(b["target_memkb"]);
  const max = mib(b["max_memkb"]);
  const lines: string[] = [];
  const put = (key: string, v: string | number | undefined): void => {
    if (v !== undefined) lines.push(`${key} = ${typeof v === "number" ? v : quoted(v)}\n`);
  };
  put("name", text(c["name"]));
  put("type", text(c["type"]));
  put("uuid", text(c["uuid"]));
  put("pool", text(c["pool_name"]));
  put("memory", memory);
  put("maxmem", max === undefined || memory === undefined ? max : Math.max(max, memory));
  put("vcpus", vcpus);
  put("maxvcpus", number(b["max_vcpus"]));
  put("kernel", text(b["kernel"]) ?? "");
  put("ramdisk", text(b["ramdisk"]));
  put("cmdline", text(b["cmdline"]));
  put("bootloader", text(b["bootloader"]));
  for (const key of ["max_grant_frames", "max_maptrack_frames", "max_grant_version"]) put(key, number(b[key]));
  put("max_event_channels", number(b["event_channels"]));
  if (text(sched["sched"]) === "credit") {
    put("cpu_weight", number(sched["weight"]));
    put("cap", number(sched["cap"]));
  }
  for (const key of ["on_poweroff", "on_reboot", "on_watchdog", "on_crash", "on_soft_reset"])
    put(key, text(all[key])?.replaceAll("_", "-"));
  for (const [key, of] of [
    ["cpus", b["vcpu_hard_affinity"]],
    ["cpus_soft", b["vcpu_soft_affinity"]],
  ] as const) {
    const lists = (Array.isArray(of) ? (of as unknown[]) : []).map(cpuList);
    if (lists.length > 0) lines.push(`${key} = ${list(lists)}\n`);
  }
  const disks = objects(all["disks"]).map(disk);
  const nics = objects(all["nics"]).map(vif);
  const channels = objects(all["channels"]).map(channel);
  if (disks.length > 0) lines.push(`disk = ${list(disks)}\n`);
  if (nics.length > 0) lines.push(`vif = ${list(nics)}\n`);
  if (channels.length > 0) lines.push(`channel = ${list(channels)}\n`);
  return lines.join("");
}

/** Text that begins like JSON is JSON; anything else is an xl.cfg. */
export function looksLikeJson(config: string): boolean {
  return /^\s*\{/.test(config);
}
