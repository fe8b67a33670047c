// Bundles bench.ts and runs it with V8's branch hinting on.
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
const here = new URL(".", import.meta.url).pathname;
const out = `${here}dist/bench.mjs`;
await build({ entryPoints: [`${here}bench.ts`], bundle: true, platform: "node", format: "esm", outfile: out, logLevel: "error" });
const flags = process.env.V8FLAGS?.split(" ") ?? ["--experimental-wasm-branch-hinting"];
const r = spawnSync(process.execPath, [...flags, out, ...process.argv.slice(2)], { stdio: "inherit" });
process.exit(r.status ?? 1);
