#!/usr/bin/env node
// Xen's xl.
import { start } from "./lib/start.js";

await start("xl", "dist/cli/xl/entry.js", "dist/bundle/xl.js", (m) => m.main);
