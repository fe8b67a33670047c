// Whole machines for tests: start one, type at its guests' consoles, wait for what they print, run until they end.
// No assertion here or in the tests depends on how fast the host is: every wait has a generous limit and ends as soon as it can.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate, setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Timer } from "../../src/hypervisor/time/timers.js";
import { Machine, type DomainSpec, type MachineOptions, type RunningDomain } from "../../src/toolstack/machine.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
export const debianFile = (name: string): string => join(root, ".cache/debian", name);
export const guestFile = (name: string): string => join(root, "guests/images", `${name}.elf`);

/** Host milliseconds that a wait may take: much more than a boot takes on a host with nothing else to do. */
export const LIMIT = 300_000;
/** For tests that wait several times. */
export const TEST_LIMIT = 2 * LIMIT;
const SLICE_MS = 20;

/** The names of what is missing, for the title of a skipped test; "" if all is there. */
export function missing(...paths: string[]): string {
  const gone = paths.filter((p) => !existsSync(p)).map((p) => p.slice(root.length));
  return gone.length === 0 ? "" : ` (skipped: no ${gone.join(", ")})`;
}

const files = new Map<string, Uint8Array>();
function file(path: string): Uint8Array {
  let bytes = files.get(path);
  if (bytes === undefined) files.set(path, (bytes = readFileSync(path)));
  return bytes;
}

const utf8 = new TextEncoder();
const latin1 = new TextDecoder("latin1");

/** A domain and all it has printed: on its PV console (`text`) and on Xen's (`log`). */
export class Guest {
  text = "";
  log = "";
  /** Where the next `expect` looks from. */
  private seen = 0;

  constructor(
    readonly host: Host,
    readonly running: RunningDomain,
  ) {
    running.console.onOutput = (bytes) => {
      this.text += latin1.decode(bytes);
      this.onOutput();
    };
  }
  /** Called when it has printed something, at that point of its time: what is typed here comes at the same point in every run. */
  onOutput: () => void = () => {};

  get domid(): number {
    return this.running.domain.domid;
  }
  get code(): number {
    return this.running.shutdownCode;
  }
  get ended(): boolean {
    return this.running.ended;
  }

  type(text: string): void {
    this.running.console.write(utf8.encode(text));
  }

  /** Run until the console shows the pattern after what the last `expect` found. */
  async expect(pattern: RegExp | string, limit = LIMIT): Promise<string> {
    const find = (): { end: number; text: string } | null => {
      const rest = this.text.slice(this.seen);
      if (typeof pattern === "string") {
        const at = rest.indexOf(pattern);
        return at < 0 ? null : { end: at + pattern.length, text: rest.slice(0, at + pattern.length) };
      }
      const m = pattern.exec(rest);
      return m === null ? null : { end: m.index + m[0].length, text: rest.slice(0, m.index + m[0].length) };
    };
    let found = find();
    await this.host.run(
      () => {
        found ??= find();
        return found !== null || this.ended;
      },
      { limit, what: `${pattern} on the console of domain ${this.domid}` },
    );
    found ??= find();
    if (found === null) throw new Error(`domain ${this.domid} ended without ${pattern}${this.host.tail()}`);
    this.seen += found.end;
    return found.text;
  }

  /** Run until the domain has shut down; its SHUTDOWN_* code. */
  async end(limit = LIMIT): Promise<number> {
    await this.host.run(() => this.ended, { limit, what: `the end of domain ${this.domid}` });
    // What it printed last is still on its way.
    this.host.machine.runSlice(1);
    this.running.console.drain();
    return this.code;
  }

  /** Run one line in a shell at its prompt; what it printed, with plain line ends. */
  async sh(line: string, limit = LIMIT): Promise<string> {
    this.type(`${line}\n`);
    // The line's own echo comes first; long ones are redrawn, so only its end is looked for.
    await this.expect("\n", limit);
    const out = await this.expect(PROMPT, limit);
    return out.slice(0, out.search(PROMPT)).replaceAll("\r\n", "\n");
  }
  /** Run until the shell asks for the first command. */
  async shell(limit = LIMIT): Promise<void> {
    await this.expect(PROMPT, limit);
  }
}

/** The initramfs's PS1; the shell then asks the terminal where its cursor is. */
const PROMPT = /xenolith:\S* ?# (?:\x1b\[6n)?$/;

export interface RunOptions {
  limit?: number;
  what?: string;
  /** Longest time between two looks at `until`. */
  sliceMs?: number;
}

/** A machine and its guests. */
export class Host {
  readonly machine: Machine;
  readonly guests: Guest[] = [];
  /** Xen's console. */
  log = "";

  constructor(options: MachineOptions = {}) {
    this.machine = new Machine(options);
    this.machine.xen.console.onLine((line, domid) => {
      this.log += `${line}\n`;
      const g = this.guests.find((x) => x.domid === domid);
      if (g !== undefined) g.log += `${line.replace(/^\(d\d+\) /, "")}\n`;
    });
  }

