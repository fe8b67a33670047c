/**
 * A run that is recorded, and then the recording replayed: one machine after the other behind the interface of a lab, with the calls that
 * move it in time.
 *
 * Invariants: input enters by the recorder only, and nothing that looks at a machine changes it; moves are made one after the other.
 */
import { pageSource, type PageDomain, type PageSource } from "../debug/replay/page-source.js";
import {
  FORMAT,
  parseRecording,
  RecordingError,
  recordingLine,
  type Beginning,
  type Input,
  type RecordedFile,
  type Recording,
} from "../debug/replay/recording.js";
import { ExactRun, Recorder } from "../debug/replay/run.js";
import { stepBack, stepForward, type StepKind } from "../debug/replay/steps.js";
import { Timeline } from "../debug/replay/timeline.js";
import { HostError, type DomainRef } from "../toolstack/host/api.js";
import type { DomainSpec } from "../toolstack/machine.js";
import { INSPECT_METHODS, InspectError, type InspectApi } from "./api.js";
import { Inspector, type InspectorOptions } from "./inspector.js";
import { Log } from "./log.js";
import { HOST_METHODS, type LabHost } from "./remote/lab.js";

const SLICE_MS = 10;
const SLACK_MIB = 16;
/** Said by the page; the rest is asked for while it plays. */
export type Move = { readonly step: StepKind; readonly by: 1 | -1 } | { readonly to: number } | "play" | "pause";

export interface StudioStatus {
  readonly mode: "recording" | "replay";
  readonly names: readonly string[];
  /** Instructions retired, and virtual nanoseconds. */
  readonly position: number;
  readonly time: number;
  /** Instructions of the whole recording; where it was cut off: as far as is known. */
  readonly length: number;
  readonly inputs: number;
  /** On its way to somewhere. */
  readonly moving: boolean;
  readonly playing: boolean;
  readonly ended: boolean;
  /** At the end: whether it is what was recorded; else null. */
  readonly exact: boolean | null;
  readonly differences: readonly string[];
  /** Who has the processor. */
  readonly current: { readonly domid: number; readonly vcpu: number } | null;
  /** How often time has gone back: views that kept what they saw begin anew. */
  readonly rewinds: number;
  readonly problem: string;
}

export interface StudioEnvironment {
  readonly version: string;
  /** A file by its name; fails where it is not at hand. */
  read(name: string): Promise<Uint8Array>;
  sha256(bytes: Uint8Array): Promise<string>;
  /** Let the host's events have their turn. */
  turn(): Promise<void>;
  sleep(ms: number): Promise<void>;
  readonly inspect: InspectorOptions;
}

interface Stage {
  readonly run: ExactRun;
  readonly inspector: Inspector;
  log: Log;
}
interface Sink {
  readonly domid: number;
  data(bytes: Uint8Array): void;
}

const refused = (): never => {
  throw new InspectError("state", "a recorded run is not changed from outside: its bar moves it in time");
};
const text = new TextEncoder();
/** A terminal's full reset (ECMA-48 RIS). */
const RESET = text.encode("\x1bc");

export class Studio {
  readonly host: LabHost;
  readonly inspect: InspectApi;
  private stage: Stage | null = null;
  private recorder: Recorder | null = null;
  private timeline: Timeline | null = null;
  private recording: Recording | null = null;
  private begin: Beginning | null = null;
  private specs: readonly DomainSpec[] = [];
  private inputs: Input[] = [];
  private recordingOn = false;
  private recordingDone: Promise<void> = Promise.resolve();
  private work: Promise<void> = Promise.resolve();
  private waiting = 0;
  private playing = false;
  /** Counts moves: a later one ends a play. */
  private moves = 0;
  private rewinds = 0;
  private problem = "";
  /** What was said, in order: the first `run.said.count` of them belong to the instant. */
  private said: { domid: number; bytes: Uint8Array }[] = [];
  private shown = 0;
  private readonly sinks = new Set<Sink>();

  constructor(private readonly env: StudioEnvironment) {
    this.host = this.makeHost();
    this.inspect = this.makeInspect();
  }

  // --- record -------------------------------------------------------------------------------------------------------------------

  async record(source: PageSource): Promise<void> {
    const { specs, files } = await this.load(source.domains);
    this.specs = specs;
    this.begin = {
      type: "xenolith-recording",
      format: FORMAT,
      version: this.env.version,
      scheduler: "credit",
      pcpus: 2,
      memoryMiB: source.domains.reduce((n, d) => n + d.memoryMiB + SLACK_MIB, 0),
      domains: source.domains.map((d) => d.name),
      source,
      files,
    };
    this.inputs = [];
    const run = await this.open(this.begin);
    this.recorder = new Recorder(run, (i) => this.inputs.push(i));
    this.recordingOn = true;
    this.recordingDone = this.runOn(run).catch((e: unknown) => this.fail(e));
  }
  private async runOn(run: ExactRun): Promise<void> {
    while (this.recordingOn && !run.ended) {
      const idle = run.machine.runSlice(SLICE_MS);
      this.show();
      if (idle === Infinity) await this.env.sleep(5);
      else await this.env.turn();
    }
  }

