/** Debian's gdb on a guest: stops, steps, sees registers, memory, threads and whole backtraces; the guest notices nothing. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cli as bin, debian, ensureBuilt, haveDebian, image as guest, root } from "./cli-helper.js";

const gdb = spawnSync("gdb", ["--version"]).status === 0;
const noGdb = gdb ? "" : " (skipped: Debian's package gdb is not installed)";
const kernel = debian("vmlinuz-cloud");
const noDebian = !gdb ? noGdb : haveDebian ? "" : " (skipped: Debian's kernel is not here)";
const LIMIT = 180_000;

let dir = "";
const children: ChildProcess[] = [];
beforeAll(() => {
  ensureBuilt();
  dir = mkdtempSync(join(tmpdir(), "xenolith-gdb-"));
}, 300_000);
afterAll(() => {
  for (const c of children) c.kill("SIGKILL");
  rmSync(dir, { recursive: true, force: true });
});

interface Run {
  readonly port: number;
  readonly output: () => string;
  readonly ended: Promise<number | null>;
}

/** A guest that waits for gdb. */
function start(args: readonly string[]): Promise<Run> {
  const child = spawn(process.execPath, [bin, "run", ...args, "--gdb", "0", "--gdb-wait", "--timeout", "120"], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  let text = "";
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  return new Promise((resolve, reject) => {
    const take = (bytes: Buffer): void => {
      text += bytes.toString();
      const m = /target remote :(\d+)/.exec(text);
      if (m !== null) resolve({ port: Number(m[1]), output: () => text, ended });
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    child.on("close", (code) => reject(new Error(`ended with ${String(code)}: ${text}`)));
  });
}

/** What gdb says to a script. */
function debug(run: Run, lines: readonly string[], symbols?: string): Promise<string> {
  const script = join(dir, `script-${run.port}`);
  writeFileSync(
    script,
    [
      "set pagination off",
      "set confirm off",
      "set architecture i386:x86-64",
      ...(symbols === undefined ? [] : [`symbol-file ${symbols}`]),
      `target remote :${run.port}`,
      ...lines,
    ].join("\n"),
  );
  const child = spawn("gdb", ["-nx", "-batch", "-x", script], { stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  let text = "";
  child.stdout.on("data", (b: Buffer) => (text += b.toString()));
  child.stderr.on("data", (b: Buffer) => (text += b.toString()));
  return new Promise((resolve) => child.on("close", () => resolve(text)));
}

describe.skipIf(!gdb)(`gdb on a guest of ours${noGdb}`, { timeout: LIMIT }, () => {
  it("stops at the first instruction, steps one by one, reads and writes registers and memory", async () => {
    const run = await start([guest("hello")]);
    const said = await debug(run, [
      'printf "start %#lx\\n", $rip',
      "set $before = $rip",
      "stepi",
      'printf "moved %d\\n", $rip != $before',
      "set $r15 = 0x1122334455667788",
      'printf "r15 %#lx\\n", $r15',
      "set {long}$rsp = 0x5a5a",
      'printf "stack %#lx\\n", *(long*)$rsp',
      "info threads",
      "detach",
    ]);
    expect(said).toMatch(/start 0x\w+/);
    expect(said).toContain("moved 1");
    expect(said).toContain("r15 0x1122334455667788");
    expect(said).toContain("stack 0x5a5a");
    expect(said).toMatch(/\* 1 +Thread 1 "vcpu0" \(kernel\)/);
    expect(await run.ended).toBe(0);
  });

  it("refuses to overwrite a page table, as the guest itself could not", async () => {
    const run = await start([guest("hello")]);
    // start_info (rsi) holds pt_base at offset 88 (public/xen.h).
    const said = await debug(run, [
      "set {long}*(long*)($rsi+88) = 0",
      'printf "still %d\\n", *(long*)*(long*)($rsi+88) != 0',
      "detach",
    ]);
    expect(said).toContain("Cannot access memory");
    expect(await run.ended).toBe(0);
  });

  it("shows a crash with the state that led to it", async () => {
    const run = await start([guest("crash")]);
    const said = await debug(run, ["continue", 'printf "stack %#lx\\n", $rsp', "continue"]);
    expect(said).toContain("SIGABRT");
    expect(said).toMatch(/stack 0x\w+/);
    expect(await run.ended).toBe(3);
  });

  it("Ctrl-C stops a guest that never ends, and kill ends the run", async () => {
    const run = await start([guest("spin")]);
    const said = await debug(run, [
      "python import threading, os, signal, time",
      "python threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()",
      "continue",
      'printf "stopped %d\\n", $rip != 0',
      "kill",
    ]);
    expect(said).toContain("SIGINT");
    expect(said).toContain("stopped 1");
    expect(await run.ended).toBe(0);
  });
});

describe.skipIf(!gdb)(`gdb on a domain of the host service${noGdb}`, { timeout: LIMIT }, () => {
  it("xl gdb: a live domain is stopped, looked at, and goes on", () => {
    const env = { ...process.env, XENOLITH_STATE: join(dir, "state") };
    const run = (...words: string[]): string => {
      const r = spawnSync(process.execPath, [bin, ...words], { cwd: root, env, encoding: "utf8", timeout: 60_000 });
      expect(r.stderr).toBe("");
      return r.stdout;
    };
    const config = join(dir, "spin.cfg");
    writeFileSync(config, `name="spin"\ntype="pv"\nkernel="${guest("spin")}"\nmemory=16\n`);
    run("up", "--memory", "128");
    try {
      run("xl", "create", "-q", config);
      const m = /^target remote :(\d+)$/m.exec(run("xl", "gdb", "spin"));
      const said = spawnSync(
        "gdb",
        [
          "-nx",
          "-batch",
          "-ex",
          `target remote :${m?.[1] ?? ""}`,
          "-ex",
          'printf "at %#lx\\n", $rip',
          "-ex",
          "stepi",
          "-ex",
          "detach",
        ],
        { encoding: "utf8", timeout: 60_000 },
      ).stdout;
      expect(said).toMatch(/at 0x[0-9a-f]+/);
      expect(run("xl", "list", "spin")).toMatch(/spin .* r-----|spin .* ------/);
    } finally {
      run("down", "--force");
    }
  });
});

describe.skipIf(noDebian !== "")(`gdb on Debian's kernel${noDebian}`, { timeout: LIMIT }, () => {
  it("breakpoints, watchpoints, threads, finish and bt through an interrupt, with symbols from the stripped kernel itself", async () => {
    const symbols = join(dir, "kernel.sym");
    const made = spawnSync(process.execPath, [bin, "symbols", kernel, "-o", symbols], { encoding: "utf8" });
    expect(made.stderr).toBe("");
    const run = await start([
      kernel,
      "--ramdisk",
      debian("initramfs.cpio.gz"),
      "--memory",
      "128",
      "--vcpus",
      "2",
      "--cmdline",
      'console=hvc0 run="echo all is well; poweroff"',
    ]);
    const said = await debug(
      run,
      [
        "break start_kernel",
        "continue",
        "bt",
        "delete",
        "tbreak run_timer_softirq",
        "continue",
        "echo TIMER\\n",
        "bt",
        "info threads",
        "finish",
        "watch *(long*)&jiffies_64",
        "continue",
        "bt 2",
        "delete",
        "continue",
      ],
      symbols,
    );
    expect(said).toMatch(/in start_kernel \(\)\n#1 .* in xen_start_kernel \(\)\n#2 .* in startup_xen \(\)/);
    const timer = said.slice(said.indexOf("TIMER"));
    expect(timer).toMatch(/#0 .* in run_timer_softirq \(\)/);
    // Through the upcall's frame to where the kernel was interrupted, and on to its beginning.
    expect(timer).toMatch(
      /in xen_pv_evtchn_do_upcall \(\)\n#\d+ +<signal handler called>(.|\n)*in (xen_start_kernel|secondary_startup_64|cpu_bringup_and_idle|do_syscall_64|ret_from_fork\w*|cpu_startup_entry) \(\)/,
    );
    expect(timer).toMatch(/Thread 2 "vcpu1"/);
    expect(timer).toMatch(/Run till exit|handle_softirqs|__do_softirq/);
    expect(said).toMatch(/Old value = \d+\nNew value = \d+/);
    expect(said).toMatch(/Old value(.|\n)*in (do_timer|tick_do_update_jiffies64) \(\)/);
    expect(said).toContain("exited normally");
    expect(await run.ended).toBe(0);
    expect(run.output()).toContain("all is well");
  });
});
