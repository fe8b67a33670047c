/**
 * Lends the core what it needs to carry out the commonest transitions of the loaded vCPU itself (machine/core/assembly/pv.ts), and takes back what they
 * changed. The files beside this one are the reference of what a transition does, and do all that is not common.
 *
 * Invariants: between `before` and `after` only the core runs, so nothing here sees half a state; it is not allowed where somebody
 * could tell the difference: under a virtual clock (each exit takes time), with a trace or a debugger, with an NMI under way, areas to be
 * written on entry to the kernel, writes being recorded, or a vcpu_info that others share.
 */
import {
  __HYPERVISOR_iret,
  __HYPERVISOR_mmu_update,
  __HYPERVISOR_mmuext_op,
  __HYPERVISOR_set_segment_base,
  __HYPERVISOR_stack_switch,
  __HYPERVISOR_update_va_mapping,
  __HYPERVISOR_xen_version,
  VMASST_TYPE_architectural_iopl,
  VMASST_TYPE_writable_pagetables,
} from "../../abi/xen.js";
import {
  PV_CR2,
  PV_END,
  PV_FAULT,
  PV_FAULTS,
  PV_FAULT_MASKS,
  PV_GDT,
  PV_GS_KERNEL,
  PV_GS_USER,
  PV_INFO,
  PV_IOPL,
  PV_IRETS,
  PV_KERNEL_SP,
  PV_KERNEL_SS,
  PV_MMUEXT_OPS,
  PV_MMU_UPDATES,
  PV_ON,
  PV_OWNER,
  PV_PORTS,
  PV_SEGMENT_BASES,
  PV_SEGMENT_LOADS,
  PV_STACK_SWITCHES,
  PV_SYSCALL,
  PV_SYSCALLS,
  PV_SYSCALL_MASKS,
  PV_TABLE_WRITES,
  PV_USER_ROOT,
  PV_VA_MAPPINGS,
  PV_VERSION,
  PV_VERSIONS,
  PV_WRITABLE_TABLES,
} from "../../machine/layout.js";
import type { Va } from "../../machine/cpu/api.js";
import type { Vcpu } from "../vcpu.js";
import type { Xen } from "../xen.js";
import { XEN_MAJOR, XEN_MINOR } from "./cpuid-policy.js";
import { GP, PF } from "./inject.js";

const ON = PV_ON >>> 2;
const COUNTS = PV_SYSCALLS >>> 2;
const COUNTS_END = PV_END >>> 2;

export class FastTransitions {
  private readonly u32: Uint32Array;
  /** The entries that the core has now. */
  private syscall: Va = NaN;
  private handler: Va = NaN;

  constructor(
    private readonly xen: Xen,
    private readonly enabled: boolean,
  ) {
    this.u32 = xen.mem.u32;
    this.u32[ON] = 0;
    this.u32.fill(0, COUNTS, COUNTS_END);
    this.u32[PV_VERSION >>> 2] = (XEN_MAJOR << 16) | XEN_MINOR;
  }

  private put(at: number, lo: number, hi: number): void {
    this.u32[at >>> 2] = lo;
    this.u32[(at + 4) >>> 2] = hi;
  }
  private putVa(at: number, va: Va): void {
    this.put(at, va | 0, Math.floor(va / 4294967296) | 0);
  }

  /** The vCPU is about to run. */
  before(v: Vcpu): void {
    if (!this.enabled) return;
    const { u32, xen } = this;
    const t = v.traps;
    u32[ON] = 0;
    const info = v.events.infoMaddr;
    if (xen.trace.on || t.nmiPending || t.inNmi || v.time.areasStale || info < 0) return;
    if ((v.domain.vmAssist & (1 << VMASST_TYPE_architectural_iopl)) !== 0) return;
    const { mem } = xen;
    const at = mem.resolve(info);
    if (mem.logsDirty || mem.isShared(at >>> 12) || mem.hasCode(at >>> 12)) return;
    const gdt = v.mm.gdtFrames[0] as number;
    u32[PV_INFO >>> 2] = at;
    u32[PV_USER_ROOT >>> 2] = v.mm.userRoot;
    u32[PV_OWNER >>> 2] = v.domain.mm.id;
    u32[PV_WRITABLE_TABLES >>> 2] = v.domain.vmAssist & (1 << VMASST_TYPE_writable_pagetables);
    u32[PV_IOPL >>> 2] = t.iopl;
    u32[PV_GDT >>> 2] = gdt < 0 ? 0 : mem.resolve(gdt * 4096);
    u32[PV_SYSCALL_MASKS >>> 2] = t.syscallMasks ? 1 : 0;
    u32[PV_FAULT_MASKS >>> 2] = t.masksEvents(PF) ? 1 : 0;
    u32[PV_KERNEL_SS >>> 2] = t.kernelSs;
    this.put(PV_KERNEL_SP, t.kernelSpLo, t.kernelSpHi);
    if (t.syscallCallback !== this.syscall) this.putVa(PV_SYSCALL, (this.syscall = t.syscallCallback));
    const handler = t.address[PF] as number;
    if (handler !== this.handler) this.putVa(PV_FAULT, (this.handler = handler));
    this.put(PV_GS_KERNEL, t.gsKernelLo, t.gsKernelHi);
    this.put(PV_GS_USER, t.gsUserLo, t.gsUserHi);
    this.put(PV_CR2, t.cr2Lo, t.cr2Hi);
    u32[ON] = 1;
  }

