/**
 * The commonest transitions of a PV guest, done without leaving the core: a system call's entry to the guest kernel, HYPERVISOR_iret, page faults
 * passed on, the hypercalls that only set or read a word (stack_switch, set_segment_base, xen_version), changes of single L1 entries
 * (pagetables.ts), `in` and `out` of ports where nothing is; and `iretq` to where the same code runs on, with which kernels serialize.
 *
 * The hypervisor's TypeScript (traps/exits.ts, bounce.ts, iret.ts, io-ports.ts, hypercalls/trap-ops.ts; of the machine cpu/system.ts) is the reference and
 * does everything else. Invariants: each function either does the whole transition with the reference's result or changes nothing and answers false;
 * memory is only reached through what the TLB already allows, and code as it is mapped; nothing is done after which an event would have to be
 * delivered. The hypervisor decides when this is allowed at all (PV_ON), and it counts: the turn's budget is charged as for an exit.
 */
import {
  BUDGET, CC_A, CC_OP, EFL, EXIT_CR2, EXIT_ERROR, EXIT_REASON, EXIT_VECTOR, MODE, MODE_BITS_64, MODE_CPL_SHIFT, MODE_FLAT, MODE_NO_FPU, MODE_SPACE,
  MODE_SS32, PV_CHARGED, PV_COST, PV_CR2, PV_FAULT, PV_FAULTS, PV_FAULT_MASKS, PV_GDT, PV_GS_KERNEL, PV_GS_USER, PV_INFO, PV_IRETS, PV_KERNEL_SP,
  PV_KERNEL_SS, PV_MMUEXT_OPS, PV_MMU_UPDATES, PV_SEGMENT_BASES, PV_SEGMENT_LOADS, PV_STACK_SWITCHES, PV_SYSCALL, PV_SYSCALLS, PV_SYSCALL_MASKS,
  PV_TABLE_WRITES, PV_USER_ROOT, PV_VA_MAPPINGS, PV_VERSION, PV_VERSIONS, PV_IOPL, PV_PORTS,
  RIP, SEG_ATTR, SEG_BASE, SEG_LIMIT, SEG_SEL,
} from "../generated/layout";
import {
  FLAT_KERNEL_CS64, FLAT_KERNEL_SS64, SEGBASE_FS, SEGBASE_GS_KERNEL, SEGBASE_GS_USER, VGCF_in_syscall, XENVER_version, __HYPERVISOR_iret,
  __HYPERVISOR_mmu_update, __HYPERVISOR_mmuext_op, __HYPERVISOR_set_segment_base, __HYPERVISOR_stack_switch, __HYPERVISOR_update_va_mapping,
  __HYPERVISOR_xen_version, iret_context_cs, iret_context_flags, iret_context_r11,
  iret_context_rax, iret_context_rcx, iret_context_rflags, iret_context_rip, iret_context_rsp, iret_context_size, iret_context_ss, vcpu_info_arch_cr2,
  vcpu_info_evtchn_upcall_mask, vcpu_info_evtchn_upcall_pending,
} from "../generated/abi";
import { arithFlags } from "./flags";
import { cached, canonical, walk } from "./mmu";
import { hypervisors, mmuextOp, mmuUpdate, tableWrite, updateVaMapping } from "./pagetables";
import { R11, RAX, RCX, RDI, RDX, RSI, RSP } from "./registers";

/** Of exits.ts. */
const EXCEPTION_EXIT: u32 = 2;
const SYSCALL_EXIT: u32 = 3;
const SYSTEM_EXIT: u32 = 8;
const GENERAL_PROTECTION: i32 = 13;
const PAGE_FAULT: i32 = 14;

const CS: u32 = 1;
const SS: u32 = 2;
const FS: u32 = 4;
const GS: u32 = 5;

const ARITH: u32 = 0x8d5;
const TF: u32 = 0x100;
const IF: u32 = 0x200;
const DF: u32 = 0x400;
const IOPL: u32 = 0x3000;
const NT: u32 = 0x4000;
const RF: u32 = 0x10000;
const VM: u32 = 0x20000;
const AC: u32 = 0x40000;

