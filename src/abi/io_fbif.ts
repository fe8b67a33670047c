// Framebuffer device events.
// Source: <xen/io/fbif.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const XENFB_TYPE_UPDATE = 2;
export const XENFB_TYPE_RESIZE = 3;
export const XENFB_OUT_EVENT_SIZE = 40;
export const XENFB_TYPE_REFRESH_PERIOD = 1;
export const XENFB_NO_REFRESH = 0;
export const XENFB_IN_EVENT_SIZE = 40;
export const XENFB_IN_RING_SIZE = 1024;
export const XENFB_IN_RING_LEN = 25;
export const XENFB_IN_RING_OFFS = 1024;
export const XENFB_OUT_RING_SIZE = 2048;
export const XENFB_OUT_RING_LEN = 51;
export const XENFB_OUT_RING_OFFS = 2048;

/** struct xenfb_update */
export const xenfb_update = {
  size: 20,
  type: 0, // uint8_t
  x: 4, // int32_t
  y: 8, // int32_t
  width: 12, // int32_t
  height: 16, // int32_t
} as const;

/** struct xenfb_resize */
export const xenfb_resize = {
  size: 24,
  type: 0, // uint8_t
  width: 4, // int32_t
  height: 8, // int32_t
  stride: 12, // int32_t
  depth: 16, // int32_t
  offset: 20, // int32_t
} as const;

/** union xenfb_out_event */
export const xenfb_out_event = {
  size: 40,
  type: 0, // uint8_t
  update: 0, // struct xenfb_update
  update_type: 0, // .update.type: uint8_t
  update_x: 4, // .update.x: int32_t
  update_y: 8, // .update.y: int32_t
  update_width: 12, // .update.width: int32_t
  update_height: 16, // .update.height: int32_t
  resize: 0, // struct xenfb_resize
  resize_type: 0, // .resize.type: uint8_t
  resize_width: 4, // .resize.width: int32_t
  resize_height: 8, // .resize.height: int32_t
  resize_stride: 12, // .resize.stride: int32_t
  resize_depth: 16, // .resize.depth: int32_t
  resize_offset: 20, // .resize.offset: int32_t
  pad: 0, // char[40]
} as const;

/** struct xenfb_refresh_period */
export const xenfb_refresh_period = {
  size: 8,
  type: 0, // uint8_t
  period: 4, // uint32_t
} as const;

/** union xenfb_in_event */
export const xenfb_in_event = {
  size: 40,
  type: 0, // uint8_t
  refresh_period: 0, // struct xenfb_refresh_period
  refresh_period_type: 0, // .refresh_period.type: uint8_t
  refresh_period_period: 4, // .refresh_period.period: uint32_t
  pad: 0, // char[40]
} as const;

/** struct xenfb_page */
export const xenfb_page = {
  size: 2088,
  in_cons: 0, // uint32_t
  in_prod: 4, // uint32_t
  out_cons: 8, // uint32_t
  out_prod: 12, // uint32_t
  width: 16, // int32_t
  height: 20, // int32_t
  line_length: 24, // uint32_t
  mem_length: 28, // uint32_t
  depth: 32, // uint8_t
  pd: 40, // unsigned long[256]
} as const;
