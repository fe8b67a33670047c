/**
 * One run of the command: a machine, its domains, what happens when they end, and the console of the first on the terminal.
 *
 * Invariant: domains are made and ended between slices only (`between`), never inside a callback of the hypervisor.
 */
import { SHUTDOWN_crash, SHUTDOWN_poweroff, SHUTDOWN_reboot, SHUTDOWN_watchdog } from "../abi/sched.js";
import type { Run, RunEnd } from "../api/drive.js";
import { dumpState } from "../hypervisor/traps/dump.js";
import type { Domain } from "../hypervisor/domain.js";
import type { Clock } from "../machine/clock.js";
import type { EngineKind } from "../machine/cpu/cpu.js";
import {
  disksClosed,
  InputError,
  NodeSockets,
  runMachine,
  serveGdb,
  serveXenStore,
  type DomainPlan,
  type GdbServer,
  type XenStoreSocket,
} from "../sys/node/index.js";
import { BuildError } from "../toolstack/builder/index.js";
import type { Action } from "../toolstack/config/index.js";
import { actionFor, dumpsCore, RestartLimit } from "../toolstack/host/actions.js";
import { Machine, type RunningDomain } from "../toolstack/machine.js";
import { LineSplitter, TraceWriter, type Output } from "./output.js";
import { Broadcasts, type BroadcastSpec } from "./broadcast.js";
import { Capture, type CaptureSpec, type LinkSpec } from "./network.js";
import { engineCounters } from "../machine/cpu/counters.js";
import { collectStats, statsLines, type Stats } from "./stats.js";
import { shutdownWord, STATUS_CRASH, STATUS_OK, STATUS_TIMEOUT, statusOf } from "./status.js";
import { Terminal, type TerminalInput } from "./terminal.js";
import { formatTrace, traceWanted, type TraceFilter } from "./trace-format.js";

export interface SessionOptions {
  readonly clock: Clock;
  readonly scheduler?: string | undefined;
  readonly pcpus?: number | undefined;
  readonly engine?: EngineKind | undefined;
  readonly threshold?: number | undefined;
  /** Follow on_reboot; else a reboot ends the domain. */
  readonly reboot: boolean;
  readonly timeoutMs?: number | undefined;
  readonly trace?: TraceFilter | undefined;
  readonly traceFile?: string | undefined;
  /** Path of a unix socket on which to serve XenStore. */
  readonly xenstoreSocket?: string | undefined;
  /** Links of bridges to other hosts. */
  readonly links?: readonly LinkSpec[] | undefined;
  /** Files that take the frames of vifs. */
  readonly captures?: readonly CaptureSpec[] | undefined;
  readonly broadcasts?: readonly BroadcastSpec[] | undefined;
  readonly stats: boolean;
  /** Serve gdb on this port of the loopback interface, for the first domain. */
  readonly gdb?: number | undefined;
  /** The first domain starts when gdb says so. */
  readonly gdbWait?: boolean | undefined;
  /** Told of the machine before anything runs on it (a profiler). */
  readonly onMachine?: ((machine: Machine) => void) | undefined;
}

export interface DomainResult {
  readonly name: string;
  /** The last domain number it had. */
  readonly domid: number;
  /** `poweroff`, `crash`, …; `running` where the command ended before the domain. */
  readonly end: string;
  readonly shutdownCode: number;
  readonly crashReason: string;
  readonly restarts: number;
}

export interface SessionResult {
  readonly status: number;
  readonly ended: RunEnd | "detached" | "signal";
  readonly domains: readonly DomainResult[];
  readonly stats: Stats;
}

/** Memory beyond what the domains ask for: rounding and shared frames of each. */
const SLACK_MIB = 16;

const MONITOR_HELP = "monitor domains: the domains of this machine\nmonitor stats: counters of the hypervisor\n";

interface Slot {
  readonly plan: DomainPlan;
  running: RunningDomain | null;
  /** A start is under way. */
  starting: boolean;
  finished: boolean;
  restarts: number;
  startedAt: number;
  readonly limit: RestartLimit;
  domid: number;
  code: number;
  crashReason: string;
  lines: LineSplitter | null;
}

export class Session {
  private readonly machine: Machine;
  private readonly slots: Slot[];
  private readonly terminal: Terminal;
  private readonly abort = new AbortController();
  private readonly trace: TraceWriter | null = null;
  private socket: XenStoreSocket | null = null;
  private gdb: GdbServer | null = null;
  private readonly broadcasts: Broadcasts;
  private captures: Capture[] = [];
  private readonly closers: (() => void)[] = [];
  private run: Run | null = null;
  /** The first domain waits for gdb to come. */
  private gdbWaits: boolean;
  private failure: Error | null = null;
  private dumpAsked = false;
  private stopped: { ended: "detached" | "signal"; status: number } | null = null;

