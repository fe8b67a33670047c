/**
 * Writable page tables (VMASST_TYPE_writable_pagetables): a guest kernel's write to a page that is a validated L1 table, which it maps read-only, is
 * emulated with the checks of mmu_update. An instruction or a value that cannot be emulated is left to the guest as the page fault it is.
 *
 * Invariant: the entry is changed by `modL1` alone, and nothing (registers, flags, rip) changes unless that succeeds.
 */
import { VMASST_TYPE_writable_pagetables } from "../../abi/xen.js";
import { EXEC, type CpuApi, type Va } from "../../machine/cpu/api.js";
import { decode } from "../../machine/cpu/decode/index.js";
import { BASE_RIP, K, RAX, RCX, RDI, RSI, type Insn, type Operand } from "../../machine/cpu/insn.js";
import { GuestAccess } from "../guest-access.js";
import type { Vcpu } from "../vcpu.js";
import { F_VALIDATED, PGT_l1_page_table } from "./frame-table.js";
import { PTE_P, PTE_RW, pteMfn } from "./page-types.js";
import { toVa } from "./util.js";
import { walkL1 } from "./walk.js";

const CF = 1n,
  PF = 4n,
  AF = 16n,
  ZF = 64n,
  SF = 128n,
  OF = 2048n;
const ARITH = CF | PF | AF | ZF | SF | OF;
const DF = 0x400;

const U64 = (1n << 64n) - 1n;
const mask = (bytes: number): bigint => (1n << BigInt(bytes * 8)) - 1n;

function get(cpu: CpuApi, r: number): bigint {
  return (BigInt(cpu.regHi(r) >>> 0) << 32n) | BigInt(cpu.regLo(r) >>> 0);
}
function set(cpu: CpuApi, r: number, v: bigint): void {
  cpu.setReg(r, Number(v & 0xffffffffn), Number((v >> 32n) & 0xffffffffn));
}
/** Read a general register operand. */
function readReg(cpu: CpuApi, o: Operand): bigint {
  const v = get(cpu, o.reg);
  return (o.high ? v >> 8n : v) & mask(o.size);
}
/** Write one: 32-bit results clear the upper half, smaller ones keep the rest. */
function writeReg(cpu: CpuApi, o: Operand, v: bigint): void {
  if (o.size >= 4) return set(cpu, o.reg, v & mask(o.size));
  const shift = o.high ? 8n : 0n;
  set(cpu, o.reg, (get(cpu, o.reg) & ~(mask(o.size) << shift) & U64) | ((v & mask(o.size)) << shift));
}

function address(cpu: CpuApi, i: Insn): Va {
  let a = (BigInt(i.dispHi) << 32n) | BigInt(i.disp >>> 0);
  if (i.memBase === BASE_RIP) a += BigInt(cpu.rip + i.len);
  else if (i.memBase >= 0) a += get(cpu, i.memBase);
  if (i.memIndex >= 0) a += get(cpu, i.memIndex) << BigInt(i.memScale);
  a &= mask(i.asize);
  if (i.seg >= 4) a += (BigInt(cpu.segBaseHi(i.seg) >>> 0) << 32n) | BigInt(cpu.segBaseLo(i.seg) >>> 0);
  a &= U64;
  return toVa(Number(a & 0xffffffffn), Number(a >> 32n));
}

function signZeroParity(v: bigint, bytes: number): bigint {
  let f = 0n;
  if (v === 0n) f |= ZF;
  if (((v >> BigInt(bytes * 8 - 1)) & 1n) !== 0n) f |= SF;
  let p = Number(v & 0xffn);
  p ^= p >> 4;
  p ^= p >> 2;
  p ^= p >> 1;
  if ((p & 1) === 0) f |= PF;
  return f;
}
function addFlags(a: bigint, b: bigint, r: bigint, carry: boolean, bytes: number): bigint {
  const top = BigInt(bytes * 8 - 1);
  let f = signZeroParity(r, bytes);
  if (carry) f |= CF;
  if (((a ^ b ^ r) & 0x10n) !== 0n) f |= AF;
  if ((((a ^ r) & (b ^ r)) >> top) & 1n) f |= OF;
  return f;
}
function subFlags(a: bigint, b: bigint, r: bigint, borrow: boolean, bytes: number): bigint {
  const top = BigInt(bytes * 8 - 1);
  let f = signZeroParity(r, bytes);
  if (borrow) f |= CF;
  if (((a ^ b ^ r) & 0x10n) !== 0n) f |= AF;
  if ((((a ^ b) & (a ^ r)) >> top) & 1n) f |= OF;
  return f;
}

/** What an instruction does to the word it addresses: its new value and its flags (null = unchanged). */
interface Effect {
  value: bigint;
  flags: bigint | null;
  /** Which flags `flags` gives. */
  which: bigint;
  /** Register write that goes with success. */
  reg: Operand | null;
  regValue: bigint;
}

