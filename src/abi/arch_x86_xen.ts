// x86-64 part of the interface: selectors, address map, trap table, vCPU context, arch parts of shared info.
// Source: <xen/arch-x86/xen.h>, <xen/arch-x86/xen-x86_64.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const XEN_HAVE_PV_GUEST_ENTRY = 1;
export const XEN_HAVE_PV_UPCALL_MASK = 1;

export const FIRST_RESERVED_GDT_PAGE = 14;
export const FIRST_RESERVED_GDT_BYTE = 0xe000;
export const FIRST_RESERVED_GDT_ENTRY = 0x1c00;

export const XEN_LEGACY_MAX_VCPUS = 32;

export const VGCF_I387_VALID = 1;
export const VGCF_IN_KERNEL = 4;
export const _VGCF_i387_valid = 0;
export const VGCF_i387_valid = 1;
export const _VGCF_in_kernel = 2;
export const VGCF_in_kernel = 4;
export const _VGCF_failsafe_disables_events = 3;
export const VGCF_failsafe_disables_events = 8;
export const _VGCF_syscall_disables_events = 4;
export const VGCF_syscall_disables_events = 0x10;
export const _VGCF_online = 5;
export const VGCF_online = 0x20;

export const _XEN_X86_EMU_LAPIC = 0;
export const XEN_X86_EMU_LAPIC = 1;
export const _XEN_X86_EMU_HPET = 1;
export const XEN_X86_EMU_HPET = 2;
export const _XEN_X86_EMU_PM = 2;
export const XEN_X86_EMU_PM = 4;
export const _XEN_X86_EMU_RTC = 3;
export const XEN_X86_EMU_RTC = 8;
export const _XEN_X86_EMU_IOAPIC = 4;
export const XEN_X86_EMU_IOAPIC = 0x10;
export const _XEN_X86_EMU_PIC = 5;
export const XEN_X86_EMU_PIC = 0x20;
export const _XEN_X86_EMU_VGA = 6;
export const XEN_X86_EMU_VGA = 0x40;
export const _XEN_X86_EMU_IOMMU = 7;
export const XEN_X86_EMU_IOMMU = 0x80;
export const _XEN_X86_EMU_PIT = 8;
export const XEN_X86_EMU_PIT = 0x100;
export const _XEN_X86_EMU_USE_PIRQ = 9;
export const XEN_X86_EMU_USE_PIRQ = 0x200;
export const _XEN_X86_EMU_VPCI = 10;
export const XEN_X86_EMU_VPCI = 0x400;
export const XEN_X86_EMU_ALL = 0x7ff;
export const XEN_X86_MSR_RELAXED = 1;
export const XEN_X86_MISC_FLAGS_MAX = 1;
export const XEN_CPUID_NO_SUBLEAF = 0xffffffff;
export const XEN_HVM_DEBUGCONS_IOPORT = 0xe9;

export const FLAT_RING3_CS32 = 0xe023;
export const FLAT_RING3_CS64 = 0xe033;
export const FLAT_RING3_DS32 = 0xe02b;
export const FLAT_RING3_DS64 = 0;
export const FLAT_RING3_SS32 = 0xe02b;
export const FLAT_RING3_SS64 = 0xe02b;
export const FLAT_KERNEL_DS64 = 0;
export const FLAT_KERNEL_DS32 = 0xe02b;
export const FLAT_KERNEL_DS = 0;
export const FLAT_KERNEL_CS64 = 0xe033;
export const FLAT_KERNEL_CS32 = 0xe023;
export const FLAT_KERNEL_CS = 0xe033;
export const FLAT_KERNEL_SS64 = 0xe02b;
export const FLAT_KERNEL_SS32 = 0xe02b;
export const FLAT_KERNEL_SS = 0xe02b;
export const FLAT_USER_DS64 = 0;
export const FLAT_USER_DS32 = 0xe02b;
export const FLAT_USER_DS = 0;
export const FLAT_USER_CS64 = 0xe033;
export const FLAT_USER_CS32 = 0xe023;
export const FLAT_USER_CS = 0xe033;
export const FLAT_USER_SS64 = 0xe02b;
export const FLAT_USER_SS32 = 0xe02b;
export const FLAT_USER_SS = 0xe02b;

