// Argo operations (numbers only).
// Source: <xen/argo.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const XEN_ARGO_DOMID_ANY = 32756;
export const XEN_ARGO_MAX_RING_SIZE = 0x1000000;
export const XEN_ARGO_MAXIOV = 8;
export const XEN_ARGO_MSG_SLOT_SIZE = 0x10;
export const XEN_ARGO_RING_EXISTS = 1;
export const XEN_ARGO_RING_SHARED = 2;
export const XEN_ARGO_RING_EMPTY = 4;
export const XEN_ARGO_RING_SUFFICIENT = 8;
export const XEN_ARGO_RING_EMSGSIZE = 0x10;
export const XEN_ARGO_RING_EBUSY = 0x20;
export const XEN_ARGO_OP_register_ring = 1;
export const XEN_ARGO_REGISTER_FLAG_FAIL_EXIST = 1;
export const XEN_ARGO_OP_unregister_ring = 2;
export const XEN_ARGO_OP_sendv = 3;
export const XEN_ARGO_OP_notify = 4;