  /** End the recording, and have it replayed from its beginning. */
  async stop(): Promise<StudioStatus> {
    const { stage, begin } = this;
    if (stage === null || begin === null || this.recorder === null)
      throw new InspectError("state", "nothing is recorded");
    this.recordingOn = false;
    await this.recordingDone;
    this.show();
    const end = stage.run.ending ?? stage.run.summary();
    this.recorder = null;
    this.recording = { begin, inputs: this.inputs, end };
    this.stage = null;
    await this.replay();
    return this.status();
  }

  /** The recording as a file. */
  file(): string {
    const { recording } = this;
    if (recording === null) throw new InspectError("state", "there is no recording yet");
    const { begin, inputs, end } = recording;
    return [begin, ...inputs, ...(end === null ? [] : [end])].map(recordingLine).join("");
  }

  // --- replay -------------------------------------------------------------------------------------------------------------------

  /** Replay what a file holds. */
  async openFile(content: string): Promise<StudioStatus> {
    const recording = parseRecording(content);
    const { begin } = recording;
    const { specs, files } = await this.load(pageSource(begin.source).domains);
    begin.files.forEach((was, i) => {
      const is = files[i];
      // A page that is not a secure context cannot hash.
      const other = was.sha256 !== "" && is?.sha256 !== "" && is?.sha256 !== was.sha256;
      if (is?.bytes !== was.bytes || other)
        throw new RecordingError(`${was.path} is not what it was when the run was recorded`);
    });
    if (begin.version !== this.env.version)
      this.problem = `recorded by version ${begin.version}: this one may run otherwise`;
    this.specs = specs;
    this.recording = recording;
    await this.replay();
    return this.status();
  }
  private async replay(): Promise<void> {
    const { recording } = this;
    if (recording === null) return;
    const run = await this.open(recording.begin);
    const timeline = new Timeline(run, recording, { turn: () => this.env.turn() });
    timeline.onBack = () => this.wentBack();
    this.timeline = timeline;
    this.rewinds++;
  }
  private wentBack(): void {
    const { stage } = this;
    if (stage === null) return;
    this.rewinds++;
    stage.inspector.recorder.rewind(stage.run.machine.clock.now());
    stage.log = new Log(stage.run.machine.xen.console);
  }

  /** Begins when moves before it have ended; an unfinished play is ended by it. Settles when it is there, but for "play". */
  async move(move: Move): Promise<StudioStatus> {
    const { timeline } = this;
    if (timeline === null) throw new InspectError("state", "there is nothing to replay yet");
    const mine = ++this.moves;
    if (move === "pause") {
      await this.work;
      return this.status();
    }
    this.waiting++;
    const done = this.work.then(() => this.make(timeline, move, mine)).catch((e: unknown) => this.fail(e));
    this.work = done.finally(() => {
      this.waiting--;
      this.show();
    });
    if (move === "play") this.playing = true;
    else await this.work;
    return this.status();
  }
  private async make(timeline: Timeline, move: Exclude<Move, "pause">, mine: number): Promise<void> {
    if (move === "play") {
      this.playing = true;
      try {
        await timeline.forward(Infinity, () => {
          this.show();
          return this.moves !== mine;
        });
      } finally {
        this.playing = false;
      }
    } else if ("step" in move) {
      if (move.by < 0) await stepBack(timeline, move.step);
      else await stepForward(timeline, move.step);
    } else {
      // The last instruction is not the end: what it asked of the hypervisor comes after.
      const to = Math.max(0, Math.floor(move.to));
      await timeline.seek(to >= this.length ? Infinity : to);
    }
  }

  private get length(): number {
    return this.recording?.end?.retired ?? Math.max(1, this.stage?.run.machine.cpu.retired ?? 1);
  }

  status(): StudioStatus {
    const { stage, timeline } = this;
    if (stage === null) throw new InspectError("state", "nothing is recorded or replayed");
    const { machine } = stage.run;
    const { current } = machine.xen;
    const atEnd = timeline?.atEnd === true && this.waiting === 0;
    const differences = atEnd ? timeline.differences() : [];
    return {
      mode: timeline === null ? "recording" : "replay",
      names: this.begin?.domains ?? this.recording?.begin.domains ?? [],
      position: machine.cpu.retired,
      time: machine.clock.now(),
      length: timeline === null ? machine.cpu.retired : this.length,
      inputs: this.recording?.inputs.length ?? this.inputs.length,
      moving: this.waiting > 0,
      playing: this.playing,
      ended: timeline === null ? stage.run.ended : atEnd,
      exact: atEnd && this.recording?.end !== null ? differences.length === 0 : null,
      differences,
      current: current === null || current.domain.native ? null : { domid: current.domain.domid, vcpu: current.id },
      rewinds: this.rewinds,
      problem: this.problem,
    };
  }
  private fail(e: unknown): void {
    this.problem = e instanceof Error ? e.message : String(e);
  }

