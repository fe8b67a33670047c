import { describe, expect, it } from "vitest";
import { DS, ES, FS, GS } from "../../machine/cpu/insn.js";
import { reloadSegments } from "./failsafe.js";
import { KCODE, KSTACK, TestPv } from "./testing.js";

const HANDLER = KCODE + 0x900;
/** No descriptor stands there. */
const GONE = 0x1003;

describe("the failsafe callback", () => {
  it("is not called where every selector still loads", () => {
    const m = new TestPv();
    m.v.traps.failsafeCallback = HANDLER;
    m.kernel(KCODE + 0x10, KSTACK + 0x1800);
    reloadSegments(m.v);
    expect(m.cpu.rip).toBe(KCODE + 0x10);
  });

  it("gets rcx r11 ds es fs gs rip cs rflags rsp ss, and the lost selector is null", () => {
    const m = new TestPv();
    m.v.traps.failsafeCallback = HANDLER;
    m.kernel(KCODE + 0x10, KSTACK + 0x1800);
    m.cpu.setReg(1, 0x1111, 0);
    m.cpu.setReg(11, 0x3333, 0);
    m.cpu.setSegment(ES, GONE, 0, 0xffffffff, 0xf3);
    reloadSegments(m.v);
    expect(m.cpu.rip).toBe(HANDLER);
    expect(m.cpu.selector(ES)).toBe(0);
    const w = m.words(m.cpu.regVa(4), 11);
    expect(w.map(([lo]) => lo)).toEqual([
      0x1111,
      0x3333,
      m.cpu.selector(DS),
      GONE,
      m.cpu.selector(FS),
      m.cpu.selector(GS),
      (KCODE + 0x10) >>> 0,
      0xe030,
      expect.any(Number),
      (KSTACK + 0x1800) >>> 0,
      0xe02b,
    ]);
  });

  it("without one registered, the domain ends", () => {
    const m = new TestPv();
    m.kernel(KCODE, KSTACK + 0x1800);
    m.cpu.setSegment(DS, GONE, 0, 0xffffffff, 0xf3);
    reloadSegments(m.v);
    expect(m.v.domain.shuttingDown).toBe(true);
  });
});
