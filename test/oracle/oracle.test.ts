/** A small oracle run with a fixed seed, for every test run; `tools/oracle.mjs` does large ones and fresh seeds. */
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { Batch } from "./case.js";
import { openEngine } from "./engine.js";
import { forms, type InstructionSet } from "./encoding.js";
import { Generator, memoryBase } from "./generate.js";
import { openHost } from "./host.js";
import { unknownRules } from "./rules.js";
import { oracle } from "./run.js";

const SEED = 20260801;
const host = openHost(fileURLToPath(new URL(".", import.meta.url)));
const why = typeof host === "string" ? ` (skipped: ${host})` : "";

describe("oracle", () => {
  it("makes the same case from the same seed and number", () => {
    const make = (): unknown => new Generator(SEED, forms(), memoryBase(SEED)).make(4711, new Batch(memoryBase(SEED)));
    expect(make()).toEqual(make());
  });

  it("has rules only for mnemonics that exist", () => {
    expect(unknownRules()).toEqual([]);
  });

  for (const engine of ["interpreter", "translator"] as const) {
    for (const set of ["integer", "x87", "sse"] as InstructionSet[]) {
      it.skipIf(typeof host === "string")(
        `the ${engine} agrees with the host: ${set}${why}`,
        { timeout: 120_000 },
        () => {
          if (typeof host === "string") return;
          const report: string[] = [];
          const tally = oracle(host, {
            seed: SEED,
            cases: engine === "interpreter" ? 20_000 : 2_000,
            engines: [openEngine(engine)],
            set,
            report: (line) => void (report.length < 20 && report.push(line)),
          });
          expect(report.join("\n")).toBe("");
          expect(tally.seen.size).toBeGreaterThan(
            engine === "interpreter" ? new Set(forms([64], undefined, set).map((f) => f.place.row.op)).size * 0.95 : 50,
          );
        },
      );
    }
  }
});
