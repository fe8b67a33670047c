// HVM operations.
// Source: <xen/hvm/hvm_op.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const HVMOP_set_param = 0;
export const HVMOP_get_param = 1;
export const HVMOP_flush_tlbs = 5;

export const HVMMEM_ram_rw = 0;
export const HVMMEM_ram_ro = 1;
export const HVMMEM_mmio_dm = 2;
export const HVMMEM_unused = 3;
export const HVMMEM_ioreq_server = 4;

export const HVMOP_pagetable_dying = 9;
export const HVMOP_get_time = 10;
export const HVMOP_xentrace = 11;
export const HVMOP_set_mem_access = 12;
export const HVMOP_get_mem_access = 13;
export const HVMOP_get_mem_type = 15;

export const HVM_IOREQSRV_BUFIOREQ_OFF = 0;
export const HVM_IOREQSRV_BUFIOREQ_LEGACY = 1;
export const HVM_IOREQSRV_BUFIOREQ_ATOMIC = 2;

export const HVMOP_set_evtchn_upcall_vector = 23;
export const HVMOP_guest_request_vm_event = 24;
export const HVMOP_altp2m = 25;
export const HVMOP_ALTP2M_INTERFACE_VERSION = 1;
export const HVMOP_altp2m_get_domain_state = 1;
export const HVMOP_altp2m_set_domain_state = 2;
export const HVMOP_altp2m_vcpu_enable_notify = 3;
export const HVMOP_altp2m_create_p2m = 4;
export const HVMOP_altp2m_destroy_p2m = 5;
export const HVMOP_altp2m_switch_p2m = 6;
export const HVMOP_altp2m_set_mem_access = 7;
export const HVMOP_altp2m_change_gfn = 8;
export const HVMOP_altp2m_set_mem_access_multi = 9;
export const HVMOP_altp2m_set_suppress_ve = 10;
export const HVMOP_altp2m_get_suppress_ve = 11;
export const HVMOP_altp2m_get_mem_access = 12;
export const HVMOP_altp2m_vcpu_disable_notify = 13;
export const HVMOP_altp2m_get_p2m_idx = 14;
export const HVMOP_altp2m_set_suppress_ve_multi = 15;
export const HVMOP_altp2m_set_visibility = 16;

/** struct xen_hvm_param */
export const xen_hvm_param = {
  size: 16,
  domid: 0, // domid_t
  pad: 2, // uint16_t
  index: 4, // uint32_t
  value: 8, // uint64_t
} as const;

/** struct xen_hvm_altp2m_suppress_ve */
export const xen_hvm_altp2m_suppress_ve = {
  size: 16,
  view: 0, // uint16_t
  suppress_ve: 2, // uint8_t
  pad1: 3, // uint8_t
  pad2: 4, // uint32_t
  gfn: 8, // uint64_t
} as const;

/** struct xen_hvm_altp2m_suppress_ve_multi */
export const xen_hvm_altp2m_suppress_ve_multi = {
  size: 32,
  view: 0, // uint16_t
  suppress_ve: 2, // uint8_t
  pad1: 3, // uint8_t
  first_error: 4, // int32_t
  first_gfn: 8, // uint64_t
  last_gfn: 16, // uint64_t
  first_error_gfn: 24, // uint64_t
} as const;

/** struct xen_hvm_pagetable_dying */
export const xen_hvm_pagetable_dying = {
  size: 16,
  domid: 0, // domid_t
  pad: 2, // uint16_t[3]
  gpa: 8, // uint64_t
} as const;

/** struct xen_hvm_get_time */
export const xen_hvm_get_time = {
  size: 8,
  now: 0, // uint64_t
} as const;

/** struct xen_hvm_xentrace */
export const xen_hvm_xentrace = {
  size: 32,
  event: 0, // uint16_t
  extra_bytes: 2, // uint16_t
  extra: 4, // uint8_t[28]
} as const;

/** struct xen_hvm_get_mem_type */
export const xen_hvm_get_mem_type = {
  size: 16,
  domid: 0, // domid_t
  mem_type: 2, // uint16_t
  pad: 4, // uint16_t[2]
  pfn: 8, // uint64_t
} as const;

