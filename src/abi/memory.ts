// Memory reservation operations (XENMEM_*).
// Source: <xen/memory.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const XENMEM_increase_reservation = 0;
export const XENMEM_decrease_reservation = 1;
export const XENMEM_populate_physmap = 6;

export const XENMEMF_populate_on_demand = 0x10000;
export const XENMEMF_exact_node_request = 0x20000;
export const XENMEMF_vnode = 0x40000;

export const XENMEM_exchange = 11;
export const XENMEM_maximum_ram_page = 2;
export const XENMEM_current_reservation = 3;
export const XENMEM_maximum_reservation = 4;
export const XENMEM_maximum_gpfn = 14;
export const XENMEM_machphys_mfn_list = 5;
export const XENMEM_machphys_compat_mfn_list = 25;
export const XENMEM_machphys_mapping = 12;

export const XENMAPSPACE_shared_info = 0;
export const XENMAPSPACE_grant_table = 1;
export const XENMAPSPACE_gmfn = 2;
export const XENMAPSPACE_gmfn_range = 3;
export const XENMAPSPACE_gmfn_foreign = 4;
export const XENMAPSPACE_dev_mmio = 5;

export const XENMEM_add_to_physmap = 7;

export const XENMAPIDX_grant_table_status = 0x80000000;

export const XENMEM_add_to_physmap_batch = 23;
export const XENMEM_remove_from_physmap = 15;
export const XENMEM_memory_map = 9;
export const XENMEM_machine_memory_map = 10;
export const XENMEM_set_memory_map = 13;
export const XENMEM_set_pod_target = 16;
export const XENMEM_get_pod_target = 17;
export const XENMEM_get_sharing_freed_pages = 18;
export const XENMEM_get_sharing_shared_pages = 19;
export const XENMEM_paging_op = 20;
export const XENMEM_paging_op_nominate = 0;
export const XENMEM_paging_op_evict = 1;
export const XENMEM_paging_op_prep = 2;
export const XENMEM_access_op = 21;
export const XENMEM_access_op_set_access = 0;
export const XENMEM_access_op_get_access = 1;
export const XENMEM_access_op_set_access_multi = 4;
export const XENMEM_access_n = 0;
export const XENMEM_access_r = 1;
export const XENMEM_access_w = 2;
export const XENMEM_access_rw = 3;
export const XENMEM_access_x = 4;
export const XENMEM_access_rx = 5;
export const XENMEM_access_wx = 6;
export const XENMEM_access_rwx = 7;
export const XENMEM_access_rx2rw = 8;
export const XENMEM_access_n2rwx = 9;
export const XENMEM_access_default = 10;
export const XENMEM_sharing_op = 22;
export const XENMEM_sharing_op_nominate_gfn = 0;
export const XENMEM_sharing_op_nominate_gref = 1;
export const XENMEM_sharing_op_share = 2;
export const XENMEM_sharing_op_debug_gfn = 3;
export const XENMEM_sharing_op_debug_mfn = 4;
export const XENMEM_sharing_op_debug_gref = 5;
export const XENMEM_sharing_op_add_physmap = 6;
export const XENMEM_sharing_op_audit = 7;
export const XENMEM_sharing_op_range_share = 8;
export const XENMEM_sharing_op_fork = 9;
export const XENMEM_sharing_op_fork_reset = 10;
export const XENMEM_SHARING_OP_S_HANDLE_INVALID = -10;
export const XENMEM_SHARING_OP_C_HANDLE_INVALID = -9;
export const XENMEM_SHARING_OP_FIELD_IS_GREF_FLAG = 0x4000000000000000;
export const XENMEM_FORK_WITH_IOMMU_ALLOWED = 1;
export const XENMEM_FORK_BLOCK_INTERRUPTS = 2;
export const XENMEM_FORK_RESET_STATE = 4;
export const XENMEM_FORK_RESET_MEMORY = 8;
export const XENMEM_claim_pages = 24;
export const XENMEM_reserved_device_memory_map = 27;
export const XENMEM_RDM_ALL = 1;
export const XENMEM_acquire_resource = 28;
export const XENMEM_resource_ioreq_server = 0;
export const XENMEM_resource_grant_table = 1;
export const XENMEM_resource_vmtrace_buf = 2;
export const XENMEM_resource_grant_table_id_shared = 0;
export const XENMEM_resource_grant_table_id_status = 1;
export const XENMEM_resource_ioreq_server_frame_bufioreq = 0;
export const XENMEM_get_vnumainfo = 26;

