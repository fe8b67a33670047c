/** Compares the state an engine leaves with the host's, but for what `rules.ts` says is undefined. */
import { CODE, PIECE, type Case, type Result } from "./case.js";
import {
  flagsAtFault,
  ignoredErrorBits,
  ignoredMemory,
  looseFaultAddress,
  mmxTransitionOpen,
  partialAtFault,
  relativeError,
  ulps,
  undefinedFlags,
  undefinedRegisters,
  undefinedStatus,
} from "./rules.js";

const NAMES = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split(" ");
const FLAG_NAMES: readonly (readonly [number, string])[] = [[1, "CF"], [4, "PF"], [16, "AF"], [64, "ZF"], [128, "SF"], [0x400, "DF"], [0x800, "OF"], [0x4000, "NT"], [0x40000, "AC"], [0x200000, "ID"]]; // prettier-ignore
/** RFLAGS that are compared: the arithmetic ones, DF, NT, AC, ID. */
const COMPARED = 0x244cd5;

const hex32 = (v: number): string => (v >>> 0).toString(16).padStart(8, "0");
const hex64 = (hi: number, lo: number): string => (hi ? hex32(hi) + hex32(lo) : (lo >>> 0).toString(16));
export const hexBytes = (b: Uint8Array): string => [...b].map((x) => x.toString(16).padStart(2, "0")).join("");

const vectorName = (v: number): string =>
  v < 0 ? "completes" : ({ 0: "#DE", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 19: "#XM" }[v] ?? `vector ${v}`); // prettier-ignore

/** Bytes of memory pieces, sparse. */
function memory(changes: Uint8Array, skip: readonly (readonly [number, number])[]): Map<number, number> {
  const bytes = new Map<number, number>();
  const view = new DataView(changes.buffer, changes.byteOffset, changes.byteLength);
  for (let at = 0; at < changes.length; at += PIECE) {
    const offset = view.getUint32(at, true);
    for (let i = 0; i < 8; i++) {
      const where = offset + i;
      if (!skip.some(([from, to]) => where >= from && where < to)) bytes.set(where, changes[at + 4 + i]);
    }
  }
  return bytes;
}

