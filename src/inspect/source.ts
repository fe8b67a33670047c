/** What an inspector looks at: a machine, as far as it is needed. */
import type { Domain } from "../hypervisor/domain.js";
import type { Vcpu } from "../hypervisor/vcpu.js";
import type { Xen } from "../hypervisor/xen.js";
import type { BackendDevice } from "../devices/xenbus/device.js";
import type { XenStoreClient } from "../xenstore/client.js";
import type { XenStoreServer } from "../xenstore/server.js";
import { InspectError } from "./api.js";

export interface Source {
  readonly xen: Xen;
  readonly xenstore: XenStoreServer;
  /** With domain 0's rights. */
  readonly xs: XenStoreClient;
  /** Back ends of a domain that live in this process. */
  devices?(domid: number): readonly BackendDevice[];
}

export function domainOf(s: Source, domid: number): Domain {
  const d = s.xen.domains.get(domid);
  if (d === undefined) throw new InspectError("not-found", `there is no domain ${domid}`);
  return d;
}

export function vcpuOf(s: Source, domid: number, vcpu: number): Vcpu {
  const v = domainOf(s, domid).vcpus[vcpu];
  if (v === undefined) throw new InspectError("not-found", `domain ${domid} has no vCPU ${vcpu}`);
  return v;
}
