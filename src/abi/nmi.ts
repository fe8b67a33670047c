// NMI operations.
// Source: <xen/nmi.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const _XEN_NMIREASON_io_error = 0;
export const XEN_NMIREASON_io_error = 1;
export const _XEN_NMIREASON_pci_serr = 1;
export const XEN_NMIREASON_pci_serr = 2;
export const _XEN_NMIREASON_unknown = 2;
export const XEN_NMIREASON_unknown = 4;

export const XENNMI_register_callback = 0;
export const XENNMI_unregister_callback = 1;

/** struct xennmi_callback */
export const xennmi_callback = {
  size: 16,
  handler_address: 0, // unsigned long
  pad: 8, // unsigned long
} as const;
