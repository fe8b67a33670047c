/**
 * The FIFO ABI (public/event_channel.h, "FIFO ABI"; design by D. Vrabel): one 32-bit word per port in event array pages of the guest,
 * and per vCPU a control block with sixteen queue heads and a bitmap of queues that are not empty.
 *
 * Rules kept here:
 *  - the hypervisor appends at the tail, the guest removes at the head; the tail is known only to the hypervisor;
 *  - an event is linked when it is pending, not masked and not yet linked;
 *  - a queue is empty when its tail's word is no longer LINKED; then the head is written, else the tail's LINK field (which clears BUSY);
 *  - only a new head sets the READY bit, and only READY going from 0 to 1 marks the upcall;
 *  - a port that moved (vCPU or priority) while it was the tail of its old queue invalidates that tail.
 * A guest may at any time set or clear MASKED, clear PENDING, clear LINKED with LINK. Everything runs on one thread, so plain reads and
 * writes are atomic. The hypervisor never follows a LINK: garbage in the words harms only the guest that wrote it.
 */
import { EINVAL, ENOENT, ENOSPC } from "../../abi/errno.js";
import {
  EVTCHN_FIFO_BUSY,
  EVTCHN_FIFO_LINK_MASK,
  EVTCHN_FIFO_LINKED,
  EVTCHN_FIFO_MASKED,
  EVTCHN_FIFO_MAX_QUEUES,
  EVTCHN_FIFO_NR_CHANNELS,
  EVTCHN_FIFO_PENDING,
  EVTCHN_FIFO_PRIORITY_DEFAULT,
  EVTCHN_FIFO_PRIORITY_MIN,
  evtchn_fifo_control_block,
} from "../../abi/event_channel.js";
import type { Maddr, PhysMem } from "../../machine/memory.js";
import type { DomainEvents } from "./domain-events.js";
import type { EvtchnPortOps } from "./ops.js";
import type { VcpuEvents } from "./vcpu-events.js";

const PENDING = 1 << EVTCHN_FIFO_PENDING;
const MASKED = 1 << EVTCHN_FIFO_MASKED;
const LINKED = 1 << EVTCHN_FIFO_LINKED;
const BUSY = 1 << EVTCHN_FIFO_BUSY;

const WORDS_PER_PAGE = 1024;
const MAX_PAGES = EVTCHN_FIFO_NR_CHANNELS / WORDS_PER_PAGE;

/** The queues of one vCPU. */
export class FifoVcpu {
  /** Machine address of the control block, −1 until EVTCHNOP_init_control. */
  control: Maddr = -1;
  /** Last event appended to each queue, 0 when unknown or none. */
  readonly tail = new Uint32Array(EVTCHN_FIFO_MAX_QUEUES);
}

export class FifoOps implements EvtchnPortOps {
  readonly name = "fifo" as const;
  readonly maxPorts = EVTCHN_FIFO_NR_CHANNELS;
  private readonly mem: PhysMem;
  /** Machine addresses of the event array's pages. */
  readonly pages: Maddr[] = [];
  readonly vcpus: FifoVcpu[] = [];

  constructor(private readonly events: DomainEvents) {
    this.mem = events.mem;
  }

  private vcpu(id: number): FifoVcpu {
    return (this.vcpus[id] ??= new FifoVcpu());
  }

  /** Machine address of the port's word, −1 when its page is not there yet. */
  word(port: number): Maddr {
    const page = port >>> 10;
    return page < this.pages.length ? (this.pages[page] as number) + (port & 1023) * 4 : -1;
  }

  init(port: number): void {
    this.events.priority[port] = EVTCHN_FIFO_PRIORITY_DEFAULT;
  }

