// The heart of the public interface: hypercall numbers, VIRQs, MMU operations, shared info, start info.
// Source: <xen/xen.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const __HYPERVISOR_set_trap_table = 0;
export const __HYPERVISOR_mmu_update = 1;
export const __HYPERVISOR_set_gdt = 2;
export const __HYPERVISOR_stack_switch = 3;
export const __HYPERVISOR_set_callbacks = 4;
export const __HYPERVISOR_fpu_taskswitch = 5;
export const __HYPERVISOR_sched_op_compat = 6;
export const __HYPERVISOR_platform_op = 7;
export const __HYPERVISOR_set_debugreg = 8;
export const __HYPERVISOR_get_debugreg = 9;
export const __HYPERVISOR_update_descriptor = 10;
export const __HYPERVISOR_memory_op = 12;
export const __HYPERVISOR_multicall = 13;
export const __HYPERVISOR_update_va_mapping = 14;
export const __HYPERVISOR_set_timer_op = 15;
export const __HYPERVISOR_event_channel_op_compat = 16;
export const __HYPERVISOR_xen_version = 17;
export const __HYPERVISOR_console_io = 18;
export const __HYPERVISOR_physdev_op_compat = 19;
export const __HYPERVISOR_grant_table_op = 20;
export const __HYPERVISOR_vm_assist = 21;
export const __HYPERVISOR_update_va_mapping_otherdomain = 22;
export const __HYPERVISOR_iret = 23;
export const __HYPERVISOR_vcpu_op = 24;
export const __HYPERVISOR_set_segment_base = 25;
export const __HYPERVISOR_mmuext_op = 26;
export const __HYPERVISOR_xsm_op = 27;
export const __HYPERVISOR_nmi_op = 28;
export const __HYPERVISOR_sched_op = 29;
export const __HYPERVISOR_callback_op = 30;
export const __HYPERVISOR_xenoprof_op = 31;
export const __HYPERVISOR_event_channel_op = 32;
export const __HYPERVISOR_physdev_op = 33;
export const __HYPERVISOR_hvm_op = 34;
export const __HYPERVISOR_sysctl = 35;
export const __HYPERVISOR_domctl = 36;
export const __HYPERVISOR_kexec_op = 37;
export const __HYPERVISOR_tmem_op = 38;
export const __HYPERVISOR_argo_op = 39;
export const __HYPERVISOR_xenpmu_op = 40;
export const __HYPERVISOR_dm_op = 41;
export const __HYPERVISOR_hypfs_op = 42;
export const __HYPERVISOR_arch_0 = 48;
export const __HYPERVISOR_arch_1 = 49;
export const __HYPERVISOR_arch_2 = 50;
export const __HYPERVISOR_arch_3 = 51;
export const __HYPERVISOR_arch_4 = 52;
export const __HYPERVISOR_arch_5 = 53;
export const __HYPERVISOR_arch_6 = 54;
export const __HYPERVISOR_arch_7 = 55;

export const VIRQ_TIMER = 0;
export const VIRQ_DEBUG = 1;
export const VIRQ_CONSOLE = 2;
export const VIRQ_DOM_EXC = 3;
export const VIRQ_TBUF = 4;
export const VIRQ_DEBUGGER = 6;
export const VIRQ_XENOPROF = 7;
export const VIRQ_CON_RING = 8;
export const VIRQ_PCPU_STATE = 9;
export const VIRQ_MEM_EVENT = 10;
export const VIRQ_ARGO = 11;
export const VIRQ_ENOMEM = 12;
export const VIRQ_XENPMU = 13;
export const VIRQ_ARCH_0 = 16;
export const VIRQ_ARCH_1 = 17;
export const VIRQ_ARCH_2 = 18;
export const VIRQ_ARCH_3 = 19;
export const VIRQ_ARCH_4 = 20;
export const VIRQ_ARCH_5 = 21;
export const VIRQ_ARCH_6 = 22;
export const VIRQ_ARCH_7 = 23;

