/** Scheduling as the toolstack has it: parameters by name, affinity, CPU pools. */
import { EBUSY, EEXIST, ENODEV, ENOENT } from "../../abi/errno.js";
import type { Domain } from "../../hypervisor/domain.js";
import { schedulers } from "../../hypervisor/scheduler/index.js";
import type { CpuPool } from "../../hypervisor/scheduler/pools.js";
import type { Vcpu } from "../../hypervisor/vcpu.js";
import type { Xen } from "../../hypervisor/xen.js";
import { HostError, type PoolInfo } from "./api.js";
import { cpuMask } from "./cpu-list.js";

export function listPools(xen: Xen): PoolInfo[] {
  return xen.scheduler.pools.list().map(infoOf);
}
function infoOf(pool: CpuPool): PoolInfo {
  return {
    id: pool.id,
    name: pool.name,
    scheduler: pool.policy.optName,
    cpus: pool.cpus(),
    domains: pool.domains.size,
  };
}
export function poolOf(xen: Xen, d: Domain): PoolInfo {
  return infoOf(xen.scheduler.pools.of(d));
}
/** By name or number; the first pool where nothing is said. */
function find(xen: Xen, ref: string | undefined): CpuPool {
  const { pools } = xen.scheduler;
  if (ref === undefined) return pools.first;
  const all = pools.list();
  const found = all.find((p) => p.name === ref) ?? all.find((p) => String(p.id) === ref);
  if (found === undefined) throw new HostError("not-found", `unknown cpupool '${ref}'`);
  return found;
}
export function findPool(xen: Xen, ref: string | undefined): PoolInfo {
  return infoOf(find(xen, ref));
}

function check(rc: number, what: string): number {
  if (rc >= 0) return rc;
  if (rc === -EEXIST) throw new HostError("exists", `${what}: a pool with this name exists already`);
  if (rc === -EBUSY) throw new HostError("state", `${what}: Device or resource busy`);
  if (rc === -ENODEV || rc === -ENOENT) throw new HostError("not-found", `${what}: No such physical CPU there`);
  throw new HostError("invalid", `${what}: Invalid argument`);
}

export function createPool(xen: Xen, name: string, scheduler: string | undefined, cpus: readonly number[]): PoolInfo {
  if (name === "" || name.includes("/")) throw new HostError("invalid", `"${name}" is not a name for a pool`);
  const make = schedulers.get(scheduler ?? xen.scheduler.policy.optName);
  if (make === undefined) throw new HostError("invalid", `Unknown scheduler: ${scheduler ?? ""}`);
  const { pools } = xen.scheduler;
  const id = check(pools.create(name, make(), [...new Set(cpus)]), `cannot create cpupool ${name}`);
  return infoOf(pools.get(id) as CpuPool);
}
export function destroyPool(xen: Xen, ref: string): void {
  check(xen.scheduler.pools.destroy(find(xen, ref)), `cannot destroy cpupool ${ref}`);
}
export function renamePool(xen: Xen, ref: string, name: string): void {
  const pool = find(xen, ref);
  if (name === "" || name.includes("/")) throw new HostError("invalid", `"${name}" is not a name for a pool`);
  if (xen.scheduler.pools.list().some((p) => p !== pool && p.name === name))
    throw new HostError("exists", `a cpupool with the name ${name} exists already`);
  pool.name = name;
}
export function poolAddCpus(xen: Xen, ref: string, cpus: readonly number[]): void {
  const pool = find(xen, ref);
  for (const p of cpus) check(xen.scheduler.pools.addCpu(pool, p), `cannot add cpu ${p} to ${pool.name}`);
}
export function poolRemoveCpus(xen: Xen, ref: string, cpus: readonly number[]): void {
  const pool = find(xen, ref);
  for (const p of cpus) check(xen.scheduler.pools.removeCpu(pool, p), `cannot remove cpu ${p} from ${pool.name}`);
}
export function moveToPool(xen: Xen, d: Domain, name: string): void {
  check(xen.scheduler.pools.move(d, find(xen, name)), `cannot move domain ${d.domid} to ${name}`);
}

/** Where a vCPU may run and would rather; undefined leaves one as it is. */
export function pin(
  xen: Xen,
  v: Vcpu,
  hard: readonly number[] | null | undefined,
  soft: readonly number[] | null | undefined,
): void {
  const { sched } = v;
  const rc = xen.scheduler.setAffinity(
    sched,
    hard === undefined ? sched.hardAffinity : cpuMask(hard),
    soft === undefined ? sched.softAffinity : cpuMask(soft),
  );
  if (rc === -EBUSY) throw new HostError("state", `vCPU ${v.id} of domain ${v.domain.domid} is pinned by its kernel`);
  if (rc < 0) throw new HostError("invalid", `Could not set affinity for vcpu \`${v.id}': no such physical CPU`);
}

/** What a configuration says about scheduling. */
export interface SchedWords {
  readonly cpuWeight?: number | undefined;
  readonly cap?: number | undefined;
  /** sEDF's; milliseconds. */
  readonly period?: number | undefined;
  readonly slice?: number | undefined;
  readonly latency?: number | undefined;
  readonly extratime?: number | undefined;
}

/** Set a new domain's parameters; a line for what its scheduler has no use for. */
export function applyWords(xen: Xen, d: Domain, c: SchedWords): string[] {
  const ms = (v: number | undefined): number | undefined => (v === undefined ? undefined : v * 1e6);
  const wanted: readonly (readonly [key: string, param: string, value: number | undefined])[] = [
    ["cpu_weight", "weight", c.cpuWeight],
    ["cap", "cap", c.cap],
    ["period", "period", ms(c.period)],
    ["slice", "slice", ms(c.slice)],
    ["latency", "latency", ms(c.latency)],
    ["extratime", "extratime", c.extratime],
  ];
  const known = getParams(xen, d);
  const params: Record<string, number> = {};
  const lines: string[] = [];
  for (const [key, param, value] of wanted) {
    if (value === undefined) continue;
    if (param in known) params[param] = value;
    else lines.push(`warning: ${key}= is ignored: the scheduler is ${xen.scheduler.pools.of(d).policy.optName}`);
  }
  if (Object.keys(params).length > 0) setParams(xen, d, undefined, params);
  return lines;
}

export function getParams(xen: Xen, d: Domain): Readonly<Record<string, number>> {
  const p = xen.scheduler.adjust(d, null);
  return typeof p === "number" ? {} : p;
}

/** `scheduler`: the one the caller means; another one in charge refuses. */
export function setParams(
  xen: Xen,
  d: Domain,
  scheduler: string | undefined,
  params: Readonly<Record<string, number>>,
): void {
  const { optName } = xen.scheduler.pools.of(d).policy;
  if (scheduler !== undefined && scheduler !== optName) {
    throw new HostError("invalid", `Domain ${d.domid}: the scheduler is ${optName}, not ${scheduler}`);
  }
  const rc = xen.scheduler.adjust(d, params);
  if (typeof rc === "number") {
    throw new HostError("invalid", `Domain ${d.domid}: ${optName} takes no parameters like these`);
  }
}

export function getGlobal(xen: Xen, pool?: string): Readonly<Record<string, number>> {
  return find(xen, pool).policy.globals?.(null) ?? {};
}
export function setGlobal(xen: Xen, params: Readonly<Record<string, number>>, pool?: string): void {
  const { policy } = find(xen, pool);
  if (policy.globals?.(params) === undefined) {
    throw new HostError("invalid", `${policy.optName} takes no parameters like these`);
  }
}
