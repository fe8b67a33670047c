/** Who had which pCPU, and what the policy thinks of each vCPU. */
import type { Domain } from "../hypervisor/domain.js";
import type { SchedulerView } from "./api.js";
import { vcpuState } from "./machine-view.js";
import type { Recorder } from "./recorder.js";
import type { Source } from "./source.js";

/** The numbers among a policy's own fields. */
function numbersOf(policy: unknown): Record<string, number> {
  const out: Record<string, number> = {};
  if (typeof policy !== "object" || policy === null) return out;
  for (const [k, v] of Object.entries(policy)) if (typeof v === "number" && Number.isFinite(v)) out[k] = v;
  return out;
}

export function schedulerView({ xen }: Source, recorder: Recorder, since: number): SchedulerView {
  recorder.lease();
  const now = xen.clock.now();
  const { scheduler } = xen;
  for (let p = 0; p < scheduler.pcpus; p++) {
    const v = scheduler.current(p)?.vcpu;
    if (v !== undefined) recorder.note(p, v.domain.domid, v.id, now);
  }
  const guests: Domain[] = [...xen.domains.values()].filter((d) => !d.native);
  return {
    now,
    name: scheduler.policy.name,
    settings: scheduler.policy.dumpSettings(),
    pcpus: Array.from({ length: scheduler.pcpus }, (_, p) => ({
      dump: scheduler.policy.dumpCpuState(p),
      switches: scheduler.switches(p),
    })),
    vcpus: guests.flatMap((d) =>
      d.vcpus.map((v) => ({
        domid: d.domid,
        vcpu: v.id,
        pcpu: v.sched.processor,
        state: vcpuState(v),
        policy: numbersOf(v.sched.policy),
      })),
    ),
    domains: guests.map((d) => {
      const params = scheduler.adjust(d, null);
      return { domid: d.domid, params: typeof params === "number" ? {} : params };
    }),
    turns: recorder.turns(since, now),
  };
}
