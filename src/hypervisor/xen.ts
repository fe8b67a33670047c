/**
 * The hypervisor instance: its domains, frame table, scheduler, clock and run loop.
 *
 * The run loop takes the pCPUs in turn on one host thread. A pCPU's vCPU runs for a grain (an instruction budget, shorter when a
 * timer is nearer), exits are handled in between; host callbacks of native domains run between grains and right after the
 * hypercall that raised them. Invariants: `current` is the vCPU whose registers are on the CPU; no guest code runs while host code does.
 */
import { SHUTDOWN_poweroff } from "../abi/sched.js";
import { shared_info, vcpu_info, VIRQ_DOM_EXC } from "../abi/xen.js";
import type { Clock } from "../machine/clock.js";
import type { CpuApi } from "../machine/cpu/api.js";
import { Exit } from "../machine/cpu/exits.js";
import { CS } from "../machine/cpu/insn.js";
import type { PhysMem } from "../machine/memory.js";
import { PV_COST, TSC_AUX } from "../machine/layout.js";
import { XenConsole } from "./console.js";
import { Counters } from "./counters.js";
import { Domain } from "./domain.js";
import { DomainEvents } from "./events/domain-events.js";
import { VcpuEvents } from "./events/vcpu-events.js";
import { GrantTable, type GrantLimits } from "./grants/grant-table.js";
import { GuestAccess } from "./guest-access.js";
import type { Handler } from "./hypercalls/call.js";
import { type ArgCall, RegCall } from "./hypercalls/reg-call.js";
import { handlerTable } from "./hypercalls/table.js";
import { DomainMemory } from "./memory/domain-memory.js";
import { FrameTable } from "./memory/frame-table.js";
import { VcpuMm } from "./memory/vcpu-mm.js";
import { createScheduler } from "./scheduler/index.js";
import type { Scheduler } from "./scheduler/interface.js";
import { DomainTime } from "./time/domain-time.js";
import { Timers } from "./time/timers.js";
import { VcpuTime } from "./time/vcpu-time.js";
import { Trace } from "./trace.js";
import { CpuidPolicy, type CpuidOptions } from "./traps/cpuid-policy.js";
import { PrivopCache } from "./traps/emulate-privop.js";
import { onException, onHlt, onInt, onSyscall, onSysenter } from "./traps/exits.js";
import { fault, loadCode, loadSegment } from "./traps/load-segments.js";
import { reloadSegments } from "./traps/failsafe.js";
import { injectException } from "./traps/inject.js";
import { FastTransitions } from "./traps/fast.js";
import { deliverPending } from "./traps/upcall.js";
import { Vcpu } from "./vcpu.js";

/** Instructions of one visit when several pCPUs have work (about 50 µs), and when one has. */
const GRAIN_SHARED = 20_000;
const GRAIN_ALONE = 200_000;
/** What one exit counts against the grain, and one transition inside the core. */
const EXIT_COST = PV_COST;
/** General protection. */
const GP = 13;
/** XEN_LEGACY_MAX_VCPUS: vcpu_info structures in the shared info page. */
const LEGACY_VCPUS = 32;
/** Domain numbers a toolstack may use. */
const FIRST_DOMID = 1;
const DOMID_LIMIT = 0x7ff0;

export interface XenOptions {
  /** Scheduler by name (`sched=`). */
  readonly scheduler?: string;
  /** What `xl info` shows as xen_commandline. */
  readonly commandLine?: string;
  /** Show what unprivileged guests write with console_io (default: yes). */
  readonly guestConsole?: boolean;
  /** The CPU's budgets are exact and time is virtual: host input enters at rounds that are counted, and the machine can stand still anywhere. */
  readonly exact?: boolean;
  /** Let the core carry out the commonest transitions (traps/fast.ts) where nobody could tell; default: yes. */
  readonly fastTransitions?: boolean;
  /** Host milliseconds, for the length of a slice. */
  readonly hostNow?: () => number;
}

