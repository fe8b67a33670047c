/** The hypervisor's and the engine's counters as an object for `--json` and as lines for `--stats`. */
import type { Counters } from "../hypervisor/counters.js";
import { hypercalls } from "../hypervisor/hypercalls/table.js";
import { vectorName } from "../hypervisor/traps/inject.js";
import { EXITS, type EngineCounters } from "../machine/cpu/counters.js";

export interface Stats {
  readonly seconds: number;
  readonly guestSeconds: number;
  readonly counters: Readonly<Record<string, number>>;
  readonly hypercalls: Readonly<Record<string, number>>;
  readonly exceptions: Readonly<Record<string, number>>;
  /** What the engine did, by the names of `EngineCounters`. */
  readonly engine: Readonly<Record<string, number>>;
}

/** Non-zero entries, the largest first. */
function ranked(counts: Float64Array, name: (i: number) => string): Record<string, number> {
  const entries = [...counts].map((n, i): [string, number] => [name(i), n]).filter(([, n]) => n > 0);
  return Object.fromEntries(entries.sort((a, b) => b[1] - a[1]));
}

function engineStats(e: EngineCounters): Record<string, number> {
  const out: Record<string, number> = {};
  const take = (from: object, prefix = ""): void => {
    for (const [k, v] of Object.entries(from)) if (typeof v === "number") out[prefix + k] = Math.round(v);
  };
  take(e);
  take(e.host);
  take(e.translation, "translation.");
  EXITS.forEach((name, i) => (out[`exits.${name}`] = e.host.exits[i] ?? 0));
  return out;
}

export function collectStats(c: Counters, e: EngineCounters, seconds: number, guestNs: number): Stats {
  const counters: Record<string, number> = {};
  for (const [k, v] of Object.entries(c)) if (typeof v === "number") counters[k] = v;
  return {
    seconds: Math.round(seconds * 1000) / 1000,
    guestSeconds: Math.round(guestNs / 1e6) / 1000,
    counters,
    hypercalls: ranked(c.byHypercall, (i) => hypercalls[i]?.name ?? `hypercall_${i}`),
    exceptions: ranked(c.byVector, vectorName),
    engine: engineStats(e),
  };
}

export function statsLines(s: Stats): string[] {
  const row = (k: string, n: number): string => `  ${k.padEnd(32)} ${n.toLocaleString("en-US").padStart(16)}`;
  const lines = [`statistics after ${s.seconds} s (${s.guestSeconds} s of guest time)`];
  for (const [k, n] of Object.entries(s.counters)) if (n > 0) lines.push(row(k, n));
  const instructions = s.counters["instructions"] ?? 0;
  if (s.seconds > 0) lines.push(row("million instructions per second", Math.round(instructions / s.seconds / 1e6)));
  for (const [title, part] of [
    ["hypercalls", s.hypercalls],
    ["exceptions", s.exceptions],
    ["engine", s.engine],
  ] as const) {
    const some = Object.entries(part).filter(([, n]) => n > 0);
    if (some.length === 0) continue;
    lines.push(title);
    for (const [k, n] of some) lines.push(row(k, n));
  }
  return lines;
}
