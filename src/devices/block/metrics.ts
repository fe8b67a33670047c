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
  /** Requests that the image (the host's file) could not carry out. */
  imageErrors: number;
  /** Times another medium was put in, or taken out (CD drives). */
  mediaChanges: number;
}