  constructor(
    plans: readonly DomainPlan[],
    private readonly options: SessionOptions,
    private readonly output: Output,
    input: TerminalInput,
  ) {
    this.machine = makeMachine(plans, options);
    options.onMachine?.(this.machine);
    this.broadcasts = new Broadcasts(
      this.machine,
      options.broadcasts ?? [],
      plans.map((p) => p.spec.name),
    );
    this.gdbWaits = options.gdb !== undefined && options.gdbWait === true;
    this.slots = plans.map((plan) => ({
      plan,
      running: null,
      starting: false,
      finished: false,
      restarts: 0,
      startedAt: 0,
      limit: new RestartLimit(),
      domid: -1,
      code: -1,
      crashReason: "",
      lines: null,
    }));
    this.terminal = new Terminal(input, {
      onInput: (bytes) => this.type(bytes),
      onDetach: () => this.stop("detached", STATUS_OK),
    });
    const { xen } = this.machine;
    xen.console.onLine((text) => this.say(text));
    const { trace } = options;
    if (trace !== undefined) {
      const writer = new TraceWriter(options.traceFile, output);
      this.trace = writer;
      const nameOf = (domid: number): string | undefined => xen.domains.get(domid)?.name;
      xen.trace.add((r) => {
        if (traceWanted(trace, r, nameOf)) writer.add(formatTrace(r));
      });
    }
  }

  /** Makes the domains and runs them until all have ended. Throws an InputError, or an Error for what is ours. */
  async start(): Promise<SessionResult> {
    const begin = performance.now();
    try {
      await this.openXenStore();
      await this.openGdb();
      this.captures = (this.options.captures ?? []).map((c) => new Capture(c));
      for (const { bridge, where } of this.options.links ?? []) {
        const link = this.machine.link(where, bridge, (port) =>
          this.say(`xenolith: link: ${bridge} listens on port ${port}`),
        );
        this.closers.push(() => link.close());
      }
      for (const slot of this.slots) await this.startDomain(slot);
      this.terminal.open();
      this.run = runMachine(this.machine, {
        signal: this.abort.signal,
        timeoutMs: this.options.timeoutMs,
        until: () => this.between(),
      });
      this.machine.onInput = () => this.run?.wake();
      const end = await this.run;
      if (this.failure !== null) throw this.failure;
      return this.result(end, (performance.now() - begin) / 1000);
    } finally {
      this.close();
      for (const { running } of this.slots) if (running !== null && !running.domain.dying) running.destroy();
      // What formats keep in memory of their tables is in the files before the process ends.
      if (!(await disksClosed())) this.say("xenolith: a disk image was not closed in time");
    }
  }

  /** Ends the run from outside: the detach key, a signal. */
  stop(ended: "detached" | "signal", status: number): void {
    this.stopped ??= { ended, status };
    this.abort.abort();
  }

  /** Registers and stack of every vCPU, now (SIGQUIT): where does a guest hang? */
  dumpAll(): void {
    this.dumpAsked = true;
    this.run?.wake();
  }

  /** Gives the terminal back. */
  close(): void {
    this.terminal.close();
    this.socket?.close();
    this.gdb?.close();
    for (const c of this.captures.splice(0)) c.close();
    for (const c of this.closers.splice(0)) c();
    this.trace?.close();
  }

  private async openXenStore(): Promise<void> {
    const path = this.options.xenstoreSocket;
    if (path === undefined) return;
    try {
      this.socket = await serveXenStore(this.machine.xenstore, path, () => this.run?.wake());
    } catch (e) {
      throw new InputError(`cannot serve XenStore at ${path}: ${(e as Error).message}`);
    }
  }

  private async openGdb(): Promise<void> {
    const { gdb: port } = this.options;
    if (port === undefined) return;
    const domain = (): Domain | null => {
      const d = this.slots[0]?.running?.domain ?? null;
      if (d !== null && this.gdbWaits) {
        this.gdbWaits = false;
        // The debugger holds it now.
        this.machine.xen.post(() => d.unpause());
      }
      return d;
    };
    try {
      this.gdb = await serveGdb(this.machine, {
        port,
        domain,
        wake: () => this.run?.wake(),
        kill: () => this.stop("signal", STATUS_OK),
        monitor: (command) => (command === "help" ? MONITOR_HELP : this.monitor(command)),
      });
    } catch (e) {
      throw new InputError(`--gdb: cannot listen on port ${port}: ${(e as Error).message}`);
    }
    this.say(
      `xenolith: gdb: target remote :${this.gdb.port}${this.options.gdbWait === true ? " (the domain waits for it)" : ""}`,
    );
  }

