/** The life of a domain: destroy, pause, unpause, rename, shutdown, reboot; suspend and resume. */
import { HostError, type HostApi } from "../../toolstack/host/api.js";
import type { Command, Xl } from "./command.js";
import { FAILURE, OK } from "./exit.js";

const destroy: Command = {
  name: "destroy",
  synopsis: "[options] <Domain>\n",
  brief: "End a domain at once, as pulling its plug does",
  options: "-f                      domain 0 too (which is refused here: it is the host)",
  modifies: true,
  spec: { short: "f" },
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const domid = await xl.domid(p.args[0]);
    if (domid === 0 && !p.has("f")) {
      xl.err("Not destroying domain 0; use -f to force.");
      xl.fail("This can only be done when using a disaggregated hardware domain and toolstack.\n");
    }
    try {
      await (await xl.host()).destroy(domid);
    } catch (e) {
      if (!(e instanceof HostError)) throw e;
      const gone = e.code === "unknown-domain";
      if (gone) xl.libxlError("Non-existant domain", domid);
      else xl.libxlError(e.message, domid);
      xl.libxlError("Unable to destroy guest", domid);
      xl.libxlError("Destruction of domain failed", domid);
      xl.fail(`destroy failed (rc=${gone ? -21 : -3})`);
    }
    return OK;
  },
};

/** Pausing and unpausing domain 0 fails without a status, as xl has it. */
function pausing(name: "pause" | "unpause", brief: string, what: string): Command {
  return {
    name,
    synopsis: "<Domain>",
    brief,
    modifies: true,
    least: 1,
    async run(xl: Xl, words: readonly string[]) {
      const [word] = xl.parse(words).args;
      const domid = await xl.domid(word);
      try {
        await (await xl.host())[name](domid);
      } catch (e) {
        if (!(e instanceof HostError)) throw e;
        if (domid === 0) {
          xl.libxlError(`${what} domain: Invalid argument`);
          return OK;
        }
        xl.libxlError(`${what} domain: ${e.message}`, domid);
        return FAILURE;
      }
      return OK;
    },
  };
}

const rename: Command = {
  name: "rename",
  synopsis: "<Domain> <NewDomainName>",
  brief: "Give a domain another name",
  modifies: true,
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const [word, name] = xl.parse(words).args;
    const domid = await xl.domid(word);
    try {
      await (await xl.host()).rename(domid, name);
    } catch (e) {
      if (!(e instanceof HostError)) throw e;
      xl.libxlError(e.code === "exists" ? `Domain with name "${name}" already exists.` : e.message, domid);
      xl.fail(`Can't rename domain '${word}'.`);
    }
    return OK;
  },
};

// --- shutdown and reboot ----------------------------------------------------------------------------------------------------------

/** The code of a domain's end, −1 when it was destroyed before anyone could look. */
const endOf = (host: HostApi, domid: number): Promise<number> =>
  host.waitForEnd(domid).catch((e: unknown) => {
    if (e instanceof HostError && e.code === "unknown-domain") return -1;
    throw e;
  });

async function waitForAll(xl: Xl, ends: ReadonlyMap<number, Promise<number>>, untilGone: boolean): Promise<void> {
  xl.err(`Waiting for ${ends.size} domains`);
  await Promise.all(
    [...ends].map(async ([domid, end]) => {
      const code = await end;
      if (code < 0) xl.err(`Domain ${domid} has been destroyed`);
      else {
        xl.err(`Domain ${domid} has been shut down, reason code ${code}`);
        if (untilGone) {
          xl.err(`Domain ${domid} continue waiting for death`);
          while ((await xl.domains()).some((d) => d.domid === domid)) await xl.io.sleep(100);
          xl.err(`Domain ${domid} has been destroyed`);
        }
      }
    }),
  );
}

function ending(name: "shutdown" | "reboot"): Command {
  const how = name === "reboot" ? "reboot" : "poweroff";
  return {
    name,
    synopsis: "[options] <-a|Domain>",
    brief: name === "reboot" ? "Ask a domain to start itself anew" : "Ask a domain to shut itself down",
    options: [
      "-a, --all               every domain but domain 0",
      "-h                      print this help",
      "-F                      an ACPI event for guests that do not listen (HVM guests only)",
      "-w, --wait              wait until it is so; twice: until the domain is gone",
    ].join("\n"),
    modifies: true,
    spec: { short: "awF", long: { all: "a", wait: "w" } },
    async run(xl: Xl, words: readonly string[]) {
      const p = xl.parse(words);
      if (p.args.length === 0 && !p.has("a")) xl.fail("You must specify -a or a domain id.\n");
      const all = p.has("a");
      const targets = all
        ? (await xl.domains()).filter((d) => d.domid !== 0).map((d) => d.domid)
        : [await xl.domid(p.args[0])];
      const host = await xl.host();
      const ends = new Map<number, Promise<number>>();
      let status = OK;
      for (const domid of targets) {
        xl.err(`${name === "reboot" ? "Rebooting" : "Shutting down"} domain ${domid}`);
        // Waiting begins before asking: a guest may be quick.
        const end = endOf(host, domid);
        end.catch(() => {});
        try {
          await host.shutdown(domid, how);
          ends.set(domid, end);
        } catch (e) {
          if (!(e instanceof HostError)) throw e;
          xl.libxlError(e.message, domid);
          xl.err(`${name} failed (rc=-3)`);
          status = FAILURE;
          if (!all) return status;
        }
      }
      if (p.has("w")) await waitForAll(xl, ends, p.count("w") > 1);
      return status;
    },
  };
}

export const lifeCommands: readonly Command[] = [
  destroy,
  ending("shutdown"),
  ending("reboot"),
  pausing("pause", "Stop a domain where it is", "Pausing"),
  pausing("unpause", "Let a paused domain go on", "Unpausing"),
  rename,
];
