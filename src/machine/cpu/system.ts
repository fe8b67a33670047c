/**
 * System instructions, carried out on the host side: the engine leaves with reason SYSTEM and RIP at the instruction.
 *
 * At CPL 3 (a PV guest's kernel and every user program) privileged instructions raise #GP(0), and the hypervisor decides; CPUID answers
 * from the vCPU's policy; segment loads ask the owner of the descriptor tables. Source: SDM vol. 2, "Protected Mode Exceptions" of each.
 */
import { EXIT_LENGTH } from "../layout.js";
import { READ, WRITE, type Va } from "./api.js";
import type { Cpu } from "./cpu.js";
import { Exit, type ExitReason } from "./exits.js";
import { CS, DS, ES, FS, GS, K, RAX, RBX, RCX, RDX, RSP, SS, type Insn } from "./insn.js";

const TWO32 = 4294967296;

function advance(cpu: Cpu, insn: Insn): ExitReason {
  const next = cpu.rip + insn.len;
  cpu.rip = cpu.bits === 64 ? next : next % TWO32;
  return Exit.NONE;
}

function fault(cpu: Cpu, vector: number, error: number): ExitReason {
  cpu.fault(vector, error);
  return Exit.EXCEPTION;
}

/** Linear address of the memory operand. */
export function linearAddress(cpu: Cpu, insn: Insn): Va {
  let lo =
    BigInt(insn.disp) +
    (insn.memBase < 0 && insn.memIndex < 0 ? BigInt(insn.dispHi - (insn.disp >> 31)) * BigInt(TWO32) : 0n);
  const reg = (n: number): bigint => BigInt(cpu.regLo(n)) | (BigInt(cpu.regHi(n)) << 32n);
  if (insn.memBase === 16) lo += BigInt(cpu.rip + insn.len);
  else if (insn.memBase >= 0) lo += reg(insn.memBase);
  if (insn.memIndex >= 0) lo += reg(insn.memIndex) << BigInt(insn.memScale);
  lo = BigInt.asUintN(insn.asize * 8, lo);
  if (insn.bits !== 64 || insn.seg >= FS)
    lo += BigInt(cpu.segBaseLo(insn.seg)) | (BigInt(cpu.segBaseHi(insn.seg)) << 32n);
  return insn.bits === 64 ? Number(BigInt.asIntN(64, lo)) : Number(BigInt.asUintN(32, lo));
}

/** Read `size` bytes (≤ 16) of guest memory as a little-endian number; null after a recorded fault. */
export function readGuest(cpu: Cpu, va: Va, size: number): bigint | null {
  let v = 0n;
  for (let i = 0; i < size; i++) {
    const ma = cpu.translate(va + i, READ);
    if (ma < 0) return null;
    v |= BigInt(cpu.mem.r8(ma)) << BigInt(8 * i);
  }
  return v;
}

export function writeGuest(cpu: Cpu, va: Va, size: number, value: bigint): boolean {
  for (let i = 0; i < size; i++) if (cpu.translate(va + i, WRITE) < 0) return false;
  for (let i = 0; i < size; i++) {
    const ma = cpu.translate(va + i, WRITE);
    cpu.mem.w8(ma, Number((value >> BigInt(8 * i)) & 0xffn));
  }
  return true;
}

function setGpr(cpu: Cpu, n: number, value: number): void {
  cpu.setReg(n, value >>> 0, 0);
}

function loadOrFault(cpu: Cpu, seg: number, selector: number): boolean {
  if (cpu.loadSegment(seg, selector)) return true;
  cpu.fault(cpu.exit.vector, cpu.exit.errorCode);
  return false;
}

