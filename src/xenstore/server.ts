/**
 * The XenStore service: one tree, its watches, the domains it talks to, and its clients.
 *
 * It knows the machine only through `DomainHost` (which domains exist, how to map a ring page and bind an event channel), so that it serves
 * under test, in a stub domain or behind a socket alike.
 */
import { XENSTORE_ERROR_COMM, XENSTORE_ERROR_PROTO, XENSTORE_ERROR_RINGIDX } from "../abi/io_xs_wire.js";
import { Connection, type Link } from "./connection.js";
import { XSE } from "./errors.js";
import { childOf, isSpecial, parentOf } from "./paths.js";
import { XS_PERM_NONE, type Perms } from "./permissions.js";
import { DEFAULT_QUOTA, type Quota } from "./quota.js";
import { RingTransport, type RingMemory } from "./ring-transport.js";
import { EMPTY, ownerOf, Store, type Node } from "./store.js";
import { strings } from "./text.js";
import { Watches } from "./watches.js";

/** A domain's ring page, mapped, and its event channel, bound. */
export interface DomainChannel {
  readonly mem: RingMemory;
  /** Where the page is in `mem`. */
  readonly page: number;
  notify(): void;
  close(): void;
}

export interface DomainHost {
  exists(domid: number): boolean;
  /** Map and bind, or null where page or port are not the domain's. `onEvent` runs when the domain signals. */
  connect(domid: number, gfn: number, port: number, onEvent: () => void): DomainChannel | null;
}

const NO_HOST: DomainHost = { exists: () => false, connect: () => null };

interface KnownDomain {
  readonly ring: RingTransport;
  channel: DomainChannel;
  port: number;
  /** Its shutdown was told. */
  shutDown: boolean;
}

/** See `Connection.handle`: each message as it comes and goes. */
export type TraceHook = (c: Connection, way: "in" | "out", type: number, txId: number, payload: Uint8Array) => void;

export interface ServerOptions {
  readonly host?: DomainHost;
  readonly quota?: Partial<Quota>;
  /** The domain that owns the service. Default 0. */
  readonly ownerDomid?: number;
}

export class XenStoreServer {
  readonly quota: Quota;
  readonly store: Store;
  readonly watches = new Watches();
  readonly ownerDomid: number;
  readonly connections = new Set<Connection>();
  onTrace: TraceHook | null = null;
  /** A fault of ours in a request (the client got EIO). */
  onInternalError: (e: unknown) => void = () => {};
  /** A domain broke its ring: XENSTORE_ERROR_*. */
  onConnectionLost: (c: Connection, error: number) => void = () => {};
  /** What CONTROL print says. */
  onPrint: (text: string) => void = () => {};
  private readonly host: DomainHost;
  private readonly domains = new Map<number, KnownDomain>();

  constructor(options: ServerOptions = {}) {
    this.host = options.host ?? NO_HOST;
    this.quota = { ...DEFAULT_QUOTA, ...options.quota };
    this.ownerDomid = options.ownerDomid ?? 0;
    const perms: Perms = [{ id: this.ownerDomid, perms: XS_PERM_NONE }];
    this.store = new Store(perms);
    for (const name of ["@introduceDomain", "@releaseDomain"]) this.store.create(name, EMPTY, perms);
    this.store.create("/tool", EMPTY, perms);
    this.store.create("/tool/xenstored", EMPTY, perms);
  }

  // --- clients -----------------------------------------------------------------------------------------------------------------------

  /** A local client (socket or in-process): it acts for the owner domain. */
  open(label: string, link: Link, domid = this.ownerDomid): Connection {
    const c = new Connection(this, domid, label, link);
    this.remember(c);
    return c;
  }
  /** @internal */
  remember(c: Connection): void {
    this.connections.add(c);
  }
  /** @internal */
  forget(c: Connection): void {
    this.connections.delete(c);
  }

  // --- events ------------------------------------------------------------------------------------------------------------------------

  /** A node changed: tell those who watch it and may know of it. */
  fire(path: string, exact: boolean, node: Node | undefined, old?: Perms): void {
    const parent = isSpecial(path) ? undefined : this.store.get(parentOf(path));
    this.watches.fire(path, exact, (who) => (who as Connection).mayKnow(node, parent, old));
  }
  private fireSpecial(name: string): void {
    this.fire(name, true, this.store.get(name));
  }

  // --- domains -----------------------------------------------------------------------------------------------------------------------

  /** The ring of an introduced domain. */
  ringOf(domid: number): RingTransport | undefined {
    return this.domains.get(domid)?.ring;
  }
  isIntroduced(domid: number): boolean {
    return domid === this.ownerDomid || this.domains.has(domid);
  }

  introduce(domid: number, gfn: number, port: number): void {
    if (domid <= 0 || domid > 0x7fef || port <= 0) throw XSE.EINVAL;
    if (!this.host.exists(domid)) throw XSE.EINVAL;
    const known = this.domains.get(domid);
    if (known !== undefined) {
      // A second introduction renews the event channel; the conversation goes on.
      known.channel.close();
      const again = this.host.connect(domid, gfn, port, () => known.ring.kick());
      if (again === null) {
        this.drop(domid);
        throw XSE.EINVAL;
      }
      known.channel = again;
      known.port = port;
      known.ring.notify = () => again.notify();
      known.ring.kick();
      return;
    }
    // The channel's first event comes after this call, when the domain is known.
    const channel = this.host.connect(domid, gfn, port, () => this.domains.get(domid)?.ring.kick());
    if (channel === null) throw XSE.EINVAL;
    const ring = new RingTransport(this, domid, channel.mem, channel.page, () => channel.notify());
    this.domains.set(domid, { ring, channel, port, shutDown: false });
    this.fireSpecial("@introduceDomain");
    ring.kick();
  }