function equalBytes(a: Uint8Array, b: Uint8Array, from = 0, to = a.length): boolean {
  for (let i = from; i < to; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Mantissa distance of two 80-bit numbers of the same sign and about the same size, else Infinity. */
function distance80(a: DataView, b: DataView, at: number): number {
  // Denormals have the scale of exponent 1.
  const scale = (e: number): number => (e & 0x7fff ? e : e | 1);
  const ea = scale(a.getUint16(at + 8, true));
  const eb = scale(b.getUint16(at + 8, true));
  // The upper halves differ by at most one where the distance is small: the difference is exact then.
  const lo = a.getUint32(at, true) - b.getUint32(at, true);
  const ha = a.getUint32(at + 4, true);
  const hb = b.getUint32(at + 4, true);
  let d = (ha - hb) * TWO32 + lo;
  // One of them is the power of two that the other falls short of.
  if (ea - eb === 1)
    d = ha === 0x80000000 && a.getUint32(at, true) === 0 ? (TWO32 - hb) * TWO32 - b.getUint32(at, true) : Infinity;
  else if (eb - ea === 1)
    d = hb === 0x80000000 && b.getUint32(at, true) === 0 ? (TWO32 - ha) * TWO32 - a.getUint32(at, true) : Infinity;
  else if (ea !== eb) return Infinity;
  d = Math.abs(d);
  return d > 1000 ? Infinity : d;
}
const TWO32 = 4294967296;

function closeSingle(a: number, b: number, allowed: number): boolean {
  if (Object.is(a, b) || (Number.isNaN(a) && Number.isNaN(b))) return true;
  return Math.abs(a - b) <= allowed * Math.abs(a);
}

/** The usual end: nothing differs at all, not even where it may. */
function same(c: Case, mine: Result, host: Result): boolean {
  if (mine.vector !== host.vector || mine.ripLo !== host.ripLo || mine.ripHi !== host.ripHi) return false;
  if ((mine.rflags ^ host.rflags) & COMPARED) return false;
  const a = mine.gpr;
  const b = host.gpr;
  if (c.bits === 64) {
    for (let i = 0; i < 32; i++) if (a[i] !== b[i]) return false;
  } else for (let i = 0; i < 16; i += 2) if (a[i] !== b[i]) return false;
  const x = mine.fxWords;
  const y = host.fxWords;
  // Control and status word, tags, MXCSR; registers with their padding, which is zero on both sides.
  if (x[0] !== y[0] || (x[1] ^ y[1]) & 0xff || x[6] !== y[6]) return false;
  for (let i = 8; i < 104; i++) if (x[i] !== y[i]) return false;
  return mine.changes.length === host.changes.length && equalBytes(mine.changes, host.changes);
}

/** 1 from the last page of the lower half on, which Linux counts with its own. */
const kernelHalf = (r: Result): number => (r.cr2Hi >>> 31 || (r.cr2Hi === 0x7fff && r.cr2Lo >= 0xfffff000) ? 1 : 0);

/** What differs, or "" . `mine` is the engine's result, `host` the oracle's. */
export function difference(c: Case, mine: Result, host: Result, base: Uint8Array): string {
  if (host.vector < 0 && same(c, mine, host)) return "";
  const out: string[] = [];
  if (mine.vector !== host.vector) out.push(`${vectorName(mine.vector)}, host ${vectorName(host.vector)}`);
  else {
    const hasCode = host.vector === 8 || (host.vector >= 10 && host.vector <= 14) || host.vector === 17;
    // Linux sets P for the kernel's half of the address space, so as not to tell what is mapped there.
    const ignored = host.vector !== 14 ? 0 : kernelHalf(host) | ignoredErrorBits(c);
    if (hasCode && (mine.error ^ host.error) & ~ignored) out.push(`error code ${mine.error}, host ${host.error}`);
    if (host.vector === 14 && !looseFaultAddress(c) && (mine.cr2Lo !== host.cr2Lo || mine.cr2Hi !== host.cr2Hi))
      out.push(`cr2 ${hex64(mine.cr2Hi, mine.cr2Lo)}, host ${hex64(host.cr2Hi, host.cr2Lo)}`);
  }
  if (mine.ripLo !== host.ripLo || mine.ripHi !== host.ripHi)
    out.push(`rip ${hex64(mine.ripHi, mine.ripLo)}, host ${hex64(host.ripHi, host.ripLo)}`);
  const completed = host.vector < 0;
  const partial = !completed && partialAtFault(c);
  const skipRegisters = completed ? undefinedRegisters(c, (host.rflags & 64) !== 0) : partial ? 0xffef : 0;
  for (let i = 0; i < (c.bits === 64 ? 16 : 8); i++) {
    if ((skipRegisters >> i) & 1) continue;
    const lo = i * 2;
    const wide = c.bits === 64;
    if (mine.gpr[lo] !== host.gpr[lo] || (wide && mine.gpr[lo + 1] !== host.gpr[lo + 1]))
      out.push(
        `${NAMES[i]} ${hex64(wide ? mine.gpr[lo + 1] : 0, mine.gpr[lo])}, host ${hex64(wide ? host.gpr[lo + 1] : 0, host.gpr[lo])}`,
      );
  }
  const flags =
    (mine.rflags ^ host.rflags) & COMPARED & ~c.loose & ~(completed ? undefinedFlags(c, host.fx[2]) : flagsAtFault(c));
  for (const [bit, name] of FLAG_NAMES)
    if (flags & bit) out.push(`${name} ${mine.rflags & bit ? 1 : 0}, host ${host.rflags & bit ? 1 : 0}`);

  if (!partial && (mine.changes.length !== host.changes.length || !equalBytes(mine.changes, host.changes))) {
    const skip = ignoredMemory(c);
    const a = memory(mine.changes, skip);
    const b = memory(host.changes, skip);
    // A byte that one side did not change holds what was there before.
    const before = (where: number): number => {
      const view = new DataView(c.patches.buffer, c.patches.byteOffset, c.patches.byteLength);
      for (let at = 0; at < c.patches.length; at += PIECE) {
        const offset = view.getUint32(at, true);
        if (where >= offset && where < offset + 8) return c.patches[at + 4 + where - offset];
      }
      return base[where];
    };
    let shown = 0;
    for (const where of [...new Set([...a.keys(), ...b.keys()])].sort((x, y) => x - y)) {
      const x = a.get(where) ?? before(where);
      const y = b.get(where) ?? before(where);
      if (x !== y && shown++ < 4) out.push(`memory +${where.toString(16)} ${x.toString(16)}, host ${y.toString(16)}`);
    }
    if (shown > 4) out.push(`and ${shown - 4} bytes more`);
  }
  fpu(c, mine, host, out);
  return out.join("; ");
}

function fpu(c: Case, mine: Result, host: Result, out: string[]): void {
  if (equalBytes(mine.fx, host.fx)) return;
  const a = new DataView(mine.fx.buffer, mine.fx.byteOffset, mine.fx.byteLength);
  const b = new DataView(host.fx.buffer, host.fx.byteOffset, host.fx.byteLength);
  const word = (name: string, at: number, mask: number): void => {
    const x = a.getUint16(at, true) & mask;
    const y = b.getUint16(at, true) & mask;
    if (x !== y) out.push(`${name} ${x.toString(16)}, host ${y.toString(16)}`);
  };
  const open = mmxTransitionOpen(c, host.vector);
  word("fcw", 0, 0xffff);
  word("fsw", 2, (open ? 0xc7ff : 0xffff) & ~undefinedStatus(c, b.getUint16(2, true), b.getUint16(40, true)));
  if (!open) word("ftw", 4, 0xff);
  const mx = a.getUint32(24, true);
  const my = b.getUint32(24, true);
  if (mx !== my) out.push(`mxcsr ${mx.toString(16)}, host ${my.toString(16)}`);
  const top = (b.getUint16(2, true) >> 11) & 7;
  const tags = open ? 0 : host.fx[4];
  const allowed = ulps(c);
  for (let i = 0; i < 8; i++) {
    if (!((tags >> ((top + i) & 7)) & 1)) continue;
    const at = 32 + i * 16;
    if (equalBytes(mine.fx, host.fx, at, at + 10)) continue;
    if (allowed === Infinity) continue;
    const d = allowed > 0 ? distance80(a, b, at) : Infinity;
    if (d > allowed) {
      const show = (v: DataView): string =>
        `${v.getUint16(at + 8, true).toString(16)}:${v.getBigUint64(at, true).toString(16)}`;
      out.push(`st${i} ${show(a)}, host ${show(b)}${d < Infinity ? ` (${d} ulp)` : ""}`);
    }
  }
  const relative = relativeError(c);
  for (let i = 0; i < (c.bits === 64 ? 16 : 8); i++) {
    const at = 160 + i * 16;
    if (equalBytes(mine.fx, host.fx, at, at + 16)) continue;
    if (relative > 0) {
      let close = true;
      for (let k = 0; k < 16; k += 4)
        close &&= closeSingle(b.getFloat32(at + k, true), a.getFloat32(at + k, true), relative);
      if (close) continue;
    }
    const show = (v: DataView): string =>
      `${v.getBigUint64(at + 8, true).toString(16)}:${v.getBigUint64(at, true).toString(16)}`;
    out.push(`xmm${i} ${show(a)}, host ${show(b)}`);
  }
}

/** One line to find the case again. */
export function reproduction(c: Case, engine: string, what: string): string {
  return `${c.insn.op} [${hexBytes(c.code)}] ${c.bits}-bit ${engine} (--seed ${c.seed} --case ${c.index}): ${what}`;
}

/** The case's starting state, for a person. */
export function describeCase(c: Case): string {
  const lines: string[] = [
    `${c.insn.op} ${hexBytes(c.code)} at ${CODE.toString(16)}, ${c.bits}-bit, rflags ${c.rflags.toString(16)}`,
  ];
  for (let i = 0; i < 16; i++) lines.push(`  ${NAMES[i].padEnd(3)} ${hex32(c.gpr[i * 2 + 1])}${hex32(c.gpr[i * 2])}`);
  const view = new DataView(c.fx.buffer, c.fx.byteOffset);
  lines.push(
    `  fcw ${view.getUint16(0, true).toString(16)} fsw ${view.getUint16(2, true).toString(16)} ftw ${c.fx[4].toString(16)} mxcsr ${view.getUint32(24, true).toString(16)}`,
  );
  for (let i = 0; i < 8; i++)
    lines.push(
      `  st${i} ${view.getUint16(40 + i * 16, true).toString(16)}:${view.getBigUint64(32 + i * 16, true).toString(16)}`,
    );
  for (let i = 0; i < 16; i++)
    lines.push(
      `  xmm${i} ${view.getBigUint64(168 + i * 16, true).toString(16)}:${view.getBigUint64(160 + i * 16, true).toString(16)}`,
    );
  for (let at = 0; at < c.patches.length; at += PIECE) {
    const offset = new DataView(c.patches.buffer, c.patches.byteOffset).getUint32(at, true);
    lines.push(`  memory +${offset.toString(16).padStart(4, "0")} ${hexBytes(c.patches.subarray(at + 4, at + 12))}`);
  }
  return lines.join("\n");
}
