/**
 * Coming back to an address space: what is kept of it while another one is loaded, and every change that it must not outlast. One rule a test; two
 * spaces, A and B, with the same addresses.
 */
import { describe, expect, it } from "vitest";
import { VirtualClock } from "../clock.js";
import { EPOCHS, EPOCH_LAST, FRAMES_CHANGES, FRAMES_CODE_CHANGED, KEPT_SPACES, ROOT } from "../layout.js";
import { PhysMem, type Maddr } from "../memory.js";
import { READ, type Va } from "./api.js";
import { Cpu } from "./cpu.js";
import { Exit } from "./exits.js";
import { RAX, RBX, RCX, RSP } from "./insn.js";
import { hex, P, TestBox, US, USER } from "./testing.js";

const READ_ONLY = P | US;
const LOWER = 0x400000;
const UPPER = -0x80000000;
const DATA = 0x600000;
const STACK = 0x7ff000;

/** loop: add rax, n; dec ecx; jnz loop; int3 */
const adds = (n: number): number[] => [...hex("4883c0"), n, ...hex("ffc9 75f8 cc")];
/** mov eax, [rbx]; int3 */
const LOADS = hex("8b03 cc");
/** mov [rbx], ecx; int3 */
const STORES = hex("890b cc");

/** An address space: where its top table is. */
type Space = Maddr;

class Box extends TestBox {
  private readonly stack = this.frame();
  readonly a: Space;
  readonly b: Space;

  constructor(threshold = 8, watched = true) {
    super({ engine: "auto", threshold, again: 0 });
    if (watched) this.cpu.watchTables();
    this.b = this.space();
    this.a = this.space();
  }
  /** Another one, with a stack, which is loaded. */
  space(): Space {
    const s = this.tables();
    this.map(STACK, this.stack);
    return s;
  }
  load(s: Space): void {
    this.cpu.setRoot(0, s, 4);
  }
  /** Away and back. */
  visit(other: Space, from: Space): void {
    this.load(other);
    this.load(from);
  }
  /** An entry is changed (0: goes) and, if that is not left out, the CPU told. */
  change(s: Space, va: Va, frame: Maddr, flags = USER, told = true): void {
    this.root = s;
    const { u32 } = this.mem;
    // What is known of one root's upper half counts for all that have the same entries there: one that gets another is told of.
    if (va < 0 && this.mem.r32(s + (Math.floor(va / 2 ** 39) & 511) * 8) === 0) u32[FRAMES_CODE_CHANGED >>> 2] = 7;
    const old = this.mem.r32(this.pte(va));
    if (told && (old & P) !== 0) {
      u32[FRAMES_CHANGES >>> 2] = (u32[FRAMES_CHANGES >>> 2] as number) + 1;
      if (this.mem.hasCode(old >>> 12)) u32[FRAMES_CODE_CHANGED >>> 2] = 7;
    }
    if (frame === 0) this.unmap(va);
    else this.map(va, frame, flags);
  }
  code(bytes: readonly number[]): Maddr {
    const f = this.frame();
    this.put(f, bytes);
    return f;
  }
  data(n: number): Maddr {
    const f = this.frame();
    this.mem.w32(f, n);
    return f;
  }
  start(at: Va, n = 1): this {
    return this.at(at, [RAX, 0], [RCX, n], [RBX, DATA], [RSP, STACK + 0x800]);
  }
  run(at: Va, n = 1): number {
    return this.start(at, n).finish();
  }
  /** The vector that it ends with. */
  vector(at: Va): number {
    return this.start(at).go().vector;
  }
}

