// A host that is nothing but the facts of a transcript: domains whose figures are set by hand, and just enough behaviour to go from one
// command to the next. What a real host does is tested with the real one (end-to-end.test.ts).
import {
  HostError,
  type CreateRequest,
  type CreateResult,
  type DeviceInfo,
  type DeviceStats,
  type DomainInfo,
  type DomainRef,
  type HostApi,
  type HostEvent,
  type HostInfo,
  type PoolInfo,
  type VcpuInfo,
} from "../../src/toolstack/host/api.js";
import { parseDisk } from "../../src/toolstack/config/disk.js";
import { parseVif } from "../../src/toolstack/config/vif.js";
import { parseDomainConfig, type DomainConfig } from "../../src/toolstack/config/index.js";
import { libxlConfig } from "../../src/toolstack/host/libxl-json.js";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
export type FakeDomain = Mutable<Omit<DomainInfo, "vcpus" | "sched">> & {
  vcpus: Mutable<VcpuInfo>[];
  sched: Record<string, number>;
  config?: DomainConfig;
  devices: DeviceInfo[];
};

export const uuid = (digit: number): string =>
  `${String(digit).repeat(8)}-${String(digit).repeat(4)}-${String(digit).repeat(4)}-${String(digit).repeat(4)}-${String(digit).repeat(12)}`;

export function fakeDomain(domid: number, name: string, over: Partial<FakeDomain> = {}, vcpus = 1): FakeDomain {
  return {
    domid,
    name,
    uuid: uuid(0),
    type: "pv",
    currentKiB: 1048576,
    maxKiB: 1048576,
    targetKiB: 1048575,
    running: false,
    blocked: false,
    paused: false,
    shutdown: false,
    crashed: false,
    dying: false,
    shutdownCode: -1,
    cpuTimeNs: 0,
    vcpusOnline: vcpus,
    maxVcpus: vcpus,
    pool: "Pool-0",
    startedAt: 0,
    vcpus: Array.from({ length: vcpus }, (_, vcpu) => ({
      vcpu,
      online: true,
      running: false,
      blocked: true,
      cpu: 0,
      timeNs: 0,
      hardAffinity: null,
      softAffinity: null,
    })),
    sched: { weight: 256, cap: 0 },
    devices: [],
    ...over,
  };
}

export const FACTS: HostInfo = {
  version: "0",
  host: "dom0",
  machine: "x86_64",
  nrCpus: 1,
  cpuMhz: 2599.998,
  totalMemory: 4095,
  freeMemory: 3028,
  scheduler: "credit2",
  xenMajor: 4,
  xenMinor: 17,
  xenExtra: ".7",
  xenCaps: "xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ",
  virtCaps: "pv hvm hap gnttab-v1 gnttab-v2",
  hwCaps: [0x0fcbf3fd, 0xf6f8320b, 0xec500800, 0x177, 5, 0x219c43a9, 0x40020c, 0],
  virtStart: "0xffff800000000000",
  changeset: "",
  commandLine:
    "console=com1 com1=115200 dom0_mem=1024M,max:1024M loglvl=all guest_loglvl=all noreboot spec-ctrl=eager-fpu ",
  compiler: "x86_64-linux-gnu-gcc (Debian 12.2.0-14+deb12u1) 12.2.0",
  compileBy: "pkg-xen-devel",
  compileDomain: "lists.alioth.debian.org",
  compileDate: "Wed Nov  4 16:52:28 UTC 2026",
  buildId: "151b373fd64b321593bf987fd923cd10dabadac4",
  startedAt: 0,
  sharingFreedMiB: 0,
  sharingUsedMiB: 0,
};

const nothing = (what: string): Promise<never> => Promise.reject(new HostError("unsupported", `${what} is not there`));

