/**
 * Coming back to an address space: what is kept of it while another one is loaded, and every change that it must not outlast. One rule a test; two
 * spaces, A and B, with the same addresses.
 */
import { describe, expect, it } from "vitest";
import { VirtualClock } from "../clock.js";
import { EPOCHS, EPOCH_LAST, FRAMES_CHANGES, FRAMES_CODE_CHANGED, KEPT_SPACES } from "../layout.js";
import { PhysMem } from "../memory.js";
import { READ } from "./api.js";
import { engineCounters, type EngineCounters } from "./counters.js";
import { Cpu } from "./cpu.js";
import { Exit, type ExitReason } from "./exits.js";

const USER = 7;
const READ_ONLY = 5;
const LOWER = 0x400000;
const UPPER = -0x80000000;
const DATA = 0x600000;
const STACK = 0x7ff000;
const RAX = 0,
  RCX = 1,
  RBX = 3,
  RSP = 4;

const hex = (text: string): number[] => (text.replace(/\s/g, "").match(/../g) ?? []).map((x) => parseInt(x, 16));
/** loop: add rax, n; dec ecx; jnz loop; int3 */
const adds = (n: number): number[] => [...hex("4883c0"), n, ...hex("ffc9 75f8 cc")];
/** mov eax, [rbx]; int3 */
const LOADS = hex("8b03 cc");
/** mov [rbx], ecx; int3 */
const STORES = hex("890b cc");

interface Space {
  readonly root: number;
}

class Box {
  readonly mem = new PhysMem(8 << 20);
  readonly cpu: Cpu;
  private next = this.mem.firstFrame;
  readonly stack = this.frame();
  readonly a: Space;
  readonly b: Space;

  constructor(threshold = 8, watched = true) {
    this.cpu = new Cpu(this.mem, new VirtualClock(), { engine: "auto", threshold, again: 0 });
    if (watched) this.cpu.watchTables();
    this.a = this.space();
    this.b = this.space();
    this.load(this.a);
    this.cpu.setMode({ bits: 64, cpl: 3, space: 0 });
    this.cpu.rflags = 0x202;
  }
  frame(): number {
    const mfn = this.next++;
    this.mem.zeroFrame(mfn);
    return mfn * 4096;
  }
  space(): Space {
    const s = { root: this.frame() };
    this.map(s, STACK, this.stack);
    return s;
  }
  load(s: Space): void {
    this.cpu.setRoot(0, s.root, 4);
  }
  /** Away and back. */
  visit(other: Space, from: Space): void {
    this.load(other);
    this.load(from);
  }
  pte({ root }: Space, va: number): number {
    let table = root;
    for (let level = 3; level > 0; level--) {
      const at = table + (Math.floor(va / 2 ** (12 + 9 * level)) & 511) * 8;
      if (this.mem.r32(at) === 0) this.mem.w64(at, this.frame() | USER, 0);
      table = this.mem.r32(at) & ~4095;
    }
    return table + (Math.floor(va / 4096) & 511) * 8;
  }
  /** An entry is changed and, if that is not left out, the CPU told. */
  map(s: Space, va: number, maddr: number, flags = USER, told = true): void {
    const at = this.pte(s, va);
    const { u32 } = this.mem;
    const old = this.mem.r32(at);
    if (told && (old & 1) !== 0) {
      u32[FRAMES_CHANGES >>> 2] = (u32[FRAMES_CHANGES >>> 2] as number) + 1;
      if (this.mem.hasCode(old >>> 12)) u32[FRAMES_CODE_CHANGED >>> 2] = 7;
    }
    this.mem.w64(at, maddr === 0 ? 0 : maddr | flags, 0);
  }
  write(maddr: number, bytes: readonly number[]): void {
    bytes.forEach((b, i) => this.mem.w8(maddr + i, b));
  }
  code(bytes: readonly number[]): number {
    const f = this.frame();
    this.write(f, bytes);
    return f;
  }
  data(n: number): number {
    const f = this.frame();
    this.mem.w32(f, n);
    return f;
  }
  start(at: number, n: number): ExitReason {
    const { cpu } = this;
    cpu.setReg(RAX, 0, 0);
    cpu.setReg(RCX, n, 0);
    cpu.setRegVa(RBX, DATA);
    cpu.setRegVa(RSP, STACK + 0x800);
    cpu.rip = at;
    for (;;) {
      const reason = cpu.run(1000);
      if (reason !== Exit.BUDGET) return reason;
    }
  }
  run(at: number, n = 1): number {
    expect({ reason: this.start(at, n), vector: this.cpu.exit.vector }).toEqual({ reason: Exit.EXCEPTION, vector: 3 });
    return this.cpu.regLo(RAX);
  }
  /** The vector that it ends with. */
  vector(at: number): number {
    expect(this.start(at, 1)).toBe(Exit.EXCEPTION);
    return this.cpu.exit.vector;
  }
  counted(run: () => void): (what: keyof EngineCounters) => number {
    const before = engineCounters(this.cpu);
    run();
    const after = engineCounters(this.cpu);
    return (what) => Number(after[what]) - Number(before[what]);
  }
}

