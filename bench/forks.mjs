// Instant start: how time and memory grow with forks of a booted Debian.
//
//   npm run bench:forks                       the table
//   npm run bench:forks -- --json             one object on standard output
//   npm run bench:forks -- --memory 256       MiB of the domain (default 128)
//   npm run bench:forks -- --counts 1,10,100  forks at a time
//
// The domain boots to its shell and is kept as a snapshot once; each count's forks come from it and are destroyed afterwards. Milliseconds are the
// host's, from the call to a domain that may run; `cpu` is this process's time over them. Memory is counted in machine frames (what a fork has for
// itself) and as the process's resident memory (the tables that describe frames are in it).
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate, setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { forkDomain, forkTemplate, sharingMiB, takeSnapshot } from "../dist/toolstack/fork.js";
import { Machine } from "../dist/toolstack/machine.js";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const args = process.argv.slice(2);
const json = args.includes("--json");
const option = (name, otherwise) => (args.includes(name) ? args[args.indexOf(name) + 1] : otherwise);
const MIB = Number(option("--memory", "128"));
const COUNTS = option("--counts", "1,10,100").split(",").map(Number);

const files = ["vmlinuz-cloud", "initramfs.cpio.gz"].map((n) => join(root, ".cache/debian", n));
if (!files.every((f) => existsSync(f))) {
  console.error("bench/forks: Debian's kernel is missing: npm run setup:debian");
  process.exit(1);
}
const [kernel, ramdisk] = files.map((f) => readFileSync(f));

const PROMPT = /xenolith:\S* ?# (?:\x1b\[6n)?$/;
const machine = new Machine({
  memoryMiB: MIB + 5 * Math.max(...COUNTS) + 96,
  forkMiB: MIB * (Math.max(...COUNTS) + 1),
});
const { frames } = machine.xen;

/** Collect what a domain prints. */
function listen(domain) {
  const out = { text: "" };
  const decoder = new TextDecoder("latin1");
  domain.console.onOutput = (bytes) => (out.text += decoder.decode(bytes));
  return out;
}
async function until(done) {
  const start = performance.now();
  while (!done()) {
    if (performance.now() - start > 600_000) throw new Error("a guest does not answer");
    const ns = machine.runSlice(10);
    if (ns >= 1e6) await setTimeout(Math.min(5, ns / 1e6));
    else await setImmediate();
  }
}
async function during(work) {
  let done = false;
  const mark = () => (done = true);
  work.then(mark, mark);
  while (!done) {
    machine.runSlice(1);
    await setImmediate();
  }
  return work;
}
const cpuMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};
const mib = (n) => n / 256;
const round = (x, digits = 2) => Number(x.toFixed(digits));
const rss = () => {
  globalThis.gc?.();
  return process.memoryUsage().rss / 1048576;
};
function stats(list) {
  const s = [...list].sort((a, b) => a - b);
  return { min: round(s[0]), median: round(s[Math.floor(s.length / 2)]), max: round(s[s.length - 1]) };
}

const start = performance.now();
const parent = await machine.createDomain({
  kernel,
  ramdisk,
  name: "debian",
  memoryMiB: MIB,
  cmdline: "console=hvc0 quiet",
});
const said = listen(parent);
await until(() => PROMPT.test(said.text));
const bootMs = performance.now() - start;

// A running domain, the whole way; twice, for the first goes through code that has never run.
const whole = [];
for (let i = 0; i < 3; i++) {
  const begin = performance.now();
  const r = await during(forkDomain(machine, parent, { paused: true }));
  whole.push({
    totalMs: performance.now() - begin,
    suspendMs: r.suspendMs,
    snapshotMs: r.snapshotMs,
    forkMs: r.forkMs[0],
  });
  for (const f of r.forks) f.destroy();
}

const template = await during(takeSnapshot(machine, parent));
const rows = [];
for (const count of COUNTS) {
  const free = frames.freeFrames;
  const resident = rss();
  const cpu = cpuMs();
  const { forks, forkMs } = await forkTemplate(machine, template, { count, paused: true });
  const cpuEach = (cpuMs() - cpu) / count;
  const after = free - frames.freeFrames;
  const residentEach = (rss() - resident) / count;
  const shared = sharingMiB(machine);
  const outs = forks.map(listen);
  const begin = performance.now();
  for (const f of forks) {
    machine.xen.unpause(f.domain);
    f.console.write(new TextEncoder().encode("\necho $((6 * 7)); ls / > /dev/null; echo done''e\n"));
  }
  await until(() => outs.every((o) => /42[^]*donee[^]*# /.test(o.text)));
  const answerMs = (performance.now() - begin) / count;
  const ran = free - frames.freeFrames;
  rows.push({
    forks: count,
    msPerFork: stats(forkMs),
    cpuMsPerFork: round(cpuEach),
    mibPerForkAfterFork: round(mib(after) / count),
    mibPerForkAfterCommand: round(mib(ran) / count),
    residentMibPerFork: round(residentEach),
    commandMsPerFork: round(answerMs),
    sharingFreedMiB: shared.freedMiB,
    sharingUsedMiB: shared.usedMiB,
  });
  for (const f of forks) f.destroy();
}
template.release();

const best = whole.reduce((a, b) => (b.totalMs < a.totalMs ? b : a));
const result = {
  memoryMiB: MIB,
  bootMs: round(bootMs, 0),
  runningDomain: Object.fromEntries(Object.entries(best).map(([k, v]) => [k, round(v)])),
  rows,
};
if (json) console.log(JSON.stringify(result));
else {
  console.log(`A Debian of ${MIB} MiB; its boot took ${result.bootMs} ms.`);
  const w = result.runningDomain;
  console.log(
    `Forked while it runs (best of 3): ${w.totalMs} ms, of which ${w.suspendMs} until it is suspended, ${w.snapshotMs} to keep it, ${w.forkMs} for the fork.\n`,
  );
  console.log("Forks of the snapshot:\n");
  const head = [
    "forks",
    "ms a fork: min",
    "median",
    "max",
    "CPU ms",
    "MiB a fork",
    "after a command",
    "resident",
    "ms to run it",
  ];
  const table = rows.map((r) =>
    [
      r.forks,
      r.msPerFork.min,
      r.msPerFork.median,
      r.msPerFork.max,
      r.cpuMsPerFork,
      r.mibPerForkAfterFork,
      r.mibPerForkAfterCommand,
      r.residentMibPerFork,
      r.commandMsPerFork,
    ].map(String),
  );
  const widths = head.map((h, i) => Math.max(h.length, ...table.map((r) => r[i].length)));
  const line = (r) => `| ${r.map((c, i) => c.padStart(widths[i])).join(" | ")} |`;
  console.log(line(head));
  console.log(`|${widths.map((n) => "-".repeat(n + 1) + ":").join("|")}|`);
  for (const r of table) console.log(line(r));
}
process.exit(0);
