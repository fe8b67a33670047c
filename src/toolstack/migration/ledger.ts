/**
 * What became of the domains that came to this host, by the token of their migration: the authority where a link breaks in the one moment in
 * which the sender cannot know (after it has sent its commit).
 *
 * Rules: a token is decided once, for ever: "committed" when the domain was set going here, "aborted" when it was given up or when somebody
 * asked before it was committed (asking fences: the domain cannot be committed afterwards). A token that is not known was never committed here,
 * as a host's domains end with the process that keeps this ledger.
 */
export type Decision = "committed" | "aborted";

/** Decided-against tokens kept; "committed" ones are kept always. */
const MAX_ABORTED = 4096;

export interface Ticket {
  /** The domain is this host's from now on: true exactly if it had not been aborted. */
  commit(domid: number): boolean;
  abort(): void;
}

export class MigrationLedger {
  private readonly decided = new Map<string, Decision>();
  private readonly open = new Map<string, () => void>();
  private readonly domids = new Map<string, number>();
  private aborted = 0;

  /** A migration begins; null where its token was used before. `onFence` is called if it is aborted from outside. */
  begin(token: string, onFence: () => void): Ticket | null {
    if (this.decided.has(token) || this.open.has(token)) return null;
    this.open.set(token, onFence);
    return {
      commit: (domid) => {
        if (!this.open.delete(token)) return false;
        this.decided.set(token, "committed");
        this.domids.set(token, domid);
        return true;
      },
      abort: () => {
        if (this.open.delete(token)) this.note(token);
      },
    };
  }

  /** The sender asks: the answer is final. */
  settle(token: string): Decision {
    const known = this.decided.get(token);
    if (known !== undefined) return known;
    const fence = this.open.get(token);
    this.open.delete(token);
    this.note(token);
    fence?.();
    return "aborted";
  }

  /** The number a committed domain has (had) here, −1 for any other. */
  domidOf(token: string): number {
    return this.domids.get(token) ?? -1;
  }

  private note(token: string): void {
    this.decided.set(token, "aborted");
    if (++this.aborted <= MAX_ABORTED) return;
    for (const [t, d] of this.decided) {
      if (d !== "aborted") continue;
      this.decided.delete(t);
      this.aborted--;
      return;
    }
  }
}
