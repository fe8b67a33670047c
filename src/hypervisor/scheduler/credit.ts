/**
 * The credit scheduler: proportional share with optional caps, work-conserving over all pCPUs (Xen's default from 3.0.3 to 4.11).
 *
 * How it works: a running vCPU burns 10 credits a millisecond. Every 30 ms the credits of all pCPUs (300 each) are dealt out by weight to
 * the vCPUs that are active. Who has credits left is UNDER, who has not is OVER; a pCPU runs the first of its queue, UNDER before OVER,
 * each for up to 30 ms, round-robin within a priority. A vCPU that wakes with credits left is boosted until a 10 ms tick finds it running.
 * A pCPU that would run nothing, or only an OVER vCPU, looks for something better in the queues of the others.
 * A capped domain earns at most its cap; a vCPU of it that falls too far behind is parked until it has earned its way back.
 *
 * Invariants: a unit is in at most one queue, and in none while it has a pCPU; each queue is sorted by priority but for changes since the
 * last accounting, which each pCPU repairs at its next tick; the timers stop when nothing is active, so an idle machine sleeps.
 */
import { EINVAL } from "../../abi/errno.js";
import type { Domain } from "../domain.js";
import type { Timer } from "../time/timers.js";
import {
  firstCpu,
  type SchedParams,
  type SchedulerHost,
  type SchedulerPolicy,
  type SchedUnit,
  type TaskSlice,
} from "./interface.js";

const MS = 1e6;
/** Defaults, and what may be set (public/sysctl.h XEN_SYSCTL_CSCHED_*, XEN_SYSCTL_SCHED_RATELIMIT_*). */
const TIMESLICE = 30 * MS;
const TIMESLICE_MIN_MS = 1;
const TIMESLICE_MAX_MS = 1000;
/** A vCPU that got a pCPU keeps it for at least this long, unless it yields or blocks. */
const RATELIMIT = 1 * MS;
const RATELIMIT_MIN_US = 100;
const RATELIMIT_MAX_US = 500_000;
const MIGRATION_DELAY_MAX_US = 100_000;
const MIN_TIMER = 0.1 * MS;
const BALANCE_RATELIMIT = 1 * MS;
const CREDITS_PER_NS = 10 / MS;
const DEFAULT_WEIGHT = 256;

const BOOST = 0;
const UNDER = -1;
const OVER = -2;
const IDLE = -64;

class CreditDomain {
  weight = DEFAULT_WEIGHT;
  /** Percent of one pCPU; 0 is no cap. */
  cap = 0;
  readonly active: CreditUnit[] = [];
  constructor(readonly domain: Domain) {}
}

class CreditUnit {
  pri = UNDER;
  credit = 0;
  /** Up to when its running time has been paid for. */
  paidUntil = 0;
  /** When it got its pCPU. */
  since = 0;
  /** When it last had one. */
  lastRan = -Infinity;
  parked = false;
  yielding = false;
  active = false;
  /** The queue it is in, and its neighbours there. */
  queue: Runq | null = null;
  prev: CreditUnit | null = null;
  next: CreditUnit | null = null;
  constructor(
    readonly unit: SchedUnit,
    readonly dom: CreditDomain,
  ) {}
}

/** The waiting units of a pCPU, linked in order. */
class Runq {
  head: CreditUnit | null = null;
  length = 0;

  insert(u: CreditUnit): void {
    let before: CreditUnit | null = this.head;
    let after: CreditUnit | null = null;
    while (before !== null && before.pri >= u.pri) {
      after = before;
      before = before.next;
    }
    // Who yields lets one of lower priority go first.
    if (u.yielding && before !== null) {
      after = before;
      before = before.next;
    }
    this.link(u, after, before);
  }

  private link(u: CreditUnit, after: CreditUnit | null, before: CreditUnit | null): void {
    u.prev = after;
    u.next = before;
    u.queue = this;
    if (after === null) this.head = u;
    else after.next = u;
    if (before !== null) before.prev = u;
    this.length++;
  }

