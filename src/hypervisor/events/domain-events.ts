/**
 * A domain's event channels: the port table, the rules of binding and closing, delivery through the ABI in use, and ports whose events go
 * to JavaScript (back ends and services of the native domain 0).
 *
 * Invariants: two ports of state ECS_INTERDOMAIN always name each other; port 0 is reserved; a port below `validPorts` exists; host
 * callbacks run only from `drainHost`, never inside a hypercall, and once however often the port was raised before.
 *
 * The methods return a port or 0 for success and a negative errno otherwise, as EVTCHNOP_* do.
 */
import { EBUSY, EEXIST, EINVAL, ENOENT, ENOSPC, EOPNOTSUPP, EPERM, ESRCH } from "../../abi/errno.js";
import {
  EVTCHN_FIFO_PRIORITY_DEFAULT,
  EVTCHNSTAT_closed,
  EVTCHNSTAT_interdomain,
  EVTCHNSTAT_ipi,
  EVTCHNSTAT_pirq,
  EVTCHNSTAT_unbound,
  EVTCHNSTAT_virq,
} from "../../abi/event_channel.js";
import { DOMID_SELF, NR_VIRQS, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU } from "../../abi/xen.js";
import type { Maddr, PhysMem } from "../../machine/memory.js";
import type { Domain } from "../domain.js";
import { FifoOps } from "./fifo.js";
import { DomainFrames, type GuestFrames } from "./guest-frame.js";
import {
  ECS_FREE,
  ECS_INTERDOMAIN,
  ECS_IPI,
  ECS_PIRQ,
  ECS_RESERVED,
  ECS_UNBOUND,
  ECS_VIRQ,
  type EvtchnPortOps,
} from "./ops.js";
import { TwoLevelOps } from "./two-level.js";
import type { VcpuEvents } from "./vcpu-events.js";

/** Ports come into being in groups of this many; a port of a group that does not exist is −EINVAL instead of "closed". */
const BUCKET = 64;
/** xl's default for `max_event_channels`. */
export const DEFAULT_MAX_PORT = 1023;
/** PIRQ numbers a domain without physical devices may name: 24 GSIs and the 32 extra ones Xen gives a domU. */
const DEFAULT_PIRQS = 56;

export type HostHandler = (port: number) => void;

export interface DomainEventsOptions {
  /** Machine address of shared_info (default: `domain.mm`'s); −1 for a native domain, whose events all go to callbacks. */
  sharedInfo?: Maddr;
  frames?: GuestFrames;
  /** Highest port number the domain may have. */
  maxPort?: number;
  nrPirqs?: number;
}

export interface EvtchnStatus {
  status: number;
  vcpu: number;
  /** Remote domain (unbound, interdomain). */
  dom: number;
  /** Remote port, PIRQ or VIRQ. */
  value: number;
}

/** VIRQs that each vCPU has for itself; all others are the domain's, delivered through vCPU 0's binding. */
export function virqIsGlobal(virq: number): boolean {
  return virq !== VIRQ_TIMER && virq !== VIRQ_DEBUG && virq !== VIRQ_XENOPROF && virq !== VIRQ_XENPMU;
}

export class DomainEvents {
  readonly mem: PhysMem;
  readonly sharedInfo: Maddr;
  readonly frames: GuestFrames;
  readonly maxPort: number;
  readonly nrPirqs: number;

  // The port table, one entry per port.
  validPorts = 0;
  /** Bound ports (reserved port 0 excluded). */
  activePorts = 0;
  state = new Uint8Array(0);
  notifyVcpu = new Uint16Array(0);
  /** Unbound: who may bind; interdomain: the peer. */
  remoteDom = new Uint16Array(0);
  /** Interdomain: the peer's port; VIRQ, PIRQ: its number. */
  value = new Uint32Array(0);
  priority = new Uint8Array(0);
  lastVcpu = new Uint16Array(0);
  lastPriority = new Uint8Array(0);
  /** Raised before the FIFO array had a page for it. */
  savedPending = new Uint8Array(0);
  /** How often each port was raised since it was bound, for those who look on. */
  raised = new Uint32Array(0);

  ops: EvtchnPortOps;
  fifo: FifoOps | null = null;

  /** vCPUs of this domain in SCHEDOP_poll; kept by the scheduler. */
  pollers = 0;

