/**
 * Hypercalls that are an array of requests: argument 0 says where they are, 1 how many, 2 where to count those done (or nothing). A long one is
 * done in parts: the hypervisor issues it again for the rest, and bit 31 of the count says so; with no requests, argument 3 is the result.
 */
import type { Call } from "../hypercalls/call.js";
import { advanceArg, isNull, view } from "./util.js";

/** Set in the count by the hypervisor when it issues the hypercall again. */
export const MMU_UPDATE_PREEMPTED = 0x80000000;

/** Nothing is left but to return the result that was kept. */
export function onlyResult(call: Call): boolean {
  return call.lo(1) === MMU_UPDATE_PREEMPTED && isNull(call, 0);
}
/** Requests in this part and those after it. */
export function requestCount(call: Call): number {
  const n = call.lo(1);
  return n >= MMU_UPDATE_PREEMPTED ? n - MMU_UPDATE_PREEMPTED : n;
}
/** Requests done in the parts before. */
export function doneBefore(call: Call): number {
  if (call.lo(1) < MMU_UPDATE_PREEMPTED || isNull(call, 2)) return 0;
  const b = call.guest.copyFrom(call.va(2), 4);
  return b === null ? 0 : view(b).getUint32(0, true);
}
export function countDone(call: Call, n: number): void {
  if (!isNull(call, 2)) call.guest.write32(call.va(2), n);
}
/** Be issued again behind `done` requests of so many bytes. */
export function goOn(call: Call, done: number, size: number): number {
  const left = requestCount(call) - done;
  advanceArg(call, 0, done * size);
  call.setArg(1, (left + MMU_UPDATE_PREEMPTED) >>> 0, 0);
  return call.restart();
}
