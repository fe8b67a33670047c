/** The host CPU: builds `native.c` once and runs batches of cases through it. Null-like answers carry the reason why it cannot. */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { arch, platform, tmpdir } from "node:os";
import { join } from "node:path";
import { decodeResults, type Batch, type Result } from "./case.js";

/** Linked where no value of `values.ts` leads: an instruction under test must not find the oracle itself. */
const FLAGS = ["-O2", "-no-pie", "-fno-pie", "-fcf-protection=none", "-Wl,-Ttext-segment=0x6b3d5000"];

export interface Host {
  run(batch: Batch): Result[];
}

/** The host as an oracle, or the reason why it is none. `directory`: where native.c lies. */
export function openHost(directory: string): Host | string {
  if (arch() !== "x64" || platform() !== "linux") return "the host is not Linux on x86-64";
  const sources = ["native.c", "native.S"].map((name) => join(directory, name));
  const hash = createHash("sha256");
  hash.update(FLAGS.join(" "));
  for (const source of sources) hash.update(readFileSync(source));
  const cache = join(tmpdir(), `xenolith-oracle-${process.getuid?.() ?? 0}`);
  const program = join(cache, `native-${hash.digest("hex").slice(0, 16)}`);
  if (!existsSync(program)) {
    mkdirSync(cache, { recursive: true, mode: 0o700 });
    const fresh = `${program}.${process.pid}`;
    try {
      execFileSync("cc", [...FLAGS, "-o", fresh, ...sources], { stdio: "pipe" });
    } catch (e) {
      return `cc does not build native.c: ${e instanceof Error ? e.message : String(e)}`;
    }
    renameSync(fresh, program);
  }
  return {
    run(batch) {
      const done = spawnSync(program, { input: batch.bytes, maxBuffer: 1 << 30 });
      if (done.status !== 0)
        throw new Error(
          `oracle: the native side failed: ${done.stderr.toString() || String(done.error ?? done.signal)}`,
        );
      return decodeResults(done.stdout, batch.cases.length);
    },
  };
}

/** The host CPU's maker, as CPUID gives it. */
export function vendor(): string {
  return /^vendor_id\s*:\s*(\S+)/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "unknown";
}
