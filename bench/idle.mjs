// What idle domains cost: memory beyond their own, and time of a core.
//
//   node --expose-gc bench/idle.mjs [--json] [--forks 50] [--domains N] [--seconds 15]
//
// A Debian of 128 MiB boots to its shell and is left alone; so is a second one, then the forks of the first (or, with --domains, as many that
// boot themselves). CPU is this process's, all of its threads, while the usual run loop drives the machine. Memory overhead is what the second
// domain adds to the process's resident memory beyond its own resident frames: what the first one adds is mostly the engine's code, which
// further domains share; it is printed too, and so is what a fork adds.
import { closeSync, existsSync, openSync, readFileSync, readSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { setImmediate, setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { engineFlags, realClock, runMachine } from "../dist/sys/node/index.js";
import { forkTemplate, takeSnapshot } from "../dist/toolstack/fork.js";
import { Machine } from "../dist/toolstack/machine.js";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const args = process.argv.slice(2);
const option = (name, otherwise) => (args.includes(name) ? args[args.indexOf(name) + 1] : otherwise);
const FORKS = Number(option("--forks", "50"));
const DOMAINS = Number(option("--domains", "0"));
const SECONDS = Number(option("--seconds", "15"));
const MIB = 128;
const BOOT_LIMIT = 120_000;
/** Until timers of the boot have run out. */
const SETTLE_MS = 5000;
/** And until V8's threads have compiled what the boot has left them, which holds memory as long as it waits: at most so many seconds. */
const COMPILE_SECONDS = 30;
/** What they may still use of a core then. */
const COMPILED = 0.005;

const files = ["vmlinuz-cloud", "initramfs.cpio.gz"].map((n) => join(root, ".cache/debian", n));
if (!files.every((f) => existsSync(f))) {
  console.error("bench/idle: Debian's kernel is missing: npm run setup:debian");
  process.exit(2);
}
const [kernel, ramdisk] = files.map((f) => readFileSync(f));
engineFlags();
const machine = new Machine({
  memoryMiB: DOMAINS > 0 ? DOMAINS * (MIB + 1) + 64 : 2 * MIB + 5 * FORKS + 96,
  forkMiB: DOMAINS > 0 ? 0 : MIB * (FORKS + 1),
  clock: realClock(),
});
const { xen, mem } = machine;

const log = (text) => console.error(`bench/idle: ${text}`);
const rss = async () => {
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.();
    await setTimeout(50);
  }
  return process.memoryUsage().rss;
};

/** The host's address of the machine's memory: the mapping in which our own marks are to be found. */
function findMemory() {
  const bytes = mem.buffer.byteLength;
  const maps = readFileSync("/proc/self/maps", "utf8").split("\n");
  const fd = openSync("/proc/self/mem", "r");
  try {
    // A frame of ours with a pattern that nothing else has.
    const at = 64 << 20;
    const was = mem.u8.slice(at, at + 16);
    const mark = Buffer.from(crypto.getRandomValues(new Uint8Array(16)));
    mem.u8.set(mark, at);
    try {
      const found = Buffer.alloc(16);
      for (const line of maps) {
        const m = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line);
        if (m === null) continue;
        const start = parseInt(m[1], 16);
        if (parseInt(m[2], 16) - start < bytes) continue;
        try {
          readSync(fd, found, 0, 16, start + at);
        } catch {
          continue;
        }
        if (found.equals(mark)) return start;
      }
    } finally {
      mem.u8.set(was, at);
    }
  } finally {
    closeSync(fd);
  }
  return null;
}
/** Bytes of a domain's frames that are resident, or null where the host does not say. */
function residentOf(domain) {
  try {
    const base = findMemory();
    if (base === null) return null;
    const fd = openSync("/proc/self/pagemap", "r");
    const entry = Buffer.alloc(8);
    let pages = 0;
    for (const mfn of xen.frames.pagesOf(domain.mm.id)) {
      if (mfn >= mem.frames) continue;
      readSync(fd, entry, 0, 8, (base / 4096 + mfn) * 8);
      // Bit 63: present; 62: swapped out.
      if ((entry[7] & 0xc0) !== 0) pages++;
    }
    closeSync(fd);
    return pages * 4096;
  } catch {
    return null;
  }
}

