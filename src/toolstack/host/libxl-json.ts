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
export function nicJson(spec: string): Json {
  const { bridge, ...v } = parseVif(spec);
  return nic({ ...v, bridge }, 0, false);
}

function channel(text: string, devid: number): Json {
  const { name, connection, path } = parseChannel(text);
  return {
    devid,
    ...(name === undefined ? {} : { name }),
    [`connection.${connection}`]: path === undefined ? {} : { path },
  };
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
  const vifs = (run?.vifs ?? c.vif.map((text): VifSpec => {
    const { bridge, ...v } = parseVif(text);
    return { ...v, bridge };
  })).map((v, i) => nic(v, i, running));
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
      ...(c.pool === undefined ? {} : { poolid: c.pool }),
      run_hotplug_scripts: "True",
    },
    b_info: {
      max_vcpus: c.maxvcpus,
      avail_vcpus: Array.from({ length: c.vcpus }, (_, i) => i),
      max_memkb: run?.info.maxKiB ?? c.maxmem * 1024,
      target_memkb: run?.info.targetKiB ?? c.memory * 1024,
      ...(running ? { video_memkb: 0 } : {}),
      sched_params: {
        ...sched,
        ...(running || c.cpuWeight === undefined ? {} : { weight: c.cpuWeight }),
        ...(running || c.cap === undefined ? {} : { cap: c.cap }),
      },
      claim_mode: "True",
      ...(c.bootloader === undefined ? {} : { bootloader: c.bootloader }),
      ...(c.kernel === undefined ? {} : { kernel: c.kernel }),
      ...(c.cmdline === "" ? {} : { cmdline: c.cmdline }),
      ...(c.ramdisk === undefined ? {} : { ramdisk: c.ramdisk }),
      [`type.${c.type}`]: {},
      arch_arm: {},
      arch_x86: running ? { msr_relaxed: "False" } : {},
    },
    ...(disks.length === 0 ? {} : { disks }),
    ...(vifs.length === 0 ? {} : { nics: vifs }),
    ...(c.channel.length === 0 ? {} : { channels: c.channel.map(channel) }),
    ...Object.fromEntries(actions.filter(([, value, dflt]) => value !== dflt).map(([k, v]) => [k, underscores(v)])),
  };
}
