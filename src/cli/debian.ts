/**
 * `xenolith debian`: Debian's own kernel and busybox, fetched once through apt into `.cache/debian`. Where that cannot be, one of the
 * project's own guests is run in their place, and why is said. `--system`: a whole Debian on a virtual disk, built once from packages.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { InputError, packageRoot } from "../sys/node/index.js";

export const DEBIAN_CMDLINE = "console=hvc0";

export interface DebianGuest {
  readonly name: string;
  readonly kernel: string;
  readonly ramdisk?: string;
}

/** A Debian on a disk: `disk` and `vif` as in xl.cfg. */
export interface DebianSystem extends Required<DebianGuest> {
  readonly cmdline: string;
  readonly disk: string;
  readonly vif: string;
}

/** Runs a set-up script with its progress on stderr. Null: all is there; else why not. */
function setUp(name: string): string | null {
  const script = `${packageRoot}tools/${name}.mjs`;
  if (!existsSync(script)) return `tools/${name}.mjs is not part of this installation`;
  // Its progress goes to our stderr (descriptor 2), its own last word is read.
  const r = spawnSync(process.execPath, [script], { stdio: ["ignore", 2, "pipe"], encoding: "utf8" });
  if (r.status === 0) return null;
  const lines = (r.stderr ?? "").trim().split("\n");
  const said = lines.find((l) => l.startsWith(`${name}: `)) ?? lines.find((l) => /Error/.test(l)) ?? lines.at(-1) ?? "";
  return said.replace(`${name}: `, "") || `tools/${name}.mjs failed`;
}

/** A machine that has never asked for apt's package lists: ask, where we may. */
function refreshLists(say: (line: string) => void): boolean {
  const command = process.getuid?.() === 0 ? ["apt-get"] : ["sudo", "-n", "apt-get"];
  say("xenolith: fetching apt's package lists (apt-get update)");
  const r = spawnSync(command[0], [...command.slice(1), "-q", "update"], { stdio: ["ignore", 2, "ignore"] });
  return r.status === 0;
}

/** The same, with fresh package lists where that is what was wrong. */
function setUpFresh(name: string, say: (line: string) => void): string | null {
  const why = setUp(name);
  return why !== null && /apt-get update|cannot download/.test(why) && refreshLists(say) ? setUp(name) : why;
}

/** Finds or builds the disk. What a domain writes to it goes to an overlay beside it: remove that to begin anew. */
export function prepareDebianSystem(say: (line: string) => void): DebianSystem {
  const dir = `${packageRoot}.cache/debian/disk/`;
  const image = `${dir}debian.img`;
  const why = setUpFresh("setup-debian-disk", say);
  if (!existsSync(image)) throw new InputError(`no Debian disk: ${why ?? "it is missing"}`);
  if (why !== null)
    say(`xenolith: the Debian disk could not be built anew (${why}): using the one in .cache/debian/disk`);
  return {
    name: "debian",
    kernel: `${dir}vmlinuz`,
    ramdisk: `${dir}initrd.img`,
    cmdline: `root=/dev/xvda ro ${DEBIAN_CMDLINE} quiet`,
    disk: `${image},raw,xvda,rw,overlay=${dir}debian.qcow2`,
    vif: "bridge=nat",
  };
}

/** Finds or fetches the guest. */
export function prepareDebian(generic: boolean, say: (line: string) => void): DebianGuest {
  const kernel = `${packageRoot}.cache/debian/vmlinuz-${generic ? "generic" : "cloud"}`;
  const ramdisk = `${packageRoot}.cache/debian/initramfs.cpio.gz`;
  const why = setUpFresh("setup-debian", say);
  if (existsSync(kernel) && existsSync(ramdisk)) {
    if (why !== null) say(`xenolith: Debian's packages could not be looked at (${why}): using those in .cache/debian`);
    return { name: "debian", kernel, ramdisk };
  }
  const own = `${packageRoot}guests/images/hello.elf`;
  if (!existsSync(own)) throw new InputError(`no Debian guest: ${why ?? "its files are missing"}`);
  say(`xenolith: no Debian guest here: ${why ?? "its files are missing"}`);
  say("xenolith: running one of the project's own guests, guests/images/hello.elf, in its place");
  return { name: "hello", kernel: own };
}
