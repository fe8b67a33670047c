// Guest work side by side: Debian's kernel with one initramfs, here and under QEMU's TCG, interleaved in one run (docs/performance.md).
//
//   npm run bench                     the table
//   npm run bench -- --json           one object with a row per work on standard output, progress on standard error
//   npm run bench -- --rounds 5       boots of each side (default 5)
//   npm run bench -- --only sort,x87  only works whose names contain one of these; `power-on`, `latency` and `idle` are names too
//   npm run bench -- --budget 700     seconds after which no further round begins (default 560)
//   npm run bench -- --svg FILE       a chart; --markdown: only the tables; --readme: also put them in their place in the README
//
// A round boots both machines. Each work is done once to warm up, by both at a time, then measured, by one after the other while that one waits; then
// comes the next work: what disturbs the host disturbs both. Times are the host's, between two lines that the guest prints right before and after a work,
// so no guest's clock is trusted; how far the clocks were apart is reported. Power-on is from the start of the process. What a work prints must be
// the same on both sides and, for our own programs, on the host. The best of the rounds counts.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { benchImage } from "./lib/guest-image.mjs";
import { BenchMachine, MEMORY_MIB, QEMU } from "./lib/machines.mjs";
import { idle, IDLE, latencies, LATENCIES } from "./lib/peerless.mjs";
import { chart, tables } from "./lib/report.mjs";
import { KERNEL_MEAN, POWER_ON, WORKS } from "./lib/works.mjs";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const args = process.argv.slice(2);
const option = (name, otherwise) => (args.includes(name) ? args[args.indexOf(name) + 1] : otherwise);
const number = (name, otherwise) => {
  const n = Number(option(name, otherwise));
  if (!(n > 0)) fatal(`${name} takes a number above 0`);
  return n;
};
const rounds = number("--rounds", 5);
const budgetMs = number("--budget", 560) * 1000;
/** For one work, or a boot: on a loaded host these may be raised. */
const workLimit = number("--limit", 60) * 1000;
const only = option("--only", "")
  .split(",")
  .filter((s) => s !== "");
const wanted = (name) => only.length === 0 || only.some((o) => name.toLowerCase().includes(o.toLowerCase()));
const log = (text) => console.error(`bench: ${text}`);

function fatal(why) {
  log(why);
  process.exit(2);
}

const kernel = join(root, ".cache/debian/vmlinuz-cloud");
const base = join(root, ".cache/debian/initramfs.cpio.gz");
for (const f of [kernel, base]) if (!existsSync(f)) fatal(`${f} is missing: npm run setup:debian`);
if (!existsSync(join(root, "dist/cli/main.js"))) fatal("not built: npm run build");

const qemuVersion = /version (\S+)/.exec(spawnSync(QEMU, ["--version"], { encoding: "utf8" }).stdout ?? "")?.[1];
/** What went wrong: said at once, kept in the result, and the exit status is 1. */
const failures = [];
const fail = (why) => {
  failures.push(why);
  log(why);
};
if (qemuVersion === undefined)
  fail(`${QEMU} is not installed (Debian: qemu-system-x86): there is nothing to compare with`);

const { initramfs, program, why } = benchImage(root, base, WORKS);
if (program === null) fail(`the small programs are left out: ${why}`);
const chosen = WORKS.map((w, i) => ({ ...w, index: i })).filter(
  (w) => wanted(w.work) && (program !== null || !w.run.startsWith("/bench/")),
);
const kinds = ["xenolith", ...(qemuVersion === undefined ? [] : ["qemu"])];

/** By side and work: milliseconds of each round, and the checksums of what was printed. */
const times = { xenolith: {}, qemu: {} };
const sums = {};
/** What a program of ours measured itself, by the guest's clock: nanoseconds. */
const ownNs = {};
const note = (kind, work, ms) => (times[kind][work] ??= []).push(ms);
/** By side: guest time ÷ host time over a round. */
const clocks = { xenolith: [], qemu: [] };

/** Nothing that was started outlives this. */
const alive = new Set();
for (const [signal, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
]) {
  process.on(signal, () => {
    for (const m of alive) m.kill();
    process.exit(status);
  });
}

// --- rounds -----------------------------------------------------------------------------------------------------------------------

const PAUSE_MS = 200;
const begun = performance.now();
const over = () => performance.now() - begun > budgetMs;

