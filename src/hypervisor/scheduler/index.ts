/** The schedulers that can be chosen by name (`sched=`), and the scheduler's hypercalls. */
import type { Xen } from "../xen.js";
import { SchedCore } from "./core.js";
import { CreditScheduler } from "./credit.js";
import type { SchedulerPolicy } from "./interface.js";
import { SedfScheduler } from "./sedf.js";
import { TrivialScheduler } from "./trivial.js";

export const DEFAULT_SCHEDULER = "credit";

/** Register one's own before the machine is made. */
export const schedulers = new Map<string, () => SchedulerPolicy>([
  ["credit", () => new CreditScheduler()],
  ["sedf", () => new SedfScheduler()],
  ["trivial", () => new TrivialScheduler()],
]);

/** The scheduler of a machine; the caller stores it in `xen.scheduler` (after `xen.timers`). */
export function createScheduler(xen: Xen, name = DEFAULT_SCHEDULER): SchedCore {
  const make = schedulers.get(name);
  if (make === undefined) throw new Error(`unknown scheduler "${name}" (known: ${[...schedulers.keys()].join(", ")})`);
  return new SchedCore(xen, make());
}

export { schedulerHandlers } from "./handlers.js";
export type { SchedParams, SchedulerHost, SchedulerPolicy, TaskSlice } from "./interface.js";
export { SchedUnit } from "./interface.js";
export { SchedCore } from "./core.js";
