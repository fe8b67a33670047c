// Debian's unmodified kernel on a host of domains: what needs a guest that takes part (balloon, vCPUs that come and go, channels, sysrq, shutdown).
// The files come from `npm run setup:debian`; without them these tests are skipped.
import { connect } from "node:net";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { debian, haveDebian } from "../cli-helper.js";
import { refusal, terminal, TestHost, until } from "./testing.js";

const BOOT = 300_000;
const PROMPT = /# $/;
let t: TestHost;
afterEach(() => t.close());

const plain = (text: string): string => text.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "");

describe.skipIf(!haveDebian)("Debian on a host", { timeout: 2 * BOOT }, () => {
  it("balloons, loses and gets vCPUs, talks over a channel, obeys sysrq, takes an NMI and shuts down when asked", async () => {
    t = new TestHost({ memoryMiB: 400, engine: "auto" });
    const { host } = t;
    const socket = join(t.folder, "agent.sock");
    await host.create({
      source: "debian.cfg",
      config: [
        'name="deb"',
        `kernel="${debian("vmlinuz-cloud")}"`,
        `ramdisk="${debian("initramfs.cpio.gz")}"`,
        'cmdline="console=hvc0 quiet"',
        "memory=192",
        "maxmem=256",
        "vcpus=1",
        "maxvcpus=2",
        `channel=["connection=pty,name=org.example.one","connection=socket,name=org.example.two,path=${socket}"]`,
        'on_poweroff="preserve"',
      ].join("\n"),
    });
    const term = await terminal(host, "deb");
    const shell = (): string => plain(term.text());
    await until("a shell", () => PROMPT.test(shell()), BOOT);
    const run = async (command: string): Promise<string> => {
      const from = shell().length;
      term.write(`${command}\n`);
      await until(
        command,
        () =>
          PROMPT.test(
            shell()
              .slice(from)
              .replace(/^[^\n]*\n/, ""),
          ),
        60_000,
      );
      return shell().slice(from).replace(/\r/g, "").split("\n").slice(1, -1).join("\n");
    };

    // memory= is below maxmem=: the guest is told of both.
    const free = async (): Promise<number> => Number((await run("grep MemTotal /proc/meminfo")).replace(/\D/g, ""));
    const has = async (): Promise<number> => (await host.getDomain("deb")).currentKiB / 1024;
    expect(Math.round(await has())).toBe(192);
    const before = await free();
    await host.setMemoryTarget("deb", 160 * 1024);
    await until("it gives memory back", async () => (await has()) <= 161, 60_000);
    expect(await free()).toBeLessThan(before - 30_000);
    await host.setMemoryTarget("deb", 224 * 1024);
    await until("it takes more than it began with", async () => (await has()) >= 223, 60_000);
    expect(await free()).toBeGreaterThan(before + 25_000);

    // One vCPU of two is there; the other comes and goes.
    const cpus = async (): Promise<string> => await run("cat /sys/devices/system/cpu/online");
    expect(await cpus()).toBe("0");
    await host.setVcpus("deb", 2);
    await until(
      "the second one is present",
      async () => /^0-1$/.test(await run("cat /sys/devices/system/cpu/present")),
      60_000,
    );
    // Linux leaves it to user space (udev) to use it.
    await run("echo 1 > /sys/devices/system/cpu/cpu1/online");
    await until("the second one", async () => (await host.getDomain("deb")).vcpusOnline === 2, 60_000);
    await until("the guest has it", async () => (await cpus()) === "0-1", 60_000);
    await host.pinVcpu("deb", 1, [3]);
    await host.setVcpus("deb", 1);
    await until("it is gone", async () => (await host.getDomain("deb")).vcpusOnline === 1, 60_000);

    // Channels.
    expect(await host.listDevices("deb", "console")).toMatchObject([
      { devid: 1, state: 4, connection: "pty" },
      { devid: 2, state: 4, connection: "socket" },
    ]);
    expect(await run("cat /sys/bus/xen/devices/console-1/nodename")).toBe("device/console/1");
    const agent = await terminal(host, "deb", 1);
    await run(
      "mknod /dev/hvc1 c 229 1 2>/dev/null; mknod /dev/hvc2 c 229 2 2>/dev/null; stty raw -echo < /dev/hvc1; stty raw -echo < /dev/hvc2",
    );
    await run("echo from the guest > /dev/hvc1");
    await until("it is heard", () => agent.text().includes("from the guest"), 60_000);
    agent.write("to the guest\n");
    expect(await run("head -n1 < /dev/hvc1")).toBe("to the guest");
    const client = connect(socket);
    let got = "";
    client.setEncoding("utf8").on("data", (s: string) => (got += s));
    await new Promise((r) => client.on("connect", r));
    await run("echo by socket > /dev/hvc2");
    await until("the socket's client hears it", () => got.includes("by socket"), 60_000);
    client.write("answer\n");
    expect(await run("head -n1 < /dev/hvc2")).toBe("answer");
    client.destroy();
    expect((await refusal(terminal(host, "deb", 3))).code).toBe("not-found");

    // sysrq and NMI are seen by the guest.
    await host.sysrq("deb", "h");
    await until("its help", async () => /sysrq: HELP/.test(await run("dmesg | tail -3")), 60_000);
    await host.trigger("deb", "nmi");
    await until("its surprise", async () => /NMI received/.test(await run("dmesg | tail -5")), 60_000);

    await host.shutdown("deb", "poweroff", true);
    const end = await host.getDomain("deb");
    expect([end.shutdown, end.shutdownCode]).toEqual([true, 0]);
    expect(readFileSync(join(t.folder, "console/guest-deb.log"), "utf8")).toBe(term.text());
  });
});
