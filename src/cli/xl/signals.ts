/** Small things sent to a domain: sysrq, trigger, button-press; a dump of its memory. */
import { HostError } from "../../toolstack/host/api.js";
import type { Command, Xl } from "./command.js";
import { FAILURE, OK } from "./exit.js";

/** XEN_DOMCTL_SENDTRIGGER_*. */
const TRIGGERS: ReadonlySet<string> = new Set(["nmi", "reset", "init", "power", "sleep", "s3resume"]);

const sysrq: Command = {
  name: "sysrq",
  synopsis: "<Domain> <letter>",
  brief: "Send a magic system request to a Linux guest (h lists them on its console)",
  modifies: true,
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const [word, key] = xl.parse(words).args;
    const domid = await xl.domid(word);
    if (key.length !== 1) {
      xl.err("Invalid sysrq.\n");
      xl.usage(FAILURE);
    }
    await xl.ask(
      domid,
      (host) => host.sysrq(domid, key),
      () => xl.exit(FAILURE),
    );
    return OK;
  },
};

/** A trigger that the domain cannot take is told on stderr, and ends with 0, as with xl: it was sent. */
async function send(xl: Xl, domid: number, trigger: string, vcpu: number): Promise<number> {
  try {
    await (await xl.host()).trigger(domid, trigger, vcpu);
  } catch (e) {
    if (!(e instanceof HostError)) throw e;
    const why = e.code === "unsupported" || e.code === "invalid" ? "Invalid argument" : e.message;
    xl.libxlError(`Send trigger '${trigger}' failed: ${why}`, domid);
    if (e.code === "unknown-domain") return FAILURE;
  }
  return OK;
}

const trigger: Command = {
  name: "trigger",
  synopsis: "<Domain> <nmi|reset|init|power|sleep|s3resume> [<VCPU>]",
  brief: "Send a trigger to a domain (a PV guest takes nmi)",
  modifies: true,
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const [word, name, vcpu] = xl.parse(words).args;
    const domid = await xl.domid(word);
    if (!TRIGGERS.has(name)) xl.fail(`Invalid trigger "${name}"`);
    const digits = /^\d+/.exec(vcpu ?? "0");
    if (digits === null) xl.err("Invalid vcpuid, using default vcpuid=0.\n");
    return send(xl, domid, name, Number(digits?.[0] ?? 0));
  },
};

const buttonPress: Command = {
  name: "button-press",
  synopsis: "<Domain> <Button>",
  brief: "Press an ACPI button of a domain",
  options: "<Button> is 'power' or 'sleep'.",
  modifies: true,
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    xl.err('WARNING: "button-press" is deprecated. Please use "trigger"');
    const [word, button] = xl.parse(words).args;
    const domid = await xl.domid(word);
    if (button !== "power" && button !== "sleep") xl.fail(`${button} is an invalid button identifier`);
    return send(xl, domid, button, 0);
  },
};

const dumpCore: Command = {
  name: "dump-core",
  synopsis: "<Domain> <filename>",
  brief: "Write a domain's memory and registers to a file (ELF)",
  modifies: true,
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const [word, file] = xl.parse(words).args;
    const domid = await xl.domid(word);
    await xl.ask(
      domid,
      (host) => host.dumpCore(domid, xl.path(file)),
      () => xl.fail("core dump failed (rc=-3)"),
    );
    return OK;
  },
};

/** Our own: stock gdb on a live domain. */
const gdb: Command = {
  name: "gdb",
  synopsis: "<Domain> [port]",
  brief: "Serve gdb for a domain on a port of the loopback interface",
  options: "[port] is any free one where none is given; `target remote :port` in gdb stops the domain.",
  modifies: true,
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const [word, text = "0"] = xl.parse(words).args;
    const domid = await xl.domid(word);
    const port = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
    if (!(port <= 65_535)) xl.fail(`xl gdb: ${text}: not a port`);
    const open = await xl.ask(
      domid,
      (host) => host.gdb(domid, port),
      () => xl.fail("gdb failed"),
    );
    xl.out(`target remote :${open}`);
    return OK;
  },
};

export const signalCommands: readonly Command[] = [dumpCore, gdb, buttonPress, trigger, sysrq];
