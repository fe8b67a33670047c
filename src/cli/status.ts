/** Exit statuses of the command, and the words for how a domain ended. */
import {
  SHUTDOWN_crash,
  SHUTDOWN_poweroff,
  SHUTDOWN_reboot,
  SHUTDOWN_soft_reset,
  SHUTDOWN_suspend,
  SHUTDOWN_watchdog,
} from "../abi/sched.js";

export const STATUS_OK = 0;
/** Wrong options, files or kernels: nothing was started. */
export const STATUS_INPUT = 2;
/** A domain crashed, or its watchdog went off. */
export const STATUS_CRASH = 3;
/** A domain ended in a way that is neither power-off nor crash. */
export const STATUS_OTHER = 4;
/** An invariant of our own is broken (EX_SOFTWARE). */
export const STATUS_INTERNAL = 70;
/** As of timeout(1). */
export const STATUS_TIMEOUT = 124;

const WORDS: Readonly<Record<number, string>> = {
  [SHUTDOWN_poweroff]: "poweroff",
  [SHUTDOWN_reboot]: "reboot",
  [SHUTDOWN_suspend]: "suspend",
  [SHUTDOWN_crash]: "crash",
  [SHUTDOWN_watchdog]: "watchdog",
  [SHUTDOWN_soft_reset]: "soft_reset",
};

export function shutdownWord(code: number): string {
  return WORDS[code] ?? `reason ${code}`;
}

/** The status that a domain's end stands for. */
export function statusOf(code: number): number {
  if (code === SHUTDOWN_poweroff || code === SHUTDOWN_reboot) return STATUS_OK;
  return code === SHUTDOWN_crash || code === SHUTDOWN_watchdog ? STATUS_CRASH : STATUS_OTHER;
}
