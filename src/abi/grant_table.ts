// Grant tables: entries of versions 1 and 2, operations, flags and status codes.
// Source: <xen/grant_table.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const GNTTAB_NR_RESERVED_ENTRIES = 8;
export const GNTTAB_RESERVED_CONSOLE = 0;
export const GNTTAB_RESERVED_XENSTORE = 1;

export const GTF_invalid = 0;
export const GTF_permit_access = 1;
export const GTF_accept_transfer = 2;
export const GTF_transitive = 3;
export const GTF_type_mask = 3;
export const _GTF_readonly = 2;
export const GTF_readonly = 4;
export const _GTF_reading = 3;
export const GTF_reading = 8;
export const _GTF_writing = 4;
export const GTF_writing = 0x10;
export const _GTF_PWT = 5;
export const GTF_PWT = 0x20;
export const _GTF_PCD = 6;
export const GTF_PCD = 0x40;
export const _GTF_PAT = 7;
export const GTF_PAT = 0x80;
export const _GTF_sub_page = 8;
export const GTF_sub_page = 0x100;
export const _GTF_transfer_committed = 2;
export const GTF_transfer_committed = 4;
export const _GTF_transfer_completed = 3;
export const GTF_transfer_completed = 8;

export const GNTTABOP_map_grant_ref = 0;
export const GNTTABOP_unmap_grant_ref = 1;
export const GNTTABOP_setup_table = 2;
export const GNTTABOP_dump_table = 3;
export const GNTTABOP_transfer = 4;
export const GNTTABOP_copy = 5;
export const GNTTABOP_query_size = 6;
export const GNTTABOP_unmap_and_replace = 7;
export const GNTTABOP_set_version = 8;
export const GNTTABOP_get_status_frames = 9;
export const GNTTABOP_get_version = 10;
export const GNTTABOP_swap_grant_ref = 11;
export const GNTTABOP_cache_flush = 12;

export const _GNTCOPY_source_gref = 0;
export const GNTCOPY_source_gref = 1;
export const _GNTCOPY_dest_gref = 1;
export const GNTCOPY_dest_gref = 2;

export const GNTTAB_CACHE_CLEAN = 1;
export const GNTTAB_CACHE_INVAL = 2;
export const GNTTAB_CACHE_SOURCE_GREF = 0x80000000;

export const _GNTMAP_device_map = 0;
export const GNTMAP_device_map = 1;
export const _GNTMAP_host_map = 1;
export const GNTMAP_host_map = 2;
export const _GNTMAP_readonly = 2;
export const GNTMAP_readonly = 4;
export const _GNTMAP_application_map = 3;
export const GNTMAP_application_map = 8;
export const _GNTMAP_contains_pte = 4;
export const GNTMAP_contains_pte = 0x10;
export const _GNTMAP_guest_avail0 = 16;
export const GNTMAP_guest_avail_mask = 0xffff0000;

export const GNTST_okay = 0;
export const GNTST_general_error = -1;
export const GNTST_bad_domain = -2;
export const GNTST_bad_gntref = -3;
export const GNTST_bad_handle = -4;
export const GNTST_bad_virt_addr = -5;
export const GNTST_bad_dev_addr = -6;
export const GNTST_no_device_space = -7;
export const GNTST_permission_denied = -8;
export const GNTST_bad_page = -9;
export const GNTST_bad_copy_arg = -10;
export const GNTST_address_too_big = -11;
export const GNTST_eagain = -12;
export const GNTST_no_space = -13;

/** struct grant_entry_v1 */
export const grant_entry_v1 = {
  size: 8,
  flags: 0, // uint16_t
  domid: 2, // domid_t
  frame: 4, // uint32_t
} as const;

/** struct grant_entry_header */
export const grant_entry_header = {
  size: 4,
  flags: 0, // uint16_t
  domid: 2, // domid_t
} as const;

/** union grant_entry_v2 */
export const grant_entry_v2 = {
  size: 16,
  hdr: 0, // grant_entry_header_t
  hdr_flags: 0, // .hdr.flags: uint16_t
  hdr_domid: 2, // .hdr.domid: domid_t
  full_page: 0, // struct
  full_page_hdr: 0, // .full_page.hdr: grant_entry_header_t
  full_page_hdr_flags: 0, // .full_page.hdr.flags: uint16_t
  full_page_hdr_domid: 2, // .full_page.hdr.domid: domid_t
  full_page_pad0: 4, // .full_page.pad0: uint32_t
  full_page_frame: 8, // .full_page.frame: uint64_t
  sub_page: 0, // struct
  sub_page_hdr: 0, // .sub_page.hdr: grant_entry_header_t
  sub_page_hdr_flags: 0, // .sub_page.hdr.flags: uint16_t
  sub_page_hdr_domid: 2, // .sub_page.hdr.domid: domid_t
  sub_page_page_off: 4, // .sub_page.page_off: uint16_t
  sub_page_length: 6, // .sub_page.length: uint16_t
  sub_page_frame: 8, // .sub_page.frame: uint64_t
  transitive: 0, // struct
  transitive_hdr: 0, // .transitive.hdr: grant_entry_header_t
  transitive_hdr_flags: 0, // .transitive.hdr.flags: uint16_t
  transitive_hdr_domid: 2, // .transitive.hdr.domid: domid_t
  transitive_trans_domid: 4, // .transitive.trans_domid: domid_t
  transitive_pad0: 6, // .transitive.pad0: uint16_t
  transitive_gref: 8, // .transitive.gref: grant_ref_t
  __spacer: 0, // uint32_t[4]
} as const;

