/**
 * HYPERVISOR_sched_op and its compat form.
 */
import { EFAULT, ENOSYS, EPERM, ESRCH } from "../../abi/errno.js";
import {
  sched_pin_override,
  sched_poll,
  sched_remote_shutdown,
  sched_shutdown,
  sched_watchdog,
  SCHEDOP_block,
  SCHEDOP_pin_override,
  SCHEDOP_poll,
  SCHEDOP_remote_shutdown,
  SCHEDOP_shutdown,
  SCHEDOP_shutdown_code,
  SCHEDOP_watchdog,
  SCHEDOP_yield,
} from "../../abi/sched.js";
import { __HYPERVISOR_sched_op, __HYPERVISOR_sched_op_compat } from "../../abi/xen.js";
import type { Domain } from "../domain.js";
import type { Call, Handler } from "../hypercalls/call.js";
import { areaOkay, toVa } from "../time/guest-area.js";

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Shut a domain down; a code latched before (SCHEDOP_shutdown_code) goes first. Codes are a byte. */
function shutdown(domain: Domain, reason: number): number {
  domain.shutdown(domain.shutdownCode >= 0 ? domain.shutdownCode : reason & 0xff);
  return 0;
}

function block(call: Call): number {
  call.vcpu.events.setMasked(false);
  call.xen.scheduler.block(call.vcpu.sched);
  return 0;
}

function poll(call: Call): number {
  const b = call.guest.copyFrom(call.va(1), sched_poll.size);
  if (b === null) return -EFAULT;
  const a = view(b);
  const ports = toVa(a.getUint32(sched_poll.ports, true), a.getUint32(sched_poll.ports + 4, true));
  const n = a.getUint32(sched_poll.nr_ports, true);
  const timeout = a.getUint32(sched_poll.timeout, true) + a.getUint32(sched_poll.timeout + 4, true) * 4294967296;
  if (n <= 128 && n > 0 && !areaOkay(ports, n * 4)) return -EFAULT;
  return call.xen.scheduler.poll(call.vcpu.sched, n, (i) => call.guest.read32(ports + 4 * i), timeout);
}

const schedOp: Handler = (call) => {
  const cmd = call.lo(0) | 0;
  switch (cmd) {
    case SCHEDOP_yield:
      call.xen.scheduler.yield(call.vcpu.sched);
      return 0;
    case SCHEDOP_block:
      return block(call);
    case SCHEDOP_poll:
      return poll(call);
    case SCHEDOP_shutdown: {
      const b = call.guest.copyFrom(call.va(1), sched_shutdown.size);
      return b === null ? -EFAULT : shutdown(call.domain, view(b).getUint32(sched_shutdown.reason, true));
    }
    case SCHEDOP_shutdown_code: {
      const b = call.guest.copyFrom(call.va(1), sched_shutdown.size);
      if (b === null) return -EFAULT;
      if (call.domain.shutdownCode < 0)
        call.domain.shutdownCode = view(b).getUint32(sched_shutdown.reason, true) & 0xff;
      return 0;
    }
    case SCHEDOP_remote_shutdown: {
      const b = call.guest.copyFrom(call.va(1), sched_remote_shutdown.size);
      if (b === null) return -EFAULT;
      const a = view(b);
      // By number only: DOMID_SELF is not looked up here.
      const d = call.xen.domains.get(a.getUint16(sched_remote_shutdown.domain_id, true));
      if (d === undefined) return -ESRCH;
      if (!call.domain.privileged) return -EPERM;
      return shutdown(d, a.getUint32(sched_remote_shutdown.reason, true));
    }
    case SCHEDOP_watchdog: {
      const b = call.guest.copyFrom(call.va(1), sched_watchdog.size);
      if (b === null) return -EFAULT;
      const a = view(b);
      return call.xen.scheduler.watchdog(
        call.domain,
        a.getUint32(sched_watchdog.id, true),
        a.getUint32(sched_watchdog.timeout, true),
      );
    }
    case SCHEDOP_pin_override: {
      if (call.domain.domid !== 0) return -EPERM;
      const b = call.guest.copyFrom(call.va(1), sched_pin_override.size);
      if (b === null) return -EFAULT;
      return call.xen.scheduler.pinOverride(call.vcpu.sched, view(b).getInt32(sched_pin_override.pcpu, true));
    }
    default:
      return -ENOSYS;
  }
};

/** Legacy form (interface below 0x00030101): yield, block, and shutdown with the reason itself as argument. */
const schedOpCompat: Handler = (call) => {
  switch (call.lo(0) | 0) {
    case SCHEDOP_yield:
      call.xen.scheduler.yield(call.vcpu.sched);
      return 0;
    case SCHEDOP_block:
      return block(call);
    case SCHEDOP_shutdown:
      return shutdown(call.domain, call.lo(1));
    default:
      return -ENOSYS;
  }
};

export const schedulerHandlers: Record<number, Handler> = {
  [__HYPERVISOR_sched_op]: schedOp,
  [__HYPERVISOR_sched_op_compat]: schedOpCompat,
};
