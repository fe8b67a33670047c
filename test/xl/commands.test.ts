// What the transcripts do not show: options, help, commands that are not there, our extensions. One rule per test.
import { beforeEach, describe, expect, it } from "vitest";
import { commands } from "../../src/cli/xl/table.js";
import { getopt, OptionError } from "../../src/cli/xl/getopt.js";
import { ranges, uptime } from "../../src/cli/xl/format.js";
import { parseMemoryKiB } from "../../src/cli/xl/memory-size.js";
import { readSaveHeader } from "../../src/cli/xl/save-header.js";
import { receiverCommand } from "../../src/cli/xl/migrate-link.js";
import { recognised } from "../../src/cli/xl/recognise.js";
import { HostError } from "../../src/toolstack/host/api.js";
import { fakeDomain, FakeHost } from "./fake-host.js";
import { FakeIo, runFake, type Result } from "./fake-io.js";

let host: FakeHost;
let io: FakeIo;
const xl = (...words: string[]): Promise<Result> => runFake(host, words, io);
const CONFIG = new TextEncoder().encode('name="g"\nkernel="/lab/vmlinuz-cloud"\nmemory=64\n');

beforeEach(() => {
  host = new FakeHost();
  host.add(fakeDomain(0, "Domain-0", { running: true }));
  host.add(fakeDomain(4, "g1", { currentKiB: 65536, maxKiB: 131072, targetKiB: 65536, blocked: true }));
  io = new FakeIo();
  io.files.set("g.cfg", CONFIG);
});

describe("options", () => {
  const spec = { short: "d:w:sl", long: { domain: "d", weight: "w", schedparam: "s", long: "l" } };
  it.each<[string, string[], string[][], string[]]>([
    [
      "values attached and apart",
      ["-dx", "-w", "5"],
      [
        ["d", "x"],
        ["w", "5"],
      ],
      [],
    ],
    [
      "bundles",
      ["-slw5"],
      [
        ["s", ""],
        ["l", ""],
        ["w", "5"],
      ],
      [],
    ],
    ["options after arguments", ["a", "-s", "b"], [["s", ""]], ["a", "b"]],
    ["-- ends them", ["-s", "--", "-l"], [["s", ""]], ["-l"]],
    [
      "long names, with = and without",
      ["--domain=x", "--weight", "5"],
      [
        ["d", "x"],
        ["w", "5"],
      ],
      [],
    ],
    ["long names cut short", ["--sched"], [["s", ""]], []],
    ["a lone dash is an argument", ["-"], [], ["-"]],
  ])("%s", (_, words, options, args) => {
    const p = getopt(words, spec);
    expect(p.options.map((o) => [o.letter, o.value])).toEqual(options);
    expect(p.args).toEqual(args);
  });
  it.each([[["-x"]], [["--bogus"]], [["-w"]], [["--schedparam=1"]]])("%s is refused", (words) => {
    expect(() => getopt(words, spec)).toThrow(OptionError);
  });
  it("an option without its value is told of as one that there is not", async () => {
    expect(await xl("sched-credit", "-d")).toMatchObject({ status: 2, stderr: "option `d' not supported.\n" });
  });
});

