/** Domains, vCPUs and counters. */
import { RUNSTATE_blocked, RUNSTATE_runnable, RUNSTATE_running } from "../abi/vcpu.js";
import type { Domain } from "../hypervisor/domain.js";
import type { Vcpu } from "../hypervisor/vcpu.js";
import type { DomainView, MachineView, VcpuState, VcpuView } from "./api.js";
import type { Source } from "./source.js";

export function vcpuState(v: Vcpu): VcpuState {
  if (!v.up) return "offline";
  switch (v.time.runstate.state) {
    case RUNSTATE_running:
      return "running";
    case RUNSTATE_runnable:
      return "runnable";
    case RUNSTATE_blocked:
      return "blocked";
    default:
      return "offline";
  }
}

function vcpuView(v: Vcpu, now: number): VcpuView {
  return {
    id: v.id,
    state: vcpuState(v),
    pcpu: v.sched.processor,
    cpuNs: v.time.runstate.spent(RUNSTATE_running, now),
    waits: v.sched.blocked,
  };
}

function domainView(d: Domain, now: number): DomainView {
  return {
    domid: d.domid,
    name: d.name,
    uuid: d.uuid,
    native: d.native,
    paused: d.pauseCount > 0,
    ended: d.shutDown || d.dying,
    shutdownCode: d.shutdownCode,
    crashReason: d.crashReason,
    pages: d.mm.totPages,
    maxPages: d.mm.maxPages,
    vcpus: d.vcpus.map((v) => vcpuView(v, now)),
  };
}

export function machineView({ xen }: Source): MachineView {
  const now = xen.clock.now();
  const counters: Record<string, number> = {};
  for (const [k, v] of Object.entries(xen.counters)) if (typeof v === "number") counters[k] = v;
  const { frames } = xen;
  return {
    now,
    virtualClock: xen.clock.virtual,
    pcpus: xen.scheduler.pcpus,
    scheduler: xen.scheduler.policy.optName,
    // Numbers beyond the RAM's stand for shared frames (machine/memory.ts).
    totalPages: xen.mem.frames - frames.first,
    freePages: frames.freeFrames,
    counters,
    domains: [...xen.domains.values()].sort((a, b) => a.domid - b.domid).map((d) => domainView(d, now)),
  };
}
