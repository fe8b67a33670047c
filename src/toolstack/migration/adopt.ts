/**
 * A domain that was rebuilt becomes one of the machine's: its nodes in XenStore, its introduction to it, its console. What the builder does at
 * the end of a creation, for a guest whose rings exist already.
 */
import { ConsoleBackend } from "../../devices/console/backend.js";
import type { Domain } from "../../hypervisor/domain.js";
import { removeDomainNodes, writeConsoleNodes, writeDomainNodes } from "../domain-nodes.js";
import { RunningDomain, type Machine } from "../machine.js";
import type { ServiceFrames, ServicePorts } from "./rebuild.js";

/** What XenStore says of the domain and the domain itself does not know. */
export interface DomainWords {
  readonly maxMemKiB?: number | undefined;
  readonly targetKiB?: number | undefined;
  readonly vcpusOnline?: number | undefined;
  readonly kernelPath?: string | undefined;
  readonly ramdiskPath?: string | undefined;
  readonly cmdline?: string | undefined;
  /** The terminal of the first console, as XenStore shows it. */
  readonly tty?: string | undefined;
}

/** Event channels for XenStore and the console, in the order in which the builder makes them: guests keep to the console's number. */
export function openServicePorts(domain: Domain): ServicePorts {
  return { store: domain.events.allocUnbound(0), console: domain.events.allocUnbound(0) };
}

/** The domain is paused still and has no devices but the console. */
export function adoptDomain(
  machine: Machine,
  domain: Domain,
  frames: ServiceFrames,
  ports: ServicePorts,
  words: DomainWords = {},
): RunningDomain {
  const has = domain.mm.totPages * 4;
  const facts = {
    domid: domain.domid,
    uuid: domain.uuid,
    name: domain.name,
    vcpus: domain.vcpus.length,
    vcpusOnline: words.vcpusOnline ?? domain.vcpus.filter((v) => v.up).length,
    maxMemKiB: words.maxMemKiB ?? has,
    targetKiB: words.targetKiB ?? has,
    store: { mfn: frames.storeMfn, port: ports.store },
    console: { mfn: frames.consoleMfn, port: ports.console },
    startTime: (machine.clock.epochStart + machine.clock.now()) / 1e9,
    ...(words.cmdline === undefined ? {} : { cmdline: words.cmdline }),
    ...(words.kernelPath === undefined ? {} : { kernel: words.kernelPath }),
    ...(words.ramdiskPath === undefined ? {} : { ramdisk: words.ramdiskPath }),
  };
  domain.onDestroy(() => {
    removeDomainNodes(machine.xs, domain.domid, domain.uuid);
    machine.xenstore.domainGone(domain.domid);
  });
  writeDomainNodes(machine.xs, facts);
  machine.xs.introduce(domain.domid, frames.storeMfn, ports.store);
  writeConsoleNodes(machine.xs, facts, words.tty);
  const console = new ConsoleBackend(machine.dom0, domain, frames.consoleMfn * 4096, ports.console);
  const running = new RunningDomain(machine, domain, console);
  machine.adopt(running);
  return running;
}