describe("global options and names", () => {
  it("a command may be cut short when only one begins so", async () => {
    expect((await xl("vcpu-l")).stdout).toMatch(/^Name/);
    expect((await xl("vcpu")).stderr).toBe("command not implemented\n");
  });
  it("no command prints the list and fails", async () => {
    const r = await xl();
    expect(r.status).toBe(1);
    expect(r.stdout).toMatch(/^Usage xl \[-vfNtT\] <subcommand> \[args\]\n/);
    for (const c of commands) expect(r.stdout).toContain(` ${c.name}`);
  });
  it("help of one command, by help and by -h", async () => {
    const a = await xl("help", "pause");
    const b = await xl("pause", "-h");
    expect(a).toEqual(b);
    expect(a.stdout).toMatch(/^Usage: xl \[-vtTf\] pause <Domain>\n/);
    expect(a.status).toBe(0);
    expect(await xl("help", "nosuch")).toMatchObject({ status: 0, stdout: 'command "nosuch" not implemented\n' });
  });
  it("-N where there is no dry run is refused", async () => {
    expect(await xl("-N", "pause", "g1")).toMatchObject({
      status: 1,
      stderr: "command does not implement -N (dryrun) option\n",
    });
  });
  it("-N network-attach and block-attach show the device and change nothing", async () => {
    const net = await xl("-N", "network-attach", "g1", "mac=00:16:3e:00:00:01", "bridge=br0");
    expect(net).toMatchObject({ status: 0, stderr: "" });
    expect(JSON.parse(net.stdout.replace(/^vif: /, ""))).toMatchObject({ mac: "00:16:3e:00:00:01", bridge: "br0" });
    const disk = await xl("-N", "block-attach", "g1", "/dev/loop1,raw,xvdb,r");
    expect(JSON.parse(disk.stdout.replace(/^disk: /, ""))).toEqual({
      pdev_path: "/dev/loop1",
      vdev: "xvdb",
      format: "raw",
    });
    expect(host.domains[1].devices).toEqual([]);
  });
  it("-vvv tells of every request to the host, -T of the time", async () => {
    io.time = Date.UTC(2026, 0, 2, 3, 4, 5);
    expect((await xl("-vvv", "pause", "g1")).stderr).toContain("libxl: debug: pause(4): ok, 0 ms\n");
    expect((await xl("-v", "pause", "g1")).stderr).toBe("");
    expect((await xl("-T", "rename", "g1", "Domain-0")).stderr).toMatch(
      /^2026-01-02 03:04:05 UTC libxl: error: Domain 4:/,
    );
  });
  it("xm's commands are answered with what to do now", async () => {
    const r = await xl("start", "g1");
    expect(r.status).toBe(1);
    expect(r.stderr).toMatch(/^command not implemented: .*xl create/);
  });
});

describe("what there is not", () => {
  // Every command of xl there is, in facts of its command table.
  const ALL =
    `create config-update list destroy shutdown reboot pause unpause rename domid domname vm-list uptime console vncviewer sysrq
    trigger button-press dump-core save restore migrate migrate-receive remus suspend resume mem-set mem-max vcpu-list vcpu-pin vcpu-set
    sharing claims info dmesg top debug-keys set-parameters sched-credit sched-credit2 sched-rtds cpupool-create cpupool-list
    cpupool-destroy cpupool-rename cpupool-cpu-add cpupool-cpu-remove cpupool-migrate cpupool-numa-split block-attach block-list
    block-detach cd-insert cd-eject network-attach network-list network-detach channel-list vtpm-attach vtpm-list vtpm-detach vkb-attach
    vkb-list vkb-detach vdispl-attach vdispl-list vdispl-detach vsnd-attach vsnd-list vsnd-detach pci-attach pci-detach pci-list
    pci-assignable-add pci-assignable-remove pci-assignable-list usbctrl-attach usbctrl-detach usbdev-attach usbdev-detach usb-list
    qemu-monitor-command devd getenforce setenforce loadpolicy psr-hwinfo psr-cmt-attach psr-cmt-detach psr-cmt-show psr-cat-set
    psr-cat-show psr-mba-set psr-mba-show dt-overlay xenstore-quota-get xenstore-quota-set sched-sedf fork`.split(
      /\s+/,
    );
  it("every command of xl is known by name", () => {
    const names = new Set(commands.map((c) => c.name));
    expect(ALL.filter((n) => !names.has(n))).toEqual([]);
    expect(names.size).toBe(commands.length);
  });
  it.each([
    ["pci-attach", "g1", "01:00.0"],
    ["vtpm-attach", "g1"],
    ["usbdev-detach", "g1", "0", "1"],
    ["qemu-monitor-command", "g1", "info"],
    ["suspend", "g1"],
    ["remus", "g1", "host"],
    ["psr-cat-show", "g1"],
    ["devd"],
    ["vncviewer", "g1"],
  ])("%s %s says so in one line and fails", async (...words) => {
    const r = await xl(...words);
    expect(r.status).toBe(1);
    expect(r.stdout).toBe("");
    expect(r.stderr).toMatch(new RegExp(`^xl ${words[0]}: [^\\n]+\\n$`));
  });
  it("a mistyped domain is not taken for a missing feature", async () => {
    expect((await xl("suspend", "nosuch")).stderr).toBe("nosuch is an invalid domain identifier (rc=-6)\n");
  });
  it("a mistake of ours is told as one, and a refusal of the host in its words", async () => {
    host.listPools = () => Promise.reject(new HostError("io", "the host service has ended"));
    expect(await xl("cpupool-list")).toMatchObject({ status: 1, stderr: "xl: the host service has ended\n" });
    host.listPools = () => Promise.reject(new TypeError("oops"));
    const r = await xl("cpupool-list");
    expect(r.status).toBe(70);
    expect(r.stderr).toContain("internal error");
  });
});

