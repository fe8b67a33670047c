// A Debian root file system on a virtual disk (tools/setup-debian-disk.mjs): two domains on copies-on-write of one image, one started with
// kernel= and ramdisk=, the other by GRUB from the disk's own menu. Both go through systemd to a login on hvc0, work with their files and
// reach each other over a bridge, one of them the host's loopback through the NAT. Then both power off and their file systems are clean.
// One pair of boots serves all assertions, which build on one another in the order written.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { BlockBackend, OverlayImage, SECTOR } from "../src/devices/block/index.js";
import { FileImage } from "../src/sys/node/file-image.js";
import { NodeSockets } from "../src/sys/node/nat-sockets.js";
import { debianFile, type Guest, Host, missing } from "./machine/harness.js";

const IMAGE = debianFile("disk/debian.img");
const KERNEL = debianFile("disk/vmlinuz");
const RAMDISK = debianFile("disk/initrd.img");
const GRUB = debianFile("grub-x86_64-xen.bin");
const absent = missing(IMAGE, KERNEL, RAMDISK, GRUB);
const fsck = ["/sbin/e2fsck", "/usr/sbin/e2fsck"].find((path) => existsSync(path));

/** Two whole boots on a host that may be busy with something else; a test that does not hang ends long before. */
const BOOT = 1_200_000;
const PASSWORD = "xenolith";
const MiB = 1048576;
const md5 = (bytes: Uint8Array): string => createHash("md5").update(bytes).digest("hex");
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 2654435761) >>> 13);

const sh = (g: Guest, line: string): Promise<string> => g.sh(line, BOOT);

