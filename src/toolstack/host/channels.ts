/**
 * `channel=` of a domain: consoles beyond the first, each with its hub, and for `connection=socket` a unix socket to whose one client the guest's bytes
 * go, and whose bytes the guest gets.
 */
import { attachChannel } from "../../devices/console/channel.js";
import { parseChannel, type ChannelConfig } from "../config/channel.js";
import type { Machine, RunningDomain } from "../machine.js";
import { HostError } from "./api.js";
import { ConsoleHub } from "./console-hub.js";
import type { ByteStream, HostPlatform, PathBase } from "./platform.js";

/** Output that a slow client may leave waiting; beyond it the client is sent away. */
const MAX_UNSENT = 1 << 20;

/** Read and refused before anything is made. */
export function planChannels(
  platform: Pick<HostPlatform, "resolve">,
  base: PathBase,
  texts: readonly string[],
): ChannelConfig[] {
  return texts.map((text) => {
    const parsed = parseChannel(text);
    const { path } = parsed;
    const c = path === undefined ? parsed : { ...parsed, path: platform.resolve(path, base) };
    if (c.backend !== undefined && c.backend !== "0" && c.backend !== "Domain-0")
      throw new HostError("unsupported", `channel backend=${c.backend}: there are no driver domains`);
    return c;
  });
}

/** The sockets of a domain's channels; closed with it. */
export class Channels {
  private readonly closers: (() => void)[] = [];

  /** Devices 1, 2, …; their hubs, in this order. Each may serve an earlier life of the domain already. */
  static async attach(
    machine: Machine,
    platform: HostPlatform,
    running: RunningDomain,
    configs: readonly ChannelConfig[],
    hubs: ConsoleHub[],
  ): Promise<Channels> {
    const all = new Channels();
    try {
      for (const [i, c] of configs.entries()) {
        const hub = (hubs[i + 1] ??= new ConsoleHub());
        if (c.path !== undefined) await all.listen(platform, c.path, hub, machine);
        hub.connect(attachChannel(machine, running.devices, i + 1, c).port);
      }
    } catch (e) {
      all.close();
      throw e;
    }
    return all;
  }

  private async listen(platform: HostPlatform, path: string, hub: ConsoleHub, machine: Machine): Promise<void> {
    if (platform.listenSocket === undefined)
      throw new HostError("unsupported", `channel path=${path}: there are no sockets here`);
    let client: ByteStream | null = null;
    const server = await platform.listenSocket(path, (stream) => {
      // One at a time.
      if (client !== null) return stream.close();
      client = stream;
      void serve(stream, hub, () => machine.onInput()).finally(() => {
        client = null;
      });
    });
    this.closers.push(() => {
      server.close();
      client?.close();
    });
  }

  close(): void {
    for (const f of this.closers.splice(0)) f();
  }
}

/** Until one side ends. */
async function serve(stream: ByteStream, hub: ConsoleHub, wake: () => void): Promise<void> {
  let unsent = 0;
  const channel = hub.attach(
    {
      data: (bytes) => {
        unsent += bytes.length;
        if (unsent > MAX_UNSENT) return stream.close();
        stream.write(bytes).then(
          () => (unsent -= bytes.length),
          () => stream.close(),
        );
      },
      end: () => stream.close(),
    },
    false,
  );
  try {
    for (;;) {
      const bytes = await stream.read();
      if (bytes === null) return;
      channel.write(bytes);
      wake();
    }
  } catch {
    // The client is gone.
  } finally {
    channel.close();
    stream.close();
  }
}
