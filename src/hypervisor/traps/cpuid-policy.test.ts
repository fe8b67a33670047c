import { describe, expect, it } from "vitest";
import { CpuidPolicy, tscScale } from "./cpuid-policy.js";

const text = (...words: number[]): string =>
  words.map((w) => String.fromCharCode(w & 255, (w >>> 8) & 255, (w >>> 16) & 255, w >>> 24)).join("");

describe("CPUID policy of a PV domain", () => {
  const p = new CpuidPolicy();
  it("hides what PV guests cannot use and the engine lacks", () => {
    const [, , ecx, edx] = p.query(1, 0);
    // VME PSE MTRR PGE PSE36 HTT
    expect(edx & ((1 << 1) | (1 << 3) | (1 << 12) | (1 << 13) | (1 << 17) | (1 << 28))).toBe(0);
    // PCLMUL MONITOR FMA MOVBE AES XSAVE OSXSAVE AVX RDRAND
    expect(
      ecx & ((1 << 1) | (1 << 3) | (1 << 12) | (1 << 22) | (1 << 25) | (1 << 26) | (1 << 27) | (1 << 28) | (1 << 30)),
    ).toBe(0);
  });
  it("has the floor that boots Linux and the features of x86-64-v2", () => {
    const [, , ecx, edx] = p.query(1, 0);
    const floor = 0x0789d3f5 & ~(1 << 12);
    expect(edx & floor).toBe(floor);
    for (const b of [0, 9, 13, 19, 20, 23, 31]) expect((ecx >>> b) & 1).toBe(1);
    for (const b of [11, 20, 29]) expect((p.query(0x80000001, 0)[3] >>> b) & 1).toBe(1);
    expect(p.query(0x80000007, 0)[3]).toBe(0x100);
  });
  it("names Xen 4.17 in its own leaves", () => {
    const [a, b, c, d] = p.query(0x40000000, 0);
    expect(a).toBe(0x40000005);
    expect(text(b, c, d)).toBe("XenVMMXenVMM");
    expect(p.query(0x40000001, 0)[0]).toBe(0x40011);
    expect(p.query(0x40000002, 0).slice(0, 3)).toEqual([1, 0x40000000, 1]);
    expect(p.query(0x40000004, 0)).toEqual([0, 0, 0, 0]);
  });
  it("out-of-range leaves are zero, overrides win", () => {
    expect(p.query(0x1f, 0)).toEqual([0, 0, 0, 0]);
    expect(p.query(0x80000020, 0)).toEqual([0, 0, 0, 0]);
    const q = new CpuidPolicy({ override: new Map([["1", [1, 2, 3, 4]]]) });
    expect(q.query(1, 0)).toEqual([1, 2, 3, 4]);
  });
  it("the time leaf scales the TSC to nanoseconds", () => {
    const { mul, shift } = tscScale(2_000_000);
    const ns = (1000 * 2 ** shift * mul) / 2 ** 32;
    expect(Math.round(ns)).toBe(500);
  });
});