function stackSize(cpu: Cpu): number {
  return cpu.bits === 64 ? 8 : (cpu.segAttr(SS) & 0x4000) !== 0 ? 4 : 2;
}
function stackVa(cpu: Cpu, offset: number): Va {
  const sp = cpu.regVa(RSP) + offset;
  if (cpu.bits === 64) return sp;
  const wrap = stackSize(cpu) === 4 ? TWO32 : 65536;
  return ((((sp % wrap) + wrap) % wrap) + cpu.segBaseLo(SS)) % TWO32;
}
function moveRsp(cpu: Cpu, delta: number): void {
  const size = stackSize(cpu);
  if (size === 8) cpu.setRegVa(RSP, cpu.regVa(RSP) + delta);
  else if (size === 4) cpu.setReg(RSP, (cpu.regLo(RSP) + delta) >>> 0, 0);
  else cpu.setReg(RSP, ((cpu.regLo(RSP) & ~0xffff) | ((cpu.regLo(RSP) + delta) & 0xffff)) >>> 0, cpu.regHi(RSP));
}

const canonical = (v: bigint): boolean => BigInt.asIntN(48, v) === BigInt.asIntN(64, v);

/** The five words of a 64-bit frame as uint32 halves; null after a recorded fault. */
function readFrame(cpu: Cpu, va: Va): Uint32Array | null {
  const frame = new Uint32Array(10);
  for (let i = 0; i < 5; i++) {
    if (((va + i * 8) & 4095) <= 4088) {
      const ma = cpu.translate(va + i * 8, READ);
      if (ma < 0) return null;
      frame[2 * i] = cpu.mem.r32(ma);
      frame[2 * i + 1] = cpu.mem.r32(ma + 4);
    } else {
      const v = readGuest(cpu, va + i * 8, 8);
      if (v === null) return null;
      frame[2 * i] = Number(v & 0xffffffffn);
      frame[2 * i + 1] = Number(v >> 32n);
    }
  }
  return frame;
}

/** SDM vol. 2, IRET: at CPL 3 with IOPL < 3, IF and IOPL stay; VM, VIF, VIP are not loaded. */
function loadFlags(cpu: Cpu, flags: number, size: number): void {
  const old = cpu.rflags;
  const keep =
    0x1a0000 | (cpu.cpl > 0 ? 0x3000 : 0) | (cpu.cpl > ((old >> 12) & 3) ? 0x200 : 0) | (size === 2 ? ~0xffff : 0);
  cpu.rflags = (flags & 0x257fd7 & ~keep) | (old & keep);
}

/** `iretq` to the same privilege level: a PV kernel serializes with it, thousands of times while it patches itself. */
function iret64(cpu: Cpu): ExitReason {
  const f = readFrame(cpu, cpu.regVa(RSP));
  if (f === null) return Exit.EXCEPTION;
  const cs = (f[2] as number) & 0xffff;
  const ss = (f[8] as number) & 0xffff;
  if ((cs & 3) !== cpu.cpl) return fault(cpu, 13, cs & 0xfffc);
  const hi = (f[1] as number) | 0;
  if (hi !== (hi << 16) >> 16) return fault(cpu, 13, 0);
  if (cs !== cpu.selector(CS) && !loadOrFault(cpu, CS, cs)) return Exit.EXCEPTION;
  if (ss !== cpu.selector(SS) && !loadOrFault(cpu, SS, ss)) return Exit.EXCEPTION;
  cpu.setReg(RSP, f[6] as number, f[7] as number);
  loadFlags(cpu, f[4] as number, 8);
  cpu.rip = hi * TWO32 + (f[0] as number);
  return Exit.NONE;
}