export const NR_VIRQS = 24;

export const MMU_NORMAL_PT_UPDATE = 0;
export const MMU_MACHPHYS_UPDATE = 1;
export const MMU_PT_UPDATE_PRESERVE_AD = 2;
export const MMU_PT_UPDATE_NO_TRANSLATE = 3;

export const MMUEXT_PIN_L1_TABLE = 0;
export const MMUEXT_PIN_L2_TABLE = 1;
export const MMUEXT_PIN_L3_TABLE = 2;
export const MMUEXT_PIN_L4_TABLE = 3;
export const MMUEXT_UNPIN_TABLE = 4;
export const MMUEXT_NEW_BASEPTR = 5;
export const MMUEXT_TLB_FLUSH_LOCAL = 6;
export const MMUEXT_INVLPG_LOCAL = 7;
export const MMUEXT_TLB_FLUSH_MULTI = 8;
export const MMUEXT_INVLPG_MULTI = 9;
export const MMUEXT_TLB_FLUSH_ALL = 10;
export const MMUEXT_INVLPG_ALL = 11;
export const MMUEXT_FLUSH_CACHE = 12;
export const MMUEXT_SET_LDT = 13;
export const MMUEXT_NEW_USER_BASEPTR = 15;
export const MMUEXT_CLEAR_PAGE = 16;
export const MMUEXT_COPY_PAGE = 17;
export const MMUEXT_FLUSH_CACHE_GLOBAL = 18;
export const MMUEXT_MARK_SUPER = 19;
export const MMUEXT_UNMARK_SUPER = 20;

export const UVMF_NONE = 0;
export const UVMF_TLB_FLUSH = 1;
export const UVMF_INVLPG = 2;
export const UVMF_FLUSHTYPE_MASK = 3;
export const UVMF_MULTI = 0;
export const UVMF_LOCAL = 0;
export const UVMF_ALL = 4;

export const CONSOLEIO_write = 0;
export const CONSOLEIO_read = 1;

export const VMASST_CMD_enable = 0;
export const VMASST_CMD_disable = 1;
export const VMASST_TYPE_4gb_segments = 0;
export const VMASST_TYPE_4gb_segments_notify = 1;
export const VMASST_TYPE_writable_pagetables = 2;
export const VMASST_TYPE_pae_extended_cr3 = 3;
export const VMASST_TYPE_architectural_iopl = 4;
export const VMASST_TYPE_runstate_update_flag = 5;
export const VMASST_TYPE_m2p_strict = 32;

export const DOMID_FIRST_RESERVED = 0x7ff0;
export const DOMID_SELF = 0x7ff0;
export const DOMID_IO = 0x7ff1;
export const DOMID_XEN = 0x7ff2;
export const DOMID_COW = 0x7ff3;
export const DOMID_INVALID = 0x7ff4;
export const DOMID_IDLE = 0x7fff;
export const DOMID_MASK = 0x7fff;

export const XEN_PVCLOCK_TSC_STABLE_BIT = 1;
export const XEN_PVCLOCK_GUEST_STOPPED = 2;

export const MAX_GUEST_CMDLINE = 1024;

export const SIF_PRIVILEGED = 1;
export const SIF_INITDOMAIN = 2;
export const SIF_MULTIBOOT_MOD = 4;
export const SIF_MOD_START_PFN = 8;
export const SIF_VIRT_P2M_4TOOLS = 0x10;
export const SIF_PM_MASK = 0xff00;

export const XEN_VGATYPE_TEXT_MODE_3 = 3;
export const XEN_VGATYPE_VESA_LFB = 0x23;
export const XEN_VGATYPE_EFI_LFB = 0x70;

