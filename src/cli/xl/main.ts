/** `xl`: the command of Xen's toolstack, on the host service. Global options, the choice of a command, what is left of mistakes. */
import { HostError } from "../../toolstack/host/api.js";
import { XM_ONLY } from "./absent.js";
import { Xl, type Command, type Connect, type Globals } from "./command.js";
import { FAILURE, OK, XlExit } from "./exit.js";
import { getopt, OptionError } from "./getopt.js";
import type { XlIo } from "./io.js";
import { commands, findCommand } from "./table.js";
import { xentopCommand } from "./top.js";
import { printHelp, printOverview } from "./usage.js";

/** An internal error: EX_SOFTWARE. */
const INTERNAL = 70;

export async function runXl(argv: readonly string[], io: XlIo, connect: Connect): Promise<number> {
  let globals: Globals;
  let rest: readonly string[];
  try {
    const { options, args } = getopt(argv, { short: "vftTN", long: undefined }, true);
    // The global -h is no option of xl's, but nobody is hurt by help.
    if (options.some((o) => o.letter === "h")) {
      printOverview(io, commands);
      return OK;
    }
    const has = (letter: string): boolean => options.some((o) => o.letter === letter);
    globals = {
      verbose: options.filter((o) => o.letter === "v").length,
      force: has("f"),
      dryRun: has("N"),
      carriageReturn: has("t"),
      timestamps: has("T"),
    };
    rest = args;
  } catch (e) {
    if (!(e instanceof OptionError)) throw e;
    io.err(`xl: invalid option -- '${e.letter}'\nunknown global option\n`);
    return FAILURE;
  }
  const [name, ...words] = rest;
  if (name === undefined) {
    printOverview(io, commands);
    return FAILURE;
  }
  const command = findCommand(name);
  if (command === undefined) return help(io, name, words);
  if (globals.dryRun && command.dryRun !== true) {
    io.err("command does not implement -N (dryrun) option\n");
    return FAILURE;
  }
  return runCommand(command, globals, words, io, connect);
}

const NO_GLOBALS: Globals = { verbose: 0, force: false, dryRun: false, carriageReturn: false, timestamps: false };

/** `xentop`: a command of its own, which has no global options. */
export function runXentop(argv: readonly string[], io: XlIo, connect: Connect): Promise<number> {
  return runCommand(xentopCommand, NO_GLOBALS, argv, io, connect);
}

async function runCommand(
  command: Command,
  globals: Globals,
  words: readonly string[],
  io: XlIo,
  connect: Connect,
): Promise<number> {
  try {
    return await command.run(new Xl(io, globals, command, connect), words);
  } catch (e) {
    if (e instanceof XlExit) return e.status;
    if (e instanceof HostError) {
      io.err(`xl: ${e.message}\n`);
      return FAILURE;
    }
    const error = e instanceof Error ? e : new Error(String(e));
    io.err(`xl: internal error: ${error.stack ?? error.message}\n`);
    return INTERNAL;
  }
}

function help(io: XlIo, name: string, words: readonly string[]): number {
  if (name === "help") {
    const [about] = words;
    const command = about === undefined || about === "help" ? undefined : findCommand(about);
    if (about === undefined || about === "help") printOverview(io, commands);
    else if (command !== undefined) printHelp(io, command);
    else io.out(`command "${about}" not implemented\n`);
    return OK;
  }
  const instead = Object.hasOwn(XM_ONLY, name) ? `: \`${name}' was xm's: ${XM_ONLY[name]}` : "";
  io.err(`command not implemented${instead}\n`);
  return FAILURE;
}
