// Every image in guests/images: each proves its rules, says so in a last line `PASS: name`, and powers off.
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CliRun, ensureBuilt, image, root, runCli } from "./cli-helper.js";

const folder = join(root, "guests/images");
const images = existsSync(folder)
  ? readdirSync(folder)
      .filter((f) => f.endsWith(".elf"))
      .map((f) => f.slice(0, -4))
  : [];

/** Images that do not simply run to their verdict; each has a test of its own below or in cli.test.ts. */
const SPECIAL = new Set(["crash", "spin", "reboot", "console-echo", "grant-share", "broadcast"]);
/** What an image needs beyond the usual. */
const MORE: Readonly<Record<string, readonly string[]>> = { sched: ["--vcpus", "2"] };
const LIMIT = 120_000;
const FLAGS = ["--memory", "32", "--timeout", String(LIMIT / 1000)];

let dir = "";
beforeAll(() => {
  ensureBuilt();
  dir = mkdtempSync(join(tmpdir(), "xenolith-guests-"));
}, 300_000);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe.skipIf(images.length === 0)("our own guests", () => {
  for (const engine of ["interpreter", "auto"]) {
    it.each(images.filter((n) => !SPECIAL.has(n)))(
      `%s passes (engine ${engine})`,
      async (name) => {
        const r = await runCli(["run", image(name), ...FLAGS, ...(MORE[name] ?? []), "--engine", engine]);
        const text = r.stdout + r.stderr;
        expect(text).not.toMatch(/^(\(d\d+\) )?(not ok|FAIL)/m);
        expect(text).toContain(`PASS: ${name}`);
        expect(r.status).toBe(0);
      },
      LIMIT,
    );
  }

  it.skipIf(!images.includes("crash"))("crash crashes", async () => {
    expect((await runCli(["run", image("crash"), ...FLAGS])).status).toBe(3);
  });

  it.skipIf(!images.includes("console-echo"))(
    "console-echo echoes until it is told to quit",
    { timeout: LIMIT },
    async () => {
      const run = new CliRun(["run", image("console-echo"), ...FLAGS]);
      run.type("first line\n");
      await run.expect(/first line/, LIMIT);
      run.type(`${"x".repeat(80)}\n`);
      await run.expect(/x{80}/, LIMIT);
      run.type("quit\n");
      expect((await run.done).status).toBe(0);
    },
  );

  it.skipIf(!images.includes("spin"))("a spinning guest starves nobody", { timeout: LIMIT }, async () => {
    const run = new CliRun(["run", image("console"), image("spin"), ...FLAGS, "--pcpus", "1"]);
    await run.expect(/PASS: console/, LIMIT);
    run.child.kill("SIGTERM");
    expect((await run.done).status).toBe(143);
  });

  it.skipIf(!images.includes("broadcast"))(
    "broadcast: one domain writes, two read, through read-only grants",
    { timeout: LIMIT },
    async () => {
      const members = ["broadcast-writer", "broadcast-reader-1", "broadcast-reader-2"];
      const r = await runCli([
        "run",
        ...members.map((m) => join(root, `guests/configs/${m}.cfg`)),
        "--broadcast",
        `news:${members.join(",")}`,
        "--timeout",
        "100",
      ]);
      const text = r.stdout + r.stderr;
      expect(text.match(/PASS: broadcast/g)).toHaveLength(3);
      expect(text.match(/reader: 200 messages, 0 lost/g)).toHaveLength(2);
      expect(r.status).toBe(0);
    },
  );

  it.skipIf(!images.includes("grant-share"))("grant-share: two domains share a page", { timeout: LIMIT }, async () => {
    const config = (role: string, peer: number): string => {
      const path = join(dir, `${role}.cfg`);
      const kernel = image("grant-share");
      writeFileSync(
        path,
        `name="share-${role}"\nkernel="${kernel}"\nmemory=32\nextra="role=${role} peer=${peer} ref=8"\n`,
      );
      return path;
    };
    const r = await runCli(["run", config("a", 2), config("b", 1), "--timeout", "60"]);
    expect((r.stdout + r.stderr).match(/PASS: grant-share/g)?.length).toBeGreaterThanOrEqual(2);
    expect(r.status).toBe(0);
  });
});
