/**
 * The hypervisor's debug keys: what each prints goes to its console ring, where `xl dmesg` reads it. Keys, headings and columns are Xen's; the
 * lines show what there is here (domain 0 is native: it has no vCPUs and no registers).
 */
import { VIRQ_DEBUG } from "../../abi/xen.js";
import type { Domain } from "../../hypervisor/domain.js";
import { ECS_INTERDOMAIN, ECS_PIRQ, ECS_RESERVED, ECS_UNBOUND, ECS_VIRQ } from "../../hypervisor/events/ops.js";
import { dumpState } from "../../hypervisor/traps/dump.js";
import type { Vcpu } from "../../hypervisor/vcpu.js";
import type { Xen } from "../../hypervisor/xen.js";
import { cpusOf } from "./cpu-list.js";

interface Key {
  readonly help: string;
  /** Lines without the prefix. */
  run(xen: Xen, say: (line: string) => void): void;
}

const hex = (n: number, digits: number): string => Math.max(0, n).toString(16).padStart(digits, "0");
const flag = (b: boolean): string => (b ? "1" : "0");
const all = (xen: Xen): Domain[] => [...xen.domains.values()].sort((a, b) => a.domid - b.domid);

function affinity(mask: number, pcpus: number): string {
  const cpus = cpusOf(mask, pcpus) ?? Array.from({ length: pcpus }, (_, i) => i);
  return `{${ranges(cpus)}}`;
}
/** 0-3,5 */
function ranges(cpus: readonly number[]): string {
  const out: string[] = [];
  for (let i = 0; i < cpus.length; i++) {
    const from = cpus[i] as number;
    while (i + 1 < cpus.length && cpus[i + 1] === (cpus[i] as number) + 1) i++;
    const to = cpus[i] as number;
    out.push(from === to ? `${from}` : `${from}-${to}`);
  }
  return out.join(",");
}

function domainInfo(xen: Xen, say: (line: string) => void): void {
  const { pcpus } = xen.scheduler;
  say(`'q' pressed -> dumping domain info (now = ${Math.floor(xen.clock.now())})`);
  for (const d of all(xen)) {
    const running = d.vcpus.filter((v) => v.sched.running).map((v) => v.sched.processor);
    say(`General information for domain ${d.domid}:`);
    say(`    refcnt=1 dying=${d.dying ? 2 : 0} pause_count=${d.pauseCount}`);
    say(
      `    nr_pages=${d.mm.totPages} xenheap_pages=${xen.frames.xenPages[d.mm.id] as number} dirty_cpus={${ranges(running.sort((a, b) => a - b))}} max_pages=${d.mm.maxPages}`,
    );
    say(`    handle=${d.uuid} vm_assist=${hex(d.vmAssist, 8)}`);
    say(`VCPU information and callbacks for domain ${d.domid}:`);
    if (d.native) say("    none: it is native");
    for (const v of d.vcpus) {
      const s = v.sched;
      say(`  UNIT${v.id} affinities: hard=${affinity(s.hardAffinity, pcpus)} soft=${affinity(s.softAffinity, pcpus)}`);
      say(
        `    VCPU${v.id}: CPU${s.processor} [has=${s.running ? "T" : "F"}] poll=${s.pollPort} upcall_pend=${hex(v.events.pending ? 1 : 0, 2)} upcall_mask=${hex(v.events.masked ? 1 : 0, 2)}`,
      );
      say(`    pause_count=${s.pauseCount} pause_flags=${(s.blocked ? 1 : 0) | (v.up ? 0 : 2)}`);
    }
  }
  for (const d of all(xen)) {
    for (const v of d.vcpus) {
      say(`Notifying guest ${d.domid}:${v.id} (virq ${VIRQ_DEBUG}, port ${v.events.virqPort[VIRQ_DEBUG] as number})`);
      v.events.sendVirq(VIRQ_DEBUG);
    }
  }
  const { sharing } = xen.frames;
  say(`Shared frames ${sharing.sharedFrames} -- Saved frames ${sharing.savedFrames}`);
}

function eventInfo(xen: Xen, say: (line: string) => void): void {
  say("'e' pressed -> dumping event-channel info");
  for (const d of all(xen)) {
    const e = d.events;
    say(`Event channel information for domain ${d.domid}:`);
    say(`Polling vCPUs: {${ranges(d.vcpus.filter((v) => v.sched.pollPort !== 0).map((v) => v.id))}}`);
    say("    port [p/m/s]");
    for (let port = 1; port < e.validPorts; port++) {
      const state = e.state[port] as number;
      if (state <= ECS_RESERVED) continue;
      const [pending, masked] = e.native ? [false, false] : [e.ops.isPending(port), e.ops.isMasked(port)];
      const value = e.value[port] as number;
      const dom = e.remoteDom[port] as number;
      let more = "";
      if (state === ECS_UNBOUND) more = ` d=${dom}`;
      else if (state === ECS_INTERDOMAIN) more = ` d=${dom} p=${value}`;
      else if (state === ECS_PIRQ) more = ` p=${value}`;
      else if (state === ECS_VIRQ) more = ` v=${value}`;
      say(
        `    ${String(port).padStart(4)} [${flag(pending)}/${flag(masked)}/  -   ]: s=${state} n=${e.notifyVcpu[port] as number} x=0${more}`,
      );
    }
  }
}

