/**
 * The life of a host's domains: made, started, renamed, ended, started again by their actions. `Host` has the interface on top of it.
 *
 * Invariants:
 * - domains are made and ended between slices of guest work, never inside a callback of the hypervisor (the end of one is looked at in a
 *   microtask, after the slice that saw it);
 * - a name belongs to one domain at a time, from the moment it is asked for;
 * - what a guest does ends at its own domain: no end of a domain, whatever its action, throws out of here.
 */
import { SHUTDOWN_crash, SHUTDOWN_suspend, SHUTDOWN_watchdog } from "../../abi/sched.js";
import { dumpState } from "../../hypervisor/traps/dump.js";
import { XEN_EXTRAVERSION } from "../../hypervisor/hypercalls/xen-version.js";
import { XEN_MAJOR, XEN_MINOR } from "../../hypervisor/traps/cpuid-policy.js";
import { parseDomainConfig, type Action, type DomainConfig } from "../config/index.js";
import { randomMac } from "../config/vif.js";
import { openTracked } from "../disks.js";
import type { Machine, RunningDomain, VifSpec } from "../machine.js";
import { actionFor, dumpsCore, RestartLimit, restarts } from "./actions.js";
import {
  HostError,
  type CreateRequest,
  type DomainInfo,
  type DomainRef,
  type HostEvent,
  type HostInfo,
  type PoolInfo,
} from "./api.js";
import { Channels, planChannels } from "./channels.js";
import { ConsoleHub } from "./console-hub.js";
import { dumpTo } from "./core-file.js";
import * as devices from "./devices.js";
import { asHostError, said, saidLater } from "./errors.js";
import { domain0Info, domainInfo, freeKiB, totalKiB } from "./facts.js";
import { ManagedDomain, type DiskRecord, type Kept } from "./managed-domain.js";
import * as memory from "./memory.js";
import { placing, planDisk, planDomain, vifSpecs, type Placing } from "./plan.js";
import type { HostPlatform, PathBase } from "./platform.js";
import * as sched from "./sched.js";

/** How a domain of the machine becomes one of the host's. */
export interface Registration {
  readonly request: CreateRequest;
  readonly config: DomainConfig;
  readonly warnings: readonly string[];
  /** Images that are this domain's to close. */
  readonly opened: readonly Parameters<ManagedDomain["track"]>[0][];
  /** Pauses it has. */
  readonly pauses: number;
  readonly vifs: readonly VifSpec[];
  readonly disks?: readonly DiskRecord[];
  /** Its earlier life. */
  readonly before?: ManagedDomain | undefined;
  readonly fork?: boolean;
  readonly kernelPath?: string | undefined;
  readonly ramdiskPath?: string | undefined;
  /** Default: those of its earlier life, or one new one. */
  readonly consoles?: ConsoleHub[];
  readonly channels?: Channels | undefined;
}

export interface HostOptions {
  readonly machine: Machine;
  readonly platform: HostPlatform;
  readonly version?: string;
  /** Facts of the service (sockets, process, state folder). */
  readonly facts?: Partial<HostInfo>;
}

export const DOM0 = 0;
/** Page tables of the builder and shared frames, beside the memory a domain asks for. */
const DOMAIN_OVERHEAD_KIB = 512;
/** How long the end of a domain waits for its disks' images to be closed. */
const CLOSE_MS = 5000;

export class DomainLife {
  readonly machine: Machine;
  readonly platform: HostPlatform;
  readonly domains = new Map<number, ManagedDomain>();
  /** Facts of the service; may be added to when it listens. */
  facts: Partial<HostInfo>;
  protected readonly version: string;
  protected readonly startedAt: number;
  /** Names of domains that are being made. */
  private readonly reserved = new Set<string>();
  protected readonly events = new Set<(event: HostEvent) => void>();
  /** Ends and restarts under way. */
  private readonly ending = new Set<Promise<void>>();

