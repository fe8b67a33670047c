// Keyboard, pointer and touch device events.
// Source: <xen/io/kbdif.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const XENKBD_TYPE_MOTION = 1;
export const XENKBD_TYPE_RESERVED = 2;
export const XENKBD_TYPE_KEY = 3;
export const XENKBD_TYPE_POS = 4;
export const XENKBD_TYPE_MTOUCH = 5;
export const XENKBD_MT_EV_DOWN = 0;
export const XENKBD_MT_EV_UP = 1;
export const XENKBD_MT_EV_MOTION = 2;
export const XENKBD_MT_EV_SYN = 3;
export const XENKBD_MT_EV_SHAPE = 4;
export const XENKBD_MT_EV_ORIENT = 5;
export const XENKBD_DRIVER_NAME = "vkbd";
export const XENKBD_FIELD_FEAT_DSBL_KEYBRD = "feature-disable-keyboard";
export const XENKBD_FIELD_FEAT_DSBL_POINTER = "feature-disable-pointer";
export const XENKBD_FIELD_FEAT_ABS_POINTER = "feature-abs-pointer";
export const XENKBD_FIELD_FEAT_RAW_POINTER = "feature-raw-pointer";
export const XENKBD_FIELD_FEAT_MTOUCH = "feature-multi-touch";
export const XENKBD_FIELD_REQ_ABS_POINTER = "request-abs-pointer";
export const XENKBD_FIELD_REQ_RAW_POINTER = "request-raw-pointer";
export const XENKBD_FIELD_REQ_MTOUCH = "request-multi-touch";
export const XENKBD_FIELD_RING_GREF = "page-gref";
export const XENKBD_FIELD_EVT_CHANNEL = "event-channel";
export const XENKBD_FIELD_WIDTH = "width";
export const XENKBD_FIELD_HEIGHT = "height";
export const XENKBD_FIELD_MT_WIDTH = "multi-touch-width";
export const XENKBD_FIELD_MT_HEIGHT = "multi-touch-height";
export const XENKBD_FIELD_MT_NUM_CONTACTS = "multi-touch-num-contacts";
export const XENKBD_FIELD_UNIQUE_ID = "unique-id";
export const XENKBD_FIELD_RING_REF = "page-ref";
export const XENKBD_IN_EVENT_SIZE = 40;
export const XENKBD_OUT_EVENT_SIZE = 40;
export const XENKBD_IN_RING_SIZE = 2048;
export const XENKBD_IN_RING_LEN = 51;
export const XENKBD_IN_RING_OFFS = 1024;
export const XENKBD_OUT_RING_SIZE = 1024;
export const XENKBD_OUT_RING_LEN = 25;
export const XENKBD_OUT_RING_OFFS = 3072;

/** struct xenkbd_motion */
export const xenkbd_motion = {
  size: 16,
  type: 0, // uint8_t
  rel_x: 4, // int32_t
  rel_y: 8, // int32_t
  rel_z: 12, // int32_t
} as const;

/** struct xenkbd_key */
export const xenkbd_key = {
  size: 8,
  type: 0, // uint8_t
  pressed: 1, // uint8_t
  keycode: 4, // uint32_t
} as const;

/** struct xenkbd_position */
export const xenkbd_position = {
  size: 16,
  type: 0, // uint8_t
  abs_x: 4, // int32_t
  abs_y: 8, // int32_t
  rel_z: 12, // int32_t
} as const;

/** struct xenkbd_mtouch */
export const xenkbd_mtouch = {
  size: 16,
  type: 0, // uint8_t
  event_type: 1, // uint8_t
  contact_id: 2, // uint8_t
  reserved: 3, // uint8_t[5]
  u: 8, // union
  u_pos: 8, // .u.pos: struct
  u_pos_abs_x: 8, // .u.pos.abs_x: int32_t
  u_pos_abs_y: 12, // .u.pos.abs_y: int32_t
  u_shape: 8, // .u.shape: struct
  u_shape_major: 8, // .u.shape.major: uint32_t
  u_shape_minor: 12, // .u.shape.minor: uint32_t
  u_orientation: 8, // .u.orientation: int16_t
} as const;

/** union xenkbd_in_event */
export const xenkbd_in_event = {
  size: 40,
  type: 0, // uint8_t
  motion: 0, // struct xenkbd_motion
  motion_type: 0, // .motion.type: uint8_t
  motion_rel_x: 4, // .motion.rel_x: int32_t
  motion_rel_y: 8, // .motion.rel_y: int32_t
  motion_rel_z: 12, // .motion.rel_z: int32_t
  key: 0, // struct xenkbd_key
  key_type: 0, // .key.type: uint8_t
  key_pressed: 1, // .key.pressed: uint8_t
  key_keycode: 4, // .key.keycode: uint32_t
  pos: 0, // struct xenkbd_position
  pos_type: 0, // .pos.type: uint8_t
  pos_abs_x: 4, // .pos.abs_x: int32_t
  pos_abs_y: 8, // .pos.abs_y: int32_t
  pos_rel_z: 12, // .pos.rel_z: int32_t
  mtouch: 0, // struct xenkbd_mtouch
  mtouch_type: 0, // .mtouch.type: uint8_t
  mtouch_event_type: 1, // .mtouch.event_type: uint8_t
  mtouch_contact_id: 2, // .mtouch.contact_id: uint8_t
  mtouch_reserved: 3, // .mtouch.reserved: uint8_t[5]
  mtouch_u: 8, // .mtouch.u: union
  mtouch_u_pos: 8, // .mtouch.u.pos: struct
  mtouch_u_pos_abs_x: 8, // .mtouch.u.pos.abs_x: int32_t
  mtouch_u_pos_abs_y: 12, // .mtouch.u.pos.abs_y: int32_t
  mtouch_u_shape: 8, // .mtouch.u.shape: struct
  mtouch_u_shape_major: 8, // .mtouch.u.shape.major: uint32_t
  mtouch_u_shape_minor: 12, // .mtouch.u.shape.minor: uint32_t
  mtouch_u_orientation: 8, // .mtouch.u.orientation: int16_t
  pad: 0, // char[40]
} as const;

/** union xenkbd_out_event */
export const xenkbd_out_event = {
  size: 40,
  type: 0, // uint8_t
  pad: 0, // char[40]
} as const;

/** struct xenkbd_page */
export const xenkbd_page = {
  size: 16,
  in_cons: 0, // uint32_t
  in_prod: 4, // uint32_t
  out_cons: 8, // uint32_t
  out_prod: 12, // uint32_t
} as const;
