// Event channel operations, their argument structures, and the FIFO ABI.
// Source: <xen/event_channel.h>. Layout: 64-bit x86. abi.test.ts compares every line with the headers.

export const EVTCHNOP_bind_interdomain = 0;
export const EVTCHNOP_bind_virq = 1;
export const EVTCHNOP_bind_pirq = 2;
export const EVTCHNOP_close = 3;
export const EVTCHNOP_send = 4;
export const EVTCHNOP_status = 5;
export const EVTCHNOP_alloc_unbound = 6;
export const EVTCHNOP_bind_ipi = 7;
export const EVTCHNOP_bind_vcpu = 8;
export const EVTCHNOP_unmask = 9;
export const EVTCHNOP_reset = 10;
export const EVTCHNOP_init_control = 11;
export const EVTCHNOP_expand_array = 12;
export const EVTCHNOP_set_priority = 13;

export const BIND_PIRQ__WILL_SHARE = 1;

export const EVTCHNSTAT_closed = 0;
export const EVTCHNSTAT_unbound = 1;
export const EVTCHNSTAT_interdomain = 2;
export const EVTCHNSTAT_pirq = 3;
export const EVTCHNSTAT_virq = 4;
export const EVTCHNSTAT_ipi = 5;

export const EVTCHN_2L_NR_CHANNELS = 4096;
export const EVTCHN_FIFO_PRIORITY_MAX = 0;
export const EVTCHN_FIFO_PRIORITY_DEFAULT = 7;
export const EVTCHN_FIFO_PRIORITY_MIN = 15;
export const EVTCHN_FIFO_MAX_QUEUES = 16;
export const EVTCHN_FIFO_PENDING = 31;
export const EVTCHN_FIFO_MASKED = 30;
export const EVTCHN_FIFO_LINKED = 29;
export const EVTCHN_FIFO_BUSY = 28;
export const EVTCHN_FIFO_LINK_BITS = 17;
export const EVTCHN_FIFO_LINK_MASK = 0x1ffff;
export const EVTCHN_FIFO_NR_CHANNELS = 0x20000;

/** struct evtchn_alloc_unbound */
export const evtchn_alloc_unbound = {
  size: 8,
  dom: 0, // domid_t
  remote_dom: 2, // domid_t
  port: 4, // evtchn_port_t
} as const;

/** struct evtchn_bind_interdomain */
export const evtchn_bind_interdomain = {
  size: 12,
  remote_dom: 0, // domid_t
  remote_port: 4, // evtchn_port_t
  local_port: 8, // evtchn_port_t
} as const;

/** struct evtchn_bind_virq */
export const evtchn_bind_virq = {
  size: 12,
  virq: 0, // uint32_t
  vcpu: 4, // uint32_t
  port: 8, // evtchn_port_t
} as const;

/** struct evtchn_bind_pirq */
export const evtchn_bind_pirq = {
  size: 12,
  pirq: 0, // uint32_t
  flags: 4, // uint32_t
  port: 8, // evtchn_port_t
} as const;

/** struct evtchn_bind_ipi */
export const evtchn_bind_ipi = {
  size: 8,
  vcpu: 0, // uint32_t
  port: 4, // evtchn_port_t
} as const;

/** struct evtchn_close */
export const evtchn_close = {
  size: 4,
  port: 0, // evtchn_port_t
} as const;

/** struct evtchn_send */
export const evtchn_send = {
  size: 4,
  port: 0, // evtchn_port_t
} as const;

/** struct evtchn_status */
export const evtchn_status = {
  size: 24,
  dom: 0, // domid_t
  port: 4, // evtchn_port_t
  status: 8, // uint32_t
  vcpu: 12, // uint32_t
  u: 16, // union
  u_unbound: 16, // .u.unbound: struct
  u_unbound_dom: 16, // .u.unbound.dom: domid_t
  u_interdomain: 16, // .u.interdomain: struct
  u_interdomain_dom: 16, // .u.interdomain.dom: domid_t
  u_interdomain_port: 20, // .u.interdomain.port: evtchn_port_t
  u_pirq: 16, // .u.pirq: uint32_t
  u_virq: 16, // .u.virq: uint32_t
} as const;

/** struct evtchn_bind_vcpu */
export const evtchn_bind_vcpu = {
  size: 8,
  port: 0, // evtchn_port_t
  vcpu: 4, // uint32_t
} as const;

/** struct evtchn_unmask */
export const evtchn_unmask = {
  size: 4,
  port: 0, // evtchn_port_t
} as const;

/** struct evtchn_reset */
export const evtchn_reset = {
  size: 2,
  dom: 0, // domid_t
} as const;

/** struct evtchn_init_control */
export const evtchn_init_control = {
  size: 24,
  control_gfn: 0, // uint64_t
  offset: 8, // uint32_t
  vcpu: 12, // uint32_t
  link_bits: 16, // uint8_t
  _pad: 17, // uint8_t[7]
} as const;

/** struct evtchn_expand_array */
export const evtchn_expand_array = {
  size: 8,
  array_gfn: 0, // uint64_t
} as const;

/** struct evtchn_set_priority */
export const evtchn_set_priority = {
  size: 8,
  port: 0, // evtchn_port_t
  priority: 4, // uint32_t
} as const;

/** struct evtchn_fifo_control_block */
export const evtchn_fifo_control_block = {
  size: 72,
  ready: 0, // uint32_t
  _rsvd: 4, // uint32_t
  head: 8, // uint32_t[16]
} as const;
