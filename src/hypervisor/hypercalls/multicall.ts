/**
 * HYPERVISOR_multicall: a list of hypercalls in guest memory (struct multicall_entry), executed in order; each result is written to its
 * entry. Preempted entries are rewritten in place and the multicall is continued behind what is done. An iret ends the list: the
 * guest does not come back here. Not to be nested.
 */
import { EFAULT, EINVAL, ENOSYS } from "../../abi/errno.js";
import { multicall_entry } from "../../abi/xen.js";
import type { Call, Handler } from "./call.js";
import { traced } from "./dispatch.js";
import { ArgCall, RegCall } from "./reg-call.js";

export const multicall: Handler = (call: Call): number => {
  if (!(call instanceof RegCall)) return -EINVAL;
  const { xen, guest, vcpu } = call;
  let list = call.va(0);
  let count = call.lo(1);
  if (Number.isNaN(list)) return -EFAULT;
  const sub = (xen.multicallEntry ??= new ArgCall(xen));
  sub.domain = call.domain;
  sub.vcpu = vcpu;
  while (count > 0) {
    const bytes = guest.copyFrom(list, multicall_entry.size);
    if (bytes === null) return -EFAULT;
    const d = new DataView(bytes.buffer);
    const number = d.getUint32(multicall_entry.op + 4, true) === 0 ? d.getUint32(multicall_entry.op, true) : 0xffffffff;
    for (let i = 0; i < 12; i++) sub.args[i] = d.getUint32(multicall_entry.args + i * 4, true);
    sub.restarted = false;
    sub.noReturn = false;
    const handler = number < 64 ? xen.handlers[number] : null;
    xen.counters.multicalls++;
    let result = -ENOSYS;
    if (handler !== null && handler !== undefined) {
      xen.counters.byHypercall[number] = (xen.counters.byHypercall[number] as number) + 1;
      result = xen.trace.on ? traced(number, sub, handler, 1) : handler(sub);
    }
    if (sub.noReturn) {
      call.noReturn = true;
      return 0;
    }
    if (sub.restarted) {
      for (let i = 0; i < 12; i++) d.setUint32(multicall_entry.args + i * 4, sub.args[i] as number, true);
      if (!guest.copyTo(list, bytes)) return -EFAULT;
      return again(call, list, count);
    }
    if (!guest.write64(list + multicall_entry.result, result | 0, Math.floor(result / 4294967296))) return -EFAULT;
    list += multicall_entry.size;
    count--;
    if (count > 0 && call.preempt()) return again(call, list, count);
  }
  return 0;
};

function again(call: Call, list: number, count: number): number {
  call.setArg(0, list >>> 0, Math.floor(list / 4294967296) >>> 0);
  call.setArg(1, count, 0);
  return call.restart();
}
