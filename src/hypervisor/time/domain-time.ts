/**
 * A domain's wall clock (public/xen.h, shared_info wc_*): the Unix time at system time zero, plus the domain's own offset.
 * Rule: wc_version is odd while the fields change.
 */
import { shared_info } from "../../abi/xen.js";
import type { Domain } from "../domain.js";

export class DomainTime {
  /** XEN_DOMCTL_settimeoffset: seconds added to the wall clock. */
  offset = 0;
  /** Show the guest that its TSC is stable across vCPUs (ours is, always); a guest may then read the time without a hypercall. */
  tscStable = true;

  constructor(readonly domain: Domain) {}

  setOffset(seconds: number): void {
    this.offset = seconds;
    this.updateWallclock();
  }

  /** Write the wall clock; when the domain is made or resumed, and when the offset changes. */
  updateWallclock(): void {
    const base = this.domain.events.sharedInfo;
    if (base < 0) return;
    const { mem, clock } = this.domain.xen;
    const epoch = clock.epochStart;
    const whole = Math.floor(epoch / 1e9);
    const sec = whole + this.offset;
    const begin = (mem.r32(base + shared_info.wc_version) + 1) | 1;
    mem.w32(base + shared_info.wc_version, begin);
    mem.w32(base + shared_info.wc_sec, sec >>> 0);
    mem.w32(base + shared_info.wc_sec_hi, Math.floor(sec / 4294967296));
    mem.w32(base + shared_info.wc_nsec, epoch - whole * 1e9);
    mem.w32(base + shared_info.wc_version, begin + 1);
  }
}
