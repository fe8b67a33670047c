/** `InspectApi` over a machine in this process. */
import type { DebugMachine } from "../debug/debugger.js";
import type { InspectApi, TraceQuery } from "./api.js";
import { cpuView, peekHex } from "./cpu-view.js";
import { Debuggers } from "./debuggers.js";
import { eventsView } from "./events-view.js";
import { grantsView } from "./grants-view.js";
import { parseVa } from "./hex.js";
import { hypercallsView } from "./hypercalls-view.js";
import { Log } from "./log.js";
import { machineView } from "./machine-view.js";
import { frameView, machineMap, memoryMap, pageView, walkView } from "./memory-view.js";
import { Recorder } from "./recorder.js";
import { ringsView } from "./rings-view.js";
import { schedulerView } from "./scheduler-view.js";
import { vcpuOf, type Source } from "./source.js";
import { removeStore, storeView, writeStore } from "./store-view.js";

const GRANTS = 500;
const MEMORY_BYTES = 4096;

export interface InspectorOptions {
  /** Host milliseconds. */
  readonly hostNow?: () => number;
  /** Call back after host milliseconds; the result cancels. */
  readonly later: (fn: () => void, ms: number) => () => void;
  /** There is something to do for a machine that may sleep. */
  readonly wake?: () => void;
}

/** Calls come between slices of guest work: nothing of a guest runs while a view is made. */
export class Inspector implements InspectApi {
  readonly recorder: Recorder;
  private readonly debuggers: Debuggers;
  private readonly console: Log;
  private readonly wake: () => void;

  constructor(
    private readonly source: Source & DebugMachine,
    options: InspectorOptions,
  ) {
    this.recorder = new Recorder(source.xen.trace, options.hostNow ?? (() => performance.now()));
    this.console = new Log(source.xen.console);
    this.debuggers = new Debuggers(source, source, options.later);
    this.wake = options.wake ?? (() => {});
  }

  async machine(): ReturnType<InspectApi["machine"]> {
    return machineView(this.source);
  }
  async log(after: number): ReturnType<InspectApi["log"]> {
    return this.console.view(after);
  }
  async scheduler(since: number): ReturnType<InspectApi["scheduler"]> {
    return schedulerView(this.source, this.recorder, since);
  }
  async events(): ReturnType<InspectApi["events"]> {
    return eventsView(this.source);
  }
  async grants(domid: number, limit = GRANTS): ReturnType<InspectApi["grants"]> {
    return grantsView(this.source, domid, limit);
  }
  async rings(): ReturnType<InspectApi["rings"]> {
    return ringsView(this.source);
  }
  async store(since: number): ReturnType<InspectApi["store"]> {
    return storeView(this.source, since);
  }
  async writeStore(path: string, value: string): Promise<void> {
    writeStore(this.source, path, value);
    this.wake();
  }
  async removeStore(path: string): Promise<void> {
    removeStore(this.source, path);
    this.wake();
  }
  async memoryMap(domid: number): ReturnType<InspectApi["memoryMap"]> {
    return memoryMap(this.source, domid);
  }
  async machineMap(): ReturnType<InspectApi["machineMap"]> {
    return machineMap(this.source);
  }
  async walk(domid: number, vcpu: number, va: string, space: "kernel" | "user"): ReturnType<InspectApi["walk"]> {
    return walkView(this.source, domid, vcpu, va, space);
  }
  async frame(mfn: number): ReturnType<InspectApi["frame"]> {
    return frameView(this.source, mfn);
  }
  async page(domid: number, pfn: number): ReturnType<InspectApi["page"]> {
    return pageView(this.source, domid, pfn);
  }
  async hypercalls(): ReturnType<InspectApi["hypercalls"]> {
    return hypercallsView(this.source, this.recorder);
  }
  async trace(query: TraceQuery): ReturnType<InspectApi["trace"]> {
    this.recorder.lease();
    return this.recorder.query(query);
  }
  async cpu(domid: number, vcpu: number): ReturnType<InspectApi["cpu"]> {
    return cpuView(this.source, vcpuOf(this.source, domid, vcpu), this.debuggers);
  }
  async memory(domid: number, vcpu: number, va: string, length: number): Promise<string> {
    const v = vcpuOf(this.source, domid, vcpu);
    let out = "";
    this.source.xen.withLoaded(v, (cpu) => {
      out = peekHex(cpu, this.source, parseVa(va), Math.max(1, Math.min(length, MEMORY_BYTES)));
    });
    return out;
  }
  async control(domid: number, what: "stop" | "continue" | "detach"): Promise<void> {
    this.debuggers.control(domid, what);
    this.wake();
  }
  async step(domid: number, vcpu: number, count: number): ReturnType<InspectApi["step"]> {
    const done = this.debuggers.step(domid, vcpu, count);
    this.wake();
    await done;
    return this.cpu(domid, vcpu);
  }
  async breakpoints(domid: number, addresses: readonly string[]): Promise<void> {
    this.debuggers.breakpoints(domid, addresses);
    this.wake();
  }
}
