/**
 * A machine with the hypervisor on it and the native domain 0, ready for domains: what the command line and library users drive.
 */
import { SHUTDOWN_crash, SHUTDOWN_suspend } from "../abi/sched.js";
import type { BlockBackend } from "../devices/block/index.js";
import { ConsoleBackend } from "../devices/console/backend.js";
import {
  attachVif,
  Bridge,
  BridgeLink,
  Nat,
  type BridgeOptions,
  type LinkAddress,
  type LinkHost,
  type NatOptions,
  type SocketProvider,
  type VifBackend,
} from "../devices/network/index.js";
import { DomainDevices } from "../devices/xenbus/index.js";
import type { Domain } from "../hypervisor/domain.js";
import type { GrantLimits } from "../hypervisor/grants/grant-table.js";
import { initVcpuPv64 } from "../hypervisor/guest-context.js";
import { fillHypercallPage } from "../hypervisor/traps/hypercall-page.js";
import { Xen } from "../hypervisor/xen.js";
import { RealClock, type Clock } from "../machine/clock.js";
import { Cpu, type EngineKind } from "../machine/cpu/cpu.js";
import { ENGINE_END, FRAMES_ENTRY } from "../machine/layout.js";
import { PhysMem } from "../machine/memory.js";
import { XenStoreClient } from "../xenstore/client.js";
import type { XenStoreServer } from "../xenstore/server.js";
import { createXenStore } from "../xenstore/xen-host.js";
import { buildPv64, BuildError, parseKernel } from "./builder/index.js";
import { attachDisk, diskId, type DiskSpec } from "./disks.js";
import { DEFAULT_BRIDGE, randomMac, scriptPath, type VifConfig } from "./config/vif.js";
import { removeDomainNodes, writeConsoleNodes, writeDomainNodes, writeHostNodes } from "./domain-nodes.js";

export interface MachineOptions {
  /** Memory for all domains together, in MiB; the hypervisor's own comes on top. Default 1024. */
  memoryMiB?: number;
  /**
   * How much memory all forks together may appear to have, in MiB (frame numbers for pages they share, docs/forks.md). It is no memory until it is
   * used; then 10 KiB a MiB. Default: sixteen times `memoryMiB`, at most 16 GiB.
   */
  forkMiB?: number;
  /** Default: real time. */
  clock?: Clock;
  /** Scheduler by name: `credit` (default) or `sedf`. */
  scheduler?: string;
  /** Physical CPUs presented; all run in turn on the calling thread. Default 4. */
  pcpus?: number;
  engine?: EngineKind;
  /** Executions after which the engine translates a block. */
  threshold?: number;
  /** Every budget is kept to the instruction (with a virtual clock only): for record and replay. Slower. */
  exact?: boolean;
  /** Let the core carry out the commonest transitions of guests by itself (the default), or take the reference's way always. */
  fastTransitions?: boolean;
  /** The host's sockets, for the NAT (`NodeSockets` of xenolith/node). */
  sockets?: SocketProvider;
}

/** A network interface: what `vif=[…]` says (`parseVif`), on a bridge of the machine or behind a NAT. */
export type VifSpec = Partial<Omit<VifConfig, "bridge" | "warnings">> & {
  /** Default xenbr0. */
  bridge?: string | Bridge;
  /** In place of a bridge. `true`: a NAT of the machine, made with its defaults. */
  nat?: Nat | true;
  /** Only frames with the vif's own address may leave it. */
  filter?: boolean;
};

export interface DomainSpec {
  name?: string;
  /** ELF or bzImage. */
  kernel: Uint8Array;
  ramdisk?: Uint8Array;
  cmdline?: string;
  /** Default 256. */
  memoryMiB?: number;
  /** Up to so much the domain may balloon; default what it has. */
  maxMemoryMiB?: number;
  /** Default 1. */
  vcpus?: number;
  /** As many can be brought up while it runs; default what it has. */
  maxVcpus?: number;
  uuid?: string;
  /** Leave it paused: `machine.xen.unpause` starts it. */
  paused?: boolean;
  /** Its highest event channel. */
  maxPort?: number;
  /** Size and version of its grant table. */
  grantLimits?: GrantLimits;
  /** Where kernel and RAM disk came from, as XenStore shows it. */
  kernelPath?: string;
  ramdiskPath?: string;
  /** The terminal of the first console, as XenStore shows it. */
  tty?: string;
  /** Virtual disks that are there from the start. */
  disks?: readonly DiskSpec[];
  /** Network interfaces that are there from the start. */
  vifs?: readonly VifSpec[];
}

