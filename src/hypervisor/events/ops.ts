/**
 * The two ways a guest can see its events (2-level bitmaps, FIFO queues) behind one table of operations, and the states of a port.
 * A port is only ever passed here while it is bound (state above ECS_RESERVED).
 */
import type { VcpuEvents } from "./vcpu-events.js";

export const ECS_FREE = 0;
export const ECS_RESERVED = 1;
export const ECS_UNBOUND = 2;
export const ECS_INTERDOMAIN = 3;
export const ECS_PIRQ = 4;
export const ECS_VIRQ = 5;
export const ECS_IPI = 6;

export interface EvtchnPortOps {
  readonly name: "2-level" | "fifo";
  /** Number of ports the ABI can express. */
  readonly maxPorts: number;
  /** A port has just been bound. */
  init(port: number): void;
  /** Make it pending and, where the guest's state asks for it, mark the vCPU. */
  setPending(v: VcpuEvents, port: number): void;
  clearPending(port: number): void;
  /** Clear the mask and deliver what is pending. */
  unmask(v: VcpuEvents, port: number): void;
  isPending(port: number): boolean;
  isMasked(port: number): boolean;
  /** Still on a queue of the guest: a free port in this state cannot be given out again. */
  isBusy(port: number): boolean;
  /** 0 or a negative errno. */
  setPriority(port: number, priority: number): number;
}
