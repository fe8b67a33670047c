// The command line as a user meets it: mistakes, exit statuses, consoles, several domains, the terminal.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cli, CliRun, debian, ensureBuilt, haveDebian, image, runCli } from "./cli-helper.js";

let dir = "";
beforeAll(() => {
  ensureBuilt();
  dir = mkdtempSync(join(tmpdir(), "xenolith-cli-"));
}, 300_000);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(dir, name);
  writeFileSync(path, content);
  return path;
}
const config = (name: string, text: string): string => file(`${name}.cfg`, `name="${name}"\n${text}\n`);
const hello = image("hello");
const haveGuests = existsSync(hello);

/** An ELF header for some machine, with a program header or none. */
function elf(patch: Record<number, number> = {}): Uint8Array {
  const b = new Uint8Array(120);
  b.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  const v = new DataView(b.buffer);
  v.setUint16(16, 2, true);
  v.setUint16(18, 62, true);
  v.setUint32(20, 1, true);
  v.setUint32(32, 64, true);
  v.setUint16(52, 64, true);
  v.setUint16(54, 56, true);
  v.setUint16(56, 1, true);
  v.setUint16(58, 64, true);
  v.setUint32(64, 1, true);
  v.setUint32(64 + 4, 5, true);
  v.setUint32(64 + 32, 120, true);
  v.setUint32(64 + 40, 4096, true);
  for (const [at, byte] of Object.entries(patch)) b[Number(at)] = byte;
  return b;
}

/** A bzImage whose payload begins with `magic`. */
function bzImage(magic: number[], payload = 64, length = payload): Uint8Array {
  const b = new Uint8Array(1024 + payload);
  const v = new DataView(b.buffer);
  b[0x1f1] = 1;
  v.setUint16(0x1fe, 0xaa55, true);
  b.set([0x48, 0x64, 0x72, 0x53], 0x202);
  v.setUint16(0x206, 0x20f, true);
  v.setUint32(0x248, 0, true);
  v.setUint32(0x24c, length, true);
  b.set(magic, 1024);
  return b;
}