/** Attributes of flat ring-3 code and data; and such descriptors, accessed already, as Linux has them in its GDT. */
const LONG: u32 = 0x2000;
const CODE_ATTR: u32 = 0xa0fb;
const DATA_ATTR: u32 = 0xc0f3;
const CODE_DESCRIPTOR: u64 = 0x00affb000000ffff;
const DATA_DESCRIPTOR: u64 = 0x00cff3000000ffff;

/** Page-fault error code. */
const PFEC_P: i32 = 1;
const PFEC_W: i32 = 2;
const PFEC_U: i32 = 4;
const PFEC_RSVD: i32 = 8;
const PFEC_I: i32 = 16;

// @ts-ignore: decorator
@inline
function selector(s: u32): u32 {
  return load<u32>(SEG_SEL + s * 4);
}
// @ts-ignore: decorator
@inline
function segBase(s: u32): u64 {
  return load<u64>(SEG_BASE + s * 8);
}
// @ts-ignore: decorator
@inline
function setSegBase(s: u32, base: u64): void {
  store<u64>(SEG_BASE + s * 8, base);
}
function setSegment(s: u32, sel: u32, attr: u32): void {
  store<u32>(SEG_SEL + s * 4, sel);
  store<u64>(SEG_BASE + s * 8, 0);
  store<u32>(SEG_LIMIT + s * 4, 0xffffffff);
  store<u32>(SEG_ATTR + s * 4, attr);
}
// @ts-ignore: decorator
@inline
function setFlatKernel(): void {
  if (selector(CS) != FLAT_KERNEL_CS64) setSegment(CS, FLAT_KERNEL_CS64, CODE_ATTR);
  if (selector(SS) != FLAT_KERNEL_SS64) setSegment(SS, FLAT_KERNEL_SS64, DATA_ATTR);
}

// @ts-ignore: decorator
@inline
function rflags(): u32 {
  return <u32>arithFlags() | (load<u32>(EFL) & ~ARITH) | 2;
}
// @ts-ignore: decorator
@inline
function setRflags(value: u32): void {
  store<u32>(CC_OP, 0);
  store<u64>(CC_A, <u64>(value & ARITH));
  store<u32>(EFL, (value & ~ARITH) | 2);
}
/** 64-bit code of ring 3, not single-stepped. */
// @ts-ignore: decorator
@inline
function setSpace(space: u32): void {
  const kept = load<u32>(MODE) & MODE_NO_FPU;
  store<u32>(MODE, kept | MODE_BITS_64 | (3 << MODE_CPL_SHIFT) | MODE_FLAT | MODE_SS32 | (space != 0 ? MODE_SPACE : 0));
}

// @ts-ignore: decorator
@inline
function count(at: u32): void {
  store<u32>(at, load<u32>(at) + 1);
}

/** With the upcall mask at `mask`, would an event have to be delivered now? */
// @ts-ignore: decorator
@inline
function eventDue(mask: u32): bool {
  return mask == 0 && load<u8>(load<u32>(PV_INFO) + vcpu_info_evtchn_upcall_pending) != 0;
}

/**
 * Push a bounce frame and enter the kernel: `error` < 0 = none in the frame. A system call shows flat selectors and has just put rip and rflags in
 * rcx and r11.
 */
