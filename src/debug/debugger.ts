/**
 * A debugger on a domain: stops its vCPUs, looks at their registers and memory, sets breakpoints and watchpoints, steps.
 * What speaks to a person or to gdb sits on top of this (gdb/stub.ts, the pages).
 *
 * Invariants: the guest sees nothing of it (no trap flag, no int3, no debug register is used); while `stopped` the domain is paused; a
 * debugger writes only frames that the domain owns and that are no page tables or descriptor tables of it, as the guest itself could.
 */
import type { DebugHook } from "../hypervisor/debug-hook.js";
import type { Domain } from "../hypervisor/domain.js";
import { PGT_l1_page_table, PGT_seg_desc_page } from "../hypervisor/memory/frame-table.js";
import type { Vcpu } from "../hypervisor/vcpu.js";
import type { Xen } from "../hypervisor/xen.js";
import { SHUTDOWN_crash } from "../abi/sched.js";
import type { Va } from "../machine/cpu/api.js";
import { accesses } from "../machine/cpu/breakpoints.js";
import type { Cpu } from "../machine/cpu/cpu.js";
import type { Watch } from "../machine/cpu/debug-stops.js";
import { Exit, type ExitReason } from "../machine/cpu/exits.js";
import type { Maddr } from "../machine/memory.js";

export type WatchKind = "write" | "read" | "access";

/** Why the domain stands still. */
export type Stop =
  | { readonly kind: "interrupt" | "step" | "break"; readonly vcpu: number }
  | { readonly kind: "watch"; readonly vcpu: number; readonly va: Va; readonly watch: WatchKind }
  /** It has crashed; its state can be looked at until it is resumed. */
  | { readonly kind: "crash"; readonly vcpu: number; readonly reason: string }
  /** It has ended with this SHUTDOWN_* code: nothing is left to debug. */
  | { readonly kind: "ended"; readonly code: number }
  /** A replay: nothing comes before this, or after it. */
  | { readonly kind: "beginning" | "end"; readonly vcpu: number };

/** What a vCPU does when the domain is resumed. */
export type ResumeMode = "run" | "step" | "hold";

interface WatchPoint {
  readonly va: Va;
  readonly len: number;
  readonly kind: WatchKind;
  /** In the engine, for writes; `null` while its page is not mapped. */
  watch: Watch | null;
}

/** How often places that were not mapped are looked for again, in exits. */
const RETRY_EXITS = 256;

/** What a debugger needs of a machine. */
export interface DebugMachine {
  readonly xen: Xen;
  readonly cpu: Cpu;
}

export class Debugger implements DebugHook {
  /** Called between slices of guest work, once for each stop. */
  onStop: (stop: Stop) => void = () => {};
  protected readonly xen: Xen;
  protected readonly cpu: Cpu;
  protected paused = false;
  protected readonly modes: ResumeMode[];
  protected readonly breaks = new Map<Va, Maddr>();
  private readonly watches: WatchPoint[] = [];
  private exits = 0;
  private readonly forgetShutdown: () => void;
  private over = false;

  /** Attaches; the domain is stopped at once. */
  constructor(
    machine: DebugMachine,
    readonly domain: Domain,
  ) {
    if (domain.debug !== null) throw new Error(`domain ${domain.domid} has a debugger already`);
    this.xen = machine.xen;
    this.cpu = machine.cpu;
    this.modes = domain.vcpus.map(() => "run");
    domain.debug = this;
    const { xen, cpu } = machine;
    cpu.stops.wanted = () => {
      const hook = xen.current?.domain.debug;
      return hook instanceof Debugger && hook.wants(cpu.rip);
    };
    this.forgetShutdown = this.xen.onShutdown((d, code) => {
      if (d === domain) this.ended(code);
    });
    domain.onDestroy(() => this.detach());
    this.hold();
  }

  /** Is there a breakpoint to stop at? Asked by the engine when it stands at one. */
  protected wants(rip: Va): boolean {
    return this.breaks.has(rip);
  }

  get stopped(): boolean {
    return this.paused;
  }
  /** The domain has ended, and its state is still wanted. */
  get holding(): boolean {
    return this.domain.debug === this && !this.over && this.domain.shutDown && this.paused;
  }

