// Streams and files that are kept in memory, for running commands of xl inside a test.
import { runXentop, runXl } from "../../src/cli/xl/main.js";
import type { XlIo } from "../../src/cli/xl/io.js";
import type { HostApi } from "../../src/toolstack/host/api.js";

export interface Result {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class FakeIo implements XlIo {
  stdout = "";
  stderr = "";
  readonly outIsTty: boolean = false;
  readonly cwd = "/run/g";
  readonly pid = 2472;
  readonly os = { release: "6.1.0-56-amd64", version: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)" };
  time = 0;
  wallClock = "10:35:00";
  files = new Map<string, Uint8Array>();
  onSleep: (ms: number) => void = () => {};
  readonly stdin = { on: () => {}, off: () => {}, resume: () => {}, pause: () => {} };

  out(text: string): void {
    this.stdout += text;
  }
  err(text: string): void {
    this.stderr += text;
  }
  outBytes(bytes: Uint8Array): void {
    this.stdout += new TextDecoder().decode(bytes);
  }
  size(): { columns: number; rows: number } {
    return { columns: 200, rows: 24 };
  }
  now(): number {
    return this.time;
  }
  clock(): string {
    return this.wallClock;
  }
  async sleep(ms: number): Promise<void> {
    this.time += ms;
    this.onSleep(ms);
  }
  readFile(path: string): Uint8Array {
    const bytes = this.files.get(path);
    if (bytes !== undefined) return bytes;
    throw Object.assign(new Error(`no ${path}`), { code: path === "/run" ? "EISDIR" : "ENOENT" });
  }
  readHead(path: string, length: number): Uint8Array {
    return this.readFile(path).subarray(0, length);
  }
  exists(path: string): boolean {
    return this.files.has(path) || /^\/(dev\/loop\d|data|lab\/.*|run\/g)$/.test(path);
  }
  onInterrupt(): () => void {
    return () => {};
  }
  atExit(): void {}
}

export async function runFake(host: HostApi, argv: readonly string[], io: FakeIo = new FakeIo()): Promise<Result> {
  io.stdout = "";
  io.stderr = "";
  const status = await runXl(argv, io, () => Promise.resolve(host));
  return { status, stdout: io.stdout, stderr: io.stderr };
}

/** xentop by its own name. */
export async function runFakeXentop(host: HostApi, argv: readonly string[], io: FakeIo): Promise<Result> {
  io.stdout = "";
  io.stderr = "";
  const status = await runXentop(argv, io, () => Promise.resolve(host));
  return { status, stdout: io.stdout, stderr: io.stderr };
}