/** Both spaces have data of their own and the same program, which has run in both: A is loaded. */
function reader(program = LOADS): Box & { readonly old: number } {
  const box = new Box();
  const code = box.code(program);
  const old = box.data(1);
  box.map(box.a, LOWER, code);
  box.map(box.b, LOWER, code);
  box.map(box.a, DATA, old);
  box.map(box.b, DATA, box.data(2));
  box.run(LOWER);
  box.load(box.b);
  box.run(LOWER);
  box.load(box.a);
  box.run(LOWER);
  return Object.assign(box, { old });
}

describe("data of an address space that is come back to", () => {
  it("is found as it was left, without a look at its tables", () => {
    const box = reader();
    box.load(box.b);
    expect(box.run(LOWER)).toBe(2);
    // Not told: this is how it can be seen that the tables are not looked at.
    box.map(box.a, DATA, box.data(3), USER, false);
    box.load(box.a);
    expect(box.run(LOWER)).toBe(1);
  });

  it("is what its tables say if an entry was changed meanwhile", () => {
    const box = reader();
    box.load(box.b);
    box.map(box.a, DATA, box.data(3));
    box.load(box.a);
    expect(box.run(LOWER)).toBe(3);
  });

  it("is what its tables say if an entry was changed before it was left, and no flush asked for", () => {
    const box = reader();
    box.map(box.a, DATA, box.data(3));
    expect(box.run(LOWER)).toBe(1);
    box.visit(box.b, box.a);
    expect(box.run(LOWER)).toBe(3);
  });

  it("is not there any more if its page was unmapped meanwhile", () => {
    const box = reader();
    box.load(box.b);
    box.map(box.a, DATA, 0);
    box.load(box.a);
    expect(box.vector(LOWER)).toBe(14);
  });

  it("is not written if its page was made read-only meanwhile", () => {
    const box = reader(STORES);
    box.load(box.b);
    box.map(box.a, DATA, box.old, READ_ONLY);
    box.load(box.a);
    expect(box.vector(LOWER)).toBe(14);
  });

  it.each(["flushTlb", "invlpg"] as const)("is looked for anew after %s of another address space", (how) => {
    const box = reader();
    box.load(box.b);
    box.map(box.a, DATA, box.data(3), USER, false);
    if (how === "flushTlb") box.cpu.flushTlb(0);
    else box.cpu.invlpg(LOWER, 0);
    box.load(box.a);
    expect(box.run(LOWER)).toBe(3);
  });

  it("is looked for anew under a root that was given up, and is one again", () => {
    const box = reader();
    box.load(box.b);
    box.cpu.forgetRoot(box.a.root);
    box.map(box.a, DATA, box.data(3), USER, false);
    box.load(box.a);
    expect(box.run(LOWER)).toBe(3);
  });

  it("is not kept of a root that is given up while it is loaded", () => {
    const box = reader();
    box.cpu.forgetRoot(box.a.root);
    box.load(box.b);
    box.map(box.a, DATA, box.data(3), USER, false);
    box.load(box.a);
    expect(box.run(LOWER)).toBe(3);
  });

  it("is not written past code that its page holds since", () => {
    const box = reader(STORES);
    box.load(box.b);
    // B runs what A has as data.
    box.write(box.old, adds(1));
    box.map(box.b, LOWER + 0x1000, box.old);
    expect(box.run(LOWER + 0x1000, 5)).toBe(5);
    box.load(box.a);
    // mov [rbx], ecx: "cc" in the place of its first byte.
    expect(box.start(LOWER, 0xcc)).toBe(Exit.EXCEPTION);
    box.load(box.b);
    expect(box.run(LOWER + 0x1000, 5)).toBe(0);
  });

  it("is of the frame that a frame number stands for now", () => {
    const mem = new PhysMem(8 << 20, 16);
    const cpu = new Cpu(mem, new VirtualClock(), { engine: "auto" });
    cpu.watchTables();
    let next = mem.firstFrame;
    const frame = (): number => {
      mem.zeroFrame(next);
      return next++;
    };
    const [one, two] = [frame(), frame()];
    mem.w32(one * 4096, 1);
    mem.w32(two * 4096, 2);
    mem.aliasTable[0] = one;
    const roots = [0, 1].map(() => {
      const tables = [frame(), frame(), frame(), frame()] as const;
      for (let i = 0; i < 3; i++) mem.w64((tables[i] as number) * 4096, ((tables[i + 1] as number) << 12) | USER, 0);
      mem.w64(tables[3] * 4096 + 8, (mem.frames << 12) | USER, 0);
      return tables[0] * 4096;
    }) as [number, number];
    cpu.setRoot(0, roots[0], 4);
    cpu.setMode({ bits: 64, cpl: 3, space: 0 });
    expect(mem.r32(cpu.translate(4096, READ))).toBe(1);
    cpu.setRoot(0, roots[1], 4);
    mem.aliasTable[0] = two;
    mem.onRemap(one);
    cpu.setRoot(0, roots[0], 4);
    expect(mem.r32(cpu.translate(4096, READ))).toBe(2);
  });

  it("of one of two address spaces is kept when the other one changes", () => {
    const box = reader();
    box.cpu.setRoot(1, box.b.root, 4);
    box.map(box.a, DATA, box.data(3), USER, false);
    box.cpu.setRoot(1, box.a.root, 4);
    expect(box.run(LOWER)).toBe(1);
  });
});

