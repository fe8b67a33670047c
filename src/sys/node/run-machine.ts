/** The run loop on Node: `setImmediate` between slices, a timer while idle. */
import { drive, type Drivable, type HostLoop, type Run, type RunOptions } from "../../api/drive.js";
import { RealClock } from "../../machine/clock.js";

const nodeLoop: HostLoop = {
  now: () => performance.now(),
  soon: (fn) => {
    setImmediate(fn);
  },
  later: (fn, ms) => {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  },
};

export function realClock(): RealClock {
  return new RealClock(() => performance.now(), Date.now());
}

/**
 * Run a machine until every domain has shut down, the signal is aborted or the time is over. `run.wake()` after input for a domain
 * spares it the rest of a sleep (at most 20 ms).
 */
export function runMachine(machine: Drivable, options: RunOptions = {}): Run {
  return drive(machine, nodeLoop, options);
}
