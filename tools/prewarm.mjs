// Makes src/machine/cpu/interpreter/prewarm.ts: one example of each instruction shape that Debian's kernel and busybox execute, so that the
// interpreter's handlers for them are made in one module at start-up. Run after a change that alters shapes; the order is that of first use.
import { build } from "esbuild";
import { format, resolveConfig } from "prettier";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const target = "src/machine/cpu/interpreter/prewarm.ts";
/** So many shapes make up 94 % of what a boot interprets; V8 compiles the function of all of them well in less than 0.1 s. */
const HOT = 200;
const head = `/**
 * Made by tools/prewarm.mjs: an example of each instruction shape that Debian's kernel and busybox execute, as bytes in hexadecimal, with
 * the flag operation known before it (after a colon), by mode word; those that are interpreted most in groups of their own.
 */
export interface ShapeGroup {
  readonly mode: number;
  readonly hot: boolean;
  readonly shapes: string;
}

`;
writeFileSync(target, `${head}export const PREWARM: readonly ShapeGroup[] = [];\n`);
const dir = mkdtempSync(join(tmpdir(), "xenolith-"));
const outfile = join(dir, "machine.mjs");
await build({ entryPoints: ["src/toolstack/machine.ts"], bundle: true, platform: "node", format: "esm", outfile });
const { Machine } = await import(pathToFileURL(outfile).href);
const layoutFile = join(dir, "layout.mjs");
await build({ entryPoints: ["src/machine/layout.ts"], bundle: true, format: "esm", outfile: layoutFile });
const layout = await import(pathToFileURL(layoutFile).href);

const machine = new Machine({ memoryMiB: 300 });
machine.cpu.shapeLog = new Map();
const run =
  "uname -a; cat /proc/cpuinfo; ps; ls -lR /bin | wc; echo hello | sed s/l/L/ | grep L; dmesg | tail -3; " +
  "i=0; while [ $i -lt 100 ]; do i=$((i+1)); done; dd if=/dev/zero bs=64k count=4 2>/dev/null | md5sum; " +
  "gzip -c /bin/busybox | gunzip | sha256sum; awk 'BEGIN{print 1.5*3, sqrt(2)}'; vi -h 2>&1; sort /proc/modules; /bin/true";
const domain = await machine.createDomain({
  kernel: readFileSync(".cache/debian/vmlinuz-cloud"),
  ramdisk: readFileSync(".cache/debian/initramfs.cpio.gz"),
  cmdline: `console=hvc0 run="${run}"`,
  memoryMiB: 256,
});
domain.console.onOutput = (b) => process.stderr.write(b);
const limit = performance.now() + 300_000;
while (!domain.ended && performance.now() < limit) {
  const ns = machine.runSlice(50);
  await new Promise((r) => (ns > 0 ? setTimeout(r, Math.min(ns / 1e6, 50)) : setImmediate(r)));
}
/** How often each handler was run, by its index. */
const counts = new Map();
const { u32 } = machine.mem;
for (let head = layout.BLOCK_HASH; head < layout.BLOCK_HASH_END; head += 4) {
  for (let block = u32[head >>> 2]; block !== 0; block = u32[(block + layout.BLOCK_NEXT) >>> 2]) {
    let at = (block + layout.BLOCK_HEADER + layout.REC_HANDLER) >>> 2;
    for (let n = u32[(block + layout.BLOCK_N) >>> 2]; n > 0; n--, at += layout.REC_SIZE >>> 2)
      counts.set(u32[at], (counts.get(u32[at]) ?? 0) + u32[(block + layout.BLOCK_COUNT) >>> 2]);
  }
}
const count = ([handler]) => counts.get(handler.index) ?? 0;
const shapes = [...machine.cpu.shapeLog];
const hot = new Set([...shapes].sort((a, b) => count(b) - count(a)).slice(0, HOT));
const groups = new Map();
for (const shape of [...hot, ...shapes.filter((s) => !hot.has(s))]) {
  const { mode, known, bytes } = shape[1];
  const key = `mode: ${mode}, hot: ${hot.has(shape)}`;
  const list = groups.get(key) ?? [];
  list.push(Buffer.from(bytes).toString("hex") + (known < 0 ? "" : `:${known}`));
  groups.set(key, list);
}
const wrap = (items) => {
  const lines = [""];
  for (const item of items) {
    if (lines[lines.length - 1].length + item.length > 110) lines.push("");
    lines[lines.length - 1] += (lines[lines.length - 1] ? " " : "") + item;
  }
  return lines.map((l) => `      "${l}"`).join(' + " " +\n');
};
const text = `${head}export const PREWARM: readonly ShapeGroup[] = [
${[...groups].map(([key, items]) => `  { ${key}, shapes:\n${wrap(items)},\n  },`).join("\n")}
];
`;
const options = await resolveConfig(target);
writeFileSync(target, await format(text, { ...options, parser: "typescript" }));
console.error(`${machine.cpu.shapeLog.size} shapes`);
process.exit(0);
