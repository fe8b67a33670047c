/**
 * A debugger on a replay: the whole machine stands still with the domain, in the middle of its work if need be, and goes backwards too.
 *
 * Invariant: looking and stopping leave no trace in the run: what is debugged is what was recorded.
 */
import type { Domain } from "../../hypervisor/domain.js";
import type { Vcpu } from "../../hypervisor/vcpu.js";
import type { Va } from "../../machine/cpu/api.js";
import { Exit, type ExitReason } from "../../machine/cpu/exits.js";
import { Debugger, type ResumeMode, type Stop } from "../debugger.js";
import type { History } from "../gdb/stub.js";
import type { Timeline } from "./timeline.js";

export class ReplayDebugger extends Debugger implements History {
  private told: Stop | null = null;
  private asked = false;
  /** Going over the past to find something in it: nothing stops. */
  private scan: { readonly vcpu: number; readonly before: number; instruction: number; hit: number } | null = null;
  private work: Promise<void> = Promise.resolve();

  constructor(
    private readonly timeline: Timeline,
    domain: Domain,
  ) {
    super(timeline.run.machine, domain);
  }

  override resume(modes: readonly ResumeMode[] = []): void {
    this.work = this.work.then(async () => {
      for (let i = 0; i < this.modes.length; i++) this.modes[i] = modes[i] === "step" ? "step" : "run";
      this.begin();
      await this.timeline.forward(Infinity, () => this.told !== null || this.asked);
      this.finish(this.asked ? "interrupt" : "end");
    });
  }
  override interrupt(): void {
    this.asked = true;
  }

  override run(v: Vcpu, budget: number): ExitReason {
    const { cpu, scan } = this;
    if (scan === null) return this.modes[v.id] === "step" ? cpu.stepOne() : super.run(v, budget);
    const before = cpu.retired;
    const reason = cpu.run(budget);
    if (v.id === scan.vcpu && cpu.retired > before && cpu.retired <= scan.before) scan.instruction = cpu.retired - 1;
    return reason;
  }
  override after(v: Vcpu, reason: ExitReason): boolean {
    if (this.scan === null) return super.after(v, reason);
    if (reason === Exit.BREAK && this.cpu.retired < this.scan.before) this.scan.hit = this.cpu.retired;
    return false;
  }
  override quiet(): boolean {
    return false;
  }
  protected override wants(rip: Va): boolean {
    const { scan } = this;
    if (scan === null) return super.wants(rip);
    if (this.breaks.has(rip) && this.cpu.retired < scan.before) scan.hit = this.cpu.retired;
    return false;
  }

  stepBack(vcpu: number): void {
    this.goBack(vcpu, (s) => s.instruction);
  }
  continueBack(): void {
    this.goBack(this.active(), (s) => s.hit);
  }

  /** To the last place in the past that a scan finds. */
  private goBack(vcpu: number, found: (s: { instruction: number; hit: number }) => number): void {
    this.work = this.work.then(async () => {
      const { timeline } = this;
      this.modes.fill("run");
      this.begin();
      const now = timeline.position;
      await timeline.prepare(now);
      for (let to = now; to > 0;) {
        const from = timeline.snapshotBefore(to - 1);
        const scan = { vcpu, before: now, instruction: -1, hit: -1 };
        timeline.back(from);
        this.resolve();
        this.scan = scan;
        await timeline.forward(to);
        this.scan = null;
        const at = found(scan);
        if (at >= 0) {
          await timeline.seek(at);
          this.finish("break");
          return;
        }
        to = from;
      }
      await timeline.seek(0);
      this.finish("beginning");
    });
  }

  private begin(): void {
    this.told = null;
    this.asked = false;
    this.paused = false;
    this.resolve();
  }
  private finish(otherwise: "interrupt" | "break" | "beginning" | "end"): void {
    this.paused = true;
    this.onStop(this.told ?? { kind: otherwise, vcpu: this.active() });
  }

  // The machine stands still, not the domain: its pause count is the run's.
  protected override hold(): void {
    this.paused = true;
  }
  protected override release(): void {
    this.paused = false;
  }
  protected override tell(stop: Stop): void {
    this.told = stop;
  }
  protected override ended(): void {}
}
