/** What becomes hot is translated: one rule a test. */
import { expect, it } from "vitest";
import { RCX } from "./insn.js";
import { hex, TestBox } from "./testing.js";

const CODE = 0x400000;

it("hot code of a kernel and of its program is translated in one go, whichever of them runs then", () => {
  const box = new TestBox({ engine: "auto", threshold: 8, again: 0 });
  const { cpu } = box;
  // Each space has its own page at the same address.
  for (const space of [0, 1] as const) {
    box.tables(space);
    box.map(CODE, box.frame());
    box.write(CODE, hex("ffc9 75fc cc")); // loop: dec ecx; jnz loop; int3
  }
  const run = (space: 0 | 1, n: number): void => {
    cpu.setMode({ bits: 64, cpl: 3, space });
    box.at(CODE, [RCX, n]).finish(10);
  };
  // Once past the threshold each (twice would not wait); then the slices that hot blocks wait for end in the second space.
  run(0, 10);
  run(1, 10);
  expect(cpu.counters.regions).toBe(0);
  for (let i = 0; i < 20; i++) run(1, 3);
  expect(cpu.counters.regions).toBe(2);
  expect(box.counted(() => run(0, 1000))("interpreted")).toBeLessThan(10);
});
