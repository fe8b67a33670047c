/**
 * The user's terminal while a guest's console is on it: raw mode, the detach key, and its restoration in every way out.
 *
 * Invariant: once `open` has changed the terminal, `close` (idempotent, synchronous) puts it back; it is also called when the process
 * exits, so that no error leaves a terminal without echo.
 */

/** `Ctrl-]`, as in `xl console`. */
export const DETACH_KEY = 0x1d;

/** The part of `process.stdin` that is used. */
export interface TerminalInput {
  readonly isTTY?: boolean | undefined;
  setRawMode?(raw: boolean): unknown;
  on(event: "data", listener: (chunk: Uint8Array) => void): unknown;
  on(event: "end" | "error", listener: () => void): unknown;
  off(event: "data", listener: (chunk: Uint8Array) => void): unknown;
  resume(): unknown;
  pause(): unknown;
}

export interface TerminalEvents {
  /** Returns false where the guest takes no more now: what is left is offered again with `retry`. */
  onInput(bytes: Uint8Array): boolean;
  onDetach(): void;
}

export class Terminal {
  /** Keys go to the guest one by one. */
  readonly interactive: boolean;
  private opened = false;
  private waiting: Uint8Array[] = [];
  private readonly onExit = (): void => this.close();

  constructor(
    private readonly input: TerminalInput,
    private readonly events: TerminalEvents,
    private readonly detachKey: number = DETACH_KEY,
  ) {
    this.interactive = input.isTTY === true && input.setRawMode !== undefined;
  }

  open(): void {
    if (this.opened) return;
    this.opened = true;
    process.once("exit", this.onExit);
    this.input.on("data", this.onData);
    // Neither the end of a pipe nor an error of it ends the guest.
    this.input.on("end", this.onEnd);
    this.input.on("error", this.onEnd);
    if (this.interactive) this.input.setRawMode?.(true);
    this.input.resume();
  }

  close(): void {
    if (!this.opened) return;
    this.opened = false;
    process.removeListener("exit", this.onExit);
    this.input.off("data", this.onData);
    this.input.pause();
    if (this.interactive) {
      try {
        this.input.setRawMode?.(false);
      } catch {
        // The terminal is gone: there is nothing to restore.
      }
    }
  }

  /** Offer what the guest had no room for. */
  retry(): void {
    if (this.waiting.length === 0) return;
    const waiting = this.waiting;
    this.waiting = [];
    for (const bytes of waiting) this.feed(bytes);
    if (this.waiting.length === 0 && this.opened) this.input.resume();
  }

  private feed(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (this.waiting.length > 0 || !this.events.onInput(bytes)) {
      this.waiting.push(bytes);
      this.input.pause();
    }
  }

  private readonly onEnd = (): void => {};

  private readonly onData = (chunk: Uint8Array): void => {
    const detach = this.interactive ? chunk.indexOf(this.detachKey) : -1;
    this.feed(detach < 0 ? chunk : chunk.subarray(0, detach));
    if (detach >= 0) this.events.onDetach();
  };
}
