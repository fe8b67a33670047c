/** `xenolith profile`: a run with the profiler on it; at the end the text on stderr and a flame graph in a file. */
import { readFileSync, writeFileSync } from "node:fs";
import { collapsed, flameGraph, kernelCode, profileText, Profiler, speedscope } from "../debug/profile/index.js";
import type { KernelCode, Profile } from "../debug/profile/index.js";
import { InputError, type DomainPlan } from "../sys/node/index.js";
import type { Machine } from "../toolstack/machine.js";

export interface ProfileFlags {
  readonly output: string;
  readonly top: number;
  readonly interval?: number | undefined;
  readonly symbols?: string | undefined;
}

/** What a file of this name is to hold. */
function rendered(p: Profile, file: string, title: string): string {
  if (file.endsWith(".json")) return speedscope(p.stacks, title);
  if (file.endsWith(".svg")) return flameGraph(p.stacks, title);
  return collapsed(p.stacks);
}

/** Gives what a session takes to be profiled, and what to call when it has ended. */
export function profiling(
  plans: readonly DomainPlan[],
  flags: ProfileFlags,
): { onMachine: (machine: Machine) => void; report: () => void } {
  let map: string | undefined;
  try {
    if (flags.symbols !== undefined) map = readFileSync(flags.symbols, "utf8");
  } catch (e) {
    throw new InputError(`${flags.symbols ?? ""}: ${(e as Error).message}`);
  }
  // An unwritable file is found out before the run, not after it.
  try {
    writeFileSync(flags.output, "");
  } catch (e) {
    throw new InputError(`${flags.output}: ${(e as Error).message}`);
  }
  const known = new Map<Uint8Array, KernelCode | null>();
  const codeOf = (name: string): KernelCode | null => {
    const spec = plans.find((p) => p.spec.name === name)?.spec;
    if (spec === undefined) return null;
    let code = known.get(spec.kernel);
    if (code === undefined) {
      code = kernelCode(spec.kernel, map);
      known.set(spec.kernel, code);
    }
    return code;
  };
  // Before the run, so that no sample waits for it.
  for (const p of plans) if (p.spec.name !== undefined) codeOf(p.spec.name);
  let profiler: Profiler | null = null;
  return {
    onMachine: (machine) => {
      profiler = new Profiler(machine, {
        now: () => performance.now(),
        interval: flags.interval,
        codeOf: (domain) => codeOf(domain.name),
      });
    },
    report: () => {
      if (profiler === null) return;
      const profile = profiler.stop();
      const title = `${plans.map((p) => p.spec.name ?? "domain").join(", ")}: ${(profile.totalMs / 1000).toFixed(1)} s, without idling`;
      writeFileSync(flags.output, rendered(profile, flags.output, title));
      process.stderr.write(`\n${profileText(profile, flags.top)}\nflame graph: ${flags.output}\n`);
    },
  };
}