  remove(u: CreditUnit): void {
    if (u.prev === null) this.head = u.next;
    else u.prev.next = u.next;
    if (u.next !== null) u.next.prev = u.prev;
    u.prev = u.next = null;
    u.queue = null;
    this.length--;
  }

  /** Stable: those with credits before those without. */
  sort(): void {
    let last: CreditUnit | null = null;
    for (let u = this.head; u !== null;) {
      const next: CreditUnit | null = u.next;
      if (u.pri >= UNDER) {
        if (u.prev !== last) {
          this.remove(u);
          this.link(u, last, last === null ? this.head : last.next);
        }
        last = u;
      }
      u = next;
    }
  }
}

class CreditPcpu {
  readonly queue = new Runq();
  readonly ticker: Timer;
  lastBalance = -Infinity;
  sorted = 0;
  constructor(host: SchedulerHost, tick: (now: number) => void) {
    this.ticker = host.createTimer(tick);
  }
}

const stateOf = (unit: SchedUnit): CreditUnit => unit.policy as CreditUnit;

export class CreditScheduler implements SchedulerPolicy {
  readonly name = "SMP Credit Scheduler";
  readonly optName = "credit";
  private host!: SchedulerHost;
  private readonly cpus: CreditPcpu[] = [];
  private readonly domains = new Map<Domain, CreditDomain>();
  private master!: Timer;
  private idlers = 0;
  private lastTickled = 0;
  /** Sum of the credits of all active vCPUs at the last accounting. */
  private balance = 0;
  private sortEpoch = 0;
  private timeslice = TIMESLICE;
  private ratelimit = RATELIMIT;
  /** So long after it ran a vCPU is left where it is: its data is still in that pCPU's caches. */
  private migrationDelay = 0;
  /** Three ticks a slice. */
  private tickLength = TIMESLICE / 3;
  /** What a pCPU earns in a slice. */
  private credits = TIMESLICE * CREDITS_PER_NS;
  private readonly answer: TaskSlice = { unit: null, time: -1 };

  init(host: SchedulerHost): void {
    this.host = host;
    this.master = host.createTimer((now) => this.account(now));
    for (let p = 0; p < host.pcpus; p++) this.cpus.push(new CreditPcpu(host, (now) => this.tick(p, now)));
    this.idlers = host.mask;
  }

  cpusChanged(): void {
    for (let p = 0; p < this.host.pcpus; p++) {
      const bit = 1 << p;
      if ((this.host.mask & bit) === 0) this.idlers &= ~bit;
      else if (this.host.current(p) === null) this.idlers |= bit;
    }
  }

  deinit(): void {
    this.host.stopTimer(this.master);
    for (const c of this.cpus) this.host.stopTimer(c.ticker);
  }

  initDomain(domain: Domain): void {
    this.domains.set(domain, new CreditDomain(domain));
  }
  destroyDomain(domain: Domain): void {
    this.domains.delete(domain);
  }

  private domainOf(domain: Domain): CreditDomain {
    let d = this.domains.get(domain);
    if (d === undefined) {
      d = new CreditDomain(domain);
      this.domains.set(domain, d);
    }
    return d;
  }

  initVcpu(unit: SchedUnit): void {
    unit.policy = new CreditUnit(unit, this.domainOf(unit.vcpu.domain));
  }

  destroyVcpu(unit: SchedUnit): void {
    const u = stateOf(unit);
    u.queue?.remove(u);
    this.deactivate(u);
    if (u.parked) {
      u.parked = false;
      this.host.unpause(unit);
    }
  }

  // --- queues -------------------------------------------------------------------------------------------------------------------

