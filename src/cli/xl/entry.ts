/** The entry of `bin/xl.js`: the real world and the host service, which is started when a command needs it and it does not run. */
import { connectHost, type HostConnection } from "../../sys/node/host/connect.js";
import { nodeIo } from "./io.js";
import { runXl } from "./main.js";

export async function main(argv: readonly string[]): Promise<number> {
  let connection: HostConnection | undefined;
  const io = nodeIo();
  try {
    return await runXl(argv, io, async () => (connection = await connectHost({ autostart: true })));
  } finally {
    connection?.close();
  }
}
