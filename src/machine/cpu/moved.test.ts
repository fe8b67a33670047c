/**
 * Regions of user code at other addresses than the one they were made at, as position-independent programs and libraries are in every
 * process: the same frames are mapped elsewhere, in the same distances. One rule a test; each with two places, A and B.
 */
import { describe, expect, it } from "vitest";
import { Exit } from "./exits.js";
import { RAX, RBX, RCX, RDX, RSP } from "./insn.js";
import { type Counted, hex, STOP, TestBox } from "./testing.js";

const A = 0x555500400000;
const B = 0x7f1234567000;
/** Where a program's data lies, from its code. */
const DATA = 0x3000;
const STACK = 0x7ffc00000000;

const NOPS = new Array<number>(24).fill(0x90);

class Box extends TestBox {
  /** Three frames of code, one of data. */
  readonly code = [this.frame(), this.frame(), this.frame()] as const;
  readonly data = this.frame();

  constructor() {
    super({ engine: "auto", threshold: 8, again: 0 }, [STACK]);
  }
  /** The program is at a place, with data of its own. */
  place(va: number, data = this.data): void {
    this.code.forEach((maddr, i) => this.map(va + i * 4096, maddr));
    this.map(va + DATA, data);
    this.cpu.flushTlb();
  }
  remove(va: number): void {
    for (let i = 0; i < 4; i++) this.unmap(va + i * 4096);
    this.cpu.flushTlb();
  }
  /** It is to be run from an address with rcx = n. */
  start(at: number, n: number): this {
    return this.at(at, [RAX, 0], [RCX, n], [RSP, STACK + 0x800]);
  }
  /** To the `int3`; the answer is rax. */
  run(at: number, n: number): number {
    return this.start(at, n).finish();
  }
}
const nothingInterpreted = (n: Counted): void => {
  expect(n("moved")).toBeGreaterThan(0);
  expect(n("interpreted")).toBeLessThan(20);
};

/** loop: add rax, [rip + data]; dec ecx; jnz loop */
const READS = [...hex("480305f92f0000 ffc9 75f5"), STOP];
/** loop: call +0x1000; dec ecx; jnz loop */
const CALLS = [...hex("e8fb0f0000 ffc9 75f7"), STOP];
/** add rax, n; ret — behind so many instructions that it stays a region of its own. */
const adds = (n: number): number[] => [...NOPS, ...NOPS, ...hex("4883c0"), n, 0xc3];

function reader(): Box {
  const box = new Box();
  box.put(box.code[0], READS);
  box.mem.w32(box.data, 3);
  box.place(A);
  expect(box.run(A, 100)).toBe(300);
  return box;
}
function caller(): Box {
  const box = new Box();
  box.put(box.code[0], CALLS);
  box.put(box.code[1], adds(1));
  box.place(A);
  expect(box.run(A, 500)).toBe(500);
  return box;
}

