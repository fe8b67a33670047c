/**
 * Exceptions and software interrupts for the guest kernel, by its trap table.
 */
import { vcpu_info } from "../../abi/xen.js";
import type { Vcpu } from "../vcpu.js";
import { bounce, NO_ERROR } from "./bounce.js";
import { infoOf } from "./upcall.js";

/** Vectors with an error code: #DF #TS #NP #SS #GP #PF #AC (SDM vol. 3, table 6-1). */
const HAS_ERROR = (1 << 8) | (1 << 10) | (1 << 11) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 17);
const NAMES: readonly string[] = [
  "#DE",
  "#DB",
  "NMI",
  "#BP",
  "#OF",
  "#BR",
  "#UD",
  "#NM",
  "#DF",
  "CSO",
  "#TS",
  "#NP",
  "#SS",
  "#GP",
  "#PF",
  "SPV",
  "#MF",
  "#AC",
  "#MC",
  "#XM",
  "#VE",
  "#CP",
];
export const DB = 1,
  BP = 3,
  UD = 6,
  NM = 7,
  NP = 11,
  STACK = 12,
  GP = 13,
  PF = 14;

export function vectorName(vector: number): string {
  return NAMES[vector] ?? `vector ${vector}`;
}

/** A hardware exception; rip must already be the one to report. */
export function injectException(v: Vcpu, vector: number, error: number): void {
  const hasError = vector < 32 && (HAS_ERROR & (1 << vector)) !== 0;
  const { xen } = v.domain;
  if (xen.trace.on)
    xen.trace.emit({
      kind: "trap",
      time: xen.clock.now(),
      domid: v.domain.domid,
      vcpu: v.id,
      name: vectorName(vector),
      args: { rip: xen.cpu.rip, error: hasError ? error : 0, kernel: v.kernelMode },
    });
  const handler = v.traps.address[vector] as number;
  if (handler === 0) {
    v.domain.crash(
      `unhandled ${vectorName(vector)}${hasError ? `[${(error >>> 0).toString(16).padStart(4, "0")}]` : ""}: the guest has no handler`,
    );
    return;
  }
  bounce(v, handler, v.traps.masksEvents(vector), hasError ? (error < 0 ? 0 : error) : NO_ERROR);
}

/** `int n` that the guest kernel allows: rip is already after it; never an error code. */
export function injectSoftware(v: Vcpu, vector: number): void {
  const handler = v.traps.address[vector] as number;
  if (handler === 0) {
    v.domain.crash(`unhandled int ${vector}: the guest has no handler`);
    return;
  }
  v.domain.xen.counters.softInts++;
  bounce(v, handler, v.traps.masksEvents(vector), NO_ERROR);
}

/** PFEC_user_mode. */
const PFEC_USER = 4;

/** A page fault. The user bit tells the guest which of its halves faulted, since both run at CPL 3. */
export function injectPageFault(v: Vcpu, error: number, cr2Lo: number, cr2Hi: number): void {
  const t = v.traps;
  t.cr2Lo = cr2Lo;
  t.cr2Hi = cr2Hi;
  const info = infoOf(v);
  if (info >= 0) v.domain.xen.mem.w64(info + vcpu_info.arch_cr2, cr2Lo, cr2Hi);
  injectException(v, PF, v.kernelMode ? error & ~PFEC_USER : error | PFEC_USER);
}
