// The disk grammar of xl-disk-configuration(5), with libxlu's messages: `disk = [ "target, format, vdev, access, …" ]`.
//
//   spec       = [ prefix ] item { "," item }       the target= parameter takes the rest of the string, commas included
//   item       = key=value | flag | positional      positional: target, format, vdev, access (no format after a prefix)
//   prefix     = "raw:" | "qcow2:" | "vhd:" | "file:" | "phy:" | "tap:" | "tap2:" | "aio:" | "ioemu:" | …   deprecated, before a path
//
// Where libxl refuses a disk only later (no vdev it knows, a CD-ROM that is writable), this refuses here.
import { ConfigError } from "./xlu.js";

export type DiskFormat = "raw" | "qcow" | "qcow2" | "vhd" | "qed" | "empty";
export type DiskBackend = "phy" | "tap" | "qdisk" | "standalone";

export interface DiskConfig {
  /** Path, or "" for an empty drive. */
  readonly target: string;
  readonly format: DiskFormat;
  /** As written: `xvda`, `hdc`, `51712`. */
  readonly vdev: string;
  /** The number of `vdev` in XenStore. */
  readonly devid: number;
  readonly readOnly: boolean;
  readonly cdrom: boolean;
  readonly backend: string | undefined;
  readonly backendType: DiskBackend | undefined;
  readonly script: string | undefined;
  readonly directIoSafe: boolean;
  /** undefined: as the image can. */
  readonly discard: boolean | undefined;
  /** Not of xl: a qcow2 image that takes what is written, made over `target` where it is not there yet. */
  readonly overlay: string | undefined;
  /** Not of xl: what is written is kept in memory and forgotten with the disk. */
  readonly snapshot: boolean;
  /** false: the guest is asked not to trust the back end (bounce buffers). */
  readonly trusted: boolean;
  /** One line each: deprecated forms. */
  readonly warnings: readonly string[];
}

const FORMATS: Readonly<Record<string, DiskFormat>> = {
  raw: "raw",
  qcow: "qcow",
  qcow2: "qcow2",
  vhd: "vhd",
  qed: "qed",
  empty: "empty",
};
const READ_ONLY: Readonly<Record<string, boolean>> = { rw: false, w: false, r: true, ro: true };
const BACKENDS: Readonly<Record<string, DiskBackend>> = {
  phy: "phy",
  tap: "tap",
  qdisk: "qdisk",
  standalone: "standalone",
};

/** The number of a virtual disk in XenStore, or −1: libxl__device_disk_dev_number. */
export function diskNumber(vdev: string): number {
  const d = /^d([0-9]+)p([0-9]+)$/.exec(vdev);
  const xvd = d === null ? named(vdev, "xvd", (1 << 20) - 1, 255) : { disk: Number(d[1]), part: Number(d[2]) };
  if (xvd !== null && xvd.disk < 1 << 20 && xvd.part < 256) {
    if (xvd.disk <= 15 && xvd.part <= 15) return (202 << 8) | (xvd.disk << 4) | xvd.part;
    return (1 << 28) | (xvd.disk << 8) | xvd.part;
  }
  if (/^(?:0[xX][0-9a-fA-F]+|[0-9]+)$/.test(vdev)) {
    const n = /^0[0-7]+$/.test(vdev) ? parseInt(vdev, 8) : Number(vdev);
    return n <= 0x7fff_ffff ? n : -1;
  }
  const hd = named(vdev, "hd", 3, 63);
  if (hd !== null) return ((hd.disk < 2 ? 3 : 22) << 8) | ((hd.disk & 1) << 6) | hd.part;
  const sd = named(vdev, "sd", 15, 15);
  return sd === null ? -1 : (8 << 8) | (sd.disk << 4) | sd.part;
}

/** `xvda3` → disk 0, partition 3; letters count as in `z`, `aa`, `ab`. */
function named(vdev: string, prefix: string, maxDisk: number, maxPart: number): { disk: number; part: number } | null {
  if (!vdev.startsWith(prefix)) return null;
  const letters = /^([a-z]+)([1-9][0-9]{0,3})?$/.exec(vdev.slice(prefix.length));
  if (letters === null) return null;
  let disk = 0;
  for (const c of letters[1] as string) {
    disk = disk * 26 + (c.charCodeAt(0) - 96);
    if (disk > maxDisk + 1) return null;
  }
  const part = Number(letters[2] ?? 0);
  return part > maxPart ? null : { disk: disk - 1, part };
}

