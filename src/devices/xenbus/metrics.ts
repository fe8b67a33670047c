/** What every back end counts; a device class adds its own. Plain numbers, read at any time. */
export interface DeviceMetrics {
  /** Events received from the front end, and sent to it. */
  events: number;
  notifications: number;
  requests: number;
  responses: number;
  /** Requests answered with an error. */
  errors: number;
  /** Times the front end connected. */
  connections: number;
  /** Times the device was stopped for what the front end did. */
  fatal: number;
}

export function newDeviceMetrics(): DeviceMetrics {
  return { events: 0, notifications: 0, requests: 0, responses: 0, errors: 0, connections: 0, fatal: 0 };
}