function grantInfo(xen: Xen, say: (line: string) => void): void {
  const head = "      -------- active --------       -------- shared --------";
  const columns = "[ref] localdom mfn      pin          localdom gmfn     flags";
  say("gnttab_usage_print_all [ key 'g' pressed");
  for (const d of all(xen)) {
    const g = d.grants;
    say(head);
    say(columns);
    say(`grant-table for remote d${d.domid} (v${g.version})`);
    say(`  ${g.frames.length} frames (${g.maxFrames} max), ${Math.ceil(g.mapped / 256)} maptrack frames (1024 max)`);
    let any = false;
    for (let ref = 0; ref < Math.min(g.entries, g.pin.length); ref++) {
      const pin = g.pin[ref] as number;
      if (pin === 0) continue;
      any = true;
      const at = g.entryAt(ref);
      const { mem } = g.ft;
      const flags = mem.r16(at);
      const dom = mem.r16(at + 2);
      say(
        `[0x${hex(ref, 3)}] ${String(g.actDomid[ref]).padStart(6)} 0x${hex(g.actMfn[ref] as number, 5)} 0x${hex(pin, 8)} ${String(dom).padStart(10)} 0x${hex(g.frameOf(ref), 6)} 0x${hex(flags, 2)}`,
      );
    }
    if (!any) say("no active grant table entries");
  }
  say("gnttab_usage_print_all ] done");
}

function runQueues(xen: Xen, say: (line: string) => void): void {
  const { scheduler } = xen;
  const lines = (text: string): void => {
    for (const line of text.split("\n")) say(line);
  };
  say("sched_smt_power_savings: disabled");
  say(`NOW=${Math.floor(xen.clock.now())}`);
  say(`Online Cpus: ${ranges(Array.from({ length: scheduler.pcpus }, (_, i) => i))}`);
  for (const pool of scheduler.pools.list()) {
    say(`Cpupool ${pool.id}:`);
    say(`Cpus: ${ranges(pool.cpus())}`);
    say("Scheduling granularity: cpu, 1 CPU per sched-resource");
    say(`Scheduler: ${pool.policy.name} (${pool.policy.optName})`);
    lines(pool.policy.dumpSettings());
    for (const p of pool.cpus()) lines(pool.policy.dumpCpuState(p));
  }
  say("CPUs info:");
  for (let p = 0; p < scheduler.pcpus; p++) {
    const unit = scheduler.current(p);
    const who = unit === null ? "IDLEv" + p : unit.vcpu.label;
    say(`CPU[${String(p).padStart(2, "0")}] current=${who}, curr=${who}, prev=NULL`);
  }
}

function registers(xen: Xen, say: (line: string) => void, v: Vcpu): void {
  say(`*** Dumping Dom${v.domain.domid} vcpu#${v.id} state: ***`);
  if (!v.up) return say("    offline");
  xen.withLoaded(v, () => {
    for (const line of dumpState(v)) say(line);
  });
}

const KEYS: ReadonlyMap<string, Key> = new Map<string, Key>([
  [
    "*",
    {
      help: "print all diagnostics",
      run: (xen, say) => {
        say("'*' pressed -> firing all diagnostic keyhandlers");
        for (const key of ["0", "e", "g", "m", "q", "r"]) {
          say(`[${key}: ${KEYS.get(key)?.help ?? ""}]`);
          KEYS.get(key)?.run(xen, say);
        }
      },
    },
  ],
  [
    "0",
    {
      help: "dump Dom0 registers",
      run: (xen, say) => {
        say("'0' pressed -> dumping Dom0's registers");
        for (const v of xen.domains.get(0)?.vcpus ?? []) registers(xen, say, v);
        if (xen.domains.get(0)?.native === true) say("*** Dom0 is native: it has no registers ***");
      },
    },
  ],
  [
    "d",
    {
      help: "dump registers",
      run: (xen, say) => {
        say("'d' pressed -> dumping registers");
        for (const d of all(xen)) for (const v of d.vcpus) registers(xen, say, v);
      },
    },
  ],
  ["e", { help: "dump evtchn info", run: eventInfo }],
  ["g", { help: "print grant table usage", run: grantInfo }],
  [
    "h",
    {
      help: "show this message",
      run: (_xen, say) => {
        say("'h' pressed -> showing installed handlers");
        for (const [key, { help }] of [...KEYS].sort(([a], [b]) => (a < b ? -1 : 1)))
          say(` key '${key}' (ascii '${hex(key.charCodeAt(0), 2)}') => ${help}`);
      },
    },
  ],
  [
    "m",
    {
      help: "memory info",
      run: (xen, say) => {
        const { frames } = xen;
        say("Physical memory information:");
        say(`    Xen heap: ${frames.freeFrames * 4}kB free`);
        say(`    heap[00]: ${(frames.ramLimit - frames.first) * 4}kB in all`);
      },
    },
  ],
  ["q", { help: "dump domain (and guest debug) info", run: domainInfo }],
  ["r", { help: "dump run queues", run: runQueues }],
]);

/** Press each key in turn; one that nobody has a use for does nothing, as in Xen. */
export function pressKeys(xen: Xen, keys: string): void {
  for (const key of keys) KEYS.get(key)?.run(xen, (line) => xen.console.log(line));
}
