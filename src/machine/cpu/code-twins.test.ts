/** Frames of the same content share their code: one rule a test. Two address spaces stand for two domains with the same program. */
import { describe, expect, it } from "vitest";
import { PhysMem } from "../memory.js";
import { CodeTwins } from "./code-twins.js";
import { Exit } from "./exits.js";
import { RAX, RBX, RCX } from "./insn.js";
import { hex, TestBox, USER } from "./testing.js";

const CODE = 0x400000;
const DATA = 0x600000;
const ELSEWHERE = 0x700000;
/** loop: add eax, 5; dec ecx; jnz loop; int3 */
const LOOP = hex("83c005 ffc9 75f9 cc");
/** mov byte [rbx], 3; add eax, 5; int3 */
const STORE = hex("c60303 83c005 cc");
/** Where LOOP and STORE have their 5. */
const OPERAND = 2;
const STORED = 5;
const N = 50;

class Box extends TestBox {
  constructor() {
    super({ engine: "auto", threshold: 8, again: 0 });
  }
  /** A space with a program in a frame of its own, mapped to run at CODE and once more to be written at DATA. */
  space(program: readonly number[]): { root: number; code: number } {
    const root = this.tables();
    const code = this.frame();
    this.put(code, program);
    this.map(CODE, code);
    this.map(DATA, code);
    this.map(ELSEWHERE, this.frame());
    return { root, code };
  }
  run(root: number, n = N, rbx = ELSEWHERE): number {
    this.cpu.setRoot(0, root, 4);
    return this.at(CODE, [RAX, 0], [RCX, n], [RBX, rbx]).finish();
  }
}

describe("frames of the same content", () => {
  it("are decoded and translated once", () => {
    const box = new Box();
    const [a, b] = [box.space(LOOP), box.space(LOOP)];
    for (let i = 0; i < 20; i++) expect(box.run(a.root)).toBe(5 * N);
    const { blocks, regions } = box.cpu.counters;
    expect(regions).toBeGreaterThan(0);
    expect(box.counted(() => expect(box.run(b.root)).toBe(5 * N))("interpreted")).toBeLessThan(10);
    expect([box.cpu.counters.blocks, box.cpu.counters.regions]).toEqual([blocks, regions]);
    expect(box.cpu.cache.twins.members).toBe(1);
  });

  it("part when a guest stores to one of them: it runs what it wrote, the other what it had", () => {
    for (const which of [0, 1]) {
      const box = new Box();
      const spaces = [box.space(STORE), box.space(STORE)] as const;
      for (const s of spaces) expect(box.run(s.root, 1, ELSEWHERE)).toBe(5);
      expect(box.cpu.cache.twins.members).toBe(1);
      const at = DATA + STORED;
      expect(box.run((spaces[which] as { root: number }).root, 1, at)).toBe(3);
      expect(box.cpu.cache.twins.members).toBe(0);
      expect(box.run((spaces[1 - which] as { root: number }).root, 1, ELSEWHERE)).toBe(5);
      expect(box.run((spaces[which] as { root: number }).root, 1, ELSEWHERE)).toBe(3);
    }
  });

  it("part when the host writes one of them, wherever", () => {
    for (const which of [0, 1]) {
      for (const offset of [OPERAND, 2048]) {
        const box = new Box();
        const spaces = [box.space(LOOP), box.space(LOOP)] as const;
        for (const s of spaces) expect(box.run(s.root)).toBe(5 * N);
        expect(box.cpu.cache.twins.members).toBe(1);
        box.mem.w8((spaces[which] as { code: number }).code + offset, 7);
        expect(box.cpu.cache.twins.members).toBe(0);
        const changed = offset === OPERAND ? 7 : 5;
        expect(spaces.map((s) => box.run(s.root))).toEqual(which === 0 ? [changed * N, 5 * N] : [5 * N, changed * N]);
      }
    }
  });

  it("part when the page walk marks one of them as a page table", () => {
    const box = new Box();
    const [a, b] = [box.space(LOOP), box.space(LOOP)];
    for (const s of [a, b]) box.run(s.root);
    // As the second's table of tables: one entry leads to the next level, which lies in the same place of both.
    const next = box.frame();
    for (const s of [a, b]) box.mem.w64(s.code + 8 * 100, next | USER, 0);
    for (const s of [a, b]) box.run(s.root);
    expect(box.cpu.cache.twins.members).toBe(1);
    box.cpu.setRoot(0, b.code, 4);
    box.cpu.translate(100 * 2 ** 39, 0);
    expect(box.mem.r32(b.code + 800) & 0x20).toBe(0x20);
    expect(box.cpu.cache.twins.members).toBe(0);
    expect([box.run(a.root), box.run(b.root)]).toEqual([5 * N, 5 * N]);
  });

  it("share nothing while a debugger has stops", () => {
    const box = new Box();
    const [a, b] = [box.space(LOOP), box.space(LOOP)];
    box.cpu.stops.setBreak(box.frame(), true);
    for (const s of [a, b]) expect(box.run(s.root)).toBe(5 * N);
    expect(box.cpu.cache.twins.members).toBe(0);
  });

  it("part when a debugger sets a stop in one of them", () => {
    const box = new Box();
    const [a, b] = [box.space(LOOP), box.space(LOOP)];
    for (const s of [a, b]) box.run(s.root);
    box.cpu.stops.setBreak(b.code, true);
    expect(box.cpu.cache.twins.members).toBe(0);
    expect(box.run(a.root)).toBe(5 * N);
    box.cpu.setRoot(0, b.root, 4);
    box.cpu.rip = CODE;
    expect(box.cpu.run(1000)).toBe(Exit.BREAK);
  });
});

