/** The browser: a clock, and a run loop that lets the page (or the worker's messages) have their turn. */
import { drive, type Drivable, type HostLoop, type Run, type RunOptions } from "../../api/drive.js";
import { RealClock } from "../../machine/clock.js";

/** Workers of an isolated page may sleep; its own thread never. */
function sleeper(): ((ms: number) => void) | undefined {
  if (typeof SharedArrayBuffer === "undefined" || typeof document !== "undefined") return undefined;
  const asleep = new Int32Array(new SharedArrayBuffer(4));
  return (ms) => {
    Atomics.wait(asleep, 0, 0, ms);
  };
}

/** A message to oneself comes after pending events and, unlike a timer of 0 ms, is never held back to 4 ms. */
function messageLoop(): HostLoop & { close(): void } {
  const { port1, port2 } = new MessageChannel();
  const waiting: (() => void)[] = [];
  port1.onmessage = () => waiting.shift()?.();
  return {
    now: () => performance.now(),
    soon: (fn) => {
      waiting.push(fn);
      port2.postMessage(0);
    },
    later: (fn, ms) => {
      const id = setTimeout(fn, ms);
      return () => clearTimeout(id);
    },
    pause: sleeper(),
    close: () => port1.close(),
  };
}

export { BrowserPlatform } from "./host-platform.js";
export { VirtualFiles } from "./virtual-files.js";

export function realClock(): RealClock {
  return new RealClock(() => performance.now(), Date.now());
}

/** Run a machine until every domain has shut down, the signal is aborted or the time is over. */
export function runMachine(machine: Drivable, options: RunOptions = {}): Run {
  const loop = messageLoop();
  const run = drive(machine, loop, options);
  const close = (): void => loop.close();
  run.then(close, close);
  return run;
}
