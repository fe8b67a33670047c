/**
 * The hypercall table: every number 0–55 with its name, whether a 64-bit PV guest has it, the names of its sub-operations (first
 * argument), and who handles it. A number without a handler answers −ENOSYS.
 */
import * as ev from "../../abi/event_channel.js";
import * as gt from "../../abi/grant_table.js";
import * as memory from "../../abi/memory.js";
import * as physdev from "../../abi/physdev.js";
import * as sched from "../../abi/sched.js";
import * as vcpu from "../../abi/vcpu.js";
import * as version from "../../abi/version.js";
import * as callback from "../../abi/callback.js";
import * as nmi from "../../abi/nmi.js";
import * as xen from "../../abi/xen.js";
import { eventHandlers } from "../events/handlers.js";
import { grantHandlers } from "../grants/handlers.js";
import { memoryHandlers } from "../memory/handlers.js";
import { schedulerHandlers } from "../scheduler/handlers.js";
import { timeHandlers } from "../time/handlers.js";
import type { Handler } from "./call.js";
import { consoleIo } from "./console-io.js";
import { multicall } from "./multicall.js";
import { physdevOp, physdevOpCompat } from "./physdev-op.js";
import { controlHandlers } from "./control.js";
import { trapHandlers } from "./trap-ops.js";
import { xenVersion } from "./xen-version.js";

export interface HypercallInfo {
  readonly number: number;
  readonly name: string;
  /** Offered to a 64-bit PV guest of Xen 4.17 (with Debian's build options). */
  readonly pv64: boolean;
  /** Which argument selects the sub-operation, −1 if none. */
  readonly selector: number;
  readonly ops: ReadonlyMap<number, string>;
}

type Names = Readonly<Record<string, unknown>>;

/** Names of the constants with a prefix, by value; the first one wins. */
function named(module: Names, prefix: string, only?: readonly string[]): Map<number, string> {
  const out = new Map<number, string>();
  for (const [k, v] of Object.entries(module)) {
    if (!k.startsWith(prefix) || typeof v !== "number") continue;
    const name = k.slice(prefix.length);
    if (only !== undefined && !only.includes(name)) continue;
    if (!out.has(v)) out.set(v, name);
  }
  return out;
}

/** Memory operations: only those that are hypercall commands, in the order of public/memory.h. */
const MEMORY_OPS: readonly string[] = [
  "increase_reservation",
  "decrease_reservation",
  "populate_physmap",
  "maximum_ram_page",
  "current_reservation",
  "maximum_reservation",
  "machphys_mfn_list",
  "add_to_physmap",
  "memory_map",
  "machine_memory_map",
  "set_memory_map",
  "exchange",
  "machphys_mapping",
  "maximum_gpfn",
  "remove_from_physmap",
  "set_pod_target",
  "get_pod_target",
  "get_sharing_freed_pages",
  "get_sharing_shared_pages",
  "paging_op",
  "access_op",
  "sharing_op",
  "add_to_physmap_batch",
  "claim_pages",
  "machphys_compat_mfn_list",
  "get_vnumainfo",
  "acquire_resource",
];
const PHYSDEV_OPS: readonly string[] = [
  "eoi",
  "pirq_eoi_gmfn_v1",
  "pirq_eoi_gmfn_v2",
  "irq_status_query",
  "set_iopl",
  "set_iobitmap",
  "apic_read",
  "apic_write",
  "alloc_irq_vector",
  "free_irq_vector",
  "map_pirq",
  "unmap_pirq",
  "manage_pci_add",
  "manage_pci_remove",
  "restore_msi",
  "manage_pci_add_ext",
  "setup_gsi",
  "get_free_pirq",
  "pci_mmcfg_reserved",
  "pci_device_add",
  "pci_device_remove",
  "restore_msi_ext",
  "prepare_msix",
  "release_msix",
  "dbgp_op",
  "IRQ_UNMASK_NOTIFY",
];

const NONE: ReadonlyMap<number, string> = new Map();
/** What Debian's Xen 4.17 does not offer to PV guests. */
const ABSENT = new Set<number>([11, xen.__HYPERVISOR_tmem_op, xen.__HYPERVISOR_argo_op, 43, 44, 45, 46, 47]);
const OPS: Readonly<Record<number, ReadonlyMap<number, string>>> = {
  [xen.__HYPERVISOR_memory_op]: named(memory, "XENMEM_", MEMORY_OPS),
  [xen.__HYPERVISOR_xen_version]: named(version, "XENVER_"),
  [xen.__HYPERVISOR_console_io]: named(xen, "CONSOLEIO_"),
  [xen.__HYPERVISOR_grant_table_op]: named(gt, "GNTTABOP_"),
  [xen.__HYPERVISOR_vm_assist]: named(xen, "VMASST_CMD_"),
  [xen.__HYPERVISOR_vcpu_op]: named(vcpu, "VCPUOP_"),
  [xen.__HYPERVISOR_sched_op]: named(sched, "SCHEDOP_"),
  [xen.__HYPERVISOR_sched_op_compat]: named(sched, "SCHEDOP_"),
  [xen.__HYPERVISOR_callback_op]: named(callback, "CALLBACKOP_"),
  [xen.__HYPERVISOR_nmi_op]: named(nmi, "XENNMI_"),
  [xen.__HYPERVISOR_event_channel_op]: named(ev, "EVTCHNOP_"),
  [xen.__HYPERVISOR_physdev_op]: named(physdev, "PHYSDEVOP_", PHYSDEV_OPS),
};

const NAMES = named(xen, "__HYPERVISOR_");

export const hypercalls: readonly HypercallInfo[] = Array.from({ length: 56 }, (_, number) => ({
  number,
  name: number === 48 ? "mca" : number === 49 ? "paging_domctl_cont" : (NAMES.get(number) ?? `hypercall_${number}`),
  pv64: NAMES.has(number) && !ABSENT.has(number) && number <= 49,
  selector: OPS[number] === undefined ? -1 : 0,
  ops: OPS[number] ?? NONE,
}));

/** Name for traces: `event_channel_op.send`, `mmu_update`. */
export function hypercallName(number: number, op: number): string {
  const h = hypercalls[number];
  if (h === undefined) return `hypercall_${number}`;
  return h.selector < 0 ? h.name : `${h.name}.${h.ops.get(op) ?? op}`;
}

/** Handlers by number; the table is dense so that dispatch is one load. */
export function handlerTable(): (Handler | null)[] {
  const table: (Handler | null)[] = new Array<Handler | null>(64).fill(null);
  const all: Readonly<Record<number, Handler>>[] = [
    controlHandlers,
    {
      [xen.__HYPERVISOR_xen_version]: xenVersion,
      [xen.__HYPERVISOR_console_io]: consoleIo,
      [xen.__HYPERVISOR_physdev_op]: physdevOp,
      [xen.__HYPERVISOR_physdev_op_compat]: physdevOpCompat,
      [xen.__HYPERVISOR_multicall]: multicall,
    },
    trapHandlers,
    memoryHandlers,
    grantHandlers,
    eventHandlers,
    schedulerHandlers,
    timeHandlers,
  ];
  for (const part of all) for (const [n, h] of Object.entries(part)) table[Number(n)] = h;
  return table;
}
