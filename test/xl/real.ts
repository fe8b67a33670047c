// xl as a user runs it: bin/xl.js with a host service of its own in a fresh state folder.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cli, ensureBuilt, root } from "../cli-helper.js";

export interface XlResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}
export interface PtyResult {
  readonly output: string;
  readonly status: number | null;
  readonly failed: string | null;
  readonly echo: boolean;
}
export type PtyStep = readonly ["send", string] | readonly ["expect", string, number] | readonly ["wait", number];

export const havePython = spawnSync("python3", ["-c", "import pty"]).status === 0;

export class RealXl {
  /** Configurations and images of the test. */
  readonly folder = mkdtempSync(join(tmpdir(), "xl-test-"));
  readonly state = join(this.folder, "state");
  private readonly env = { ...process.env, XENOLITH_STATE: this.state };

  constructor(private readonly up: readonly string[] = []) {
    ensureBuilt();
  }

  async start(): Promise<void> {
    const r = await this.command([cli, "up", ...this.up], 60_000);
    if (r.status !== 0) throw new Error(r.stderr);
  }
  async stop(): Promise<void> {
    await this.command([cli, "down", "--force"], 30_000);
    rmSync(this.folder, { recursive: true, force: true });
  }

  file(name: string, content: string | Uint8Array): string {
    const path = join(this.folder, name);
    writeFileSync(path, content);
    return path;
  }

  async migrationSocket(): Promise<{ socket: string }> {
    const { stdout } = await this.xenolith("info", "--json");
    return { socket: (JSON.parse(stdout) as { migration_socket: string }).migration_socket };
  }

  run(...words: readonly string[]): Promise<XlResult> {
    return this.command([join(root, "bin/xl.js"), ...words], 90_000);
  }
  xenolith(...words: readonly string[]): Promise<XlResult> {
    return this.command([cli, ...words], 90_000);
  }
  /** As `run`; any other status than 0 fails the test. */
  async ok(...words: readonly string[]): Promise<string> {
    const r = await this.run(...words);
    if (r.status !== 0) throw new Error(`xl ${words.join(" ")}: status ${r.status}\n${r.stdout}${r.stderr}`);
    return r.stdout;
  }
  /** The row of one domain in `xl list`: what is between blanks. */
  async row(name: string): Promise<string[]> {
    return (await this.ok("list", name)).split("\n")[1].trim().split(/\s+/);
  }

  private command(argv: readonly string[], timeout: number): Promise<XlResult> {
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, argv, {
        cwd: this.folder,
        env: this.env,
        stdio: ["ignore", "pipe", "pipe"],
      });
      let stdout = "";
      let stderr = "";
      child.stdout.setEncoding("utf8").on("data", (s: string) => (stdout += s));
      child.stderr.setEncoding("utf8").on("data", (s: string) => (stderr += s));
      const timer = setTimeout(() => child.kill("SIGKILL"), timeout);
      child.on("error", reject);
      child.on("close", (status) => {
        clearTimeout(timer);
        resolve({ status, stdout, stderr });
      });
    });
  }

  /** xl on a terminal of its own. */
  async pty(words: readonly string[], steps: readonly PtyStep[], end = 30): Promise<PtyResult> {
    const helper = fileURLToPath(new URL("terminal.py", import.meta.url));
    const job = { argv: [process.execPath, join(root, "bin/xl.js"), ...words], steps, end };
    return new Promise((resolve, reject) => {
      const child = spawn("python3", [helper], { cwd: this.folder, env: this.env, stdio: ["pipe", "pipe", "inherit"] });
      let text = "";
      child.stdout.setEncoding("utf8").on("data", (s: string) => (text += s));
      child.on("error", reject);
      child.on("close", () => {
        try {
          resolve(JSON.parse(text) as PtyResult);
        } catch {
          reject(new Error(`the terminal helper said: ${text}`));
        }
      });
      child.stdin.end(JSON.stringify(job));
    });
  }
}

/** Looks until it is so. */
export async function until(what: () => Promise<boolean>, seconds: number): Promise<boolean> {
  for (const end = Date.now() + seconds * 1000; Date.now() < end;) {
    if (await what()) return true;
    await new Promise((done) => setTimeout(done, 250));
  }
  return false;
}
