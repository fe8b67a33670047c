/**
 * Drives a machine on a host with an event loop: slices of guest work, in between the host's own events, and sleep while idle.
 * A platform gives the two ways to be called again (`HostLoop`); `sys/node` and `sys/browser` do.
 *
 * Invariant: at most one call is outstanding at any time, so that no two slices nest.
 */

/** What is driven: a `Machine`, or anything with its `runSlice`. */
export interface Drivable {
  /** Run guests for at most `maxMs`; ns until something is due (0: more to do, Infinity: nothing but host input). */
  runSlice(maxMs: number): number;
  readonly xen: {
    readonly domains: ReadonlyMap<number, { readonly native: boolean; readonly shutDown: boolean }>;
    /** Work of the host that guests wait for: its end may come at any moment. */
    readonly hostBusy?: number;
  };
  /** Called as soon as there is anything to run between two slices: who is in here may sleep until then. */
  readonly sleepers?: Set<() => void>;
}

export interface HostLoop {
  now(): number;
  /** Call `fn` once the host's pending events have had their turn. */
  soon(fn: () => void): void;
  /** Call `fn` after `ms`; the result cancels it. */
  later(fn: () => void, ms: number): () => void;
  /** Sleep a millisecond or two, more exactly than timers can, with the host's events left waiting; where the platform is able to. */
  readonly pause?: ((ms: number) => void) | undefined;
}

/** An `AbortSignal`, as far as it is needed. */
export interface StopSignal {
  readonly aborted: boolean;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

export interface RunOptions {
  /** Ends the run ("aborted"). The domains stay as they are. */
  readonly signal?: StopSignal | undefined;
  /** Ends the run ("timeout") after so much of the host's time. */
  readonly timeoutMs?: number | undefined;
  /** Longest time without a look at the host's events. */
  readonly sliceMs?: number | undefined;
  /** Longest sleep of an idle machine; longer than the default only where all input wakes the run. */
  readonly sleepMs?: number | undefined;
  /** Asked between slices: is it over? Default: every domain has shut down. */
  readonly until?: (() => boolean) | undefined;
}

export type RunEnd = "ended" | "timeout" | "aborted";

/** A run in progress: settles with why it ended, rejects with what a slice threw. */
export type Run = Promise<RunEnd> & {
  /** There is input for a domain: do not sleep on. */
  wake(): void;
};

const SLICE_MS = 10;
/** Longest sleep: input that came without a `wake` is seen after this. */
const SLEEP_MS = 20;
/** The same where all input wakes: only `until` is waited for then. */
const SLEEPER_MS = 100;
/** Timers of hosts have a resolution of a millisecond: what is due sooner is slept away with `pause`, or waited for awake. */
const TIMER_MS = 1;
/** So early a timer may come, of those that count from the last whole millisecond that they know of. */
const EARLY_MS = 2;

export function allShutDown(machine: Drivable): boolean {
  for (const d of machine.xen.domains.values()) if (!d.native && !d.shutDown) return false;
  return true;
}

export function drive(machine: Drivable, loop: HostLoop, options: RunOptions = {}): Run {
  const { sleepers } = machine;
  const { signal, timeoutMs = Infinity, sliceMs = SLICE_MS } = options;
  const sleepMs = options.sleepMs ?? (sleepers === undefined ? SLEEP_MS : SLEEPER_MS);
  const until = options.until ?? (() => allShutDown(machine));
  const deadline = loop.now() + timeoutMs;
  let cancelSleep: (() => void) | null = null;
  let step: () => void = () => {};
  const wake = (): void => {
    if (cancelSleep === null) return;
    cancelSleep();
    cancelSleep = null;
    sleepers?.delete(wake);
    loop.soon(step);
  };
  const promise = new Promise<RunEnd>((resolve, reject) => {
    const finish = (end: RunEnd): void => {
      signal?.removeEventListener("abort", wake);
      resolve(end);
    };
    const pause = (ms: number): void => {
      if (ms > 0 && (machine.xen.hostBusy ?? 0) === 0) loop.pause?.(ms);
    };
    step = (): void => {
      cancelSleep = null;
      sleepers?.delete(wake);
      try {
        if (signal?.aborted === true) return finish("aborted");
        if (until()) return finish("ended");
        const left = deadline - loop.now();
        if (left <= 0) return finish("timeout");
        const idle = machine.runSlice(Math.min(sliceMs, Math.max(1, left))) / 1e6;
        if (until()) return finish("ended");
        if (idle < TIMER_MS) {
          pause(idle);
          loop.soon(step);
          return;
        }
        const due = loop.now() + idle;
        const rest = (): void => {
          const early = due - loop.now();
          if (early < EARLY_MS) pause(early);
          step();
        };
        cancelSleep = loop.later(rest, Math.max(1, Math.min(Math.floor(idle), sleepMs, left)));
        sleepers?.add(wake);
      } catch (e) {
        signal?.removeEventListener("abort", wake);
        reject(e instanceof Error ? e : new Error(String(e)));
      }
    };
    signal?.addEventListener("abort", wake);
    loop.soon(step);
  });
  return Object.assign(promise, { wake });
}
