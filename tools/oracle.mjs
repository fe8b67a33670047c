// Compare the engine with the host CPU, instruction by instruction: node tools/oracle.mjs --help
import { build } from "esbuild";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const oracle = fileURLToPath(new URL("../test/oracle/", import.meta.url));
const out = mkdtempSync(join(tmpdir(), "xenolith-oracle-run-"));
try {
  const file = join(out, "run.mjs");
  await build({
    entryPoints: [join(oracle, "run.ts")],
    bundle: true,
    platform: "node",
    format: "esm",
    outfile: file,
    logLevel: "warning",
  });
  const { main } = await import(pathToFileURL(file).href);
  process.exitCode = main(process.argv.slice(2), oracle);
} finally {
  rmSync(out, { recursive: true, force: true });
}
