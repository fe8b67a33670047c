/** The host: info, dmesg, debug-keys, set-parameters, uptime; domains' numbers and names. */
import type { DomainInfo, HostInfo } from "../../toolstack/host/api.js";
import type { Command, Xl } from "./command.js";
import { FAILURE, OK } from "./exit.js";
import type { XlIo } from "./io.js";
import { hex8, left, right, uptime } from "./format.js";

interface Lines {
  readonly key: string;
  readonly value: string;
}

/** The lines of `xl info` in their order; `numa` lines are free text between the two halves. */
function hardware(info: HostInfo, os: XlIo["os"], freeCpus: number, claims: number): Lines[] {
  const khz = Math.round(info.cpuMhz * 1000);
  return [
    { key: "host", value: info.host },
    { key: "release", value: os.release },
    { key: "version", value: os.version },
    { key: "machine", value: info.machine },
    { key: "nr_cpus", value: String(info.nrCpus) },
    { key: "max_cpu_id", value: String(info.nrCpus - 1) },
    { key: "nr_nodes", value: "1" },
    { key: "cores_per_socket", value: String(info.nrCpus) },
    { key: "threads_per_core", value: "1" },
    { key: "cpu_mhz", value: `${Math.floor(khz / 1000)}.${String(khz % 1000).padStart(3, "0")}` },
    { key: "hw_caps", value: info.hwCaps.map(hex8).join(":") },
    { key: "virt_caps", value: info.virtCaps },
    { key: "total_memory", value: String(info.totalMemory) },
    { key: "free_memory", value: String(info.freeMemory) },
    { key: "sharing_freed_memory", value: String(info.sharingFreedMiB) },
    { key: "sharing_used_memory", value: String(info.sharingUsedMiB) },
    { key: "outstanding_claims", value: String(claims) },
    { key: "free_cpus", value: String(freeCpus) },
  ];
}

function hypervisor(info: HostInfo): Lines[] {
  return [
    { key: "xen_major", value: String(info.xenMajor) },
    { key: "xen_minor", value: String(info.xenMinor) },
    { key: "xen_extra", value: info.xenExtra },
    { key: "xen_version", value: `${info.xenMajor}.${info.xenMinor}${info.xenExtra}` },
    { key: "xen_caps", value: info.xenCaps },
    { key: "xen_scheduler", value: info.scheduler },
    { key: "xen_pagesize", value: "4096" },
    { key: "platform_params", value: `virt_start=${info.virtStart}` },
    { key: "xen_changeset", value: info.changeset },
    { key: "xen_commandline", value: info.commandLine },
    { key: "cc_compiler", value: info.compiler },
    { key: "cc_compile_by", value: info.compileBy },
    { key: "cc_compile_domain", value: info.compileDomain },
    { key: "cc_compile_date", value: info.compileDate },
    { key: "build_id", value: info.buildId },
    { key: "xend_config_format", value: "4" },
  ];
}

/** CPUs, devices and nodes: one socket, one node. */
function topology(info: HostInfo): string[] {
  const cpus = Array.from(
    { length: info.nrCpus },
    (_, i) => `${right(i, 3)}:    ${right(i, 4)}     ${right(0, 4)}     ${right(0, 4)}`,
  );
  return [
    "cpu_topology           :",
    "cpu:    core    socket     node",
    ...cpus,
    "device topology        :",
    "device           node",
    "No device topology data available",
    "numa_info              :",
    "node:    memsize    memfree    distances",
    `${right(0, 4)}:    ${right(info.totalMemory, 6)}     ${right(info.freeMemory, 6)}      10`,
  ];
}

const info: Command = {
  name: "info",
  synopsis: "[options] [key]",
  brief: "Show what this host is and has, or the value of one key",
  options: "-n, --numa         with CPUs and NUMA nodes",
  spec: { short: "n", long: { numa: "n" } },
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const host = await xl.host();
    const facts = await host.info();
    const pools = await host.listPools();
    const claimed = (await host.claims()).reduce((sum, c) => sum + c.kib, 0);
    const freeCpus = facts.nrCpus - new Set(pools.flatMap((pool) => pool.cpus)).size;
    const first = hardware(facts, xl.io.os, freeCpus, Math.floor(claimed / 1024));
    const second = hypervisor(facts);
    const [key] = p.args;
    if (key !== undefined && !p.has("n")) {
      // Nothing is printed for a key that there is not.
      for (const l of [...first, ...second]) if (l.key === key) xl.out(l.value);
      return OK;
    }
    for (const l of first) xl.out(`${left(l.key, 23)}: ${l.value}`);
    if (p.has("n")) for (const l of topology(facts)) xl.out(l);
    for (const l of second) xl.out(`${left(l.key, 23)}: ${l.value}`);
    return OK;
  },
};

