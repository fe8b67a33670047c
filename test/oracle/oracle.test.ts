/** A small oracle run with a fixed seed, for every test run (half a minute at most); `tools/oracle.mjs` does large ones and fresh seeds. */
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { Batch } from "./case.js";
import { openEngine } from "./engine.js";
import { forms, type InstructionSet } from "./encoding.js";
import { Generator, memoryBase } from "./generate.js";
import { openHost, vendor } from "./host.js";
import { unknownRules } from "./rules.js";
import { oracle } from "./run.js";

const SEED = 20260801;
const SIZE = {
  interpreter: { instruction: { cases: 100_000, variants: 8 }, program: { cases: 50_000, variants: 8 } },
  translator: { instruction: { cases: 12_000, variants: 4 }, program: { cases: 5_000, variants: 8 } },
  moved: { instruction: { cases: 6_000, variants: 4 }, program: { cases: 2_500, variants: 8 } },
} as const;
const host = openHost(fileURLToPath(new URL(".", import.meta.url)));
// What the manuals leave open (rules.ts) is written down for AMD processors; others would differ for reasons that say nothing.
const skipped =
  typeof host === "string"
    ? host
    : vendor() === "AuthenticAMD"
      ? ""
      : `rules.ts knows AMD's processors, this is ${vendor()}`;
const why = skipped === "" ? "" : ` (skipped: ${skipped})`;

describe("oracle", () => {
  it("makes the same case from the same seed and number", () => {
    const make = (): unknown => new Generator(SEED, forms(), memoryBase(SEED)).make(4711, new Batch(memoryBase(SEED)));
    expect(make()).toEqual(make());
  });

  it("has rules only for mnemonics that exist", () => {
    expect(unknownRules()).toEqual([]);
  });

  for (const engine of ["interpreter", "translator", "moved"] as const) {
    for (const set of ["integer", "x87", "sse", "program"] as InstructionSet[]) {
      it.skipIf(skipped !== "")(`the ${engine} agrees with the host: ${set}${why}`, { timeout: 120_000 }, () => {
        if (typeof host === "string") return;
        const { cases, variants } = SIZE[engine][set === "program" ? "program" : "instruction"];
        const report: string[] = [];
        const under = openEngine(engine);
        const tally = oracle(host, {
          seed: SEED,
          cases,
          variants,
          engines: [under],
          set,
          report: (line) => void (report.length < 20 && report.push(line)),
        });
        expect(report.join("\n")).toBe("");
        // Every encoding ran as translated code (its end, int3, belongs to it); of "moved" those of 64-bit code ran elsewhere.
        if (engine === "translator") expect(under.translated).toBeGreaterThanOrEqual(cases / variants);
        if (engine === "moved") expect(under.translated).toBeGreaterThan(cases / variants / 2);
        if (set === "program") return;
        const mnemonics = new Set(forms([64], undefined, set).map((f) => f.place.row.op)).size;
        expect(tally.seen.size).toBeGreaterThan(mnemonics * 0.95);
      });
    }
  }
});
