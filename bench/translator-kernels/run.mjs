// Bundles bench.ts and runs it with V8's branch hinting on.
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
const here = new URL(".", import.meta.url).pathname;
const entry = process.argv.find((a) => a.startsWith("--entry="))?.slice(8) ?? "bench";
const out = `${here}dist/${entry}.mjs`;
await build({
  entryPoints: [`${here}${entry}.ts`],
  bundle: true,
  platform: "node",
  format: "esm",
  outfile: out,
  logLevel: "error",
});
const flags = process.env.V8FLAGS?.split(" ") ?? ["--experimental-wasm-branch-hinting"];
const r = spawnSync(
  process.execPath,
  [...flags, out, ...process.argv.slice(2).filter((a) => !a.startsWith("--entry="))],
  { stdio: "inherit" },
);
process.exit(r.status ?? 1);
