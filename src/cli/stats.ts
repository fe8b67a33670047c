/** The hypervisor's counters as an object for `--json` and as lines for `--stats`. */
import type { Counters } from "../hypervisor/counters.js";
import { hypercalls } from "../hypervisor/hypercalls/table.js";
import { vectorName } from "../hypervisor/traps/inject.js";

export interface Stats {
  readonly seconds: number;
  readonly guestSeconds: number;
  readonly counters: Readonly<Record<string, number>>;
  readonly hypercalls: Readonly<Record<string, number>>;
  readonly exceptions: Readonly<Record<string, number>>;
}

/** Non-zero entries, the largest first. */
function ranked(counts: Float64Array, name: (i: number) => string): Record<string, number> {
  const entries = [...counts].map((n, i): [string, number] => [name(i), n]).filter(([, n]) => n > 0);
  return Object.fromEntries(entries.sort((a, b) => b[1] - a[1]));
}

export function collectStats(c: Counters, seconds: number, guestNs: number): Stats {
  const counters: Record<string, number> = {};
  for (const [k, v] of Object.entries(c)) if (typeof v === "number") counters[k] = v;
  return {
    seconds: Math.round(seconds * 1000) / 1000,
    guestSeconds: Math.round(guestNs / 1e6) / 1000,
    counters,
    hypercalls: ranked(c.byHypercall, (i) => hypercalls[i]?.name ?? `hypercall_${i}`),
    exceptions: ranked(c.byVector, vectorName),
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
  ] as const) {
    if (Object.keys(part).length === 0) continue;
    lines.push(title);
    for (const [k, n] of Object.entries(part)) lines.push(row(k, n));
  }
  return lines;
}