/** Does it with this machine; a failure ends the machine's part in this round. */
async function attempt(machines, kind, what) {
  const m = machines[kind];
  if (m === undefined) return;
  try {
    await what(m);
  } catch (e) {
    fail(e.message);
    m.kill();
    delete machines[kind];
  }
}

async function round(n) {
  const order = n % 2 === 0 ? kinds : [...kinds].reverse();
  const machines = {};
  try {
    const start = {};
    for (const kind of order) {
      machines[kind] = new BenchMachine(kind, root, kernel, initramfs);
      alive.add(machines[kind]);
      await attempt(machines, kind, async (m) => {
        await m.boot(2 * workLimit);
        note(kind, POWER_ON.work, m.powerOnMs);
      });
    }
    if (chosen.length === 0) return;
    await Promise.all(
      order.map((kind) =>
        attempt(machines, kind, async (m) => {
          await m.prepare(2 * workLimit);
          start[kind] = await m.clock(workLimit);
        }),
      ),
    );
    for (const w of chosen) {
      if (Object.keys(machines).length === 0) break;
      const said = [];
      // Not timed, so both at once; what a warm-up leaves to be done in the background has a moment to be done.
      await Promise.all(order.map((kind) => attempt(machines, kind, (m) => m.work(w.index, workLimit))));
      await setTimeout(PAUSE_MS);
      for (const kind of order) {
        await attempt(machines, kind, async (m) => {
          const { ms, sum, said: own } = await m.work(w.index, workLimit);
          note(kind, w.work, ms);
          if (kind === "xenolith" && Number(own) > 0) (ownNs[w.work] ??= []).push(Number(own));
          said.push(`${kind} ${(ms / 1000).toFixed(3)} s`);
          ((sums[w.work] ??= {})[kind] ??= new Set()).add(sum);
        });
      }
      log(`  ${w.work}: ${said.join(", ")}`);
      if (over() && n > 0) {
        log(`round ${n + 1} ends early: the time is up`);
        break;
      }
    }
    for (const kind of order) {
      await attempt(machines, kind, async (m) => {
        const end = await m.clock(workLimit);
        clocks[kind].push((end.guest - start[kind].guest) / (end.host - start[kind].host));
        await m.quit();
      });
    }
  } finally {
    for (const m of alive) m.kill();
    alive.clear();
  }
}

let done = 0;
if (chosen.length > 0 || wanted(POWER_ON.work)) {
  for (; done < rounds && !over(); done++) {
    log(`round ${done + 1} of ${rounds}`);
    await round(done);
  }
  if (done < rounds) log(`${done} of ${rounds} rounds: the time was up`);
}

// --- the same results? -------------------------------------------------------------------------------------------------------------

for (const w of chosen) {
  const all = new Set(Object.values(sums[w.work] ?? {}).flatMap((s) => [...s]));
  if (all.size > 1) fail(`${w.work}: the sides do not print the same`);
  if (all.size === 0 || program === null || !w.run.startsWith("/bench/work ")) continue;
  const native = spawnSync(program, w.run.split(" ").slice(1), { timeout: workLimit });
  if (native.error !== undefined || native.status !== 0) continue;
  const expected = createHash("md5").update(native.stdout).digest("hex");
  if (!all.has(expected)) fail(`${w.work}: another result than on this host`);
}

// --- rows -------------------------------------------------------------------------------------------------------------------------

const stats = (values) => {
  if (values === undefined || values.length === 0) return null;
  const s = [...values].sort((a, b) => a - b);
  return { min: s[0], median: s[s.length >> 1], max: s[s.length - 1], runs: s.length };
};
function paired(work, target) {
  const ours = stats(times.xenolith[work]);
  const qemu = stats(times.qemu[work]);
  const ratio = ours !== null && qemu !== null ? qemu.min / ours.min : null;
  const met = target === null || (ratio === null && ours !== null) ? null : ratio !== null && ratio >= target;
  const row = { work, unit: "ms", ours, qemu, ratio, target, met };
  return ours === null
    ? { ...row, note: "failed" }
    : qemu === null && qemuVersion !== undefined
      ? { ...row, note: "QEMU failed" }
      : row;
}
function peerless(work, unit, values, limit) {
  const ours = stats(values);
  const met = limit === null ? null : ours !== null && ours.min < limit;
  return {
    work,
    unit,
    ours,
    qemu: null,
    ratio: null,
    target: limit,
    met,
    ...(ours === null ? { note: "failed" } : {}),
  };
}

