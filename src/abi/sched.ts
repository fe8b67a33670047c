// Scheduler operations and shutdown reasons.
// Source: <xen/sched.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const SCHEDOP_yield = 0;
export const SCHEDOP_block = 1;
export const SCHEDOP_shutdown = 2;
export const SCHEDOP_poll = 3;
export const SCHEDOP_remote_shutdown = 4;
export const SCHEDOP_shutdown_code = 5;
export const SCHEDOP_watchdog = 6;
export const SCHEDOP_pin_override = 7;

export const SHUTDOWN_poweroff = 0;
export const SHUTDOWN_reboot = 1;
export const SHUTDOWN_suspend = 2;
export const SHUTDOWN_crash = 3;
export const SHUTDOWN_watchdog = 4;
export const SHUTDOWN_soft_reset = 5;
export const SHUTDOWN_MAX = 5;

/** struct sched_shutdown */
export const sched_shutdown = {
  size: 4,
  reason: 0, // unsigned int
} as const;

/** struct sched_poll */
export const sched_poll = {
  size: 24,
  ports: 0, // guest handle of evtchn_port_t
  nr_ports: 8, // unsigned int
  timeout: 16, // uint64_t
} as const;

/** struct sched_remote_shutdown */
export const sched_remote_shutdown = {
  size: 8,
  domain_id: 0, // domid_t
  reason: 4, // unsigned int
} as const;

/** struct sched_watchdog */
export const sched_watchdog = {
  size: 8,
  id: 0, // uint32_t
  timeout: 4, // uint32_t
} as const;

/** struct sched_pin_override */
export const sched_pin_override = {
  size: 4,
  pcpu: 0, // int32_t
} as const;
