/**
 * HYPERVISOR_set_timer_op and HYPERVISOR_vcpu_op.
 */
import { EEXIST, EFAULT, EINVAL, ENOENT, ENOSYS, ETIME } from "../../abi/errno.js";
import { vcpu_guest_context } from "../../abi/arch_x86_xen.js";
import { SHUTDOWN_poweroff } from "../../abi/sched.js";
import {
  VCPU_SSHOTTMR_future,
  VCPUOP_down,
  VCPUOP_get_physid,
  VCPUOP_get_runstate_info,
  VCPUOP_initialise,
  VCPUOP_is_up,
  VCPUOP_register_runstate_memory_area,
  VCPUOP_register_vcpu_info,
  VCPUOP_register_vcpu_time_memory_area,
  VCPUOP_send_nmi,
  VCPUOP_set_periodic_timer,
  VCPUOP_set_singleshot_timer,
  VCPUOP_stop_periodic_timer,
  VCPUOP_stop_singleshot_timer,
  VCPUOP_up,
  vcpu_register_time_memory_area,
  vcpu_register_vcpu_info,
  vcpu_runstate_info,
  vcpu_set_periodic_timer,
  vcpu_set_singleshot_timer,
} from "../../abi/vcpu.js";
import { __HYPERVISOR_set_timer_op, __HYPERVISOR_vcpu_op, vcpu_time_info } from "../../abi/xen.js";
import type { Va } from "../../machine/cpu/api.js";
import { setGuestContext } from "../guest-context.js";
import type { Call, Handler } from "../hypercalls/call.js";
import type { Vcpu } from "../vcpu.js";
import { areaOkay, toVa } from "./guest-area.js";

const MS = 1e6;
/** Timeouts further ahead than 2^50 ns (13 days) or wrapped negative are old Linux's "never"; Xen ticks after 100 ms instead. */
const HUGE = 2 ** 50;
/** Longest period (Xen's STIME_DELTA_MAX, 2^63 − 2^51… ns, is beyond what a double counts; a period this long never fires anyway). */
const MAX_PERIOD = 2 ** 62;

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
function u64(v: DataView, at: number): number {
  return v.getUint32(at, true) + v.getUint32(at + 4, true) * 4294967296;
}

const setTimerOp: Handler = (call) => {
  const timeout = call.num(0);
  const now = call.xen.clock.now();
  const { time } = call.vcpu;
  if (timeout === 0) time.stopSingleshot();
  else if (timeout - now >= HUGE) time.setSingleshot(now + 100 * MS, now);
  else time.setSingleshot(timeout, now);
  return 0;
};

/** An argument that is the address of an area: the area's address, 0 for none, or NaN when it may not be registered. */
function areaArgument(call: Call, arg: Va, len: number): Va | null {
  const b = call.guest.copyFrom(arg, vcpu_register_time_memory_area.size);
  if (b === null) return null;
  const a = view(b);
  const va = toVa(a.getUint32(0, true), a.getUint32(4, true));
  return areaOkay(va, len) ? va : null;
}

function down(call: Call, v: Vcpu): number {
  if (!call.domain.vcpus.some((o) => o !== v && o.up)) {
    call.domain.shutdown(SHUTDOWN_poweroff);
    return 0;
  }
  if (v.up) {
    v.up = false;
    call.xen.scheduler.sleep(v.sched);
  }
  return 0;
}

const scratch = new Uint8Array(vcpu_runstate_info.size);
const scratchView = new DataView(scratch.buffer);

const vcpuOp: Handler = (call) => {
  const cmd = call.lo(0) | 0;
  const v = call.domain.vcpus[call.lo(1)];
  if (v === undefined) return -ENOENT;
  const arg = call.va(2);
  const { guest, xen } = call;
  switch (cmd) {
    case VCPUOP_set_singleshot_timer: {
      if (v !== call.vcpu) return -EINVAL;
      // The commonest timer call of all: read in place.
      const lo = guest.read32(arg + vcpu_set_singleshot_timer.timeout_abs_ns);
      const hi = guest.read32(arg + vcpu_set_singleshot_timer.timeout_abs_ns + 4);
      const flags = guest.read32(arg + vcpu_set_singleshot_timer.flags);
      if (lo < 0 || hi < 0 || flags < 0) return -EFAULT;
      const timeout = lo + hi * 4294967296;
      const now = xen.clock.now();
      if (timeout < now && (flags & VCPU_SSHOTTMR_future) !== 0) return -ETIME;
      v.time.setSingleshot(timeout, now);
      return 0;
    }
    case VCPUOP_stop_singleshot_timer:
      if (v !== call.vcpu) return -EINVAL;
      v.time.stopSingleshot();
      return 0;
    case VCPUOP_is_up:
      return v.up ? 1 : 0;
    case VCPUOP_initialise: {
      // A vCPU above 31 has nowhere to see its events until it has registered a vcpu_info.
      if (v.events.infoMaddr < 0) return -EINVAL;
      const b = guest.copyFrom(arg, vcpu_guest_context.size);
      if (b === null) return -EFAULT;
      return v.initialised ? -EEXIST : setGuestContext(v, b);
    }
    case VCPUOP_up:
      if (!v.initialised) return -EINVAL;
      if (!v.up) {
        v.up = true;
        xen.scheduler.wake(v.sched);
      }
      return 0;
    case VCPUOP_down:
      return down(call, v);
    case VCPUOP_get_runstate_info:
      v.time.runstate.encodeAt(scratchView, xen.clock.now());
      return guest.copyTo(arg, scratch) ? 0 : -EFAULT;
    case VCPUOP_set_periodic_timer: {
      const b = guest.copyFrom(arg, vcpu_set_periodic_timer.size);
      if (b === null) return -EFAULT;
      const period = u64(view(b), vcpu_set_periodic_timer.period_ns);
      if (period < MS || period > MAX_PERIOD) return -EINVAL;
      v.time.setPeriod(period, xen.clock.now());
      return 0;
    }
    case VCPUOP_stop_periodic_timer:
      v.time.setPeriod(0, 0);
      return 0;
    case VCPUOP_register_vcpu_info: {
      const b = guest.copyFrom(arg, vcpu_register_vcpu_info.size);
      if (b === null) return -EFAULT;
      const a = view(b);
      const rc = v.events.register(
        a.getUint32(vcpu_register_vcpu_info.mfn, true),
        a.getUint32(vcpu_register_vcpu_info.mfn + 4, true),
        a.getUint32(vcpu_register_vcpu_info.offset, true),
      );
      if (rc === 0) v.time.update(xen.clock.now());
      return rc;
    }
    case VCPUOP_register_runstate_memory_area: {
      const va = areaArgument(call, arg, vcpu_runstate_info.size);
      if (va === null) return -EFAULT;
      v.time.registerRunstateArea(va, xen.clock.now());
      return 0;
    }
    case VCPUOP_register_vcpu_time_memory_area: {
      const va = areaArgument(call, arg, vcpu_time_info.size);
      if (va === null) return -EFAULT;
      v.time.registerTimeArea(va, xen.clock.now());
      return 0;
    }
    case VCPUOP_send_nmi:
      if (arg !== 0) return -EINVAL;
      v.traps.nmiPending = true;
      v.events.kick();
      return 0;
    case VCPUOP_get_physid:
      // Only for domain 0's vCPUs that are pinned for good.
      return -EINVAL;
    default:
      return -ENOSYS;
  }
};

export const timeHandlers: Record<number, Handler> = {
  [__HYPERVISOR_set_timer_op]: setTimerOp,
  [__HYPERVISOR_vcpu_op]: vcpuOp,
};
