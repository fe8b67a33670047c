/**
 * `xenolith debian`: Debian's own kernel and busybox, fetched once through apt into `.cache/debian`. Where that cannot be, one of the
 * project's own guests is run in their place, and why is said.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { InputError } from "../sys/node/index.js";

const root = fileURLToPath(new URL("../../", import.meta.url));

export const DEBIAN_CMDLINE = "console=hvc0";

export interface DebianGuest {
  readonly name: string;
  readonly kernel: string;
  readonly ramdisk?: string;
}

/** Runs the set-up script with its progress on stderr. Null: all is there; else why not. */
function setUp(): string | null {
  const script = `${root}tools/setup-debian.mjs`;
  if (!existsSync(script)) return "tools/setup-debian.mjs is not part of this installation";
  // Its progress goes to our stderr (descriptor 2), its own last word is read.
  const r = spawnSync(process.execPath, [script], { stdio: ["ignore", 2, "pipe"], encoding: "utf8" });
  if (r.status === 0) return null;
  const lines = (r.stderr ?? "").trim().split("\n");
  const said =
    lines.find((l) => l.startsWith("setup-debian: ")) ?? lines.find((l) => /Error/.test(l)) ?? lines.at(-1) ?? "";
  return said.replace(/^setup-debian: /, "") || "tools/setup-debian.mjs failed";
}

/** A machine that has never asked for apt's package lists: ask, where we may. */
function refreshLists(say: (line: string) => void): boolean {
  const command = process.getuid?.() === 0 ? ["apt-get"] : ["sudo", "-n", "apt-get"];
  say("xenolith: fetching apt's package lists (apt-get update)");
  const r = spawnSync(command[0], [...command.slice(1), "-q", "update"], { stdio: ["ignore", 2, "ignore"] });
  return r.status === 0;
}

/** Finds or fetches the guest. */
export function prepareDebian(generic: boolean, say: (line: string) => void): DebianGuest {
  const kernel = `${root}.cache/debian/vmlinuz-${generic ? "generic" : "cloud"}`;
  const ramdisk = `${root}.cache/debian/initramfs.cpio.gz`;
  let why = setUp();
  if (why !== null && /apt-get update|cannot download/.test(why) && refreshLists(say)) why = setUp();
  if (existsSync(kernel) && existsSync(ramdisk)) {
    if (why !== null) say(`xenolith: Debian's packages could not be looked at (${why}): using those in .cache/debian`);
    return { name: "debian", kernel, ramdisk };
  }
  const own = `${root}guests/images/hello.elf`;
  if (!existsSync(own)) throw new InputError(`no Debian guest: ${why ?? "its files are missing"}`);
  say(`xenolith: no Debian guest here: ${why ?? "its files are missing"}`);
  say("xenolith: running one of the project's own guests, guests/images/hello.elf, in its place");
  return { name: "hello", kernel: own };
}
