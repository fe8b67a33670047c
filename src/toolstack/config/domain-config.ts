// A domain's configuration, typed: what xl.cfg(5) says about the keys that every guest uses.
// Mistakes are ConfigErrors with file and line. What xl takes silently though it cannot be meant (vcpus=0, maxmem below memory, unknown
// keys, a key nothing here acts upon) is taken here too, with a warning; what xl warns of has xl's words.
import { ARM_KEYS, nearestKey, recordedWhy, USED_KEYS } from "./keys.js";
import { ConfigError, XluConfig, type XluSetting, type XluValue } from "./xlu.js";

export type DomainType = "pv" | "pvh" | "hvm";

const ACTIONS = [
  "destroy",
  "restart",
  "rename-restart",
  "preserve",
  "coredump-destroy",
  "coredump-restart",
  "soft-reset",
] as const;
/** What is done with a domain that has ended. */
export type Action = (typeof ACTIONS)[number];

export interface DomainConfig {
  readonly name: string;
  readonly type: DomainType;
  /** Lower case with dashes; undefined: one is to be made up. */
  readonly uuid: string | undefined;
  readonly kernel: string | undefined;
  readonly ramdisk: string | undefined;
  readonly bootloader: string | undefined;
  readonly bootloaderArgs: readonly string[];
  /** cmdline, or root and extra put together. */
  readonly cmdline: string;
  /** MiB. */
  readonly memory: number;
  readonly maxmem: number;
  readonly vcpus: number;
  readonly maxvcpus: number;
  readonly onPoweroff: Action;
  readonly onReboot: Action;
  readonly onCrash: Action;
  readonly onWatchdog: Action;
  readonly onSoftReset: Action;
  /** Device strings, each with a grammar of its own. */
  readonly disk: readonly string[];
  readonly vif: readonly string[];
  readonly cpus: readonly string[];
  readonly cpusSoft: readonly string[];
  readonly cpuWeight: number | undefined;
  readonly cap: number | undefined;
  readonly pool: string | undefined;
  readonly maxGrantFrames: number | undefined;
  readonly maxMaptrackFrames: number | undefined;
  readonly maxGrantVersion: number | undefined;
  readonly maxEventChannels: number | undefined;
  /** sEDF's, as xm's configurations had them (milliseconds; `extratime` 0 or 1). */
  readonly period: number | undefined;
  readonly slice: number | undefined;
  readonly latency: number | undefined;
  readonly extratime: number | undefined;
  /** Further consoles, one string each (channel.ts has the grammar). */
  readonly channel: readonly string[];
  /** Known keys that nothing above holds, as they were written. */
  readonly recorded: ReadonlyMap<string, XluValue>;
  /** One line each, with file and line where there is one. */
  readonly warnings: readonly string[];
}

export interface DomainConfigOptions {
  /** Further settings, `key=value` each, that override the file (the words after the file in `xl create`). */
  readonly overrides?: readonly string[];
}

/** MiB of a domain whose configuration does not say; libxl's default. */
const DEFAULT_MEMORY = 32;
/** XEN_LEGACY_MAX_VCPUS … HVM_MAX_VCPUS lie below it; a PV domain can have no more than this. */
const MAX_VCPUS = 8192;

/** Reads and checks a domain's configuration. Throws a ConfigError. */
export function parseDomainConfig(text: string, source: string, options: DomainConfigOptions = {}): DomainConfig {
  const config = new XluConfig().read(text, source);
  for (const override of options.overrides ?? []) config.read(override, "command line");
  return new Reader(config).domain();
}

class Reader {
  private readonly config: XluConfig;
  private readonly warnings: string[] = [];

  constructor(config: XluConfig) {
    this.config = config;
  }

