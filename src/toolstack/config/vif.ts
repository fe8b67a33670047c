// One entry of `vif=[…]`: xl-network-configuration(5), read as xl's parse_nic_config and libxlu's rate parser do, with their words for
// what is wrong. Where xl prints a complaint and starts the domain without the setting, this refuses.
import { ConfigError } from "./xlu.js";

export interface VifRate {
  readonly bytesPerInterval: number;
  readonly intervalUsecs: number;
}

export interface VifConfig {
  /** "00:16:3e:aa:bb:01"; undefined: one is to be made up. */
  readonly mac: string | undefined;
  /** Default xenbr0. */
  readonly bridge: string;
  readonly type: "vif" | "ioemu" | undefined;
  readonly model: string | undefined;
  readonly script: string | undefined;
  readonly ip: string | undefined;
  readonly vifname: string | undefined;
  readonly gatewaydev: string | undefined;
  /** The back end's domain, by name or number. */
  readonly backend: string | undefined;
  readonly rate: VifRate | undefined;
  readonly mtu: number;
  readonly devid: number | undefined;
  readonly vlan: string | undefined;
  readonly trusted: boolean;
  /** One line each. */
  readonly warnings: readonly string[];
}

/** LIBXL_DEVICE_NIC_MTU_DEFAULT. */
export const DEFAULT_MTU = 1500;
export const DEFAULT_BRIDGE = "xenbr0";
/** What a script is looked for in, where only its name is given. */
const SCRIPT_DIR = "/etc/xen/scripts";
const U32_MAX = 0xffff_ffff;
/** Linux's limits for an Ethernet interface. */
const MTU_MIN = 68;
const MTU_MAX = 65535;

/** Options that xl knows and this has no use for. */
const IGNORED = /^(?:accel|forwarddev|colo_\w+)$/;

/** Throws a ConfigError with one line. */
export function parseVif(text: string): VifConfig {
  const warnings: string[] = [];
  const given = new Map<string, string>();
  let trusted = true;
  for (const raw of text.split(",")) {
    const token = raw.trim();
    if (token === "") continue;
    if (token === "trusted" || token === "untrusted") {
      trusted = token === "trusted";
      continue;
    }
    const eq = token.indexOf("=");
    const key = eq < 0 ? token : token.slice(0, eq).trim();
    if (eq < 0 || !(key in KEYS || IGNORED.test(key))) throw new ConfigError(`unrecognized argument \`${token}'`);
    if (key === "accel") warnings.push("the accel parameter for vifs is currently not supported");
    else if (IGNORED.test(key)) warnings.push(`the vif parameter \`${key}' is for COLO and is ignored`);
    else if (key === "netdev") {
      warnings.push("the netdev parameter is deprecated, please use gatewaydev instead");
      given.set("gatewaydev", token.slice(eq + 1).trim());
    } else given.set(key, token.slice(eq + 1).trim());
  }
  const type = given.get("type");
  if (type !== undefined && type !== "vif" && type !== "ioemu") throw invalid("type");
  const mac = given.get("mac");
  const rate = given.get("rate");
  if (given.has("script"))
    warnings.push(`vif script=${given.get("script")}: kept, but hotplug scripts are not run here`);
  const mtu = number("mtu", given.get("mtu")) ?? DEFAULT_MTU;
  if (mtu < MTU_MIN || mtu > MTU_MAX)
    throw new ConfigError(`Invalid parameter \`mtu': ${mtu} is not within ${MTU_MIN} and ${MTU_MAX}`);
  return {
    mac: mac === undefined ? undefined : parseMacText(mac),
    bridge: given.get("bridge") ?? DEFAULT_BRIDGE,
    type,
    model: given.get("model"),
    script: given.get("script"),
    ip: given.get("ip"),
    vifname: given.get("vifname"),
    gatewaydev: given.get("gatewaydev"),
    backend: given.get("backend"),
    rate: rate === undefined ? undefined : parseVifRate(rate),
    mtu,
    devid: number("devid", given.get("devid")),
    vlan: given.get("vlan"),
    trusted,
    warnings,
  };
}

