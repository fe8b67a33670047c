/** create and config-update: from a configuration to a domain. */
import { libxlJsonText } from "../../toolstack/config/json-text.js";
import { HostError, type CreateResult } from "../../toolstack/host/api.js";
import { libxlConfig } from "../../toolstack/host/libxl-json.js";
import { checkConfig, splitWords } from "./configuration.js";
import type { Command, Xl } from "./command.js";
import { attachConsole } from "./console.js";
import { readConfig } from "./config-file.js";
import { CREATE_FAILED, CREATE_INVALID, FAILURE, OK } from "./exit.js";
import { Monitor } from "./monitor.js";
import { recognised } from "./recognise.js";

/** Says why there is no domain, as libxl ends such an attempt, with its status. */
export function createFailed(xl: Xl, e: HostError, status: number, name?: string): never {
  if (
    e.code === "exists" &&
    /name|already exists|domain/i.test(e.message) &&
    name !== undefined &&
    !/^disk/.test(e.message)
  )
    xl.libxlError(`Domain with name "${name}" already exists.`);
  else xl.libxlError(recognised(e.message));
  if (/cpupool|pool specified/.test(e.message)) return xl.exit(CREATE_INVALID);
  return xl.exit(status);
}

const create: Command = {
  name: "create",
  synopsis: "<ConfigFile> [options] [vars]",
  brief: "Make a domain from a configuration and start it",
  options: [
    "-h                      print this help",
    "-p                      leave it paused",
    "-c                      connect the terminal to its console",
    "-q, --quiet             say nothing but mistakes",
    "-n, --dryrun            print the configuration as JSON and make nothing (better: xl -N)",
    "-e                      do not act upon its end: it is destroyed, whatever on_* says",
    "-F                      stay, and tell of its end and what is done about it",
    "-f FILE, --defconfig=FILE",
    "                        the configuration",
    "-d                      more messages",
    "-V, --vncviewer, -A, --vncviewer-autopass  (no frame buffer here)",
    "--ignore-global-affinity-masks  (there are none here)",
  ].join("\n"),
  modifies: true,
  dryRun: true,
  spec: {
    short: "AFVcdef:inpq",
    long: {
      defconfig: "f",
      dryrun: "n",
      "ignore-global-affinity-masks": "i",
      quiet: "q",
      vncviewer: "V",
      "vncviewer-autopass": "A",
    },
  },
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const { file, overrides } = splitWords(xl, p.args, p.value("f"));
    if (file === undefined) xl.fail("Config file not specified and none in save file", CREATE_INVALID);
    if (p.has("V") || p.has("A")) xl.fail("xl: -V: there is no frame buffer to view (use -c for the console)");
    const text = readConfig(xl, file, CREATE_FAILED);
    if (!p.has("q")) xl.err(`Parsing config from ${file}`);
    const { config, said } = checkConfig(xl, { text, name: file, overrides });
    if (p.has("n") || xl.globals.dryRun) {
      xl.out(libxlJsonText(libxlConfig(config)));
      return OK;
    }
    const host = await xl.host();
    if (config.pool !== undefined) {
      const { pool } = config;
      if (!(await host.listPools()).some((known) => known.name === pool || String(known.id) === pool)) {
        xl.libxlError(`Illegal pool specified: ${pool}`);
        return CREATE_INVALID;
      }
    }
    const monitor = p.has("F") ? new Monitor(xl, host) : undefined;
    let made: CreateResult;
    try {
      made = await host.create({
        config: text,
        source: file,
        overrides,
        cwd: xl.io.cwd,
        paused: p.has("p") || p.has("c"),
        forget: p.has("e"),
      });
    } catch (e) {
      monitor?.stop();
      if (!(e instanceof HostError)) throw e;
      return createFailed(xl, e, CREATE_FAILED, config.name);
    }
    for (const w of made.warnings) if (!said.has(w)) xl.err(w);
    if (p.has("c")) {
      await attachConsole(xl, made.domid, 0, {
        attached: async () => {
          if (!p.has("p")) await host.unpause(made.domid);
        },
      });
    }
    return monitor === undefined ? OK : monitor.watch(made.domid, made.name);
  },
};

const configUpdate: Command = {
  name: "config-update",
  synopsis: "<Domain> <ConfigFile> [options] [vars]",
  brief:
    "Change the configuration that a domain is made anew from when it reboots\nWARNING: xl now has better capability to manage domain configuration, avoid using this command when possible",
  options: [
    "-h                      print this help",
    "-f FILE, --defconfig=FILE",
    "                        the configuration",
    "-d                      more messages",
  ].join("\n"),
  modifies: true,
  dryRun: true,
  spec: { short: "dqf:", long: { defconfig: "f" } },
  async run(xl: Xl, words: readonly string[]) {
    if (words.length === 0) {
      xl.err("xl config-update requires a domain argument");
      xl.usage(FAILURE);
    }
    if (words[0] === "-h" || words[0] === "--help") xl.usage(OK);
    xl.err(
      "WARNING: xl now has better capability to manage domain configuration, avoid using this command when possible",
    );
    const [word, ...rest] = words;
    const domid = await xl.domid(word);
    const p = xl.parse(rest);
    const { file, overrides } = splitWords(xl, p.args, p.value("f"));
    if (file === undefined) xl.fail("Config file not specified");
    const text = readConfig(xl, file, CREATE_FAILED);
    const { config, said } = checkConfig(xl, { text, name: file, overrides });
    if (xl.globals.dryRun) {
      xl.out(libxlJsonText(libxlConfig(config)));
      return OK;
    }
    xl.err(`setting dom${domid} configuration`);
    const warnings = await xl.ask(
      domid,
      (host) => host.updateConfig(domid, { config: text, source: file, overrides, cwd: xl.io.cwd }),
      () => xl.fail("failed to update configuration"),
    );
    for (const w of warnings) if (!said.has(w)) xl.err(w);
    return OK;
  },
};

export const createCommands: readonly Command[] = [create, configUpdate];