async function drive(ms) {
  await runMachine(machine, { timeoutMs: ms, until: () => false });
}
/** Seconds of a core that the threads beside this one have used, or null where the host does not say. */
function otherThreads() {
  try {
    let ns = 0;
    for (const task of readdirSync("/proc/self/task"))
      if (Number(task) !== process.pid)
        ns += Number(readFileSync(`/proc/self/task/${task}/schedstat`, "utf8").split(" ")[0]);
    return ns / 1e9;
  } catch {
    return null;
  }
}
async function settle() {
  await drive(SETTLE_MS);
  for (let i = 0; i < COMPILE_SECONDS; i++) {
    const before = otherThreads();
    await drive(1000);
    if (before === null || (otherThreads() ?? before) - before < COMPILED) return;
  }
}
async function boot(name) {
  const domain = await machine.createDomain({ kernel, ramdisk, name, memoryMiB: MIB, cmdline: "console=hvc0 quiet" });
  let text = "";
  domain.console.onOutput = (bytes) => (text = (text + Buffer.from(bytes).toString("latin1")).slice(-1000));
  const start = performance.now();
  await runMachine(machine, {
    timeoutMs: BOOT_LIMIT,
    until: () => /xenolith:\S* ?# (?:\x1b\[6n)?$/.test(text) || domain.ended,
  });
  if (domain.ended || performance.now() - start >= BOOT_LIMIT) throw new Error(`${name} does not boot`);
  log(`${name} is up after ${Math.round(performance.now() - start)} ms`);
  return domain;
}
/** Of a core, in three windows one after the other. */
async function idlePercent() {
  await settle();
  const windows = [];
  for (let i = 0; i < 3; i++) {
    const cpu = process.cpuUsage();
    const start = performance.now();
    await drive((SECONDS * 1000) / 3);
    const { user, system } = process.cpuUsage(cpu);
    windows.push(round((user + system) / 10 / (performance.now() - start)));
  }
  return windows;
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
const mib = (n) => n / 1048576;
const round = (x) => Number(x.toFixed(2));

const empty = await rss();
const first = await boot("debian-1");
const result = { memoryMiB: MIB, idlePercent: await idlePercent() };
const one = await rss();
const own = residentOf(first.domain);
if (DOMAINS > 0) {
  for (let i = 2; i <= DOMAINS; i++) await boot(`debian-${i}`);
  result.domains = DOMAINS;
  result.domainsPercent = await idlePercent();
} else {
  const second = await boot("debian-2");
  await settle();
  const two = await rss();
  const ownSecond = residentOf(second.domain);
  result.residentMiB = round(mib(two));
  if (own !== null && ownSecond !== null) {
    result.overheadMiB = round(mib(two - one - ownSecond));
    result.firstDomainMiB = round(mib(one - empty - own));
    result.ownResidentMiB = round(mib(ownSecond));
  } else result.why = "this host does not say which pages are resident";
  second.destroy();
  const template = await during(takeSnapshot(machine, first));
  const before = await rss();
  const { forks } = await during(forkTemplate(machine, template, { count: FORKS }));
  result.forks = FORKS;
  result.forksPercent = await idlePercent();
  const owned = forks.map((f) => residentOf(f.domain));
  if (owned.every((n) => n !== null)) {
    const sum = owned.reduce((a, b) => a + b, 0);
    result.forkOverheadMiB = round(mib((await rss()) - before - sum) / FORKS);
  }
}
if (args.includes("--json")) console.log(JSON.stringify(result));
else
  for (const [k, v] of Object.entries(result)) console.log(`${k.padEnd(20)} ${Array.isArray(v) ? v.join(" / ") : v}`);
process.exit(0);
