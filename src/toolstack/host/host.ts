/**
 * A host of domains in one program: the toolstack above a `Machine`, behind `HostApi`.
 *
 * Invariants:
 * - domains are made and ended between slices of guest work, never inside a callback of the hypervisor (the end of one is looked at in a
 *   microtask, after the slice that saw it);
 * - a name belongs to one domain at a time, from the moment it is asked for;
 * - what a guest does ends at its own domain: no end of a domain, whatever its action, throws out of here.
 */
import { EEXIST } from "../../abi/errno.js";
import { SHUTDOWN_crash, SHUTDOWN_suspend, SHUTDOWN_watchdog } from "../../abi/sched.js";
import { DeviceError } from "../../devices/xenbus/index.js";
import { dumpState } from "../../hypervisor/traps/dump.js";
import { XEN_EXTRAVERSION } from "../../hypervisor/hypercalls/xen-version.js";
import { XEN_MAJOR, XEN_MINOR } from "../../hypervisor/traps/cpuid-policy.js";
import { InvariantError } from "../../hypervisor/memory/invariant.js";
import { BuildError } from "../builder/index.js";
import { ConfigError, parseDomainConfig, type Action, type DomainConfig } from "../config/index.js";
import { randomMac } from "../config/vif.js";
import { DiskError, openTracked } from "../disks.js";
import type { Machine, RunningDomain, VifSpec } from "../machine.js";
import { MigrationLedger, type Duplex } from "../migration/index.js";
import { actionFor, dumpsCore, RestartLimit, restarts } from "./actions.js";
import {
  HostError,
  type ConsoleChannel,
  type CreateRequest,
  type CreateResult,
  type DeviceInfo,
  type DeviceStats,
  type DomainInfo,
  type DomainRef,
  type HostApi,
  type HostEvent,
  type HostInfo,
  type MigrateResult,
  type PoolInfo,
  type SaveOptions,
} from "./api.js";
import { Channels, planChannels } from "./channels.js";
import { ConsoleHub, noConsole, type ConsoleSink } from "./console-hub.js";
import { cpuMask } from "./cpu-list.js";
import * as devices from "./devices.js";
import { pressKeys } from "./debug-keys.js";
import { domain0Info, domainInfo, freeKiB, hostInfo, totalKiB } from "./facts.js";
import { libxlConfig } from "./libxl-json.js";
import { ManagedDomain, type DiskRecord, type Kept } from "./managed-domain.js";
import * as memory from "./memory.js";
import * as moving from "./moving.js";
import { placing, planDisk, planDomain, planVif, vifSpecs, type Placing } from "./plan.js";
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

const DOM0 = 0;
/** Page tables of the builder and shared frames, beside the memory a domain asks for. */
const DOMAIN_OVERHEAD_KIB = 512;
/** How long the end of a domain waits for its disks' images to be closed. */
const CLOSE_MS = 5000;

export class Host implements HostApi {
  readonly machine: Machine;
  readonly platform: HostPlatform;
  readonly domains = new Map<number, ManagedDomain>();
  /** Facts of the service; may be added to when it listens. */
  facts: Partial<HostInfo>;
  private readonly version: string;
  private readonly startedAt: number;
  /** Names of domains that are being made. */
  private readonly reserved = new Set<string>();
  private readonly events = new Set<(event: HostEvent) => void>();
  /** What became of domains that came here from other hosts. */
  private readonly ledger = new MigrationLedger();
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
  private now(): number {
    const { clock } = this.machine;
    return (clock.epochStart + clock.now()) / 1e6;
  }

