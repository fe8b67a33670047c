/**
 * The part of scheduling that every policy shares: who can run, blocking, polling and waking, pausing, affinity, and which vCPU has which
 * pCPU. The machine runs its pCPUs in turn on one host thread, so "running" means "has a pCPU", not "its code executes now".
 *
 * Invariants: a unit has at most one pCPU; a unit with a pCPU is runnable, or its pCPU is marked for rescheduling; the run state of a vCPU
 * is RUNNING exactly while it has a pCPU. Nothing is allocated by block, unblock, wake, sleep and schedule.
 *
 * For the run loop: `needsSchedule(p)` → `schedule(p, now)`; then run `current(p)`.
 */
import { EBUSY, EFAULT, EINVAL, ENOSPC } from "../../abi/errno.js";
import { SHUTDOWN_watchdog } from "../../abi/sched.js";
import { RUNSTATE_blocked, RUNSTATE_offline, RUNSTATE_runnable, RUNSTATE_running } from "../../abi/vcpu.js";
import type { Domain } from "../domain.js";
import { Timer } from "../time/timers.js";
import type { Vcpu } from "../vcpu.js";
import type { Xen } from "../xen.js";
import { ALL_CPUS, firstCpu, type SchedParams, type SchedulerPolicy, SchedUnit, type TaskSlice } from "./interface.js";
import { CpuPools } from "./pools.js";

/** Ports SCHEDOP_poll takes at most. */
const MAX_POLL_PORTS = 128;
/** Watchdog timers a domain has. */
const WATCHDOGS = 2;

/** What a pCPU in no pool does. */
const IDLE: TaskSlice = { unit: null, time: -1 };

class Pcpu {
  current: SchedUnit | null = null;
  resched = true;
  readonly timer: Timer;
  /** Context switches, for statistics. */
  switches = 0;
  constructor() {
    this.timer = new Timer(() => {
      this.resched = true;
    });
  }
}

export class SchedCore {
  readonly pcpus: number;
  readonly pools: CpuPools;
  private readonly cpu: Pcpu[] = [];
  private readonly watchdogs = new WeakMap<Domain, (Timer | null)[]>();

  constructor(
    private readonly xen: Xen,
    /** The first pool's. */
    readonly policy: SchedulerPolicy,
  ) {
    this.pcpus = Math.min(32, xen.pcpus);
    for (let i = 0; i < this.pcpus; i++) this.cpu.push(new Pcpu());
    this.pools = new CpuPools(this, policy);
  }

  // --- for policies (through their pool) -------------------------------------------------------------------------------------------------------------

  now(): number {
    return this.xen.clock.now();
  }
  current(pcpu: number): SchedUnit | null {
    return (this.cpu[pcpu] as Pcpu).current;
  }
  runnable(unit: SchedUnit): boolean {
    const v = unit.vcpu;
    return v.up && !unit.blocked && unit.pauseCount === 0 && v.domain.runnable;
  }
  tickle(pcpu: number): void {
    (this.cpu[pcpu] as Pcpu).resched = true;
    this.xen.stir();
  }
  createTimer(fire: (now: number) => void): Timer {
    return new Timer(fire);
  }
  setTimer(timer: Timer, deadline: number): void {
    this.xen.timers.set(timer, deadline);
  }
  stopTimer(timer: Timer): void {
    this.xen.timers.stop(timer);
  }

  // --- life of domains and vCPUs -------------------------------------------------------------------------------------------------

  initDomain(domain: Domain): void {
    this.pools.add(domain);
    this.pools.of(domain).policy.initDomain(domain);
  }

  /** Make the scheduler's view of a vCPU; the caller stores it in `vcpu.sched`. Its domain is known already. */
  initVcpu(vcpu: Vcpu): SchedUnit {
    const unit = new SchedUnit(vcpu);
    const pool = this.pools.of(vcpu.domain);
    unit.pool = pool;
    unit.pollTimer = new Timer(() => this.unblock(unit));
    unit.processor = vcpu.id % this.pcpus;
    pool.policy.initVcpu(unit);
    unit.processor = pool.policy.pickCpu(unit);
    return unit;
  }

  destroyVcpu(unit: SchedUnit): void {
    this.endPoll(unit);
    unit.pauseCount++;
    this.sleep(unit);
    if (unit.running) {
      const c = this.cpu[unit.processor] as Pcpu;
      unit.running = false;
      unit.vcpu.time.stopRunning();
      unit.vcpu.time.runstate.change(RUNSTATE_offline, this.now());
      c.current = null;
      c.resched = true;
    }
    this.policyOf(unit).destroyVcpu(unit);
    unit.vcpu.time.destroy();
  }

  destroyDomain(domain: Domain): void {
    const w = this.watchdogs.get(domain);
    if (w !== undefined) for (const t of w) if (t !== null) this.xen.timers.stop(t);
    this.pools.of(domain).policy.destroyDomain(domain);
    this.pools.remove(domain);
  }

