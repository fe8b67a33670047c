/**
 * Privileged instructions of a PV guest. At CPL 3 each of them is #GP(0) with rip at the instruction; Xen decodes and carries out the
 * few that guests rely on, and passes the #GP on for the rest (hlt, lgdt, invlpg, swapgs, lmsw, …):
 *
 *  in out ins outs     if IOPL or the I/O bitmap allows it: no port is the domain's own
 *  cli sti             with sufficient IOPL: skipped, and nothing changes (the upcall mask is the guest's interrupt flag)
 *  clts, mov cr, mov dr, rdmsr, wrmsr, rdtsc, rdtscp, wbinvd, cpuid   only from the guest kernel, but for rdtsc and cpuid
 *
 * Decoded instructions are cached by rip and compared with the bytes in memory, so that guests may rewrite their code.
 */
import { vcpu_info } from "../../abi/xen.js";
import { decode } from "../../machine/cpu/decode/index.js";
import { EXEC, READ, WRITE, type Va } from "../../machine/cpu/api.js";
import { SEG_ATTR } from "../../machine/layout.js";
import { DF, RF, TF } from "../../machine/cpu/flags.js";
import { CS, ES, FS, GS, K, RAX, RBX, RCX, RDI, RDX, RSI, type Insn } from "../../machine/cpu/insn.js";
import type { Vcpu } from "../vcpu.js";
import { getDebugReg, setDebugReg } from "./debug-registers.js";
import { DB, GP, injectException, injectPageFault, UD } from "./inject.js";
import { ioplOk, portAllowed, portRead, portWrite } from "./io-ports.js";
import { msr, readMsr, writeMsr } from "./msr.js";
import { CR0_HOST, CR0_TS, CR4_GUEST, CR4_VISIBLE } from "./vcpu-traps.js";

/** How an emulator ended. */
const DONE = 0,
  /** Not ours: the original #GP goes to the guest. */
  PASS = 1,
  /** An exception was injected. */
  RAISED = 2,
  /** Run the instruction again (preempted). */
  RETRY = 3;
type Outcome = 0 | 1 | 2 | 3;

type Emulator = (v: Vcpu, i: Insn) => Outcome;

interface Cached {
  rip: Va;
  len: number;
  /** Bytes 0–3 and 4–7 of the instruction under `mask`. */
  lo: number;
  hi: number;
  maskLo: number;
  maskHi: number;
  insn: Insn;
  run: Emulator | null;
}

/** Direct-mapped decode cache of one hypervisor instance. */
export class PrivopCache {
  readonly entries: (Cached | undefined)[] = new Array(1024);
}

const bytes = new Uint8Array(15);

/** Bytes at rip, as far as they are mapped. */
function fetch(v: Vcpu, rip: Va): number {
  const { cpu, mem } = v.domain.xen;
  let n = 0;
  while (n < 15) {
    const ma = cpu.translate(rip + n, EXEC);
    if (ma < 0) break;
    const inPage = Math.min(15 - n, 4096 - (ma & 4095));
    for (let i = 0; i < inPage; i++) bytes[n + i] = mem.u8[ma + i] as number;
    n += inPage;
  }
  return n;
}

/** Width of the running code, from CS's hidden part in the state block. */
function codeBits(v: Vcpu): 16 | 32 | 64 {
  const attr = v.domain.xen.mem.u32[(SEG_ATTR >>> 2) + CS] as number;
  return (attr & 0x2000) !== 0 ? 64 : (attr & 0x4000) !== 0 ? 32 : 16;
}

function lookup(v: Vcpu): Cached | null {
  const { cpu, mem, privops } = v.domain.xen;
  const rip = cpu.rip;
  const slot = (rip ^ (rip / 1024)) & 1023;
  const c = privops.entries[slot];
  if (c !== undefined && c.rip === rip && (rip & 4095) <= 4088) {
    const ma = cpu.translate(rip, EXEC);
    if (ma >= 0 && (mem.r32(ma) & c.maskLo) === c.lo && (mem.r32(ma + 4) & c.maskHi) === c.hi) return c;
  }
  const n = fetch(v, rip);
  const insn = decode(bytes, 0, n, codeBits(v));
  if (insn === null) return null;
  const len = insn.len;
  const maskLo = len >= 4 ? -1 : (1 << (8 * len)) - 1;
  const maskHi = len >= 8 ? -1 : len <= 4 ? 0 : (1 << (8 * (len - 4))) - 1;
  const word = (at: number): number =>
    (bytes[at] as number) |
    ((bytes[at + 1] as number) << 8) |
    ((bytes[at + 2] as number) << 16) |
    ((bytes[at + 3] as number) << 24);
  const entry: Cached = {
    rip,
    len,
    lo: word(0) & maskLo,
    hi: word(4) & maskHi,
    maskLo,
    maskHi,
    insn,
    run: EMULATORS.get(insn.op) ?? null,
  };
  // Longer ones are not kept: only eight bytes are compared.
  if (len <= 8 && insn.bits === 64) privops.entries[slot] = entry;
  return entry;
}

