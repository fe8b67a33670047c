/** What becomes hot is translated: one rule a test. */
import { expect, it } from "vitest";
import { VirtualClock } from "../clock.js";
import { PhysMem } from "../memory.js";
import { engineCounters } from "./counters.js";
import { Cpu } from "./cpu.js";
import { Exit } from "./exits.js";

const USER = 7;
const CODE = 0x400000;
const RCX = 1;

it("hot code of a kernel and of its program is translated in one go, whichever of them runs then", () => {
  const mem = new PhysMem(8 << 20);
  const cpu = new Cpu(mem, new VirtualClock(), { engine: "auto", threshold: 8, again: 0 });
  let next = mem.firstFrame;
  const frame = (): number => {
    const mfn = next++;
    mem.zeroFrame(mfn);
    return mfn * 4096;
  };
  // Each space has its own page at the same address: loop: dec ecx; jnz loop; int3
  for (const space of [0, 1] as const) {
    const root = frame();
    let table = root;
    for (let level = 3; level > 0; level--) {
      const at = table + (Math.floor(CODE / 2 ** (12 + 9 * level)) & 511) * 8;
      mem.w64(at, (table = frame()) | USER, 0);
    }
    const code = frame();
    mem.w64(table + ((CODE / 4096) & 511) * 8, code | USER, 0);
    for (const [i, b] of [0xff, 0xc9, 0x75, 0xfc, 0xcc].entries()) mem.w8(code + i, b);
    cpu.setRoot(space, root, 4);
  }
  const run = (space: 0 | 1, n: number): void => {
    cpu.setMode({ bits: 64, cpl: 3, space });
    cpu.rflags = 0x202;
    cpu.setReg(RCX, n, 0);
    cpu.rip = CODE;
    for (;;) {
      const reason = cpu.run(10);
      if (reason === Exit.BUDGET) continue;
      expect([reason, cpu.exit.vector]).toEqual([Exit.EXCEPTION, 3]);
      return;
    }
  };
  // Once past the threshold each (twice would not wait); then the slices that hot blocks wait for end in the second space.
  run(0, 10);
  run(1, 10);
  expect(cpu.counters.regions).toBe(0);
  for (let i = 0; i < 20; i++) run(1, 3);
  expect(cpu.counters.regions).toBe(2);
  const before = engineCounters(cpu).interpreted;
  run(0, 1000);
  expect(engineCounters(cpu).interpreted - before).toBeLessThan(10);
});
