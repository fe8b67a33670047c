// Virtual disks of whole machines: Debian's xen-blkfront and GRUB's own driver on our back end.
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import {
  BlockBackend,
  createQcow2,
  MemoryFile,
  MemoryImage,
  OverlayImage,
  Qcow2Image,
  SECTOR,
} from "../src/devices/block/index.js";
import { FileImage } from "../src/sys/node/file-image.js";
import { disksClosed, openDisk } from "../src/sys/node/index.js";
import { parseDisk } from "../src/toolstack/config/disk.js";
import { changeMedium } from "../src/toolstack/disks.js";
import type { RunningDomain } from "../src/toolstack/machine.js";
import { debianFile, Host, LIMIT, missing, TEST_LIMIT } from "./machine/harness.js";

const absent = missing(debianFile("vmlinuz-cloud"), debianFile("initramfs.cpio.gz"));
const MiB = 1048576;
const md5 = (bytes: Uint8Array): string => createHash("md5").update(bytes).digest("hex");
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i >>> 9) * 7 + i);

/** The nodes of a device as a transcript of real Xen has them: path below the domain's place, value, permissions. */
function nodes(host: Host, path: string): string[] {
  const { xs } = host.machine;
  const out: string[] = [];
  const walk = (at: string): void => {
    out.push(`${at} = "${xs.read(at) ?? ""}"   (${xs.getPerms(at).join(",")})`);
    for (const n of (xs.list(at) ?? []).sort()) walk(`${at}/${n}`);
  };
  walk(path);
  return out;
}

const device = (g: RunningDomain, devid: number): BlockBackend => {
  const d = g.devices.get("vbd", devid);
  if (!(d instanceof BlockBackend)) throw new Error(`no disk ${devid}`);
  return d;
};

/** Run until the front end of a new disk is connected. */
async function connected(host: Host, domid: number, devid: number): Promise<void> {
  const path = `/local/domain/${domid}/device/vbd/${devid}/state`;
  await host.run(() => host.machine.xs.read(path) === "4", { what: `connection of ${devid}` });
}
async function waitFor<T>(host: Host, promise: Promise<T>, what: string): Promise<T> {
  let done = false;
  const end = promise.finally(() => (done = true));
  end.catch(() => {});
  await host.run(() => done, { what });
  return end;
}