/**
 * Emulate the instruction at rip after its #GP(0). True if the fault is dealt with; false: pass it on.
 */
export function emulatePrivop(v: Vcpu): boolean {
  const { xen } = v.domain;
  const c = lookup(v);
  if (c === null || c.run === null) return false;
  const outcome = c.run(v, c.insn);
  if (outcome === PASS) return false;
  xen.counters.privops++;
  if (xen.trace.on) trace(v, c.insn.op);
  if (outcome === DONE) {
    const { cpu } = xen;
    cpu.rip = cpu.rip + c.len;
    const flags = cpu.rflags;
    if ((flags & (RF | TF)) !== 0) {
      cpu.rflags = flags & ~RF;
      if ((flags & TF) !== 0) {
        cpu.setDr(6, cpu.drLo(6) | 0x4000, 0);
        injectException(v, DB, -1);
      }
    }
  }
  return true;
}

function trace(v: Vcpu, name: string): void {
  const { xen } = v.domain;
  xen.trace.emit({
    kind: "emulate",
    time: xen.clock.now(),
    domid: v.domain.domid,
    vcpu: v.id,
    name,
    args: { rip: xen.cpu.rip },
  });
}

function raise(v: Vcpu, vector: number, error: number): Outcome {
  injectException(v, vector, error);
  return RAISED;
}

/** A register write of 1, 2 or 4 bytes with the rules of 64-bit mode. */
function setSized(v: Vcpu, reg: number, size: number, value: number): void {
  const { cpu } = v.domain.xen;
  if (size === 4) cpu.setReg(reg, value, 0);
  else {
    const mask = size === 2 ? 0xffff : 0xff;
    cpu.setReg(reg, (cpu.regLo(reg) & ~mask) | (value & mask), cpu.regHi(reg));
  }
}

function portOf(v: Vcpu, i: Insn, operand: number): number {
  const o = i.ops[operand];
  return o !== undefined && o.kind === K.IMM ? i.imm & 0xff : v.domain.xen.cpu.regLo(RDX) & 0xffff;
}

function emulateIn(v: Vcpu, i: Insn): Outcome {
  const size = i.ops[0]?.size ?? i.osize;
  const port = portOf(v, i, 1);
  if (!portAllowed(v, port, size)) return PASS;
  setSized(v, RAX, size, portRead(v.domain, port, size));
  return DONE;
}

function emulateOut(v: Vcpu, i: Insn): Outcome {
  const o = i.ops[1];
  const size = o !== undefined && o.kind === K.GPR && o.reg === RAX ? o.size : i.osize;
  const port = portOf(v, i, 0);
  if (!portAllowed(v, port, size)) return PASS;
  const value = v.domain.xen.cpu.regLo(RAX);
  portWrite(v.domain, port, size, size === 1 ? value & 0xff : size === 2 ? value & 0xffff : value >>> 0);
  return DONE;
}

/** Elements of one visit; a longer repetition runs the instruction again. */
const STRING_BATCH = 256;

