/**
 * A run that can be recorded and replayed: a machine with a virtual clock and exact budgets whose only way in is here.
 *
 * Invariants: domains are made before the first round and stay as they are when they have ended; input enters at the beginning of a round.
 */
import { VirtualClock } from "../../machine/clock.js";
import type { EngineKind } from "../../machine/cpu/cpu.js";
import { Machine, type DomainSpec, type RunningDomain } from "../../toolstack/machine.js";
import type { Ending, Input } from "./recording.js";

export interface RunSpec {
  readonly scheduler: string;
  readonly pcpus: number;
  readonly memoryMiB: number;
  readonly domains: readonly DomainSpec[];
  /** Any engine: the run is the same. */
  readonly engine?: EngineKind;
}

/** FNV-1a over what a console printed, in two halves: enough to tell two runs apart, and cheap. */
class OutputHash {
  bytes = 0;
  private a = 0x811c9dc5;
  private b = 0x01234567;
  add(data: Uint8Array): void {
    for (const x of data) {
      this.a = Math.imul(this.a ^ x, 0x01000193);
      this.b = Math.imul(this.b ^ (x + 0x9e), 0x85ebca6b) ^ (this.b >>> 13);
    }
    this.bytes += data.length;
  }
  get text(): string {
    return [this.a, this.b].map((w) => (w >>> 0).toString(16).padStart(8, "0")).join("");
  }
}

export class ExactRun {
  /** What a domain printed. */
  onOutput: (domain: number, bytes: Uint8Array) => void = () => {};
  /** What a domain said, by its console or (a line) by Xen's. */
  onSaid: (domid: number, text: Uint8Array | string) => void = () => {};
  readonly hashes: OutputHash[] = [];
  /** How often anything was said so far: part of the run, so that a reader can tell what belongs to an instant. */
  readonly said = { count: 0 };

  private constructor(
    readonly machine: Machine,
    readonly domains: readonly RunningDomain[],
  ) {
    machine.xen.onShutdown(() => {
      if (this.ended) this.ending = this.summary();
    });
    domains.forEach((d, i) => {
      const hash = new OutputHash();
      this.hashes.push(hash);
      d.console.onOutput = (bytes) => {
        hash.add(bytes);
        this.onOutput(i, bytes);
        this.onSaid(d.domain.domid, bytes);
        this.said.count++;
      };
    });
    machine.xen.console.onLine((line, domid) => {
      this.onSaid(domid, line);
      this.said.count++;
    });
  }

  static async start(spec: RunSpec): Promise<ExactRun> {
    const machine = new Machine({
      memoryMiB: spec.memoryMiB,
      // Its snapshots know frames of RAM only.
      forkMiB: 0,
      clock: new VirtualClock(),
      scheduler: spec.scheduler,
      pcpus: spec.pcpus,
      exact: true,
      ...(spec.engine === undefined ? {} : { engine: spec.engine }),
    });
    const domains: RunningDomain[] = [];
    for (const d of spec.domains) domains.push(await machine.createDomain(d));
    return new ExactRun(machine, domains);
  }

  /** How it ended; null while a domain runs. */
  ending: Ending | null = null;
  get ended(): boolean {
    return this.domains.every((d) => d.ended);
  }
  /** Types at a domain's console; only from `machine.xen.onRound`. False: it takes no more now. */
  type(input: Omit<Input, "type" | "round">): boolean {
    const d = this.domains[input.domain];
    return d === undefined || d.ended || d.console.write(input.data);
  }
  /** Where the run stands, and what came of it. */
  summary(): Ending {
    const { xen, cpu, clock } = this.machine;
    return {
      type: "end",
      rounds: xen.rounds,
      retired: cpu.retired,
      time: clock.now(),
      console: this.hashes.map((h) => ({ bytes: h.bytes, hash: h.text })),
      codes: this.domains.map((d) => d.shutdownCode),
    };
  }
}

/** Takes what is typed, gives it to the run at the next round, and tells where that was. */
export class Recorder {
  private readonly queue: Omit<Input, "type" | "round">[] = [];
  constructor(run: ExactRun, onInput: (input: Input) => void) {
    run.machine.xen.onRound = (round) => {
      for (let head = this.queue[0]; head !== undefined && run.type(head); head = this.queue[0]) {
        this.queue.shift();
        onInput({ type: "console", round, ...head });
      }
    };
  }
  type(domain: number, data: Uint8Array): void {
    this.queue.push({ domain, data: data.slice() });
  }
}