function enterKernel(entry: u64, masks: u32, error: i32, syscall: bool): bool {
  if (entry == 0) return false;
  const user = (load<u32>(MODE) & MODE_SPACE) != 0;
  const rsp = load<u64>(RSP);
  const size: u32 = error < 0 ? 56 : 64;
  const at = ((user ? load<u64>(PV_KERNEL_SP) : rsp) & ~(<u64>15)) - size;
  if ((<u32>at & 4095) + size > 4096 || hypervisors(at)) return false;
  let ma = cached(at, 0, 1);
  if (ma == 0) return false;
  const info = load<u32>(PV_INFO);
  const saved = <u32>load<u8>(info + vcpu_info_evtchn_upcall_mask);
  if (eventDue(masks != 0 ? 1 : saved)) return false;

  const rip = load<u64>(RIP);
  const image = rflags();
  if (syscall) {
    store<u64>(RCX, rip);
    store<u64>(R11, <u64>image);
  }
  const cs = syscall ? FLAT_KERNEL_CS64 : user ? selector(CS) : selector(CS) & ~3;
  const ss = syscall ? FLAT_KERNEL_SS64 : selector(SS);
  store<u64>(ma, load<u64>(RCX));
  store<u64>(ma, load<u64>(R11), 8);
  if (error >= 0) {
    store<u64>(ma, <u64>error, 16);
    ma += 8;
  }
  store<u64>(ma, rip, 16);
  store<u64>(ma, <u64>cs | (<u64>saved << 32), 24);
  store<u64>(ma, <u64>((image & ~(IF | IOPL)) | (saved == 0 ? IF : 0)), 32);
  store<u64>(ma, rsp, 40);
  store<u64>(ma, <u64>ss, 48);
  if (masks != 0) store<u8>(info + vcpu_info_evtchn_upcall_mask, 1);

  if (user) {
    store<u64>(PV_GS_USER, segBase(GS));
    setSegBase(GS, load<u64>(PV_GS_KERNEL));
  }
  setSpace(0);
  setFlatKernel();
  setRflags((image & ~(AC | VM | RF | NT | TF | (syscall ? DF : 0))) | IF);
  store<u64>(RSP, at);
  store<u64>(RIP, entry);
  return true;
}

/** Is this the selector of a flat descriptor in the first page of the guest's GDT? */
// @ts-ignore: decorator
@inline
function names(sel: u32, descriptor: u64): bool {
  const gdt = load<u32>(PV_GDT);
  return gdt != 0 && sel < 4096 && (sel & 4) == 0 && sel > 7 && load<u64>(gdt + (sel & ~7)) == descriptor;
}

function iret(): bool {
  const sp = load<u64>(RSP);
  if ((<u32>sp & 4095) > 4096 - iret_context_size || (sp & 3) != 0 || hypervisors(sp)) return false;
  const f = cached(sp, 0, 0);
  if (f == 0) return false;
  const user = (load<u32>(f, iret_context_cs) & 3) == 3;
  const rip = load<u64>(f, iret_context_rip);
  const wanted = load<u32>(f, iret_context_rflags);
  const sysret = (load<u32>(f, iret_context_flags) & VGCF_in_syscall) != 0;
  if ((wanted & TF) != 0 || !canonical(rip) || (user ? load<u32>(PV_USER_ROOT) == 0 : sysret)) return false;
  const mask: u32 = (wanted & IF) != 0 ? 0 : 1;
  if (eventDue(mask)) return false;
  // The kernel's are the flat ones mostly, the user's those of a system call or the guest's own.
  let cs: u32 = FLAT_KERNEL_CS64;
  let ss: u32 = FLAT_KERNEL_SS64;
  if (!sysret) {
    cs = (load<u32>(f, iret_context_cs) & 0xffff) | 3;
    ss = (load<u32>(f, iret_context_ss) & 0xffff) | 3;
    if (cs != selector(CS) && !(user && names(cs, CODE_DESCRIPTOR))) return false;
    if (ss != selector(SS) && !names(ss, DATA_DESCRIPTOR)) return false;
    if (ss != selector(SS)) count(PV_SEGMENT_LOADS);
  }
  const flags = (wanted & ~(IOPL | VM)) | IF | 2;
  store<u64>(RAX, load<u64>(f, iret_context_rax));
  store<u64>(RCX, sysret ? rip : load<u64>(f, iret_context_rcx));
  store<u64>(R11, sysret ? <u64>flags : load<u64>(f, iret_context_r11));
  store<u64>(RSP, load<u64>(f, iret_context_rsp));
  store<u8>(load<u32>(PV_INFO) + vcpu_info_evtchn_upcall_mask, <u8>mask);
  if (user) {
    store<u64>(PV_GS_KERNEL, segBase(GS));
    setSegBase(GS, load<u64>(PV_GS_USER));
  }
  setSpace(user ? 1 : 0);
  setRflags(flags);
  if (cs != selector(CS)) setSegment(CS, cs, CODE_ATTR);
  if (ss != selector(SS)) setSegment(SS, ss, DATA_ATTR);
  store<u64>(RIP, rip);
  count(PV_IRETS);
  return true;
}

