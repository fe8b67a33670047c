/** Where this installation is: the folder with the package's own package.json, whatever the compiled or bundled file that asks. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Ends in a slash. */
export const packageRoot = find();

function find(): string {
  for (let url = new URL("./", import.meta.url); ;) {
    if (existsSync(new URL("package.json", url))) return fileURLToPath(url);
    const up = new URL("../", url);
    if (up.href === url.href) throw new Error(`no package.json above ${fileURLToPath(import.meta.url)}`);
    url = up;
  }
}