describe.each([
  ["the lower half", LOWER],
  ["the upper half", UPPER],
])("code in %s of an address space that is come back to", (_half, at) => {
  /** A adds one, B two; both have run. A is loaded. */
  function runner(threshold = 8): Box {
    const box = new Box(threshold);
    box.map(box.a, at, box.code(adds(1)));
    box.map(box.b, at, box.code(adds(2)));
    for (let i = 0; i < 3; i++) {
      expect(box.run(at, 500)).toBe(500);
      box.load(box.b);
      expect(box.run(at, 500)).toBe(1000);
      box.load(box.a);
    }
    return box;
  }

  it("is found without a look-up", () => {
    const box = runner();
    const n = box.counted(() => {
      for (let i = 0; i < 10; i++) {
        box.load(box.b);
        expect(box.run(at, 500)).toBe(1000);
        box.load(box.a);
        expect(box.run(at, 500)).toBe(500);
      }
    });
    expect(n("lookups")).toBe(0);
    expect(n("regionChecks")).toBe(0);
  });

  it("is found without a look-up where both have the same", () => {
    const box = new Box();
    const code = box.code(adds(1));
    for (const s of [box.a, box.b]) box.map(s, at, code);
    const both = (): void => {
      for (const s of [box.a, box.b]) {
        box.load(s);
        expect(box.run(at, 500)).toBe(500);
      }
    };
    for (let i = 0; i < 3; i++) both();
    expect(box.counted(both)("lookups")).toBe(0);
  });

  it.each([
    ["a region", 8],
    ["interpreted", 0],
  ])("is what is mapped there now (%s)", (_how, threshold) => {
    const box = runner(threshold);
    box.load(box.b);
    box.map(box.a, at, box.code(adds(3)));
    box.load(box.a);
    expect(box.run(at, 500)).toBe(1500);
  });

  it("is what was mapped there before it was left, without a flush", () => {
    const box = runner();
    box.map(box.a, at, box.code(adds(3)));
    box.visit(box.b, box.a);
    expect(box.run(at, 500)).toBe(1500);
  });

  it("is not there any more if its page was unmapped meanwhile", () => {
    const box = runner();
    box.load(box.b);
    box.map(box.a, at, 0);
    box.load(box.a);
    expect(box.vector(at)).toBe(14);
  });

  it("is what is mapped there now if another address space asked for the flush", () => {
    const box = runner();
    box.load(box.b);
    box.map(box.a, at, box.code(adds(3)));
    box.cpu.flushTlb(box.mem.u32[FRAMES_CODE_CHANGED >>> 2]);
    box.mem.u32[FRAMES_CODE_CHANGED >>> 2] = 0;
    box.load(box.a);
    expect(box.run(at, 500)).toBe(1500);
  });

  it("is decoded again if its bytes were changed meanwhile", () => {
    const box = runner();
    const code = box.cpu.codeAddr(at);
    box.load(box.b);
    box.write(code, adds(3));
    box.load(box.a);
    expect(box.run(at, 500)).toBe(1500);
  });

  it("is of the new tables where the root was given up meanwhile", () => {
    const box = runner();
    box.load(box.b);
    box.cpu.forgetRoot(box.a.root);
    box.map(box.a, at, box.code(adds(3)), USER, false);
    box.load(box.a);
    expect(box.run(at, 500)).toBe(1500);
  });

  it("is found anew after so many others that it is not kept", () => {
    const box = runner();
    for (let i = 0; i < 2 * KEPT_SPACES; i++) {
      const s = box.space();
      box.map(s, at, box.code(adds(i)));
      box.load(s);
      expect(box.run(at, 500)).toBe(500 * i);
    }
    box.map(box.a, at, box.code(adds(3)), USER, false);
    box.load(box.a);
    expect(box.run(at, 500)).toBe(1500);
  });

  it("is not found by what was kept before the count of epochs began again", () => {
    const box = runner();
    const { u32 } = box.mem;
    box.load(box.b);
    const kept = u32[EPOCHS >>> 2] as number;
    u32[EPOCH_LAST >>> 2] = (1 << 21) - 1;
    box.cpu.flushTlb();
    expect(u32[EPOCH_LAST >>> 2]).toBeLessThan(kept);
    // The numbers of A's time come again, with other code there.
    box.map(box.a, at, box.code(adds(3)), USER, false);
    box.load(box.a);
    for (let i = 0; i < kept + 2; i++) {
      expect(box.run(at, 500)).toBe(1500);
      box.cpu.flushTlb();
    }
  });

  it("and nothing else is kept where nobody tells of changes to tables", () => {
    const box = new Box(8, false);
    box.map(box.a, at, box.code(adds(1)));
    box.map(box.b, at, box.code(adds(2)));
    expect(box.run(at, 500)).toBe(500);
    box.load(box.b);
    expect(box.run(at, 500)).toBe(1000);
    box.map(box.a, at, box.code(adds(3)), USER, false);
    box.load(box.a);
    expect(box.run(at, 500)).toBe(1500);
  });
});

