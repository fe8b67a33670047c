/**
 * The figures of `xl top`: what the host says, and what has changed since it said so last. Percentages of the first look are 0, for
 * there is nothing to compare with.
 */
import type { DeviceStats, DomainInfo, HostApi, HostInfo } from "../../toolstack/host/api.js";

export interface TopDomain {
  readonly info: DomainInfo;
  readonly stats: DeviceStats;
  readonly cpuPercent: number;
}

export interface Sample {
  readonly host: HostInfo;
  /** Milliseconds from the epoch. */
  readonly at: number;
  readonly domains: readonly TopDomain[];
}

const NONE: DeviceStats = { vifs: [], vbds: [] };

/** Where a host counts nothing, the devices are there all the same. */
async function statsOf(host: HostApi, domid: number): Promise<DeviceStats> {
  if (host.deviceStats !== undefined) {
    const counted = await host.deviceStats(domid).catch(() => undefined);
    if (counted !== undefined) return counted;
  }
  const none = { rxBytes: 0, rxPackets: 0, rxDropped: 0, txBytes: 0, txPackets: 0, txDropped: 0 };
  const [vifs, vbds] = await Promise.all([host.listDevices(domid, "vif"), host.listDevices(domid, "vbd")]);
  return {
    vifs: vifs.map(({ devid }) => ({ devid, ...none })),
    vbds: vbds.map(({ devid }) => ({
      devid,
      outOfRequests: 0,
      reads: 0,
      writes: 0,
      sectorsRead: 0,
      sectorsWritten: 0,
    })),
  };
}

/** One look at the host. `before`: the one that percentages count from. */
export async function takeSample(host: HostApi, now: number, before?: Sample): Promise<Sample> {
  const [facts, domains] = await Promise.all([host.info(), host.listDomains()]);
  const old = new Map(before?.domains.map((d) => [d.info.domid, d.info.cpuTimeNs]));
  const elapsedNs = before === undefined ? 0 : (now - before.at) * 1e6;
  const rows = await Promise.all(
    [...domains]
      .sort((a, b) => a.domid - b.domid)
      .map(async (info): Promise<TopDomain> => {
        // A domain that goes away meanwhile has no devices any more.
        const stats = await statsOf(host, info.domid).catch(() => NONE);
        const was = old.get(info.domid);
        const used = was === undefined ? 0 : Math.max(0, info.cpuTimeNs - was);
        return { info, stats, cpuPercent: elapsedNs > 0 ? (used / elapsedNs) * 100 : 0 };
      }),
  );
  return { host: facts, at: now, domains: rows };
}

const sum = <T>(list: readonly T[], of: (t: T) => number): number => list.reduce((n, t) => n + of(t), 0);

export const netTxKiB = (d: TopDomain): number => Math.floor(sum(d.stats.vifs, (v) => v.txBytes) / 1024);
export const netRxKiB = (d: TopDomain): number => Math.floor(sum(d.stats.vifs, (v) => v.rxBytes) / 1024);
export const vbd = (
  d: TopDomain,
  of: "outOfRequests" | "reads" | "writes" | "sectorsRead" | "sectorsWritten",
): number => sum(d.stats.vbds, (v) => v[of]);
/** A domain's share of the host's memory, in percent. */
export const memoryPercent = (kib: number, host: HostInfo): number => (kib / 1024 / host.totalMemory) * 100;
