/**
 * Work in steps that may have to wait, or not: a format's code is written once, answers at once over a file that answers at once (no promise,
 * no turn of the event loop) and waits over one that does not.
 *
 *   *read() { const bytes = yield* wait(file.read(…)); … }        run(this.read())
 */
export type Steps<T> = Generator<Promise<unknown>, T, unknown>;

/** The value, when it is there. */
export function* wait<T>(value: Promise<T> | T): Steps<T> {
  if (!(value instanceof Promise)) return value;
  const result: unknown = yield value;
  return result as T;
}

/** Carry out all steps; a promise only where one had to wait. */
export function run<T>(steps: Steps<T>): Promise<T> | T {
  const first = steps.next();
  return first.done === true ? first.value : goOn(steps, first.value);
}

async function goOn<T>(steps: Steps<T>, waiting: Promise<unknown>): Promise<T> {
  for (let on = waiting; ;) {
    let value: unknown;
    let failed = false;
    try {
      value = await on;
    } catch (e) {
      failed = true;
      value = e;
    }
    const next = failed ? steps.throw(value) : steps.next(value);
    if (next.done === true) return next.value;
    on = next.value;
  }
}