describe("a region at another address", () => {
  it("runs there, and no second one is made", () => {
    const box = reader();
    box.remove(A);
    box.place(B);
    const before = box.cpu.counters.regions;
    nothingInterpreted(box.counted(() => expect(box.run(B, 1000)).toBe(3000)));
    expect(box.cpu.counters.regions).toBe(before);
  });

  it("reads the data that lies beside it there", () => {
    const box = reader();
    const other = box.frame();
    box.mem.w32(other, 5);
    box.remove(A);
    box.place(B, other);
    nothingInterpreted(box.counted(() => expect(box.run(B, 1000)).toBe(5000)));
  });

  it("computes its own addresses with lea, and pushes return addresses of there", () => {
    const box = new Box();
    // loop: lea rdx, [rip]; call f; dec ecx; jnz loop; int3; f: mov rax, [rsp]; sub rax, rdx; mov rbx, [rsp]; ret
    box.put(box.code[0], [...hex("488d1500000000 e805000000 ffc9 75f0 cc"), ...hex("488b0424 4829d0 488b1c24 c3")]);
    for (const at of [A, B]) {
      box.place(at);
      const n = box.counted(() => expect(box.run(at, 500)).toBe(5));
      expect([box.cpu.regVa(RDX), box.cpu.regVa(RBX)]).toEqual([at + 7, at + 12]);
      if (at === B) nothingInterpreted(n);
      box.remove(at);
    }
  });

  it("stops there when its slice is over", () => {
    const box = reader();
    box.remove(A);
    box.place(B);
    const { cpu } = box;
    box.start(B, 1_000_000);
    expect(cpu.run(10_000)).toBe(Exit.BUDGET);
    expect([B, B + 7, B + 9]).toContain(cpu.rip);
  });

  it("faults with the RIP and the CR2 of there", () => {
    const box = reader();
    box.remove(A);
    box.place(B);
    box.unmap(B + DATA);
    box.cpu.flushTlb();
    expect(box.start(B, 100).pageFault()).toEqual({ error: 4, cr2: B + DATA, rip: B });
  });

  it("leads on along its links, and returns, by the addresses of there", () => {
    const box = caller();
    box.remove(A);
    box.place(B);
    const n = box.counted(() => expect(box.run(B, 1000)).toBe(1000));
    nothingInterpreted(n);
    expect(n("linked")).toBeGreaterThan(1900);
    expect(n("entered")).toBeLessThan(200);
  });

  it("takes what an indirect branch usually goes to where that is there", () => {
    const box = new Box();
    // loop: lea rbx, [rip + f]; call rbx; dec ecx; jnz loop; int3; f: inc rax; ret
    box.put(box.code[0], hex("488d1d07000000 ffd3 ffc9 75f3 cc 90 48ffc0 c3"));
    box.place(A);
    expect(box.run(A, 500)).toBe(500);
    box.remove(A);
    box.place(B);
    const n = box.counted(() => expect(box.run(B, 1000)).toBe(1000));
    nothingInterpreted(n);
    expect(n("entered") + n("linked")).toBeLessThan(200);
  });

  it("finds the functions of a library whose distance differs in every process", () => {
    const box = new Box();
    // loop: call [rip + data]; dec ecx; jnz loop
    box.put(box.code[0], [...hex("ff15fa2f0000 ffc9 75f6"), STOP]);
    const library = box.frame();
    box.put(library, hex("48ffc0 c3"));
    const place = (at: number, lib: number): void => {
      box.place(at);
      box.map(lib, library);
      box.mem.w64(box.data, lib % 2 ** 32, Math.floor(lib / 2 ** 32));
      box.cpu.flushTlb();
    };
    place(A, 0x7f0000001000);
    expect(box.run(A, 500)).toBe(500);
    box.remove(A);
    box.unmap(0x7f0000001000);
    place(B, 0x7f7777771000);
    const n = box.counted(() => expect(box.run(B, 1000)).toBe(1000));
    nothingInterpreted(n);
    expect(n("linked")).toBeGreaterThan(1900);
    expect(n("entered")).toBeLessThan(200);
  });

  it("is not entered where only part of its pages moved along", () => {
    const box = caller();
    box.put(box.code[0], CALLS);
    box.remove(A);
    box.place(B);
    const other = box.frame();
    box.put(other, adds(3));
    box.map(B + 0x1000, other);
    box.cpu.flushTlb();
    expect(box.run(B, 1000)).toBe(3000);
  });

  it("is not entered there if one region's pages are not all the same", () => {
    const box = new Box();
    // loop: jmp +0x1000 (where: inc rax; jmp back); dec ecx; jnz loop
    box.put(box.code[0], [...hex("e9fb0f0000 ffc9 75f7"), STOP]);
    box.put(box.code[1], hex("48ffc0 e9fdefffff"));
    box.place(A);
    expect(box.run(A, 500)).toBe(500);
    box.remove(A);
    box.place(B);
    const other = box.frame();
    box.put(other, hex("4883c002 e9fcefffff"));
    box.map(B + 0x1000, other);
    box.cpu.flushTlb();
    expect(box.run(B, 1000)).toBe(2000);
  });

  it("notices when its code changes", () => {
    const box = reader();
    box.place(B);
    expect(box.run(B, 100)).toBe(300);
    box.put(box.code[0] + 1, [0x2b]); // sub rax, [rip + data]
    expect(box.run(B, 100) | 0).toBe(-300);
    expect(box.run(A, 100) | 0).toBe(-300);
  });

  it("is entered at once where its blocks are decoded anew", () => {
    const box = reader();
    box.remove(A);
    box.place(B);
    expect(box.run(B, 100)).toBe(300);
    box.remove(B);
    const C = 0x7e0000000000;
    box.place(C);
    nothingInterpreted(box.counted(() => expect(box.run(C, 1000)).toBe(3000)));
  });
});

