/**
 * A lock that a process holds as long as it lives: flock(2) on a file, taken by flock(1) on a descriptor it inherits, so that the lock stays with
 * our open file when that program has ended. The kernel drops it with the process, however it ends; nothing goes stale.
 *
 * Without flock(1) (not Linux): a file that names its holder. A holder that is dead is replaced.
 */
import { spawnSync } from "node:child_process";
import { closeSync, linkSync, openSync, readFileSync, renameSync, unlinkSync, writeFileSync } from "node:fs";

export interface Lock {
  release(): void;
}

/** null: somebody else holds it. */
export function takeLock(path: string): Lock | null {
  const fd = openSync(path, "a+", 0o600);
  const r = spawnSync("flock", ["-n", "-x", "3"], { stdio: ["ignore", "ignore", "ignore", fd] });
  if (r.error === undefined && r.status === 0) return { release: () => closeSync(fd) };
  closeSync(fd);
  return r.error === undefined ? null : takeByName(`${path}.holder`);
}

export function takeByName(path: string): Lock | null {
  const mine = `${path}.${process.pid}`;
  writeFileSync(mine, `${process.pid}`, { mode: 0o600 });
  try {
    for (let tries = 0; tries < 3; tries++) {
      try {
        linkSync(mine, path);
        return { release: () => unlinkSync(path) };
      } catch (e) {
        if ((e as NodeJS.ErrnoException).code !== "EEXIST") throw e;
      }
      const holder = holderOf(path);
      if (holder !== null && isAlive(holder)) return null;
      // Whoever moves the dead one's file away may try again; the others find it gone, or a new one.
      const aside = `${path}.dead.${process.pid}`;
      try {
        renameSync(path, aside);
        if (holderOf(aside) !== holder) linkSync(aside, path);
        unlinkSync(aside);
      } catch {
        continue;
      }
    }
    return null;
  } finally {
    unlinkSync(mine);
  }
}

function holderOf(path: string): number | null {
  try {
    return Number(readFileSync(path, "utf8")) || null;
  } catch {
    return null;
  }
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (e) {
    return (e as NodeJS.ErrnoException).code === "EPERM";
  }
}
