// Bundles src/index.ts for the browser and fails when anything of Node is reached from it.
import { build } from "esbuild";
import { existsSync } from "node:fs";
import { builtinModules } from "node:module";

const entry = "src/index.ts";
if (!existsSync(entry)) {
  console.log(`check-bundle: ${entry} does not exist yet, nothing to check`);
  process.exit(0);
}
const builtins = new Set(builtinModules);
const found = [];
const result = await build({
  entryPoints: [entry],
  bundle: true,
  write: false,
  format: "esm",
  platform: "browser",
  target: "es2022",
  minify: true,
  metafile: true,
  logLevel: "error",
  plugins: [
    {
      name: "no-node",
      setup(b) {
        b.onResolve({ filter: /.*/ }, (args) => {
          if (!args.path.startsWith("node:") && !builtins.has(args.path)) return undefined;
          found.push(`${args.importer} imports ${args.path}`);
          return { path: args.path, external: true };
        });
      },
    },
  ],
}).catch(() => process.exit(1));
if (found.length > 0) {
  console.error(`check-bundle: the browser bundle reaches Node:\n  ${found.join("\n  ")}`);
  process.exit(1);
}
const bytes = result.outputFiles[0].contents.length;
console.log(
  `check-bundle: ok, ${Object.keys(result.metafile.inputs).length} modules, ${(bytes / 1024).toFixed(0)} KiB`,
);
