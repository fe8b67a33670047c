/** What a virtual disk counts: the numbers of xentop's VBD columns among them. */
import type { DeviceMetrics } from "../xenbus/metrics.js";

export interface BlockMetrics extends DeviceMetrics {
  /** Requests by kind (indirect ones by what they do). */
  reads: number;
  writes: number;
  flushes: number;
  barriers: number;
  discards: number;
  indirect: number;
  sectorsRead: number;
  sectorsWritten: number;
}
