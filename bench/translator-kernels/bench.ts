/** Kernels through translated regions: MIPS and the ratio to native. `node bench/translator-kernels/run.mjs [kernel…] [--opt]` */
import { opTable } from "../../src/machine/cpu/sem/index.js";
import type { TranslateOptions } from "../../src/machine/cpu/translator/index.js";
import { CORE_TYPES, Machine } from "./harness.js";
import { kernels } from "./image.js";

const STACK = 0x7800000;
/** Repetitions that take a few ms (less than a scheduler's turn). */
const KERNELS: Record<string, number> = {
  alu: 600e3,
  copy: 500,
  chase: 300e3,
  fib: 40,
  md5: 6e3,
  qsort: 40,
  vm: 700e3,
  sieve: 5,
  matrix: 8,
  rsa: 20e3,
  string: 15e3,
};

const { text: TEXT, image, symbols, native } = kernels();
const args = process.argv.slice(2);
const opts: Record<string, unknown> = {};
for (const a of args.filter((x) => x.startsWith("--"))) {
  const [k, val] = a.slice(2).split("=");
  opts[k as string] = val === undefined || val === "true" ? true : val === "false" ? false : Number(val);
}
const names = args.filter((x) => !x.startsWith("--"));
const chosen = names.length > 0 ? names : Object.keys(KERNELS);
let product = 1;
for (const name of chosen) {
  const n = KERNELS[name] as number;
  // The best of several short runs: the machine has other work.
  const runs = native(...Array.from({ length: 60 }, () => [name, String(n)]).flat())
    .trim()
    .split("\n");
  const expected = (runs[0] as string).split(" ")[1];
  const nativeMs = Math.min(...runs.map((l) => Number(l.split(" ")[2])));
  const m = new Machine(opTable(), opts as TranslateOptions, 48 << 20, CORE_TYPES);
  m.mem.u8.set(image, TEXT);
  const f = symbols.get(`k_${name}`) as number;
  const run = (k: number): { ms: number; rax: bigint; mips: number } => {
    const before = m.retired;
    const t = performance.now();
    const { reason, rax } = m.call(f, [BigInt(k)], STACK);
    const ms = performance.now() - t;
    if (reason !== 0) throw new Error(`${name}: exit ${reason} at ${m.rip.toString(16)}`);
    return { ms, rax, mips: (m.retired - before) / ms / 1000 };
  };
  let ms = Infinity;
  let mips = 0;
  let ok = true;
  for (let i = 0; i < 120; i++) {
    if (i === 60) await new Promise((r) => setTimeout(r, 200)); // TurboFan works in the background.
    m.misses = m.leaves = 0;
    const r = run(n);
    if (r.ms < ms) ({ ms, mips } = r);
    ok &&= r.rax.toString() === expected;
  }
  const ratio = ms / nativeMs;
  product *= ratio;
  const size = m.built.reduce((s, b) => s + b.bytes, 0);
  const insns = m.built.reduce((s, b) => s + b.region.instructions, 0);
  // Translation again, with warm JavaScript.
  let tr = 0;
  for (let i = 0; i < 10; i++)
    for (const b of m.built) tr += (m.build(b.region.entries[0] as number, m.opts)?.translateMs ?? 0) / 10;
  console.log(
    `${name.padEnd(8)} ${ok ? "ok " : "BAD"} ${mips.toFixed(0).padStart(6)} MIPS  native/${ratio.toFixed(2).padEnd(6)} ` +
      `regions ${m.built.length} insns ${insns} bytes/insn ${(size / insns).toFixed(0)} translate ${((tr * 1000) / insns).toFixed(1)} µs/insn ` +
      `leaves ${m.leaves} misses ${m.misses}`,
  );
}
console.log(`geometric mean: native / ${Math.pow(product, 1 / chosen.length).toFixed(2)}`);
