/** Messages to the person: what happened, in words. */
export interface Toast {
  readonly id: number;
  readonly kind: "info" | "error";
  readonly text: string;
}

class Toasts {
  list = $state.raw<readonly Toast[]>([]);
  private next = 1;

  say(text: string, kind: Toast["kind"] = "info"): void {
    const toast: Toast = { id: this.next++, kind, text };
    this.list = [...this.list.slice(-3), toast];
    setTimeout(() => this.drop(toast.id), kind === "error" ? 12_000 : 5_000);
  }
  error(e: unknown): void {
    this.say(e instanceof Error ? e.message : String(e), "error");
  }
  drop(id: number): void {
    this.list = this.list.filter((t) => t.id !== id);
  }
}

export const toasts = new Toasts();

/** Do something whose failure is told to the person; resolves to undefined then. */
export async function tell<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (e) {
    toasts.error(e);
    return undefined;
  }
}
