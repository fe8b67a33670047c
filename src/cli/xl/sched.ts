/** Parameters of the schedulers: sched-credit, sched-credit2, sched-rtds and the old sched-sedf. */
import { HostError, type DomainInfo, type PoolInfo } from "../../toolstack/host/api.js";
import type { Command, Xl } from "./command.js";
import { OK } from "./exit.js";
import { left, right } from "./format.js";

type Params = Readonly<Record<string, number>>;

const row = (d: DomainInfo, ...columns: string[]): string =>
  `${left(d.name, 33)} ${right(d.domid, 4)} ${columns.join(" ")}`;
const headOf = (...columns: string[]): string => `${left("Name", 33)} ${right("ID", 4)} ${columns.join(" ")}`;

/** What differs between the schedulers. */
interface Kind {
  readonly name: string;
  /** libxl's own name for it in its messages. */
  readonly label: string;
  readonly head: string;
  row(d: DomainInfo, params: Params): string;
  /** The line of a pool; null: this scheduler has none. */
  pool: ((pool: PoolInfo, globals: Params) => string) | null;
}

const weightCap = (d: DomainInfo, p: Params): string => row(d, right(p["weight"] ?? 0, 6), right(p["cap"] ?? 0, 4));
const WEIGHT_CAP = headOf(right("Weight", 6), right("Cap", 4));

const CREDIT: Kind = {
  name: "credit",
  label: "credit",
  head: WEIGHT_CAP,
  row: weightCap,
  pool: (pool, g) =>
    `Cpupool ${pool.name}: tslice=${g["tslice_ms"] ?? 0}ms ratelimit=${g["ratelimit_us"] ?? 0}us migration-delay=${g["migration_delay_us"] ?? g["vcpu_migr_delay_us"] ?? 0}us`,
};
const CREDIT2: Kind = {
  name: "credit2",
  label: "credit2",
  head: WEIGHT_CAP,
  row: weightCap,
  pool: (pool, g) => `Cpupool ${pool.name}: ratelimit=${g["ratelimit_us"] ?? 0}us`,
};
const RTDS: Kind = {
  name: "rtds",
  label: "rtds",
  head: headOf(right("Period", 9), right("Budget", 9), right("Extratime", 10)),
  row: (d, p) =>
    row(
      d,
      right(p["period"] ?? 0, 9),
      right(p["budget"] ?? 0, 9),
      right((p["extratime"] ?? 0) !== 0 ? "yes" : "no", 10),
    ),
  pool: null,
};
const milliseconds = (p: Params, key: string): number => Math.round((p[key] ?? 0) / 1e6);
const SEDF: Kind = {
  name: "sedf",
  label: "sedf",
  head: headOf(right("Period", 6), left("Slice", 6), right("Latency", 7), right("Extra", 5), right("Weight", 6)),
  row: (d, p) =>
    row(
      d,
      right(milliseconds(p, "period"), 6),
      right(milliseconds(p, "slice"), 6),
      right(milliseconds(p, "latency"), 7),
      right(p["extratime"] ?? 0, 5),
      right(p["weight"] ?? 0, 6),
    ),
  pool: null,
};

async function poolNamed(xl: Xl, ref: string | undefined): Promise<PoolInfo> {
  const pools = await (await xl.host()).listPools();
  const found =
    ref === undefined ? pools.find((p) => p.id === 0) : pools.find((p) => p.name === ref || String(p.id) === ref);
  return found ?? xl.fail(`unknown cpupool '${ref ?? "0"}'`);
}

async function poolLine(xl: Xl, kind: Kind, pool: PoolInfo): Promise<boolean> {
  if (kind.pool === null) {
    xl.out(`Cpupool ${pool.name}:`);
    return true;
  }
  if (pool.scheduler !== kind.name) {
    const title = kind.name === "credit" ? "Credit" : "Credit2";
    xl.libxlError(`getting ${title} scheduler parameters: Invalid argument`);
    xl.err(`libxl_sched_${kind.label}_params_get failed.`);
    xl.out(`Cpupool ${pool.name}: [sched params unavailable]`);
    return false;
  }
  xl.out(kind.pool(pool, await (await xl.host()).getSchedGlobal(pool.name)));
  return true;
}

/** Every pool with this scheduler and the domains in it; other schedulers' pools say nothing. */
async function listAll(xl: Xl, kind: Kind, ref: string | undefined): Promise<number> {
  const host = await xl.host();
  const chosen = ref === undefined ? undefined : await poolNamed(xl, ref);
  const domains = await xl.domains();
  for (const pool of await host.listPools()) {
    if (pool.scheduler !== kind.name || (chosen !== undefined && chosen.id !== pool.id)) continue;
    await poolLine(xl, kind, pool);
    xl.out(kind.head);
    for (const d of domains) if (d.pool === pool.name) xl.out(kind.row(d, await host.getSched(d.domid)));
  }
  return OK;
}