  wake(unit: SchedUnit): void {
    const u = stateOf(unit);
    if (unit.running || u.queue !== null) return;
    if (u.pri === UNDER && !u.parked) u.pri = BOOST;
    (this.cpus[unit.processor] as CreditPcpu).queue.insert(u);
    this.tickle(u);
  }

  sleep(unit: SchedUnit): void {
    const u = stateOf(unit);
    if (unit.running) this.host.tickle(unit.processor);
    else u.queue?.remove(u);
  }

  yield(unit: SchedUnit): void {
    stateOf(unit).yielding = true;
  }

  /** A unit was queued: which pCPU should look? */
  private tickle(u: CreditUnit): void {
    const cpu = u.unit.processor;
    const cur = this.host.current(cpu);
    if (cur === null) {
      this.poke(cpu);
      return;
    }
    const able = this.idlers & u.unit.hardAffinity;
    if (able !== 0) {
      const liked = able & u.unit.softAffinity;
      this.poke(this.cycle(this.lastTickled, liked !== 0 ? liked : able));
    } else if (u.pri > stateOf(cur).pri) this.host.tickle(cpu);
  }

  private poke(cpu: number): void {
    this.lastTickled = cpu;
    this.idlers &= ~(1 << cpu);
    this.host.tickle(cpu);
  }

  /** Next pCPU of a mask after `from`, going round. */
  private cycle(from: number, mask: number): number {
    const above = from >= 31 ? 0 : mask & ~((2 << from) - 1);
    return firstCpu(above !== 0 ? above : mask, this.host.pcpus);
  }

  pickCpu(unit: SchedUnit): number {
    const hard = unit.hardAffinity & this.host.mask;
    const soft = hard & unit.softAffinity;
    const masks = [this.idlers & soft, this.idlers & hard, soft, hard, this.host.mask];
    for (const m of masks) {
      if (firstCpu(m, this.host.pcpus) < 0) continue;
      return (m & (1 << unit.processor)) !== 0 ? unit.processor : this.cycle(unit.processor, m);
    }
    return 0;
  }

  affinityChanged(): void {}

  // --- credits ------------------------------------------------------------------------------------------------------------------

  private burn(u: CreditUnit, now: number): void {
    if (now > u.paidUntil) u.credit -= (now - u.paidUntil) * CREDITS_PER_NS;
    u.paidUntil = now;
  }

  private activate(u: CreditUnit, now: number): void {
    u.active = true;
    u.dom.active.push(u);
    if (!this.master.active) this.host.setTimer(this.master, now + this.timeslice - (now % this.timeslice));
  }

  private deactivate(u: CreditUnit): void {
    if (!u.active) return;
    u.active = false;
    u.dom.active.splice(u.dom.active.indexOf(u), 1);
  }

  private tick(pcpu: number, now: number): void {
    const c = this.cpus[pcpu] as CreditPcpu;
    const cur = this.host.current(pcpu);
    if (cur === null) return;
    const u = stateOf(cur);
    if (u.pri === BOOST) u.pri = UNDER;
    this.burn(u, now);
    if (!u.active) this.activate(u, now);
    if (c.sorted !== this.sortEpoch) {
      c.sorted = this.sortEpoch;
      c.queue.sort();
    }
    // Who runs may have lost its priority since it was chosen.
    const head = c.queue.head;
    if (head !== null && head.pri > u.pri) this.host.tickle(pcpu);
    this.host.setTimer(c.ticker, now + this.tickLength);
  }

