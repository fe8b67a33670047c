/**
 * HYPERVISOR_console_io. Any guest's writes are shown on the hypervisor's console (as in builds with verbose debugging); reading
 * the console's input is the privileged domain's alone.
 */
import { E2BIG, EFAULT, ENOSYS, EPERM } from "../../abi/errno.js";
import { CONSOLEIO_read, CONSOLEIO_write } from "../../abi/xen.js";
import type { Call, Handler } from "./call.js";

/** Copied at a time. */
const CHUNK = 4096;

function write(call: Call): number {
  let count = call.lo(1);
  let va = call.va(2);
  while (count > 0) {
    const n = Math.min(count, CHUNK);
    const bytes = call.guest.copyFrom(va, n);
    if (bytes === null) return -EFAULT;
    if (call.domain.privileged || call.xen.guestConsole) call.xen.console.guestWrite(call.domain.domid, bytes);
    va += n;
    count -= n;
    if (count > 0 && call.preempt()) {
      call.setArg(1, count, 0);
      call.setArg(2, va >>> 0, Math.floor(va / 4294967296) >>> 0);
      return call.restart();
    }
  }
  return 0;
}

export const consoleIo: Handler = (call) => {
  switch (call.lo(0)) {
    case CONSOLEIO_write:
      return write(call);
    case CONSOLEIO_read: {
      if (!call.domain.privileged) return -EPERM;
      const count = call.lo(1);
      if (count > 0x7fffffff) return -E2BIG;
      const bytes = call.xen.console.read(count);
      return call.guest.copyTo(call.va(2), bytes) ? bytes.length : -EFAULT;
    }
    default:
      return call.domain.privileged ? -ENOSYS : -EPERM;
  }
};