describe.skipIf(absent !== "")(`Debian with virtual disks${absent}`, () => {
  const dir = mkdtempSync(join(tmpdir(), "xenolith-block-"));
  const host = new Host({ memoryMiB: 400 });
  afterAll(() => {
    host.close();
    rmSync(dir, { recursive: true });
  });

  it("reads, writes, makes a file system, plugs and unplugs", { timeout: 4 * TEST_LIMIT }, async () => {
    const first = pattern(16 * MiB);
    const disk = MemoryImage.from(first);
    const g = await host.debian("cloud", "quiet", {
      memoryMiB: 256,
      vcpus: 2,
      disks: [
        { vdev: "xvda", image: disk, name: "/dev/loop0" },
        { vdev: "xvdb", image: MemoryImage.from(pattern(MiB)), readOnly: true },
      ],
    });
    await g.shell(LIMIT);
    expect(await g.sh("cat /proc/partitions")).toMatch(/202 +0 +16384 xvda\n +202 +16 +1024 xvdb\n/);
    expect(await g.sh("dmesg | grep blkfront: ")).toMatch(
      /xvda: flush diskcache: enabled; persistent grants: enabled; indirect descriptors: enabled/,
    );

    // What real Xen's transcript has, in names, values and permissions.
    const golden = [
      ...`bootable = "1"|dev = "xvda"|device-type = "disk"|discard-alignment = "0"|discard-enable = "1"|discard-granularity = "4096"|discard-secure = "0"|feature-barrier = "1"|feature-discard = "1"|feature-flush-cache = "1"|feature-max-indirect-segments = "256"|feature-persistent = "1"|frontend = "/local/domain/1/device/vbd/51712"|frontend-id = "1"|hotplug-status = "connected"|info = "0"|max-ring-page-order = "4"|mode = "w"|multi-queue-max-queues = "1"|online = "1"|params = "/dev/loop0"|physical-device = "7:0"|physical-device-path = "/dev/loop0"|physical-sector-size = "512"|removable = "0"|script = "/etc/xen/scripts/block"|sector-size = "512"|sectors = "32768"|specification = "xen"|state = "4"|type = "phy"`.split(
        "|",
      ),
    ].map((n) => `/local/domain/0/backend/vbd/1/51712/${n}   (n0,r1)`);
    expect(nodes(host, "/local/domain/0/backend/vbd/1/51712").slice(1)).toEqual(golden);
    expect(
      nodes(host, "/local/domain/1/device/vbd/51712").map((l) => l.replace(/(ref|channel) = "\d+"/, "$1")),
    ).toEqual(
      [
        `= ""`,
        `backend = "/local/domain/0/backend/vbd/1/51712"`,
        `backend-id = "0"`,
        `device-type = "disk"`,
        `event-channel`,
        `feature-persistent = "1"`,
        `protocol = "x86_64-abi"`,
        `ring-ref`,
        `state = "4"`,
        `trusted = "1"`,
        `virtual-device = "51712"`,
      ].map((n, i) => `/local/domain/1/device/vbd/51712${i === 0 ? " " : "/"}${n}   (n1,r0)`),
    );

    // Reads.
    expect(await g.sh("md5sum </dev/xvda")).toContain(md5(first));
    // Writes, and what the host then sees.
    await g.sh(
      "dd if=/dev/urandom of=/tmp/r bs=64k count=48 2>/dev/null; dd if=/tmp/r of=/dev/xvda bs=64k seek=16 conv=fsync 2>/dev/null",
    );
    const sum =
      (
        await g.sh(
          "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/xvda bs=64k skip=16 count=48 2>/dev/null | md5sum; md5sum </tmp/r",
        )
      ).match(/^[0-9a-f]{32}/gm) ?? [];
    expect(sum).toHaveLength(2);
    expect(sum[0]).toBe(sum[1]);
    expect(md5(disk.bytes().subarray(MiB, 4 * MiB))).toBe(sum[0]);
    const m = device(g.running, 51712).metrics;
    expect(m.errors).toBe(0);
    expect(m.flushes).toBeGreaterThan(0);
    expect(m.indirect).toBeGreaterThan(0);

    // Read-only.
    expect(await g.sh("cat /sys/block/xvdb/ro; dd if=/dev/zero of=/dev/xvdb count=1")).toMatch(
      /^1\n.*Operation not permitted/s,
    );
    expect(await g.sh("md5sum </dev/xvdb")).toContain(md5(pattern(MiB)));

    // A file system, read again from the disk.
    await g.sh(
      "mke2fs -F /dev/xvda >/dev/null; mkdir -p /mnt/a; mount /dev/xvda /mnt/a; cp /bin/busybox /tmp/r /mnt/a; umount /mnt/a",
    );
    const check = await g.sh(
      "echo 3 >/proc/sys/vm/drop_caches; mount /dev/xvda /mnt/a && md5sum /mnt/a/r && cmp /bin/busybox /mnt/a/busybox && echo same; umount /mnt/a",
    );
    expect(check).toContain(`${sum[0]}  /mnt/a/r`);
    expect(check).toContain("same");

    // Discard: what is gone reads as zeros.
    const stored = disk.stored;
    expect(await g.sh("blkdiscard /dev/xvda && echo done")).toContain("done");
    expect(disk.stored).toBeLessThan(stored / 2);
    expect(m.discards).toBeGreaterThan(0);

    // Plugged while running: an overlay, whose base nobody else sees changed.
    const base = MemoryImage.from(pattern(2 * MiB), true);
    const overlay = OverlayImage.inMemory(base);
    await g.running.attachDisk({ vdev: "xvdc", image: overlay });
    await connected(host, g.domid, 51744);
    expect(await g.sh("md5sum </dev/xvdc")).toContain(md5(pattern(2 * MiB)));
    await g.sh("dd if=/tmp/r of=/dev/xvdc bs=4k seek=3 count=5 conv=fsync 2>/dev/null");
    expect(md5(base.bytes())).toBe(md5(pattern(2 * MiB)));
    const seen = new Uint8Array(2 * MiB);
    await overlay.read(0, seen);
    expect(await g.sh("echo 3 >/proc/sys/vm/drop_caches; md5sum </dev/xvdc")).toContain(md5(seen));
    expect(overlay.written).toBe((5 * 4096) / SECTOR);

    // A file, opened for the device and closed with it.
    const path = join(dir, "d.img");
    await g.running.attachDisk({ vdev: "xvdd", image: () => FileImage.open(path, { size: 4 * MiB }), name: path });
    await connected(host, g.domid, 51760);
    await g.sh("dd if=/tmp/r of=/dev/xvdd bs=64k conv=fsync 2>/dev/null");
    expect(md5(readFileSync(path).subarray(0, 3 * MiB))).toBe(sum[0]);
    expect(
      await g.sh("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/xvdd bs=64k count=48 2>/dev/null | md5sum"),
    ).toContain(sum[0]);

    // Unplugged.
    for (const vdev of ["xvdc", "xvdd"]) {
      expect(await waitFor(host, g.running.detachDisk(vdev), `the unplugging of ${vdev}`)).toBe(true);
    }
    expect(await g.sh("cat /proc/partitions")).not.toMatch(/xvd[cd]/);
    expect(host.machine.xs.list("/local/domain/0/backend/vbd/1")).toEqual(["51712", "51728"]);
    const again = await FileImage.open(path);
    await again.close();
    await expect(g.running.detachDisk("xvdc")).rejects.toThrow("no device vbd/51744");
    await expect(g.running.attachDisk({ vdev: "xvda", image: base })).rejects.toThrow("exists already");
    await expect(g.running.attachDisk({ vdev: "vda", image: base })).rejects.toThrow("no such virtual device");

    // With the domain goes all that its disks held.
    g.running.destroy();
    expect(host.machine.xs.list("/local/domain/0/backend/vbd") ?? []).toEqual([]);
    host.machine.runSlice(1);
    host.machine.xen.frames.audit();
  });
});

