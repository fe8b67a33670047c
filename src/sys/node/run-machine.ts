/** The run loop on Node: `setImmediate` between slices, a timer while idle, a futex for the last part of a millisecond. */
import { drive, type Drivable, type HostLoop, type Run, type RunOptions } from "../../api/drive.js";
import { RealClock } from "../../machine/clock.js";

/** Nobody ever wakes it. */
const asleep = new Int32Array(new SharedArrayBuffer(4));

const nodeLoop: HostLoop = {
  now: () => performance.now(),
  soon: (fn) => {
    setImmediate(fn);
  },
  later: (fn, ms) => {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  },
  pause: (ms) => {
    Atomics.wait(asleep, 0, 0, ms);
  },
};

export function realClock(): RealClock {
  return new RealClock(() => performance.now(), Date.now());
}

/**
 * Run a machine until every domain has shut down, the signal is aborted or the time is over. What brings a domain input wakes it; `run.wake()`
 * has `until` asked anew.
 */
export function runMachine(machine: Drivable, options: RunOptions = {}): Run {
  return drive(machine, nodeLoop, options);
}