  /** Lets the domain go on without a debugger. */
  detach(): void {
    if (this.domain.debug !== this) return;
    for (const va of [...this.breaks.keys()]) this.clearBreakpoint(va);
    for (const w of this.watches.splice(0)) if (w.watch !== null) this.cpu.stops.unwatch(w.watch);
    this.domain.debug = null;
    this.over = true;
    this.forgetShutdown();
    this.release();
  }

  // --- running --------------------------------------------------------------------------------------------------------------------

  /** Go on; `modes` by vCPU, default "run". */
  resume(modes: readonly ResumeMode[] = []): void {
    if (!this.paused) return;
    if (this.domain.shutDown) {
      this.over = true;
      this.release();
      const code = this.domain.shutdownCode;
      this.xen.post(() => this.onStop({ kind: "ended", code }));
      return;
    }
    for (let i = 0; i < this.modes.length; i++) this.modes[i] = modes[i] ?? "run";
    this.resolve();
    this.release();
  }

  /** Stop as soon as possible. */
  interrupt(): void {
    if (this.paused) return;
    this.xen.post(() => {
      if (!this.paused && !this.domain.shutDown) this.stop({ kind: "interrupt", vcpu: this.active() });
    });
  }

  run(v: Vcpu, budget: number): ExitReason {
    const mode = this.modes[v.id];
    if (mode === "hold") return Exit.PAUSE;
    if (mode === "step") return this.cpu.stepOne();
    if (this.watches.some((w) => w.kind !== "write")) return this.runWatched(v);
    return this.cpu.run(budget);
  }

  after(v: Vcpu, reason: ExitReason): boolean {
    if (this.paused) return true;
    const { hit } = this.cpu.stops;
    if (hit !== null) {
      const w = this.watches.find((x) => x.watch === hit);
      if (w !== undefined) return this.stop({ kind: "watch", vcpu: v.id, va: w.va, watch: "write" });
    }
    if (this.touched !== null) {
      const w = this.touched;
      this.touched = null;
      return this.stop({ kind: "watch", vcpu: v.id, va: w.va, watch: w.kind });
    }
    if (reason === Exit.BREAK && this.breaks.has(this.cpu.rip)) return this.stop({ kind: "break", vcpu: v.id });
    if (this.modes[v.id] === "step" && !this.domain.shuttingDown) return this.stop({ kind: "step", vcpu: v.id });
    if (++this.exits % RETRY_EXITS === 0) this.resolve();
    return false;
  }

  quiet(v: Vcpu): boolean {
    return this.modes[v.id] !== "run";
  }

  /** The watchpoint that the last instruction touched. */
  private touched: WatchPoint | null = null;

  /** Reads leave no trace in the engine: instruction by instruction, each looked at before it runs. */
  private runWatched(v: Vcpu): ExitReason {
    const { cpu } = this;
    if (this.breaks.has(cpu.rip) && this.atBreak !== cpu.rip) {
      this.atBreak = cpu.rip;
      return Exit.BREAK;
    }
    this.atBreak = NaN;
    const insn = cpu.insnAtRip();
    if (insn !== null) {
      for (const a of accesses(cpu, insn)) {
        const w = this.watches.find(
          (x) => a.va < x.va + x.len && a.va + a.size > x.va && (a.write ? x.kind !== "read" : x.kind !== "write"),
        );
        if (w !== undefined) this.touched = w;
      }
    }
    const reason = cpu.stepOne();
    // The instruction did not complete: it has touched nothing.
    if (reason === Exit.EXCEPTION && v === this.xen.current) this.touched = null;
    return reason;
  }
  private atBreak: Va = NaN;

  protected active(): number {
    const { current } = this.xen;
    return current !== null && current.domain === this.domain ? current.id : 0;
  }
  /** Not inside a callback of the hypervisor. */
  protected tell(stop: Stop): void {
    this.xen.post(() => this.onStop(stop));
  }
  protected stop(stop: Stop): true {
    this.hold();
    this.tell(stop);
    return true;
  }
  protected hold(): void {
    if (this.paused) return;
    this.paused = true;
    this.domain.pause();
  }
  protected release(): void {
    if (!this.paused) return;
    this.paused = false;
    this.domain.unpause();
  }
  protected ended(code: number): void {
    const { domain } = this;
    if (code === SHUTDOWN_crash) {
      this.hold();
      this.onStop({ kind: "crash", vcpu: this.active(), reason: domain.crashReason });
      return;
    }
    this.over = true;
    this.onStop({ kind: "ended", code });
  }

