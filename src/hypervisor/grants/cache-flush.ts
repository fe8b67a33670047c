/** GNTTABOP_cache_flush exists only where device memory accesses are not coherent; on x86 Xen does not know it. */
import { ENOSYS } from "../../abi/errno.js";

export function cacheFlush(): number {
  return -ENOSYS;
}