  constructor(options: HostOptions) {
    this.machine = options.machine;
    this.platform = options.platform;
    this.version = options.version ?? "";
    this.facts = options.facts ?? {};
    this.startedAt = this.now();
    const { xen } = this.machine;
    const { pools, policy, pcpus } = xen.scheduler;
    xen.console.log(
      `Xenolith ${this.version} (Xen ${XEN_MAJOR}.${XEN_MINOR}${XEN_EXTRAVERSION}), ${this.platform.runtime}`,
    );
    xen.console.log(`System RAM: ${Math.floor(totalKiB(this.machine) / 1024)}MB (${totalKiB(this.machine)}kB)`);
    xen.console.log(`Using scheduler: ${policy.name} (${policy.optName})`);
    xen.console.log(`Brought up ${pcpus} CPUs, all in ${pools.first.name}`);
    xen.onShutdown((domain) => {
      // After the slice: what follows makes and ends domains.
      void Promise.resolve().then(() => {
        const d = this.domains.get(domain.domid);
        if (d !== undefined && d.running.domain === domain) this.noteEnd(d);
      });
    });
  }

  /** Milliseconds from the epoch, by the machine's clock. */
  protected now(): number {
    const { clock } = this.machine;
    return (clock.epochStart + clock.now()) / 1e6;
  }

  protected emit(event: HostEvent): void {
    for (const sink of [...this.events]) sink(event);
  }
  protected wake(): void {
    this.machine.onInput();
  }
  /** After so much of the machine's time. */
  protected later(ms: number): Promise<undefined> {
    const { timers, clock } = this.machine.xen;
    return new Promise((resolve) => {
      timers.set(
        timers.create(() => resolve(undefined)),
        clock.now() + ms * 1e6,
      );
      this.wake();
    });
  }

  // --- finding ------------------------------------------------------------------------------------------------------------------

  /** A domain by number or name; numbers are what is all digits. */
  protected domidOf(ref: DomainRef): number {
    const text = String(ref);
    if (/^\d+$/.test(text)) {
      const domid = Number(text);
      if (domid === DOM0 || this.domains.has(domid)) return domid;
      throw new HostError("unknown-domain", `Domain '${text}' does not exist.`);
    }
    if (text === (this.machine.xs.read("/local/domain/0/name") ?? "Domain-0")) return DOM0;
    for (const d of this.domains.values()) if (d.name === text) return d.domid;
    throw new HostError("unknown-domain", `${text} is an invalid domain identifier`);
  }
  protected find(ref: DomainRef, what: string): ManagedDomain {
    const domid = this.domidOf(ref);
    const d = this.domains.get(domid);
    if (d === undefined) throw new HostError("invalid", `${what} is not for Domain-0`);
    return d;
  }

  // --- facts --------------------------------------------------------------------------------------------------------------------

  protected infoOf(d: ManagedDomain): DomainInfo {
    return domainInfo(d.running.domain, {
      name: d.name,
      startedAt: d.startedAt,
      ...memory.limits(this.machine.xs, d.running.domain),
      pool: sched.poolOf(this.machine.xen, d.running.domain).name,
    });
  }
  protected info0(): DomainInfo {
    return domain0Info(
      this.machine,
      this.platform,
      this.startedAt,
      sched.poolOf(this.machine.xen, this.machine.dom0).name,
    );
  }

  // --- life ---------------------------------------------------------------------------------------------------------------------

  protected parse(request: CreateRequest): DomainConfig {
    return said(() => parseDomainConfig(request.config, request.source, { overrides: request.overrides ?? [] }));
  }

  /** @internal Keep a name while something is made under it; call the result when it is there, or not. */
  reserveName(name: string): () => void {
    this.assertNameFree(name);
    this.reserved.add(name);
    return () => void this.reserved.delete(name);
  }
  protected async withName<T>(name: string, body: () => Promise<T>): Promise<T> {
    const release = this.reserveName(name);
    try {
      return await body();
    } finally {
      release();
    }
  }
  protected assertNameFree(name: string, except = -1): void {
    const taken =
      this.reserved.has(name) ||
      name === this.machine.xs.read("/local/domain/0/name") ||
      [...this.domains.values()].some((d) => d.name === name && d.domid !== except);
    if (taken) throw new HostError("exists", `Domain with name "${name}" already exists.`);
  }