describe("create", () => {
  it("reads nothing when there is nothing to read", async () => {
    expect(await xl("create", "memory=64")).toMatchObject({
      status: 6,
      stderr: "Config file not specified and none in save file\n",
    });
  });
  it("-p, -e and overrides go to the host; -q says nothing", async () => {
    expect(await xl("create", "-pq", "g.cfg", 'name="h"')).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(host.asked).toContain("create g.cfg paused");
    expect(host.domains.at(-1)?.name).toBe("h");
    await xl("create", "-e", "g.cfg");
    expect(host.asked).toContain("create g.cfg forget");
  });
  it("the file may come by -f, or after the options; a second one is refused", async () => {
    expect((await xl("create", "-f", "g.cfg")).status).toBe(0);
    expect((await xl("create", "g.cfg", "h.cfg")).status).toBe(2);
  });
  it("a mistake in an override names the command line", async () => {
    const r = await xl("create", "g.cfg", "memory=many");
    expect(r.status).toBe(1);
    expect(r.stderr).toContain("command line:1: config parsing error");
  });
  it("warnings are printed once, though the host gives them too", async () => {
    const r = await xl("create", "g.cfg", "frobnicate=1");
    expect(r.stderr.match(/unknown parameter/g)).toHaveLength(1);
  });
  it("a pool that there is not ends with ERROR_INVAL", async () => {
    expect(await xl("create", "g.cfg", 'pool="nosuch"')).toMatchObject({ status: 6 });
  });
  it.each([
    ["no-memory", "not enough free memory: 64 MiB wanted", "can't allocate low memory for domain: Out of memory"],
    ["invalid", "disk xvda: /x.img: no such file", "Disk vdev=xvda failed to stat: /x.img: No such file or directory"],
    ["invalid", "/k: no such file", "failed to open file '/k': No such file or directory"],
    ["exists", "there is one", 'Domain with name "g" already exists.'],
  ] as const)("what the host refuses (%s) ends with 3 and the phrase people know", async (code, message, phrase) => {
    host.createError = new HostError(code, code === "exists" ? `the name is taken: ${message}` : message);
    const r = await xl("create", "g.cfg");
    expect(r.status).toBe(3);
    expect(r.stderr).toContain(`libxl: error: ${phrase}`);
  });
  it("-V says that there is no frame buffer", async () => {
    expect((await xl("create", "-V", "g.cfg")).status).toBe(1);
  });
  it("-F follows a restart and ends with the domain", async () => {
    const run = xl("create", "-F", "g.cfg");
    await new Promise((done) => setTimeout(done, 20));
    const name = "g";
    host.emit({ type: "shutdown", domid: 4, name: "g1", code: 3 });
    host.emit({ type: "shutdown", domid: 5, name, code: 1 });
    host.emit({ type: "destroyed", domid: 5, name });
    host.emit({ type: "action", domid: 5, name, action: "restart", newDomid: 6 });
    host.emit({ type: "shutdown", domid: 6, name, code: 0 });
    host.emit({ type: "action", domid: 6, name, action: "destroy" });
    const r = await run;
    expect(r.status).toBe(0);
    expect(r.stderr.split("\n").slice(1, -1)).toEqual([
      "Waiting for domain g (domid 5) to die [pid 2472]",
      "Domain 5 has shut down, reason code 1 0x1",
      "Action for shutdown reason code 1 is restart",
      "Domain 5 needs to be cleaned up: destroying the domain",
      "Done. Rebooting now",
      "Waiting for domain g (domid 6) to die [pid 2472]",
      "Domain 6 has shut down, reason code 0 0x0",
      "Action for shutdown reason code 0 is destroy",
      "Domain 6 needs to be cleaned up: destroying the domain",
      "Done. Exiting now",
    ]);
  });
  it("-F of a domain that somebody destroys", async () => {
    const run = xl("create", "-F", "g.cfg");
    await new Promise((done) => setTimeout(done, 20));
    await host.destroy(5);
    expect((await run).stderr).toContain("Domain 5 has been destroyed.\n");
  });
});

