/** A host at the other end of a line, as `HostApi`. */
import type { ConsoleChannel, DomainRef, HostApi, HostEvent } from "./api.js";
import { REQUEST_METHODS, WireCaller, type RequestMethod, type WirePort } from "./wire.js";

export type Requests = Pick<HostApi, RequestMethod>;

/** The requests of `HostApi`, sent by `call` as they are; only the streams need more. */
function requests(call: (method: string, params: readonly unknown[]) => Promise<unknown>): Requests {
  const out: Record<string, (...params: readonly unknown[]) => Promise<unknown>> = {};
  for (const m of REQUEST_METHODS) out[m] = (...params) => call(m, params);
  return out as unknown as Requests;
}

export interface HostConnection extends HostApi {
  /** A request beside `HostApi`'s: what the service itself answers. */
  request(method: string, ...params: readonly unknown[]): Promise<unknown>;
  close(): void;
  /** Why the connection ended, once it has. */
  readonly closed: Promise<string>;
}

/** `wire` gets what comes in: `wire.receive(text)`, `wire.closed(reason)`. */
export function hostClient(port: WirePort): { readonly host: HostConnection; readonly wire: WireCaller } {
  const wire = new WireCaller(port);
  const host: HostConnection = {
    ...requests((method, params) => wire.call(method, params)),
    openConsole: (
      ref: DomainRef,
      index: number,
      sink: { data(bytes: Uint8Array): void; end(reason: string): void },
    ): Promise<ConsoleChannel> => wire.openConsole([ref, index], sink),
    onEvent: (sink: (event: HostEvent) => void) => wire.onEvent(sink),
    request: (method, ...params) => wire.call(method, params),
    close: () => wire.close(),
    closed: new Promise((resolve) => wire.onClosed(resolve)),
  };
  return { host, wire };
}
