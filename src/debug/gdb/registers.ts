/**
 * An x86-64 vCPU's registers as gdb numbers them, the description that tells gdb so (`target.xml`), and the way in and out of the CPU.
 * The features are gdb's own: org.gnu.gdb.i386.core, .sse, .segments (GDB manual, "i386 Features").
 */
import type { Cpu } from "../../machine/cpu/cpu.js";
import { CS, DS, ES, FS, GS, SS } from "../../machine/cpu/insn.js";

type Source =
  | { readonly in: "gpr"; readonly index: number }
  | { readonly in: "rip" | "eflags" }
  | { readonly in: "seg"; readonly index: number }
  | { readonly in: "base"; readonly index: number }
  /** Bytes of the 512-byte fxsave image. */
  | { readonly in: "fx"; readonly at: number }
  /** The full tag word, of which the image holds one bit a register. */
  | { readonly in: "ftag" }
  | { readonly in: "zero" };

interface Register {
  readonly name: string;
  readonly bytes: number;
  readonly type: string;
  readonly feature: "core" | "sse" | "segments";
  readonly source: Source;
}

/** Hardware register numbers in gdb's order: rax rbx rcx rdx rsi rdi rbp rsp. */
const GPRS: readonly (readonly [string, number])[] = [
  ["rax", 0],
  ["rbx", 3],
  ["rcx", 1],
  ["rdx", 2],
  ["rsi", 6],
  ["rdi", 7],
  ["rbp", 5],
  ["rsp", 4],
];
const SEGMENTS: readonly (readonly [string, number])[] = [
  ["cs", CS],
  ["ss", SS],
  ["ds", DS],
  ["es", ES],
  ["fs", FS],
  ["gs", GS],
];
/** FXSAVE image (SDM vol. 1, 10.5.1). */
const FX_FCW = 0,
  FX_FSW = 2,
  FX_FTW = 4,
  FX_FOP = 6,
  FX_FIP = 8,
  FX_FDP = 16,
  FX_MXCSR = 24,
  FX_ST = 32,
  FX_XMM = 160;

function list(): Register[] {
  const out: Register[] = [];
  const core = (name: string, bytes: number, type: string, source: Source): void => {
    out.push({ name, bytes, type, feature: "core", source });
  };
  for (const [name, index] of GPRS)
    core(name, 8, name === "rbp" || name === "rsp" ? "data_ptr" : "int64", { in: "gpr", index });
  for (let i = 8; i < 16; i++) core(`r${i}`, 8, "int64", { in: "gpr", index: i });
  core("rip", 8, "code_ptr", { in: "rip" });
  core("eflags", 4, "i386_eflags", { in: "eflags" });
  for (const [name, index] of SEGMENTS) core(name, 4, "int32", { in: "seg", index });
  for (let i = 0; i < 8; i++) core(`st${i}`, 10, "i387_ext", { in: "fx", at: FX_ST + 16 * i });
  core("fctrl", 4, "int", { in: "fx", at: FX_FCW });
  core("fstat", 4, "int", { in: "fx", at: FX_FSW });
  core("ftag", 4, "int", { in: "ftag" });
  core("fiseg", 4, "int", { in: "zero" });
  core("fioff", 4, "int", { in: "fx", at: FX_FIP });
  core("foseg", 4, "int", { in: "zero" });
  core("fooff", 4, "int", { in: "fx", at: FX_FDP });
  core("fop", 4, "int", { in: "fx", at: FX_FOP });
  for (let i = 0; i < 16; i++)
    out.push({
      name: `xmm${i}`,
      bytes: 16,
      type: "vec128",
      feature: "sse",
      source: { in: "fx", at: FX_XMM + 16 * i },
    });
  out.push({ name: "mxcsr", bytes: 4, type: "i386_mxcsr", feature: "sse", source: { in: "fx", at: FX_MXCSR } });
  for (const [name, index] of SEGMENTS.slice(4))
    out.push({ name: `${name}_base`, bytes: 8, type: "int", feature: "segments", source: { in: "base", index } });
  return out;
}
export const REGISTERS: readonly Register[] = list();

const FLAG_BITS: readonly (readonly [string, number, number])[] = [
  ["CF", 0, 0],
  ["", 1, 1],
  ["PF", 2, 2],
  ["AF", 4, 4],
  ["ZF", 6, 6],
  ["SF", 7, 7],
  ["TF", 8, 8],
  ["IF", 9, 9],
  ["DF", 10, 10],
  ["OF", 11, 11],
  ["NT", 14, 14],
  ["RF", 16, 16],
  ["VM", 17, 17],
  ["AC", 18, 18],
  ["VIF", 19, 19],
  ["VIP", 20, 20],
  ["ID", 21, 21],
];
const MXCSR_BITS = ["IE", "DE", "ZE", "OE", "UE", "PE", "DAZ", "IM", "DM", "ZM", "OM", "UM", "PM"];

