/** Handlers by shape: which instructions share one, and what is known about the flags after it. */
import { describe, expect, it } from "vitest";
import { VirtualClock } from "../../clock.js";
import { PhysMem } from "../../memory.js";
import { Cpu } from "../cpu.js";
import { decode } from "../decode/index.js";
import { CC, ccOp } from "../flags.js";
import type { Handler } from "./handlers.js";
import { CC_SAME, CC_UNKNOWN, InterpreterSem } from "./sem.js";
import type { Insn } from "../insn.js";

const cpu = new Cpu(new PhysMem(1 << 20), new VirtualClock(), { engine: "interpreter" });
const insnOf = (hex: string): Insn => {
  const bytes = new Uint8Array(16);
  (hex.match(/../g) ?? []).forEach((x, i) => (bytes[i] = parseInt(x, 16)));
  const insn = decode(bytes, 0, 16, 64);
  if (!insn) throw new Error(`${hex} does not decode`);
  return insn;
};
const handler = (hex: string, known: number = CC_UNKNOWN): Handler => cpu["handlers"].get(insnOf(hex), cpu.mode, known);

describe("handlers", () => {
  it("serve all registers, immediates and displacements of a shape", () => {
    expect(handler("4801d8")).toBe(handler("4d01f7")); // add rax, rbx; add r15, r14
    expect(handler("81c078563412")).toBe(handler("81c300000000")); // add eax, imm32; add ebx, imm32
    expect(handler("8b4708")).toBe(handler("8b8e00010000")); // mov eax, [rdi + 8]; mov ecx, [rsi + 0x100]
  });

  it("differ where the address size or segment of something unnamed does", () => {
    expect(handler("e210")).not.toBe(handler("67e210")); // loop
    expect(handler("e310")).not.toBe(handler("67e310")); // jrcxz
    expect(handler("a4")).not.toBe(handler("65a4")); // movsb
    expect(handler("a4")).not.toBe(handler("67a4"));
    expect(handler("d7")).not.toBe(handler("65d7")); // xlat
    expect(handler("660ff7c1")).not.toBe(handler("65660ff7c1")); // maskmovdqu
    expect(handler("660ff7c1")).not.toBe(handler("67660ff7c1"));
  });

  it("keep what is known about the flags where a helper is called that sets none", () => {
    const sub = ccOp(CC.SUB, 4);
    expect(handler("39c8").ccAfter).toBe(sub); // cmp eax, ecx
    for (const hex of [
      "0f58c1",
      "d8c1",
      "d907",
      "0ffcc1",
      "660f6bc1",
      "660f3841c1",
      "f20f5807",
      "f30fe6c1",
      "0fae07",
      "f3a4",
    ])
      expect(handler(hex, sub).ccAfter).toBe(CC_SAME);
    expect(handler("f3a6", sub).ccAfter).toBe(CC_UNKNOWN); // repe cmpsb: none of its rounds may happen
  });

  it("have register numbers only for operands without a value of their own", () => {
    const sem = (hex: string): InterpreterSem =>
      new InterpreterSem(
        cpu.mode,
        { index: () => 0, type: () => ({ params: [], results: [] }), wide: () => false },
        insnOf(hex),
        false,
        CC_UNKNOWN,
      );
    expect(() => sem("d8c1").regNumber(1)).not.toThrow(); // fadd st0, st1
    expect(() => sem("8cd8").regNumber(1)).not.toThrow(); // mov eax, ds
    expect(() => sem("0ffcc1").regNumber(0)).toThrow(); // paddb mm0, mm1
    expect(() => sem("01c8").regNumber(0)).toThrow(); // add eax, ecx
  });
});
