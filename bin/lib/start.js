// Starts a command from what `npm run build` made, and ends the process with its status.
import { existsSync, statSync } from "node:fs";

const root = new URL("../../", import.meta.url);
const madeAt = (path) => statSync(new URL(path, root), { throwIfNoEntry: false })?.mtimeMs;

/** The module at `dist/cli/…`, from the bundle where that is as new as the compiler's output. */
async function load(entry, bundled) {
  const bundle = madeAt(bundled);
  const compiled = madeAt("tsconfig.node.tsbuildinfo") ?? 0;
  if (bundle !== undefined && bundle >= compiled) return import(new URL(bundled, root));
  const url = new URL(entry, root);
  if (!existsSync(url)) return undefined;
  return import(url);
}

export async function start(command, entry, bundled, pick) {
  const module = await load(entry, bundled);
  if (module === undefined) {
    console.error(`${command}: not built yet: run \`npm install && npm run build:lib\`, or ./demo`);
    process.exit(70);
  }
  const status = await pick(module)(process.argv.slice(2));
  // Pipes may still hold output; an open stdin must not hold the process.
  process.stdout.write("", () => process.stderr.write("", () => process.exit(status)));
}
