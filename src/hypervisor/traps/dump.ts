/** A vCPU's registers, stack and code bytes as text, for the log of a crash. The vCPU must be the loaded one. */
import { EXEC, READ } from "../../machine/cpu/api.js";
import { hex64, hexVa } from "../../machine/hex.js";
import { CS, DS, ES, FS, GS, SS } from "../../machine/cpu/insn.js";
import type { Vcpu } from "../vcpu.js";

const ROWS: readonly (readonly [string, number])[][] = [
  [
    ["rax", 0],
    ["rbx", 3],
    ["rcx", 1],
  ],
  [
    ["rdx", 2],
    ["rsi", 6],
    ["rdi", 7],
  ],
  [
    ["rbp", 5],
    ["rsp", 4],
    ["r8 ", 8],
  ],
  [
    ["r9 ", 9],
    ["r10", 10],
    ["r11", 11],
  ],
  [
    ["r12", 12],
    ["r13", 13],
    ["r14", 14],
  ],
  [["r15", 15]],
];

export function dumpState(v: Vcpu): string[] {
  const { cpu, mem } = v.domain.xen;
  const out: string[] = [];
  const sel = (s: number): string => cpu.selector(s).toString(16).padStart(4, "0");
  out.push(`----[ Xen-4.17.7  x86_64  xenolith ]----`);
  out.push(`RIP:    ${sel(CS)}:[<${hexVa(cpu.rip)}>]`);
  out.push(
    `RFLAGS: ${hex64(cpu.rflags, 0)}   EM: ${v.traps.ts ? 1 : 0}   CONTEXT: pv guest (${v.label}, ${v.kernelMode ? "kernel" : "user"})`,
  );
  for (const row of ROWS) out.push(row.map(([n, r]) => `${n}: ${hex64(cpu.regLo(r), cpu.regHi(r))}`).join("   "));
  out.push(
    `cr3: ${hex64(cpu.root(0), 0)}   user cr3: ${hex64(cpu.root(1), 0)}   cr2: ${hex64(v.traps.cr2Lo, v.traps.cr2Hi)}`,
  );
  out.push(
    `fsb: ${hex64(cpu.segBaseLo(FS), cpu.segBaseHi(FS))}   gsb: ${hex64(cpu.segBaseLo(GS), cpu.segBaseHi(GS))}   gss: ${
      v.kernelMode ? hex64(v.traps.gsUserLo, v.traps.gsUserHi) : hex64(v.traps.gsKernelLo, v.traps.gsKernelHi)
    }`,
  );
  out.push(`ds: ${sel(DS)}   es: ${sel(ES)}   fs: ${sel(FS)}   gs: ${sel(GS)}   ss: ${sel(SS)}   cs: ${sel(CS)}`);
  const code: string[] = [];
  for (let i = 0; i < 16; i++) {
    const ma = cpu.translate(cpu.rip + i, EXEC);
    code.push(ma < 0 ? "??" : mem.r8(ma).toString(16).padStart(2, "0"));
  }
  out.push(`Guest code at rip: ${code.join(" ")}`);
  const sp = cpu.regVa(4);
  out.push(`Guest stack trace from rsp=${hex64(cpu.regLo(4), cpu.regHi(4))}:`);
  for (let row = 0; row < 8; row++) {
    let line = "  ";
    for (let col = 0; col < 4; col++) {
      const at = sp + (row * 4 + col) * 8;
      const ma = Number.isSafeInteger(at) && (at & 7) === 0 ? cpu.translate(at, READ) : -1;
      if (ma < 0) {
        out.push(`${line} (fault)`);
        return out;
      }
      line += ` ${hex64(mem.r32(ma), mem.r32(ma + 4))}`;
    }
    out.push(line);
  }
  return out;
}
