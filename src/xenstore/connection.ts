/**
 * One client: a domain on its ring, a program on a socket, or a caller in this process. Requests come as messages; answers and events leave
 * through a `Link`.
 *
 * Every request gets exactly one answer, in order; the events that a request causes leave before its answer, but a new watch's first
 * event after it.
 */
import {
  XENSTORE_PAYLOAD_MAX,
  XENSTORE_REL_PATH_MAX,
  XS_CONTROL,
  XS_DIRECTORY,
  XS_DIRECTORY_PART,
  XS_ERROR,
  XS_GET_DOMAIN_PATH,
  XS_GET_PERMS,
  XS_INTRODUCE,
  XS_IS_DOMAIN_INTRODUCED,
  XS_MKDIR,
  XS_READ,
  XS_RELEASE,
  XS_RESET_WATCHES,
  XS_RESUME,
  XS_RM,
  XS_SET_PERMS,
  XS_SET_TARGET,
  XS_TRANSACTION_END,
  XS_TRANSACTION_START,
  XS_UNWATCH,
  XS_WATCH,
  XS_WATCH_EVENT,
  XS_WRITE,
} from "../abi/io_xs_wire.js";
import { DOMID_SELF } from "../abi/xen.js";
import { XsError, XSE } from "./errors.js";
import * as ops from "./operations.js";
import { domainPath, isSpecial } from "./paths.js";
import { formatPerm, parsePerm, permFor, XS_PERM_READ, type Perm, type Perms, type Subject } from "./permissions.js";
import type { Node } from "./store.js";
import { atoi, latin1, strings } from "./text.js";
import { Transaction } from "./transactions.js";
import type { Watcher } from "./watches.js";
import type { XsMessage } from "./wire.js";
import type { XenStoreServer } from "./server.js";

/** Where answers and events go. */
export interface Link {
  send(type: number, reqId: number, txId: number, payload: Uint8Array): void;
}

const OK = strings("OK");

/** The payload as exactly one string with its NUL; throws EINVAL. */
function one(payload: Uint8Array): string {
  if (payload.length === 0 || payload.indexOf(0) !== payload.length - 1) throw XSE.EINVAL;
  return latin1(payload, 0, payload.length - 1);
}

/** The first `count` strings of the payload, each with its NUL; what follows them is at `rest`. Throws EINVAL where there are fewer. */
function several(payload: Uint8Array, count: number): { list: string[]; rest: number } {
  const list: string[] = [];
  let at = 0;
  while (list.length < count) {
    const nul = payload.indexOf(0, at);
    if (nul < 0) throw XSE.EINVAL;
    list.push(latin1(payload, at, nul));
    at = nul + 1;
  }
  return { list, rest: at };
}

/** All strings of a payload; bytes behind the last NUL do not count. */
function all(payload: Uint8Array): string[] {
  const list = latin1(payload).split("\0");
  list.pop();
  return list;
}

interface Op {
  readonly name: string;
  /** For dom0 and local tools only. */
  readonly priv?: boolean;
  /** The transaction number is not looked at. */
  readonly noTx?: boolean;
  run(c: Connection, payload: Uint8Array, tx: Transaction | null): Uint8Array;
}

