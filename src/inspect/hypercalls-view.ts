/** How often each hypercall was made, and (while the trace is on) how long it took. */
import { hypercalls } from "../hypervisor/hypercalls/table.js";
import type { HypercallRow, HypercallsView } from "./api.js";
import type { Recorder } from "./recorder.js";
import type { Source } from "./source.js";

export function hypercallsView({ xen }: Source, recorder: Recorder): HypercallsView {
  recorder.lease();
  const timed = recorder.hypercalls();
  const rows: HypercallRow[] = [];
  xen.counters.byHypercall.forEach((count, number) => {
    if (count === 0) return;
    const name = hypercalls[number]?.name ?? `hypercall_${number}`;
    rows.push({ name, count, timed: 0, totalNs: 0, maxNs: 0, errors: 0 });
  });
  // Sub-operations (`sched_op.block`) are known from records only: they stand below their hypercall.
  for (const t of timed) {
    const own = rows.findIndex((r) => r.name === t.name);
    if (own >= 0) rows[own] = { ...t, count: (rows[own] as HypercallRow).count };
    else rows.push(t);
  }
  rows.sort((a, b) => (a.name < b.name ? -1 : 1));
  return {
    now: xen.clock.now(),
    total: xen.counters.hypercalls,
    multicalls: xen.counters.multicalls,
    rows,
    byDomain: recorder.byDomain(),
  };
}
