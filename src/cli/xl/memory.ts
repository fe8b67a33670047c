/** A domain's memory: mem-set (the balloon's target), mem-max (the limit). */
import type { Command, Xl } from "./command.js";
import { OK } from "./exit.js";
import { parseMemoryKiB } from "./memory-size.js";

const SYNOPSIS = "<Domain> <MemMB['b'[bytes]|'k'[KB]|'m'[MB]|'g'[GB]|'t'[TB]]>";

/** What both are given: a domain and a size. */
async function wanted(xl: Xl, words: readonly string[]): Promise<{ domid: number; size: string; kib: number }> {
  const [word, size] = xl.parse(words).args;
  const domid = await xl.domid(word);
  const kib = parseMemoryKiB(size);
  if (kib === undefined) xl.fail(`invalid memory size: ${size}`);
  return { domid, size, kib };
}

const memSet: Command = {
  name: "mem-set",
  synopsis: SYNOPSIS,
  brief: "Tell a domain how much memory it should have now",
  modifies: true,
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const { domid, size, kib } = await wanted(xl, words);
    const failed = (what: string): never => {
      xl.libxlError(what, domid);
      return xl.fail(`\ncannot set domid ${domid} dynamic max memory to : ${size}`);
    };
    const now = (await xl.domains()).find((d) => d.domid === domid);
    if (now !== undefined && kib > now.maxKiB)
      failed("memory_dynamic_max must be less than or equal to memory_static_max");
    await xl.ask(
      domid,
      (host) => host.setMemoryTarget(domid, kib),
      () => xl.fail(`\ncannot set domid ${domid} dynamic max memory to : ${size}`),
    );
    return OK;
  },
};

const memMax: Command = {
  name: "mem-max",
  synopsis: SYNOPSIS,
  brief: "Set how much memory a domain may have at most",
  modifies: true,
  least: 2,
  async run(xl: Xl, words: readonly string[]) {
    const { domid, size, kib } = await wanted(xl, words);
    const refused = (): never => xl.fail(`cannot set domid ${domid} static max memory to : ${size}`);
    const now = (await xl.domains()).find((d) => d.domid === domid);
    if (now !== undefined && kib < now.targetKiB) {
      xl.libxlError("memory_static_max must be greater than or or equal to memory_dynamic_max", domid);
      refused();
    }
    await xl.ask(domid, (host) => host.setMemoryMax(domid, kib), refused);
    return OK;
  },
};

export const memoryCommands: readonly Command[] = [memMax, memSet];
