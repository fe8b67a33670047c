// XenStore: message header, operations and the shared ring.
// Source: <xen/io/xs_wire.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const XS_CONTROL = 0;
export const XS_DEBUG = 0;
export const XS_DIRECTORY = 1;
export const XS_READ = 2;
export const XS_GET_PERMS = 3;
export const XS_WATCH = 4;
export const XS_UNWATCH = 5;
export const XS_TRANSACTION_START = 6;
export const XS_TRANSACTION_END = 7;
export const XS_INTRODUCE = 8;
export const XS_RELEASE = 9;
export const XS_GET_DOMAIN_PATH = 10;
export const XS_WRITE = 11;
export const XS_MKDIR = 12;
export const XS_RM = 13;
export const XS_SET_PERMS = 14;
export const XS_WATCH_EVENT = 15;
export const XS_ERROR = 16;
export const XS_IS_DOMAIN_INTRODUCED = 17;
export const XS_RESUME = 18;
export const XS_SET_TARGET = 19;
export const XS_RESET_WATCHES = 21;
export const XS_DIRECTORY_PART = 22;
export const XS_TYPE_COUNT = 23;
export const XS_INVALID = 0xffff;
export const XS_WRITE_NONE = "NONE";
export const XS_WRITE_CREATE = "CREATE";
export const XS_WRITE_CREATE_EXCL = "CREATE|EXCL";
export const XS_WATCH_PATH = 0;
export const XS_WATCH_TOKEN = 1;

export const XENSTORE_RING_SIZE = 1024;
export const XENSTORE_PAYLOAD_MAX = 4096;
export const XENSTORE_ABS_PATH_MAX = 3072;
export const XENSTORE_REL_PATH_MAX = 2048;
export const XENSTORE_SERVER_FEATURE_RECONNECTION = 1;
export const XENSTORE_SERVER_FEATURE_ERROR = 2;
export const XENSTORE_CONNECTED = 0;
export const XENSTORE_RECONNECT = 1;
export const XENSTORE_ERROR_NONE = 0;
export const XENSTORE_ERROR_COMM = 1;
export const XENSTORE_ERROR_RINGIDX = 2;
export const XENSTORE_ERROR_PROTO = 3;

/** struct xsd_sockmsg */
export const xsd_sockmsg = {
  size: 16,
  type: 0, // uint32_t
  req_id: 4, // uint32_t
  tx_id: 8, // uint32_t
  len: 12, // uint32_t
} as const;

/** struct xenstore_domain_interface */
export const xenstore_domain_interface = {
  size: 2076,
  req: 0, // char[1024]
  rsp: 1024, // char[1024]
  req_cons: 2048, // XENSTORE_RING_IDX
  req_prod: 2052, // XENSTORE_RING_IDX
  rsp_cons: 2056, // XENSTORE_RING_IDX
  rsp_prod: 2060, // XENSTORE_RING_IDX
  server_features: 2064, // uint32_t
  connection: 2068, // uint32_t
  error: 2072, // uint32_t
} as const;
