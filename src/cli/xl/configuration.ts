/** A configuration on its way from a file and a command line to the host: read, checked, warned about. */
import { parseDisk } from "../../toolstack/config/disk.js";
import { ConfigError, parseDomainConfig, XluConfig, type DomainConfig } from "../../toolstack/config/index.js";
import { parseChannel } from "../../toolstack/config/channel.js";
import { parseVif } from "../../toolstack/config/vif.js";
import type { Xl } from "./command.js";
import { CREATE_FAILED, FAILURE } from "./exit.js";

export interface Source {
  readonly text: string;
  /** For messages. */
  readonly name: string;
  readonly overrides: readonly string[];
}

/** Words of a command line: one file at most, and settings that override it. */
export function splitWords(
  xl: Xl,
  words: readonly string[],
  file: string | undefined,
): { file: string | undefined; overrides: string[] } {
  const overrides: string[] = [];
  for (const word of words) {
    if (word.includes("=")) overrides.push(word);
    else if (file === undefined) file = word;
    else xl.usage();
  }
  return { file, overrides };
}

/** Runs a check; its ConfigError ends the command. */
function checked<T>(xl: Xl, status: number, check: () => T, after?: string): T {
  try {
    return check();
  } catch (e) {
    if (!(e instanceof ConfigError)) throw e;
    xl.err(e.message);
    if (after !== undefined) xl.err(after);
    return xl.exit(status);
  }
}

/** The configuration, and the warnings that have been printed. */
export function checkConfig(xl: Xl, source: Source): { config: DomainConfig; said: ReadonlySet<string> } {
  const { text, name, overrides } = source;
  checked(
    xl,
    FAILURE,
    () => {
      const grammar = new XluConfig().read(text, name);
      for (const o of overrides) grammar.read(o, "command line");
    },
    "Failed to parse config: Invalid argument",
  );
  let config: DomainConfig;
  try {
    config = parseDomainConfig(text, name, { overrides });
  } catch (e) {
    if (!(e instanceof ConfigError)) throw e;
    // xl finds out about such a name only when it opens the domain's log: ERROR_FAIL.
    return xl.fail(e.message, /a domain name holds/.test(e.message) ? CREATE_FAILED : FAILURE);
  }
  const said = new Set<string>();
  const warn = (lines: readonly string[]): void => {
    for (const line of lines) {
      if (!said.has(line)) xl.err(line);
      said.add(line);
    }
  };
  warn(config.warnings);
  for (const spec of config.disk) warn(checked(xl, FAILURE, () => parseDisk(spec, name)).warnings);
  // What is wrong with an interface fails later than with a disk.
  for (const spec of config.vif) {
    warn(checked(xl, CREATE_FAILED, () => parseVif(spec)).warnings.map((w) => `${name}: warning: ${w}`));
  }
  for (const spec of config.channel) checked(xl, FAILURE, () => parseChannel(spec));
  return { config, said };
}
