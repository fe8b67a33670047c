// xl with the real host service and the project's own guests: a domain's life from create to destroy, its console on a terminal, what
// its configurations' mistakes lead to.
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { debian, haveDebian, image, root } from "../cli-helper.js";
import { havePython, RealXl, until } from "./real.js";
import { readTranscript } from "./transcript.js";

const LIMIT = { timeout: 240_000 };
const noPython = havePython ? "" : " (no python3: skipped)";

describe("xl on a host service", LIMIT, () => {
  let xl: RealXl;
  beforeAll(async () => {
    xl = new RealXl(["--memory", "512"]);
    await xl.start();
    xl.file("spin.cfg", `name="spin"\nkernel="${image("spin")}"\nmemory=16\nvcpus=1\n`);
    xl.file("echo.cfg", `name="echo"\nkernel="${image("console-echo")}"\nmemory=16\non_poweroff="destroy"\n`);
  }, 90_000);
  afterAll(async () => xl.stop());

  it("shows domain 0 and nothing else on a fresh host", async () => {
    const lines = (await xl.ok("list")).trimEnd().split("\n");
    expect(lines).toHaveLength(2);
    expect(lines[1]).toMatch(/^Domain-0 {33,} 0 +\d+ +1 {5}r----- {2} +\d+\.\d$/);
    expect(await xl.ok("domid", "Domain-0")).toBe("0\n");
    expect(await xl.ok("info", "xen_version")).toMatch(/^4\.17/);
    expect(await xl.ok("vm-list")).toContain("00000000-0000-0000-0000-000000000000  0    Domain-0");
  });

  it("leads a domain through its life", async () => {
    const made = await xl.run("create", "-p", "spin.cfg");
    expect(made).toMatchObject({ status: 0, stdout: "", stderr: "Parsing config from spin.cfg\n" });
    expect((await xl.row("spin")).slice(2, 5)).toEqual(["16", "1", "--p---"]);
    const domid = (await xl.ok("domid", "spin")).trim();
    expect(await xl.ok("domname", domid)).toBe("spin\n");
    await xl.ok("unpause", "spin");
    expect(await until(async () => (await xl.row("spin"))[4] === "r-----", 20)).toBe(true);
    expect(await xl.ok("vcpu-list", "spin")).toMatch(/^spin +\d+ +0 +\d+ {3}r-- +\d+\.\d {2}all \/ all$/m);

    await xl.ok("vcpu-pin", "spin", "0", "1");
    expect(await xl.ok("vcpu-list", "spin")).toMatch(/ 1 \/ all$/m);
    const pinned = await xl.run("vcpu-pin", "spin", "0", "99");
    expect(pinned).toMatchObject({ status: 1, stderr: "vcpu hard affinity map is empty\n" });
    await xl.ok("vcpu-pin", "spin", "all", "all", "all");

    const taken = await xl.run("create", "spin.cfg");
    expect(taken.status).toBe(3);
    expect(taken.stderr).toContain('Domain with name "spin" already exists.');
    await xl.ok("rename", "spin", "spun");
    expect((await xl.run("domid", "spin")).status).toBe(1);
    expect((await xl.run("rename", "spun", "Domain-0")).stderr).toContain("Can't rename domain 'spun'.");

    await xl.ok("sched-credit", "-d", "spun", "-w", "512", "-c", "50");
    expect(await xl.ok("sched-credit", "-d", "spun")).toMatch(/^spun +\d+ {4}512 {3}50$/m);
    expect((await xl.run("sched-credit2", "-d", "spun")).status).toBe(1);

    expect((await xl.run("mem-set", "spun", "100000")).stderr).toContain("less than or equal to memory_static_max");
    await xl.ok("mem-max", "spun", "32");
    expect(await xl.ok("uptime", "spun")).toMatch(/^spun +\d+ {2}0:0\d:\d\d$/m);
    const json = JSON.parse(await xl.ok("list", "-l", "spun")) as [{ config: { b_info: Record<string, unknown> } }];
    expect(json[0].config.b_info).toMatchObject({ kernel: image("spin"), max_memkb: 32768 });

    await xl.ok("pause", "spun");
    expect((await xl.row("spun"))[4]).toBe("--p---");
    await xl.ok("destroy", "spun");
    expect((await xl.run("list", "spun")).status).toBe(1);
    expect((await xl.run("destroy", domid)).stderr).toContain("destroy failed (rc=-21)");
  });

  it("xenolith xl is the same command", async () => {
    const r = await xl.xenolith("xl", "list", "nosuch");
    expect(r).toMatchObject({ status: 1, stderr: "nosuch is an invalid domain identifier (rc=-6)\n" });
  });

  it("create -F tells of the end and of what is done about it", async () => {
    xl.file("short.cfg", `name="short"\nkernel="${image("hello")}"\nmemory=16\n`);
    const r = await xl.run("create", "-F", "short.cfg");
    expect(r.status).toBe(0);
    expect(r.stderr).toMatch(
      /^Parsing config from short.cfg\nWaiting for domain short \(domid (\d+)\) to die \[pid \d+\]\nDomain \1 has shut down, reason code 0 0x0\nAction for shutdown reason code 0 is destroy\nDomain \1 needs to be cleaned up: destroying the domain\nDone. Exiting now\n$/,
    );
  });

  it("a crash that is to be preserved leaves the domain to be looked at", async () => {
    xl.file("crash.cfg", `name="crash"\nkernel="${image("crash")}"\nmemory=16\non_crash="preserve"\n`);
    await xl.ok("create", "crash.cfg");
    expect(await until(async () => (await xl.row("crash"))[4].endsWith("sc-"), 20)).toBe(true);
    expect(await xl.ok("list", "-v", "crash")).toMatch(/ {8}3 {16}-$/m);
    await xl.ok("destroy", "crash");
  });

  it("plugs disks and interfaces in and out of a paused guest", async () => {
    await xl.ok("create", "-p", "spin.cfg");
    const disk = xl.file("disk.img", new Uint8Array(1 << 20));
    await xl.ok("block-attach", "spin", `${disk},raw,xvdb,w`);
    expect(await xl.ok("block-list", "spin")).toMatch(
      /^51728 0 {3}\d+ +1 +-1 +-1 +\/local\/domain\/0\/backend\/vbd\/\d+\/51728$/m,
    );
    const again = await xl.run("block-attach", "spin", `${disk},raw,xvdb,w`);
    expect(again).toMatchObject({ status: 1 });
    expect(again.stderr).toContain("device already exists in xenstore");
    await xl.ok("network-attach", "spin", "mac=00:16:3e:aa:bb:02", "bridge=xenbr0");
    expect(await xl.ok("network-list", "spin")).toContain("0   0  00:16:3e:aa:bb:02     0");
    expect((await xl.run("network-detach", "spin", "7")).stderr).toContain("Unknown device 7.");
    await xl.ok("network-detach", "spin", "00:16:3e:aa:bb:02");
    await xl.ok("block-detach", "-f", "spin", "xvdb");
    expect((await xl.ok("block-list", "spin")).trimEnd().split("\n")).toHaveLength(1);
    await xl.ok("destroy", "spin");
  });

  it("dump-core writes an ELF core file; channels are listed; CDs are put in and taken out", async () => {
    xl.file("more.cfg", `name="more"\nkernel="${image("spin")}"\nmemory=16\nchannel=["connection=pty,name=org.a"]\n`);
    await xl.ok("create", "-p", "more.cfg");
    await xl.ok("dump-core", "more", "core");
    const head = readFileSync(join(xl.folder, "core")).subarray(0, 18);
    expect([...head.subarray(0, 4), head.readUInt16LE(16)]).toEqual([0x7f, 0x45, 0x4c, 0x46, 4]);
    expect(await xl.ok("channel-list", "more")).toMatch(/^1 {3}0 {2}\d +-?\d+ +-?\d+ +pty /m);
    expect((await xl.run("cd-insert", "more", "hdc", xl.file("cd.iso", new Uint8Array(4096)))).status).toBe(1);
    await xl.ok("block-attach", "more", ",,hdc,cdrom");
    await xl.ok("cd-insert", "more", "hdc", "cd.iso");
    await xl.ok("cd-eject", "more", "hdc");
    await xl.ok("destroy", "more");
  });

  it("CPU pools with schedulers of their own", async () => {
    await xl.ok("create", "spin.cfg");
    await xl.ok("cpupool-cpu-remove", "Pool-0", "3");
    expect(await xl.ok("cpupool-create", 'name="p1"', 'sched="sedf"', 'cpus=["3"]')).toContain("number of cpus: 1\n");
    expect(await xl.ok("cpupool-list")).toMatch(/^p1 +1 +sedf +y +0$/m);
    await xl.ok("cpupool-migrate", "spin", "p1");
    expect(await xl.ok("list", "-c", "spin")).toMatch(/ {14}p1$/m);
    expect(await until(async () => / 3 {3}r-- /.test(await xl.ok("vcpu-list", "spin")), 20)).toBe(true);
    await xl.ok("sched-sedf", "-d", "spin", "-p", "100", "-s", "30", "-e", "0");
    expect(await xl.ok("sched-sedf", "-d", "spin")).toMatch(/^spin +\d+ {4}100 {5}30 {7}0 {5}0 {6}0$/m);
    expect((await xl.run("sched-credit", "-d", "spin", "-w", "5")).status).toBe(1);
    expect(await xl.run("cpupool-destroy", "p1")).toMatchObject({ status: 1, stderr: "Can't destroy cpupool 'p1'\n" });
    await xl.ok("destroy", "spin");
    await xl.ok("cpupool-destroy", "p1");
    await xl.ok("cpupool-cpu-add", "Pool-0", "3");
    expect(await xl.ok("cpupool-list", "-c")).toMatch(/^Pool-0 +0,1,2,3$/m);
  });

  it("top -b prints xentop's rows", async () => {
    await xl.ok("create", "spin.cfg");
    const rows = (await xl.ok("top", "-b", "-i", "2", "-d", "1")).trimEnd().split("\n");
    expect(rows).toHaveLength(6);
    expect(rows[0]).toMatch(/^ {6}NAME {2}STATE {3}CPU\(sec\) CPU\(%\)/);
    const cpu = Number(rows[5].trim().split(/\s+/)[3]);
    expect(cpu).toBeGreaterThan(1);
    await xl.ok("destroy", "spin");
  });

  it.skipIf(!havePython)(`console: typed to on a terminal, left by Ctrl-], ended by the guest${noPython}`, async () => {
    await xl.ok("create", "echo.cfg");
    const r = await xl.pty(
      ["console", "echo"],
      [
        ["expect", "Say something", 30],
        ["send", "hello there\r"],
        ["expect", "you said: hello there", 30],
        ["send", "\x1d"],
      ],
    );
    expect(r).toMatchObject({ failed: null, status: 0, echo: true });
    expect((await xl.row("echo"))[0]).toBe("echo");
    // What was said before is there again, and the guest's end ends the console.
    const again = await xl.pty(
      ["console", "echo"],
      [
        ["expect", "you said: hello there", 30],
        ["send", "quit\r"],
      ],
    );
    expect(again).toMatchObject({ failed: null, status: 0, echo: true });
    expect(await until(async () => (await xl.run("list", "echo")).status === 1, 20)).toBe(true);
  });

  it.skipIf(!havePython)(`create -c: nothing of the console is missed${noPython}`, async () => {
    const r = await xl.pty(
      ["create", "-c", "echo.cfg"],
      [
        ["expect", "Parsing config from echo.cfg", 30],
        ["expect", "Say something", 30],
        ["send", "quit\r"],
      ],
    );
    expect(r).toMatchObject({ failed: null, status: 0, echo: true });
  });

  it.skipIf(!havePython)(`top: a live screen that gives the terminal back${noPython}`, async () => {
    const r = await xl.pty(
      ["top", "-d", "1"],
      [
        ["expect", "\x1b[?1049h", 30],
        ["expect", "Domain-0", 30],
        ["send", "v"],
        ["expect", "VCPUs(sec):", 10],
        ["send", "q"],
      ],
    );
    expect(r).toMatchObject({ failed: null, status: 0, echo: true });
    expect(r.output.lastIndexOf("\x1b[?1049l")).toBeGreaterThan(r.output.lastIndexOf("\x1b[?1049h"));
  });
});

