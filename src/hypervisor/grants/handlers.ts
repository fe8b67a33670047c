/**
 * HYPERVISOR_grant_table_op: (command, array of requests, count). Each request gets its own status; the hypercall's result is an error only where
 * the array itself cannot be read or written. Long arrays continue by themselves.
 */
import { EFAULT, EINVAL, ENOSYS } from "../../abi/errno.js";
import {
  GNTTABOP_cache_flush,
  GNTTABOP_copy,
  GNTTABOP_get_status_frames,
  GNTTABOP_get_version,
  GNTTABOP_map_grant_ref,
  GNTTABOP_query_size,
  GNTTABOP_set_version,
  GNTTABOP_setup_table,
  GNTTABOP_swap_grant_ref,
  GNTTABOP_transfer,
  GNTTABOP_unmap_and_replace,
  GNTTABOP_unmap_grant_ref,
  gnttab_copy,
  gnttab_map_grant_ref,
  gnttab_swap_grant_ref,
  gnttab_transfer,
  gnttab_unmap_and_replace,
  gnttab_unmap_grant_ref,
} from "../../abi/grant_table.js";
import { __HYPERVISOR_grant_table_op } from "../../abi/xen.js";
import type { Va } from "../../machine/cpu/api.js";
import { traceCall, type Call, type Handler } from "../hypercalls/call.js";
import { advanceArg, view } from "../memory/util.js";
import { cacheFlush } from "./cache-flush.js";
import { copyOne } from "./copy.js";
import { mapOne } from "./map.js";
import { getStatusFrames, getVersion, putStatus, querySize, setupTable } from "./query.js";
import { setVersion } from "./set-version.js";
import { swapRefs } from "./swap.js";
import { transferOne } from "./transfer.js";
import { completeUnmaps, UNMAP_BATCH, unmapOne, type Pending } from "./unmap.js";

const CMD_MASK = 0xfff;
const PREEMPT_EVERY = 16;

export function doGrantTableOp(call: Call): number {
  const raw = call.lo(0);
  const cmd = raw & CMD_MASK;
  const at = call.va(1);
  const count = call.lo(2) | 0;
  if (count < 0) return -EINVAL;
  if (cmd !== GNTTABOP_cache_flush && cmd !== raw) return -EINVAL;
  switch (cmd) {
    case GNTTABOP_map_grant_ref:
      return each(call, at, count, gnttab_map_grant_ref.size, (v, p, b) => {
        mapOne(call, v);
        trace(call, "map_grant_ref", v.getInt16(gnttab_map_grant_ref.status, true), {
          dom: v.getUint16(gnttab_map_grant_ref.dom, true),
          ref: v.getUint32(gnttab_map_grant_ref.ref, true),
          flags: v.getUint32(gnttab_map_grant_ref.flags, true),
        });
        return call.guest.copyTo(p, b) ? 0 : -EFAULT;
      });
    case GNTTABOP_unmap_grant_ref:
    case GNTTABOP_unmap_and_replace:
      return unmapAll(call, at, count, cmd === GNTTABOP_unmap_and_replace);
    case GNTTABOP_setup_table:
      return setupTable(call, at, count);
    case GNTTABOP_transfer:
      return each(call, at, count, gnttab_transfer.size, (v, p) =>
        putStatus(call, p + gnttab_transfer.status, transferOne(call, v)),
      );
    case GNTTABOP_copy:
      return each(call, at, count, gnttab_copy.size, (v, p) => {
        const status = copyOne(call, v);
        trace(call, "copy", status, { len: v.getUint16(gnttab_copy.len, true) });
        return putStatus(call, p + gnttab_copy.status, status);
      });
    case GNTTABOP_query_size:
      return querySize(call, at, count);
    case GNTTABOP_set_version:
      return setVersion(call, at);
    case GNTTABOP_get_status_frames:
      return getStatusFrames(call, at, count);
    case GNTTABOP_get_version:
      return getVersion(call, at);
    case GNTTABOP_swap_grant_ref:
      return each(call, at, count, gnttab_swap_grant_ref.size, (v, p) =>
        putStatus(
          call,
          p + gnttab_swap_grant_ref.status,
          swapRefs(
            call.domain.grants,
            v.getUint32(gnttab_swap_grant_ref.ref_a, true),
            v.getUint32(gnttab_swap_grant_ref.ref_b, true),
          ),
        ),
      );
    case GNTTABOP_cache_flush:
      return cacheFlush();
    default:
      return -ENOSYS;
  }
}

function trace(call: Call, name: string, result: number, args: Record<string, number>): void {
  if (call.xen.trace.on) traceCall(call, "grant", name, args, result);
}

/** Continue with the requests from `done` on. */
function resume(call: Call, done: number, count: number, size: number): number {
  advanceArg(call, 1, done * size);
  call.setArg(2, count - done, 0);
  return call.restart();
}

function each(
  call: Call,
  at: Va,
  count: number,
  size: number,
  one: (v: DataView, p: Va, b: Uint8Array) => number,
): number {
  for (let i = 0; i < count; i++) {
    if (i !== 0 && i % PREEMPT_EVERY === 0 && call.preempt()) return resume(call, i, count, size);
    const p = at + i * size;
    const b = call.guest.copyFrom(p, size);
    if (b === null) return -EFAULT;
    const rc = one(view(b), p, b);
    if (rc !== 0) return rc;
  }
  return 0;
}

function unmapAll(call: Call, at: Va, count: number, replace: boolean): number {
  const s = replace ? gnttab_unmap_and_replace : gnttab_unmap_grant_ref;
  const pending: Pending[] = [];
  let i = 0;
  let rc = 0;
  while (i < count && rc === 0) {
    const end = Math.min(count, i + UNMAP_BATCH);
    for (; i < end && rc === 0; i++) {
      const p = at + i * s.size;
      const b = call.guest.copyFrom(p, s.size);
      if (b === null) {
        rc = -EFAULT;
        break;
      }
      const v = view(b);
      const second = replace ? gnttab_unmap_and_replace.new_addr : gnttab_unmap_grant_ref.dev_bus_addr;
      const lo = v.getUint32(second, true);
      const hi = v.getUint32(second + 4, true);
      const status = unmapOne(
        call,
        {
          hostLo: v.getUint32(s.host_addr, true),
          hostHi: v.getUint32(s.host_addr + 4, true),
          devLo: replace ? 0 : lo,
          devHi: replace ? 0 : hi,
          newLo: replace ? lo : 0,
          newHi: replace ? hi : 0,
          handle: v.getUint32(s.handle, true),
        },
        pending,
      );
      trace(call, replace ? "unmap_and_replace" : "unmap_grant_ref", status, { handle: v.getUint32(s.handle, true) });
      rc = putStatus(call, p + s.status, status);
    }
    call.xen.frames.flushTlb();
    completeUnmaps(pending);
    if (rc === 0 && i < count && call.preempt()) return resume(call, i, count, s.size);
  }
  return rc;
}

export const grantHandlers: Record<number, Handler> = {
  [__HYPERVISOR_grant_table_op]: doGrantTableOp,
};
