/** migrate: to another host, over its socket or through ssh. fork: running copies of a domain on this host. */
import { HostError } from "../../toolstack/host/api.js";
import type { Command, Xl } from "./command.js";
import { readConfig } from "./config-file.js";
import { FAILURE, OK } from "./exit.js";
import { receiveOnStdio, receiverCommand, throughCommand } from "./migrate-link.js";

/** HOST:PORT, or the path of a socket, is another host service itself; anything else is a machine to be reached by a command. */
const isService = (to: string): boolean => /^[^\s@]+:\d+$/.test(to) || to.startsWith("/") || to.startsWith("./");

const migrate: Command = {
  name: "migrate",
  synopsis: "[options] <Domain> <host>",
  brief: "Move a running domain to another host",
  options: [
    "-h              print this help",
    "-C <config>     this configuration in place of the domain's own",
    "-s <sshcommand> this in place of ssh, given to sh; if empty, <host> is the whole command that runs",
    "                xl migrate-receive",
    "-e, -D, --debug, --live  taken for compatibility",
    "",
    "<host> is a machine for ssh, or another host service itself: HOST:PORT (xenolith up --migration-port),",
    "or the path of its socket (migration_socket of xenolith info --json).",
  ].join("\n"),
  modifies: true,
  spec: { short: "FC:s:epD", long: { debug: "e", live: "e" } },
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const [word, to] = p.args;
    const domid = await xl.domid(word);
    if (p.has("p")) xl.fail("xl migrate: -p is not there: a domain that has been migrated goes on at once");
    const configFile = p.value("C");
    const config = configFile === undefined ? undefined : readConfig(xl, configFile, FAILURE);
    const host = await xl.host();
    const options = config === undefined ? {} : { config };
    try {
      const r =
        isService(to) && !p.has("s")
          ? await host.migrate(domid, to.includes("/") ? xl.path(to) : to, options)
          : await throughCommand(receiverCommand(to, p.value("s")), (path) => host.migrate(domid, path, options));
      xl.err("migration sender: Target reports successful startup.");
      xl.err(
        `Migration successful: domain ${r.domid} there, ${r.rounds} rounds, ${r.pagesSent} pages, ${r.downtimeMs.toFixed(1)} ms down, ${(r.totalMs / 1000).toFixed(1)} s in all.`,
      );
    } catch (e) {
      if (!(e instanceof HostError)) throw e;
      xl.libxlError(`migration failed: ${e.message}`, domid);
      xl.fail(
        (await xl.domains()).some((d) => d.domid === domid)
          ? "Migration failed, resuming at sender."
          : "Migration failed: the domain is not on this host any more.",
      );
    }
    return OK;
  },
};

const migrateReceive: Command = {
  name: "migrate-receive",
  synopsis: "- for internal use only",
  brief: "Receive a domain on the standard streams (what xl migrate runs through ssh)",
  modifies: true,
  spec: { short: "Fedrp", long: { debug: "d" } },
  async run(xl: Xl, words: readonly string[]) {
    xl.parse(words);
    const { migrationSocket } = await (await xl.host()).info();
    if (migrationSocket === undefined) xl.fail("xl migrate-receive: this host takes no migrations");
    try {
      await receiveOnStdio(migrationSocket);
    } catch (e) {
      xl.fail(`xl migrate-receive: ${migrationSocket}: ${e instanceof Error ? e.message : String(e)}`);
    }
    return OK;
  },
};

const fork: Command = {
  name: "fork",
  synopsis: "[options] <Domain> [<NewDomainName>]",
  brief: "Make running copies of a domain that share its memory until one of them writes (an extension of this xl)",
  options: [
    "-n N, --count=N  so many (default 1); the names of several get -1, -2, …",
    "-p               leave them paused",
  ].join("\n"),
  modifies: true,
  spec: { short: "n:p", long: { count: "n" } },
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const [word, name] = p.args;
    if (p.args.length > 2) xl.usage();
    const domid = await xl.domid(word);
    const text = p.value("n") ?? "1";
    const count = /^\d{1,5}$/.test(text) ? Number(text) : 0;
    if (count < 1) xl.fail(`xl fork: -n ${text}: it must be a whole number from 1 to 99999`);
    const made = await xl.ask(
      domid,
      (host) => host.fork(domid, { count, paused: p.has("p"), ...(name === undefined ? {} : { name }) }),
      () => xl.fail("fork failed"),
    );
    for (const d of made) {
      xl.out(`${d.domid} ${d.name}`);
      for (const w of d.warnings) xl.err(w);
    }
    return OK;
  },
};

export const migrateCommands: readonly Command[] = [migrate, migrateReceive, fork];
