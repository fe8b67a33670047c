// Physical device operations.
// Source: <xen/physdev.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const PHYSDEVOP_eoi = 12;
export const PHYSDEVOP_pirq_eoi_gmfn_v1 = 17;
export const PHYSDEVOP_pirq_eoi_gmfn_v2 = 28;
export const PHYSDEVOP_irq_status_query = 5;

export const _XENIRQSTAT_needs_eoi = 0;
export const XENIRQSTAT_needs_eoi = 1;
export const _XENIRQSTAT_shared = 1;
export const XENIRQSTAT_shared = 2;

export const PHYSDEVOP_set_iopl = 6;
export const PHYSDEVOP_set_iobitmap = 7;
export const PHYSDEVOP_apic_read = 8;
export const PHYSDEVOP_apic_write = 9;
export const PHYSDEVOP_alloc_irq_vector = 10;
export const PHYSDEVOP_free_irq_vector = 11;

export const MAP_PIRQ_TYPE_MSI = 0;
export const MAP_PIRQ_TYPE_GSI = 1;
export const MAP_PIRQ_TYPE_UNKNOWN = 2;
export const MAP_PIRQ_TYPE_MSI_SEG = 3;
export const MAP_PIRQ_TYPE_MULTI_MSI = 4;

export const PHYSDEVOP_map_pirq = 13;
export const PHYSDEVOP_unmap_pirq = 14;
export const PHYSDEVOP_manage_pci_add = 15;
export const PHYSDEVOP_manage_pci_remove = 16;
export const PHYSDEVOP_restore_msi = 19;
export const PHYSDEVOP_manage_pci_add_ext = 20;
export const PHYSDEVOP_setup_gsi = 21;
export const PHYSDEVOP_get_free_pirq = 23;

export const XEN_PCI_MMCFG_RESERVED = 1;

export const PHYSDEVOP_pci_mmcfg_reserved = 24;

export const XEN_PCI_DEV_EXTFN = 1;
export const XEN_PCI_DEV_VIRTFN = 2;
export const XEN_PCI_DEV_PXM = 4;

export const PHYSDEVOP_pci_device_add = 25;
export const PHYSDEVOP_pci_device_remove = 26;
export const PHYSDEVOP_restore_msi_ext = 27;
export const PHYSDEVOP_prepare_msix = 30;
export const PHYSDEVOP_release_msix = 31;
export const PHYSDEVOP_DBGP_RESET_PREPARE = 1;
export const PHYSDEVOP_DBGP_RESET_DONE = 2;
export const PHYSDEVOP_DBGP_BUS_UNKNOWN = 0;
export const PHYSDEVOP_DBGP_BUS_PCI = 1;
export const PHYSDEVOP_dbgp_op = 29;
export const PHYSDEVOP_IRQ_UNMASK_NOTIFY = 4;
export const PHYSDEVOP_pirq_eoi_gmfn = 28;

/** struct physdev_eoi */
export const physdev_eoi = {
  size: 4,
  irq: 0, // uint32_t
} as const;

/** struct physdev_pirq_eoi_gmfn */
export const physdev_pirq_eoi_gmfn = {
  size: 8,
  gmfn: 0, // xen_pfn_t
} as const;

/** struct physdev_irq_status_query */
export const physdev_irq_status_query = {
  size: 8,
  irq: 0, // uint32_t
  flags: 4, // uint32_t
} as const;

/** struct physdev_set_iopl */
export const physdev_set_iopl = {
  size: 4,
  iopl: 0, // uint32_t
} as const;

/** struct physdev_set_iobitmap */
export const physdev_set_iobitmap = {
  size: 16,
  bitmap: 0, // guest handle of uint8
  nr_ports: 8, // uint32_t
} as const;

/** struct physdev_apic */
export const physdev_apic = {
  size: 16,
  apic_physbase: 0, // unsigned long
  reg: 8, // uint32_t
  value: 12, // uint32_t
} as const;

/** struct physdev_irq */
export const physdev_irq = {
  size: 8,
  irq: 0, // uint32_t
  vector: 4, // uint32_t
} as const;

/** struct physdev_map_pirq */
export const physdev_map_pirq = {
  size: 40,
  domid: 0, // domid_t
  type: 4, // int
  index: 8, // int
  pirq: 12, // int
  bus: 16, // int
  devfn: 20, // int
  entry_nr: 24, // int
  table_base: 32, // uint64_t
} as const;

