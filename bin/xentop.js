#!/usr/bin/env node
// Xen's xentop (what `xl top` shows).
import { start } from "./lib/start.js";

await start("xentop", "dist/cli/xl/entry.js", "dist/bundle/xl.js", (m) => m.xentop);