const rows = [];
if (times.xenolith[POWER_ON.work] !== undefined || wanted(POWER_ON.work))
  rows.push(paired(POWER_ON.work, POWER_ON.target));
for (const w of chosen.filter((c) => c.kernel !== true)) rows.push(paired(w.work, w.target));
const kernels = chosen.filter((c) => c.kernel === true);
const kernelRows = kernels.map((w) => paired(w.work, w.target));
if (kernels.length === WORKS.filter((w) => w.kernel === true).length) {
  const ratios = kernelRows.map((r) => r.ratio);
  const ratio = ratios.every((r) => r !== null)
    ? Math.exp(ratios.reduce((sum, r) => sum + Math.log(r), 0) / ratios.length)
    : null;
  const { work, target } = KERNEL_MEAN;
  rows.push({
    work,
    unit: "ratio",
    ours: null,
    qemu: null,
    ratio,
    target,
    met: ratio === null ? null : ratio >= target,
  });
}
rows.push(...kernelRows);

if (wanted("latency")) {
  log("latencies");
  const values = await latencies(root, Math.max(3, Math.min(rounds, 5)), fail, workLimit);
  for (const [name, { work, limit }] of Object.entries(LATENCIES)) rows.push(peerless(work, "ns", values[name], limit));
}
for (const [work, name, limit] of [
  ["getppid, 200,000", "PV system call: getppid in Debian", 400],
  ["page faults, 65,536", "page fault in Debian: anonymous, first touch", 3000],
]) {
  const w = chosen.find((c) => c.work === work);
  const ns = ownNs[work] ?? times.xenolith[work]?.map((ms) => ms * 1e6);
  if (w !== undefined)
    rows.push(
      peerless(
        name,
        "ns",
        ns?.map((n) => n / w.per),
        limit,
      ),
    );
}
if (wanted("idle")) {
  log("idle domains");
  const values = (await idle(root, fail, 4 * workLimit)) ?? {};
  for (const [name, { work, unit, limit }] of Object.entries(IDLE))
    rows.push(peerless(work, unit, values[name] === undefined ? undefined : [values[name]].flat(), limit));
}

// --- the result -------------------------------------------------------------------------------------------------------------------

const result = {
  host: {
    cpu: cpus()[0]?.model.trim() ?? "unknown CPU",
    cores: cpus().length,
    node: process.versions.node,
    qemu: qemuVersion === undefined ? null : `QEMU ${qemuVersion}`,
  },
  date: new Date().toISOString(),
  rounds: done,
  memoryMiB: MEMORY_MIB,
  seconds: Math.round((performance.now() - begun) / 1000),
  clock: Object.fromEntries(Object.entries(clocks).map(([k, v]) => [k, stats(v)])),
  failures,
  rows,
};
const svg = option("--svg");
if (svg !== undefined) writeFileSync(svg, chart(result));
if (args.includes("--readme")) {
  const file = join(root, "README.md");
  const [start, end] = ["<!-- bench:start -->", "<!-- bench:end -->"];
  const text = readFileSync(file, "utf8");
  const [from, to] = [text.indexOf(start), text.indexOf(end)];
  if (from < 0 || to < from) fail(`README.md has no place for the table (${start} … ${end})`);
  else writeFileSync(file, `${text.slice(0, from + start.length)}\n\n${tables(result)}\n\n${text.slice(to)}`);
}
if (args.includes("--json")) console.log(JSON.stringify(result));
else {
  const { cpu, cores, node, qemu } = result.host;
  if (!args.includes("--markdown")) {
    console.log(
      `${cpu}, ${cores} cores, Node ${node}, ${qemu ?? "no QEMU"}; best of ${done} rounds, ${result.seconds} s\n`,
    );
  }
  console.log(tables(result));
  const missed = rows.filter((r) => r.met === false);
  if (!args.includes("--markdown")) {
    const judged = rows.filter((r) => r.met !== null).length;
    console.log(`\n${judged - missed.length} of ${judged} targets met`);
  }
}
if (failures.length > 0) {
  log(`${failures.length} failure(s)`);
  process.exit(1);
}
process.exit(0);
