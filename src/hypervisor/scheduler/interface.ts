/**
 * The scheduler interface: what a scheduling policy is (the hooks have the names of Xen's `struct scheduler` as the book describes it),
 * what it is told of a vCPU (`SchedUnit`) and what it may use (`SchedulerHost`).
 *
 * Division of labour: `core.ts` knows why a vCPU can or cannot run (blocked, paused, down, shut down) and keeps the run states; a policy
 * only decides which of those that can run does, where, and for how long. A policy never sees a guest's registers or memory.
 */
import type { Domain } from "../domain.js";
import type { Timer } from "../time/timers.js";
import type { Vcpu } from "../vcpu.js";

import type { CpuPool } from "./pools.js";

export type { SchedCore as Scheduler } from "./core.js";

/** All pCPUs, as a bit mask (at most 32). */
export const ALL_CPUS = 0xffffffff | 0;

/** One vCPU as the scheduler sees it. */
export class SchedUnit {
  /** Waits for an event (SCHEDOP_block or _poll). */
  blocked = false;
  /** 0: does not poll; > 0: polls this one port; −1: polls several. */
  pollPort = 0;
  /** Reasons to hold it, beside the domain's. */
  pauseCount = 0;
  /** It has a pCPU. */
  running = false;
  /** The pCPU it is queued at or runs on. */
  processor = 0;
  /** Where it may run, and where it would rather. */
  hardAffinity = ALL_CPUS;
  softAffinity = ALL_CPUS;
  /** SCHEDOP_pin_override: the hard affinity to return to, while overridden. */
  overridden = false;
  savedAffinity = ALL_CPUS;
  /** The policy's own state. */
  policy: unknown = null;
  /** The CPU pool it is scheduled in; set by the core. */
  pool: CpuPool | null = null;
  /** Ends a poll; made by the core. */
  pollTimer: Timer | null = null;
  constructor(readonly vcpu: Vcpu) {}
}

/** What a policy may use. */
export interface SchedulerHost {
  /** pCPUs of the machine: numbers are below this. */
  readonly pcpus: number;
  /** Those that are this policy's, as a bit mask, and how many these are. They may change (`cpusChanged`). */
  readonly mask: number;
  readonly cpuCount: number;
  now(): number;
  /** Which unit has a pCPU; null is idle. */
  current(pcpu: number): SchedUnit | null;
  /** May the unit run as far as the core is concerned? */
  runnable(unit: SchedUnit): boolean;
  /** Ask that `doSchedule` be called for a pCPU soon. */
  tickle(pcpu: number): void;
  createTimer(fire: (now: number) => void): Timer;
  setTimer(timer: Timer, deadline: number): void;
  stopTimer(timer: Timer): void;
  /** Hold a unit and let it go again, for a policy's own reasons (caps). */
  pause(unit: SchedUnit): void;
  unpause(unit: SchedUnit): void;
}

/** The answer to "what now": reused by the policy, so read it at once. */
export interface TaskSlice {
  /** null: idle. */
  unit: SchedUnit | null;
  /** How long, in ns; negative: until something happens. */
  time: number;
}

/** Parameters of a domain in its policy's terms (`weight`, `cap`; `period`, `slice`, …). */
export type SchedParams = Readonly<Record<string, number>>;

export interface SchedulerPolicy {
  /** Long name, and the name in `sched=`. */
  readonly name: string;
  readonly optName: string;
  init(host: SchedulerHost): void;
  /** All timers stopped; the machine ends or another policy takes over. */
  deinit(): void;
  initDomain(domain: Domain): void;
  destroyDomain(domain: Domain): void;
  initVcpu(unit: SchedUnit): void;
  destroyVcpu(unit: SchedUnit): void;
  /** It can no longer run: drop it from the queues, or ask for its pCPU. */
  sleep(unit: SchedUnit): void;
  /** It can run (it may be queued or running already). */
  wake(unit: SchedUnit): void;
  yield(unit: SchedUnit): void;
  doSchedule(pcpu: number, now: number): TaskSlice;
  pickCpu(unit: SchedUnit): number;
  /** Set (or, with null, only get) a domain's parameters; a negative errno refuses them. */
  adjust(domain: Domain, params: SchedParams | null): SchedParams | number;
  /** pCPUs came or went. */
  cpusChanged?(): void;
  /** Set (or, with null, only get) what the scheduler itself has to be set; undefined refuses it. */
  globals?(params: SchedParams | null): SchedParams | undefined;
  /** The unit's affinity changed. */
  affinityChanged?(unit: SchedUnit): void;
  /** For people: settings and the state of each pCPU. */
  dumpSettings(): string;
  dumpCpuState(pcpu: number): string;
}

/** Lowest pCPU of a mask within the machine, −1 if none. */
export function firstCpu(mask: number, pcpus: number): number {
  const m = pcpus >= 32 ? mask : mask & ((1 << pcpus) - 1);
  return m === 0 ? -1 : 31 - Math.clz32(m & -m);
}
