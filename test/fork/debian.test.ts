// A booted Debian, forked: the copies go on from where it was, each by itself, with its memory shared copy-on-write; the parent goes on as well.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MemoryImage } from "../../src/devices/block/index.js";
import { forkDomain, forkTemplate, sharingMiB, snapshotFromStream, type ForkResult } from "../../src/toolstack/fork.js";
import { MemorySink, MemorySource, saveDomain } from "../../src/toolstack/migration/index.js";
import type { RunningDomain } from "../../src/toolstack/machine.js";
import { debianFile, Guest, holdings, Host, missing, TEST_LIMIT, type Holdings } from "../machine/harness.js";
import { during } from "../migration/during.js";

const gone = missing(debianFile("vmlinuz-cloud"), debianFile("initramfs.cpio.gz"));
const MIB = 128;
const PAGES = MIB * 256;

describe.skipIf(gone !== "")(`Debian's cloud kernel, forked${gone}`, { timeout: TEST_LIMIT }, () => {
  let host: Host;
  let parent: Guest;
  let before: Holdings;
  let free: number;
  let result: ForkResult;
  const forks: Guest[] = [];
  const follow = (running: RunningDomain): Guest => {
    const g = new Guest(host, running);
    host.guests.push(g);
    return g;
  };
  const audit = (): void => {
    host.machine.xen.frames.audit();
    host.machine.xen.frames.sharing.audit();
  };
  beforeAll(async () => {
    host = new Host({ memoryMiB: 420 });
    // Frame of zeroes, room for numbers: made once and kept.
    before = holdings(host.machine);
    const disk = new MemoryImage(4 << 20);
    parent = await host.debian("cloud", "quiet", {
      memoryMiB: MIB,
      name: "deb",
      vcpus: 2,
      disks: [{ vdev: "xvda", image: disk }],
      vifs: [{ mac: "00:16:3e:01:02:03" }],
    });
    await parent.shell();
    await parent.sh(
      "dmesg -n 1; echo from the parent > /tmp/note; printf base | dd of=/dev/xvda conv=notrunc,fsync 2>/dev/null",
    );
    await parent.sh("(while :; do echo x >> /tmp/ticks; sleep 0.2; done) &");
    free = host.machine.xen.frames.freeFrames;
    result = await during(host, forkDomain(host.machine, parent.running, { count: 3 }));
    forks.push(...result.forks.map(follow));
  }, TEST_LIMIT);
  afterAll(() => host.close());

  it("takes little memory, which the numbers show", () => {
    audit();
    const each = (free - host.machine.xen.frames.freeFrames) / 3;
    // Less than a twentieth of the domain.
    expect(each).toBeLessThan(PAGES / 20);
    const { freedMiB, usedMiB } = sharingMiB(host.machine);
    expect(freedMiB).toBeGreaterThan(3 * MIB * 0.9);
    expect(usedMiB).toBeLessThanOrEqual(MIB);
    expect(result.forkMs).toHaveLength(3);
  });
  it("each fork answers a command of its own in the shell that the parent had open", async () => {
    for (const [i, g] of forks.entries()) {
      g.type("\n");
      await g.shell();
      expect(await g.sh(`echo fork ${i} > /tmp/mine; cat /tmp/note /tmp/mine`)).toBe(`from the parent\nfork ${i}\n`);
    }
    for (const [i, g] of forks.entries())
      expect(await g.sh(`cat /tmp/mine; echo $((${i} + 40))`)).toBe(`fork ${i}\n${i + 40}\n`);
    audit();
    const each = (free - host.machine.xen.frames.freeFrames) / 3;
    expect(each).toBeLessThan(PAGES / 4);
  });
  it("the parent goes on, and knows nothing of what its forks do", async () => {
    parent.type("\n");
    await parent.shell();
    expect(await parent.sh("cat /tmp/note; ls /tmp/mine")).toMatch(/^from the parent\nls: \/tmp\/mine: No such file/);
    expect(parent.text).not.toMatch(/BUG:|WARNING:|Oops|Call Trace/);
  });
  it("what ran in the parent runs in each", async () => {
    for (const g of [parent, ...forks]) {
      const a = Number(await g.sh("wc -l < /tmp/ticks"));
      await g.sh("sleep 1");
      expect(Number(await g.sh("wc -l < /tmp/ticks"))).toBeGreaterThan(a);
      await g.sh("kill %1");
    }
  });
  it("disks: each has what was there, and then its own", async () => {
    const all = [parent, ...forks];
    for (const [i, g] of all.entries())
      await g.sh(
        `printf own${i} | dd of=/dev/xvda bs=512 seek=8 conv=notrunc,fsync 2>/dev/null; echo 3 > /proc/sys/vm/drop_caches`,
      );
    for (const [i, g] of all.entries()) {
      expect(await g.sh("head -c 4 /dev/xvda; echo")).toBe("base\n");
      expect(await g.sh("dd if=/dev/xvda bs=512 skip=8 count=1 2>/dev/null | head -c 4; echo")).toBe(`own${i}\n`);
    }
  });
  it("network interfaces have addresses of their own, and work", async () => {
    const macs: string[] = [];
    for (const [i, g] of [parent, ...forks].entries()) {
      macs.push((await g.sh("cat /sys/class/net/eth0/address")).trim());
      await g.sh(`ip addr add 10.1.0.${i + 1}/24 dev eth0; ip link set eth0 up`);
    }
    expect(macs[0]).toBe("00:16:3e:01:02:03");
    expect(new Set(macs).size).toBe(4);
    expect(await (forks[2] as Guest).sh("ping -c 2 -W 20 10.1.0.1 | grep received")).toMatch(
      /2 packets received|2 received/,
    );
  });
  it("both vCPUs are there", async () => {
    for (const g of forks) expect(await g.sh("cat /sys/devices/system/cpu/online")).toBe("0-1\n");
  });
  it("a fork ends as any domain does, and the others stay", async () => {
    const g = forks[0] as Guest;
    g.type("poweroff\n");
    expect(await g.end()).toBe(0);
    g.running.destroy();
    audit();
    expect(await parent.sh("echo still here")).toBe("still here\n");
  });
  it("forks of a saved fork", async () => {
    const sink = new MemorySink();
    await during(host, saveDomain(host.machine, (forks[1] as Guest).running, sink));
    forks[2]?.running.destroy();
    const template = await during(
      host,
      snapshotFromStream(host.machine, new MemorySource(sink.bytes()), {
        plan: () => ({ name: "again", vcpus: 2 }),
      }),
    );
    audit();
    const { forks: again } = await during(host, forkTemplate(host.machine, template, { count: 2 }));
    template.release();
    for (const [i, running] of again.entries()) {
      const g = follow(running);
      g.type("\n");
      await g.shell();
      expect(await g.sh(`cat /tmp/mine; echo ${i} > /tmp/mine; cat /tmp/mine`)).toBe(`fork 1\n${i}\n`);
    }
    audit();
  });
  it("all destroyed, the machine has what it had", () => {
    for (const g of host.guests) if (!g.running.domain.dying) g.running.destroy();
    audit();
    const { sharing } = host.machine.xen.frames;
    expect([sharing.aliasesUsed, sharing.savedFrames]).toEqual([0, 0]);
    const now = holdings(host.machine);
    // But for the frame of zeroes.
    expect(now).toEqual({ ...before, freeFrames: before.freeFrames - sharing.sharedFrames });
    expect(sharing.sharedFrames).toBeLessThanOrEqual(1);
  });
});