/** struct xen_memory_reservation */
export const xen_memory_reservation = {
  size: 32,
  extent_start: 0, // guest handle of xen_pfn_t
  nr_extents: 8, // xen_ulong_t
  extent_order: 16, // unsigned int
  mem_flags: 20, // unsigned int
  domid: 24, // domid_t
} as const;

/** struct xen_memory_exchange */
export const xen_memory_exchange = {
  size: 72,
  in: 0, // struct xen_memory_reservation
  in_extent_start: 0, // .in.extent_start: guest handle of xen_pfn_t
  in_nr_extents: 8, // .in.nr_extents: xen_ulong_t
  in_extent_order: 16, // .in.extent_order: unsigned int
  in_mem_flags: 20, // .in.mem_flags: unsigned int
  in_domid: 24, // .in.domid: domid_t
  out: 32, // struct xen_memory_reservation
  out_extent_start: 32, // .out.extent_start: guest handle of xen_pfn_t
  out_nr_extents: 40, // .out.nr_extents: xen_ulong_t
  out_extent_order: 48, // .out.extent_order: unsigned int
  out_mem_flags: 52, // .out.mem_flags: unsigned int
  out_domid: 56, // .out.domid: domid_t
  nr_exchanged: 64, // xen_ulong_t
} as const;

/** struct xen_memory_domain */
export const xen_memory_domain = {
  size: 2,
  domid: 0, // domid_t
} as const;

/** struct xen_machphys_mfn_list */
export const xen_machphys_mfn_list = {
  size: 24,
  max_extents: 0, // unsigned int
  extent_start: 8, // guest handle of xen_pfn_t
  nr_extents: 16, // unsigned int
} as const;

/** struct xen_machphys_mapping */
export const xen_machphys_mapping = {
  size: 24,
  v_start: 0, // xen_ulong_t
  v_end: 8, // xen_ulong_t
  max_mfn: 16, // xen_ulong_t
} as const;

/** struct xen_add_to_physmap */
export const xen_add_to_physmap = {
  size: 24,
  domid: 0, // domid_t
  size_: 2, // .size: uint16_t
  space: 4, // unsigned int
  idx: 8, // xen_ulong_t
  gpfn: 16, // xen_pfn_t
} as const;

/** struct xen_add_to_physmap_batch */
export const xen_add_to_physmap_batch = {
  size: 32,
  domid: 0, // domid_t
  space: 2, // uint16_t
  size_: 4, // .size: uint16_t
  u: 6, // union xen_add_to_physmap_batch_extra
  u_foreign_domid: 6, // .u.foreign_domid: domid_t
  u_res0: 6, // .u.res0: uint16_t
  idxs: 8, // guest handle of xen_ulong_t
  gpfns: 16, // guest handle of xen_pfn_t
  errs: 24, // guest handle of int
} as const;

/** struct xen_remove_from_physmap */
export const xen_remove_from_physmap = {
  size: 16,
  domid: 0, // domid_t
  gpfn: 8, // xen_pfn_t
} as const;

/** struct xen_memory_map */
export const xen_memory_map = {
  size: 16,
  nr_entries: 0, // unsigned int
  buffer: 8, // guest handle of void
} as const;

/** struct xen_foreign_memory_map */
export const xen_foreign_memory_map = {
  size: 24,
  domid: 0, // domid_t
  map: 8, // struct xen_memory_map
  map_nr_entries: 8, // .map.nr_entries: unsigned int
  map_buffer: 16, // .map.buffer: guest handle of void
} as const;

/** struct xen_pod_target */
export const xen_pod_target = {
  size: 40,
  target_pages: 0, // uint64_t
  tot_pages: 8, // uint64_t
  pod_cache_pages: 16, // uint64_t
  pod_entries: 24, // uint64_t
  domid: 32, // domid_t
} as const;

/** struct xen_mem_paging_op */
export const xen_mem_paging_op = {
  size: 24,
  op: 0, // uint8_t
  domain: 2, // domid_t
  buffer: 8, // guest handle of const_uint8
  gfn: 16, // uint64_t
} as const;

/** struct xen_mem_access_op */
export const xen_mem_access_op = {
  size: 32,
  op: 0, // uint8_t
  access: 1, // uint8_t
  domid: 2, // domid_t
  nr: 4, // uint32_t
  pfn: 8, // uint64_t
  pfn_list: 16, // guest handle of const_uint64
  access_list: 24, // guest handle of const_uint8
} as const;

