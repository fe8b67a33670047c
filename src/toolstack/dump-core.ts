/**
 * A domain's core (`xl dump-core`, `on_crash="coredump-…"`): its pages, vCPU contexts, shared info and frame tables in an ELF file.
 *
 * The domain is paused meanwhile if it was not, so that the core is of one moment; it may also have shut down or crashed. It changes in nothing.
 */
import { HYPERVISOR_VIRT_START } from "../abi/arch_x86_xen.js";
import type { Domain } from "../hypervisor/domain.js";
import { getGuestContext } from "../hypervisor/guest-context.js";
import {
  XEN_CAPABILITIES,
  XEN_CHANGESET,
  XEN_COMPILE_BY,
  XEN_COMPILE_DATE,
  XEN_COMPILE_DOMAIN,
  XEN_COMPILER,
  XEN_EXTRAVERSION,
} from "../hypervisor/hypercalls/xen-version.js";
import { XEN_MAJOR, XEN_MINOR } from "../hypervisor/traps/cpuid-policy.js";
import { coreFrame } from "./dump-core-elf.js";
import { mappedRanges } from "./dump-core-maps.js";
import type { Machine } from "./machine.js";
import type { ByteSink } from "./migration/bytes.js";
import { MigrationError } from "./migration/errors.js";
import { hypervisorP2m, readP2m, type GuestP2m } from "./migration/p2m.js";
import { breathe } from "./migration/save.js";

/** Pages written at a time. */
const BATCH = 1024;

/** The guest's own table where it has a good one; what the hypervisor knows where it has not. */
function p2mOf(domain: Domain): GuestP2m {
  try {
    return readP2m(domain);
  } catch (e) {
    if (e instanceof MigrationError) return hypervisorP2m(domain);
    throw e;
  }
}

export interface CoreSize {
  readonly pages: number;
  readonly bytes: number;
}

export async function dumpCore(machine: Machine, domain: Domain, sink: ByteSink): Promise<CoreSize> {
  if (domain.dying) throw new MigrationError("state", `domain ${domain.domid} is gone`);
  const { mem } = machine;
  domain.pause();
  try {
    const p2m = p2mOf(domain);
    const pages: { pfn: number; mfn: number }[] = [];
    const index = new Map<number, number>();
    for (let pfn = 0; pfn < p2m.pfns; pfn++) {
      const mfn = p2m.mfn[pfn] as number;
      if (mfn < 0 || !domain.mm.owns(mfn)) continue;
      index.set(mfn, pages.length);
      pages.push({ pfn, mfn });
    }
    const live = domain.vcpus.filter((v) => v.initialised);
    const root = live[0]?.mm.kernelRoot ?? 0;
    const { head, tail } = coreFrame({
      vcpus: live.map((v) => getGuestContext(v)),
      sharedInfo: mem.read(domain.mm.sharedInfo * 4096, 4096),
      pages,
      ranges: root === 0 ? [] : mappedRanges(domain, root, (mfn) => index.get(mfn) ?? -1),
      version: {
        major: XEN_MAJOR,
        minor: XEN_MINOR,
        extra: XEN_EXTRAVERSION,
        compiler: XEN_COMPILER,
        compileBy: XEN_COMPILE_BY,
        compileDomain: XEN_COMPILE_DOMAIN,
        compileDate: XEN_COMPILE_DATE,
        capabilities: XEN_CAPABILITIES,
        changeset: XEN_CHANGESET,
        virtStart: HYPERVISOR_VIRT_START,
      },
    });
    await sink.write(head);
    for (let at = 0; at < pages.length; at += BATCH) {
      if (domain.dying) throw new MigrationError("state", `domain ${domain.domid} was destroyed`);
      const batch = pages.slice(at, at + BATCH);
      const out = new Uint8Array(batch.length * 4096);
      batch.forEach(({ mfn }, i) => mem.readInto(mfn * 4096, out.subarray(i * 4096, i * 4096 + 4096)));
      await sink.write(out);
      await breathe(machine);
    }
    await sink.write(tail);
    return { pages: pages.length, bytes: head.length + pages.length * 4096 + tail.length };
  } finally {
    if (!domain.dying) domain.unpause();
  }
}
