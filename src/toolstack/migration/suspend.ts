/**
 * Ask a guest to suspend itself, as libxl does, and let it go on.
 *
 * The way: `control/shutdown` = "suspend" (or the event channel of `device/suspend/event-channel`); the guest acknowledges by emptying the
 * node, freezes itself and calls SCHEDOP_shutdown(SHUTDOWN_suspend). It is then either rebuilt elsewhere, where that hypercall returns 0, or goes
 * on here, where it returns 1 ("cancelled": nothing of it was moved, devices are connected still).
 *
 * Invariant: after a failure the domain runs on, and does not suspend itself later for this request.
 */
import { SHUTDOWN_suspend } from "../../abi/sched.js";
import { Timer } from "../../hypervisor/time/timers.js";
import { RAX } from "../../machine/cpu/insn.js";
import { domainPath } from "../../xenstore/paths.js";
import type { Machine, RunningDomain } from "../machine.js";
import { isSuspended } from "./capture.js";
import { MigrationError } from "./errors.js";

/** libxl waits so long for each of the two steps, in ns of the machine's time. */
const STEP_TIMEOUT = 60e9;

export interface SuspendOptions {
  /** For the guest's acknowledgement, and again for its suspension. Default 60 s of the machine's time. */
  readonly timeoutMs?: number | undefined;
}

/** Wait until `done` says so, asked whenever `listen`'s callback runs; false after the time. */
function wait(
  machine: Machine,
  timeoutNs: number,
  done: () => boolean,
  listen: (changed: () => void) => () => void,
): Promise<boolean> {
  return new Promise((resolve) => {
    const { xen } = machine;
    const end = (result: boolean): void => {
      xen.timers.stop(timer);
      stop();
      resolve(result);
    };
    let over = false;
    const check = (): void => {
      if (over || !done()) return;
      over = true;
      end(true);
    };
    const timer = new Timer(() =>
      xen.post(() => {
        if (over) return;
        over = true;
        end(done());
      }),
    );
    xen.timers.set(timer, xen.clock.now() + timeoutNs);
    const stop = listen(check);
    // What is so already is found at the next turn, when `stop` is known.
    xen.post(check);
    machine.onInput();
  });
}

/** Resolves when the guest is suspended. The machine must be driven meanwhile. */
export async function suspendDomain(
  machine: Machine,
  running: RunningDomain,
  options: SuspendOptions = {},
): Promise<void> {
  const { domain } = running;
  const { xs, xen } = machine;
  const timeout = options.timeoutMs === undefined ? STEP_TIMEOUT : options.timeoutMs * 1e6;
  if (running.suspending === "asked")
    throw new MigrationError("state", `domain ${domain.domid} is being saved already`);
  if (isSuspended(domain)) {
    running.suspending = "asked";
    return;
  }
  if (running.ended) throw new MigrationError("state", `domain ${domain.domid} has ended`);
  if (domain.pauseCount > 0) throw new MigrationError("state", `domain ${domain.domid} is paused: unpause it first`);
  const node = `${domainPath(domain.domid)}/control/shutdown`;
  const over = (): boolean => domain.shutDown || domain.dying;
  const ends = (changed: () => void): (() => void) => {
    const forget = xen.onShutdown((d) => {
      if (d === domain) changed();
    });
    domain.onDestroy(() => xen.post(changed));
    return forget;
  };
  running.suspending = "asked";
  try {
    const port = Number(xs.read(`${domainPath(domain.domid)}/device/suspend/event-channel`) || NaN);
    const local = port > 0 ? machine.dom0.events.bindInterdomainHost(domain, port, () => {}) : -1;
    try {
      if (local >= 0) machine.dom0.events.sendHost(local);
      else {
        xs.write(node, "suspend");
        const taken = await wait(
          machine,
          timeout,
          () => over() || xs.read(node) !== "suspend",
          (changed) => {
            const unwatch = xs.watch(node, changed);
            const forget = ends(changed);
            return () => {
              unwatch();
              forget();
            };
          },
        );
        if (!taken) {
          // Taken back and looked at in one go: the guest may take it at this very moment.
          const late = xs.transaction((t) => {
            if (t.read(node) !== "suspend") return true;
            t.write(node, "");
            return false;
          });
          if (!late)
            throw new MigrationError("timeout", `domain ${domain.domid} did not acknowledge the request to suspend`);
        }
      }
      if (!(await wait(machine, timeout, over, ends)))
        throw new MigrationError("timeout", `domain ${domain.domid} did not suspend`);
    } finally {
      if (local >= 0) machine.dom0.events.closeHost(local);
    }
    if (domain.dying) throw new MigrationError("state", `domain ${domain.domid} was destroyed while it was to suspend`);
    if (domain.shutdownCode !== SHUTDOWN_suspend)
      throw new MigrationError(
        "state",
        `domain ${domain.domid} ended (code ${domain.shutdownCode}) in place of suspending`,
      );
  } catch (e) {
    letGo(machine, running);
    throw e;
  }
}

/** The request came to nothing. A guest that has taken it may suspend itself yet: it is then sent on its way. */
function letGo(machine: Machine, running: RunningDomain): void {
  const { domain } = running;
  if (running.ended) {
    running.suspending = "no";
    return;
  }
  running.suspending = "late";
  const forget = machine.xen.onShutdown((d) => {
    if (d !== domain) return;
    forget();
    if (running.suspending === "late" && isSuspended(domain)) resumeDomain(machine, running);
  });
}

/** A suspended guest goes on where it is. */
export function resumeDomain(machine: Machine, running: RunningDomain): void {
  const { domain } = running;
  if (!isSuspended(domain)) throw new MigrationError("state", `domain ${domain.domid} is not suspended`);
  const first = domain.vcpus[0];
  if (first !== undefined) machine.xen.withLoaded(first, (cpu) => cpu.setReg(RAX, 1, 0));
  running.suspending = "no";
  machine.xs.resume(domain.domid);
  domain.resume();
  machine.onInput();
}