export class FakeHost implements HostApi {
  facts: Mutable<HostInfo> = { ...FACTS };
  domains: FakeDomain[] = [];
  pools: Mutable<PoolInfo>[] = [{ id: 0, name: "Pool-0", scheduler: "credit2", cpus: [0], domains: 1 }];
  globals: Record<string, number> = { ratelimit_us: 1000 };
  stats = new Map<number, DeviceStats>();
  /** Event channel and ring references of the next devices. */
  rings: [number, number, number][] = [];
  nextDomid = 1;
  /** What was asked, in words: for tests of requests. */
  readonly asked: string[] = [];
  private readonly sinks = new Set<(e: HostEvent) => void>();
  /** Codes of the ends that `shutdown` brings about; none: the guest does not listen. */
  endsWith: number | undefined = 0;
  /** The host refuses to create for this reason. */
  createError: HostError | undefined;

  add(d: FakeDomain): FakeDomain {
    this.domains.push(d);
    this.nextDomid = Math.max(this.nextDomid, d.domid + 1);
    return d;
  }
  find(ref: DomainRef): FakeDomain {
    const d = this.domains.find((x) => x.domid === ref || x.name === ref);
    if (d === undefined) throw new HostError("unknown-domain", `Domain '${ref}' does not exist.`);
    return d;
  }
  emit(e: HostEvent): void {
    for (const sink of this.sinks) sink(e);
  }
  private guest(ref: DomainRef): FakeDomain {
    const d = this.find(ref);
    if (d.domid === 0) throw new HostError("invalid", "that is not for Domain-0");
    return d;
  }

