// vCPU operations, runstate, timers and info areas.
// Source: <xen/vcpu.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const VCPUOP_initialise = 0;
export const VCPUOP_up = 1;
export const VCPUOP_down = 2;
export const VCPUOP_is_up = 3;
export const VCPUOP_get_runstate_info = 4;

export const XEN_RUNSTATE_UPDATE = 0x8000000000000000;

export const RUNSTATE_running = 0;
export const RUNSTATE_runnable = 1;
export const RUNSTATE_blocked = 2;
export const RUNSTATE_offline = 3;

export const VCPUOP_register_runstate_memory_area = 5;
export const VCPUOP_set_periodic_timer = 6;
export const VCPUOP_stop_periodic_timer = 7;
export const VCPUOP_set_singleshot_timer = 8;
export const VCPUOP_stop_singleshot_timer = 9;

export const _VCPU_SSHOTTMR_future = 0;
export const VCPU_SSHOTTMR_future = 1;

export const VCPUOP_register_vcpu_info = 10;
export const VCPUOP_send_nmi = 11;
export const VCPUOP_get_physid = 12;
export const VCPUOP_register_vcpu_time_memory_area = 13;

/** struct vcpu_runstate_info */
export const vcpu_runstate_info = {
  size: 48,
  state: 0, // int
  state_entry_time: 8, // uint64_t
  time: 16, // uint64_t[4]
} as const;

/** struct vcpu_register_runstate_memory_area */
export const vcpu_register_runstate_memory_area = {
  size: 8,
  addr: 0, // union
  addr_h: 0, // .addr.h: guest handle of vcpu_runstate_info_t
  addr_v: 0, // .addr.v: pointer
  addr_p: 0, // .addr.p: uint64_t
} as const;

/** struct vcpu_set_periodic_timer */
export const vcpu_set_periodic_timer = {
  size: 8,
  period_ns: 0, // uint64_t
} as const;

/** struct vcpu_set_singleshot_timer */
export const vcpu_set_singleshot_timer = {
  size: 16,
  timeout_abs_ns: 0, // uint64_t
  flags: 8, // uint32_t
} as const;

/** struct vcpu_register_vcpu_info */
export const vcpu_register_vcpu_info = {
  size: 16,
  mfn: 0, // uint64_t
  offset: 8, // uint32_t
  rsvd: 12, // uint32_t
} as const;

/** struct vcpu_get_physid */
export const vcpu_get_physid = {
  size: 8,
  phys_id: 0, // uint64_t
} as const;

/** struct vcpu_register_time_memory_area */
export const vcpu_register_time_memory_area = {
  size: 8,
  addr: 0, // union
  addr_h: 0, // .addr.h: guest handle of vcpu_time_info_t
  addr_v: 0, // .addr.v: pointer
  addr_p: 0, // .addr.p: uint64_t
} as const;