/** Memory the hypervisor's tables take on top of the domains' (M2P, grant frames, event pages). */
const XEN_OVERHEAD = 16 << 20;
/** libxl gives a PV domain a MiB over its target (LIBXL_MAXMEM_CONSTANT). */
export const MAXMEM_SLACK_PAGES = 256;
/** Bytes that a frame number takes in the linear memory: its places in the M2P, in the frame table, and in the table of what aliases stand for. */
const M2P_ENTRY = 8;
const ALIAS_BYTES = M2P_ENTRY + FRAMES_ENTRY + 4;
const DEFAULT_FORK_MIB = 16384;
/** Frame numbers for shared pages; the default gives way to real memory where 4 GiB do not hold both. */
function aliasFrames(memory: number, memoryMiB: number, forkMiB: number | undefined): number {
  if (forkMiB !== undefined) return Math.max(0, Math.floor(forkMiB)) * 256;
  const room = 2 ** 32 - ENGINE_END - memory - (memory / 4096) * FRAMES_ENTRY - (1 << 20);
  return Math.max(0, Math.min(Math.min(DEFAULT_FORK_MIB, 16 * memoryMiB) * 256, Math.floor(room / ALIAS_BYTES)));
}
/** Per domain: page tables of the builder are the domain's own; shared info, grant and event frames are Xen's. */
const MIN_MIB = 1;
const E820_RAM = 1;
/** Less than a millisecond: shells then poll instead of sleeping. */
const HOST_BUSY_NS = 500_000;

