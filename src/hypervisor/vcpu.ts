/**
 * A virtual CPU. Rooms own the sub-objects; this file only ties them together.
 *
 * Invariant: registers live in `ctx` unless this vCPU is the one loaded on the machine's CPU (`xen.current === this`).
 */
import type { CpuContext } from "../machine/cpu/api.js";
import type { Domain } from "./domain.js";
import type { VcpuEvents } from "./events/vcpu-events.js";
import type { VcpuTime } from "./time/vcpu-time.js";
import { VcpuTraps } from "./traps/vcpu-traps.js";
import type { VcpuMm } from "./memory/vcpu-mm.js";
import type { SchedUnit } from "./scheduler/interface.js";

export class Vcpu {
  /** Brought up (VCPUOP_up or the builder) and not taken down. */
  up = false;
  /** VCPUOP_initialise has been done. */
  initialised = false;
  /** PV64: the guest kernel (true) or its user mode is running. */
  kernelMode = true;
  readonly traps = new VcpuTraps();
  events!: VcpuEvents;
  time!: VcpuTime;
  mm!: VcpuMm;
  sched!: SchedUnit;
  constructor(
    readonly domain: Domain,
    readonly id: number,
    readonly ctx: CpuContext,
  ) {}
  /** `d1v0`, as Xen's log names it. */
  get label(): string {
    return `d${this.domain.domid}v${this.id}`;
  }
}
