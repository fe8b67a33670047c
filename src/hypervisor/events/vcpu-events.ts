/**
 * Events as one vCPU sees them: where its vcpu_info is, whether an upcall is pending and allowed, and which ports its VIRQs are bound to.
 *
 * Invariants: `infoMaddr` is the machine address of the live vcpu_info (−1: a vCPU above 31 that has not registered one yet; its events are
 * lost, as on Xen's dummy page); an upcall that becomes pending ends blocking and polling.
 */
import { EINVAL, ENXIO } from "../../abi/errno.js";
import { NR_VIRQS, shared_info, vcpu_info } from "../../abi/xen.js";
import type { Maddr, PhysMem } from "../../machine/memory.js";
import type { Vcpu } from "../vcpu.js";

/** vcpu_info structures in shared_info (XEN_LEGACY_MAX_VCPUS). */
const LEGACY_MAX_VCPUS = 32;

export class VcpuEvents {
  readonly id: number;
  readonly mem: PhysMem;
  infoMaddr: Maddr;
  /** A vcpu_info was registered (VCPUOP_register_vcpu_info). */
  registered = false;
  /** Port of each VIRQ, 0 when not bound. */
  readonly virqPort = new Uint32Array(NR_VIRQS);

  /** The domain's `events` must exist. */
  constructor(readonly vcpu: Vcpu) {
    this.id = vcpu.id;
    this.mem = vcpu.domain.xen.mem;
    this.infoMaddr = this.legacyInfo();
  }

  /** The place in shared_info, −1 where there is none. */
  private legacyInfo(): Maddr {
    const shared = this.vcpu.domain.events.sharedInfo;
    return shared >= 0 && this.id < LEGACY_MAX_VCPUS ? shared + shared_info.vcpu_info + this.id * vcpu_info.size : -1;
  }

  get pending(): boolean {
    return this.infoMaddr >= 0 && this.mem.r8(this.infoMaddr + vcpu_info.evtchn_upcall_pending) !== 0;
  }
  get masked(): boolean {
    return this.infoMaddr < 0 || this.mem.r8(this.infoMaddr + vcpu_info.evtchn_upcall_mask) !== 0;
  }
  /** Set the upcall mask; `true` holds upcalls back. */
  setMasked(on: boolean): void {
    if (this.infoMaddr >= 0) this.mem.w8(this.infoMaddr + vcpu_info.evtchn_upcall_mask, on ? 1 : 0);
  }
  setPendingFlag(on: boolean): void {
    if (this.infoMaddr >= 0) this.mem.w8(this.infoMaddr + vcpu_info.evtchn_upcall_pending, on ? 1 : 0);
  }

  /** An upcall is due. */
  deliverable(): boolean {
    const a = this.infoMaddr;
    if (a < 0) return false;
    const { mem } = this;
    return mem.r8(a + vcpu_info.evtchn_upcall_pending) !== 0 && mem.r8(a + vcpu_info.evtchn_upcall_mask) === 0;
  }

  /** Something is pending for this vCPU: set the flag and, if it was clear, end its wait. */
  markPending(): void {
    const a = this.infoMaddr;
    if (a < 0 || this.mem.r8(a + vcpu_info.evtchn_upcall_pending) !== 0) return;
    this.mem.w8(a + vcpu_info.evtchn_upcall_pending, 1);
    this.kick();
  }

  /** End a block or poll (an event, an NMI). */
  kick(): void {
    const v = this.vcpu;
    if (v.sched.blocked) v.domain.xen.scheduler.unblock(v.sched);
  }

  /** Raise a per-vCPU VIRQ. */
  sendVirq(virq: number): void {
    const port = this.virqPort[virq];
    if (port) this.vcpu.domain.events.raiseOn(this, port);
  }

  /**
   * VCPUOP_register_vcpu_info: move the vcpu_info to a page of the guest, once. Everything is marked pending afterwards, because events
   * may have been posted to the old place; the guest copes with a spurious upcall.
   */
  register(gfnLo: number, gfnHi: number, offset: number): number {
    if (offset > 4096 - vcpu_info.size) return -EINVAL;
    if (this.registered) return -EINVAL;
    const xen = this.vcpu.domain.xen;
    if (this.vcpu.up && this.vcpu !== xen.current) return -EINVAL;
    if ((offset & 7) !== 0) return -ENXIO;
    const page = this.vcpu.domain.events.frames.getWritable(gfnLo, gfnHi);
    if (page < 0) return page;
    const to = page + offset;
    if (this.infoMaddr >= 0) this.mem.write(to, this.mem.read(this.infoMaddr, vcpu_info.size));
    else {
      this.mem.fill(to, 0, vcpu_info.size);
      this.mem.w8(to + vcpu_info.evtchn_upcall_mask, 1);
    }
    this.infoMaddr = to;
    this.registered = true;
    this.mem.w64(to + vcpu_info.evtchn_pending_sel, 0xffffffff, 0xffffffff);
    this.markPending();
    return 0;
  }

  /** Give the registered page back and return to shared_info (domain destruction, soft reset). */
  unregister(): void {
    if (!this.registered) return;
    this.registered = false;
    this.vcpu.domain.events.frames.putWritable(this.infoMaddr - (this.infoMaddr % 4096));
    this.infoMaddr = this.legacyInfo();
  }
}