/** struct mmuext_op */
export const mmuext_op = {
  size: 24,
  cmd: 0, // unsigned int
  arg1: 8, // union
  arg1_mfn: 8, // .arg1.mfn: xen_pfn_t
  arg1_linear_addr: 8, // .arg1.linear_addr: unsigned long
  arg2: 16, // union
  arg2_nr_ents: 16, // .arg2.nr_ents: unsigned int
  arg2_vcpumask: 16, // .arg2.vcpumask: guest handle of const_void
  arg2_src_mfn: 16, // .arg2.src_mfn: xen_pfn_t
} as const;

/** struct mmu_update */
export const mmu_update = {
  size: 16,
  ptr: 0, // uint64_t
  val: 8, // uint64_t
} as const;

/** struct multicall_entry */
export const multicall_entry = {
  size: 64,
  op: 0, // xen_ulong_t
  result: 8, // xen_ulong_t
  args: 16, // xen_ulong_t[6]
} as const;

/** struct vcpu_time_info */
export const vcpu_time_info = {
  size: 32,
  version: 0, // uint32_t
  pad0: 4, // uint32_t
  tsc_timestamp: 8, // uint64_t
  system_time: 16, // uint64_t
  tsc_to_system_mul: 24, // uint32_t
  tsc_shift: 28, // int8_t
  flags: 29, // uint8_t
  pad1: 30, // uint8_t[2]
} as const;

/** struct vcpu_info */
export const vcpu_info = {
  size: 64,
  evtchn_upcall_pending: 0, // uint8_t
  evtchn_upcall_mask: 1, // uint8_t
  evtchn_pending_sel: 8, // xen_ulong_t
  arch: 16, // struct arch_vcpu_info
  arch_cr2: 16, // .arch.cr2: unsigned long
  arch_pad: 24, // .arch.pad: unsigned long
  time: 32, // vcpu_time_info_t
  time_version: 32, // .time.version: uint32_t
  time_pad0: 36, // .time.pad0: uint32_t
  time_tsc_timestamp: 40, // .time.tsc_timestamp: uint64_t
  time_system_time: 48, // .time.system_time: uint64_t
  time_tsc_to_system_mul: 56, // .time.tsc_to_system_mul: uint32_t
  time_tsc_shift: 60, // .time.tsc_shift: int8_t
  time_flags: 61, // .time.flags: uint8_t
  time_pad1: 62, // .time.pad1: uint8_t[2]
} as const;

/** struct shared_info */
export const shared_info = {
  size: 3136,
  vcpu_info: 0, // struct vcpu_info[32]
  evtchn_pending: 2048, // xen_ulong_t[64]
  evtchn_mask: 2560, // xen_ulong_t[64]
  wc_version: 3072, // uint32_t
  wc_sec: 3076, // uint32_t
  wc_nsec: 3080, // uint32_t
  wc_sec_hi: 3084, // uint32_t
  arch: 3088, // struct arch_shared_info
  arch_max_pfn: 3088, // .arch.max_pfn: unsigned long
  arch_pfn_to_mfn_frame_list_list: 3096, // .arch.pfn_to_mfn_frame_list_list: xen_pfn_t
  arch_nmi_reason: 3104, // .arch.nmi_reason: unsigned long
  arch_p2m_cr3: 3112, // .arch.p2m_cr3: unsigned long
  arch_p2m_vaddr: 3120, // .arch.p2m_vaddr: unsigned long
  arch_p2m_generation: 3128, // .arch.p2m_generation: unsigned long
} as const;

/** struct start_info */
export const start_info = {
  size: 1168,
  magic: 0, // char[32]
  nr_pages: 32, // unsigned long
  shared_info: 40, // unsigned long
  flags: 48, // uint32_t
  store_mfn: 56, // xen_pfn_t
  store_evtchn: 64, // uint32_t
  console: 72, // union
  console_domU: 72, // .console.domU: struct
  console_domU_mfn: 72, // .console.domU.mfn: xen_pfn_t
  console_domU_evtchn: 80, // .console.domU.evtchn: uint32_t
  console_dom0: 72, // .console.dom0: struct
  console_dom0_info_off: 72, // .console.dom0.info_off: uint32_t
  console_dom0_info_size: 76, // .console.dom0.info_size: uint32_t
  pt_base: 88, // unsigned long
  nr_pt_frames: 96, // unsigned long
  mfn_list: 104, // unsigned long
  mod_start: 112, // unsigned long
  mod_len: 120, // unsigned long
  cmd_line: 128, // int8_t[1024]
  first_p2m_pfn: 1152, // unsigned long
  nr_p2m_frames: 1160, // unsigned long
} as const;

