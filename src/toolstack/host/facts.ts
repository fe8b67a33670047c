/** Facts about domains and the host, as `xl` and the pages show them. */
import { RUNSTATE_running } from "../../abi/vcpu.js";
import type { Domain } from "../../hypervisor/domain.js";
import {
  XEN_CAPABILITIES,
  XEN_CHANGESET,
  XEN_COMPILE_BY,
  XEN_COMPILE_DATE,
  XEN_COMPILE_DOMAIN,
  XEN_COMPILER,
  XEN_EXTRAVERSION,
} from "../../hypervisor/hypercalls/xen-version.js";
import { CpuidPolicy, XEN_MAJOR, XEN_MINOR } from "../../hypervisor/traps/cpuid-policy.js";
import { SHUTDOWN_crash } from "../../abi/sched.js";
import { TSC_KHZ } from "../../machine/clock.js";
import { sharedKiB, sharingMiB } from "../fork.js";
import type { Machine } from "../machine.js";
import type { DomainInfo, HostInfo, VcpuInfo } from "./api.js";
import { cpusOf } from "./cpu-list.js";
import type { HostPlatform } from "./platform.js";

/** Where a 64-bit PV guest finds the hypervisor (HYPERVISOR_VIRT_START). */
const VIRT_START = "0xffff800000000000";

/** Free memory in KiB; what is claimed is not free. */
export function freeKiB(machine: Machine): number {
  let claimed = 0;
  for (const d of machine.xen.domains.values()) claimed += d.mm.claimed;
  return Math.max(0, machine.xen.frames.freeFrames - claimed) * 4;
}

export function totalKiB(machine: Machine): number {
  const { frames } = machine.xen;
  return (frames.ramLimit - frames.first) * 4;
}

/** Xen's eight feature words: 1.edx 1.ecx e1.edx e1.ecx d1.eax 7.ebx 7.ecx e7.edx. */
function hwCaps(): number[] {
  const p = new CpuidPolicy();
  const q = (leaf: number, sub: number, reg: 0 | 1 | 2 | 3): number => p.query(leaf, sub)[reg] >>> 0;
  return [
    q(1, 0, 3),
    q(1, 0, 2),
    q(0x80000001, 0, 3),
    q(0x80000001, 0, 2),
    q(0xd, 1, 0),
    q(7, 0, 1),
    q(7, 0, 2),
    q(0x80000007, 0, 3),
  ];
}

export function hostInfo(
  machine: Machine,
  platform: HostPlatform,
  more: Partial<HostInfo> & { version: string; startedAt: number },
): HostInfo {
  const { xen } = machine;
  const sharing = sharingMiB(machine);
  return {
    host: platform.hostName,
    machine: "x86_64",
    nrCpus: xen.scheduler.pcpus,
    cpuMhz: platform.cpuMhz > 0 ? platform.cpuMhz : TSC_KHZ / 1000,
    totalMemory: Math.floor(totalKiB(machine) / 1024),
    freeMemory: Math.floor(freeKiB(machine) / 1024),
    scheduler: xen.scheduler.policy.optName,
    xenMajor: XEN_MAJOR,
    xenMinor: XEN_MINOR,
    xenExtra: XEN_EXTRAVERSION,
    xenCaps: XEN_CAPABILITIES,
    virtCaps: "pv gnttab-v1 gnttab-v2",
    hwCaps: hwCaps(),
    virtStart: VIRT_START,
    changeset: XEN_CHANGESET,
    commandLine: xen.commandLine,
    compiler: XEN_COMPILER,
    compileBy: XEN_COMPILE_BY,
    compileDomain: XEN_COMPILE_DOMAIN,
    compileDate: XEN_COMPILE_DATE,
    buildId: "",
    sharingFreedMiB: sharing.freedMiB,
    sharingUsedMiB: sharing.usedMiB,
    ...more,
  };
}

export interface ToolstackFacts {
  readonly name: string;
  readonly startedAt: number;
  readonly maxKiB: number;
  readonly targetKiB: number;
  readonly pool: string;
}

export function domainInfo(d: Domain, facts: ToolstackFacts): DomainInfo {
  const { xen } = d;
  const now = xen.clock.now();
  const { pcpus } = xen.scheduler;
  let cpuTimeNs = 0;
  let running = false;
  let blocked = true;
  const vcpus = d.vcpus.map((v): VcpuInfo => {
    const s = v.sched;
    const timeNs = v.time.runstate.spent(RUNSTATE_running, now);
    cpuTimeNs += timeNs;
    if (v.up && !s.blocked) blocked = false;
    if (s.running) running = true;
    return {
      vcpu: v.id,
      online: v.up,
      running: s.running,
      blocked: s.blocked,
      cpu: v.up ? s.processor : -1,
      timeNs,
      hardAffinity: cpusOf(s.hardAffinity, pcpus),
      softAffinity: cpusOf(s.softAffinity, pcpus),
    };
  });
  const sched = xen.scheduler.adjust(d, null);
  return {
    domid: d.domid,
    name: facts.name,
    uuid: d.uuid,
    type: "pv",
    currentKiB: d.mm.totPages * 4,
    sharedKiB: sharedKiB(d),
    maxKiB: facts.maxKiB,
    targetKiB: facts.targetKiB,
    running,
    blocked: blocked && !running && !d.shutDown,
    paused: d.pauseCount > 0,
    shutdown: d.shutDown,
    crashed: d.shutDown && d.shutdownCode === SHUTDOWN_crash,
    dying: d.dying,
    shutdownCode: d.shutDown ? d.shutdownCode : -1,
    cpuTimeNs,
    vcpusOnline: vcpus.filter((v) => v.online).length,
    maxVcpus: d.vcpus.length,
    pool: facts.pool,
    startedAt: facts.startedAt,
    vcpus,
    sched: typeof sched === "number" ? {} : sched,
  };
}

/** Domain 0 is this process: one vCPU that is the host's thread, no memory of the machine's, its own CPU time. */
export function domain0Info(machine: Machine, platform: HostPlatform, startedAt: number, pool: string): DomainInfo {
  const { xen, dom0 } = machine;
  const now = xen.clock.now();
  let guests = 0;
  for (const d of xen.domains.values()) for (const v of d.vcpus) guests += v.time.runstate.spent(RUNSTATE_running, now);
  const cpuTimeNs = Math.max(0, (platform.cpuTimeNs?.() ?? 0) - guests);
  const sched = xen.scheduler.adjust(dom0, null);
  return {
    domid: 0,
    name: machine.xs.read("/local/domain/0/name") ?? "Domain-0",
    uuid: dom0.uuid,
    type: "pv",
    currentKiB: dom0.mm.totPages * 4,
    maxKiB: dom0.mm.totPages * 4,
    targetKiB: dom0.mm.totPages * 4,
    running: true,
    blocked: false,
    paused: false,
    shutdown: false,
    crashed: false,
    dying: false,
    shutdownCode: -1,
    cpuTimeNs,
    vcpusOnline: 1,
    maxVcpus: 1,
    pool,
    startedAt,
    vcpus: [
      {
        vcpu: 0,
        online: true,
        running: true,
        blocked: false,
        cpu: 0,
        timeNs: cpuTimeNs,
        hardAffinity: null,
        softAffinity: null,
      },
    ],
    sched: typeof sched === "number" ? {} : sched,
  };
}
