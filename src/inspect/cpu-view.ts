/** Registers, code and stack of one vCPU. */
import { CS, DS, ES, FS, GS, RSP, SS } from "../machine/cpu/insn.js";
import type { CpuApi, Va } from "../machine/cpu/api.js";
import type { Vcpu } from "../hypervisor/vcpu.js";
import type { CpuView } from "./api.js";
import { stopText, type Debuggers } from "./debuggers.js";
import { hex64, hexVa } from "./hex.js";
import { vcpuState } from "./machine-view.js";
import type { Source } from "./source.js";

const NAMES = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split(" ");
const SEGMENTS: readonly (readonly [string, number])[] = [
  ["cs", CS],
  ["ss", SS],
  ["ds", DS],
  ["es", ES],
  ["fs", FS],
  ["gs", GS],
];
/** RFLAGS bits (SDM vol. 1, 3.4.3). */
const FLAGS: readonly (readonly [string, number])[] = [
  ["CF", 1],
  ["PF", 4],
  ["AF", 16],
  ["ZF", 64],
  ["SF", 128],
  ["TF", 256],
  ["IF", 512],
  ["DF", 1024],
  ["OF", 2048],
  ["AC", 0x40000],
];
const CODE_BYTES = 192;
const STACK_WORDS = 24;

/** Bytes at an address of the loaded vCPU, `..` where nothing is mapped. */
export function peekHex(cpu: CpuApi, source: Source, va: Va, length: number): string {
  const { mem } = source.xen;
  let out = "";
  for (let n = 0; n < length;) {
    const room = Math.min(length - n, 4096 - ((((va + n) % 4096) + 4096) % 4096));
    const here = cpu.peek(cpu.space, va + n);
    const maddr = here >= 0 || cpu.space === 0 ? here : cpu.peek(0, va + n);
    for (let i = 0; i < room; i++)
      out +=
        maddr < 0
          ? ".."
          : mem
              .r8(maddr + i)
              .toString(16)
              .padStart(2, "0");
    n += room;
  }
  return out;
}

export function cpuView(source: Source, v: Vcpu, debuggers: Debuggers): CpuView {
  const { domain } = v;
  const debug = debuggers.of(domain.domid);
  const registers: Record<string, string> = {};
  const segments: Record<string, string> = {};
  let flags: string[] = [];
  let code = "";
  let rip = "";
  const stack: string[] = [];
  source.xen.withLoaded(v, (cpu) => {
    NAMES.forEach((name, i) => (registers[name] = hex64(cpu.regLo(i), cpu.regHi(i))));
    rip = hexVa(cpu.rip);
    const rflags = cpu.rflags;
    registers["rip"] = rip;
    registers["rflags"] = hex64(rflags, 0);
    flags = FLAGS.filter(([, bit]) => (rflags & bit) !== 0).map(([name]) => name);
    for (const [name, i] of SEGMENTS) segments[name] = cpu.selector(i).toString(16).padStart(4, "0");
    for (const [name, i] of SEGMENTS.slice(4)) registers[`${name}base`] = hex64(cpu.segBaseLo(i), cpu.segBaseHi(i));
    code = peekHex(cpu, source, cpu.rip, CODE_BYTES);
    const bytes = peekHex(cpu, source, cpu.regVa(RSP), STACK_WORDS * 8);
    for (let i = 0; i < STACK_WORDS; i++) {
      const word = bytes.slice(i * 16, i * 16 + 16).match(/../g) ?? [];
      stack.push(word.reverse().join(""));
    }
  });
  return {
    domid: domain.domid,
    vcpu: v.id,
    paused: domain.pauseCount > 0,
    state: vcpuState(v),
    kernelMode: v.kernelMode,
    registers,
    flags,
    segments,
    rip,
    code,
    stack,
    breakpoints: (debug?.breaks ?? []).map(hexVa),
    debugged: debug !== null,
    stopped: debug?.stopped ?? false,
    stop: stopText(debug?.stop ?? null),
  };
}
