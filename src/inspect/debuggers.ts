/**
 * The debuggers that pages have put on domains: one each, attached at the first stop, step or breakpoint.
 *
 * Invariant: what a caller asks for is done or refused with a reason when its promise settles.
 */
import { Debugger, type DebugMachine, type Stop } from "../debug/debugger.js";
import type { Va } from "../machine/cpu/api.js";
import { InspectError } from "./api.js";
import { parseVa } from "./hex.js";
import { domainOf, vcpuOf, type Source } from "./source.js";

/** Host milliseconds a step may take: a vCPU that waits for an event executes nothing. */
const STEP_MS = 400;
const MAX_STEPS = 10_000;

interface Attached {
  readonly debugger: Debugger;
  readonly breaks: Set<Va>;
  stop: Stop | null;
  /** Who waits for the next stop. */
  waiting: ((stop: Stop) => void) | null;
}

export class Debuggers {
  private readonly all = new Map<number, Attached>();

  constructor(
    private readonly source: Source,
    private readonly machine: DebugMachine,
    private readonly later: (fn: () => void, ms: number) => () => void,
  ) {}

  of(domid: number): { breaks: readonly Va[]; stopped: boolean; stop: Stop | null } | null {
    const a = this.attached(domid);
    return a === undefined ? null : { breaks: [...a.breaks], stopped: a.debugger.stopped, stop: a.stop };
  }

  private attached(domid: number): Attached | undefined {
    const a = this.all.get(domid);
    if (a !== undefined && a.debugger.domain.debug !== a.debugger) {
      this.all.delete(domid);
      return undefined;
    }
    return a;
  }

  private attach(domid: number): Attached {
    const old = this.attached(domid);
    if (old !== undefined) return old;
    const domain = domainOf(this.source, domid);
    if (domain.native) throw new InspectError("state", "domain 0 is this process: there is nothing to stop");
    if (domain.debug !== null) throw new InspectError("state", `another debugger has domain ${domid}`);
    if (domain.shutDown) throw new InspectError("state", `domain ${domid} has ended`);
    const a: Attached = { debugger: new Debugger(this.machine, domain), breaks: new Set(), stop: null, waiting: null };
    a.debugger.onStop = (stop) => {
      a.stop = stop;
      const { waiting } = a;
      a.waiting = null;
      waiting?.(stop);
    };
    this.all.set(domid, a);
    return a;
  }

  control(domid: number, what: "stop" | "continue" | "detach"): void {
    const a = this.attached(domid);
    if (what === "stop") {
      const now = a ?? this.attach(domid);
      if (!now.debugger.stopped) now.debugger.interrupt();
    } else if (a === undefined) throw new InspectError("state", `no debugger is attached to domain ${domid}`);
    else if (what === "continue") this.goOn(a);
    else {
      a.debugger.detach();
      this.all.delete(domid);
    }
  }

  private goOn(a: Attached): void {
    a.stop = null;
    a.debugger.resume();
  }

  async step(domid: number, vcpu: number, count: number): Promise<void> {
    const v = vcpuOf(this.source, domid, vcpu);
    const a = this.attach(domid);
    if (!a.debugger.stopped) throw new InspectError("state", `domain ${domid} runs: stop it first`);
    if (v.domain.pauseCount > 1) {
      throw new InspectError("state", `domain ${domid} is paused: unpause it first, the debugger holds it still`);
    }
    if (!v.up) throw new InspectError("state", `vCPU ${vcpu} is down`);
    const modes = v.domain.vcpus.map((x) => (x === v ? ("step" as const) : ("hold" as const)));
    for (let n = Math.max(1, Math.min(count, MAX_STEPS)); n > 0; n--) {
      const stop = await this.one(a, modes);
      if (stop === null) {
        throw new InspectError("state", `vCPU ${vcpu} waits for an event: it executes nothing until one comes`);
      }
      if (stop.kind !== "step") return;
    }
  }

  private one(a: Attached, modes: readonly ("step" | "hold")[]): Promise<Stop | null> {
    return new Promise((resolve) => {
      const cancel = this.later(() => {
        a.waiting = () => resolve(null);
        a.debugger.interrupt();
      }, STEP_MS);
      a.waiting = (stop) => {
        cancel();
        resolve(stop);
      };
      a.debugger.resume(modes);
    });
  }

  breakpoints(domid: number, addresses: readonly string[]): void {
    const wanted = new Set(addresses.map(parseVa));
    const known = this.attached(domid);
    if (known === undefined && wanted.size === 0) return;
    const a = known ?? this.attach(domid);
    for (const va of a.breaks) if (!wanted.has(va)) a.debugger.clearBreakpoint(va);
    for (const va of wanted) if (!a.breaks.has(va)) a.debugger.setBreakpoint(va);
    a.breaks.clear();
    for (const va of wanted) a.breaks.add(va);
    // Attaching stopped it; setting a breakpoint alone should not.
    if (known === undefined) this.goOn(a);
  }
}

export function stopText(stop: Stop | null): string {
  if (stop === null) return "";
  switch (stop.kind) {
    case "interrupt":
      return "stopped on request";
    case "step":
      return "one instruction executed";
    case "break":
      return `breakpoint, vCPU ${stop.vcpu}`;
    case "watch":
      return `watchpoint (${stop.watch}), vCPU ${stop.vcpu}`;
    case "crash":
      return `crashed: ${stop.reason}`;
    case "beginning":
      return "nothing comes before this";
    case "end":
      return "nothing comes after this";
    case "ended":
      return `ended with code ${stop.code}`;
    case "beginning":
      return "the beginning of the recording";
    case "end":
      return "the end of the recording";
  }
}
