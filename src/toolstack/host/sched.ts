/** Scheduling as the toolstack has it: parameters by name, affinity, CPU pools. */
import { EBUSY } from "../../abi/errno.js";
import type { Domain } from "../../hypervisor/domain.js";
import type { Vcpu } from "../../hypervisor/vcpu.js";
import type { Xen } from "../../hypervisor/xen.js";
import { HostError, type PoolInfo } from "./api.js";
import { cpuMask } from "./cpu-list.js";

const POOL0 = "Pool-0";

export function listPools(xen: Xen): PoolInfo[] {
  return [poolOf(xen, null)];
}
export function poolOf(xen: Xen, _d: Domain | null): PoolInfo {
  return {
    id: 0,
    name: POOL0,
    scheduler: xen.scheduler.policy.optName,
    cpus: Array.from({ length: xen.scheduler.pcpus }, (_, i) => i),
    domains: xen.domains.size,
  };
}
/** By name or number; the first pool where nothing is said. */
export function findPool(xen: Xen, ref: string | undefined): PoolInfo {
  const pools = listPools(xen);
  const found =
    ref === undefined ? pools[0] : (pools.find((p) => p.name === ref) ?? pools.find((p) => String(p.id) === ref));
  if (found === undefined) throw new HostError("not-found", `unknown cpupool '${ref ?? ""}'`);
  return found;
}

const onePool = (): HostError => new HostError("unsupported", "CPU pools beside Pool-0 are not there yet");
export function createPool(_xen: Xen, _name: string, _scheduler: string | undefined, _cpus: readonly number[]): PoolInfo {
  throw onePool();
}
export function destroyPool(_xen: Xen, _ref: string): void {
  throw onePool();
}
export function renamePool(_xen: Xen, _ref: string, _name: string): void {
  throw onePool();
}
export function poolAddCpus(_xen: Xen, _ref: string, _cpus: readonly number[]): void {
  throw onePool();
}
export function poolRemoveCpus(_xen: Xen, _ref: string, _cpus: readonly number[]): void {
  throw onePool();
}
export function moveToPool(xen: Xen, _d: Domain, name: string): void {
  findPool(xen, name);
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

/** What a configuration says about scheduling, in the scheduler's terms (nanoseconds for sEDF's). */
export function paramsOf(c: {
  readonly cpuWeight?: number | undefined;
  readonly cap?: number | undefined;
}): Record<string, number> {
  const params: Record<string, number> = {};
  if (c.cpuWeight !== undefined) params["weight"] = c.cpuWeight;
  if (c.cap !== undefined) params["cap"] = c.cap;
  return params;
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
  const { optName } = xen.scheduler.policy;
  if (scheduler !== undefined && scheduler !== optName) {
    throw new HostError("invalid", `Domain ${d.domid}: the scheduler is ${optName}, not ${scheduler}`);
  }
  const rc = xen.scheduler.adjust(d, params);
  if (typeof rc === "number") {
    throw new HostError("invalid", `Domain ${d.domid}: ${optName} takes no parameters like these`);
  }
}

export function getGlobal(xen: Xen, pool?: string): Readonly<Record<string, number>> {
  findPool(xen, pool);
  return xen.scheduler.policy.globals?.(null) ?? {};
}
export function setGlobal(xen: Xen, params: Readonly<Record<string, number>>, pool?: string): void {
  findPool(xen, pool);
  if (xen.scheduler.policy.globals?.(params) === undefined) {
    throw new HostError("invalid", `${xen.scheduler.policy.optName} takes no parameters like these`);
  }
}