/** A hypercall that sets or reads a word, or changes an entry of a page table. */
function hypercall(): bool {
  const number = load<u64>(RAX);
  if (number == __HYPERVISOR_iret) return iret();
  if (eventDue(load<u8>(load<u32>(PV_INFO) + vcpu_info_evtchn_upcall_mask))) return false;
  const what = load<u32>(RDI);
  const value = load<u64>(RSI);
  let result: u64 = 0;
  if (number == __HYPERVISOR_mmu_update) {
    if (!mmuUpdate()) return false;
    count(PV_MMU_UPDATES);
  } else if (number == __HYPERVISOR_update_va_mapping) {
    if (!updateVaMapping()) return false;
    count(PV_VA_MAPPINGS);
  } else if (number == __HYPERVISOR_mmuext_op) {
    if (!mmuextOp()) return false;
    count(PV_MMUEXT_OPS);
  } else if (number == __HYPERVISOR_stack_switch) {
    store<u32>(PV_KERNEL_SS, (what & 0xffff) | 3);
    store<u64>(PV_KERNEL_SP, value);
    count(PV_STACK_SWITCHES);
  } else if (number == __HYPERVISOR_xen_version) {
    if (what != XENVER_version) return false;
    result = <u64>load<u32>(PV_VERSION);
    count(PV_VERSIONS);
  } else if (number == __HYPERVISOR_set_segment_base) {
    if (!canonical(value)) return false;
    if (what == SEGBASE_FS) setSegBase(FS, value);
    else if (what == SEGBASE_GS_USER) store<u64>(PV_GS_USER, value);
    else if (what == SEGBASE_GS_KERNEL) setSegBase(GS, value);
    else return false;
    count(PV_SEGMENT_BASES);
  } else return false;
  store<u64>(RAX, result);
  store<u64>(RCX, load<u64>(RIP));
  store<u64>(R11, <u64>(rflags() | IF));
  setFlatKernel();
  return true;
}

function pageFault(kernel: bool): bool {
  const error = load<i32>(EXIT_ERROR);
  if ((error & PFEC_RSVD) != 0) return false;
  // It may be one of its page tables that the kernel writes to.
  if (kernel && (error & (PFEC_W | PFEC_P | PFEC_I)) == (PFEC_W | PFEC_P)) {
    if (eventDue(load<u8>(load<u32>(PV_INFO) + vcpu_info_evtchn_upcall_mask)) || !tableWrite()) return false;
    count(PV_TABLE_WRITES);
    return true;
  }
  if (!enterKernel(load<u64>(PV_FAULT), load<u32>(PV_FAULT_MASKS), kernel ? error & ~PFEC_U : error | PFEC_U, false)) return false;
  const cr2 = load<u64>(EXIT_CR2);
  store<u64>(PV_CR2, cr2);
  store<u64>(load<u32>(PV_INFO) + vcpu_info_arch_cr2, cr2);
  count(PV_FAULTS);
  return true;
}

/** What the host keeps behind a port of a domain that has none: the index of CMOS, and PCI's configuration address, which is four bytes wide. */
const CMOS_INDEX: u32 = 0x70;
const PCI_ADDRESS: u32 = 0xcf8;

