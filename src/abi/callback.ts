// Guest callback registration.
// Source: <xen/callback.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const CALLBACKTYPE_event = 0;
export const CALLBACKTYPE_failsafe = 1;
export const CALLBACKTYPE_syscall = 2;
export const CALLBACKTYPE_sysenter_deprecated = 3;
export const CALLBACKTYPE_nmi = 4;
export const CALLBACKTYPE_sysenter = 5;
export const CALLBACKTYPE_syscall32 = 7;

export const _CALLBACKF_mask_events = 0;
export const CALLBACKF_mask_events = 1;

export const CALLBACKOP_register = 0;
export const CALLBACKOP_unregister = 1;

/** struct callback_register */
export const callback_register = {
  size: 16,
  type: 0, // uint16_t
  flags: 2, // uint16_t
  address: 8, // xen_callback_t
} as const;

/** struct callback_unregister */
export const callback_unregister = {
  size: 4,
  type: 0, // uint16_t
  _unused: 2, // uint16_t
} as const;
