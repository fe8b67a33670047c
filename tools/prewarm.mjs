// Makes src/machine/cpu/interpreter/prewarm.ts: one example of each instruction shape that Debian's kernel and busybox execute, so that the
// interpreter's handlers for them are made in one module at start-up. Run after a change that alters shapes; the order is that of first use.
import { build } from "esbuild";
import { format, resolveConfig } from "prettier";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const target = "src/machine/cpu/interpreter/prewarm.ts";
writeFileSync(target, "export const PREWARM: readonly { mode: number; shapes: string }[] = [];\n");
const dir = mkdtempSync(join(tmpdir(), "xenolith-"));
const outfile = join(dir, "machine.mjs");
await build({ entryPoints: ["src/toolstack/machine.ts"], bundle: true, platform: "node", format: "esm", outfile });
const { Machine } = await import(pathToFileURL(outfile).href);

const machine = new Machine({ memoryMiB: 300, engine: "interpreter" });
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
const groups = new Map();
for (const { mode, known, bytes } of machine.cpu.shapeLog.values()) {
  const list = groups.get(mode) ?? [];
  list.push(Buffer.from(bytes).toString("hex") + (known < 0 ? "" : `:${known}`));
  groups.set(mode, list);
}
const wrap = (items) => {
  const lines = [""];
  for (const item of items) {
    if (lines[lines.length - 1].length + item.length > 110) lines.push("");
    lines[lines.length - 1] += (lines[lines.length - 1] ? " " : "") + item;
  }
  return lines.map((l) => `      "${l}"`).join(' + " " +\n');
};
const text = `/**
 * Made by tools/prewarm.mjs: an example of each instruction shape that Debian's kernel and busybox execute, as bytes in hexadecimal, with
 * the flag operation known before it (after a colon), by mode word.
 */
export const PREWARM: readonly { mode: number; shapes: string }[] = [
${[...groups].map(([mode, items]) => `  {\n    mode: ${mode},\n    shapes:\n${wrap(items)},\n  },`).join("\n")}
];
`;
const options = await resolveConfig(target);
writeFileSync(target, await format(text, { ...options, parser: "typescript" }));
console.error(`${machine.cpu.shapeLog.size} shapes`);
process.exit(0);
