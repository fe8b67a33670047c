/**
 * HYPERVISOR_event_channel_op and its compat form: arguments in, rules in `DomainEvents`, results out.
 * Only output fields are written back; a structure that cannot be read or written is −EFAULT.
 */
import { EFAULT, EINVAL, ENOSYS, EPERM, ESRCH } from "../../abi/errno.js";
import {
  EVTCHN_FIFO_LINK_BITS,
  EVTCHNOP_alloc_unbound,
  EVTCHNOP_bind_interdomain,
  EVTCHNOP_bind_ipi,
  EVTCHNOP_bind_pirq,
  EVTCHNOP_bind_vcpu,
  EVTCHNOP_bind_virq,
  EVTCHNOP_close,
  EVTCHNOP_expand_array,
  EVTCHNOP_init_control,
  EVTCHNOP_reset,
  EVTCHNOP_send,
  EVTCHNOP_set_priority,
  EVTCHNOP_status,
  EVTCHNOP_unmask,
  EVTCHNSTAT_interdomain,
  EVTCHNSTAT_pirq,
  EVTCHNSTAT_unbound,
  EVTCHNSTAT_virq,
  evtchn_alloc_unbound,
  evtchn_bind_interdomain,
  evtchn_bind_ipi,
  evtchn_bind_pirq,
  evtchn_bind_vcpu,
  evtchn_bind_virq,
  evtchn_expand_array,
  evtchn_init_control,
  evtchn_reset,
  evtchn_set_priority,
  evtchn_status,
} from "../../abi/event_channel.js";
import { __HYPERVISOR_event_channel_op, __HYPERVISOR_event_channel_op_compat, DOMID_SELF } from "../../abi/xen.js";
import type { Va } from "../../machine/cpu/api.js";
import type { Domain } from "../domain.js";
import { traceCall, type Call, type Handler } from "../hypercalls/call.js";

/** struct evtchn_op (public/event_channel.h, for interface versions below 0x00030202): the command, then the union of arguments. */
const EVTCHN_OP_U = 4;
const EVTCHN_OP_SIZE = 28;