/** struct gnttab_map_grant_ref */
export const gnttab_map_grant_ref = {
  size: 32,
  host_addr: 0, // uint64_t
  flags: 8, // uint32_t
  ref: 12, // grant_ref_t
  dom: 16, // domid_t
  status: 18, // int16_t
  handle: 20, // grant_handle_t
  dev_bus_addr: 24, // uint64_t
} as const;

/** struct gnttab_unmap_grant_ref */
export const gnttab_unmap_grant_ref = {
  size: 24,
  host_addr: 0, // uint64_t
  dev_bus_addr: 8, // uint64_t
  handle: 16, // grant_handle_t
  status: 20, // int16_t
} as const;

/** struct gnttab_setup_table */
export const gnttab_setup_table = {
  size: 24,
  dom: 0, // domid_t
  nr_frames: 4, // uint32_t
  status: 8, // int16_t
  frame_list: 16, // guest handle of xen_pfn_t
} as const;

/** struct gnttab_dump_table */
export const gnttab_dump_table = {
  size: 4,
  dom: 0, // domid_t
  status: 2, // int16_t
} as const;

/** struct gnttab_transfer */
export const gnttab_transfer = {
  size: 24,
  mfn: 0, // xen_pfn_t
  domid: 8, // domid_t
  ref: 12, // grant_ref_t
  status: 16, // int16_t
} as const;

/** struct gnttab_copy */
export const gnttab_copy = {
  size: 40,
  source: 0, // struct gnttab_copy_ptr
  source_u: 0, // .source.u: union
  source_u_ref: 0, // .source.u.ref: grant_ref_t
  source_u_gmfn: 0, // .source.u.gmfn: xen_pfn_t
  source_domid: 8, // .source.domid: domid_t
  source_offset: 10, // .source.offset: uint16_t
  dest: 16, // struct gnttab_copy_ptr
  dest_u: 16, // .dest.u: union
  dest_u_ref: 16, // .dest.u.ref: grant_ref_t
  dest_u_gmfn: 16, // .dest.u.gmfn: xen_pfn_t
  dest_domid: 24, // .dest.domid: domid_t
  dest_offset: 26, // .dest.offset: uint16_t
  len: 32, // uint16_t
  flags: 34, // uint16_t
  status: 36, // int16_t
} as const;

/** struct gnttab_query_size */
export const gnttab_query_size = {
  size: 16,
  dom: 0, // domid_t
  nr_frames: 4, // uint32_t
  max_nr_frames: 8, // uint32_t
  status: 12, // int16_t
} as const;

/** struct gnttab_unmap_and_replace */
export const gnttab_unmap_and_replace = {
  size: 24,
  host_addr: 0, // uint64_t
  new_addr: 8, // uint64_t
  handle: 16, // grant_handle_t
  status: 20, // int16_t
} as const;

/** struct gnttab_set_version */
export const gnttab_set_version = {
  size: 4,
  version: 0, // uint32_t
} as const;

/** struct gnttab_get_status_frames */
export const gnttab_get_status_frames = {
  size: 16,
  nr_frames: 0, // uint32_t
  dom: 4, // domid_t
  status: 6, // int16_t
  frame_list: 8, // guest handle of uintt
} as const;

/** struct gnttab_get_version */
export const gnttab_get_version = {
  size: 8,
  dom: 0, // domid_t
  pad: 2, // uint16_t
  version: 4, // uint32_t
} as const;

/** struct gnttab_swap_grant_ref */
export const gnttab_swap_grant_ref = {
  size: 12,
  ref_a: 0, // grant_ref_t
  ref_b: 4, // grant_ref_t
  status: 8, // int16_t
} as const;

/** struct gnttab_cache_flush */
export const gnttab_cache_flush = {
  size: 16,
  a: 0, // union
  a_dev_bus_addr: 0, // .a.dev_bus_addr: uint64_t
  a_ref: 0, // .a.ref: grant_ref_t
  offset: 8, // uint16_t
  length: 10, // uint16_t
  op: 12, // uint32_t
} as const;
