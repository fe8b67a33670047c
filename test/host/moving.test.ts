// Domains that leave a host and come back: save files, migration between two hosts, forks, as a host keeps account of them.
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { socketStream } from "../../src/sys/node/host/platform.js";
import { configText } from "../../src/toolstack/host/saved-config.js";
import { parseDomainConfig } from "../../src/toolstack/config/index.js";
import { LIMIT, refusal, request, terminal, TestHost, until } from "./testing.js";

let t: TestHost;
beforeEach(() => (t = new TestHost()));
afterEach(() => t.close());

/** A guest of ours that suspends itself when it is asked by an event channel; it says which on Xen's console. */
const guest = (more: Readonly<Record<string, string | number>> = {}): Parameters<typeof request> => [
  "suspend",
  { extra: "rounds=0", ...more },
];
/** Wait for its port, and write what a xenbus driver of its own would write. */
async function ready(domid: number, h = t): Promise<void> {
  const port = (): string | undefined =>
    [...h.machine.xen.console.text().matchAll(new RegExp(`^\\(d${domid}\\) .*port (\\d+)$`, "gm"))].at(-1)?.[1];
  await until("it can be suspended", () => port() !== undefined, 15_000);
  h.machine.xs.write(`/local/domain/${domid}/device/suspend/event-channel`, port() ?? "");
}
/** It has gone on after a save (1) or somewhere else (0), and may be asked again. */
async function wentOn(domid: number, how: 0 | 1, h = t): Promise<void> {
  const line = new RegExp(`^\\(d${domid}\\) went on with ${how} `, "m");
  await until("it goes on", () => line.test(h.machine.xen.console.text()), 15_000);
  await ready(domid, h);
}
const progress = async (ref: string, h = t): Promise<void> => {
  const before = (await h.host.getDomain(ref)).cpuTimeNs;
  await until("it goes on", async () => (await h.host.getDomain(ref)).cpuTimeNs > before + 2e6);
};

