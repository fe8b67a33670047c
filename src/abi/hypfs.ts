// Hypervisor file system operations (numbers only).
// Source: <xen/hypfs.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const XEN_HYPFS_VERSION = 1;
export const XEN_HYPFS_MAX_PATHLEN = 1024;
export const XEN_HYPFS_TYPE_DIR = 0;
export const XEN_HYPFS_TYPE_BLOB = 1;
export const XEN_HYPFS_TYPE_STRING = 2;
export const XEN_HYPFS_TYPE_UINT = 3;
export const XEN_HYPFS_TYPE_INT = 4;
export const XEN_HYPFS_TYPE_BOOL = 5;
export const XEN_HYPFS_ENC_PLAIN = 0;
export const XEN_HYPFS_ENC_GZIP = 1;
export const XEN_HYPFS_OP_get_version = 0;
export const XEN_HYPFS_OP_read = 1;
export const XEN_HYPFS_OP_write_contents = 2;
