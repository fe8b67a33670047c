// What has no peer: latencies that our own guest measures (guests/src/bench.c), and the cost of idle domains (idle.mjs, in a process of its own).
import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** By the name that the guest prints: what it is, and its limit in nanoseconds. */
export const LATENCIES = {
  hypercall: { work: "hypercall round trip (xen_version)", limit: 150 },
  "hypercall-bare": { work: "the same without the hypercall page", limit: null },
  "event-to-self": { work: "event to itself: send to upcall", limit: 2000 },
  "event-between-domains": { work: "event between two domains on one pCPU: send to upcall", limit: 2000 },
  "system-call": { work: "PV system call, the shortest kernel", limit: 400 },
  "page-fault": { work: "page fault and its mapping, the shortest kernel", limit: 3000 },
  trap: { work: "breakpoint trap and back", limit: null },
  "context-switch": { work: "change of page tables", limit: null },
};
export const IDLE = {
  overheadMiB: { work: "memory overhead of an idle Debian of 128 MiB, the second to boot", unit: "MiB", limit: 16 },
  forkOverheadMiB: { work: "memory overhead of an idle fork of it", unit: "MiB", limit: null },
  idlePercent: { work: "an idle Debian domain, of a core", unit: "%", limit: 1 },
  forksPercent: { work: "50 idle forks of a Debian, of a core", unit: "%", limit: 25 },
};

/** Runs a program of ours; what it printed, or why not. Never longer than the limit. */
function output(root, argv, limitMs) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, argv, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let err = "";
    const timer = setTimeout(() => child.kill("SIGKILL"), limitMs);
    child.stdout.on("data", (b) => (out += b));
    child.stderr.on("data", (b) => (err += b));
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      const failed =
        code === 0 ? null : `status ${signal ?? code}: ${(err || out).trim().split("\n").slice(-2).join(" / ")}`;
      resolve({ out, err, failed });
    });
  });
}

/** `{ NAME: [ns…] }` of `rounds` runs; `fail` hears of each that failed. */
export async function latencies(root, rounds, fail, limitMs) {
  const image = join(root, "guests/images/bench.elf");
  const values = {};
  if (!existsSync(image)) {
    fail(`${image} is missing`);
    return values;
  }
  const pair = ["a", "b"].map((role) => {
    const file = join(root, `.cache/bench/pair-${role}.cfg`);
    const peer = role === "a" ? 2 : 1;
    writeFileSync(
      file,
      `name = "bench-${role}"\ntype = "pv"\nkernel = "${image}"\nmemory = 32\nextra = "role=${role} peer=${peer}"\n`,
    );
    return file;
  });
  const run = [join(root, "bin/xenolith.js"), "run", "--timeout", String(Math.ceil(limitMs / 1000))];
  for (let i = 0; i < rounds; i++) {
    for (const argv of [
      [...run, image],
      [...run, "--pcpus", "1", ...pair],
    ]) {
      const { out, err, failed } = await output(root, argv, limitMs + 5000);
      if (failed !== null) fail(`guests/images/bench.elf: ${failed}`);
      for (const [, name, ns] of `${out}\n${err}`.matchAll(/bench (\S+) (\d+(?:\.\d+)?)\s*$/gm))
        (values[name] ??= []).push(Number(ns));
    }
  }
  return values;
}

/** What idle.mjs says, or null. */
export async function idle(root, fail, limitMs) {
  const { out, failed } = await output(root, ["--expose-gc", join(root, "bench/idle.mjs"), "--json"], limitMs);
  if (failed !== null) {
    fail(`bench/idle.mjs: ${failed}`);
    return null;
  }
  return JSON.parse(out);
}
