// One entry of `channel=[…]`: a console of a domain beside the first, with a name that the guest finds in XenStore.
//   channel = [ "connection=pty,name=org.example.agent", "connection=socket,path=/run/agent.sock,name=…" ]
import { ConfigError } from "./xlu.js";

export type ChannelConnection = "pty" | "socket";

export interface ChannelConfig {
  readonly connection: ChannelConnection;
  readonly name: string | undefined;
  /** Of the unix socket, for `connection=socket`. */
  readonly path: string | undefined;
  /** The back end's domain. */
  readonly backend: string | undefined;
}

const KEYS: ReadonlySet<string> = new Set(["connection", "name", "path", "backend"]);

/** Throws a ConfigError with one line. */
export function parseChannel(text: string): ChannelConfig {
  const given = new Map<string, string>();
  for (const raw of text.split(",")) {
    const token = raw.trim();
    if (token === "") continue;
    const eq = token.indexOf("=");
    const key = eq < 0 ? token : token.slice(0, eq).trim();
    if (eq < 0 || !KEYS.has(key)) throw new ConfigError(`unrecognized argument \`${token}' in channel \`${text}'`);
    given.set(key, token.slice(eq + 1).trim());
  }
  const connection = given.get("connection");
  const path = given.get("path");
  if (connection === undefined)
    throw new ConfigError(`channel has no connection: \`${text}' (connection=pty or socket)`);
  if (connection !== "pty" && connection !== "socket")
    throw new ConfigError(`unknown channel connection \`${connection}' (pty and socket are known)`);
  if (connection === "socket" && path === undefined)
    throw new ConfigError(`channel with connection=socket needs a path: \`${text}'`);
  if (connection === "pty" && path !== undefined)
    throw new ConfigError(`channel with connection=pty has no path: \`${text}'`);
  return { connection, name: given.get("name"), path, backend: given.get("backend") };
}
