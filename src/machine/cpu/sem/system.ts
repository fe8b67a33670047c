/** System instructions: most leave the engine for the host side; the few that do not are here. */
import { TSC_AUX } from "../../layout.js";
import { c64, i32, i64 } from "../../wasm/expr.js";
import { Exit } from "../exits.js";
import { RAX, RCX, RDX } from "../insn.js";
import { define, state32 } from "./common.js";
import type { OpTable, Sem } from "./context.js";

function rdtsc(x: Sem): void {
  const t = x.let(x.helper("rdtsc", []));
  x.setGprSized(RAX, 4, i32.wrap(t));
  x.setGprSized(RDX, 4, i32.wrap(i64.shr_u(t, c64(32))));
}

const HOST =
  "sysret sysexit cpuid rdmsr wrmsr rdpmc cli sti hlt in out clts invlpg invlpga wbinvd invd lmsw smsw str sldt ltr lldt " +
  "verr verw lar lsl sgdt sidt lgdt lidt swapgs vmcall vmmcall monitor mwait";

export function register(ops: OpTable): void {
  const ends = { ends: true };
  define(ops, HOST, (x) => x.system(), ends);
  define(ops, "syscall", (x) => x.exit(Exit.SYSCALL, { atNext: true }), ends);
  define(ops, "sysenter", (x) => x.exit(Exit.SYSENTER, { atNext: true }), ends);
  define(ops, "pause", (x) => x.exit(Exit.PAUSE, { atNext: true }), ends);
  define(ops, "rdtsc", rdtsc);
  define(ops, "rdtscp", (x) => {
    rdtsc(x);
    x.setGprSized(RCX, 4, state32(TSC_AUX));
  });
  // Accesses are made in program order; there are no caches.
  define(ops, "mfence lfence sfence", () => undefined);
  // "A memory operand of one byte, as far as faults and access rights are concerned" (SDM, CLFLUSH).
  define(ops, "clflush", (x) => void x.load(x.ea(), 1));
}