  /** PIRQs this domain may bind (domctl irq_permission). */
  readonly pirqPermitted = new Set<number>();
  private readonly pirqPort = new Map<number, number>();

  private hostHandlers: (HostHandler | undefined)[] | null = null;
  private hostQueued = new Uint8Array(0);
  private hostQueue: number[] = [];
  private hostDraining: number[] = [];
  private dead = false;

  constructor(
    readonly domain: Domain,
    options: DomainEventsOptions = {},
  ) {
    this.mem = domain.xen.mem;
    this.sharedInfo = options.sharedInfo ?? (domain.native ? -1 : domain.mm.sharedInfo * 4096);
    this.frames = options.frames ?? new DomainFrames(domain);
    this.maxPort = options.maxPort ?? DEFAULT_MAX_PORT;
    this.nrPirqs = options.nrPirqs ?? DEFAULT_PIRQS;
    this.ops = new TwoLevelOps(this);
    this.grow();
    this.state[0] = ECS_RESERVED;
  }

  /** No guest behind these ports: every event goes to a callback. */
  get native(): boolean {
    return this.sharedInfo < 0;
  }

  // --- the table ----------------------------------------------------------------------------------------------------------------

  private grow(): void {
    this.validPorts += BUCKET;
    if (this.validPorts <= this.state.length) return;
    const n = Math.max(BUCKET, this.state.length * 2);
    this.state = copyInto(new Uint8Array(n), this.state);
    this.notifyVcpu = copyInto(new Uint16Array(n), this.notifyVcpu);
    this.remoteDom = copyInto(new Uint16Array(n), this.remoteDom);
    this.value = copyInto(new Uint32Array(n), this.value);
    this.priority = copyInto(new Uint8Array(n).fill(EVTCHN_FIFO_PRIORITY_DEFAULT), this.priority);
    this.lastVcpu = copyInto(new Uint16Array(n), this.lastVcpu);
    this.lastPriority = copyInto(new Uint8Array(n), this.lastPriority);
    this.savedPending = copyInto(new Uint8Array(n), this.savedPending);
    this.raised = copyInto(new Uint32Array(n), this.raised);
    this.hostQueued = copyInto(new Uint8Array(n), this.hostQueued);
  }

  private getFreePort(): number {
    if (this.dead || this.domain.dying) return -EINVAL;
    for (let port = 1; port <= this.maxPort && port < this.ops.maxPorts; port++) {
      if (port >= this.validPorts) this.grow();
      if (this.state[port] === ECS_FREE && !this.ops.isBusy(port)) return port;
    }
    return -ENOSPC;
  }

  private bind(port: number, state: number, vcpu: number, remoteDom: number, value: number): void {
    this.activePorts++;
    this.state[port] = state;
    this.notifyVcpu[port] = vcpu;
    this.remoteDom[port] = remoteDom;
    this.value[port] = value;
    this.savedPending[port] = 0;
    this.raised[port] = 0;
    this.ops.init(port);
  }

  private free(port: number): void {
    if (!this.native) this.ops.clearPending(port);
    this.activePorts--;
    this.state[port] = ECS_FREE;
    this.notifyVcpu[port] = 0;
    this.savedPending[port] = 0;
    if (this.hostHandlers !== null) this.hostHandlers[port] = undefined;
    this.hostQueued[port] = 0;
  }

  private isHostPort(port: number): boolean {
    return this.hostHandlers !== null && this.hostHandlers[port] !== undefined;
  }

  // --- delivery -----------------------------------------------------------------------------------------------------------------

  /** Make a bound port pending at the vCPU it notifies, or queue its callback. */
  raise(port: number): void {
    this.raised[port] = (this.raised[port] as number) + 1;
    if (this.isHostPort(port)) this.queueHost(port);
    else if (!this.native) {
      const v = this.domain.vcpus[this.notifyVcpu[port] as number];
      if (v !== undefined) this.ops.setPending(v.events, port);
    }
  }

  /** As `raise`, at a given vCPU (per-vCPU VIRQs). */
  raiseOn(v: VcpuEvents, port: number): void {
    this.raised[port] = (this.raised[port] as number) + 1;
    if (this.isHostPort(port)) this.queueHost(port);
    else this.ops.setPending(v, port);
  }

