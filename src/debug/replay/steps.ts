/**
 * Steps through a replay, forwards and backwards: by instruction, or to where the trace tells of something.
 *
 * A record's place is just before the instruction that made it: one instruction further it has happened. What was asked for is found by doing the
 * run again with somebody listening, backwards from the snapshot before, as nothing but the inputs is kept.
 */
import type { TraceKind } from "../../hypervisor/trace.js";
import type { Timeline } from "./timeline.js";

export type StepKind = "instruction" | TraceKind;

/** Instructions that are looked through at first when going forward; more each time that nothing is found. */
const FIRST_LOOK = 20_000;
const LOOK_FURTHER = 4;

/** Runs on to a place, and calls back with that of every record of a kind on the way. */
async function look(t: Timeline, kind: TraceKind, to: number, found: (place: number) => void): Promise<void> {
  const done = t.run.machine.xen.trace.add((r) => {
    if (r.kind === kind) found(Math.max(0, t.position - 1));
  });
  try {
    await t.forward(to);
  } finally {
    done();
  }
}

/** To the last place before this one; false: there is none, and this is the beginning. */
export async function stepBack(t: Timeline, kind: StepKind): Promise<boolean> {
  const now = t.position;
  if (now === 0) return false;
  await t.prepare(now);
  if (kind === "instruction") {
    await t.seek(now - 1);
    return true;
  }
  for (let to = now; to > 0;) {
    const from = t.snapshotBefore(to - 1);
    let hit = -1;
    t.back(from);
    await look(t, kind, to, (place) => {
      if (place < now) hit = place;
    });
    if (hit >= 0) {
      await t.seek(hit);
      return true;
    }
    to = from;
  }
  await t.seek(0);
  return false;
}

/** To the first place after this one; false: there is none, and this is the end. */
export async function stepForward(t: Timeline, kind: StepKind): Promise<boolean> {
  const now = t.position;
  if (kind === "instruction") {
    await t.forward(now + 1);
    return t.position > now;
  }
  // It is run past what is looked for, and then back to it.
  await t.prepare(now);
  await t.seek(now);
  for (let far = FIRST_LOOK; ; far *= LOOK_FURTHER) {
    const to = t.position + far;
    let hit = -1;
    await look(t, kind, to, (place) => {
      if (hit < 0 && place > now) hit = place;
    });
    if (hit >= 0) {
      await t.seek(hit);
      return true;
    }
    if (t.position < to) return false;
  }
}