/** struct xen_hvm_evtchn_upcall_vector */
export const xen_hvm_evtchn_upcall_vector = {
  size: 8,
  vcpu: 0, // uint32_t
  vector: 4, // uint8_t
} as const;

/** struct xen_hvm_altp2m_domain_state */
export const xen_hvm_altp2m_domain_state = {
  size: 1,
  state: 0, // uint8_t
} as const;

/** struct xen_hvm_altp2m_vcpu_enable_notify */
export const xen_hvm_altp2m_vcpu_enable_notify = {
  size: 16,
  vcpu_id: 0, // uint32_t
  pad: 4, // uint32_t
  gfn: 8, // uint64_t
} as const;

/** struct xen_hvm_altp2m_vcpu_disable_notify */
export const xen_hvm_altp2m_vcpu_disable_notify = {
  size: 4,
  vcpu_id: 0, // uint32_t
} as const;

/** struct xen_hvm_altp2m_view */
export const xen_hvm_altp2m_view = {
  size: 4,
  view: 0, // uint16_t
  hvmmem_default_access: 2, // uint16_t
} as const;

/** struct xen_hvm_altp2m_mem_access */
export const xen_hvm_altp2m_mem_access = {
  size: 16,
  view: 0, // uint16_t
  access: 2, // uint16_t
  pad: 4, // uint32_t
  gfn: 8, // uint64_t
} as const;

/** struct xen_hvm_altp2m_set_mem_access_multi */
export const xen_hvm_altp2m_set_mem_access_multi = {
  size: 32,
  view: 0, // uint16_t
  pad: 2, // uint16_t
  nr: 4, // uint32_t
  opaque: 8, // uint64_t
  pfn_list: 16, // guest handle of const_uint64
  access_list: 24, // guest handle of const_uint8
} as const;

/** struct xen_hvm_altp2m_change_gfn */
export const xen_hvm_altp2m_change_gfn = {
  size: 24,
  view: 0, // uint16_t
  pad1: 2, // uint16_t
  pad2: 4, // uint32_t
  old_gfn: 8, // uint64_t
  new_gfn: 16, // uint64_t
} as const;

/** struct xen_hvm_altp2m_get_vcpu_p2m_idx */
export const xen_hvm_altp2m_get_vcpu_p2m_idx = {
  size: 8,
  vcpu_id: 0, // uint32_t
  altp2m_idx: 4, // uint16_t
} as const;

/** struct xen_hvm_altp2m_set_visibility */
export const xen_hvm_altp2m_set_visibility = {
  size: 4,
  altp2m_idx: 0, // uint16_t
  visible: 2, // uint8_t
  pad: 3, // uint8_t
} as const;

