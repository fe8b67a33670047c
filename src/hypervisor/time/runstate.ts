/**
 * Run-state accounting of one vCPU (public/vcpu.h, vcpu_runstate_info): in which state it is, since when, and how long it has been in each.
 *
 * Invariant: the four counters plus the time in the present state add up to the time since creation.
 */
import { RUNSTATE_offline, vcpu_runstate_info } from "../../abi/vcpu.js";

export class Runstate {
  state: number = RUNSTATE_offline;
  entryTime: number;
  readonly time = new Float64Array(4);
  constructor(now: number) {
    this.entryTime = now;
  }

  change(state: number, now: number): void {
    if (state === this.state) return;
    const spent = now - this.entryTime;
    if (spent > 0) {
      this.time[this.state] = (this.time[this.state] as number) + spent;
      this.entryTime = now;
    }
    this.state = state;
  }

  /** Time spent in a state, the present one counted up to `now`. */
  spent(state: number, now: number): number {
    return (this.time[state] as number) + (state === this.state ? Math.max(0, now - this.entryTime) : 0);
  }

  /** The guest's layout as of the last change. */
  encode(view: DataView): void {
    view.setInt32(vcpu_runstate_info.state, this.state, true);
    view.setInt32(4, 0, true);
    put64(view, vcpu_runstate_info.state_entry_time, this.entryTime);
    for (let i = 0; i < 4; i++) put64(view, vcpu_runstate_info.time + 8 * i, this.time[i] as number);
  }

  /** As `encode`, with the present state's counter brought up to `now` (VCPUOP_get_runstate_info). */
  encodeAt(view: DataView, now: number): void {
    this.encode(view);
    put64(view, vcpu_runstate_info.time + 8 * this.state, this.spent(this.state, now));
  }
}

function put64(view: DataView, at: number, v: number): void {
  view.setUint32(at, v >>> 0, true);
  view.setUint32(at + 4, Math.floor(v / 4294967296) >>> 0, true);
}
