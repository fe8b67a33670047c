/**
 * A machine with the hypervisor on it and the native domain 0, ready for domains: what the command line and library users drive.
 */
import { SHUTDOWN_crash } from "../abi/sched.js";
import { ConsoleBackend } from "../devices/console/backend.js";
import type { Domain } from "../hypervisor/domain.js";
import { initVcpuPv64 } from "../hypervisor/guest-context.js";
import { fillHypercallPage } from "../hypervisor/traps/hypercall-page.js";
import { Xen } from "../hypervisor/xen.js";
import { RealClock, type Clock } from "../machine/clock.js";
import { Cpu, type EngineKind } from "../machine/cpu/cpu.js";
import { PhysMem } from "../machine/memory.js";
import { XenStoreClient } from "../xenstore/client.js";
import type { XenStoreServer } from "../xenstore/server.js";
import { createXenStore } from "../xenstore/xen-host.js";
import { buildPv64, BuildError, parseKernel } from "./builder/index.js";
import { removeDomainNodes, writeConsoleNodes, writeDomainNodes, writeHostNodes } from "./domain-nodes.js";

export interface MachineOptions {
  /** Memory for all domains together, in MiB; the hypervisor's own comes on top. Default 1024. */
  memoryMiB?: number;
  /** Default: real time. */
  clock?: Clock;
  /** Scheduler by name: `credit` (default) or `sedf`. */
  scheduler?: string;
  /** Physical CPUs presented; all run in turn on the calling thread. Default 4. */
  pcpus?: number;
  engine?: EngineKind;
  /** Executions after which the engine translates a block. */
  threshold?: number;
}

export interface DomainSpec {
  name?: string;
  /** ELF or bzImage. */
  kernel: Uint8Array;
  ramdisk?: Uint8Array;
  cmdline?: string;
  /** Default 256. */
  memoryMiB?: number;
  /** Default 1. */
  vcpus?: number;
  uuid?: string;
}

/** Memory the hypervisor's tables take on top of the domains' (M2P, grant frames, event pages). */
const XEN_OVERHEAD = 16 << 20;
/** Per domain: page tables of the builder are the domain's own; shared info, grant and event frames are Xen's. */
const MIN_MIB = 1;
const E820_RAM = 1;

export class RunningDomain {
  /** The first PV console (hvc0). */
  readonly console: ConsoleBackend;
  private readonly sinks = new Set<(code: number) => void>();
  constructor(
    private readonly machine: Machine,
    readonly domain: Domain,
    console: ConsoleBackend,
  ) {
    this.console = console;
  }
  /** The domain has shut down (or crashed). */
  get ended(): boolean {
    return this.domain.shutDown || this.domain.dying;
  }
  /** SHUTDOWN_* of public/sched.h, or −1 while it runs. */
  get shutdownCode(): number {
    return this.domain.shutdownCode;
  }
  get crashed(): boolean {
    return this.domain.shutdownCode === SHUTDOWN_crash;
  }
  onShutdown(cb: (code: number) => void): void {
    if (this.ended) cb(this.shutdownCode);
    else this.sinks.add(cb);
  }
  /** @internal */
  notifyShutdown(code: number): void {
    this.console.drain();
    for (const cb of this.sinks) cb(code);
    this.sinks.clear();
  }
  /** Ask the guest to end itself; it does so if and when it likes. */
  requestShutdown(how: "poweroff" | "reboot" | "suspend" | "halt" = "poweroff"): void {
    if (!this.ended) this.machine.xs.write(`/local/domain/${this.domain.domid}/control/shutdown`, how);
  }
  /** Take everything back. */
  destroy(): void {
    if (this.domain.dying) return;
    this.console.drain();
    this.console.close();
    this.machine.forget(this);
    this.machine.xen.destroyDomain(this.domain);
  }
}

/** A random (version 4) UUID; under a virtual clock the n-th domain always has the same one, so that runs repeat exactly. */
function newUuid(n: number, repeatable: boolean): string {
  const hex = (x: number, digits: number): string => Math.floor(x).toString(16).padStart(digits, "0").slice(-digits);
  const r = (): number => (repeatable ? 0.5 : Math.random());
  return `${hex(r() * 2 ** 32, 8)}-${hex(r() * 65536, 4)}-4${hex(r() * 4096, 3)}-a${hex(r() * 4096, 3)}-${hex(r() * 2 ** 40, 10)}${hex(n, 2)}`;
}

export class Machine {
  readonly mem: PhysMem;
  readonly cpu: Cpu;
  readonly clock: Clock;
  readonly xen: Xen;
  /** Domain 0: native, it owns the back ends. */
  readonly dom0: Domain;
  readonly xenstore: XenStoreServer;
  /** The toolstack's own connection to XenStore. */
  readonly xs: XenStoreClient;
  private readonly running = new Map<number, RunningDomain>();
  private created = 0;

