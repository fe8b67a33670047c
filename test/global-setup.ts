// Builds the WebAssembly core before the tests when it is missing or older than its sources.
import { execFileSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { newest } from "./building.js";

const root = fileURLToPath(new URL("..", import.meta.url));
/** All that the core is made of: its code, and what tools/build-core.mjs generates constants from. */
const sources = ["src/machine/core/assembly", "src/machine/layout.ts", "src/abi", "tools/build-core.mjs"].map((path) =>
  join(root, path),
);
const built = join(root, "src/machine/core/generated/core.ts");

export default function setup(): void {
  const wanted = Math.max(...sources.map(newest));
  if (existsSync(built) && statSync(built).mtimeMs >= wanted) return;
  execFileSync("npm", ["run", "--silent", "build:core"], { cwd: root, stdio: "inherit" });
}
