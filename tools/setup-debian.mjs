// Fetches the real guests that tests and examples run (Debian packages, never committed) and makes an initramfs for them.
// Results in .cache/debian: vmlinuz-cloud vmlinuz-generic System.map-cloud initramfs.cpio.gz grub-x86_64-xen.bin gnumach.gz
// and, unpacked, xen-utils-4.17 (Xen's own checker of saved domains, for a test).
// Nothing is installed. A second run does nothing while the results are there (`--force` makes them again; `--debs DIR`
// takes packages that are already in DIR).
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { Cpio } from "./cpio.mjs";
import { systemMap } from "./kallsyms.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const cache = join(root, ".cache/debian");
const RESULTS = [
  "vmlinuz-cloud",
  "vmlinuz-generic",
  "System.map-cloud",
  "initramfs.cpio.gz",
  "grub-x86_64-xen.bin",
  "gnumach.gz",
];
/** Modules of the kernel packages that go into the initramfs, in the order of loading. */
const MODULES = ["xen-blkfront", "xen-netfront", "xenfs", "xen-evtchn", "xen-gntdev", "xen-gntalloc"];

/** Wanted by a test only: nothing fails without it. */
const TOOLS = "xen-utils-4.17";

const args = process.argv.slice(2);
const force = args.includes("--force");
const localDebs = args.includes("--debs") ? args[args.indexOf("--debs") + 1] : undefined;

function fail(why) {
  console.error(`setup-debian: ${why}`);
  process.exit(1);
}

function run(command, argv, options = {}) {
  return execFileSync(command, argv, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], ...options });
}

function have(command) {
  try {
    run(command, ["--version"]);
    return true;
  } catch {
    return false;
  }
}

/** Whether the results are there and at least as new as the scripts that make them. */
function upToDate() {
  const made = Math.max(...["setup-debian.mjs", "cpio.mjs", "kallsyms.mjs"].map((f) => mtime(join(root, "tools", f))));
  return RESULTS.every((name) => existsSync(join(cache, name)) && mtime(join(cache, name)) >= made);
}
const mtime = (path) => statSync(path).mtimeMs;

/** The versioned kernel package behind a meta package such as linux-image-amd64. */
function kernelPackage(meta) {
  const found = /Depends: (linux-image-\d\S*)/.exec(run("apt-cache", ["depends", meta]));
  if (found === null) fail(`apt does not know ${meta}: run \`apt-get update\` first (this needs Debian 12's sources)`);
  return found[1];
}

function fetchPackages(dir) {
  if (localDebs !== undefined) return localDebs;
  if (!have("apt-get"))
    fail("apt-get is not here: the guests come from Debian packages, so this needs Debian or Ubuntu");
  const names = [
    kernelPackage("linux-image-cloud-amd64"),
    kernelPackage("linux-image-amd64"),
    "grub-xen-host",
    "gnumach-image-1.8-xen-486",
    "busybox-static",
  ];
  mkdirSync(dir, { recursive: true });
  for (const name of [...names, TOOLS]) {
    if (readdirSync(dir).some((f) => f.startsWith(`${name}_`) && f.endsWith(".deb"))) {
      console.log(`  ${name}: already here`);
      continue;
    }
    console.log(`  ${name}: downloading`);
    try {
      run("apt-get", ["-q", "download", name], { cwd: dir });
    } catch (e) {
      if (name === TOOLS) {
        console.log(`  ${name}: not to be had, tests that need it are skipped`);
        continue;
      }
      fail(
        `cannot download ${name}: ${String(e.stderr ?? e)
          .trim()
          .split("\n")
          .at(-1)}`,
      );
    }
  }
  return dir;
}

function unpack(debs) {
  const into = join(cache, "unpacked");
  const files = readdirSync(debs).filter((f) => f.endsWith(".deb"));
  const found = {};
  const wanted = {
    cloud: /^linux-image-\d\S*-cloud-amd64_/,
    generic: /^linux-image-[\d.]+-\d+-amd64_/,
    grub: /^grub-xen-host_/,
    mach: /^gnumach-image-1\.8-xen-486_/,
    busybox: /^busybox-static_/,
    tools: /^xen-utils-4\.17_/,
  };
  for (const [key, pattern] of Object.entries(wanted)) {
    const file = files.filter((f) => pattern.test(f)).at(-1);
    if (file === undefined && key === "tools") continue;
    if (file === undefined) fail(`no package for ${key} in ${debs}`);
    const dir = join(into, file.slice(0, file.indexOf("_")));
    if (!existsSync(dir)) {
      console.log(`  ${file}`);
      rmSync(`${dir}.part`, { recursive: true, force: true });
      mkdirSync(into, { recursive: true });
      run("dpkg-deb", ["-x", join(debs, file), `${dir}.part`]);
      renameSync(`${dir}.part`, dir);
    }
    found[key] = dir;
  }
  return found;
}

function vmlinuz(dir) {
  const name = readdirSync(join(dir, "boot")).find((f) => f.startsWith("vmlinuz-"));
  return join(dir, "boot", name);
}

