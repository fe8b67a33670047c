import { spawnSync } from "node:child_process";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createQcow2, createVhd, SECTOR, vhdFacts, type BlockImage } from "../../devices/block/index.js";
import { parseDisk } from "../../toolstack/config/disk.js";
import { disksClosed, ImageFile } from "./image-file.js";
import { checkDisk, openDisk } from "./open-disk.js";

/** Is there `fallocate`, on a file system with holes? */
const canPunch = ((): boolean => {
  const probe = mkdtempSync(join(tmpdir(), "xenolith-punch-"));
  writeFileSync(join(probe, "p"), new Uint8Array(8192));
  const { status } = spawnSync("/usr/bin/fallocate", ["-p", "-o", "0", "-l", "4096", join(probe, "p")]);
  rmSync(probe, { recursive: true });
  return status === 0;
})();

let dir: string;
const at = (name: string): string => join(dir, name);
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), "xenolith-open-"))));
afterEach(async () => {
  // Nothing is left open by what failed or was closed.
  expect(await disksClosed(0)).toBe(true);
  rmSync(dir, { recursive: true });
});

const open = (spec: string): Promise<BlockImage> => openDisk(parseDisk(spec), parseDisk(spec).target);
const check = (spec: string): Promise<void> => checkDisk(parseDisk(spec), parseDisk(spec).target, "vm.cfg");
const fill = (sectors: number, n: number): Uint8Array => new Uint8Array(sectors * SECTOR).fill(n);
async function first(image: BlockImage, sector = 0): Promise<number> {
  const out = fill(1, 0xee);
  await image.read(sector, out);
  return out[0] as number;
}

