import { deflateRawSync, inflateRawSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { MemoryFile, type ByteFile } from "../byte-file.js";
import { MemoryImage, SECTOR, type BlockImage } from "../../index.js";
import { seeded } from "../../../../testing.js";
import { crashLives } from "../testing.js";
import { checkQcow2, createQcow2, Qcow2Image } from "./index.js";

const fill = (sectors: number, n: number): Uint8Array => new Uint8Array(sectors * SECTOR).fill(n);
/** A disk whose sectors are filled with their number (from 1000000 on). */
function numbered(sectors: number): { image: MemoryImage; values: number[] } {
  const bytes = new Uint8Array(sectors * SECTOR);
  const v = new DataView(bytes.buffer);
  const values = Array.from({ length: sectors }, (_, s) => 1_000_000 + s);
  values.forEach((n, s) => {
    for (let at = 0; at < SECTOR; at += 4) v.setUint32(s * SECTOR + at, n);
  });
  return { image: MemoryImage.from(bytes, true), values };
}
async function make(
  size: number,
  options: { clusterSize?: number; backing?: BlockImage; version?: 2 | 3 } = {},
): Promise<MemoryFile> {
  const file = new MemoryFile("test.qcow2");
  await createQcow2(file, {
    size,
    ...(options.clusterSize === undefined ? {} : { clusterSize: options.clusterSize }),
    ...(options.backing === undefined ? {} : { backing: { name: "base.img", format: "raw" } }),
  });
  if (options.version === 2) {
    const v = new Uint8Array(112);
    file.read(0, v);
    if (options.backing !== undefined) throw new Error("not with a backing file");
    v.fill(0, 72);
    new DataView(v.buffer).setUint32(4, 2);
    file.write(0, v);
  }
  return file;
}
const sound = async (file: ByteFile): Promise<{ leaks: number }> => {
  const { errors, leaks } = await checkQcow2(file);
  expect(errors).toEqual([]);
  return { leaks };
};
async function content(image: BlockImage): Promise<Uint8Array> {
  const out = new Uint8Array(image.sectors * SECTOR);
  await image.read(0, out);
  return out;
}

describe("a qcow2 image", () => {
  it.each([512, 4096, 65536, 2 ** 21])("keeps what is written, with clusters of %i bytes", async (clusterSize) => {
    const sectors = Math.max(4096, (clusterSize / SECTOR) * 3);
    const file = await make(sectors * SECTOR, { clusterSize });
    const image = await Qcow2Image.open(file);
    expect(image.sectors).toBe(sectors);
    const model = new Uint8Array(sectors * SECTOR);
    const random = seeded(clusterSize);
    for (let i = 0; i < 120; i++) {
      const sector = random(sectors);
      const n = 1 + random(Math.min(300, sectors - sector));
      const bytes = Uint8Array.from({ length: n * SECTOR }, () => random(256));
      await image.write(sector, bytes);
      model.set(bytes, sector * SECTOR);
      if (i % 30 === 0) await image.flush();
    }
    expect(Buffer.compare(await content(image), model)).toBe(0);
    await image.close();
    expect(await sound(file)).toEqual({ leaks: 0 });
    expect(Buffer.compare(await content(await Qcow2Image.open(file, { readOnly: true })), model)).toBe(0);
  });

  it("takes no space for what was never written, and answers at once over a file that does", async () => {
    const file = await make(2 ** 40);
    const image = Qcow2Image.open(file) as Qcow2Image;
    expect(image.sectors).toBe(2 ** 31);
    expect(image.write(2 ** 31 - 8, fill(8, 7))).toBeUndefined();
    const out = fill(16, 1);
    expect(image.read(2 ** 31 - 16, out)).toBeUndefined();
    expect([out[0], out[8 * SECTOR - 1], out[8 * SECTOR]]).toEqual([0, 0, 7]);
    expect(image.flush()).toBeUndefined();
    await image.close();
    expect(file.size()).toBeLessThan(2 ** 20);
    await sound(file);
  });

  it("reads through to its backing image, which may be shorter, and never writes it", async () => {
    const base = numbered(300);
    const file = await make(1000 * SECTOR, { clusterSize: 4096, backing: base.image });
    const image = await Qcow2Image.open(file, { backing: base.image });
    const before = base.image.bytes();
    await image.write(297, fill(1, 9));
    await image.write(10, fill(2, 8));
    const out = await content(image);
    const v = new DataView(out.buffer);
    expect([9, 12, 296, 298, 299].map((s) => v.getUint32(s * SECTOR))).toEqual(
      [9, 12, 296, 298, 299].map((s) => 1e6 + s),
    );
    expect([10, 11, 297, 300, 999].map((s) => out[s * SECTOR])).toEqual([8, 8, 9, 0, 0]);
    await image.discard(0, 16);
    expect((await content(image)).subarray(0, 16 * SECTOR).every((b) => b === 0)).toBe(true);
    await image.close();
    expect(Buffer.compare(base.image.bytes(), before)).toBe(0);
    expect(await sound(file)).toEqual({ leaks: 0 });
    await expect((async () => Qcow2Image.open(file))()).rejects.toThrow("its backing file base.img is not open");
  });

  it("gives the space of discarded clusters back and uses it again", async () => {
    const file = await make(2 ** 20, { clusterSize: 4096 });
    const image = await Qcow2Image.open(file);
    await image.write(0, fill(2048, 5));
    await image.flush();
    const size = file.size();
    await image.discard(0, 2048);
    await image.flush();
    expect((await content(image)).every((b) => b === 0)).toBe(true);
    // Old content never shines through a cluster that is used again.
    await image.write(3, fill(1, 6));
    const out = await content(image);
    expect([2, 3, 4].map((s) => out[s * SECTOR])).toEqual([0, 6, 0]);
    await image.write(8, fill(2040, 6));
    await image.close();
    expect(file.size()).toBeLessThanOrEqual(size + 4096);
    expect(await sound(file)).toEqual({ leaks: 0 });
  });

  it("has all it knows in the file after a flush, so that another process may go on with it", async () => {
    const file = await make(2 ** 20, { clusterSize: 4096 });
    const image = await Qcow2Image.open(file);
    await image.write(0, fill(1024, 5));
    await image.flush();
    await image.discard(0, 512);
    await image.flush();
    const flushed = file.bytes();
    expect(await sound(file)).toEqual({ leaks: 0 });
    await image.close();
    expect(Buffer.compare(file.bytes(), flushed)).toBe(0);
  });

  it("lets its reference count table grow", async () => {
    // 64 blocks of 256 counts of 512 bytes: a table of one cluster is full at 8 MiB.
    const file = await make(24 << 20, { clusterSize: 512 });
    const image = await Qcow2Image.open(file);
    for (let s = 0; s < 49152; s += 2048) {
      await image.write(s, fill(2048, 1 + s / 2048));
      if (s % 8192 === 0) await image.flush();
    }
    await image.close();
    expect(await sound(file)).toEqual({ leaks: 0 });
    const again = await Qcow2Image.open(file, { readOnly: true });
    const out = fill(1, 0);
    for (const s of [0, 2047, 20480, 49151]) {
      await again.read(s, out);
      expect(out[511]).toBe(1 + Math.floor(s / 2048));
    }
  });

  it("reads compressed clusters and replaces them whole when they are written", async () => {
    const file = await make(64 * 4096, { clusterSize: 4096 });
    // Two clusters packed side by side behind the image's own, counted twice.
    const packed = [1, 2].map((n) => new Uint8Array(deflateRawSync(new Uint8Array(4096).fill(n))));
    const at = file.size();
    const l2At = at + 4096;
    file.write(at, new Uint8Array(4096));
    file.write(at, packed[0] as Uint8Array);
    file.write(at + (packed[0]?.length ?? 0), packed[1] as Uint8Array);
    const l2 = new DataView(new ArrayBuffer(4096));
    const offsetBits = 62 - 4;
    [at, at + (packed[0]?.length ?? 0)].forEach((place, i) => {
      const sectors = Math.floor((place + (packed[i]?.length ?? 0) - 1) / 512) - Math.floor(place / 512);
      l2.setUint32(i * 8, (0x40000000 | (sectors << (offsetBits - 32))) >>> 0);
      l2.setUint32(i * 8 + 4, place);
    });
    file.write(l2At, new Uint8Array(l2.buffer));
    const header = new DataView(new ArrayBuffer(112));
    file.read(0, new Uint8Array(header.buffer));
    const l1 = new DataView(new ArrayBuffer(8));
    l1.setUint32(0, 0x80000000);
    l1.setUint32(4, l2At);
    file.write(header.getUint32(44), new Uint8Array(l1.buffer));
    const counts = new Uint8Array(4);
    new DataView(counts.buffer).setUint16(0, 2);
    new DataView(counts.buffer).setUint16(2, 1);
    file.write(8192 + (at / 4096) * 2, counts);
    expect(await sound(file)).toEqual({ leaks: 0 });

    const image = await Qcow2Image.open(file, {
      decompress: { deflate: (b) => new Uint8Array(inflateRawSync(b)) },
    });
    const out = await content(image);
    expect([0, 7, 8, 15, 16].map((s) => out[s * SECTOR])).toEqual([1, 1, 2, 2, 0]);
    await image.write(1, fill(1, 9));
    await image.close();
    expect(await sound(file)).toEqual({ leaks: 0 });
    const again = await content(
      await Qcow2Image.open(file, { decompress: { deflate: (b) => new Uint8Array(inflateRawSync(b)) } }),
    );
    expect([0, 1, 2, 8].map((s) => again[s * SECTOR])).toEqual([1, 9, 1, 2]);
    const without = await Qcow2Image.open(file, { readOnly: true });
    expect(() => without.read(8, fill(1, 0))).toThrow("no decompressor for deflate here");
  });

  it("refuses what it cannot honour, in words", async () => {
    const file = await make(2 ** 20);
    const start = file.bytes();
    const bad: [string, (v: DataView, b: Uint8Array) => void, string][] = [
      ["magic", (v) => v.setUint32(0, 1), "not a qcow2 image"],
      ["version", (v) => v.setUint32(4, 4), "qcow2 version 4 is not known"],
      ["AES", (v) => v.setUint32(32, 1), "the image is encrypted (AES)"],
      ["LUKS", (v) => v.setUint32(32, 2), "the image is encrypted (LUKS)"],
      [
        "dirty",
        (v) => v.setUint32(76, 1),
        "not closed (lazy reference counts, dirty bit): repair it with `qemu-img check -r all`",
      ],
      ["corrupt", (v) => v.setUint32(76, 2), "marked as corrupt"],
      ["external data", (v) => v.setUint32(76, 4), "external data file"],
      ["extended L2", (v) => v.setUint32(76, 16), "subclusters"],
      ["unknown", (v) => v.setUint32(72, 1), "it needs the feature with number 32"],
      [
        "unknown with a name",
        (v, b) => {
          v.setUint32(76, 32);
          v.setUint32(112, 0x6803f857);
          v.setUint32(116, 48);
          b.set([0, 5, ...new TextEncoder().encode("flying tables")], 120);
        },
        'it needs the feature "flying tables"',
      ],
      ["clusters", (v) => v.setUint32(20, 8), "damaged: clusters of 2^8"],
      ["L1 place", (v) => v.setUint32(44, 7), "damaged: the L1 table's place"],
      ["L1 length", (v) => v.setUint32(36, 0), "damaged: the L1 table is too short"],
      ["huge L1", (v) => v.setUint32(36, 2 ** 30), "too large"],
      ["huge size", (v) => v.setUint32(24, 2 ** 31), "beyond 2^53"],
      ["counts' place", (v) => v.setUint32(52, 0), "damaged: the reference count table's place"],
      ["extension", (v) => (v.setUint32(112, 7), v.setUint32(116, 2 ** 31)), "a header extension beyond its room"],
    ];
    for (const [what, breakIt, why] of bad) {
      const bytes = start.slice();
      breakIt(new DataView(bytes.buffer), bytes);
      let said = "";
      try {
        await Qcow2Image.open(new MemoryFile("x.qcow2", bytes));
      } catch (e) {
        said = e instanceof Error ? e.message : String(e);
      }
      expect([what, said]).toEqual([what, expect.stringContaining(why)]);
      expect(said).toMatch(/^x\.qcow2: /);
    }
  });

  it("answers damage with an error of that request", async () => {
    const file = await make(2 ** 20, { clusterSize: 4096 });
    const image = await Qcow2Image.open(file);
    await image.write(0, fill(8, 1));
    await image.close();
    const header = new DataView(new ArrayBuffer(112));
    file.read(0, new Uint8Array(header.buffer));
    const l1 = new DataView(new ArrayBuffer(8));
    file.read(header.getUint32(44), new Uint8Array(l1.buffer));
    file.write(l1.getUint32(4) + 4, Uint8Array.of(0, 0, 0x12, 0));
    const again = await Qcow2Image.open(file);
    expect(() => again.read(0, fill(1, 0))).toThrow("damaged: the place of a cluster");
    expect(again.read(8, fill(1, 0))).toBeUndefined();
  });

  it("a write that the host refuses is an error of it alone, and leaves the image sound", async () => {
    const file = await make(2 ** 20, { clusterSize: 4096 });
    let full = false;
    const limited: ByteFile = {
      name: "full",
      readOnly: false,
      size: () => file.size(),
      read: (at, into) => file.read(at, into),
      write: (at, bytes) => {
        if (full && at + bytes.length > 60_000) throw new Error("ENOSPC: no space left on device, write");
        file.write(at, bytes);
      },
      grow: (n) => file.grow(n),
      flush: () => {},
      close: () => {},
    };
    const image = await Qcow2Image.open(limited);
    await image.write(0, fill(8 * 8, 3));
    await image.flush();
    full = true;
    expect(() => image.write(800, fill(64, 4))).toThrow("ENOSPC");
    expect(image.read(0, fill(8, 0))).toBeUndefined();
    full = false;
    await image.write(900, fill(8, 5));
    await image.close();
    const { leaks } = await sound(file);
    expect(leaks).toBeLessThanOrEqual(1);
  });
});

describe("a crash of the host", () => {
  const variants = [512, 1024, 4096].flatMap((clusterSize) =>
    [false, true].flatMap((backing) => [false, true].map((asynchronous) => ({ clusterSize, backing, asynchronous }))),
  );
  it.each(variants)(
    "at any moment loses nothing that was flushed: %o",
    async ({ clusterSize, backing, asynchronous }) => {
      let flushes = 0;
      let crashes = 0;
      for (let seed = 1; seed <= 12; seed++) {
        const sectors = 300;
        const base = numbered(200);
        const file = await make(sectors * SECTOR, { clusterSize, ...(backing ? { backing: base.image } : {}) });
        const result = await crashLives({
          random: seeded(seed * 7 + clusterSize),
          content: file.bytes(),
          initial: Array.from({ length: sectors }, (_, s) => (backing ? (base.values[s] ?? 0) : 0)),
          lives: 6,
          asynchronous,
          open: (f) => Qcow2Image.open(f, backing ? { backing: base.image } : {}),
          check: async (bytes) => (await checkQcow2(new MemoryFile("crashed", bytes))).errors,
        });
        flushes += result.acknowledged;
        crashes += result.crashed;
      }
      expect(flushes).toBeGreaterThan(100);
      expect(crashes).toBeGreaterThan(50);
    },
  );
});
