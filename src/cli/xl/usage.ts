/** Help texts: the usage line is xl's, the words are ours. */
import type { Command } from "./command.js";

interface Out {
  out(text: string): void;
}

export function printHelp(io: Out, command: Command): void {
  const letters = `vtT${command.modifies === true ? "f" : ""}${command.dryRun === true ? "N" : ""}`;
  io.out(`Usage: xl [-${letters}] ${command.name} ${command.synopsis}\n\n${command.brief}.\n\n`);
  if (command.options !== undefined) io.out(`Options:\n\n${command.options}\n`);
}

export function printOverview(io: Out, commands: readonly Command[]): void {
  io.out("Usage xl [-vfNtT] <subcommand> [args]\n\nxl full list of subcommands:\n\n");
  for (const c of commands) {
    const name = c.name.length > 19 ? ` ${c.name}\n ${"".padEnd(19)} ` : ` ${c.name.padEnd(19)} `;
    io.out(`${name}${c.brief.split("\n")[0]}\n`);
  }
}