/** `iret` to the same privilege level, as a deprivileged kernel may execute it. */
function iret(cpu: Cpu, insn: Insn): ExitReason {
  const size = insn.osize;
  const frame: bigint[] = [];
  const words = cpu.bits === 64 ? 5 : 3;
  for (let i = 0; i < words; i++) {
    const v = readGuest(cpu, stackVa(cpu, i * size), size);
    if (v === null) return Exit.EXCEPTION;
    frame.push(v);
  }
  const [rip, cs, flags, rsp, ss] = frame as [bigint, bigint, bigint, bigint, bigint];
  const selector = Number(cs & 0xffffn);
  if ((selector & 3) !== cpu.cpl) return fault(cpu, 13, selector & 0xfffc);
  if (cpu.bits === 64 && !canonical(rip)) return fault(cpu, 13, 0);
  if (selector !== cpu.selector(CS) && !loadOrFault(cpu, CS, selector)) return Exit.EXCEPTION;
  if (words === 5) {
    const stack = Number(ss & 0xffffn);
    if (stack !== cpu.selector(SS) && !loadOrFault(cpu, SS, stack)) return Exit.EXCEPTION;
    cpu.setReg(RSP, Number(rsp & 0xffffffffn), Number((rsp >> 32n) & 0xffffffffn));
  } else moveRsp(cpu, 3 * size);
  loadFlags(cpu, Number(flags & 0xffffffffn) | 0, size);
  cpu.rip = cpu.bits === 64 ? Number(BigInt.asIntN(64, rip)) : Number(rip);
  return Exit.NONE;
}

/** Far return, far jump and far call to the same privilege level. */
function farTransfer(cpu: Cpu, insn: Insn): ExitReason {
  const size = insn.osize;
  let offset: bigint;
  let selector: number;
  let drop = 0;
  const op = insn.op;
  if (op === "ret_far") {
    const o = readGuest(cpu, stackVa(cpu, 0), size);
    if (o === null) return Exit.EXCEPTION;
    const s = readGuest(cpu, stackVa(cpu, size), 2);
    if (s === null) return Exit.EXCEPTION;
    offset = o;
    selector = Number(s);
    drop = 2 * size + (insn.ops.length > 0 ? insn.imm : 0);
  } else if (op === "jmp_far_imm" || op === "call_far_imm") {
    offset = BigInt(insn.imm >>> 0);
    selector = insn.imm2;
  } else {
    const va = linearAddress(cpu, insn);
    const o = readGuest(cpu, va, size);
    if (o === null) return Exit.EXCEPTION;
    const s = readGuest(cpu, va + size, 2);
    if (s === null) return Exit.EXCEPTION;
    offset = o;
    selector = Number(s);
  }
  if ((selector & 0xfffc) === 0) return fault(cpu, 13, 0);
  if (op === "ret_far" && (selector & 3) !== cpu.cpl) return fault(cpu, 13, selector & 0xfffc);
  const oldCs = cpu.selector(CS);
  const ret = cpu.rip + insn.len;
  if (op.startsWith("call")) {
    for (let i = 1; i <= 2; i++) {
      for (let b = 0; b < size; b++) if (cpu.translate(stackVa(cpu, -i * size + b), WRITE) < 0) return Exit.EXCEPTION;
    }
  }
  if (!loadOrFault(cpu, CS, (selector & ~3) | cpu.cpl)) return Exit.EXCEPTION;
  if (op.startsWith("call")) {
    writeGuest(cpu, stackVa(cpu, -size), size, BigInt(oldCs));
    writeGuest(cpu, stackVa(cpu, -2 * size), size, BigInt.asUintN(size * 8, BigInt(ret)));
    moveRsp(cpu, -2 * size);
  } else if (op === "ret_far") moveRsp(cpu, drop);
  cpu.rip = cpu.bits === 64 ? Number(BigInt.asIntN(64, offset)) : Number(BigInt.asUintN(32, offset));
  return Exit.NONE;
}

const POINTER_LOADS: Record<string, number> = { les: ES, lds: DS, lss: SS, lfs: FS, lgs: GS };

