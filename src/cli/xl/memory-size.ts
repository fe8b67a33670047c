/** Sizes as `mem-set` takes them: a number with an optional unit; without one it is MiB. */

const KIB_OF: Readonly<Record<string, number>> = { b: 1 / 1024, k: 1, m: 1024, g: 1024 ** 2, t: 1024 ** 3, "": 1024 };

/** KiB, or undefined for no size. */
export function parseMemoryKiB(text: string): number | undefined {
  const m = /^(\d+)([bkmgt]?)$/i.exec(text.trim());
  if (m === null) return undefined;
  const kib = Math.floor(Number(m[1]) * KIB_OF[m[2].toLowerCase()]);
  return Number.isSafeInteger(kib) ? kib : undefined;
}