/** The scheduler that a domain is under. */
async function schedulerOf(xl: Xl, domid: number): Promise<{ d: DomainInfo; scheduler: string }> {
  const d = (await xl.domains()).find((x) => x.domid === domid);
  if (d === undefined) {
    xl.libxlError("getting domain info list: No such process", domid);
    xl.fail("libxl_domain_sched_params_get failed.");
  }
  const pools = await (await xl.host()).listPools();
  return { d, scheduler: pools.find((p) => p.name === d.pool)?.scheduler ?? "" };
}

async function showOne(xl: Xl, kind: Kind, domid: number): Promise<number> {
  xl.out(kind.head);
  const { d, scheduler } = await schedulerOf(xl, domid);
  if (scheduler !== kind.name) xl.fail(`libxl_domain_sched_params_get returned ${scheduler} not ${kind.label}.`);
  xl.out(kind.row(d, await (await xl.host()).getSched(domid)));
  return OK;
}

async function setOne(xl: Xl, kind: Kind, domid: number, params: Params): Promise<number> {
  const refuse = (what: string): never => {
    xl.libxlError(what, domid);
    return xl.fail("libxl_domain_sched_params_set failed.");
  };
  const { d, scheduler } = await schedulerOf(xl, domid);
  if (scheduler !== kind.name)
    refuse(`Getting domain sched ${kind.label}: Invalid argument (the scheduler is ${scheduler})`);
  const { weight, cap } = params;
  const least = kind === SEDF ? 0 : 1;
  if (weight !== undefined && !(weight >= least && weight <= 65535))
    refuse("Cpu weight out of range, valid values are within range from 1 to 65535");
  const most = d.maxVcpus * 100;
  if (kind === CREDIT && cap !== undefined && !(cap >= 0 && cap <= most))
    refuse(`Cpu cap out of range, valid range is from 0 to ${most} for specified number of vcpus`);
  try {
    await (await xl.host()).setSched(domid, kind.name, params);
  } catch (e) {
    if (!(e instanceof HostError)) throw e;
    refuse(e.message);
  }
  return OK;
}

/** What strtol makes of a word: the number at its start, or 0. */
const number = (text: string): number => parseInt(text, 10) || 0;

function creditLike(
  kind: Kind,
  name: string,
  synopsis: string,
  brief: string,
  globals: Readonly<Record<string, string>>,
): Command {
  const letters = Object.keys(globals);
  const long: Record<string, string> = { domain: "d", weight: "w", cap: "c", schedparam: "s", cpupool: "p" };
  for (const [letter, key] of Object.entries(globals)) long[key] = letter;
  const value = (letter: string, key: string): string => `-${letter} N, --${key}=N`.padEnd(34) + `set ${key} (with -s)`;
  return {
    name,
    synopsis,
    brief,
    options: [
      "-d DOMAIN, --domain=DOMAIN        the domain to show or change",
      "-w N, --weight=N                  its weight (1 to 65535)",
      "-c N, --cap=N                     its cap in percent of one CPU (0: none)",
      "-s, --schedparam                  the scheduler's own parameters",
      ...letters.map((l) => value(l, globals[l])),
      "-p CPUPOOL, --cpupool=CPUPOOL     in this pool only",
    ].join("\n"),
    modifies: true,
    spec: { short: `d:w:c:p:s${letters.map((l) => `${l}:`).join("")}`, long },
    async run(xl: Xl, words: readonly string[]) {
      const p = xl.parse(words);
      const domain = p.value("d");
      const pool = p.value("p");
      const changes = letters.filter((l) => p.has(l));
      if ((pool !== undefined || p.has("s")) && (domain !== undefined || p.has("w") || p.has("c")))
        xl.fail("Specifying a cpupool or schedparam is not allowed with domain options.");
      if (domain === undefined && (p.has("w") || p.has("c"))) xl.fail("Must specify a domain.");
      if (!p.has("s") && changes.length > 0) xl.fail("Must specify schedparam to set schedule parameter values.");
      if (p.has("s")) {
        const target = await poolNamed(xl, pool);
        if (changes.length === 0) {
          await poolLine(xl, kind, target);
          return OK;
        }
        if (target.scheduler !== kind.name) {
          xl.libxlError(
            `getting ${kind.label} scheduler parameters: Invalid argument (the scheduler is ${target.scheduler})`,
          );
          xl.fail(`libxl_sched_${kind.label}_params_get failed.`);
        }
        const params = Object.fromEntries(changes.map((l) => [globals[l], number(p.value(l) ?? "")]));
        await xl.ask(
          undefined,
          (host) => host.setSchedGlobal(params, target.name),
          () => xl.fail(`libxl_sched_${kind.label}_params_set failed.`),
        );
        return OK;
      }
      if (domain === undefined) return listAll(xl, kind, pool);
      const domid = await xl.domid(domain);
      if (!p.has("w") && !p.has("c")) return showOne(xl, kind, domid);
      return setOne(xl, kind, domid, {
        ...(p.has("w") ? { weight: number(p.value("w") ?? "") } : {}),
        ...(p.has("c") ? { cap: number(p.value("c") ?? "") } : {}),
      });
    },
  };
}

