/** Disks of forked domains: views that never change over an image that its domain goes on writing, at once or with answers that take their time. */
import { describe, expect, it } from "vitest";
import { MemoryImage, SECTOR, type BlockImage } from "../devices/block/index.js";
import { ForkedImage } from "./fork-disks.js";
import { seeded } from "../testing.js";

const SECTORS = 64;

/** Answers later, in any order. */
class SlowImage implements BlockImage {
  readonly sectors = SECTORS;
  readonly sectorSize = 512;
  readonly readOnly = false;
  readonly discardGranularity = 512;
  closed = false;
  private readonly next = seeded(7);
  constructor(readonly of: MemoryImage) {}
  private later(fn: () => void): Promise<void> {
    let p = Promise.resolve();
    for (let n = this.next(7); n > 0; n--) p = p.then(() => {});
    return p.then(fn);
  }
  read(sector: number, into: Uint8Array): Promise<void> {
    return this.later(() => void this.of.read(sector, into));
  }
  write(sector: number, bytes: Uint8Array): Promise<void> {
    return this.later(() => void this.of.write(sector, bytes));
  }
  flush(): Promise<void> {
    return this.later(() => {});
  }
  discard(sector: number, count: number): Promise<void> {
    return this.later(() => void this.of.discard(sector, count));
  }
  close(): void {
    this.closed = true;
  }
}
const filled = (v: number, n = 1): Uint8Array => new Uint8Array(n * SECTOR).fill(v);
function fresh(): MemoryImage {
  const m = new MemoryImage(SECTORS * SECTOR);
  for (let s = 0; s < SECTORS; s++) void m.write(s, filled(s + 1));
  return m;
}
async function sectorsOf(image: BlockImage, from = 0, n = SECTORS): Promise<number[]> {
  const into = new Uint8Array(n * SECTOR);
  await image.read(from, into);
  return Array.from({ length: n }, (_, i) => {
    const part = into.subarray(i * SECTOR, (i + 1) * SECTOR);
    return part.every((b) => b === part[0]) ? (part[0] as number) : -1;
  });
}
const initial = Array.from({ length: SECTORS }, (_, s) => s + 1);

describe.each([
  ["at once", () => fresh() as BlockImage],
  ["later", () => new SlowImage(fresh()) as BlockImage],
])("an image that answers %s", (_, make) => {
  it("a view shows what was, the parent what it wrote", async () => {
    const image = make();
    const parent = new ForkedImage(image);
    const view = parent.freeze();
    await parent.write(3, filled(200, 2));
    await parent.discard(10, 2);
    expect(await sectorsOf(view)).toEqual(initial);
    expect(await sectorsOf(parent, 2, 4)).toEqual([3, 200, 200, 6]);
    expect(await sectorsOf(parent, 10, 2)).toEqual([0, 0]);
    // Again: what is kept stays.
    await parent.write(3, filled(201, 4));
    expect(await sectorsOf(view)).toEqual(initial);
  });

  it("views of different times, and overlays over one view that know nothing of each other", async () => {
    const parent = new ForkedImage(make());
    const first = parent.freeze();
    await parent.write(5, filled(90));
    const second = parent.freeze();
    await parent.write(5, filled(91));
    expect([await sectorsOf(first, 5, 1), await sectorsOf(second, 5, 1), await sectorsOf(parent, 5, 1)]).toEqual([
      [6],
      [90],
      [91],
    ]);
    const [a, b] = [first.overlay(), first.overlay()];
    await a.write(5, filled(70));
    await b.write(6, filled(71));
    expect([await sectorsOf(a, 5, 2), await sectorsOf(b, 5, 2), await sectorsOf(first, 5, 2)]).toEqual([
      [70, 7],
      [6, 71],
      [6, 7],
    ]);
  });

  it("an overlay is forked in turn", async () => {
    const parent = new ForkedImage(make());
    const child = new ForkedImage(parent.freeze().overlay());
    await child.write(1, filled(50));
    const grandchild = child.freeze().overlay();
    await child.write(1, filled(51));
    await parent.write(1, filled(52));
    expect([await sectorsOf(parent, 1, 1), await sectorsOf(child, 1, 1), await sectorsOf(grandchild, 1, 1)]).toEqual([
      [52],
      [51],
      [50],
    ]);
  });

  it("any mixture of reads of views and writes of the parent, in flight together", async () => {
    const parent = new ForkedImage(make());
    const next = seeded(99);
    const state = initial.slice();
    const views: { view: BlockImage; want: number[] }[] = [];
    for (let round = 0; round < 60; round++) {
      if (round % 10 === 0) views.push({ view: parent.freeze(), want: state.slice() });
      const waits: Promise<unknown>[] = [];
      const at = next(SECTORS - 8);
      const n = 1 + next(8);
      for (const { view, want } of views) {
        const from = next(SECTORS - 8);
        waits.push(sectorsOf(view, from, 8).then((got) => expect(got).toEqual(want.slice(from, from + 8))));
      }
      const v = 1 + next(250);
      waits.push(Promise.resolve(parent.write(at, filled(v, n))));
      for (let i = 0; i < n; i++) state[at + i] = v;
      for (const { view, want } of views) {
        const from = next(SECTORS - 8);
        waits.push(sectorsOf(view, from, 8).then((got) => expect(got).toEqual(want.slice(from, from + 8))));
      }
      await Promise.all(waits);
      expect(await sectorsOf(parent)).toEqual(state);
    }
    for (const { view, want } of views) expect(await sectorsOf(view)).toEqual(want);
  });
});

it("the image is closed when its domain is gone and no fork needs it", async () => {
  const image = new SlowImage(fresh());
  const parent = new ForkedImage(image);
  const view = parent.freeze();
  const fork = view.overlay();
  await view.close();
  const closed = parent.close();
  expect(image.closed).toBe(false);
  expect(await sectorsOf(fork, 0, 2)).toEqual([1, 2]);
  await fork.close();
  await closed;
  expect(image.closed).toBe(true);
  const alone = new SlowImage(fresh());
  await new ForkedImage(alone).close();
  expect(alone.closed).toBe(true);
});

it("a disk that is only read outlives its parent too", async () => {
  const image = new SlowImage(fresh());
  const parent = new ForkedImage(image);
  const view = parent.freeze();
  const reader = view.reader();
  void parent.close();
  await view.close();
  expect([image.closed, await sectorsOf(reader, 0, 2), reader.readOnly]).toEqual([false, [1, 2], true]);
  expect(() => reader.write(0, filled(1))).toThrow("cannot be written");
  await reader.close();
  expect(image.closed).toBe(true);
});

it("a read that fails is the writer's failure, and the next write is done", async () => {
  const m = fresh();
  let fail = true;
  const image: BlockImage = {
    sectors: SECTORS,
    sectorSize: 512,
    readOnly: false,
    read: (s, into) => (fail ? Promise.reject(new Error("broken")) : m.read(s, into)),
    write: (s, bytes) => m.write(s, bytes),
    flush: () => {},
    discard: () => {},
    close: () => {},
  };
  const parent = new ForkedImage(image);
  const view = parent.freeze();
  await expect(Promise.resolve(parent.write(3, filled(9)))).rejects.toThrow("broken");
  fail = false;
  expect(await sectorsOf(view, 3, 1)).toEqual([4]);
  await parent.write(3, filled(9));
  expect([await sectorsOf(view, 3, 1), await sectorsOf(parent, 3, 1)]).toEqual([[4], [9]]);
});