const OPS: (Op | undefined)[] = [];
OPS[XS_CONTROL] = { name: "CONTROL", priv: true, run: (c, p) => c.server.control(all(p)) };
OPS[XS_DIRECTORY] = { name: "DIRECTORY", run: (c, p, tx) => ops.directory(c.request(tx), one(p)) };
OPS[XS_READ] = { name: "READ", run: (c, p, tx) => ops.read(c.request(tx), one(p)) };
OPS[XS_GET_PERMS] = {
  name: "GET_PERMS",
  run: (c, p, tx) => strings(...ops.getPerms(c.request(tx), one(p)).map(formatPerm)),
};
OPS[XS_WATCH] = { name: "WATCH", noTx: true, run: (c, p) => c.watch(p) };
OPS[XS_UNWATCH] = { name: "UNWATCH", noTx: true, run: (c, p) => c.unwatch(p) };
OPS[XS_TRANSACTION_START] = { name: "TRANSACTION_START", run: (c, _p, tx) => c.startTransaction(tx) };
OPS[XS_TRANSACTION_END] = { name: "TRANSACTION_END", run: (c, p, tx) => c.endTransaction(p, tx) };
OPS[XS_INTRODUCE] = {
  name: "INTRODUCE",
  priv: true,
  run: (c, p) => {
    const [domid, gfn, port] = several(p, 3).list as [string, string, string];
    c.server.introduce(atoi(domid), atoi(gfn), atoi(port));
    return OK;
  },
};
OPS[XS_RELEASE] = { name: "RELEASE", priv: true, run: (c, p) => (c.server.release(atoi(one(p))), OK) };
OPS[XS_GET_DOMAIN_PATH] = {
  name: "GET_DOMAIN_PATH",
  run: (_c, p) => strings(domainPath(atoi(one(p)))),
};
OPS[XS_WRITE] = {
  name: "WRITE",
  run: (c, p, tx) => {
    const { list, rest } = several(p, 1);
    ops.write(c.request(tx), list[0] as string, p.slice(rest));
    return OK;
  },
};
OPS[XS_MKDIR] = { name: "MKDIR", run: (c, p, tx) => (ops.mkdir(c.request(tx), one(p)), OK) };
OPS[XS_RM] = { name: "RM", run: (c, p, tx) => (ops.rm(c.request(tx), one(p)), OK) };
OPS[XS_SET_PERMS] = {
  name: "SET_PERMS",
  run: (c, p, tx) => {
    const [path, ...texts] = all(p);
    if (path === undefined || texts.length === 0) throw XSE.EINVAL;
    const perms: Perm[] = [];
    for (const t of texts) {
      const perm = parsePerm(t);
      if (perm === null) throw XSE.EINVAL;
      perms.push(perm);
    }
    // Who may hear of domains coming and going is dom0's to say.
    if (isSpecial(path) && !c.who.privileged) throw XSE.EACCES;
    ops.setPerms(c.request(tx), path, perms);
    return OK;
  },
};
OPS[XS_IS_DOMAIN_INTRODUCED] = {
  name: "IS_DOMAIN_INTRODUCED",
  priv: true,
  run: (c, p) => {
    const domid = atoi(one(p));
    return strings(c.server.isIntroduced(domid === DOMID_SELF ? c.domid : domid) ? "T" : "F");
  },
};
OPS[XS_RESUME] = { name: "RESUME", priv: true, run: (c, p) => (c.server.resume(atoi(one(p))), OK) };
OPS[XS_SET_TARGET] = {
  name: "SET_TARGET",
  priv: true,
  run: (c, p) => {
    const [domid, target] = several(p, 2).list as [string, string];
    c.server.setTarget(atoi(domid), atoi(target));
    return OK;
  },
};
OPS[XS_RESET_WATCHES] = { name: "RESET_WATCHES", noTx: true, run: (c) => (c.reset(), OK) };
OPS[XS_DIRECTORY_PART] = {
  name: "DIRECTORY_PART",
  run: (c, p, tx) => {
    const [path, offset] = several(p, 2).list as [string, string];
    return ops.directoryPart(c.request(tx), path, atoi(offset));
  },
};

/** The name of an operation, for traces. */
export function opName(type: number): string {
  if (type === XS_WATCH_EVENT) return "WATCH_EVENT";
  if (type === XS_ERROR) return "ERROR";
  return OPS[type]?.name ?? `op${type}`;
}

export class Connection implements Watcher {
  readonly who: { id: number; privileged: boolean; target: number };
  /** Base of relative paths. */
  readonly base: string;
  readonly transactions = new Map<number, Transaction>();
  /** Lost: nothing is sent or done any more. */
  closed = false;
  private nextTx = 0;
  /** The first event of a watch just made: it follows the answer. */
  private firstEvent: { path: string; token: string } | null = null;

  constructor(
    readonly server: XenStoreServer,
    /** The domain on whose behalf it speaks; local clients are dom0's. */
    readonly domid: number,
    /** How traces call it. */
    readonly label: string,
    private readonly link: Link,
  ) {
    this.who = { id: domid, privileged: domid === server.ownerDomid, target: -1 };
    this.base = domainPath(domid);
  }

  request(tx: Transaction | null): ops.Request {
    const { server, who, base } = this;
    return {
      view: tx ?? server.store,
      who,
      base,
      quota: server.quota,
      changed: (path, exact, node, old) => {
        if (tx !== null) tx.queue(path, exact);
        else server.fire(path, exact, node, old);
      },
    };
  }

  /** Do one request: the answer's payload, or a thrown XsError. */
  perform(type: number, txId: number, payload: Uint8Array): Uint8Array {
    const op = OPS[type];
    if (op === undefined) throw XSE.ENOSYS;
    if (op.priv === true && !this.who.privileged) throw XSE.EACCES;
    let tx: Transaction | null = null;
    if (txId !== 0 && op.noTx !== true) {
      tx = this.transactions.get(txId) ?? null;
      if (tx === null) throw XSE.ENOENT;
    }
    const out = op.run(this, payload, tx);
    if (out.length > XENSTORE_PAYLOAD_MAX) throw XSE.E2BIG;
    return out;
  }

  /** Do one request and answer it. */
  handle(m: XsMessage): void {
    if (this.closed) return;
    const { server } = this;
    server.onTrace?.(this, "in", m.type, m.txId, m.payload);
    let type = m.type;
    let payload: Uint8Array;
    try {
      payload = this.perform(m.type, m.txId, m.payload);
    } catch (e) {
      type = XS_ERROR;
      // Anything but a protocol error is ours; the client is told of an I/O error and the others go on.
      if (!(e instanceof XsError)) server.onInternalError(e);
      payload = strings(e instanceof XsError ? e.code : "EIO");
    }
    this.send(type, m.reqId, m.txId, payload);
    this.tellFirst();
  }

