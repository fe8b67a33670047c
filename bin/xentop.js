#!/usr/bin/env node
// Xen's xentop (what `xl top` shows): starts what `npm run build` made.
import { existsSync } from "node:fs";

const entry = new URL("../dist/cli/xl/entry.js", import.meta.url);
if (!existsSync(entry)) {
  console.error("xentop: not built yet: run `npm install && npm run build:lib`, or ./demo");
  process.exit(70);
}
const { xentop } = await import(entry);
const status = await xentop(process.argv.slice(2));
// Pipes may still hold output; an open stdin must not hold the process.
process.stdout.write("", () => process.stderr.write("", () => process.exit(status)));
