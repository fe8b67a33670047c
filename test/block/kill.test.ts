// kill -9 in the middle of a guest's writes loses nothing that the guest was told is on the disk.
//
// Debian's kernel (ext4 on xvda) appends numbered records to a file, with fsync after each, and says each number on its console when the
// fsync has returned. Many times the process is stopped at a random moment and the image copied as it is then: the file's content is what
// SIGKILL at that moment would have left, so that one boot stands for many kills; the last one is a real SIGKILL. In every copy e2fsck must
// find nothing wrong once the journal is replayed, and every number that was on the console before must be in the file.
// XENOLITH_KILLS=n takes n copies of each format (half as many of overlays and VHD).
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { seeded } from "../../src/testing.js";
import { CliRun, debian, ensureBuilt, haveDebian } from "../cli-helper.js";

const have = (command: string): boolean => spawnSync("sh", ["-c", `command -v ${command}`]).status === 0;
const lacking = ["mke2fs", "e2fsck", "debugfs", "qemu-img"].filter((c) => !have(c));
if (!haveDebian) lacking.push(".cache/debian");
const why = lacking.length === 0 ? "" : ` (skipped: no ${lacking.join(", ")})`;

const COPIES = Number(process.env["XENOLITH_KILLS"] ?? 4);
const LIMIT = 600_000;

/** Numbered lines, with other work on the disk beside them. */
const GUEST = [
  "mount -t ext4 /dev/xvda /mnt",
  "cd /mnt",
  "(while :; do dd if=/dev/urandom of=noise.$((k % 5)) bs=16k count=20 2>/dev/null; k=$((k + 1)); sync; rm -f noise.$(((k + 2) % 5)); done) & n=$(wc -l <log)",
  "while n=$((n + 1)); do echo record $n | dd of=log oflag=append conv=notrunc,fsync 2>/dev/null && echo ack $n.; done",
].join("; ");

const AGAIN =
  "mount -t ext4 /dev/xvda /mnt && echo found $(grep -c ^record /mnt/log). && echo more >/mnt/more && umount /mnt";