export const __HYPERVISOR_VIRT_START = -0x800000000000; // 0xffff800000000000, sign-extended
export const __HYPERVISOR_VIRT_END = -0x780000000000; // 0xffff880000000000, sign-extended
export const __MACH2PHYS_VIRT_START = -0x800000000000; // 0xffff800000000000, sign-extended
export const __MACH2PHYS_VIRT_END = -0x7fc000000000; // 0xffff804000000000, sign-extended

export const HYPERVISOR_VIRT_START = -0x800000000000; // 0xffff800000000000, sign-extended
export const HYPERVISOR_VIRT_END = -0x780000000000; // 0xffff880000000000, sign-extended

export const MACH2PHYS_VIRT_START = -0x800000000000; // 0xffff800000000000, sign-extended
export const MACH2PHYS_VIRT_END = -0x7fc000000000; // 0xffff804000000000, sign-extended
export const MACH2PHYS_NR_ENTRIES = 0x800000000;

export const SEGBASE_FS = 0;
export const SEGBASE_GS_USER = 1;
export const SEGBASE_GS_KERNEL = 2;
export const SEGBASE_GS_USER_SEL = 3;

export const _VGCF_in_syscall = 8;
export const VGCF_in_syscall = 0x100;
export const VGCF_IN_SYSCALL = 0x100;

/** struct trap_info */
export const trap_info = {
  size: 16,
  vector: 0, // uint8_t
  flags: 1, // uint8_t
  cs: 2, // uint16_t
  address: 8, // unsigned long
} as const;

/** struct vcpu_guest_context */
export const vcpu_guest_context = {
  size: 5168,
  fpu_ctxt: 0, // struct
  fpu_ctxt_x: 0, // .fpu_ctxt.x: char[512]
  flags: 512, // unsigned long
  user_regs: 520, // struct cpu_user_regs
  user_regs_r15: 520, // .user_regs.r15: uint64_t
  user_regs_r14: 528, // .user_regs.r14: uint64_t
  user_regs_r13: 536, // .user_regs.r13: uint64_t
  user_regs_r12: 544, // .user_regs.r12: uint64_t
  user_regs_rbp: 552, // .user_regs.rbp: uint64_t
  user_regs_rbx: 560, // .user_regs.rbx: uint64_t
  user_regs_r11: 568, // .user_regs.r11: uint64_t
  user_regs_r10: 576, // .user_regs.r10: uint64_t
  user_regs_r9: 584, // .user_regs.r9: uint64_t
  user_regs_r8: 592, // .user_regs.r8: uint64_t
  user_regs_rax: 600, // .user_regs.rax: uint64_t
  user_regs_rcx: 608, // .user_regs.rcx: uint64_t
  user_regs_rdx: 616, // .user_regs.rdx: uint64_t
  user_regs_rsi: 624, // .user_regs.rsi: uint64_t
  user_regs_rdi: 632, // .user_regs.rdi: uint64_t
  user_regs_error_code: 640, // .user_regs.error_code: uint32_t
  user_regs_entry_vector: 644, // .user_regs.entry_vector: uint32_t
  user_regs_rip: 648, // .user_regs.rip: uint64_t
  user_regs_cs: 656, // .user_regs.cs: uint16_t
  user_regs__pad0: 658, // .user_regs._pad0: uint16_t[1]
  user_regs_saved_upcall_mask: 660, // .user_regs.saved_upcall_mask: uint8_t
  user_regs__pad1: 661, // .user_regs._pad1: uint8_t[3]
  user_regs_rflags: 664, // .user_regs.rflags: uint64_t
  user_regs_rsp: 672, // .user_regs.rsp: uint64_t
  user_regs_ss: 680, // .user_regs.ss: uint16_t
  user_regs__pad2: 682, // .user_regs._pad2: uint16_t[3]
  user_regs_es: 688, // .user_regs.es: uint16_t
  user_regs__pad3: 690, // .user_regs._pad3: uint16_t[3]
  user_regs_ds: 696, // .user_regs.ds: uint16_t
  user_regs__pad4: 698, // .user_regs._pad4: uint16_t[3]
  user_regs_fs: 704, // .user_regs.fs: uint16_t
  user_regs__pad5: 706, // .user_regs._pad5: uint16_t[3]
  user_regs_gs: 712, // .user_regs.gs: uint16_t
  user_regs__pad6: 714, // .user_regs._pad6: uint16_t[3]
  trap_ctxt: 720, // struct trap_info[256]
  ldt_base: 4816, // unsigned long
  ldt_ents: 4824, // unsigned long
  gdt_frames: 4832, // unsigned long[16]
  gdt_ents: 4960, // unsigned long
  kernel_ss: 4968, // unsigned long
  kernel_sp: 4976, // unsigned long
  ctrlreg: 4984, // unsigned long[8]
  debugreg: 5048, // unsigned long[8]
  event_callback_eip: 5112, // unsigned long
  failsafe_callback_eip: 5120, // unsigned long
  syscall_callback_eip: 5128, // unsigned long
  vm_assist: 5136, // unsigned long
  fs_base: 5144, // uint64_t
  gs_base_kernel: 5152, // uint64_t
  gs_base_user: 5160, // uint64_t
} as const;

