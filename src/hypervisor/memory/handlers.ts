/** The memory room's hypercalls by number. */
import {
  __HYPERVISOR_memory_op,
  __HYPERVISOR_mmu_update,
  __HYPERVISOR_mmuext_op,
  __HYPERVISOR_set_gdt,
  __HYPERVISOR_update_descriptor,
  __HYPERVISOR_update_va_mapping,
  __HYPERVISOR_update_va_mapping_otherdomain,
  __HYPERVISOR_vm_assist,
} from "../../abi/xen.js";
import type { Handler } from "../hypercalls/call.js";
import { doSetGdt, doUpdateDescriptor } from "./descriptors.js";
import { doMemoryOp } from "./memory-op.js";
import { doMmuUpdate } from "./mmu-update.js";
import { doMmuextOp } from "./mmuext-op.js";
import { doUpdateVaMapping, doUpdateVaMappingOtherdomain } from "./update-va-mapping.js";
import { doVmAssist } from "./vm-assist.js";

export const memoryHandlers: Record<number, Handler> = {
  [__HYPERVISOR_mmu_update]: doMmuUpdate,
  [__HYPERVISOR_set_gdt]: doSetGdt,
  [__HYPERVISOR_update_descriptor]: doUpdateDescriptor,
  [__HYPERVISOR_memory_op]: doMemoryOp,
  [__HYPERVISOR_update_va_mapping]: doUpdateVaMapping,
  [__HYPERVISOR_vm_assist]: doVmAssist,
  [__HYPERVISOR_update_va_mapping_otherdomain]: doUpdateVaMappingOtherdomain,
  [__HYPERVISOR_mmuext_op]: doMmuextOp,
};