/** Twins over frames whose code is a count. */
function twinsOf(units: Map<number, number>): { twins: CodeTwins; mem: PhysMem } {
  const mem = new PhysMem(1 << 20);
  const words = (f: number): string => mem.u32.subarray(f * 1024, f * 1024 + 1024).join();
  const twins = new CodeTwins(
    mem,
    {
      hashFrame: (f) => mem.u32[f * 1024] as number,
      sameFrame: (a, b) => (words(a) === words(b) ? 1 : 0),
      dropWriters: () => {},
      codeDropped: () => {},
    },
    {
      frames: () => units.keys(),
      units: (f) => units.get(f) ?? 0,
      dropUnits: (f) => units.delete(f),
      remask: () => {},
    },
  );
  return { twins, mem };
}
const sweep = (twins: CodeTwins, frame: number): void => {
  for (let i = 0; i < 4096; i++) twins.settle(frame);
};

describe("who joins", () => {
  it("is found among all frames now and then: kernels patch themselves after their code was first seen", () => {
    const units = new Map<number, number>();
    const { twins, mem } = twinsOf(units);
    const [a, b] = [mem.firstFrame, mem.firstFrame + 1];
    mem.w32(a * 4096, 1);
    mem.w32(b * 4096, 2);
    for (const f of [a, b]) {
      expect(twins.settle(f)).toBe(false);
      units.set(f, 3);
    }
    mem.w32(b * 4096, 1);
    sweep(twins, a);
    expect([twins.members, twins.codeAddr(b * 4096 + 5), units.has(b)]).toEqual([1, a * 4096 + 5, false]);
  });

  it("is decided by the bytes, not by the hash", () => {
    const units = new Map<number, number>();
    const { twins, mem } = twinsOf(units);
    const [a, b] = [mem.firstFrame, mem.firstFrame + 1];
    mem.w32(b * 4096 + 8, 1);
    twins.settle(a);
    units.set(a, 1);
    expect(twins.settle(b)).toBe(false);
    expect(twins.members).toBe(0);
  });

  it("is not who left again and again", () => {
    const units = new Map<number, number>();
    const { twins, mem } = twinsOf(units);
    const [a, b] = [mem.firstFrame, mem.firstFrame + 1];
    twins.settle(a);
    units.set(a, 1);
    let joins = 0;
    for (let i = 0; i < 20; i++) {
      if (twins.settle(b)) joins++;
      twins.written(b);
    }
    expect(joins).toBe(4);
  });
});
