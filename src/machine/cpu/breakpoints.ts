/**
 * Debug registers at work: instruction and data breakpoints of DR7 (SDM vol. 3, 17.2).
 *
 * While any is armed the vCPU runs instruction by instruction, so that the engine's fast paths need not know of breakpoints. Instruction
 * breakpoints are faults before the instruction, unless RF is set; data breakpoints are traps after it. A repeated string
 * instruction traps once, when it has ended.
 */
import { DR } from "../layout.js";
import type { Va } from "./api.js";
import type { Cpu } from "./cpu.js";
import { K, RCX, RDI, RSI, RSP, type Insn } from "./insn.js";
import { linearAddress } from "./system.js";

const LENGTH = [1, 2, 8, 4];
const EXECUTE = 0,
  WRITE_ONLY = 1,
  READ_WRITE = 3;

export interface Access {
  va: Va;
  size: number;
  write: boolean;
}

/** Instructions that only read a memory operand that stands first. */
const READS_FIRST = new Set(
  "cmp test bt push call_ind jmp_ind mul imul1 div idiv fld fild fbld fldcw fldenv frstor fxrstor ldmxcsr lgdt lidt lldt ltr verr verw invlpg clflush".split(
    " ",
  ),
);
const STACK_WRITES = new Set(["push", "pushf", "push_sreg", "call", "call_ind", "enter"]);
const STACK_READS = new Set(["pop", "popf", "pop_sreg", "ret", "leave", "iret"]);

/** Is any breakpoint armed (L0–L3, G0–G3)? */
export function armed(cpu: Cpu): boolean {
  return ((cpu.mem.u32[(DR + 56) >>> 2] as number) & 0xff) !== 0;
}

function breakpointVa(cpu: Cpu, i: number): Va {
  return (cpu.drHi(i) | 0) * 4294967296 + cpu.drLo(i);
}

/** DR6 bits of the instruction breakpoints at `rip`. */
export function instructionHits(cpu: Cpu, rip: Va): number {
  const dr7 = cpu.drLo(7);
  let hits = 0;
  for (let i = 0; i < 4; i++) {
    if (((dr7 >>> (i * 2)) & 3) === 0 || ((dr7 >>> (16 + i * 4)) & 3) !== EXECUTE) continue;
    if (breakpointVa(cpu, i) === rip) hits |= 1 << i;
  }
  return hits;
}

/** The memory that the instruction at RIP is about to touch. */
export function accesses(cpu: Cpu, insn: Insn): Access[] {
  const out: Access[] = [];
  const at = insn.ops.findIndex((o) => o.kind === K.MEM);
  if (at >= 0 && insn.op !== "lea" && insn.op !== "nop") {
    const size = insn.ops[at]?.size ?? 0;
    const write = at === 0 && !READS_FIRST.has(insn.op);
    out.push({ va: linearAddress(cpu, insn), size: size === 0 ? 512 : size, write: write || insn.op === "xchg" });
  }
  const size = insn.osize;
  if (STACK_WRITES.has(insn.op)) out.push({ va: cpu.regVa(RSP) - size, size, write: true });
  if (STACK_READS.has(insn.op)) out.push({ va: cpu.regVa(RSP), size, write: false });
  if (STRINGS.has(insn.op)) {
    const count = insn.rep === 0 ? 1 : Math.min(cpu.regLo(RCX) + cpu.regHi(RCX) * 4294967296, 2 ** 31);
    const down = (cpu.rflags & 0x400) !== 0;
    const range = (reg: number, write: boolean): void => {
      const va = cpu.regVa(reg);
      out.push({ va: down ? va - (count - 1) * size : va, size: count * size, write });
    };
    if (insn.op !== "stos" && insn.op !== "scas") range(RSI, false);
    if (insn.op !== "lods") range(RDI, insn.op === "stos" || insn.op === "movs");
  }
  return out;
}
const STRINGS = new Set(["movs", "stos", "lods", "cmps", "scas"]);

/** DR6 bits of the data breakpoints that the instruction at RIP will hit, should it complete. */
export function dataHits(cpu: Cpu, insn: Insn): number {
  const dr7 = cpu.drLo(7);
  let hits = 0;
  let touched: Access[] | undefined;
  for (let i = 0; i < 4; i++) {
    const kind = (dr7 >>> (16 + i * 4)) & 3;
    if (((dr7 >>> (i * 2)) & 3) === 0 || (kind !== WRITE_ONLY && kind !== READ_WRITE)) continue;
    const length = LENGTH[(dr7 >>> (18 + i * 4)) & 3] as number;
    const at = breakpointVa(cpu, i);
    const va = at - (((at % length) + length) % length);
    touched ??= accesses(cpu, insn);
    if (touched.some((a) => (a.write || kind === READ_WRITE) && a.va < va + length && a.va + a.size > va))
      hits |= 1 << i;
  }
  return hits;
}
