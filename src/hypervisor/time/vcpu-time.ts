/**
 * Time as one vCPU sees it: its vcpu_time_info (and the secondary copy it may register), its single-shot and periodic timers, and its run
 * state with the memory area that mirrors it.
 *
 * Rules: the version of a time record is odd while it changes; the parameters turn the TSC of `machine/clock.ts` into system time exactly;
 * the periodic timer runs only while the vCPU does and is made up for, once, when it runs again; areas named by virtual address are written
 * with the page tables that are loaded, and if they are not mapped there (a PV64 guest in user mode), at its next return to kernel mode.
 *
 * Who calls what: the scheduler `startRunning`/`stopRunning`; the run loop `beforeSave` (registers still loaded, state already changed)
 * and `afterLoad`; the switch to kernel mode `kernelEntered` if `areasStale`.
 */
import {
  VIRQ_TIMER,
  VMASST_TYPE_runstate_update_flag,
  vcpu_info,
  vcpu_time_info,
  XEN_PVCLOCK_TSC_STABLE_BIT,
} from "../../abi/xen.js";
import { vcpu_runstate_info } from "../../abi/vcpu.js";
import { TSC_KHZ, TSC_PER_NS } from "../../machine/clock.js";
import type { Va } from "../../machine/cpu/api.js";
import type { Vcpu } from "../vcpu.js";
import { writeArea } from "./guest-area.js";
import { Runstate } from "./runstate.js";
import { Timer } from "./timers.js";

/** ticks << shift (or >> −shift), times mul / 2^32 = ns: the normal form has mul with its top bit set and fewer than 2 × 10^9 ticks a second. */
export function timeScale(ticksPerSecond: number): { mul: number; shift: number } {
  let t = ticksPerSecond;
  let shift = 0;
  for (; t > 2e9; shift--) t = Math.floor(t / 2);
  for (; t <= 1e9; shift++) t *= 2;
  return { mul: Math.floor((1e9 * 4294967296) / t), shift };
}

const SCALE = timeScale(TSC_KHZ * 1000);

/** A non-negative number below 2^53 in two words. */
function put64(u32: Uint32Array, i: number, v: number): void {
  u32[i] = v;
  u32[i + 1] = Math.floor(v / 4294967296);
}

/** A PV vCPU ticks at 100 Hz until it says otherwise. */
const DEFAULT_PERIOD = 10e6;
/** Renew the time record of a vCPU that stays loaded at least this often. */
const REFRESH = 1e9;

export class VcpuTime {
  readonly runstate: Runstate;
  readonly singleshot: Timer;
  readonly periodic: Timer;
  /** Period in ns, 0 when stopped. */
  period = DEFAULT_PERIOD;
  private lastTick: number;

  /** Registered areas; 0 is none. */
  runstateArea: Va = 0;
  timeArea: Va = 0;
  /** An area could not be written when it should have been. */
  areasStale = false;
  private runstateStale = false;
  private timeStale = false;
  private stamp = -Infinity;
  /** Entry time of the run state that the registered area shows. */
  private shownEntry = -1;

  private readonly runstateBytes = new Uint8Array(vcpu_runstate_info.size);
  private readonly runstateView = new DataView(this.runstateBytes.buffer);
  private readonly timeBytes = new Uint8Array(vcpu_time_info.size);
  private readonly timeView = new DataView(this.timeBytes.buffer);

  constructor(readonly vcpu: Vcpu) {
    const now = vcpu.domain.xen.clock.now();
    this.runstate = new Runstate(now);
    this.lastTick = now;
    this.singleshot = new Timer(() => vcpu.events.sendVirq(VIRQ_TIMER));
    this.periodic = new Timer((t) => this.periodicWork(t));
  }

  // --- timers -------------------------------------------------------------------------------------------------------------------

  /** Fire VIRQ_TIMER at `deadline`, at once if that is past. */
  setSingleshot(deadline: number, now: number): void {
    const { timers } = this.vcpu.domain.xen;
    if (deadline <= now) {
      timers.stop(this.singleshot);
      this.vcpu.events.sendVirq(VIRQ_TIMER);
    } else timers.set(this.singleshot, deadline);
  }

  stopSingleshot(): void {
    this.vcpu.domain.xen.timers.stop(this.singleshot);
  }

  setPeriod(period: number, now: number): void {
    this.vcpu.domain.xen.timers.stop(this.periodic);
    this.period = period;
    if (period !== 0) this.periodicWork(now);
  }

  private periodicWork(now: number): void {
    if (this.period === 0) return;
    let next = this.lastTick + this.period;
    if (now >= next) {
      this.lastTick = now;
      next = now + this.period;
      this.vcpu.events.sendVirq(VIRQ_TIMER);
    }
    this.vcpu.domain.xen.timers.set(this.periodic, next);
  }

  /** The scheduler gave the vCPU a pCPU. */
  startRunning(now: number): void {
    if (this.period !== 0) this.periodicWork(now);
  }

  /** The scheduler took it away. */
  stopRunning(): void {
    if (this.periodic.active) this.vcpu.domain.xen.timers.stop(this.periodic);
  }

  /** The vCPU or its domain goes. */
  destroy(): void {
    const { timers } = this.vcpu.domain.xen;
    timers.stop(this.singleshot);
    timers.stop(this.periodic);
    this.period = 0;
    this.runstateArea = 0;
    this.timeArea = 0;
  }