/** A vCPU's turn on a pCPU that was interrupted. */
interface Visit {
  readonly v: Vcpu;
  readonly pcpu: number;
  readonly start: number;
  readonly grain: number;
  /** What is left of its budget, and when it should have ended. */
  readonly left: number;
  readonly end: number;
  /** Between two instructions, and not after an exit: nothing is looked at before it goes on. */
  readonly middle: boolean;
}

export interface DomainConfig {
  /** Chosen by the hypervisor if absent. */
  readonly domid?: number;
  readonly uuid: string;
  readonly name: string;
  readonly maxVcpus: number;
  /** Reservation in pages. */
  readonly maxPages: number;
  readonly privileged?: boolean;
  /** No guest: this process does the domain's work. */
  readonly native?: boolean;
  readonly cpuid?: CpuidOptions;
  /** Highest event channel. */
  readonly maxPort?: number;
  /** Size and version of its grant table. */
  readonly grantLimits?: GrantLimits;
}

/** How the CPU asks for a segment load that guest code executes; false: `exit.vector` and `exit.errorCode` say which fault. */
export type SegmentHook = (sreg: number, selector: number) => boolean;

export class Xen {
  readonly trace = new Trace();
  readonly console = new XenConsole();
  readonly counters = new Counters();
  readonly domains = new Map<number, Domain>();
  /** The vCPU whose registers are loaded on the machine's CPU. */
  current: Vcpu | null = null;
  frames: FrameTable;
  scheduler: Scheduler;
  readonly timers = new Timers();
  readonly guest: GuestAccess;
  /** Hypercall handlers by number. */
  readonly handlers: (Handler | null)[];
  /** The register-based call, reused. */
  readonly call: RegCall;
  /** Entries of the multicall in progress. */
  multicallEntry: ArgCall | null = null;
  readonly privops = new PrivopCache();
  readonly commandLine: string;
  readonly guestConsole: boolean;
  /** Host operations whose completion the machine waits for: virtual time does not jump while there are any. */
  hostBusy = 0;

  /** Told when there is something to run and no slice is under way: whoever sleeps between slices should not. */
  onStir: () => void = () => {};
  private inSlice = false;

  readonly exact: boolean;
  /** Exact mode: rounds of work done so far, and who is told of each before it begins, to bring host input. */
  rounds = 0;
  onRound: ((round: number) => void) | null = null;
  /** Exact mode: freeze once so many instructions have been retired by all (`cpu.retired`). */
  freezeAt = Infinity;
  private visit: Visit | null = null;
  private thawed = false;

  private readonly fast: FastTransitions;
  private readonly hostNow: () => number;
  private readonly shutdownSinks = new Set<(domain: Domain, code: number) => void>();
  private readonly natives: Domain[] = [];
  private nextDomid = FIRST_DOMID;
  /** Host time at which the present slice ends. */
  private sliceEnd = 0;
  /** Clock time by which the present grain should have ended. */
  private grainEnd = Infinity;
  /** Measured instructions per nanosecond of real time. */
  private rate = 0.1;
  /** How often the hypercall in progress has asked. */
  preemptPolls = 0;
  private readonly posted: (() => void)[] = [];