  // --- breakpoints ----------------------------------------------------------------------------------------------------------------

  /** Stop before the instruction at `va`, as soon as something is mapped there. */
  setBreakpoint(va: Va): void {
    if (!this.breaks.has(va)) this.breaks.set(va, -1);
    this.resolve();
  }
  clearBreakpoint(va: Va): void {
    const maddr = this.breaks.get(va);
    this.breaks.delete(va);
    if (maddr === undefined || maddr < 0 || [...this.breaks.values()].includes(maddr)) return;
    this.cpu.stops.setBreak(maddr, false);
  }
  /** Stop after an instruction that writes (a store that changes what is there), reads or touches these bytes. */
  setWatchpoint(va: Va, len: number, kind: WatchKind): void {
    this.watches.push({ va, len, kind, watch: null });
    this.resolve();
  }
  clearWatchpoint(va: Va, len: number, kind: WatchKind): void {
    const i = this.watches.findIndex((w) => w.va === va && w.len === len && w.kind === kind);
    if (i < 0) return;
    for (const w of this.watches.splice(i, 1)) if (w.watch !== null) this.cpu.stops.unwatch(w.watch);
  }

  /** Find the frames of places that were not mapped, or are mapped elsewhere now. */
  protected resolve(): void {
    if (this.breaks.size === 0 && this.watches.length === 0) return;
    const v = this.domain.vcpus[this.active()];
    if (v === undefined) return;
    const { stops } = this.cpu;
    this.onVcpu(v, () => {
      for (const [va, old] of this.breaks) {
        const now = this.maddrOf(va);
        if (now < 0 || now === old) continue;
        if (old >= 0) stops.setBreak(old, false);
        this.breaks.set(va, now);
        stops.setBreak(now, true);
      }
      for (const w of this.watches) {
        if (w.kind !== "write" || w.watch !== null) continue;
        const maddr = this.maddrOf(w.va);
        if (maddr >= 0) w.watch = stops.watch(maddr, Math.min(w.len, 4096 - (maddr & 4095)));
      }
    });
  }

  // --- state ----------------------------------------------------------------------------------------------------------------------

  /** Work on a vCPU's registers through the CPU. */
  onVcpu<T>(v: Vcpu, fn: (cpu: Cpu) => T): T {
    let out: { value: T } | null = null;
    this.xen.withLoaded(v, () => {
      out = { value: fn(this.cpu) };
    });
    // `withLoaded` calls its function before it returns.
    return (out as unknown as { value: T }).value;
  }

  private maddrOf(va: Va): Maddr {
    const here = this.cpu.peek(this.cpu.space, va);
    return here >= 0 || this.cpu.space === 0 ? here : this.cpu.peek(0, va);
  }

  /** The bytes at `va` as the vCPU sees them, up to the first that is not mapped. */
  readMemory(v: Vcpu, va: Va, len: number): Uint8Array {
    return this.onVcpu(v, () => {
      const out = new Uint8Array(len);
      let n = 0;
      while (n < len) {
        const maddr = this.maddrOf(va + n);
        if (maddr < 0) break;
        const room = Math.min(len - n, 4096 - (maddr & 4095));
        out.set(this.xen.mem.read(maddr, room), n);
        n += room;
      }
      return out.subarray(0, n);
    });
  }

  /** Writes all of it or nothing; false where a page is not mapped, or is not the guest's to write. */
  writeMemory(v: Vcpu, va: Va, bytes: Uint8Array): boolean {
    return this.onVcpu(v, () => {
      const parts: { maddr: Maddr; from: number; to: number }[] = [];
      for (let n = 0; n < bytes.length;) {
        const maddr = this.maddrOf(va + n);
        if (maddr < 0 || !this.writable(maddr >>> 12)) return false;
        const to = Math.min(bytes.length, n + 4096 - (maddr & 4095));
        parts.push({ maddr, from: n, to });
        n = to;
      }
      for (const p of parts) this.xen.mem.write(p.maddr, bytes.subarray(p.from, p.to));
      return true;
    });
  }
  private writable(mfn: number): boolean {
    const { frames } = this.xen;
    if (!frames.valid(mfn) || frames.owner[mfn] !== this.domain.mm.id) return false;
    const type = frames.type[mfn] as number;
    return (frames.tcount[mfn] as number) === 0 || type < PGT_l1_page_table || type > PGT_seg_desc_page;
  }
}
