import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { SECTOR } from "../../devices/block/index.js";
import { FileImage, openFileOverlay } from "./file-image.js";
import { ImageFile } from "./image-file.js";

let dir: string;
let path: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "xenolith-image-"));
  path = join(dir, "disk.img");
});
afterEach(() => rmSync(dir, { recursive: true }));

describe("a disk in a file", () => {
  it.each([false, true])("reads and writes at its sectors (background: %s)", async (background) => {
    const f = await FileImage.open(path, { size: 10 * SECTOR + 1, background });
    expect(f.sectors).toBe(11);
    await f.write(3, new Uint8Array(2 * SECTOR).fill(5));
    await f.flush();
    const out = new Uint8Array(4 * SECTOR);
    await f.read(2, out);
    expect([0, 511, 512, 1535, 1536].map((i) => out[i])).toEqual([0, 0, 5, 5, 0]);
    await f.close();
    await f.close();
    expect(readFileSync(path)[3 * SECTOR]).toBe(5);
  });

  it("is open for writing once, and refuses what is no file", async () => {
    writeFileSync(path, new Uint8Array(4 * SECTOR));
    const f = await FileImage.open(path);
    await expect(FileImage.open(path)).rejects.toThrow("in use by another disk");
    await expect(FileImage.open(path, { readOnly: true })).rejects.toThrow("in use");
    await f.close();
    const readers = [await FileImage.open(path, { readOnly: true }), await FileImage.open(path, { readOnly: true })];
    await expect(FileImage.open(path)).rejects.toThrow("in use");
    expect(() => readers[0]?.write(0, new Uint8Array(SECTOR))).toThrow();
    for (const r of readers) await r.close();
    await (await FileImage.open(path)).close();
    await expect(FileImage.open(join(dir, "none"))).rejects.toThrow("ENOENT");
    await expect(FileImage.open(dir, { readOnly: true })).rejects.toThrow(/directory|EISDIR/);
  });

  it("is the base of overlays in sparse files, which last", async () => {
    const base = new Uint8Array(8192 * SECTOR).fill(1);
    writeFileSync(path, base);
    const top = join(dir, "top.cow");
    const b = await FileImage.open(path, { readOnly: true });
    const a = await openFileOverlay(b, top);
    await a.write(4000, new Uint8Array(SECTOR).fill(9));
    await a.close();
    expect(statSync(top).blocks * 512).toBeLessThan(100_000);
    const again = await openFileOverlay(b, top);
    const out = new Uint8Array(3 * SECTOR);
    await again.read(3999, out);
    expect([0, 512, 1024].map((i) => out[i])).toEqual([1, 9, 1]);
    await again.close();
    await b.close();
    expect(Buffer.compare(readFileSync(path), base)).toBe(0);
  });
});

describe("a file under a format", () => {
  it("grows, and never loses what is written beyond meanwhile", async () => {
    const f = await ImageFile.open(path, { create: true });
    await Promise.all([f.grow(8 * SECTOR), f.write(20 * SECTOR, new Uint8Array(SECTOR).fill(3)), f.grow(10 * SECTOR)]);
    expect(f.size()).toBe(21 * SECTOR);
    const out = new Uint8Array(SECTOR);
    await f.read(20 * SECTOR, out);
    expect(out[0]).toBe(3);
    await f.close();
    await expect(ImageFile.open(path, { create: true })).rejects.toThrow("EEXIST");
  });
});
