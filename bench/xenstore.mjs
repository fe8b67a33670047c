// XenStore over a unix socket, ours and Debian's own xenstored side by side: the same client, the same requests, in turn.
//   node bench/xenstore.mjs [--json] [--rounds N] [--requests N] [--xenstored PATH]
// Debian's is xen-utils' `xenstored -N -D -I` (it needs no Xen so): the one given, an installed one, or one that apt-get downloads into
// .cache/debian/xen-utils (nothing is installed). Where it cannot be had or started the reason is printed and ours is measured alone.
// Debian's 4.17 does not run without Xen: the C one crashes at the first request when it has no domain 0 and wants Xen's devices when it has one.
// A load on the host slows down both: look at the CPU time of the servers, which is per request.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { performance } from "node:perf_hooks";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const args = process.argv.slice(2);
const option = (name, fallback) => (args.includes(name) ? args[args.indexOf(name) + 1] : fallback);

// --- the server of ours, in a process of its own -----------------------------------------------------------------------------------

if (args.includes("--serve")) {
  const { Machine } = await import("../dist/index.js");
  const { realClock, serveXenStore } = await import("../dist/sys/node/index.js");
  const machine = new Machine({ memoryMiB: 16, clock: realClock() });
  await serveXenStore(machine.xenstore, option("--serve"), () => {});
  process.stdout.write("ready\n");
  await new Promise(() => {});
}

// --- a client ----------------------------------------------------------------------------------------------------------------------

const XS = {
  DIRECTORY: 1,
  READ: 2,
  WATCH: 4,
  UNWATCH: 5,
  TRANSACTION_START: 6,
  TRANSACTION_END: 7,
  WRITE: 11,
  RM: 13,
  WATCH_EVENT: 15,
  ERROR: 16,
};

class Client {
  #socket;
  #rest = Buffer.alloc(0);
  #waiting = new Map();
  #id = 0;
  onWatch = () => {};

  static open(path) {
    return new Promise((resolve, reject) => {
      const c = new Client();
      c.#socket = connect(path, () => resolve(c));
      c.#socket.once("error", reject);
      c.#socket.on("data", (bytes) => c.#data(bytes));
    });
  }
  #data(bytes) {
    let b = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
    while (b.length >= 16 && b.length >= 16 + b.readUInt32LE(12)) {
      const [type, id, length] = [b.readUInt32LE(0), b.readUInt32LE(4), b.readUInt32LE(12)];
      const body = b.subarray(16, 16 + length);
      b = b.subarray(16 + length);
      if (type === XS.WATCH_EVENT) {
        this.onWatch(body.toString());
        continue;
      }
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (type === XS.ERROR) reject(new Error(body.toString().replace(/\0$/, "")));
      else resolve(body);
    }
    this.#rest = b;
  }
  ask(type, text, transaction = 0) {
    const body = Buffer.from(text);
    const packet = Buffer.alloc(16 + body.length);
    const id = ++this.#id;
    packet.writeUInt32LE(type, 0);
    packet.writeUInt32LE(id, 4);
    packet.writeUInt32LE(transaction, 8);
    packet.writeUInt32LE(body.length, 12);
    body.copy(packet, 16);
    this.#socket.write(packet);
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }
  close() {
    this.#socket.destroy();
  }
}

// --- what is measured --------------------------------------------------------------------------------------------------------------

const N = Number(option("--requests", "3000"));
const ROUNDS = Number(option("--rounds", "3"));

/** One after the other: each waits for its answer. */
async function oneByOne(n, request) {
  const times = new Float64Array(n);
  const start = performance.now();
  for (let i = 0; i < n; i++) {
    const t = performance.now();
    await request(i);
    times[i] = performance.now() - t;
  }
  const total = performance.now() - start;
  times.sort();
  return { n, perSecond: (n / total) * 1000, p50us: times[n >> 1] * 1000, p99us: times[Math.floor(n * 0.99)] * 1000 };
}
/** Some at a time. */
async function together(n, width, request) {
  const start = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: width }, async (_, lane) => {
      while (next < n) await request(next++, lane);
    }),
  );
  return { n, perSecond: (n / (performance.now() - start)) * 1000 };
}