  adjust(domain: Domain, params: SchedParams | null): SchedParams | number {
    return this.pools.of(domain).policy.adjust(domain, params);
  }
  private policyOf(unit: SchedUnit): SchedulerPolicy {
    return (unit.pool ?? this.pools.first).policy;
  }

  // --- able to run or not --------------------------------------------------------------------------------------------------------

  /** Something that kept it from running is gone; harmless if others remain. */
  wake(unit: SchedUnit): void {
    const rs = unit.vcpu.time.runstate;
    if (this.runnable(unit)) {
      if (rs.state >= RUNSTATE_blocked) rs.change(RUNSTATE_runnable, this.now());
      this.policyOf(unit).wake(unit);
    } else if (!unit.blocked && rs.state === RUNSTATE_blocked) rs.change(RUNSTATE_offline, this.now());
  }

  /** Something may keep it from running now. */
  sleep(unit: SchedUnit): void {
    if (this.runnable(unit)) return;
    const rs = unit.vcpu.time.runstate;
    if (rs.state === RUNSTATE_runnable) rs.change(RUNSTATE_offline, this.now());
    this.policyOf(unit).sleep(unit);
  }

  pause(unit: SchedUnit): void {
    unit.pauseCount++;
    this.sleep(unit);
  }
  unpause(unit: SchedUnit): void {
    if (unit.pauseCount > 0 && --unit.pauseCount === 0) this.wake(unit);
  }

  /** A domain was paused, unpaused, shut down or resumed. */
  domainRunnableChanged(domain: Domain): void {
    for (const v of domain.vcpus) {
      if (domain.runnable) this.wake(v.sched);
      else this.sleep(v.sched);
    }
  }

  /** SCHEDOP_block: wait for an event unless one can be delivered already. */
  block(unit: SchedUnit): void {
    if (unit.vcpu.events.deliverable() || unit.vcpu.traps.nmiPending) return;
    unit.blocked = true;
    this.tickle(unit.processor);
  }

  /** End a block or a poll. */
  unblock(unit: SchedUnit): void {
    if (!unit.blocked) return;
    unit.blocked = false;
    this.endPoll(unit);
    this.wake(unit);
  }

  private endPoll(unit: SchedUnit): void {
    if (unit.pollPort === 0) return;
    unit.pollPort = 0;
    unit.vcpu.domain.events.pollers--;
    if (unit.pollTimer !== null) this.xen.timers.stop(unit.pollTimer);
  }

  /**
   * SCHEDOP_poll: wait until one of `n` ports is pending (masked or not), an upcall is due, or `timeout` (absolute, 0: none) has passed.
   * `port(i)` reads the i-th port, negative when it cannot be read.
   */
  poll(unit: SchedUnit, n: number, port: (i: number) => number, timeout: number): number {
    if (n > MAX_POLL_PORTS) return -EINVAL;
    const { events } = unit.vcpu.domain;
    let last = 0;
    if (unit.vcpu.events.deliverable() || unit.vcpu.traps.nmiPending) return 0;
    for (let i = 0; i < n; i++) {
      last = port(i);
      if (last < 0) return -EFAULT;
      const rc = events.pollPort(last);
      if (rc !== 0) return rc > 0 ? 0 : rc;
    }
    unit.blocked = true;
    unit.pollPort = n === 1 ? last : -1;
    events.pollers++;
    if (timeout !== 0 && unit.pollTimer !== null) this.xen.timers.set(unit.pollTimer, timeout);
    this.tickle(unit.processor);
    return 0;
  }

  yield(unit: SchedUnit): void {
    this.policyOf(unit).yield(unit);
    this.tickle(unit.processor);
  }

  // --- affinity -------------------------------------------------------------------------------------------------------------------

  /** Set where a vCPU may run (hard) and would rather (soft). −EINVAL when nothing of `hard` is in its pool, −EBUSY while overridden. */
  setAffinity(unit: SchedUnit, hard: number, soft = unit.softAffinity): number {
    if (firstCpu(hard & this.maskOf(unit), this.pcpus) < 0) return -EINVAL;
    if (unit.overridden) return -EBUSY;
    unit.hardAffinity = hard | 0;
    unit.softAffinity = soft | 0;
    this.affinityChanged(unit);
    return 0;
  }

  /** SCHEDOP_pin_override. */
  pinOverride(unit: SchedUnit, pcpu: number): number {
    if (pcpu < 0) {
      if (!unit.overridden) return -EINVAL;
      unit.overridden = false;
      unit.hardAffinity = unit.savedAffinity;
    } else {
      if (pcpu >= this.pcpus) return -EINVAL;
      if (unit.overridden) return -EBUSY;
      unit.overridden = true;
      unit.savedAffinity = unit.hardAffinity;
      unit.hardAffinity = 1 << pcpu;
    }
    this.affinityChanged(unit);
    return 0;
  }

