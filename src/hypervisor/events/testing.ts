/**
 * For tests of events, time and scheduling: a machine without a CPU. Memory and clock are real; "guest memory" is the machine's own, with
 * virtual address = machine address, so that hypercall arguments can be written anywhere; domains are the least these rooms need.
 */
import { VirtualClock } from "../../machine/clock.js";
import type { CpuApi, Va } from "../../machine/cpu/api.js";
import { PhysMem, type Maddr } from "../../machine/memory.js";
import type { Domain } from "../domain.js";
import type { Call, Handler } from "../hypercalls/call.js";
import { createScheduler } from "../scheduler/index.js";
import { DomainTime } from "../time/domain-time.js";
import { Timers } from "../time/timers.js";
import { VcpuTime } from "../time/vcpu-time.js";
import { Trace } from "../trace.js";
import type { Vcpu } from "../vcpu.js";
import type { Xen } from "../xen.js";
import { DomainEvents } from "./domain-events.js";
import { VcpuEvents } from "./vcpu-events.js";

export class TestMachine {
  readonly mem = new PhysMem(1 << 20);
  readonly clock = new VirtualClock(1_700_000_000_123_456_768);
  readonly xen: Xen;
  /** Addresses whose translation fails. */
  readonly unmapped = new Set<number>();
  attention = 0;
  private frame: number;
  private readonly owned = new Map<number, number>();
  private readonly held = new Map<number, number>();

  constructor(pcpus = 1, scheduler = "credit") {
    this.frame = this.mem.firstFrame;
    const cpu = {
      translate: (va: Va): Maddr =>
        va < 0 || va >= this.mem.frames * 4096 || this.unmapped.has(Math.floor(va / 4096)) ? -1 : va,
      requestAttention: (): void => {
        this.attention++;
      },
      tsc: (): number => this.clock.now() * 2,
    } as unknown as CpuApi;
    const xen = {
      mem: this.mem,
      cpu,
      clock: this.clock,
      pcpus,
      trace: new Trace(),
      domains: new Map<number, Domain>(),
      current: null,
      timers: new Timers(),
      stir: (): void => {},
    };
    this.xen = xen as unknown as Xen;
    this.xen.scheduler = createScheduler(this.xen, scheduler);
  }

  /** A fresh page of the domain: its frame number. */
  page(domid = 0xffff): number {
    const f = this.frame++;
    this.owned.set(f, domid);
    return f;
  }
  /** How many writable references are held on a page. */
  heldOn(frame: number): number {
    return this.held.get(frame) ?? 0;
  }

  addDomain(domid: number, vcpus: number, native = false): Domain {
    const { xen } = this;
    const { owned, held } = this;
    const shared = native ? -1 : this.page(domid) * 4096;
    const d = {
      xen,
      domid,
      vcpus: [] as Vcpu[],
      pauseCount: 0,
      shuttingDown: false,
      shutDown: false,
      shutdownCode: -1,
      dying: false,
      privileged: domid === 0,
      native,
      vmAssist: 0,
      get runnable(): boolean {
        return this.pauseCount === 0 && !this.shuttingDown && !this.dying && !this.native;
      },
      shutdown(code: number): void {
        if (this.shuttingDown) return;
        this.shuttingDown = true;
        this.shutdownCode = code;
        xen.scheduler.domainRunnableChanged(this as unknown as Domain);
        this.shutDown = true;
      },
    };
    const domain = d as unknown as Domain;
    xen.domains.set(domid, domain);
    domain.events = new DomainEvents(domain, {
      sharedInfo: shared,
      frames: {
        getWritable: (lo, hi) => {
          if (hi !== 0 || owned.get(lo) !== domid) return -22;
          held.set(lo, this.heldOn(lo) + 1);
          return lo * 4096;
        },
        putWritable: (page) => held.set(page / 4096, this.heldOn(page / 4096) - 1),
      },
    });
    domain.time = new DomainTime(domain);
    xen.scheduler.initDomain(domain);
    for (let id = 0; id < vcpus; id++) {
      const v = {
        domain,
        id,
        up: false,
        initialised: true,
        kernelMode: true,
        traps: { nmiPending: false },
      } as unknown as Vcpu;
      d.vcpus.push(v);
      v.events = new VcpuEvents(v);
      v.time = new VcpuTime(v);
      v.time.period = 0;
      v.sched = xen.scheduler.initVcpu(v);
    }
    return domain;
  }

  /** Bring all vCPUs of a domain up. */
  start(domain: Domain): void {
    for (const v of domain.vcpus) {
      v.up = true;
      this.xen.scheduler.wake(v.sched);
    }
  }

  /**
   * Let time pass as the run loop would: timers fire, pCPUs are rescheduled, running vCPUs burn time. `onRun` sees each vCPU that runs,
   * at each step.
   */
  run(until: number, step = 100_000, onRun?: (v: Vcpu, now: number) => void): void {
    const { scheduler, timers } = this.xen;
    for (;;) {
      const now = this.clock.now();
      timers.runDue(now);
      for (let p = 0; p < scheduler.pcpus; p++) if (scheduler.needsSchedule(p)) scheduler.schedule(p, now);
      if (now >= until) return;
      if (onRun !== undefined)
        for (let p = 0; p < scheduler.pcpus; p++) {
          const u = scheduler.current(p);
          if (u !== null) onRun(u.vcpu, now);
        }
      let again = false;
      for (let p = 0; p < scheduler.pcpus; p++) again ||= scheduler.needsSchedule(p);
      if (again) continue;
      const next = scheduler.idle() ? timers.next() : Math.min(timers.next(), now + step);
      this.clock.idleUntil(Math.min(next, until));
    }
  }

  /** A hypercall by a vCPU. Arguments are numbers; pointers are machine addresses. */
  call(handler: Handler | undefined, v: Vcpu, ...args: number[]): number {
    if (handler === undefined) throw new Error("no such hypercall");
    const { mem } = this;
    const ok = (va: Va, len: number): boolean =>
      Number.isFinite(va) && va >= 0 && va + len <= mem.frames * 4096 && !this.unmapped.has(Math.floor(va / 4096));
    const arg = (i: number): number => args[i] ?? 0;
    const call: Call = {
      xen: this.xen,
      domain: v.domain,
      vcpu: v,
      guest: {
        copyFrom: (va: Va, len: number) => (ok(va, len) ? mem.read(va, len) : null),
        copyTo: (va: Va, b: Uint8Array) => ok(va, b.length) && (mem.write(va, b), true),
        read32: (va: Va) => (ok(va, 4) ? mem.r32(va) : -1),
        write32: (va: Va, x: number) => ok(va, 4) && (mem.w32(va, x), true),
      } as unknown as Call["guest"],
      lo: (i) => arg(i) >>> 0,
      hi: (i) => Math.floor(arg(i) / 4294967296) >>> 0,
      va: arg,
      num: arg,
      setArg: () => {},
      restart: () => 0,
      preempt: () => false,
    };
    return handler(call);
  }
}
