// XENVER_* queries.
// Source: <xen/version.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const XENVER_version = 0;
export const XENVER_extraversion = 1;

export const XEN_EXTRAVERSION_LEN = 16;

export const XENVER_compile_info = 2;
export const XENVER_capabilities = 3;

export const XEN_CAPABILITIES_INFO_LEN = 1024;

export const XENVER_changeset = 4;

export const XEN_CHANGESET_INFO_LEN = 64;

export const XENVER_platform_parameters = 5;
export const XENVER_get_features = 6;
export const XENVER_pagesize = 7;
export const XENVER_guest_handle = 8;
export const XENVER_commandline = 9;
export const XENVER_build_id = 10;

/** struct xen_compile_info */
export const xen_compile_info = {
  size: 144,
  compiler: 0, // char[64]
  compile_by: 64, // char[16]
  compile_domain: 80, // char[32]
  compile_date: 112, // char[32]
} as const;

/** struct xen_platform_parameters */
export const xen_platform_parameters = {
  size: 8,
  virt_start: 0, // xen_ulong_t
} as const;

/** struct xen_feature_info */
export const xen_feature_info = {
  size: 8,
  submap_idx: 0, // unsigned int
  submap: 4, // uint32_t
} as const;

/** struct xen_build_id */
export const xen_build_id = {
  size: 4,
  len: 0, // uint32_t
  buf: 4, // unsigned char[1]
} as const;