/** Both spaces have data of their own and the same program, which has run in both: A is loaded. */
function reader(program = LOADS): Box & { readonly old: Maddr } {
  const box = new Box();
  const code = box.code(program);
  const old = box.data(1);
  box.change(box.a, LOWER, code);
  box.change(box.b, LOWER, code);
  box.change(box.a, DATA, old);
  box.change(box.b, DATA, box.data(2));
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
    box.change(box.a, DATA, box.data(3), USER, false);
    box.load(box.a);
    expect(box.run(LOWER)).toBe(1);
  });

  it("is what its tables say if an entry was changed meanwhile", () => {
    const box = reader();
    box.load(box.b);
    box.change(box.a, DATA, box.data(3));
    box.load(box.a);
    expect(box.run(LOWER)).toBe(3);
  });

  it("is what its tables say if an entry was changed before it was left, and no flush asked for", () => {
    const box = reader();
    box.change(box.a, DATA, box.data(3));
    expect(box.run(LOWER)).toBe(1);
    box.visit(box.b, box.a);
    expect(box.run(LOWER)).toBe(3);
  });

  it("is not there any more if its page was unmapped meanwhile", () => {
    const box = reader();
    box.load(box.b);
    box.change(box.a, DATA, 0);
    box.load(box.a);
    expect(box.vector(LOWER)).toBe(14);
  });

  it("is not written if its page was made read-only meanwhile", () => {
    const box = reader(STORES);
    box.load(box.b);
    box.change(box.a, DATA, box.old, READ_ONLY);
    box.load(box.a);
    expect(box.vector(LOWER)).toBe(14);
  });

  it.each(["flushTlb", "invlpg"] as const)("is looked for anew after %s of another address space", (how) => {
    const box = reader();
    box.load(box.b);
    box.change(box.a, DATA, box.data(3), USER, false);
    if (how === "flushTlb") box.cpu.flushTlb(0);
    else box.cpu.invlpg(LOWER, 0);
    box.load(box.a);
    expect(box.run(LOWER)).toBe(3);
  });

  it("is looked for anew under a root that was given up, and is one again", () => {
    const box = reader();
    box.load(box.b);
    box.cpu.forgetRoot(box.a);
    box.change(box.a, DATA, box.data(3), USER, false);
    box.load(box.a);
    expect(box.run(LOWER)).toBe(3);
  });

  it("is not kept of a root that is given up while it is loaded", () => {
    const box = reader();
    box.cpu.forgetRoot(box.a);
    box.load(box.b);
    box.change(box.a, DATA, box.data(3), USER, false);
    box.load(box.a);
    expect(box.run(LOWER)).toBe(3);
  });

  it("is looked for anew where the root was put back in another way, and all flushed", () => {
    const box = reader();
    box.load(box.b);
    // As a snapshot does.
    box.mem.u32[ROOT >>> 2] = box.a;
    box.cpu.flushTlb();
    expect(box.run(LOWER)).toBe(1);
    box.load(box.b);
    expect(box.run(LOWER)).toBe(2);
    box.load(box.a);
    expect(box.run(LOWER)).toBe(1);
  });

  it("is not written past code that its page holds since", () => {
    const box = reader(STORES);
    box.load(box.b);
    // B runs what A has as data.
    box.put(box.old, adds(1));
    box.change(box.b, LOWER + 0x1000, box.old);
    expect(box.run(LOWER + 0x1000, 5)).toBe(5);
    box.load(box.a);
    // mov [rbx], ecx: "cc" in the place of its first byte.
    expect(box.start(LOWER, 0xcc).go().reason).toBe(Exit.EXCEPTION);
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
    box.cpu.setRoot(1, box.b, 4);
    box.change(box.a, DATA, box.data(3), USER, false);
    box.cpu.setRoot(1, box.a, 4);
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
    box.change(box.a, at, box.code(adds(1)));
    box.change(box.b, at, box.code(adds(2)));
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
    for (const s of [box.a, box.b]) box.change(s, at, code);
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
    box.change(box.a, at, box.code(adds(3)));
    box.load(box.a);
    expect(box.run(at, 500)).toBe(1500);
  });

  it("is what was mapped there before it was left, without a flush", () => {
    const box = runner();
    box.change(box.a, at, box.code(adds(3)));
    box.visit(box.b, box.a);
    expect(box.run(at, 500)).toBe(1500);
  });

  it("is not there any more if its page was unmapped meanwhile", () => {
    const box = runner();
    box.load(box.b);
    box.change(box.a, at, 0);
    box.load(box.a);
    expect(box.vector(at)).toBe(14);
  });

  it("is what is mapped there now if another address space asked for the flush", () => {
    const box = runner();
    box.load(box.b);
    box.change(box.a, at, box.code(adds(3)));
    box.cpu.flushTlb(box.mem.u32[FRAMES_CODE_CHANGED >>> 2]);
    box.mem.u32[FRAMES_CODE_CHANGED >>> 2] = 0;
    box.load(box.a);
    expect(box.run(at, 500)).toBe(1500);
  });

  it("is decoded again if its bytes were changed meanwhile", () => {
    const box = runner();
    const code = box.cpu.codeAddr(at);
    box.load(box.b);
    box.put(code, adds(3));
    box.load(box.a);
    expect(box.run(at, 500)).toBe(1500);
  });

  it("is of the new tables where the root was given up meanwhile", () => {
    const box = runner();
    box.load(box.b);
    box.cpu.forgetRoot(box.a);
    box.change(box.a, at, box.code(adds(3)), USER, false);
    box.load(box.a);
    expect(box.run(at, 500)).toBe(1500);
  });

  it("is found anew after so many others that it is not kept", () => {
    const box = runner();
    for (let i = 0; i < 2 * KEPT_SPACES; i++) {
      const s = box.space();
      box.change(s, at, box.code(adds(i)));
      box.load(s);
      expect(box.run(at, 500)).toBe(500 * i);
    }
    box.change(box.a, at, box.code(adds(3)), USER, false);
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
    box.change(box.a, at, box.code(adds(3)), USER, false);
    box.load(box.a);
    for (let i = 0; i < kept + 2; i++) {
      expect(box.run(at, 500)).toBe(1500);
      box.cpu.flushTlb();
    }
  });

  it("and nothing else is kept where nobody tells of changes to tables", () => {
    const box = new Box(8, false);
    box.change(box.a, at, box.code(adds(1)));
    box.change(box.b, at, box.code(adds(2)));
    expect(box.run(at, 500)).toBe(500);
    box.load(box.b);
    expect(box.run(at, 500)).toBe(1000);
    box.change(box.a, at, box.code(adds(3)), USER, false);
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
    for (const [s, va] of places) code.forEach((f, i) => box.change(s, va + i * 4096, f));
    for (let i = 0; i < 6; i++)
      for (const [s, va] of places) {
        box.load(s);
        expect(box.start(va, 500).go().reason).toBe(Exit.EXCEPTION);
        expect(box.cpu.regVa(RAX)).toBe(va + TELLS);
      }
    expect(box.cpu.counters.regions).toBeGreaterThan(0);
  });

  it("runs at both places of an address space that was come back to", () => {
    const box = new Box();
    const code = [box.code(CALLS), box.code(WHERE)];
    for (const va of [A, B]) code.forEach((f, i) => box.change(box.a, va + i * 4096, f));
    code.forEach((f, i) => box.change(box.b, A + i * 4096, f));
    const at = (va: number): void => {
      expect(box.start(va, 500).go().reason).toBe(Exit.EXCEPTION);
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
    box.change(box.a, LOWER, old);
    expect(box.run(LOWER)).toBe(1);
    // All of its code is overwritten: nothing watches the mapping of a frame without code.
    box.put(old, adds(7));
    expect(box.mem.hasCode(old >>> 12)).toBe(false);
    box.change(box.a, LOWER, box.code(adds(3)));
    box.cpu.invlpg(LOWER, 0);
    expect(box.run(LOWER)).toBe(3);
  });
});