  /** Every 30 ms: deal out the credits by weight. */
  private account(now: number): void {
    let weightLeft = 0;
    for (const d of this.domains.values()) weightLeft += d.weight * d.active.length;
    if (weightLeft === 0) {
      // Nobody is active: the next one that is starts the clock again.
      this.balance = 0;
      return;
    }
    const debt = this.balance < 0 ? -this.balance : 0;
    const weightTotal = weightLeft;
    let total = this.credits * this.host.cpuCount + debt;
    let balance = 0;
    for (const d of this.domains.values()) {
      const n = d.active.length;
      if (n === 0) continue;
      const weight = d.weight * n;
      weightLeft -= weight;
      // No more than its vCPUs can use in one period, but for what the system as a whole owes.
      let peak = n * this.credits + (debt * weight) / weightTotal;
      let capPerUnit = 0;
      if (d.cap !== 0) {
        const cap = (d.cap * this.credits) / 100;
        if (cap < peak) peak = cap;
        capPerUnit = cap / n;
      }
      let fair = (total * weight) / weightTotal;
      if (fair > peak) {
        // What it cannot use goes to those after it.
        if (weightLeft !== 0) total += ((fair - peak) * weightTotal) / weightLeft;
        fair = peak;
      }
      const share = fair / n;
      for (let i = d.active.length - 1; i >= 0; i--)
        balance += this.pay(d.active[i] as CreditUnit, share, capPerUnit, now);
    }
    this.balance = balance;
    this.sortEpoch++;
    this.host.setTimer(this.master, now + this.timeslice);
  }

  private pay(u: CreditUnit, share: number, cap: number, now: number): number {
    if (u.unit.running) this.burn(u, now);
    u.credit += share;
    if (u.credit < 0) {
      u.pri = OVER;
      if (u.dom.cap !== 0 && u.credit < -cap && !u.parked) {
        u.parked = true;
        this.host.pause(u.unit);
      }
      if (u.credit < -this.credits) u.credit = -this.credits;
    } else {
      u.pri = UNDER;
      if (u.parked) {
        this.host.unpause(u.unit); // still marked as parked, so that it is not boosted for it
        u.parked = false;
      }
      if (u.credit > this.credits) {
        // It does not use what it earns: no longer active, and a little ahead when it comes back.
        this.deactivate(u);
        u.credit /= 2;
      }
    }
    return u.credit;
  }

  // --- the decision -------------------------------------------------------------------------------------------------------------

  doSchedule(pcpu: number, now: number): TaskSlice {
    const c = this.cpus[pcpu] as CreditPcpu;
    const cur = this.host.current(pcpu);
    const answer = this.answer;
    if (cur !== null) {
      const u = stateOf(cur);
      this.burn(u, now);
      u.lastRan = now;
      if (this.host.runnable(cur)) {
        const ran = now - u.since;
        if (!u.yielding && ran < this.ratelimit) {
          answer.unit = cur;
          answer.time = Math.max(this.ratelimit - ran, MIN_TIMER);
          return answer;
        }
        c.queue.insert(u);
      }
      u.yielding = false;
    }
    let next = c.queue.head;
    if (next === null || next.pri <= OVER) {
      if (this.host.pcpus > 1 && (next === null || now - c.lastBalance > BALANCE_RATELIMIT)) {
        c.lastBalance = now;
        next = this.steal(pcpu, next === null ? IDLE : next.pri, now) ?? next;
      }
    }
    if (next === null) {
      this.idlers |= (1 << pcpu) & this.host.mask;
      if (c.ticker.active) this.host.stopTimer(c.ticker);
      answer.unit = null;
      answer.time = -1;
      return answer;
    }
    next.queue?.remove(next);
    this.idlers &= ~(1 << pcpu);
    if (cur === null) this.host.setTimer(c.ticker, now + this.tickLength - (now % this.tickLength));
    next.paidUntil = now;
    if (next.unit !== cur) {
      next.since = now;
      // Someone is left waiting here: an idle pCPU may take it.
      if (this.idlers !== 0 && c.queue.head !== null) this.offer(c.queue);
    }
    next.unit.processor = pcpu;
    answer.unit = next.unit;
    answer.time = this.timeslice;
    return answer;
  }

  private offer(q: Runq): void {
    for (let u = q.head; u !== null; u = u.next) {
      const able = this.idlers & u.unit.hardAffinity;
      if (able === 0) continue;
      this.poke(this.cycle(this.lastTickled, able));
      return;
    }
  }

