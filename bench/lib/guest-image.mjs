// The initramfs of the bench: the one of Debian's guests, and /bench with the small programs and the script that takes orders on the console.
// Both sides boot the same file. It is kept in .cache/bench and made again when one of its sources is newer.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { Cpio } from "../../tools/cpio.mjs";

const FLAGS =
  "-O2 -fno-tree-vectorize -fno-tree-loop-distribute-patterns -fno-stack-protector -fcf-protection=none -fno-pic -fno-strict-aliasing " +
  "-fno-asynchronous-unwind-tables -ffreestanding -march=x86-64";
const LINK = "-static -nostdlib -no-pie -Wl,--build-id=none -Wl,-z,noexecstack";

/** Where the guest keeps what works read and write. */
const PREPARE = [
  "mkdir -p /tmp",
  "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do cat /bin/busybox; done | head -c 16777216 >/tmp/data",
  "gzip -c </tmp/data >/tmp/data.gz",
];
const PREPARE_PROGRAMS = ["/bench/work lines 200000 >/tmp/lines", "/bench/work text 20971520 >/tmp/text"];

/** The guest's side of `machines.mjs`: it says @ready, then does what it is told, a number at a time. */
function script(works, programs) {
  return `# Takes the numbers of works from the console; times are taken on the host, between @b and @e.
stty -echo 2>/dev/null
echo @ready
while read -r n; do
  case $n in
    prepare) ${[...PREPARE, ...(programs ? PREPARE_PROGRAMS : [])].join("; ")}; echo "@e $?"; continue ;;
    clock) read -r up rest </proc/uptime; echo "@e $up"; continue ;;
    quit) break ;;
${works.map((w, i) => `    ${i}) w="${w.run}" ;;`).join("\n")}
    *) continue ;;
  esac
  echo @b
  (eval "$w") >/tmp/out 2>/tmp/err
  s=$?
  echo "@e $s"
  set -- $(md5sum </tmp/out)
  echo "@c $1 $(head -c 200 /tmp/err | tr '\\n' ' ')"
  rm -f /tmp/out
done
echo @bye
`;
}

const newest = (files) => Math.max(...files.map((f) => statSync(f).mtimeMs));

/** The programs, built; null (and why) where there is no C compiler. */
function buildPrograms(root, dir) {
  const out = join(dir, "work");
  const sources = ["bench/guest/work.c", "bench/guest/kernels.c", "bench/translator-kernels/kernels.c"].map((f) =>
    join(root, f),
  );
  const self = join(root, "bench/lib/guest-image.mjs");
  if (existsSync(out) && statSync(out).mtimeMs >= newest([...sources, self])) return { path: out };
  const gcc = (...args) => spawnSync("gcc", args, { encoding: "utf8", timeout: 120_000 });
  const steps = [
    [...FLAGS.split(" "), "-mgeneral-regs-only", "-c", "-o", join(dir, "kernels.o"), sources[1]],
    [...FLAGS.split(" "), "-c", "-o", join(dir, "work.o"), sources[0]],
    [...LINK.split(" "), "-o", `${out}.part`, join(dir, "work.o"), join(dir, "kernels.o")],
  ];
  for (const args of steps) {
    const r = gcc(...args);
    if (r.error !== undefined) return { why: "gcc is not installed (Debian: gcc)" };
    if (r.status !== 0) return { why: `gcc failed: ${r.stderr.trim().split("\n").slice(-3).join(" / ")}` };
  }
  renameSync(`${out}.part`, out);
  return { path: out };
}

/** `{ initramfs, programs, why }`: `programs` says whether the small programs are in it, `why` why not. */
export function benchImage(root, base, works) {
  const dir = join(root, ".cache/bench");
  mkdirSync(dir, { recursive: true });
  const { path, why } = buildPrograms(root, dir);
  const archive = new Cpio();
  archive.dir("bench");
  archive.file("bench/run", script(works, path !== undefined), 0o755);
  if (path !== undefined) archive.file("bench/work", readFileSync(path), 0o755);
  // One compressed stream of two archives, which any kernel takes for one.
  const first = gunzipSync(readFileSync(base));
  const padded = Buffer.concat([first, Buffer.alloc(-first.length & 511)]);
  const initramfs = join(dir, "initramfs.cpio.gz");
  writeFileSync(`${initramfs}.part`, gzipSync(Buffer.concat([padded, archive.finish()])));
  renameSync(`${initramfs}.part`, initramfs);
  return { initramfs, program: path ?? null, why: why ?? null };
}