  /** gdb's `monitor` commands. */
  private monitor(command: string): string | null {
    const { xen } = this.machine;
    switch (command) {
      case "domains":
        return [...xen.domains.values()].map((d) => `${d.domid}\t${d.name}\n`).join("");
      case "stats":
        return (
          statsLines(collectStats(xen.counters, engineCounters(this.machine.cpu), 0, this.machine.clock.now())).join(
            "\n",
          ) + "\n"
        );
      default:
        return `${command}: no such command; monitor help lists them\n`;
    }
  }

  private say(text: string): void {
    this.trace?.flush();
    this.output.line(text);
  }

  // --- domains --------------------------------------------------------------------------------------------------------------------

  private async startDomain(slot: Slot): Promise<void> {
    const { plan } = slot;
    let running: RunningDomain;
    try {
      running = await this.machine.createDomain(plan.spec);
    } catch (e) {
      if (e instanceof BuildError) throw new InputError(`${plan.kernelPath}: ${e.message}`);
      throw e;
    }
    slot.running = running;
    slot.startedAt = performance.now();
    slot.domid = running.domain.domid;
    this.applyScheduling(slot, running);
    if (this.gdbWaits && slot === this.slots[0]) running.domain.pause();
    this.broadcasts.attach(running);
    for (const c of this.captures) c.follow(running, slot === this.slots[0]);
    if (slot === this.slots[0]) running.console.onOutput = (bytes) => this.output.console(bytes);
    else {
      const lines = new LineSplitter((line) => this.say(`[${plan.spec.name}] ${line}`));
      slot.lines = lines;
      running.console.onOutput = (bytes) => lines.push(bytes);
    }
  }

  private applyScheduling(slot: Slot, running: RunningDomain): void {
    const { cpuWeight, cap, spec } = slot.plan;
    const params: Record<string, number> = {};
    if (cpuWeight !== undefined) params["weight"] = cpuWeight;
    if (cap !== undefined) params["cap"] = cap;
    if (Object.keys(params).length === 0) return;
    const rc = this.machine.xen.scheduler.adjust(running.domain, params);
    if (typeof rc === "number") {
      this.say(
        `xenolith: ${spec.name}: warning: the scheduler takes no cpu_weight= or cap= like these: the default holds`,
      );
    }
  }

  /** Between two slices: ended domains are dealt with, waiting input is offered. True when all is over. */
  private between(): boolean {
    this.trace?.flush();
    if (this.failure !== null) return true;
    if (this.dumpAsked) {
      this.dumpAsked = false;
      for (const slot of this.slots) if (slot.running !== null) this.dump(slot.running);
    }
    let over = true;
    for (const slot of this.slots) {
      if (slot.running !== null && slot.running.ended && this.gdb?.debugger?.holding !== true)
        this.domainEnded(slot, slot.running);
      if (!slot.finished) over = false;
    }
    if (!over) this.terminal.retry();
    return over;
  }

  private domainEnded(slot: Slot, running: RunningDomain): void {
    const { name } = slot.plan.spec;
    const code = running.shutdownCode;
    const { crashReason } = running.domain;
    slot.code = code;
    slot.crashReason = crashReason;
    if (code === SHUTDOWN_crash || code === SHUTDOWN_watchdog) {
      // A crash that Xen saw has been dumped already; here the guest itself said that it has crashed.
      if (crashReason === "") this.dump(running);
      this.say(
        `xenolith: ${name} crashed: ${crashReason || (code === SHUTDOWN_watchdog ? "its watchdog went off" : "the guest says so")}`,
      );
    } else if (code !== SHUTDOWN_poweroff && code !== SHUTDOWN_reboot) {
      this.say(`xenolith: ${name} shut itself down (${shutdownWord(code)})`);
    }
    const again = this.restarts(slot, this.actionOf(slot.plan, code), code);
    slot.lines?.end();
    running.destroy();
    slot.running = null;
    if (!again) {
      slot.finished = true;
      return;
    }
    slot.restarts++;
    slot.starting = true;
    this.say(`xenolith: ${name} starts again`);
    this.startDomain(slot).then(
      () => {
        slot.starting = false;
        this.run?.wake();
      },
      (e: unknown) => {
        this.failure = e instanceof Error ? e : new Error(String(e));
        this.run?.wake();
      },
    );
  }

  private actionOf(plan: DomainPlan, code: number): Action {
    return code === SHUTDOWN_reboot && !this.options.reboot ? "destroy" : actionFor(plan, code);
  }

