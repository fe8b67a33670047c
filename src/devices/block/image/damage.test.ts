import { describe, expect, it } from "vitest";
import {
  createQcow2,
  createVhd,
  ImageError,
  MemoryFile,
  Qcow2Image,
  SECTOR,
  VhdImage,
  type BlockImage,
} from "../index.js";
import { seeded, type Random } from "../../../testing.js";

/** Images of both formats with something in them. */
async function qcow2(random: Random): Promise<Uint8Array> {
  const file = new MemoryFile("damaged");
  await createQcow2(file, { size: 1 << 20, clusterSize: 512 << random(4) });
  const image = await Qcow2Image.open(file);
  for (let i = 0; i < 20; i++) await image.write(random(2000), new Uint8Array(8 * SECTOR).fill(i));
  await image.close();
  return file.bytes();
}
async function vhd(random: Random): Promise<Uint8Array> {
  const file = new MemoryFile("damaged");
  await createVhd(file, { size: 1 << 20, blockSize: 16384 << random(3), uuid: new Uint8Array(16), timestamp: 0 });
  const image = await VhdImage.open(file);
  for (let i = 0; i < 20; i++) await image.write(random(2000), new Uint8Array(8 * SECTOR).fill(i));
  await image.close();
  return file.bytes();
}

/** A file that is no larger than a host's disk. */
class BoundedFile extends MemoryFile {
  private check(end: number): void {
    if (!Number.isSafeInteger(end)) throw new Error("the offset is not exact");
    if (end > 2 ** 32) throw new ImageError("EFBIG: file too large");
  }
  override read(at: number, into: Uint8Array): void {
    if (!Number.isSafeInteger(at) || at < 0) throw new Error("the offset is not exact");
    super.read(at, into);
  }
  override write(at: number, bytes: Uint8Array): void {
    this.check(at + bytes.length);
    super.write(at, bytes);
  }
  override grow(size: number): void {
    this.check(size);
    super.grow(size);
  }
}

describe.each([
  ["qcow2", qcow2, (f: MemoryFile): Promise<BlockImage> | BlockImage => Qcow2Image.open(f)],
  ["VHD", vhd, (f: MemoryFile): Promise<BlockImage> | BlockImage => VhdImage.open(f)],
] as const)("a damaged %s image", (_name, make, open) => {
  it("is refused, or answers, or fails in words: never otherwise", { timeout: 120_000 }, async () => {
    const refused = new Set<string>();
    for (let seed = 1; seed <= 300; seed++) {
      const random = seeded(seed);
      const bytes = await make(random);
      for (let i = 1 + random(4); i > 0; i--) {
        // Mostly where the tables are.
        const at = random(3) === 0 ? random(bytes.length) : random(Math.min(bytes.length, 8192));
        bytes[at] = random(4) === 0 ? 0xff : random(256);
      }
      const failed = (e: unknown): void => {
        if (!(e instanceof ImageError)) throw new Error(`seed ${seed}: ${String(e)}`, { cause: e });
        refused.add(e.message.replace(/[0-9]+/g, "N"));
      };
      let image: BlockImage;
      try {
        image = await open(new BoundedFile("damaged", bytes));
      } catch (e) {
        failed(e);
        continue;
      }
      const some = Math.max(1, Math.min(image.sectors - 8, 2040));
      if (image.sectors < 16) continue;
      for (let op = 0; op < 30; op++) {
        try {
          const sector = random(some);
          const dice = random(8);
          if (dice < 3) await image.read(sector, new Uint8Array(8 * SECTOR));
          else if (dice < 6) await image.write(sector, new Uint8Array(8 * SECTOR));
          else if (dice === 6) await image.discard(sector, 8);
          else await image.flush();
        } catch (e) {
          failed(e);
        }
      }
      await (async () => image.close())().catch(failed);
    }
    expect(refused.size).toBeGreaterThan(2);
  });
});