  async start(
    kernel: string,
    spec: Omit<DomainSpec, "kernel" | "ramdisk"> & { ramdisk?: string } = {},
  ): Promise<Guest> {
    const { ramdisk, ...rest } = spec;
    const running = await this.machine.createDomain({
      ...rest,
      kernel: file(kernel),
      ...(ramdisk === undefined ? {} : { ramdisk: file(ramdisk) }),
    });
    const guest = new Guest(this, running);
    this.guests.push(guest);
    return guest;
  }

  /** Debian's kernel of a flavour with the initramfs. */
  debian(
    flavour: "cloud" | "generic",
    cmdline: string,
    spec: Omit<DomainSpec, "kernel" | "ramdisk"> = {},
  ): Promise<Guest> {
    return this.start(debianFile(`vmlinuz-${flavour}`), {
      ...spec,
      ramdisk: debianFile("initramfs.cpio.gz"),
      cmdline: `console=hvc0 ${cmdline}`,
    });
  }
  /** One of our own guests. */
  guest(name: string, spec: Omit<DomainSpec, "kernel" | "ramdisk"> = {}): Promise<Guest> {
    return this.start(guestFile(name), { memoryMiB: 16, ...spec });
  }

  /** Run all guests until `until` says so. Throws with what was printed last when the limit has passed, or when nothing can happen any more. */
  async run(until: () => boolean, options: RunOptions = {}): Promise<void> {
    const { limit = LIMIT, what = "the end", sliceMs = SLICE_MS } = options;
    const start = performance.now();
    for (let idle = 0; !until();) {
      if (performance.now() - start > limit) throw new Error(`no ${what} within ${limit / 1000} s${this.tail()}`);
      const ns = this.machine.runSlice(sliceMs);
      // Nobody but this loop's caller gives input, so that idleness without end is a hang.
      if (ns === Infinity) {
        if (++idle > 3 && !until()) throw new Error(`no ${what}: every guest waits for ever${this.tail()}`);
      } else idle = 0;
      if (ns >= 1e6 && ns !== Infinity) await setTimeout(Math.min(20, ns / 1e6));
      else await setImmediate();
    }
  }

  /** Run for so many instructions of all guests together, or until something else happens. */
  async runInstructions(n: number, orUntil: () => boolean = () => false): Promise<void> {
    const { cpu } = this.machine;
    const end = cpu.retired + n;
    await this.run(() => cpu.retired >= end || orUntil(), { what: `${n} instructions`, sliceMs: 0 });
  }

  tail(): string {
    const parts = [`\n--- Xen's console\n${this.log.slice(-2000)}`];
    for (const g of this.guests) parts.push(`\n--- domain ${g.domid}\n${g.text.slice(-3000)}`);
    return parts.join("");
  }

  /** Destroy what still exists. */
  close(): void {
    for (const g of this.guests) g.running.destroy();
  }
}

/** What a machine holds for its domains: the same before a domain's creation and after its destruction. */
export interface Holdings {
  freeFrames: number;
  xenPages: number;
  domains: number;
  dom0Ports: number;
  timers: number;
  scheduler: string;
  xenstore: string;
}

/** Count them; throws where the frame table contradicts itself. */
export function holdings(machine: Machine): Holdings {
  const { xen, dom0, xs } = machine;
  xen.frames.audit();
  return {
    freeFrames: xen.frames.freeFrames,
    xenPages: xen.frames.xenPages[1] as number,
    domains: xen.domains.size,
    dom0Ports: dom0.events.activePorts,
    timers: activeTimers(machine),
    scheduler: schedulerState(machine),
    xenstore: ["/local/domain", "/local/domain/0", "/local/domain/0/backend", "/vm", "/libxl"]
      .map((path) => `${path}: ${(xs.list(path) ?? []).join(" ")}`)
      .join("\n"),
  };
}

/** Who has a pCPU, and the sizes of the policy's own collections. */
function schedulerState(machine: Machine): string {
  const { scheduler } = machine.xen;
  const out: string[] = [];
  for (let p = 0; p < scheduler.pcpus; p++) {
    const unit = scheduler.current(p);
    if (unit !== null) out.push(`pCPU ${p}: d${unit.vcpu.domain.domid}v${unit.vcpu.id}`);
  }
  for (const [name, v] of Object.entries(scheduler.policy) as [string, unknown][]) {
    if (v instanceof Map || v instanceof Set) out.push(`${name}: ${v.size}`);
    else if (Array.isArray(v))
      out.push(`${name}: ${v.map((x: unknown) => (Array.isArray(x) ? x.length : "-")).join(" ")}`);
  }
  return out.join(", ");
}

/** Timers that are set, but for the scheduler's own (slices, ticks, accounting), which stop by themselves when nobody runs. */
function activeTimers(machine: Machine): number {
  const { timers, scheduler } = machine.xen;
  const own = new Set<Timer>();
  const collect = (o: object, depth: number): void => {
    for (const v of Object.values(o) as unknown[]) {
      if (v instanceof Timer) own.add(v);
      else if (Array.isArray(v) && depth > 0)
        for (const x of v as unknown[]) if (typeof x === "object" && x !== null) collect(x, depth - 1);
    }
  };
  collect(scheduler, 1);
  collect(scheduler.policy, 1);
  const { heap, size } = timers as unknown as { heap: Timer[]; size: number };
  return heap.slice(0, size).filter((t) => !own.has(t)).length;
}