/** A file on a host whose disk is full from some point on. */
class FullFile extends MemoryFile {
  limit = Infinity;
  override write(at: number, bytes: Uint8Array): void {
    if (at + bytes.length > this.limit) throw new Error("ENOSPC: no space left on device, write");
    super.write(at, bytes);
  }
}

describe.skipIf(absent !== "")(`Debian with many kinds of disks${absent}`, () => {
  const dir = mkdtempSync(join(tmpdir(), "xenolith-kinds-"));
  const host = new Host({ memoryMiB: 400 });
  afterAll(() => {
    host.close();
    rmSync(dir, { recursive: true });
  });
  const blocks = (path: string): number => statSync(path).blocks * 512;
  const open = (spec: string) => {
    const d = parseDisk(spec);
    return () => openDisk(d, d.target);
  };

  it(
    "uses several rings of several pages, frees what is discarded, changes CDs, and lives with a host that fails",
    {
      timeout: 4 * TEST_LIMIT,
    },
    async () => {
      const content = pattern(24 * MiB);
      const [base, over, plain, short] = ["base.img", "over.qcow2", "plain.img", "short.img"].map((n) =>
        join(dir, n),
      ) as [string, string, string, string];
      writeFileSync(base, content);
      writeFileSync(plain, pattern(16 * MiB));
      writeFileSync(short, pattern(4 * MiB));
      const full = new FullFile("full.qcow2");
      await createQcow2(full, { size: 16 * MiB });
      const limited = await Qcow2Image.open(full);
      // A shell at once, which loads the driver with parameters of its own.
      const g = await host.debian("cloud", "quiet rdinit=/bin/sh", {
        memoryMiB: 256,
        vcpus: 4,
        disks: [
          { vdev: "xvda", image: open(`${base},raw,xvda,w,overlay=${over}`), name: over, queues: 4 },
          { vdev: "xvdb", image: open(`${plain},raw,xvdb,w`), name: plain },
          { vdev: "xvdc", image: null, cdrom: true },
          { vdev: "xvdd", image: limited },
          { vdev: "xvde", image: open(`${short},raw,xvde,w`), name: short },
        ],
      });
      await g.expect(/# (?:\x1b\[6n)?$/);
      const start = [
        "export PATH=/bin:/sbin",
        "mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mkdir -p /tmp",
        "stty cols 500",
        "insmod /lib/modules/$(uname -r)/xen-blkfront.ko max_ring_page_order=1 max_queues=4 max_indirect_segments=16",
        "PS1=xenolith:'# '",
      ];
      for (const line of start) g.type(`${line}\n`);
      await g.shell(LIMIT);
      const xvda = device(g.running, 51712);
      const front = (devid: number, n: string): string | null =>
        host.machine.xs.read(`/local/domain/${g.domid}/device/vbd/${devid}/${n}`);
      for (const devid of [51712, 51728, 51744, 51760, 51776]) await connected(host, g.domid, devid);

      // Four rings, one for each vCPU, of two pages; all of them carry requests.
      expect([front(51712, "ring-page-order"), front(51712, "multi-queue-num-queues")]).toEqual(["1", "4"]);
      expect(front(51728, "multi-queue-num-queues")).toBeNull();
      expect(xvda.rings.map((r) => r.entries)).toEqual([64, 64, 64, 64]);
      expect(await g.sh("md5sum </dev/xvda")).toContain(md5(content));
      await g.sh(
        "for c in 0 1 2 3; do taskset $((1 << c)) dd if=/dev/zero of=/dev/xvda bs=64k count=40 seek=$((c * 80)) conv=notrunc oflag=direct 2>/dev/null & done; wait; sync",
      );
      for (let c = 0; c < 4; c++) content.fill(0, c * 80 * 65536, (c * 80 + 40) * 65536);
      expect(await g.sh("echo 3 >/proc/sys/vm/drop_caches; md5sum </dev/xvda")).toContain(md5(content));
      expect(xvda.rings.filter((r) => r.requests >= 20)).toHaveLength(4);
      expect(xvda.metrics.errors).toBe(0);

      // Discard makes holes in the host's file.
      const before = blocks(plain);
      expect(before).toBeGreaterThanOrEqual(16 * MiB);
      expect(await g.sh("blkdiscard -o 4194304 -l 8388608 /dev/xvdb && echo discarded")).toContain("discarded");
      if (device(g.running, 51728).metrics.discards > 0) expect(before - blocks(plain)).toBeGreaterThanOrEqual(8 * MiB);
      expect(
        await g.sh(
          "dd if=/dev/xvdb bs=1M skip=4 count=8 2>/dev/null | tr -d '\\0' | wc -c; dd if=/dev/xvdb bs=1M count=4 2>/dev/null | md5sum",
        ),
      ).toMatch(new RegExp(`^0\n${md5(pattern(16 * MiB).subarray(0, 4 * MiB))}`));

      // An empty drive, a CD, another one, none.
      const changed = async (medium: { image: MemoryImage; name: string } | null): Promise<void> => {
        await waitFor(host, changeMedium(g.running.devices, "xvdc", medium), "the change of the CD");
      };
      expect(await g.sh("cat /sys/block/xvdc/size /sys/block/xvdc/ro; dd if=/dev/xvdc count=1 2>&1 | head -1")).toMatch(
        /^0\n1\n0\+0 records in/,
      );
      const [one, two] = [pattern(3 * MiB), pattern(5 * MiB).map((b) => b ^ 0xff)];
      await changed({ image: MemoryImage.from(one, true), name: "/isos/one.iso" });
      expect(await g.sh("cat /sys/block/xvdc/size; md5sum </dev/xvdc")).toMatch(new RegExp(`^6144\n${md5(one)}`));
      expect(host.machine.xs.read("/local/domain/0/backend/vbd/1/51744/params")).toBe("/isos/one.iso");
      await changed({ image: MemoryImage.from(two, true), name: "/isos/two.iso" });
      expect(await g.sh("cat /sys/block/xvdc/size; md5sum </dev/xvdc")).toMatch(new RegExp(`^10240\n${md5(two)}`));
      expect(await g.sh("dd if=/dev/zero of=/dev/xvdc count=1")).toContain("Operation not permitted");
      await changed(null);
      expect(await g.sh("cat /sys/block/xvdc/size")).toContain("0\n");
      expect(device(g.running, 51744).metrics.mediaChanges).toBe(3);
      await expect(changeMedium(g.running.devices, "xvdb", null)).rejects.toThrow("not a CD drive");

      // No space on the host: an error for the guest, and only while it lasts.
      await g.sh("dd if=/dev/urandom of=/tmp/r bs=64k count=32 2>/dev/null");
      full.limit = full.size() + 5 * 65536;
      expect(await g.sh("dd if=/tmp/r of=/dev/xvdd bs=64k conv=fsync 2>&1; echo status $?")).toMatch(
        /(I\/O error|No space left)[^]*status 1/,
      );
      expect(device(g.running, 51760).metrics.imageErrors).toBeGreaterThan(0);
      full.limit = Infinity;
      expect(await g.sh("dd if=/tmp/r of=/dev/xvdd bs=64k conv=fsync 2>&1; echo status $?")).toContain("status 0");
      expect(
        await g.sh(
          "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/xvdd bs=64k count=32 2>/dev/null | cmp - /tmp/r && echo same",
        ),
      ).toContain("same");

      // A file that somebody has cut off: its part that is there is read, the rest is an error.
      truncateSync(short, MiB);
      expect(
        await g.sh(
          "dd if=/dev/xvde bs=64k count=16 2>/dev/null | md5sum; dd if=/dev/xvde of=/dev/null bs=64k skip=32 count=1 2>&1; echo status $?",
        ),
      ).toMatch(new RegExp(`^${md5(pattern(MiB))}[^]*Input/output error[^]*status 1`, "m"));
      // One that was removed goes on to its end.
      rmSync(plain);
      expect(await g.sh("dd if=/tmp/r of=/dev/xvdb bs=64k conv=fsync 2>&1; echo status $?")).toContain("status 0");

      g.running.destroy();
      expect(await disksClosed()).toBe(true);
      // The overlay lasts; its base is as it was.
      expect(md5(readFileSync(base))).toBe(md5(pattern(24 * MiB)));
      const again = await open(`${base},raw,xvda,w,overlay=${over}`)();
      const seen = new Uint8Array(24 * MiB);
      await again.read(0, seen);
      await again.close();
      expect(md5(seen)).toBe(md5(content));
      host.machine.runSlice(1);
      host.machine.xen.frames.audit();
    },
  );
});

const noGrub = missing(debianFile("grub-x86_64-xen.bin"));
describe.skipIf(noGrub !== "")(`GRUB${noGrub}`, () => {
  it("lists a disk, its partition and its files' bytes", { timeout: TEST_LIMIT }, async () => {
    const host = new Host({ memoryMiB: 200 });
    // A partition table with one partition from sector 8 on, and a text in it.
    const content = new Uint8Array(MiB);
    content.set([0x80, 0, 2, 0, 0x83, 0, 9, 0, 8, 0, 0, 0, 0, 4, 0, 0], 446);
    content.set([0x55, 0xaa], 510);
    content.set(new TextEncoder().encode("\nhello from the disk\n"), 8 * SECTOR);
    const g = await host.start(debianFile("grub-x86_64-xen.bin"), {
      memoryMiB: 128,
      disks: [
        { vdev: "xvda", image: MemoryImage.from(content) },
        { vdev: "xvdb", image: new MemoryImage(MiB), readOnly: true },
      ],
    });
    const prompt = /grub> $/;
    await g.expect(prompt);
    g.type("ls\r");
    await g.expect(/\(xen\/xvda\) \(xen\/xvda,msdos1\) \(xen\/xvdb\)/);
    await g.expect(prompt);
    g.type("cat (xen/xvda)8+1\r");
    await g.expect("hello from the disk");
    g.type("\r");
    await g.expect(prompt);
    g.type("halt\r");
    await g.end();
    expect(device(g.running, 51712).metrics.errors).toBe(0);
    host.close();
  });
});
