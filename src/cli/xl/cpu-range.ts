/** Lists of physical CPUs on the command line: `0-3,^1`, `nodes:0`, `all` (there is one node, with every CPU). */
import type { Xl } from "./command.js";

/** CPUs by their text, among `count`; ends the command with xl's words for no list. */
export function cpuRange(xl: Xl, text: string, count: number): number[] {
  const cpus = new Set<number>();
  const every = Array.from({ length: count }, (_, i) => i);
  for (const part of text.split(",")) {
    if (part === "") continue;
    const not = part.startsWith("^");
    const word = not ? part.slice(1) : part;
    const node = /^nodes?:(.*)$/.exec(word);
    const body = node === null ? word : node[1];
    if (body === "all") {
      if (not) xl.fail('Can\'t combine "^" and "all".');
      for (const c of every) cpus.add(c);
      continue;
    }
    const m = /^(\d+)(?:-(\d+))?$/.exec(body);
    const from = Number(m?.[1]);
    const to = Number(m?.[2] ?? m?.[1]);
    if (m === null || from > to) xl.fail(`Invalid pcpu range: ${body}.`);
    if (node !== null && to > 0) xl.fail(`Invalid pcpu range: ${word}: there is node 0 only.`);
    for (const c of node === null ? every.filter((n) => n >= from && n <= to) : every) {
      if (not) cpus.delete(c);
      else cpus.add(c);
    }
  }
  return [...cpus].sort((a, b) => a - b);
}
