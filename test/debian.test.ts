// Debian's unmodified kernel through the command line: its exit statuses, the shell on the terminal's streams, reboot and crash.
// What the guest does on one and more virtual CPUs is tested in test/machine.
// The files come from `npm run setup:debian`; without them these tests are skipped.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { CliRun, debian, ensureBuilt, haveDebian, runCli } from "./cli-helper.js";

/** A boot takes tens of seconds; a busy machine may take several times that. */
const BOOT = 300_000;
const LIMIT = ["--timeout", String(BOOT / 1000)];

const started: CliRun[] = [];
function start(args: readonly string[]): CliRun {
  const run = new CliRun(args);
  started.push(run);
  return run;
}
beforeAll(ensureBuilt, 300_000);
afterEach(() => {
  for (const run of started.splice(0)) run.kill();
});

function boot(kernel: string, cmdline: string, ...more: string[]): string[] {
  return ["run", debian(kernel), "--ramdisk", debian("initramfs.cpio.gz"), "--cmdline", cmdline, ...LIMIT, ...more];
}

describe.skipIf(!haveDebian)("Debian's cloud kernel", () => {
  it("runs a command and powers off with status 0", { timeout: BOOT }, async () => {
    const commands = [
      "uname -a",
      "grep -c ^processor /proc/cpuinfo",
      "grep -m1 flags /proc/cpuinfo",
      "dmesg | grep -i xen",
      "cat /sys/hypervisor/type",
      "echo $((6 * 7)) | tr 0-9 a-j",
    ].join("; ");
    const r = await runCli(boot("vmlinuz-cloud", `console=hvc0 run="${commands}"`));
    expect(r.stdout).toMatch(/^Linux xenolith 6\.1\.\S+-cloud-amd64 #1 SMP .* x86_64 GNU\/Linux\r?$/m);
    expect(r.stdout).toMatch(/^1\r?$/m);
    expect(r.stdout).toMatch(/^flags\s*:.* sse4_2 .*popcnt .*hypervisor/m);
    expect(r.stdout).toContain("Booting kernel on Xen");
    expect(r.stdout).toContain("Xen version: 4.17");
    expect(r.stdout).toMatch(/^xen\r?$/m);
    expect(r.stdout).toMatch(/^ec\r?$/m);
    expect(r.stdout).toContain("run: exit status 0");
    expect(r.status).toBe(0);
  });

  it("has an interactive shell on hvc0, reboots and powers off", { timeout: 2 * BOOT }, async () => {
    const run = start(boot("vmlinuz-cloud", "console=hvc0 quiet"));
    const prompt = /xenolith:[^\n]*# $/;
    await run.expect(prompt, BOOT);
    run.type("echo $((1234 * 5678)) > /tmp/n; cat /tmp/n | rev\n");
    await run.expect(/^2566007\r$/m, 60_000);
    await run.expect(prompt, 60_000);
    run.type("ps | grep -c '[s]h'\n");
    await run.expect(/^[1-9]\d*\r$/m, 60_000);
    await run.expect(prompt, 60_000);
    // Ctrl-C ends a command, not the run. It counts only once the command is in the foreground.
    run.type("sleep 1000\n");
    await run.expect(/sleep 1000\r\n/, 60_000);
    const interrupts = setInterval(() => run.type("\x03"), 2000);
    await run.expect(prompt, 60_000).finally(() => clearInterval(interrupts));
    run.type("\n");
    await run.expect(prompt, 60_000);
    run.type("vi /tmp/text\n");
    await run.expect(/~.*\/tmp\/text/s, 60_000);
    // Keys one after the other: an Esc with something right behind it is a function key to vi.
    for (const keys of ["i", "hello from vi", "\x1b", ":wq", "\r"]) {
      await new Promise((resolve) => setTimeout(resolve, 2000));
      run.type(keys);
    }
    await run.expect(prompt, 60_000);
    run.type("md5sum /tmp/text\n");
    await run.expect(/^[0-9a-f]{32} {2}\/tmp\/text/m, 60_000);
    await run.expect(prompt, 60_000);
    run.type("wc -c < /tmp/text\n");
    await run.expect(/^14\r$/m, 60_000);
    await run.expect(prompt, 60_000);
    run.type("reboot\n");
    await run.expect(/built-in shell/, BOOT);
    await run.expect(prompt, 60_000);
    expect(run.stderr).toMatch(/xenolith: vmlinuz-cloud starts again/);
    run.type("ls /tmp/n\n");
    await run.expect(/No such file/, 60_000);
    await run.expect(prompt, 60_000);
    run.type("poweroff\n");
    const r = await run.done;
    expect(r.status).toBe(0);
  });

  it("ends with status 3, registers and stack when it panics", { timeout: BOOT }, async () => {
    const dir = mkdtempSync(join(tmpdir(), "xenolith-debian-"));
    try {
      const config = join(dir, "panic.cfg");
      writeFileSync(
        config,
        [
          'name = "panic"',
          `kernel = "${debian("vmlinuz-cloud")}"`,
          `ramdisk = "${debian("initramfs.cpio.gz")}"`,
          "memory = 256",
          "extra = 'console=hvc0 quiet run=\"echo c > /proc/sysrq-trigger\"'",
        ].join("\n"),
      );
      const r = await runCli(["run", config, ...LIMIT]);
      expect(r.stdout).toContain("Kernel panic - not syncing: sysrq triggered crash");
      expect(r.stderr).toMatch(/RIP: +e033:\[<ffffffff[0-9a-f]{8}>\]/);
      expect(r.stderr).toContain("Guest stack trace from rsp=");
      expect(r.stderr.trimEnd()).toMatch(/xenolith: panic crashed: the guest says so$/);
      expect(r.status).toBe(3);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
