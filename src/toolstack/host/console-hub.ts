/**
 * One console of a domain and all who watch it: output that is kept for those who come later, a log, several terminals at once, and input
 * that waits until the guest takes it. It outlives the back end: a domain that starts again goes on in the same hub, and a terminal on it
 * stays attached.
 *
 * Invariant: neither a terminal that is slow nor a guest that does not read holds up the other, and both cost bounded memory.
 */
import { HostError, type ConsoleChannel } from "./api.js";
import type { LogSink } from "./platform.js";

export interface ConsoleSink {
  data(bytes: Uint8Array): void;
  end(reason: string): void;
}

/** The guest's side, as far as it is used (`ConsoleBackend`). */
export interface ConsoleSource {
  onOutput: (bytes: Uint8Array) => void;
  onRoom: () => void;
  /** False where too much is waiting already. */
  write(bytes: Uint8Array): boolean;
}

/** Output kept for terminals that attach later. */
export const SCROLLBACK = 128 * 1024;
/** Typed ahead by all terminals together; a terminal that types more is sent away. */
const MAX_TYPED = 1 << 20;
/** Handed to the guest's side in pieces of at most this. */
const PIECE = 16 * 1024;

export class ConsoleHub {
  private kept: Uint8Array[] = [];
  private keptBytes = 0;
  private readonly sinks = new Set<ConsoleSink>();
  private source: ConsoleSource | null = null;
  private typed: Uint8Array[] = [];
  private typedBytes = 0;
  private log: LogSink | undefined;

  constructor(log?: LogSink) {
    this.log = log;
  }

  /** The domain has (again) a back end for this console. */
  connect(source: ConsoleSource): void {
    this.source = source;
    source.onOutput = (bytes) => this.output(bytes);
    source.onRoom = () => this.feed();
    this.feed();
  }
  disconnect(): void {
    if (this.source !== null) {
      this.source.onOutput = () => {};
      this.source.onRoom = () => {};
    }
    this.source = null;
    this.typed = [];
    this.typedBytes = 0;
  }

  output(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.kept.push(bytes);
    this.keptBytes += bytes.length;
    for (
      let head = this.kept[0];
      head !== undefined && this.keptBytes - head.length >= SCROLLBACK;
      head = this.kept[0]
    ) {
      this.kept.shift();
      this.keptBytes -= head.length;
    }
    this.log?.write(bytes);
    for (const s of [...this.sinks]) s.data(bytes);
  }

  /** `replay`: what is kept comes first. */
  attach(sink: ConsoleSink, replay = true): ConsoleChannel {
    if (replay) for (const bytes of this.kept) sink.data(bytes);
    this.sinks.add(sink);
    return {
      write: (bytes) => {
        if (!this.sinks.has(sink)) return;
        if (this.typedBytes + bytes.length > MAX_TYPED) {
          this.sinks.delete(sink);
          sink.end("the guest does not take what is typed");
          return;
        }
        for (let at = 0; at < bytes.length; at += PIECE) this.typed.push(bytes.slice(at, at + PIECE));
        this.typedBytes += bytes.length;
        this.feed();
      },
      close: () => void this.sinks.delete(sink),
    };
  }

  private feed(): void {
    for (let head = this.typed[0]; head !== undefined; head = this.typed[0]) {
      if (this.source === null || !this.source.write(head)) return;
      this.typed.shift();
      this.typedBytes -= head.length;
    }
  }

  /** All that is kept, as one piece. */
  text(): Uint8Array {
    const out = new Uint8Array(this.keptBytes);
    let at = 0;
    for (const b of this.kept) {
      out.set(b, at);
      at += b.length;
    }
    return out;
  }

  /** The domain is gone for good. */
  end(reason: string): void {
    this.disconnect();
    for (const s of [...this.sinks]) s.end(reason);
    this.sinks.clear();
    this.log?.close();
    this.log = undefined;
  }

  /** Further output goes to another log (the domain was renamed). */
  relog(log: LogSink | undefined): void {
    this.log?.close();
    this.log = log;
  }
}

export function noConsole(index: number): HostError {
  return new HostError("not-found", `no console ${index}`);
}