  private maskOf(unit: SchedUnit): number {
    return (unit.pool ?? this.pools.first).mask;
  }

  private affinityChanged(unit: SchedUnit): void {
    this.policyOf(unit).affinityChanged?.(unit);
    if ((unit.hardAffinity & this.maskOf(unit) & (1 << unit.processor)) !== 0) return;
    // Off its present pCPU: out of the queue (or off the CPU) there and in again elsewhere.
    this.takeOff(unit);
    this.putOn(unit);
  }

  /** @internal Out of every queue, and off its pCPU. */
  takeOff(unit: SchedUnit): void {
    this.pause(unit);
    if (unit.running) this.schedule(unit.processor, this.now());
  }
  /** @internal And in again, where its policy thinks best. */
  putOn(unit: SchedUnit): void {
    unit.processor = this.policyOf(unit).pickCpu(unit);
    this.unpause(unit);
  }
  /** @internal A pCPU leaves the unit's pool (and is not in its mask any more). */
  leave(unit: SchedUnit, pcpu: number): void {
    if ((unit.hardAffinity & this.maskOf(unit)) === 0) unit.hardAffinity = ALL_CPUS;
    if (unit.processor !== pcpu) return;
    this.takeOff(unit);
    this.putOn(unit);
  }

  // --- the pCPUs ------------------------------------------------------------------------------------------------------------------

  needsSchedule(pcpu: number): boolean {
    return (this.cpu[pcpu] as Pcpu).resched;
  }

  /** No pCPU has anything to run or to decide. */
  idle(): boolean {
    for (const c of this.cpu) if (c.resched || c.current !== null) return false;
    return true;
  }

  switches(pcpu: number): number {
    return (this.cpu[pcpu] as Pcpu).switches;
  }

  /** Decide who has the pCPU now; null is idle. */
  schedule(pcpu: number, now: number): Vcpu | null {
    const c = this.cpu[pcpu] as Pcpu;
    c.resched = false;
    const pool = this.pools.at(pcpu);
    const slice = pool === null ? IDLE : pool.policy.doSchedule(pcpu, now);
    const next = slice.unit;
    if (slice.time >= 0) this.xen.timers.set(c.timer, now + slice.time);
    else if (c.timer.active) this.xen.timers.stop(c.timer);
    const prev = c.current;
    if (prev !== next) {
      c.switches++;
      c.current = next;
      if (prev !== null) {
        prev.running = false;
        const t = prev.vcpu.time;
        t.stopRunning();
        t.runstate.change(
          prev.blocked ? RUNSTATE_blocked : this.runnable(prev) ? RUNSTATE_runnable : RUNSTATE_offline,
          now,
        );
      }
      if (next !== null) {
        next.running = true;
        next.processor = pcpu;
        const t = next.vcpu.time;
        t.runstate.change(RUNSTATE_running, now);
        t.startRunning(now);
      }
      if (this.xen.trace.on) this.trace(pcpu, prev, next, slice.time, now);
    } else if (next !== null) next.vcpu.time.refresh(now);
    return next === null ? null : next.vcpu;
  }

  private trace(pcpu: number, prev: SchedUnit | null, next: SchedUnit | null, time: number, now: number): void {
    const label = (u: SchedUnit | null): string => (u === null ? "idle" : `d${u.vcpu.domain.domid}v${u.vcpu.id}`);
    this.xen.trace.emit({
      kind: "sched",
      time: now,
      domid: next?.vcpu.domain.domid ?? 0x7fff,
      vcpu: next?.vcpu.id ?? pcpu,
      name: "switch",
      args: { pcpu, prev: label(prev), next: label(next), slice: time },
    });
  }

  // --- watchdogs ------------------------------------------------------------------------------------------------------------------

  /** SCHEDOP_watchdog: set up (id 0), poke or destroy (timeout 0) a timer that ends the domain. Seconds. */
  watchdog(domain: Domain, id: number, timeout: number): number {
    if (id > WATCHDOGS) return -EINVAL;
    let timers = this.watchdogs.get(domain);
    if (timers === undefined) {
      timers = new Array<Timer | null>(WATCHDOGS).fill(null);
      this.watchdogs.set(domain, timers);
    }
    const deadline = this.now() + timeout * 1e9;
    if (id === 0) {
      const free = timers.indexOf(null);
      if (free < 0) return -ENOSPC;
      const t = new Timer(() => domain.shutdown(SHUTDOWN_watchdog));
      timers[free] = t;
      this.xen.timers.set(t, deadline);
      return free + 1;
    }
    const t = timers[id - 1] ?? null;
    if (t === null) return -EINVAL;
    if (timeout === 0) {
      this.xen.timers.stop(t);
      timers[id - 1] = null;
    } else this.xen.timers.set(t, deadline);
    return 0;
  }
}
