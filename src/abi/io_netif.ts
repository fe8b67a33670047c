// Network device ring messages.
// Source: <xen/io/netif.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const XEN_NETIF_NR_SLOTS_MIN = 18;
export const _XEN_NETIF_CTRL_HASH_TYPE_IPV4 = 0;
export const XEN_NETIF_CTRL_HASH_TYPE_IPV4 = 1;
export const _XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP = 1;
export const XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP = 2;
export const _XEN_NETIF_CTRL_HASH_TYPE_IPV6 = 2;
export const XEN_NETIF_CTRL_HASH_TYPE_IPV6 = 4;
export const _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP = 3;
export const XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP = 8;
export const XEN_NETIF_CTRL_HASH_ALGORITHM_NONE = 0;
export const XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ = 1;
export const XEN_NETIF_CTRL_TYPE_INVALID = 0;
export const XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS = 1;
export const XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS = 2;
export const XEN_NETIF_CTRL_TYPE_SET_HASH_KEY = 3;
export const XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE = 4;
export const XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE = 5;
export const XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING = 6;
export const XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM = 7;
export const XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE = 8;
export const XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING = 9;
export const XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING = 10;
export const XEN_NETIF_CTRL_STATUS_SUCCESS = 0;
export const XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED = 1;
export const XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER = 2;
export const XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW = 3;
export const _XEN_NETIF_CTRLF_GREF_readonly = 0;
export const XEN_NETIF_CTRLF_GREF_readonly = 1;

export const _NETTXF_csum_blank = 0;
export const NETTXF_csum_blank = 1;
export const _NETTXF_data_validated = 1;
export const NETTXF_data_validated = 2;
export const _NETTXF_more_data = 2;
export const NETTXF_more_data = 4;
export const _NETTXF_extra_info = 3;
export const NETTXF_extra_info = 8;

export const XEN_NETIF_MAX_TX_SIZE = 0xffff;
export const XEN_NETIF_EXTRA_TYPE_NONE = 0;
export const XEN_NETIF_EXTRA_TYPE_GSO = 1;
export const XEN_NETIF_EXTRA_TYPE_MCAST_ADD = 2;
export const XEN_NETIF_EXTRA_TYPE_MCAST_DEL = 3;
export const XEN_NETIF_EXTRA_TYPE_HASH = 4;
export const XEN_NETIF_EXTRA_TYPE_MAX = 5;
export const _XEN_NETIF_EXTRA_FLAG_MORE = 0;
export const XEN_NETIF_EXTRA_FLAG_MORE = 1;
export const XEN_NETIF_GSO_TYPE_NONE = 0;
export const XEN_NETIF_GSO_TYPE_TCPV4 = 1;
export const XEN_NETIF_GSO_TYPE_TCPV6 = 2;

export const _NETRXF_data_validated = 0;
export const NETRXF_data_validated = 1;
export const _NETRXF_csum_blank = 1;
export const NETRXF_csum_blank = 2;
export const _NETRXF_more_data = 2;
export const NETRXF_more_data = 4;
export const _NETRXF_extra_info = 3;
export const NETRXF_extra_info = 8;
export const _NETRXF_gso_prefix = 4;
export const NETRXF_gso_prefix = 0x10;

export const NETIF_RSP_DROPPED = -2;
export const NETIF_RSP_ERROR = -1;
export const NETIF_RSP_OKAY = 0;
export const NETIF_RSP_NULL = 1;

/** struct xen_netif_ctrl_request */
export const xen_netif_ctrl_request = {
  size: 16,
  id: 0, // uint16_t
  type: 2, // uint16_t
  data: 4, // uint32_t[3]
} as const;

/** struct xen_netif_ctrl_response */
export const xen_netif_ctrl_response = {
  size: 12,
  id: 0, // uint16_t
  type: 2, // uint16_t
  status: 4, // uint32_t
  data: 8, // uint32_t
} as const;

/** struct xen_netif_gref */
export const xen_netif_gref = {
  size: 8,
  ref: 0, // grant_ref_t
  flags: 4, // uint16_t
  status: 6, // uint16_t
} as const;

/** struct netif_tx_request */
export const netif_tx_request = {
  size: 12,
  gref: 0, // grant_ref_t
  offset: 4, // uint16_t
  flags: 6, // uint16_t
  id: 8, // uint16_t
  size_: 10, // .size: uint16_t
} as const;

/** struct netif_extra_info */
export const netif_extra_info = {
  size: 8,
  type: 0, // uint8_t
  flags: 1, // uint8_t
  u: 2, // union
  u_gso: 2, // .u.gso: struct
  u_gso_size: 2, // .u.gso.size: uint16_t
  u_gso_type: 4, // .u.gso.type: uint8_t
  u_gso_pad: 5, // .u.gso.pad: uint8_t
  u_gso_features: 6, // .u.gso.features: uint16_t
  u_mcast: 2, // .u.mcast: struct
  u_mcast_addr: 2, // .u.mcast.addr: uint8_t[6]
  u_hash: 2, // .u.hash: struct
  u_hash_type: 2, // .u.hash.type: uint8_t
  u_hash_algorithm: 3, // .u.hash.algorithm: uint8_t
  u_hash_value: 4, // .u.hash.value: uint8_t[4]
  u_pad: 2, // .u.pad: uint16_t[3]
} as const;

/** struct netif_tx_response */
export const netif_tx_response = {
  size: 4,
  id: 0, // uint16_t
  status: 2, // int16_t
} as const;

/** struct netif_rx_request */
export const netif_rx_request = {
  size: 8,
  id: 0, // uint16_t
  pad: 2, // uint16_t
  gref: 4, // grant_ref_t
} as const;

/** struct netif_rx_response */
export const netif_rx_response = {
  size: 8,
  id: 0, // uint16_t
  offset: 2, // uint16_t
  flags: 4, // uint16_t
  status: 6, // int16_t
} as const;
