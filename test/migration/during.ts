// Run guests while something of the toolstack's goes on: unlike the harness's own loop this one does not mind that every guest waits.
import { setImmediate } from "node:timers/promises";
import { LIMIT, type Host } from "../machine/harness.js";

export async function during<T>(
  hosts: Host | readonly Host[],
  work: Promise<T>,
  what = "the toolstack's part",
): Promise<T> {
  let done = false;
  const mark = (): void => {
    done = true;
  };
  work.then(mark, mark);
  const list = hosts instanceof Array ? hosts : [hosts];
  const start = performance.now();
  while (!done) {
    if (performance.now() - start > LIMIT)
      throw new Error(`no end of ${what} within ${LIMIT / 1000} s${list.map((h) => h.tail()).join("")}`);
    for (const h of list) h.machine.runSlice(5);
    await setImmediate();
  }
  return work;
}