export class RunningDomain {
  /** The first PV console (hvc0). */
  readonly console: ConsoleBackend;
  /** Disks, network interfaces and whatever else has a back end here. */
  readonly devices: DomainDevices;
  private readonly sinks = new Set<(code: number) => void>();
  constructor(
    private readonly machine: Machine,
    readonly domain: Domain,
    console: ConsoleBackend,
  ) {
    this.console = console;
    this.devices = new DomainDevices(machine, domain);
  }
  /**
   * It was asked to suspend itself for a save or a migration ("late": in vain so far). Its suspension is then no end of it: nobody is told, and
   * it is not `ended`. Kept by toolstack/migration.
   */
  suspending: "no" | "asked" | "late" = "no";
  /** The domain has shut down (or crashed). */
  get ended(): boolean {
    return (this.domain.shutDown && !this.suspendedForUs) || this.domain.dying;
  }
  private get suspendedForUs(): boolean {
    return this.suspending !== "no" && this.domain.shutdownCode === SHUTDOWN_suspend;
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
    if (this.suspendedForUs) return;
    for (const cb of this.sinks) cb(code);
    this.sinks.clear();
  }
  /** Ask the guest to end itself; it does so if and when it likes. */
  requestShutdown(how: "poweroff" | "reboot" | "suspend" | "halt" = "poweroff"): void {
    if (!this.ended) this.machine.xs.write(`/local/domain/${this.domain.domid}/control/shutdown`, how);
  }
  /** Plug a disk, also while the domain runs. */
  attachDisk(disk: DiskSpec): Promise<BlockBackend> {
    return attachDisk(this.machine, this.devices, disk);
  }
  /** Unplug a disk: true when the guest let go of it; after ten seconds, or with `force`, it is taken away (false). */
  async detachDisk(vdev: string, force = false): Promise<boolean> {
    return this.devices.detach("vbd", diskId(vdev), force);
  }
  /** Plug a network interface, also while the domain runs. */
  attachVif(vif: VifSpec = {}): VifBackend {
    const { machine } = this;
    const { bridge, nat, mac, script, ...rest } = vif;
    const network =
      nat === true ? machine.nat() : (nat ?? (bridge instanceof Bridge ? bridge : machine.bridge(bridge)));
    return attachVif(machine, this.devices, this.domain, network, {
      ...rest,
      mac: mac ?? randomMac(() => machine.random()),
      bridge: network instanceof Bridge ? network.name : network.bridge.name,
      script: scriptPath(script),
    });
  }
  /** Unplug one: true when the guest let go of it; after ten seconds, or with `force`, it is taken away (false). */
  detachVif(devid: number, force = false): Promise<boolean> {
    return this.devices.detach("vif", devid, force);
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
  return `${hex(r() * 2 ** 32, 8)}-${hex(r() * 65536, 4)}-4${hex(r() * 4096, 3)}-a${hex(r() * 4096, 3)}-${repeatable ? hex(n, 12) : hex(r() * 2 ** 48, 12)}`;
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
  /** Called when the host has brought something for a guest: a shell that sleeps should wake (`run.wake()`). */
  onInput: () => void = () => {};
  /** Called when there is something to run and no slice is under way. Runs that sleep are in here (api/drive.ts). */
  readonly sleepers = new Set<() => void>();
  private readonly running = new Map<number, RunningDomain>();
  private readonly bridges = new Map<string, Bridge>();
  private readonly sockets: SocketProvider | undefined;
  private defaultNat: Nat | null = null;
  /** State of the generator under a virtual clock. */
  private seed = 0x2545f491;
  private created = 0;

  constructor(opts: MachineOptions = {}) {
    const memory = (opts.memoryMiB ?? 1024) * 1048576 + XEN_OVERHEAD;
    const aliases = aliasFrames(memory, opts.memoryMiB ?? 1024, opts.forkMiB);
    this.mem = new PhysMem(memory + aliases * M2P_ENTRY, aliases);
    this.sockets = opts.sockets;
    this.clock = opts.clock ?? new RealClock(() => performance.now(), Date.now());
    this.cpu = new Cpu(this.mem, this.clock, {
      ...(opts.engine === undefined ? {} : { engine: opts.engine }),
      ...(opts.threshold === undefined ? {} : { threshold: opts.threshold }),
      exact: opts.exact ?? false,
    });
    this.xen = new Xen(this.mem, this.cpu, this.clock, opts.pcpus ?? 4, {
      ...(opts.scheduler === undefined ? {} : { scheduler: opts.scheduler }),
      ...(opts.fastTransitions === undefined ? {} : { fastTransitions: opts.fastTransitions }),
      hostNow: () => performance.now(),
      exact: opts.exact ?? false,
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
    this.xen.onStir = () => {
      for (const wake of this.sleepers) wake();
    };
    this.xen.onShutdown((d, code) => this.running.get(d.domid)?.notifyShutdown(code));
  }

  /** Build and start a PV domain. Throws `BuildError` with one clear line for what is wrong with the kernel or the memory. */
  async createDomain(spec: DomainSpec): Promise<RunningDomain> {
    const image = await parseKernel(spec.kernel);
    const mib = spec.memoryMiB ?? 256;
    if (!(mib >= MIN_MIB)) throw new BuildError(`memory: ${mib} MiB is too little`);
    const pages = Math.floor(mib * 256);
    const mapped = Math.max(pages, Math.floor((spec.maxMemoryMiB ?? mib) * 256));
    const vcpus = spec.vcpus ?? 1;
    const { xen } = this;
    const domain = xen.createDomain({
      uuid: spec.uuid ?? this.newUuid(),
      name: spec.name ?? `domain-${this.created}`,
      maxVcpus: Math.max(vcpus, spec.maxVcpus ?? vcpus),
      maxPages: pages + MAXMEM_SLACK_PAGES,
      ...(spec.maxPort === undefined ? {} : { maxPort: spec.maxPort }),
      ...(spec.grantLimits === undefined ? {} : { grantLimits: spec.grantLimits }),
    });
    try {
      domain.mm.memoryMap = [{ addr: 0, size: mapped * 4096, type: E820_RAM }];
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
        vcpusOnline: vcpus,
        maxMemKiB: mapped * 4,
        targetKiB: pages * 4,
        store: { mfn: built.xenstoreMfn, port: storeEvtchn },
        console: { mfn: built.consoleMfn, port: consoleEvtchn },
        startTime: (this.clock.epochStart + this.clock.now()) / 1e9,
        ...(spec.cmdline === undefined ? {} : { cmdline: spec.cmdline }),
        ...(spec.kernelPath === undefined ? {} : { kernel: spec.kernelPath }),
        ...(spec.ramdiskPath === undefined ? {} : { ramdisk: spec.ramdiskPath }),
      };
      domain.onDestroy(() => {
        removeDomainNodes(this.xs, domain.domid, domain.uuid);
        this.xenstore.domainGone(domain.domid);
      });
      writeDomainNodes(this.xs, facts);
      this.xs.introduce(domain.domid, built.xenstoreMfn, storeEvtchn);
      writeConsoleNodes(this.xs, facts, spec.tty);
      const backend = new ConsoleBackend(this.dom0, domain, built.consoleMfn * 4096, consoleEvtchn);
      const running = new RunningDomain(this, domain, backend);
      this.running.set(domain.domid, running);
      for (const disk of spec.disks ?? []) await running.attachDisk(disk);
      for (const vif of spec.vifs ?? []) running.attachVif(vif);
      if (spec.paused !== true) xen.unpause(domain);
      return running;
    } catch (e) {
      this.running.get(domain.domid)?.destroy();
      xen.destroyDomain(domain);
      throw e;
    }
  }

  /** A UUID for a domain whose configuration gives none. */
  newUuid(): string {
    return newUuid(++this.created, this.clock.virtual);
  }

  // --- networks -----------------------------------------------------------------------------------------------------------------

  /** A software switch by name; made at the first call. */
  bridge(name = DEFAULT_BRIDGE, options: BridgeOptions = {}): Bridge {
    let b = this.bridges.get(name);
    if (b === undefined) this.bridges.set(name, (b = new Bridge(name, () => this.clock.now(), options)));
    return b;
  }
  /** The machine's NAT with its defaults, or with options a new one. */
  nat(options?: NatOptions): Nat {
    if (options === undefined && this.defaultNat !== null) return this.defaultNat;
    const { sockets } = this;
    if (sockets === undefined) throw new Error("a NAT needs the host's sockets: give the machine `sockets`");
    const nat = new Nat({ ...this.networkHost(sockets), random: () => this.random() }, options);
    if (options === undefined) this.defaultNat = nat;
    return nat;
  }
  /** Join a bridge with one of another machine: both ends say where they meet, one of them with `listen:`. */
  link(where: LinkAddress, bridge = DEFAULT_BRIDGE, onListening?: (port: number) => void): BridgeLink {
    const { sockets, xen } = this;
    if (sockets === undefined) throw new Error("a link needs the host's sockets: give the machine `sockets`");
    const host = { ...this.networkHost(sockets), say: (line: string) => xen.console.log(line) };
    return new BridgeLink(host, this.bridge(bridge), where, onListening);
  }
  /** What networks need of this machine and its host. */
  private networkHost(sockets: SocketProvider): Omit<LinkHost, "say"> {
    const { xen, clock } = this;
    return {
      sockets,
      now: () => clock.now(),
      post: (fn) => {
        xen.post(fn);
        this.onInput();
      },
      timer: (fire) => {
        const t = xen.timers.create(fire);
        return { set: (deadline) => xen.timers.set(t, deadline), stop: () => xen.timers.stop(t) };
      },
    };
  }
  /** @internal In [0, 1); under a virtual clock always the same sequence, so that runs repeat exactly. */
  random(): number {
    if (!this.clock.virtual) return Math.random();
    this.seed = (Math.imul(this.seed, 1664525) + 1013904223) >>> 0;
    return this.seed / 4294967296;
  }

  /** @internal A domain that was not made by `createDomain` (restored, forked). */
  adopt(d: RunningDomain): void {
    this.running.set(d.domain.domid, d);
  }
  /** A domain of this machine by its number. */
  runningOf(domid: number): RunningDomain | undefined {
    return this.running.get(domid);
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
    const idle = this.xen.runSlice(maxMs);
    // Work of the host that a guest waits for (its disks) ends at any moment: look again soon.
    return this.xen.hostBusy > 0 ? Math.min(idle, HOST_BUSY_NS) : idle;
  }
}
