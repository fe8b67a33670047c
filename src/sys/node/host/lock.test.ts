// The lock of a state folder: one holder, and nothing stale.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { takeByName, takeLock } from "./lock.js";

let dir = "";
beforeEach(() => (dir = mkdtempSync(join(tmpdir(), "xenolith-lock-"))));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const haveFlock = spawnSync("flock", ["--version"]).status === 0;

describe("the lock", () => {
  it("has one holder at a time", () => {
    const path = join(dir, "lock");
    const first = takeLock(path);
    expect(first).not.toBeNull();
    expect(takeLock(path)).toBeNull();
    first?.release();
    const second = takeLock(path);
    expect(second).not.toBeNull();
    second?.release();
  });

  it.skipIf(!haveFlock)("is free when its holder has been killed (needs flock)", async () => {
    const path = join(dir, "lock");
    writeFileSync(path, "");
    const script = 'exec 3>>"$0"; flock -x 3; echo held; exec sleep 100';
    const holder = spawn("sh", ["-c", script, path], { stdio: ["ignore", "pipe", "ignore"] });
    await once(holder.stdout, "data");
    expect(takeLock(path)).toBeNull();
    const over = once(holder, "exit");
    holder.kill("SIGKILL");
    await over;
    for (let i = 0; i < 100; i++) {
      const lock = takeLock(path);
      if (lock !== null) return lock.release();
      await new Promise((r) => setTimeout(r, 50));
    }
    throw new Error("it is still held");
  });
});

describe("the lock without flock(1)", () => {
  it("is held by the process that the file names", () => {
    const path = join(dir, "holder");
    const first = takeByName(path);
    expect(first).not.toBeNull();
    expect(takeByName(path)).toBeNull();
    first?.release();
    expect(existsSync(path)).toBe(false);
  });
  it("is taken from a process that is dead", () => {
    const path = join(dir, "holder");
    const dead = spawnSync("true").pid;
    writeFileSync(path, `${dead}`);
    const lock = takeByName(path);
    expect(lock).not.toBeNull();
    expect(takeByName(path)).toBeNull();
    lock?.release();
  });
  it("is not believed where the file makes no sense", () => {
    const path = join(dir, "holder");
    writeFileSync(path, "nobody");
    const lock = takeByName(path);
    expect(lock).not.toBeNull();
    lock?.release();
  });
});