const KEYS = {
  type: 1,
  mac: 1,
  bridge: 1,
  netdev: 1,
  gatewaydev: 1,
  ip: 1,
  script: 1,
  backend: 1,
  vifname: 1,
  model: 1,
  rate: 1,
  devid: 1,
  mtu: 1,
  vlan: 1,
};

const invalid = (name: string): ConfigError => new ConfigError(`Invalid parameter \`${name}'.`);

function number(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^(?:0x[0-9a-f]{1,8}|\d{1,10})$/i.test(text))
    throw new ConfigError(`Invalid parameter \`${name}': not a number: ${text}`);
  return Number(text);
}

/** Six numbers in hexadecimal. A group address or all zeros is refused: no interface can have it. */
function parseMacText(text: string): string {
  const m = /^[0-9a-f]{1,2}(?:[:-][0-9a-f]{1,2}){5}$/i.exec(text);
  if (m === null) throw invalid("mac");
  const bytes = text.split(/[:-]/).map((h) => parseInt(h, 16));
  if (bytes.every((b) => b === 0)) throw invalid("mac");
  if (((bytes[0] as number) & 1) !== 0) throw new ConfigError(`Invalid parameter \`mac': ${text} is a group address`);
  return bytes.map((b) => b.toString(16).padStart(2, "0")).join(":");
}

const UNITS: Record<string, number> = { "": 1, K: 1e3, M: 1e6, G: 1e9 };

/** `10Mb/s`, `250KB/s`, `1MB/s@20ms`: bytes (B) or bits (b) a second, and how often credit is given (default 50 ms). */
export function parseVifRate(rate: string): VifRate {
  const wrong = (what: string, part: string): ConfigError =>
    new ConfigError(`config parsing error in vif: ${what} in \`${part}'`);
  const at = rate.indexOf("@");
  const amount = at < 0 ? rate : rate.slice(0, at);
  if (amount === "") throw wrong("no rate specified", rate);
  const m = /^(\d+)([GMK]?)([Bb])\/s$/.exec(amount);
  if (m === null) throw wrong("invalid rate", amount);
  const n = Number(m[1]);
  if (n === 0 || n > U32_MAX) throw wrong("rate overflow", amount);
  const bytesPerSecond = Math.floor((n * (UNITS[m[2] as string] as number)) / (m[3] === "b" ? 8 : 1));
  let intervalUsecs = 50_000;
  if (at >= 0) {
    const interval = rate.slice(at + 1);
    const i = /^(\d+)([mu]?)s?$/.exec(interval);
    if (i === null) throw wrong("invalid replenishment interval", interval);
    intervalUsecs = Number(i[1]) * (i[2] === "u" ? 1 : i[2] === "m" ? 1e3 : 1e6);
    if (Number(i[1]) === 0 || intervalUsecs > U32_MAX) throw wrong("replenishment interval overflow", interval);
  }
  const bytesPerInterval = Math.floor((bytesPerSecond / 1e6) * intervalUsecs);
  if (bytesPerInterval > Number.MAX_SAFE_INTEGER) throw wrong("rate overflow", rate);
  return { bytesPerInterval, intervalUsecs };
}

/** The script with its directory, as it stands in XenStore. */
export function scriptPath(script = "vif-bridge"): string {
  return script.startsWith("/") ? script : `${SCRIPT_DIR}/${script}`;
}

/** An address with Xen's prefix 00:16:3e; `random` gives numbers in [0, 1). */
export function randomMac(random: () => number): string {
  const byte = (below: number): string =>
    Math.floor(random() * below)
      .toString(16)
      .padStart(2, "0");
  return `00:16:3e:${byte(128)}:${byte(256)}:${byte(256)}`;
}
