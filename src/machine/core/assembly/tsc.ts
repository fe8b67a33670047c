/** TSC ticks per nanosecond; must equal clock.ts. */
export const TSC_PER_NS: f64 = 2;
