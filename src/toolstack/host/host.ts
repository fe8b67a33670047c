/**
 * A host of domains in one program: the toolstack above a `Machine`, behind `HostApi`. Each request finds its domain, checks what it was given and
 * hands on; what there is to know of a domain's life is in `domain-life.ts`.
 */
import { randomMac } from "../config/vif.js";
import type { DomainConfig } from "../config/index.js";
import { openTracked } from "../disks.js";
import type { Machine } from "../machine.js";
import { MigrationLedger, type Duplex } from "../migration/index.js";
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
import { noConsole, type ConsoleSink } from "./console-hub.js";
import { dumpTo } from "./core-file.js";
import { cpuMask } from "./cpu-list.js";
import * as devices from "./devices.js";
import { pressKeys } from "./debug-keys.js";
import { DOM0, DomainLife } from "./domain-life.js";
import { said, saidLater } from "./errors.js";
import { hostInfo } from "./facts.js";
import { libxlConfig } from "./libxl-json.js";
import type { ManagedDomain } from "./managed-domain.js";
import * as memory from "./memory.js";
import * as moving from "./moving.js";
import { planDisk, planVif } from "./plan.js";
import type { PathBase } from "./platform.js";
import * as sched from "./sched.js";

export type { HostOptions, Registration } from "./domain-life.js";

export class Host extends DomainLife implements HostApi {
  /** What became of domains that came here from other hosts. */
  private readonly ledger = new MigrationLedger();

  // --- facts and life ---------------------------------------------------------------------------------------------------------

  async info(): Promise<HostInfo> {
    return hostInfo(this.machine, this.platform, {
      version: this.version,
      startedAt: this.startedAt,
      ...this.facts,
    });
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

  async create(request: CreateRequest): Promise<CreateResult> {
    const config = this.parse(request);
    return this.withName(config.name, async () => {
      const made = await this.make(request, config, {});
      return { domid: made.domid, name: made.name, warnings: made.plan.warnings };
    });
  }

  async destroy(ref: DomainRef): Promise<void> {
    const d = this.find(ref, "destroy");
    await this.endDomain(d, "the domain was destroyed");
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
    await d.exclusively("being dumped", () => moving.moving(() => dumpTo(this.machine, this.platform, d, file)));
  }
  async gdb(ref: DomainRef, port: number): Promise<number> {
    const { domain } = this.find(ref, "gdb").running;
    const { platform } = this;
    if (platform.serveGdb === undefined) throw new HostError("unsupported", "this host cannot serve gdb");
    const server = await platform.serveGdb(this.machine, domain, port, () => this.wake());
    domain.onDestroy(() => server.close());
    return server.port;
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
