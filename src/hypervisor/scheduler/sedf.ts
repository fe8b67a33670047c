/**
 * SEDF, "simple earliest deadline first" (Xen 3.x–4.4): each vCPU is promised `slice` ns of its pCPU in every `period`, and who has the
 * earliest deadline (end of its period) goes first; what is left over is shared as extra time among those that want it.
 *
 * Parameters (nanoseconds): period, slice, latency, extratime, weight.
 *  - period and slice: real-time. Sum of slice/period ≤ 1 on a pCPU is what the promise rests on; it is not checked, as it was not in Xen.
 *  - weight without extratime: slice is derived: the weighted domains of a pCPU share what the others leave of 100 ms (less 5 ms).
 *  - weight with extratime and no period: best effort; the weight is the share of extra time.
 *  - extratime with a slice: extra time too, in proportion to its utilisation.
 *  - latency: after a long block the period starts at this length and doubles, with the slice, back to the agreed one.
 *
 * Blocking: who wakes before its deadline has lost the rest of that slice (or others' promises would break) and, if it takes extra time,
 * is first in line for it; who wakes later starts a new period at once.
 *
 * Invariants: a unit that can run is in exactly one of `ready` (budget left, by deadline), `waiting` (for its next period, by its start), or,
 * if it has no slice, only in the extra queue; the extra queue also holds the waiting units that take extra time. Partitioned: no balancing.
 */
import { EINVAL } from "../../abi/errno.js";
import type { Domain } from "../domain.js";
import {
  firstCpu,
  type SchedParams,
  type SchedulerHost,
  type SchedulerPolicy,
  type SchedUnit,
  type TaskSlice,
} from "./interface.js";

const MS = 1e6;
const PERIOD_MAX = 10_000 * MS;
const PERIOD_MIN = 10_000;
const SLICE_MIN = 5_000;
/** Period of those who only gave a weight, and what is kept free of it. */
const WEIGHT_PERIOD = 100 * MS;
const WEIGHT_SAFETY = 5 * MS;
/** Extra time is given in pieces of this length. */
const EXTRA_QUANTUM = 0.5 * MS;

interface Params {
  period: number;
  slice: number;
  latency: number;
  extratime: number;
  weight: number;
}

class SedfUnit {
  period = WEIGHT_PERIOD;
  slice = 0;
  /** The agreed values, while `latency` scales the present ones down. */
  fullPeriod = WEIGHT_PERIOD;
  fullSlice = 0;
  latency = 0;
  extra = true;
  /** Share of extra time. */
  extraWeight = 1;
  /** End of the present period. */
  deadline = 0;
  /** Used of this period's slice. */
  used = 0;
  /** Waits for `deadline − period`. */
  waiting = false;
  asleep = true;
  /** Woke early: gets extra time first until its next period. */
  compensated = false;
  /** Position in the extra queue: extra time had, divided by its share. */
  pass = 0;
  since = 0;
  ranExtra = false;
  constructor(readonly unit: SchedUnit) {}
  get start(): number {
    return this.deadline - this.period;
  }
}

const stateOf = (unit: SchedUnit): SedfUnit => unit.policy as SedfUnit;

export class SedfScheduler implements SchedulerPolicy {
  readonly name = "Simple EDF Scheduler";
  readonly optName = "sedf";
  private host!: SchedulerHost;
  /** Per pCPU, the units that can run; few, so searched rather than sorted. */
  private readonly cpus: SedfUnit[][] = [];
  private readonly all = new Set<SedfUnit>();
  private readonly params = new Map<Domain, Params>();
  private readonly answer: TaskSlice = { unit: null, time: -1 };

  init(host: SchedulerHost): void {
    this.host = host;
    for (let p = 0; p < host.pcpus; p++) this.cpus.push([]);
  }
  deinit(): void {}

  /** Domain 0 is promised 15 ms of every 20; all others are best effort until told otherwise. */
  private paramsOf(domain: Domain): Params {
    let p = this.params.get(domain);
    if (p === undefined) {
      p =
        domain.domid === 0
          ? { period: 20 * MS, slice: 15 * MS, latency: 0, extratime: 1, weight: 0 }
          : { period: WEIGHT_PERIOD, slice: 0, latency: 0, extratime: 1, weight: 0 };
      this.params.set(domain, p);
    }
    return p;
  }

  initDomain(domain: Domain): void {
    this.paramsOf(domain);
  }
  destroyDomain(domain: Domain): void {
    this.params.delete(domain);
  }

  initVcpu(unit: SchedUnit): void {
    const u = new SedfUnit(unit);
    unit.policy = u;
    unit.processor = this.pickCpu(unit);
    this.all.add(u);
    this.derive();
  }