  domain(): DomainConfig {
    const recorded = this.checkKeys();
    const name = this.string("name");
    if (name === undefined || name === "") throw new ConfigError("Domain name must be specified.");
    if (/[/\s\0]/.test(name)) throw this.wrong("name", "a domain name holds no spaces and no slashes");
    const type = this.type();

    const memory = this.number("memory", 0) ?? DEFAULT_MEMORY;
    let maxmem = this.number("maxmem", 0) ?? memory;
    if (maxmem < memory) {
      this.warn("maxmem", `maxmem (${maxmem}) is less than memory (${memory}): taken as ${memory}`);
      maxmem = memory;
    }
    let vcpus = this.number("vcpus", 0, MAX_VCPUS);
    if (vcpus === 0) {
      this.warn("vcpus", "a domain has at least 1 vCPU: taken as 1");
      vcpus = 1;
    }
    const maxvcpus = this.number("maxvcpus", 1, MAX_VCPUS) ?? vcpus ?? 1;
    if (vcpus !== undefined && maxvcpus < vcpus) {
      throw this.wrong("maxvcpus", `xl: maxvcpus < vcpus (${maxvcpus} < ${vcpus})`);
    }

    const kernel = this.string("kernel");
    const bootloader = this.string("bootloader");
    if (type !== "hvm" && kernel === undefined && bootloader === undefined) {
      throw new ConfigError("Neither kernel nor bootloader specified");
    }
    const bootloaderArgs = this.config.get("bootloader_args");
    return {
      name,
      type,
      uuid: this.uuid(),
      kernel,
      ramdisk: this.string("ramdisk"),
      bootloader,
      bootloaderArgs:
        bootloaderArgs?.value.kind === "atom"
          ? bootloaderArgs.value.text.split(/\s+/).filter((w) => w !== "")
          : this.strings("bootloader_args"),
      cmdline: this.cmdline(),
      memory,
      maxmem,
      vcpus: vcpus ?? maxvcpus,
      maxvcpus,
      onPoweroff: this.action("on_poweroff", "destroy"),
      onReboot: this.action("on_reboot", "restart"),
      onCrash: this.action("on_crash", "destroy"),
      onWatchdog: this.action("on_watchdog", "destroy"),
      onSoftReset: this.action("on_soft_reset", "soft-reset"),
      disk: this.strings("disk"),
      vif: this.strings("vif"),
      cpus: this.stringOrStrings("cpus"),
      cpusSoft: this.stringOrStrings("cpus_soft"),
      cpuWeight: this.number("cpu_weight", 1, 65535),
      cap: this.number("cap", 0),
      pool: this.string("pool"),
      maxGrantFrames: this.number("max_grant_frames", 1),
      maxMaptrackFrames: this.number("max_maptrack_frames", 0),
      maxGrantVersion: this.number("max_grant_version", 0, 2),
      maxEventChannels: this.number("max_event_channels", 1),
      period: this.number("period", 0),
      slice: this.number("slice", 0),
      latency: this.number("latency", 0),
      extratime: this.number("extratime", 0, 1),
      channel: this.strings("channel"),
      recorded,
      warnings: this.warnings,
    };
  }

  /** Refuses Arm keys, warns of unknown ones, and collects the known ones that are only kept. */
  private checkKeys(): Map<string, XluValue> {
    const recorded = new Map<string, XluValue>();
    for (const s of this.config) {
      if (ARM_KEYS.has(s.name)) {
        throw new ConfigError(`${place(s)}: \`${s.name}' is for Arm guests only; this is an x86 host`);
      }
      const why = recordedWhy(s.name);
      if (why !== undefined) {
        recorded.set(s.name, s.value);
        if (why !== "") this.warnings.push(`${place(s)}: warning: \`${s.name}' is kept but has no effect: ${why}`);
      } else if (!USED_KEYS.has(s.name)) {
        const near = nearestKey(s.name);
        const hint = near === undefined ? "" : ` (did you mean \`${near}'?)`;
        this.warnings.push(`${place(s)}: warning: unknown parameter \`${s.name}' is ignored${hint}`);
      }
    }
    return recorded;
  }

