// Disk images against QEMU's own tool: what we write it finds sound and reads the same, and what it makes we read and write.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createQcow2, createVhd, SECTOR, type BlockImage } from "../../src/devices/block/index.js";
import { seeded } from "../../src/testing.js";
import { ImageFile, openDisk } from "../../src/sys/node/index.js";
import { parseDisk } from "../../src/toolstack/config/disk.js";

export const noQemu = spawnSync("qemu-img", ["--version"]).status === 0 ? "" : " (skipped: no qemu-img)";

const MiB = 1 << 20;
let dir: string;
beforeAll(() => void (dir = mkdtempSync(join(tmpdir(), "xenolith-qemu-"))));
afterAll(() => rmSync(dir, { recursive: true }));

const at = (name: string): string => join(dir, name);
const qemuImg = (...args: string[]): string =>
  execFileSync("qemu-img", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
/** LUKS measures how fast the host hashes, and gives up where the host has other work: again, then. */
function patiently<T>(run: () => T): T {
  for (let left = 50; ; left--) {
    try {
      return run();
    } catch (e) {
      if (left === 0 || !String(e).includes("Unable to get accurate CPU usage")) throw e;
    }
  }
}
const open = (spec: string): Promise<BlockImage> => {
  const d = parseDisk(spec);
  return openDisk(d, d.target);
};
async function content(image: BlockImage): Promise<Uint8Array> {
  const out = new Uint8Array(image.sectors * SECTOR);
  await image.read(0, out);
  return out;
}
/** Random writes and discards; what the disk holds then. */
async function work(image: BlockImage, seed: number, ops = 80): Promise<Uint8Array> {
  const random = seeded(seed);
  const model = await content(image);
  for (let i = 0; i < ops; i++) {
    const sector = random(image.sectors);
    const n = 1 + random(Math.min(400, image.sectors - sector));
    if (i % 9 === 8) {
      await image.discard(sector, n);
      await image.read(0, model);
    } else {
      const bytes = new Uint8Array(n * SECTOR).map((_, k) => (k >>> 5) * 31 + seed + i);
      await image.write(sector, bytes);
      model.set(bytes, sector * SECTOR);
    }
    if (i % 17 === 0) await image.flush();
  }
  expect(Buffer.compare(await content(image), model)).toBe(0);
  return model;
}
/** QEMU finds nothing wrong and reads the same. */
function agrees(path: string, model: Uint8Array, format = "qcow2"): void {
  if (format === "qcow2") {
    const check = spawnSync("qemu-img", ["check", "-f", format, path], { encoding: "utf8" });
    expect(`${check.status} ${check.stdout}${check.stderr}`).toMatch(/^0 No errors were found/);
  }
  qemuImg("convert", "-f", format, "-O", "raw", path, `${path}.raw`);
  expect(Buffer.compare(readFileSync(`${path}.raw`), model)).toBe(0);
}

describe.skipIf(noQemu !== "")(`qemu-img${noQemu}`, () => {
  it("finds a qcow2 image of ours sound", { timeout: 120_000 }, async () => {
    for (const [i, clusterSize] of [512, 65536, 2 * MiB].entries()) {
      const path = at(`ours${i}.qcow2`);
      const file = await ImageFile.open(path, { create: true });
      await createQcow2(file, { size: 12 * MiB, clusterSize });
      await file.close();
      const image = await open(`${path},qcow2,xvda,w`);
      const model = await work(image, i + 1);
      await image.close();
      agrees(path, model);
    }
  });

  it.each([
    ["version 2", "compat=0.10"],
    ["small clusters", "cluster_size=1k"],
    ["lazy reference counts", "lazy_refcounts=on"],
    ["counts of 1 bit", "refcount_bits=1"],
    ["counts of 8 bits", "refcount_bits=8"],
    ["counts of 64 bits", "refcount_bits=64"],
    ["tables allocated", "preallocation=metadata"],
    ["everything allocated", "preallocation=falloc"],
  ])("agrees on an image it made with %s", { timeout: 120_000 }, async (what, options) => {
    const path = at(`${what.replaceAll(" ", "-")}.qcow2`);
    qemuImg("create", "-f", "qcow2", "-o", options, path, "9M");
    const image = await open(`${path},qcow2,xvda,w`);
    const model = await work(image, 11);
    await image.close();
    agrees(path, model);
    // And once more, over what is there.
    const again = await open(`${path},qcow2,xvda,w`);
    const second = await work(again, 12);
    await again.close();
    agrees(path, second);
  });

  it.each(["zlib", "zstd"])("agrees on compressed clusters (%s)", { timeout: 120_000 }, async (type) => {
    const raw = at("source.raw");
    const source = new Uint8Array(8 * MiB).map((_, i) => (i % 200_000 < 150_000 ? (i >>> 7) & 0xff : 0));
    const random = seeded(5);
    for (let i = 2 * MiB; i < 3 * MiB; i++) source[i] = random(256);
    writeFileSync(raw, source);
    const path = at(`${type}.qcow2`);
    qemuImg("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", `compression_type=${type}`, raw, path);
    const reader = await open(`${path},qcow2,xvda,r`);
    expect(Buffer.compare(await content(reader), source)).toBe(0);
    await reader.close();
    const image = await open(`${path},qcow2,xvda,w`);
    const model = await work(image, 3, 40);
    await image.close();
    agrees(path, model);
  });

  it("agrees on a chain of images, whose lower ones stay as they are", { timeout: 120_000 }, async () => {
    const base = at("base.raw");
    writeFileSync(
      base,
      new Uint8Array(5 * MiB).map((_, i) => i >>> 9),
    );
    qemuImg("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", at("middle.qcow2"), "8M");
    const middle = await open(`${at("middle.qcow2")},qcow2,xvda,w`);
    await work(middle, 21, 20);
    await middle.close();
    const before = [readFileSync(base), readFileSync(at("middle.qcow2"))];
    // Ours, over QEMU's and ours.
    const spec = `${at("middle.qcow2")},qcow2,xvda,w,overlay=${at("top.qcow2")}`;
    const top = await open(spec);
    let model = await work(top, 22);
    await top.close();
    agrees(at("top.qcow2"), model);
    // It is taken up again, and a second one stands beside it.
    const again = await open(spec);
    const beside = await open(`${at("middle.qcow2")},qcow2,xvda,w,overlay=${at("beside.qcow2")}`);
    expect(Buffer.compare(await content(again), model)).toBe(0);
    const other = await work(beside, 24, 30);
    model = await work(again, 23, 30);
    await again.close();
    await beside.close();
    agrees(at("top.qcow2"), model);
    agrees(at("beside.qcow2"), other);
    expect(
      [readFileSync(base), readFileSync(at("middle.qcow2"))].map((b, i) => Buffer.compare(b, before[i] as Buffer)),
    ).toEqual([0, 0]);
    await expect(open(`${base},raw,xvda,w,overlay=${at("top.qcow2")}`)).rejects.toThrow(
      /top\.qcow2: stands on .*middle\.qcow2, not on .*base\.raw/,
    );
  });

  it("finds internal snapshots as they were", { timeout: 120_000 }, async () => {
    const path = at("snapshots.qcow2");
    qemuImg("create", "-q", "-f", "qcow2", path, "6M");
    const first = await open(`${path},qcow2,xvda,w`);
    const old = await work(first, 31);
    await first.close();
    qemuImg("snapshot", "-c", "before", path);
    const second = await open(`${path},qcow2,xvda,w`);
    const model = await work(second, 32);
    await second.close();
    agrees(path, model);
    qemuImg("convert", "-f", "qcow2", "-l", "before", "-O", "raw", path, at("before.raw"));
    expect(Buffer.compare(readFileSync(at("before.raw")), old)).toBe(0);
  });

  it("sees what we refuse: encryption, external data, subclusters, a missing format of the backing file", async () => {
    const made: [string, string[], RegExp][] = [
      [
        "luks",
        ["--object", "secret,id=s,data=x", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"],
        /is encrypted \(LUKS\)/,
      ],
      ["data", ["-o", `data_file=${at("data.bin")}`], /external data file/],
      ["extended", ["-o", "extended_l2=on"], /subclusters/],
    ];
    for (const [name, options, why] of made) {
      patiently(() => qemuImg("create", "-q", "-f", "qcow2", ...options, at(`${name}.qcow2`), "1M"));
      await expect(open(`${at(`${name}.qcow2`)},qcow2,xvda,w`)).rejects.toThrow(why);
    }
    writeFileSync(at("b.raw"), new Uint8Array(MiB));
    qemuImg("create", "-q", "-f", "qcow2", "-b", at("b.raw"), "-F", "raw", at("noformat.qcow2"));
    // As old tools left it: the extension with the format is gone.
    const bytes = readFileSync(at("noformat.qcow2"));
    const extension = bytes.indexOf(Buffer.from([0xe2, 0x79, 0x2a, 0xca]));
    bytes.writeUInt32BE(0x11223344, extension);
    writeFileSync(at("noformat.qcow2"), bytes);
    await expect(open(`${at("noformat.qcow2")},qcow2,xvda,w`)).rejects.toThrow(
      /does not say the format of its backing file .*b\.raw/,
    );
    // None of these holds its file.
    await (await open(`${at("b.raw")},raw,xvda,w`)).close();
  });

  it.each(["dynamic", "fixed"])("agrees on VHD images, its and ours (%s)", { timeout: 120_000 }, async (type) => {
    const path = at(`${type}.vhd`);
    qemuImg("create", "-q", "-f", "vpc", "-o", `subformat=${type}`, path, "11M");
    const theirs = await open(`${path},vhd,xvda,w`);
    const model = await work(theirs, 41);
    await theirs.close();
    agrees(path, model, "vpc");

    const own = at(`own-${type}.vhd`);
    const file = await ImageFile.open(own, { create: true });
    await createVhd(file, {
      size: 9 * MiB + 512,
      type: type as "dynamic" | "fixed",
      uuid: new Uint8Array(16).fill(7),
      timestamp: 1,
    });
    await file.close();
    const ours = await open(`${own},vhd,xvda,w`);
    const mine = await work(ours, 42);
    await ours.close();
    expect(qemuImg("info", "-f", "vpc", own)).toContain(`(${9 * MiB + 512} bytes)`);
    agrees(own, mine, "vpc");
  });
});