describe("a mistake of the user gets one clear line and status 2", () => {
  const cases: [string, () => string[], RegExp][] = [
    ["no such file", () => ["run", "/no/such/kernel"], /^xenolith: \/no\/such\/kernel: no such file$/],
    ["a directory", () => ["run", dir], /: is a directory, not a file$/],
    ["an empty file", () => ["run", file("empty", "")], /empty: the file is empty$/],
    [
      "neither kernel nor configuration",
      () => ["run", file("junk", new Uint8Array([1, 0, 2]))],
      /junk: not an ELF or bzImage kernel/,
    ],
    ["no Xen notes", () => ["run", file("plain.elf", elf())], /plain\.elf: no Xen notes/],
    [
      "a kernel for another processor",
      () => ["run", file("arm.elf", elf({ 18: 183 }))],
      /arm\.elf: .*another processor/,
    ],
    ["wrong class", () => ["run", file("class.elf", elf({ 4: 7 }))], /class\.elf: .*class/],
    [
      "a truncated ELF image",
      () => ["run", file("short.elf", elf().subarray(0, 40))],
      /short\.elf: the ELF image is truncated$/,
    ],
    [
      "a truncated bzImage",
      () => ["run", file("short.bz", bzImage([2, 0x21, 0x4c, 0x18], 64, 4096))],
      /short\.bz: the bzImage is truncated$/,
    ],
    [
      "an unknown compression",
      () => ["run", file("odd.bz", bzImage([0x41, 0x42, 0x43, 0x44]))],
      /odd\.bz: .*unknown compression.*41 42 43 44/,
    ],
    [
      "a bad value",
      () => ["run", config("value", 'kernel="k"\nmaxvcpus=0')],
      /value\.cfg:3: parameter `maxvcpus' is 0, must be at least 1$/,
    ],
    [
      "a bad key",
      () => ["run", config("key", 'kernel="k"\ngic_version="v3"')],
      /key\.cfg:3: `gic_version' is for Arm guests only/,
    ],
    ["bad syntax", () => ["run", config("syntax", "kernel=")], /syntax\.cfg:2: config parsing error/],
    [
      "no kernel in a configuration",
      () => ["run", config("nothing", "memory=64")],
      /Neither kernel nor bootloader specified$/,
    ],
    [
      "a kernel of a configuration that is not there",
      () => ["run", config("gone", 'kernel="/no/such"')],
      /^xenolith: \/no\/such: no such file$/,
    ],
    [
      "a type that is not there yet",
      () => ["run", config("hvm", 'type="hvm"\nkernel="k"')],
      /type="hvm" is not supported yet/,
    ],
    ["an unknown command", () => ["frobnicate"], /unknown command 'frobnicate'/],
    ["an unknown option", () => ["run", "--frobnicate", "k"], /unknown option '--frobnicate'/],
    ["no file", () => ["run"], /missing required argument 'file'/],
    ["a bad number", () => ["run", "--memory", "much", "k"], /--memory.*'much' is invalid/],
    ["a bad timeout", () => ["run", "--timeout", "0", "k"], /--timeout.*'0' is invalid/],
    ["an unknown choice", () => ["run", "--clock", "sun", "k"], /--clock.*'sun' is invalid/],
  ];
  it.each(cases)("%s", async (_, args, message) => {
    const r = await runCli(args());
    expect(r.stdout).toBe("");
    expect(r.stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(r.stderr.trimEnd()).toMatch(message);
    expect(r.status).toBe(2);
  });

  it.skipIf(!haveGuests).each<[string, () => string[], RegExp]>([
    ["no such RAM disk", () => ["run", hello, "--ramdisk", "/no/rd"], /^xenolith: \/no\/rd: no such file$/],
    ["an unknown trace kind", () => ["run", hello, "--trace", "everything"], /unknown trace kind "everything"/],
    ["a trace file without a trace", () => ["run", hello, "--trace-file", "x"], /need --trace$/],
    [
      "a trace file that cannot be",
      () => ["run", hello, "--trace", "all", "--trace-file", "/no/t"],
      /\/no\/t: cannot be written$/,
    ],
    ["more memory than a machine has", () => ["run", hello, "--memory", "9000"], /9000 MiB is too much/],
    ["one name for two domains", () => ["run", hello, hello, "--name", "x"], /--name is for one domain/],
    ["settings for a kernel", () => ["run", hello, "memory=3"], /settings belong to a configuration/],
    [
      "two configurations of one name",
      () => ["run", config("twin", `kernel="${hello}"`), config("twin", `kernel="${hello}"`)],
      /twin\.cfg: there is a domain with the name "twin" already$/,
    ],
  ])("%s (with a kernel)", async (_, args, message) => {
    const r = await runCli(args());
    expect(r.stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(r.stderr.trimEnd()).toMatch(message);
    expect(r.status).toBe(2);
  });

  it.skipIf(!haveDebian)("too little memory, with what is needed", async () => {
    const r = await runCli(["run", debian("vmlinuz-cloud"), "--memory", "16"]);
    expect(r.stderr).toMatch(
      /^xenolith: .*vmlinuz-cloud: too little memory: .* at least \d+ MiB, the domain has 16 MiB\n$/,
    );
    expect(r.status).toBe(2);
  });
});

describe.skipIf(!haveGuests)("a run", () => {
  it("of a kernel ends with status 0 when the guest powers off", async () => {
    const r = await runCli(["run", hello, "--memory", "32", "--timeout", "20"]);
    expect(r.stderr).toContain("PASS: hello");
    expect(r.status).toBe(0);
  });

  it("of a configuration takes kernel, memory and command line from it, and settings after it", async () => {
    const path = config("fromfile", `kernel="${hello}"\nmemory=64\nfrob=1`);
    const r = await runCli(["run", path, "memory=32", "--json", "--timeout", "20"]);
    expect(r.stderr).toContain("warning: unknown parameter `frob' is ignored");
    const result = JSON.parse(r.stdout) as Record<string, unknown>;
    expect(result).toMatchObject({
      status: 0,
      ended: "ended",
      domains: [{ name: "fromfile", end: "poweroff", shutdownCode: 0, restarts: 0 }],
    });
    expect(result["stats"]).toMatchObject({ counters: { hypercalls: expect.any(Number) as number } });
  });

  it("shows the first domain's console on stdout, unchanged, and nothing else", async () => {
    const r = await runCli(["run", image("console"), "--memory", "32", "--timeout", "20"]);
    expect(r.stdout).toMatch(/^Hello from the console ring/);
    expect(r.stdout.trimEnd()).toMatch(/PASS: console$/);
    expect(r.stdout).not.toContain("(XEN)");
    expect(r.status).toBe(0);
  });

  it("ends a crash with status 3, registers and stack", async () => {
    const r = await runCli(["run", image("crash"), "--memory", "32", "--timeout", "20"]);
    expect(r.stderr).toMatch(/domain_crash: unhandled #PF/);
    expect(r.stderr).toMatch(/RIP: +e033:\[<0000000000000000>\]/);
    expect(r.stderr).toMatch(/rax: [0-9a-f]{16} +rbx: [0-9a-f]{16}/);
    expect(r.stderr).toMatch(/Guest stack trace from rsp=/);
    expect(r.stderr.trimEnd()).toMatch(/xenolith: crash crashed: unhandled #PF.*$/);
    expect(r.status).toBe(3);
  });

  it("ends with status 124 when the time is up, whatever the guest does", async () => {
    const r = await runCli(["run", image("spin"), "--memory", "32", "--timeout", "0.5"]);
    expect(r.stderr).toContain("xenolith: time is up after 0.5 s");
    expect(r.status).toBe(124);
  });

  it("starts a domain again that asks for a reboot, but not for ever", async () => {
    const r = await runCli(["run", image("reboot"), "--memory", "32", "--timeout", "20"]);
    expect(r.stderr.match(/xenolith: reboot starts again/g)).toHaveLength(4);
    expect(r.stderr).toContain("not started again");
    expect(r.status).toBe(0);
  });

  it("follows on_reboot and --no-reboot", async () => {
    const path = config("once", `kernel="${image("reboot")}"\nmemory=32\non_reboot="destroy"`);
    for (const args of [[path], [image("reboot"), "--memory", "32", "--no-reboot"]]) {
      const r = await runCli(["run", ...args, "--timeout", "20", "--json"]);
      expect(JSON.parse(r.stdout)).toMatchObject({ status: 0, domains: [{ end: "reboot", restarts: 0 }] });
      expect(r.status).toBe(0);
    }
  });

  it("takes input from a pipe, and its end is not the guest's", async () => {
    const run = new CliRun(["run", image("console-echo"), "--memory", "32", "--timeout", "20"]);
    run.type("spam and eggs\n");
    await run.expect(/spam and eggs/, 15_000);
    run.child.stdin.end("quit\n");
    const r = await run.done;
    expect(r.status).toBe(0);
  });

  it("runs several domains at once, the first one's console on stdout", async () => {
    const r = await runCli([
      "run",
      image("console"),
      image("console"),
      hello,
      "--memory",
      "32",
      "--timeout",
      "30",
      "--json",
    ]);
    expect(JSON.parse(r.stdout)).toMatchObject({
      status: 0,
      domains: [{ name: "console" }, { name: "console-2" }, { name: "hello", end: "poweroff" }],
    });
    expect(r.stderr).toMatch(/^\[console-2\] PASS: console$/m);
    expect(r.stderr).toMatch(/^PASS: console$/m);
  });

  it("is no better than its worst domain", async () => {
    const r = await runCli(["run", hello, image("crash"), "--memory", "32", "--timeout", "20"]);
    expect(r.status).toBe(3);
  });

  it("is the same every time with the virtual clock", async () => {
    const trace = (n: number): string => {
      const path = join(dir, `trace${n}`);
      const args = ["--memory", "32", "--clock", "virtual", "--trace", "all", "--trace-file", path];
      const r = spawnSync(process.execPath, [cli, "run", image("console"), ...args]);
      expect(r.status).toBe(0);
      return readFileSync(path, "utf8");
    };
    const first = trace(1);
    expect(first).toMatch(/^\[ +\d+\.\d{9}\] d1v0 hypercall \S+\(.*\) = \S+$/m);
    expect(trace(2)).toBe(first);
  });

  it("traces one kind of one domain on stderr", async () => {
    const r = await runCli([
      "run",
      hello,
      hello,
      "--memory",
      "32",
      "--trace",
      "hypercall:sched_op",
      "--trace-domain",
      "hello-2",
      "--timeout",
      "20",
    ]);
    const lines = r.stderr.split("\n").filter((l) => l.startsWith("["));
    expect(lines.length).toBeGreaterThan(0);
    for (const l of lines) expect(l).toMatch(/\] d2v0 hypercall sched_op\.shutdown\(/);
  });

  it("prints counters with --stats", async () => {
    const r = await runCli(["run", hello, "--memory", "32", "--stats", "--timeout", "20"]);
    expect(r.stderr).toMatch(/statistics after .* s/);
    expect(r.stderr).toMatch(/console_io +\d/);
    expect(r.stderr).toMatch(/engine\n(.*\n)* +interpreted +[1-9]/);
  });

  it("ends by SIGTERM with status 143 and shows the registers on SIGQUIT", async () => {
    const run = new CliRun(["run", image("spin"), "--memory", "32", "--timeout", "30"]);
    await new Promise<void>((resolve) => {
      const timer = setInterval(() => {
        if (!run.stderr.includes("spinning")) return;
        clearInterval(timer);
        resolve();
      }, 50);
    });
    run.child.kill("SIGQUIT");
    for (let i = 0; i < 100 && !run.stderr.includes("RIP:"); i++) await new Promise((r) => setTimeout(r, 50));
    expect(run.stderr).toMatch(/RIP: +e033:/);
    run.child.kill("SIGTERM");
    expect((await run.done).status).toBe(143);
  });
});

// script(1) gives the command a terminal of its own; stty then tells how it was left.
const haveScript = spawnSync("script", ["--version"]).status === 0;
describe.skipIf(!haveGuests || !haveScript)("on a terminal", () => {
  function onTerminal(args: string, input: string): string {
    const command = `stty -a | grep -o -- '-\\?icanon'; ${process.execPath} ${cli} ${args}; echo "status $?"; stty -a | grep -o -- '-\\?icanon\\|-\\?echo '`;
    const r = spawnSync(
      "sh",
      [
        "-c",
        `(sleep 3; printf '${input}'; sleep 3) | script -qec "${command.replaceAll('"', '\\"').replaceAll("$?", "\\$?")}" /dev/null`,
      ],
      {
        encoding: "utf8",
        timeout: 60_000,
      },
    );
    return r.stdout;
  }

  it("Ctrl-] detaches, says what becomes of the domain, and the terminal is as before", () => {
    const out = onTerminal(`run ${image("spin")} --memory 32 --timeout 20`, "\\035");
    expect(out).toMatch(/xenolith: detached from the console; .*spin ends with this command/);
    expect(out).toMatch(/status 0\r?\nicanon/);
    expect(out).not.toMatch(/-icanon/);
  });

  it("is restored after a crash of the guest", () => {
    const out = onTerminal(`run ${image("crash")} --memory 32 --timeout 20`, "x");
    expect(out).toMatch(/status 3\r?\nicanon/);
  });

  it("is restored after a timeout", () => {
    const out = onTerminal(`run ${image("spin")} --memory 32 --timeout 1`, "x");
    expect(out).toMatch(/status 124\r?\nicanon/);
  });
});
