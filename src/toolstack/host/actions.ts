/**
 * What is done with a domain that has ended: the configured action, and its limits, so that a domain that ends again and again does not
 * keep the host busy for ever.
 */
import {
  SHUTDOWN_crash,
  SHUTDOWN_poweroff,
  SHUTDOWN_reboot,
  SHUTDOWN_soft_reset,
  SHUTDOWN_watchdog,
} from "../../abi/sched.js";
import type { Action } from "../config/index.js";
import type { DomainPlan } from "./plan.js";

/** A domain that crashes again this soon after its start is not started once more. */
const CRASH_LOOP_MS = 10_000;
/** One that asks for a reboot this soon, so many times in a row, neither. */
const REBOOT_LOOP_MS = 1000;
const REBOOT_LOOP = 5;

export type Actions = Pick<DomainPlan, "onPoweroff" | "onReboot" | "onCrash" | "onWatchdog" | "onSoftReset">;

/** Destroy is also what becomes of a domain that ended for a reason nobody has an action for. */
export function actionFor(actions: Actions, code: number): Action {
  switch (code) {
    case SHUTDOWN_poweroff:
      return actions.onPoweroff;
    case SHUTDOWN_reboot:
      return actions.onReboot;
    case SHUTDOWN_crash:
      return actions.onCrash;
    case SHUTDOWN_watchdog:
      return actions.onWatchdog;
    case SHUTDOWN_soft_reset:
      return actions.onSoftReset;
    default:
      return "destroy";
  }
}

/** Does the action start the domain again? */
export function restarts(action: Action): boolean {
  return (
    action === "restart" || action === "rename-restart" || action === "coredump-restart" || action === "soft-reset"
  );
}

export function dumpsCore(action: Action): boolean {
  return action === "coredump-destroy" || action === "coredump-restart";
}

/** Counts the ends of one domain over its restarts. */
export class RestartLimit {
  private hasty = 0;

  /** A domain ended with `code` so long after its start: may it start again? Else why not. */
  refuses(code: number, ranMs: number): string | undefined {
    if ((code === SHUTDOWN_crash || code === SHUTDOWN_watchdog) && ranMs < CRASH_LOOP_MS) {
      return `crashed within ${CRASH_LOOP_MS / 1000} s of its start: not started again`;
    }
    this.hasty = ranMs < REBOOT_LOOP_MS ? this.hasty + 1 : 0;
    if (this.hasty < REBOOT_LOOP) return undefined;
    return `ended ${REBOOT_LOOP} times within a second of its start: not started again`;
  }
}
