// A host of domains in one process: the life of domains, what is done about their ends, consoles, limits.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { config, LIMIT, refusal, request, terminal, TestHost, until } from "./testing.js";

let t: TestHost;
beforeEach(() => (t = new TestHost()));
afterEach(() => t.close());

const types = (): string[] => t.events.map((e) => `${e.type} ${e.name}`);

describe("the life of a domain", { timeout: LIMIT }, () => {
  it("a domain is made paused, runs when it is let, and is destroyed with all its memory", async () => {
    const { host } = t;
    const free = (await host.info()).freeMemory;
    const { domid, name, warnings } = await host.create(request("spin", {}, { paused: true }));
    expect([name, warnings]).toEqual(["spin", []]);
    let d = await host.getDomain(domid);
    expect([d.paused, d.shutdown, d.currentKiB, d.targetKiB, d.cpuTimeNs, d.vcpusOnline]).toEqual([
      true,
      false,
      16384,
      16384,
      0,
      1,
    ]);
    await host.unpause(domid);
    await until("it runs", async () => (await host.getDomain(domid)).cpuTimeNs > 1e6);
    d = await host.getDomain("spin");
    expect([d.running, d.blocked, d.paused]).toEqual([true, false, false]);
    await host.destroy("spin");
    expect((await host.listDomains()).map((x) => x.name)).toEqual(["Domain-0"]);
    expect((await host.info()).freeMemory).toBe(free);
    expect(t.machine.xs.list("/vm")?.length ?? 0).toBe(0);
    expect(types()).toEqual(["created spin", "destroyed spin"]);
  });

  it("pauses count, as Xen's do", async () => {
    const { host } = t;
    const { domid } = await host.create(request("spin"));
    await host.pause(domid);
    await host.pause(domid);
    await host.unpause(domid);
    expect((await host.getDomain(domid)).paused).toBe(true);
    await host.unpause(domid);
    expect((await host.getDomain(domid)).paused).toBe(false);
    expect((await refusal(host.unpause(domid))).code).toBe("state");
  });

  it("a domain that powers itself off is gone, and those who wait are told", async () => {
    const { host } = t;
    const { domid } = await host.create(request("hello", {}, { paused: true }));
    const end = host.waitForEnd("hello");
    await host.unpause(domid);
    expect(await end).toBe(0);
    await until("it is destroyed", () => types().includes("destroyed hello"));
    expect(types()).toEqual(["created hello", "shutdown hello", "destroyed hello", "action hello"]);
    expect((await refusal(host.getDomain("hello"))).code).toBe("unknown-domain");
  });

  it("waiting has an end", async () => {
    await t.host.create(request("spin"));
    expect((await refusal(t.host.waitForEnd("spin", 50))).code).toBe("timeout");
  });

  it("a shutdown is asked for in XenStore", async () => {
    const { domid } = await t.host.create(request("spin"));
    await t.host.shutdown(domid, "reboot");
    expect(t.machine.xs.read(`/local/domain/${domid}/control/shutdown`)).toBe("reboot");
  });

  it("names are one domain's: at creation, under way, and by renaming", async () => {
    const { host } = t;
    const results = await Promise.allSettled([host.create(request("spin")), host.create(request("spin"))]);
    expect(results.map((r) => r.status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(await refusal(host.create(request("spin")))).toEqual({
      code: "exists",
      message: 'Domain with name "spin" already exists.',
    });
    expect((await refusal(host.create(request("spin", { name: "Domain-0" })))).code).toBe("exists");
    await host.create(request("spin", { name: "other" }));
    expect((await refusal(host.rename("other", "spin"))).code).toBe("exists");
    await host.rename("spin", "turn");
    const { domid } = await host.getDomain("turn");
    expect(t.machine.xs.read(`/local/domain/${domid}/name`)).toBe("turn");
    await host.rename("other", "spin");
  });

  it("a name of digits is a number, and what there is not is said so", async () => {
    const { host } = t;
    await host.create(request("spin"));
    expect((await host.getDomain("1")).name).toBe("spin");
    expect((await host.getDomain("0")).name).toBe("Domain-0");
    expect((await refusal(host.getDomain(7))).message).toBe("Domain '7' does not exist.");
    expect((await refusal(host.getDomain("no"))).message).toBe("no is an invalid domain identifier");
    expect((await refusal(host.destroy(0))).code).toBe("invalid");
  });

  it("a mistake in a configuration changes nothing", async () => {
    const { host } = t;
    const free = t.machine.xen.frames.freeFrames;
    const bad: [string, RegExp, string][] = [
      ['name="x"', /Neither kernel nor bootloader specified/, "invalid"],
      ['name="x"\nkernel="/no/such"', /^\/no\/such: no such file$/, "invalid"],
      [config("spin", { memory: 4000 }), /not enough free memory: 4000 MiB wanted/, "no-memory"],
      [config("spin", { pool: "none" }), /unknown cpupool 'none'/, "not-found"],
      [config("spin", { cpus: "9" }), /no such physical CPU/, "invalid"],
      [config("spin", { disk: '["/no/disk,raw,xvda,w"]' }), /\/no\/disk: no such file/, "invalid"],
      [config("spin", { kernel: "/etc/passwd" }), /^\/etc\/passwd: /, "invalid"],
    ];
    for (const [text, message, code] of bad) {
      const r = await refusal(host.create({ config: text, source: "x.cfg" }));
      expect(r.message).toMatch(message);
      expect(r.code).toBe(code);
    }
    expect(t.machine.xen.domains.size).toBe(1);
    expect(t.machine.xen.frames.freeFrames).toBe(free);
    await host.create(request("spin"));
  });
});

describe("what is done when a domain ends", { timeout: LIMIT }, () => {
  it("restart: the same name, UUID, console and log, another number", async () => {
    const { host } = t;
    const { domid } = await host.create(request("console", { on_poweroff: "restart" }, { paused: true }));
    const uuids = new Set<string | undefined>([host.domains.get(domid)?.uuid]);
    host.onEvent((e) => {
      if (e.type === "created") uuids.add(host.domains.get(e.domid)?.uuid);
    });
    const term = await terminal(host, domid);
    await host.unpause(domid);
    await until("it has started again", () => t.events.some((e) => e.type === "action" && e.newDomid !== undefined));
    const now = t.events.find((e) => e.type === "action");
    expect(now).toMatchObject({ domid, action: "restart", newDomid: domid + 1 });
    await until("it gives up", () => t.events.some((e) => e.type === "action" && e.action === "destroy"));
    expect(t.said.some((l) => /ended 5 times within a second of its start: not started again/.test(l))).toBe(true);
    await until("the terminal is told", () => term.ended() !== null);
    expect(uuids.size).toBe(1);
    const log = readFileSync(join(t.folder, "console/guest-console.log"), "utf8");
    expect(log.match(/PASS/g)).toHaveLength(5);
    expect(term.text()).toBe(log);
  });

  it("preserve: the dead domain stays until it is destroyed", async () => {
    const { host } = t;
    await host.create(request("crash", { on_crash: "preserve" }));
    await until("it has crashed", () => t.events.some((e) => e.type === "action"));
    const d = await host.getDomain("crash");
    expect([d.shutdown, d.crashed, d.shutdownCode, d.running, d.blocked]).toEqual([true, true, 3, false, false]);
    await host.destroy("crash");
  });

  it("a crash soon after the start is not started again", async () => {
    await t.host.create(request("crash", { on_crash: "restart" }));
    await until("it is over", () => t.events.some((e) => e.type === "action"));
    expect(t.events.at(-1)).toMatchObject({ action: "destroy" });
    expect(t.said.some((l) => /crashed within 10 s of its start/.test(l))).toBe(true);
  });

  it("rename-restart: the dead domain is kept under a name with the time", async () => {
    const { host } = t;
    await host.create(request("reboot", { on_reboot: "rename-restart" }));
    await until("there are two", async () => (await host.listDomains()).length >= 3);
    const names = (await host.listDomains()).map((d) => d.name);
    expect(names.some((n) => /^reboot-\d{8}T\d{4}Z$/.test(n))).toBe(true);
  });

  it("soft-reset is refused for a PV domain: it is destroyed, and the log says so", async () => {
    const { host } = t;
    const { domid } = await host.create(request("spin"));
    t.machine.xen.domains.get(domid)?.shutdown(5);
    await until("it is gone", () => types().includes("destroyed spin"));
    expect(t.said.some((l) => /soft reset is for HVM domains/.test(l))).toBe(true);
  });

  it("coredump-*: a core file is written, then the action goes on", async () => {
    await t.host.create(request("crash", { on_crash: "coredump-destroy" }));
    await until("it is over", () => t.events.some((e) => e.type === "action"));
    expect(types()).toContain("destroyed crash");
    const core = readFileSync(join(t.folder, "dump/crash"));
    expect(core.subarray(0, 4).toString("latin1")).toBe("\x7fELF");
    expect(core.length).toBeGreaterThan(16 << 20);
  });
});

describe("consoles", { timeout: LIMIT }, () => {
  it("keep what was printed for those who come later, and several may type", async () => {
    const { host } = t;
    await host.create(request("console-echo"));
    const a = await terminal(host, "console-echo");
    a.write("one\n");
    await until("an answer", () => a.text().includes("you said: one"));
    const b = await terminal(host, "console-echo");
    expect(b.text()).toBe(a.text());
    b.write("two\n");
    await until("both see it", () => a.text().includes("you said: two") && b.text().includes("you said: two"));
    a.close();
    b.write("quit\n");
    await until("the end", () => b.ended() !== null);
    expect(a.ended()).toBeNull();
    expect((await refusal(terminal(host, "console-echo"))).code).toBe("unknown-domain");
  });

  it("a console that is not there is said so", async () => {
    await t.host.create(request("spin"));
    expect(await refusal(terminal(t.host, "spin", 3))).toEqual({ code: "not-found", message: "no console 3" });
  });

  it("a guest that does not read costs the one who types, not the host", async () => {
    await t.host.create(request("spin"));
    const a = await terminal(t.host, "spin");
    for (let i = 0; i < 40; i++) a.write("x".repeat(65536));
    expect(a.ended()).toBe("the guest does not take what is typed");
    const b = await terminal(t.host, "spin");
    expect(b.ended()).toBeNull();
  });
});

describe("memory and vCPUs", { timeout: LIMIT }, () => {
  it("memory= below maxmem=: the domain starts with the one and is told of both", async () => {
    const { host } = t;
    const { domid } = await host.create(request("spin", { memory: 16, maxmem: 32 }, { paused: true }));
    const d = await host.getDomain(domid);
    expect([d.currentKiB, d.targetKiB, d.maxKiB]).toEqual([16384, 16384, 32768]);
    const { mm } = t.machine.xen.domains.get(domid) ?? { mm: null };
    expect(mm?.memoryMap).toEqual([{ addr: 0, size: 32 << 20, type: 1 }]);
    // libxl leaves a domain a MiB more than its target.
    expect(mm?.maxPages).toBe((16 + 1) * 256);
    await host.setMemoryTarget(domid, 24 * 1024);
    expect(t.machine.xs.read(`/local/domain/${domid}/memory/target`)).toBe("24576");
    expect(mm?.maxPages).toBe((24 + 1) * 256);
    expect((await refusal(host.setMemoryTarget(domid, 33 * 1024))).message).toMatch(
      /memory_dynamic_max must be less than or equal to memory_static_max/,
    );
    expect((await refusal(host.setMemoryMax(domid, 20 * 1024))).message).toMatch(/memory_static_max must be greater/);
    await host.setMemoryMax(domid, 40 * 1024);
    expect((await host.getDomain(domid)).maxKiB).toBe(40960);
  });

  it("vcpus= below maxvcpus=: the rest are offline until they are wanted", async () => {
    const { host } = t;
    const { domid } = await host.create(request("spin", { vcpus: 1, maxvcpus: 3 }));
    const available = (): (string | null)[] =>
      [0, 1, 2].map((i) => t.machine.xs.read(`/local/domain/${domid}/cpu/${i}/availability`));
    expect(available()).toEqual(["online", "offline", "offline"]);
    const d = await host.getDomain(domid);
    expect([d.vcpusOnline, d.maxVcpus, d.vcpus[2]?.cpu]).toEqual([1, 3, -1]);
    await host.setVcpus(domid, 2);
    expect(available()).toEqual(["online", "online", "offline"]);
    expect((await refusal(host.setVcpus(domid, 4))).code).toBe("invalid");
    expect((await refusal(host.setVcpus(domid, 0))).code).toBe("invalid");
  });

  it("a pinned vCPU runs only there", async () => {
    const { host } = t;
    await host.create(request("spin", { cpus: "2" }));
    await until("it runs", async () => (await host.getDomain("spin")).cpuTimeNs > 0);
    expect((await host.getDomain("spin")).vcpus[0]).toMatchObject({ cpu: 2, hardAffinity: [2], softAffinity: null });
    await host.pinVcpu("spin", 0, [1], [1, 3]);
    await until("it has moved", async () => (await host.getDomain("spin")).vcpus[0]?.cpu === 1);
    expect((await host.getDomain("spin")).vcpus[0]?.softAffinity).toEqual([1, 3]);
    await host.pinVcpu("spin", "all", null);
    expect((await host.getDomain("spin")).vcpus[0]?.hardAffinity).toBeNull();
    expect((await refusal(host.pinVcpu("spin", 0, []))).message).toBe("vcpu hard affinity map is empty");
    expect((await refusal(host.pinVcpu("spin", 5, [0]))).message).toBe("Could not set affinity for vcpu `5'.");
  });

  it("weight and cap are the domain's, and another scheduler's are refused", async () => {
    const { host } = t;
    await host.create(request("spin", { cpu_weight: 512, cap: 50 }));
    expect(await host.getSched("spin")).toEqual({ weight: 512, cap: 50 });
    await host.setSched("spin", "credit", { weight: 128 });
    expect((await host.getDomain("spin")).sched).toEqual({ weight: 128, cap: 50 });
    expect((await refusal(host.setSched("spin", "credit", { weight: 70000 }))).code).toBe("invalid");
    expect((await refusal(host.setSched("spin", "credit2", { weight: 1 }))).message).toMatch(/is credit, not credit2/);
  });
});

describe("control", { timeout: LIMIT }, () => {
  it("sysrq goes to the guest's node", async () => {
    const { domid } = await t.host.create(request("spin"));
    await t.host.sysrq(domid, "h");
    expect(t.machine.xs.read(`/local/domain/${domid}/control/sysrq`)).toBe("h");
    expect((await refusal(t.host.sysrq(domid, "help"))).code).toBe("invalid");
  });

  it("the only trigger of a PV domain is the NMI", async () => {
    const { domid } = await t.host.create(request("spin"));
    await t.host.trigger(domid, "nmi");
    expect((await refusal(t.host.trigger(domid, "power"))).code).toBe("unsupported");
    expect((await refusal(t.host.trigger(domid, "bogus"))).message).toBe('Invalid trigger "bogus"');
    expect((await refusal(t.host.trigger(domid, "nmi", 4))).code).toBe("not-found");
  });

  it("disks are plugged and unplugged by xl's grammar and are there again after a restart", async () => {
    const { host } = t;
    const path = join(t.folder, "disk.img");
    writeFileSync(path, new Uint8Array(1 << 20));
    const { domid } = await host.create(request("spin", { on_reboot: "restart" }, { cwd: t.folder }));
    await host.attachDisk(domid, "disk.img,raw,xvdb,w", t.folder);
    expect(await host.listDevices(domid, "vbd")).toMatchObject([
      { devid: 51728, vdev: "xvdb", target: path, backendPath: `/local/domain/0/backend/vbd/${domid}/51728` },
    ]);
    expect((await refusal(host.attachDisk(domid, "disk.img,raw,xvdb,w", t.folder))).code).toBe("invalid");
    expect((await refusal(host.attachDisk(domid, "disk.img,raw,xvdc,w", t.folder))).message).toMatch(/in use/);
    t.machine.xen.domains.get(domid)?.shutdown(1);
    await until("it has started again", () => t.events.some((e) => e.type === "action"));
    expect((await host.listDevices("spin", "vbd")).map((d) => d.vdev)).toEqual(["xvdb"]);
    await host.detachDisk("spin", "xvdb", true);
    expect(await host.listDevices("spin", "vbd")).toEqual([]);
    expect((await refusal(host.detachDisk("spin", "xvdb"))).code).toBe("not-found");
  });

  it("interfaces are plugged and unplugged, by number and by address", async () => {
    const { host } = t;
    const { domid } = await host.create(request("spin", { vif: '["mac=00:16:3e:00:00:01"]' }));
    await host.attachVif(domid, "mac=00:16:3e:00:00:02,bridge=br1");
    expect((await host.listDevices(domid, "vif")).map((d) => [d.devid, d.mac])).toEqual([
      [0, "00:16:3e:00:00:01"],
      [1, "00:16:3e:00:00:02"],
    ]);
    expect((await refusal(host.attachVif(domid, "nonsense"))).code).toBe("invalid");
    expect((await refusal(host.detachVif(domid, "9"))).message).toBe("Unknown device 9.");
    const gone = host.detachVif(domid, "00:16:3e:00:00:02");
    await gone;
    expect((await host.listDevices(domid, "vif")).map((d) => d.devid)).toEqual([0]);
  });
});
