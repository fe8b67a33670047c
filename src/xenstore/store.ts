/**
 * The tree: a map from absolute path to node. A parent knows its children's names in the order they were made.
 *
 * Invariants: every node's parent exists and lists it; each change of a node (value, permissions, list of children) gives it a new
 * generation, never used before; a node that was handed out as a snapshot (`shared`) is never changed in place; `owned` counts the nodes
 * of each owner.
 */
import { childOf, isSpecial, leafOf, parentOf } from "./paths.js";
import type { Perm, Perms } from "./permissions.js";

export interface Node {
  value: Uint8Array;
  readonly children: Set<string>;
  /** Bytes of the children's names with their NULs. */
  childBytes: number;
  perms: Perms;
  generation: number;
  shared: boolean;
}

/** The tree as one client sees it: itself, or a transaction over it. */
export interface View {
  get(path: string): Node | undefined;
  /** A new node; its parent exists. */
  create(path: string, value: Uint8Array, perms: Perms): Node;
  setValue(path: string, value: Uint8Array): Node;
  setPerms(path: string, perms: Perms): Node;
  /** Remove one node that has no children. */
  remove(path: string): void;
  /** Nodes owned by a domain. */
  owned(domid: number): number;
}

export const EMPTY = new Uint8Array(0);

export function ownerOf(perms: Perms): number {
  return (perms[0] as Perm).id;
}

export function copyNode(n: Node): Node {
  return {
    value: n.value,
    children: new Set(n.children),
    childBytes: n.childBytes,
    perms: n.perms,
    generation: n.generation,
    shared: false,
  };
}

export class Store implements View {
  private readonly nodes = new Map<string, Node>();
  private readonly counts = new Map<number, number>();
  private generation = 0;

  constructor(rootPerms: Perms) {
    this.nodes.set("/", this.fresh(EMPTY, rootPerms));
    this.count(ownerOf(rootPerms), 1);
  }

  nextGeneration(): number {
    return ++this.generation;
  }
  get size(): number {
    return this.nodes.size;
  }
  paths(): IterableIterator<string> {
    return this.nodes.keys();
  }

  fresh(value: Uint8Array, perms: Perms): Node {
    return { value, children: new Set(), childBytes: 0, perms, generation: this.nextGeneration(), shared: false };
  }

  private count(domid: number, by: number): void {
    const n = (this.counts.get(domid) ?? 0) + by;
    if (n === 0) this.counts.delete(domid);
    else this.counts.set(domid, n);
  }

  get(path: string): Node | undefined {
    return this.nodes.get(path);
  }
  /** A node that will not change any more, even if the tree does. */
  snapshot(path: string): Node | undefined {
    const n = this.nodes.get(path);
    if (n !== undefined) n.shared = true;
    return n;
  }

  /** The node to be changed in place, with a new generation. */
  private change(path: string): Node {
    let n = this.nodes.get(path);
    if (n === undefined) throw new Error(`xenstore: ${path} is not there`);
    if (n.shared) {
      n = copyNode(n);
      this.nodes.set(path, n);
    }
    n.generation = this.nextGeneration();
    return n;
  }

  create(path: string, value: Uint8Array, perms: Perms): Node {
    const n = this.fresh(value, perms);
    this.nodes.set(path, n);
    this.count(ownerOf(perms), 1);
    // Special nodes stand beside the tree.
    if (!isSpecial(path)) addName(this.change(parentOf(path)), leafOf(path));
    return n;
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
    const n = this.nodes.get(path);
    if (n === undefined) return;
    this.nodes.delete(path);
    this.count(ownerOf(n.perms), -1);
    const parent = parentOf(path);
    if (this.nodes.has(parent)) removeName(this.change(parent), leafOf(path));
  }
  owned(domid: number): number {
    return this.counts.get(domid) ?? 0;
  }

  /** A transaction's outcome for one node; parents and children come with their own calls. */
  replace(path: string, node: Node | null): void {
    const old = this.nodes.get(path);
    if (old !== undefined) this.count(ownerOf(old.perms), -1);
    if (node === null) {
      this.nodes.delete(path);
      return;
    }
    node.generation = this.nextGeneration();
    this.nodes.set(path, node);
    this.count(ownerOf(node.perms), 1);
  }

  /** What is wrong with the tree (CONTROL check, tests); empty if nothing. */
  check(): string[] {
    const wrong: string[] = [];
    const counts = new Map<number, number>();
    for (const [path, n] of this.nodes) {
      const owner = ownerOf(n.perms);
      counts.set(owner, (counts.get(owner) ?? 0) + 1);
      let bytes = 0;
      for (const c of n.children) {
        bytes += c.length + 1;
        if (!this.nodes.has(childOf(path, c))) wrong.push(`${childOf(path, c)} is listed but not there`);
      }
      if (bytes !== n.childBytes) wrong.push(`${path}: names take ${bytes} bytes, counted ${n.childBytes}`);
      if (path !== "/" && !isSpecial(path) && !(this.nodes.get(parentOf(path))?.children.has(leafOf(path)) ?? false))
        wrong.push(`${path} is not listed in its parent`);
    }
    for (const [d, n] of counts) if (n !== this.owned(d)) wrong.push(`domain ${d} owns ${n}, counted ${this.owned(d)}`);
    return wrong;
  }
}

export function addName(n: Node, leaf: string): void {
  if (n.children.has(leaf)) return;
  n.children.add(leaf);
  n.childBytes += leaf.length + 1;
}
export function removeName(n: Node, leaf: string): void {
  if (n.children.delete(leaf)) n.childBytes -= leaf.length + 1;
}