  /** Plan, build and (unless asked not to) start a domain; `again` is what an earlier life of it leaves. */
  protected async make(
    request: CreateRequest,
    config: DomainConfig,
    again: { before?: ManagedDomain; uuid?: string },
  ): Promise<ManagedDomain> {
    const base: PathBase = { cwd: request.cwd, source: request.source };
    const { machine, platform } = this;
    const { before } = again;
    const opened: Parameters<ManagedDomain["track"]>[0][] = [];
    const plan = await saidLater(async () => {
      // What was plugged or unplugged meanwhile holds; interfaces keep their addresses.
      const p = await planDomain(platform, base, before === undefined ? config : { ...config, disk: [], vif: [] });
      if (before === undefined) return p;
      const disks = [];
      for (const d of before.disks)
        disks.push((await planDisk(platform, d.spec, { cwd: d.cwd, source: d.source })).disk);
      return { ...p, spec: { ...p.spec, disks, vifs: before.vifs } };
    });
    const uuid = again.uuid ?? plan.spec.uuid ?? machine.newUuid();
    const vifs = (plan.spec.vifs ?? []).map((v, i) => ({
      ...v,
      mac: v.mac ?? randomMac(() => machine.random()),
      devid: v.devid ?? i,
    }));
    const pool = said(() => sched.findPool(machine.xen, plan.pool));
    const asked = plan.spec.memoryMiB * 1024 + DOMAIN_OVERHEAD_KIB;
    if (asked > freeKiB(machine)) {
      throw new HostError(
        "no-memory",
        `not enough free memory: ${plan.spec.memoryMiB} MiB wanted, ${Math.floor(freeKiB(machine) / 1024)} MiB free`,
      );
    }
    const channelPlan = said(() => planChannels(platform, base, config.channel));
    const consoles = before?.consoles ?? [this.newConsole(config.name)];
    let running: RunningDomain;
    let channels: Channels;
    try {
      running = await machine.createDomain({
        ...plan.spec,
        uuid,
        vifs,
        paused: true,
        disks: (plan.spec.disks ?? []).map((disk) => ({
          ...disk,
          image: openTracked(disk.image, (image) => opened.push(image)),
        })),
      });
      try {
        channels = await Channels.attach(machine, platform, running, channelPlan, consoles);
      } catch (e) {
        running.destroy();
        throw e;
      }
    } catch (e) {
      if (before === undefined) for (const c of consoles) c.end("the domain could not be made");
      throw asHostError(e, plan.kernelPath);
    }
    const d = this.register(running, {
      consoles,
      channels,
      request,
      config,
      warnings: plan.warnings,
      opened,
      pauses: 1,
      vifs,
      before,
      kernelPath: plan.kernelPath,
      ramdiskPath: plan.spec.ramdiskPath,
    });
    try {
      this.place(d, plan, pool);
    } catch (e) {
      await this.endDomain(d, "could not be started");
      throw asHostError(e, plan.kernelPath);
    }
    this.emit({ type: "created", domid: d.domid, name: d.name });
    if (request.paused !== true || before !== undefined) await this.unpause(d.domid);
    return d;
  }

  /** @internal The first console of a domain. */
  newConsole(name: string): ConsoleHub {
    return new ConsoleHub(this.platform.consoleLog?.(name));
  }

  /** @internal A domain of the machine's becomes one of the host's. */
  register(running: RunningDomain, as: Registration): ManagedDomain {
    const { request, config, before } = as;
    const { onPoweroff, onReboot, onCrash, onWatchdog, onSoftReset } = config;
    const kept: Kept = {
      kernelPath: as.kernelPath ?? config.kernel ?? "",
      ramdiskPath: as.ramdiskPath ?? config.ramdisk,
      warnings: as.warnings,
      onPoweroff,
      onReboot,
      onCrash,
      onWatchdog,
      onSoftReset,
    };
    const consoles = as.consoles ?? before?.consoles ?? [this.newConsole(config.name)];
    const d = new ManagedDomain(
      running,
      request,
      config,
      kept,
      config.name,
      consoles,
      before?.limit ?? new RestartLimit(),
    );
    for (const image of as.opened) d.track(image);
    d.startedAt = this.now();
    const base: PathBase = { cwd: request.cwd, source: request.source };
    d.disks = as.disks ?? before?.disks ?? devices.records(config.disk, base);
    d.vifs = as.vifs;
    d.pauses = as.pauses;
    d.isFork = as.fork ?? false;
    d.channels = as.channels;
    consoles[0]?.connect(running.console);
    this.domains.set(d.domid, d);
    return d;
  }