function emulateString(v: Vcpu, i: Insn): Outcome {
  const { cpu, mem } = v.domain.xen;
  const input = i.op === "ins";
  const size = i.osize > 4 ? 4 : i.osize;
  const port = cpu.regLo(RDX) & 0xffff;
  if (!portAllowed(v, port, size)) return PASS;
  const index = input ? RDI : RSI;
  const wide = i.asize === 8;
  const step = (cpu.rflags & DF) !== 0 ? -size : size;
  const seg = input ? ES : i.seg;
  const base =
    seg === FS || seg === GS || i.bits !== 64 ? cpu.segBaseHi(seg) * 4294967296 + (cpu.segBaseLo(seg) >>> 0) : 0;
  for (let n = 0; n < STRING_BATCH; n++) {
    if (i.rep !== 0) {
      const count = wide ? cpu.regLo(RCX) | cpu.regHi(RCX) : cpu.regLo(RCX);
      if (count === 0) return DONE;
    }
    const offset = wide ? cpu.regVa(index) : cpu.regLo(index) >>> 0;
    const at = base + offset;
    if (input) {
      const data = portRead(v.domain, port, size);
      for (let b = 0; b < size; b++) {
        const ma = cpu.translate(at + b, WRITE);
        if (ma < 0) return pageFault(v);
        mem.w8(ma, (data >>> (8 * b)) & 0xff);
      }
    } else {
      let data = 0;
      for (let b = 0; b < size; b++) {
        const ma = cpu.translate(at + b, READ);
        if (ma < 0) return pageFault(v);
        data |= mem.r8(ma) << (8 * b);
      }
      portWrite(v.domain, port, size, data >>> 0);
    }
    if (wide) cpu.setRegVa(index, offset + step);
    else cpu.setReg(index, (offset + step) | 0, 0);
    if (i.rep === 0) return DONE;
    if (wide) {
      const lo = cpu.regLo(RCX);
      cpu.setReg(RCX, (lo - 1) | 0, lo === 0 ? (cpu.regHi(RCX) - 1) | 0 : cpu.regHi(RCX));
    } else cpu.setReg(RCX, (cpu.regLo(RCX) - 1) | 0, 0);
  }
  return RETRY;
}

function pageFault(v: Vcpu): Outcome {
  const { exit } = v.domain.xen.cpu;
  injectPageFault(v, exit.errorCode, exit.cr2Lo, exit.cr2Hi);
  return RAISED;
}

/** cli and sti: with the privilege they are no-ops. */
function emulateIf(v: Vcpu): Outcome {
  return ioplOk(v) ? DONE : PASS;
}

function emulateMovCr(v: Vcpu, i: Insn): Outcome {
  if (!v.kernelMode) return PASS;
  const { cpu } = v.domain.xen;
  const t = v.traps;
  const [dst, src] = i.ops;
  if (dst === undefined || src === undefined) return PASS;
  if (src.kind === K.CR) {
    switch (src.reg) {
      case 0:
        cpu.setReg(dst.reg, CR0_HOST | (t.ts ? CR0_TS : 0), 0);
        return DONE;
      case 2:
        cpu.setReg(dst.reg, t.cr2Lo, t.cr2Hi);
        return DONE;
      case 3: {
        const ma = v.mm.kernelRoot * 4096;
        cpu.setReg(dst.reg, ma | 0, Math.floor(ma / 4294967296));
        return DONE;
      }
      case 4:
        cpu.setReg(dst.reg, t.cr4, 0);
        return DONE;
      default:
        return PASS;
    }
  }
  const lo = cpu.regLo(src.reg);
  const hi = cpu.regHi(src.reg);
  switch (dst.reg) {
    case 0:
      // Only TS may change.
      if (((lo ^ CR0_HOST) & ~CR0_TS) !== 0 || hi !== 0) return PASS;
      taskSwitch(v, (lo & CR0_TS) !== 0);
      return DONE;
    case 2:
      t.cr2Lo = lo;
      t.cr2Hi = hi;
      if (v.events.infoMaddr >= 0) v.domain.xen.mem.w64(v.events.infoMaddr + vcpu_info.arch_cr2, lo, hi);
      return DONE;
    case 3: {
      const rc = v.mm.newBaseptr((lo >>> 12) + (hi & 0xfffff) * 0x100000);
      return rc === 0 ? DONE : PASS;
    }
    case 4:
      t.cr4 = (lo & CR4_GUEST) | CR4_VISIBLE;
      return DONE;
    default:
      return PASS;
  }
}

/** Set or clear the virtual CR0.TS (fpu_taskswitch, clts, mov cr0). */
export function taskSwitch(v: Vcpu, on: boolean): void {
  v.traps.ts = on;
  v.domain.xen.cpu.setTaskSwitched(on);
}

