/** Columns and numbers as printf writes them. */

/** Left in `width` columns (`%-8s`). */
export const left = (value: string | number, width: number): string => String(value).padEnd(width);
/** Right in `width` columns (`%8s`). */
export const right = (value: string | number, width: number): string => String(value).padStart(width);
export const hex8 = (n: number): string => (n >>> 0).toString(16).padStart(8, "0");
/** Whole MiB of KiB. */
export const mib = (kib: number): number => Math.floor(kib / 1024);
/** Nanoseconds as seconds with one digit after the point. */
export const seconds = (ns: number): string => (ns / 1e9).toFixed(1);

/** CPUs or nodes of a set: `0-2,5`, `all` where nothing is left out, `none`. */
export function ranges(set: readonly number[] | null, count: number): string {
  if (set === null) return "all";
  const members = [...new Set(set)].filter((n) => n < count).sort((a, b) => a - b);
  if (members.length === 0) return "none";
  if (members.length === count) return "all";
  const out: string[] = [];
  for (let i = 0; i < members.length; i++) {
    const from = members[i];
    while (i + 1 < members.length && members[i + 1] === members[i] + 1) i++;
    out.push(members[i] === from ? `${from}` : `${from}-${members[i]}`);
  }
  return out.join(",");
}

/** `1:02:03` of a time that has passed; days in front of it. `short` leaves the seconds out. */
export function uptime(ms: number, short: boolean): string {
  const total = Math.max(0, Math.floor(ms / 1000));
  const two = (n: number): string => String(n).padStart(2, "0");
  const days = Math.floor(total / 86400);
  const hours = right(Math.floor(total / 3600) % 24, 2);
  const clock = `${hours}:${two(Math.floor(total / 60) % 60)}${short ? "" : `:${two(total % 60)}`}`;
  return days === 0 ? clock : `${days} day${days > 1 ? "s" : ""}, ${clock}`;
}