/** The instruction at RIP, which the engine would not do itself. Returns NONE when it is done (RIP moved), else the exit. */
export function systemInstruction(cpu: Cpu, insn: Insn): ExitReason {
  switch (insn.op) {
    case "cpuid": {
      const [a, b, c, d] = cpu.cpuid(cpu.regLo(RAX), cpu.regLo(RCX));
      setGpr(cpu, RAX, a);
      setGpr(cpu, RBX, b);
      setGpr(cpu, RCX, c);
      setGpr(cpu, RDX, d);
      return advance(cpu, insn);
    }
    case "mov_sreg": {
      // A store of a selector is done by the engine; this is a load.
      const dst = insn.ops[0];
      const src = insn.ops[1];
      if (dst === undefined || src === undefined || dst.kind !== K.SREG) break;
      let selector: number;
      if (src.kind === K.MEM) {
        const v = readGuest(cpu, linearAddress(cpu, insn), 2);
        if (v === null) return Exit.EXCEPTION;
        selector = Number(v);
      } else selector = cpu.regLo(src.reg) & 0xffff;
      if (dst.reg === CS || dst.reg > GS) return fault(cpu, 6, -1);
      if (!loadOrFault(cpu, dst.reg, selector)) return Exit.EXCEPTION;
      return advance(cpu, insn);
    }
    case "pop_sreg": {
      const dst = insn.ops[0];
      if (dst === undefined) break;
      const v = readGuest(cpu, stackVa(cpu, 0), 2);
      if (v === null) return Exit.EXCEPTION;
      if (!loadOrFault(cpu, dst.reg, Number(v))) return Exit.EXCEPTION;
      moveRsp(cpu, insn.osize);
      return advance(cpu, insn);
    }
    case "les":
    case "lds":
    case "lss":
    case "lfs":
    case "lgs": {
      const dst = insn.ops[0];
      if (dst === undefined) break;
      const va = linearAddress(cpu, insn);
      const offset = readGuest(cpu, va, insn.osize);
      if (offset === null) return Exit.EXCEPTION;
      const selector = readGuest(cpu, va + insn.osize, 2);
      if (selector === null) return Exit.EXCEPTION;
      if (!loadOrFault(cpu, POINTER_LOADS[insn.op] as number, Number(selector))) return Exit.EXCEPTION;
      const lo = Number(offset & 0xffffffffn);
      if (insn.osize === 2) cpu.setReg(dst.reg, ((cpu.regLo(dst.reg) & ~0xffff) | lo) >>> 0, cpu.regHi(dst.reg));
      else cpu.setReg(dst.reg, lo, insn.osize === 8 ? Number((offset >> 32n) & 0xffffffffn) : 0);
      return advance(cpu, insn);
    }
    case "iret":
      return insn.osize === 8 ? iret64(cpu) : iret(cpu, insn);
    case "ret_far":
    case "jmp_far":
    case "jmp_far_imm":
    case "call_far":
    case "call_far_imm":
      return farTransfer(cpu, insn);
    case "sysenter":
      cpu.mem.i32[EXIT_LENGTH >>> 2] = insn.len;
      return Exit.SYSENTER;
    case "vmcall":
    case "vmmcall":
    case "monitor":
    case "mwait":
      return fault(cpu, 6, -1);
    case "verr":
    case "verw":
    case "lar":
    case "lsl":
    case "sldt":
    case "str":
    case "smsw":
    case "sgdt":
    case "sidt":
      return unprivilegedSystem(cpu, insn);
    default:
      break;
  }
  // Everything else is privileged: in, out, cli, sti, hlt, rdmsr, wrmsr, mov to/from CR and DR, lgdt, invlpg, sysret, …
  return fault(cpu, 13, 0);
}

/**
 * Instructions that user mode may execute and that reveal system state. A PV guest's tables are Xen's: SGDT, SIDT, SLDT and STR give what UMIP-less
 * hardware under Xen would give a guest no use for, so they raise #GP as with UMIP; VERR and its kin see no descriptor (ZF = 0).
 */
function unprivilegedSystem(cpu: Cpu, insn: Insn): ExitReason {
  switch (insn.op) {
    case "verr":
    case "verw":
    case "lar":
    case "lsl":
      cpu.rflags = cpu.rflags & ~0x40;
      return advance(cpu, insn);
    default:
      return fault(cpu, 13, 0);
  }
}
