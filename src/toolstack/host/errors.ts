/** What goes wrong below the host, in the host's words. */
import { EEXIST } from "../../abi/errno.js";
import { DeviceError } from "../../devices/xenbus/index.js";
import { InvariantError } from "../../hypervisor/memory/invariant.js";
import { BuildError } from "../builder/index.js";
import { ConfigError } from "../config/index.js";
import { DiskError } from "../disks.js";
import { HostError } from "./api.js";

/** A mistake of the caller's as a HostError; mistakes of ours stay what they are. */
export function asHostError(e: unknown, kernel?: string): unknown {
  if (e instanceof HostError) return e;
  if (e instanceof BuildError) {
    const code = /free memory/.test(e.message) ? "no-memory" : "invalid";
    return new HostError(code, kernel === undefined ? e.message : `${kernel}: ${e.message}`);
  }
  if (e instanceof ConfigError || e instanceof DiskError) return new HostError("invalid", e.message);
  if (e instanceof DeviceError) return new HostError(e.errno === EEXIST ? "exists" : "invalid", e.message);
  if (!(e instanceof Error) || e instanceof InvariantError) return e;
  // Mistakes of ours have types; what is thrown as a plain Error is about what was asked for.
  const error = new HostError(e.constructor === Error ? "invalid" : "internal", e.message);
  error.cause = e;
  return error;
}
export function said<T>(f: () => T): T {
  try {
    return f();
  } catch (e) {
    throw asHostError(e);
  }
}
export async function saidLater<T>(f: () => Promise<T>): Promise<T> {
  try {
    return await f();
  } catch (e) {
    throw asHostError(e);
  }
}