describe("shutdown and reboot", () => {
  it("-a asks all but domain 0; -w waits for all", async () => {
    host.add(fakeDomain(7, "g2"));
    const r = await xl("shutdown", "-aw");
    expect(r.status).toBe(0);
    expect(host.asked).toEqual(["shutdown 4 poweroff", "shutdown 7 poweroff"]);
    expect(r.stderr).toContain("Waiting for 2 domains\n");
    expect(r.stderr).toContain("Domain 7 has been shut down, reason code 0\n");
  });
  it("-w on a domain that is destroyed meanwhile", async () => {
    host.endsWith = undefined;
    const run = xl("shutdown", "-w", "g1");
    await new Promise((done) => setTimeout(done, 20));
    await host.destroy(4);
    expect((await run).stderr).toContain("Domain 4 has been destroyed\n");
  });
  it("a reboot is asked for as one", async () => {
    await xl("reboot", "g1");
    expect(host.asked).toEqual(["shutdown 4 reboot"]);
  });
});

describe("small things", () => {
  it.each([
    ["sysrq g1 h", "sysrq 4 h"],
    ["trigger g1 nmi 1", "trigger 4 nmi 1"],
    ["debug-keys q", "debug-keys q"],
    ["dmesg -c", "dmesg true"],
    ["save -c g1 /run/g/f", "save 4 /run/g/f continue"],
    ["save -p g1 f", "save 4 /run/g/f pause"],
    ["cd-insert g1 hdc /dev/loop0", "cd-insert 4 hdc /dev/loop0"],
    ["cd-eject g1 hdc", "cd-eject 4 hdc"],
    ["dump-core g1 core", "dump-core 4 /run/g/core"],
  ])("xl %s asks the host", async (words, asked) => {
    expect((await xl(...words.split(" "))).status).toBe(0);
    expect(host.asked).toContain(asked);
  });
  it("cd-insert of a file that there is not", async () => {
    expect(await xl("cd-insert", "g1", "hdc", "/nosuch.iso")).toMatchObject({
      status: 1,
      stderr: "Cannot stat file: /nosuch.iso\n",
    });
  });
  it("sysrq of more than one key prints the usage", async () => {
    const r = await xl("sysrq", "g1", "help");
    expect(r.status).toBe(1);
    expect(r.stderr).toBe("Invalid sysrq.\n\n");
    expect(r.stdout).toContain("Usage: ");
  });
  it("info prints one value for a key", async () => {
    expect((await xl("info", "total_memory")).stdout).toBe("4095\n");
  });
  it("sched-sedf shows and sets milliseconds", async () => {
    host.pools[0].scheduler = "sedf";
    host.domains[1].sched = { period: 20e6, slice: 15e6, latency: 0, extratime: 1, weight: 0 };
    expect((await xl("sched-sedf", "-d", "g1")).stdout).toBe(
      "Name                                ID Period Slice  Latency Extra Weight\n" +
        "g1                                   4     20     15       0     1      0\n",
    );
    await xl("sched-sedf", "-d", "g1", "-p", "100", "-s", "30", "-e", "0");
    expect(host.asked).toEqual(['setSched sedf {"period":100000000,"slice":30000000,"weight":0,"extratime":0}']);
    expect((await xl("sched-sedf", "-d", "g1", "-p", "100")).status).toBe(1);
    expect((await xl("sched-sedf", "-w", "5")).stderr).toBe("Must specify a domain.\n");
    expect((await xl("sched-credit", "-d", "g1")).stderr).toContain("returned sedf not credit");
  });
  it("cpupool-numa-split names the one pool after the one node", async () => {
    expect((await xl("cpupool-numa-split")).status).toBe(0);
    expect(host.pools[0].name).toBe("Pool-node0");
  });
  it("fork makes copies and prints their numbers and names", async () => {
    expect(await xl("fork", "-n", "2", "g1")).toEqual({ status: 0, stdout: "5 g1-fork1\n6 g1-fork2\n", stderr: "" });
    expect((await xl("fork", "-n", "0", "g1")).status).toBe(1);
  });
  it("a save file that is none is refused before the host is asked", async () => {
    io.files.set("zero", new Uint8Array(100));
    expect(await xl("restore", "zero")).toMatchObject({
      status: 1,
      stderr: "File has wrong magic number - corrupt or for a different tool?\n",
    });
    expect(await xl("restore", "/nosuchfile")).toMatchObject({
      status: 1,
      stderr: "Can't open restore file: No such file or directory\n",
    });
    expect(host.asked).toEqual([]);
  });
  it("save into a folder that there is not", async () => {
    expect(await xl("save", "g1", "/nosuchdir/x")).toMatchObject({
      status: 1,
      stderr: "Failed to open temp file /nosuchdir/x for writing\n",
    });
  });
});