  private type(): DomainType {
    const type = this.string("type");
    const builder = this.string("builder");
    if (type !== undefined) {
      if (type !== "pv" && type !== "pvh" && type !== "hvm") throw this.wrong("type", `Invalid domain type ${type}.`);
      if (builder !== undefined) {
        this.warnings.push(`${this.place("builder")}: warning: \`builder' is ignored, \`type' says it all`);
      }
      return type;
    }
    if (builder === undefined || builder === "generic") return "pv";
    if (builder === "hvm") return "hvm";
    throw this.wrong("builder", `Invalid domain type ${builder}.`);
  }

  private cmdline(): string {
    const cmdline = this.string("cmdline");
    const root = this.string("root");
    const extra = this.string("extra");
    if (cmdline !== undefined) {
      if (root !== undefined || extra !== undefined) {
        this.warnings.push(`${this.place("cmdline")}: warning: ignoring root= and extra= in favour of cmdline=`);
      }
      return cmdline;
    }
    return [...(root === undefined ? [] : [`root=${root}`]), ...(extra === undefined ? [] : [extra])].join(" ");
  }

  private uuid(): string | undefined {
    const text = this.string("uuid");
    if (text === undefined) return undefined;
    const digits = text.replaceAll("-", "").toLowerCase();
    if (!/^[0-9a-f]{32}$/.test(digits)) throw this.wrong("uuid", `Failed to parse UUID: ${text}`);
    return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  }

  private action(key: string, fallback: Action): Action {
    const text = this.string(key);
    if (text === undefined) return fallback;
    // Both spellings are in use: xl.cfg(5) writes dashes, libxl's own names have underscores.
    const found = ACTIONS.find((a) => a === text.replaceAll("_", "-"));
    if (found === undefined) {
      throw this.wrong(key, `Unknown ${key} action "${text}" specified (known: ${ACTIONS.join(", ")})`);
    }
    return found;
  }

  private string(key: string): string | undefined {
    const s = this.config.get(key);
    if (s === undefined) return undefined;
    if (s.value.kind === "list") {
      this.warn(key, `parameter \`${key}' is a list but should be a single value`);
      return undefined;
    }
    return s.value.text;
  }

  private strings(key: string): string[] {
    const s = this.config.get(key);
    if (s === undefined) return [];
    if (s.value.kind === "atom") {
      // libxlu's rule: such a setting counts as not given.
      this.warn(key, `parameter \`${key}' is a single value but should be a list`);
      return [];
    }
    return s.value.items.map((item) => {
      if (item.kind === "list") {
        throw new ConfigError(`${s.source}:${item.line}: parameter \`${key}' holds a list where a string should be`);
      }
      return item.text;
    });
  }

  private stringOrStrings(key: string): string[] {
    const s = this.config.get(key);
    return s?.value.kind === "atom" ? [s.value.text] : this.strings(key);
  }

  /** A whole number in C notation (0x… is hexadecimal, 0… octal). */
  private number(key: string, least: number, most = Number.MAX_SAFE_INTEGER): number | undefined {
    const text = this.string(key)?.trim();
    if (text === undefined) return undefined;
    let n = NaN;
    if (/^0[xX][0-9a-fA-F]+$/.test(text)) n = parseInt(text, 16);
    else if (/^0[0-7]*$/.test(text)) n = parseInt(text, 8);
    else if (/^[1-9]\d*$/.test(text)) n = parseInt(text, 10);
    if (Number.isNaN(n)) {
      this.warn(key, `parameter \`${key}' is not a valid number`);
      return undefined;
    }
    if (n < least) throw this.wrong(key, `parameter \`${key}' is ${n}, must be at least ${least}`);
    if (n > most) throw this.wrong(key, `parameter \`${key}' is ${n}, must be at most ${most}`);
    return n;
  }

  private place(key: string): string {
    const s = this.config.get(key);
    return s === undefined ? key : place(s);
  }

  private warn(key: string, what: string): void {
    const line = `${this.place(key)}: warning: ${what}`;
    if (!this.warnings.includes(line)) this.warnings.push(line);
  }

  private wrong(key: string, what: string): ConfigError {
    return new ConfigError(`${this.place(key)}: ${what}`);
  }
}

const place = (s: XluSetting): string => `${s.source}:${s.line}`;
