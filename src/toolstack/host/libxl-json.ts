/**
 * A domain's configuration as libxl's JSON has it (`xl list -l`, `xl create -n`): its names, its order, its defaults left out. A plain
 * object; whoever prints it lays it out.
 */
import type { DomainConfig } from "../config/index.js";
import { parseChannel } from "../config/channel.js";
import { parseDisk, type DiskConfig } from "../config/disk.js";
import { parseVif } from "../config/vif.js";
import type { VifSpec } from "../machine.js";
import { Bridge } from "../../devices/network/index.js";
import type { DomainInfo } from "./api.js";
import { parseCpuList } from "./cpu-list.js";
import { NAT_BRIDGE } from "./plan.js";

/** What a running domain adds to its configuration. */
export interface RunFacts {
  readonly info: DomainInfo;
  readonly scheduler: { readonly name: string; readonly params: Readonly<Record<string, number>> };
  /** As they are now; default what the configuration says. */
  readonly disks?: readonly DiskConfig[];
  readonly vifs?: readonly VifSpec[];
}

type Json = Record<string, unknown>;
/** libxl's INVALID_DOMID, which is what it stores. */
const ANY_DOMID = 0xffffffff;

function disk(d: DiskConfig, running: boolean): Json {
  return {
    ...(d.target === "" ? {} : { pdev_path: d.target }),
    vdev: d.vdev,
    ...(d.backendType === undefined ? {} : { backend: d.backendType }),
    format: d.format,
    ...(d.script === undefined ? {} : { script: d.script }),
    ...(d.cdrom ? { removable: 1 } : {}),
    ...(d.readOnly ? {} : { readwrite: 1 }),
    ...(d.cdrom ? { is_cdrom: 1 } : {}),
    ...(d.directIoSafe ? { direct_io_safe: true } : {}),
    ...(d.discard === undefined ? {} : { discard_enable: d.discard ? "True" : "False" }),
    ...(running ? { colo_restore_enable: "False" } : {}),
    // Not libxl's.
    ...(d.overlay === undefined ? {} : { overlay: d.overlay }),
    ...(d.snapshot ? { snapshot: "True" } : {}),
  };
}

function nic(v: VifSpec, devid: number, running: boolean): Json {
  const bridge = v.nat !== undefined ? NAT_BRIDGE : v.bridge instanceof Bridge ? v.bridge.name : v.bridge;
  return {
    devid: v.devid ?? devid,
    ...(v.mtu === undefined || v.mtu === 1500 ? {} : { mtu: v.mtu }),
    ...(v.model === undefined ? {} : { model: v.model }),
    ...(v.mac === undefined ? {} : { mac: v.mac }),
    ...(v.ip === undefined ? {} : { ip: v.ip }),
    ...(bridge === undefined ? {} : { bridge }),
    ...(v.vifname === undefined ? {} : { ifname: v.vifname }),
    ...(v.script === undefined ? {} : { script: v.script }),
    ...(running ? { nictype: "vif" } : {}),
    ...(v.rate === undefined
      ? {}
      : { rate_bytes_per_interval: v.rate.bytesPerInterval, rate_interval_usecs: v.rate.intervalUsecs }),
    ...(v.gatewaydev === undefined ? {} : { gatewaydev: v.gatewaydev }),
    ...(v.vlan === undefined ? {} : { vlan: v.vlan }),
  };
}

/** One disk or interface by its specification: what a dry run of `block-attach` and `network-attach` shows. */
export const diskJson = (spec: string): Json => disk(parseDisk(spec), false);
export const nicJson = (spec: string): Json => nic(vifOf(spec), 0, false);

/** A bridge that is not named is not shown: libxl finds the default later. */
function vifOf(spec: string): VifSpec {
  const { bridge, ...v } = parseVif(spec);
  return /(?:^|,)\s*bridge\s*=/.test(spec) ? { ...v, bridge } : v;
}

function channel(text: string, devid: number): Json {
  const c = parseChannel(text);
  return {
    ...(c.backend === undefined ? {} : { backend_domname: c.backend }),
    devid,
    ...(c.name === undefined ? {} : { name: c.name }),
    [`connection.${c.connection}`]: c.path === undefined ? {} : { path: c.path },
  };
}

