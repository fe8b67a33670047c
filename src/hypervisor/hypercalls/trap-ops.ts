/**
 * The small hypercalls of the traps room: trap table, callbacks, kernel stack, segment bases, FPU switch, debug registers, NMI
 * handler, iret.
 */
import { EFAULT, EINVAL, ENODEV, ENOSYS } from "../../abi/errno.js";
import {
  SEGBASE_FS,
  SEGBASE_GS_KERNEL,
  SEGBASE_GS_USER,
  SEGBASE_GS_USER_SEL,
  trap_info,
} from "../../abi/arch_x86_xen.js";
import * as CB from "../../abi/callback.js";
import { xennmi_callback, XENNMI_register_callback, XENNMI_unregister_callback } from "../../abi/nmi.js";
import * as X from "../../abi/xen.js";
import { shared_info } from "../../abi/xen.js";
import { FS, GS } from "../../machine/cpu/insn.js";
import type { Va } from "../../machine/cpu/api.js";
import { getDebugReg, setDebugReg } from "../traps/debug-registers.js";
import { taskSwitch } from "../traps/emulate-privop.js";
import { iret } from "../traps/iret.js";
import { loadSegment } from "../traps/load-segments.js";
import type { Vcpu } from "../vcpu.js";
import type { Call, Handler } from "./call.js";
import { canonicalVa } from "./reg-call.js";

const NMI = 2;
/** TI_SET_IF. */
const MASKS_EVENTS = 4;

const setTrapTable: Handler = (call) => {
  const t = call.vcpu.traps;
  if (call.lo(0) === 0 && call.hi(0) === 0) {
    t.clearTraps();
    return 0;
  }
  let at = call.va(0);
  for (;;) {
    const b = call.guest.copyFrom(at, trap_info.size);
    if (b === null) return -EFAULT;
    const d = new DataView(b.buffer);
    const lo = d.getUint32(trap_info.address, true);
    const hi = d.getUint32(trap_info.address + 4, true);
    if (lo === 0 && hi === 0) return 0;
    const va = canonicalVa(lo, hi);
    if (Number.isNaN(va)) return -EINVAL;
    t.setTrap(d.getUint8(trap_info.vector), d.getUint8(trap_info.flags), d.getUint16(trap_info.cs, true) | 3, va);
    at += trap_info.size;
    if (call.preempt()) {
      call.setArg(0, at >>> 0, Math.floor(at / 4294967296) >>> 0);
      return call.restart();
    }
  }
};

/** Register one callback: 0, −EINVAL (address), −ENOSYS (type). */
function register(v: Vcpu, type: number, flags: number, address: Va): number {
  if (Number.isNaN(address)) return -EINVAL;
  const t = v.traps;
  const masks = (flags & CB.CALLBACKF_mask_events) !== 0;
  switch (type) {
    case CB.CALLBACKTYPE_event:
      t.eventCallback = address;
      return 0;
    case CB.CALLBACKTYPE_failsafe:
      t.failsafeCallback = address;
      t.failsafeMasks = masks;
      return 0;
    case CB.CALLBACKTYPE_syscall:
      t.syscallCallback = address;
      t.syscallMasks = masks;
      return 0;
    case CB.CALLBACKTYPE_syscall32:
      t.syscall32Callback = address;
      t.syscall32Masks = masks;
      return 0;
    case CB.CALLBACKTYPE_sysenter:
      t.sysenterCallback = address;
      t.sysenterMasks = masks;
      return 0;
    case CB.CALLBACKTYPE_nmi:
      return registerNmi(v, address);
    default:
      return -ENOSYS;
  }
}

function registerNmi(v: Vcpu, address: Va): number {
  if (Number.isNaN(address)) return -EINVAL;
  v.traps.setTrap(NMI, MASKS_EVENTS, 0xe033, address);
  // A reason that was raised before there was a handler is not lost.
  const { events, xen } = v.domain;
  if (v.id === 0 && events.sharedInfo >= 0 && xen.mem.r64(events.sharedInfo + shared_info.arch_nmi_reason) !== 0)
    v.traps.nmiPending = true;
  return 0;
}

function unregister(v: Vcpu, type: number): number {
  switch (type) {
    case CB.CALLBACKTYPE_event:
    case CB.CALLBACKTYPE_failsafe:
    case CB.CALLBACKTYPE_syscall:
    case CB.CALLBACKTYPE_syscall32:
    case CB.CALLBACKTYPE_sysenter:
      return -EINVAL;
    case CB.CALLBACKTYPE_nmi:
      v.traps.setTrap(NMI, 0, 0, 0);
      return 0;
    default:
      return -ENOSYS;
  }
}