/** struct physdev_unmap_pirq */
export const physdev_unmap_pirq = {
  size: 8,
  domid: 0, // domid_t
  pirq: 4, // int
} as const;

/** struct physdev_manage_pci */
export const physdev_manage_pci = {
  size: 2,
  bus: 0, // uint8_t
  devfn: 1, // uint8_t
} as const;

/** struct physdev_restore_msi */
export const physdev_restore_msi = {
  size: 2,
  bus: 0, // uint8_t
  devfn: 1, // uint8_t
} as const;

/** struct physdev_manage_pci_ext */
export const physdev_manage_pci_ext = {
  size: 16,
  bus: 0, // uint8_t
  devfn: 1, // uint8_t
  is_extfn: 4, // uint32_t
  is_virtfn: 8, // uint32_t
  physfn: 12, // struct
  physfn_bus: 12, // .physfn.bus: uint8_t
  physfn_devfn: 13, // .physfn.devfn: uint8_t
} as const;

/** struct physdev_op */
export const physdev_op = {
  size: 24,
  cmd: 0, // uint32_t
  u: 8, // union
  u_irq_status_query: 8, // .u.irq_status_query: physdev_irq_status_query_t
  u_irq_status_query_irq: 8, // .u.irq_status_query.irq: uint32_t
  u_irq_status_query_flags: 12, // .u.irq_status_query.flags: uint32_t
  u_set_iopl: 8, // .u.set_iopl: physdev_set_iopl_t
  u_set_iopl_iopl: 8, // .u.set_iopl.iopl: uint32_t
  u_set_iobitmap: 8, // .u.set_iobitmap: physdev_set_iobitmap_t
  u_set_iobitmap_bitmap: 8, // .u.set_iobitmap.bitmap: guest handle of uint8
  u_set_iobitmap_nr_ports: 16, // .u.set_iobitmap.nr_ports: uint32_t
  u_apic_op: 8, // .u.apic_op: physdev_apic_t
  u_apic_op_apic_physbase: 8, // .u.apic_op.apic_physbase: unsigned long
  u_apic_op_reg: 16, // .u.apic_op.reg: uint32_t
  u_apic_op_value: 20, // .u.apic_op.value: uint32_t
  u_irq_op: 8, // .u.irq_op: physdev_irq_t
  u_irq_op_irq: 8, // .u.irq_op.irq: uint32_t
  u_irq_op_vector: 12, // .u.irq_op.vector: uint32_t
} as const;

/** struct physdev_setup_gsi */
export const physdev_setup_gsi = {
  size: 8,
  gsi: 0, // int
  triggering: 4, // uint8_t
  polarity: 5, // uint8_t
} as const;

/** struct physdev_get_free_pirq */
export const physdev_get_free_pirq = {
  size: 8,
  type: 0, // int
  pirq: 4, // uint32_t
} as const;

/** struct physdev_pci_mmcfg_reserved */
export const physdev_pci_mmcfg_reserved = {
  size: 16,
  address: 0, // uint64_t
  segment: 8, // uint16_t
  start_bus: 10, // uint8_t
  end_bus: 11, // uint8_t
  flags: 12, // uint32_t
} as const;

/** struct physdev_pci_device_add */
export const physdev_pci_device_add = {
  size: 12,
  seg: 0, // uint16_t
  bus: 2, // uint8_t
  devfn: 3, // uint8_t
  flags: 4, // uint32_t
  physfn: 8, // struct
  physfn_bus: 8, // .physfn.bus: uint8_t
  physfn_devfn: 9, // .physfn.devfn: uint8_t
  optarr: 12, // uint32_t[1]
} as const;

/** struct physdev_pci_device */
export const physdev_pci_device = {
  size: 4,
  seg: 0, // uint16_t
  bus: 2, // uint8_t
  devfn: 3, // uint8_t
} as const;

/** struct physdev_dbgp_op */
export const physdev_dbgp_op = {
  size: 6,
  op: 0, // uint8_t
  bus: 1, // uint8_t
  u: 2, // union
  u_pci: 2, // .u.pci: physdev_pci_device_t
  u_pci_seg: 2, // .u.pci.seg: uint16_t
  u_pci_bus: 4, // .u.pci.bus: uint8_t
  u_pci_devfn: 5, // .u.pci.devfn: uint8_t
} as const;