  // --- time records -------------------------------------------------------------------------------------------------------------

  /** Write the vcpu_time_info, and its copy if the vCPU's page tables are loaded. */
  update(now: number): void {
    const v = this.vcpu;
    this.stamp = now;
    const flags = v.domain.time.tscStable ? XEN_PVCLOCK_TSC_STABLE_BIT : 0;
    const at = v.events.infoMaddr;
    if (at < 0) return;
    const { mem } = v.domain.xen;
    // The whole of it lies in one frame.
    const a = mem.forWrite(at + vcpu_info.time);
    const { u8, u32 } = mem;
    const version = (a + vcpu_time_info.version) >>> 2;
    const begin = ((u32[version] as number) + 1) | 1;
    u32[version] = begin;
    put64(u32, (a + vcpu_time_info.tsc_timestamp) >>> 2, now * TSC_PER_NS);
    put64(u32, (a + vcpu_time_info.system_time) >>> 2, now);
    u32[(a + vcpu_time_info.tsc_to_system_mul) >>> 2] = SCALE.mul;
    u8[a + vcpu_time_info.tsc_shift] = SCALE.shift;
    u8[a + vcpu_time_info.flags] = flags;
    u32[version] = begin + 1;
    if (this.timeArea !== 0) this.writeTimeArea();
  }

  /** The secondary copy: its version is odd in the first write, and made even by the last. */
  private writeTimeArea(): void {
    const v = this.vcpu;
    const { cpu, mem, current } = v.domain.xen;
    this.timeStale = true;
    if (current === v && v.events.infoMaddr >= 0) {
      const a = v.events.infoMaddr + vcpu_info.time;
      mem.readInto(a, this.timeBytes);
      const even = this.timeView.getUint32(vcpu_time_info.version, true);
      this.timeView.setUint32(vcpu_time_info.version, even - 1, true);
      if (writeArea(cpu, mem, this.timeArea, this.timeBytes)) {
        this.timeView.setUint32(vcpu_time_info.version, even, true);
        this.timeStale = !writeArea(cpu, mem, this.timeArea, this.timeBytes);
      }
    }
    this.areasStale = this.timeStale || this.runstateStale;
  }

  /** VCPUOP_register_vcpu_time_memory_area; 0 takes it away. */
  registerTimeArea(va: Va, now: number): void {
    this.timeArea = va;
    this.timeStale = false;
    this.areasStale = this.runstateStale;
    this.update(now);
  }

  // --- run state ----------------------------------------------------------------------------------------------------------------

  /** Mirror the run state into the registered area (the vCPU's page tables are loaded). */
  private writeRunstateArea(): void {
    const { cpu, mem } = this.vcpu.domain.xen;
    this.runstate.encode(this.runstateView);
    this.shownEntry = this.runstate.entryTime;
    const hi = vcpu_runstate_info.state_entry_time + 7;
    let ok: boolean;
    if ((this.vcpu.domain.vmAssist & (1 << VMASST_TYPE_runstate_update_flag)) !== 0) {
      // XEN_RUNSTATE_UPDATE (bit 63 of the entry time) is set while the rest changes.
      const top = this.runstateBytes[hi] as number;
      this.runstateBytes[hi] = top | 0x80;
      ok = writeArea(cpu, mem, this.runstateArea, this.runstateBytes);
      this.runstateBytes[hi] = top;
      ok = ok && writeArea(cpu, mem, this.runstateArea + hi, this.runstateBytes.subarray(hi, hi + 1));
    } else ok = writeArea(cpu, mem, this.runstateArea, this.runstateBytes);
    this.runstateStale = !ok;
    this.areasStale = this.timeStale || this.runstateStale;
  }

  /** VCPUOP_register_runstate_memory_area: written once with the caller's tables, whoever's area it is. */
  registerRunstateArea(va: Va, now: number): void {
    this.runstateArea = va;
    this.runstateStale = false;
    this.areasStale = this.timeStale;
    if (va === 0) return;
    if (this.vcpu.domain.xen.current === this.vcpu) this.writeRunstateArea();
    else {
      const { cpu, mem } = this.vcpu.domain.xen;
      this.runstate.encodeAt(this.runstateView, now);
      writeArea(cpu, mem, va, this.runstateBytes);
    }
  }

  /** Its registers and tables are still loaded and it no longer runs: show the state it left for. */
  beforeSave(): void {
    if (this.runstateArea !== 0) this.writeRunstateArea();
  }

  /** It has been loaded. */
  afterLoad(now: number): void {
    if (this.runstateArea !== 0) this.writeRunstateArea();
    this.update(now);
  }

  /** It runs again and was never unloaded: no other vCPU ran while it was blocked. */
  stillLoaded(now: number): void {
    if (this.runstateArea !== 0 && this.shownEntry !== this.runstate.entryTime) this.afterLoad(now);
  }

  /** For a vCPU that stays loaded: renew an old record. */
  refresh(now: number): void {
    if (now - this.stamp >= REFRESH) this.update(now);
  }

  /** A PV64 guest came back to kernel mode: write what could not be written before. */
  kernelEntered(): void {
    if (this.runstateStale && this.runstateArea !== 0) this.writeRunstateArea();
    if (this.timeStale && this.timeArea !== 0) this.writeTimeArea();
    this.areasStale = false;
  }
}