  setPending(v: VcpuEvents, port: number): void {
    const ev = this.events;
    const mem = this.mem;
    const at = this.word(port);
    if (at < 0) {
      // Kept until EVTCHNOP_expand_array brings the page.
      ev.savedPending[port] = 1;
      return;
    }
    const fv = this.vcpu(v.id);
    // Without a control block the event is lost; a guest may not unmask before it has given one.
    if (fv.control < 0) return;
    const old = mem.r32(at) | 0;
    let now = old | PENDING;
    let newHead = false;
    const q = ev.priority[port] as number;
    const link = (old & (MASKED | LINKED)) === 0;
    if (link) now |= LINKED;
    if (now !== old) mem.w32(at, now);
    if (link) {
      const oldV = this.vcpu(ev.lastVcpu[port] as number);
      const oldQ = ev.lastPriority[port] as number;
      if (oldV.tail[oldQ] === port) oldV.tail[oldQ] = 0;
      ev.lastVcpu[port] = v.id;
      ev.lastPriority[port] = q;
      const tail = fv.tail[q] as number;
      if (tail === 0 || !this.setLink(tail, port)) {
        mem.w32(fv.control + evtchn_fifo_control_block.head + 4 * q, port);
        newHead = true;
      }
      fv.tail[q] = port;
    }
    if (newHead) {
      const ready = mem.r32(fv.control + evtchn_fifo_control_block.ready);
      if ((ready & (1 << q)) === 0) {
        mem.w32(fv.control + evtchn_fifo_control_block.ready, ready | (1 << q));
        v.markPending();
      }
    }
    if ((old & PENDING) === 0) ev.checkPollers(port);
  }

  /** Point a tail's word at the next event, if it is still linked; BUSY goes with it. */
  private setLink(tail: number, port: number): boolean {
    const at = this.word(tail);
    if (at < 0) return false;
    const w = this.mem.r32(at);
    if ((w & LINKED) === 0) return false;
    this.mem.w32(at, (w & ~(BUSY | EVTCHN_FIFO_LINK_MASK)) | port);
    return true;
  }

  clearPending(port: number): void {
    this.events.savedPending[port] = 0;
    const at = this.word(port);
    // It stays linked: the guest unlinks it and ignores what is not pending.
    if (at >= 0) this.mem.w32(at, this.mem.r32(at) & ~PENDING);
  }

  unmask(v: VcpuEvents, port: number): void {
    const at = this.word(port);
    if (at < 0) return;
    const w = this.mem.r32(at);
    if ((w & MASKED) !== 0) this.mem.w32(at, w & ~MASKED);
    if ((w & PENDING) !== 0) this.setPending(v, port);
  }

  isPending(port: number): boolean {
    const at = this.word(port);
    return at >= 0 && (this.mem.r32(at) & PENDING) !== 0;
  }

  isMasked(port: number): boolean {
    const at = this.word(port);
    return at < 0 || (this.mem.r32(at) & MASKED) !== 0;
  }

  isBusy(port: number): boolean {
    const at = this.word(port);
    return at >= 0 && (this.mem.r32(at) & LINKED) !== 0;
  }

  setPriority(port: number, priority: number): number {
    if (priority > EVTCHN_FIFO_PRIORITY_MIN) return -EINVAL;
    // For the events to come; one already linked stays where it is.
    this.events.priority[port] = priority;
    return 0;
  }

  // --- set-up -------------------------------------------------------------------------------------------------------------------

  /** EVTCHNOP_init_control's checks of its arguments, before any page is taken. */
  static checkControl(vcpus: number, vcpu: number, offset: number): number {
    if (vcpu >= vcpus) return -ENOENT;
    if (offset > 4096 - evtchn_fifo_control_block.size || (offset & 7) !== 0) return -EINVAL;
    return 0;
  }

  mapControl(vcpu: number, gfnLo: number, gfnHi: number, offset: number): number {
    const fv = this.vcpu(vcpu);
    if (fv.control >= 0) return -EINVAL;
    const page = this.events.frames.getWritable(gfnLo, gfnHi);
    if (page < 0) return page;
    fv.control = page + offset;
    return 0;
  }

  expand(gfnLo: number, gfnHi: number): number {
    if (this.pages.length >= MAX_PAGES) return -ENOSPC;
    const page = this.events.frames.getWritable(gfnLo, gfnHi);
    if (page < 0) return page;
    const first = this.pages.length * WORDS_PER_PAGE;
    this.pages.push(page);
    this.events.raiseSaved(first, first + WORDS_PER_PAGE);
    return 0;
  }

  destroy(): void {
    for (const fv of this.vcpus) {
      if (fv === undefined || fv.control < 0) continue;
      this.events.frames.putWritable(fv.control - (fv.control % 4096));
      fv.control = -1;
    }
    for (const p of this.pages) this.events.frames.putWritable(p);
    this.pages.length = 0;
    this.vcpus.length = 0;
  }
}
