// Runs the command as a user does: bin/xenolith.js on what the build made. The build is brought up to date once.
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { takeLock } from "./building.js";

export const root = fileURLToPath(new URL("..", import.meta.url));
export const cli = join(root, "bin/xenolith.js");
export const image = (name: string): string => join(root, `guests/images/${name}.elf`);
export const debian = (name: string): string => join(root, `.cache/debian/${name}`);
export const haveDebian = existsSync(debian("vmlinuz-cloud")) && existsSync(debian("initramfs.cpio.gz"));

/** Test files run in several processes: one of them builds, the others wait. */
export function ensureBuilt(): void {
  const release = takeLock(join(root, "dist/.building"));
  try {
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    const r = spawnSync(process.execPath, [tsc, "-b", "tsconfig.node.json"], { cwd: root, encoding: "utf8" });
    if (r.status !== 0 && !existsSync(join(root, "dist/cli/main.js"))) throw new Error(r.stdout);
  } finally {
    release();
  }
}

export interface CliResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Text without the control sequences of a terminal. */
const plain = (text: string): string => text.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "");

/** A running command whose console can be talked to. */
export class CliRun {
  readonly child: ChildProcessWithoutNullStreams;
  stdout = "";
  stderr = "";
  readonly done: Promise<CliResult>;
  private readonly watchers = new Set<() => void>();

  constructor(args: readonly string[]) {
    this.child = spawn(process.execPath, [cli, ...args], { cwd: root });
    this.child.stdout.setEncoding("utf8").on("data", (s: string) => this.seen(() => (this.stdout += s)));
    this.child.stderr.setEncoding("utf8").on("data", (s: string) => this.seen(() => (this.stderr += s)));
    // Its stdin may be gone before ours is.
    this.child.stdin.on("error", () => {});
    this.done = new Promise((resolve, reject) => {
      this.child.on("error", reject);
      this.child.on("close", (status) => {
        this.seen(() => {});
        resolve({ status, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  private seen(add: () => void): void {
    add();
    for (const w of this.watchers) w();
  }

  private from = 0;
  /** Waits until the console shows the pattern after what an earlier `expect` has found; the match. Control sequences are left out. */
  expect(pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void => {
        this.watchers.delete(look);
        clearTimeout(timer);
        reject(
          new Error(
            `${why}: ${pattern}\nlast output:\n${this.stdout.slice(-2000)}\nstderr:\n${this.stderr.slice(-2000)}`,
          ),
        );
      };
      const look = (): void => {
        const m = pattern.exec(plain(this.stdout).slice(this.from));
        if (m !== null) {
          this.from += m.index + m[0].length;
          this.watchers.delete(look);
          clearTimeout(timer);
          resolve(m);
        } else if (this.child.exitCode !== null) fail("the command ended before it printed");
      };
      const timer = setTimeout(() => fail(`not printed within ${timeoutMs / 1000} s`), timeoutMs);
      this.watchers.add(look);
      look();
    });
  }

  type(text: string): void {
    this.child.stdin.write(text);
  }
  kill(): void {
    this.child.kill("SIGKILL");
  }
}

/** Runs the command to its end, with nothing on stdin. */
export function runCli(args: readonly string[]): Promise<CliResult> {
  const run = new CliRun(args);
  run.child.stdin.end();
  return run.done;
}