  private emit(event: HostEvent): void {
    for (const sink of [...this.events]) sink(event);
  }
  private wake(): void {
    this.machine.onInput();
  }
  /** After so much of the machine's time. */
  private later(ms: number): Promise<undefined> {
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
  private domidOf(ref: DomainRef): number {
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
  private find(ref: DomainRef, what: string): ManagedDomain {
    const domid = this.domidOf(ref);
    const d = this.domains.get(domid);
    if (d === undefined) throw new HostError("invalid", `${what} is not for Domain-0`);
    return d;
  }

  // --- facts --------------------------------------------------------------------------------------------------------------------

  async info(): Promise<HostInfo> {
    return hostInfo(this.machine, this.platform, {
      version: this.version,
      startedAt: this.startedAt,
      ...this.facts,
    });
  }

  private infoOf(d: ManagedDomain): DomainInfo {
    return domainInfo(d.running.domain, {
      name: d.name,
      startedAt: d.startedAt,
      ...memory.limits(this.machine.xs, d.running.domain),
      pool: sched.poolOf(this.machine.xen, d.running.domain).name,
    });
  }
  private info0(): DomainInfo {
    return domain0Info(
      this.machine,
      this.platform,
      this.startedAt,
      sched.poolOf(this.machine.xen, this.machine.dom0).name,
    );
  }

  async listDomains(): Promise<readonly DomainInfo[]> {
    const guests = [...this.domains.values()].sort((a, b) => a.domid - b.domid);
    return [this.info0(), ...guests.map((d) => this.infoOf(d))];
  }
  async getDomain(ref: DomainRef): Promise<DomainInfo> {
    const domid = this.domidOf(ref);
    const d = this.domains.get(domid);
    return d === undefined ? this.info0() : this.infoOf(d);
  }

  // --- life ---------------------------------------------------------------------------------------------------------------------

  async create(request: CreateRequest): Promise<CreateResult> {
    const config = this.parse(request);
    return this.withName(config.name, async () => {
      const made = await this.make(request, config, {});
      return { domid: made.domid, name: made.name, warnings: made.plan.warnings };
    });
  }

  private parse(request: CreateRequest): DomainConfig {
    return said(() => parseDomainConfig(request.config, request.source, { overrides: request.overrides ?? [] }));
  }

  /** @internal Keep a name while something is made under it; call the result when it is there, or not. */
  reserveName(name: string): () => void {
    this.assertNameFree(name);
    this.reserved.add(name);
    return () => void this.reserved.delete(name);
  }
  private async withName<T>(name: string, body: () => Promise<T>): Promise<T> {
    const release = this.reserveName(name);
    try {
      return await body();
    } finally {
      release();
    }
  }
  private assertNameFree(name: string, except = -1): void {
    const taken =
      this.reserved.has(name) ||
      name === this.machine.xs.read("/local/domain/0/name") ||
      [...this.domains.values()].some((d) => d.name === name && d.domid !== except);
    if (taken) throw new HostError("exists", `Domain with name "${name}" already exists.`);
  }

  /** Plan, build and (unless asked not to) start a domain; `again` is what an earlier life of it leaves. */
  private async make(
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
  private place(d: ManagedDomain, plan: Placing, pool: PoolInfo): void {
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

  async destroy(ref: DomainRef): Promise<void> {
    const d = this.find(ref, "destroy");
    await this.endDomain(d, "the domain was destroyed");
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

  async shutdown(ref: DomainRef, how: "poweroff" | "reboot", wait = false): Promise<void> {
    const d = this.find(ref, how === "reboot" ? "reboot" : "shutdown");
    if (d.running.ended) return;
    d.running.requestShutdown(how);
    this.wake();
    if (wait) await this.waitForEnd(d.domid);
  }

  async waitForEnd(ref: DomainRef, timeoutMs?: number): Promise<number> {
    const d = this.find(ref, "waiting for its end");
    if (d.running.ended) return d.running.shutdownCode;
    const end = new Promise<number>((resolve) => d.waiters.add(resolve));
    if (timeoutMs === undefined) return end;
    const code = await Promise.race([end, this.later(timeoutMs)]);
    if (code === undefined)
      throw new HostError("timeout", `Domain ${d.domid} has not ended within ${timeoutMs / 1000} s`);
    return code;
  }

  async pause(ref: DomainRef): Promise<void> {
    const d = this.find(ref, "pause");
    if (d.pauses >= 255) throw new HostError("state", `Domain ${d.domid} has been paused too often`);
    d.pauses++;
    this.machine.xen.pause(d.running.domain);
  }
  async unpause(ref: DomainRef): Promise<void> {
    const d = this.find(ref, "unpause");
    if (d.pauses === 0) throw new HostError("state", `Domain ${d.domid} is not paused`);
    d.pauses--;
    this.machine.xen.unpause(d.running.domain);
    this.wake();
  }

  async rename(ref: DomainRef, name: string): Promise<void> {
    const domid = this.domidOf(ref);
    if (name === "" || name.includes("\0") || name.includes("/")) {
      throw new HostError("invalid", `"${name}" is not a name for a domain`);
    }
    const d = this.domains.get(domid);
    if (d === undefined) {
      this.assertNameFree(name, DOM0);
      this.machine.xs.write("/local/domain/0/name", name);
    } else {
      if (d.name === name) return;
      this.assertNameFree(name, domid);
      this.setName(d, name);
    }
    this.emit({ type: "renamed", domid, name });
  }
  private setName(d: ManagedDomain, name: string): void {
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
  private noteEnd(d: ManagedDomain): void {
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

  private async act(d: ManagedDomain, code: number): Promise<void> {
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
        await moving.dump(this, d, file);
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
  private dumpVcpus(d: ManagedDomain): void {
    const { xen } = this.machine;
    for (const v of d.running.domain.vcpus) {
      if (!v.up) continue;
      xen.console.log(`Domain ${d.domid} (vcpu#${v.id}) has crashed:`);
      xen.withLoaded(v, () => {
        for (const line of dumpState(v)) xen.console.log(line);
      });
    }
  }

  private log(line: string): void {
    this.platform.log(line);
  }

  /** All domains away, as fast as can be (the host ends). */
  async close(reason = "the host has ended"): Promise<void> {
    await Promise.all([...this.domains.values()].map((d) => this.endDomain(d, reason)));
    await Promise.all(this.ending);
  }

  // --- configuration ------------------------------------------------------------------------------------------------------------

  async getConfig(ref: DomainRef): Promise<Readonly<Record<string, unknown>>> {
    const d = this.domains.get(this.domidOf(ref));
    if (d === undefined)
      return libxlConfig(null, { info: this.info0(), scheduler: this.schedulerOf(this.machine.dom0) });
    return this.configJson(d.config, d);
  }
  private schedulerOf(d: Machine["dom0"]): { name: string; params: Readonly<Record<string, number>> } {
    return { name: this.machine.xen.scheduler.policy.optName, params: sched.getParams(this.machine.xen, d) };
  }
  /** @internal A configuration in libxl's JSON, with the domain's present state. */
  configJson(config: DomainConfig, d: ManagedDomain): Readonly<Record<string, unknown>> {
    return libxlConfig(
      {
        ...config,
        ...(d.plan.kernelPath === "" ? {} : { kernel: d.plan.kernelPath }),
        ...(d.plan.ramdiskPath === undefined ? {} : { ramdisk: d.plan.ramdiskPath }),
      },
      {
        info: this.infoOf(d),
        scheduler: this.schedulerOf(d.running.domain),
        disks: d.disks.map((x) => devices.absolute(this.platform, x)),
        vifs: d.vifs,
      },
    );
  }

  async updateConfig(ref: DomainRef, request: CreateRequest): Promise<readonly string[]> {
    const d = this.find(ref, "config-update");
    const config = this.parse(request);
    d.config = { ...config, name: d.name };
    d.request = { ...request, ...(d.request.paused === undefined ? {} : { paused: d.request.paused }) };
    const { onPoweroff, onReboot, onCrash, onWatchdog, onSoftReset } = config;
    d.plan = { ...d.plan, onPoweroff, onReboot, onCrash, onWatchdog, onSoftReset };
    return config.warnings;
  }

  // --- control ------------------------------------------------------------------------------------------------------------------

  async sysrq(ref: DomainRef, key: string): Promise<void> {
    const d = this.find(ref, "sysrq");
    if (!/^[!-~]$/.test(key)) throw new HostError("invalid", `"${key}" is not a key`);
    this.machine.xs.write(`/local/domain/${d.domid}/control/sysrq`, key);
    this.wake();
  }

  async trigger(ref: DomainRef, trigger: string, vcpu = 0): Promise<void> {
    const d = this.find(ref, "trigger");
    if (!["nmi", "reset", "init", "power", "sleep", "s3resume"].includes(trigger)) {
      throw new HostError("invalid", `Invalid trigger "${trigger}"`);
    }
    const v = d.running.domain.vcpus[vcpu];
    if (v === undefined) throw new HostError("not-found", `Domain ${d.domid} has no vCPU ${vcpu}`);
    if (trigger !== "nmi") {
      throw new HostError(
        "unsupported",
        `Send trigger '${trigger}' failed: Invalid argument (a PV domain takes nmi only)`,
      );
    }
    if (!v.up) throw new HostError("state", `vCPU ${vcpu} of domain ${d.domid} is offline`);
    v.traps.nmiPending = true;
    this.machine.xen.scheduler.unblock(v.sched);
    this.wake();
  }

  async dumpCore(ref: DomainRef, file: string): Promise<void> {
    const d = this.find(ref, "dump-core");
    await d.exclusively("being dumped", () => moving.dump(this, d, file));
  }
  async setMemoryTarget(ref: DomainRef, kib: number): Promise<void> {
    memory.setTarget(this.machine, this.domidOf(ref), this.domains.get(this.domidOf(ref))?.running.domain, kib);
    this.wake();
  }
  async setMemoryMax(ref: DomainRef, kib: number): Promise<void> {
    memory.setMax(this.machine, this.find(ref, "mem-max").running.domain, kib);
  }
  async setVcpus(ref: DomainRef, count: number): Promise<void> {
    const d = this.find(ref, "vcpu-set");
    const max = d.running.domain.vcpus.length;
    if (!Number.isInteger(count) || count < 1 || count > max) {
      throw new HostError("invalid", `Domain ${d.domid}: Requested ${count} VCPUs, 1 to ${max} are possible`);
    }
    this.machine.xs.transaction((t) => {
      for (let i = 0; i < max; i++)
        t.write(`/local/domain/${d.domid}/cpu/${i}/availability`, i < count ? "online" : "offline");
    });
    d.config = { ...d.config, vcpus: count };
    this.wake();
  }
  async pinVcpu(
    ref: DomainRef,
    vcpu: number | "all",
    hard?: readonly number[] | null,
    soft?: readonly number[] | null,
  ): Promise<void> {
    const d = this.find(ref, "vcpu-pin");
    const all = d.running.domain.vcpus;
    const some = vcpu === "all" ? all : all.filter((v) => v.id === vcpu);
    if (some.length === 0) throw new HostError("not-found", `Could not set affinity for vcpu \`${vcpu}'.`);
    if (hard !== undefined && cpuMask(hard) === 0) throw new HostError("invalid", "vcpu hard affinity map is empty");
    for (const v of some) sched.pin(this.machine.xen, v, hard, soft);
    this.wake();
  }

  // --- scheduling ---------------------------------------------------------------------------------------------------------------

  private domainOf(ref: DomainRef): Machine["dom0"] {
    return this.domains.get(this.domidOf(ref))?.running.domain ?? this.machine.dom0;
  }
  async getSched(ref: DomainRef): Promise<Readonly<Record<string, number>>> {
    return sched.getParams(this.machine.xen, this.domainOf(ref));
  }
  async setSched(ref: DomainRef, scheduler: string, params: Readonly<Record<string, number>>): Promise<void> {
    sched.setParams(this.machine.xen, this.domainOf(ref), scheduler, params);
  }
  async getSchedGlobal(pool?: string): Promise<Readonly<Record<string, number>>> {
    return sched.getGlobal(this.machine.xen, pool);
  }
  async setSchedGlobal(params: Readonly<Record<string, number>>, pool?: string): Promise<void> {
    sched.setGlobal(this.machine.xen, params, pool);
  }
  async listPools(): Promise<readonly PoolInfo[]> {
    return sched.listPools(this.machine.xen);
  }
  async createPool(name: string, scheduler: string | undefined, cpus: readonly number[]): Promise<PoolInfo> {
    const pool = sched.createPool(this.machine.xen, name, scheduler, cpus);
    this.machine.xs.write(`/local/pool/${pool.id}/name`, pool.name);
    return pool;
  }
  async destroyPool(ref: string): Promise<void> {
    const { id } = sched.findPool(this.machine.xen, ref);
    sched.destroyPool(this.machine.xen, ref);
    this.machine.xs.rm(`/local/pool/${id}`);
  }
  async renamePool(ref: string, name: string): Promise<void> {
    const { id } = sched.findPool(this.machine.xen, ref);
    sched.renamePool(this.machine.xen, ref, name);
    this.machine.xs.write(`/local/pool/${id}/name`, name);
  }
  async poolAddCpus(ref: string, cpus: readonly number[]): Promise<void> {
    sched.poolAddCpus(this.machine.xen, ref, cpus);
  }
  async poolRemoveCpus(ref: string, cpus: readonly number[]): Promise<void> {
    sched.poolRemoveCpus(this.machine.xen, ref, cpus);
  }
  async poolMoveDomain(ref: DomainRef, pool: string): Promise<void> {
    sched.moveToPool(this.machine.xen, this.domainOf(ref), sched.findPool(this.machine.xen, pool).name);
    this.wake();
  }

  // --- devices ------------------------------------------------------------------------------------------------------------------

  async listDevices(ref: DomainRef, kind: DeviceInfo["kind"]): Promise<readonly DeviceInfo[]> {
    return devices.list(this.machine.xs, this.domidOf(ref), kind);
  }
  async deviceStats(ref: DomainRef): Promise<DeviceStats> {
    const d = this.domains.get(this.domidOf(ref));
    return d === undefined ? { vifs: [], vbds: [] } : devices.stats(d);
  }
  async attachDisk(ref: DomainRef, spec: string, cwd?: string): Promise<void> {
    const d = this.find(ref, "block-attach");
    d.assertFree();
    const base: PathBase = { cwd, source: "command line" };
    const { disk, config } = await saidLater(() => planDisk(this.platform, spec, base));
    await saidLater(async () => {
      await d.running.attachDisk({
        ...disk,
        image: openTracked(disk.image, (image) => d.track(image)),
      });
    });
    d.disks = [...d.disks, { spec, vdev: config.vdev, ...base }];
    this.wake();
  }
  async detachDisk(ref: DomainRef, vdev: string, force = false): Promise<void> {
    const d = this.find(ref, "block-detach");
    await devices.detachDisk(d, vdev, force, () => this.wake());
  }
  async insertCd(ref: DomainRef, vdev: string, target: string, cwd?: string): Promise<void> {
    const d = this.find(ref, "cd-insert");
    await saidLater(() => devices.changeCd(this.platform, d, vdev, target, { cwd, source: "command line" }));
    this.wake();
  }
  async ejectCd(ref: DomainRef, vdev: string): Promise<void> {
    const d = this.find(ref, "cd-eject");
    await saidLater(() => devices.changeCd(this.platform, d, vdev, null, { source: "command line" }));
    this.wake();
  }
  async attachVif(ref: DomainRef, spec: string): Promise<void> {
    const d = this.find(ref, "network-attach");
    d.assertFree();
    const { vif } = said(() => planVif(spec));
    const full = { ...vif, mac: vif.mac ?? randomMac(() => this.machine.random()) };
    const backend = said(() => d.running.attachVif(full));
    d.vifs = [...d.vifs, { ...full, devid: backend.devid }];
    this.wake();
  }
  async detachVif(ref: DomainRef, vif: string): Promise<void> {
    const d = this.find(ref, "network-detach");
    await devices.detachVif(d, vif, () => this.wake());
  }

  // --- moving -------------------------------------------------------------------------------------------------------------------

  async save(ref: DomainRef, options: SaveOptions): Promise<void> {
    await moving.save(this, this.find(ref, "save"), options);
  }
  async restore(
    file: string,
    options?: { readonly paused?: boolean; readonly config?: string },
  ): Promise<CreateResult> {
    return saidLater(() => moving.restore(this, file, options));
  }
  async migrate(
    ref: DomainRef,
    to: string,
    options?: { readonly config?: string; readonly keepName?: boolean },
  ): Promise<MigrateResult> {
    return moving.migrate(this, this.find(ref, "migrate"), to, options);
  }
  /** Serve a link from another host; resolves when the domain is here, or not. */
  receive(link: Duplex): Promise<number | null> {
    return saidLater(() => moving.receive(this, link, this.ledger));
  }
  async fork(
    ref: DomainRef,
    options?: { readonly count?: number; readonly name?: string; readonly paused?: boolean },
  ): Promise<readonly CreateResult[]> {
    return saidLater(() => moving.fork(this, this.find(ref, "fork"), options));
  }

  // --- the hypervisor -----------------------------------------------------------------------------------------------------------

  async dmesg(clear = false): Promise<string> {
    const { console } = this.machine.xen;
    const text = console.text();
    if (clear) console.clear();
    return text;
  }
  async debugKeys(keys: string): Promise<void> {
    pressKeys(this.machine.xen, keys);
    this.wake();
  }
  async claims(): Promise<readonly { readonly domid: number; readonly kib: number }[]> {
    const all = [...this.machine.xen.domains.values()].sort((a, b) => a.domid - b.domid);
    return all.map((d) => ({ domid: d.domid, kib: d.mm.claimed * 4 }));
  }

  // --- streams ------------------------------------------------------------------------------------------------------------------

  async openConsole(ref: DomainRef, index: number, sink: ConsoleSink): Promise<ConsoleChannel> {
    const d = this.find(ref, "console");
    const hub = d.consoles[index];
    if (hub === undefined) throw noConsole(index);
    const channel = hub.attach(sink);
    return {
      write: (bytes) => {
        channel.write(bytes);
        this.wake();
      },
      close: () => channel.close(),
    };
  }
  onEvent(sink: (event: HostEvent) => void): () => void {
    this.events.add(sink);
    return () => void this.events.delete(sink);
  }
}

// --- mistakes -------------------------------------------------------------------------------------------------------------------------

/** A mistake of the caller's as a HostError; mistakes of ours stay what they are. */
function asHostError(e: unknown, kernel?: string): unknown {
  if (e instanceof HostError) return e;
  if (e instanceof BuildError) {
    const code = /free memory/.test(e.message) ? "no-memory" : "invalid";
    return new HostError(code, kernel === undefined ? e.message : `${kernel}: ${e.message}`);
  }
  if (e instanceof ConfigError || e instanceof DiskError) return new HostError("invalid", e.message);
  if (e instanceof DeviceError) return new HostError(e.errno === EEXIST ? "exists" : "invalid", e.message);
  if (!(e instanceof Error) || e instanceof InvariantError) return e;
  // Mistakes of ours have types; what is thrown as a plain Error is about what was asked for.
  const error = new HostError(e.constructor === Error ? "invalid" : "internal", e.message);
  error.cause = e;
  return error;
}
function said<T>(f: () => T): T {
  try {
    return f();
  } catch (e) {
    throw asHostError(e);
  }
}
async function saidLater<T>(f: () => Promise<T>): Promise<T> {
  try {
    return await f();
  } catch (e) {
    throw asHostError(e);
  }
}

/** As xl names a preserved domain: UTC, to the minute. */
function stamp(ms: number): string {
  return new Date(ms)
    .toISOString()
    .replace(/[-:]/g, "")
    .replace(/^(\d{8}T\d{4}).*$/, "$1Z");
}