describe.skipIf(!haveDebian)(`xl and Debian's kernel${haveDebian ? "" : " (.cache/debian is missing)"}`, LIMIT, () => {
  let xl: RealXl;
  const config = (more = ""): string =>
    `name="deb"\nkernel="${debian("vmlinuz-cloud")}"\nramdisk="${debian("initramfs.cpio.gz")}"\nextra="console=hvc0 quiet"\n${more}`;
  beforeAll(async () => {
    xl = new RealXl(["--memory", "768"]);
    await xl.start();
  }, 90_000);
  afterAll(async () => xl.stop());

  it("create -n prints libxl's JSON and makes nothing", async () => {
    xl.file("dry.cfg", config('memory=256\nmaxmem=320\nvcpus=2\nuuid="11111111-2222-3333-4444-555555555555"\n'));
    const json = JSON.parse(await xl.ok("create", "-n", "dry.cfg")) as Record<string, unknown>;
    expect(Object.keys(json)).toEqual(["c_info", "b_info", "on_reboot", "on_soft_reset"]);
    expect(json["b_info"]).toMatchObject({
      max_vcpus: 2,
      avail_vcpus: [0, 1],
      max_memkb: 327680,
      target_memkb: 262144,
    });
    expect((await xl.run("list", "deb")).status).toBe(1);
  });

  // The cases of real xl in which the host is the one to refuse.
  const refused = readTranscript("config").filter((s) => s.directives.some(([d]) => d === "host"));
  it("refuses what real xl refuses, with its exit status and nothing left behind", async () => {
    expect(refused.length).toBeGreaterThan(15);
    const phrases: Readonly<Record<string, RegExp>> = {
      "missing kernel file": /failed to open file '\/nonexistent\/vmlinuz': No such file or directory/,
      "missing ramdisk file": /failed to open file '\/nonexistent\/initrd': No such file or directory/,
      "kernel is not a kernel": /no loader found: Invalid kernel/,
      "kernel is a non-Xen ELF": /no loader found: Invalid kernel/,
      "memory too big": /can't allocate low memory for domain: Out of memory/,
      "memory 16 (too small for kernel)": /Out of memory/,
      "disk target missing": /Disk vdev=xvda failed to stat: \/dev\/nosuch: No such file or directory/,
      "duplicate vdev": /device already exists in xenstore/,
      "name Domain-0": /Domain with name "Domain-0" already exists/,
      "bad pool": /Illegal pool specified: nosuchpool/,
    };
    const disk = xl.file("disk.img", new Uint8Array(1 << 20));
    for (const step of refused) {
      const text = (step.files.get("c.cfg") ?? "").replaceAll("/lab/vmlinuz-cloud", debian("vmlinuz-cloud"));
      xl.file("c.cfg", text.replaceAll("/lab/disk.img", disk));
      const r = await xl.run("create", "c.cfg");
      expect(r.status, `${step.section}\n${r.stderr}`).toBe(step.status);
      const phrase = phrases[step.section];
      if (phrase !== undefined) expect(r.stderr, step.section).toMatch(phrase);
    }
    expect((await xl.ok("list")).trimEnd().split("\n")).toHaveLength(2);
  });

  it("a guest with disk and network: plug, balloon, sysrq, vCPUs, shutdown", async () => {
    const disk = xl.file("xvda.img", new Uint8Array(4 << 20));
    xl.file(
      "deb.cfg",
      config(`memory=160\nmaxmem=160\nvcpus=2\ndisk=["${disk},raw,xvda,w"]\nvif=["mac=00:16:3e:aa:bb:01"]\n`),
    );
    await xl.ok("create", "deb.cfg");
    const connected = async (list: "block-list" | "network-list"): Promise<boolean> =>
      / 4 +\d+ |  4 +-1 +\d+\//.test((await xl.ok(list, "deb")).split("\n")[1] ?? "");
    expect(await until(() => connected("block-list"), 120)).toBe(true);
    expect(await until(() => connected("network-list"), 30)).toBe(true);

    await xl.ok("mem-set", "deb", "130");
    expect(await until(async () => Number((await xl.row("deb"))[2]) <= 131, 60)).toBe(true);
    await xl.ok("vcpu-set", "deb", "1");
    expect(await until(async () => (await xl.row("deb"))[3] === "1", 60)).toBe(true);
    expect(await xl.ok("vcpu-list", "deb")).toMatch(/ 1 {4}- {3}--p /);

    const extra = xl.file("xvdb.img", new Uint8Array(1 << 20));
    await xl.ok("block-attach", "deb", extra, "raw", "xvdb", "w");
    expect(await until(async () => / 4 /.test((await xl.ok("block-list", "deb")).split("\n")[2] ?? ""), 30)).toBe(true);
    await xl.ok("block-detach", "deb", "xvdb");
    expect((await xl.ok("block-list", "deb")).trimEnd().split("\n")).toHaveLength(2);

    await xl.ok("sysrq", "deb", "h");
    const r = await xl.run("shutdown", "-w", "deb");
    expect(r.status).toBe(0);
    expect(r.stderr).toMatch(
      /^Shutting down domain (\d+)\nWaiting for 1 domains\nDomain \1 has been shut down, reason code 0\n$/,
    );
    expect(await until(async () => (await xl.run("list", "deb")).status === 1, 30)).toBe(true);
    const log = join(xl.folder, "state/console/guest-deb.log");
    expect(existsSync(log) ? readFileSync(log, "utf8") : "").toContain("sysrq: HELP");
    expect(statSync(disk).size).toBe(4 << 20);
  });

  it("save, restore, fork and migrate: the guest goes on where it was", async () => {
    xl.file("small.cfg", config("memory=96\n").replace("deb", "mover"));
    await xl.ok("create", "small.cfg");
    const log = join(xl.folder, "state/console/guest-mover.log");
    const shell = async (): Promise<boolean> => existsSync(log) && readFileSync(log, "utf8").includes("xenolith:/#");
    expect(await until(shell, 120)).toBe(true);

    const kept = await xl.run("save", "-c", "mover", "deb.save");
    expect(kept.stderr).toMatch(/^Saving to deb.save new xl format \(info 0x3\/0x0\/(\d+)\)\n/);
    expect(kept.status).toBe(0);
    expect((await xl.row("mover"))[4]).not.toContain("s");
    await xl.ok("save", "mover", "deb.save");
    expect((await xl.run("list", "mover")).status).toBe(1);
    const back = await xl.run("restore", "-p", "deb.save");
    expect(back.status, back.stderr).toBe(0);
    expect(back.stderr).toMatch(
      /^Loading new save file deb.save \(new xl fmt info 0x3\/0x0\/\d+\)\n Savefile contains xl domain config/,
    );
    expect((await xl.row("mover"))[4]).toBe("--p---");
    const twice = await xl.run("restore", "deb.save");
    expect(twice.status).toBe(1);
    await xl.ok("unpause", "mover");

    expect(await xl.ok("fork", "-n", "2", "mover", "kid")).toMatch(/^\d+ kid-1\n\d+ kid-2\n$/);
    expect(Number((await xl.row("kid-2"))[2])).toBe(96);

    const other = new RealXl(["--memory", "256"]);
    await other.start();
    try {
      const { socket } = await other.migrationSocket();
      const moved = await xl.run("migrate", "kid-1", socket);
      expect(moved.stderr).toMatch(/^migration sender: Target reports successful startup\.\nMigration successful: /);
      expect(moved.status).toBe(0);
      // As through ssh: a command whose standard streams are the link.
      const receive = `XENOLITH_STATE=${other.state} ${process.execPath} ${join(root, "bin/xl.js")} migrate-receive`;
      expect((await xl.run("migrate", "-s", "", "kid-2", receive)).status).toBe(0);
      expect((await other.ok("list")).match(/^kid-\d /gm)).toHaveLength(2);
      expect((await xl.ok("list")).match(/^kid-\d /gm)).toBeNull();
      const broken = await xl.run("migrate", "-s", "", "mover", "false");
      expect(broken.status).toBe(1);
      expect(broken.stderr).toContain("Migration failed, resuming at sender.");
      expect((await xl.row("mover"))[0]).toBe("mover");
    } finally {
      await other.stop();
    }
    await xl.ok("destroy", "mover");
  });
});