function effect(cpu: CpuApi, i: Insn, old: bigint, bytes: number): Effect | null {
  const e: Effect = { value: old, flags: null, which: ARITH, reg: null, regValue: 0n };
  const src = i.ops[1];
  const m = mask(bytes);
  let b = 0n;
  if (src !== undefined) {
    if (src.kind === K.GPR) b = readReg(cpu, src);
    else if (src.kind === K.IMM) b = ((BigInt(i.immHi) << 32n) | BigInt(i.imm >>> 0)) & m;
    else return null;
  }
  const carry = (BigInt(cpu.rflags) & CF) !== 0n;
  const logic = (v: bigint): void => {
    e.value = v & m;
    e.flags = signZeroParity(e.value, bytes);
  };
  switch (i.op) {
    case "mov":
      e.value = b;
      return e;
    case "xchg":
      // The memory operand may stand first or second.
      e.value = b;
      e.reg = src ?? null;
      e.regValue = old;
      return e;
    case "and":
      logic(old & b);
      return e;
    case "or":
      logic(old | b);
      return e;
    case "xor":
      logic(old ^ b);
      return e;
    case "not":
      e.value = ~old & m;
      return e;
    case "add":
    case "adc":
    case "xadd": {
      const c = i.op === "adc" && carry ? 1n : 0n;
      const sum = old + b + c;
      e.value = sum & m;
      e.flags = addFlags(old, b, e.value, sum > m, bytes);
      if (i.op === "xadd") {
        e.reg = src ?? null;
        e.regValue = old;
      }
      return e;
    }
    case "sub":
    case "sbb": {
      const c = i.op === "sbb" && carry ? 1n : 0n;
      e.value = (old - b - c) & m;
      e.flags = subFlags(old, b, e.value, old < b + c, bytes);
      return e;
    }
    case "neg":
      e.value = -old & m;
      e.flags = subFlags(0n, old, e.value, old !== 0n, bytes);
      return e;
    case "inc":
      e.value = (old + 1n) & m;
      e.flags = addFlags(old, 1n, e.value, false, bytes);
      e.which = ARITH & ~CF;
      return e;
    case "dec":
      e.value = (old - 1n) & m;
      e.flags = subFlags(old, 1n, e.value, false, bytes);
      e.which = ARITH & ~CF;
      return e;
    case "bts":
    case "btr":
    case "btc": {
      const bit = b & BigInt(bytes * 8 - 1);
      const one = 1n << bit;
      e.value = i.op === "bts" ? old | one : i.op === "btr" ? old & ~one : old ^ one;
      e.flags = (old >> bit) & 1n;
      e.which = CF;
      return e;
    }
    case "cmpxchg": {
      const acc = get(cpu, RAX) & m;
      e.flags = subFlags(acc, old, (acc - old) & m, acc < old, bytes);
      if (acc === old) e.value = b;
      else {
        e.reg = { kind: K.GPR, size: bytes, reg: RAX, high: false };
        e.regValue = old;
      }
      return e;
    }
    default:
      return null;
  }
}

/**
 * A page fault at `va`, error code `errorCode`, of the loaded vCPU. True: it was a write to one of its L1 tables; it has been done and rip
 * is at the next instruction.
 */
export function ptwrFault(vcpu: Vcpu, va: Va, errorCode: number): boolean {
  const d = vcpu.domain;
  // Present, write, not a reserved bit, not a fetch; of the guest's kernel.
  if ((d.vmAssist & (1 << VMASST_TYPE_writable_pagetables)) === 0 || !vcpu.kernelMode || (errorCode & 0x1b) !== 3)
    return false;
  const ft = d.xen.frames;
  const { cpu, mem } = d.xen;
  const at = walkL1(ft, vcpu.mm.kernelRoot, va);
  if (at < 0) return false;
  const plo = mem.r32(at);
  if ((plo & (PTE_P | PTE_RW)) !== PTE_P) return false;
  const mfn = pteMfn(plo, mem.r32(at + 4));
  if (!d.mm.owns(mfn) || ft.type[mfn] !== PGT_l1_page_table || ((ft.flags[mfn] as number) & F_VALIDATED) === 0)
    return false;

  const insn = fetch(cpu, mem.u8);
  if (insn === null) return false;
  if (!ft.getPage(mfn, d.mm.id)) return false;
  const ok = insn.op === "stos" || insn.op === "movs" ? string(vcpu, insn, va, mfn) : plain(vcpu, insn, va, mfn);
  ft.putPage(mfn);
  if (ok && d.xen.trace.on)
    d.xen.trace.emit({
      kind: "emulate",
      time: d.xen.clock.now(),
      domid: d.domid,
      vcpu: vcpu.id,
      name: "ptwr",
      args: { va, op: insn.op },
    });
  return ok;
}

