/**
 * A broadcast channel: its writer, its readers, and the introductions between them.
 *
 * Invariants: at most one writer; a reader is told of a page only after the writer has answered for it, and is told anew after either has connected again;
 * nothing of the data passes through here.
 */
import type { BroadcastBackend } from "./backend.js";

export class BroadcastChannel {
  private writer: BroadcastBackend | null = null;
  private readonly readers = new Set<BroadcastBackend>();
  constructor(readonly name: string) {}

  /** False: there is a writer already. */
  join(member: BroadcastBackend): boolean {
    if (member.role === "reader") {
      this.readers.add(member);
      this.writer?.invite(member.guest.domid);
      return true;
    }
    if (this.writer !== null && this.writer !== member) return false;
    this.writer = member;
    for (const r of this.readers) member.invite(r.guest.domid);
    return true;
  }
  leave(member: BroadcastBackend): void {
    if (this.readers.delete(member)) this.writer?.dismiss(member.guest.domid);
    if (this.writer !== member) return;
    this.writer = null;
    for (const r of this.readers) r.forget();
  }
  /** The writer has granted its page to a reader and offered it a port. */
  introduce(writer: BroadcastBackend, reader: number, page: number, port: number): void {
    if (writer !== this.writer) return;
    for (const r of this.readers) if (r.guest.domid === reader) r.meet(writer.guest.domid, page, port);
  }
  get members(): number {
    return this.readers.size + (this.writer === null ? 0 : 1);
  }
}