describe("two mappings in one address space", () => {
  it("take turns, each with its own data and its own way back", () => {
    const box = caller();
    // f adds the data word beside it.
    box.put(box.code[1], [...NOPS, ...hex("480305e11f0000 c3"), STOP]);
    const data = [box.frame(), box.frame()] as const;
    box.mem.w32(data[0], 1);
    box.mem.w32(data[1], 7);
    box.place(A, data[0]);
    box.place(B, data[1]);
    for (let round = 0; round < 20; round++) {
      expect(box.run(A, 100)).toBe(100);
      expect(box.run(B, 100)).toBe(700);
    }
    nothingInterpreted(
      box.counted(() => {
        expect(box.run(A, 100)).toBe(100);
        expect(box.run(B, 100)).toBe(700);
      }),
    );
  });

  it("note no link over the beginning of an epoch, for what leads from it may be at another place in the next", () => {
    const box = new Box();
    box.put(box.code[0], CALLS);
    // f: add rax, [rip + data]; int3
    box.put(box.code[1], [...NOPS, ...hex("480305e11f0000"), STOP]);
    const data = [box.frame(), box.frame()] as const;
    box.mem.w32(data[0], 1);
    box.mem.w32(data[1], 7);
    box.place(A, data[0]);
    box.place(B, data[1]);
    for (let i = 0; i < 50; i++) expect(box.run(A, 1) + box.run(B, 1)).toBe(8);
    box.cpu.flushTlb();
    // Only the function at B, then the loop at A: its call finds the function's region elsewhere.
    expect([box.run(B + 0x1000, 0), box.run(A, 1), box.run(B, 1)]).toEqual([7, 1, 7]);
  });

  it("call one another, and no link leads to the wrong one", () => {
    const box = new Box();
    // loop: add rax, [rip + data]; call rbx if rdx is 0: the loop of the other mapping, once; dec ecx; jnz loop; ret
    // 0: add rax,[rip+data]; 7: test rdx,rdx; a: jne +0x10 (1c); c: push rcx; d: mov ecx,3; 12: inc edx; 14: call rbx;
    // 16: dec edx; 18: pop rcx; 19: nop*3; 1c: call +0x1000; 21: dec ecx; 23: jne 0; 25: ret
    box.put(
      box.code[0],
      hex("480305f92f0000 4885d2 7510 51 b903000000 ffc2 ffd3 ffca 59 909090 e8df0f0000 ffc9 75db c3"),
    );
    // f: add rax, [rip + data + 8]; ret
    box.put(box.code[1], [...NOPS, ...hex("480305e91f0000 c3"), STOP]);
    const stop = box.frame();
    box.put(stop, [STOP]);
    box.map(0x7d0000000000, stop);
    const data = [box.frame(), box.frame()] as const;
    box.mem.w32(data[0], 1);
    box.mem.w32(data[0] + 8, 10);
    box.mem.w32(data[1], 100);
    box.mem.w32(data[1] + 8, 1000);
    box.place(A, data[0]);
    box.place(B, data[1]);
    for (const [here, there, sum] of [
      [A, B, 50 * 11 + 150 * 1100],
      [B, A, 50 * 1100 + 150 * 11],
      [A, B, 50 * 11 + 150 * 1100],
    ] as const) {
      box.mem.w64(box.maddr(STACK + 0x800), 0, 0x7d00);
      box.at(here, [RAX, 0], [RCX, 50], [RDX, 0], [RBX, there], [RSP, STACK + 0x800]);
      expect(box.finish()).toBe(sum);
    }
  });
});
