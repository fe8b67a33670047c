// Kernels of other people than Linux's: GRUB as a PV guest, and GNU Mach. The files come from `npm run setup:debian`.
import { existsSync } from "node:fs";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { CliRun, debian, ensureBuilt, runCli } from "./cli-helper.js";

const LIMIT = 120_000;
const FLAGS = ["--memory", "128", "--timeout", String(LIMIT / 1000)];
const started: CliRun[] = [];
beforeAll(ensureBuilt, 300_000);
afterEach(() => {
  for (const run of started.splice(0)) run.kill();
});

describe.skipIf(!existsSync(debian("grub-x86_64-xen.bin")))("GRUB", () => {
  it("comes to its prompt, lists and shows a file of its memory disk, and halts", { timeout: LIMIT }, async () => {
    const run = new CliRun(["run", debian("grub-x86_64-xen.bin"), ...FLAGS]);
    started.push(run);
    const prompt = /grub> $/;
    await run.expect(prompt, LIMIT);
    run.type("set pager=0\r");
    await run.expect(prompt, 30_000);
    run.type("help\r");
    await run.expect(/xen_ls \[DIR\]/, 30_000);
    await run.expect(prompt, 30_000);
    run.type("ls\r");
    await run.expect(/\r\(memdisk\) \(proc\)/, 30_000);
    await run.expect(prompt, 30_000);
    run.type("ls (memdisk)/\r");
    await run.expect(/\rgrub\.cfg/, 30_000);
    await run.expect(prompt, 30_000);
    run.type("cat (memdisk)/grub.cfg\r");
    await run.expect(/pvboot/, 30_000);
    await run.expect(prompt, 30_000);
    run.type("halt\r");
    expect((await run.done).status).toBe(0);
  });
});

describe.skipIf(!existsSync(debian("gnumach.gz")))("GNU Mach", () => {
  it("gets as far as on Xen 4.17: it shuts itself down with reason 252", { timeout: LIMIT }, async () => {
    const r = await runCli(["run", debian("gnumach.gz"), ...FLAGS, "--json"]);
    expect(JSON.parse(r.stdout)).toMatchObject({ status: 4, domains: [{ end: "reason 252", shutdownCode: 252 }] });
    expect(r.stderr).toContain("xenolith: gnumach shut itself down (reason 252)");
    expect(r.status).toBe(4);
  });
});
