/** Lists of physical CPUs as xl writes them: `all`, `0-3,^1`, `nodes:0` (there is one node, with all of them). */
import { ConfigError } from "../config/index.js";

/** A list by its text; null: all. */
export function parseCpuList(text: string, source = "command line"): readonly number[] | null {
  const cpus = new Set<number>();
  let all = false;
  for (const raw of text.split(",")) {
    let word = raw.trim();
    if (word === "") continue;
    const not = word.startsWith("^");
    if (not) word = word.slice(1);
    const node = /^nodes?:(.*)$/.exec(word);
    if (word === "all" || node?.[1] === "0" || node?.[1] === "all") {
      if (not) {
        cpus.clear();
        all = false;
      } else all = true;
      continue;
    }
    const m = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(word);
    const from = Number(m?.[1]);
    const to = m?.[2] === undefined ? from : Number(m[2]);
    if (m === null || from > to) throw new ConfigError(`${source}: invalid cpu list: \`${text}'`);
    if (not && all) {
      for (let c = 0; c < MAX_CPUS; c++) cpus.add(c);
      all = false;
    }
    for (let c = from; c <= to; c++) {
      if (not) cpus.delete(c);
      else cpus.add(c);
    }
  }
  if (all) return null;
  return [...cpus].sort((a, b) => a - b);
}

/** pCPUs a machine can have. */
const MAX_CPUS = 32;

/** A bit mask of pCPUs; null is all. */
export function cpuMask(cpus: readonly number[] | null): number {
  if (cpus === null) return -1;
  let mask = 0;
  for (const c of cpus) if (c < MAX_CPUS) mask |= 1 << c;
  return mask;
}

/** pCPUs of a mask within the machine; null when that is all of them. */
export function cpusOf(mask: number, pcpus: number): readonly number[] | null {
  const out: number[] = [];
  for (let c = 0; c < pcpus; c++) if ((mask & (1 << c)) !== 0) out.push(c);
  return out.length === pcpus ? null : out;
}