function emulateMovDr(v: Vcpu, i: Insn): Outcome {
  if (!v.kernelMode) return PASS;
  const { cpu } = v.domain.xen;
  const [dst, src] = i.ops;
  if (dst === undefined || src === undefined) return PASS;
  if (src.kind === K.DR) {
    const dr = getDebugReg(v, src.reg);
    if (dr === null) return raise(v, UD, -1);
    cpu.setReg(dst.reg, dr.lo, dr.hi);
    return DONE;
  }
  const rc = setDebugReg(v, dst.reg, cpu.regLo(src.reg), cpu.regHi(src.reg));
  if (rc === 0) return DONE;
  return rc === -19 ? raise(v, UD, -1) : raise(v, GP, 0);
}

const EMULATORS: ReadonlyMap<string, Emulator> = new Map<string, Emulator>([
  ["in", emulateIn],
  ["out", emulateOut],
  ["ins", emulateString],
  ["outs", emulateString],
  ["cli", emulateIf],
  ["sti", emulateIf],
  ["mov_cr", emulateMovCr],
  ["mov_dr", emulateMovDr],
  [
    "clts",
    (v) => {
      if (!v.kernelMode) return PASS;
      taskSwitch(v, false);
      return DONE;
    },
  ],
  // Ignored: the domain has no device whose memory could need it.
  ["wbinvd", (v) => (v.kernelMode ? DONE : PASS)],
  [
    "rdmsr",
    (v) => {
      if (!v.kernelMode) return PASS;
      const { cpu } = v.domain.xen;
      if (!readMsr(v, cpu.regLo(RCX) >>> 0)) return PASS;
      cpu.setReg(RAX, msr.lo, 0);
      cpu.setReg(RDX, msr.hi, 0);
      return DONE;
    },
  ],
  [
    "wrmsr",
    (v) => {
      if (!v.kernelMode) return PASS;
      const { cpu } = v.domain.xen;
      return writeMsr(v, cpu.regLo(RCX) >>> 0, cpu.regLo(RAX), cpu.regLo(RDX)) ? DONE : PASS;
    },
  ],
  ["rdtsc", emulateRdtsc],
  [
    "rdtscp",
    (v) => {
      if (emulateRdtsc(v) !== DONE) return PASS;
      v.domain.xen.cpu.setReg(RCX, v.traps.tscAux, 0);
      return DONE;
    },
  ],
  [
    "cpuid",
    (v) => {
      cpuid(v);
      return DONE;
    },
  ],
]);

/** With CR4.TSD chosen by the guest kernel, its user mode gets the #GP. */
function emulateRdtsc(v: Vcpu): Outcome {
  if (!v.kernelMode && (v.traps.cr4 & 0x04) !== 0) return PASS;
  const { cpu } = v.domain.xen;
  const tsc = cpu.tsc();
  cpu.setReg(RAX, tsc >>> 0, 0);
  cpu.setReg(RDX, Math.floor(tsc / 4294967296) >>> 0, 0);
  return DONE;
}

function cpuid(v: Vcpu): void {
  const { cpu } = v.domain.xen;
  const r = v.domain.cpuid.query(cpu.regLo(RAX), cpu.regLo(RCX));
  cpu.setReg(RAX, r[0], 0);
  cpu.setReg(RBX, r[1], 0);
  cpu.setReg(RCX, r[2], 0);
  cpu.setReg(RDX, r[3], 0);
}

/** `ud2; "xen"; cpuid`. */
const FORCED: readonly number[] = [0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2];

/** #UD at `ud2`: the forced emulation of CPUID, from any mode and before there is a trap table. */
export function emulateForced(v: Vcpu): boolean {
  const { cpu, mem, counters } = v.domain.xen;
  const rip = cpu.rip;
  for (let i = 0; i < FORCED.length; i++) {
    const ma = cpu.translate(rip + i, EXEC);
    if (ma < 0) {
      // The prefix was there and the instruction cannot be read: the fault is the guest's.
      if (i < 5) return false;
      injectPageFault(v, cpu.exit.errorCode & ~2, cpu.exit.cr2Lo, cpu.exit.cr2Hi);
      return true;
    }
    if (mem.u8[ma] !== FORCED[i]) return false;
  }
  counters.forcedCpuid++;
  if (v.domain.xen.trace.on) trace(v, "forced cpuid");
  cpuid(v);
  cpu.rip = rip + FORCED.length;
  return true;
}
