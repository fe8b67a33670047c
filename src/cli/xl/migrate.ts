/** migrate: to another host service, over its socket. fork: running copies of a domain on this host. */
import { HostError } from "../../toolstack/host/api.js";
import type { Command, Xl } from "./command.js";
import { readConfig } from "./config-file.js";
import { FAILURE, OK } from "./exit.js";

const migrate: Command = {
  name: "migrate",
  synopsis: "[options] <Domain> <host>",
  brief: "Move a running domain to another host service (<host> is HOST:PORT, or the path of its socket)",
  options: [
    "-h              print this help",
    "-C <config>     this configuration in place of the domain's own",
    "-e, --live, --debug  taken for compatibility: it is always live",
  ].join("\n"),
  modifies: true,
  spec: { short: "FC:s:epDlx", long: { debug: "x", live: "l" } },
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const [word, to] = p.args;
    const domid = await xl.domid(word);
    if (p.has("s"))
      xl.fail("xl: -s: there is no ssh in between: <host> is HOST:PORT of the other host service, or its socket");
    if (p.has("p")) xl.fail("xl: -p: a domain that has been migrated goes on at once");
    const configFile = p.value("C");
    const config = configFile === undefined ? undefined : readConfig(xl, configFile, FAILURE);
    const host = await xl.host();
    try {
      const r = await host.migrate(domid, to, config === undefined ? {} : { config });
      xl.err(`migration sender: Target reports successful startup.`);
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

export const migrateCommands: readonly Command[] = [migrate, fork];