describe("a region that runs at other addresses", () => {
  const A = 0x555500400000;
  const B = 0x7f1234567000;
  /** call +0x1000; dec ecx; jnz; int3 — and there: lea rax, [rip]; ret, so many instructions further that it stays a region of its own. */
  const CALLS = hex("e8fb0f0000 ffc9 75f7 cc");
  const WHERE = [...new Array<number>(48).fill(0x90), ...hex("488d0500000000 c3")];
  const TELLS = 0x1000 + 48 + 7;

  it("runs where each address space has it, however often they take turns", () => {
    const box = new Box();
    const code = [box.code(CALLS), box.code(WHERE)];
    const places = [
      [box.a, A],
      [box.b, B],
    ] as const;
    for (const [s, va] of places) code.forEach((f, i) => box.map(s, va + i * 4096, f));
    for (let i = 0; i < 6; i++)
      for (const [s, va] of places) {
        box.load(s);
        expect(box.start(va, 500)).toBe(Exit.EXCEPTION);
        expect(box.cpu.regVa(RAX)).toBe(va + TELLS);
      }
    expect(box.cpu.counters.regions).toBeGreaterThan(0);
  });

  it("runs at both places of an address space that was come back to", () => {
    const box = new Box();
    const code = [box.code(CALLS), box.code(WHERE)];
    for (const va of [A, B]) code.forEach((f, i) => box.map(box.a, va + i * 4096, f));
    code.forEach((f, i) => box.map(box.b, A + i * 4096, f));
    const at = (va: number): void => {
      expect(box.start(va, 500)).toBe(Exit.EXCEPTION);
      expect(box.cpu.regVa(RAX)).toBe(va + TELLS);
    };
    for (let i = 0; i < 4; i++) {
      at(A);
      box.load(box.b);
      at(A);
      box.load(box.a);
      at(B);
      at(A);
    }
  });
});

describe("a page of code", () => {
  it("is the one that is mapped now, though the code that was in the old one had gone before", () => {
    const box = new Box();
    const old = box.code(adds(1));
    box.map(box.a, LOWER, old);
    expect(box.run(LOWER)).toBe(1);
    // All of its code is overwritten: nothing watches the mapping of a frame without code.
    box.write(old, adds(7));
    expect(box.mem.hasCode(old >>> 12)).toBe(false);
    box.map(box.a, LOWER, box.code(adds(3)));
    box.cpu.invlpg(LOWER, 0);
    expect(box.run(LOWER)).toBe(3);
  });
});
