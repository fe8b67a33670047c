/**
 * Regions that lead on to one another without the dispatcher, and indirect branches whose targets were seen: one rule a test. The loop of
 * each program calls a function on another page, which is not taken into the caller's region (it is longer than what is).
 */
import { describe, expect, it } from "vitest";
import { Exit } from "./exits.js";
import { TF } from "./flags.js";
import { RAX, RBX, RCX, RSI, RSP } from "./insn.js";
import { hex, STOP, TestBox } from "./testing.js";

const CODE = 0x400000;
const FUNCTION = 0x401000;
const OTHER = 0x402000;
const STACK = 0x800000;

const NOPS = new Array<number>(48).fill(0x90);
/** add rax, n; ret — behind so many instructions that it stays a region of its own. */
const adds = (n: number): number[] => [...NOPS, ...hex("4883c0"), n, 0xc3];

class Box extends TestBox {
  constructor(threshold = 8, again = 0) {
    super({ engine: "auto", threshold, again }, [CODE, FUNCTION, OTHER, STACK]);
  }
  /** The loop at CODE is to be run n times. */
  start(n: number): this {
    return this.at(CODE, [RAX, 0], [RCX, n], [RSP, STACK + 0x800]);
  }
  /** It is run; the answer is rax. */
  loop(n: number): number {
    return this.start(n).finish();
  }
}

/** loop: call FUNCTION; dec ecx; jnz loop */
const CALLS = [...hex("e8fb0f0000 ffc9 75f7"), STOP];
/** loop: call rbx; dec ecx; jnz loop */
const CALLS_BY_POINTER = [...hex("ffd3 ffc9 75fa"), STOP];

function caller(): Box {
  const box = new Box();
  box.write(CODE, CALLS);
  box.write(FUNCTION, adds(1));
  expect(box.loop(500)).toBe(500);
  return box;
}

describe("links between regions", () => {
  it("lead from a call to the function and back without the dispatcher", () => {
    const box = caller();
    const n = box.counted(() => expect(box.loop(1000)).toBe(1000));
    expect(n("linked")).toBeGreaterThan(1900);
    expect(n("entered")).toBeLessThan(200);
    expect(n("interpreted")).toBeLessThan(50);
  });

  it("end when the function's code changes", () => {
    const box = caller();
    box.write(FUNCTION + NOPS.length + 3, [2]);
    expect(box.loop(1000)).toBe(2000);
  });

  it("end when the caller's code changes, on the way back", () => {
    const box = caller();
    box.write(CODE + 5, [...hex("48ffc0 ffc9 75f4"), STOP]); // inc rax; dec ecx; jnz loop
    expect(box.loop(1000)).toBe(2000);
  });

  it("end when another page is mapped in the function's place", () => {
    const box = caller();
    const other = box.frame();
    box.put(other, adds(3));
    box.map(FUNCTION, other);
    box.cpu.flushTlb();
    expect(box.loop(1000)).toBe(3000);
  });

  it("are found again after a flush that changes nothing", () => {
    const box = caller();
    const n = box.counted(() => {
      box.cpu.flushTlb();
      expect(box.loop(1000)).toBe(1000);
    });
    expect(n("linked")).toBeGreaterThan(1900);
    expect(n("interpreted")).toBeLessThan(50);
  });

  it("stop when the slice is over", () => {
    const box = caller();
    const { cpu } = box;
    box.start(1_000_000);
    const before = cpu.retired;
    expect(cpu.run(10_000)).toBe(Exit.BUDGET);
    expect(cpu.retired - before).toBeLessThan(10_200);
  });

  it("do not lead past a popf that sets TF", () => {
    const box = new Box();
    // loop: push rbx; popf; call FUNCTION; dec ecx; jnz loop
    box.write(CODE, [...hex("53 9d e8f90f0000 ffc9 75f5"), STOP]);
    box.write(FUNCTION, adds(1));
    box.cpu.setReg(RBX, 0x202, 0);
    expect(box.loop(500)).toBe(500);
    const { cpu } = box;
    cpu.setReg(RBX, 0x202 | TF, 0);
    expect(box.start(1).go()).toEqual({ reason: Exit.EXCEPTION, vector: 1 });
    expect(cpu.rip).toBe(FUNCTION);
  });

  it("are not taken over into another mode", () => {
    const box = caller();
    box.cpu.setTaskSwitched(true);
    // In the function an SSE instruction: #NM while TS is set.
    box.write(FUNCTION, [...hex("0f28c1"), ...adds(1).slice(3)]);
    box.cpu.setTaskSwitched(false);
    expect(box.loop(500)).toBe(500);
    box.cpu.setTaskSwitched(true);
    expect(box.start(2).go()).toEqual({ reason: Exit.EXCEPTION, vector: 7 });
  });
});