const rtds: Command = {
  name: "sched-rtds",
  synopsis: "[-d <Domain> [-v[=VCPUID/all]] [-p[=PERIOD]] [-b[=BUDGET]] [-e[=Extratime]]]",
  brief: "Show or change parameters of the rtds scheduler (this host has credit and sedf)",
  options: [
    "-d DOMAIN, --domain=DOMAIN     the domain to show or change",
    "-v VCPUID/all, --vcpuid=VCPUID/all  one of its virtual CPUs, or all",
    "-p PERIOD, --period=PERIOD     microseconds",
    "-b BUDGET, --budget=BUDGET     microseconds",
    "-e N, --extratime=N            1: takes time that is left over",
  ].join("\n"),
  modifies: true,
  spec: { short: "d:v:p:b:e:", long: { domain: "d", vcpuid: "v", period: "p", budget: "b", extratime: "e" } },
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const domain = p.value("d");
    if (domain === undefined) {
      if (p.has("p") || p.has("b") || p.has("e") || p.has("v")) xl.fail("Must specify a domain.");
      return listAll(xl, RTDS, undefined);
    }
    const domid = await xl.domid(domain);
    if (!p.has("p") && !p.has("b") && !p.has("e")) return showOne(xl, RTDS, domid);
    return setOne(xl, RTDS, domid, { period: number(p.value("p") ?? ""), budget: number(p.value("b") ?? "") });
  },
};

const sedf: Command = {
  name: "sched-sedf",
  synopsis: "[-d <Domain> [-p PERIOD] [-s SLICE] [-l LATENCY] [-e EXTRA] [-w WEIGHT]] [-c CPUPOOL]",
  brief: "Show or change parameters of the sEDF scheduler",
  options: [
    "-d DOMAIN, --domain=DOMAIN     the domain to show or change",
    "-p MS, --period=MS             length of a period, milliseconds",
    "-s MS, --slice=MS              time it gets in each, milliseconds",
    "-l MS, --latency=MS            first period after a long block, milliseconds",
    "-e FLAG, --extra=FLAG          1: takes time that is left over",
    "-w N, --weight=N               share in place of period and slice",
    "-c CPUPOOL, --cpupool=CPUPOOL  in this pool only",
  ].join("\n"),
  modifies: true,
  spec: {
    short: "d:p:s:l:e:w:c:",
    long: { domain: "d", period: "p", slice: "s", latency: "l", extra: "e", weight: "w", cpupool: "c" },
  },
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const domain = p.value("d");
    const sets = ["p", "s", "l", "e", "w"].some((l) => p.has(l));
    if (p.has("c") && (domain !== undefined || sets))
      xl.fail("Specifying a cpupool is not allowed with other options.");
    if (domain === undefined && sets) xl.fail("Must specify a domain.");
    if (p.has("w") && (p.has("p") || p.has("s"))) xl.fail("Specifying a weight AND period or slice is not allowed.");
    if (p.has("p") !== p.has("s")) xl.fail("Specifying period AND slice is needed, not one of them.");
    if (domain === undefined) return listAll(xl, SEDF, p.value("c"));
    const domid = await xl.domid(domain);
    if (!sets) return showOne(xl, SEDF, domid);
    const ns = (letter: string): number => number(p.value(letter) ?? "") * 1e6;
    return setOne(xl, SEDF, domid, {
      ...(p.has("p") ? { period: ns("p"), slice: ns("s"), weight: 0 } : {}),
      ...(p.has("l") ? { latency: ns("l") } : {}),
      ...(p.has("e") ? { extratime: number(p.value("e") ?? "") } : {}),
      // A weight takes the place of an agreed period and slice.
      ...(p.has("w") ? { weight: number(p.value("w") ?? ""), period: 0, slice: 0 } : {}),
    });
  },
};

export const schedCommands: readonly Command[] = [
  creditLike(
    CREDIT,
    "sched-credit",
    "[-d <Domain> [-w[=WEIGHT]|-c[=CAP]]] [-s [-t TSLICE] [-r RATELIMIT]] [-p CPUPOOL]",
    "Show or change parameters of the credit scheduler",
    { t: "tslice_ms", r: "ratelimit_us", m: "migration_delay_us" },
  ),
  creditLike(
    CREDIT2,
    "sched-credit2",
    "[-d <Domain> [-w[=WEIGHT]]] [-p CPUPOOL]",
    "Show or change parameters of the credit2 scheduler (this host has credit and sedf)",
    { r: "ratelimit_us" },
  ),
  rtds,
  sedf,
];
