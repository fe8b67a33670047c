/** Blocks that the core decodes by forms it has learned (forms.ts, core/assembly/decode.ts), against the host side's decoder, which is the reference. */
import { describe, expect, it } from "vitest";
import { VirtualClock } from "../clock.js";
import {
  BLOCK_HEADER,
  BLOCK_MADDR,
  BLOCK_MODE,
  BLOCK_N,
  BLOCK_PAGE2,
  BLOCK_TARGETS,
  REC_SIZE,
  REC_POS,
} from "../layout.js";
import { PhysMem } from "../memory.js";
import { Cpu } from "./cpu.js";
import { Exit } from "./exits.js";
import { PREWARM } from "./interpreter/prewarm.js";

const READ_ONLY = 5;
const USER = 7;
const CODE = 0x400000;

class Box {
  readonly mem = new PhysMem(8 << 20);
  readonly cpu = new Cpu(this.mem, new VirtualClock(), { engine: "interpreter" });
  private next = this.mem.firstFrame;
  private readonly root = this.frame();
  readonly code = this.frame();

  constructor() {
    let table = this.root;
    for (let level = 3; level > 0; level--) {
      const below = this.frame();
      this.mem.w64(table + (Math.floor(CODE / 2 ** (12 + 9 * level)) & 511) * 8, below | USER, 0);
      table = below;
    }
    this.mem.w64(table + ((CODE / 4096) & 511) * 8, this.code | READ_ONLY, 0);
    this.cpu.setRoot(0, this.root, 4);
    this.cpu.setMode({ bits: 64, cpl: 3, space: 0 });
    // A frame with so many blocks is compared with no other.
    for (const at of [0xd00, 0xd80, 0xe00, 0xe80, 0xf00]) {
      this.write(at, [0x90, 0xcc]);
      this.decode(at);
    }
  }
  private frame(): number {
    const mfn = this.next++;
    this.mem.zeroFrame(mfn);
    return mfn * 4096;
  }
  /** Begin to run there; was it decoded by the host side? */
  decode(offset: number): boolean {
    const { cpu } = this;
    const before = cpu.counters.exits[Exit.DECODE] as number;
    cpu.rflags = 0x202;
    cpu.rip = CODE + offset;
    cpu.run(1);
    return cpu.counters.exits[Exit.DECODE] !== before;
  }
  /** Of the block there, what its decoder wrote. */
  block(offset: number): { header: number[]; records: unknown; end: number } {
    const { mem, cpu } = this;
    const at = cpu.cache.find(this.code + offset, cpu.mode);
    expect(at).not.toBe(0);
    const n = mem.r32(at + BLOCK_N);
    const header = [BLOCK_N, BLOCK_MADDR, BLOCK_MODE, BLOCK_PAGE2, BLOCK_TARGETS].map((f) => mem.r32(at + f));
    const last = at + BLOCK_HEADER + n * REC_SIZE;
    const records = Buffer.from(mem.u8.subarray(at + BLOCK_HEADER, last + 4)).toString("hex");
    return { header, records: records.match(/.{1,96}/g), end: mem.r32(last + REC_POS) };
  }
  write(offset: number, bytes: readonly number[]): void {
    this.cpu.cache.invalidate(this.code / 4096, offset, bytes.length);
    this.mem.u8.set(bytes, this.code + offset);
  }
}

const EXAMPLES = PREWARM.filter((g) => (g.mode & 3) === 2)
  .flatMap((g) => g.shapes.split(" "))
  .map((s) => (s.split(":")[0] ?? "").match(/../g)?.map((x) => parseInt(x, 16)) ?? []);

describe("a block decoded by the core", () => {
  it.each([1, 2, 3])("is what the host side makes of random code like what it has decoded (%i)", (seed) => {
    const box = new Box();
    const { cpu } = box;
    let state = seed;
    const rnd = (n: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 4294967296) * n);
    };
    let byCore = 0;
    let longest = 0;
    const cases = 12000;
    for (let n = 0; n < cases; n++) {
      const bytes: number[] = [];
      const length = 1 + rnd(12);
      for (let i = 0; i < length; i++) {
        const example = EXAMPLES[rnd(EXAMPLES.length)] ?? [];
        const insn = [...example];
        // Other registers, displacements and immediates; now and then anything.
        if (rnd(2) === 0) for (let b = 2; b < insn.length; b++) insn[b] = rnd(256);
        if (rnd(4) === 0) insn[insn.length - 1] = rnd(256);
        if (rnd(8) === 0) insn.unshift(pick(rnd, 0x40 + rnd(16), 0x66, 0xf3, 0xf2, 0x65, 0xf0, 0x67, 0x2e, 0x3e));
        if (rnd(30) === 0) insn[rnd(insn.length)] = rnd(256);
        bytes.push(...insn);
      }
      // Some of them end with their page.
      const offset = rnd(10) === 0 ? 4096 - 1 - rnd(Math.min(bytes.length, 40)) : rnd(64) * 8;
      const here = bytes.slice(0, 4096 - offset);
      box.write(offset, here);
      if (box.decode(offset)) continue;
      byCore++;
      const made = box.block(offset);
      longest = Math.max(longest, made.header[0] as number);
      // The same bytes again: it is dropped, and the host side has to do it.
      box.write(offset, here);
      cpu.shapeLog = new Map();
      expect(box.decode(offset)).toBe(true);
      cpu.shapeLog = null;
      const reference = box.block(offset);
      expect(made, Buffer.from(here).toString("hex")).toEqual(reference);
    }
    expect(byCore).toBeGreaterThan(cases / 20);
    expect(longest).toBeGreaterThan(6);
  });

  it("is decoded anew when its bytes change", () => {
    const box = new Box();
    const movs = (n: number): number[] => [0xb8, n, 0, 0, 0, 0xcc];
    box.write(0, movs(1));
    expect(box.decode(0)).toBe(true);
    box.write(64, movs(2));
    expect(box.decode(64)).toBe(false);
    expect(box.cpu.regLo(0)).toBe(2);
    box.write(64, movs(3));
    expect(box.decode(64)).toBe(false);
    expect(box.cpu.regLo(0)).toBe(3);
  });
});

function pick(rnd: (n: number) => number, ...of: number[]): number {
  return of[rnd(of.length)] as number;
}
