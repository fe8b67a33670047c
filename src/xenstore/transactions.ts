/**
 * A transaction: a view over the tree that keeps what it read and wrote to itself until it is committed.
 *
 * Rule (as Xen's daemon since 4.10): at commit every node that the transaction looked at must still have the generation it had then (or
 * still be absent), otherwise EAGAIN. Changes elsewhere in the tree do not disturb it. Events are remembered once per node, in the order in
 * which the nodes were first touched, and fire after the commit.
 */
import { XSE } from "./errors.js";
import { leafOf, parentOf } from "./paths.js";
import type { Perms } from "./permissions.js";
import { addName, copyNode, ownerOf, removeName, type Node, type Store, type View } from "./store.js";

const ABSENT = -1;

interface Access {
  /** Generation in the tree at the first look. */
  readonly seen: number;
  /** The node as this transaction has it; null: not there. */
  node: Node | null;
  written: boolean;
  fire: boolean;
  exact: boolean;
}

export interface TransactionEvent {
  readonly path: string;
  readonly exact: boolean;
  /** The node as it was, where it is gone. */
  readonly node: Node | undefined;
}

export class Transaction implements View {
  private readonly touched = new Map<string, Access>();
  private readonly delta = new Map<number, number>();
  /** Nodes as they were before this transaction removed them, for the watchers' permissions. */
  private readonly removed = new Map<string, Node>();

  constructor(
    private readonly store: Store,
    readonly id: number,
    /** Nodes it may touch. */
    private readonly limit: number = Infinity,
  ) {}

  private access(path: string): Access {
    let a = this.touched.get(path);
    if (a === undefined) {
      if (this.touched.size >= this.limit) throw XSE.ENOSPC;
      const node = this.store.snapshot(path) ?? null;
      a = { seen: node === null ? ABSENT : node.generation, node, written: false, fire: false, exact: false };
      this.touched.set(path, a);
    }
    return a;
  }

  private change(path: string): Node {
    const a = this.access(path);
    if (a.node === null) throw new Error(`xenstore: ${path} is not there`);
    if (!a.written || a.node.shared) a.node = copyNode(a.node);
    a.written = true;
    a.node.generation = this.store.nextGeneration();
    return a.node;
  }

  private count(domid: number, by: number): void {
    this.delta.set(domid, (this.delta.get(domid) ?? 0) + by);
  }

  get(path: string): Node | undefined {
    return this.access(path).node ?? undefined;
  }
  create(path: string, value: Uint8Array, perms: Perms): Node {
    const parent = this.change(parentOf(path));
    const a = this.access(path);
    const node = this.store.fresh(value, perms);
    a.node = node;
    a.written = true;
    this.count(ownerOf(perms), 1);
    addName(parent, leafOf(path));
    return node;
  }
  setValue(path: string, value: Uint8Array): Node {
    const n = this.change(path);
    n.value = value;
    return n;
  }
  setPerms(path: string, perms: Perms): Node {
    const n = this.change(path);
    this.count(ownerOf(n.perms), -1);
    this.count(ownerOf(perms), 1);
    n.perms = perms;
    return n;
  }
  remove(path: string): void {
    const parent = this.change(parentOf(path));
    const a = this.access(path);
    if (a.node === null) return;
    this.count(ownerOf(a.node.perms), -1);
    this.removed.set(path, a.node);
    a.node = null;
    a.written = true;
    removeName(parent, leafOf(path));
  }
  owned(domid: number): number {
    return this.store.owned(domid) + (this.delta.get(domid) ?? 0);
  }

  /** Remember an event for the commit. */
  queue(path: string, exact: boolean): void {
    const a = this.access(path);
    a.fire = true;
    a.exact = exact;
  }

  /** Nobody changed what this transaction looked at. */
  get clean(): boolean {
    for (const [path, a] of this.touched) if ((this.store.get(path)?.generation ?? ABSENT) !== a.seen) return false;
    return true;
  }

  /** Make it so, all or nothing; returns the events to fire. */
  commit(): TransactionEvent[] {
    if (!this.clean) throw XSE.EAGAIN;
    const events: TransactionEvent[] = [];
    for (const [path, a] of this.touched) {
      // Made and removed again within the transaction: nothing to do.
      if (a.written && !(a.node === null && a.seen === ABSENT)) this.store.replace(path, a.node);
      if (a.fire) events.push({ path, exact: a.exact, node: a.node ?? this.removed.get(path) });
    }
    return events;
  }
}