  /** Does the action start the domain again? Says what of it cannot be done. */
  private restarts(slot: Slot, action: Action, code: number): boolean {
    const { name } = slot.plan.spec;
    if (dumpsCore(action)) this.say(`xenolith: ${name}: \`xenolith run\` writes no core dumps (xl does)`);
    switch (action) {
      case "restart":
      case "rename-restart":
      case "coredump-restart": {
        const why = slot.limit.refuses(code, performance.now() - slot.startedAt);
        if (why !== undefined) this.say(`xenolith: ${name} ${why}`);
        return why === undefined;
      }
      case "soft-reset":
        this.say(`xenolith: ${name}: soft reset is for HVM domains`);
        return false;
      case "preserve":
        this.say(`xenolith: ${name}: cannot be preserved: nothing outlives this command (xl's domains do)`);
        return false;
      case "coredump-destroy":
      case "destroy":
        return false;
    }
  }

  /** Registers and stack of every vCPU that is up. */
  private dump(running: RunningDomain): void {
    const { xen } = this.machine;
    for (const v of running.domain.vcpus) {
      if (!v.up) continue;
      this.say(`(XEN) Domain ${running.domain.domid} (vcpu#${v.id}):`);
      xen.withLoaded(v, () => {
        for (const line of dumpState(v)) this.say(`(XEN) ${line}`);
      });
    }
  }

  // --- the terminal ---------------------------------------------------------------------------------------------------------------

  private type(bytes: Uint8Array): boolean {
    const slot = this.slots[0];
    if (slot === undefined || slot.finished) return true;
    if (slot.running === null || slot.running.ended || !slot.running.console.write(bytes)) return false;
    this.run?.wake();
    return true;
  }

  // --- the end --------------------------------------------------------------------------------------------------------------------

  private result(end: RunEnd, seconds: number): SessionResult {
    this.terminal.close();
    const { xen } = this.machine;
    const stats = collectStats(xen.counters, engineCounters(this.machine.cpu), seconds, this.machine.clock.now());
    let status = STATUS_OK;
    if (end === "ended") for (const s of this.slots) status = worse(status, statusOf(s.code));
    else if (end === "timeout") {
      status = STATUS_TIMEOUT;
      this.say(`xenolith: time is up after ${Math.round((this.options.timeoutMs ?? 0) / 100) / 10} s`);
    } else status = this.stopped?.status ?? STATUS_OK;
    if (this.stopped?.ended === "detached") {
      const names = this.slots.filter((s) => !s.finished).map((s) => s.plan.spec.name);
      this.say(
        `xenolith: detached from the console; there is no host service yet, so ${names.join(", ")} ends with this command`,
      );
    }
    const domains = this.slots.map((s): DomainResult => {
      return {
        name: s.plan.spec.name,
        domid: s.domid,
        end: s.finished ? shutdownWord(s.code) : "running",
        shutdownCode: s.finished ? s.code : -1,
        crashReason: s.crashReason,
        restarts: s.restarts,
      };
    });
    for (const s of this.slots) s.running?.destroy();
    if (this.options.stats) for (const line of statsLines(stats)) this.say(line);
    return { status, ended: this.stopped?.ended ?? end, domains, stats };
  }
}

/** Of several domains the worst end counts: a crash before anything else. */
function worse(a: number, b: number): number {
  if (a === STATUS_CRASH || b === STATUS_CRASH) return STATUS_CRASH;
  return Math.max(a, b);
}

function makeMachine(plans: readonly DomainPlan[], options: SessionOptions): Machine {
  const asked = plans.reduce((sum, p) => sum + p.spec.memoryMiB, 0);
  const slack = SLACK_MIB * plans.length;
  const { scheduler, pcpus, engine, threshold } = options;
  // A linear memory has at most 4 GiB, and the hypervisor and the CPU engine live in it too.
  const limit = 3840;
  if (asked + slack > limit) {
    throw new InputError(`memory: ${asked} MiB is too much: all domains together can have ${limit - SLACK_MIB} MiB`);
  }
  try {
    return new Machine({
      memoryMiB: asked + slack,
      clock: options.clock,
      sockets: new NodeSockets(),
      ...(scheduler === undefined ? {} : { scheduler }),
      ...(pcpus === undefined ? {} : { pcpus }),
      ...(engine === undefined ? {} : { engine }),
      ...(threshold === undefined ? {} : { threshold }),
    });
  } catch (e) {
    if (e instanceof RangeError && /memory/i.test(e.message)) {
      throw new InputError(`memory: this host does not give ${asked} MiB: ${e.message}`);
    }
    throw e;
  }
}
