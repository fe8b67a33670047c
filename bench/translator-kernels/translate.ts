/** Translation and V8 compile time of the kernels' regions. `node bench/translator-kernels/run.mjs --entry=translate` */
import { opTable } from "../../src/machine/cpu/sem/index.js";
import { Machine } from "./harness.js";
import { kernels } from "./image.js";

const { image, symbols, text } = kernels();
let insns = 0;
let bytes = 0;
let ms = 0;
let compile = 0;
for (const name of ["md5", "qsort", "vm", "rsa", "string", "matrix", "sieve", "copy"]) {
  const m = new Machine(opTable(), {}, 48 << 20);
  m.mem.u8.set(image, text);
  Object.assign(m.source, { count: () => 1 });
  const va = symbols.get(`k_${name}`) as number;
  let best = Infinity;
  let bestCompile = Infinity;
  const n = 40;
  let b = m.build(va, { inlineLimit: Infinity });
  for (let i = 0; i < n; i++) {
    const c = performance.now();
    b = m.build(va, { inlineLimit: Infinity });
    const whole = performance.now() - c;
    best = Math.min(best, b?.translateMs ?? 0);
    bestCompile = Math.min(bestCompile, whole - (b?.translateMs ?? 0));
  }
  if (!b) continue;
  const k = b.region.instructions;
  console.log(
    `${name.padEnd(8)} insns ${k} blocks ${b.region.blocks} entries ${b.region.entries.length} bytes ${b.bytes} (${(b.bytes / k).toFixed(0)}/insn) ` +
      `translate ${best.toFixed(2)} ms (${((best * 1000) / k).toFixed(2)} µs/insn) module+instance ${bestCompile.toFixed(2)} ms`,
  );
  insns += k;
  bytes += b.bytes;
  ms += best;
  compile += bestCompile;
}
console.log(
  `all: ${((ms * 1000) / insns).toFixed(2)} µs/insn, ${(bytes / insns).toFixed(0)} bytes/insn, Liftoff ${((compile * 1000) / insns).toFixed(2)} µs/insn`,
);