  /** The first unit of another queue with a higher priority than `pri`; those that would like to be here first. */
  private steal(pcpu: number, pri: number, now: number): CreditUnit | null {
    const bit = 1 << pcpu;
    for (let soft = 1; soft >= 0; soft--) {
      for (let i = 1; i < this.host.pcpus; i++) {
        const peer = (pcpu + i) % this.host.pcpus;
        if (this.host.current(peer) === null) continue; // it is about to look for itself
        for (let u = (this.cpus[peer] as CreditPcpu).queue.head; u !== null && u.pri > pri; u = u.next) {
          if ((u.unit.hardAffinity & bit) === 0 || now - u.lastRan < this.migrationDelay) continue;
          if (soft === 1 && (u.unit.softAffinity & bit) === 0) continue;
          return u;
        }
      }
    }
    return null;
  }

  // --- for people ---------------------------------------------------------------------------------------------------------------

  globals(params: SchedParams | null): SchedParams | undefined {
    if (params !== null) {
      for (const k of Object.keys(params)) if (!(k in this.settings())) return undefined;
      const ms = params["tslice_ms"] ?? this.timeslice / MS;
      const us = params["ratelimit_us"] ?? this.ratelimit / 1000;
      if (!Number.isInteger(ms) || ms < TIMESLICE_MIN_MS || ms > TIMESLICE_MAX_MS) return undefined;
      if (us !== 0 && !(us >= RATELIMIT_MIN_US && us <= RATELIMIT_MAX_US && us <= ms * 1000)) return undefined;
      const delay = params["migration_delay_us"] ?? this.migrationDelay / 1000;
      if (!(delay >= 0 && delay <= MIGRATION_DELAY_MAX_US)) return undefined;
      this.migrationDelay = delay * 1000;
      this.timeslice = ms * MS;
      this.tickLength = this.timeslice / 3;
      this.credits = this.timeslice * CREDITS_PER_NS;
      this.ratelimit = us * 1000;
    }
    return this.settings();
  }
  private settings(): SchedParams {
    return {
      tslice_ms: this.timeslice / MS,
      ratelimit_us: this.ratelimit / 1000,
      migration_delay_us: this.migrationDelay / 1000,
    };
  }

  adjust(domain: Domain, params: SchedParams | null): SchedParams | number {
    const d = this.domainOf(domain);
    if (params !== null) {
      const weight = params["weight"] ?? d.weight;
      const cap = params["cap"] ?? d.cap;
      if (!(weight >= 1 && weight <= 65535) || !(cap >= 0 && cap < 65535)) return -EINVAL;
      for (const k of Object.keys(params)) if (k !== "weight" && k !== "cap") return -EINVAL;
      d.weight = weight;
      d.cap = cap;
    }
    return { weight: d.weight, cap: d.cap };
  }

  dumpSettings(): string {
    const lines = [
      `${this.optName}: timeslice ${this.timeslice / MS} ms, tick ${this.tickLength / MS} ms, ratelimit ${this.ratelimit / MS} ms`,
    ];
    for (const d of this.domains.values())
      lines.push(`  d${d.domain.domid}: weight ${d.weight}, cap ${d.cap}, ${d.active.length} active`);
    return lines.join("\n");
  }

  dumpCpuState(pcpu: number): string {
    const c = this.cpus[pcpu] as CreditPcpu;
    const show = (u: CreditUnit): string =>
      `d${u.unit.vcpu.domain.domid}v${u.unit.vcpu.id} pri ${u.pri} credit ${Math.round(u.credit)}`;
    const cur = this.host.current(pcpu);
    const lines = [`cpu ${pcpu}: ${cur === null ? "idle" : show(stateOf(cur))}`];
    for (let u = c.queue.head; u !== null; u = u.next) lines.push(`  ${show(u)}`);
    return lines.join("\n");
  }
}
