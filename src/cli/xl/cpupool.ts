/** CPU pools. */
import { basename } from "node:path";
import { ConfigError, parseXlu, type XluConfig, type XluValue } from "../../toolstack/config/xlu.js";
import type { HostApi, PoolInfo } from "../../toolstack/host/api.js";
import { HostError } from "../../toolstack/host/api.js";
import { readConfig } from "./config-file.js";
import type { Command, Xl } from "./command.js";
import { cpuRange } from "./cpu-range.js";
import { FAILURE, OK } from "./exit.js";
import { left, right } from "./format.js";

const SCHEDULERS: ReadonlySet<string> = new Set(["sedf", "credit", "credit2", "arinc653", "rtds", "null", "trivial"]);

async function find(xl: Xl, ref: string): Promise<PoolInfo> {
  const pools = await (await xl.host()).listPools();
  const found = pools.find((p) => p.name === ref) ?? pools.find((p) => String(p.id) === ref);
  return found ?? xl.fail(`unknown cpupool '${ref}'`);
}

const atom = (v: XluValue | undefined): string | undefined => (v?.kind === "atom" ? v.text : undefined);
const items = (v: XluValue | undefined): string[] | undefined =>
  v?.kind === "list" ? v.items.flatMap((i) => (i.kind === "atom" ? [i.text] : [])) : undefined;

/** The CPUs that a pool's configuration names, each of which must be free. */
function cpusOf(xl: Xl, config: XluConfig, count: number, free: ReadonlySet<number>): number[] {
  const nodes = items(config.get("nodes")?.value);
  const cpus = config.get("cpus")?.value;
  const take = (n: number): number => (free.has(n) ? n : xl.fail(`cpu ${n} illegal or not free`));
  if (nodes !== undefined) {
    // There is one node with all CPUs; what is free of it is meant.
    const chosen = nodes.some((n) => Number(n) === 0) ? [...free] : [];
    return chosen.length > 0 ? chosen : xl.fail("no free cpu found");
  }
  if (cpus?.kind === "list") return (items(cpus) ?? []).map((text) => take(parseInt(text, 10) || 0));
  const text = atom(cpus);
  return text === undefined ? [] : cpuRange(xl, text, count).map(take);
}

const create: Command = {
  name: "cpupool-create",
  synopsis: "[options] [<ConfigFile>] [Variable=value ...]",
  brief: "Make a CPU pool of free CPUs",
  options: [
    "-f FILE, --defconfig=FILE    the configuration (name, sched, cpus or nodes)",
    "-n, --dryrun                 show what would be made",
  ].join("\n"),
  modifies: true,
  dryRun: true,
  spec: { short: "nf:", long: { defconfig: "f", dryrun: "n" } },
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    let file = p.value("f");
    const extra: string[] = [];
    for (const word of p.args) {
      if (word.includes("=")) extra.push(word);
      else if (file === undefined) file = word;
      else xl.usage(FAILURE);
    }
    const source = file ?? "command line";
    const text = file === undefined ? "" : readConfig(xl, file, FAILURE);
    let config: XluConfig;
    try {
      config = parseXlu(`${[text, ...extra].join("\n")}\n`, source);
    } catch (e) {
      if (!(e instanceof ConfigError)) throw e;
      xl.err(e.message);
      return xl.fail("Failed to parse config file: Invalid argument");
    }
    const name = atom(config.get("name")?.value) ?? (file === undefined ? undefined : basename(file));
    if (name === undefined) xl.fail("Missing cpupool name!");
    const host = await xl.host();
    const pools = await host.listPools();
    if (pools.some((pool) => pool.name === name)) xl.fail(`Pool name "${name}" already exists`);
    const facts = await host.info();
    const scheduler = atom(config.get("sched")?.value) ?? facts.scheduler;
    if (!SCHEDULERS.has(scheduler)) xl.fail("Unknown scheduler");
    const taken = new Set(pools.flatMap((pool) => pool.cpus));
    const free = new Set(Array.from({ length: facts.nrCpus }, (_, i) => i).filter((c) => !taken.has(c)));
    const cpus = cpusOf(xl, config, facts.nrCpus, free);
    xl.out(`Using config file "${source}"`);
    xl.out(`cpupool name:   ${name}`);
    xl.out(`scheduler:      ${scheduler}`);
    xl.out(`number of cpus: ${cpus.length}`);
    if (!p.has("n") && !xl.globals.dryRun) {
      await xl.ask(
        undefined,
        (h) => h.createPool(name, scheduler, cpus),
        () => xl.fail("error on creating cpupool"),
      );
    }
    return OK;
  },
};