const setCallbacks: Handler = (call) => {
  register(call.vcpu, CB.CALLBACKTYPE_event, 0, call.va(0));
  register(call.vcpu, CB.CALLBACKTYPE_failsafe, 0, call.va(1));
  register(call.vcpu, CB.CALLBACKTYPE_syscall, 0, call.va(2));
  return 0;
};

const callbackOp: Handler = (call) => {
  const cmd = call.lo(0);
  if (cmd === CB.CALLBACKOP_register) {
    const b = call.guest.copyFrom(call.va(1), CB.callback_register.size);
    if (b === null) return -EFAULT;
    const d = new DataView(b.buffer);
    return register(
      call.vcpu,
      d.getUint16(CB.callback_register.type, true),
      d.getUint16(CB.callback_register.flags, true),
      canonicalVa(d.getUint32(CB.callback_register.address, true), d.getUint32(CB.callback_register.address + 4, true)),
    );
  }
  if (cmd === CB.CALLBACKOP_unregister) {
    const b = call.guest.copyFrom(call.va(1), CB.callback_unregister.size);
    if (b === null) return -EFAULT;
    return unregister(call.vcpu, new DataView(b.buffer).getUint16(CB.callback_unregister.type, true));
  }
  return -ENOSYS;
};

const nmiOp: Handler = (call) => {
  switch (call.lo(0)) {
    case XENNMI_register_callback: {
      const b = call.guest.copyFrom(call.va(1), xennmi_callback.size);
      if (b === null) return -EFAULT;
      const d = new DataView(b.buffer);
      return registerNmi(call.vcpu, canonicalVa(d.getUint32(0, true), d.getUint32(4, true)));
    }
    case XENNMI_unregister_callback:
      call.vcpu.traps.setTrap(NMI, 0, 0, 0);
      return 0;
    default:
      return -ENOSYS;
  }
};

const stackSwitch: Handler = (call) => {
  const t = call.vcpu.traps;
  t.kernelSs = (call.lo(0) & 0xffff) | 3;
  t.kernelSpLo = call.lo(1);
  t.kernelSpHi = call.hi(1);
  return 0;
};

function canonicalHalves(hi: number): boolean {
  const top = (hi | 0) >> 15;
  return top === 0 || top === -1;
}

const setSegmentBase: Handler = (call: Call) => {
  const { cpu } = call.xen;
  const t = call.vcpu.traps;
  const lo = call.lo(1);
  const hi = call.hi(1);
  switch (call.lo(0)) {
    case SEGBASE_FS:
      if (!canonicalHalves(hi)) return -EINVAL;
      cpu.setSegBase(FS, lo, hi);
      return 0;
    case SEGBASE_GS_USER:
      if (!canonicalHalves(hi)) return -EINVAL;
      t.gsUserLo = lo;
      t.gsUserHi = hi;
      return 0;
    case SEGBASE_GS_KERNEL:
      if (!canonicalHalves(hi)) return -EINVAL;
      cpu.setSegBase(GS, lo, hi);
      return 0;
    case SEGBASE_GS_USER_SEL: {
      // The selector's base is the user's; the kernel's stays in the CPU. A selector that does not load becomes null.
      const kLo = cpu.segBaseLo(GS);
      const kHi = cpu.segBaseHi(GS);
      const sel = lo & 0xffff;
      if (!loadSegment(call.vcpu, GS, sel > 3 ? sel | 3 : sel)) loadSegment(call.vcpu, GS, 0);
      t.gsUserLo = cpu.segBaseLo(GS);
      t.gsUserHi = cpu.segBaseHi(GS);
      cpu.setSegBase(GS, kLo, kHi);
      return 0;
    }
    default:
      return -EINVAL;
  }
};

export const trapHandlers: Record<number, Handler> = {
  [X.__HYPERVISOR_set_trap_table]: setTrapTable,
  [X.__HYPERVISOR_set_callbacks]: setCallbacks,
  [X.__HYPERVISOR_callback_op]: callbackOp,
  [X.__HYPERVISOR_nmi_op]: nmiOp,
  [X.__HYPERVISOR_stack_switch]: stackSwitch,
  [X.__HYPERVISOR_set_segment_base]: setSegmentBase,
  [X.__HYPERVISOR_fpu_taskswitch]: (call) => {
    taskSwitch(call.vcpu, call.lo(0) !== 0);
    return 0;
  },
  [X.__HYPERVISOR_set_debugreg]: (call) => setDebugReg(call.vcpu, call.lo(0) | 0, call.lo(1), call.hi(1)),
  [X.__HYPERVISOR_get_debugreg]: (call) => {
    const dr = getDebugReg(call.vcpu, call.lo(0) | 0);
    return dr === null ? -ENODEV : (dr.hi | 0) * 4294967296 + (dr.lo >>> 0);
  },
  [X.__HYPERVISOR_iret]: (call) => {
    iret(call.vcpu);
    call.noReturn = true;
    return 0;
  },
};
