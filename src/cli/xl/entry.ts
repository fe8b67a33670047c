/** The entry of `bin/xl.js` and `bin/xentop.js`: the real world and the host service, which is started when a command needs it and it does not run. */
import { connectHost, type HostConnection } from "../../sys/node/host/connect.js";
import type { Connect } from "./command.js";
import { nodeIo, type XlIo } from "./io.js";
import { runXentop, runXl } from "./main.js";

type Run = (argv: readonly string[], io: XlIo, connect: Connect) => Promise<number>;

async function withHost(run: Run, argv: readonly string[]): Promise<number> {
  let connection: HostConnection | undefined;
  try {
    return await run(argv, nodeIo(), async () => (connection = await connectHost({ autostart: true })));
  } finally {
    connection?.close();
  }
}

export const main = (argv: readonly string[]): Promise<number> => withHost(runXl, argv);
export const xentop = (argv: readonly string[]): Promise<number> => withHost(runXentop, argv);