describe("save and restore", { timeout: LIMIT }, () => {
  it("the domain is gone after a save, and goes on after a restore with its configuration, devices and actions", async () => {
    const { host } = t;
    const disk = join(t.folder, "disk.img");
    writeFileSync(disk, new Uint8Array(1 << 20));
    const { domid } = await host.create(
      request(
        "suspend",
        {
          extra: "rounds=0",
          disk: '["disk.img,raw,xvda,w"]',
          vif: '["mac=00:16:3e:01:02:03,bridge=br7"]',
          on_crash: "preserve",
          cpu_weight: 300,
          maxmem: 24,
          maxvcpus: 2,
        },
        { cwd: t.folder },
      ),
    );
    await ready(domid);
    const config = await host.getConfig(domid);
    const file = join(t.folder, "a.save");
    await host.save("suspend", { file });
    expect((await refusal(host.getDomain("suspend"))).code).toBe("unknown-domain");
    expect(t.machine.xen.domains.size).toBe(1);
    expect(readdirSync(t.folder).filter((n) => n.includes(".part"))).toEqual([]);
    const back = await host.restore(file, { paused: true });
    expect((await host.getDomain("suspend")).paused).toBe(true);
    expect(await host.getConfig("suspend")).toEqual(config);
    await host.unpause("suspend");
    await progress("suspend");
    expect((await host.listDevices(back.domid, "vbd")).map((d) => d.target)).toEqual([disk]);
    expect((await host.listDevices(back.domid, "vif")).map((d) => d.mac)).toEqual(["00:16:3e:01:02:03"]);
    expect((await host.getDomain("suspend")).sched).toEqual({ weight: 300, cap: 0 });
    t.machine.xen.domains.get(back.domid)?.crash("a test");
    await until("it is kept", () => t.events.some((e) => e.type === "action" && e.action === "preserve"));
    // Once more: the file is as good as it was.
    await host.destroy("suspend");
    await host.restore(file);
    await progress("suspend");
  });

  it("with -c it runs on, with -p it stays paused", async () => {
    const { host } = t;
    const { domid } = await host.create(request(...guest()));
    await ready(domid);
    await host.save(domid, { file: join(t.folder, "c.save"), after: "continue" });
    await progress("suspend");
    await wentOn(domid, 1);
    await host.save(domid, { file: join(t.folder, "p.save"), after: "pause" });
    expect((await host.getDomain(domid)).paused).toBe(true);
    await host.unpause(domid);
    await progress("suspend");
  });

  it("a save that cannot be written leaves the domain running and an older file as it was", async () => {
    const { host } = t;
    const { domid } = await host.create(request(...guest()));
    await ready(domid);
    expect((await refusal(host.save(domid, { file: "/no/such/folder/x" }))).message).toMatch(
      /^\/no\/such\/folder\/x: /,
    );
    await progress("suspend");
    expect(existsSync("/no/such/folder/x")).toBe(false);
  });

  it("while a domain is being saved, nothing else is done with it", async () => {
    const { host } = t;
    const { domid } = await host.create(request(...guest()));
    await ready(domid);
    const saving = host.save(domid, { file: join(t.folder, "x.save") });
    expect(await refusal(host.save(domid, { file: join(t.folder, "y.save") }))).toEqual({
      code: "state",
      message: `Domain ${domid} is being saved`,
    });
    await saving;
  });

  it("a domain's name is one domain's, also for one that comes back", async () => {
    const { host } = t;
    const { domid } = await host.create(request(...guest()));
    await ready(domid);
    const file = join(t.folder, "a.save");
    await host.save(domid, { file, after: "continue" });
    const domains = t.machine.xen.domains.size;
    expect((await refusal(host.restore(file))).code).toBe("exists");
    expect(t.machine.xen.domains.size).toBe(domains);
    await host.rename(domid, "other");
    await host.restore(file);
    expect((await host.listDomains()).map((d) => d.name)).toEqual(["Domain-0", "other", "suspend"]);
  });

  it("what is no saved domain is said so, and leaves nothing", async () => {
    const { host } = t;
    const junk = join(t.folder, "junk");
    writeFileSync(junk, "nothing of the kind");
    expect((await refusal(host.restore(junk))).code).toBe("invalid");
    expect((await refusal(host.restore(join(t.folder, "none")))).message).toMatch(/none: No such file or directory$/);
    expect(t.machine.xen.domains.size).toBe(1);
  });
});

describe("migration", { timeout: LIMIT }, () => {
  it("moves a domain to another host: gone here, running there, console and all", async () => {
    const other = new TestHost();
    const path = join(other.folder, "m");
    const server = createServer((s) => void other.host.receive(socketStream(s)).catch(() => undefined)).listen(path);
    try {
      const { domid } = await t.host.create(request(...guest({ on_crash: "preserve" })));
      await ready(domid);
      const term = await terminal(t.host, domid);
      const moved = await t.host.migrate(domid, path);
      expect(moved.rounds).toBeGreaterThan(0);
      expect(moved.pagesSent).toBeGreaterThan(1000);
      expect(term.ended()).toBe("the domain has been migrated");
      expect((await t.host.listDomains()).length).toBe(1);
      await until("it is known there", async () => (await other.host.listDomains()).length === 2);
      await progress("suspend", other);
      expect((await other.host.getConfig("suspend"))["on_crash"]).toBe("preserve");
      // And its end is that host's.
      other.machine.xen.domains.get(moved.domid)?.crash("a test");
      await until("its action is taken", () =>
        other.events.some((e) => e.type === "action" && e.action === "preserve"),
      );
    } finally {
      server.close();
      await other.close();
    }
  });

  it("stays here where there is nobody, or where there is no room", async () => {
    const { domid } = await t.host.create(request(...guest({ memory: 40 })));
    await ready(domid);
    expect((await refusal(t.host.migrate(domid, "/no/such/socket"))).code).toBe("io");
    expect((await refusal(t.host.migrate(domid, "nonsense"))).code).toBe("invalid");
    const small = new TestHost({ memoryMiB: 4 });
    const path = join(small.folder, "m");
    const server = createServer((s) => void small.host.receive(socketStream(s)).catch(() => undefined)).listen(path);
    try {
      await refusal(t.host.migrate(domid, path));
      await progress("suspend");
      expect(small.machine.xen.domains.size).toBe(1);
      await refusal(t.host.migrate(domid, path));
    } finally {
      server.close();
      await small.close();
    }
  });
});

