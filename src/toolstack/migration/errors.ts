/** What can go wrong with a saved domain or on its way to another host, in one line for people. */

/** Where the fault lies: the bytes, the host's memory, the domain's state, the peer or the way to it. */
export type MigrationErrorCode = "stream" | "no-memory" | "state" | "timeout" | "unsupported" | "peer" | "undecided";

export class MigrationError extends Error {
  override readonly name = "MigrationError";
  constructor(
    readonly code: MigrationErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** The stream is not what it should be. */
export function damaged(what: string): MigrationError {
  return new MigrationError("stream", what);
}
