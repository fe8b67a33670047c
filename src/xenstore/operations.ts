/**
 * What the requests on nodes do, for one client on one view of the tree. Sizes and texts are checked here; framing is `connection.ts`.
 *
 * Rule for errors (as Xen's daemon): whoever may not use the nearest existing ancestor of a missing node is told EACCES, not that it is
 * missing.
 */
import { XENSTORE_PAYLOAD_MAX } from "../abi/io_xs_wire.js";
import { XSE } from "./errors.js";
import { canonical, childOf, isSpecial, parentOf, validPath } from "./paths.js";
import {
  inherit,
  permFor,
  XS_PERM_OWNER,
  XS_PERM_READ,
  XS_PERM_WRITE,
  type Perms,
  type Subject,
} from "./permissions.js";
import { NODE_OVERHEAD, PERM_SIZE, type Quota } from "./quota.js";
import { EMPTY, ownerOf, type Node, type View } from "./store.js";
import { fromLatin1, latin1 } from "./text.js";

/** A client in the middle of a request. */
export interface Request {
  readonly view: View;
  readonly who: Subject;
  readonly quota: Readonly<Quota>;
  /** Base of relative paths. */
  readonly base: string;
  /** A node changed. `node`: as it is, or was before its removal; `old`: its permissions before they changed. */
  changed(path: string, exact: boolean, node: Node, old?: Perms): void;
}

/** The absolute name of a path in a request; throws EINVAL. */
export function resolve(r: Request, path: string, allowSpecial = false): string {
  const name = canonical(path, r.base, allowSpecial);
  if (!validPath(name, allowSpecial, r.quota.pathMax)) throw XSE.EINVAL;
  return name;
}

/** The node, if the client may use it so; throws ENOENT or EACCES. */
function node(r: Request, name: string, perm: number): Node {
  const n = r.view.get(name);
  if (n !== undefined) {
    if ((permFor(r.who, n.perms) & perm) === perm) return n;
    throw XSE.EACCES;
  }
  throw missing(r, name, perm);
}

function missing(r: Request, name: string, perm: number): Error {
  if (isSpecial(name) || r.who.privileged) return XSE.ENOENT;
  for (let p = name; p !== "/";) {
    p = parentOf(p);
    const n = r.view.get(p);
    if (n !== undefined) return (permFor(r.who, n.perms) & perm) !== 0 ? XSE.ENOENT : XSE.EACCES;
  }
  return XSE.ENOENT;
}

function checkSize(r: Request, valueBytes: number, childBytes: number, perms: Perms): void {
  if (r.who.privileged) return;
  if (perms.length > r.quota.permissions) throw XSE.ENOSPC;
  if (NODE_OVERHEAD + perms.length * PERM_SIZE + valueBytes + childBytes >= r.quota.nodeSize) throw XSE.ENOSPC;
}

/** Make a node and what is missing above it. */
function create(r: Request, name: string, value: Uint8Array): Node {
  const { view, who, quota } = r;
  const names = [name];
  let at = parentOf(name);
  let above = view.get(at);
  while (above === undefined) {
    names.push(at);
    at = parentOf(at);
    above = view.get(at);
  }
  const perms = inherit(who, above.perms);
  if (!who.privileged) {
    if (view.owned(who.id) + names.length > quota.nodes) throw XSE.ENOSPC;
    checkSize(r, value.length, 0, perms);
    const first = names[names.length - 1] as string;
    // The parent grows by a name; it is not charged to who owns the parent, but its size is bounded all the same.
    checkSize(
      r,
      above.value.length,
      above.childBytes + first.length - (at === "/" ? 0 : at.length),
      above.perms.slice(0, quota.permissions),
    );
  }
  for (let i = names.length - 1; i > 0; i--) view.create(names[i] as string, EMPTY, perms);
  return view.create(name, value, perms);
}

export function read(r: Request, path: string): Uint8Array {
  return node(r, resolve(r, path), XS_PERM_READ).value;
}

export function write(r: Request, path: string, value: Uint8Array): void {
  const name = resolve(r, path);
  const n = r.view.get(name);
  if (n === undefined) {
    const e = missing(r, name, XS_PERM_WRITE);
    if (e !== XSE.ENOENT) throw e;
    r.changed(name, false, create(r, name, value));
    return;
  }
  if ((permFor(r.who, n.perms) & XS_PERM_WRITE) === 0) throw XSE.EACCES;
  checkSize(r, value.length, n.childBytes, n.perms);
  r.changed(name, false, r.view.setValue(name, value));
}

export function mkdir(r: Request, path: string): void {
  const name = resolve(r, path);
  const n = r.view.get(name);
  if (n !== undefined) {
    if ((permFor(r.who, n.perms) & XS_PERM_WRITE) === 0) throw XSE.EACCES;
    return;
  }
  const e = missing(r, name, XS_PERM_WRITE);
  if (e !== XSE.ENOENT) throw e;
  r.changed(name, false, create(r, name, EMPTY));
}

/** Remove a subtree: below its root only watches on the very nodes hear of it. */
function removeTree(r: Request, name: string, n: Node, exact: boolean): void {
  for (const c of [...n.children]) {
    const path = childOf(name, c);
    const child = r.view.get(path);
    if (child !== undefined) removeTree(r, path, child, true);
  }
  r.view.remove(name);
  r.changed(name, exact, n);
}

export function rm(r: Request, path: string): void {
  const name = resolve(r, path);
  const n = r.view.get(name);
  if (n === undefined) {
    const e = missing(r, name, XS_PERM_WRITE);
    // A node that is not there is removed well enough, if its parent is there.
    if (e === XSE.ENOENT && r.view.get(parentOf(name)) !== undefined) return;
    throw e;
  }
  if ((permFor(r.who, n.perms) & XS_PERM_WRITE) === 0) throw XSE.EACCES;
  if (name === "/") throw XSE.EINVAL;
  removeTree(r, name, n, false);
}

export function directory(r: Request, path: string): Uint8Array {
  const n = node(r, resolve(r, path), XS_PERM_READ);
  if (n.childBytes > XENSTORE_PAYLOAD_MAX) throw XSE.E2BIG;
  return names(n);
}

function names(n: Node): Uint8Array {
  let s = "";
  for (const c of n.children) s += c + "\0";
  return fromLatin1(s);
}

/** Children from a byte offset on, as whole names; an empty name ends the list. The generation tells whether it is still the same list. */
export function directoryPart(r: Request, path: string, offset: number): Uint8Array {
  const n = node(r, resolve(r, path), XS_PERM_READ);
  let out = `${n.generation}\0`;
  if (offset >= n.childBytes || offset < 0) return fromLatin1(out + "\0");
  const room = XENSTORE_PAYLOAD_MAX - out.length - 1;
  const all = latin1(names(n));
  let end = offset;
  for (;;) {
    const nul = all.indexOf("\0", end);
    if (nul < 0 || nul + 1 - offset > room) break;
    end = nul + 1;
  }
  out += all.slice(offset, end);
  return fromLatin1(end === all.length ? out + "\0" : out);
}

export function getPerms(r: Request, path: string): Perms {
  return node(r, resolve(r, path, true), XS_PERM_READ).perms;
}

export function setPerms(r: Request, path: string, perms: Perms): void {
  const name = resolve(r, path, true);
  const n = node(r, name, XS_PERM_WRITE | XS_PERM_OWNER);
  if (!r.who.privileged && ownerOf(perms) !== ownerOf(n.perms)) throw XSE.EPERM;
  checkSize(r, n.value.length, n.childBytes, perms);
  const old = n.perms;
  r.changed(name, false, r.view.setPerms(name, perms), old);
}
