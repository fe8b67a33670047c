/** The rows of `xl top`: xentop's columns, and its extra lines for vCPUs, networks and disks. */
import { left, right } from "./format.js";
import { memoryPercent, netRxKiB, netTxKiB, vbd, type Sample, type TopDomain } from "./top-data.js";

interface Column {
  readonly head: string;
  readonly width: number;
  text(d: TopDomain, s: Sample): string;
  /** By what `S` sorts, largest first; absent: by name. */
  key?(d: TopDomain, s: Sample): number;
}

const numeric = (head: string, width: number, key: (d: TopDomain, s: Sample) => number, digits = 0): Column => ({
  head,
  width,
  key,
  text: (d, s) => key(d, s).toFixed(digits),
});

/** Six places: dying, shut down, blocked, crashed, paused, running. */
function state(d: TopDomain): string {
  const i = d.info;
  const at = (on: boolean, letter: string): string => (on ? letter : "-");
  return `${at(i.dying, "d")}${at(i.shutdown, "s")}${at(i.blocked, "b")}${at(i.crashed, "c")}${at(i.paused, "p")}${at(i.running, "r")}`;
}

export const COLUMNS: readonly Column[] = [
  { head: "NAME", width: 10, text: (d) => d.info.name },
  { head: "STATE", width: 6, text: state, key: (d) => Number(d.info.running) * 2 + Number(d.info.blocked) },
  numeric("CPU(sec)", 10, (d) => Math.floor(d.info.cpuTimeNs / 1e9)),
  numeric("CPU(%)", 6, (d) => d.cpuPercent, 1),
  numeric("MEM(k)", 10, (d) => d.info.currentKiB),
  numeric("MEM(%)", 6, (d, s) => memoryPercent(d.info.currentKiB, s.host), 1),
  numeric("MAXMEM(k)", 10, (d) => d.info.maxKiB),
  numeric("MAXMEM(%)", 9, (d, s) => memoryPercent(d.info.maxKiB, s.host), 1),
  numeric("VCPUS", 5, (d) => d.info.maxVcpus),
  numeric("NETS", 4, (d) => d.stats.vifs.length),
  numeric("NETTX(k)", 8, netTxKiB),
  numeric("NETRX(k)", 8, netRxKiB),
  numeric("VBDS", 4, (d) => d.stats.vbds.length),
  numeric("VBD_OO", 8, (d) => vbd(d, "outOfRequests")),
  numeric("VBD_RD", 8, (d) => vbd(d, "reads")),
  numeric("VBD_WR", 8, (d) => vbd(d, "writes")),
  numeric("VBD_RSECT", 10, (d) => vbd(d, "sectorsRead")),
  numeric("VBD_WSECT", 10, (d) => vbd(d, "sectorsWritten")),
  numeric("SSID", 4, () => 0),
];

export interface TopLines {
  /** Names in full: the column is as wide as the longest. */
  readonly full: boolean;
  readonly vcpus: boolean;
  readonly networks: boolean;
  readonly disks: boolean;
}

const nameWidth = (s: Sample, full: boolean): number =>
  Math.max(COLUMNS[0].width, ...(full ? s.domains.map((d) => d.info.name.length) : []));

export function headLine(s: Sample, full: boolean): string {
  return COLUMNS.map((c, i) => right(c.head, i === 0 ? nameWidth(s, full) : c.width)).join(" ");
}

export function domainLines(d: TopDomain, s: Sample, show: TopLines): string[] {
  const row = COLUMNS.map((c, i) => {
    const width = i === 0 ? nameWidth(s, show.full) : c.width;
    const text = c.text(d, s);
    return right(i === 0 ? text.slice(0, width) : text, width);
  }).join(" ");
  return [
    row,
    ...(show.vcpus ? vcpuLines(d) : []),
    ...(show.networks ? netLines(d) : []),
    ...(show.disks ? diskLines(d) : []),
  ];
}

/** vCPUs in a line. */
const PER_LINE = 5;

function vcpuLines(d: TopDomain): string[] {
  const cells = d.info.vcpus
    .filter((v) => v.online)
    .map((v) => `${right(v.vcpu, 3)}: ${right(Math.floor(v.timeNs / 1e9), 10)}s`);
  const lines: string[] = [];
  for (let i = 0; i < cells.length; i += PER_LINE) {
    lines.push(`${left(i === 0 ? "VCPUs(sec):" : "", 12)}${cells.slice(i, i + PER_LINE).join("")}`);
  }
  return lines;
}

function netLines(d: TopDomain): string[] {
  const half = (bytes: number, packets: number, dropped: number): string =>
    `${right(bytes, 8)}bytes ${right(packets, 8)}pkts ${right(0, 8)}err ${right(dropped, 8)}drop`;
  return d.stats.vifs.map(
    (v, i) =>
      `Net${i} RX: ${half(v.rxBytes, v.rxPackets, v.rxDropped)}  TX: ${half(v.txBytes, v.txPackets, v.txDropped)}`,
  );
}

function diskLines(d: TopDomain): string[] {
  return d.stats.vbds.map((v) => {
    const device = `VBD BlkBack ${v.devid} [${right((v.devid >>> 8).toString(16), 2)}:${right((v.devid & 255).toString(16), 2)}]`;
    return `${device}  OO: ${right(v.outOfRequests, 8)}   RD: ${right(v.reads, 8)}   WR: ${right(v.writes, 8)}   RSECT: ${right(v.sectorsRead, 10)}   WSECT: ${right(v.sectorsWritten, 10)}`;
  });
}

/** Domains in the order of a column. */
export function sorted(s: Sample, column: number): readonly TopDomain[] {
  const key = COLUMNS[column]?.key;
  if (key === undefined) return s.domains;
  return [...s.domains].sort((a, b) => key(b, s) - key(a, s) || a.info.domid - b.info.domid);
}
