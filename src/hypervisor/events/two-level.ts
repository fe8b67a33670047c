/**
 * The 2-level ABI (public/xen.h, shared_info): a pending and a mask bit for each of 4096 ports, and for each vCPU a selector of 64 bits
 * that says which words of the pending array to look at.
 *
 * Rules: an event that is already pending changes nothing; a masked port becomes pending without a selector bit; the upcall is marked
 * only when the selector bit goes from 0 to 1.
 */
import { ENOSYS } from "../../abi/errno.js";
import { EVTCHN_2L_NR_CHANNELS } from "../../abi/event_channel.js";
import { shared_info, vcpu_info } from "../../abi/xen.js";
import type { Maddr, PhysMem } from "../../machine/memory.js";
import type { DomainEvents } from "./domain-events.js";
import type { EvtchnPortOps } from "./ops.js";
import type { VcpuEvents } from "./vcpu-events.js";

export class TwoLevelOps implements EvtchnPortOps {
  readonly name = "2-level" as const;
  readonly maxPorts = EVTCHN_2L_NR_CHANNELS;
  private readonly mem: PhysMem;
  private readonly pending: Maddr;
  private readonly mask: Maddr;

  constructor(private readonly events: DomainEvents) {
    this.mem = events.mem;
    this.pending = events.sharedInfo + shared_info.evtchn_pending;
    this.mask = events.sharedInfo + shared_info.evtchn_mask;
  }

  init(): void {}

  private select(v: VcpuEvents, port: number): void {
    if (v.infoMaddr < 0) return;
    const word = port >>> 6;
    const at = v.infoMaddr + vcpu_info.evtchn_pending_sel + (word >>> 5) * 4;
    const sel = this.mem.r32(at);
    const bit = 1 << (word & 31);
    if ((sel & bit) !== 0) return;
    this.mem.w32(at, sel | bit);
    v.markPending();
  }

  setPending(v: VcpuEvents, port: number): void {
    const at = this.pending + (port >>> 5) * 4;
    const bit = 1 << (port & 31);
    const old = this.mem.r32(at);
    if ((old & bit) !== 0) return;
    this.mem.w32(at, old | bit);
    if ((this.mem.r32(this.mask + (port >>> 5) * 4) & bit) === 0) this.select(v, port);
    this.events.checkPollers(port);
  }

  clearPending(port: number): void {
    const at = this.pending + (port >>> 5) * 4;
    this.mem.w32(at, this.mem.r32(at) & ~(1 << (port & 31)));
  }

  unmask(v: VcpuEvents, port: number): void {
    const at = this.mask + (port >>> 5) * 4;
    const bit = 1 << (port & 31);
    const old = this.mem.r32(at);
    if ((old & bit) === 0) return;
    this.mem.w32(at, old & ~bit);
    if (this.isPending(port)) this.select(v, port);
  }

  isPending(port: number): boolean {
    return (this.mem.r32(this.pending + (port >>> 5) * 4) & (1 << (port & 31))) !== 0;
  }

  isMasked(port: number): boolean {
    return (this.mem.r32(this.mask + (port >>> 5) * 4) & (1 << (port & 31))) !== 0;
  }

  isBusy(): boolean {
    return false;
  }

  setPriority(): number {
    return -ENOSYS;
  }
}
