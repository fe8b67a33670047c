/** A value that is asked for again and again while a component is on the page. */
import { untrack } from "svelte";

export interface Live<T> {
  readonly value: T | null;
  readonly error: string;
  /** Ask now. */
  again(): void;
}

/** To be called while a component is made. `ask` may read state: a change asks anew. `null` from it means: nothing to ask for. */
export function live<T>(ask: () => Promise<T> | null, everyMs: number | (() => number)): Live<T> {
  let value = $state.raw<T | null>(null);
  let error = $state("");
  let kick: () => void = () => {};
  $effect(() => {
    let over = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    // The first question registers what it reads; those after it run on timers and register nothing.
    const go = (): void => {
      const asked = ask();
      if (asked === null) {
        untrack(() => (value = null));
        return;
      }
      asked
        .then(
          (v) => {
            if (over) return;
            value = v;
            error = "";
          },
          (e: unknown) => {
            if (!over) error = e instanceof Error ? e.message : String(e);
          },
        )
        .finally(() => {
          if (!over) timer = setTimeout(go, typeof everyMs === "number" ? everyMs : everyMs());
        });
    };
    kick = () => {
      clearTimeout(timer);
      if (!over) go();
    };
    go();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  });
  return {
    get value() {
      return value;
    },
    get error() {
      return error;
    },
    again: () => kick(),
  };
}
