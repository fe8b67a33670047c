/**
 * Bring a suspended domain's disks to rest, so that another host may open their images: requests in flight are done, and what was written is on
 * the medium. The guest sends none while it is suspended, and repeats on the new host what it has seen no answer to.
 */
import { BlockBackend } from "../../devices/block/index.js";
import type { RunningDomain } from "../machine.js";
import { MigrationError } from "./errors.js";

export async function quiesceDisks(running: RunningDomain): Promise<void> {
  for (const device of running.devices.list("vbd")) {
    if (!(device instanceof BlockBackend)) continue;
    await device.drained();
    if (device.readOnly || device.image === null) continue;
    try {
      await device.image?.flush();
    } catch (e) {
      throw new MigrationError(
        "state",
        `disk ${device.devid} cannot be flushed: ${e instanceof Error ? e.message : String(e)}`,
      );
    }
  }
}
