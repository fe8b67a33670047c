/** The core of a domain in a file, whole or not at all. */
import { dumpCore } from "../dump-core.js";
import type { Machine } from "../machine.js";
import type { ManagedDomain } from "./managed-domain.js";
import type { HostPlatform } from "./platform.js";

export async function dumpTo(machine: Machine, platform: HostPlatform, d: ManagedDomain, path: string): Promise<void> {
  const file = await platform.createFile(path);
  try {
    await dumpCore(machine, d.running.domain, file);
    await file.commit();
  } catch (e) {
    await file.abort();
    throw e;
  }
}
