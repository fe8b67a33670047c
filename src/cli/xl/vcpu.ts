/** Virtual CPUs: vcpu-list, vcpu-pin, vcpu-set. */
import type { DomainInfo } from "../../toolstack/host/api.js";
import { HostError } from "../../toolstack/host/api.js";
import type { Command, Xl } from "./command.js";
import { cpuRange } from "./cpu-range.js";
import { FAILURE, OK } from "./exit.js";
import { left, ranges, right, seconds } from "./format.js";

export function vcpuRows(d: DomainInfo, pcpus: number): string[] {
  return d.vcpus.map((v) => {
    const where = v.online
      ? `${right(v.cpu < 0 ? "-" : v.cpu, 5)} ${right(v.running ? "r" : "-", 3)}${v.blocked ? "b" : "-"}- `
      : `${right("-", 5)} ${right("-", 3)}-p `;
    const affinity = `${ranges(v.hardAffinity, pcpus)} / ${ranges(v.softAffinity, pcpus)}`;
    return `${left(d.name, 32)} ${right(d.domid, 5)} ${right(v.vcpu, 5)}${where}${right(seconds(v.timeNs), 9)}  ${affinity}`;
  });
}

const vcpuList: Command = {
  name: "vcpu-list",
  synopsis: "[Domain, ...]",
  brief: "Show the virtual CPUs of domains and where they run",
  async run(xl: Xl, words: readonly string[]) {
    const { args } = xl.parse(words);
    const pcpus = (await (await xl.host()).info()).nrCpus;
    xl.out(
      `${left("Name", 32)} ${right("ID", 5)} ${right("VCPU", 5)} ${right("CPU", 5)} ${right("State", 5)} ${right("Time(s)", 9)} Affinity (Hard / Soft)`,
    );
    const print = (d: DomainInfo): void => {
      for (const row of vcpuRows(d, pcpus)) xl.out(row);
    };
    if (args.length === 0) for (const d of await xl.domains()) print(d);
    for (const word of args) {
      const domid = await xl.domid(word);
      const found = (await xl.domains()).find((d) => d.domid === domid);
      if (found === undefined) xl.libxlError("getting domain info list: No such process", domid);
      else print(found);
    }
    return OK;
  },
};

/** A CPU list, or null for "leave it alone". Every CPU is no restriction: `[]` would be one. */
function affinity(xl: Xl, text: string | undefined, pcpus: number): readonly number[] | null | undefined {
  if (text === undefined || text === "-") return undefined;
  const cpus = cpuRange(xl, text, pcpus);
  return cpus.length === pcpus ? null : cpus;
}

const vcpuPin: Command = {
  name: "vcpu-pin",
  synopsis: "[option] <Domain> <VCPU|all> <Hard affinity|-|all> <Soft affinity|-|all>",
  brief: "Say on which physical CPUs a virtual CPU may run, and would rather",
  options: [
    "-f, --force        also where the guest's kernel has pinned it",
    "--ignore-global-affinity-masks  (there are none here)",
  ].join("\n"),
  modifies: true,
  dryRun: true,
  spec: { short: "fi", long: { force: "f", "ignore-global-affinity-masks": "i" } },
  least: 3,
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const [word, which, hardText, softText] = p.args;
    const domid = await xl.domid(word);
    const number = /^\d+/.exec(which);
    if (number === null && which !== "all") xl.fail(`Error: Invalid argument ${which} as VCPU.`);
    if (number === null && p.has("f")) xl.fail("Error: --force and 'all' as VCPU not allowed.");
    const vcpu = number === null ? "all" : Number(number[0]);
    const host = await xl.host();
    const pcpus = (await host.info()).nrCpus;
    const hard = affinity(xl, hardText, pcpus);
    const soft = affinity(xl, softText, pcpus);
    if (xl.globals.dryRun) {
      xl.out(
        `cpumap: ${hard === undefined ? "-" : ranges(hard, pcpus)}${soft === undefined ? "" : ` ${ranges(soft, pcpus)}`}`,
      );
      return OK;
    }
    if (hard?.length === 0) xl.fail("vcpu hard affinity map is empty");
    try {
      await host.pinVcpu(domid, vcpu, hard, soft);
    } catch (e) {
      if (!(e instanceof HostError)) throw e;
      xl.libxlError(`Setting vcpu affinity: ${e.message}`, domid);
      xl.fail(vcpu === "all" ? "Could not set affinity." : `Could not set affinity for vcpu \`${vcpu}'.`);
    }
    return OK;
  },
};

const vcpuSet: Command = {
  name: "vcpu-set",
  synopsis: "[option] <Domain> <vCPUs>",
  brief: "Set how many virtual CPUs of a domain are on",
  options: "-i, --ignore-host  more than the host has physical CPUs",
  modifies: true,
  spec: { short: "i", long: { "ignore-host": "i" } },
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const [word, text] = p.args;
    const domid = await xl.domid(word);
    const digits = /^\d+/.exec(text);
    if (digits === null || Number(digits[0]) > 0x7fff_ffff) xl.fail("Error: Invalid argument.");
    const count = Number(digits[0]);
    const host = await xl.host();
    const refused = (rc: number): never =>
      xl.fail(`libxl_set_vcpuonline failed domid=${domid} max_vcpus=${count}, rc: ${rc}`);
    const now = (await xl.domains()).find((d) => d.domid === domid);
    if (now === undefined) xl.fail(`Domain ${domid} does not exist.`);
    if (!p.has("i")) {
      const { nrCpus } = await host.info();
      if (count > now.vcpusOnline && count > nrCpus) {
        xl.fail(
          `You are overcommmitting! You have ${nrCpus} physical CPUs and want ${count} vCPUs! Aborting, use --ignore-host to continue`,
        );
      }
    }
    if (count === 0) {
      xl.libxlError("Requested 0 VCPUs!: Function not implemented", domid);
      refused(-3);
    }
    await xl.ask(
      domid,
      (h) => h.setVcpus(domid, count),
      (e) => (e.code === "unknown-domain" ? xl.exit(FAILURE) : refused(-6)),
    );
    return OK;
  },
};

export const vcpuCommands: readonly Command[] = [vcpuList, vcpuPin, vcpuSet];
