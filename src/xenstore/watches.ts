/**
 * Watches: who wants to know of changes below which path.
 *
 * Rules: an event matches the watch on its own path and, unless it is exact, those on its ancestors; one client's events come in the
 * order of the changes, and for one change in the order of its watches; a watch named relatively gets relative event paths; the special
 * names (`@introduceDomain`, `@releaseDomain`) match only themselves.
 */
import { XSE } from "./errors.js";
import { isSpecial, parentOf } from "./paths.js";

export interface Watcher {
  /** Deliver one event. */
  watchEvent(path: string, token: string): void;
}

interface Watch {
  readonly who: Watcher;
  readonly path: string;
  readonly token: string;
  /** Characters of the base path (with its slash) that the events of a relative watch do not show. */
  readonly strip: number;
  readonly seq: number;
}

export class Watches {
  private readonly byPath = new Map<string, Watch[]>();
  private readonly byWatcher = new Map<Watcher, Watch[]>();
  private seq = 0;

  count(who: Watcher): number {
    return this.byWatcher.get(who)?.length ?? 0;
  }

  has(who: Watcher, path: string, token: string): boolean {
    return this.byPath.get(path)?.some((w) => w.who === who && w.token === token) ?? false;
  }

  /** @param strip length of the prefix hidden from a relative watch, 0 for others. Throws EEXIST for a second one of the same name and token. */
  add(who: Watcher, path: string, token: string, strip: number): void {
    if (this.has(who, path, token)) throw XSE.EEXIST;
    let list = this.byPath.get(path);
    if (list === undefined) this.byPath.set(path, (list = []));
    const w: Watch = { who, path, token, strip, seq: this.seq++ };
    list.push(w);
    let own = this.byWatcher.get(who);
    if (own === undefined) this.byWatcher.set(who, (own = []));
    own.push(w);
  }

  /** Throws ENOENT where there is none. */
  remove(who: Watcher, path: string, token: string): void {
    const own = this.byWatcher.get(who);
    const w = own?.find((x) => x.path === path && x.token === token);
    if (own === undefined || w === undefined) throw XSE.ENOENT;
    own.splice(own.indexOf(w), 1);
    if (own.length === 0) this.byWatcher.delete(who);
    this.unlink(w);
  }

  removeAll(who: Watcher): void {
    const own = this.byWatcher.get(who);
    if (own === undefined) return;
    this.byWatcher.delete(who);
    for (const w of own) this.unlink(w);
  }

  private unlink(w: Watch): void {
    const list = this.byPath.get(w.path);
    if (list === undefined) return;
    list.splice(list.indexOf(w), 1);
    if (list.length === 0) this.byPath.delete(w.path);
  }

  /** The watches of one client as path and token, oldest first. */
  of(who: Watcher): { readonly path: string; readonly token: string }[] {
    return (this.byWatcher.get(who) ?? []).map(({ path, token }) => ({ path, token }));
  }

  /** Tell all whose watch matches and who are permitted to know. */
  fire(path: string, exact: boolean, permitted: (who: Watcher) => boolean): void {
    if (this.byPath.size === 0) return;
    let hits: Watch[] | undefined;
    let sorted = true;
    for (let p = path; ; p = parentOf(p)) {
      const list = this.byPath.get(p);
      if (list !== undefined) {
        if (hits === undefined) hits = list.slice();
        else {
          hits.push(...list);
          sorted = false;
        }
      }
      if (exact || p === "/" || isSpecial(p)) break;
    }
    if (hits === undefined) return;
    if (!sorted) hits.sort((a, b) => a.seq - b.seq);
    for (const w of hits) if (permitted(w.who)) w.who.watchEvent(path.slice(w.strip), w.token);
  }
}
