// Guest work side by side: Debian's kernel with one initramfs, here and under QEMU's TCG, interleaved in one run.
//
//   npm run bench                  the table
//   npm run bench -- --json        one object with a row per work on standard output
//   npm run bench -- --rounds 5    interleaved rounds (default 3)
//
// Times are taken on the host, between marker lines that the guest prints, so no guest clock is trusted. A round is one boot of each
// machine that does all the work in turn; the best of the rounds counts, minimum, median and maximum are printed. Each work is first done
// once as a warm-up, except power-on, which is cold by nature.
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const args = process.argv.slice(2);
const json = args.includes("--json");
const option = (name, otherwise) => (args.includes(name) ? args[args.indexOf(name) + 1] : otherwise);
const rounds = Number(option("--rounds", "3"));
const only = option("--only", "");

const kernel = join(root, ".cache/debian/vmlinuz-cloud");
const initramfs = join(root, ".cache/debian/initramfs.cpio.gz");
const qemu = "qemu-system-x86_64";

const WORK = [
  { name: "power-on to user space", target: 1.0 },
  { name: "dd 64 MiB | md5sum", target: 1.3, run: "dd if=/dev/zero bs=1M count=64 2>/dev/null | md5sum" },
  { name: "gzip of 16 MiB", target: 1.3, run: "gzip -c /tmp/data" },
  { name: "shell loop, 200,000", target: 1.3, run: "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done" },
  { name: "fork+exec, 2,000", target: 1.0, run: "i=0; while [ $i -lt 2000 ]; do /bin/true; i=$((i+1)); done" },
];

/** What the guest runs: markers around each work, twice (warm-up and measured). */
const works = WORK.filter((w) => w.run && (only === "" || w.name.includes(only)));
const script = [
  "echo @u0w",
  "mkdir -p /tmp",
  "i=0; while [ $i -lt 64 ]; do cat /bin/busybox; i=$((i+1)); done 2>/dev/null | head -c 16777216 >/tmp/data",
  ...works.map((w, i) => `for k in w m; do echo @b${i}$k; (${w.run}) >/dev/null; echo @e${i}$k; done`),
].join("; ");

function machine(kind) {
  const quoted = `run="${script}"`;
  if (kind === "qemu")
    return [
      qemu,
      [
        "-accel",
        "tcg",
        "-smp",
        "1",
        "-m",
        "256",
        "-nographic",
        "-no-reboot",
        "-net",
        "none",
        "-kernel",
        kernel,
        "-initrd",
        initramfs,
      ].concat("-append", `console=ttyS0 panic=-1 ${quoted}`),
    ];
  return [
    process.execPath,
    [join(root, "bin/xenolith.js"), "run", kernel, "--ramdisk", initramfs, "--memory", "256", "--vcpus", "1"].concat(
      "--cmdline",
      `console=hvc0 panic=-1 ${quoted}`,
    ),
  ];
}

/** Boot once; returns milliseconds per work. */
function round(kind) {
  const [command, argv] = machine(kind);
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(command, argv, { stdio: ["ignore", "pipe", "pipe"] });
    const times = {};
    const begun = {};
    let line = "";
    let tail = "";
    const limit = setTimeout(() => child.kill("SIGKILL"), 600_000);
    child.stdout.on("data", (chunk) => {
      const now = performance.now();
      tail = (tail + chunk).slice(-2000);
      for (const c of chunk.toString("latin1")) {
        if (c !== "\n" && c !== "\r") {
          line += c;
          continue;
        }
        const m = /@([ube])(\d+)([wm])$/.exec(line);
        if (m) {
          if (times["power-on to user space"] === undefined) times["power-on to user space"] = now - start;
          if (m[1] === "b") begun[m[2] + m[3]] = now;
          else if (m[1] === "e" && m[3] === "m") times[works[Number(m[2])].name] = now - begun[m[2] + m[3]];
        }
        line = "";
      }
    });
    child.stderr.on("data", (chunk) => (tail = (tail + chunk).slice(-2000)));
    child.on("close", (code) => {
      clearTimeout(limit);
      if (works.some((w) => times[w.name] === undefined))
        reject(new Error(`${kind}: ended early (status ${code})\n${tail}`));
      else resolve(times);
    });
  });
}