  /** Wake the vCPUs that poll this port (or an open list of ports). */
  checkPollers(port: number): void {
    if (this.pollers === 0) return;
    const scheduler = this.domain.xen.scheduler;
    for (const v of this.domain.vcpus) {
      const p = v.sched.pollPort;
      if (p !== 0 && (p < 0 || p === port)) scheduler.unblock(v.sched);
    }
  }

  /** For SCHEDOP_poll: 1 pending, 0 not, or a negative errno. */
  pollPort(port: number): number {
    if (port >= this.validPorts) return -EINVAL;
    return (this.state[port] as number) > ECS_RESERVED && !this.isHostPort(port) && this.ops.isPending(port) ? 1 : 0;
  }

  /** Raise a global VIRQ of this domain, wherever vCPU 0's binding was moved to. */
  sendGlobalVirq(virq: number): void {
    if (this.native) {
      const port = this.nativeVirq[virq];
      if (port) this.raise(port);
      return;
    }
    const port = this.domain.vcpus[0]?.events.virqPort[virq];
    if (port) this.raise(port);
  }

  sendPirq(pirq: number): void {
    const port = this.pirqPort.get(pirq);
    if (port !== undefined) this.raise(port);
  }

  /** After the event array grew: events raised before they had a word. */
  raiseSaved(from: number, to: number): void {
    for (let port = from; port < to && port < this.validPorts; port++) {
      if (this.savedPending[port] === 0) continue;
      this.savedPending[port] = 0;
      if ((this.state[port] as number) > ECS_RESERVED) this.raise(port);
    }
  }

  // --- EVTCHNOP_* ---------------------------------------------------------------------------------------------------------------

  allocUnbound(remoteDomid: number, callerDomid = this.domain.domid): number {
    const port = this.getFreePort();
    if (port < 0) return port;
    this.bind(port, ECS_UNBOUND, 0, remoteDomid === DOMID_SELF ? callerDomid : remoteDomid, 0);
    return port;
  }

  bindInterdomain(remoteDomid: number, remotePort: number): number {
    const self = this.domain.domid;
    const rd = remoteDomid === DOMID_SELF ? this.domain : this.domain.xen.domains.get(remoteDomid);
    if (rd === undefined) return -ESRCH;
    const remote = rd.events;
    const port = this.getFreePort();
    if (port < 0) return port;
    if (remotePort >= remote.validPorts) return -EINVAL;
    if (remote.state[remotePort] !== ECS_UNBOUND || remote.remoteDom[remotePort] !== self) return -EINVAL;
    this.bind(port, ECS_INTERDOMAIN, 0, rd.domid, remotePort);
    remote.state[remotePort] = ECS_INTERDOMAIN;
    remote.remoteDom[remotePort] = self;
    remote.value[remotePort] = port;
    // Sends of the peer before this were dropped: make up for them.
    this.raise(port);
    return port;
  }

  bindVirq(virq: number, vcpu: number): number {
    if (virq >= NR_VIRQS) return -EINVAL;
    if (virqIsGlobal(virq) && vcpu !== 0) return -EINVAL;
    const v = this.domain.vcpus[vcpu];
    if (v === undefined) return -ENOENT;
    if (v.events.virqPort[virq] !== 0) return -EEXIST;
    const port = this.getFreePort();
    if (port < 0) return port;
    this.bind(port, ECS_VIRQ, vcpu, 0, virq);
    v.events.virqPort[virq] = port;
    return port;
  }

  bindIpi(vcpu: number): number {
    if (this.domain.vcpus[vcpu] === undefined) return -ENOENT;
    const port = this.getFreePort();
    if (port < 0) return port;
    this.bind(port, ECS_IPI, vcpu, 0, 0);
    return port;
  }

  bindPirq(pirq: number): number {
    if (pirq >= this.nrPirqs) return -EINVAL;
    if (!this.pirqPermitted.has(pirq)) return -EPERM;
    if (this.pirqPort.has(pirq)) return -EEXIST;
    const port = this.getFreePort();
    if (port < 0) return port;
    this.bind(port, ECS_PIRQ, 0, 0, pirq);
    this.pirqPort.set(pirq, port);
    return port;
  }

