/** Event channels of all domains. */
import { ECS_INTERDOMAIN, ECS_IPI, ECS_PIRQ, ECS_RESERVED, ECS_UNBOUND, ECS_VIRQ } from "../hypervisor/events/ops.js";
import type { Domain } from "../hypervisor/domain.js";
import type { EventsView, PortState, PortView } from "./api.js";
import { usesOf, virqName, type Uses } from "./uses.js";
import type { Source } from "./source.js";

const STATES: Readonly<Record<number, PortState>> = {
  [ECS_UNBOUND]: "unbound",
  [ECS_INTERDOMAIN]: "interdomain",
  [ECS_PIRQ]: "pirq",
  [ECS_VIRQ]: "virq",
  [ECS_IPI]: "ipi",
};

function portsOf(d: Domain, uses: ReadonlyMap<number, Uses>): PortView[] {
  const e = d.events;
  const out: PortView[] = [];
  for (let port = 1; port < e.validPorts; port++) {
    const s = e.state[port] as number;
    const state = STATES[s];
    if (s <= ECS_RESERVED || state === undefined) continue;
    const remoteDomid = e.remoteDom[port] as number;
    const value = e.value[port] as number;
    const own = uses.get(d.domid)?.ports.get(port);
    const peer = state === "interdomain" ? uses.get(remoteDomid)?.ports.get(value) : undefined;
    const use = state === "virq" ? virqName(value) : state === "ipi" ? "ipi" : (own ?? peer ?? "");
    out.push({
      domid: d.domid,
      port,
      state,
      vcpu: e.notifyVcpu[port] as number,
      remoteDomid,
      value,
      pending: !e.native && e.ops.isPending(port),
      masked: !e.native && e.ops.isMasked(port),
      raised: e.raised[port] as number,
      use,
    });
  }
  return out;
}

export function eventsView(source: Source): EventsView {
  const { xen } = source;
  const domains = [...xen.domains.values()].sort((a, b) => a.domid - b.domid);
  const uses = new Map(domains.map((d) => [d.domid, usesOf(source, d.domid)]));
  return {
    now: xen.clock.now(),
    domains: domains.map((d) => ({
      domid: d.domid,
      name: d.name,
      abi: d.events.native ? "host" : d.events.ops.name,
      ports: portsOf(d, uses),
    })),
  };
}