describe("forks", { timeout: LIMIT }, () => {
  it("are domains of the host with names, consoles and ends of their own", async () => {
    const { host } = t;
    const { domid } = await host.create(request(...guest({ vif: '["mac=00:16:3e:01:02:03"]', on_crash: "preserve" })));
    await ready(domid);
    const made = await host.fork(domid, { count: 2, name: "copy" });
    expect(made.length).toBe(2);
    expect(new Set([...made.map((m) => m.name), "suspend"]).size).toBe(3);
    for (const m of made) await progress(m.name);
    await progress("suspend");
    const first = made[0]?.domid ?? -1;
    const [vif] = await host.listDevices(first, "vif");
    expect(vif?.mac).toMatch(/^00:16:3e:/);
    expect(vif?.mac).not.toBe("00:16:3e:01:02:03");
    expect((await host.getConfig(first))["nics"]).toMatchObject([{ mac: vif?.mac }]);
    t.machine.xen.domains.get(first)?.crash("a test");
    await until("it is kept", () => t.events.some((e) => e.type === "action" && e.domid === first));
    expect((await host.getDomain(first)).crashed).toBe(true);
    expect((await host.getDomain("suspend")).crashed).toBe(false);
  });
});

describe("a saved configuration", () => {
  it("comes back as an xl.cfg that says the same", () => {
    const json = {
      c_info: { type: "pv", name: 'a"b\\c', uuid: "11111111-2222-3333-4444-555555555555" },
      b_info: {
        max_vcpus: 4,
        avail_vcpus: [0, 1],
        max_memkb: 327680,
        target_memkb: 262144,
        sched_params: { sched: "credit", weight: 512, cap: 50 },
        kernel: "/a kernel",
        cmdline: 'x="1" y',
        ramdisk: "/rd",
      },
      disks: [
        { pdev_path: "/d,1.img", vdev: "xvda", format: "raw", readwrite: 1 },
        { vdev: "hdc", is_cdrom: 1, format: "empty" },
      ],
      nics: [
        {
          devid: 2,
          mac: "00:16:3e:aa:bb:01",
          bridge: "xenbr0",
          rate_bytes_per_interval: 50000,
          rate_interval_usecs: 50000,
        },
      ],
      channels: [{ name: "org.x", "connection.socket": { path: "/run/x" } }],
      on_reboot: "rename_restart",
      on_soft_reset: "soft_reset",
    };
    const c = parseDomainConfig(configText(JSON.stringify(json), "x"), "x");
    expect(c.warnings).toEqual([]);
    expect(c).toMatchObject({
      name: 'a"b\\c',
      memory: 256,
      maxmem: 320,
      vcpus: 2,
      maxvcpus: 4,
      kernel: "/a kernel",
      cmdline: 'x="1" y',
      cpuWeight: 512,
      cap: 50,
      onReboot: "rename-restart",
      onSoftReset: "soft-reset",
      disk: ["format=raw,vdev=xvda,access=rw,target=/d,1.img", "vdev=hdc,access=ro,devtype=cdrom"],
      vif: ["mac=00:16:3e:aa:bb:01,bridge=xenbr0,devid=2,rate=1000000B/s@50000us"],
      channel: ["connection=socket,name=org.x,path=/run/x"],
    });
  });
  it("that is none is refused", () => {
    for (const bad of ["{", "{}", '{"c_info":{}}'])
      expect(() => configText(bad, "x")).toThrow(/^x: the saved configuration/);
  });
});