function findModule(dir, name) {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) {
      const found = findModule(path, name);
      if (found !== undefined) return found;
    } else if (entry.name === `${name}.ko`) return path;
  }
  return undefined;
}

/** `name` and what it depends on, dependencies first, from the module's own `depends=` line. */
function withDependencies(dir, name, into) {
  const path = findModule(dir, name) ?? findModule(dir, name.replaceAll("_", "-"));
  if (path === undefined || into.has(path)) return;
  const depends = /\0depends=([^\0]*)\0/.exec(readFileSync(path, "latin1"))?.[1] ?? "";
  for (const d of depends.split(",").filter((s) => s !== "")) withDependencies(dir, d, into);
  into.add(path);
}

const INIT = `#!/bin/sh
# First process of the initramfs: mounts, modules, then busybox init.
export PATH=/bin:/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
hostname xenolith
modules=/lib/modules/$(uname -r)
[ -f $modules/load ] && for m in $(cat $modules/load); do insmod $modules/$m; done
[ -d /proc/xen ] && mount -t xenfs xenfs /proc/xen 2>/dev/null
# A command on the kernel's command line (run=...) is run once, in place of the shell; then the domain powers off.
run=$(sed -n 's/.*run="\\([^"]*\\)".*/\\1/p; t; s/.*run=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
if [ -n "$run" ]; then
  sh -c "$run" </dev/console >/dev/console 2>&1
  echo "run: exit status $?" >/dev/console
  poweroff -f
fi
exec /sbin/init </dev/console >/dev/console 2>&1
`;

const INITTAB = `::sysinit:/bin/true
hvc0::respawn:-/bin/sh
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/umount -a -r
`;

const PROFILE = `export PATH=/bin:/sbin HOME=/root PS1='\\h:\\w\\$ '
`;

function initramfs(found) {
  const busybox = join(found.busybox, "bin/busybox");
  const applets = run(busybox, ["--list"])
    .trim()
    .split("\n")
    .filter((a) => a !== "busybox");
  const cpio = new Cpio();
  for (const d of ["bin", "sbin", "etc", "dev", "proc", "sys", "root", "run", "tmp", "mnt", "var"]) cpio.dir(d);
  cpio.charDevice("dev/console", 5, 1);
  cpio.charDevice("dev/null", 1, 3, 0o666);
  cpio.file("bin/busybox", readFileSync(busybox), 0o755);
  for (const a of applets) cpio.symlink(`bin/${a}`, "busybox");
  for (const a of ["init", "poweroff", "reboot", "halt", "modprobe", "insmod"])
    cpio.symlink(`sbin/${a}`, "../bin/busybox");
  cpio.file("init", INIT, 0o755);
  cpio.file("etc/inittab", INITTAB);
  cpio.file("etc/profile", PROFILE);
  cpio.file("etc/passwd", "root::0:0:root:/root:/bin/sh\n");
  cpio.file("etc/group", "root:x:0:\n");
  for (const kernel of [found.cloud, found.generic]) {
    const base = join(kernel, "lib/modules");
    const version = readdirSync(base)[0];
    const list = new Set();
    for (const m of MODULES) withDependencies(join(base, version), m, list);
    const names = [...list].map((path) => path.slice(path.lastIndexOf("/") + 1));
    [...list].forEach((path, i) => cpio.file(`lib/modules/${version}/${names[i]}`, readFileSync(path)));
    cpio.file(`lib/modules/${version}/load`, `${names.join("\n")}\n`);
  }
  return gzipSync(cpio.finish(), { level: 9 });
}

if (!force && upToDate()) {
  console.log("setup-debian: .cache/debian is complete");
  process.exit(0);
}
if (!have("dpkg-deb"))
  fail("dpkg-deb is not here: the guests come from Debian packages, so this needs Debian or Ubuntu");
mkdirSync(cache, { recursive: true });
console.log("setup-debian: packages");
const debs = fetchPackages(join(cache, "debs"));
console.log("setup-debian: unpacking");
if (force) rmSync(join(cache, "unpacked"), { recursive: true, force: true });
const found = unpack(debs);
console.log("setup-debian: kernels, GRUB, GNU Mach");
copyFileSync(vmlinuz(found.cloud), join(cache, "vmlinuz-cloud"));
copyFileSync(vmlinuz(found.generic), join(cache, "vmlinuz-generic"));
copyFileSync(join(found.grub, "usr/lib/grub-xen/grub-x86_64-xen.bin"), join(cache, "grub-x86_64-xen.bin"));
copyFileSync(join(found.mach, "boot/gnumach-1.8-xen-486.gz"), join(cache, "gnumach.gz"));
console.log("setup-debian: System.map (from the kernel's own symbol table: Debian's file is a stub)");
writeFileSync(join(cache, "System.map-cloud"), await systemMap(readFileSync(join(cache, "vmlinuz-cloud"))));
console.log("setup-debian: initramfs");
writeFileSync(join(cache, "initramfs.cpio.gz"), initramfs(found));
for (const name of RESULTS) console.log(`  ${join(".cache/debian", name)}: ${statSync(join(cache, name)).size} bytes`);