  // --- the machine --------------------------------------------------------------------------------------------------------------

  private async load(domains: readonly PageDomain[]): Promise<{ specs: DomainSpec[]; files: RecordedFile[] }> {
    const specs: DomainSpec[] = [];
    const files: RecordedFile[] = [];
    const read = async (path: string): Promise<Uint8Array> => {
      const bytes = await this.env.read(path);
      files.push({ path, bytes: bytes.length, sha256: await this.env.sha256(bytes) });
      return bytes;
    };
    for (const d of domains) {
      const kernel = await read(d.kernel);
      const ramdisk = d.ramdisk === null ? null : await read(d.ramdisk);
      specs.push({
        name: d.name,
        kernel,
        kernelPath: d.kernel,
        memoryMiB: d.memoryMiB,
        vcpus: d.vcpus,
        ...(d.cmdline === "" ? {} : { cmdline: d.cmdline }),
        ...(ramdisk === null ? {} : { ramdisk, ramdiskPath: d.ramdisk ?? "" }),
        ...(d.network ? { vifs: [{}] } : {}),
      });
    }
    return { specs, files };
  }
  private async open(begin: Beginning): Promise<ExactRun> {
    const { scheduler, pcpus, memoryMiB } = begin;
    const run = await ExactRun.start({ scheduler, pcpus, memoryMiB, domains: this.specs });
    const { machine } = run;
    const source = {
      xen: machine.xen,
      cpu: machine.cpu,
      xenstore: machine.xenstore,
      xs: machine.xs,
      devices: (domid: number) => machine.runningOf(domid)?.devices.list() ?? [],
    };
    this.said = [];
    this.shown = 0;
    this.tell(null, RESET);
    run.onSaid = (domid, what) => {
      if (run.said.count !== this.said.length) return;
      const bytes = typeof what === "string" ? text.encode(`${what.replace(/^\(d\d+\) /, "")}\r\n`) : what.slice();
      this.said.push({ domid, bytes });
    };
    this.stage = { run, inspector: new Inspector(source, this.env.inspect), log: new Log(machine.xen.console) };
    return run;
  }

  private tell(domid: number | null, bytes: Uint8Array): void {
    for (const s of this.sinks) if (domid === null || s.domid === domid) s.data(bytes);
  }
  /** Terminals show what had been said at this instant. */
  private show(): void {
    const count = this.stage?.run.said.count ?? 0;
    if (count < this.shown) {
      this.tell(null, RESET);
      this.shown = 0;
    }
    for (; this.shown < count; this.shown++) {
      const s = this.said[this.shown];
      if (s !== undefined) this.tell(s.domid, s.bytes);
    }
  }

  private makeHost(): LabHost {
    const host: Record<string, unknown> = {};
    const no = async (): Promise<never> => {
      throw new HostError("unsupported", "a recorded run has only what it began with, and what is typed");
    };
    for (const name of HOST_METHODS) host[name] = no;
    host["onEvent"] = () => () => {};
    host["openConsole"] = async (ref: DomainRef, _index: number, sink: { data(bytes: Uint8Array): void }) => {
      const { stage } = this;
      const place = stage?.run.domains.findIndex((d) => d.domain.domid === ref || d.domain.name === ref) ?? -1;
      const domid = stage?.run.domains[place]?.domain.domid;
      if (domid === undefined) throw new HostError("unknown-domain", `${ref} is no domain of the recorded run`);
      const mine: Sink = { domid, data: (bytes) => sink.data(bytes) };
      for (const s of this.said.slice(0, this.shown)) if (s.domid === domid) mine.data(s.bytes);
      this.sinks.add(mine);
      return {
        write: (bytes: Uint8Array) => this.recorder?.type(place, bytes),
        close: () => void this.sinks.delete(mine),
      };
    };
    return host as unknown as LabHost;
  }

  private makeInspect(): InspectApi {
    const inspect: Record<string, unknown> = {};
    for (const name of INSPECT_METHODS) {
      inspect[name] = async (...p: readonly unknown[]): Promise<unknown> => {
        const { stage } = this;
        if (stage === null) throw new InspectError("state", "the machine is being made");
        const { inspector } = stage;
        return (inspector[name] as (...p: readonly unknown[]) => Promise<unknown>).apply(inspector, [...p]);
      };
    }
    for (const name of ["writeStore", "removeStore", "control", "step", "breakpoints"]) {
      inspect[name] = async () => refused();
    }
    // Guests' lines are in their terminals.
    inspect["log"] = async (after: number) => {
      const { stage } = this;
      if (stage === null) return { lines: [], next: -1 };
      const view = stage.log.view(after);
      return { ...view, lines: view.lines.map((l) => ({ ...l, domid: -1 })) };
    };
    return inspect as unknown as InspectApi;
  }
}