/** struct arch_shared_info */
export const arch_shared_info = {
  size: 48,
  max_pfn: 0, // unsigned long
  pfn_to_mfn_frame_list_list: 8, // xen_pfn_t
  nmi_reason: 16, // unsigned long
  p2m_cr3: 24, // unsigned long
  p2m_vaddr: 32, // unsigned long
  p2m_generation: 40, // unsigned long
} as const;

/** struct xen_arch_domainconfig */
export const xen_arch_domainconfig = {
  size: 8,
  emulation_flags: 0, // uint32_t
  misc_flags: 4, // uint32_t
} as const;

/** struct xen_cpuid_leaf */
export const xen_cpuid_leaf = {
  size: 24,
  leaf: 0, // uint32_t
  subleaf: 4, // uint32_t
  a: 8, // uint32_t
  b: 12, // uint32_t
  c: 16, // uint32_t
  d: 20, // uint32_t
} as const;

/** struct xen_msr_entry */
export const xen_msr_entry = {
  size: 16,
  idx: 0, // uint32_t
  flags: 4, // uint32_t
  val: 8, // uint64_t
} as const;

/** struct iret_context */
export const iret_context = {
  size: 72,
  rax: 0, // uint64_t
  r11: 8, // uint64_t
  rcx: 16, // uint64_t
  flags: 24, // uint64_t
  rip: 32, // uint64_t
  cs: 40, // uint64_t
  rflags: 48, // uint64_t
  rsp: 56, // uint64_t
  ss: 64, // uint64_t
} as const;

/** struct cpu_user_regs */
export const cpu_user_regs = {
  size: 200,
  r15: 0, // uint64_t
  r14: 8, // uint64_t
  r13: 16, // uint64_t
  r12: 24, // uint64_t
  rbp: 32, // uint64_t
  rbx: 40, // uint64_t
  r11: 48, // uint64_t
  r10: 56, // uint64_t
  r9: 64, // uint64_t
  r8: 72, // uint64_t
  rax: 80, // uint64_t
  rcx: 88, // uint64_t
  rdx: 96, // uint64_t
  rsi: 104, // uint64_t
  rdi: 112, // uint64_t
  error_code: 120, // uint32_t
  entry_vector: 124, // uint32_t
  rip: 128, // uint64_t
  cs: 136, // uint16_t
  _pad0: 138, // uint16_t[1]
  saved_upcall_mask: 140, // uint8_t
  _pad1: 141, // uint8_t[3]
  rflags: 144, // uint64_t
  rsp: 152, // uint64_t
  ss: 160, // uint16_t
  _pad2: 162, // uint16_t[3]
  es: 168, // uint16_t
  _pad3: 170, // uint16_t[3]
  ds: 176, // uint16_t
  _pad4: 178, // uint16_t[3]
  fs: 184, // uint16_t
  _pad5: 186, // uint16_t[3]
  gs: 192, // uint16_t
  _pad6: 194, // uint16_t[3]
} as const;

/** struct arch_vcpu_info */
export const arch_vcpu_info = {
  size: 16,
  cr2: 0, // unsigned long
  pad: 8, // unsigned long
} as const;

/** struct trap_info.flags: the lowest privilege that may raise the vector by software. */
export const TI_GET_DPL = (flags: number): number => flags & 3;
/** struct trap_info.flags: whether delivery masks event upcalls. */
export const TI_GET_IF = (flags: number): boolean => (flags & 4) !== 0;

/** XEN_EMULATE_PREFIX: `ud2; .ascii "xen"`, to be followed by the instruction that Xen is asked to emulate. */
export const XEN_EMULATE_PREFIX_BYTES: readonly number[] = [0x0f, 0x0b, 0x78, 0x65, 0x6e];
