/**
 * How much memory a domain has, should have and may have. As libxl: `memory/target` is what the balloon driver follows, the hypervisor lets
 * the domain have a MiB more than that, and `memory/static-max` bounds the target.
 */
import type { Domain } from "../../hypervisor/domain.js";
import type { StoreAccess } from "../../xenstore/client.js";
import { MAXMEM_SLACK_PAGES, type Machine } from "../machine.js";
import { HostError } from "./api.js";

function kibOf(xs: StoreAccess, domid: number, node: string): number | undefined {
  const text = xs.read(`/local/domain/${domid}/memory/${node}`);
  return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** What the toolstack's nodes say; what the domain has where they say nothing. */
export function limits(xs: StoreAccess, d: Domain): { readonly maxKiB: number; readonly targetKiB: number } {
  const has = d.mm.totPages * 4;
  return { maxKiB: kibOf(xs, d.domid, "static-max") ?? has, targetKiB: kibOf(xs, d.domid, "target") ?? has };
}

function checked(kib: number): number {
  if (!Number.isSafeInteger(kib) || kib < 0) throw new HostError("invalid", `${kib} is not an amount of memory`);
  return kib;
}

/** Ask a domain to shrink or grow to `kib`. */
export function setTarget(machine: Machine, domid: number, d: Domain | undefined, kib: number): void {
  checked(kib);
  const { xs } = machine;
  if (d === undefined) {
    // Domain 0 has no memory of the machine's to give.
    if (kib > machine.dom0.mm.totPages * 4) throw tooMuch(domid);
    return;
  }
  if (kib > limits(xs, d).maxKiB) throw tooMuch(domid);
  if (kib === 0) throw new HostError("invalid", `Domain ${domid}: a domain needs some memory`);
  const pages = Math.ceil(kib / 4);
  // A domain that has more keeps it until its balloon driver gives it back.
  d.mm.maxPages = pages + MAXMEM_SLACK_PAGES;
  xs.write(`/local/domain/${domid}/memory/target`, kib);
}

function tooMuch(domid: number): HostError {
  return new HostError(
    "invalid",
    `Domain ${domid}: memory_dynamic_max must be less than or equal to memory_static_max`,
  );
}

export function setMax(machine: Machine, d: Domain, kib: number): void {
  checked(kib);
  const { xs } = machine;
  if (kib < limits(xs, d).targetKiB) {
    throw new HostError(
      "invalid",
      `Domain ${d.domid}: memory_static_max must be greater than or or equal to memory_dynamic_max`,
    );
  }
  d.mm.maxPages = Math.ceil(kib / 4) + MAXMEM_SLACK_PAGES;
  xs.write(`/local/domain/${d.domid}/memory/static-max`, kib);
}