/** #GP of an `in` or `out` of one byte, word or long, with the privilege for all ports: nothing answers, and nothing listens. */
function portAccess(user: bool): bool {
  // The kernel counts as ring 1 (io-ports.ts); bitmaps of ports are the reference's.
  if (load<i32>(EXIT_ERROR) != 0 || load<u32>(PV_IOPL) < (user ? <u32>3 : 1) || (load<u32>(EFL) & RF) != 0) return false;
  if (eventDue(load<u8>(load<u32>(PV_INFO) + vcpu_info_evtchn_upcall_mask))) return false;
  const rip = load<u64>(RIP);
  if ((<u32>rip & 4095) > 4096 - 15) return false;
  const code = walk(rip, 2, user ? 1 : 0, true, true);
  if (code == 0) return false;
  let p = code;
  const word = load<u8>(p) == 0x66;
  if (word) p++;
  // e4–e7: the port is an immediate, ec–ef: in dx. Bit 0: more than a byte, bit 1: `out`.
  const opcode = <u32>load<u8>(p++);
  if ((opcode & 0xf4) != 0xe4) return false;
  const port: u32 = (opcode & 8) != 0 ? load<u16>(RDX) : load<u8>(p++);
  const size: u32 = (opcode & 1) == 0 ? 1 : word ? 2 : 4;
  if ((port == PCI_ADDRESS && size == 4) || (port <= CMOS_INDEX && port + size > CMOS_INDEX)) return false;
  if ((opcode & 2) == 0) {
    if (size == 1) store<u8>(RAX, 0xff);
    else if (size == 2) store<u16>(RAX, 0xffff);
    else store<u64>(RAX, 0xffffffff);
  }
  store<u64>(RIP, rip + <u64>(p - code));
  count(PV_PORTS);
  return true;
}

/** What `iretq` of ring 3 loads of the flags; of those, IF only with IOPL 3. */
const IRET_FLAGS: u32 = 0x254fd7;
const IRETQ: u16 = 0xcf48;

/** `iretq` within ring 3, with the selectors that are there already: an instruction like others. */
function iretq(user: bool): bool {
  const rip = load<u64>(RIP);
  const sp = load<u64>(RSP);
  if ((<u32>rip & 4095) > 4096 - 15 || (<u32>sp & 4095) > 4096 - 40) return false;
  const space: u32 = user ? 1 : 0;
  const code = walk(rip, 2, space, true, true);
  if (code == 0 || load<u16>(code) != IRETQ) return false;
  let f = cached(sp, space, 0);
  if (f == 0) f = cached(sp, space, 1);
  if (f == 0) return false;
  const to = load<u64>(f);
  const cs = <u32>load<u16>(f, 8);
  const image = load<u32>(f, 16);
  if ((cs & 3) != 3 || cs != selector(CS) || <u32>load<u16>(f, 32) != selector(SS) || (image & TF) != 0 || !canonical(to)) return false;
  const old = load<u32>(EFL);
  const loaded = (old & IOPL) == IOPL ? IRET_FLAGS | IF : IRET_FLAGS & ~IF;
  setRflags((image & loaded) | (old & ~loaded));
  store<u64>(RSP, load<u64>(f, 24));
  store<u64>(RIP, to);
  store<i32>(BUDGET, load<i32>(BUDGET) - 1);
  return true;
}

/** After an exit of 64-bit code: true if that was all there was to do, and the guest goes on. */
export function pvTransition(): bool {
  const reason = load<u32>(EXIT_REASON);
  if (reason != SYSCALL_EXIT && reason != EXCEPTION_EXIT && reason != SYSTEM_EXIT) return false;
  if ((load<u32>(EFL) & TF) != 0 || (load<u32>(SEG_ATTR + CS * 4) & LONG) == 0) return false;
  const kernel = (load<u32>(MODE) & MODE_SPACE) == 0;
  if (reason == SYSTEM_EXIT) return iretq(!kernel);
  if (reason == EXCEPTION_EXIT) {
    const vector = load<i32>(EXIT_VECTOR);
    if (vector == PAGE_FAULT) {
      if (!pageFault(kernel)) return false;
    } else if (vector != GENERAL_PROTECTION || !portAccess(!kernel)) return false;
  } else if (kernel) {
    if (!hypercall()) return false;
  } else {
    if (!enterKernel(load<u64>(PV_SYSCALL), load<u32>(PV_SYSCALL_MASKS), -1, true)) return false;
    count(PV_SYSCALLS);
  }
  store<i32>(BUDGET, load<i32>(BUDGET) - PV_COST);
  store<u32>(PV_CHARGED, load<u32>(PV_CHARGED) + PV_COST);
  return true;
}