const list: Command = {
  name: "cpupool-list",
  synopsis: "[-c|--cpus] [<CPU Pool>]",
  brief: "Show the CPU pools of this host",
  options: "-c, --cpus                     which CPUs are in each",
  spec: { short: "c", long: { cpus: "c" } },
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const [only] = p.args;
    const pools = await (await xl.host()).listPools();
    if (only !== undefined && !pools.some((pool) => pool.name === only)) xl.fail(`Pool '${only}' does not exist`);
    xl.out(`${left("Name", 19)}${p.has("c") ? "CPU list" : "CPUs   Sched     Active   Domain count"}`);
    for (const pool of pools) {
      if (only !== undefined && pool.name !== only) continue;
      xl.out(
        p.has("c")
          ? `${left(pool.name, 19)}${pool.cpus.join(",")}`
          : `${left(pool.name, 19)}${right(pool.cpus.length, 3)} ${right(pool.scheduler, 9)}       y       ${right(pool.domains, 4)}`,
      );
    }
    return OK;
  },
};

const destroy: Command = {
  name: "cpupool-destroy",
  synopsis: "<CPU Pool>",
  brief: "Dissolve a CPU pool without domains",
  modifies: true,
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const [ref] = xl.parse(words).args;
    const pool = await find(xl, ref);
    try {
      await (await xl.host()).destroyPool(pool.name);
    } catch (e) {
      if (!(e instanceof HostError)) throw e;
      // xl says only the last line: why helps more.
      if (e.code !== "state") xl.libxlError(e.message);
      xl.fail(`Can't destroy cpupool '${ref}'`);
    }
    return OK;
  },
};

const rename: Command = {
  name: "cpupool-rename",
  synopsis: "<CPU Pool> <new name>",
  brief: "Give a CPU pool another name",
  modifies: true,
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const [ref, name] = xl.parse(words).args;
    const pool = await find(xl, ref);
    await xl.ask(
      undefined,
      (host) => host.renamePool(pool.name, name),
      () => xl.fail(`Can't rename cpupool '${ref}'`),
    );
    return OK;
  },
};

/** Both words that change what CPUs a pool has. `refused`: what xl prints when it was not, or not wholly, done. */
function cpuChange(
  name: string,
  brief: string,
  change: (host: HostApi, pool: string, cpus: number[]) => Promise<void>,
  refused: (ref: string) => string,
): Command {
  return {
    name,
    synopsis: "<CPU Pool> <CPU nr>|node:<node nr>",
    brief,
    modifies: true,
    least: 2,
    async run(xl: Xl, words: readonly string[]) {
      const [ref, range] = xl.parse(words).args;
      const host = await xl.host();
      const cpus = cpuRange(xl, range, (await host.info()).nrCpus);
      const pool = await find(xl, ref);
      try {
        if (cpus.length === 0) throw new HostError("invalid", "no CPU of this host is meant");
        await change(host, pool.name, cpus);
      } catch (e) {
        if (!(e instanceof HostError)) throw e;
        xl.libxlError(e.message);
        xl.err(refused(ref));
        return FAILURE;
      }
      return OK;
    },
  };
}

const cpuAdd = cpuChange(
  "cpupool-cpu-add",
  "Put free CPUs into a CPU pool",
  (host, pool, cpus) => host.poolAddCpus(pool, cpus),
  (ref) => `some cpus may not have been added to ${ref}`,
);

const cpuRemove = cpuChange(
  "cpupool-cpu-remove",
  "Take CPUs out of a CPU pool",
  (host, pool, cpus) => host.poolRemoveCpus(pool, cpus),
  (ref) => `Some cpus may have not or only partially been removed from '${ref}'.`,
);

const migrate: Command = {
  name: "cpupool-migrate",
  synopsis: "<Domain> <CPU Pool>",
  brief: "Move a domain into a CPU pool",
  modifies: true,
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const [word, ref] = xl.parse(words).args;
    const domid = await xl.lookup(word);
    if (domid === undefined || !(await xl.domains()).some((d) => d.domid === domid))
      xl.fail(`unknown domain '${word}'`);
    const pool = await find(xl, ref);
    await xl.ask(
      domid,
      (host) => host.poolMoveDomain(domid, pool.name),
      () => xl.exit(FAILURE),
    );
    return OK;
  },
};

const numaSplit: Command = {
  name: "cpupool-numa-split",
  synopsis: "",
  brief: "Make one CPU pool of each NUMA node (there is one node)",
  modifies: true,
  async run(xl: Xl, words: readonly string[]) {
    xl.parse(words);
    const host = await xl.host();
    const pools = await host.listPools();
    if (pools.length > 1) xl.fail("splitting not possible, already cpupools in use");
    if (pools[0].name !== "Pool-node0") {
      await xl.ask(
        undefined,
        (h) => h.renamePool(pools[0].name, "Pool-node0"),
        () => xl.fail("error on renaming Pool 0"),
      );
    }
    return OK;
  },
};

export const cpupoolCommands: readonly Command[] = [
  create,
  list,
  destroy,
  rename,
  cpuAdd,
  cpuRemove,
  migrate,
  numaSplit,
];
