/**
 * The control interfaces (sysctl, domctl, platform_op, …) as an unprivileged PV domain meets them: refused, each with the error that
 * real Xen 4.17 gives. Domain 0 is native: its tools call the hypervisor's objects directly.
 */
import { EACCES, EFAULT, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from "../../abi/errno.js";
import * as X from "../../abi/xen.js";
import { XEN_DOMCTL_INTERFACE_VERSION } from "../../abi/domctl.js";
import { XEN_SYSCTL_INTERFACE_VERSION } from "../../abi/sysctl.js";
import type { Call, Handler } from "./call.js";

/** domctl and sysctl begin with cmd and interface_version; a mismatch is −EACCES before rights are looked at. */
function versioned(call: Call, version: number, domctl: boolean): number {
  const b = call.guest.copyFrom(call.va(0), 16);
  if (b === null) return -EFAULT;
  const d = new DataView(b.buffer);
  if (d.getUint32(4, true) !== version) return -EACCES;
  if (domctl) {
    const domid = d.getUint16(8, true);
    if (domid !== X.DOMID_SELF && domid !== X.DOMID_INVALID && !call.xen.domains.has(domid)) return -ESRCH;
  }
  return -EPERM;
}

const refused: Handler = () => -EPERM;
const missing: Handler = () => -ENOSYS;

/** HVM parameters do not exist for a PV domain. */
const hvmOp: Handler = (call) => (call.lo(0) <= 25 ? -EINVAL : -ENOSYS);

export const controlHandlers: Record<number, Handler> = {
  [X.__HYPERVISOR_platform_op]: refused,
  [X.__HYPERVISOR_sysctl]: (call) => versioned(call, XEN_SYSCTL_INTERFACE_VERSION, false),
  [X.__HYPERVISOR_domctl]: (call) => versioned(call, XEN_DOMCTL_INTERFACE_VERSION, true),
  [X.__HYPERVISOR_hvm_op]: hvmOp,
  [X.__HYPERVISOR_kexec_op]: refused,
  [X.__HYPERVISOR_xsm_op]: missing,
  [X.__HYPERVISOR_xenoprof_op]: refused,
  [X.__HYPERVISOR_tmem_op]: missing,
  [X.__HYPERVISOR_argo_op]: missing,
  // No virtual performance counters: guests then say "VPMU disabled by hypervisor".
  [X.__HYPERVISOR_xenpmu_op]: () => -EOPNOTSUPP,
  [X.__HYPERVISOR_dm_op]: (call) => (call.xen.domains.has(call.lo(0) & 0xffff) ? -EPERM : -ESRCH),
  [X.__HYPERVISOR_hypfs_op]: refused,
  [X.__HYPERVISOR_arch_0]: refused,
  [X.__HYPERVISOR_arch_1]: refused,
};
