/**
 * Trace records as lines for people, and the filter behind `--trace`.
 *
 *   [    1.234567890] d1v0 hypercall mmu_update(req=0x7ffe10, count=1, done=0x0, dom=self) = 0
 *
 * Time in seconds since machine start, the vCPU, the kind, the name in the public headers' words, arguments, result. Lines keep this
 * form, so that grep and awk can work on them.
 */
import * as errno from "../abi/errno.js";
import * as grants from "../abi/grant_table.js";
import * as xen from "../abi/xen.js";
import type { TraceKind, TraceRecord } from "../hypervisor/trace.js";

export const TRACE_KINDS: readonly TraceKind[] = [
  "hypercall",
  "event",
  "grant",
  "trap",
  "pagetable",
  "sched",
  "domain",
  "emulate",
  "timer",
  "xenstore",
  "block",
];

// --- filter ---------------------------------------------------------------------------------------------------------------------

/** Which records are wanted: by kind (null: any), by name, by domain. */
export interface TraceFilter {
  /** Kind → names (null: all of that kind). */
  readonly kinds: ReadonlyMap<TraceKind, ReadonlySet<string> | null>;
  /** Domain numbers or names; empty: all. */
  readonly domains: readonly string[];
}

/** A mistake in a trace list. */
export class TraceListError extends Error {
  override readonly name = "TraceListError";
}

/**
 * Reads `hypercall,event:send,grant` (a kind, or a kind and a name) or `all`. Throws a TraceListError.
 */
export function parseTraceList(list: string, domains: readonly string[] = []): TraceFilter {
  const kinds = new Map<TraceKind, Set<string> | null>();
  for (const item of list.split(",").map((s) => s.trim())) {
    if (item === "") continue;
    if (item === "all") {
      for (const k of TRACE_KINDS) kinds.set(k, null);
      continue;
    }
    const colon = item.indexOf(":");
    const word = colon < 0 ? item : item.slice(0, colon);
    const kind = TRACE_KINDS.find((k) => k === word);
    if (kind === undefined) {
      throw new TraceListError(`unknown trace kind "${word}" (known: ${TRACE_KINDS.join(", ")}, all)`);
    }
    if (colon < 0) kinds.set(kind, null);
    else if (kinds.get(kind) !== null) {
      const names = kinds.get(kind) ?? new Set<string>();
      names.add(item.slice(colon + 1));
      kinds.set(kind, names);
    }
  }
  if (kinds.size === 0) throw new TraceListError(`an empty trace list (known: ${TRACE_KINDS.join(", ")}, all)`);
  return { kinds, domains };
}

/** Does a record pass? `nameOf` gives a domain's name by its number. */
export function traceWanted(f: TraceFilter, r: TraceRecord, nameOf: (domid: number) => string | undefined): boolean {
  const names = f.kinds.get(r.kind);
  if (names === undefined) return false;
  if (names !== null && !names.has(r.name) && !names.has(r.name.split(".")[0])) return false;
  if (f.domains.length === 0) return true;
  const name = nameOf(r.domid);
  return f.domains.some((d) => d === String(r.domid) || (name !== undefined && d === name));
}

// --- lines ----------------------------------------------------------------------------------------------------------------------

/** Argument names of the hypercalls, in order; a leading `cmd` is already part of the name. */
const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  set_trap_table: ["table"],
  mmu_update: ["req", "count", "done", "dom"],
  set_gdt: ["frames", "entries"],
  stack_switch: ["ss", "esp"],
  set_callbacks: ["event", "failsafe", "syscall"],
  fpu_taskswitch: ["set"],
  sched_op_compat: ["cmd", "arg"],
  platform_op: ["op"],
  set_debugreg: ["reg", "value"],
  get_debugreg: ["reg"],
  update_descriptor: ["ma", "desc"],
  memory_op: ["cmd", "arg"],
  multicall: ["calls", "count"],
  update_va_mapping: ["va", "val", "flags"],
  set_timer_op: ["timeout"],
  event_channel_op_compat: ["op"],
  xen_version: ["cmd", "arg"],
  console_io: ["cmd", "count", "buffer"],
  physdev_op_compat: ["op"],
  grant_table_op: ["cmd", "arg", "count"],
  vm_assist: ["cmd", "type"],
  update_va_mapping_otherdomain: ["va", "val", "flags", "dom"],
  iret: [],
  vcpu_op: ["cmd", "vcpu", "arg"],
  set_segment_base: ["which", "base"],
  mmuext_op: ["ops", "count", "done", "dom"],
  xsm_op: ["op"],
  nmi_op: ["cmd", "arg"],
  sched_op: ["cmd", "arg"],
  callback_op: ["cmd", "arg"],
  xenoprof_op: ["op", "arg"],
  event_channel_op: ["cmd", "arg"],
  physdev_op: ["cmd", "arg"],
  hvm_op: ["op", "arg"],
  sysctl: ["op"],
  domctl: ["op"],
  kexec_op: ["op", "arg"],
  tmem_op: ["op"],
  argo_op: ["op"],
  xenpmu_op: ["op", "arg"],
  dm_op: ["dom", "count", "buffers"],
  hypfs_op: ["cmd", "path"],
};

