/**
 * CPU pools (public/sysctl.h, cpupool_op): groups of pCPUs, each with a scheduling policy of its own and the domains that it schedules. The first,
 * Pool-0, has all pCPUs to begin with and never goes away; a pCPU may also be in no pool, and is then idle.
 *
 * Invariants: a pCPU is in at most one pool, a domain in exactly one; a unit that can run has a pCPU of its pool in its hard affinity (what would
 * leave it none makes it "all" again, as Xen does); a pool with domains has a pCPU.
 */
import { EBUSY, EEXIST, EINVAL, ENODEV, ENOENT } from "../../abi/errno.js";
import type { Domain } from "../domain.js";
import type { Timer } from "../time/timers.js";
import type { SchedCore } from "./core.js";
import { ALL_CPUS, type SchedulerHost, type SchedulerPolicy, type SchedUnit } from "./interface.js";

export const POOL0 = "Pool-0";

/** One pool, which is also what its policy sees of the machine. */
export class CpuPool implements SchedulerHost {
  readonly domains = new Set<Domain>();
  /** Its pCPUs, as a bit mask. */
  mask: number;
  readonly pcpus: number;

  constructor(
    private readonly core: SchedCore,
    readonly id: number,
    public name: string,
    readonly policy: SchedulerPolicy,
    mask: number,
  ) {
    this.mask = mask;
    this.pcpus = core.pcpus;
    policy.init(this);
  }

  /** Numbers of its pCPUs. */
  cpus(): number[] {
    const out: number[] = [];
    for (let p = 0; p < this.pcpus; p++) if ((this.mask & (1 << p)) !== 0) out.push(p);
    return out;
  }
  get cpuCount(): number {
    let n = 0;
    for (let m = this.mask; m !== 0; m &= m - 1) n++;
    return n;
  }
  now(): number {
    return this.core.now();
  }
  current(pcpu: number): SchedUnit | null {
    return this.core.current(pcpu);
  }
  runnable(unit: SchedUnit): boolean {
    return this.core.runnable(unit);
  }
  tickle(pcpu: number): void {
    this.core.tickle(pcpu);
  }
  createTimer(fire: (now: number) => void): Timer {
    return this.core.createTimer(fire);
  }
  setTimer(timer: Timer, deadline: number): void {
    this.core.setTimer(timer, deadline);
  }
  stopTimer(timer: Timer): void {
    this.core.stopTimer(timer);
  }
  pause(unit: SchedUnit): void {
    this.core.pause(unit);
  }
  unpause(unit: SchedUnit): void {
    this.core.unpause(unit);
  }
}

/** All pools of a machine. Methods return 0 or a negative errno, as the sysctl does. */
export class CpuPools {
  private readonly pools = new Map<number, CpuPool>();
  /** Which pool each pCPU is in. */
  private readonly ofCpu: (CpuPool | null)[] = [];
  private readonly ofDomain = new WeakMap<Domain, CpuPool>();
  readonly first: CpuPool;

  constructor(
    private readonly core: SchedCore,
    policy: SchedulerPolicy,
  ) {
    const all = core.pcpus >= 32 ? ALL_CPUS : (1 << core.pcpus) - 1;
    this.first = new CpuPool(core, 0, POOL0, policy, all);
    this.pools.set(0, this.first);
    for (let p = 0; p < core.pcpus; p++) this.ofCpu.push(this.first);
  }

  list(): CpuPool[] {
    return [...this.pools.values()].sort((a, b) => a.id - b.id);
  }
  get(id: number): CpuPool | undefined {
    return this.pools.get(id);
  }
  of(domain: Domain): CpuPool {
    return this.ofDomain.get(domain) ?? this.first;
  }
  /** null: it is in none. */
  at(pcpu: number): CpuPool | null {
    return this.ofCpu[pcpu] ?? null;
  }
  /** pCPUs that are in no pool. */
  free(): number[] {
    return this.ofCpu.flatMap((pool, p) => (pool === null ? [p] : []));
  }

  /** Take note of a new domain, and of its end. */
  add(domain: Domain): void {
    this.of(domain).domains.add(domain);
  }
  remove(domain: Domain): void {
    this.of(domain).domains.delete(domain);
  }

  /** A pool of free pCPUs; its number, or a negative errno. */
  create(name: string, policy: SchedulerPolicy, cpus: readonly number[]): number {
    if (this.list().some((p) => p.name === name)) return -EEXIST;
    let mask = 0;
    for (const p of cpus) {
      if (p < 0 || p >= this.core.pcpus) return -ENODEV;
      if (this.ofCpu[p] !== null) return -EBUSY;
      mask |= 1 << p;
    }
    let id = 1;
    while (this.pools.has(id)) id++;
    const pool = new CpuPool(this.core, id, name, policy, mask);
    this.pools.set(id, pool);
    for (const p of cpus) this.give(p, pool);
    return id;
  }

  /** Its pCPUs are free afterwards. */
  destroy(pool: CpuPool): number {
    if (pool === this.first || pool.domains.size > 0) return -EBUSY;
    for (const p of pool.cpus()) this.give(p, null);
    pool.mask = 0;
    pool.policy.deinit();
    this.pools.delete(pool.id);
    return 0;
  }

  addCpu(pool: CpuPool, pcpu: number): number {
    if (pcpu < 0 || pcpu >= this.core.pcpus) return -ENODEV;
    if (this.ofCpu[pcpu] !== null) return -EBUSY;
    pool.mask |= 1 << pcpu;
    pool.policy.cpusChanged?.();
    this.give(pcpu, pool);
    return 0;
  }

  removeCpu(pool: CpuPool, pcpu: number): number {
    if (this.ofCpu[pcpu] !== pool) return -ENOENT;
    const left = pool.mask & ~(1 << pcpu);
    // Domain 0 is native and needs none.
    if (left === 0 && (pool === this.first || [...pool.domains].some((d) => !d.native))) return -EBUSY;
    pool.mask = left;
    pool.policy.cpusChanged?.();
    for (const d of pool.domains) for (const v of d.vcpus) this.core.leave(v.sched, pcpu);
    this.give(pcpu, null);
    return 0;
  }

  private give(pcpu: number, pool: CpuPool | null): void {
    this.ofCpu[pcpu] = pool;
    this.core.tickle(pcpu);
  }

  /** Schedule a domain in another pool from now on. Parameters and affinities begin anew, as they do in Xen. */
  move(domain: Domain, to: CpuPool): number {
    const from = this.of(domain);
    if (from === to) return 0;
    if (domain.native) return -EINVAL;
    if (to.mask === 0) return -EINVAL;
    const units = domain.vcpus.map((v) => v.sched);
    for (const u of units) this.core.takeOff(u);
    for (const u of units) from.policy.destroyVcpu(u);
    from.policy.destroyDomain(domain);
    from.domains.delete(domain);
    this.ofDomain.set(domain, to);
    to.domains.add(domain);
    to.policy.initDomain(domain);
    for (const u of units) {
      u.hardAffinity = ALL_CPUS;
      u.softAffinity = ALL_CPUS;
      u.overridden = false;
      u.pool = to;
      to.policy.initVcpu(u);
    }
    for (const u of units) this.core.putOn(u);
    return 0;
  }
}
