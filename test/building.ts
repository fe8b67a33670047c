// What tests build before they run: in one process of several, and only what is older than its sources.
import { existsSync, mkdirSync, readdirSync, rmdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";

/** When a file was changed, or the file of a folder that was changed last. */
export function newest(path: string): number {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))));
}

/** Wait until no other process has the lock, and take it; what gives it back. */
export function takeLock(lock: string): () => void {
  mkdirSync(dirname(lock), { recursive: true });
  for (const start = Date.now(); ;) {
    try {
      mkdirSync(lock);
      return () => rmdirSync(lock);
    } catch {
      // A lock that a killed run left behind is old.
      const age = existsSync(lock) ? Date.now() - statSync(lock).mtimeMs : 0;
      if (age > 120_000 || Date.now() - start > 180_000) rmdirSync(lock);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
    }
  }
}
