/**
 * Readers together, a writer alone, in the order they came. Over a file that answers at once nobody ever waits here; over a slow one a
 * format's tables do not change under a reader's feet.
 */
import { run, type Steps } from "./steps.js";

export class SharedLock {
  private readers = 0;
  private writing = false;
  private readonly waiting: { readonly alone: boolean; readonly go: () => void }[] = [];

  shared<T>(work: () => Steps<T>): Promise<T> | T {
    return this.with(false, work);
  }
  alone<T>(work: () => Steps<T>): Promise<T> | T {
    return this.with(true, work);
  }

  private with<T>(alone: boolean, work: () => Steps<T>): Promise<T> | T {
    if (!this.free(alone) || this.waiting.length > 0) {
      return new Promise<void>((go) => this.waiting.push({ alone, go })).then(() => this.held(alone, work));
    }
    this.take(alone);
    return this.held(alone, work);
  }
  private held<T>(alone: boolean, work: () => Steps<T>): Promise<T> | T {
    let result: Promise<T> | T;
    try {
      result = run(work());
    } catch (e) {
      this.leave(alone);
      throw e;
    }
    if (!(result instanceof Promise)) {
      this.leave(alone);
      return result;
    }
    return result.finally(() => this.leave(alone));
  }
  private free(alone: boolean): boolean {
    return !this.writing && (!alone || this.readers === 0);
  }
  private take(alone: boolean): void {
    if (alone) this.writing = true;
    else this.readers++;
  }
  private leave(alone: boolean): void {
    if (alone) this.writing = false;
    else this.readers--;
    for (let next = this.waiting[0]; next !== undefined && this.free(next.alone); next = this.waiting[0]) {
      this.waiting.shift();
      this.take(next.alone);
      next.go();
    }
  }
}