describe("a disk of a configuration", () => {
  it("is opened by its format, raw where none is said, and never by its content", async () => {
    const file = await ImageFile.open(at("a.qcow2"), { create: true });
    await createQcow2(file, { size: 64 * SECTOR });
    await file.close();
    const raw = await open(`${at("a.qcow2")},,xvda,r`);
    expect(await first(raw)).toBe(0x51);
    await raw.close();
    const qcow2 = await open(`${at("a.qcow2")},qcow2,xvda,r`);
    expect([qcow2.sectors, await first(qcow2)]).toEqual([64, 0]);
    await qcow2.close();
  });

  it("finds what its image stands on beside that image, and keeps it open with it", async () => {
    writeFileSync(at("base.raw"), fill(64, 7));
    const child = await ImageFile.open(at("child.qcow2"), { create: true });
    await createQcow2(child, { size: 64 * SECTOR, backing: { name: "base.raw", format: "raw" } });
    await child.close();
    const image = await open(`${at("child.qcow2")},qcow2,xvda,w`);
    expect(await first(image)).toBe(7);
    // The base is in use as long: others may read it.
    await expect(ImageFile.open(at("base.raw"))).rejects.toThrow("in use by another disk");
    await image.close();
    await (await ImageFile.open(at("base.raw"))).close();

    const parent = await ImageFile.open(at("parent.vhd"), { create: true });
    await createVhd(parent, { size: 64 * SECTOR, uuid: fill(1, 3).subarray(0, 16), timestamp: 5 });
    const { uuid } = (await vhdFacts(parent)).footer;
    await parent.close();
    const diff = await ImageFile.open(at("diff.vhd"), { create: true });
    await createVhd(diff, {
      size: 64 * SECTOR,
      uuid: fill(1, 4).subarray(0, 16),
      timestamp: 6,
      parent: { uuid, timestamp: 5, path: "parent.vhd" },
    });
    await diff.close();
    const p = await open(`${at("parent.vhd")},vhd,xvda,w`);
    await p.write(3, fill(1, 9));
    await p.close();
    const d = await open(`${at("diff.vhd")},vhd,xvda,w`);
    await d.write(4, fill(1, 8));
    expect([await first(d, 3), await first(d, 4), await first(d, 5)]).toEqual([9, 8, 0]);
    await d.close();
  });

  it("has what was written on top of a base that serves many: overlay= lasts, snapshot does not", async () => {
    writeFileSync(at("base.raw"), fill(64, 1));
    const spec = (over: string): string => `${at("base.raw")},raw,xvda,w,${over}`;
    const a = await open(spec(`overlay=${at("a.qcow2")}`));
    const b = await open(spec(`overlay=${at("b.qcow2")}`));
    const c = await open(spec("snapshot"));
    for (const [i, image] of [a, b, c].entries()) await image.write(0, fill(1, 10 + i));
    expect([await first(a), await first(b), await first(c), await first(a, 1)]).toEqual([10, 11, 12, 1]);
    for (const image of [a, b, c]) await image.close();
    const again = [await open(spec(`overlay=${at("a.qcow2")}`)), await open(spec("snapshot"))];
    expect(await Promise.all(again.map((i) => first(i)))).toEqual([10, 1]);
    for (const image of again) await image.close();
    expect(readFileSync(at("base.raw"))[0]).toBe(1);
    writeFileSync(at("other.raw"), fill(64, 2));
    await expect(open(`${at("other.raw")},raw,xvda,w,overlay=${at("a.qcow2")}`)).rejects.toThrow(
      /a\.qcow2: stands on .*base\.raw, not on .*other\.raw/,
    );
  });

  it("waits for a disk that is being closed, and says when one is in use", { timeout: 30_000 }, async () => {
    writeFileSync(at("a.raw"), fill(8, 1));
    const old = await open(`${at("a.raw")},raw,xvda,w`);
    const next = open(`${at("a.raw")},raw,xvda,w`);
    await new Promise((r) => setTimeout(r, 50));
    await old.close();
    const now = await next;
    await expect(open(`${at("a.raw")},raw,xvdb,w`)).rejects.toThrow(/a\.raw: in use by another disk$/);
    await now.close();
  });

  it("over http is read, and written only above it", async () => {
    const bytes = fill(64, 5);
    const server = createServer((request, response) => {
      const [start, end] = (/^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? []).slice(1).map(Number) as [
        number,
        number,
      ];
      const last = Math.min(end, bytes.length - 1);
      response
        .writeHead(206, { "content-range": `bytes ${start}-${last}/${bytes.length}` })
        .end(bytes.subarray(start, last + 1));
    });
    await new Promise<void>((r) => server.listen(0, "127.0.0.1", r));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/d.img`;
    try {
      const image = await open(`${url},raw,xvda,r`);
      expect([image.sectors, image.readOnly, await first(image, 63)]).toEqual([64, true, 5]);
      await image.close();
      const over = await open(`${url},raw,xvda,w,overlay=${at("over.qcow2")}`);
      await over.write(1, fill(1, 6));
      await over.close();
      const again = await open(`${url},raw,xvda,w,overlay=${at("over.qcow2")}`);
      expect([await first(again, 0), await first(again, 1)]).toEqual([5, 6]);
      await again.close();
      await expect(check(`${url},raw,xvda,w`)).rejects.toThrow(/can only be read: access=ro, snapshot or overlay=FILE/);
      await check(`${url},raw,xvda,w,snapshot`);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  it("is refused in one line that names the file", async () => {
    writeFileSync(at("a.raw"), fill(8, 1));
    await expect(check(`${at("none")},raw,xvda,w`)).rejects.toThrow(/^vm\.cfg: disk xvda: .*none: no such file$/);
    await expect(check(`${at("a.raw")},qed,xvda,w`)).rejects.toThrow(
      "vm.cfg: disk xvda: format qed is not supported (raw, qcow2 and vhd are)",
    );
    await expect(check(`${at("a.raw")},raw,xvda,r,overlay=/x`)).rejects.toThrow(
      "overlay= is for disks that are written",
    );
    await check(",,xvda,cdrom");
    for (const [spec, why] of [
      [`${at("a.raw")},qcow2,xvda,w`, /a\.raw: not a qcow2 image$/],
      [`${at("a.raw")},vhd,xvda,w`, /a\.raw: not a VHD image$/],
      [`${dir},raw,xvda,w`, /xenolith-open-\S*: is a directory$/],
    ] as const) {
      const said: unknown = await open(spec).catch((e: unknown) => e);
      expect(said).toMatchObject({ name: "InputError", message: expect.stringMatching(why) as string });
    }
    const file = await ImageFile.open(at("lost.qcow2"), { create: true });
    await createQcow2(file, { size: 64 * SECTOR, backing: { name: "gone.raw", format: "raw" } });
    await file.close();
    await expect(open(`${at("lost.qcow2")},qcow2,xvda,w`)).rejects.toThrow(/gone\.raw: no such file$/);
    // A chain without end.
    const loop = await ImageFile.open(at("loop.qcow2"), { create: true });
    await createQcow2(loop, { size: 64 * SECTOR, backing: { name: "loop.qcow2", format: "qcow2" } });
    await loop.close();
    await expect(open(`${at("loop.qcow2")},qcow2,xvda,r`)).rejects.toThrow(/more than 32 images stand on each other/);
    expect(existsSync(at("loop.qcow2"))).toBe(true);
  });
});

describe("a file under a disk", () => {
  it("that somebody made shorter is an error where it is gone, not zeros", async () => {
    writeFileSync(at("a.raw"), fill(64, 1));
    for (const background of [false, true]) {
      writeFileSync(at("a.raw"), fill(64, 1));
      const f = await ImageFile.open(at("a.raw"), { background });
      truncateSync(at("a.raw"), 8 * SECTOR);
      const out = fill(1, 0);
      await f.read(7 * SECTOR, out);
      expect(out[0]).toBe(1);
      await expect((async () => f.read(8 * SECTOR, out))()).rejects.toThrow("the file is shorter than it was");
      await f.close();
    }
  });

  it.skipIf(!canPunch)("gets holes where it is discarded (skipped where fallocate cannot)", async () => {
    writeFileSync(at("a.raw"), fill(4096, 1));
    const image = await open(`${at("a.raw")},raw,xvda,w`);
    expect(image.discardGranularity).toBe(4096);
    const before = statSync(at("a.raw")).blocks;
    await Promise.all([image.discard(8, 1024), image.discard(2048, 1024)]);
    await image.flush();
    expect(statSync(at("a.raw")).blocks).toBeLessThanOrEqual(before - 2000);
    expect(await Promise.all([7, 8, 1031, 1032, 2048, 3072].map((s) => first(image, s)))).toEqual([1, 0, 0, 1, 0, 1]);
    await image.close();
    expect(statSync(at("a.raw")).size).toBe(4096 * SECTOR);
  });
});