  /** A request by a caller in this process: the answer's payload, or a thrown XsError. */
  call(type: number, txId: number, payload: Uint8Array): Uint8Array {
    if (this.closed) throw XSE.EIO;
    const { server } = this;
    server.onTrace?.(this, "in", type, txId, payload);
    const out = this.perform(type, txId, payload);
    server.onTrace?.(this, "out", type, txId, out);
    this.tellFirst();
    return out;
  }

  private tellFirst(): void {
    const first = this.firstEvent;
    this.firstEvent = null;
    if (first !== null) this.watchEvent(first.path, first.token);
  }

  private send(type: number, reqId: number, txId: number, payload: Uint8Array): void {
    if (this.closed) return;
    this.server.onTrace?.(this, "out", type, txId, payload);
    this.link.send(type, reqId, txId, payload);
  }

  watchEvent(path: string, token: string): void {
    const payload = strings(path, token);
    // An event that cannot be told in one message is lost, as its reader could not take it.
    if (payload.length <= XENSTORE_PAYLOAD_MAX) this.send(XS_WATCH_EVENT, 0, 0, payload);
  }

  /** May this client know of a change of this node? */
  mayKnow(node: Node | undefined, parent: Node | undefined, old: Perms | undefined): boolean {
    const who: Subject = this.who;
    if (who.privileged) return true;
    const perms = old ?? node?.perms;
    if (perms !== undefined && (permFor(who, perms) & XS_PERM_READ) !== 0) return true;
    if (old !== undefined && node !== undefined && (permFor(who, node.perms) & XS_PERM_READ) !== 0) return true;
    return parent !== undefined && (permFor(who, parent.perms) & XS_PERM_READ) !== 0;
  }

  // --- watches -----------------------------------------------------------------------------------------------------------------------

  private watchName(given: string): { path: string; strip: number } {
    if (isSpecial(given)) {
      if (given.length > XENSTORE_REL_PATH_MAX) throw XSE.EINVAL;
      return { path: given, strip: 0 };
    }
    const path = ops.resolve(this.request(null), given);
    return { path, strip: given.startsWith("/") ? 0 : this.base.length + 1 };
  }

  watch(payload: Uint8Array): Uint8Array {
    const [given, token] = several(payload, 2).list as [string, string];
    const { path, strip } = this.watchName(given);
    const { watches, quota } = this.server;
    if (watches.has(this, path, token)) throw XSE.EEXIST;
    if (!this.who.privileged && watches.count(this) >= quota.watches) throw XSE.E2BIG;
    watches.add(this, path, token, strip);
    this.firstEvent = { path: given, token };
    return OK;
  }

  unwatch(payload: Uint8Array): Uint8Array {
    const [given, token] = several(payload, 2).list as [string, string];
    this.server.watches.remove(this, this.watchName(given).path, token);
    return OK;
  }

  // --- transactions ------------------------------------------------------------------------------------------------------------------

  startTransaction(within: Transaction | null): Uint8Array {
    if (within !== null) throw XSE.EBUSY;
    const { quota, store } = this.server;
    if (!this.who.privileged && this.transactions.size >= quota.transactions) throw XSE.ENOSPC;
    do this.nextTx = this.nextTx >= 0xffffffff ? 1 : this.nextTx + 1;
    while (this.transactions.has(this.nextTx));
    const limit = this.who.privileged ? Infinity : quota.transactionNodes;
    this.transactions.set(this.nextTx, new Transaction(store, this.nextTx, limit));
    return strings(String(this.nextTx));
  }

  endTransaction(payload: Uint8Array, tx: Transaction | null): Uint8Array {
    const how = one(payload);
    if (how !== "T" && how !== "F") throw XSE.EINVAL;
    if (tx === null) throw XSE.ENOENT;
    this.transactions.delete(tx.id);
    if (how === "F") return OK;
    // Quotas again, for what others took meanwhile.
    if (
      !this.who.privileged &&
      tx.owned(this.who.id) > Math.max(this.server.quota.nodes, this.server.store.owned(this.who.id))
    )
      throw XSE.ENOSPC;
    for (const e of tx.commit()) this.server.fire(e.path, e.exact, e.node);
    return OK;
  }

  /** RESET_WATCHES, and the end of a connection. */
  reset(): void {
    this.server.watches.removeAll(this);
    this.transactions.clear();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.reset();
    this.server.forget(this);
  }

  /** The peer starts anew on the same link. */
  reopen(): void {
    this.reset();
    this.closed = false;
    this.nextTx = 0;
    this.server.remember(this);
  }
}

/** Bytes of a payload as one line of a trace: NUL shown as a space. */
export function tracePayload(payload: Uint8Array): string {
  return latin1(payload).replace(/\0/g, " ");
}
