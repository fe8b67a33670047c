/**
 * The smallest useful scheduler, for reading (the book's chapter 12, exercise 4): one queue for all pCPUs, everyone gets a turn of 10 ms,
 * and who has had it goes to the end. No weights, no guarantees.
 *
 * Invariant: `queue` holds exactly the units that can run and have no pCPU.
 */
import { EINVAL } from "../../abi/errno.js";
import type { Domain } from "../domain.js";
import { firstCpu, type SchedParams, type SchedulerHost, type SchedulerPolicy, type SchedUnit } from "./interface.js";

const TURN = 10e6;

export class TrivialScheduler implements SchedulerPolicy {
  readonly name = "Trivial Round-Robin Scheduler";
  readonly optName = "trivial";
  private host!: SchedulerHost;
  private readonly queue: SchedUnit[] = [];
  private readonly answer = { unit: null as SchedUnit | null, time: -1 };

  init(host: SchedulerHost): void {
    this.host = host;
  }
  deinit(): void {}
  initDomain(): void {}
  destroyDomain(): void {}
  initVcpu(): void {}

  destroyVcpu(unit: SchedUnit): void {
    this.remove(unit);
  }

  wake(unit: SchedUnit): void {
    if (unit.running || this.queue.includes(unit)) return;
    this.queue.push(unit);
    for (let p = 0; p < this.host.pcpus; p++)
      if ((this.host.mask & (1 << p)) !== 0 && this.host.current(p) === null) this.host.tickle(p);
  }

  sleep(unit: SchedUnit): void {
    if (unit.running) this.host.tickle(unit.processor);
    else this.remove(unit);
  }

  yield(): void {}

  doSchedule(pcpu: number): { unit: SchedUnit | null; time: number } {
    const present = this.host.current(pcpu);
    if (present !== null && this.host.runnable(present)) this.queue.push(present);
    const next = this.queue.findIndex((u) => (u.hardAffinity & (1 << pcpu)) !== 0);
    this.answer.unit = next < 0 ? null : (this.queue.splice(next, 1)[0] as SchedUnit);
    this.answer.time = next < 0 ? -1 : TURN;
    return this.answer;
  }

  pickCpu(unit: SchedUnit): number {
    return Math.max(0, firstCpu(unit.hardAffinity & this.host.mask, this.host.pcpus));
  }

  adjust(_domain: Domain, params: SchedParams | null): SchedParams | number {
    return params === null ? {} : -EINVAL;
  }

  dumpSettings(): string {
    return `${this.optName}: turn ${TURN / 1e6} ms`;
  }
  dumpCpuState(pcpu: number): string {
    const u = this.host.current(pcpu);
    return `cpu ${pcpu}: ${u === null ? "idle" : `d${u.vcpu.domain.domid}v${u.vcpu.id}`}, ${this.queue.length} waiting`;
  }

  private remove(unit: SchedUnit): void {
    const i = this.queue.indexOf(unit);
    if (i >= 0) this.queue.splice(i, 1);
  }
}