function fetch(cpu: CpuApi, u8: Uint8Array): Insn | null {
  const rip = cpu.rip;
  const buf = new Uint8Array(15);
  let have = 0;
  while (have < 15) {
    const ma = cpu.translate(rip + have, EXEC);
    if (ma < 0) break;
    const n = Math.min(15 - have, 4096 - (ma & 4095));
    buf.set(u8.subarray(ma, ma + n), have);
    have += n;
  }
  return have === 0 ? null : decode(buf, 0, have, 64);
}

/** Store `bytes` of `v` at `ea`, which must be aligned and in the page that faulted; false if the new entry is refused. */
function store(vcpu: Vcpu, ea: Va, va: Va, mfn: number, bytes: number, v: bigint): boolean {
  if (Math.floor(ea / 4096) !== Math.floor(va / 4096) || ea % bytes !== 0) return false;
  const ft = vcpu.domain.xen.frames;
  const off = ea & 4095;
  const at = mfn * 4096 + (off & ~7);
  const shift = BigInt((off & 7) * 8);
  const old = (BigInt(ft.mem.r32(at + 4)) << 32n) | BigInt(ft.mem.r32(at));
  const full = bytes === 8 ? v & U64 : (old & ~(mask(bytes) << shift) & U64) | ((v & mask(bytes)) << shift);
  const id = vcpu.domain.mm.id;
  if (ft.types.modL1(at, Number(full & 0xffffffffn), Number(full >> 32n), false, id, id) !== 0) return false;
  return true;
}

function plain(vcpu: Vcpu, i: Insn, va: Va, mfn: number): boolean {
  const { cpu, mem } = vcpu.domain.xen;
  let op = i;
  // xchg is symmetric: put the memory operand first.
  if (i.op === "xchg" && i.ops[1]?.kind === K.MEM) op = { ...i, ops: [i.ops[1], i.ops[0] as Operand] };
  const dst = op.ops[0];
  if (dst === undefined || dst.kind !== K.MEM) return false;
  const bytes = dst.size;
  if (bytes !== 1 && bytes !== 2 && bytes !== 4 && bytes !== 8) return false;
  let ea = address(cpu, op);
  const src = op.ops[1];
  // bts and its like with a register reach beyond the word: the bit number is a signed offset from the operand.
  if (/^bt[src]$/.test(op.op) && src?.kind === K.GPR) {
    const n = BigInt.asIntN(bytes * 8, readReg(cpu, src));
    ea += Number(n >> BigInt(Math.log2(bytes * 8))) * bytes;
  }
  if (Number.isNaN(ea) || Math.floor(ea / 4096) !== Math.floor(va / 4096) || ea % bytes !== 0) return false;
  const at = mfn * 4096 + (ea & 4095);
  let old = BigInt(mem.r32(at - (at % 4)));
  if (bytes === 8) old |= BigInt(mem.r32(at + 4)) << 32n;
  else old = (old >> BigInt((at & 3) * 8)) & mask(bytes);
  const e = effect(cpu, op, old, bytes);
  if (e === null || !store(vcpu, ea, va, mfn, bytes, e.value)) return false;
  if (e.reg !== null) writeReg(cpu, e.reg, e.regValue);
  if (e.flags !== null) cpu.rflags = Number((BigInt(cpu.rflags >>> 0) & ~e.which) | (e.flags & e.which)) | 0;
  cpu.rip += i.len;
  return true;
}

/** One step of stos or movs. */
function string(vcpu: Vcpu, i: Insn, va: Va, mfn: number): boolean {
  const { cpu, mem } = vcpu.domain.xen;
  if (i.asize !== 8) return false;
  const bytes = i.osize;
  let v: bigint;
  if (i.op === "stos") v = get(cpu, RAX);
  else {
    let from = cpu.regVa(RSI);
    if (i.seg >= 4)
      from += Number(
        BigInt.asIntN(64, (BigInt(cpu.segBaseHi(i.seg) >>> 0) << 32n) | BigInt(cpu.segBaseLo(i.seg) >>> 0)),
      );
    const b = new GuestAccess(cpu, mem).copyFrom(from, bytes);
    if (b === null) return false;
    v = b.reduceRight((a, x) => (a << 8n) | BigInt(x), 0n);
  }
  if (!store(vcpu, cpu.regVa(RDI), va, mfn, bytes, v)) return false;
  const step = BigInt((cpu.rflags & DF) !== 0 ? -bytes : bytes);
  set(cpu, RDI, (get(cpu, RDI) + step) & U64);
  if (i.op === "movs") set(cpu, RSI, (get(cpu, RSI) + step) & U64);
  if (i.rep !== 0) {
    const n = (get(cpu, RCX) - 1n) & U64;
    set(cpu, RCX, n);
    if (n !== 0n) return true;
  }
  cpu.rip += i.len;
  return true;
}