/** struct xen_mem_sharing_op */
export const xen_mem_sharing_op = {
  size: 48,
  op: 0, // uint8_t
  domain: 2, // domid_t
  u: 8, // union
  u_nominate: 8, // .u.nominate: struct mem_sharing_op_nominate
  u_nominate_u: 8, // .u.nominate.u: union
  u_nominate_u_gfn: 8, // .u.nominate.u.gfn: uint64_t
  u_nominate_u_grant_ref: 8, // .u.nominate.u.grant_ref: uint32_t
  u_nominate_handle: 16, // .u.nominate.handle: uint64_t
  u_share: 8, // .u.share: struct mem_sharing_op_share
  u_share_source_gfn: 8, // .u.share.source_gfn: uint64_t
  u_share_source_handle: 16, // .u.share.source_handle: uint64_t
  u_share_client_gfn: 24, // .u.share.client_gfn: uint64_t
  u_share_client_handle: 32, // .u.share.client_handle: uint64_t
  u_share_client_domain: 40, // .u.share.client_domain: domid_t
  u_range: 8, // .u.range: struct mem_sharing_op_range
  u_range_first_gfn: 8, // .u.range.first_gfn: uint64_t
  u_range_last_gfn: 16, // .u.range.last_gfn: uint64_t
  u_range_opaque: 24, // .u.range.opaque: uint64_t
  u_range_client_domain: 32, // .u.range.client_domain: domid_t
  u_range__pad: 34, // .u.range._pad: uint16_t[3]
  u_debug: 8, // .u.debug: struct mem_sharing_op_debug
  u_debug_u: 8, // .u.debug.u: union
  u_debug_u_gfn: 8, // .u.debug.u.gfn: uint64_t
  u_debug_u_mfn: 8, // .u.debug.u.mfn: uint64_t
  u_debug_u_gref: 8, // .u.debug.u.gref: uint32_t
  u_fork: 8, // .u.fork: struct mem_sharing_op_fork
  u_fork_parent_domain: 8, // .u.fork.parent_domain: domid_t
  u_fork_flags: 10, // .u.fork.flags: uint16_t
  u_fork_pad: 12, // .u.fork.pad: uint32_t
} as const;

/** struct xen_reserved_device_memory */
export const xen_reserved_device_memory = {
  size: 16,
  start_pfn: 0, // xen_pfn_t
  nr_pages: 8, // xen_ulong_t
} as const;

/** struct xen_reserved_device_memory_map */
export const xen_reserved_device_memory_map = {
  size: 24,
  flags: 0, // uint32_t
  nr_entries: 4, // unsigned int
  buffer: 8, // guest handle of xen_reserved_device_memory_t
  dev: 16, // union
  dev_pci: 16, // .dev.pci: physdev_pci_device_t
  dev_pci_seg: 16, // .dev.pci.seg: uint16_t
  dev_pci_bus: 18, // .dev.pci.bus: uint8_t
  dev_pci_devfn: 19, // .dev.pci.devfn: uint8_t
} as const;

/** struct xen_mem_acquire_resource */
export const xen_mem_acquire_resource = {
  size: 32,
  domid: 0, // domid_t
  type: 2, // uint16_t
  id: 4, // uint32_t
  nr_frames: 8, // uint32_t
  pad: 12, // uint32_t
  frame: 16, // uint64_t
  frame_list: 24, // guest handle of xen_pfn_t
} as const;

/** struct xen_vmemrange */
export const xen_vmemrange = {
  size: 24,
  start: 0, // uint64_t
  end: 8, // uint64_t
  flags: 16, // unsigned int
  nid: 20, // unsigned int
} as const;

/** struct xen_vnuma_topology_info */
export const xen_vnuma_topology_info = {
  size: 40,
  domid: 0, // domid_t
  pad: 2, // uint16_t
  nr_vnodes: 4, // unsigned int
  nr_vcpus: 8, // unsigned int
  nr_vmemranges: 12, // unsigned int
  vdistance: 16, // union
  vdistance_h: 16, // .vdistance.h: guest handle of uint
  vdistance_pad: 16, // .vdistance.pad: uint64_t
  vcpu_to_vnode: 24, // union
  vcpu_to_vnode_h: 24, // .vcpu_to_vnode.h: guest handle of uint
  vcpu_to_vnode_pad: 24, // .vcpu_to_vnode.pad: uint64_t
  vmemrange: 32, // union
  vmemrange_h: 32, // .vmemrange.h: guest handle of xen_vmemrange_t
  vmemrange_pad: 32, // .vmemrange.pad: uint64_t
} as const;
