/** HYPERVISOR_vm_assist: switches that a guest sets for itself. */
import { EINVAL, ENOSYS } from "../../abi/errno.js";
import {
  VMASST_CMD_disable,
  VMASST_CMD_enable,
  VMASST_TYPE_4gb_segments,
  VMASST_TYPE_4gb_segments_notify,
  VMASST_TYPE_architectural_iopl,
  VMASST_TYPE_m2p_strict,
  VMASST_TYPE_pae_extended_cr3,
  VMASST_TYPE_runstate_update_flag,
  VMASST_TYPE_writable_pagetables,
} from "../../abi/xen.js";
import type { Call } from "../hypercalls/call.js";
import { hasAssist } from "./util.js";

const VALID: ReadonlySet<number> = new Set([
  VMASST_TYPE_4gb_segments,
  VMASST_TYPE_4gb_segments_notify,
  VMASST_TYPE_writable_pagetables,
  VMASST_TYPE_pae_extended_cr3,
  VMASST_TYPE_architectural_iopl,
  VMASST_TYPE_runstate_update_flag,
  VMASST_TYPE_m2p_strict,
]);

export function doVmAssist(call: Call): number {
  const type = call.lo(1);
  if (!VALID.has(type)) return -EINVAL;
  const d = call.domain;
  switch (call.lo(0)) {
    case VMASST_CMD_enable:
      if (!hasAssist(d, type)) d.vmAssist += 2 ** type;
      return 0;
    case VMASST_CMD_disable:
      if (hasAssist(d, type)) d.vmAssist -= 2 ** type;
      return 0;
    default:
      return -ENOSYS;
  }
}
