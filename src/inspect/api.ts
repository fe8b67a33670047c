/**
 * What can be seen inside a running machine: plain JSON snapshots, one method a view. The same interface serves a page whose machine is
 * in a worker and one that looks at a host service through a socket.
 *
 * Invariants: every argument and result is plain JSON; looking changes nothing a guest can see (`write…`, `control`, `step`
 * and `breakpoints` say by their names that they act); a method that needs trace records keeps the trace on for a short while after the last call, so that a
 * machine nobody looks at pays nothing.
 */
import type { TraceKind } from "../hypervisor/trace.js";

/** What a caller may act upon: the one thing that was asked for does not exist, or cannot be had. */
export class InspectError extends Error {
  override readonly name = "InspectError";
  constructor(
    readonly code: "not-found" | "invalid" | "state",
    message: string,
  ) {
    super(message);
  }
}

// --- machine --------------------------------------------------------------------------------------------------------------------

export type VcpuState = "running" | "runnable" | "blocked" | "offline";

export interface VcpuView {
  readonly id: number;
  readonly state: VcpuState;
  /** The pCPU it has, or had last. */
  readonly pcpu: number;
  readonly cpuNs: number;
  /** It polls (SCHEDOP_poll) or blocks. */
  readonly waits: boolean;
}

export interface DomainView {
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
  /** No guest: this process does the domain's work. */
  readonly native: boolean;
  readonly paused: boolean;
  readonly ended: boolean;
  /** SHUTDOWN_*; −1 while it runs. */
  readonly shutdownCode: number;
  readonly crashReason: string;
  readonly pages: number;
  readonly maxPages: number;
  readonly vcpus: readonly VcpuView[];
}

export interface MachineView {
  /** ns since the machine started. */
  readonly now: number;
  readonly virtualClock: boolean;
  readonly pcpus: number;
  readonly scheduler: string;
  readonly totalPages: number;
  readonly freePages: number;
  readonly counters: Readonly<Record<string, number>>;
  readonly domains: readonly DomainView[];
}

/** Lines of Xen's console: the hypervisor's own (domid −1) and what guests say with console_io. */
export interface LogView {
  readonly lines: readonly { readonly seq: number; readonly domid: number; readonly text: string }[];
  readonly next: number;
}

// --- scheduler ------------------------------------------------------------------------------------------------------------------

/** Somebody had a pCPU from…to (ns). */
export interface Turn {
  readonly pcpu: number;
  readonly domid: number;
  readonly vcpu: number;
  readonly from: number;
  readonly to: number;
}
export interface SchedVcpu {
  readonly domid: number;
  readonly vcpu: number;
  readonly pcpu: number;
  readonly state: VcpuState;
  /** Numbers of the policy's own: for credit `credit` and `pri` (0 boost, −1 under, −2 over). */
  readonly policy: Readonly<Record<string, number>>;
}
export interface SchedulerView {
  readonly now: number;
  readonly name: string;
  readonly settings: string;
  readonly pcpus: readonly { readonly dump: string; readonly switches: number }[];
  readonly vcpus: readonly SchedVcpu[];
  readonly domains: readonly { readonly domid: number; readonly params: Readonly<Record<string, number>> }[];
  /** Turns that ended after `since`, and those under way. */
  readonly turns: readonly Turn[];
}

// --- event channels -------------------------------------------------------------------------------------------------------------

export type PortState = "unbound" | "interdomain" | "pirq" | "virq" | "ipi";

export interface PortView {
  readonly domid: number;
  readonly port: number;
  readonly state: PortState;
  readonly vcpu: number;
  readonly remoteDomid: number;
  /** The peer's port; the VIRQ's or PIRQ's number. */
  readonly value: number;
  readonly pending: boolean;
  readonly masked: boolean;
  /** How often it was raised since it was bound. */
  readonly raised: number;
  /** What it is for, where XenStore or the ABI says it: `console`, `store`, `vbd/51712`, `timer`. */
  readonly use: string;
}
export interface EventsView {
  readonly now: number;
  readonly domains: readonly {
    readonly domid: number;
    readonly name: string;
    readonly abi: "2-level" | "fifo" | "host";
    readonly ports: readonly PortView[];
  }[];
}

// --- grants ---------------------------------------------------------------------------------------------------------------------