describe("indirect branches", () => {
  function pointer(): Box {
    const box = new Box();
    box.write(CODE, CALLS_BY_POINTER);
    box.write(FUNCTION, hex("48ffc0 c3")); // inc rax; ret
    box.cpu.setRegVa(RBX, FUNCTION);
    expect(box.loop(500)).toBe(500);
    return box;
  }

  it("stay in the region where they went before", () => {
    const box = pointer();
    const n = box.counted(() => expect(box.loop(1000)).toBe(1000));
    expect(n("entered") + n("linked")).toBeLessThan(200);
    expect(n("interpreted")).toBeLessThan(50);
  });

  it("go elsewhere when the pointer does", () => {
    const box = pointer();
    box.write(OTHER, adds(5));
    box.cpu.setRegVa(RBX, OTHER);
    expect(box.loop(1000)).toBe(5000);
  });

  function far(): Box {
    const box = new Box();
    box.write(CODE, CALLS_BY_POINTER);
    box.write(FUNCTION, adds(1));
    box.write(OTHER, adds(5));
    box.cpu.setRegVa(RBX, FUNCTION);
    expect(box.loop(500)).toBe(500);
    return box;
  }

  it("lead to another region and back without the dispatcher", () => {
    const box = far();
    const n = box.counted(() => expect(box.loop(1000)).toBe(1000));
    expect(n("linked")).toBeGreaterThan(1900);
    expect(n("entered")).toBeLessThan(200);
  });

  it("follow the pointer to another region, and to what is made or mapped where it points", () => {
    const box = far();
    box.cpu.setRegVa(RBX, OTHER);
    expect([box.loop(500), box.loop(500)]).toEqual([2500, 2500]);
    box.cpu.setRegVa(RBX, FUNCTION);
    box.write(FUNCTION + NOPS.length + 3, [2]);
    expect(box.loop(500)).toBe(1000);
    const other = box.frame();
    box.put(other, adds(3));
    box.map(FUNCTION, other);
    box.cpu.flushTlb();
    expect([box.loop(500), box.loop(500)]).toEqual([1500, 1500]);
  });

  it("take turns between two regions", () => {
    const box = far();
    const by = [...hex("ffd3 4831f3 ffc9 75f7"), STOP]; // loop: call rbx; xor rbx, rsi; dec ecx; jnz loop
    box.write(CODE, by);
    box.cpu.setRegVa(RSI, FUNCTION ^ OTHER);
    for (let i = 0; i < 4; i++) expect(box.loop(500)).toBe(250 * 6);
  });

  it("find a target that changed", () => {
    const box = pointer();
    box.write(FUNCTION, hex("4883c002 c3")); // add rax, 2; ret
    expect(box.loop(1000)).toBe(2000);
  });
});

describe("regions whose pages were missing for a while", () => {
  /** A page goes, its code is wanted, it comes back: as files do in a new process. */
  function without(box: Box, page: number): void {
    box.unmap(FUNCTION);
    box.cpu.flushTlb();
    expect(box.start(1).pageFault().cr2).toBe(FUNCTION);
    box.map(FUNCTION, page);
  }

  it("are looked at again after some rounds of the interpreter's, and entered, not made again", () => {
    const box = new Box(1000);
    box.write(CODE, CALLS);
    box.write(FUNCTION, hex("48ffc0 c3")); // inc rax; ret: in the caller's region
    const page = box.maddr(FUNCTION);
    // The caller is a hundred rounds ahead: none of the other blocks is about to become hot when its region is made.
    for (let i = 0; i < 100; i++) without(box, page);
    expect(box.loop(2500)).toBe(2500);
    expect(box.cpu.counters.regions).toBe(1);
    without(box, page);
    const n = box.counted(() => expect(box.loop(500)).toBe(500));
    expect(n("interpreted")).toBeGreaterThan(0);
    expect(n("interpreted")).toBeLessThan(64 * 5);
    expect(box.cpu.counters.regions).toBe(1);
  });

  it("are entered again, not made again, with all that they call", () => {
    const box = new Box(8, 200);
    const { cpu } = box;
    box.write(CODE, CALLS);
    box.write(FUNCTION, adds(1));
    expect(box.loop(5000)).toBe(5000);
    const made = cpu.regions.stats.again;
    expect(made).toBeGreaterThan(0);
    const page = box.maddr(FUNCTION);
    for (let i = 0; i < 100; i++) {
      without(box, page);
      cpu.flushTlb();
    }
    expect(box.loop(20000)).toBe(20000);
    const n = box.counted(() => expect(box.loop(20000)).toBe(20000));
    expect(cpu.regions.stats.again).toBe(made);
    expect(n("linked")).toBeLessThan(1000);
    expect(n("interpreted")).toBeLessThan(50);
  });
});

describe("regions made with all that they call", () => {
  it("are made from where a loop is entered too, if it is entered there often", () => {
    const box = new Box(8, 200);
    const { cpu } = box;
    // mov edx, 100; call FUNCTION; L: call FUNCTION; dec edx; jnz L; dec ecx; jnz CODE
    box.put(box.maddr(CODE), [...hex("ba64000000 e8f60f0000 e8f10f0000 ffca 75f7 ffc9 75e9"), STOP]);
    box.put(box.maddr(FUNCTION), adds(1));
    // Made from CODE, L is in the inner one of two loops and no entry: where the budget runs out there, an older region goes on.
    for (let i = 0; i < 4; i++) expect(box.loop(500)).toBe(50500);
    const made = cpu.regions.stats.again;
    expect(made).toBeGreaterThan(1);
    const n = box.counted(() => expect(box.loop(500)).toBe(50500));
    expect(n("linked")).toBeLessThan(1000);
    expect(cpu.regions.stats.again).toBe(made);
  });
});

describe("hot code", () => {
  it("that was found before another mode ran is translated all the same, and entered by its own", () => {
    const box = new Box(100);
    const { cpu } = box;
    // loop: dec ecx; jnz loop
    box.write(CODE, [...hex("ffc9 75fc"), STOP]);
    box.write(OTHER, hex("ebfe"));
    box.loop(150);
    const elsewhere = (): void => {
      cpu.rip = OTHER;
      for (let i = 0; i < 40; i++) expect(cpu.run(2)).toBe(Exit.BUDGET);
    };
    cpu.setTaskSwitched(true);
    elsewhere();
    expect(cpu.regions.stats.regions).toBe(1);
    cpu.setTaskSwitched(false);
    const n = box.counted(() => box.loop(150));
    expect(n("interpreted")).toBeLessThan(10);
  });
});