  constructor(
    readonly mem: PhysMem,
    readonly cpu: CpuApi,
    readonly clock: Clock,
    /** Number of physical CPUs presented. */
    readonly pcpus: number,
    options: XenOptions = {},
  ) {
    this.hostNow = options.hostNow ?? Date.now;
    this.exact = options.exact ?? false;
    this.fast = new FastTransitions(this, (options.fastTransitions ?? true) && !this.exact && !clock.virtual);
    this.commandLine = options.commandLine ?? "";
    this.guestConsole = options.guestConsole ?? true;
    this.guest = new GuestAccess(cpu, mem);
    this.frames = new FrameTable(mem, cpu);
    // A guest that overwrites the entry of a grant it maps has lost it: #GP, as Xen does, so that the mistake is seen where it happens.
    this.frames.types.onGrantEntryLost = (owner) => {
      const v = this.current;
      if (v !== null && v.domain.mm.id === owner && !v.domain.shuttingDown) injectException(v, GP, 0);
    };
    // Between grains, when the registers that the log shows are all in their places.
    this.frames.sharing.onExhausted = (owner) => {
      this.post(() => {
        for (const d of this.domains.values())
          if (d.mm?.id === owner) d.crash("no memory left for a page of its own where it writes a shared one");
      });
    };
    this.timers.onEarlier = () => this.stir();
    this.scheduler = createScheduler(this, options.scheduler);
    this.handlers = handlerTable();
    this.call = new RegCall(this);
    cpu.cpuid = (leaf, subleaf) =>
      this.current === null ? [0, 0, 0, 0] : this.current.domain.cpuid.query(leaf, subleaf);
    (cpu as CpuApi & { loadSegment?: SegmentHook }).loadSegment = (sreg, selector) => {
      const v = this.current;
      if (v !== null && (sreg === CS ? loadCode(v, selector) !== 0 : loadSegment(v, sreg, selector))) return true;
      cpu.exit.vector = fault.vector;
      cpu.exit.errorCode = fault.error;
      return false;
    };
  }

  // --- domains ------------------------------------------------------------------------------------------------------------------

  /**
   * Make a domain with all its parts, paused once and with no vCPU up: the builder fills memory, sets the roots
   * (`domain.mm.finishBuild`), calls `initVcpuPv64` and unpauses. Throws where the machine has no room or the number is taken.
   */
  createDomain(config: DomainConfig): Domain {
    const domid = config.domid ?? this.freeDomid();
    if (this.domains.has(domid)) throw new Error(`domain ${domid} exists`);
    const d = new Domain(this, domid, config.uuid, config.name, config.maxVcpus);
    d.privileged = config.privileged ?? false;
    d.native = config.native ?? false;
    d.pauseCount = d.native ? 0 : 1;
    d.cpuid = new CpuidPolicy(config.cpuid);
    d.mm = new DomainMemory(this, d, config.maxPages);
    d.grants = new GrantTable(d, config.grantLimits);
    d.events = new DomainEvents(d, config.maxPort === undefined ? {} : { maxPort: config.maxPort });
    d.time = new DomainTime(d);
    this.domains.set(domid, d);
    this.scheduler.initDomain(d);
    const shared = d.events.sharedInfo;
    if (!d.native) {
      for (let i = 0; i < LEGACY_VCPUS; i++)
        this.mem.w8(shared + shared_info.vcpu_info + i * vcpu_info.size + vcpu_info.evtchn_upcall_mask, 1);
      for (let i = 0; i < config.maxVcpus; i++) {
        const v = new Vcpu(d, i, this.cpu.newContext());
        d.vcpus.push(v);
        v.events = new VcpuEvents(v);
        v.mm = new VcpuMm(this, v);
        v.time = new VcpuTime(v);
        v.sched = this.scheduler.initVcpu(v);
      }
      d.time.updateWallclock();
    } else this.natives.push(d);
    return d;
  }

  /** End a domain and take everything back. Its frames that others still map remain until they let go. */
  destroyDomain(d: Domain): void {
    if (d.dying) return;
    d.dying = true;
    for (const v of d.vcpus) this.scheduler.destroyVcpu(v.sched);
    this.scheduler.destroyDomain(d);
    d.events.destroy();
    d.runCleanups();
    d.mm.relinquish();
    if (this.current !== null && this.current.domain === d) this.current = null;
    this.domains.delete(d.domid);
    const i = this.natives.indexOf(d);
    if (i >= 0) this.natives.splice(i, 1);
    this.console.flush(d.domid);
  }