  destroyVcpu(unit: SchedUnit): void {
    const u = stateOf(unit);
    this.drop(u);
    this.all.delete(u);
    this.derive();
  }

  pickCpu(unit: SchedUnit): number {
    const { mask, pcpus, cpuCount } = this.host;
    // The vCPUs of a domain side by side on the pCPUs there are.
    let left = cpuCount === 0 ? 0 : unit.vcpu.id % cpuCount;
    let want = -1;
    for (let p = 0; p < pcpus && want < 0; p++) if ((mask & (1 << p)) !== 0 && left-- === 0) want = p;
    if (want >= 0 && (unit.hardAffinity & (1 << want)) !== 0) return want;
    return Math.max(0, firstCpu(unit.hardAffinity & mask, pcpus));
  }

  affinityChanged(): void {
    this.derive();
  }

  /** Work out every unit's period and slice from the domains' parameters. */
  private derive(): void {
    for (let cpu = 0; cpu < this.host.pcpus; cpu++) {
      let weights = 0;
      let taken = 0;
      for (const u of this.all) {
        if (u.unit.processor !== cpu) continue;
        const p = this.paramsOf(u.unit.vcpu.domain);
        if (p.weight > 0 && p.extratime === 0) weights += p.weight;
        else if (p.slice > 0) taken += (WEIGHT_PERIOD * p.slice) / p.period;
      }
      const free = Math.max(0, WEIGHT_PERIOD - WEIGHT_SAFETY - taken);
      for (const u of this.all) {
        if (u.unit.processor !== cpu) continue;
        const p = this.paramsOf(u.unit.vcpu.domain);
        u.latency = p.latency;
        u.extra = p.extratime !== 0;
        if (p.weight > 0 && p.extratime === 0) {
          u.fullPeriod = WEIGHT_PERIOD;
          u.fullSlice = Math.floor((free * p.weight) / weights);
          u.extraWeight = 0;
        } else {
          u.fullPeriod = p.period;
          u.fullSlice = p.slice;
          u.extraWeight = p.weight > 0 ? p.weight : p.slice > 0 ? p.slice / p.period : 1;
        }
        u.period = u.fullPeriod;
        u.slice = u.fullSlice;
      }
      this.host.tickle(cpu);
    }
  }

  // --- waking and sleeping ------------------------------------------------------------------------------------------------------

  wake(unit: SchedUnit): void {
    const u = stateOf(unit);
    if (!u.asleep) return;
    u.asleep = false;
    const now = this.host.now();
    if (u.slice > 0) {
      if (now < u.deadline && u.used > 0) {
        // Early: the rest of this slice is forfeit.
        u.compensated = u.extra;
        this.nextPeriod(u, now);
      } else if (now < u.deadline && u.start <= now) {
        // Awake only in the middle of its period: with the full slice ahead it starts a new one, or it would crowd the others out.
        u.deadline = now + u.period;
        u.waiting = false;
      } else if (now >= u.deadline) {
        if (u.latency > 0 && u.latency < u.fullPeriod) {
          u.slice = (u.fullSlice * u.latency) / u.fullPeriod;
          u.period = u.latency;
        }
        u.deadline = now + u.period;
        u.used = 0;
        u.waiting = false;
        u.compensated = false;
      }
    }
    const queue = this.cpus[unit.processor] as SedfUnit[];
    // It competes for extra time from now on, not for what it missed.
    let least = Infinity;
    for (const o of queue) if (o.extra && o !== u) least = Math.min(least, o.pass);
    if (least !== Infinity && u.pass < least) u.pass = least;
    if (!queue.includes(u)) queue.push(u);
    this.host.tickle(unit.processor);
  }

  sleep(unit: SchedUnit): void {
    const u = stateOf(unit);
    if (unit.running) this.host.tickle(unit.processor);
    else {
      u.asleep = true;
      this.drop(u);
    }
  }

  yield(): void {}

  private drop(u: SedfUnit): void {
    for (const q of this.cpus) {
      const i = q.indexOf(u);
      if (i >= 0) q.splice(i, 1);
    }
  }

  /** The slice is spent or lost: wait for the next period's start. */
  private nextPeriod(u: SedfUnit, now: number): void {
    u.used = 0;
    if (u.period < u.fullPeriod) {
      // Scaled down by `latency`: twice as long from now on, up to the agreed values.
      u.period = Math.min(u.fullPeriod, u.period * 2);
      u.slice = (u.fullSlice * u.period) / u.fullPeriod;
    }
    const start = u.deadline;
    u.deadline = start + u.period;
    u.waiting = start > now;
  }

