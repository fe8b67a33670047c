/** `xenolith record` and `xenolith replay`: a run as a small file of its inputs, and the same run again, forwards and (with gdb) backwards. */
import { createHash } from "node:crypto";
import { closeSync, openSync, statSync, writeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import {
  FORMAT,
  parseRecording,
  RecordingError,
  recordingLine,
  type Beginning,
  type RecordedFile,
  type Recording,
} from "../debug/replay/recording.js";
import { isPageSource } from "../debug/replay/page-source.js";
import { ReplayDebugger } from "../debug/replay/replay-debugger.js";
import { ExactRun, Recorder } from "../debug/replay/run.js";
import { serialImage } from "../debug/replay/serial-image.js";
import { ReplayError, Timeline } from "../debug/replay/timeline.js";
import { OverlayImage } from "../devices/block/index.js";
import { dumpState } from "../hypervisor/traps/dump.js";
import { disksClosed, InputError, serveGdb, type DomainPlan } from "../sys/node/index.js";
import type { DiskSpec } from "../toolstack/disks.js";
import type { DomainSpec } from "../toolstack/machine.js";
import { LineSplitter, Output } from "./output.js";
import { plansFrom, type PlanFlags } from "./plans.js";
import { shutdownWord, STATUS_OK, STATUS_OTHER, STATUS_TIMEOUT, statusOf } from "./status.js";
import { Terminal } from "./terminal.js";
import { formatTrace, parseTraceList, traceWanted } from "./trace-format.js";

export interface RecordFlags extends Omit<PlanFlags, "clock"> {
  readonly output: string;
  readonly scheduler?: string;
  readonly pcpus?: number;
  readonly timeout?: number;
}
export interface ReplayFlags {
  readonly gdb?: number;
  readonly until?: number;
  readonly trace?: string;
  readonly json: boolean;
}

/** What the beginning of a recording says of the command that made it. */
interface Source {
  readonly cwd: string;
  readonly words: readonly string[];
  readonly flags: Omit<PlanFlags, "clock">;
}

const SLICE_MS = 10;
const SLACK_MIB = 16;
const turn = (): Promise<void> => new Promise((done) => setImmediate(done));

// --- the same beginning -----------------------------------------------------------------------------------------------------------

async function load(source: Source): Promise<DomainPlan[]> {
  const plans = await plansFrom(source.words, { ...source.flags, clock: "virtual" });
  for (const p of plans) {
    for (const v of p.spec.vifs ?? [])
      if (v.nat !== undefined)
        throw new InputError(`${p.spec.name}: a network to the host cannot be recorded (bridge=nat)`);
  }
  return plans;
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** What the domains are made of. A disk is known by its size and the time of its last change. */
function filesOf(plans: readonly DomainPlan[]): RecordedFile[] {
  const out: RecordedFile[] = [];
  for (const { spec, kernelPath } of plans) {
    out.push({ path: kernelPath, bytes: spec.kernel.length, sha256: sha256(spec.kernel) });
    const { ramdisk } = spec;
    if (ramdisk !== undefined)
      out.push({ path: `the RAM disk of ${spec.name}`, bytes: ramdisk.length, sha256: sha256(ramdisk) });
    for (const d of spec.disks ?? []) {
      if (d.name === undefined || d.name === "") continue;
      const stat = statSync(d.name);
      out.push({ path: d.name, bytes: stat.size, sha256: sha256(Buffer.from(String(stat.mtimeMs))) });
    }
  }
  return out;
}

/** Disks are read from their files, and what is written stays in memory: the files must be the same for every replay. */
function specOf(plan: DomainPlan): DomainSpec {
  const disks = (plan.spec.disks ?? []).map((d): DiskSpec => {
    const { image } = d;
    if (image === null) return d;
    return {
      ...d,
      image: async () => {
        const opened = typeof image === "function" ? await image() : image;
        return serialImage(opened.readOnly ? opened : OverlayImage.inMemory(opened, true));
      },
    };
  });
  return { ...plan.spec, disks };
}

function startRun(begin: Omit<Beginning, "files" | "source">, plans: readonly DomainPlan[]): Promise<ExactRun> {
  return ExactRun.start({ ...begin, domains: plans.map(specOf) });
}

// --- record -----------------------------------------------------------------------------------------------------------------------

export async function recordCommand(words: readonly string[], flags: RecordFlags, version: string): Promise<number> {
  const { output: file, scheduler, pcpus, timeout, ...rest } = flags;
  const paths = words.map((w) => (/^[A-Za-z_]\w*\s*\+?=/.test(w) ? w : resolve(w)));
  const ramdisk = rest.ramdisk === undefined ? {} : { ramdisk: resolve(rest.ramdisk) };
  const source: Source = { cwd: process.cwd(), words: paths, flags: { ...rest, ...ramdisk } };
  const plans = await load(source);
  for (const p of plans) for (const w of p.warnings) process.stderr.write(`xenolith: ${w}\n`);
  const begin: Beginning = {
    type: "xenolith-recording",
    format: FORMAT,
    version,
    scheduler: scheduler ?? "credit",
    pcpus: pcpus ?? 4,
    memoryMiB: plans.reduce((n, p) => n + p.spec.memoryMiB + SLACK_MIB, 0),
    domains: plans.map((p) => p.spec.name),
    source,
    files: filesOf(plans),
  };
  let fd: number;
  try {
    fd = openSync(file, "w");
  } catch (e) {
    throw new InputError(`${file}: ${(e as Error).message}`);
  }
  try {
    writeSync(fd, recordingLine(begin));
    const run = await startRun(begin, plans);
    const recorder = new Recorder(run, (input) => writeSync(fd, recordingLine(input)));
    const output = new Output(process.stdout, process.stderr);
    showConsoles(run, plans, output);
    let stopped = false;
    const stop = (): void => {
      stopped = true;
    };
    const terminal = new Terminal(process.stdin, {
      onInput: (bytes) => {
        recorder.type(0, bytes);
        return true;
      },
      onDetach: stop,
    });
    process.once("SIGINT", stop);
    process.once("SIGTERM", stop);
    const deadline = performance.now() + (timeout ?? Infinity) * 1000;
    terminal.open();
    try {
      while (!run.ended && !stopped && performance.now() < deadline) {
        const idle = run.machine.runSlice(SLICE_MS);
        if (idle === Infinity) await new Promise((done) => setTimeout(done, 5));
        else await turn();
      }
    } finally {
      terminal.close();
      process.off("SIGINT", stop);
      process.off("SIGTERM", stop);
    }
    const end = run.ending ?? run.summary();
    writeSync(fd, recordingLine(end));
    output.line(`xenolith: recorded ${end.retired} instructions in ${file}`);
    for (const d of run.domains) d.destroy();
    await disksClosed();
    if (!run.ended && !stopped) return STATUS_TIMEOUT;
    return Math.max(STATUS_OK, ...end.codes.map((c) => (c < 0 ? STATUS_OK : statusOf(c))));
  } finally {
    closeSync(fd);
  }
}

function showConsoles(
  run: ExactRun,
  plans: readonly DomainPlan[],
  output: Output,
  wanted: () => boolean = () => true,
): void {
  const lines = plans.map((p) => new LineSplitter((line) => output.line(`[${p.spec.name}] ${line}`)));
  run.machine.xen.console.onLine((text) => {
    if (wanted()) output.line(text);
  });
  run.onOutput = (domain, bytes) => {
    if (!wanted()) return;
    if (domain === 0) output.console(bytes);
    else lines[domain]?.push(bytes);
  };
}

// --- replay -----------------------------------------------------------------------------------------------------------------------

async function readRecording(file: string): Promise<Recording> {
  try {
    return parseRecording(await readFile(file, "utf8"));
  } catch (e) {
    if (e instanceof RecordingError) throw new InputError(`${file}: ${e.message}`);
    throw new InputError(`${file}: ${(e as Error).message}`);
  }
}

export async function replayCommand(file: string, flags: ReplayFlags, version: string): Promise<number> {
  const recording = await readRecording(file);
  const { begin } = recording;
  if (isPageSource(begin.source)) throw new InputError(`${file}: made by a page: drop it there (xenolith web)`);
  const source = begin.source as Source;
  const output = new Output(flags.json ? process.stderr : process.stdout, process.stderr);
  if (begin.version !== version)
    output.line(`xenolith: recorded by version ${begin.version}, replayed by ${version}: it may run otherwise`);
  try {
    process.chdir(source.cwd);
  } catch {
    // Absolute paths do without.
  }
  const plans = await load(source);
  const now = filesOf(plans);
  begin.files.forEach((was, i) => {
    const is = now[i];
    if (is?.bytes !== was.bytes || is.sha256 !== was.sha256)
      throw new InputError(`${was.path}: is not what it was when the run was recorded`);
  });
  const run = await startRun(begin, plans);
  const { xen } = run.machine;
  const timeline = new Timeline(run, recording, { turn });
  // What was shown once is not shown again when the run goes over it anew.
  showConsoles(run, plans, output, () => !timeline.again);
  if (flags.trace !== undefined) {
    const filter = parseTraceList(flags.trace, undefined);
    const nameOf = (domid: number): string | undefined => xen.domains.get(domid)?.name;
    xen.trace.add((r) => {
      if (!timeline.again && traceWanted(filter, r, nameOf)) output.line(formatTrace(r));
    });
  }
  try {
    if (flags.gdb !== undefined) return await debugReplay(timeline, run, flags.gdb, output);
    await timeline.forward(flags.until ?? Infinity);
  } catch (e) {
    if (e instanceof ReplayError) throw new InputError(`${file}: ${e.message}`);
    throw e;
  }
  if (flags.until !== undefined && !run.ended) {
    const v = xen.current;
    output.line(`xenolith: after ${timeline.position} instructions, ${run.machine.clock.now()} ns:`);
    if (v !== null) for (const line of dumpState(v)) output.line(line);
  }
  const differences = flags.until === undefined ? timeline.differences() : [];
  for (const d of differences) output.line(`xenolith: not as recorded: ${d}`);
  const end = run.ending ?? run.summary();
  if (flags.json) {
    process.stdout.write(
      `${JSON.stringify({ exact: differences.length === 0, differences, ...end, type: undefined })}\n`,
    );
  } else if (flags.until === undefined && differences.length === 0) {
    const how = end.codes.map((c) => (c < 0 ? "running" : shutdownWord(c))).join(", ");
    output.line(`xenolith: replayed exactly: ${end.retired} instructions (${how})`);
  }
  for (const d of run.domains) d.destroy();
  await disksClosed();
  return differences.length === 0 ? STATUS_OK : STATUS_OTHER;
}

/** gdb drives the replay; it ends when gdb goes. */
async function debugReplay(timeline: Timeline, run: ExactRun, port: number, output: Output): Promise<number> {
  let attached = false;
  let over: () => void = () => {};
  const done = new Promise<void>((resolve) => {
    over = resolve;
  });
  const server = await serveGdb(run.machine, {
    port,
    domain: () => run.domains[0]?.domain ?? null,
    attach: (domain) => {
      attached = true;
      const debug = new ReplayDebugger(timeline, domain);
      return { debug, history: debug };
    },
    wake: () => {
      // Also called when the session has ended.
      if (attached && server.debugger === null) over();
    },
    kill: () => over(),
    monitor: (command) => (command === "position" ? `${timeline.position}\n` : null),
  });
  output.line(`xenolith: gdb: target remote :${server.port} (the replay waits for it)`);
  process.once("SIGINT", over);
  await done;
  process.off("SIGINT", over);
  server.close();
  return STATUS_OK;
}
