/** For tests: files that crash, and disks whose content is known whatever happened. */
import { MemoryFile, type ByteFile } from "./byte-file.js";
import { SECTOR, type BlockImage } from "./image.js";
import type { Random } from "../../../testing.js";

/**
 * A file on a host that may crash: what was written after the last flush is on the medium afterwards or not, each sector for itself, with
 * one of the contents it had meanwhile.
 */
export class CrashFile implements ByteFile {
  readonly readOnly = false;
  readonly name = "crash";
  private readonly now: MemoryFile;
  private readonly medium: MemoryFile;
  private pending: { at: number; bytes: Uint8Array }[] = [];
  private mediumSize: number;
  /** Operations until it crashes. */
  left = Infinity;
  flushes = 0;

  constructor(
    content: Uint8Array,
    /** Every operation takes so many turns; 0: it is done at once. */
    private readonly turns: () => number = () => 0,
  ) {
    this.now = new MemoryFile("crash", content);
    this.medium = new MemoryFile("crash", content);
    this.mediumSize = content.length;
  }
  private step(): void {
    if (--this.left < 0) throw new Error("the host has crashed");
  }
  private after(fn: () => void): Promise<void> | void {
    const turns = this.turns();
    if (turns === 0) return fn();
    return (async () => {
      for (let i = 0; i < turns; i++) await Promise.resolve();
      fn();
    })();
  }
  size(): number {
    return this.now.size();
  }
  read(at: number, into: Uint8Array): Promise<void> | void {
    return this.after(() => this.now.read(at, into));
  }
  write(at: number, bytes: Uint8Array): Promise<void> | void {
    this.step();
    return this.after(() => {
      this.now.write(at, bytes);
      this.pending.push({ at, bytes: bytes.slice() });
    });
  }
  grow(size: number): Promise<void> | void {
    this.step();
    return this.after(() => this.now.grow(size));
  }
  punch(at: number, length: number): void {
    this.step();
    this.now.punch(at, length);
    this.pending.push({ at, bytes: new Uint8Array(length) });
  }
  flush(): Promise<void> | void {
    this.step();
    const pending = this.pending;
    const size = this.now.size();
    this.pending = [];
    const done = (): void => {
      for (const p of pending) this.medium.write(p.at, p.bytes);
      this.mediumSize = Math.max(this.mediumSize, size);
      this.flushes++;
    };
    const turns = this.turns();
    if (turns === 0) return done();
    // Until it is done these may be lost still.
    this.flushing = pending;
    return (async () => {
      for (let i = 0; i < turns * 3; i++) await Promise.resolve();
      if (this.left < 0) throw new Error("the host has crashed");
      done();
      this.flushing = [];
    })();
  }
  private flushing: { at: number; bytes: Uint8Array }[] = [];
  close(): void {}

  /** What is found when the host is back. */
  crash(random: Random): Uint8Array {
    const versions = new Map<number, Uint8Array[]>();
    const old = (sector: number): Uint8Array => {
      const b = new Uint8Array(SECTOR);
      this.medium.read(sector * SECTOR, b);
      return b;
    };
    for (const { at, bytes } of [...this.flushing, ...this.pending]) {
      for (let done = 0; done < bytes.length;) {
        const sector = Math.floor((at + done) / SECTOR);
        const within = (at + done) % SECTOR;
        const n = Math.min(SECTOR - within, bytes.length - done);
        const all = versions.get(sector) ?? [old(sector)];
        const next = (all[all.length - 1] as Uint8Array).slice();
        next.set(bytes.subarray(done, done + n), within);
        all.push(next);
        versions.set(sector, all);
        done += n;
      }
    }
    const found = new MemoryFile("crash", this.medium.bytes());
    for (const [sector, all] of versions) found.write(sector * SECTOR, all[random(all.length)] as Uint8Array);
    found.grow(this.mediumSize);
    return found.bytes();
  }
  bytes(): Uint8Array {
    return this.now.bytes();
  }
}

/** What the sectors of a disk may hold: one number per sector that fills it; 0 is an empty one. */
export class Expected {
  private readonly safe: number[];
  /** Since the last flush that ended. */
  private recent: Map<number, Set<number>> = new Map();
  private stamp = 1;

  constructor(initial: readonly number[]) {
    this.safe = [...initial];
  }
  private allow(sector: number, value: number): void {
    const set = this.recent.get(sector) ?? new Set();
    set.add(value);
    this.recent.set(sector, set);
    this.latest.set(sector, value);
  }
  private readonly latest = new Map<number, number>();