export interface GrantView {
  readonly ref: number;
  /** permit_access, accept_transfer, transitive. */
  readonly kind: string;
  /** Who may. */
  readonly domid: number;
  readonly readonly: boolean;
  readonly subPage: boolean;
  readonly mfn: number;
  readonly pfn: number;
  /** Who does: mappings and copies in progress. */
  readonly hostWrite: number;
  readonly hostRead: number;
  readonly deviceWrite: number;
  readonly deviceRead: number;
  /** What the guest is shown (GTF_reading, GTF_writing). */
  readonly reading: boolean;
  readonly writing: boolean;
  readonly use: string;
}
export interface MappedGrantView {
  readonly handle: number;
  readonly owner: number;
  readonly ref: number;
  readonly readonly: boolean;
}
export interface GrantsView {
  readonly domid: number;
  readonly version: number;
  readonly frames: number;
  readonly maxFrames: number;
  readonly entries: number;
  /** Entries that are offered or in use, at most `limit`. */
  readonly grants: readonly GrantView[];
  readonly more: number;
  /** Grants of others that this domain has mapped. */
  readonly mapped: readonly MappedGrantView[];
}

// --- rings ----------------------------------------------------------------------------------------------------------------------

/** A ring of requests and responses, or (where `bytes`) of characters. All indices run freely modulo 2^32. */
export interface RingView {
  readonly name: string;
  readonly size: number;
  readonly bytes: boolean;
  readonly producer: number;
  readonly consumer: number;
  /** Slots: responses written, and where the front end has read up to. Byte rings have none. */
  readonly responseProducer?: number;
  readonly responseConsumer?: number;
  /** The page it is in. */
  readonly mfn: number;
  readonly ref: number;
}
export interface DeviceRings {
  readonly domid: number;
  /** `console`, `store`, `vbd`, `vif`. */
  readonly kind: string;
  readonly devid: number;
  readonly frontState: number;
  readonly backState: number;
  readonly detail: string;
  readonly rings: readonly RingView[];
  readonly metrics: Readonly<Record<string, number>>;
}

// --- XenStore -------------------------------------------------------------------------------------------------------------------

export interface StoreNode {
  readonly path: string;
  readonly value: string;
  /** As `n0,r5`. */
  readonly perms: string;
  readonly generation: number;
}
export interface StoreView {
  /** Changes with each change of the tree. */
  readonly generation: number;
  readonly count: number;
  /** Empty where nothing has changed since the generation that was asked about. */
  readonly nodes: readonly StoreNode[];
  readonly unchanged: boolean;
}

// --- memory ---------------------------------------------------------------------------------------------------------------------

/** What a pseudo-physical page is: −1 nothing there, else PGT_*; +8 where pinned, +16 where shared with others by grants. */
export interface MemoryMapView {
  readonly domid: number;
  readonly pages: number;
  /** Runs of (code, length) over the pseudo-physical frames. */
  readonly types: readonly number[];
  /** How many pages of each code. */
  readonly histogram: Readonly<Record<string, number>>;
}
export interface MachineMapView {
  readonly first: number;
  readonly limit: number;
  readonly free: number;
  /** Runs of (owner domid, length) over the machine frames; −1 free, 0x7ff2 the hypervisor's. */
  readonly owners: readonly number[];
}
export interface WalkStep {
  readonly level: 4 | 3 | 2 | 1;
  readonly tableMfn: number;
  readonly tablePfn: number;
  readonly index: number;
  /** 16 hexadecimal digits. */
  readonly entry: string;
  readonly flags: readonly string[];
  readonly present: boolean;
  readonly superpage: boolean;
  readonly mfn: number;
}
export interface WalkView {
  readonly va: string;
  readonly space: "kernel" | "user";
  readonly steps: readonly WalkStep[];
  /** Where it ends; absent where it does not. */
  readonly target?: {
    readonly maddr: number;
    readonly mfn: number;
    readonly pfn: number;
    readonly owner: number;
    readonly type: string;
  };
  readonly why: string;
}
export interface FrameView {
  readonly mfn: number;
  readonly pfn: number;
  readonly owner: number;
  readonly type: string;
  readonly typeCount: number;
  readonly refs: number;
  readonly flags: readonly string[];
  readonly code: boolean;
  /** 4096 bytes as hexadecimal digits. */
  readonly bytes: string;
}

// --- hypercalls, trace ----------------------------------------------------------------------------------------------------------