/** The name of a disk number as libxl shows it (`xvda1`), or the number itself. */
export function diskName(devid: number): string {
  const name = (prefix: string, disk: number, part: number): string => {
    let letters = "";
    for (let n = disk + 1; n > 0; n = Math.floor((n - 1) / 26))
      letters = String.fromCharCode(97 + ((n - 1) % 26)) + letters;
    return `${prefix}${letters}${part === 0 ? "" : part}`;
  };
  if (devid >>> 28 === 1) return name("xvd", (devid >>> 8) & 0xfffff, devid & 0xff);
  if (devid >>> 8 === 202) return name("xvd", (devid >>> 4) & 15, devid & 15);
  if (devid >>> 8 === 8) return name("sd", (devid >>> 4) & 15, devid & 15);
  if (devid >>> 8 === 3) return name("hd", (devid >>> 6) & 1, devid & 63);
  if (devid >>> 8 === 22) return name("hd", 2 + ((devid >>> 6) & 1), devid & 63);
  return String(devid);
}

/** One string of `disk = [ … ]`. `source` is the file's name for messages. */
export function parseDisk(spec: string, source = "command line"): DiskConfig {
  const fail = (message: string, near?: string): ConfigError =>
    new ConfigError(
      `${source}: config parsing error in disk specification: ${message}${near === undefined ? "" : `: near \`${near}'`} in \`${spec}'`,
    );
  const warnings: string[] = [];
  const deprecated = (near: string, instead?: string): void => {
    warnings.push(
      `${source}: warning: deprecated disk syntax \`${near}'${instead === undefined ? "" : `: ${instead}`} in \`${spec}'`,
    );
  };
  const found: {
    target?: string;
    format?: DiskFormat;
    vdev?: string;
    readOnly?: boolean;
    cdrom?: boolean;
    backend?: string;
    backendType?: DiskBackend;
    script?: string;
    directIoSafe?: boolean;
    discard?: boolean;
    trusted?: boolean;
    overlay?: string;
    snapshot?: boolean;
  } = {};
  let prefixed = false;

  const setFormat = (text: string): void => {
    const format = FORMATS[text];
    if (format === undefined) throw fail("unknown value for format", text);
    found.format = format;
  };
  const setAccess = (text: string): void => {
    let access = text;
    if (access.endsWith("!")) {
      access = access.slice(0, -1);
      deprecated(text, "`!' is ignored");
    }
    const readOnly = READ_ONLY[access];
    if (readOnly === undefined) throw fail("unknown value for access", text);
    found.readOnly = readOnly;
  };
  const once = <K extends "target" | "vdev" | "backend" | "script" | "overlay">(key: K, text: string): void => {
    if (found[key] !== undefined) throw fail(`${key} specified twice`, text);
    found[key] = text;
  };

  let rest = spec.trim();
  while (rest !== "") {
    // target= takes all that is left.
    if (rest.startsWith("target=")) {
      once("target", rest.slice("target=".length));
      break;
    }
    // A URL is a target, not a prefix.
    if (found.target === undefined && !/^https?:\/\//.test(rest)) {
      const prefix = /^([a-z][a-z0-9]*):(?=\/)/.exec(rest) ?? /^(file|phy|raw|qcow2?|vhd|aio|tap2?):/.exec(rest);
      if (prefix !== null) {
        const name = prefix[1] as string;
        rest = rest.slice(prefix[0].length);
        prefixed = true;
        if (/^(?:raw|qcow2?|vhd)$/.test(name)) {
          deprecated(prefix[0], `use \`[format=]${name},'`);
          setFormat(name);
        } else if (/^(?:iscsi|drbd|e?nbd)$/.test(name)) {
          deprecated(prefix[0], `use \`script=block-${name}'`);
          found.script = `block-${name}`;
        } else if (/^(?:tapdisk|tap2?|aio|ioemu|file|phy)$/.test(name)) {
          // These say nothing that is of use: the toolstack finds out itself.
        } else throw fail("unknown deprecated disk prefix", prefix[0]);
        continue;
      }
    }
    const comma = rest.indexOf(",");
    const item = (comma < 0 ? rest : rest.slice(0, comma)).trim();
    rest = comma < 0 ? "" : rest.slice(comma + 1).trimStart();
    const pair = /^([a-z][-_a-z0-9]*)=(.*)$/s.exec(item);
    if (pair !== null) {
      const [, key, value] = pair as unknown as [string, string, string];
      switch (key) {
        case "format":
          setFormat(value);
          break;
        case "access":
          setAccess(value);
          break;
        case "devtype":
          if (value !== "cdrom" && value !== "disk") throw fail("unknown value for type", item);
          found.cdrom = value === "cdrom";
          break;
        case "vdev":
        case "backend":
        case "script":
        case "overlay":
          once(key, value);
          break;
        case "backendtype": {
          const type = BACKENDS[value];
          if (type === undefined) throw fail("unknown value for backendtype", value);
          found.backendType = type;
          break;
        }
        case "specification":
          if (value !== "xen") throw fail("unknown value for specification (xen is known)", value);
          break;
        case "transport":
        case "grant_usage":
          throw fail("virtio disks are not supported", item);
        default:
          throw fail("unknown parameter", item);
      }
      continue;
    }
    if (item === "cdrom") found.cdrom = true;
    else if (item === "snapshot") found.snapshot = true;
    else if (item === "direct-io-safe") found.directIoSafe = true;
    else if (item === "trusted" || item === "untrusted") found.trusted = item === "trusted";
    else if (item === "discard" || item === "no-discard") found.discard = item === "discard";
    else if (/^colo/.test(item)) throw fail("COLO replication is not supported", item);
    else if (item.includes("=") && !item.startsWith("/")) throw fail("unknown parameter", item);
    else if (found.target === undefined) found.target = item;
    else if (!prefixed && found.format === undefined) {
      if (item === "") found.format = "raw";
      else setFormat(item);
    } else if (found.vdev === undefined) {
      const colon = item.lastIndexOf(":");
      found.vdev = colon < 0 ? item : item.slice(0, colon);
      if (colon >= 0) {
        const type = item.slice(colon + 1);
        if (type !== "cdrom" && type !== "disk") throw fail("unknown deprecated type", type);
        deprecated(item, "use `devtype=...'");
        found.cdrom = type === "cdrom";
      }
    } else if (found.readOnly === undefined) {
      if (item !== "") setAccess(item);
    } else throw fail("too many positional parameters", item);
  }

  const cdrom = found.cdrom ?? false;
  const target = found.target ?? "";
  if (found.vdev === undefined || found.vdev === "") throw fail("no vdev specified");
  if (target === "" && !cdrom) throw fail("no target specified");
  const devid = diskNumber(found.vdev);
  if (devid < 0) throw fail("invalid vdev", found.vdev);
  if (cdrom && found.readOnly === false) warnings.push(`${source}: warning: a CD-ROM is read-only in \`${spec}'`);
  return {
    target,
    format: target === "" ? "empty" : (found.format ?? "raw"),
    vdev: found.vdev,
    devid,
    readOnly: cdrom || (found.readOnly ?? false),
    cdrom,
    backend: found.backend,
    backendType: found.backendType,
    script: found.script,
    directIoSafe: found.directIoSafe ?? false,
    discard: found.discard,
    overlay: found.overlay,
    snapshot: found.snapshot ?? false,
    trusted: found.trusted ?? true,
    warnings,
  };
}

/** What this host cannot do with a disk that is well written, or undefined. */
export function unsupportedDisk(d: DiskConfig): string | undefined {
  if (d.format === "qcow" || d.format === "qed")
    return `disk ${d.vdev}: format ${d.format} is not supported (raw, qcow2 and vhd are)`;
  if (d.overlay !== undefined && (d.snapshot || d.cdrom || d.readOnly))
    return `disk ${d.vdev}: overlay= is for disks that are written (not with snapshot, cdrom or read-only access)`;
  if (d.backend !== undefined && d.backend !== "0" && d.backend !== "Domain-0")
    return `disk ${d.vdev}: backend=${d.backend}: there are no driver domains yet`;
  if (d.script !== undefined) return `disk ${d.vdev}: script=${d.script}: there are no hotplug scripts here`;
  return undefined;
}
