// The guest `suspend` of ours: 4 MiB, no driver but an event channel that asks it to suspend itself.
import { Guest, type Host } from "../machine/harness.js";
import type { RunningDomain } from "../../src/toolstack/machine.js";
import type { Restored } from "../../src/toolstack/migration/index.js";

/** What a domain of this number has printed on a host (on Xen's console). */
export function printed(host: Host, domid: number): string {
  return host.log
    .split("\n")
    .filter((l) => l.startsWith(`(d${domid}) `))
    .join("\n");
}

/** What a guest's xenbus driver would write: the port by which it may be asked. */
function announce(host: Host, running: RunningDomain): void {
  const { domid } = running.domain;
  const port = [...printed(host, domid).matchAll(/port (\d+)/g)].at(-1)?.[1];
  if (port === undefined) throw new Error(`no port in: ${host.log}`);
  host.machine.xs.write(`/local/domain/${domid}/device/suspend/event-channel`, port);
}

/** One that runs until it is destroyed. */
export async function startMini(host: Host, options = "", memoryMiB = 4): Promise<Guest> {
  const g = await host.guest("suspend", { cmdline: `rounds=0 ${options}`, memoryMiB });
  await host.run(() => /port \d+/.test(printed(host, g.domid)), { what: "the guest's port" });
  announce(host, g.running);
  return g;
}

/** How often it has said that it goes on: 0 moved, 1 where it was. */
export function goingsOn(host: Host, domid: number, how: 0 | 1): number {
  return printed(host, domid).match(new RegExp(`went on with ${how} at round`, "g"))?.length ?? 0;
}

/** Run until it has said so `times` times, and let it be asked again. */
export async function wentOn(host: Host, running: RunningDomain, how: 0 | 1, times = 1): Promise<void> {
  const { domid } = running.domain;
  await host.run(() => goingsOn(host, domid, how) >= times || running.ended, { what: "the guest's going on" });
  if (running.ended) throw new Error(`it ended${host.tail()}`);
  announce(host, running);
}

/** A domain that came out of a stream goes on there. */
export async function follow(host: Host, restored: Restored): Promise<Guest> {
  const g = new Guest(host, restored.running);
  host.guests.push(g);
  await wentOn(host, restored.running, 0);
  return g;
}

/** It works, and finds its memory as it should be, for some rounds. */
export async function works(host: Host, running: RunningDomain): Promise<void> {
  const { domid } = running.domain;
  const before = printed(host, domid).length;
  await host.run(() => /round \d+00/.test(printed(host, domid).slice(before)) || running.ended, { what: "work" });
  if (running.ended) throw new Error(`it ended${host.tail()}`);
}
