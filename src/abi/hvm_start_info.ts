// The PVH boot structure.
// Source: <xen/arch-x86/hvm/start_info.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const XEN_HVM_START_MAGIC_VALUE = 0x336ec578;
export const XEN_HVM_MEMMAP_TYPE_RAM = 1;
export const XEN_HVM_MEMMAP_TYPE_RESERVED = 2;
export const XEN_HVM_MEMMAP_TYPE_ACPI = 3;
export const XEN_HVM_MEMMAP_TYPE_NVS = 4;
export const XEN_HVM_MEMMAP_TYPE_UNUSABLE = 5;
export const XEN_HVM_MEMMAP_TYPE_DISABLED = 6;
export const XEN_HVM_MEMMAP_TYPE_PMEM = 7;

/** struct hvm_start_info */
export const hvm_start_info = {
  size: 56,
  magic: 0, // uint32_t
  version: 4, // uint32_t
  flags: 8, // uint32_t
  nr_modules: 12, // uint32_t
  modlist_paddr: 16, // uint64_t
  cmdline_paddr: 24, // uint64_t
  rsdp_paddr: 32, // uint64_t
  memmap_paddr: 40, // uint64_t
  memmap_entries: 48, // uint32_t
  reserved: 52, // uint32_t
} as const;

/** struct hvm_modlist_entry */
export const hvm_modlist_entry = {
  size: 32,
  paddr: 0, // uint64_t
  size_: 8, // .size: uint64_t
  cmdline_paddr: 16, // uint64_t
  reserved: 24, // uint64_t
} as const;

/** struct hvm_memmap_table_entry */
export const hvm_memmap_table_entry = {
  size: 24,
  addr: 0, // uint64_t
  size_: 8, // .size: uint64_t
  type: 16, // uint32_t
  reserved: 20, // uint32_t
} as const;