function find(call: Call, domid: number): Domain | undefined {
  return domid === DOMID_SELF ? call.domain : call.xen.domains.get(domid);
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Write a result port, or pass on an error. */
function outPort(call: Call, at: Va, port: number): number {
  if (port < 0) return port;
  return call.guest.write32(at, port) ? 0 : -EFAULT;
}

function run(call: Call, cmd: number, arg: Va): number {
  const guest = call.guest;
  const ev = call.domain.events;
  switch (cmd) {
    case EVTCHNOP_send: {
      const port = guest.read32(arg);
      return port < 0 ? -EFAULT : ev.send(port);
    }
    case EVTCHNOP_unmask: {
      const port = guest.read32(arg);
      return port < 0 ? -EFAULT : ev.unmask(port);
    }
    case EVTCHNOP_close: {
      const port = guest.read32(arg);
      return port < 0 ? -EFAULT : ev.close(port);
    }
    case EVTCHNOP_alloc_unbound: {
      const b = guest.copyFrom(arg, evtchn_alloc_unbound.size);
      if (b === null) return -EFAULT;
      const a = view(b);
      const dom = a.getUint16(evtchn_alloc_unbound.dom, true);
      const d = find(call, dom);
      if (d === undefined) return -ESRCH;
      if (d !== call.domain && !call.domain.privileged) return -EPERM;
      const remote = a.getUint16(evtchn_alloc_unbound.remote_dom, true);
      return outPort(call, arg + evtchn_alloc_unbound.port, d.events.allocUnbound(remote, call.domain.domid));
    }
    case EVTCHNOP_bind_interdomain: {
      const b = guest.copyFrom(arg, evtchn_bind_interdomain.size);
      if (b === null) return -EFAULT;
      const a = view(b);
      const port = ev.bindInterdomain(
        a.getUint16(evtchn_bind_interdomain.remote_dom, true),
        a.getUint32(evtchn_bind_interdomain.remote_port, true),
      );
      return outPort(call, arg + evtchn_bind_interdomain.local_port, port);
    }
    case EVTCHNOP_bind_virq: {
      const b = guest.copyFrom(arg, evtchn_bind_virq.size);
      if (b === null) return -EFAULT;
      const a = view(b);
      const port = ev.bindVirq(a.getUint32(evtchn_bind_virq.virq, true), a.getUint32(evtchn_bind_virq.vcpu, true));
      return outPort(call, arg + evtchn_bind_virq.port, port);
    }
    case EVTCHNOP_bind_ipi: {
      const b = guest.copyFrom(arg, evtchn_bind_ipi.size);
      if (b === null) return -EFAULT;
      return outPort(call, arg + evtchn_bind_ipi.port, ev.bindIpi(view(b).getUint32(evtchn_bind_ipi.vcpu, true)));
    }
    case EVTCHNOP_bind_pirq: {
      const b = guest.copyFrom(arg, evtchn_bind_pirq.size);
      if (b === null) return -EFAULT;
      return outPort(call, arg + evtchn_bind_pirq.port, ev.bindPirq(view(b).getUint32(evtchn_bind_pirq.pirq, true)));
    }
    case EVTCHNOP_status: {
      const b = guest.copyFrom(arg, evtchn_status.size);
      if (b === null) return -EFAULT;
      const a = view(b);
      const d = find(call, a.getUint16(evtchn_status.dom, true));
      if (d === undefined) return -ESRCH;
      const s = d.events.status(a.getUint32(evtchn_status.port, true));
      if (typeof s === "number") return s;
      if (d !== call.domain && !call.domain.privileged) return -EPERM;
      a.setUint32(evtchn_status.status, s.status, true);
      a.setUint32(evtchn_status.vcpu, s.vcpu, true);
      if (s.status === EVTCHNSTAT_unbound) a.setUint16(evtchn_status.u_unbound_dom, s.dom, true);
      else if (s.status === EVTCHNSTAT_interdomain) {
        a.setUint16(evtchn_status.u_interdomain_dom, s.dom, true);
        a.setUint32(evtchn_status.u_interdomain_port, s.value, true);
      } else if (s.status === EVTCHNSTAT_pirq || s.status === EVTCHNSTAT_virq)
        a.setUint32(evtchn_status.u_virq, s.value, true);
      return guest.copyTo(arg, b) ? 0 : -EFAULT;
    }
    case EVTCHNOP_bind_vcpu: {
      const b = guest.copyFrom(arg, evtchn_bind_vcpu.size);
      if (b === null) return -EFAULT;
      const a = view(b);
      return ev.bindVcpu(a.getUint32(evtchn_bind_vcpu.port, true), a.getUint32(evtchn_bind_vcpu.vcpu, true));
    }
    case EVTCHNOP_reset: {
      const b = guest.copyFrom(arg, evtchn_reset.size);
      if (b === null) return -EFAULT;
      const d = find(call, view(b).getUint16(evtchn_reset.dom, true));
      if (d === undefined) return -ESRCH;
      if (d !== call.domain && !call.domain.privileged) return -EPERM;
      // Another domain must hold still while its ports go.
      if (d !== call.domain && d.pauseCount === 0) return -EINVAL;
      return d.events.reset();
    }
    case EVTCHNOP_init_control: {
      const b = guest.copyFrom(arg, evtchn_init_control.size);
      if (b === null) return -EFAULT;
      const a = view(b);
      const rc = ev.initControl(
        a.getUint32(evtchn_init_control.vcpu, true),
        a.getUint32(evtchn_init_control.control_gfn, true),
        a.getUint32(evtchn_init_control.control_gfn + 4, true),
        a.getUint32(evtchn_init_control.offset, true),
      );
      if (rc !== 0) return rc;
      a.setUint8(evtchn_init_control.link_bits, EVTCHN_FIFO_LINK_BITS);
      return guest.copyTo(arg, b) ? 0 : -EFAULT;
    }
    case EVTCHNOP_expand_array: {
      const b = guest.copyFrom(arg, evtchn_expand_array.size);
      if (b === null) return -EFAULT;
      const a = view(b);
      return ev.expandArray(
        a.getUint32(evtchn_expand_array.array_gfn, true),
        a.getUint32(evtchn_expand_array.array_gfn + 4, true),
      );
    }
    case EVTCHNOP_set_priority: {
      const b = guest.copyFrom(arg, evtchn_set_priority.size);
      if (b === null) return -EFAULT;
      const a = view(b);
      return ev.setPriority(
        a.getUint32(evtchn_set_priority.port, true),
        a.getUint32(evtchn_set_priority.priority, true),
      );
    }
    default:
      return -ENOSYS;
  }
}

const NAMES: Readonly<Record<number, string>> = {
  [EVTCHNOP_bind_interdomain]: "bind_interdomain",
  [EVTCHNOP_bind_virq]: "bind_virq",
  [EVTCHNOP_bind_pirq]: "bind_pirq",
  [EVTCHNOP_close]: "close",
  [EVTCHNOP_send]: "send",
  [EVTCHNOP_status]: "status",
  [EVTCHNOP_alloc_unbound]: "alloc_unbound",
  [EVTCHNOP_bind_ipi]: "bind_ipi",
  [EVTCHNOP_bind_vcpu]: "bind_vcpu",
  [EVTCHNOP_unmask]: "unmask",
  [EVTCHNOP_reset]: "reset",
  [EVTCHNOP_init_control]: "init_control",
  [EVTCHNOP_expand_array]: "expand_array",
  [EVTCHNOP_set_priority]: "set_priority",
};

function traced(call: Call, cmd: number, arg: Va): number {
  if (!call.xen.trace.on) return run(call, cmd, arg);
  const first = Math.max(0, call.guest.read32(arg));
  const result = run(call, cmd, arg);
  const ofPort = cmd === EVTCHNOP_send || cmd === EVTCHNOP_close || cmd === EVTCHNOP_unmask;
  traceCall(call, "event", NAMES[cmd] ?? `event_channel_op.${cmd}`, ofPort ? { port: first } : { arg }, result);
  return result;
}

const eventChannelOp: Handler = (call) => traced(call, call.lo(0) | 0, call.va(1));

/** Legacy form: one pointer to a command and its arguments; only the commands of its time. */
const eventChannelOpCompat: Handler = (call) => {
  const op = call.va(0);
  const b = call.guest.copyFrom(op, EVTCHN_OP_SIZE);
  if (b === null) return -EFAULT;
  const cmd = view(b).getUint32(0, true);
  return cmd > EVTCHNOP_unmask ? -ENOSYS : traced(call, cmd, op + EVTCHN_OP_U);
};

export const eventHandlers: Record<number, Handler> = {
  [__HYPERVISOR_event_channel_op]: eventChannelOp,
  [__HYPERVISOR_event_channel_op_compat]: eventChannelOpCompat,
};