/** struct xen_multiboot_mod_list */
export const xen_multiboot_mod_list = {
  size: 16,
  mod_start: 0, // uint32_t
  mod_end: 4, // uint32_t
  cmdline: 8, // uint32_t
  pad: 12, // uint32_t
} as const;

/** struct dom0_vga_console_info */
export const dom0_vga_console_info = {
  size: 40,
  video_type: 0, // uint8_t
  u: 4, // union
  u_text_mode_3: 4, // .u.text_mode_3: struct
  u_text_mode_3_font_height: 4, // .u.text_mode_3.font_height: uint16_t
  u_text_mode_3_cursor_x: 6, // .u.text_mode_3.cursor_x: uint16_t
  u_text_mode_3_cursor_y: 8, // .u.text_mode_3.cursor_y: uint16_t
  u_text_mode_3_rows: 10, // .u.text_mode_3.rows: uint16_t
  u_text_mode_3_columns: 12, // .u.text_mode_3.columns: uint16_t
  u_vesa_lfb: 4, // .u.vesa_lfb: struct
  u_vesa_lfb_width: 4, // .u.vesa_lfb.width: uint16_t
  u_vesa_lfb_height: 6, // .u.vesa_lfb.height: uint16_t
  u_vesa_lfb_bytes_per_line: 8, // .u.vesa_lfb.bytes_per_line: uint16_t
  u_vesa_lfb_bits_per_pixel: 10, // .u.vesa_lfb.bits_per_pixel: uint16_t
  u_vesa_lfb_lfb_base: 12, // .u.vesa_lfb.lfb_base: uint32_t
  u_vesa_lfb_lfb_size: 16, // .u.vesa_lfb.lfb_size: uint32_t
  u_vesa_lfb_red_pos: 20, // .u.vesa_lfb.red_pos: uint8_t
  u_vesa_lfb_red_size: 21, // .u.vesa_lfb.red_size: uint8_t
  u_vesa_lfb_green_pos: 22, // .u.vesa_lfb.green_pos: uint8_t
  u_vesa_lfb_green_size: 23, // .u.vesa_lfb.green_size: uint8_t
  u_vesa_lfb_blue_pos: 24, // .u.vesa_lfb.blue_pos: uint8_t
  u_vesa_lfb_blue_size: 25, // .u.vesa_lfb.blue_size: uint8_t
  u_vesa_lfb_rsvd_pos: 26, // .u.vesa_lfb.rsvd_pos: uint8_t
  u_vesa_lfb_rsvd_size: 27, // .u.vesa_lfb.rsvd_size: uint8_t
  u_vesa_lfb_gbl_caps: 28, // .u.vesa_lfb.gbl_caps: uint32_t
  u_vesa_lfb_mode_attrs: 32, // .u.vesa_lfb.mode_attrs: uint16_t
  u_vesa_lfb_pad: 34, // .u.vesa_lfb.pad: uint16_t
  u_vesa_lfb_ext_lfb_base: 36, // .u.vesa_lfb.ext_lfb_base: uint32_t
} as const;

/** xen_uuid_t */
export const xen_uuid = {
  size: 16,
  a: 0, // uint8_t[16]
} as const;

/** struct xenctl_bitmap */
export const xenctl_bitmap = {
  size: 16,
  bitmap: 0, // guest handle of uint8
  nr_bits: 8, // uint32_t
} as const;
