/**
 * What a host of domains can do for its shells: the one interface behind `xl`, the Xen API and the pages, whether the host lives in the
 * same program, in a worker or behind a socket.
 *
 * Invariants: every argument and result is plain JSON (bytes travel as `Uint8Array` in `ConsoleChannel` only); nothing here knows a
 * platform; a call that fails throws `HostError` with one clear line and a code a shell can act upon; a call that failed changed nothing.
 */
import type { Action, DomainType } from "../config/index.js";

export type HostErrorCode =
  /** No such domain, device, pool, snapshot. */
  | "unknown-domain"
  | "not-found"
  | "exists"
  /** The configuration or an argument is wrong: line(s) for the person who wrote it. */
  | "invalid"
  | "no-memory"
  /** The state forbids it (paused, shut down, being saved). */
  | "state"
  | "timeout"
  | "unsupported"
  | "io"
  | "internal";

export class HostError extends Error {
  override readonly name = "HostError";
  constructor(
    readonly code: HostErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** A domain by number, or by name (a name that is all digits is a number, as xl has it). */
export type DomainRef = number | string;

export interface HostInfo {
  readonly version: string;
  /** Host name, and what it runs on, for people. */
  readonly host: string;
  readonly machine: "x86_64";
  readonly nrCpus: number;
  readonly cpuMhz: number;
  /** MiB. */
  readonly totalMemory: number;
  readonly freeMemory: number;
  readonly scheduler: string;
  readonly xenMajor: number;
  readonly xenMinor: number;
  readonly xenExtra: string;
  readonly xenCaps: string;
  readonly virtCaps: string;
  /** The eight feature words of CPUID as `xl info` prints them. */
  readonly hwCaps: readonly number[];
  readonly virtStart: string;
  readonly changeset: string;
  readonly commandLine: string;
  readonly compiler: string;
  readonly compileBy: string;
  readonly compileDomain: string;
  readonly compileDate: string;
  readonly buildId: string;
  /** Milliseconds from the epoch. */
  readonly startedAt: number;
  /** The path of XenStore's unix socket, where there is one. */
  readonly xenstoreSocket?: string | undefined;
  /** Where the service listens, its process, its state folder (a service only). */
  readonly socket?: string | undefined;
  readonly pid?: number | undefined;
  readonly stateDir?: string | undefined;
  /** Where domains of other hosts are taken (`migrate`): a socket, a TCP port. */
  readonly migrationSocket?: string | undefined;
  readonly migrationPort?: number | undefined;
  readonly sharingFreedMiB: number;
  readonly sharingUsedMiB: number;
}

export interface VcpuInfo {
  readonly vcpu: number;
  readonly online: boolean;
  readonly running: boolean;
  readonly blocked: boolean;
  /** The pCPU it runs or last ran on; −1: none. */
  readonly cpu: number;
  readonly timeNs: number;
  /** pCPUs; `null`: all. */
  readonly hardAffinity: readonly number[] | null;
  readonly softAffinity: readonly number[] | null;
}

export interface DomainInfo {
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
  readonly type: DomainType;
  /** KiB it has now, may have at most, and should have (balloon target). */
  readonly currentKiB: number;
  readonly maxKiB: number;
  readonly targetKiB: number;
  readonly running: boolean;
  readonly blocked: boolean;
  readonly paused: boolean;
  readonly shutdown: boolean;
  readonly crashed: boolean;
  readonly dying: boolean;
  /** SHUTDOWN_*; −1 while it runs. */
  readonly shutdownCode: number;
  /** KiB that are shared with other domains (copy-on-write). */
  readonly sharedKiB?: number | undefined;
  readonly cpuTimeNs: number;
  readonly vcpusOnline: number;
  readonly maxVcpus: number;
  readonly pool: string;
  /** Milliseconds from the epoch. */
  readonly startedAt: number;
  readonly vcpus: readonly VcpuInfo[];
  /** Weight and cap of the credit scheduler; period, slice, latency, extra, weight of sEDF (nanoseconds). */
  readonly sched: Readonly<Record<string, number>>;
}

/** The text of a configuration with what a command line says over it. Paths in it are the host's; a relative one counts from `cwd`. */
export interface CreateRequest {
  readonly config: string;
  /** The configuration's name in messages. */
  readonly source: string;
  readonly overrides?: readonly string[];
  /** Where relative paths start. */
  readonly cwd?: string;
  readonly paused?: boolean;
  /** On crash and reboot do nothing but destroy (`xl create -F` and friends leave it out). */
  readonly forget?: boolean;
}

export interface CreateResult {
  readonly domid: number;
  readonly name: string;
  readonly warnings: readonly string[];
}

export interface DeviceInfo {
  readonly kind: "vbd" | "vif" | "console";
  readonly devid: number;
  readonly backendDomid: number;
  readonly handle: number;
  /** XenbusState of the front end. */
  readonly state: number;
  readonly evtchn: number;
  readonly ringRef: number;
  readonly rxRingRef: number;
  readonly backendPath: string;
  readonly vdev?: string | undefined;
  readonly mac?: string | undefined;
  readonly script?: string | undefined;
  readonly target?: string | undefined;
  readonly cdrom?: boolean | undefined;
  readonly connection?: string | undefined;
}

/** What a domain's back ends have carried since they were made: the columns of `xl top`. */
export interface DeviceStats {
  readonly vifs: readonly {
    readonly devid: number;
    /** From the guest's side. */
    readonly rxBytes: number;
    readonly rxPackets: number;
    readonly rxDropped: number;
    readonly txBytes: number;
    readonly txPackets: number;
    readonly txDropped: number;
  }[];
  readonly vbds: readonly {
    readonly devid: number;
    /** Requests that had to wait (BlkBack's `oo_req`). */
    readonly outOfRequests: number;
    readonly reads: number;
    readonly writes: number;
    readonly sectorsRead: number;
    readonly sectorsWritten: number;
  }[];
}

export interface PoolInfo {
  readonly id: number;
  readonly name: string;
  readonly scheduler: string;
  readonly cpus: readonly number[];
  readonly domains: number;
}

export type HostEvent =
  | { readonly type: "created" | "destroyed"; readonly domid: number; readonly name: string }
  | { readonly type: "shutdown"; readonly domid: number; readonly name: string; readonly code: number }
  /** What the host did about an end. */
  | {
      readonly type: "action";
      readonly domid: number;
      readonly name: string;
      readonly action: Action;
      readonly newDomid?: number;
    }
  | { readonly type: "renamed"; readonly domid: number; readonly name: string };

/** A terminal on a guest's console. Several may be attached at once: all see the output, all may type. */
export interface ConsoleChannel {
  write(bytes: Uint8Array): void;
  close(): void;
}

export interface SaveOptions {
  readonly file: string;
  /** Leave it running (`-c`) or paused (`-p`) after. */
  readonly after?: "destroy" | "continue" | "pause";
  /** Stored in the file in place of the domain's own configuration. */
  readonly config?: string;
}

export interface MigrateResult {
  readonly domid: number;
  readonly rounds: number;
  readonly pagesSent: number;
  readonly downtimeMs: number;
  readonly totalMs: number;
}

/** The host. Each method is one request of the wire form too (`{method, params}`), but for `openConsole` and `onEvent`, which stream. */
export interface HostApi {
  info(): Promise<HostInfo>;
  listDomains(): Promise<readonly DomainInfo[]>;
  getDomain(ref: DomainRef): Promise<DomainInfo>;

  create(request: CreateRequest): Promise<CreateResult>;
  destroy(ref: DomainRef): Promise<void>;
  /** Ask through `control/shutdown`; resolves once asked. `wait`: once it has ended. */
  shutdown(ref: DomainRef, how: "poweroff" | "reboot", wait?: boolean): Promise<void>;
  /** Resolves with the SHUTDOWN_* code of its end, −1 when it was destroyed; `timeoutMs` throws `timeout`. */
  waitForEnd(ref: DomainRef, timeoutMs?: number): Promise<number>;
  pause(ref: DomainRef): Promise<void>;
  unpause(ref: DomainRef): Promise<void>;
  rename(ref: DomainRef, name: string): Promise<void>;
  /** The configuration as it stands, in libxl's JSON (what `xl list -l` prints below `config`). */
  getConfig(ref: DomainRef): Promise<Readonly<Record<string, unknown>>>;
  updateConfig(ref: DomainRef, request: CreateRequest): Promise<readonly string[]>;
  sysrq(ref: DomainRef, key: string): Promise<void>;
  trigger(ref: DomainRef, trigger: string, vcpu?: number): Promise<void>;
  dumpCore(ref: DomainRef, file: string): Promise<void>;
  /** Serve gdb for a domain on a port of the loopback interface (0: any), until the domain is gone; resolves with the port. */
  gdb(ref: DomainRef, port: number): Promise<number>;

  /** KiB. */
  setMemoryTarget(ref: DomainRef, kib: number): Promise<void>;
  setMemoryMax(ref: DomainRef, kib: number): Promise<void>;
  setVcpus(ref: DomainRef, count: number): Promise<void>;
  pinVcpu(
    ref: DomainRef,
    vcpu: number | "all",
    hard?: readonly number[] | null,
    soft?: readonly number[] | null,
  ): Promise<void>;

  getSched(ref: DomainRef): Promise<Readonly<Record<string, number>>>;
  setSched(ref: DomainRef, scheduler: string, params: Readonly<Record<string, number>>): Promise<void>;
  /** Parameters of the scheduler itself (credit: tslice_ms, ratelimit_us). */
  getSchedGlobal(pool?: string): Promise<Readonly<Record<string, number>>>;
  setSchedGlobal(params: Readonly<Record<string, number>>, pool?: string): Promise<void>;

  listPools(): Promise<readonly PoolInfo[]>;
  createPool(name: string, scheduler: string | undefined, cpus: readonly number[]): Promise<PoolInfo>;
  destroyPool(ref: string): Promise<void>;
  renamePool(ref: string, name: string): Promise<void>;
  poolAddCpus(ref: string, cpus: readonly number[]): Promise<void>;
  poolRemoveCpus(ref: string, cpus: readonly number[]): Promise<void>;
  poolMoveDomain(ref: DomainRef, pool: string): Promise<void>;

  listDevices(ref: DomainRef, kind: DeviceInfo["kind"]): Promise<readonly DeviceInfo[]>;
  /** Counters of a domain's back ends; a host without them leaves it out, and `xl top` shows zeros. */
  deviceStats?(ref: DomainRef): Promise<DeviceStats>;
  /** Specifications in xl's own grammar. */
  attachDisk(ref: DomainRef, spec: string, cwd?: string): Promise<void>;
  detachDisk(ref: DomainRef, vdev: string, force?: boolean): Promise<void>;
  insertCd(ref: DomainRef, vdev: string, target: string, cwd?: string): Promise<void>;
  ejectCd(ref: DomainRef, vdev: string): Promise<void>;
  attachVif(ref: DomainRef, spec: string): Promise<void>;
  /** By number or by MAC. */
  detachVif(ref: DomainRef, vif: string): Promise<void>;

  save(ref: DomainRef, options: SaveOptions): Promise<void>;
  restore(file: string, options?: { readonly paused?: boolean; readonly config?: string }): Promise<CreateResult>;
  /** `to`: host:port or the path of a socket of another host service. */
  migrate(
    ref: DomainRef,
    to: string,
    options?: { readonly config?: string; readonly keepName?: boolean },
  ): Promise<MigrateResult>;
  /** Make `count` running copies of a domain, memory shared copy-on-write. */
  fork(
    ref: DomainRef,
    options?: { readonly count?: number; readonly name?: string; readonly paused?: boolean },
  ): Promise<readonly CreateResult[]>;

  /** The hypervisor's console ring (`xl dmesg`); `clear` empties it. */
  dmesg(clear?: boolean): Promise<string>;
  debugKeys(keys: string): Promise<void>;
  /** Free memory that is claimed, by domain (`xl claims`), in KiB. */
  claims(): Promise<readonly { readonly domid: number; readonly kib: number }[]>;

  /** Output that is kept comes first. `index` 0 is the PV console; channels follow. */
  openConsole(
    ref: DomainRef,
    index: number,
    sink: { data(bytes: Uint8Array): void; end(reason: string): void },
  ): Promise<ConsoleChannel>;
  /** All events from now on; call the result to stop. */
  onEvent(sink: (event: HostEvent) => void): () => void;
}