  constructor(opts: MachineOptions = {}) {
    this.mem = new PhysMem((opts.memoryMiB ?? 1024) * 1048576 + XEN_OVERHEAD);
    this.clock = opts.clock ?? new RealClock(() => performance.now(), Date.now());
    this.cpu = new Cpu(this.mem, this.clock, {
      ...(opts.engine === undefined ? {} : { engine: opts.engine }),
      ...(opts.threshold === undefined ? {} : { threshold: opts.threshold }),
    });
    this.xen = new Xen(this.mem, this.cpu, this.clock, opts.pcpus ?? 4, {
      ...(opts.scheduler === undefined ? {} : { scheduler: opts.scheduler }),
      hostNow: () => performance.now(),
    });
    this.dom0 = this.xen.createDomain({
      domid: 0,
      uuid: "00000000-0000-0000-0000-000000000000",
      name: "Domain-0",
      maxVcpus: 0,
      maxPages: 0,
      privileged: true,
      native: true,
    });
    this.xenstore = createXenStore(this.dom0);
    this.xs = new XenStoreClient(this.xenstore, (fn) => this.xen.post(fn), "toolstack");
    writeHostNodes(this.xs);
    this.xen.onShutdown((d, code) => this.running.get(d.domid)?.notifyShutdown(code));
  }

  /** Build and start a PV domain. Throws `BuildError` with one clear line for what is wrong with the kernel or the memory. */
  async createDomain(spec: DomainSpec): Promise<RunningDomain> {
    const image = await parseKernel(spec.kernel);
    const mib = spec.memoryMiB ?? 256;
    if (!(mib >= MIN_MIB)) throw new BuildError(`memory: ${mib} MiB is too little`);
    const pages = Math.floor(mib * 256);
    const { xen } = this;
    const domain = xen.createDomain({
      uuid: spec.uuid ?? newUuid(++this.created, this.clock.virtual),
      name: spec.name ?? `domain-${this.created}`,
      maxVcpus: spec.vcpus ?? 1,
      maxPages: pages,
    });
    try {
      domain.mm.memoryMap = [{ addr: 0, size: pages * 4096, type: E820_RAM }];
      if (domain.mm.populate(0, pages) < 0) throw new BuildError(`the host has not enough free memory for ${mib} MiB`);
      const storeEvtchn = domain.events.allocUnbound(0);
      const consoleEvtchn = domain.events.allocUnbound(0);
      const built = buildPv64(
        image,
        {
          totalPages: pages,
          mfnOf: (pfn) => domain.mm.mfnOf(pfn),
          mem: this.mem,
          sharedInfoMfn: domain.mm.sharedInfo,
        },
        {
          storeEvtchn,
          consoleEvtchn,
          ...(spec.cmdline === undefined ? {} : { cmdline: spec.cmdline }),
          ...(spec.ramdisk === undefined ? {} : { ramdisk: spec.ramdisk }),
        },
      );
      if (built.hypercallPage !== undefined) fillHypercallPage(domain, built.hypercallPage.mfn * 4096);
      const rc = domain.mm.finishBuild({ l4Mfn: built.l4Mfn });
      if (rc !== 0) throw new Error(`the builder's page tables were refused (${rc})`);
      const vcpu = domain.vcpus[0];
      if (vcpu === undefined) throw new BuildError("vcpus: at least 1 is needed");
      initVcpuPv64(vcpu, { rip: built.entry, rsp: built.stackTop, rsi: built.startInfoVa });
      const facts = {
        domid: domain.domid,
        uuid: domain.uuid,
        name: domain.name,
        vcpus: domain.vcpus.length,
        maxMemKiB: pages * 4,
        targetKiB: pages * 4,
        store: { mfn: built.xenstoreMfn, port: storeEvtchn },
        console: { mfn: built.consoleMfn, port: consoleEvtchn },
        startTime: (this.clock.epochStart + this.clock.now()) / 1e9,
        ...(spec.cmdline === undefined ? {} : { cmdline: spec.cmdline }),
      };
      domain.onDestroy(() => {
        removeDomainNodes(this.xs, domain.domid, domain.uuid);
        this.xenstore.domainGone(domain.domid);
      });
      writeDomainNodes(this.xs, facts);
      this.xs.introduce(domain.domid, built.xenstoreMfn, storeEvtchn);
      writeConsoleNodes(this.xs, facts);
      const backend = new ConsoleBackend(this.dom0, domain, built.consoleMfn * 4096, consoleEvtchn);
      const running = new RunningDomain(this, domain, backend);
      this.running.set(domain.domid, running);
      xen.unpause(domain);
      return running;
    } catch (e) {
      xen.destroyDomain(domain);
      throw e;
    }
  }

  /** @internal */
  forget(d: RunningDomain): void {
    this.running.delete(d.domain.domid);
  }

  /**
   * Run guests for at most `maxMs` host milliseconds. Returns ns until something is due: 0 = more to do now, Infinity = only host input
   * can wake the machine.
   */
  runSlice(maxMs: number): number {
    return this.xen.runSlice(maxMs);
  }
}
