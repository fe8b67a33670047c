#!/usr/bin/env node
// The command's entry.
import { start } from "./lib/start.js";

await start("xenolith", "dist/cli/main.js", "dist/bundle/main.js", (m) => m.main);