async function measure(path) {
  const c = await Client.open(path);
  const base = "/bench";
  await c.ask(XS.WRITE, `${base}\0`);
  for (let i = 0; i < 100; i++) await c.ask(XS.WRITE, `${base}/d/${i}\0value ${i}`);
  const out = {};
  await oneByOne(500, () => c.ask(XS.READ, `${base}/d/1\0`));
  out["read, one by one"] = await oneByOne(N, (i) => c.ask(XS.READ, `${base}/d/${i % 100}\0`));
  out["write, one by one"] = await oneByOne(N, (i) => c.ask(XS.WRITE, `${base}/d/${i % 100}\0${i}`));
  out["directory of 100, one by one"] = await oneByOne(N, () => c.ask(XS.DIRECTORY, `${base}/d\0`));
  out["transaction of 2 requests"] = await oneByOne(Math.ceil(N / 4), async (i) => {
    const t = Number((await c.ask(XS.TRANSACTION_START, "\0")).toString().replace(/\0$/, ""));
    await c.ask(XS.READ, `${base}/d/3\0`, t);
    await c.ask(XS.WRITE, `${base}/d/4\0${i}`, t);
    await c.ask(XS.TRANSACTION_END, "T\0", t);
  });
  await c.ask(XS.WATCH, `${base}/w\0token\0`);
  let seen = () => {};
  c.onWatch = () => seen();
  const writer = await Client.open(path);
  out["write to watch event"] = await oneByOne(Math.ceil(N / 2), (i) => {
    const event = new Promise((resolve) => (seen = resolve));
    return Promise.all([event, writer.ask(XS.WRITE, `${base}/w\0${i}`)]);
  });
  writer.close();
  await c.ask(XS.UNWATCH, `${base}/w\0token\0`);
  out["read, 32 at a time"] = await together(N * 3, 32, (i) => c.ask(XS.READ, `${base}/d/${i % 100}\0`));
  out["write, 32 at a time"] = await together(N * 3, 32, (i) => c.ask(XS.WRITE, `${base}/d/${i % 100}\0${i}`));
  const many = await Promise.all(Array.from({ length: 8 }, () => Client.open(path)));
  out["read, 8 connections"] = await together(N * 3, 8, (i, lane) => many[lane].ask(XS.READ, `${base}/d/${i % 100}\0`));
  for (const m of many) m.close();
  await c.ask(XS.RM, `${base}\0`);
  c.close();
  return out;
}

// --- the servers -------------------------------------------------------------------------------------------------------------------

const dir = mkdtempSync(join(tmpdir(), "xenolith-xs-"));
const children = [];
process.on("exit", () => {
  for (const c of children) c.kill("SIGKILL");
  rmSync(dir, { recursive: true, force: true });
});

/** Seconds of processor time of a process; 0 where the host does not say. */
function cpuSeconds(pid) {
  try {
    const f = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    return (Number(f[11]) + Number(f[12])) / 100;
  } catch {
    return 0;
  }
}
async function listening(path, child) {
  let gone = null;
  let said = "";
  child.stderr?.on("data", (b) => (said += b));
  child.once("exit", (code, signal) => (gone = code ?? signal));
  child.once("error", (e) => (gone = e.message));
  for (let i = 0; i < 100; i++) {
    if (existsSync(path)) {
      const c = await Client.open(path).catch(() => null);
      if (c !== null) {
        const answer = await Promise.race([
          c.ask(XS.DIRECTORY, "/\0").then(
            () => true,
            () => true,
          ),
          setTimeout(3000, false),
        ]);
        c.close();
        if (answer) return;
        throw new Error(gone === null ? "it listens and does not answer" : `it ended at the first request (${gone})`);
      }
    }
    if (gone !== null) throw new Error(`it ended (${gone})${said === "" ? "" : `: ${said.trim().split("\n").at(-1)}`}`);
    await setTimeout(100);
  }
  throw new Error("it does not listen");
}

async function startOurs() {
  if (!existsSync(join(root, "dist/index.js"))) throw new Error("not built: npm run build");
  const path = join(dir, "ours");
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), "--serve", path], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  await listening(path, child);
  return { name: "xenolith", path, pid: child.pid };
}

