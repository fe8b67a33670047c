/**
 * Decoded blocks one after the other, and the function that runs the commonest shapes: one rule a test. The program is a loop that calls a
 * function on another page.
 */
import { describe, expect, it } from "vitest";
import { CPU, CPU_CONTEXT_SIZE, EPOCHS, EPOCH_LAST, RECORDS, REC_AT } from "../../layout.js";
import { RAX, RBP, RBX, RCX, RSI, RSP } from "../insn.js";
import { hex, TestBox } from "../testing.js";

const CODE = 0x400000;
const FUNCTION = 0x401000;
const OTHER = 0x402000;
const DATA = 0x600000;
const STACK = 0x800000;

/** call rbx; dec ecx; jnz; int3 */
const LOOP = hex("ffd3 ffc9 75fa cc");
/** add rax, n; ret */
const adds = (n: number): number[] => [...hex("4883c0"), n, 0xc3];
/** lea rax, [rip]; ret: the function's address + 7 */
const WHERE = hex("488d0500000000 c3");

class Box extends TestBox {
  constructor(code: readonly number[] = LOOP) {
    super({ engine: "interpreter" }, [CODE, FUNCTION, OTHER, DATA, STACK]);
    this.write(CODE, code);
  }
  /** From CODE to its int3, `slice` instructions at a time; what rax then is. */
  run(n: number, fn = FUNCTION, slice = 1000): number {
    return this.at(CODE, [RAX, 0], [RCX, n], [RBX, fn], [RSP, STACK + 0x800]).finish(slice);
  }
}

describe("a block", () => {
  it("is whole where other blocks were before everything was forgotten", () => {
    const box = new Box();
    box.write(FUNCTION, adds(3));
    expect(box.run(10)).toBe(30);
    box.cpu.forgetCode();
    box.mem.u8.fill(0xff, RECORDS, RECORDS + 65536);
    expect(box.run(10)).toBe(30);
  });
});

describe("a block that ran after another", () => {
  it("is not run again when the host has changed its bytes", () => {
    const box = new Box();
    box.write(FUNCTION, adds(1));
    expect(box.run(10)).toBe(10);
    box.write(FUNCTION, adds(2));
    expect(box.run(10)).toBe(20);
  });

  it("is not run again when the guest has changed its bytes in between", () => {
    // call rbx; cmp ecx, 2; jne; mov byte [rbx + 3], cl; dec ecx; jnz; int3
    const box = new Box(hex("ffd3 83f902 7503 884b03 ffc9 75f2 cc"));
    box.write(FUNCTION, adds(100));
    expect(box.run(10)).toBe(9 * 100 + 2);
  });

  it("is not run when another frame is mapped where it was", () => {
    const box = new Box();
    box.write(FUNCTION, adds(1));
    box.write(OTHER, adds(5));
    expect(box.run(10)).toBe(10);
    box.map(FUNCTION, box.maddr(OTHER));
    box.cpu.invlpg(FUNCTION);
    expect(box.run(10)).toBe(50);
  });

  it("is not run in the place of another that an indirect branch now leads to", () => {
    const box = new Box();
    box.write(FUNCTION, adds(1));
    box.write(OTHER, adds(5));
    for (let i = 0; i < 3; i++) {
      expect(box.run(10)).toBe(10);
      expect(box.run(10, OTHER)).toBe(50);
    }
  });

  it("runs as itself at each of the addresses that its frame is mapped at", () => {
    const box = new Box();
    box.write(FUNCTION, WHERE);
    box.map(OTHER, box.maddr(FUNCTION));
    for (let i = 0; i < 3; i++) {
      expect(box.run(3)).toBe(FUNCTION + 7);
      expect(box.run(3, OTHER)).toBe(OTHER + 7);
    }
  });

  it("is not found by what was known before the count of epochs began again", () => {
    const box = new Box();
    box.write(FUNCTION, adds(1));
    box.write(OTHER, adds(5));
    const { u32 } = box.mem;
    const begin = (epoch: number): void => {
      u32.fill(epoch, EPOCHS >>> 2, (EPOCHS >>> 2) + 4);
      u32[EPOCH_LAST >>> 2] = epoch;
    };
    begin(1);
    expect(box.run(10)).toBe(10);
    box.map(FUNCTION, box.maddr(OTHER));
    begin((1 << 21) - 1);
    box.cpu.flushTlb();
    expect(u32[EPOCHS >>> 2]).toBe(1);
    expect(box.run(10)).toBe(50);
  });
});

describe("the function of the commonest shapes", () => {
  /** Moves of all sizes, arithmetic, a stack, branches, a shape that is rare (bswap, mul), and a store to code that comes next. */
  const program = [
    ...hex("4889c8 8945f0 488b55f0 0fb645f0 4801d0 4829c8 4839d0 7402 31d2 85c0 7801 90 50 5a"),
    ...hex("0fc8 48f7e1 488d4408 05 480faf45f0 884602 886e03 66894604 01460c 80460401 8346 10ff"),
    ...hex("e800000000 5a 488d5a0a c6430101 b001 ffc9 75ac cc"),
  ];
  const state = (box: Box): unknown => [
    ...box.mem.u8.subarray(CPU, CPU + CPU_CONTEXT_SIZE),
    ...box.mem.u8.subarray(box.maddr(DATA), box.maddr(DATA) + 4096),
  ];
  const boxes = (): Box[] =>
    [true, false].map((fused) => {
      const box = new Box(program);
      if (!fused) box.cpu.core.setFused(0, 0, 0);
      box.cpu.setRegVa(RBP, DATA + 0x100);
      box.cpu.setRegVa(RSI, DATA + 0xffe);
      box.map(DATA + 0x1000, box.frame());
      return box;
    });

  it("leaves what their handlers leave, one by one, wherever it is stopped", () => {
    for (const slice of [1000, 7, 3, 1]) {
      const [fused, single] = boxes() as [Box, Box];
      fused.run(9, FUNCTION, slice);
      single.run(9, FUNCTION, slice);
      expect(fused.mem.u32[REC_AT >>> 2]).not.toBe(0);
      expect(single.mem.u32[REC_AT >>> 2]).toBe(0);
      expect(state(fused)).toEqual(state(single));
      expect(fused.cpu.retired).toBe(single.cpu.retired);
    }
  });
});
