/** console: the terminal on a guest's console until `Ctrl-]`, or until the domain ends. */
import { HostError, type ConsoleChannel } from "../../toolstack/host/api.js";
import { DETACH_KEY, Terminal } from "../terminal.js";
import type { Command, Xl } from "./command.js";
import { FAILURE, OK } from "./exit.js";

export interface AttachOptions {
  /** The key that detaches. */
  readonly escape?: number;
  /** Called when output flows: what follows may print to the guest's console. */
  readonly attached?: () => Promise<void>;
}

/** Resolves when detached or when the console has ended. Input that is no terminal may end: the output goes on. */
export async function attachConsole(xl: Xl, domid: number, index: number, options: AttachOptions = {}): Promise<void> {
  const host = await xl.host();
  let end: () => void = () => {};
  const ended = new Promise<void>((resolve) => (end = resolve));
  let channel: ConsoleChannel | undefined;
  const early: Uint8Array[] = [];
  const terminal = new Terminal(
    xl.io.stdin,
    {
      onInput: (bytes) => {
        if (channel === undefined) early.push(bytes);
        else channel.write(bytes);
        return true;
      },
      onDetach: end,
    },
    options.escape ?? DETACH_KEY,
  );
  const release = xl.io.onInterrupt(end);
  try {
    // Raw from the first byte on: what is typed while the host answers is the guest's.
    terminal.open();
    channel = await host.openConsole(domid, index, { data: (bytes) => xl.io.outBytes(bytes), end });
    for (const bytes of early) channel.write(bytes);
    await options.attached?.();
    await ended;
  } finally {
    terminal.close();
    release();
    channel?.close();
  }
  if (xl.io.outIsTty) xl.out("");
}

/** `^]`, `^a`, or a character as it is. */
function escapeKey(xl: Xl, text: string): number {
  const m = /^\^([A-Za-z@[\\\]^_?])$/.exec(text);
  if (m !== null) return m[1] === "?" ? 127 : m[1].toUpperCase().charCodeAt(0) & 31;
  if (text.length === 1) return text.charCodeAt(0);
  return xl.fail(`xl console: escape character \`${text}' is neither one character nor like ^]`);
}

/** EINVAL: what xenconsole answers for domain 0. */
const DOM0_STATUS = 22;

const consoleCommand: Command = {
  name: "console",
  synopsis:
    "[options] <Domain>\n-t <type>       console type, pv , serial or vuart\n-n <number>     console number\n-e <escape>     escape character",
  brief: "Connect the terminal to a domain's console; Ctrl-] leaves it",
  spec: { short: "n:t:e:" },
  least: 1,
  async run(xl: Xl, words: readonly string[]) {
    const p = xl.parse(words);
    const type = p.value("t");
    if (type !== undefined && type !== "pv" && type !== "serial" && type !== "vuart")
      xl.fail("console type supported are: pv, serial, vuart");
    const domid = await xl.domid(p.args[0]);
    if (domid === 0) xl.fail("Can't specify Domain-0", DOM0_STATUS);
    if (type === "vuart") {
      xl.err("xl: there is no virtual UART: -t pv is the console");
      xl.fail("Unable to attach console");
    }
    const escape = p.value("e");
    try {
      await attachConsole(
        xl,
        domid,
        parseInt(p.value("n") ?? "0", 10) || 0,
        escape === undefined ? {} : { escape: escapeKey(xl, escape) },
      );
    } catch (e) {
      if (!(e instanceof HostError)) throw e;
      xl.libxlError(e.message, domid);
      xl.err("Unable to attach console");
      return FAILURE;
    }
    return OK;
  },
};

export const consoleCommands: readonly Command[] = [consoleCommand];