/** Where Debian's xenstored is, and the libraries it brings. */
function findXenstored() {
  const given = option("--xenstored");
  if (given !== undefined) return { binary: given };
  for (const d of existsSync("/usr/lib") ? readdirSync("/usr/lib") : []) {
    const binary = `/usr/lib/${d}/bin/xenstored`;
    if (/^xen-\d/.test(d) && existsSync(binary)) return { binary };
  }
  const cache = join(root, ".cache/debian/xen-utils");
  const unpacked = join(cache, "root");
  if (!existsSync(unpacked)) {
    const quiet = { cwd: cache, stdio: ["ignore", "pipe", "pipe"], encoding: "utf8" };
    mkdirSync(cache, { recursive: true });
    try {
      const found = /Package: (xen-utils-\d[\d.]*)/.exec(
        execFileSync("apt-cache", ["search", "--full", "^xen-utils-[0-9]"], quiet),
      )?.[1];
      if (found === undefined) throw new Error("apt knows no xen-utils");
      const version = found.slice("xen-utils-".length);
      execFileSync("apt-get", ["-q", "download", found, `libxenmisc${version}`], quiet);
      for (const deb of readdirSync(cache).filter((f) => f.endsWith(".deb")))
        execFileSync("dpkg-deb", ["-x", deb, `${unpacked}.part`], quiet);
      execFileSync("mv", [`${unpacked}.part`, unpacked], quiet);
    } catch (e) {
      throw new Error(
        `xen-utils cannot be downloaded: ${String(e.stderr ?? e.message ?? e)
          .trim()
          .split("\n")
          .at(-1)}`,
      );
    }
  }
  const lib = join(unpacked, "usr/lib");
  for (const d of readdirSync(lib)) {
    const binary = join(lib, d, "bin/xenstored");
    if (existsSync(binary)) return { binary, libraries: join(lib, "x86_64-linux-gnu") };
  }
  throw new Error("no xenstored in xen-utils");
}
/** Each way to start it: with nothing of Xen's it may do without domain 0, or want Xen's devices, or larger limits. */
async function startTheirs() {
  const { binary, libraries } = findXenstored();
  const ocaml = join(dirname(binary), "oxenstored");
  const ways = [
    [binary, "-N", "-D", "-I", "-F", join(dir, "pid")],
    [binary, "-N", "-I", "-F", join(dir, "pid")],
    ...(existsSync(ocaml) ? [[ocaml, "--no-fork", "--no-domain-init", "--pid-file", join(dir, "pid")]] : []),
  ];
  const reasons = [];
  for (const [command, ...argv] of ways) {
    const path = join(dir, "socket");
    rmSync(path, { force: true });
    const child = spawn(command, argv, {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...process.env,
        XENSTORED_RUNDIR: dir,
        XENSTORED_PATH: path,
        XENSTORED_ROOTDIR: dir,
        ...(libraries === undefined ? {} : { LD_LIBRARY_PATH: libraries }),
      },
    });
    children.push(child);
    try {
      await listening(path, child);
      return { name: basename(command), path, pid: child.pid };
    } catch (e) {
      reasons.push(`${basename(command)} ${argv.slice(0, 3).join(" ")}: ${e.message}`);
      child.kill("SIGKILL");
    }
  }
  throw new Error(reasons.join("; "));
}

// --- side by side ------------------------------------------------------------------------------------------------------------------

const servers = [await startOurs()];
let absent = null;
try {
  servers.push(await startTheirs());
} catch (e) {
  absent = e instanceof Error ? e.message : String(e);
}
const results = servers.map(() => []);
const cpu = servers.map(() => 0);
for (let r = 0; r < ROUNDS; r++) {
  for (const [i, s] of servers.entries()) {
    const before = cpuSeconds(s.pid);
    results[i].push(await measure(s.path));
    cpu[i] += cpuSeconds(s.pid) - before;
  }
}
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const table = servers.map((s, i) => {
  const rows = {};
  for (const name of Object.keys(results[i][0])) {
    rows[name] = Object.fromEntries(
      Object.keys(results[i][0][name]).map((k) => [k, median(results[i].map((x) => x[name][k]))]),
    );
  }
  const requests = results[i].flatMap((x) => Object.values(x)).reduce((n, x) => n + x.n, 0);
  return { name: s.name, cpuMicrosecondsPerRequest: (cpu[i] / requests) * 1e6, results: rows };
});
if (args.includes("--json")) {
  console.log(JSON.stringify({ rounds: ROUNDS, requests: N, servers: table, absent }, null, 1));
} else {
  const cell = (r) =>
    `${Math.round(r.perSecond)}/s${r.p50us === undefined ? "" : `  p50 ${r.p50us.toFixed(0)} µs  p99 ${r.p99us.toFixed(0)} µs`}`;
  console.log(`${"".padEnd(30)}${table.map((t) => t.name.padEnd(42)).join("")}`);
  for (const name of Object.keys(table[0].results))
    console.log(`${name.padEnd(30)}${table.map((t) => cell(t.results[name]).padEnd(42)).join("")}`);
  console.log(
    `${"server's CPU per request".padEnd(30)}${table.map((t) => `${t.cpuMicrosecondsPerRequest.toFixed(1)} µs`.padEnd(42)).join("")}`,
  );
  if (absent !== null) console.log(`Debian's xenstored was not measured: ${absent}`);
}
process.exit(0);