  private freeDomid(): number {
    for (let n = 0; n < DOMID_LIMIT; n++) {
      const id = this.nextDomid;
      this.nextDomid = id + 1 >= DOMID_LIMIT ? FIRST_DOMID : id + 1;
      if (!this.domains.has(id)) return id;
    }
    throw new Error("no free domain number");
  }

  pause(d: Domain): void {
    d.pause();
  }
  unpause(d: Domain): void {
    d.unpause();
  }

  /** Be told when a domain has shut down, with its SHUTDOWN_* code. */
  onShutdown(sink: (domain: Domain, code: number) => void): () => void {
    this.shutdownSinks.add(sink);
    return () => this.shutdownSinks.delete(sink);
  }

  /** From `Domain`: it may or may not run now. */
  domainRunnableChanged(d: Domain): void {
    if (this.current !== null && this.current.domain === d) this.cpu.requestAttention();
    this.scheduler.domainRunnableChanged(d);
  }
  /** From `Domain`: it has shut down. Sinks run between grains, never inside a handler. */
  domainShutDown(d: Domain): void {
    const code = d.shutdownCode;
    if (this.trace.on)
      this.trace.emit({
        kind: "domain",
        time: this.clock.now(),
        domid: d.domid,
        vcpu: -1,
        name: "shutdown",
        args: { code },
      });
    if (code !== SHUTDOWN_poweroff) this.console.log(`Domain ${d.domid} shut down with reason ${code}`);
    // The toolstack of a domain 0 learns of a domain's end from this VIRQ (public/xen.h).
    this.domains.get(0)?.events.sendGlobalVirq(VIRQ_DOM_EXC);
    this.post(() => {
      for (const s of this.shutdownSinks) s(d, code);
    });
  }
  /** Bring a vCPU up (the builder, VGCF_online). */
  vcpuUp(v: Vcpu): void {
    if (v.up) return;
    v.up = true;
    this.scheduler.wake(v.sched);
  }

  // --- the host's side -----------------------------------------------------------------------------------------------------------

  /** Run `fn` between grains, in order: the way in for host input. */
  post(fn: () => void): void {
    this.posted.push(fn);
    this.cpu.requestAttention();
    this.stir();
  }

  /** There is, or may be, something to run: from wherever that begins. */
  stir(): void {
    if (!this.inSlice) this.onStir();
  }

  private get hostPending(): boolean {
    if (this.posted.length > 0) return true;
    for (const d of this.natives) if (d.events.hostPending) return true;
    return false;
  }

  /** Posted functions and event callbacks of native domains; what they raise in turn waits for the next time. */
  private drainHost(): void {
    for (let n = this.posted.length; n > 0; n--) this.posted.shift()?.();
    for (const d of this.natives) if (d.events.hostPending) d.events.drainHost();
  }

  // --- registers -----------------------------------------------------------------------------------------------------------------

  /** Put a vCPU on the CPU. */
  switchTo(v: Vcpu, now = this.clock.now()): void {
    const { cpu } = this;
    const old = this.current;
    if (old === v) {
      v.time.stillLoaded(now);
      return;
    }
    if (old !== null) {
      old.time.beforeSave();
      cpu.save(old.ctx);
    }
    this.counters.contextSwitches++;
    cpu.load(v.ctx);
    this.current = v;
    v.mm.load();
    this.mem.u32[TSC_AUX >>> 2] = v.traps.tscAux;
    v.time.afterLoad(now);
    reloadSegments(v);
  }

  /** Take the loaded vCPU off the CPU (its context is then in `ctx`). */
  unload(): void {
    const old = this.current;
    if (old === null) return;
    old.time.beforeSave();
    this.cpu.save(old.ctx);
    this.current = null;
  }

  /** Work on a vCPU's registers through the CPU, whoever is loaded. */
  withLoaded(v: Vcpu, fn: (cpu: CpuApi) => void): void {
    const { cpu } = this;
    const old = this.current;
    if (old === v) {
      fn(cpu);
      return;
    }
    if (old !== null) cpu.save(old.ctx);
    cpu.load(v.ctx);
    this.current = v;
    v.mm.load();
    try {
      fn(cpu);
    } finally {
      cpu.save(v.ctx);
      this.current = old;
      if (old !== null) {
        cpu.load(old.ctx);
        old.mm.load();
      }
      cpu.flushTlb();
    }
  }

