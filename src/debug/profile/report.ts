/** A profile as text: the engine's parts and the exits, then the guest's symbols. */
import type { Profile } from "./profiler.js";

/** Shares below this are summed up. */
const LEAST_PERCENT = 0.05;

export function profileText(p: Profile, top: number): string {
  const percent = (ms: number): string =>
    `${p.totalMs > 0 ? ((100 * ms) / p.totalMs).toFixed(1) : "0.0"} %`.padStart(8);
  const seconds = (ms: number): string => (ms / 1000).toFixed(3).padStart(9);
  const many = (n: number): string => n.toLocaleString("en-US");
  const row = (name: string, ms: number, more = ""): string =>
    `${seconds(ms)} ${percent(ms)}  ${name}${more === "" ? "" : `  (${more})`}`;
  const out = [
    `profile of ${(p.totalMs / 1000).toFixed(2)} s: ${many(p.instructions)} instructions, ${many(p.samples)} samples`,
    "",
    "  seconds    share  where",
    row("translated code", p.translated.ms, `about; ${many(p.translated.instructions)} instructions`),
    row("interpreting and decoding", p.interpreted.ms, `about; ${many(p.interpreted.instructions)} instructions`),
    row("translating", p.translating.ms, `${many(p.translating.instructions)} instructions`),
  ];
  const exits = [...p.exits].sort((a, b) => b[1].ms - a[1].ms);
  const shown = exits.filter(([, e], i) => i < top && (100 * e.ms) / p.totalMs >= LEAST_PERCENT);
  for (const [name, e] of shown)
    out.push(row(`exits: ${name}`, e.ms, `${many(e.n)} times, ${((e.ms * 1e6) / e.n).toFixed(0)} ns each`));
  const rest = exits.filter((e) => !shown.includes(e));
  if (rest.length > 0) {
    const ms = rest.reduce((sum, [, e]) => sum + e.ms, 0);
    out.push(row("exits: others", ms, `${many(rest.reduce((sum, [, e]) => sum + e.n, 0))} times`));
  }
  out.push(row("host (this process's other work)", p.hostMs), row("idle", p.idleMs), "");
  const engine = [...p.symbols.values()].reduce((sum, s) => sum + s.ms, 0);
  out.push(`guest code, ${(engine / 1000).toFixed(3)} s by symbol`, "  seconds    share  samples  domain, symbol");
  const symbols = [...p.symbols].sort((a, b) => b[1].ms - a[1].ms);
  for (const [name, s] of symbols.slice(0, top)) {
    const share = `${engine > 0 ? ((100 * s.ms) / engine).toFixed(1) : "0.0"} %`.padStart(8);
    out.push(`${seconds(s.ms)} ${share} ${many(s.n).padStart(8)}  ${name.replace(";", " ")}`);
  }
  if (symbols.length > top) out.push(`          (${many(symbols.length - top)} more)`);
  return out.join("\n") + "\n";
}
