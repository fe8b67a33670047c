/**
 * Calls over a pipe of messages: a worker's, or a socket's. Requests have numbers and are answered once; events come by name.
 *
 * Invariant: every call settles, also when the other side goes away.
 */
export interface RpcErrorBody {
  readonly name: string;
  readonly code: string;
  readonly message: string;
}
export type Message =
  | { readonly id: number; readonly method: string; readonly params: readonly unknown[] }
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: RpcErrorBody }
  | { readonly event: string; readonly data: unknown };

export type Send = (message: Message) => void;
export type RpcHandler = (...params: never[]) => unknown;

/** A call that failed on the other side. */
export class RpcError extends Error {
  override readonly name = "RpcError";
  constructor(
    /** The error's class there, and its code: `HostError`, `unknown-domain`. */
    readonly kind: string,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

function bodyOf(e: unknown): RpcErrorBody {
  if (!(e instanceof Error)) return { name: "Error", code: "internal", message: String(e) };
  const code = (e as { code?: unknown }).code;
  return { name: e.name, code: typeof code === "string" ? code : "internal", message: e.message };
}

export class RpcServer {
  constructor(
    private readonly send: Send,
    private readonly handlers: ReadonlyMap<string, RpcHandler>,
  ) {}

  receive(m: Message): void {
    if (!("method" in m)) return;
    void this.answer(m.id, m.method, m.params);
  }
  private async answer(id: number, method: string, params: readonly unknown[]): Promise<void> {
    const handler = this.handlers.get(method);
    try {
      if (handler === undefined) throw new RpcError("Error", "unsupported", `there is no method "${method}" here`);
      this.send({ id, result: await (handler as (...p: readonly unknown[]) => unknown)(...params) });
    } catch (e) {
      this.send({ id, error: bodyOf(e) });
    }
  }
  emit(event: string, data: unknown): void {
    this.send({ event, data });
  }
}

interface Waiting {
  resolve(value: unknown): void;
  reject(e: Error): void;
}

export class RpcClient {
  private readonly waiting = new Map<number, Waiting>();
  private readonly sinks = new Map<string, Set<(data: unknown) => void>>();
  private next = 1;
  private gone: string | null = null;

  constructor(private readonly send: Send) {}

  call(method: string, ...params: readonly unknown[]): Promise<unknown> {
    if (this.gone !== null) return Promise.reject(new RpcError("Error", "closed", this.gone));
    return new Promise((resolve, reject) => {
      const id = this.next++;
      this.waiting.set(id, { resolve, reject });
      this.send({ id, method, params });
    });
  }
  on(event: string, sink: (data: unknown) => void): () => void {
    let set = this.sinks.get(event);
    if (set === undefined) this.sinks.set(event, (set = new Set()));
    set.add(sink);
    return () => set.delete(sink);
  }
  receive(m: Message): void {
    if ("event" in m) {
      for (const sink of this.sinks.get(m.event) ?? []) sink(m.data);
      return;
    }
    const w = this.waiting.get(m.id);
    this.waiting.delete(m.id);
    if (w === undefined || "method" in m) return;
    if ("error" in m) w.reject(new RpcError(m.error.name, m.error.code, m.error.message));
    else w.resolve(m.result);
  }
  /** The other side is gone. */
  closed(reason: string): void {
    if (this.gone !== null) return;
    this.gone = reason;
    for (const w of this.waiting.values()) w.reject(new RpcError("Error", "closed", reason));
    this.waiting.clear();
    for (const sink of this.sinks.get("closed") ?? []) sink(reason);
  }
}
