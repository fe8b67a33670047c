// A host of domains in this process for tests: a machine that runs while the test waits, our own guests, and the state folder of a service.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NodePlatform, NodeSockets, runMachine } from "../../src/sys/node/index.js";
import type { Run } from "../../src/api/drive.js";
import type { CreateRequest, HostApi, HostEvent } from "../../src/toolstack/host/api.js";
import { Host } from "../../src/toolstack/host/host.js";
import { Machine, type MachineOptions } from "../../src/toolstack/machine.js";
import { image } from "../cli-helper.js";

export const LIMIT = 60_000;
const text = new TextDecoder();

export class TestHost {
  readonly machine: Machine;
  readonly host: Host;
  readonly events: HostEvent[] = [];
  readonly said: string[] = [];
  readonly folder = mkdtempSync(join(tmpdir(), "xenolith-host-"));
  private readonly abort = new AbortController();
  private readonly run: Run;

  constructor(options: MachineOptions = {}) {
    this.machine = new Machine({ memoryMiB: 256, engine: "interpreter", sockets: new NodeSockets(), ...options });
    this.host = new Host({
      machine: this.machine,
      platform: new NodePlatform(this.folder, (line) => void this.said.push(line)),
      version: "test",
    });
    this.host.onEvent((e) => void this.events.push(e));
    this.run = runMachine(this.machine, { until: () => false, signal: this.abort.signal });
    this.machine.onInput = () => this.run.wake();
  }

  async close(): Promise<void> {
    await this.host.close();
    this.abort.abort();
    await this.run;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A configuration of one of our guests. */
export function config(guest: string, more: Readonly<Record<string, string | number>> = {}): string {
  const all = { name: guest, kernel: image(guest), memory: 16, ...more };
  return Object.entries(all)
    .map(([k, v]) => `${k}=${typeof v === "number" || v.startsWith("[") ? v : JSON.stringify(v)}\n`)
    .join("");
}
export const request = (
  guest: string,
  more: Readonly<Record<string, string | number>> = {},
  rest: Partial<CreateRequest> = {},
): CreateRequest => ({ config: config(guest, more), source: `${guest}.cfg`, ...rest });

/** Waits for a condition, looked at while the machine runs. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, ms = LIMIT / 2): Promise<void> {
  for (const end = Date.now() + ms; !(await holds());) {
    if (Date.now() > end) throw new Error(`not within ${ms / 1000} s: ${what}`);
    await new Promise((r) => setTimeout(r, 5));
  }
}

/** A terminal on a console: what it showed, and whether it was ended. */
export async function terminal(
  host: HostApi,
  ref: string | number,
  index = 0,
): Promise<{ text(): string; write(t: string): void; close(): void; ended(): string | null }> {
  let seen = "";
  let over: string | null = null;
  const channel = await host.openConsole(ref, index, {
    data: (b) => void (seen += text.decode(b)),
    end: (reason) => void (over = reason),
  });
  return {
    text: () => seen,
    write: (t) => channel.write(new TextEncoder().encode(t)),
    close: () => channel.close(),
    ended: () => over,
  };
}

/** The code of a HostError that a call ends with. */
export async function refusal(call: Promise<unknown>): Promise<{ code: string; message: string }> {
  try {
    await call;
  } catch (e) {
    const { code, message } = e as { code: string; message: string };
    return { code, message };
  }
  throw new Error("it was not refused");
}
