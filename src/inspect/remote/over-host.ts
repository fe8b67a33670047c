/** The inspector beside a host on the host's own line (toolstack/host/wire.ts): one request a view. */
import { HostError } from "../../toolstack/host/api.js";
import { INSPECT_METHODS, InspectError, type InspectApi } from "../api.js";

const PREFIX = "inspect.";

/** Requests that the host's end answers, by name. What an inspector refuses becomes an error of the host's. */
export function inspectRequests(
  inspect: InspectApi,
): Readonly<Record<string, (params: readonly unknown[]) => Promise<unknown>>> {
  const out: Record<string, (params: readonly unknown[]) => Promise<unknown>> = {};
  for (const name of INSPECT_METHODS) {
    const method = inspect[name] as (...params: readonly unknown[]) => Promise<unknown>;
    out[PREFIX + name] = async (params) => {
      try {
        // `undefined` has no form on the line.
        return (await method.apply(inspect, [...params])) ?? null;
      } catch (e) {
        if (!(e instanceof InspectError)) throw e;
        throw new HostError(e.code, e.message);
      }
    };
  }
  return out;
}

/** The inspector at the other end of such a line. */
export function inspectOver(request: (method: string, ...params: readonly unknown[]) => Promise<unknown>): InspectApi {
  const out: Record<string, unknown> = {};
  for (const name of INSPECT_METHODS) out[name] = (...params: readonly unknown[]) => request(PREFIX + name, ...params);
  return out as unknown as InspectApi;
}