  /** @internal A domain that came from elsewhere (a file, another host, a fork) is the host's from now on; it may have ended already. */
  adopt(
    running: RunningDomain,
    as: Omit<Registration, "vifs"> & { readonly vifs?: readonly VifSpec[] },
  ): ManagedDomain {
    const d = this.register(running, {
      ...as,
      vifs: as.vifs ?? devices.vifsOf(this.machine.xs, running.domain.domid, vifSpecs(as.config)),
    });
    try {
      this.place(d, placing(as.config), sched.findPool(this.machine.xen, as.config.pool));
    } catch (e) {
      this.log(`${d.name}: ${e instanceof Error ? e.message : String(e)}`);
    }
    this.emit({ type: "created", domid: d.domid, name: d.name });
    if (running.ended) void Promise.resolve().then(() => this.noteEnd(d));
    return d;
  }

  /** Pool, affinity and scheduling parameters. */
  protected place(d: ManagedDomain, plan: Placing, pool: PoolInfo): void {
    const { xen } = this.machine;
    const { domain } = d.running;
    sched.moveToPool(xen, domain, pool.name);
    for (const v of domain.vcpus) {
      // One for all; of several, each vCPU its own, and those beyond the list go anywhere.
      const at = <T>(list: readonly T[] | undefined): T | undefined => (list?.length === 1 ? list[0] : list?.[v.id]);
      const hard = at(plan.hardAffinity);
      const soft = at(plan.softAffinity);
      if (hard !== undefined || soft !== undefined) sched.pin(xen, v, hard ?? null, soft ?? null);
    }
    const lines = sched.applyWords(xen, domain, plan);
    if (lines.length > 0)
      d.plan = { ...d.plan, warnings: [...d.plan.warnings, ...lines.map((l) => `${d.name}: ${l}`)] };
  }

  /** @internal Take a domain away; its number is free when this returns, its images are closed when the promise resolves. */
  async endDomain(d: ManagedDomain, reason: string, keepConsoles = false): Promise<void> {
    if (this.domains.get(d.domid) !== d) return;
    d.ended = true;
    d.running.destroy();
    d.channels?.close();
    this.domains.delete(d.domid);
    if (keepConsoles) for (const c of d.consoles) c.disconnect();
    else for (const c of d.consoles) c.end(reason);
    d.settle(d.running.shutdownCode);
    this.emit({ type: "destroyed", domid: d.domid, name: d.name });
    this.wake();
    if (d.images.size > 0) await Promise.race([Promise.all(d.images), this.later(CLOSE_MS)]);
  }

  async unpause(ref: DomainRef): Promise<void> {
    const d = this.find(ref, "unpause");
    if (d.pauses === 0) throw new HostError("state", `Domain ${d.domid} is not paused`);
    d.pauses--;
    this.machine.xen.unpause(d.running.domain);
    this.wake();
  }

  protected setName(d: ManagedDomain, name: string): void {
    const { xs } = this.machine;
    xs.transaction((t) => {
      t.write(`/local/domain/${d.domid}/name`, name);
      t.write(`/vm/${d.uuid}/name`, name);
    });
    d.name = name;
    d.running.domain.name = name;
    d.config = { ...d.config, name };
  }

  // --- ends ---------------------------------------------------------------------------------------------------------------------