  // --- running -------------------------------------------------------------------------------------------------------------------

  /**
   * Should a long hypercall make room? The guest's grain or the host's slice is over. Time is looked at only now and then, so that
   * every hypercall makes some progress and short ones are never continued.
   */
  preemptRequested(): boolean {
    if ((++this.preemptPolls & 63) !== 0) return false;
    return !this.clock.virtual && (this.clock.now() >= this.grainEnd + 1e6 || this.hostNow() >= this.sliceEnd);
  }

  /**
   * Run until `maxMs` host milliseconds are spent or everything is idle. Returns how long the host may sleep, in ns: 0 for "call again",
   * Infinity when only host input can wake the machine.
   */
  runSlice(maxMs: number): number {
    this.inSlice = true;
    try {
      return this.slice(maxMs);
    } finally {
      this.inSlice = false;
    }
  }
  private slice(maxMs: number): number {
    const { clock, timers, scheduler } = this;
    this.sliceEnd = this.hostNow() + maxMs;
    // A real clock need not be asked twice.
    const end = clock.virtual ? Infinity : clock.now() + maxMs * 1e6;
    let worked = false;
    if (this.visit !== null && !this.continueVisit()) return Infinity;
    for (;;) {
      if (this.exact) {
        // Host input enters where nothing else is under way, so that its place can be told by counting rounds.
        if (this.hostBusy > this.posted.length) return 1e6;
        const pending = this.hostPending;
        this.drainHost();
        if (pending) {
          this.rounds++;
          if (this.hostNow() >= this.sliceEnd) return 0;
          continue;
        }
        this.onRound?.(this.rounds);
      }
      this.drainHost();
      const now = clock.now();
      if (worked && now >= end) return 0;
      if (timers.next() <= now) this.counters.timersFired += timers.runDue(now);
      let busy = 0;
      for (let p = 0; p < scheduler.pcpus; p++) {
        if (scheduler.needsSchedule(p)) scheduler.schedule(p, now);
        if (scheduler.current(p) !== null) busy++;
      }
      if (busy === 0) {
        if (this.hostPending) {
          if (this.hostNow() >= this.sliceEnd) return 0;
          continue;
        }
        const next = timers.next();
        if (!clock.virtual) return next === Infinity ? Infinity : Math.max(0, next - clock.now());
        if (this.hostBusy > 0) return 1e6;
        if (next === Infinity) return Infinity;
        clock.idleUntil(next);
        this.rounds++;
        if (this.hostNow() >= this.sliceEnd) return 0;
        continue;
      }
      if (!this.runRound(0, busy > 1 ? GRAIN_SHARED : GRAIN_ALONE, now)) return Infinity;
      if (clock.virtual && this.hostNow() >= this.sliceEnd) return 0;
      worked = true;
    }
  }

  /** Each pCPU from `first` on has its turn; false: the machine was frozen meanwhile. */
  private runRound(first: number, grain: number, now: number): boolean {
    const { clock, scheduler } = this;
    let ran = false;
    for (let p = first; p < scheduler.pcpus; p++) {
      if (ran) now = clock.now();
      ran = false;
      // What another pCPU did in this round may have stopped this one's vCPU.
      if (scheduler.needsSchedule(p)) scheduler.schedule(p, now);
      const unit = scheduler.current(p);
      if (unit === null) continue;
      this.runVcpu(unit.vcpu, p, now, grain);
      ran = true;
      if (this.visit !== null) return false;
    }
    this.rounds++;
    return true;
  }

  // --- standing still -------------------------------------------------------------------------------------------------------------

