/** What a vif counts. "tx" and "rx" are the guest's: tx is what the guest sends. */
import { newDeviceMetrics, type DeviceMetrics } from "../xenbus/metrics.js";

export interface VifMetrics extends DeviceMetrics {
  txFrames: number;
  txBytes: number;
  /** Large segments taken from the guest, and handed to it. */
  txGso: number;
  rxGso: number;
  /** Frames that were wrong in themselves, not in the ring's protocol. */
  txDropped: number;
  /** Times the guest had to wait for its rate. */
  throttled: number;
  rxFrames: number;
  rxBytes: number;
  /** Not handed to the guest: its queue was full, it did not take frames in time, or they were too long for it. */
  rxDropped: number;
  /** Large segments cut here because the guest takes none. */
  rxSegmented: number;
  /** Checksums computed here. */
  checksums: number;
}

export function newVifMetrics(): VifMetrics {
  return {
    ...newDeviceMetrics(),
    txFrames: 0,
    txBytes: 0,
    txGso: 0,
    rxGso: 0,
    txDropped: 0,
    throttled: 0,
    rxFrames: 0,
    rxBytes: 0,
    rxDropped: 0,
    rxSegmented: 0,
    checksums: 0,
  };
}
