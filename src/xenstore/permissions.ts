/**
 * Who may do what with a node (docs: xenstore.txt, SET_PERMS). The first entry names the owner and what everybody not named may do; the
 * others name domains. The owner, dom0, and a domain that was made the owner's or a named domain's stub (SET_TARGET) have their rights.
 */
export const XS_PERM_NONE = 0 as const;
export const XS_PERM_READ = 1 as const;
export const XS_PERM_WRITE = 2 as const;
export const XS_PERM_OWNER = 4 as const;

const ALL = XS_PERM_READ | XS_PERM_WRITE | XS_PERM_OWNER;

export interface Perm {
  readonly id: number;
  readonly perms: number;
}
export type Perms = readonly Perm[];

/** On whose behalf something is done. */
export interface Subject {
  readonly id: number;
  /** Dom0 and local tools: not bound by permissions and quotas. */
  readonly privileged: boolean;
  /** The domain this one acts for, or −1. */
  readonly target: number;
}

const LETTERS = "nrwb";

export function formatPerm(p: Perm): string {
  return (LETTERS[p.perms & 3] as string) + p.id;
}

/** `r5` and its like, or null. */
export function parsePerm(text: string): Perm | null {
  const perms = LETTERS.indexOf(text.charAt(0));
  if (text.length < 2 || perms < 0 || !/^\d{1,5}$/.test(text.slice(1))) return null;
  const id = Number(text.slice(1));
  return id > 0xffff ? null : { id, perms };
}

export function permFor(who: Subject, perms: Perms): number {
  const owner = perms[0] as Perm;
  if (who.privileged || owner.id === who.id || (who.target >= 0 && owner.id === who.target)) return ALL;
  for (let i = 1; i < perms.length; i++) {
    const p = perms[i] as Perm;
    if (p.id === who.id || (who.target >= 0 && p.id === who.target)) return p.perms;
  }
  return owner.perms;
}

/** Permissions of a new node: the parent's, but what an unprivileged domain makes is its own. */
export function inherit(who: Subject, parent: Perms): Perms {
  const owner = parent[0] as Perm;
  if (who.privileged || owner.id === who.id) return parent;
  return [{ id: who.id, perms: owner.perms }, ...parent.slice(1)];
}
