/** What a debugger has of a domain: it runs the domain's vCPUs in the CPU's place, and may stop them after any exit. */
import type { ExitReason } from "../machine/cpu/exits.js";
import type { Vcpu } from "./vcpu.js";

export interface DebugHook {
  /** In place of `cpu.run`; the vCPU is loaded. */
  run(v: Vcpu, budget: number): ExitReason;
  /** The exit has been handled. True: the vCPU goes no further now. */
  after(v: Vcpu, reason: ExitReason): boolean;
  /** No upcall is delivered to this vCPU: it is being stepped. */
  quiet(v: Vcpu): boolean;
}