  /** @param guest asked by the guest, which may not close a port that is the host's. */
  close(port: number, guest = true): number {
    if (port >= this.validPorts) return -EINVAL;
    if (guest && this.isHostPort(port)) return -EINVAL;
    switch (this.state[port]) {
      case ECS_UNBOUND:
      case ECS_IPI:
        break;
      case ECS_PIRQ:
        this.pirqPort.delete(this.value[port] as number);
        break;
      case ECS_VIRQ: {
        const virq = this.value[port] as number;
        if (this.native) this.nativeVirq[virq] = 0;
        else {
          const v = this.domain.vcpus[virqIsGlobal(virq) ? 0 : (this.notifyVcpu[port] as number)];
          if (v !== undefined) v.events.virqPort[virq] = 0;
        }
        break;
      }
      case ECS_INTERDOMAIN: {
        const remote = this.domain.xen.domains.get(this.remoteDom[port] as number)?.events;
        const remotePort = this.value[port] as number;
        this.free(port);
        if (remote !== undefined) {
          remote.state[remotePort] = ECS_UNBOUND;
          remote.remoteDom[remotePort] = this.domain.domid;
        }
        return 0;
      }
      default:
        return -EINVAL;
    }
    this.free(port);
    return 0;
  }

  send(port: number): number {
    if (port >= this.validPorts) return -EINVAL;
    switch (this.state[port]) {
      case ECS_INTERDOMAIN: {
        const rd = this.domain.xen.domains.get(this.remoteDom[port] as number);
        if (rd !== undefined) rd.events.raise(this.value[port] as number);
        return 0;
      }
      case ECS_IPI:
        this.raise(port);
        return 0;
      case ECS_UNBOUND:
        return 0; // nobody there yet: dropped
      default:
        return -EINVAL;
    }
  }

  status(port: number): EvtchnStatus | number {
    if (port >= this.validPorts) return -EINVAL;
    const vcpu = this.notifyVcpu[port] as number;
    const value = this.value[port] as number;
    const dom = this.remoteDom[port] as number;
    switch (this.state[port]) {
      case ECS_UNBOUND:
        return { status: EVTCHNSTAT_unbound, vcpu, dom, value: 0 };
      case ECS_INTERDOMAIN:
        return { status: EVTCHNSTAT_interdomain, vcpu, dom, value };
      case ECS_PIRQ:
        return { status: EVTCHNSTAT_pirq, vcpu, dom: 0, value };
      case ECS_VIRQ:
        return { status: EVTCHNSTAT_virq, vcpu, dom: 0, value };
      case ECS_IPI:
        return { status: EVTCHNSTAT_ipi, vcpu, dom: 0, value: 0 };
      default:
        return { status: EVTCHNSTAT_closed, vcpu, dom: 0, value: 0 };
    }
  }

  bindVcpu(port: number, vcpu: number): number {
    if (this.domain.vcpus[vcpu] === undefined) return -ENOENT;
    if (port >= this.validPorts || this.isHostPort(port)) return -EINVAL;
    switch (this.state[port]) {
      case ECS_VIRQ:
        if (!virqIsGlobal(this.value[port] as number)) return -EINVAL;
        break;
      case ECS_UNBOUND:
      case ECS_INTERDOMAIN:
      case ECS_PIRQ:
        break;
      default:
        return -EINVAL;
    }
    this.notifyVcpu[port] = vcpu;
    return 0;
  }

  unmask(port: number): number {
    if (port >= this.validPorts) return -EINVAL;
    if ((this.state[port] as number) > ECS_RESERVED && !this.isHostPort(port)) {
      const v = this.domain.vcpus[this.notifyVcpu[port] as number];
      if (v !== undefined) this.ops.unmask(v.events, port);
    }
    return 0;
  }

  /** EVTCHNOP_reset: close everything and return to the 2-level ABI. */
  reset(): number {
    for (let port = 1; port < this.validPorts && this.activePorts > 0; port++) this.close(port);
    if (this.fifo !== null) this.leaveFifo();
    return 0;
  }

  initControl(vcpu: number, gfnLo: number, gfnHi: number, offset: number): number {
    const bad = FifoOps.checkControl(this.domain.vcpus.length, vcpu, offset);
    if (bad !== 0) return bad;
    if (this.fifo !== null) return this.fifo.mapControl(vcpu, gfnLo, gfnHi, offset);
    const fifo = new FifoOps(this);
    const rc = fifo.mapControl(vcpu, gfnLo, gfnHi, offset);
    if (rc !== 0) return rc;
    // What is pending under the old ABI is kept until its page of the event array comes.
    for (let port = 1; port < this.validPorts; port++) {
      if ((this.state[port] as number) > ECS_RESERVED && this.ops.isPending(port)) this.savedPending[port] = 1;
      this.priority[port] = EVTCHN_FIFO_PRIORITY_DEFAULT;
      this.lastVcpu[port] = 0;
      this.lastPriority[port] = 0;
    }
    this.fifo = fifo;
    this.ops = fifo;
    return 0;
  }