/** What `qXfer:features:read:target.xml` answers. */
export function targetXml(): string {
  const reg = (r: Register): string => `<reg name="${r.name}" bitsize="${r.bytes * 8}" type="${r.type}"/>`;
  const feature = (name: Register["feature"], types: string): string =>
    `<feature name="org.gnu.gdb.i386.${name}">${types}${REGISTERS.filter((r) => r.feature === name)
      .map(reg)
      .join("")}</feature>`;
  const field = (name: string, start: number, end: number): string =>
    `<field name="${name}" start="${start}" end="${end}"/>`;
  const flags = `<flags id="i386_eflags" size="4">${FLAG_BITS.map(([n, s, e]) => field(n, s, e)).join("")}</flags>`;
  const mxcsr = `<flags id="i386_mxcsr" size="4">${MXCSR_BITS.map((n, i) => field(n, i, i)).join("")}${field("FZ", 15, 15)}</flags>`;
  const vector =
    `<vector id="v4f" type="ieee_single" count="4"/><vector id="v2d" type="ieee_double" count="2"/>` +
    `<vector id="v16i8" type="int8" count="16"/><vector id="v8i16" type="int16" count="8"/>` +
    `<vector id="v4i32" type="int32" count="4"/><vector id="v2i64" type="int64" count="2"/>` +
    `<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>` +
    `<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/>` +
    `<field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>`;
  return (
    `<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target><architecture>i386:x86-64</architecture>` +
    `${feature("core", flags)}${feature("sse", vector + mxcsr)}${feature("segments", "")}</target>`
  );
}

function put(out: DataView, at: number, lo: number, hi: number): void {
  out.setUint32(at, lo >>> 0, true);
  out.setUint32(at + 4, hi >>> 0, true);
}
const half = (va: number): [number, number] => [va >>> 0, Math.floor(va / 4294967296) >>> 0];

/** Full tags from the abridged ones: empty or not (whether a value is zero or special, gdb does not ask). */
function fullTags(abridged: number): number {
  let out = 0;
  for (let i = 0; i < 8; i++) if ((abridged & (1 << i)) === 0) out |= 3 << (2 * i);
  return out;
}

/** One register's bytes; the vCPU is loaded. `fx`: its fxsave image. */
export function readRegister(cpu: Cpu, n: number, fx: Uint8Array): Uint8Array | null {
  const r = REGISTERS[n];
  if (r === undefined) return null;
  const out = new Uint8Array(Math.max(8, r.bytes));
  const d = new DataView(out.buffer);
  const s = r.source;
  switch (s.in) {
    case "gpr":
      put(d, 0, cpu.regLo(s.index), cpu.regHi(s.index));
      break;
    case "rip":
      put(d, 0, ...half(cpu.rip));
      break;
    case "eflags":
      d.setUint32(0, cpu.rflags, true);
      break;
    case "seg":
      d.setUint32(0, cpu.selector(s.index), true);
      break;
    case "base":
      put(d, 0, cpu.segBaseLo(s.index), cpu.segBaseHi(s.index));
      break;
    case "fx": {
      const short = s.at === FX_FCW || s.at === FX_FSW || s.at === FX_FOP ? 2 : Math.min(r.bytes, 16);
      out.set(fx.subarray(s.at, s.at + short));
      break;
    }
    case "ftag":
      d.setUint32(0, fullTags(fx[FX_FTW] as number), true);
      break;
    case "zero":
      break;
  }
  return out.subarray(0, r.bytes);
}

/** Segment selectors and the x87 pointers cannot be changed from here. False: refused. */
export function writeRegister(cpu: Cpu, n: number, value: Uint8Array): boolean {
  const r = REGISTERS[n];
  if (r === undefined || value.length !== r.bytes) return false;
  const wide = new Uint8Array(16);
  wide.set(value);
  const d = new DataView(wide.buffer);
  const lo = d.getUint32(0, true);
  const hi = d.getUint32(4, true);
  const canonical = hi >> 15 === 0 || (hi | 0) >> 15 === -1;
  const s = r.source;
  switch (s.in) {
    case "gpr":
      cpu.setReg(s.index, lo, hi);
      return true;
    case "rip":
      if (!canonical) return false;
      cpu.rip = (hi | 0) * 4294967296 + lo;
      return true;
    case "eflags": {
      // What a PV guest's popf can change: the arithmetic flags, DF, NT, AC, ID.
      const mine = 0x244cd5;
      cpu.rflags = (cpu.rflags & ~mine) | (lo & mine);
      return true;
    }
    case "base":
      if (!canonical) return false;
      cpu.setSegBase(s.index, lo, hi);
      return true;
    case "fx": {
      const fx = cpu.fxsave();
      const short = s.at === FX_FCW || s.at === FX_FSW || s.at === FX_FOP ? 2 : r.bytes;
      fx.set(value.subarray(0, short), s.at);
      // Reserved bits of MXCSR would fault on the way back.
      if (s.at === FX_MXCSR) new DataView(fx.buffer, fx.byteOffset).setUint32(FX_MXCSR, lo & 0xffff, true);
      cpu.fxrstor(fx);
      return true;
    }
    case "seg":
      return cpu.selector(s.index) === (lo & 0xffff);
    case "ftag":
    case "zero":
      return false;
  }
}
