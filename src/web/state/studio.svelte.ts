/** A recorded run in the page: being recorded, or replayed and moved in time. The page's own machine goes on behind it. */
import type { PageDomain } from "../../debug/replay/page-source.js";
import type { StepKind } from "../../debug/replay/steps.js";
import type { Move, StudioStatus } from "../../inspect/studio.js";
import { openStudio, type Connection } from "./connection.js";
import { download } from "./download.js";
import { lab } from "./lab.svelte.js";
import { tell, toasts } from "./toasts.svelte.js";

const POLL_MS = 150;

/** How a dropped file is called there. */
export const fileName = (file: File): string => `files/${file.name.replace(/[^\w.+-]/g, "_")}`;

class StudioState {
  on = $state(false);
  status = $state.raw<StudioStatus | null>(null);
  private connection: Connection | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** Dropped files that a recording of this page may need again. */
  private readonly files = new Map<string, File>();

  get replaying(): boolean {
    return this.status?.mode === "replay";
  }
  get rewinds(): number {
    return this.status?.rewinds ?? 0;
  }

  record(domains: readonly PageDomain[], files: readonly File[]): Promise<void> {
    return this.begin(`recording ${domains[0]?.name ?? ""}`, files, (c) =>
      c.client.extraCall("record", { page: true, domains }),
    );
  }
  /** Replay a file; kernels that were dropped with it are at hand. */
  open(recording: File, more: readonly (File | null)[]): Promise<void> {
    return this.begin(
      `opening ${recording.name}`,
      more.filter((f) => f !== null),
      async (c) => c.client.extraCall("open", await recording.text()),
    );
  }

  private async begin(what: string, files: readonly File[], start: (c: Connection) => Promise<unknown>): Promise<void> {
    if (lab.busy !== null) return;
    if (lab.environment?.kind === "service") {
      toasts.say("Runs are recorded and replayed in the page's own machine: choose it at the top.", "error");
      return;
    }
    lab.busy = what;
    const c = openStudio();
    try {
      for (const f of files) this.files.set(fileName(f), f);
      for (const [name, f] of this.files) await c.client.extraCall("putFile", name, f);
      await start(c);
      clearTimeout(this.timer);
      this.status = (await c.client.extraCall("status")) as StudioStatus;
      this.connection = c;
      this.on = true;
      await lab.visit(c);
      lab.selected = lab.guests[0]?.domid ?? null;
      lab.inspectorOpen = true;
      if (this.replaying) lab.view = "cpu";
      else lab.sessions[0]?.terminal.focus();
      this.poll();
    } catch (e) {
      c.close();
      toasts.error(e);
    } finally {
      lab.busy = null;
    }
  }

  private poll(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      void this.ask("status").finally(() => {
        if (this.on) this.poll();
      });
    }, POLL_MS);
  }
  private async ask(what: "status" | "stop" | "move", ...p: readonly unknown[]): Promise<void> {
    const c = this.connection;
    if (c === null) return;
    let s: StudioStatus;
    try {
      s = (await c.client.extraCall(what, ...p)) as StudioStatus;
    } catch (e) {
      // Between two machines there is none to tell of.
      if (what !== "status") toasts.error(e);
      return;
    }
    if (this.connection !== c) return;
    const before = this.status;
    this.status = s;
    if (s.problem !== "" && s.problem !== before?.problem) toasts.say(s.problem, "error");
    if (before !== null && s.rewinds !== before.rewinds) lab.rewound();
  }

  /** End the recording; the replay of it begins. */
  async stop(): Promise<void> {
    lab.busy = "ending the recording";
    try {
      await this.ask("stop");
      lab.show("cpu");
    } finally {
      lab.busy = null;
    }
  }
  move(move: Move): Promise<void> {
    return this.ask("move", move);
  }
  step(by: 1 | -1, kind: StepKind): Promise<void> {
    return this.move({ step: kind, by });
  }
  toggle(): Promise<void> {
    return this.move(this.status?.playing === true ? "pause" : "play");
  }
  async save(): Promise<void> {
    const content = await tell(this.connection?.client.extraCall("file") ?? Promise.resolve(""));
    if (typeof content !== "string" || content === "") return;
    download(new Blob([content], { type: "application/json" }), `${this.status?.names[0] ?? "run"}.xrec`);
  }
  /** Back to the machine of the page. */
  async leave(): Promise<void> {
    clearTimeout(this.timer);
    this.on = false;
    this.status = null;
    this.connection = null;
    await lab.comeBack();
  }

  /** Alt with a key moves the replay, wherever the focus is; true: it was one of them. */
  key(e: KeyboardEvent): boolean {
    if (!this.replaying) return false;
    const by = e.shiftKey ? -1 : 1;
    if (e.code === "KeyP") void this.toggle();
    else if (e.code === "Home") void this.move({ to: 0 });
    else if (e.code === "End") void this.move({ to: Number.MAX_SAFE_INTEGER });
    else if (e.code === "KeyI") void this.step(by, "instruction");
    else if (e.code === "KeyH") void this.step(by, "hypercall");
    else if (e.code === "KeyE") void this.step(by, "event");
    else return false;
    e.preventDefault();
    e.stopPropagation();
    return true;
  }
}

export const studio = new StudioState();
