// Builds a Debian 12 root file system on a virtual disk from Debian packages: systemd, a login on hvc0, sshd, network tools, and a
// kernel where GRUB finds it. What is in it beyond the packages is in tools/debian-disk/root, file for file.
// Results in .cache/debian/disk: debian.img (sparse, ext4 on the whole disk), vmlinuz and initrd.img (the same kernel for kernel= and
// ramdisk=), packages (names and versions).
//
// Nothing is installed on this machine and no root is needed: mmdebstrap works as root, or in a user namespace with a plain user's
// subordinate numbers (package uidmap); mke2fs fills the file system without mounting it. Packages come from where this machine's apt
// gets its own. The same packages give the same bytes. A second run does nothing while the results are there (`--force` makes them
// again, `--out DIR` elsewhere); overlays (*.qcow2) beside an image that is made again are removed.
import { execFileSync, spawn } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { delimiter, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const overlay = join(root, "tools/debian-disk/root");
const RESULTS = ["debian.img", "vmlinuz", "initrd.img", "packages"];
const SUITE = "bookworm";
const SIZE = "2G";
/** Time stamps in the image are not newer (the day Debian 12 came out), and what is made at random elsewhere is fixed. */
const EPOCH = "1686355200";
const UUID = "58656e6f-6c69-4748-8000-64656269616e";
const HASH_SEED = "58656e6f-6c69-4748-8000-68617368696e";
/** SHA-512 with few rounds, of the password `xenolith`: a software CPU computes it at each login. */
const PASSWORD =
  "$6$rounds=1000$xenolith$lKkYL8TuIutWhZjy11NrMoY9QlRfxm4Qujks8da0JVFshYWrAJNLpLjmTu1UeSDye30fNao1JFWGHONd6Pn.W0";
const PACKAGES = [
  "systemd-sysv",
  "udev",
  "linux-image-cloud-amd64",
  "initramfs-tools",
  "e2fsprogs",
  "logsave",
  "lz4",
  "openssh-server",
  "openssh-client",
  "netcat-openbsd",
  "iperf3",
  "iproute2",
  "iputils-ping",
  "netbase",
];
/** Nothing that only costs time in a machine that lives for minutes: services of years, and file systems and modules nobody asked for. */
const UNITS_OFF = [
  "getty@tty1.service",
  "ssh.service",
  "apt-daily.timer",
  "apt-daily-upgrade.timer",
  "dpkg-db-backup.timer",
  "e2scrub_all.timer",
  "e2scrub_reap.service",
  "fstrim.timer",
  "systemd-networkd-wait-online.service",
];
const UNITS_MASKED = [
  "getty-static.service",
  "dev-hugepages.mount",
  "dev-mqueue.mount",
  "sys-kernel-debug.mount",
  "sys-kernel-tracing.mount",
  "sys-kernel-config.mount",
  "sys-fs-fuse-connections.mount",
  "systemd-pstore.service",
  "systemd-repart.service",
];
const UNITS_ON = ["ssh.socket", "systemd-networkd.service"];

const args = process.argv.slice(2);
const option = (name) => (args.includes(name) ? args[args.indexOf(name) + 1] : undefined);
const out = resolve(option("--out") ?? join(root, ".cache/debian/disk"));
const work = `${out}.work`;

function fail(why) {
  console.error(`setup-debian-disk: ${why}`);
  process.exit(1);
}
function say(what) {
  console.log(`setup-debian-disk: ${what}`);
}

/** Where programs are looked for: also where administrators' are, which a plain user's PATH leaves out. */
let path = [...(process.env.PATH ?? "").split(delimiter), "/usr/local/sbin", "/usr/sbin", "/sbin"];
const environment = () => ({ ...process.env, PATH: path.join(delimiter), LC_ALL: "C.UTF-8", SOURCE_DATE_EPOCH: EPOCH });
const have = (program) => path.some((dir) => existsSync(join(dir, program)));

function run(command, argv, options = {}) {
  return execFileSync(command, argv, {
    encoding: "utf8",
    maxBuffer: 2 ** 27,
    stdio: ["ignore", "pipe", "pipe"],
    env: environment(),
    ...options,
  });
}

/** Every file below a folder. */
function files(dir) {
  return readdirSync(dir, { withFileTypes: true }).flatMap((e) =>
    e.isDirectory() ? files(join(dir, e.name)) : [join(dir, e.name)],
  );
}

/** Every name below a folder, as a path from there. */
function everything(dir, at) {
  const names = readdirSync(join(dir, at), { withFileTypes: true });
  return [
    `${at}/`.replace(/(.)\/$/, "$1"),
    ...names.flatMap((e) => (e.isDirectory() ? everything(dir, `${at}/${e.name}`) : [`${at}/${e.name}`])),
  ];
}

function upToDate() {
  const mtime = (file) => lstatSync(file).mtimeMs;
  const made = Math.max(mtime(fileURLToPath(import.meta.url)), ...files(overlay).map(mtime));
  // The last of them is put there last, and is the only one whose time is that of the building.
  return RESULTS.every((name) => existsSync(join(out, name))) && mtime(join(out, RESULTS.at(-1))) >= made;
}

/** Where this machine's apt gets Debian from, as lines of a sources.list. */
function sources() {
  const format = "$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)";
  const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
  const signed = existsSync(keyring) ? ` [signed-by=${keyring}]` : "";
  const lines = new Set();
  for (const line of run("apt-get", ["indextargets", "--format", format, "Created-By: Packages"]).trim().split("\n")) {
    const [origin, codename, uri, release, component] = line.split("|");
    if (origin !== "Debian" || codename?.split("-")[0] !== SUITE || component !== "main") continue;
    lines.add(`deb${signed} ${uri} ${release} ${component}`);
  }
  if (lines.size === 0)
    fail(`apt knows no Debian ${SUITE}: run \`apt-get update\` first (this needs Debian 12's sources)`);
  return [...lines];
}

/** A program that is not installed here, from its package, without installing it. */
function provide(program, names) {
  if (have(program)) return;
  const tools = join(work, "tools");
  mkdirSync(tools, { recursive: true });
  for (const name of names) {
    say(`${program} is not here: taking it from the package ${name}`);
    try {
      run("apt-get", ["-q", "download", name], { cwd: tools });
    } catch (e) {
      const why = String(e.stderr ?? e).trim();
      fail(`cannot download ${name}: ${why.split("\n").at(-1)}`);
    }
    const file = readdirSync(tools).find((f) => f.startsWith(`${name}_`));
    run("dpkg-deb", ["-x", join(tools, file), join(tools, name)]);
    path = [join(tools, name, "usr/bin"), ...path];
  }
}

/** fakeroot and fakechroot look for their libraries where the package puts them: tell them where they are. */
function wrapped(program, names, wrapper) {
  if (have(program)) return;
  provide(program, names);
  const bin = join(work, "tools/bin");
  mkdirSync(bin, { recursive: true });
  const dir = (name) => join(work, "tools", name);
  writeFileSync(join(bin, program), `#!/bin/sh\n${wrapper(dir)}\n`, { mode: 0o755 });
  path = [bin, ...path];
}
function fakeroot() {
  wrapped("fakeroot", ["libfakeroot", "fakeroot"], (dir) => {
    const lib = join(dir("libfakeroot"), "usr/lib/x86_64-linux-gnu/libfakeroot");
    const bin = join(dir("fakeroot"), "usr/bin");
    return `exec ${bin}/fakeroot-sysv --lib ${lib}/libfakeroot-sysv.so --faked ${bin}/faked-sysv "$@"`;
  });
}

/** How mmdebstrap gets along: as root, or as root of a user namespace. */
function chooseMode() {
  if (process.getuid() === 0) return "root";
  const user = run("id", ["-un"]).trim();
  for (const file of ["/etc/subuid", "/etc/subgid"]) {
    const text = existsSync(file) ? readFileSync(file, "utf8") : "";
    if (!text.split("\n").some((line) => line.startsWith(`${user}:`)))
      fail(
        `${file} has no numbers for ${user} (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${user})`,
      );
  }
  if (!have("newuidmap")) fail("without being root this needs newuidmap, from the package uidmap");
  try {
    run("unshare", ["-Ur", "true"]);
  } catch {
    fail("this kernel has no user namespaces for plain users: only root can build the disk here");
  }
  return "unshare";
}

/** mmdebstrap, its own headlines shown; the rest is kept for when it fails. */
function mmdebstrap(argv) {
  return new Promise((done) => {
    const child = spawn("mmdebstrap", argv, { stdio: ["ignore", "pipe", "pipe"], env: environment() });
    let log = "";
    let partial = "";
    const read = (text) => {
      log += text;
      const lines = (partial + text).split(/[\r\n]/);
      partial = lines.pop();
      for (const line of lines)
        if (/^I: (?:running apt-get|downloading|extracting|installing|creating)/.test(line))
          console.log(`  ${line.slice(3, 120)}`);
    };
    child.stdout.setEncoding("utf8").on("data", read);
    child.stderr.setEncoding("utf8").on("data", read);
    child.on("error", (e) => fail(`cannot run mmdebstrap: ${e.message}`));
    child.on("close", (status) => {
      if (status === 0) return done();
      console.error(
        log
          .split(/[\r\n]+/)
          .slice(-30)
          .join("\n"),
      );
      fail(`mmdebstrap ended with status ${status}`);
    });
  });
}

if (!args.includes("--force") && upToDate()) {
  say(`${out} is complete`);
  process.exit(0);
}
for (const program of ["apt-get", "dpkg-deb", "perl", "tar"])
  if (!have(program))
    fail(`${program} is not here: the disk is made of Debian packages, so this needs Debian or Ubuntu`);
for (const program of ["mke2fs", "debugfs"])
  if (!have(program)) fail(`${program} is not here: it is in the package e2fsprogs`);
process.on("exit", () => rmSync(work, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));
rmSync(work, { recursive: true, force: true });
mkdirSync(work, { recursive: true });
mkdirSync(out, { recursive: true });

const list = sources();
provide("mmdebstrap", ["mmdebstrap"]);
const mode = chooseMode();
if (mode !== "root") fakeroot();

say(`packages (mmdebstrap, mode ${mode})`);
const files0 = join(work, "overlay.tar");
const owner = ["--owner=0", "--group=0", "--numeric-owner", `--mtime=@${EPOCH}`, "--sort=name", "--mode=u=rwX,go=rX"];
run("tar", ["-C", overlay, ...owner, "-cf", files0, ...readdirSync(overlay).sort()]);
const chroot = (script) => `--customize-hook=chroot "$1" sh -ec '${script}'`;
const tar = join(work, "root.tar");
await mmdebstrap([
  `--mode=${mode}`,
  "--variant=essential",
  "--format=tar",
  "--architectures=amd64",
  `--include=apt,${PACKAGES.join(",")}`,
  // A file system that is thrown away if the host dies now: no waiting for its disk after each file.
  "--dpkgopt=force-unsafe-io",
  // Before the packages that read them are configured.
  `--essential-hook=tar-in ${files0} /`,
  chroot(`usermod -p "${PASSWORD.replaceAll("$", "\\$")}" root`),
  chroot(`systemctl enable ${UNITS_ON.join(" ")}; systemctl disable ${UNITS_OFF.join(" ")}`),
  chroot(`systemctl mask ${UNITS_MASKED.join(" ")}; systemctl set-default multi-user.target`),
  // What must differ from domain to domain, and the files that only building needed.
  chroot("rm -f /etc/ssh/ssh_host_*; : >/etc/machine-id; rm -f /var/lib/dbus/machine-id /boot/*.old /*.old"),
  chroot(
    "rm -rf /etc/dpkg/dpkg.cfg.d/99mmdebstrap /var/log/apt /var/log/*.log /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old /var/lib/dpkg/*-old",
  ),
  `--customize-hook=tar-in ${files0} /`,
  SUITE,
  tar,
  ...list,
]);

say("file system");
const image = join(work, "debian.img");
const tree = join(work, "root");
mkdirSync(tree);
const q = (text) => `'${text}'`;
const fill = `set -e; umask 022
tar -C ${q(tree)} --numeric-owner -xpf ${q(tar)}
mke2fs -q -F -t ext4 -L debian -U ${UUID} -E hash_seed=${HASH_SEED},lazy_itable_init=1,nodiscard -J size=16 -O ^metadata_csum_seed,^orphan_file -m 1 -d ${q(tree)} ${q(image)} ${SIZE}`;
const env = { ...environment(), E2FSPROGS_FAKE_TIME: EPOCH };
try {
  if (process.getuid() === 0) run("sh", ["-c", fill], { env });
  else run("fakeroot", ["sh", "-c", fill], { env });
} catch (e) {
  fail(`cannot fill the file system: ${String(e.stderr ?? e).trim()}`);
}

// mke2fs takes over when the files were made here.
const times = everything(tree, "").flatMap((name) =>
  ["atime", "ctime"].map((field) => `set_inode_field "${name}" ${field} @${EPOCH}\n`),
);
writeFileSync(join(work, "times"), `set_current_time @${EPOCH}\n${times.join("")}`);
const said = run("sh", ["-c", `debugfs -w -f ${q(join(work, "times"))} ${q(image)} 2>&1`], { env })
  .split("\n")
  .find((line) => !/^(debugfs|Setting current time|$)/.test(line));
if (said !== undefined) fail(`cannot set the files' times: ${said}`);

say("kernel, list of packages");
const boot = (name) =>
  join(tree, "boot", readdirSync(join(tree, "boot")).find((f) => f.startsWith(name)) ?? fail(`no ${name} in /boot`));
const status = readFileSync(join(tree, "var/lib/dpkg/status"), "utf8");
const packages = status.split("\n\n").flatMap((p) => {
  const name = /^Package: (.*)$/m.exec(p)?.[1];
  return name === undefined ? [] : [`${name} ${/^Version: (.*)$/m.exec(p)?.[1]}\n`];
});
writeFileSync(join(work, "packages"), packages.sort().join(""));
renameSync(boot("vmlinuz-"), join(work, "vmlinuz"));
renameSync(boot("initrd.img-"), join(work, "initrd.img"));
// What was written over the image that was here belongs to nothing now.
for (const name of readdirSync(out)) if (name.endsWith(".qcow2")) rmSync(join(out, name));
for (const name of RESULTS) {
  renameSync(join(work, name), join(out, name));
  const s = statSync(join(out, name));
  console.log(`  ${join(out, name)}: ${s.size} bytes, ${Math.round((s.blocks * 512) / 1048576)} MiB on the disk`);
}