/** One list of physical CPUs for each vCPU; one alone is for all, and vCPUs beyond several go anywhere. */
function affinity(lists: readonly string[], vcpus: number): (readonly number[])[] | undefined {
  if (lists.length === 0) return undefined;
  const parsed = lists.map((text) => parseCpuList(text));
  if (parsed.some((p) => p === null)) return undefined;
  const [first] = parsed;
  if (parsed.length === 1) return Array.from({ length: vcpus }, () => first ?? []);
  return parsed.slice(0, vcpus).map((p) => p ?? []);
}

const underscores = (action: string): string => action.replaceAll("-", "_");

/** @param c null for domain 0, which has no configuration. */
export function libxlConfig(c: DomainConfig | null, run?: RunFacts): Json {
  const sched = run === undefined ? {} : { sched: run.scheduler.name, ...run.scheduler.params };
  if (c === null) {
    return {
      c_info: { type: "pv", name: run?.info.name ?? "Domain-0" },
      b_info: {
        max_memkb: run?.info.maxKiB ?? 0,
        target_memkb: run?.info.targetKiB ?? 0,
        sched_params: sched,
        "type.pv": {},
        arch_arm: {},
        arch_x86: {},
      },
    };
  }
  const running = run !== undefined;
  const uuid = run?.info.uuid ?? c.uuid;
  const disks = (run?.disks ?? c.disk.map((text) => parseDisk(text))).map((d) => disk(d, running));
  const vifs = (run?.vifs ?? c.vif.map(vifOf)).map((v, i) => nic(v, i, running));
  const channels = c.channel.map(channel);
  const hard = affinity(c.cpus, c.maxvcpus);
  const soft = affinity(c.cpusSoft, c.maxvcpus);
  const actions: readonly (readonly [string, string, string])[] = [
    ["on_poweroff", c.onPoweroff, "destroy"],
    ["on_reboot", c.onReboot, ""],
    ["on_watchdog", c.onWatchdog, "destroy"],
    ["on_crash", c.onCrash, "destroy"],
    ["on_soft_reset", c.onSoftReset, ""],
  ];
  return {
    c_info: {
      type: c.type,
      name: run?.info.name ?? c.name,
      ...(running ? { domid: ANY_DOMID } : {}),
      ...(uuid === undefined ? {} : { uuid }),
      ...(c.pool === undefined ? {} : { pool_name: c.pool }),
      run_hotplug_scripts: "True",
    },
    b_info: {
      max_vcpus: c.maxvcpus,
      avail_vcpus: Array.from({ length: c.vcpus }, (_, i) => i),
      ...(hard === undefined ? {} : { vcpu_hard_affinity: hard }),
      ...(soft === undefined ? {} : { vcpu_soft_affinity: soft }),
      max_memkb: run?.info.maxKiB ?? c.maxmem * 1024,
      target_memkb: run?.info.targetKiB ?? c.memory * 1024,
      ...(running ? { video_memkb: 0 } : {}),
      ...(c.maxGrantFrames === undefined ? {} : { max_grant_frames: c.maxGrantFrames }),
      ...(c.maxMaptrackFrames === undefined ? {} : { max_maptrack_frames: c.maxMaptrackFrames }),
      ...(c.maxGrantVersion === undefined ? {} : { max_grant_version: c.maxGrantVersion }),
      sched_params: {
        ...sched,
        ...(running || c.cpuWeight === undefined ? {} : { weight: c.cpuWeight }),
        ...(running || c.cap === undefined ? {} : { cap: c.cap }),
      },
      claim_mode: "True",
      ...(c.maxEventChannels === undefined ? {} : { event_channels: c.maxEventChannels }),
      ...(c.kernel === undefined ? {} : { kernel: c.kernel }),
      ...(c.cmdline === "" ? {} : { cmdline: c.cmdline }),
      ...(c.ramdisk === undefined ? {} : { ramdisk: c.ramdisk }),
      ...(c.bootloader === undefined ? {} : { bootloader: c.bootloader }),
      ...(c.bootloaderArgs.length === 0 ? {} : { bootloader_args: c.bootloaderArgs }),
      [`type.${c.type}`]: {},
      arch_arm: {},
      arch_x86: running ? { msr_relaxed: "False" } : {},
    },
    ...(disks.length === 0 ? {} : { disks }),
    ...(vifs.length === 0 ? {} : { nics: vifs }),
    ...(channels.length === 0 ? {} : { channels }),
    ...Object.fromEntries(actions.filter(([, value, dflt]) => value !== dflt).map(([k, v]) => [k, underscores(v)])),
  };
}
