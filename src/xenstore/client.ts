/**
 * XenStore for callers in this process (toolstack, back ends of the native dom0): the same requests as on the wire, as methods with
 * dom0's rights. Errors are thrown as XsError.
 *
 * Watch callbacks never run inside the change that caused them: they are handed to `defer` (in a machine: between grains).
 */
import {
  XENSTORE_PAYLOAD_MAX,
  XS_DIRECTORY,
  XS_DIRECTORY_PART,
  XS_GET_PERMS,
  XS_INTRODUCE,
  XS_MKDIR,
  XS_READ,
  XS_RELEASE,
  XS_RESUME,
  XS_RM,
  XS_SET_PERMS,
  XS_TRANSACTION_END,
  XS_TRANSACTION_START,
  XS_UNWATCH,
  XS_WATCH,
  XS_WATCH_EVENT,
  XS_WRITE,
} from "../abi/io_xs_wire.js";
import type { Connection } from "./connection.js";
import { XsError, XSE } from "./errors.js";
import type { XenStoreServer } from "./server.js";
import { fromLatin1, fromUtf8, latin1, strings, utf8 } from "./text.js";

export type WatchCallback = (path: string) => void;

/** Requests on nodes, on the tree or within a transaction. */
export class StoreAccess {
  constructor(
    protected readonly connection: Connection,
    protected readonly txId: number,
  ) {}

  protected ask(type: number, payload: Uint8Array): Uint8Array {
    // The bound of the wire holds here too, so that what works in this process works from another.
    if (payload.length > XENSTORE_PAYLOAD_MAX) throw XSE.E2BIG;
    return this.connection.call(type, this.txId, payload);
  }
  private orNull<T>(f: () => T): T | null {
    try {
      return f();
    } catch (e) {
      if (e instanceof XsError && e.code === "ENOENT") return null;
      throw e;
    }
  }

  /** The value's bytes, or null where there is no such node. */
  readBytes(path: string): Uint8Array | null {
    return this.orNull(() => this.ask(XS_READ, strings(path)));
  }
  read(path: string): string | null {
    const bytes = this.readBytes(path);
    return bytes === null ? null : fromUtf8(bytes);
  }
  write(path: string, value: string | number | Uint8Array): void {
    const bytes = value instanceof Uint8Array ? value : utf8(String(value));
    const name = strings(path);
    const payload = new Uint8Array(name.length + bytes.length);
    payload.set(name);
    payload.set(bytes, name.length);
    this.ask(XS_WRITE, payload);
  }
  mkdir(path: string): void {
    this.ask(XS_MKDIR, strings(path));
  }
  /** Remove a node with all below it; false where there was none. */
  rm(path: string): boolean {
    return this.orNull(() => this.ask(XS_RM, strings(path))) !== null;
  }
  /** Names of the children, or null where there is no such node. */
  list(path: string): string[] | null {
    return this.orNull(() => {
      try {
        return split(this.ask(XS_DIRECTORY, strings(path)));
      } catch (e) {
        if (!(e instanceof XsError && e.code === "E2BIG")) throw e;
        return this.listParts(path);
      }
    });
  }
  private listParts(path: string): string[] {
    for (let out: string[] = [], offset = 0, gen = ""; ;) {
      const [now, ...part] = split(this.ask(XS_DIRECTORY_PART, strings(path, String(offset)))) as [string, ...string[]];
      if (offset > 0 && now !== gen) {
        out = [];
        offset = 0;
        continue;
      }
      gen = now;
      const last = part[part.length - 1] === "";
      if (last) part.pop();
      for (const n of part) offset += n.length + 1;
      out.push(...part);
      if (last) return out;
    }
  }
  exists(path: string): boolean {
    return this.readBytes(path) !== null;
  }
  /** As `["n0", "r5"]`. */
  getPerms(path: string): string[] {
    return split(this.ask(XS_GET_PERMS, strings(path)));
  }
  setPerms(path: string, perms: readonly string[]): void {
    this.ask(XS_SET_PERMS, strings(path, ...perms));
  }
}

function split(payload: Uint8Array): string[] {
  const list = latin1(payload).split("\0");
  list.pop();
  return list;
}

export class XenStoreClient extends StoreAccess {
  private readonly callbacks: Map<string, WatchCallback>;
  private nextToken = 0;

  constructor(server: XenStoreServer, defer: (fn: () => void) => void, label = "local") {
    const callbacks = new Map<string, WatchCallback>();
    super(
      server.open(label, {
        send: (type, _reqId, _txId, payload) => {
          if (type !== XS_WATCH_EVENT) return;
          const [path, token] = split(payload) as [string, string];
          defer(() => callbacks.get(token)?.(path));
        },
      }),
      0,
    );
    this.callbacks = callbacks;
  }

  /** Hear of changes at and below `path`, at once of the present state; returns how to stop. */
  watch(path: string, onChange: WatchCallback): () => void {
    const token = `cb${this.nextToken++}`;
    this.callbacks.set(token, onChange);
    try {
      this.ask(XS_WATCH, strings(path, token));
    } catch (e) {
      this.callbacks.delete(token);
      throw e;
    }
    return () => {
      if (this.callbacks.delete(token)) this.ask(XS_UNWATCH, strings(path, token));
    };
  }

  /** Do several things at once or not at all; again where somebody else changed what they rest on. */
  transaction<T>(body: (t: StoreAccess) => T): T {
    for (;;) {
      const id = Number(split(this.ask(XS_TRANSACTION_START, fromLatin1("\0")))[0]);
      let result: T;
      try {
        result = body(new StoreAccess(this.connection, id));
      } catch (e) {
        this.connection.call(XS_TRANSACTION_END, id, strings("F"));
        throw e;
      }
      try {
        this.connection.call(XS_TRANSACTION_END, id, strings("T"));
        return result;
      } catch (e) {
        if (!(e instanceof XsError && e.code === "EAGAIN")) throw e;
      }
    }
  }

  introduce(domid: number, gfn: number, port: number): void {
    this.ask(XS_INTRODUCE, strings(String(domid), String(gfn), String(port)));
  }
  release(domid: number): void {
    this.ask(XS_RELEASE, strings(String(domid)));
  }
  /** A domain that had shut down runs again: its next end is told again. */
  resume(domid: number): void {
    this.ask(XS_RESUME, strings(String(domid)));
  }
  close(): void {
    this.callbacks.clear();
    this.connection.close();
  }
}
