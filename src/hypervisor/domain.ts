/**
 * A domain: an address space of pseudo-physical memory, vCPUs, a grant table and event channels. Rooms own the sub-objects;
 * this file ties them together and keeps the life cycle (public/sched.h SHUTDOWN_*, domctl.h XEN_DOMINF_*).
 *
 * Life cycle: created paused → running → shut down (code) → destroyed (dying). A crash is a shutdown with SHUTDOWN_crash.
 * Invariant: once `shuttingDown`, no vCPU of the domain runs again until a resume.
 */
import { SHUTDOWN_crash } from "../abi/sched.js";
import type { DomainMemory } from "./memory/domain-memory.js";
import type { GrantTable } from "./grants/grant-table.js";
import type { DomainEvents } from "./events/domain-events.js";
import type { DebugHook } from "./debug-hook.js";
import type { DomainTime } from "./time/domain-time.js";
import type { CpuidPolicy } from "./traps/cpuid-policy.js";
import { dumpState } from "./traps/dump.js";
import type { Vcpu } from "./vcpu.js";
import type { Xen } from "./xen.js";

export class Domain {
  readonly vcpus: Vcpu[] = [];
  /** Pause count; no vCPU runs while it is above zero. */
  pauseCount = 0;
  shuttingDown = false;
  shutDown = false;
  /** SHUTDOWN_* once shut down. */
  shutdownCode = -1;
  dying = false;
  /** May use the control interfaces of other domains. */
  privileged = false;
  /** No vCPU ever runs: the domain's work is done by this process (dom0 and driver domains in TypeScript). */
  native = false;
  /** A debugger, while one is attached. */
  debug: DebugHook | null = null;
  /** What the log shows of the last crash. */
  crashReason = "";
  /** 16 bytes of the UUID (XENVER_guest_handle). */
  readonly handle: Uint8Array;
  mm!: DomainMemory;
  grants!: GrantTable;
  events!: DomainEvents;
  time!: DomainTime;
  cpuid!: CpuidPolicy;
  /** VMASST_TYPE_* bits as a number (one of them is bit 32). */
  vmAssist = 0;
  /** PV's latched PCI configuration address (port 0xcf8) and CMOS index (port 0x70). */
  pciCf8 = 0;
  cmosIndex = 0xff;

  constructor(
    readonly xen: Xen,
    readonly domid: number,
    readonly uuid: string,
    public name: string,
    readonly maxVcpus: number,
  ) {
    this.handle = parseUuid(uuid);
  }

  private readonly cleanups: (() => void)[] = [];
  /** Run `fn` when the domain is destroyed, before its memory goes. */
  onDestroy(fn: () => void): void {
    this.cleanups.push(fn);
  }
  runCleanups(): void {
    for (const fn of this.cleanups.splice(0)) fn();
  }

  /** May any vCPU run? */
  get runnable(): boolean {
    return this.pauseCount === 0 && !this.shuttingDown && !this.dying && !this.native;
  }

  pause(): void {
    if (this.pauseCount++ === 0) this.xen.domainRunnableChanged(this);
  }
  unpause(): void {
    if (this.pauseCount > 0 && --this.pauseCount === 0) this.xen.domainRunnableChanged(this);
  }

  /** Stop all vCPUs with a reason (domain_shutdown). */
  shutdown(code: number): void {
    if (this.shuttingDown || this.dying) return;
    this.shuttingDown = true;
    this.shutdownCode = code;
    this.xen.domainRunnableChanged(this);
    this.shutDown = true;
    this.xen.domainShutDown(this);
  }

  /** Undo a shutdown (XEN_DOMCTL_resumedomain). */
  resume(): void {
    if (!this.shutDown || this.dying) return;
    this.shuttingDown = false;
    this.shutDown = false;
    this.shutdownCode = -1;
    this.xen.domainRunnableChanged(this);
  }

  /** End the domain for something it did; what is known of its state goes to the log. Never throws. */
  crash(reason: string): void {
    if (this.shuttingDown || this.dying) return;
    this.crashReason = reason;
    this.xen.counters.crashes++;
    const cur = this.xen.current;
    const v = cur !== null && cur.domain === this ? cur : null;
    this.xen.console.log(`${v !== null ? v.label : `d${this.domid}`} domain_crash: ${reason}`);
    if (v !== null) {
      this.xen.console.log(`Domain ${this.domid} (vcpu#${v.id}) crashed on cpu#0:`);
      for (const line of dumpState(v)) this.xen.console.log(line);
    }
    this.shutdown(SHUTDOWN_crash);
  }
}

/** 16 bytes from the usual text form; missing digits are zero. */
function parseUuid(text: string): Uint8Array {
  const hex = text.replace(/[^0-9a-fA-F]/g, "").padEnd(32, "0");
  const out = new Uint8Array(16);
  for (let i = 0; i < 16; i++) out[i] = parseInt(hex.slice(i * 2, i * 2 + 2), 16);
  return out;
}
