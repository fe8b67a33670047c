// What `npm pack` makes, installed in an empty project: the library with its types, the documented example, the command.
import { execFileSync, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureBuilt, image, root } from "./cli-helper.js";

let dir = "";
let installed = "";

beforeAll(() => {
  ensureBuilt();
  dir = mkdtempSync(join(tmpdir(), "xenolith-package-"));
  // Its scripts would build again: that has just been done.
  const out = execFileSync("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", dir], {
    cwd: root,
    encoding: "utf8",
  });
  execFileSync("tar", ["-xzf", join(dir, out.trim().split("\n").at(-1) ?? ""), "-C", dir]);
  installed = join(dir, "node_modules/xenolith");
  mkdirSync(join(dir, "node_modules"));
  cpSync(join(dir, "package"), installed, { recursive: true });
  const { dependencies } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  for (const name of [...Object.keys(dependencies), "@types"]) {
    symlinkSync(join(root, "node_modules", name), join(dir, "node_modules", name));
  }
  writeFileSync(join(dir, "package.json"), '{ "type": "module", "private": true }\n');
}, 300_000);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** The first example of docs/library.md, and the one of README.md. */
function example(path: string): string {
  const m = /```js\n(.*?)```/s.exec(readFileSync(join(root, path), "utf8"));
  if (m === null) throw new Error(`no example in ${path}`);
  return m[1];
}

describe.skipIf(!existsSync(image("console")))("the package", () => {
  it.each(["docs/library.md", "README.md"])("runs the example of %s in ten lines", (path) => {
    const code = example(path);
    expect(code.split("\n").filter((l) => l.trim() !== "").length).toBeLessThanOrEqual(10);
    writeFileSync(join(dir, "example.js"), code);
    const r = spawnSync(process.execPath, ["example.js"], { cwd: dir, encoding: "utf8", timeout: 60_000 });
    expect(r.stderr).toBe("");
    expect(r.stdout).toMatch(/^Hello from the console ring/);
    expect(r.stdout).toContain("PASS: console");
    expect(r.stdout.trimEnd()).toMatch(/shut down with code 0$/);
    expect(r.status).toBe(0);
  });

  it("has nothing in it that is for tests", () => {
    const files = readdirSync(join(installed, "dist"), { recursive: true, encoding: "utf8" });
    expect(files.length).toBeGreaterThan(100);
    expect(files.filter((f) => /(^|\/)testing\.|\.test\./.test(f))).toEqual([]);
  });

  it("has types for strict programs", { timeout: 120_000 }, () => {
    writeFileSync(
      join(dir, "typed.ts"),
      `import { BuildError, Machine, VirtualClock, parseDomainConfig, type DomainSpec, type RunningDomain, type TraceRecord } from "xenolith";
import { loadDomain, runMachine } from "xenolith/node";
import { runMachine as runInBrowser } from "xenolith/browser";
const spec: DomainSpec = { kernel: new Uint8Array(1), vcpus: 2 };
const machine = new Machine({ clock: new VirtualClock(), memoryMiB: 64, engine: "auto" });
const guest: RunningDomain = await machine.createDomain(spec);
guest.onShutdown((code: number) => console.log(code));
machine.xen.trace.add((r: TraceRecord) => console.log(r.kind, r.result ?? 0));
const end: "ended" | "timeout" | "aborted" = await runMachine(machine, { timeoutMs: 5, signal: new AbortController().signal });
console.log(end, parseDomainConfig("", "x").memory, (await loadDomain("x")).spec.name, runInBrowser, BuildError);
// @ts-expect-error a kernel is needed
await machine.createDomain({ name: "x" });
`,
    );
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    const flags = [
      "--noEmit",
      "--strict",
      "--exactOptionalPropertyTypes",
      "--module",
      "nodenext",
      "--target",
      "es2022",
      "--types",
      "node",
    ];
    const r = spawnSync(process.execPath, [tsc, ...flags, "typed.ts"], { cwd: dir, encoding: "utf8" });
    expect(r.stdout).toBe("");
    expect(r.status).toBe(0);
  });

  it("is a command", () => {
    const bin = join(installed, "bin/xenolith.js");
    const version = spawnSync(process.execPath, [bin, "--version"], { encoding: "utf8" });
    expect(version.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    const args = ["run", join(installed, "guests/images/hello.elf"), "--memory", "32", "--timeout", "20"];
    const r = spawnSync(process.execPath, [bin, ...args], { cwd: dir, encoding: "utf8" });
    expect(r.stderr).toContain("PASS: hello");
    expect(r.status).toBe(0);
  });
});
