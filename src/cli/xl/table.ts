/** The commands, in the order of `xl help`. */
import { absentCommands } from "./absent.js";
import { blockCommands } from "./block.js";
import type { Command } from "./command.js";
import { consoleCommands } from "./console.js";
import { cpupoolCommands } from "./cpupool.js";
import { createCommands } from "./create.js";
import { infoCommands } from "./host-info.js";
import { lifeCommands } from "./life.js";
import { listCommands } from "./list.js";
import { memoryCommands } from "./memory.js";
import { migrateCommands } from "./migrate.js";
import { networkCommands } from "./network.js";
import { saveCommands } from "./save.js";
import { schedCommands } from "./sched.js";
import { signalCommands } from "./signals.js";
import { topCommands } from "./top.js";
import { vcpuCommands } from "./vcpu.js";

export const commands: readonly Command[] = [
  ...createCommands,
  ...listCommands,
  ...lifeCommands,
  ...consoleCommands,
  ...saveCommands,
  ...migrateCommands,
  ...signalCommands,
  ...memoryCommands,
  ...vcpuCommands,
  ...infoCommands,
  ...topCommands,
  ...schedCommands,
  ...cpupoolCommands,
  ...blockCommands,
  ...networkCommands,
  ...absentCommands,
];

/** A command by its name or by the start of only one name. */
export function findCommand(name: string): Command | undefined {
  const exact = commands.find((c) => c.name === name);
  if (exact !== undefined) return exact;
  const begun = commands.filter((c) => c.name.startsWith(name));
  return begun.length === 1 ? begun[0] : undefined;
}