const stats = (values) => {
  const s = [...values].sort((a, b) => a - b);
  return { min: s[0], median: s[s.length >> 1], max: s[s.length - 1] };
};

for (const f of [kernel, initramfs]) {
  if (!existsSync(f)) {
    console.error(`bench: ${f} is missing; run npm run setup:debian first`);
    process.exit(2);
  }
}
if (!existsSync(join(root, "dist/cli/main.js"))) {
  console.error("bench: not built; run npm run build first");
  process.exit(2);
}
const withQemu = spawnSync(qemu, ["--version"]).status === 0;
if (!withQemu) console.error(`bench: ${qemu} is not installed (Debian: qemu-system-x86); only our own times follow`);

const results = { ours: {}, qemu: {} };
const add = (who, times) => {
  for (const [name, ms] of Object.entries(times)) (results[who][name] ??= []).push(ms);
};
/** Rounds that failed: reported at the end, and the whole is then a failure; the others still count. */
const failures = [];
const attempt = async (who, kind) => {
  try {
    add(who, await round(kind));
  } catch (e) {
    failures.push(e.message);
    console.error(`bench: ${e.message}`);
  }
};
for (let i = 0; i < rounds; i++) {
  if (!json) console.error(`round ${i + 1} of ${rounds}`);
  await attempt("ours", "xenolith");
  if (withQemu) await attempt("qemu", "qemu");
}

/** The guest that measures what has no peer; it prints `bench NAME NS` lines. */
async function latencies() {
  const image = join(root, "guests/images/bench.elf");
  if (!existsSync(image)) return {};
  const child = spawnSync(process.execPath, [join(root, "bin/xenolith.js"), "run", image, "--timeout", "120"], {
    encoding: "utf8",
  });
  const out = {};
  if (child.status !== 0) {
    failures.push(`${image}: status ${child.status}`);
    console.error(`bench: ${image} failed (status ${child.status})\n${`${child.stdout}${child.stderr}`.slice(-1000)}`);
  }
  for (const m of `${child.stdout}${child.stderr}`.matchAll(/bench (.+?) (\d+(?:\.\d+)?)\s*$/gm))
    out[m[1]] = Number(m[2]);
  return out;
}
const LIMITS = {
  hypercall: 150,
  "event-to-self": 2000,
  "system-call": 400,
  "page-fault": 3000,
  "context-switch": null,
};

const rows = WORK.filter((w) => results.ours[w.name]).map((w) => {
  const ours = stats(results.ours[w.name]);
  const theirs = results.qemu[w.name] ? stats(results.qemu[w.name]) : undefined;
  const ratio = theirs ? theirs.min / ours.min : null;
  return {
    work: w.name,
    ours,
    qemu: theirs ?? null,
    ratio,
    target: w.target,
    met: ratio === null ? null : ratio >= w.target,
  };
});
const ns = await latencies();
if (json) {
  const lat = Object.entries(ns).map(([work, value]) => {
    const target = LIMITS[work] ?? null;
    return { work, ns: value, ratio: null, target, met: target === null ? null : value <= target };
  });
  console.log(JSON.stringify({ rounds, failures, rows: [...rows, ...lat] }));
} else {
  const s = (x) => (x / 1000).toFixed(2);
  console.log("| work | Xenolith s (min / median / max) | QEMU TCG s | ratio (QEMU ÷ ours) |");
  console.log("|---|---|---|---|");
  for (const r of rows) {
    const q = r.qemu ? `${s(r.qemu.min)} / ${s(r.qemu.median)} / ${s(r.qemu.max)}` : "–";
    console.log(
      `| ${r.work.replaceAll("|", "\\|")} | ${s(r.ours.min)} / ${s(r.ours.median)} / ${s(r.ours.max)} | ${q} | ${r.ratio?.toFixed(2) ?? "–"} |`,
    );
  }
  if (Object.keys(ns).length > 0) {
    console.log("\n| without a peer | ns |\n|---|---|");
    for (const [name, value] of Object.entries(ns)) console.log(`| ${name} | ${value} |`);
  }
}
if (failures.length > 0) {
  console.error(`bench: ${failures.length} run(s) failed`);
  process.exit(1);
}