export interface HypercallRow {
  readonly name: string;
  readonly count: number;
  /** Since the trace is on: measured calls, their sum and maximum in ns. */
  readonly timed: number;
  readonly totalNs: number;
  readonly maxNs: number;
  readonly errors: number;
}
export interface HypercallsView {
  readonly now: number;
  readonly total: number;
  readonly multicalls: number;
  readonly rows: readonly HypercallRow[];
  /** By domain: name → count, since the trace is on. */
  readonly byDomain: readonly { readonly domid: number; readonly count: number }[];
}

export interface TraceQuery {
  /** Records after this number; −1: the last `limit`. */
  readonly after: number;
  readonly limit: number;
  readonly kinds?: readonly TraceKind[] | undefined;
  readonly domid?: number | undefined;
  /** In the name or the arguments. */
  readonly text?: string | undefined;
}
export interface TraceLine {
  readonly seq: number;
  readonly time: number;
  readonly kind: TraceKind;
  readonly domid: number;
  readonly vcpu: number;
  readonly name: string;
  readonly args: Readonly<Record<string, number | string | boolean>>;
  readonly result: number | null;
}
export interface TraceView {
  readonly lines: readonly TraceLine[];
  readonly next: number;
  /** Records in all since the trace is on, and those that fell out of the buffer before anybody saw them. */
  readonly total: number;
  readonly lost: number;
}

// --- a vCPU ---------------------------------------------------------------------------------------------------------------------

export interface CpuView {
  readonly domid: number;
  readonly vcpu: number;
  readonly paused: boolean;
  readonly state: VcpuState;
  readonly kernelMode: boolean;
  /** Name → 16 hexadecimal digits. */
  readonly registers: Readonly<Record<string, string>>;
  readonly flags: readonly string[];
  readonly segments: Readonly<Record<string, string>>;
  readonly rip: string;
  /** Bytes from RIP on (as many as are mapped), hexadecimal. */
  readonly code: string;
  /** Words from RSP on: 16 digits each. */
  readonly stack: readonly string[];
  readonly breakpoints: readonly string[];
  /** A debugger is attached, and has the domain stopped. */
  readonly debugged: boolean;
  readonly stopped: boolean;
  /** Why it stopped, for people. */
  readonly stop: string;
}

/** A virtual address or a word travels as hexadecimal text: JSON's numbers do not hold 64 bits. */
export interface InspectApi {
  machine(): Promise<MachineView>;
  /** Lines after that number; −1: all that are kept. */
  log(after: number): Promise<LogView>;
  scheduler(since: number): Promise<SchedulerView>;
  events(): Promise<EventsView>;
  grants(domid: number, limit?: number): Promise<GrantsView>;
  rings(): Promise<readonly DeviceRings[]>;
  store(since: number): Promise<StoreView>;
  writeStore(path: string, value: string): Promise<void>;
  removeStore(path: string): Promise<void>;
  memoryMap(domid: number): Promise<MemoryMapView>;
  machineMap(): Promise<MachineMapView>;
  walk(domid: number, vcpu: number, va: string, space: "kernel" | "user"): Promise<WalkView>;
  frame(mfn: number): Promise<FrameView>;
  /** The frame behind a pseudo-physical page. */
  page(domid: number, pfn: number): Promise<FrameView>;
  hypercalls(): Promise<HypercallsView>;
  trace(query: TraceQuery): Promise<TraceView>;
  cpu(domid: number, vcpu: number): Promise<CpuView>;
  /** `length` bytes as hexadecimal digits, `..` where nothing is mapped. */
  memory(domid: number, vcpu: number, va: string, length: number): Promise<string>;
  /** Stop a domain as a debugger does, let it go on, or let it go altogether. */
  control(domid: number, what: "stop" | "continue" | "detach"): Promise<void>;
  /** Execute instructions of a stopped domain's vCPU; the view after them. */
  step(domid: number, vcpu: number, count: number): Promise<CpuView>;
  /** Where a domain is to stop, all of them at once. */
  breakpoints(domid: number, addresses: readonly string[]): Promise<void>;
}

export const INSPECT_METHODS = [
  "machine",
  "log",
  "scheduler",
  "events",
  "grants",
  "rings",
  "store",
  "writeStore",
  "removeStore",
  "memoryMap",
  "machineMap",
  "walk",
  "frame",
  "page",
  "hypercalls",
  "trace",
  "cpu",
  "memory",
  "control",
  "step",
  "breakpoints",
] as const satisfies readonly (keyof InspectApi)[];