const dmesg: Command = {
  name: "dmesg",
  synopsis: "[-c]",
  brief: "Print the hypervisor's messages",
  options: "  -c                        empty the buffer after that",
  spec: { short: "c", long: { clear: "c" } },
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const text = await (await xl.host()).dmesg(p.has("c"));
    if (text !== "") xl.io.out(text.endsWith("\n") ? text : `${text}\n`);
    return OK;
  },
};

const debugKeys: Command = {
  name: "debug-keys",
  synopsis: "<Keys>",
  brief: "Press keys of the hypervisor's console: what they print is in dmesg (h lists them)",
  modifies: true,
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const [keys] = xl.parse(words).args;
    await xl.ask(
      undefined,
      (host) => host.debugKeys(keys),
      () => xl.fail(`cannot send debug keys: ${keys}`),
    );
    return OK;
  },
};

const setParameters: Command = {
  name: "set-parameters",
  synopsis: "<Params>",
  brief: "Change parameters of the running hypervisor",
  modifies: true,
  least: 1,
  run(xl: Xl, words: readonly string[]) {
    const [params] = xl.parse(words).args;
    for (const param of params.split(/\s+/)) {
      const [key] = param.split("=");
      if (param === "") continue;
      // How much is logged is not a choice here: everything is.
      if (key === "loglvl" || key === "guest_loglvl") continue;
      xl.libxlError(`setting parameters: ${key}: no such parameter can be changed while the hypervisor runs`);
      xl.fail(`cannot set parameters: ${params}`);
    }
    return OK;
  },
};

const uptimeCommand: Command = {
  name: "uptime",
  synopsis: "[-s] [Domain]",
  brief: "Show how long domains have been up",
  spec: { short: "s" },
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const short = p.has("s");
    const numbers: number[] = [];
    for (const word of p.args) numbers.push(await xl.domid(word));
    const all = await xl.domains();
    const chosen: readonly DomainInfo[] =
      numbers.length === 0 ? all : numbers.flatMap((n) => all.find((d) => d.domid === n) ?? []);
    if (!short) xl.out(`${left("Name", 33)} ${right("ID", 4)} Uptime`);
    for (const d of chosen) {
      const time = uptime(xl.io.now() - d.startedAt, short);
      xl.out(
        short
          ? ` ${xl.io.clock()} up ${time}, ${d.name} (${d.domid})`
          : `${left(d.name, 33)} ${right(d.domid, 4)} ${time}`,
      );
    }
    return OK;
  },
};

const domid: Command = {
  name: "domid",
  synopsis: "<DomainName>",
  brief: "Print the number of the domain with a name",
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const [name] = xl.parse(words).args;
    const found = (await xl.domains()).find((d) => d.name === name);
    if (found === undefined) xl.fail(`Can't get domid of domain name '${name}', maybe this domain does not exist.`);
    xl.out(String(found.domid));
    return OK;
  },
};

const domname: Command = {
  name: "domname",
  synopsis: "<DomainId>",
  brief: "Print the name of the domain with a number",
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const [word] = xl.parse(words).args;
    const m = /^\s*([+-]?\d+)/.exec(word);
    if (m === null) xl.fail("Invalid domain id.\n", FAILURE);
    const id = Number(m[1]);
    const found = (await xl.domains()).find((d) => d.domid === id);
    if (found === undefined) xl.fail(`Can't get domain name of domain id '${id}', maybe this domain does not exist.`);
    xl.out(found.name);
    return OK;
  },
};

export const infoCommands: readonly Command[] = [info, dmesg, debugKeys, setParameters, uptimeCommand, domid, domname];
