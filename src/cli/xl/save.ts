/** save and restore. */
import { dirname } from "node:path";
import { HostError, type CreateResult } from "../../toolstack/host/api.js";
import { libxlJsonText } from "../../toolstack/config/json-text.js";
import type { Command, Xl } from "./command.js";
import { fileError, readConfig } from "./config-file.js";
import { attachConsole } from "./console.js";
import { createFailed } from "./create.js";
import { FAILURE, OK } from "./exit.js";
import { Monitor } from "./monitor.js";
import { readSaveHeader, SAVE_HEAD_BYTES } from "./save-header.js";

/** Flags of the head: the configuration is inside, as JSON; the stream is libxl's version 2. */
const FLAGS = "0x3/0x0";

const save: Command = {
  name: "save",
  synopsis: "[options] <Domain> <CheckpointFile> [<ConfigFile>]",
  brief: "Write a domain to a file, to be restored later",
  options: [
    "-h  print this help",
    "-c  the domain goes on after that",
    "-p  the domain stays paused after that",
    "-D  keep its number in the configuration",
  ].join("\n"),
  modifies: true,
  spec: { short: "cpD" },
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const [word, file, configFile] = p.args;
    if (p.args.length > 3) xl.usage(FAILURE);
    const domid = await xl.domid(word);
    const config = configFile === undefined ? undefined : readConfig(xl, configFile, FAILURE);
    const path = xl.path(file);
    if (!xl.io.exists(dirname(path))) xl.fail(`Failed to open temp file ${file} for writing`);
    const host = await xl.host();
    const stored = await host.getConfig(domid).catch(() => undefined);
    const length = new TextEncoder().encode(config ?? libxlJsonText(stored ?? {})).length + 5;
    xl.err(`Saving to ${file} new xl format (info ${FLAGS}/${length})`);
    xl.err(`xc: info: Saving domain ${domid}, type x86 PV`);
    try {
      await host.save(domid, {
        file: path,
        after: p.has("c") ? "continue" : p.has("p") ? "pause" : "destroy",
        ...(config === undefined ? {} : { config }),
      });
    } catch (e) {
      if (!(e instanceof HostError)) throw e;
      if (e.code === "io") xl.fail(`Failed to open temp file ${file} for writing: ${e.message}`);
      xl.err("xc: error: Save failed: Internal error");
      xl.libxlError(`saving domain: ${e.message}`, domid);
      xl.fail("Failed to save domain, resuming domain");
    }
    return OK;
  },
};

const restore: Command = {
  name: "restore",
  synopsis: "[options] [<ConfigFile>] <CheckpointFile>",
  brief: "Bring a saved domain back",
  options: [
    "-h                       print this help",
    "-p                       leave it paused",
    "-c                       connect the terminal to its console",
    "-e                       do not act upon its end",
    "-F                       stay, and tell of its end and what is done about it",
    "-d                       more messages",
    "-V, --vncviewer, -A, --vncviewer-autopass  (no frame buffer here)",
  ].join("\n"),
  modifies: true,
  spec: { short: "FcpdeVA", long: { vncviewer: "V", "vncviewer-autopass": "A" } },
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    if (p.args.length > 2) xl.usage(FAILURE);
    if (p.has("V") || p.has("A")) xl.fail("xl: -V: there is no frame buffer to view (use -c for the console)");
    const [file] = p.args.slice(-1);
    const configFile = p.args.length === 2 ? p.args[0] : undefined;
    const config = configFile === undefined ? undefined : readConfig(xl, configFile, FAILURE);
    let head: Uint8Array;
    try {
      head = xl.io.readHead(file, SAVE_HEAD_BYTES);
    } catch (e) {
      return xl.fail(`Can't open restore file: ${fileError(e)}`);
    }
    const header = readSaveHeader(head);
    if (!header.ok) return xl.fail(header.why);
    const hex = (n: number): string => `0x${n.toString(16)}`;
    xl.err(
      `Loading new save file ${file} (new xl fmt info ${hex(header.mandatory)}/${hex(header.optional)}/${header.length})`,
    );
    xl.err(" Savefile contains xl domain config in JSON format");
    xl.err(`Parsing config from ${configFile ?? "<saved>"}`);
    const host = await xl.host();
    const monitor = p.has("F") ? new Monitor(xl, host) : undefined;
    let made: CreateResult;
    try {
      made = await host.restore(xl.path(file), {
        paused: p.has("p") || p.has("c"),
        ...(config === undefined ? {} : { config }),
      });
    } catch (e) {
      monitor?.stop();
      if (!(e instanceof HostError)) throw e;
      xl.err("xc: error: Restore failed: Internal error");
      return createFailed(xl, e, FAILURE);
    }
    xl.err("xc: info: Restore successful");
    for (const w of made.warnings) xl.err(w);
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

export const saveCommands: readonly Command[] = [save, restore];