  /** A domain has shut down. */
  protected noteEnd(d: ManagedDomain): void {
    if (d.ended || !d.running.ended) return;
    const code = d.running.shutdownCode;
    d.crashReason = d.running.domain.crashReason;
    this.emit({ type: "shutdown", domid: d.domid, name: d.name, code });
    // Whoever suspends a domain goes on from here; one that suspends itself stays as it is.
    if (code === SHUTDOWN_suspend) {
      d.settle(code);
      return;
    }
    d.ended = true;
    d.settle(code);
    if ((code === SHUTDOWN_crash || code === SHUTDOWN_watchdog) && d.crashReason === "") this.dumpVcpus(d);
    const work = this.act(d, code).catch((e: unknown) => {
      this.log(`Domain ${d.domid}: ${e instanceof Error ? e.message : String(e)}`);
    });
    this.ending.add(work);
    void work.finally(() => this.ending.delete(work));
  }

  protected async act(d: ManagedDomain, code: number): Promise<void> {
    const { domid, name } = d;
    let action: Action = d.request.forget === true ? "destroy" : actionFor(d.plan, code);
    this.log(`Domain ${domid} has shut down, reason code ${code}; action for it is ${action}`);
    if (restarts(action)) {
      const ran = this.now() - d.startedAt;
      const why =
        action === "soft-reset"
          ? "soft reset is for HVM domains: destroyed"
          : d.isFork && d.disks.length > 0
            ? "a fork with disks cannot start again: they were its parent's"
            : d.limit.refuses(code, ran);
      if (why !== undefined) {
        this.log(`${name}: ${why}`);
        this.machine.xen.console.log(`${name}: ${why}`);
        action = "destroy";
      }
    }
    if (dumpsCore(action)) {
      const file = this.platform.dumpPath?.(name);
      try {
        if (file === undefined) throw new HostError("unsupported", "there is no place for a core dump");
        await dumpTo(this.machine, this.platform, d, file);
        this.log(`${name}: core dumped to ${file}`);
      } catch (e) {
        this.log(`${name}: core dump failed: ${e instanceof Error ? e.message : String(e)}`);
      }
    }
    if (this.domains.get(domid) !== d) return;
    if (action === "preserve") {
      this.emit({ type: "action", domid, name, action });
      return;
    }
    if (!restarts(action)) {
      await this.endDomain(d, "the domain has ended");
      this.emit({ type: "action", domid, name, action });
      return;
    }
    const request = d.request;
    let config = d.config;
    if (action === "rename-restart") {
      // The dead domain stays for whoever wants to look at it, under another name.
      const kept = `${name}-${stamp(this.now())}`;
      this.setName(d, kept);
      this.emit({ type: "renamed", domid, name: kept });
      for (const c of d.consoles) c.disconnect();
      config = { ...config, name };
    } else {
      this.reserved.add(name);
      try {
        await this.endDomain(d, "the domain starts again", true);
      } finally {
        this.reserved.delete(name);
      }
    }
    try {
      await this.withName(name, async () => {
        const next = await this.make(request, config, {
          before: d,
          ...(action === "rename-restart" ? {} : { uuid: d.uuid }),
        });
        this.emit({ type: "action", domid, name, action, newDomid: next.domid });
      });
    } catch (e) {
      for (const c of d.consoles) c.end("the domain could not be started again");
      this.log(`${name} could not be started again: ${e instanceof Error ? e.message : String(e)}`);
      this.emit({ type: "action", domid, name, action: "destroy" });
    }
  }

  /** Registers and stack of every vCPU that is up, into the hypervisor's console. */
  protected dumpVcpus(d: ManagedDomain): void {
    const { xen } = this.machine;
    for (const v of d.running.domain.vcpus) {
      if (!v.up) continue;
      xen.console.log(`Domain ${d.domid} (vcpu#${v.id}) has crashed:`);
      xen.withLoaded(v, () => {
        for (const line of dumpState(v)) xen.console.log(line);
      });
    }
  }

  protected log(line: string): void {
    this.platform.log(line);
  }

  /** All domains away, as fast as can be (the host ends). */
  async close(reason = "the host has ended"): Promise<void> {
    await Promise.all([...this.domains.values()].map((d) => this.endDomain(d, reason)));
    await Promise.all(this.ending);
  }
}

/** As xl names a preserved domain: UTC, to the minute. */
function stamp(ms: number): string {
  return new Date(ms)
    .toISOString()
    .replace(/[-:]/g, "")
    .replace(/^(\d{8}T\d{4}).*$/, "$1Z");
}