  /** It has run: how many transitions the core carried out meanwhile. */
  after(v: Vcpu): number {
    const { u32 } = this;
    if (u32[ON] === 0) return 0;
    u32[ON] = 0;
    const syscalls = u32[PV_SYSCALLS >>> 2] as number;
    const irets = u32[PV_IRETS >>> 2] as number;
    const stacks = u32[PV_STACK_SWITCHES >>> 2] as number;
    const bases = u32[PV_SEGMENT_BASES >>> 2] as number;
    const versions = u32[PV_VERSIONS >>> 2] as number;
    const faults = u32[PV_FAULTS >>> 2] as number;
    const loads = u32[PV_SEGMENT_LOADS >>> 2] as number;
    const updates = u32[PV_MMU_UPDATES >>> 2] as number;
    const mappings = u32[PV_VA_MAPPINGS >>> 2] as number;
    const mmuext = u32[PV_MMUEXT_OPS >>> 2] as number;
    const writes = u32[PV_TABLE_WRITES >>> 2] as number;
    const ports = u32[PV_PORTS >>> 2] as number;
    const calls = irets + stacks + bases + versions + updates + mappings + mmuext;
    const n = syscalls + calls + faults + writes + ports;
    if (n === 0) return 0;
    for (let i = COUNTS; i < COUNTS_END; i++) u32[i] = 0;
    const { counters, cpu } = this.xen;
    counters.syscalls += syscalls;
    counters.irets += irets;
    counters.hypercalls += calls;
    counters.exceptions += faults + writes + ports;
    counters.pageFaults += faults + writes;
    counters.ptwr += writes;
    counters.privops += ports;
    counters.segmentLoads += loads;
    add(counters.byVector, PF, faults + writes);
    add(counters.byVector, GP, ports);
    add(counters.byHypercall, __HYPERVISOR_iret, irets);
    add(counters.byHypercall, __HYPERVISOR_stack_switch, stacks);
    add(counters.byHypercall, __HYPERVISOR_set_segment_base, bases);
    add(counters.byHypercall, __HYPERVISOR_xen_version, versions);
    add(counters.byHypercall, __HYPERVISOR_mmu_update, updates);
    add(counters.byHypercall, __HYPERVISOR_update_va_mapping, mappings);
    add(counters.byHypercall, __HYPERVISOR_mmuext_op, mmuext);
    const t = v.traps;
    v.kernelMode = cpu.space === 0;
    t.kernelSs = u32[PV_KERNEL_SS >>> 2] as number;
    t.kernelSpLo = u32[PV_KERNEL_SP >>> 2] as number;
    t.kernelSpHi = u32[(PV_KERNEL_SP >>> 2) + 1] as number;
    t.gsKernelLo = u32[PV_GS_KERNEL >>> 2] as number;
    t.gsKernelHi = u32[(PV_GS_KERNEL >>> 2) + 1] as number;
    t.gsUserLo = u32[PV_GS_USER >>> 2] as number;
    t.gsUserHi = u32[(PV_GS_USER >>> 2) + 1] as number;
    t.cr2Lo = u32[PV_CR2 >>> 2] as number;
    t.cr2Hi = (u32[(PV_CR2 >>> 2) + 1] as number) | 0;
    return n;
  }
}

function add(counts: Float64Array, i: number, n: number): void {
  counts[i] = (counts[i] as number) + n;
}