/** Log in at getty's prompt; then a shell without line editing, whose prompt the harness knows. */
async function login(g: Guest): Promise<void> {
  await g.expect(/debian login: $/, BOOT);
  g.type("root\n");
  await g.expect("Password: ", BOOT);
  g.type(`${PASSWORD}\n`);
  await g.expect(/root@debian:~# $/, BOOT);
  g.type("exec env PS1='xen''olith:# ' sh\n");
  await g.expect(/xenolith:# $/, BOOT);
  // getty may be faster than the rest.
  await sh(g, "until systemctl -q is-active multi-user.target; do sleep 1; done");
}

/** What a disk holds now, as a file of its own. */
function dump(disk: OverlayImage, path: string): void {
  const fd = openSync(path, "w");
  ftruncateSync(fd, disk.sectors * SECTOR);
  const bytes = Buffer.alloc(MiB);
  const zeros = Buffer.alloc(MiB);
  for (let at = 0; at < disk.sectors * SECTOR; at += MiB) {
    void disk.read(at / SECTOR, bytes);
    if (bytes.compare(zeros) !== 0) writeSync(fd, bytes, 0, MiB, at);
  }
  closeSync(fd);
}

describe.skipIf(absent !== "")(`two Debians on virtual disks${absent}`, { timeout: BOOT }, () => {
  const host = new Host({ memoryMiB: 800, sockets: new NodeSockets() });
  const dir = mkdtempSync(join(tmpdir(), "xenolith-debian-disk-"));
  const disks: OverlayImage[] = [];
  let a: Guest;
  let b: Guest;

  beforeAll(async () => {
    const base = await FileImage.open(IMAGE, { readOnly: true });
    for (let i = 0; i < 2; i++) disks.push(OverlayImage.inMemory(base));
    a = await host.start(KERNEL, {
      ramdisk: RAMDISK,
      memoryMiB: 256,
      cmdline: "root=/dev/xvda ro console=hvc0 quiet ip=10.1.0.1:::255.255.255.0::enX0:none",
      disks: [{ vdev: "xvda", image: disks[0] as OverlayImage }],
      vifs: [{}, { nat: true }],
    });
    b = await host.start(GRUB, {
      memoryMiB: 384,
      disks: [{ vdev: "xvda", image: disks[1] as OverlayImage }],
      vifs: [{}],
    });
  }, BOOT);
  afterAll(() => {
    host.close();
    host.machine.nat().close();
    rmSync(dir, { recursive: true });
  });

  it("GRUB shows the disk's menu and starts its kernel", async () => {
    await b.expect("Debian GNU/Linux (rescue)", BOOT);
    expect(b.text).toContain("GNU GRUB");
    // Nobody presses a key: the first entry after the menu's time.
    await b.expect(/vmlinux .*initrd\.img /s, BOOT);
  });

  it("both come through systemd to a login on hvc0", async () => {
    await login(a);
    await login(b);
    for (const g of [a, b]) {
      expect(await sh(g, "cat /proc/1/comm; tty; id -un; systemctl is-active multi-user.target")).toBe(
        "systemd\n/dev/hvc0\nroot\nactive\n",
      );
      expect(await sh(g, "systemctl --failed --no-legend --no-pager")).toBe("");
      expect(await sh(g, "findmnt -no SOURCE,FSTYPE /")).toMatch(/^\/dev\/xvda +ext4\n/);
      expect(await sh(g, "cat /sys/hypervisor/type; dmesg | grep 'Xen version'")).toMatch(/^xen\n.*Xen version: 4\.17/);
    }
    expect(await sh(a, "cat /proc/cmdline")).toContain("ip=10.1.0.1");
    // GRUB's loader and grub.cfg, not our domain builder and a command line of ours.
    expect(await sh(b, "cat /proc/cmdline")).toMatch(/^root=\/dev\/xvda ro console=hvc0 quiet\s*$/);
  });

  it("install and remove a package", async () => {
    await sh(a, "mkdir -p p/DEBIAN p/usr/share/sample; head -c 3000000 /dev/urandom >p/usr/share/sample/data");
    await sh(
      a,
      "printf 'Package: sample\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@y>\\nDescription: x\\n' >p/DEBIAN/control",
    );
    expect(await sh(a, "dpkg-deb -Zgzip -z1 -b p sample.deb && dpkg -i sample.deb")).toContain("Setting up sample (1)");
    expect(await sh(a, "dpkg-query -W sample; cmp p/usr/share/sample/data /usr/share/sample/data && echo same")).toBe(
      "sample\t1\nsame\n",
    );
    await sh(a, "dpkg -r sample");
    expect(await sh(a, "[ -e /usr/share/sample ] || echo gone")).toBe("gone\n");
  });

  it("copy large files unchanged", async () => {
    const out = await sh(
      a,
      "cp /boot/vmlinux-* /srv/copy && sync && echo 3 >/proc/sys/vm/drop_caches && md5sum /boot/vmlinux-* /srv/copy | cut -c-32 | uniq -c",
    );
    expect(out).toMatch(/^ +2 [0-9a-f]{32}\n$/);
    const device = a.running.devices.get("vbd", 51712);
    if (!(device instanceof BlockBackend)) throw new Error("no disk");
    expect(device.metrics.errors).toBe(0);
    expect(device.metrics.flushes).toBeGreaterThan(0);
    expect((disks[0] as OverlayImage).written * SECTOR).toBeGreaterThan(50 * MiB);
  });

  it("ping each other, with the address from the kernel's command line", async () => {
    await sh(b, "ip addr add 10.1.0.2/24 dev enX0");
    expect(await sh(a, "ip -4 -o addr show enX0")).toContain("inet 10.1.0.1/24");
    expect(await sh(a, "ping -c 3 -i 0.2 -W 60 10.1.0.2")).toMatch(/3 packets transmitted, 3 received, 0% packet loss/);
    expect(await sh(b, "ping -c 1 -s 4000 -W 60 10.1.0.1")).toMatch(/1 received, 0% packet loss/);
  });

  it("ssh, with a password, and a file through it", async () => {
    await sh(a, `printf '#!/bin/sh\\necho ${PASSWORD}\\n' >askpass; chmod +x askpass`);
    await sh(a, "export SSH_ASKPASS=$PWD/askpass SSH_ASKPASS_REQUIRE=force");
    await sh(
      a,
      'ssh() { command ssh -q -o StrictHostKeyChecking=no root@10.1.0.2 "$@"; }; head -c 1000000 /dev/urandom >file',
    );
    const out = await sh(a, "ssh 'echo $SSH_CONNECTION; cat >file; md5sum <file' <file; md5sum <file");
    expect(out).toMatch(/^10\.1\.0\.1 \d+ 10\.1\.0\.2 22\n([0-9a-f]{32}) +-\n\1 +-\n$/);
    expect(await sh(b, "wc -c <file")).toBe("1000000\n");
  });

  it("nc sends a file, unchanged", async () => {
    await sh(a, "nc -l -N 5000 >got </dev/null & sleep 1");
    const sum = await sh(b, "head -c 3000000 /dev/urandom >sent; nc -N 10.1.0.1 5000 <sent; md5sum <sent");
    expect(await sh(a, "wait; md5sum <got")).toContain(sum);
  });

  it("iperf3 measures the way between them", async () => {
    await sh(b, "iperf3 -s -1 -D; sleep 1");
    const out = await sh(a, "iperf3 -c 10.1.0.2 -n 20M -f m");
    const [sent, received] = ["sender", "receiver"].map((side) =>
      Number(new RegExp(`0\\.00-[\\d.]+ +sec +([\\d.]+) MBytes +[\\d.]+ Mbits/sec .*${side}`).exec(out)?.[1]),
    );
    expect(sent, out).toBeGreaterThanOrEqual(20);
    // The receiver counts until the sender says that it is done; what is in its socket then (6 MiB at most, tcp_rmem) is not in its sum.
    expect(received, out).toBeGreaterThanOrEqual(14);
    expect(out).toContain("iperf Done.");
  });

  it("reach a TCP server on the host's loopback through the NAT, with an address from DHCP", async () => {
    expect(await sh(a, "ip -4 -o addr show enX1")).toContain("inet 10.0.2.15/24");
    const bytes = pattern(1_000_000);
    let got = "";
    const server = createServer((s) => {
      s.on("data", (d) => (got += d.toString())).on("end", () => s.end(bytes));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const out = await sh(a, `echo from a domain | nc -N 10.0.2.2 ${port} | md5sum`);
    server.close();
    expect(out).toContain(md5(bytes));
    expect(got).toBe("from a domain\n");
  });

  it("power off, and their file systems are clean", async () => {
    for (const g of [a, b]) g.type("systemctl poweroff\n");
    for (const [i, g] of [a, b].entries()) {
      expect(await g.end(BOOT)).toBe(0);
      if (fsck === undefined) continue;
      const path = join(dir, `${i}.img`);
      dump(disks[i] as OverlayImage, path);
      const r = spawnSync(fsck, ["-fn", path], { encoding: "utf8" });
      expect(r.stdout).not.toMatch(/recovering journal|was not cleanly unmounted/);
      expect(r.status, r.stdout).toBe(0);
    }
  });
});
