/**
 * Flushes of a format that has several steps to bring its tables to the medium: one runs at a time. A flush that has not begun serves all who
 * ask meanwhile; one that has begun may have missed what was written since, so that who comes later waits for the next.
 */
import { run, type Steps } from "./steps.js";

export class Commits {
  private running: Promise<void> | null = null;
  private next: Promise<void> | null = null;

  constructor(private readonly commit: () => Steps<void>) {}

  get busy(): boolean {
    return this.running !== null;
  }
  flush(): Promise<void> | void {
    if (this.running === null) return this.begin();
    this.next ??= this.running.then(
      () => this.beginNext(),
      () => this.beginNext(),
    );
    return this.next;
  }
  private beginNext(): Promise<void> | void {
    this.next = null;
    this.running = null;
    return this.begin();
  }
  private begin(): Promise<void> | void {
    const done = run(this.commit());
    if (done === undefined) return;
    return (this.running = done.finally(() => {
      // The next one takes its place, if it is waiting.
      if (this.next === null) this.running = null;
    }));
  }
}