  /** The machine stands still in the middle of a vCPU's turn. */
  get frozen(): boolean {
    return this.visit !== null;
  }
  /** Go on at the next slice, as if nothing had been. */
  thaw(): void {
    this.thawed = true;
  }
  /** The rest of the turn and of the round that were interrupted; false: frozen still, or again. */
  private continueVisit(): boolean {
    const { visit } = this;
    if (visit === null) return true;
    if (!this.thawed) return false;
    this.thawed = false;
    this.visit = null;
    this.runVcpu(visit.v, visit.pcpu, visit.start, visit.grain, visit);
    return this.visit === null && this.runRound(visit.pcpu + 1, visit.grain, this.clock.now());
  }

  /** `from`: a turn that was interrupted. */
  private runVcpu(v: Vcpu, pcpu: number, start: number, grain: number, from: Visit | null = null): void {
    const { cpu, clock, timers, scheduler, counters, fast } = this;
    if (from?.middle === false && (scheduler.needsSchedule(pcpu) || this.current !== v || timers.next() < from.end)) {
      return;
    }
    const rate = clock.virtual ? 1 : this.rate;
    let left = grain;
    const due = timers.next() - start;
    if (due * rate < left) left = Math.max(200, Math.ceil(due * rate));
    let end = Math.min(start + left / rate, timers.next());
    if (from !== null) ({ left, end } = from);
    this.grainEnd = end;
    if (from === null) this.switchTo(v, start);
    // Coming back may have ended it (no failsafe callback).
    if (v.domain.shuttingDown) return;
    let spent = 0;
    let middle = from?.middle === true;
    const { debug } = v.domain;
    while (left > 0) {
      if (!middle && (debug === null || !debug.quiet(v))) {
        if (!deliverPending(v)) break;
      }
      middle = false;
      const before = cpu.retired;
      const want = Math.min(left, this.freezeAt - before);
      if (debug === null) fast.before(v);
      const reason = debug === null ? cpu.run(want) : debug.run(v, want);
      const transitions = debug === null ? fast.after(v) : 0;
      const n = cpu.retired - before;
      counters.runs++;
      counters.instructions += n;
      spent += n;
      if (this.exact && (reason === Exit.BREAK || (reason === Exit.BUDGET && n < left))) {
        // A stop for a debugger's sake: the guest has done nothing that takes time.
        left -= n;
        middle = true;
        if (cpu.retired < this.freezeAt && debug?.after(v, reason) !== true) continue;
        this.visit = { v, pcpu, start, grain, left, end, middle };
        return;
      }
      left -= n + (transitions + 1) * EXIT_COST;
      clock.retire(EXIT_COST);
      switch (reason) {
        case Exit.SYSCALL:
          onSyscall(v);
          if (this.hostPending) this.drainHost();
          break;
        case Exit.EXCEPTION:
          onException(v);
          break;
        case Exit.INT_N:
          onInt(v);
          break;
        case Exit.SYSENTER:
          onSysenter(v);
          break;
        case Exit.HLT:
          onHlt(v);
          break;
        case Exit.PAUSE:
          if (grain === GRAIN_SHARED) left = 0;
          if (this.hostPending) this.drainHost();
          break;
        case Exit.BUDGET:
          if (this.hostPending) this.drainHost();
          break;
        case Exit.BREAK:
          break;
        default:
          v.domain.crash(`unexpected exit ${reason} of the CPU`);
      }
      if (debug !== null && debug.after(v, reason)) {
        if (this.exact) this.visit = { v, pcpu, start, grain, left, end, middle };
        break;
      }
      // The vCPU may have blocked or been stopped, or a timer may have come nearer than this grain's end.
      if (scheduler.needsSchedule(pcpu) || this.current !== v || timers.next() < end) break;
    }
    if (!clock.virtual && spent > 10_000) {
      const took = clock.now() - start;
      if (took > 0) this.rate += (Math.min(2, spent / took) - this.rate) * 0.1;
    }
  }
}