  private drop(domid: number): boolean {
    const d = this.domains.get(domid);
    if (d === undefined) return false;
    this.domains.delete(domid);
    d.ring.close();
    d.channel.close();
    return true;
  }

  /** RELEASE: no longer talk to a domain. What it owns stays while it lives. */
  release(domid: number): void {
    if (domid === this.ownerDomid) throw XSE.EINVAL;
    if (!this.drop(domid)) throw XSE.ENOENT;
    if (!this.host.exists(domid)) this.forgetOwner(domid);
    this.fireSpecial("@releaseDomain");
  }

  resume(domid: number): void {
    const d = this.domains.get(domid);
    if (d === undefined) throw XSE.ENOENT;
    d.shutDown = false;
  }

  setTarget(domid: number, target: number): void {
    const d = this.domains.get(domid);
    if (d === undefined || !this.isIntroduced(target)) throw XSE.ENOENT;
    d.ring.connection.who.target = target;
  }

  /** From the machine: a domain has shut down or crashed. Told once, until RESUME. */
  domainShutDown(domid: number): void {
    const d = this.domains.get(domid);
    if (d === undefined || d.shutDown) return;
    d.shutDown = true;
    this.fireSpecial("@releaseDomain");
  }

  /** From the machine: a domain is no more. Its connection, its nodes and its permissions end; its number may be used again. */
  domainGone(domid: number): void {
    const known = this.drop(domid);
    this.forgetOwner(domid);
    for (const d of this.domains.values())
      if (d.ring.connection.who.target === domid) d.ring.connection.who.target = -1;
    if (known) this.fireSpecial("@releaseDomain");
  }

  /** Nobody must inherit rights with a number: remove what the domain owns, and what it may do elsewhere. */
  private forgetOwner(domid: number): void {
    const { store } = this;
    const visit = (path: string, node: Node): void => {
      if (ownerOf(node.perms) === domid) {
        this.removeTree(path, node, false);
        return;
      }
      if (node.perms.some((p, i) => i > 0 && p.id === domid))
        store.setPerms(
          path,
          node.perms.filter((p, i) => i === 0 || p.id !== domid),
        );
      for (const c of [...node.children]) {
        const child = store.get(childOf(path, c));
        if (child !== undefined) visit(childOf(path, c), child);
      }
    };
    for (const root of ["/", "@introduceDomain", "@releaseDomain"]) {
      const node = store.get(root);
      if (node !== undefined) visit(root, node);
    }
  }

  private removeTree(path: string, node: Node, exact: boolean): void {
    for (const c of [...node.children]) {
      const child = this.store.get(childOf(path, c));
      if (child !== undefined) this.removeTree(childOf(path, c), child, true);
    }
    this.store.remove(path);
    this.fire(path, exact, node);
  }

  // --- CONTROL -----------------------------------------------------------------------------------------------------------------------

  control(args: readonly string[]): Uint8Array {
    switch (args[0]) {
      case "help":
        return strings("check\nhelp\nmemreport\nprint <text>\nquota [set <name> <value>|<domid>]\n");
      case "check": {
        const wrong = this.store.check();
        if (wrong.length === 0) return strings("OK");
        return strings(wrong.join("\n").slice(0, 4000));
      }
      case "memreport":
        return strings(
          `nodes ${this.store.size}\nconnections ${this.connections.size}\ndomains ${this.domains.size}\n` +
            [...this.connections]
              .map((c) => `${c.label} watches ${this.watches.count(c)} transactions ${c.transactions.size}\n`)
              .join("")
              .slice(0, 3800),
        );
      case "print":
        if (args.length !== 2) throw XSE.EINVAL;
        this.onPrint(args[1] as string);
        return strings("OK");
      case "quota":
        return this.controlQuota(args.slice(1));
      default:
        throw XSE.EINVAL;
    }
  }

  private controlQuota(args: readonly string[]): Uint8Array {
    const { quota } = this;
    const names = Object.keys(quota) as (keyof Quota)[];
    if (args.length === 0) return strings(names.map((n) => `${n}: ${quota[n]}\n`).join(""));
    if (args.length === 1 && /^\d+$/.test(args[0] as string)) {
      const domid = Number(args[0]);
      const c = this.domains.get(domid)?.ring.connection;
      if (c === undefined) throw XSE.ENOENT;
      return strings(
        `nodes: ${this.store.owned(domid)}\nwatches: ${this.watches.count(c)}\ntransactions: ${c.transactions.size}\n`,
      );
    }
    const name = names.find((n) => n === args[1]);
    if (args.length !== 3 || args[0] !== "set" || name === undefined || !/^\d{1,9}$/.test(args[2] as string))
      throw XSE.EINVAL;
    quota[name] = Number(args[2]);
    return strings("OK");
  }
}

/** Why a ring was given up, in words. */
export function ringErrorText(error: number): string {
  switch (error) {
    case XENSTORE_ERROR_COMM:
      return "communication problem";
    case XENSTORE_ERROR_RINGIDX:
      return "invalid ring index";
    case XENSTORE_ERROR_PROTO:
      return "protocol violation";
    default:
      return `error ${error}`;
  }
}