  async info(): Promise<HostInfo> {
    return this.facts;
  }
  async listDomains(): Promise<readonly DomainInfo[]> {
    return structuredClone(this.domains);
  }
  async getDomain(ref: DomainRef): Promise<DomainInfo> {
    return this.find(ref);
  }
  async create(request: CreateRequest): Promise<CreateResult> {
    this.asked.push(
      `create ${request.source}${request.paused === true ? " paused" : ""}${request.forget === true ? " forget" : ""}`,
    );
    if (this.createError !== undefined) throw this.createError;
    const c = parseDomainConfig(request.config, request.source, { overrides: request.overrides ?? [] });
    if (this.domains.some((d) => d.name === c.name))
      throw new HostError("exists", `there is a domain "${c.name}" already`);
    const domid = this.nextDomid++;
    this.add({
      ...fakeDomain(
        domid,
        c.name,
        { currentKiB: c.memory * 1024, maxKiB: c.maxmem * 1024, targetKiB: c.memory * 1024 },
        c.maxvcpus,
      ),
      pool: c.pool ?? this.pools[0].name,
      paused: request.paused ?? false,
      config: c,
    });
    return { domid, name: c.name, warnings: c.warnings };
  }
  async destroy(ref: DomainRef): Promise<void> {
    const d = this.guest(ref);
    this.domains = this.domains.filter((x) => x !== d);
    this.emit({ type: "destroyed", domid: d.domid, name: d.name });
  }
  async shutdown(ref: DomainRef, how: "poweroff" | "reboot"): Promise<void> {
    const d = this.guest(ref);
    this.asked.push(`shutdown ${d.domid} ${how}`);
    if (this.endsWith === undefined) return;
    Object.assign(d, { shutdown: true, shutdownCode: how === "reboot" ? 1 : this.endsWith, paused: true });
    this.emit({ type: "shutdown", domid: d.domid, name: d.name, code: d.shutdownCode });
  }
  async waitForEnd(ref: DomainRef): Promise<number> {
    const d = this.guest(ref);
    if (d.shutdown) return d.shutdownCode;
    return new Promise((resolve) => {
      const off = this.onEvent((e) => {
        if (e.domid !== d.domid || (e.type !== "shutdown" && e.type !== "destroyed")) return;
        off();
        resolve(e.type === "shutdown" ? e.code : -1);
      });
    });
  }
  async pause(ref: DomainRef): Promise<void> {
    this.guest(ref).paused = true;
  }
  async unpause(ref: DomainRef): Promise<void> {
    this.guest(ref).paused = false;
  }
  async rename(ref: DomainRef, name: string): Promise<void> {
    const d = this.find(ref);
    if (this.domains.some((x) => x.name === name && x !== d))
      throw new HostError("exists", `the name "${name}" is taken`);
    d.name = name;
  }
  async getConfig(ref: DomainRef): Promise<Readonly<Record<string, unknown>>> {
    const d = this.find(ref);
    const maxKiB = Math.max(d.maxKiB, (d.config?.maxmem ?? 0) * 1024);
    return libxlConfig(d.config ?? null, {
      info: { ...d, maxKiB },
      scheduler: { name: this.facts.scheduler, params: d.sched },
    });
  }
  async updateConfig(ref: DomainRef): Promise<readonly string[]> {
    this.guest(ref);
    return [];
  }
  async sysrq(ref: DomainRef, key: string): Promise<void> {
    this.asked.push(`sysrq ${this.guest(ref).domid} ${key}`);
  }
  async trigger(ref: DomainRef, trigger: string, vcpu = 0): Promise<void> {
    this.asked.push(`trigger ${this.guest(ref).domid} ${trigger} ${vcpu}`);
    if (trigger !== "nmi") throw new HostError("unsupported", "a PV domain takes nmi only");
  }
  async gdb(ref: DomainRef, port: number): Promise<number> {
    this.asked.push(`gdb ${this.guest(ref).domid} ${port}`);
    return port;
  }
  async dumpCore(ref: DomainRef, file: string): Promise<void> {
    this.asked.push(`dump-core ${this.guest(ref).domid} ${file}`);
  }
  async setMemoryTarget(ref: DomainRef, kib: number): Promise<void> {
    const d = this.find(ref);
    if (d.domid === 0) return;
    d.targetKiB = kib;
    d.currentKiB = kib;
  }
  async setMemoryMax(ref: DomainRef, kib: number): Promise<void> {
    this.guest(ref).maxKiB = kib;
  }
  async setVcpus(ref: DomainRef, count: number): Promise<void> {
    const d = this.find(ref);
    for (const v of d.vcpus) v.online = v.vcpu < count;
    d.vcpusOnline = count;
  }
  async pinVcpu(
    ref: DomainRef,
    vcpu: number | "all",
    hard?: readonly number[] | null,
    soft?: readonly number[] | null,
  ): Promise<void> {
    const some = this.guest(ref).vcpus.filter((v) => vcpu === "all" || v.vcpu === vcpu);
    if (some.length === 0) throw new HostError("not-found", "Invalid argument");
    for (const v of some) {
      if (hard !== undefined) v.hardAffinity = hard;
      if (soft !== undefined) v.softAffinity = soft;
    }
  }
  async getSched(ref: DomainRef): Promise<Readonly<Record<string, number>>> {
    return this.find(ref).sched;
  }
  async setSched(ref: DomainRef, scheduler: string, params: Readonly<Record<string, number>>): Promise<void> {
    this.asked.push(`setSched ${scheduler} ${JSON.stringify(params)}`);
    Object.assign(this.find(ref).sched, params);
  }
  async getSchedGlobal(): Promise<Readonly<Record<string, number>>> {
    return this.globals;
  }
  async setSchedGlobal(params: Readonly<Record<string, number>>): Promise<void> {
    Object.assign(this.globals, params);
  }
  async listPools(): Promise<readonly PoolInfo[]> {
    return this.pools.map((p) => ({ ...p, domains: this.domains.filter((d) => d.pool === p.name).length }));
  }
  async createPool(name: string, scheduler: string | undefined, cpus: readonly number[]): Promise<PoolInfo> {
    const pool = { id: this.pools.length, name, scheduler: scheduler ?? this.facts.scheduler, cpus, domains: 0 };
    this.pools.push(pool);
    return pool;
  }
  private pool(ref: string): Mutable<PoolInfo> {
    const p = this.pools.find((x) => x.name === ref);
    if (p === undefined) throw new HostError("not-found", `unknown cpupool '${ref}'`);
    return p;
  }
  async destroyPool(ref: string): Promise<void> {
    const p = this.pool(ref);
    if (this.domains.some((d) => d.pool === ref)) throw new HostError("state", "there are domains in it");
    this.pools = this.pools.filter((x) => x !== p);
  }
  async renamePool(ref: string, name: string): Promise<void> {
    this.pool(ref).name = name;
  }
  async poolAddCpus(ref: string, cpus: readonly number[]): Promise<void> {
    const p = this.pool(ref);
    p.cpus = [...p.cpus, ...cpus].sort();
  }
  async poolRemoveCpus(ref: string, cpus: readonly number[]): Promise<void> {
    const p = this.pool(ref);
    p.cpus = p.cpus.filter((c) => !cpus.includes(c));
  }
  async poolMoveDomain(ref: DomainRef, pool: string): Promise<void> {
    this.find(ref).pool = this.pool(pool).name;
  }
  async listDevices(ref: DomainRef, kind: DeviceInfo["kind"]): Promise<readonly DeviceInfo[]> {
    return this.find(ref).devices.filter((d) => d.kind === kind);
  }
  async deviceStats(ref: DomainRef): Promise<DeviceStats> {
    return this.stats.get(this.find(ref).domid) ?? { vifs: [], vbds: [] };
  }
  device(domid: number, kind: "vbd" | "vif", devid: number, mac?: string): void {
    const [evtchn, ringRef, rxRingRef] = this.rings.shift() ?? [-1, -1, -1];
    this.find(domid).devices.push({
      kind,
      devid,
      backendDomid: 0,
      handle: devid,
      state: 4,
      evtchn,
      ringRef,
      rxRingRef,
      backendPath: `/local/domain/0/backend/${kind}/${domid}/${devid}`,
      mac,
    });
  }
  async attachDisk(ref: DomainRef, spec: string): Promise<void> {
    this.device(this.guest(ref).domid, "vbd", parseDisk(spec).devid);
  }
  async detachDisk(ref: DomainRef, vdev: string): Promise<void> {
    const d = this.guest(ref);
    const { devid } = parseDisk(`/x,,${vdev}`);
    d.devices = d.devices.filter((x) => x.kind !== "vbd" || x.devid !== devid);
  }
  async insertCd(ref: DomainRef, vdev: string, target: string): Promise<void> {
    this.asked.push(`cd-insert ${this.guest(ref).domid} ${vdev} ${target}`);
  }
  async ejectCd(ref: DomainRef, vdev: string): Promise<void> {
    this.asked.push(`cd-eject ${this.guest(ref).domid} ${vdev}`);
  }
  async attachVif(ref: DomainRef, spec: string): Promise<void> {
    const d = this.guest(ref);
    this.device(d.domid, "vif", d.devices.filter((x) => x.kind === "vif").length, parseVif(spec).mac);
  }
  async detachVif(ref: DomainRef, vif: string): Promise<void> {
    const d = this.guest(ref);
    d.devices = d.devices.filter((x) => x.kind !== "vif" || String(x.devid) !== vif);
  }
  async save(ref: DomainRef, options: { readonly file: string; readonly after?: string }): Promise<void> {
    this.asked.push(`save ${this.guest(ref).domid} ${options.file} ${options.after ?? "destroy"}`);
  }
  restore(file: string): Promise<CreateResult> {
    this.asked.push(`restore ${file}`);
    return nothing("restore");
  }
  migrate(): Promise<never> {
    return nothing("migration");
  }
  async fork(
    ref: DomainRef,
    options: { readonly count?: number; readonly name?: string } = {},
  ): Promise<readonly CreateResult[]> {
    const from = this.guest(ref);
    return Array.from({ length: options.count ?? 1 }, (_, i) => {
      const domid = this.nextDomid++;
      const name = options.name ?? `${from.name}-fork${i + 1}`;
      this.add({ ...structuredClone(from), domid, name });
      return { domid, name, warnings: [] };
    });
  }
  async dmesg(clear?: boolean): Promise<string> {
    this.asked.push(`dmesg ${clear === true}`);
    return "(XEN) one\n(XEN) two\n";
  }
  async debugKeys(keys: string): Promise<void> {
    this.asked.push(`debug-keys ${keys}`);
  }
  async claims(): Promise<readonly { readonly domid: number; readonly kib: number }[]> {
    return [];
  }
  openConsole(): Promise<never> {
    return nothing("the console");
  }
  onEvent(sink: (event: HostEvent) => void): () => void {
    this.sinks.add(sink);
    return () => void this.sinks.delete(sink);
  }
}