/** struct xen_hvm_altp2m_op */
export const xen_hvm_altp2m_op = {
  size: 80,
  version: 0, // uint32_t
  cmd: 4, // uint32_t
  domain: 8, // domid_t
  pad1: 10, // uint16_t
  pad2: 12, // uint32_t
  u: 16, // union
  u_domain_state: 16, // .u.domain_state: struct xen_hvm_altp2m_domain_state
  u_domain_state_state: 16, // .u.domain_state.state: uint8_t
  u_enable_notify: 16, // .u.enable_notify: struct xen_hvm_altp2m_vcpu_enable_notify
  u_enable_notify_vcpu_id: 16, // .u.enable_notify.vcpu_id: uint32_t
  u_enable_notify_pad: 20, // .u.enable_notify.pad: uint32_t
  u_enable_notify_gfn: 24, // .u.enable_notify.gfn: uint64_t
  u_view: 16, // .u.view: struct xen_hvm_altp2m_view
  u_view_view: 16, // .u.view.view: uint16_t
  u_view_hvmmem_default_access: 18, // .u.view.hvmmem_default_access: uint16_t
  u_mem_access: 16, // .u.mem_access: struct xen_hvm_altp2m_mem_access
  u_mem_access_view: 16, // .u.mem_access.view: uint16_t
  u_mem_access_access: 18, // .u.mem_access.access: uint16_t
  u_mem_access_pad: 20, // .u.mem_access.pad: uint32_t
  u_mem_access_gfn: 24, // .u.mem_access.gfn: uint64_t
  u_change_gfn: 16, // .u.change_gfn: struct xen_hvm_altp2m_change_gfn
  u_change_gfn_view: 16, // .u.change_gfn.view: uint16_t
  u_change_gfn_pad1: 18, // .u.change_gfn.pad1: uint16_t
  u_change_gfn_pad2: 20, // .u.change_gfn.pad2: uint32_t
  u_change_gfn_old_gfn: 24, // .u.change_gfn.old_gfn: uint64_t
  u_change_gfn_new_gfn: 32, // .u.change_gfn.new_gfn: uint64_t
  u_set_mem_access_multi: 16, // .u.set_mem_access_multi: struct xen_hvm_altp2m_set_mem_access_multi
  u_set_mem_access_multi_view: 16, // .u.set_mem_access_multi.view: uint16_t
  u_set_mem_access_multi_pad: 18, // .u.set_mem_access_multi.pad: uint16_t
  u_set_mem_access_multi_nr: 20, // .u.set_mem_access_multi.nr: uint32_t
  u_set_mem_access_multi_opaque: 24, // .u.set_mem_access_multi.opaque: uint64_t
  u_set_mem_access_multi_pfn_list: 32, // .u.set_mem_access_multi.pfn_list: guest handle of const_uint64
  u_set_mem_access_multi_access_list: 40, // .u.set_mem_access_multi.access_list: guest handle of const_uint8
  u_suppress_ve: 16, // .u.suppress_ve: struct xen_hvm_altp2m_suppress_ve
  u_suppress_ve_view: 16, // .u.suppress_ve.view: uint16_t
  u_suppress_ve_suppress_ve: 18, // .u.suppress_ve.suppress_ve: uint8_t
  u_suppress_ve_pad1: 19, // .u.suppress_ve.pad1: uint8_t
  u_suppress_ve_pad2: 20, // .u.suppress_ve.pad2: uint32_t
  u_suppress_ve_gfn: 24, // .u.suppress_ve.gfn: uint64_t
  u_suppress_ve_multi: 16, // .u.suppress_ve_multi: struct xen_hvm_altp2m_suppress_ve_multi
  u_suppress_ve_multi_view: 16, // .u.suppress_ve_multi.view: uint16_t
  u_suppress_ve_multi_suppress_ve: 18, // .u.suppress_ve_multi.suppress_ve: uint8_t
  u_suppress_ve_multi_pad1: 19, // .u.suppress_ve_multi.pad1: uint8_t
  u_suppress_ve_multi_first_error: 20, // .u.suppress_ve_multi.first_error: int32_t
  u_suppress_ve_multi_first_gfn: 24, // .u.suppress_ve_multi.first_gfn: uint64_t
  u_suppress_ve_multi_last_gfn: 32, // .u.suppress_ve_multi.last_gfn: uint64_t
  u_suppress_ve_multi_first_error_gfn: 40, // .u.suppress_ve_multi.first_error_gfn: uint64_t
  u_disable_notify: 16, // .u.disable_notify: struct xen_hvm_altp2m_vcpu_disable_notify
  u_disable_notify_vcpu_id: 16, // .u.disable_notify.vcpu_id: uint32_t
  u_get_vcpu_p2m_idx: 16, // .u.get_vcpu_p2m_idx: struct xen_hvm_altp2m_get_vcpu_p2m_idx
  u_get_vcpu_p2m_idx_vcpu_id: 16, // .u.get_vcpu_p2m_idx.vcpu_id: uint32_t
  u_get_vcpu_p2m_idx_altp2m_idx: 20, // .u.get_vcpu_p2m_idx.altp2m_idx: uint16_t
  u_set_visibility: 16, // .u.set_visibility: struct xen_hvm_altp2m_set_visibility
  u_set_visibility_altp2m_idx: 16, // .u.set_visibility.altp2m_idx: uint16_t
  u_set_visibility_visible: 18, // .u.set_visibility.visible: uint8_t
  u_set_visibility_pad: 19, // .u.set_visibility.pad: uint8_t
  u_pad: 16, // .u.pad: uint8_t[64]
} as const;