  // --- the decision -------------------------------------------------------------------------------------------------------------

  private charge(u: SedfUnit, now: number): void {
    const ran = now - u.since;
    if (ran <= 0) return;
    u.since = now;
    if (u.ranExtra) u.pass += ran / Math.max(u.extraWeight, 1e-9);
    else {
      u.used += ran;
      if (u.used >= u.slice) this.nextPeriod(u, now);
    }
  }

  doSchedule(pcpu: number, now: number): TaskSlice {
    const queue = this.cpus[pcpu] as SedfUnit[];
    const cur = this.host.current(pcpu);
    if (cur !== null) {
      const u = stateOf(cur);
      this.charge(u, now);
      if (!this.host.runnable(cur)) {
        u.asleep = true;
        this.drop(u);
      }
    }
    let best: SedfUnit | null = null;
    let nextStart = Infinity;
    let extra: SedfUnit | null = null;
    for (const u of queue) {
      if (u.slice > 0) {
        if (u.waiting && u.start <= now) {
          u.waiting = false;
          u.compensated = false;
        }
        // A period went by without its slice being used up: start the one `now` is in.
        if (!u.waiting && u.deadline <= now) {
          u.deadline += Math.ceil((now - u.deadline + 1) / u.period) * u.period;
          u.used = 0;
        }
        if (u.waiting) nextStart = Math.min(nextStart, u.start);
        else if (best === null || u.deadline < best.deadline) best = u;
      }
      if (u.extra && (u.slice === 0 || u.waiting) && this.extraBefore(u, extra)) extra = u;
    }
    const answer = this.answer;
    if (best !== null) {
      best.ranExtra = false;
      best.since = now;
      answer.unit = best.unit;
      // Someone whose period starts sooner may have an earlier deadline.
      answer.time = Math.min(best.slice - best.used, nextStart - now, best.deadline - now);
    } else if (extra !== null) {
      extra.ranExtra = true;
      extra.since = now;
      answer.unit = extra.unit;
      answer.time = Math.min(EXTRA_QUANTUM, nextStart - now);
    } else {
      answer.unit = null;
      answer.time = nextStart === Infinity ? -1 : nextStart - now;
    }
    return answer;
  }

  private extraBefore(u: SedfUnit, o: SedfUnit | null): boolean {
    if (o === null) return true;
    if (u.compensated !== o.compensated) return u.compensated;
    return u.pass < o.pass;
  }

  // --- for people ---------------------------------------------------------------------------------------------------------------

  adjust(domain: Domain, params: SchedParams | null): SchedParams | number {
    const old = this.paramsOf(domain);
    if (params === null) return { ...old };
    for (const [k, v] of Object.entries(params)) if (!(k in old) || !(v >= 0)) return -EINVAL;
    const p: Params = { ...old, weight: 0, ...params };
    if (p.weight > 0) {
      const given = (k: string): number => params[k] ?? 0;
      p.period = WEIGHT_PERIOD;
      p.slice = 0;
      p.extratime = given("extratime") !== 0 && given("period") === 0 ? 1 : 0;
    } else {
      if (p.period > PERIOD_MAX || p.period < PERIOD_MIN) return -EINVAL;
      // No slice is best effort; that needs extra time to run at all.
      if (p.slice > p.period || (p.slice < SLICE_MIN && !(p.slice === 0 && p.extratime !== 0))) return -EINVAL;
      p.extratime = p.extratime !== 0 ? 1 : 0;
    }
    this.params.set(domain, p);
    this.derive();
    return { ...p };
  }

  dumpSettings(): string {
    const lines = [`${this.optName}: extra time in pieces of ${EXTRA_QUANTUM / MS} ms`];
    for (const [d, p] of this.params)
      lines.push(
        `  d${d.domid}: period ${p.period} slice ${p.slice} latency ${p.latency} extratime ${p.extratime} weight ${p.weight}`,
      );
    return lines.join("\n");
  }

  dumpCpuState(pcpu: number): string {
    const show = (u: SedfUnit): string =>
      `d${u.unit.vcpu.domain.domid}v${u.unit.vcpu.id} slice ${u.used}/${u.slice} deadline ${u.deadline}${u.waiting ? " waiting" : ""}`;
    const cur = this.host.current(pcpu);
    const lines = [`cpu ${pcpu}: ${cur === null ? "idle" : show(stateOf(cur))}`];
    for (const u of this.cpus[pcpu] as SedfUnit[]) if (u.unit !== cur) lines.push(`  ${show(u)}`);
    return lines.join("\n");
  }
}