describe("pieces", () => {
  it.each([
    ["1", 1024],
    ["256m", 262144],
    ["1G", 1048576],
    ["512k", 512],
    ["2048b", 2],
    ["1t", 1073741824],
    ["abc", undefined],
    ["-5", undefined],
    ["", undefined],
  ])("memory size %s", (text, kib) => {
    expect(parseMemoryKiB(text)).toBe(kib);
  });
  it("sets of CPUs", () => {
    expect(ranges(null, 4)).toBe("all");
    expect(ranges([0, 1, 2, 3], 4)).toBe("all");
    expect(ranges([3, 0, 1], 4)).toBe("0-1,3");
    expect(ranges([2], 4)).toBe("2");
    expect(ranges([], 4)).toBe("none");
  });
  it("times of being up", () => {
    expect(uptime(62_000, false)).toBe(" 0:01:02");
    expect(uptime(90_061_000, false)).toBe("1 day,  1:01:01");
    expect(uptime(180_000_000, true)).toBe("2 days,  2:00");
  });
  it("the head of a save file, as real xl wrote it", () => {
    const hex =
      "58656e20736176656420646f6d61696e2c20786c20666f726d61740a2000200d0403020103000000 00000000b2040000".replace(
        / /g,
        "",
      );
    const bytes = Uint8Array.from(hex.match(/../g) ?? [], (h) => parseInt(h, 16));
    expect(readSaveHeader(bytes)).toEqual({ ok: true, mandatory: 3, optional: 0, length: 1202 });
    expect(readSaveHeader(bytes.subarray(0, 40)).ok).toBe(false);
  });
  it("the command that receives a domain", () => {
    expect(receiverCommand("h", undefined)).toBe("exec ssh h xl migrate-receive");
    expect(receiverCommand("h", "ssh -p 22")).toBe("exec ssh -p 22 h xl migrate-receive");
    expect(receiverCommand("anything at all", "")).toBe("anything at all");
  });
  it("words of the host that need no other", () => {
    expect(recognised("the moon is full")).toBe("the moon is full");
  });
});
