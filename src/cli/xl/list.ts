/** Tables of domains: list, vm-list, claims, sharing. */
import { libxlJsonText } from "../../toolstack/config/json-text.js";
import type { DomainInfo } from "../../toolstack/host/api.js";
import type { Command, Xl } from "./command.js";
import { FAILURE, OK } from "./exit.js";
import { left, mib, right, seconds } from "./format.js";

const HEADER = "Name                                        ID   Mem VCPUs\tState\tTime(s)";
/** One letter by SHUTDOWN_*: poweroff, reboot, suspend, crash, watchdog, soft reset. */
const REASONS = "-rscwS";

export interface Columns {
  readonly verbose?: boolean;
  readonly context?: boolean;
  readonly cpupool?: boolean;
  readonly numa?: boolean;
  /** Outstanding claims in KiB by domain. */
  readonly claims?: ReadonlyMap<number, number>;
}

/** The six letters of a state. */
export function stateLetters(d: DomainInfo): string {
  const reason = d.shutdown ? (REASONS[d.shutdownCode] ?? "?") : "-";
  return `${d.running ? "r" : "-"}${d.blocked ? "b" : "-"}${d.paused ? "p" : "-"}${d.shutdown ? "s" : "-"}${reason}${d.dying ? "d" : "-"}`;
}

const nameIdMem = (d: DomainInfo): string => `${left(d.name, 40)} ${right(d.domid, 5)} ${right(mib(d.currentKiB), 5)}`;

export function domainTable(domains: readonly DomainInfo[], columns: Columns = {}): string {
  const { verbose = false, context = false, cpupool = false, numa = false, claims } = columns;
  let head = HEADER;
  if (verbose) head += "   UUID                            Reason-Code\tSecurity Label";
  else if (context) head += "   Security Label";
  if (claims !== undefined) head += "  Claimed";
  if (cpupool) head += "         Cpupool";
  if (numa) head += " NODE Affinity";
  const rows = domains.map((d) => {
    let row = `${nameIdMem(d)} ${right(d.vcpusOnline, 5)}     ${stateLetters(d)}  ${right(seconds(d.cpuTimeNs), 8)}`;
    if (verbose) row += ` ${d.uuid} ${right(d.shutdown ? d.shutdownCode.toString(16) : "-", 8)}`;
    if (claims !== undefined) row += ` ${right(mib(claims.get(d.domid) ?? 0), 5)}`;
    if (verbose || context) row += ` ${right("-", 16)}`;
    if (cpupool) row += right(d.pool, 16);
    if (numa) row += " all";
    return row;
  });
  return [head, ...rows].map((l) => `${l}\n`).join("");
}

async function details(xl: Xl, domains: readonly DomainInfo[]): Promise<void> {
  const host = await xl.host();
  const entries = [];
  for (const d of domains) {
    // A domain that has gone since it was listed is left out.
    const config = await host.getConfig(d.domid).catch(() => undefined);
    if (config !== undefined) entries.push({ domid: d.domid, config });
  }
  xl.out(`${libxlJsonText(entries)}\n`);
}

const list: Command = {
  name: "list",
  synopsis: "[options] [Domain]\n",
  brief: "Show the domains of this host, or one of them",
  options: [
    "-l, --long              everything that is known, as JSON",
    "-v, --verbose           with UUIDs, reasons of shutdown and labels",
    "-Z, --context           with security labels",
    "-c, --cpupool           with the CPU pool each is in",
    "-n, --numa              with the NUMA nodes each prefers",
  ].join("\n"),
  spec: { short: "lvZcn", long: { long: "l", verbose: "v", context: "Z", cpupool: "c", numa: "n" } },
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const [only] = p.args;
    if (p.args.length > 1) xl.usage(FAILURE);
    const domains = only === undefined ? await xl.domains() : [await xl.domain(only)];
    if (p.has("l")) await details(xl, domains);
    else {
      xl.io.out(
        domainTable(domains, { verbose: p.has("v"), context: p.has("Z"), cpupool: p.has("c"), numa: p.has("n") }),
      );
    }
    return OK;
  },
};

const vmList: Command = {
  name: "vm-list",
  synopsis: "",
  brief: "Show UUID, number and name of each domain",
  async run(xl: Xl, words: readonly string[]) {
    xl.parse(words);
    xl.out("UUID                                  ID    name");
    for (const d of await xl.domains()) xl.out(`${d.uuid}  ${d.domid}    ${left(d.name, 30)}`);
    return OK;
  },
};

const claims: Command = {
  name: "claims",
  synopsis: "",
  brief: "Show how much free memory domains that are being built have claimed",
  async run(xl: Xl, words: readonly string[]) {
    xl.parse(words);
    const outstanding = new Map((await (await xl.host()).claims()).map((c) => [c.domid, c.kib]));
    xl.io.out(domainTable(await xl.domains(), { claims: outstanding }));
    return OK;
  },
};

const sharing: Command = {
  name: "sharing",
  synopsis: "[Domain]",
  brief: "Show how much memory of each domain is shared with others (forks)",
  async run(xl: Xl, words: readonly string[]) {
    const { args } = xl.parse(words);
    const [only] = args;
    if (args.length > 1) xl.usage(FAILURE);
    const domains = only === undefined ? await xl.domains() : [await xl.domain(only)];
    xl.out("Name                                        ID   Mem Shared");
    for (const d of domains) xl.out(`${nameIdMem(d)}  ${right(mib(d.sharedKiB ?? 0), 5)}`);
    return OK;
  },
};

export const listCommands: readonly Command[] = [list, vmList, claims, sharing];
