// Debian computes, writes its disk and holds a TCP connection to another domain, while it is saved, restored and migrated.
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Bridge } from "../../src/devices/network/index.js";
import { FileImage } from "../../src/sys/node/file-image.js";
import type { DomainSpec, VifSpec } from "../../src/toolstack/machine.js";
import {
  MemorySink,
  MemorySource,
  MigrationLedger,
  parseSavedConfig,
  receiveDomain,
  restoreDomain,
  saveDomain,
  sendDomain,
  type RestorePlan,
} from "../../src/toolstack/migration/index.js";
import { debianFile, Guest, Host, missing, TEST_LIMIT } from "../machine/harness.js";
import { during } from "./during.js";
import { pipe } from "./pipe.js";

const absent = missing(debianFile("vmlinuz-cloud"), debianFile("initramfs.cpio.gz"));
const SECTORS = 65536;

/** Run both until it says so. */
async function until(hosts: readonly Host[], done: () => boolean, what: string): Promise<void> {
  await during(
    hosts,
    new Promise<void>((resolve) => {
      const look = (): void => {
        if (done()) resolve();
        else setTimeout(look, 5);
      };
      look();
    }),
    what,
  );
}

describe.skipIf(absent !== "")(`Debian is moved while it works${absent}`, { timeout: 3 * TEST_LIMIT }, () => {
  const dir = mkdtempSync(join(tmpdir(), "xenolith-move-"));
  const hosts: Host[] = [];
  afterAll(() => {
    for (const h of hosts) h.close();
    rmSync(dir, { recursive: true });
  });

  it("saved and restored, then migrated live: it goes on, and nothing is lost", async () => {
    const one = new Host({ memoryMiB: 460 });
    const two = new Host({ memoryMiB: 200 });
    hosts.push(one, two);
    // One switch for both machines, as a link between hosts would make it.
    const bridge = new Bridge("xenbr0", () => one.machine.clock.now());
    const vif = (n: number): VifSpec => ({ bridge, mac: `00:16:3e:00:00:0${n}` });
    const path = join(dir, "disk");
    writeFileSync(path, new Uint8Array(SECTORS * 512));
    // Both machines have it open, as two hosts with the same storage would.
    const image = await FileImage.open(path);
    const disks: DomainSpec["disks"] = [{ vdev: "xvda", image, name: path }];

    let a = await one.debian("cloud", "quiet", { name: "mover", memoryMiB: 128, vcpus: 2, vifs: [vif(1)], disks });
    const b = await one.debian("cloud", "quiet", { memoryMiB: 96, vifs: [vif(2)] });
    await a.shell();
    await b.shell();
    await a.sh("ip addr add 10.1.0.1/24 dev eth0; ip link set eth0 up");
    await b.sh("ip addr add 10.1.0.2/24 dev eth0; ip link set eth0 up");
    // With a pipe for its input: in the background the terminal would stop it.
    await b.sh("sleep 1000000 | nc -l -p 5000 > /tmp/got &");
    await a.sh(
      "(i=0; s=start; while [ ! -e /tmp/stop ]; do s=$(echo $s | md5sum | cut -c1-32); i=$((i+1)); echo $i $s > /tmp/sum; sleep 0.05; done) &",
    );
    await a.sh(
      "(n=0; while [ ! -e /tmp/stop ]; do n=$((n+1)); echo block $n | dd of=/dev/xvda bs=512 seek=$n conv=notrunc,sync,fsync 2>/dev/null; echo $n > /tmp/disk; sleep 0.05; done) &",
    );
    await a.sh(
      "(m=0; while [ ! -e /tmp/stop ]; do m=$((m+1)); echo line $m; echo $m > /tmp/line; sleep 0.02; done) | nc 10.1.0.2 5000 &",
    );
    const count = async (g: Guest, file: string): Promise<number> => Number((await g.sh(`cat ${file}`)).match(/^\d+/m));
    const received = async (): Promise<number> => Number((await b.sh("wc -l < /tmp/got")).match(/^\d+/m));
    const plan = (config: string): RestorePlan => ({ ...parseSavedConfig(config).plan, vifs: [vif(1)], disks });

    /** Until so many lines more have arrived. */
    const flows = async (more: number): Promise<number> => {
      const from = await during(hosts, received());
      for (let now = from; ; now = await during(hosts, received())) if (now >= from + more) return now;
    };

    // Saved and restored, on the same machine.
    await flows(10);
    const sink = new MemorySink();
    await during(one, saveDomain(one.machine, a.running, sink));
    const restored = await during(one, restoreDomain(one.machine, new MemorySource(sink.bytes()), { plan }));
    expect(restored.plan).toMatchObject({ name: "mover", vcpus: 2 });
    expect(parseSavedConfig(restored.config).disks).toEqual([{ vdev: "xvda", path, readOnly: false, cdrom: false }]);
    a = new Guest(one, restored.running);
    one.guests.push(a);
    a.type("\n");
    await a.shell();
    const states = ["vbd/51712", "vif/0"].map((d) => `/local/domain/${a.domid}/device/${d}/state`);
    await one.run(() => states.every((s) => one.machine.xs.read(s) === "4"), { what: "its devices" });
    expect(await a.sh("nproc")).toMatch(/^2$/m);
    await one.run(() => a.running.devices.list().every((d) => d.isConnected), { what: "its devices" });
    // As in golden/xenstore/5-after-restore.txt.
    const dom = `/local/domain/${a.domid}`;
    const { xs } = one.machine;
    const names = (path: string): string => [...(xs.list(path) ?? [])].sort().join(" ");
    expect(names(`${dom}/device/vbd/51712`)).toBe(
      "backend backend-id device-type event-channel feature-persistent protocol ring-ref state trusted virtual-device",
    );
    // Its rings are named there, or in a directory for each queue.
    expect(names(`${dom}/device/vif/0`).replace(/(queue-\d+|event-channel-[rt]x|[rt]x-ring-ref) ?/g, "")).toBe(
      "backend backend-id feature-gso-tcpv4 feature-gso-tcpv6 feature-ipv6-csum-offload feature-rx-notify feature-sg handle mac " +
        "mtu multi-queue-num-queues request-rx-copy state trusted xdp-headroom",
    );
    expect(names(`${dom}/control`)).toBe(
      "feature-poweroff feature-reboot feature-suspend platform-feature-multiprocessor-suspend " +
        "platform-feature-xs_reset_watches shutdown sysrq",
    );
    for (const node of ["shutdown", "feature-poweroff", "feature-reboot", "feature-suspend"])
      expect([xs.read(`${dom}/control/${node}`), xs.getPerms(`${dom}/control/${node}`)]).toEqual(["", [`n${a.domid}`]]);
    await flows(10);

    // Migrated to the other machine.
    const link = pipe();
    const [sent, got] = await during(
      hosts,
      Promise.all([
        sendDomain(one.machine, a.running, link.a),
        receiveDomain(two.machine, link.b, new MigrationLedger(), { plan }),
      ]),
    );
    if (got === null) throw new Error("nothing came");
    expect(sent.rounds).toBeGreaterThan(1);
    expect(sent.pagesSent).toBeGreaterThan(128 * 256 * 0.9);
    a = new Guest(two, got.running);
    two.guests.push(a);
    a.type("\n");
    await until(hosts, () => /xenolith:\S* ?# (\x1b\[6n)?$/.test(a.text), "its prompt");
    await until(hosts, () => got.running.devices.list().every((d) => d.isConnected), "its devices");
    const there = await flows(20);
    await during(hosts, a.sh("touch /tmp/stop; wait; sync"));

    // What it computed.
    const computed = /^(\d+) ([0-9a-f]{32})$/m.exec(await during(hosts, a.sh("cat /tmp/sum")));
    if (computed === null) throw new Error("no sum");
    let s = "start";
    for (let i = 0; i < Number(computed[1]); i++) s = createHash("md5").update(`${s}\n`).digest("hex");
    expect(computed[2]).toBe(s);
    // What it wrote: every block, each once acknowledged.
    const blocks = await during(hosts, count(a, "/tmp/disk"));
    expect(blocks).toBeGreaterThan(5);
    for (let n = 1; n <= blocks; n++) {
      const block = new Uint8Array(512);
      await image.read(n, block);
      expect(new TextDecoder().decode(block).replace(/\0+$/, "")).toBe(`block ${n}\n`);
    }
    // What arrived: every line, once, in order, on one connection that never broke.
    const told = await during(hosts, count(a, "/tmp/line"));
    const check = await during(
      hosts,
      b.sh("i=0; while read w n; do i=$((i+1)); [ $w$n = line$i ] || echo wrong $i; done < /tmp/got; echo total $i"),
    );
    expect(check).not.toContain("wrong");
    expect(Number(/total (\d+)/.exec(check)?.[1])).toBe(told);
    expect(told).toBeGreaterThanOrEqual(there);
    expect(await during(hosts, b.sh("jobs; pidof nc || echo ended"))).toContain("ended");
    expect(await during(hosts, a.sh("dmesg | grep -ci -e oops -e 'bad page' -e 'i/o error'"))).toMatch(/^0$/m);
    for (const h of hosts) h.close();
    await image.close();
  });
});