  expandArray(gfnLo: number, gfnHi: number): number {
    return this.fifo === null ? -EOPNOTSUPP : this.fifo.expand(gfnLo, gfnHi);
  }

  setPriority(port: number, priority: number): number {
    if (port >= this.validPorts) return -EINVAL;
    return this.ops.setPriority(port, priority);
  }

  private leaveFifo(): void {
    this.fifo?.destroy();
    this.fifo = null;
    this.ops = new TwoLevelOps(this);
  }

  /** Domain death: every port closed, peers left unbound, pages given back. */
  destroy(): void {
    this.dead = true;
    for (let port = this.validPorts - 1; port > 0; port--) this.close(port, false);
    if (this.fifo !== null) this.leaveFifo();
    for (const v of this.domain.vcpus) v.events.unregister();
    this.hostQueue.length = 0;
  }

  // --- the host's side ----------------------------------------------------------------------------------------------------------

  /** VIRQ ports of a native domain, which has no vCPUs. */
  private readonly nativeVirq = new Uint32Array(NR_VIRQS);

  private setHost(port: number, onEvent: HostHandler): number {
    (this.hostHandlers ??= [])[port] = onEvent;
    return port;
  }

  /** A port in this domain that `remoteDomid` may bind; its events go to `onEvent`. */
  allocUnboundHost(remoteDomid: number, onEvent: HostHandler): number {
    const port = this.allocUnbound(remoteDomid);
    return port < 0 ? port : this.setHost(port, onEvent);
  }

  /** Bind to a port that another domain offers to this one. As for a guest, the new port starts with an event. */
  bindInterdomainHost(remote: Domain | number, remotePort: number, onEvent: HostHandler): number {
    const port = this.bindInterdomain(typeof remote === "number" ? remote : remote.domid, remotePort);
    if (port < 0) return port;
    this.setHost(port, onEvent);
    this.queueHost(port);
    return port;
  }

  /** Bind a global VIRQ of a native domain. */
  bindVirqHost(virq: number, onEvent: HostHandler): number {
    if (virq >= NR_VIRQS || !virqIsGlobal(virq)) return -EINVAL;
    if (!this.native) return -EINVAL;
    if (this.nativeVirq[virq] !== 0) return -EBUSY;
    const port = this.getFreePort();
    if (port < 0) return port;
    this.bind(port, ECS_VIRQ, 0, 0, virq);
    this.nativeVirq[virq] = port;
    return this.setHost(port, onEvent);
  }

  sendHost(port: number): number {
    return this.send(port);
  }

  closeHost(port: number): number {
    return this.close(port, false);
  }

  private queueHost(port: number): void {
    if (this.hostQueued[port] !== 0) return;
    this.hostQueued[port] = 1;
    this.hostQueue.push(port);
    this.domain.xen.cpu.requestAttention();
    this.domain.xen.stir();
  }

  /** Callbacks wait to be run. */
  get hostPending(): boolean {
    return this.hostQueue.length > 0;
  }

  /** Run the callbacks queued so far (what they raise waits for the next time); returns how many ran. */
  drainHost(): number {
    if (this.hostQueue.length === 0) return 0;
    const queue = this.hostQueue;
    this.hostQueue = this.hostDraining;
    this.hostDraining = queue;
    let ran = 0;
    try {
      for (; ran < queue.length;) {
        const port = queue[ran++] as number;
        if (this.hostQueued[port] === 0) continue; // closed meanwhile
        this.hostQueued[port] = 0;
        this.hostHandlers?.[port]?.(port);
      }
    } finally {
      // A callback that throws must not lose the others.
      for (let i = ran; i < queue.length; i++) this.hostQueue.push(queue[i] as number);
      queue.length = 0;
    }
    return ran;
  }
}

function copyInto<T extends Uint8Array | Uint16Array | Uint32Array>(to: T, from: T): T {
  to.set(from);
  return to;
}