describe.skipIf(why !== "")(`kill -9${why}`, () => {
  let dir: string;
  beforeAll(() => {
    ensureBuilt();
    dir = mkdtempSync(join(tmpdir(), "xenolith-kill-"));
  }, LIMIT);
  afterAll(() => rmSync(dir, { recursive: true }));

  function makeImage(format: string): { path: string; spec: string; files: string[] } {
    const raw = join(dir, `${format}.raw`);
    execFileSync("mke2fs", [
      "-q",
      "-t",
      "ext4",
      "-b",
      "1024",
      "-E",
      "lazy_itable_init=0,lazy_journal_init=0",
      raw,
      "48M",
    ]);
    execFileSync("debugfs", ["-w", "-R", "write /dev/null log", raw], { stdio: "ignore" });
    if (format === "raw") return { path: raw, spec: `${raw},raw,xvda,w`, files: [raw] };
    if (format === "overlay") {
      const path = join(dir, "over.qcow2");
      return { path, spec: `${raw},raw,xvda,w,overlay=${path}`, files: [path] };
    }
    const path = join(dir, `disk.${format}`);
    execFileSync("qemu-img", [
      "convert",
      "-f",
      "raw",
      "-O",
      format === "vhd" ? "vpc" : format,
      ...(format === "vhd" ? ["-o", "force_size=on"] : []),
      raw,
      path,
    ]);
    return { path, spec: `${path},${format},xvda,w`, files: [path] };
  }

  /** The records in an image as a crash left it. */
  function recover(image: string, format: string, name: string): number {
    let raw = image;
    if (format !== "raw") {
      if (format !== "vhd") {
        const check = spawnSync("qemu-img", ["check", "-f", "qcow2", image], { encoding: "utf8" });
        // 3: clusters that are counted and not used, nothing else.
        expect([0, 3], check.stdout + check.stderr).toContain(check.status);
      }
      raw = join(dir, `${name}.converted`);
      execFileSync("qemu-img", ["convert", "-f", format === "vhd" ? "vpc" : "qcow2", "-O", "raw", image, raw]);
    }
    // The journal first; then nothing may be wrong.
    execFileSync("e2fsck", ["-p", "-E", "journal_only", raw], { stdio: "ignore" });
    const fsck = spawnSync("e2fsck", ["-f", "-n", raw], { encoding: "utf8" });
    expect(`${fsck.status} ${fsck.stdout}`).toMatch(/^0 /);
    const log = execFileSync("debugfs", ["-R", "cat log", raw], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    const lines = log.split("\n");
    let n = 0;
    while (lines[n] === `record ${n + 1}`) n++;
    // The last one may have been on its way; nothing else is there.
    expect(lines.slice(n).filter((l) => l !== "" && !`record ${n + 1}`.startsWith(l))).toEqual([]);
    rmSync(image, { force: true });
    if (raw !== image) rmSync(raw, { force: true });
    return n;
  }

  it.each(["raw", "qcow2", "overlay", "vhd"])(
    "at any moment, %s: what was acknowledged is there",
    { timeout: LIMIT },
    async (format) => {
      const random = seeded(format.length * 1000 + (Date.now() % 1000));
      const { path, spec } = makeImage(format);
      const run = new CliRun([
        ...[
          "run",
          debian("vmlinuz-cloud"),
          "--ramdisk",
          debian("initramfs.cpio.gz"),
          "--memory",
          "192",
          "--vcpus",
          "2",
        ],
        ...["--cmdline", `console=hvc0 quiet run="${GUEST}"`, "--disk", spec],
      ]);
      const copies = format === "raw" || format === "qcow2" ? COPIES : Math.ceil(COPIES / 2);
      const acknowledged = (): number => Number([.../ack (\d+)\.\r?\n/g[Symbol.matchAll](run.stdout)].at(-1)?.[1] ?? 0);
      try {
        for (const start = Date.now(); acknowledged() < 3;) {
          if (run.child.exitCode !== null || Date.now() - start > LIMIT / 2)
            throw new Error(`no record: ${run.stdout}\n${run.stderr}`);
          await setTimeout(100);
        }
        for (let i = 0; i <= copies; i++) {
          const before = acknowledged();
          await setTimeout(random(700));
          const last = i === copies;
          run.child.kill(last ? "SIGKILL" : "SIGSTOP");
          if (last) await run.done;
          // What it has said before it was stopped is on its way to us.
          await setTimeout(100);
          const said = acknowledged();
          const copy = join(dir, `copy${i}`);
          copyFileSync(path, copy);
          if (!last) run.child.kill("SIGCONT");
          const found = recover(copy, format, `copy${i}`);
          expect(found, `copy ${i}: ${said} acknowledged`).toBeGreaterThanOrEqual(said);
          // It goes on meanwhile.
          for (const start = Date.now(); !last && acknowledged() <= before + 1 && Date.now() - start < LIMIT / 4;)
            await setTimeout(50);
        }
        expect(acknowledged()).toBeGreaterThan(copies);
      } finally {
        run.child.kill("SIGCONT");
        run.child.kill("SIGKILL");
        await run.done;
      }
      if (format !== "qcow2") return;
      // The guest itself finds its disk again after the kill, and goes on.
      const again = new CliRun([
        ...["run", debian("vmlinuz-cloud"), "--ramdisk", debian("initramfs.cpio.gz"), "--memory", "192"],
        ...["--cmdline", `console=hvc0 quiet run="${AGAIN}"`, "--disk", spec, "--timeout", "300"],
      ]);
      const { stdout } = await again.done;
      expect(Number(/found (\d+)\./.exec(stdout)?.[1] ?? -1), stdout).toBeGreaterThanOrEqual(acknowledged());
      expect(recover(path, format, "again")).toBeGreaterThanOrEqual(acknowledged());
    },
  );
});
