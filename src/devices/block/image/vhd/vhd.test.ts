import { describe, expect, it } from "vitest";
import { MemoryFile } from "../byte-file.js";
import { MemoryImage, SECTOR, type BlockImage } from "../../index.js";
import { seeded } from "../../../../testing.js";
import { crashLives } from "../testing.js";
import { geometry } from "./format.js";
import { createVhd, vhdFacts, VhdImage, type CreateVhd } from "./index.js";

const fill = (sectors: number, n: number): Uint8Array => new Uint8Array(sectors * SECTOR).fill(n);
const uuid = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
const hex = Buffer.from(uuid).toString("hex");
async function make(size: number, more: Partial<CreateVhd> = {}): Promise<MemoryFile> {
  const file = new MemoryFile("test.vhd");
  await createVhd(file, { size, uuid, timestamp: 800_000_000, ...more });
  return file;
}
async function content(image: BlockImage): Promise<Uint8Array> {
  const out = new Uint8Array(image.sectors * SECTOR);
  await image.read(0, out);
  return out;
}

describe("a VHD image", () => {
  it.each(["fixed", "dynamic"] as const)("keeps what is written (%s)", async (type) => {
    const sectors = 20_000;
    const file = await make(sectors * SECTOR, { type });
    const image = await VhdImage.open(file);
    expect(image.sectors).toBe(sectors);
    const model = new Uint8Array(sectors * SECTOR);
    const random = seeded(7);
    for (let i = 0; i < 60; i++) {
      const sector = random(sectors);
      const n = 1 + random(Math.min(200, sectors - sector));
      const bytes = Uint8Array.from({ length: n * SECTOR }, () => random(256));
      await image.write(sector, bytes);
      model.set(bytes, sector * SECTOR);
      if (i % 20 === 0) await image.flush();
    }
    expect(Buffer.compare(await content(image), model)).toBe(0);
    await image.close();
    expect(Buffer.compare(await content(await VhdImage.open(file, { readOnly: true })), model)).toBe(0);
    // The footer is at the end, and the same in front of a sparse one.
    const bytes = file.bytes();
    const footer = bytes.subarray(bytes.length - 512);
    expect(Buffer.from(footer.subarray(0, 8)).toString()).toBe("conectix");
    if (type === "dynamic") expect(Buffer.compare(bytes.subarray(0, 512), footer)).toBe(0);
  });

  it("takes no space for blocks that were never written", async () => {
    const file = await make(100 * 2 ** 30);
    const image = await VhdImage.open(file);
    expect(image.write(2 ** 27, fill(1, 3))).toBeUndefined();
    await image.close();
    expect(file.size()).toBeLessThan(3 << 20);
  });

  it("differs from its parent in what was written only", async () => {
    const parent = MemoryImage.from(fill(5000, 1), true);
    const file = await make(6000 * SECTOR, { parent: { uuid: hex, timestamp: 1, path: "bases/parent.vhd" } });
    expect((await vhdFacts(file)).parents).toEqual(["./bases/parent.vhd", "parent.vhd"]);
    const image = await VhdImage.open(file, { parent: { image: parent, uuid: hex } });
    await image.write(10, fill(2, 2));
    const check = async (i: BlockImage): Promise<void> => {
      const out = await content(i);
      expect([9, 10, 11, 12, 4999, 5000].map((s) => out[s * SECTOR])).toEqual([1, 2, 2, 1, 1, 0]);
    };
    await check(image);
    await image.close();
    await check(await VhdImage.open(file, { parent: { image: parent, uuid: hex } }));
    await expect((async () => VhdImage.open(file))()).rejects.toThrow("its parent is not open");
    await expect(
      (async () => VhdImage.open(file, { parent: { image: parent, uuid: "00".repeat(16) } }))(),
    ).rejects.toThrow("identifiers differ");
  });

  it("is read by its first footer where the last one is cut off, and refused where both are damaged", async () => {
    const file = await make(4 << 20);
    const image = await VhdImage.open(file);
    await image.write(0, fill(1, 9));
    await image.close();
    file.truncate(file.size() - 512);
    const again = await VhdImage.open(file);
    const out = fill(1, 0);
    await again.read(0, out);
    expect(out[0]).toBe(9);
    file.write(70, Uint8Array.of(99));
    await expect((async () => VhdImage.open(file))()).rejects.toThrow("test.vhd: damaged: the footer's checksum");
    await expect((async () => VhdImage.open(new MemoryFile("x", fill(9, 0))))()).rejects.toThrow("x: not a VHD image");
  });

  it("has the specification's geometry", () => {
    expect(geometry(40 << 20)).toEqual({ cylinders: 963, heads: 5, sectors: 17 });
    expect(geometry(10 * 2 ** 30)).toEqual({ cylinders: 20805, heads: 16, sectors: 63 });
    expect(geometry(2 ** 40)).toEqual({ cylinders: 65535, heads: 16, sectors: 255 });
  });
});

describe("a crash of the host", () => {
  it.each([
    { differencing: false, asynchronous: false },
    { differencing: false, asynchronous: true },
    { differencing: true, asynchronous: false },
    { differencing: true, asynchronous: true },
  ])("at any moment loses nothing that was flushed: %o", async ({ differencing, asynchronous }) => {
    const sectors = 300;
    const blockSize = 8192;
    const base = new Uint8Array(sectors * SECTOR);
    const v = new DataView(base.buffer);
    for (let at = 0; at < base.length; at += 4) v.setUint32(at, 1_000_000 + Math.floor(at / SECTOR));
    const parent = differencing ? { image: MemoryImage.from(base, true), uuid: hex } : undefined;
    let flushes = 0;
    for (let seed = 1; seed <= 12; seed++) {
      const file = await make(sectors * SECTOR, {
        blockSize,
        ...(differencing ? { parent: { uuid: hex, timestamp: 1, path: "p.vhd" } } : {}),
      });
      const { acknowledged } = await crashLives({
        random: seeded(seed),
        content: file.bytes(),
        initial: Array.from({ length: sectors }, (_, s) => (differencing ? 1_000_000 + s : 0)),
        lives: 6,
        asynchronous,
        open: (f) => VhdImage.open(f, { parent }),
        check: async (bytes) => {
          // No two blocks in one place.
          const { header } = await vhdFacts(new MemoryFile("crashed", bytes));
          if (header === null) return ["no header"];
          const table = new DataView(bytes.buffer, header.tableOffset);
          const places = Array.from({ length: header.entries }, (_, i) => table.getUint32(i * 4)).filter(
            (p) => p !== 0xffffffff,
          );
          places.sort((a, b) => a - b);
          return places.flatMap((p, i) =>
            i > 0 && p - (places[i - 1] as number) < 17 ? [`blocks overlap at ${p}`] : [],
          );
        },
      });
      flushes += acknowledged;
    }
    expect(flushes).toBeGreaterThan(100);
  });
});
