/**
 * The oracle run: generates cases, runs them on the host and on the engines, and reports where they differ. `tools/oracle.mjs` bundles this
 * file and calls `main`; `oracle.test.ts` calls `oracle` with a fixed seed.
 */
import { MNEMONICS } from "../../src/machine/cpu/decode/index.js";
import { describeCase, difference, reproduction } from "./compare.js";
import { Batch, type Case, type EngineUnderTest } from "./case.js";
import { openEngine, type EngineName } from "./engine.js";
import { EXCLUDED, forms, type InstructionSet } from "./encoding.js";
import { Generator, memoryBase, VARIANTS } from "./generate.js";
import { openHost, type Host } from "./host.js";

export interface Options {
  readonly seed: number;
  readonly cases: number;
  /** First case number. */
  readonly from?: number;
  readonly engines: readonly EngineUnderTest[];
  readonly bits?: readonly (64 | 32)[];
  readonly only?: (op: string) => boolean;
  readonly set?: InstructionSet;
  /** Called for each difference. */
  readonly report: (line: string, c: Case) => void;
  readonly batch?: number;
  /** Cases of each encoding. */
  readonly variants?: number;
}

export interface Tally {
  cases: number;
  /** Cases the host completed without a fault. */
  completed: number;
  /** Differences by mnemonic. */
  readonly failed: Map<string, number>;
  readonly seen: Map<string, number>;
  hostSeconds: number;
  engineSeconds: number;
  generateSeconds: number;
}

export function oracle(host: Host, o: Options): Tally {
  const base = memoryBase(o.seed);
  const generator = new Generator(
    o.seed,
    o.set === "program" ? forms(o.bits) : forms(o.bits, o.only, o.set),
    base,
    o.variants,
    o.set === "program",
  );
  const tally: Tally = {
    cases: 0,
    completed: 0,
    failed: new Map(),
    seen: new Map(),
    hostSeconds: 0,
    engineSeconds: 0,
    generateSeconds: 0,
  };
  for (const engine of o.engines) engine.setMemory(base);
  const first = o.from ?? 0;
  const size = o.batch ?? 20000;
  const made = new Batch(base, Math.min(size, o.cases) * 800);
  for (let at = first; at < first + o.cases; at += size) {
    const t0 = performance.now();
    made.clear();
    for (let i = at; i < Math.min(at + size, first + o.cases); i++) generator.make(i, made);
    const { cases } = made;
    const t1 = performance.now();
    const results = host.run(made);
    const t2 = performance.now();
    for (const engine of o.engines) engine.prepare(cases);
    cases.forEach((c, i) => {
      const expected = results[i];
      tally.cases++;
      if (expected.vector < 0) tally.completed++;
      const op = c.insn.op;
      tally.seen.set(op, (tally.seen.get(op) ?? 0) + 1);
      for (const engine of o.engines) {
        let what: string;
        try {
          what = difference(c, engine.run(c), expected, base);
        } catch (e) {
          what = `the engine throws: ${e instanceof Error ? e.message : String(e)}`;
        }
        if (what === "") continue;
        tally.failed.set(op, (tally.failed.get(op) ?? 0) + 1);
        o.report(reproduction(c, engine.name, what), c);
      }
    });
    tally.generateSeconds += (t1 - t0) / 1000;
    tally.hostSeconds += (t2 - t1) / 1000;
    tally.engineSeconds += (performance.now() - t2) / 1000;
  }
  return tally;
}

const USAGE = `usage: node tools/oracle.mjs [options]
  --cases N       number of cases (default 100000)
  --seed S        seed (default: fresh)
  --op NAME       only these mnemonics (comma separated, * at the end as a wildcard)
  --set SET       only integer, x87 or sse (with MMX); or program: short programs
  --bits 64|32    only this code size
  --engine E      interpreter (default), translator, moved (translated at one address, run at another), both or none
  --variants N    cases of each encoding (default ${VARIANTS})
  --from N        first case (default 0)
  --case N        only case N of the seed (with the same --op, --set, --bits and --variants), with its starting state
  --per-op N      report at most N differences of a mnemonic (default 3)
  --list          list the mnemonics that are tried and those that are not`;

export function main(args: readonly string[], directory: string): number {
  const value = (name: string): string | undefined => {
    const i = args.indexOf(`--${name}`);
    return i < 0 ? undefined : (args[i + 1] ?? "");
  };
  if (args.includes("--help")) {
    console.log(USAGE);
    return 0;
  }
  if (args.includes("--list")) {
    const tried = new Set(forms().flatMap((f) => [f.place.row.op, f.place.row.opW]));
    console.log(`tried: ${MNEMONICS.filter((op) => tried.has(op)).join(" ")}`);
    for (const [op, why] of Object.entries(EXCLUDED)) console.log(`not tried: ${op}: ${why}`);
    return 0;
  }
  const host = openHost(directory);
  if (typeof host === "string") {
    console.log(`oracle: ${host}`);
    return 0;
  }
  const seed = Number(value("seed") ?? Date.now() % 1000000);
  const one = value("case");
  const kind = value("engine") ?? "interpreter";
  const names =
    kind === "both" ? (["interpreter", "translator"] as const) : kind === "none" ? [] : ([kind] as EngineName[]);
  const engines = names.map(openEngine);
  const op = value("op")?.split(",");
  const perOp = Number(value("per-op") ?? 3);
  const bits = value("bits");
  const set = value("set");
  const variants = value("variants");
  const reported = new Map<string, number>();
  const tally = oracle(host, {
    seed,
    cases: one === undefined ? Number(value("cases") ?? 100000) : 1,
    from: Number(one ?? value("from") ?? 0),
    engines,
    ...(bits === undefined ? {} : { bits: [bits === "32" ? 32 : 64] }),
    ...(op
      ? { only: (name: string) => op.some((p) => (p.endsWith("*") ? name.startsWith(p.slice(0, -1)) : name === p)) }
      : {}),
    ...(variants === undefined ? {} : { variants: Number(variants) }),
    ...(set === undefined ? {} : { set: set as InstructionSet }),
    report: (line, c) => {
      const n = reported.get(c.insn.op) ?? 0;
      reported.set(c.insn.op, n + 1);
      if (n < perOp) console.log(line);
      if (one !== undefined) console.log(describeCase(c));
    },
  });
  for (const e of engines)
    if (e.translated > 0)
      console.log(`${e.name}: ${e.translated} cases ${e.name === "moved" ? "entered elsewhere" : "translated"}`);
  const failed = [...tally.failed].sort((a, b) => b[1] - a[1]);
  const total = failed.reduce((n, [, k]) => n + k, 0);
  if (total > 0)
    console.log(
      `differences by mnemonic: ${failed.map(([name, n]) => `${name} ${n}/${tally.seen.get(name) ?? 0}`).join(", ")}`,
    );
  console.log(
    `seed ${seed}: ${tally.cases} cases (${tally.completed} without a fault, ${tally.seen.size} mnemonics), ${total} differences in ${failed.length} mnemonics; ` +
      `generated in ${tally.generateSeconds.toFixed(1)} s, host ${tally.hostSeconds.toFixed(1)} s, engine ${tally.engineSeconds.toFixed(1)} s`,
  );
  return total > 0 ? 1 : 0;
}