  /** Bytes to be written to these sectors. */
  write(sector: number, count: number): Uint8Array {
    const out = new Uint8Array(count * SECTOR);
    const v = new DataView(out.buffer);
    for (let i = 0; i < count; i++) {
      const n = this.stamp++;
      for (let at = 0; at < SECTOR; at += 4) v.setUint32(i * SECTOR + at, n);
      this.allow(sector + i, n);
    }
    return out;
  }
  /** Nobody promises what a discarded sector holds, but it is what it was or nothing. */
  discard(sector: number, count: number): void {
    for (let s = sector; s < sector + count; s++) {
      const before = this.latest.get(s) ?? (this.safe[s] as number);
      this.allow(s, 0);
      // The latest is not known: both are.
      this.recent.get(s)?.add(before);
      this.unsure.add(s);
    }
  }
  private readonly unsure = new Set<number>();
  /** A moment that a flush may begin at; the result is to be called when it has ended. */
  flushing(): () => void {
    const at = new Map(this.latest);
    const unsure = new Set(this.unsure);
    return () => {
      for (const [s, v] of at) {
        if (unsure.has(s)) continue;
        this.safe[s] = v;
        if (this.latest.get(s) !== v) continue;
        this.recent.delete(s);
        this.latest.delete(s);
      }
    };
  }
  /** Read the whole disk and name every sector that holds what it must not; what it holds is what is expected from now on. */
  async verify(image: BlockImage): Promise<string[]> {
    const wrong: string[] = [];
    const bytes = new Uint8Array(this.safe.length * SECTOR);
    await image.read(0, bytes);
    const v = new DataView(bytes.buffer);
    for (let s = 0; s < this.safe.length; s++) {
      const n = v.getUint32(s * SECTOR);
      let whole = true;
      for (let at = 4; at < SECTOR; at += 4) if (v.getUint32(s * SECTOR + at) !== n) whole = false;
      const may = new Set([this.safe[s] as number, ...(this.recent.get(s) ?? [])]);
      if (!whole || !may.has(n))
        wrong.push(`sector ${s}: ${n}${whole ? "" : " (torn)"}, not one of ${[...may].join(" ")}`);
      this.safe[s] = n;
    }
    this.recent = new Map();
    this.latest.clear();
    this.unsure.clear();
    return wrong;
  }
}

/**
 * Several lives of an image, each ended by a crash in the middle of random reads, writes, discards and flushes: what was flushed is there
 * after each, and the format's own check finds nothing.
 */
export async function crashLives(options: {
  readonly random: Random;
  readonly content: Uint8Array;
  readonly initial: readonly number[];
  readonly lives: number;
  readonly asynchronous: boolean;
  readonly open: (file: CrashFile) => Promise<BlockImage> | BlockImage;
  readonly check: (bytes: Uint8Array) => Promise<readonly string[]> | readonly string[];
}): Promise<{ acknowledged: number; crashed: number }> {
  const { random } = options;
  const expected = new Expected(options.initial);
  let { content } = options;
  let acknowledged = 0;
  let crashed = 0;
  for (let life = 0; life < options.lives; life++) {
    const file = new CrashFile(content, options.asynchronous ? () => random(4) : undefined);
    const image = await options.open(file);
    const wrong = await expected.verify(image);
    if (wrong.length > 0) throw new Error(`life ${life}: ${wrong.slice(0, 5).join("; ")} (${wrong.length})`);
    file.left = random(300);
    try {
      for (let op = 0; op < 200; op++) {
        const sector = random(image.sectors);
        const count = 1 + random(Math.min(40, image.sectors - sector));
        const dice = random(20);
        if (dice < 12) await image.write(sector, expected.write(sector, count));
        else if (dice < 15) {
          expected.discard(sector, count);
          await image.discard(sector, count);
        } else if (dice < 17) await image.read(sector, new Uint8Array(count * SECTOR));
        else {
          const done = expected.flushing();
          const flushed = image.flush();
          // Writes may go on beside a flush.
          if (flushed !== undefined && random(2) === 0) {
            flushed.catch(() => {});
            await image.write(sector, expected.write(sector, count));
          }
          await flushed;
          done();
          acknowledged++;
        }
      }
    } catch (e) {
      if (!(e instanceof Error) || e.message !== "the host has crashed") throw e;
      crashed++;
    }
    // Nothing of the crashed host goes on.
    file.left = -1;
    content = file.crash(random);
    const bad = await options.check(content);
    if (bad.length > 0) throw new Error(`life ${life}: ${bad.slice(0, 5).join("; ")} (${bad.length})`);
  }
  return { acknowledged, crashed };
}
