// Builds the WebAssembly core before the tests when it is missing or older than its sources.
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const sources = join(root, "src/machine/core/assembly");
const built = join(root, "src/machine/core/generated/core.ts");

function newest(path: string): number {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))));
}

export default function setup(): void {
  if (!existsSync(join(sources, "index.ts"))) return;
  const wanted = Math.max(newest(sources), newest(join(root, "tools/build-core.mjs")));
  if (existsSync(built) && statSync(built).mtimeMs >= wanted) return;
  execFileSync("npm", ["run", "--silent", "build:core"], { cwd: root, stdio: "inherit" });
}