/** Arguments that are counts and numbers, never addresses. */
const DECIMAL = new Set([
  "count",
  "entries",
  "port",
  "vcpu",
  "len",
  "ref",
  "pcpu",
  "handle",
  "set",
  "reg",
  "code",
  "type",
]);
/** Arguments that are addresses, page-table entries or flags. */
const HEXADECIMAL = new Set([
  "va",
  "ptr",
  "val",
  "rip",
  "req",
  "arg",
  "done",
  "error",
  "ma",
  "flags",
  "base",
  "calls",
  "ops",
]);

const TWO32 = 4294967296;

/** `0x…`: negative numbers as the 64-bit address they stand for. */
export function hex(n: number): string {
  if (n >= 0) return `0x${n.toString(16)}`;
  const hi = Math.floor(n / TWO32) >>> 0;
  return `0x${hi.toString(16)}${(n >>> 0).toString(16).padStart(8, "0")}`;
}

function names(module: Readonly<Record<string, unknown>>, prefix: string, sign: 1 | -1): Map<number, string> {
  const map = new Map<number, string>();
  for (const [k, v] of Object.entries(module)) {
    if (k.startsWith(prefix) && typeof v === "number" && v !== 0 && !map.has(v * sign)) map.set(v * sign, k);
  }
  return map;
}
const ERRORS = names(errno, "E", -1);
const GRANT_STATUS = names(grants, "GNTST_", 1);
const MMUEXT = new Map([...names(xen, "MMUEXT_", 1), [xen.MMUEXT_PIN_L1_TABLE, "MMUEXT_PIN_L1_TABLE"]]);

const DOMIDS: Readonly<Record<number, string>> = {
  [xen.DOMID_SELF]: "self",
  [xen.DOMID_IO]: "io",
  [xen.DOMID_XEN]: "xen",
};

function value(key: string, v: number | string | boolean): string {
  if (typeof v === "string") return v === "" || /\s/.test(v) ? JSON.stringify(v) : v;
  if (typeof v === "boolean") return v ? "yes" : "no";
  if (key === "dom" || key === "domid") return DOMIDS[v] ?? String(v);
  if (key === "slice") return v < 0 ? "none" : `${(v / 1000).toFixed(0)}us`;
  if (DECIMAL.has(key)) return String(v);
  if (HEXADECIMAL.has(key) || v < 0 || v > 9999) return hex(v);
  return String(v);
}

function result(r: TraceRecord): string {
  if (r.result === undefined) return "";
  const table = r.kind === "grant" ? GRANT_STATUS : ERRORS;
  const name = table.get(r.result);
  if (name !== undefined) return ` = ${r.kind === "grant" ? name : `-${name}`}`;
  return ` = ${r.result < 0 || r.result > 9999 ? hex(r.result) : r.result}`;
}

/** The arguments by name; those of a hypercall come as a0 … a4. */
function args(r: TraceRecord): string {
  if (r.kind === "hypercall") {
    const [call, op] = r.name.split(".");
    const list = ARGUMENTS[call] ?? ["a0", "a1", "a2", "a3", "a4"];
    const shown = list
      .map((name, i) => (i === 0 && op !== undefined ? "" : `${name}=${value(name, r.args[`a${i}`] ?? 0)}`))
      .filter((s) => s !== "");
    return shown.join(", ");
  }
  return Object.entries(r.args)
    .map(([k, v]) => {
      if (r.name === "mmuext_op" && k === "cmd") return `cmd=${MMUEXT.get(v as number) ?? v}`;
      return `${k}=${value(k, v)}`;
    })
    .join(", ");
}

/** One line, without its end. */
export function formatTrace(r: TraceRecord): string {
  const seconds = Math.floor(r.time / 1e9);
  const nanos = String(Math.floor(r.time % 1e9)).padStart(9, "0");
  const who = r.domid === 0x7fff ? "idle" : r.vcpu < 0 ? `d${r.domid}` : `d${r.domid}v${r.vcpu}`;
  const nested = r.kind === "hypercall" && r.args["multicall"] === true ? " [multicall]" : "";
  return `[${String(seconds).padStart(5)}.${nanos}] ${who} ${r.kind} ${r.name}(${args(r)})${result(r)}${nested}`;
}
