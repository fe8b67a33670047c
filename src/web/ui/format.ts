/** Numbers and states for people. */
import type { DomainView } from "../../inspect/api.js";

export function count(n: number): string {
  if (n < 10_000) return String(Math.round(n));
  if (n < 1e6) return `${(n / 1e3).toFixed(n < 1e5 ? 1 : 0)} k`;
  if (n < 1e9) return `${(n / 1e6).toFixed(n < 1e8 ? 1 : 0)} M`;
  return `${(n / 1e9).toFixed(2)} G`;
}
export function duration(ns: number): string {
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toFixed(ns < 1e4 ? 1 : 0)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 1e7 ? 1 : 0)} ms`;
  return `${(ns / 1e9).toFixed(1)} s`;
}
export const seconds = (ns: number): string => (ns / 1e9).toFixed(6);
export const mib = (pages: number): string => `${Math.round(pages / 256)} MiB`;
export const hex = (n: number): string => `0x${n.toString(16)}`;

const ENDS = ["powered off", "rebooted", "suspended", "crashed", "ended by its watchdog", "soft reset"];
const XENBUS = ["unknown", "initialising", "init wait", "initialised", "connected", "closing", "closed"];

export type Mood = "run" | "idle" | "paused" | "done" | "bad";

export function stateOf(d: DomainView): { readonly mood: Mood; readonly text: string } {
  if (d.ended) return { mood: d.shutdownCode === 3 ? "bad" : "done", text: ENDS[d.shutdownCode] ?? "ended" };
  if (d.paused) return { mood: "paused", text: "paused" };
  if (d.native) return { mood: "idle", text: "this process" };
  const busy = d.vcpus.some((v) => v.state === "running" || v.state === "runnable");
  return busy ? { mood: "run", text: "running" } : { mood: "idle", text: "idle" };
}
export const xenbusState = (n: number): string => XENBUS[n] ?? "?";

/** A domain's colour, the same everywhere; domain 0's is grey. */
export function domainColor(domid: number): string {
  if (domid === 0) return "var(--dom0)";
  return domid >= 0x7ff0 || domid < 0 ? "var(--dim)" : `var(--d${((domid - 1) % 8) + 1})`;
}
export function domainName(domid: number, names: ReadonlyMap<number, string>): string {
  if (domid === 0x7ff2) return "Xen";
  return names.get(domid) ?? `d${domid}`;
}

const ERRNO: Readonly<Record<number, string>> = {
  1: "EPERM",
  2: "ENOENT",
  3: "ESRCH",
  7: "E2BIG",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  14: "EFAULT",
  16: "EBUSY",
  17: "EEXIST",
  22: "EINVAL",
  28: "ENOSPC",
  38: "ENOSYS",
  95: "EOPNOTSUPP",
};
export function result(n: number | null): string {
  if (n === null) return "";
  return n < 0 ? (ERRNO[-n] !== undefined ? `−${ERRNO[-n]}` : String(n)) : n > 4096 ? hex(n) : String(n);
}
